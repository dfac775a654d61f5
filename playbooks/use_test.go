package playbooks_test

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// ofPod is the text before the arguments in the manifest of a static pod.
const ofPod = "spec:\n  containers:\n  - command:\n"

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

// The collector reports the file that a component uses by the same name as the file itself: its
// name in the container, and the targets of links, do not matter.
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
		{name: "in a mount above a mount", argument: "--tls-cert-file=/certs/b/tls.crt", mounts: []string{"/certs/b ROOT/own", "/certs ROOT/other"}, want: "/own/tls.crt"},
		{name: "next to a mount", argument: "--tls-cert-file=ROOT/own/tls.crt", mounts: []string{"ROOT/ow ROOT/other"}, want: "/own/tls.crt"},
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
				t.Errorf("of apiserver.crt is reported: used %t, known %t", uses, known)
			}
			if _, own := got.Certificate(certs.KindAPIServerFile); own == strings.HasSuffix(row.want, "/apiserver.crt") {
				t.Errorf("a certificate of its own: %t", own)
			}
		})
	}
}

// A flag of the kubelet counts before its configuration; a kubeconfig elsewhere is reported.
func TestCollectorTellsOfFlags(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	own := n.root() + "/own"
	n.write(n.conf+"/kubelet.env", []byte(`KUBELET_ARGS="--config=`+n.conf+`/kubelet-config.yaml --tls-cert-file=`+own+`/kubelet.crt --tls-private-key-file=`+own+`/kubelet.key"`+"\n"), 0o600)
	n.write(n.conf+"/kubelet-config.yaml", []byte("tlsCertFile: /another.crt\n"), 0o600)
	n.write(own+"/kubelet.crt", ca.Issue(t, testpki.Leaf{CommonName: "w1"}).Certificate, 0o600)
	n.write(n.conf+"/manifests/kube-scheduler.yaml", []byte(ofPod+"    - --kubeconfig="+own+"/scheduler.conf\n"), 0o600)
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

// A file that a setting names is reported if it is not there or a link to nothing: the component
// does not start again. One in the directory of kubeadm is reported by its role.
func TestCollectorTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	own := n.root() + "/own"
	n.ok(os.MkdirAll(own+"/folder.pem", 0o700))
	n.ok(os.Symlink("gone.crt", own+"/link.crt"))
	n.apiServerPod([]string{"--tls-cert-file=/certs/link.crt", "--etcd-certfile=/certs/gone.pem", "--etcd-cafile=/certs/folder.pem", "--proxy-client-cert-file=" + n.conf + "/ssl/front-proxy-client.crt"}, "/certs "+own)
	n.write(n.root()+"/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\ntlsCertFile: certs/gone.crt\n"), 0o600)
	n.write(n.root()+"/etc/etcd.env", []byte("ETCD_CERT_FILE="+own+"/of-a-member-that-was-here.pem\n"), 0o600)
	want := map[string]string{
		own + "/link.crt":                            "a link to nothing",
		own + "/folder.pem":                          "not a file",
		own + "/gone.pem":                            "it does not exist, and kube-apiserver.etcd-certfile names it",
		n.root() + "/var/lib/kubelet/certs/gone.crt": "it does not exist, and kubelet.tlsCertFile names it",
	}
	for _, u := range n.look().Unreadable {
		if want[u.Path] != u.Reason {
			t.Errorf("%s: %s", u.Path, u.Reason)
		}
		delete(want, u.Path)
	}
	if len(want) > 0 {
		t.Errorf("not reported: %v", want)
	}
}

// The API server's certificates for other names (--tls-sni-cert-key) are reported, the first of them
// as what it is.
func TestCollectorReadsCertificatesForNames(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "company")
	n := newNode(t)
	own := n.root() + "/own"
	want := map[string]certs.Kind{}
	for name, kind := range map[string]certs.Kind{"a": "apiserver-sni-file", "b": certs.KindUnknown, "c": certs.KindUnknown} {
		p := ca.Issue(t, testpki.Leaf{CommonName: name})
		n.write(own+"/"+name+".crt", p.Certificate, 0o600)
		n.write(own+"/"+name+".key", p.Key, 0o600)
		want[own+"/"+name+".crt"] = kind
	}
	n.apiServerPod([]string{"--tls-sni-cert-key=/certs/a.crt,/certs/a.key:api.example.com,*.example.com", "--tls-sni-cert-key", "/certs/b.crt,/certs/b.key",
		"'--tls-sni-cert-key=/certs/c.crt,/certs/c.key:c'"}, "/certs "+own)
	for _, c := range n.look().Certificates {
		if c.Kind != want[c.Path] || c.Kind != certs.KindUnknown && c.Key != certs.KeyMatches {
			t.Errorf("%s is %s, its key %q", c.Path, c.Kind, c.Key)
		}
		delete(want, c.Path)
	}
	if len(want) > 0 {
		t.Errorf("not read: %v", want)
	}
}

// A name in the kubelet's configuration is relative to that.
func TestKubeletFilesNextToItsConfiguration(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	p, dir := ca.Issue(t, testpki.Leaf{CommonName: "w1"}), n.root()+"/var/lib/kubelet"
	n.write(dir+"/config.yaml", []byte("kind: KubeletConfiguration\ntlsCertFile: certs/tls.crt\ntlsPrivateKeyFile: \"certs/tls.key\"\n"), 0o600)
	n.write(dir+"/certs/tls.crt", p.Certificate, 0o600)
	n.write(dir+"/certs/tls.key", p.Key, 0o600)
	if c, ok := n.look().Certificate(certs.KindKubeletServingFile); !ok || c.Path != dir+"/certs/tls.crt" || c.Key != certs.KeyMatches {
		t.Errorf("the kubelet's own certificate is %+v", c)
	}
	if out, errs, err := n.run("kubelet_says tlsCertFile"); err != nil || out != dir+"/certs/tls.crt\n" {
		t.Errorf("the roles take %q: %v %s", out, err, errs)
	}
}

// An unused file is left as it is, whatever is wrong with it, and stops nothing: the files of
// kubeadm's own etcd next to the host's, an apiserver.crt next to one of the user's own.
func TestRenewalLeavesWhatNobodyUses(t *testing.T) {
	t.Parallel()
	ca, stranger, host := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "etcd-ca"), testpki.Authority(t, "etcd-ca")
	ended := func(by testpki.Pair, name string) testpki.Pair {
		return by.Issue(t, testpki.Leaf{CommonName: name, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	}
	for _, used := range []bool{false, true} {
		n := issuer(t, ca)
		put := func(file string, p testpki.Pair) {
			n.write(file+".crt", p.Certificate, 0o600)
			n.write(file+".key", p.Key, 0o600)
		}
		pki := n.conf + "/ssl"
		put(pki+"/apiserver", ended(ca, "kube-apiserver"))
		put(pki+"/apiserver-kubelet-client", ended(ca, "kube-apiserver-kubelet-client"))
		put(n.conf+"/own/tls", ended(ca, "kube-apiserver"))
		n.write(n.conf+"/scheduler.conf", kubeconfig(ca, ended(ca, "system:kube-scheduler"), ""), 0o600)
		n.write(n.conf+"/own/scheduler.conf", kubeconfig(ca, ended(ca, "system:kube-scheduler"), ""), 0o600)
		serves, scheduler := pki+"/apiserver.crt", n.conf+"/scheduler.conf"
		if !used {
			// Nor is there the CA that could sign them.
			for _, name := range []string{"etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"} {
				put(pki+"/"+name, ended(stranger, name))
			}
			n.write(pki+"/etcd/ca.crt", host.Certificate, 0o600)
			serves, scheduler = n.conf+"/own/tls.crt", n.conf+"/own/scheduler.conf"
		}
		n.write(n.root()+"/etc/etcd.env", []byte("ETCD_CERT_FILE="+n.etcd+"/member-cp1.pem\nETCD_PEER_CERT_FILE="+n.etcd+"/member-cp1.pem\n"), 0o600)
		n.write(n.etcd+"/node-cp1.pem", host.Certificate, 0o600)
		n.apiServerPod([]string{"--tls-cert-file=" + serves, "--etcd-certfile=" + n.etcd + "/node-cp1.pem", "--kubelet-client-certificate=" + pki + "/apiserver-kubelet-client.crt"})
		n.write(n.conf+"/manifests/kube-scheduler.yaml", []byte(ofPod+"    - --kubeconfig="+scheduler+"\n"), 0o600)
		before := n.files()
		out, errs, err := n.run(renewal(t))
		want := "changed: apiserver-kubelet-client\n"
		if used {
			want = "changed: apiserver\nchanged: apiserver-kubelet-client\nchanged: " + n.conf + "/scheduler.conf\n"
		}
		if err != nil || out != want {
			t.Errorf("used %t: %v: %s%s, want %s", used, err, out, errs, want)
		}
		after := n.files()
		for _, file := range []string{pki + "/apiserver.crt", pki + "/apiserver.key", pki + "/etcd/server.crt", n.conf + "/scheduler.conf", n.conf + "/own/tls.crt", n.conf + "/own/scheduler.conf"} {
			if same, own := before[file] == after[file], strings.Contains(file, "/own/"); same != (own || !used || strings.Contains(file, "/etcd/")) {
				t.Errorf("used %t: %s is as it was: %t", used, file, same)
			}
		}
	}
}

// Without the API server's manifest, the etcd on the node decides about its client certificate.
func TestEtcdDecidesAboutItsClient(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	old := testpki.Authority(t, "etcd-ca").Issue(t, testpki.Leaf{CommonName: "kube-apiserver-etcd-client", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	for _, ofHost := range []bool{true, false} {
		n := issuer(t, ca)
		n.write(n.conf+"/ssl/apiserver-etcd-client.crt", old.Certificate, 0o600)
		n.write(n.conf+"/ssl/apiserver-etcd-client.key", old.Key, 0o600)
		if ofHost {
			n.write(n.root()+"/etc/etcd.env", []byte("ETCD_CERT_FILE="+n.etcd+"/member-cp1.pem\n"), 0o600)
		}
		out, errs, err := n.run(renewal(t))
		if ofHost && (err != nil || out != "") {
			t.Errorf("%v: %s%s", err, out, errs)
		}
		if !ofHost && !strings.Contains(out+errs, "apiserver-etcd-client") && !strings.Contains(errs, "etcd/ca.crt does not exist") {
			t.Errorf("it is passed over without a reason: %v: %s%s", err, out, errs)
		}
	}
}

// The directory of an etcd member has pairs of others, too. Those of the inventory's hosts are
// renewed; that of a removed member is left, and so is one without a key that no component names.
func TestEtcdLeavesWhatNobodyUses(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "etcd-ca")
	n := newNode(t)
	n.verified()
	n.write(n.etcd+"/ca.pem", ca.Certificate, 0o600)
	n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
	for _, host := range []string{"cp1", "cp2", "w1", "gone"} {
		p := ca.Issue(t, testpki.Leaf{CommonName: "etcd-member-" + host, NotAfter: time.Now().Add(time.Hour)})
		n.write(n.etcd+"/member-"+host+".pem", p.Certificate, 0o600)
		if strings.HasPrefix(host, "cp") {
			n.write(n.etcd+"/member-"+host+"-key.pem", p.Key, 0o600)
		}
	}
	member := n.etcd + "/member-cp1.pem"
	n.write(n.root()+"/etc/etcd.env", []byte("ETCD_CERT_FILE="+member+"\nETCD_PEER_CERT_FILE="+member+"\n"), 0o600)
	out, errs, err := n.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", "", "KSCERT_HOSTS", "cp1 cp2 w1")
	if want := "changed: " + member + "\nchanged: " + n.etcd + "/member-cp2.pem\n"; err != nil || out != want {
		t.Errorf("%v: %s%s, want %s", err, out, errs, want)
	}
	n.apiServerPod([]string{"--etcd-certfile=" + n.conf + "/ssl/apiserver-etcd-client.crt"})
	n.write(n.root()+"/etc/etcd.env", nil, 0o600)
	if out, errs, err := n.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", "", "KSCERT_HOSTS", "cp1 cp2 w1"); err != nil || out != "" {
		t.Errorf("where another etcd is used: %v: %s%s", err, out, errs)
	}
}

// An API server with a certificate of its own is compared with that, and is not restarted for one
// that it does not use.
func TestOwnServingCertificate(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	own, other := ca.Issue(t, testpki.Leaf{CommonName: "own"}), ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	for served, want := range map[*testpki.Pair]string{&own: "", &other: "restart\n"} {
		n := newNode(t)
		port := apiServer(t, ca.Issue(t, testpki.Leaf{CommonName: "apiserver-loopback-client@1"}), *served)
		n.write(n.conf+"/ssl/apiserver.crt", other.Certificate, 0o600)
		n.write(n.root()+"/own/tls.crt", own.Certificate, 0o600)
		n.apiServerPod([]string{"--secure-port=" + port, "--advertise-address=127.0.0.1", "--tls-cert-file=/certs/tls.crt"}, "/certs "+n.root()+"/own")
		n.write(n.bin+"/crictl", []byte("#!/bin/sh\necho 0123abcd\n"), 0o700)
		cmd := n.command("KSCERT_WAIT_SECONDS=1 KSCERT_API_RELOADS=True\n" + lib(t) + role(t, "settings/files/components.sh") + "\nif stale kube-apiserver; then echo restart; fi")
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%v: %q, want %q", err, out, want)
		}
	}
}
