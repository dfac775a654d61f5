package playbooks_test

import (
	"os"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// apiServerPod is an API server's manifest as kubeadm writes it, with these arguments and
// with more of the host mounted: "PLACE-IN-THE-CONTAINER PLACE-ON-THE-HOST".
func (n *node) apiServerPod(arguments []string, mounts ...string) {
	n.t.Helper()
	var command, inside, outside strings.Builder
	for _, a := range arguments {
		command.WriteString("    - " + a + "\n")
	}
	for i, m := range append([]string{n.conf + "/ssl " + n.conf + "/ssl"}, mounts...) {
		name := "volume-" + string(rune('a'+i))
		to, from, _ := strings.Cut(m, " ")
		inside.WriteString("    - mountPath: " + to + "\n      name: " + name + "\n      readOnly: true\n")
		outside.WriteString("  - hostPath:\n      path: " + from + "\n      type: DirectoryOrCreate\n    name: " + name + "\n")
	}
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-apiserver\nspec:\n  containers:\n"+
		"  - command:\n    - kube-apiserver\n"+command.String()+"    image: registry.k8s.io/kube-apiserver:v1.34.4\n    name: kube-apiserver\n"+
		"    volumeMounts:\n"+inside.String()+"  hostNetwork: true\n  volumes:\n"+outside.String()+"status: {}\n"), 0o600)
}

// The collector tells which file a component uses by the name under which it tells of the
// file: what its container calls it, and where links lead, is nobody's matter.
func TestCollectorTellsWhatIsUsed(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	issue := func(name string) []byte { return ca.Issue(t, testpki.Leaf{CommonName: name}).Certificate }
	for _, row := range []struct {
		name, argument string
		mounts         []string
		prepare        func(n *node)
		want           string // below the node's root
	}{
		{name: "its usual place", argument: "--tls-cert-file=CONF/ssl/apiserver.crt", want: "/kubernetes/ssl/apiserver.crt"},
		{name: "in quotes", argument: `"--tls-cert-file=CONF/ssl/apiserver.crt"`, want: "/kubernetes/ssl/apiserver.crt"},
		{name: "elsewhere", argument: "--tls-cert-file=ROOT/own/tls.crt", want: "/own/tls.crt"},
		{name: "elsewhere in the container", argument: "--tls-cert-file=/certs/tls.crt", mounts: []string{"/certs ROOT/own"}, want: "/own/tls.crt"},
		{name: "in a mount below a mount", argument: "--tls-cert-file=/certs/b/tls.crt", mounts: []string{"/certs ROOT/other", "/certs/b ROOT/own"}, want: "/own/tls.crt"},
		{name: "a file that is mounted", argument: "--tls-cert-file=/x.crt", mounts: []string{"/x.crt ROOT/own/tls.crt"}, want: "/own/tls.crt"},
		{
			name: "by another name of the folder", argument: "--tls-cert-file=CONF/pki/apiserver.crt", want: "/kubernetes/ssl/apiserver.crt",
			prepare: func(n *node) { n.ok(os.Symlink("ssl", n.conf+"/pki")) },
		},
		{name: "the last of two", argument: "--tls-cert-file=CONF/ssl/apiserver.crt\n    - --tls-cert-file=ROOT/own/tls.crt", want: "/own/tls.crt"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/ssl/apiserver.crt", issue("kube-apiserver"), 0o600)
			n.write(n.root()+"/own/tls.crt", issue("own"), 0o600)
			if row.prepare != nil {
				row.prepare(n)
			}
			here := strings.NewReplacer("CONF", n.conf, "ROOT", n.root())
			var mounts []string
			for _, m := range row.mounts {
				mounts = append(mounts, here.Replace(m))
			}
			n.apiServerPod([]string{here.Replace(row.argument)}, mounts...)
			got := n.look()
			if file := got.Facts["kube-apiserver.tls-cert-file"]; file != n.root()+row.want {
				t.Errorf("it uses %s, want %s", file, n.root()+row.want)
			}
			c, _ := got.Certificate(certs.KindAPIServer)
			if uses, known := got.Uses(c); !known || uses != strings.HasSuffix(row.want, "/apiserver.crt") {
				t.Errorf("of apiserver.crt is told: used %t, known %t", uses, known)
			}
			if _, own := got.Certificate(certs.KindAPIServerFile); own == strings.HasSuffix(row.want, "/apiserver.crt") {
				t.Errorf("a certificate of its own: %t", own)
			}
		})
	}
}

// A flag of the kubelet's counts before its configuration; a kubeconfig elsewhere is told.
func TestCollectorTellsOfFlags(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	own := n.root() + "/own"
	n.write(n.conf+"/kubelet.env", []byte(`KUBELET_ARGS="--config=`+n.conf+`/kubelet-config.yaml --tls-cert-file=`+own+`/kubelet.crt --tls-private-key-file=`+own+`/kubelet.key"`+"\n"), 0o600)
	n.write(n.conf+"/kubelet-config.yaml", []byte("tlsCertFile: /another.crt\n"), 0o600)
	n.write(own+"/kubelet.crt", ca.Issue(t, testpki.Leaf{CommonName: "w1"}).Certificate, 0o600)
	n.write(n.conf+"/manifests/kube-scheduler.yaml", []byte("spec:\n  containers:\n  - command:\n    - --kubeconfig="+own+"/scheduler.conf\n"), 0o600)
	p := ca.Issue(t, testpki.Leaf{CommonName: "system:kube-scheduler"})
	n.write(own+"/scheduler.conf", kubeconfig(ca, p, ""), 0o600)
	got := n.look()
	if c, ok := got.Certificate(certs.KindKubeletServingFile); !ok || c.Path != own+"/kubelet.crt" {
		t.Errorf("the kubelet's own certificate is %+v", c)
	}
	if c, ok := got.Certificate("scheduler-kubeconfig"); !ok || c.Path != own+"/scheduler.conf" {
		t.Errorf("the scheduler's is %+v", c)
	}
}
