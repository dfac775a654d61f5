package snapshot_test

import (
	"strconv"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A kubelet's certificate is due like all others if the kubelet does not renew it.
func TestWindow(t *testing.T) {
	t.Parallel()
	row, _ := certs.Lookup(certs.KindKubeletClient)
	c := certs.Certificate{Kind: row.Kind, NotBefore: tc.Now, NotAfter: tc.Now.Add(100 * tc.Day)}
	served, _ := certs.Lookup(certs.KindKubeletServer)
	admin, _ := certs.Lookup(certs.KindAdmin)
	for _, test := range []struct {
		row     certs.Row
		rotates bool
		others  time.Duration
		want    time.Duration
	}{
		{row, true, 30 * tc.Day, 10 * tc.Day},
		{row, true, 5 * tc.Day, 5 * tc.Day},
		{row, false, 30 * tc.Day, 30 * tc.Day},
		{served, false, 30 * tc.Day, 10 * tc.Day}, // that depends on another setting
		{admin, true, 30 * tc.Day, 30 * tc.Day},
	} {
		n := snapshot.Node{Facts: map[string]string{"kubelet.rotateCertificates": strconv.FormatBool(test.rotates)}}
		if got := n.Window(test.row, c, test.others); got != test.want {
			t.Errorf("%s, rotates %t, others %s: %s, want %s", test.row.Name, test.rotates, test.others, got, test.want)
		}
	}
}

// A kubelet rotates by its configuration, in every spelling that it accepts. A setting missing from
// a configuration that was read is off; for one that was not read nothing is claimed.
func TestRotates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		setting, kind string
		want          bool
	}{
		{"", "", true},
		{"", "Secret", true},
		{"", "KubeletConfiguration", false},
		{"true", "KubeletConfiguration", true},
		{"yes", "KubeletConfiguration", true},
		{"1", "", true},
		{"what is this", "", true},
		{"false", "", false},
		{"False", "KubeletConfiguration", false},
		{"FALSE", "", false},
		{"no", "", false},
		{"Off", "", false},
		{"n", "", false},
		{"0", "", false},
		{"f", "", false},
		{"null", "KubeletConfiguration", false},
		{"~", "KubeletConfiguration", false},
	} {
		n := snapshot.Node{Facts: map[string]string{"kubelet.rotateCertificates": test.setting, "kubelet.kind": test.kind}}
		if got := n.Rotates(); got != test.want {
			t.Errorf("%q of a %q: %t, want %t", test.setting, test.kind, got, test.want)
		}
	}
}

// A worker counts as not joined only if nothing shows that it has.
func TestUnjoined(t *testing.T) {
	t.Parallel()
	w1 := func(edit tc.NodeEdit) tc.Edit { return tc.On("w1", edit) }
	kubelet := func(n *snapshot.Node) { n.Processes = []snapshot.Process{{Name: "kubelet", PID: 1}} }
	for _, row := range []struct {
		name string
		edit tc.Edit
		want bool
	}{
		{"a kubelet that ends again and again", nil, true},
		{"between two of its ends", w1(kubelet), true},
		{"a kubelet that runs, and is no unit", w1(func(n *snapshot.Node) { kubelet(n); delete(n.Units, "kubelet") }), false},
		{"no kubelet at all", w1(func(n *snapshot.Node) { delete(n.Units, "kubelet") }), true},
		{"a kubelet that keeps running", w1(func(n *snapshot.Node) { n.Units["kubelet"] = snapshot.Unit{Active: "active"} }), false},
		{"an etcd node, too", w1(func(n *snapshot.Node) { n.Roles = append(n.Roles, cluster.Etcd) }), false},
		{"a control plane, too", w1(func(n *snapshot.Node) { n.Roles = append(n.Roles, cluster.ControlPlane) }), false},
		{"an etcd node alone", w1(func(n *snapshot.Node) { n.Roles = []cluster.Role{cluster.Etcd} }), false},
		{"the API server knows it", tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown" }), false},
		{"it has a kubelet.conf", w1(func(n *snapshot.Node) { n.Kubeconfigs = []snapshot.Kubeconfig{{Path: "/etc/kubernetes/kubelet.conf"}} }), false},
		{"it was removed, and its kubelet is stopped", func(s *snapshot.Snapshot) {
			*s = tc.Healthy(tc.Single(), tc.On("w1", tc.Stopped("kubelet")), tc.View(func(v *snapshot.View) { delete(v.Nodes, "w1") }))
		}, true},
		{"its kubelet is stopped, and the API server knows it", func(s *snapshot.Snapshot) {
			*s = tc.Healthy(tc.Single(), tc.On("w1", tc.Stopped("kubelet")))
		}, false},
		{"its kubelet is stopped, and no API server answers", func(s *snapshot.Snapshot) {
			*s = tc.Healthy(tc.Single(), tc.On("w1", tc.Stopped("kubelet")), tc.On("cp1", tc.Refused()))
		}, false},
		{"nothing is known of it", w1(tc.Unknown(snapshot.Unreachable, "gone")), false},
	} {
		s := tc.Healthy(tc.Single(), tc.Unjoined("w1"))
		if row.edit != nil {
			row.edit(&s)
		}
		n, _ := s.Node("w1")
		if got := s.Unjoined(n); got != row.want {
			t.Errorf("%s: %t, want %t", row.name, got, row.want)
		}
	}
}

// The name that a node reports counts only if the API server knows no node by the inventory's name
// and one by the other, which is no other node's.
func TestNameOf(t *testing.T) {
	t.Parallel()
	const own = "ip-10-0-0-4.internal"
	for _, row := range []struct {
		name string
		edit tc.Edit
		want string
	}{
		{"known by its own name", nil, own},
		{"both names are known", tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "True" }), "w1"},
		{"neither name is known", tc.View(func(v *snapshot.View) { delete(v.Nodes, own) }), "w1"},
		{"no API server tells", tc.On("cp1", tc.Refused()), own},
		{"another node says so, too", tc.CalledInAPI("cp1", own), "w1"},
	} {
		s := tc.Healthy(tc.Single(), tc.CalledInAPI("w1", own))
		if row.edit != nil {
			row.edit(&s)
		}
		n, _ := s.Node("w1")
		if got := s.NameOf(n); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

// What the API server serves is compared with the file that its settings name, and with no other.
func TestServedFiles(t *testing.T) {
	t.Parallel()
	const own = "/etc/company/tls.crt"
	for named, want := range map[string]string{tc.PKI + "/apiserver.crt": tc.PKI + "/apiserver.crt", own: own, "": tc.PKI + "/apiserver.crt"} {
		s := tc.Healthy(tc.Single(), tc.On("cp1", func(n *snapshot.Node) {
			n.Facts["kube-apiserver.tls-cert-file"] = named
			if named == own {
				n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindAPIServerFile, Path: own})
			}
		}))
		for _, n := range s.With(cluster.ControlPlane) {
			if got := s.ServedFiles(n, "kube-apiserver"); len(got) != 1 || got[0].Path != want {
				t.Errorf("named %q: %+v, want %s", named, got, want)
			}
		}
	}
}
