package playbooks_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// pair is the path of the kubelet's client certificate and key.
func (n *node) pair() string { return n.root() + "/var/lib/kubelet/pki/kubelet-client-current.pem" }

// worker is a node whose kubelet has an expired client certificate for who.
func worker(t *testing.T, ca testpki.Pair, who string) *node {
	t.Helper()
	n := newNode(t)
	n.verified()
	old := ca.Issue(t, testpki.Leaf{CommonName: "system:node:" + who, Organization: "system:nodes",
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	n.write(filepath.Dir(n.pair())+"/kubelet-client-2026-01-01-00-00-00.pem", slices.Concat(old.Certificate, old.Key), 0o600)
	n.ok(os.Symlink("kubelet-client-2026-01-01-00-00-00.pem", n.pair()))
	n.write(n.root()+"/var/lib/kubelet/pki/kubelet.crt", ca.Issue(t, testpki.Leaf{CommonName: who}).Certificate, 0o600)
	n.write(n.conf+"/kubelet.conf", []byte("clusters:\n- cluster:\n    certificate-authority-data: "+base64.StdEncoding.EncodeToString(ca.Certificate)+
		"\n    server: https://10.0.0.1:6443\nusers:\n- user:\n    client-certificate: "+n.pair()+"\n    client-key: "+n.pair()+"\n"), 0o600)
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\necho \"$*\" >>"+n.root()+"/called\n"), 0o700)
	return n
}

// signer is a control plane that has the CA's key.
func signer(t *testing.T, ca testpki.Pair) *node {
	t.Helper()
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
	n.write(n.conf+"/manifests/kube-controller-manager.yaml", []byte(ofPod+"    - --cluster-signing-duration=48h30m0s\n"), 0o600)
	return n
}

func (n *node) kubelet(script string, settings string) (stdout, stderr string, err error) {
	n.t.Helper()
	return n.run(settings + "\n" + role(n.t, "kubelet_bootstrap/files/"+script))
}

// asksKubelet is what a worker requests, without the words before it.
func (n *node) asksKubelet() string {
	n.t.Helper()
	out, errs, err := n.kubelet("request.sh", "")
	if err != nil {
		n.t.Fatal(err, errs)
	}
	return words(out, "request: ")
}

// A kubelet gets a client certificate for its own node. No key and no token travels.
func TestKubeletSigned(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	cp, n := signer(t, ca), worker(t, ca, "w1")
	asked := n.asksKubelet()
	signed, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='cp1 w1' KSCERT_REQUESTS='host1|w1|"+asked+"'")
	issued := words(signed, "issued: host1|")
	if err != nil || issued == "" {
		t.Fatalf("%v: %s%s", err, signed, errs)
	}
	for _, answered := range []string{asked, signed} {
		for part := range strings.SplitSeq(answered, "|") {
			if text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(part)); err == nil && strings.Contains(string(text), "PRIVATE") {
				t.Errorf("a key travels: %s", answered)
			}
		}
	}
	// A short lifetime, which may be below five minutes, is not shortened further.
	cp.write(cp.conf+"/manifests/kube-controller-manager.yaml", []byte(ofPod+"    - --cluster-signing-duration=4m\n"), 0o600)
	short, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='cp1 w1' KSCERT_REQUESTS='host1|w1|"+asked+"'")
	text, derr := base64.StdEncoding.DecodeString(words(short, "issued: host1|"))
	if err != nil || derr != nil || time.Until(parsed(t, text).NotAfter) < 3*time.Minute {
		t.Errorf("%v: %s%s", err, short, errs)
	}
	before := n.read(n.pair())
	// If a run is killed before it restarts the kubelet, the next one restarts it.
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n[ \"$1\" != restart ]\n"), 0o700)
	if _, errs, err := n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED='"+issued+"'"); err == nil || !strings.Contains(errs, "the kubelet does not start") {
		t.Fatal(err, errs)
	}
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n"), 0o700)
	if out, _, err := n.kubelet("request.sh", ""); err != nil || !strings.HasSuffix(out, "changed: the kubelet has not been restarted since it got a certificate\n") {
		t.Errorf("%v: %q", err, out)
	}
	if out, errs, err := n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED="); err != nil || out != "changed: restarted the kubelet\n" {
		t.Errorf("%v: %q %q", err, out, errs)
	}
	x := parsed(t, n.read(n.pair()))
	if x.Subject.String() != "CN=system:node:w1,O=system:nodes" || x.CheckSignatureFrom(ca.X509) != nil || x.IsCA ||
		!slices.Equal(x.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || x.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("it is for %s %v %v", x.Subject, x.ExtKeyUsage, x.KeyUsage)
	}
	if _, ok := x.PublicKey.(*ecdsa.PublicKey); !ok || len(x.SerialNumber.Bytes()) < 12 || x.AuthorityKeyId == nil {
		t.Errorf("key %T, serial %s, authority %x", x.PublicKey, x.SerialNumber, x.AuthorityKeyId)
	}
	if life, ahead := x.NotAfter.Sub(x.NotBefore), time.Since(x.NotBefore); life != 48*time.Hour+30*time.Minute || ahead < 5*time.Minute || ahead > 6*time.Minute {
		t.Errorf("it lives %s, from %s ago", life, ahead)
	}
	if old := n.read(filepath.Dir(n.pair()) + "/kubelet-client-2026-01-01-00-00-00.pem"); string(old) != string(before) {
		t.Error("the old pair has changed")
	}
	if left, _ := filepath.Glob(filepath.Dir(n.pair()) + "/.kscertctl*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if out := n.asksKubelet(); out != "" {
		t.Errorf("a second run asks for %s", out)
	}
}

// The CA may be a file, whose name is relative to kubelet.conf.
func TestKubeletTrustsAFile(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	cp := signer(t, ca)
	for _, file := range []string{"CONF/own/ca.crt", "own/ca.crt", `"./own/ca.crt"`} {
		n := worker(t, ca, "w1")
		conf := strings.Replace(string(n.read(n.conf+"/kubelet.conf")), "certificate-authority-data: "+base64.StdEncoding.EncodeToString(ca.Certificate),
			"certificate-authority: "+strings.ReplaceAll(file, "CONF", n.conf), 1)
		n.write(n.conf+"/kubelet.conf", []byte(conf), 0o600)
		n.write(n.conf+"/own/ca.crt", ca.Certificate, 0o600)
		signed, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='cp1 w1' KSCERT_REQUESTS='host1|w1|"+n.asksKubelet()+"'")
		if err != nil {
			t.Fatal(err, errs)
		}
		out, errs, err := n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED='"+words(signed, "issued: host1|")+"'")
		if err != nil || !strings.Contains(out, "changed: restarted the kubelet\n") {
			t.Errorf("%s: %v: %s%s", file, err, out, errs)
		}
	}
}

// A kubelet that runs, and whose kubelet.conf is refused, is not restarted: with the expired
// certificate in it, it would not start. One that does not run is.
func TestKubeletThatWouldNotStart(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	old := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1", Organization: "system:nodes",
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	b64 := base64.StdEncoding.EncodeToString
	embeds := []byte(`{"users": [{"name": "w1", "user": {"client-certificate-data": "` + b64(old.Certificate) +
		`", "client-key-data": "` + b64(old.Key) + `"}}]}`)
	for state, want := range map[string]string{
		"active":   "noted: the kubelet is not restarted: with the expired certificate of ",
		"inactive": "changed: restarted the kubelet\n",
	} {
		n := worker(t, ca, "w1")
		fresh := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1", Organization: "system:nodes",
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)})
		n.write(n.pair(), slices.Concat(fresh.Certificate, fresh.Key), 0o600)
		n.write(n.conf+"/kubelet.conf", embeds, 0o600)
		n.write(n.bin+"/systemctl", []byte("#!/bin/sh\ncase $1 in is-active) [ "+state+" = active ] ;; "+
			"restart) echo restarted >>"+n.root()+"/called ;; esac\n"), 0o700)
		out, errs, err := n.kubelet("request.sh", "")
		if err != nil || !strings.Contains(out, "refused: "+n.conf+"/kubelet.conf stays as it is: ") {
			t.Fatalf("%s: %v: %s%s", state, err, out, errs)
		}
		out, errs, err = n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED=")
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v: %s%s", state, err, out, errs)
		}
		if _, err := os.Stat(n.root() + "/called"); (err == nil) != (state == "inactive") {
			t.Errorf("%s: restarted: %v", state, err == nil)
		}
	}
}

// What a worker claims does not decide whose certificate it gets.
func TestKubeletSignerRefuses(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	ghost := request(t, ca.Issue(t, testpki.Leaf{CommonName: "w1"}), "system:node:ghost")
	for _, row := range []struct {
		name string
		// node is the name in the old certificate, by its signer, inventory the worker's name
		// there, names all that the inventory has.
		node, inventory, names string
		by                     testpki.Pair
		edit                   func([]string)
		// is is whose certificate is issued.
		is, refusal string
	}{
		{name: "as the inventory says", node: "w1", inventory: "w1", names: "cp1 w1", by: ca, is: "w1"},
		{name: "called otherwise than the inventory says, with proof", node: "ip-10-0-0-1", inventory: "w1", names: "cp1 w1", by: ca, is: "ip-10-0-0-1"},
		{name: "without its old certificate", node: "w1", inventory: "w1", names: "cp1 w1", by: ca, edit: func(f []string) { f[1], f[2] = "", "" }, is: "w1"},
		{name: "called otherwise, without proof", node: "ip-10-0-0-1", inventory: "w1", names: "cp1 w1", by: ca, edit: func(f []string) { f[2] = "" }, refusal: "nothing proves that it is its own"},
		{name: "called otherwise by another authority", node: "ip-10-0-0-1", inventory: "w1", names: "cp1 w1", by: other, refusal: "nothing proves that it is its own"},
		{name: "called like another host", node: "cp1", inventory: "w1", names: "cp1 w1", by: ca, refusal: "which is another host of the inventory"},
		{name: "with a name that two hosts have", node: "cp1", inventory: "cp1", names: "cp1 cp1", by: ca, refusal: "more than one host"},
		{name: "no name of a node", node: "w1", inventory: "w1_x", names: "cp1 w1_x", by: ca, refusal: "is not a name of a node"},
		{name: "a request before the old certificate", node: "w1", inventory: "w1", names: "cp1 w1", by: ca, edit: func(f []string) {
			old, _ := base64.StdEncoding.DecodeString(f[1])
			f[1] = base64.StdEncoding.EncodeToString(slices.Concat(ghost, old))
		}, is: "w1"},
		{name: "no request", node: "w1", inventory: "w1", names: "cp1 w1", by: ca, edit: func(f []string) { f[0] = "eA==" }, refusal: "cannot be read"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			cp := signer(t, ca)
			fields := strings.Split(worker(t, row.by, row.node).asksKubelet(), "|")
			if row.edit != nil {
				row.edit(fields)
			}
			out, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='"+row.names+"' KSCERT_REQUESTS='host1|"+row.inventory+"|"+strings.Join(fields, "|")+"'")
			if err != nil {
				t.Fatal(err, errs)
			}
			text, err := base64.StdEncoding.DecodeString(words(out, "issued: host1|"))
			cp.ok(err)
			why, err := base64.StdEncoding.DecodeString(words(out, "refused: host1|"))
			cp.ok(err)
			if row.refusal != "" {
				if !strings.Contains(string(why), row.refusal) || len(text) > 0 {
					t.Errorf("it says %q, want %q", why, row.refusal)
				}
				return
			}
			if x := parsed(t, text); x.Subject.String() != "CN=system:node:"+row.is+",O=system:nodes" {
				t.Errorf("it is for %s: %s", x.Subject, why)
			}
		})
	}
}

// The whole way through the playbook, by hand, on a machine that is both.
func TestKubeletBootstrapPlaybook(t *testing.T) {
	t.Parallel()
	for _, bin := range testansible.Bins(t) {
		n := controlPlane(t, -time.Hour, "0")
		out, err := n.play(bin, "kubelet-bootstrap.yml", "-e", "kscert_control_plane=cp1", "-e", "kscert_approve_serving=false")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		x := parsed(t, n.read(n.pair()))
		if x.Subject.String() != "CN=system:node:cp1,O=system:nodes" || time.Until(x.NotAfter) < 300*24*time.Hour {
			t.Errorf("it is for %s until %s\n%s", x.Subject, x.NotAfter, out)
		}
		if conf := string(n.read(n.conf + "/kubelet.conf")); strings.Contains(conf, "client-key-data") || !strings.Contains(conf, "client-certificate: "+n.pair()) {
			t.Errorf("kubelet.conf is\n%s", conf)
		}
		// What a node reported about itself earlier, as Kubespray's fact cache keeps it.
		n.write(n.root()+"/facts/cp1", []byte(`{"kube_override_hostname": "ghost"}`), 0o600)
		n.config = "[defaults]\nfact_caching = jsonfile\nfact_caching_connection = " + n.root() + "/facts\n"
		n.write(n.pair(), []byte("no certificate"), 0o600)
		out, err = n.play(bin, "kubelet-bootstrap.yml", "-e", "kscert_control_plane=cp1", "-e", "kscert_approve_serving=false")
		if x := parsed(t, n.read(n.pair())); err != nil || x.Subject.String() != "CN=system:node:cp1,O=system:nodes" {
			t.Errorf("with a fact of another name it is for %s: %v\n%s", x.Subject, err, out)
		}
	}
}
