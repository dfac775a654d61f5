package playbooks_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A kubelet with another --cert-dir is inspected, backed up and renewed there, and nowhere else.
func TestAnotherCertDir(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	cp, n := signer(t, ca), worker(t, ca, "w1")
	usual, dir := filepath.Dir(n.pair()), n.root()+"/srv/kubelet-pki"
	n.ok(os.MkdirAll(filepath.Dir(dir), 0o700))
	n.ok(os.Rename(usual, dir))
	n.write(n.conf+"/kubelet.env", []byte("KUBELET_ARGS=\"--v=2 --cert-dir="+dir+"/\"\n"), 0o600)
	conf := strings.ReplaceAll(string(n.read(n.conf+"/kubelet.conf")), usual, dir)
	n.write(n.conf+"/kubelet.conf", []byte(conf), 0o600)

	seen := n.look()
	pair, found := seen.Certificate(certs.KindKubeletClient)
	if seen.Facts["kubelet-dir"] != dir || !found || pair.Path != dir+"/kubelet-client-current.pem" {
		t.Fatalf("inspected in %s: %s", seen.Facts["kubelet-dir"], pair.Path)
	}
	covered, errs, err := n.run("covered")
	if err != nil || !slices.Contains(strings.Fields(covered), dir) || strings.Contains(covered, usual) {
		t.Errorf("a backup covers %s%s: %v", covered, errs, err)
	}
	asked := n.asksKubelet()
	signed, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='cp1 w1' KSCERT_REQUESTS='host1|w1|"+asked+"'")
	if err != nil || asked == "" {
		t.Fatal(err, errs)
	}
	issued := words(signed, "issued: host1|")
	if _, errs, err := n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED='"+issued+"'"); err != nil {
		t.Fatal(err, errs)
	}
	if left := time.Until(parsed(t, n.read(dir+"/kubelet-client-current.pem")).NotAfter); left < time.Hour {
		t.Errorf("the certificate in %s is valid for %s", dir, left)
	}
	if _, err := os.Stat(usual); err == nil {
		t.Errorf("%s exists", usual)
	}
}

// A kubelet with another --kubeconfig is backed up and renewed there.
func TestAnotherKubeconfig(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	cp, n := signer(t, ca), worker(t, ca, "w1")
	usual, conf := n.conf+"/kubelet.conf", n.root()+"/srv/kubelet.kubeconfig"
	n.write(n.conf+"/kubelet.env", []byte("KUBELET_KUBECONFIG_ARGS=--kubeconfig="+conf+"\n"), 0o600)
	n.ok(os.MkdirAll(filepath.Dir(conf), 0o700))
	n.ok(os.Rename(usual, conf))
	covered, errs, err := n.run("covered")
	if err != nil || !slices.Contains(strings.Fields(covered), conf) {
		t.Errorf("a backup covers %s%s: %v", covered, errs, err)
	}
	seen := n.look()
	if seen.KubeletConf() != conf || seen.At(conf).Kind != certs.KindKubeletConf || !slices.ContainsFunc(seen.Kubeconfigs,
		func(k snapshot.Kubeconfig) bool { return k.Path == conf && k.ClientCertificateFile == n.pair() }) {
		t.Errorf("the collector sees %s: %+v", seen.KubeletConf(), seen.Kubeconfigs)
	}
	d := diagnosis.Diagnose(snapshot.Snapshot{Taken: time.Now(), Nodes: []snapshot.Node{seen}}, diagnosis.Thresholds{})
	for _, f := range d.Findings {
		if strings.HasSuffix(f.Subject, "kubelet.conf") {
			t.Errorf("it is missed elsewhere: %+v", f)
		}
	}
	asked := n.asksKubelet()
	signed, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='cp1 w1' KSCERT_REQUESTS='host1|w1|"+asked+"'")
	if err != nil || asked == "" {
		t.Fatal(err, errs)
	}
	if _, errs, err := n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED='"+words(signed, "issued: host1|")+"'"); err != nil {
		t.Fatal(err, errs)
	}
	if left := time.Until(parsed(t, n.read(n.pair())).NotAfter); left < time.Hour {
		t.Errorf("the certificate is valid for %s", left)
	}
	if _, err := os.Stat(usual); err == nil {
		t.Errorf("%s exists", usual)
	}
}

// A run removes and backs up no more than the kubelet's certificates.
func TestCertDirThatHoldsMore(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"/", "/var/lib", "/var/lib/kubelet", "pki"} {
		n := newNode(t)
		if strings.HasPrefix(dir, "/var") {
			dir = n.root() + dir
		}
		n.write(n.conf+"/kubelet.env", []byte("KUBELET_ARGS=\"--cert-dir="+dir+"\"\n"), 0o600)
		out, errs, err := n.run("echo begun")
		if err == nil || out != "" || !strings.Contains(errs, "--cert-dir of the kubelet") {
			t.Errorf("%s: %v %q %q", dir, err, out, errs)
		}
	}
}

// The collector and the scripts of the roles find the same certificate directory.
func TestBothFindThePKI(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ config, want string }{
		"named":                     {"kind: ClusterConfiguration\ncertificatesDir: CONF/own\n", "CONF/own"},
		"named in quotes":           {"kind: ClusterConfiguration\n\"certificatesDir\": 'CONF/own' # here\n", "CONF/own"},
		"with slashes and dots":     {"kind: ClusterConfiguration\ncertificatesDir: CONF//.././kubernetes/own/\n", "CONF/own"},
		"kubeadm's default":         {"kind: ClusterConfiguration\n", "ROOT/etc/kubernetes/pki"},
		"no kubeadm configuration ": {"", "CONF/ssl"},
	} {
		n := newNode(t)
		text := func(s string) string {
			return strings.NewReplacer("CONF", n.conf, "ROOT", n.root()).Replace(s)
		}
		for _, dir := range []string{"CONF/own", "CONF/ssl", "ROOT/etc/kubernetes/pki"} {
			n.ok(os.MkdirAll(text(dir), 0o700))
		}
		if row.config != "" {
			n.write(n.conf+"/kubeadm-config.yaml", []byte(text(row.config)), 0o600)
		} else {
			n.ok(os.RemoveAll(n.conf + "/kubeadm-config.yaml"))
		}
		out, errs, err := n.run("pki_or_default")
		if seen := n.look().Facts["pki"]; err != nil || strings.TrimSpace(out) != text(row.want) || seen != text(row.want) {
			t.Errorf("%s: the collector finds %s, the roles %s%s: %v", name, seen, out, errs, err)
		}
	}
}

// Directories with a slash at their end, with two in a row or with dots are the same directories:
// keys are found next to their certificates, and a backup covers each place once.
func TestUntidyNames(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/../kubernetes//ssl/\n"), 0o600)
	p := ca.Issue(t, testpki.Leaf{CommonName: "p"})
	kubelet, own := n.root()+"/kubelet/pki", n.root()+"/own/p"
	for _, file := range []string{n.conf + "/ssl/apiserver.crt", n.conf + "/ssl/etcd/server.crt", n.etcd + "/member-cp1.pem", kubelet + "/kubelet.crt", own + ".crt"} {
		n.write(file, p.Certificate, 0o644)
	}
	for _, file := range []string{n.conf + "/ssl/apiserver.key", n.conf + "/ssl/etcd/server.key", n.etcd + "/member-cp1-key.pem", kubelet + "/kubelet.key", own + ".key"} {
		n.write(file, p.Key, 0o600)
	}
	n.write(n.conf+"/kubelet.env", []byte("KUBELET_ARGS=\"--cert-dir="+n.root()+"/./kubelet//pki/\"\n"), 0o600)
	n.write(n.conf+"/admin.conf", []byte("users:\n- user: {client-certificate: ./..//own/p.crt, client-key: "+n.conf+"/.././own//p.key}\n"), 0o600)
	plain := *n
	n.conf, n.etcd = n.conf+"//", n.root()+"/./etcd/"
	got := n.look()
	want := map[certs.Kind]string{
		certs.KindAPIServer: plain.conf + "/ssl/apiserver.crt", certs.KindEtcdServer: plain.conf + "/ssl/etcd/server.crt",
		certs.KindEtcdMember: plain.etcd + "/member-cp1.pem", certs.KindKubeletServing: kubelet + "/kubelet.crt", certs.KindKubeconfigFile: own + ".crt",
	}
	for _, c := range got.Certificates {
		if c.Path != want[c.Kind] || c.Key != certs.KeyMatches {
			t.Errorf("%s is %s, its key %q", c.Path, c.Kind, c.Key)
		}
		delete(want, c.Kind)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	covered, errs, err := n.run("covered")
	for place := range strings.Lines(covered) {
		if place = strings.TrimSpace(place); place != filepath.Clean(place) {
			t.Errorf("a backup covers %s", place)
		}
	}
	if err != nil || !strings.Contains(covered, plain.etcd+"\n") {
		t.Errorf("%v: a backup covers %s%s", err, covered, errs)
	}
}

// The collector and the roles find the same addresses of API server and etcd.
func TestBothFindTheAddresses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ api, etcd, wantAPI, wantEtcd string }{
		"nothing is reported": {"", "", "127.0.0.1:6443", "127.0.0.1:2379"},
		"both are reported": {"    - --advertise-address=fd00::1\n    - --secure-port=8443\n",
			"ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379,https://127.0.0.1:12379\n", "[fd00::1]:8443", "127.0.0.1:12379"},
		"etcd on one address": {"", "ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379\n", "127.0.0.1:6443", "10.0.0.1:2379"},
		"etcd on all":         {"", "ETCD_LISTEN_CLIENT_URLS=https://0.0.0.0:2380\n", "127.0.0.1:6443", "127.0.0.1:2380"},
	} {
		n := newNode(t)
		n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+row.api), 0o600)
		n.write(n.root()+"/etc/etcd.env", []byte(row.etcd), 0o600)
		script := role(t, "settings/files/components.sh")
		out, errs, err := n.run(script + "\n" + `each_member true; printf "%s %s" "$api" "$etcd_address"`)
		if want := row.wantAPI + " " + row.wantEtcd; err != nil || out != want {
			t.Errorf("%s: the roles ask %q, want %q: %v %s", name, out, want, err, errs)
		}
		seen := n.look()
		for component, want := range map[string]string{"kube-apiserver": row.wantAPI, "etcd": row.wantEtcd} {
			if e, ok := seen.Endpoint(component); !ok || e.Address != want {
				t.Errorf("%s: the collector asks %s at %s, want %s", name, component, e.Address, want)
			}
		}
	}
}
