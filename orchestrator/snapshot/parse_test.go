package snapshot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testfacts"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

var cp1 = cluster.Node{Name: "cp1", KubernetesName: "cp1", Roles: []cluster.Role{cluster.ControlPlane}}

// pki are the certificates that the files in testdata refer to, by name.
type pki map[string]testpki.Pair

func makePKI(tb testing.TB) pki {
	tb.Helper()
	ca, etcdCA := testpki.Authority(tb, "kubernetes"), testpki.Authority(tb, "etcd-ca")
	return pki{
		"ca":             ca,
		"apiserver":      ca.Issue(tb, testpki.Leaf{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes", "localhost"}, IPs: []string{"10.0.0.1"}}),
		"kubelet-client": ca.Issue(tb, testpki.Leaf{CommonName: "system:node:cp1", Organization: "system:nodes"}),
		"admin":          ca.Issue(tb, testpki.Leaf{CommonName: "kubernetes-admin"}),
		"etcd-ca":        etcdCA,
		"member":         etcdCA.Issue(tb, testpki.Leaf{CommonName: "etcd-member-cp1"}),
		"stranger":       testpki.Authority(tb, "another").Issue(tb, testpki.Leaf{CommonName: "oidc"}),
		"loopback":       testpki.Authority(tb, "apiserver-loopback-client@1772280000"),
	}
}

// An administrator without permission gets a message, and it is kept.
func TestForbidden(t *testing.T) {
	t.Parallel()
	const words = `Error from server (Forbidden): nodes is forbidden: User "kubernetes-admin" cannot list resource "nodes" in API group "" at the cluster scope`
	n, err := snapshot.Parse(cp1, []byte("@@KSCERT 3 1772280000\n@@RESULT readyz 0\n|ok\n@@RESULT nodes 1\n|"+words+"\n@@RESULT static-pods 1\n|no route to host\n@@END\n"))
	if err != nil || n.View == nil || !reflect.DeepEqual(n.View.Forbidden, []string{words}) || len(n.Results["nodes"].Output) > 0 {
		t.Errorf("%v: %+v", err, n.View)
	}
	s := snapshot.Snapshot{Nodes: []snapshot.Node{n, {Node: cluster.Node{Name: "cp2"}, View: &snapshot.View{}}, {}}}
	if by, ok := s.Observer(); !ok || by.Name != "cp2" {
		t.Errorf("the observer is %q", by.Name)
	}
	s.Nodes = s.Nodes[:1]
	if by, ok := s.Observer(); !ok || by.Name != "cp1" {
		t.Errorf("of one alone the observer is %q", by.Name)
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (p pki) fingerprint(name string) string { return digest(p[name].X509.Raw) }

// output reads what a collector printed, with certificates inserted.
func (p pki) output(tb testing.TB, file string) []byte {
	tb.Helper()
	tmpl, err := template.New(file).Funcs(template.FuncMap{
		"bars": func(name string) string {
			return "|" + strings.ReplaceAll(strings.TrimSpace(string(p[name].Certificate)), "\n", "\n|")
		},
		"public": func(name string) string { return digest(p[name].X509.RawSubjectPublicKeyInfo) },
		"base64": func(name string) string { return base64.StdEncoding.EncodeToString(p[name].Certificate) },
		"sum":    func(text string) string { return digest([]byte(text)) },
	}).ParseFiles(filepath.Join("testdata", file))
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, nil); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func parse(tb testing.TB, output []byte) snapshot.Node {
	tb.Helper()
	n, err := snapshot.Parse(cp1, output)
	if err != nil {
		tb.Fatal(err)
	}
	testfacts.Compare(tb, output, n, nil)
	return n
}

func TestParseControlPlane(t *testing.T) {
	t.Parallel()
	p := makePKI(t)
	n := parse(t, p.output(t, "control-plane.txt"))
	written := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)

	equal(t, "node", n.Name, "cp1")
	equal(t, "clock", n.Clock, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	equal(t, "fact pki", n.Facts["pki"], "/etc/kubernetes/pki")
	equal(t, "fact manifest", n.Facts["manifest"], "present")
	equal(t, "fact kubelet-version", n.Facts["kubelet-version"], "v1.33.5")
	equal(t, "fact runtime", n.Facts["runtime"], "containerd")
	equal(t, "fact runtime-version", n.Facts["runtime-version"], "v1.7.27")
	equal(t, "a setting", n.Facts["kube-apiserver.etcd-cafile"], "/etc/etcd/other-ca.pem")
	equal(t, "a setting by the name that the file has here", n.Facts["kube-apiserver.tls-cert-file"], "/etc/kubernetes/pki/apiserver.crt")
	if _, known := n.Facts["kubectl"]; known {
		t.Error("a command that was not found is a fact")
	}
	equal(t, "disks", n.Disks, map[string]snapshot.Disk{"/": {67928608, 98000000, 6000000}, "/var": {1024, 2048, -1}})
	equal(t, "units", n.Units, map[string]snapshot.Unit{
		"kubelet": {Active: "active", Sub: "running", ActiveSeconds: 68},
		"etcd":    {Active: "activating", Sub: "start", Restarts: 3},
	})
	equal(t, "processes", n.Processes, []snapshot.Process{{Name: "kube-apiserver", PID: 447, Started: written.Add(250 * time.Millisecond)}})
	equal(t, "watched files", n.Files, map[string]string{"/etc/kubernetes/manifests/a name.yaml": "5e1f"})
	equal(t, "pods", n.Pods, map[string]string{"/etc/kubernetes/manifests/a name.yaml": "kube-system/etcd"})
	equal(t, "work", n.Work, []snapshot.Work{{PID: 4711, Seconds: 12, What: "kubeadm init phase"}})
	equal(t, "digests", n.Digests, map[string]string{
		"/etc/kubernetes/ssl/ca.crt": digest([]byte("ca")), "/etc/kubernetes/ssl/a name with blanks.key": digest([]byte("ca.key")),
	})
	for i := range n.Kubeconfigs {
		for _, ca := range n.Kubeconfigs[i].CAs {
			equal(t, "a CA in a kubeconfig", [4]any{ca.Kind, ca.Path, ca.Position, ca.Fingerprint},
				[4]any{certs.KindKubeconfigCA, n.Kubeconfigs[i].Path, 0, n.Kubeconfigs[i].CAFingerprint})
		}
		n.Kubeconfigs[i].CAs = nil
	}
	equal(t, "kubeconfigs", n.Kubeconfigs, []snapshot.Kubeconfig{
		{
			Path: "/etc/kubernetes/admin.conf", Server: "https://10.0.0.1:6443", ClientFingerprint: p.fingerprint("admin"),
			CAFingerprint: p.fingerprint("ca"), CANotAfter: p["ca"].X509.NotAfter,
		},
		{Path: "/etc/kubernetes/kubelet.conf", Server: "https://127.0.0.1:6443", CAFingerprint: p.fingerprint("ca"), CANotAfter: p["ca"].X509.NotAfter, ClientCertificateFile: "/var/lib/kubelet/pki/kubelet-client-current.pem"},
		{Path: "/root/.kube/config", Server: "https://10.0.0.1:6443"},
		{Path: "/etc/kubernetes/scheduler.conf", Server: "https://10.0.0.1:6443"},
	})
	equal(t, "unreadable", n.Unreadable, []snapshot.Unreadable{
		{Path: "/etc/kubernetes/pki/etcd/server.crt", Reason: "no PEM certificate block"},
		{Path: "/var/lib/kubelet/pki/kubelet.crt", Reason: "a link to nothing"},
		{Path: "/etc/kubernetes/scheduler.conf", Reason: "client-certificate-data: decoding base64: illegal base64 data at input byte 0"},
	})
	equal(t, "kubeadm", n.Kubeadm, &snapshot.KubeadmConfig{
		Path: "/etc/kubernetes/kubeadm-config.yaml", KubernetesVersion: "v1.33.5", ControlPlaneEndpoint: "10.0.0.1:6443",
		CertificatesDir: "/etc/kubernetes/ssl", CertSANs: []string{"kubernetes", "10.0.0.1"}, EtcdEndpoints: []string{"https://10.0.0.1:2379"},
	})
	equal(t, "endpoints", n.Endpoints, []snapshot.Endpoint{
		{Name: "etcd", Address: "127.0.0.1:2379", Fingerprint: p.fingerprint("member")},
		{Name: "kube-apiserver", Address: "10.0.0.1:6443", Fingerprint: p.fingerprint("apiserver")},
		{Name: "kube-apiserver-loopback", Address: "10.0.0.1:6443", Fingerprint: p.fingerprint("loopback")},
		{Name: "kube-controller-manager", Address: "127.0.0.1:10257", Error: "connect: Connection refused\nconnect:errno=111"},
		{Name: "kube-scheduler", Address: "127.0.0.1:10259", Error: "no certificate was served"},
	})
	equal(t, "etcd", n.Etcd, &snapshot.Etcd{
		Healthy: true, MemberID: "a79d4a037e740a9c", Version: "3.5.21", DBSize: 25169920,
		Members: []snapshot.EtcdMember{
			{ID: "a79d4a037e740a9c", Name: "etcd1", PeerURLs: []string{"https://10.0.0.1:2380"}, ClientURLs: []string{"https://10.0.0.1:2379"}},
			{ID: "ff", PeerURLs: []string{"https://10.0.0.2:2380"}, Learner: true},
		},
	})
	presented := snapshot.Probe{Fingerprint: p.fingerprint("apiserver"), SANs: []string{"kubernetes", "localhost", "10.0.0.1"}, NotAfter: p["apiserver"].X509.NotAfter}
	own, far := presented, presented
	own.Endpoint, own.Addresses = "10.0.0.1:6443", []string{"10.0.0.1"}
	far.Endpoint, far.Addresses = "api.example.com:443", []string{"10.0.0.9", "fd00::9"}
	far.Failed, far.Error = snapshot.StageReadyz, "HTTP 500: readyz check failed"
	equal(t, "probes", n.Probes, []snapshot.Probe{own, far})
	equal(t, "view", n.View, &snapshot.View{
		Nodes:           map[string]string{"cp1": "True", "w1": "Unknown", "w2": "True"},
		Versions:        map[string]snapshot.NodeVersions{"cp1": {Kubelet: "v1.33.5", Runtime: "containerd://1.7.27"}, "w1": {}, "w2": {Kubelet: "v1.33.5", Runtime: "containerd://1.7.27"}},
		ControlPlanes:   []string{"cp1"},
		Addresses:       map[string][]string{"cp1": {"10.0.0.1", "cp1"}, "w2": {"10.0.0.3"}},
		Unschedulable:   []string{"w2"},
		NodeLeases:      map[string]time.Time{"cp1": time.Date(2026, 3, 1, 11, 59, 55, 123456000, time.UTC)},
		ComponentLeases: map[string]time.Time{"kube-scheduler": time.Date(2026, 3, 1, 11, 59, 58, 0, time.UTC)},
		StaticPods:      []snapshot.StaticPod{{Component: "kube-apiserver", Node: "cp1", Ready: "True"}, {Component: "kube-scheduler", Node: "cp1", Ready: "False"}},
	})
	equal(t, "results", n.Results, map[string]snapshot.Result{
		"kubeadm-version": {Output: "v1.33.5"}, "readyz": {Output: "[+]ping ok\nreadyz check passed"},
	})

	type summary struct {
		kind     certs.Kind
		path     string
		served   bool
		signedBy certs.Authority
		key      certs.KeyState
	}
	var got []summary
	for _, c := range n.Certificates {
		got = append(got, summary{c.Kind, c.Path, c.Served, c.SignedBy, c.Key})
	}
	equal(t, "certificates", got, []summary{
		{certs.KindCA, "/etc/kubernetes/pki/ca.crt", false, certs.SelfSigned, certs.KeyMissing},
		{certs.KindAPIServer, "/etc/kubernetes/pki/apiserver.crt", false, certs.KubernetesCA, certs.KeyMatches},
		{certs.KindUnknown, "/etc/kubernetes/pki/oidc.crt", false, "", ""},
		{certs.KindKubeletClient, "/var/lib/kubelet/pki/kubelet-client-current.pem", false, certs.KubernetesCA, certs.KeyMismatch},
		{certs.KindEtcdMember, "/etc/ssl/etcd/ssl/member-cp1.pem", false, certs.EtcdOtherCA, certs.KeyUnreadable},
		{"etcd-other-ca", "/etc/etcd/other-ca.pem", false, certs.SelfSigned, certs.KeyMissing},
		{"calico-etcd-client", "/etc/calico/certs/cert.crt", false, certs.EtcdOtherCA, certs.KeyMatches},
		{certs.KindAdmin, "/etc/kubernetes/admin.conf", false, certs.KubernetesCA, certs.KeyMatches},
		{"etcd", "127.0.0.1:2379", true, certs.EtcdOtherCA, ""},
		{"kube-apiserver", "10.0.0.1:6443", true, certs.KubernetesCA, ""},
		{"kube-apiserver-loopback", "10.0.0.1:6443", true, certs.SelfSigned, ""},
	})
	c, _ := n.Certificate(certs.KindAPIServer)
	equal(t, "SANs", c.SANs, []string{"kubernetes", "localhost", "10.0.0.1"})
	equal(t, "file", c.File, &certs.File{Mode: "0644", Owner: "root", Group: "root", Size: 1285, Modified: written})
}

// Another server in place of an API server is shown, and does not count as one.
func TestAnotherServer(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ livez, readyz, failed, text string }{
		{"200 OK\n\nok", "200 OK\n\nok", "", ""},
		{"200 OK\n\n2\nok\n0\n", "403 Forbidden\n\n{\n  \"kind\": \"Status\",\n  \"code\": 403\n}", "", ""},
		{"401 Unauthorized\n\n<p>who are you?</p>", "200 OK\n\nok", "livez", "HTTP 401: the answer is not from an API server: who are you?"},
		{"200 OK\n\nok", "403 Forbidden\n\n{\"kind\": \"Error\"}", "readyz", "HTTP 403: the answer is not from an API server: {\"kind\": \"Error\"}"},
		{"200 OK\n\n", "200 OK\n\nok", "livez", "HTTP 200: the answer is empty"},
		{"500 Internal Server Error\n\n[-]etcd failed\nlivez check failed", "", "livez", "HTTP 500: livez check failed"},
	} {
		text := "HTTP/1.1 " + row.livez
		if row.readyz != "" {
			text += "HTTP/1.1 " + row.readyz
		}
		ca := testpki.Authority(t, "kubernetes").Certificate
		out := "@@KSCERT 3 1\n@@TLS endpoint 0 10.0.0.9:6443\n|CONNECTED\n|" + strings.ReplaceAll(strings.TrimSpace(string(ca)), "\n", "\n|") +
			"\n@@HTTP endpoint 0 10.0.0.9:6443\n|" + strings.ReplaceAll(text, "\n", "\n|") + "\n@@END\n"
		n := parse(t, []byte(out))
		if len(n.Probes) != 1 || string(n.Probes[0].Failed) != row.failed || !strings.HasPrefix(n.Probes[0].Error, row.text) {
			t.Errorf("%q: %+v, want %s: %s", text, n.Probes, row.failed, row.text)
		}
	}
}

// An administrator's client that is killed before it has printed anything got no answer.
func TestSilentAdministrator(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{"": "no answer in time", "|error: Forbidden\n": "error: Forbidden"} {
		n := parse(t, []byte("@@KSCERT 3 1\n@@TLS kube-apiserver 0 10.0.0.9:6443\n|CONNECTED\n|"+
			strings.ReplaceAll(strings.TrimSpace(string(testpki.Authority(t, "kubernetes").Certificate)), "\n", "\n|")+
			"\n@@HTTP kube-apiserver 0 10.0.0.9:6443\n|HTTP/1.1 200 OK\n|\n|okHTTP/1.1 200 OK\n|\n|ok\n@@RESULT readyz 124\n"+words+"@@END\n"))
		if len(n.Probes) != 1 || n.Probes[0].Failed != snapshot.StageAuth || n.Probes[0].Error != want {
			t.Errorf("%+v, want %q", n.Probes, want)
		}
	}
}

func TestParseUnusableAPIServer(t *testing.T) {
	t.Parallel()
	n := parse(t, makePKI(t).output(t, "unusable.txt"))
	if n.View != nil {
		t.Errorf("a view of the cluster without an API server: %+v", n.View)
	}
	if e, ok := n.Endpoint("kube-apiserver"); !ok || e.Error != "Connection refused\nconnect:errno=111" || e.Fingerprint != "" {
		t.Errorf("endpoint: %+v", e)
	}
	equal(t, "manifest", n.Facts["manifest"], "missing")
	equal(t, "readyz", n.Results["readyz"].Status, 1)
	if p := n.Probes[0]; p.Failed != snapshot.StageTCP || !strings.Contains(p.Error, "refused") {
		t.Errorf("probe: %+v", p)
	}
	if e := n.Etcd; e == nil || e.Healthy || !strings.Contains(e.Error, "bad certificate") {
		t.Errorf("etcd: %+v", e)
	}
	if n.Results["kubelet-log"].Output == "" {
		t.Error("the kubelet's last words are lost")
	}
}

// Of several served certificates the first is the leaf, and the earliest expiry counts.
func TestServedChain(t *testing.T) {
	t.Parallel()
	root := testpki.Authority(t, "root")
	ca := root.Intermediate(t, "kubernetes", time.Now().Add(time.Hour))
	leaf := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	bars := func(p testpki.Pair) string {
		return "|" + strings.ReplaceAll(strings.TrimSpace(string(p.Certificate)), "\n", "\n|") + "\n"
	}
	n := parse(t, []byte("@@KSCERT 3 1772280000\n@@FACT pki /p\n@@FILE 600 root root 1 1 /p/ca.crt\n"+bars(ca)+
		"@@TLS kube-apiserver 0 10.0.0.1:6443\n|CONNECTED\n"+bars(leaf)+bars(ca)+"@@END\n"))
	i := slices.IndexFunc(n.Certificates, func(c certs.Certificate) bool { return c.Served })
	c := n.Certificates[i]
	if c.CommonName != "kube-apiserver" || c.SignedBy != certs.KubernetesCA || !c.Ends().Equal(ca.X509.NotAfter) {
		t.Errorf("%s, signed by %q, ends at %s", c.CommonName, c.SignedBy, c.Ends())
	}
}

// Every CA of a bundle is a separate one, with its place, and signs; a key next to it belongs to
// one of them. A leaf names all that lead from it.
func TestBundle(t *testing.T) {
	t.Parallel()
	old := testpki.Authority(t, "kubernetes")
	next := testpki.Authority(t, "kubernetes")
	former := testpki.Pair{}.Once(t, old, time.Now().Add(time.Hour))
	leaf := next.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	bars := func(pairs ...testpki.Pair) (out string) {
		for _, p := range pairs {
			out += "|" + strings.ReplaceAll(strings.TrimSpace(string(p.Certificate)), "\n", "\n|") + "\n"
		}
		return out
	}
	data := base64.StdEncoding.EncodeToString(slices.Concat(former.Certificate, next.Certificate))
	n := parse(t, []byte("@@KSCERT 3 1772280000\n@@FACT pki /p\n@@FACT config-dir /c\n@@FACT openssl /o\n"+
		"@@FILE 600 root root 1 1 /p/ca.crt\n"+bars(old, next)+"@@FILE 600 root root 1 1 /p/apiserver.crt\n"+bars(leaf)+
		"@@KUBECONFIG 600 root root 1 1 /c/admin.conf\n|clusters: [{cluster: {server: 'https://x', certificate-authority-data: "+data+"}}]\n|users: []\n"+
		"@@KEY "+digest(next.X509.RawSubjectPublicKeyInfo)+" /p/ca.key\n@@END\n"))
	as := func(p testpki.Pair) string { return certs.Describe(p.X509).SignsAs() }
	if as(former) != as(old) {
		t.Error("issued again with its key it is not the same CA")
	}
	type summary struct {
		label    string
		position int
		key      certs.KeyState
		by       certs.Authority
	}
	var got []summary
	for _, c := range slices.Concat(n.Certificates, n.Kubeconfigs[0].CAs) {
		got = append(got, summary{c.Label(), c.Position, c.Key, c.SignedBy})
	}
	equal(t, "certificates", got, []summary{
		{"ca", 1, "", certs.SelfSigned}, {"ca #2", 2, certs.KeyMatches, certs.SelfSigned}, {"apiserver", 0, certs.KeyMissing, certs.KubernetesCA},
		{"the CA in /c/admin.conf", 1, "", ""}, {"the CA in /c/admin.conf #2", 2, "", ""},
	})
	equal(t, "signers", n.Certificates[2].Signers, []string{as(next)})
	equal(t, "the first CA of a kubeconfig", n.Kubeconfigs[0].CAFingerprint, certs.Describe(former.X509).Fingerprint)

	// The former one is in no file, and expires no later than the one in ca.crt.
	s := snapshot.Snapshot{Nodes: []snapshot.Node{n}}
	if trusts := s.Trusts(n); len(trusts) != 0 {
		t.Errorf("old is relied on by no one, but is listed: %+v", trusts)
	}
	if !s.Unused(n, n.Certificates[0]) && n.Certificates[1].NotAfter.After(n.Certificates[0].NotAfter) {
		t.Error("a CA that has signed nothing and ends first is used")
	}
	if s.Unused(n, n.Certificates[1]) {
		t.Error("the CA that signs is not used")
	}
}

// A size that no database of etcd has is unknown.
func TestEtcdSize(t *testing.T) {
	t.Parallel()
	output := string(makePKI(t).output(t, "control-plane.txt"))
	const reported = `"dbSize":"25169920"`
	for text, want := range map[string]int64{
		reported: 25169920, `"dbSize":"1"`: 1, `"dbSize":"1099511627776"`: 1 << 40,
		`"dbSize":"1099511627777"`: 0, `"dbSize":"0"`: 0, `"dbSize":"-1"`: 0, `"dbSize":"99999999999999999999"`: 0, `"dbSize":"1e9"`: 0,
		`"dbSize":"x"`: 0, `"dbSize":25169920`: 0, `"dbSize":null`: 0, `"other":"1"`: 0,
	} {
		n := parse(t, []byte(strings.Replace(output, reported, text, 1)))
		if n.Etcd == nil || !n.Etcd.Healthy || n.Etcd.DBSize != want {
			t.Errorf("%s: %+v, want %d", text, n.Etcd, want)
		}
	}
}

// A learner answers /health like the voting members, and refuses to list them.
func TestLearner(t *testing.T) {
	t.Parallel()
	lines := strings.Split(string(makePKI(t).output(t, "control-plane.txt")), "\n")
	for i, line := range lines {
		if strings.Contains(line, `"member_id"`) && strings.Contains(line, `"members"`) {
			lines[i] = `|{"error":"etcdserver: rpc not supported for learner","code":14,"message":"etcdserver: rpc not supported for learner"}HTTP/1.1 200 OK`
		}
	}
	n := parse(t, []byte(strings.Join(lines, "\n")))
	if n.Etcd == nil || !n.Etcd.Healthy || !n.Etcd.Learner || len(n.Etcd.Members) > 0 {
		t.Errorf("%+v", n.Etcd)
	}
	if n = parse(t, makePKI(t).output(t, "control-plane.txt")); n.Etcd.Learner {
		t.Error("a member that lists the others does vote")
	}
}

// Ansible's raw runs in a pty, and real nodes print a banner at every login: neither changes what
// is read.
func TestParseReadsThroughNoise(t *testing.T) {
	t.Parallel()
	plain := makePKI(t).output(t, "control-plane.txt")
	want := parse(t, plain)
	for name, output := range map[string][]byte{
		"carriage returns":  bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n")),
		"a banner":          append([]byte("@@@@@@@@ WARNING @@@@@@@@\nAuthorised use only!\n| this is monitored |\n\n"), plain...),
		"text after":        append(bytes.Clone(plain), "\r\nShared connection to cp1 closed.\r\n"...),
		"text in between":   bytes.Replace(plain, []byte("@@DISK 67"), []byte("sudo: unable to resolve host cp1\n@@DISK 67"), 1),
		"no newline at end": bytes.TrimSuffix(plain, []byte("\n")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := parse(t, output); !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	plain := makePKI(t).output(t, "control-plane.txt")
	for _, row := range []struct {
		name   string
		output string
		is     error
		text   string
	}{
		{"empty", "", snapshot.ErrNotCollector, ""},
		{"another program", "bash: sh: command not found\n", snapshot.ErrNotCollector, ""},
		{"no header", "@@FACT pki /etc\n@@END\n", snapshot.ErrNotCollector, ""},
		{"cut off after a record", string(plain[:bytes.Index(plain, []byte("@@DIGEST"))]), snapshot.ErrTruncated, ""},
		{"cut off inside a certificate", string(plain[:bytes.Index(plain, []byte("-----END"))]), snapshot.ErrTruncated, ""},
		{"a record of a later version", "@@KSCERT 3 1\n@@NEWS x\n@@END\n", nil, `unknown record "NEWS"`},
		{"a later version", "@@KSCERT 4 1\n@@END\n", nil, "version 4, this program reads version 3"},
		{"no clock", "@@KSCERT 3 noon\n@@END\n", nil, "clock"},
		{"a clock that no JSON can hold", "@@KSCERT 3 253402300800\n@@END\n", nil, "is not a time"},
		{"a clock that is no number", "@@KSCERT 3 NaN\n@@END\n", nil, "is not a time"},
		{"a file of the year 292277026596", "@@KSCERT 3 1\n@@FILE 644 root root 1 9223372036854775807 /x\n@@END\n", nil, "is not a time"},
		{"a process of the distant past", "@@KSCERT 3 1\n@@PROCESS etcd 1 -1e18\n@@END\n", nil, "is not a time"},
		{"a header without a clock", "@@KSCERT 2\n@@END\n", nil, "has 1 fields, want 2"},
		{"a unit with a word for a number", "@@KSCERT 3 1\n@@UNIT kubelet active running x 1\n@@END\n", nil, `record "UNIT"`},
		{"a unit with a word for its seconds", "@@KSCERT 3 1\n@@UNIT kubelet active running 1 x\n@@END\n", nil, `record "UNIT"`},
		{"a timer in no state", "@@KSCERT 3 1\n@@TIMER maybe 0\n@@END\n", nil, "not a state of a timer"},
		{"a timer with a word for its time", "@@KSCERT 3 1\n@@TIMER on monday\n@@END\n", nil, `record "TIMER"`},
		{"a timer for each of two", "@@KSCERT 3 1\n@@TIMER on 0\n@@TIMER off 0\n@@END\n", nil, "TIMER"},
		{"a unit without its fields", "@@KSCERT 3 1\n@@UNIT kubelet\n@@END\n", nil, "has 1 fields, want 5"},
		{"a disk without a number", "@@KSCERT 3 1\n@@DISK x 1 1 /\n@@END\n", nil, `record "DISK"`},
		{"a result without a number", "@@KSCERT 3 1\n@@RESULT readyz x\n@@END\n", nil, `record "RESULT"`},
		{"a file without a path", "@@KSCERT 3 1\n@@FILE 644 root root 1 1\n@@END\n", nil, "has 5 fields, want 6"},
		{"a file with a word for its mode", "@@KSCERT 3 1\n@@FILE rw root root 1 1 /x\n@@END\n", nil, `record "FILE"`},
		{"a kubeconfig with a word for its size", "@@KSCERT 3 1\n@@KUBECONFIG 600 root root big 1 /x\n@@END\n", nil, `record "KUBECONFIG"`},
		{"a process with a word for its number", "@@KSCERT 3 1\n@@PROCESS etcd x 1\n@@END\n", nil, `record "PROCESS"`},
		{"work with a word for its number", "@@KSCERT 3 1\n@@WORK x 1 kubeadm\n@@END\n", nil, `record "WORK"`},
		{"work with a word for its age", "@@KSCERT 3 1\n@@WORK 1 x kubeadm\n@@END\n", nil, `record "WORK"`},
		{"a second header", "@@KSCERT 3 1\n@@KSCERT 3 1\n@@END\n", snapshot.ErrForged, "a second header"},
		{"a record after the end", "@@KSCERT 3 1\n@@END\n@@FACT pki /x\n", snapshot.ErrForged, "after the end"},
		{"a second end", "@@KSCERT 3 1\n@@END\n@@END\n", snapshot.ErrForged, "after the end"},
		{"text after the end", "@@KSCERT 3 1\n@@END\nhello\n", snapshot.ErrForged, "after the end"},
		{"a fact twice", "@@KSCERT 3 1\n@@FACT pki /x\n@@FACT pki /y\n@@END\n", snapshot.ErrForged, `"FACT" of "pki"`},
		{"a digest twice", "@@KSCERT 3 1\n@@DIGEST a /x\n@@DIGEST b /x\n@@END\n", snapshot.ErrForged, `"DIGEST" of "/x"`},
		{"a port twice", "@@KSCERT 3 1\n@@TLS etcd 0 a\n@@TLS etcd 0 b\n@@END\n", snapshot.ErrForged, `"TLS" of "etcd"`},
		{"a result twice", "@@KSCERT 3 1\n@@RESULT readyz 0\n@@RESULT readyz 1\n@@END\n", snapshot.ErrForged, `"RESULT" of "readyz"`},
		{"settings twice", "@@KSCERT 3 1\n@@SETTINGS\n@@SETTINGS\n@@END\n", snapshot.ErrForged, `"SETTINGS"`},
		{"records without end", "@@KSCERT 3 1\n" + strings.Repeat("@@UNREADABLE /x\n", 1001) + "@@END\n", snapshot.ErrTooMuch, `1000 records "UNREADABLE"`},
		{"certificates without end", "@@KSCERT 3 1\n@@FILE 644 root root 1 1 /x\n" + strings.Repeat("|-----BEGIN CERTIFICATE-----\n", 101) + "@@END\n", snapshot.ErrTooMuch, "/x: 101 certificates"},
		{"a fact without end", "@@KSCERT 3 1\n@@FACT hostname " + strings.Repeat("x", 1<<15) + "\n@@END\n", snapshot.ErrTooMuch, `"hostname": 32768`},
		{"a file in use without end", "@@KSCERT 3 1\n@@USE kubelet " + strings.Repeat("x", 1<<15) + "\n@@END\n", snapshot.ErrTooMuch, `"kubelet": 32768`},
		{"a setting without end", "@@KSCERT 3 1\n@@SETTINGS\n|etcd.listen-peer-urls " + strings.Repeat("//a,", 1<<13) + "\n@@END\n", snapshot.ErrTooMuch, `"etcd.listen-peer-urls": 32768`},
		{"an alias without end", "@@KSCERT 3 1\n@@KUBECONFIG 600 root root 1 1 /x\n|users: [{name: a, user: &u {client-certificate-data: " +
			strings.Repeat("A", 1<<16) + "}}" + strings.Repeat(", {name: a, user: *u}", 1<<8) + "]\n@@END\n", snapshot.ErrTooMuch, "/x: "},
		{"names without end", "@@KSCERT 3 1\n@@SETTINGS\n" + strings.Repeat("|kubeadm.certSANs x\n", 1001) + "@@END\n", snapshot.ErrTooMuch, "1001, more than 1000"},
		{"addresses without end", "@@KSCERT 3 1\n@@RESOLVED lb\n" + addresses(1001) + "@@END\n", snapshot.ErrTooMuch, `"addresses of lb": 1001`},
		{"members without end", membersAnswer(51, 1), snapshot.ErrTooMuch, "51, more than 50"},
		{"a member's URLs without end", membersAnswer(1, 51), snapshot.ErrTooMuch, "51, more than 50"},
		{"nodes without end", "@@KSCERT 3 1\n@@RESULT readyz 0\n@@RESULT nodes 0\n" + strings.Repeat("|n\tTrue\t\t\n", 20002) + "@@END\n", snapshot.ErrTooMuch, `"nodes": 20001`},
		{"a number with an underscore", "@@KSCERT 3 1\n@@DISK 1_0 1 1 /\n@@END\n", nil, `record "DISK"`},
		{"a number without end", "@@KSCERT 3 1\n@@DISK " + strings.Repeat("9", 1<<12) + " 1 1 /\n@@END\n", nil, `record "DISK"`},
		{"a process with a word for its start", "@@KSCERT 3 1\n@@PROCESS etcd 1 x\n@@END\n", nil, `record "PROCESS"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n, err := snapshot.Parse(cp1, []byte(row.output))
			switch {
			case err == nil:
				t.Fatalf("no error, but %+v", n)
			case row.is != nil && !errors.Is(err, row.is):
				t.Errorf("error is %v, want %v", err, row.is)
			case !strings.Contains(err.Error(), row.text):
				t.Errorf("error is %q, want %q in it", err, row.text)
			}
			if !errors.Is(err, snapshot.ErrTooMuch) { // the plugin has fewer bounds
				testfacts.Compare(t, []byte(row.output), n, err)
			}
		})
	}
}

// addresses are lines of so many.
func addresses(count int) string {
	var out strings.Builder
	for i := range count {
		fmt.Fprintf(&out, "|10.0.%d.%d\n", i/256, i%256)
	}
	return out.String()
}

// membersAnswer is the answer of a node whose etcd lists so many members, each with so many URLs.
func membersAnswer(count, urls int) string {
	var members []string
	for i := range count {
		url := strings.TrimSuffix(strings.Repeat(`"https://10.0.0.1:2380",`, urls), ",")
		members = append(members, fmt.Sprintf(`{"ID":"%d","peerURLs":[%s]}`, i+1, url))
	}
	return "@@KSCERT 3 1\n@@TLS etcd 0 127.0.0.1:2379\n@@HTTP etcd 0 127.0.0.1:2379\n|HTTP/1.1 200 OK\n|\n|{}\n" +
		"|HTTP/1.1 200 OK\n|\n|{\"members\":[" + strings.Join(members, ",") + "]}\n@@END\n"
}

// If one member of a list cannot be read, the whole list is ignored: a member without an ID would
// be taken for another one.
func TestMemberWithoutID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{`7`, `"x"`, `null`, `"-1"`, `{}`} {
		text := strings.Replace(membersAnswer(3, 1), `"ID":"2"`, `"ID":`+id, 1)
		if n := parse(t, []byte(text)); n.Etcd == nil || len(n.Etcd.Members) > 0 {
			t.Errorf("ID %s: %+v", id, n.Etcd)
		}
	}
	if n := parse(t, []byte(membersAnswer(3, 1))); len(n.Etcd.Members) != 3 {
		t.Errorf("of three: %+v", n.Etcd)
	}
}

// A damaged file is a fact about the node, and the rest of it is still known.
func TestUnreadablePEM(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no PEM":      "|hello\n",
		"another PEM": "|-----BEGIN CERTIFICATE REQUEST-----\n|AAAA\n|-----END CERTIFICATE REQUEST-----\n",
		"no X.509":    "|-----BEGIN CERTIFICATE-----\n|AAAA\n|-----END CERTIFICATE-----\n",
		"cut off":     "|-----BEGIN CERTIFICATE-----\n|AAAA\n",
	} {
		n := parse(t, []byte("@@KSCERT 3 1\n@@FACT pki /p\n@@FILE 644 root root 1 1 /p/apiserver.crt\n"+text+"@@END\n"))
		if len(n.Unreadable) != 1 || n.Unreadable[0].Path != "/p/apiserver.crt" || n.Unreadable[0].Reason == "" || len(n.Certificates) > 0 {
			t.Errorf("%s: %+v, certificates %v", name, n.Unreadable, n.Certificates)
		}
	}
}

// A saved snapshot is the same when it is read again: a maintainer sees what the user saw.
func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	p := makePKI(t)
	want := snapshot.Snapshot{Schema: snapshot.Schema, Taken: time.Date(2026, 3, 1, 12, 0, 1, 5, time.UTC), Nodes: []snapshot.Node{
		parse(t, p.output(t, "control-plane.txt")),
		{Node: cluster.Node{Name: "w1", KubernetesName: "w1.example.com", Roles: []cluster.Role{cluster.Worker}},
			Failure: &snapshot.Failure{Kind: snapshot.Unreachable, Message: "No route to host"}},
	}}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got snapshot.Snapshot
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestLookups(t *testing.T) {
	t.Parallel()
	view := &snapshot.View{Nodes: map[string]string{"w1": "True"}}
	s := snapshot.Snapshot{Nodes: []snapshot.Node{
		{Node: cluster.Node{Name: "cp1", Roles: []cluster.Role{cluster.ControlPlane, cluster.Etcd}}},
		{Node: cluster.Node{Name: "cp2", Roles: []cluster.Role{cluster.ControlPlane}}, View: view},
		{Node: cluster.Node{Name: "w1", Roles: []cluster.Role{cluster.Worker}}},
	}}
	if n, ok := s.Node("cp2"); !ok || n.Name != "cp2" {
		t.Errorf("Node: %v %t", n, ok)
	}
	if _, ok := s.Node("cp9"); ok {
		t.Error("a node that is not there was found")
	}
	if got := s.With(cluster.ControlPlane); len(got) != 2 || got[1].Name != "cp2" {
		t.Errorf("With: %v", got)
	}
	if v, ok := s.View(); !ok || !reflect.DeepEqual(v, *view) {
		t.Errorf("View: %v %t", v, ok)
	}
	if _, ok := (snapshot.Snapshot{}).View(); ok {
		t.Error("a view of nothing")
	}
}

// systemd calls a unit active in the moments between two crashes too.
func TestSteady(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		unit snapshot.Unit
		want bool
	}{
		{"just started, never crashed", snapshot.Unit{Active: "active"}, true},
		{"crashed long ago", snapshot.Unit{Active: "active", Restarts: 5, ActiveSeconds: 30}, true},
		{"between two crashes", snapshot.Unit{Active: "active", Restarts: 1, ActiveSeconds: 29}, false},
		{"waits for its next start", snapshot.Unit{Active: "activating"}, false},
		{"failed", snapshot.Unit{Active: "failed", ActiveSeconds: 100}, false},
	} {
		if got := row.unit.Steady(); got != row.want {
			t.Errorf("%s: steady is %t", row.name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	p := makePKI(f)
	files, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file.Name(), ".txt") {
			f.Add(p.output(f, file.Name()))
		}
	}
	for _, seed := range []string{"", "@@KSCERT 3 1\n@@END", "@@KSCERT 3 1\r\n|x\r\n@@FACT\r\n@@END\r\n", "@@KSCERT 3 1\n@@DIGEST a b\n@@TLS a b c\n|\n@@HTTP endpoint 1 c\n|HTTP/1.1 200\n|\n|{\n@@END\n", "@@", "|", "@@KSCERT 3 9223372036854775807\n@@END\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, output []byte) {
		n, err := snapshot.Parse(cp1, output)
		if err != nil {
			return
		}
		if !bytes.Contains(output, []byte("@@END")) {
			t.Errorf("an output without its end was read: %+v", n)
		}
		if n.Name != "cp1" || n.Failure != nil {
			t.Errorf("not the node that was asked: %+v", n)
		}
		if bytes.Count(output, []byte("\n@@KSCERT ")) > 1 || len(n.Certificates) > 2000 || len(n.Unreadable) > 4000 {
			t.Errorf("more was read than a node has: %d certificates, %d unreadable", len(n.Certificates), len(n.Unreadable))
		}
		for _, c := range n.Certificates {
			if len(c.Fingerprint) != 64 {
				t.Errorf("a certificate without a fingerprint: %+v", c)
			}
		}
		if _, err := json.Marshal(n); err != nil {
			t.Errorf("what one node says keeps the snapshot from being saved: %v", err)
		}
	})
}

// FuzzKubeconfig: whatever a kubeconfig contains, the node is known, and what is wrong with the
// file is reported.
func FuzzKubeconfig(f *testing.F) {
	p := makePKI(f)
	data := base64.StdEncoding.EncodeToString(p["ca"].Certificate)
	for _, seed := range []string{"", "users: [{name: w1, user: {client-certificate-data: " + data + "}}]\nclusters:\n- cluster: {server: w2, certificate-authority-data: " + data + "}\n", "users: [{user: {client-certificate: kubelet-client-current.pem}}]\n", "contexts: &a [*a]\n"} {
		f.Add([]byte(seed))
	}
	const path = "/etc/kubernetes/admin.conf"
	f.Fuzz(func(t *testing.T, text []byte) {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\n|"))
		n, err := snapshot.Parse(cp1, fmt.Appendf(nil, "@@KSCERT 3 1\n@@KUBECONFIG 600 root root 1 1 %s\n|%s\n@@END\n", path, text))
		if err != nil {
			t.Fatal(err)
		}
		if len(n.Kubeconfigs) != 1 || n.Kubeconfigs[0].Path != path {
			t.Errorf("%+v", n.Kubeconfigs)
		}
		for _, u := range n.Unreadable {
			if u.Path != path || u.Reason == "" {
				t.Errorf("%+v", u)
			}
		}
		for _, c := range n.Certificates {
			if c.Path != path || len(c.Fingerprint) != 64 {
				t.Errorf("%+v", c)
			}
		}
	})
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n  %+v, want\n  %+v", what, got, want)
	}
}
