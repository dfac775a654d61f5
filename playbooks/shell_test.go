package playbooks_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// node is a folder that stands for a node's file system as far as the roles'
// scripts can be told to work elsewhere than in their places.
type node struct {
	t                  *testing.T
	conf, etcd, backup string
	bin                string
	check              string
}

func newNode(t *testing.T) *node {
	t.Helper()
	root := t.TempDir()
	n := &node{t: t, conf: root + "/kubernetes", etcd: root + "/etcd", backup: root + "/backups/run", bin: root + "/bin", check: "False"}
	for _, dir := range []string{n.conf, n.etcd, n.bin, root + "/backups"} {
		n.ok(os.MkdirAll(dir, 0o700))
	}
	return n
}

func (n *node) ok(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) write(path string, data []byte, mode os.FileMode) {
	n.t.Helper()
	n.ok(os.MkdirAll(filepath.Dir(path), 0o700))
	n.ok(os.WriteFile(path, data, mode))
	n.ok(os.Chmod(path, mode))
}

func (n *node) read(path string) []byte {
	n.t.Helper()
	data, err := os.ReadFile(path)
	n.ok(err)
	return data
}

// verified pretends that the backup role has run.
func (n *node) verified() { n.write(n.backup+"/SHA256SUMS", nil, 0o600) }

func role(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("roles", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// run runs a script as the roles do, behind their library.
func (n *node) run(script string) (stdout, stderr string, err error) {
	n.t.Helper()
	return n.sh(role(n.t, "settings/files/lib.sh") + "\n" + script)
}

func (n *node) sh(script string) (stdout, stderr string, err error) {
	n.t.Helper()
	cmd := exec.Command("/bin/sh")
	cmd.Stdin = strings.NewReader("")
	cmd.Args = append(cmd.Args, "-c", script)
	cmd.Env = append(os.Environ(),
		"PATH="+n.bin+":"+os.Getenv("PATH"), // a kubectl of this machine stays out of it
		"KSCERT_CONFIG_DIR="+n.conf, "KSCERT_BIN_DIR="+n.bin, "KSCERT_ETCD_DIR="+n.etcd, "KSCERT_ROLES=control-plane etcd",
		"KSCERT_BACKUP_ROOT="+filepath.Dir(n.backup), "KSCERT_BACKUP_DIR="+n.backup,
		"KSCERT_RENEW_BEFORE=2592000", "KSCERT_WAIT_SECONDS=5", "KSCERT_CHECK="+n.check)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// --- the collector ----------------------------------------------------------------

// The promise that a private key never leaves its node, tried on the program
// that reads them all: a key in every place where one may lie.
func TestCollectorPrintsNoKey(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ca := testpki.Authority(t, "kubernetes")
	frontProxy, etcdCA := testpki.Authority(t, "front-proxy-ca"), testpki.Authority(t, "etcd-ca")
	leaf := func(name string) testpki.Pair {
		return ca.Issue(t, testpki.Leaf{CommonName: name, IPs: []string{"10.0.0.1"}})
	}
	pki := n.conf + "/ssl"
	var secrets []testpki.Pair
	pair := func(p testpki.Pair, crt, key string) {
		secrets = append(secrets, p)
		n.write(crt, p.Certificate, 0o644)
		n.write(key, p.Key, 0o600)
	}
	pair(ca, pki+"/ca.crt", pki+"/ca.key")
	pair(frontProxy, pki+"/front-proxy-ca.crt", pki+"/front-proxy-ca.key")
	pair(leaf("sa"), pki+"/sa.pub", pki+"/sa.key")
	pair(leaf("member"), n.etcd+"/member-cp1.pem", n.etcd+"/member-cp1-key.pem")
	pair(etcdCA, n.etcd+"/ca.pem", n.etcd+"/ca-key.pem")
	for _, both := range []string{pki + "/apiserver.crt", n.etcd + "/admin-cp1.pem"} { // key and certificate in one file, either way round
		p := leaf("both")
		secrets = append(secrets, p)
		n.write(both, slices.Concat(p.Key, p.Certificate, p.Key), 0o600)
	}
	onlyKey := leaf("misplaced")
	secrets = append(secrets, onlyKey)
	n.write(pki+"/front-proxy-client.crt", onlyKey.Key, 0o600)
	for _, name := range []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf", "bootstrap-kubelet.conf"} {
		p := leaf(name)
		secrets = append(secrets, p)
		n.write(n.conf+"/"+name, kubeconfig(ca, p, "token: c4n4ry.t0ken"), 0o600)
	}
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+pki+"\ncertificateKey: c4n4ry.certkey\n"), 0o600)
	n.write(pki+"/secrets_encryption.yaml", []byte("secret: c4n4ry.encryption\n"), 0o600)

	out, errs, err := n.sh(role(t, "inspect/files/collect.sh"))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	everything := out + errs
	canaries := []string{"PRIVATE KEY", "c4n4ry"}
	for _, p := range secrets {
		canaries = append(canaries, base64.StdEncoding.EncodeToString(p.Key))
		for line := range strings.Lines(string(p.Key)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && len(line) > 8 {
				canaries = append(canaries, line)
			}
		}
	}
	for _, c := range canaries {
		if strings.Contains(everything, c) {
			t.Errorf("%q of a secret is printed", c)
		}
	}

	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, k := range []certs.Kind{
		certs.KindCA, certs.KindFrontProxyCA, certs.KindAPIServer, certs.KindEtcdHostCA, certs.KindEtcdMember, certs.KindEtcdAdmin, certs.KindAdmin, certs.KindKubeletConf,
		"super-admin.conf", "controller-manager.conf", "scheduler.conf",
	} {
		if _, ok := got.Certificate(k); !ok {
			t.Errorf("the certificate of kind %s was not brought", k)
		}
	}
	for _, file := range []string{pki + "/ca.key", pki + "/sa.key", pki + "/secrets_encryption.yaml", n.etcd + "/ca-key.pem"} {
		if len(got.Digests[file]) != 64 {
			t.Errorf("digest of %s is %q", file, got.Digests[file])
		}
	}
	if !slices.ContainsFunc(got.Unreadable, func(u snapshot.Unreadable) bool { return u.Path == pki+"/front-proxy-client.crt" }) {
		t.Errorf("a key in a certificate's place is not told: %v", got.Unreadable)
	}
	if got.Facts["manifest"] != "missing" || got.Facts["kubeadm-config"] == "" || got.Facts["pki-real"] != pki || time.Since(got.Clock).Abs() > time.Minute {
		t.Errorf("facts: %v, clock %s", got.Facts, got.Clock)
	}
	if k := got.Kubeconfigs[0]; k.Server != "https://10.0.0.1:6443" || k.CAFingerprint == "" {
		t.Errorf("kubeconfig: %+v", k)
	}
}

// An API server that answers is asked for the whole cluster.
func TestCollectorAsksTheAPIServer(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.bin+"/kubectl", []byte(`#!/bin/sh
case $* in
*readyz*) echo 'readyz check passed' ;;
*'get nodes'*) printf 'cp1\tTrue\nw1\tFalse\n' ;;
*kube-node-lease*) printf 'cp1\t2026-03-01T12:00:00.000000Z\n' ;;
*'get leases kube-controller-manager'*) printf 'kube-scheduler\t2026-03-01T12:00:00.000000Z\n' ;;
*'get pods'*) printf 'kube-apiserver\tcp1\tTrue\n' ;;
*) echo "unexpected: $*"; exit 1 ;;
esac
`), 0o755)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte("    - --advertise-address=127.0.0.1\n    - --secure-port=1\n"), 0o600)
	out, errs, err := n.sh(role(t, "inspect/files/collect.sh"))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil || got.View == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.View.Nodes["w1"] != "False" || len(got.View.NodeLeases) != 1 || len(got.View.ComponentLeases) != 1 || len(got.View.StaticPods) != 1 {
		t.Errorf("view: %+v", got.View)
	}
	if e, _ := got.Endpoint("kube-apiserver"); e.Address != "127.0.0.1:1" || !strings.Contains(strings.ToLower(e.Error), "refused") {
		t.Errorf("endpoint: %+v", e)
	}
	if got.Facts["manifest"] != "present" {
		t.Errorf("facts: %v", got.Facts)
	}
}

func kubeconfig(ca, p testpki.Pair, more string) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return []byte(`apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: ` + b64(ca.Certificate) + `
    server: https://10.0.0.1:6443
  name: kubernetes
users:
- name: someone
  user:
    client-certificate-data: ` + b64(p.Certificate) + `
    client-key-data: ` + b64(p.Key) + `
    ` + more + "\n")
}

// --- the backup -------------------------------------------------------------------

func TestBackup(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ca := testpki.Authority(t, "kubernetes")
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
	n.write(n.etcd+"/ca-key.pem", ca.Key, 0o640)
	n.ok(os.Symlink("ssl", n.conf+"/pki"))
	old := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	n.ok(os.Chtimes(n.conf+"/ssl/ca.key", old, old))

	script := role(t, "backup/files/backup.sh")
	out, errs, err := n.run(script)
	if err != nil || !strings.Contains(out, "changed: backed up ") {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	for _, file := range []string{n.conf + "/ssl/ca.crt", n.conf + "/ssl/ca.key", n.etcd + "/ca-key.pem"} {
		copied := n.backup + "/files" + file
		if !bytes.Equal(n.read(copied), n.read(file)) {
			t.Errorf("the copy of %s differs", file)
		}
		a, err1 := os.Stat(file)
		b, err2 := os.Stat(copied)
		n.ok(err1)
		n.ok(err2)
		if a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%s has %v %s, its copy %v %s", file, a.Mode(), a.ModTime(), b.Mode(), b.ModTime())
		}
		if !strings.Contains(string(n.read(n.backup+"/SHA256SUMS")), file) {
			t.Errorf("no digest of %s", file)
		}
	}
	if to, err := os.Readlink(n.backup + "/files" + n.conf + "/pki"); err != nil || to != "ssl" {
		t.Errorf("the link is copied as %q (%v)", to, err)
	}
	if !strings.Contains(string(n.read(n.backup+"/METADATA")), " -> ssl") {
		t.Error("the metadata lack the link")
	}
	if info, err := os.Stat(n.backup); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the backup folder: %v %v", info, err)
	}
	if _, err := os.Stat(n.backup + ".partial"); err == nil {
		t.Error("a partial backup is left")
	}

	// A second run keeps it, whatever has changed since.
	n.write(n.conf+"/ssl/ca.crt", []byte("changed since"), 0o644)
	before := n.read(n.backup + "/SHA256SUMS")
	out, errs, err = n.run(script)
	if err != nil || strings.Contains(out, "changed: ") || !strings.Contains(out, "kept: ") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	if !bytes.Equal(n.read(n.backup+"/SHA256SUMS"), before) {
		t.Error("the digests were written anew")
	}
	// A damaged one is detected.
	n.write(n.backup+"/files"+n.conf+"/ssl/ca.key", []byte("tampered"), 0o600)
	if out, errs, err := n.run(script); err == nil || !strings.Contains(errs, "is damaged") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}

func TestBackupInCheckMode(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.check = "True"
	out, _, err := n.run(role(t, "backup/files/backup.sh"))
	if err != nil || !strings.Contains(out, "changed: would back up") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(n.backup + ".partial"); err == nil {
		t.Error("check mode made a folder")
	}
}

// --- the library -------------------------------------------------------------------

func TestCheckSuccessor(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	old := testpki.Leaf{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes", "api.example.com"}, IPs: []string{"10.0.0.1"}}
	more, fewer, subject, ended := old, old, old, old
	more.DNSNames = append(slices.Clone(old.DNSNames), "new.example.com")
	fewer.DNSNames = []string{"kubernetes"}
	subject.CommonName = "somebody"
	ended.NotBefore, ended.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	for _, row := range []struct {
		name    string
		next    testpki.Pair
		refusal string
	}{
		{"the same names", ca.Issue(t, old), ""},
		{"a name more", ca.Issue(t, more), ""},
		{"a lost name", ca.Issue(t, fewer), "would lose these SANs: DNS:api.example.com"},
		{"another subject", ca.Issue(t, subject), "would have another subject"},
		{"another authority of the same name", other.Issue(t, old), "is not valid under"},
		{"expired already", ca.Issue(t, ended), "is not valid under"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/old.crt", ca.Issue(t, old).Certificate, 0o600)
			n.write(n.conf+"/new.crt", row.next.Certificate, 0o600)
			n.write(n.conf+"/ca.crt", ca.Certificate, 0o600)
			_, errs, err := n.run(`stage=$conf; check_successor "$conf/old.crt" "$conf/new.crt" "$conf/ca.crt"`)
			if (err != nil) != (row.refusal != "") || !strings.Contains(errs, row.refusal) {
				t.Errorf("%v: %q, want %q", err, errs, row.refusal)
			}
		})
	}
}

func TestPair(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a, b := testpki.Authority(t, "a"), testpki.Authority(t, "b")
	n.write(n.conf+"/a.crt", a.Certificate, 0o600)
	n.write(n.conf+"/a.key", a.Key, 0o600)
	n.write(n.conf+"/b.key", b.Key, 0o600)
	if _, errs, err := n.run(`pair "$conf/a.crt" "$conf/a.key"`); err != nil {
		t.Errorf("a pair is told apart: %v %s", err, errs)
	}
	if _, _, err := n.run(`pair "$conf/a.crt" "$conf/b.key"`); err == nil {
		t.Error("a certificate and another's key are a pair")
	}
}

func TestSANs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := testpki.Authority(t, "a").Issue(t, testpki.Leaf{CommonName: "x", DNSNames: []string{"b", "a"}, IPs: []string{"10.0.0.1"}})
	n.write(n.conf+"/x.crt", p.Certificate, 0o600)
	n.write(n.conf+"/ca.crt", testpki.Authority(t, "a").Certificate, 0o600)
	if out, errs, err := n.run(`sans "$conf/x.crt"`); err != nil || out != "DNS:a\nDNS:b\nIPAddress:10.0.0.1\n" {
		t.Errorf("%q %s %v", out, errs, err)
	}
	if out, errs, err := n.run(`sans "$conf/ca.crt"`); err != nil || out != "" {
		t.Errorf("of a certificate without names: %q %s %v", out, errs, err)
	}
}

// place keeps mode and owner of what it replaces and leaves nothing beside.
func TestPlace(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.conf+"/new", []byte("new"), 0o600)
	n.write(n.conf+"/old", []byte("old"), 0o640)
	if _, errs, err := n.run(`place "$conf/new" "$conf/old"`); err != nil {
		t.Fatal(err, errs)
	}
	info, err := os.Stat(n.conf + "/old")
	n.ok(err)
	if string(n.read(n.conf+"/old")) != "new" || info.Mode().Perm() != 0o640 {
		t.Errorf("%q %v", n.read(n.conf+"/old"), info.Mode())
	}
	if left, _ := filepath.Glob(n.conf + "/*.kscertctl"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// --- etcd's certificates ------------------------------------------------------------

// etcdNode has a member certificate that ends after the given time.
func etcdNode(t *testing.T, left time.Duration) (n *node, ca, member testpki.Pair) {
	t.Helper()
	n = newNode(t)
	ca = testpki.Authority(t, "etcd-ca")
	member = ca.Issue(t, testpki.Leaf{
		CommonName: "etcd-member-cp1", DNSNames: []string{"localhost", "cp1"}, IPs: []string{"10.0.0.1", "127.0.0.1", "fd00::1"},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left),
	})
	n.write(n.etcd+"/ca.pem", ca.Certificate, 0o644)
	n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
	n.write(n.etcd+"/member-cp1.pem", member.Certificate, 0o640)
	n.write(n.etcd+"/member-cp1-key.pem", member.Key, 0o640)
	n.verified()
	return n, ca, member
}

func TestEtcdRenewal(t *testing.T) {
	t.Parallel()
	script := role(t, "etcd_certificates/files/renew.sh")
	for name, left := range map[string]time.Duration{"expired": -time.Hour, "expiring": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, ca, member := etcdNode(t, left)
			if os.Geteuid() == 0 { // to see that the owner is kept
				n.ok(os.Chown(n.etcd+"/member-cp1.pem", 4711, 4712))
			}
			before, err := os.Stat(n.etcd + "/member-cp1.pem")
			n.ok(err)
			out, errs, err := n.run(script)
			if err != nil || out != "changed: "+n.etcd+"/member-cp1.pem\n" {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			got, err := certs.ParsePEM(n.read(n.etcd + "/member-cp1.pem"))
			n.ok(err)
			old, err := certs.ParsePEM(member.Certificate)
			n.ok(err)
			if got.Fingerprint == old.Fingerprint || got.NotAfter.Before(time.Now().AddDate(0, 11, 0)) || got.NotAfter.After(ca.X509.NotAfter) {
				t.Errorf("it ends at %s", got.NotAfter)
			}
			if got.Subject != old.Subject || !slices.Equal(sorted(got.SANs), sorted(old.SANs)) || got.SerialNumber == old.SerialNumber {
				t.Errorf("got %+v, was %+v", got, old)
			}
			x := parsed(t, n.read(n.etcd+"/member-cp1.pem"))
			if !slices.Equal(x.ExtKeyUsage, member.X509.ExtKeyUsage) || x.IsCA || x.CheckSignatureFrom(ca.X509) != nil {
				t.Errorf("usages %v, authority %t", x.ExtKeyUsage, x.IsCA)
			}
			if !bytes.Equal(x.RawSubjectPublicKeyInfo, member.X509.RawSubjectPublicKeyInfo) {
				t.Error("it has another key")
			}
			after, err := os.Stat(n.etcd + "/member-cp1.pem")
			n.ok(err)
			if after.Mode() != before.Mode() || owner(after) != owner(before) {
				t.Errorf("mode and owner were %v %s, are %v %s", before.Mode(), owner(before), after.Mode(), owner(after))
			}
			if !bytes.Equal(n.read(n.etcd+"/ca.pem"), ca.Certificate) || !bytes.Equal(n.read(n.etcd+"/ca-key.pem"), ca.Key) || !bytes.Equal(n.read(n.etcd+"/member-cp1-key.pem"), member.Key) {
				t.Error("a file that must never change has changed")
			}
			if left, _ := filepath.Glob(n.etcd + "/.kscertctl*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if out, errs, err := n.run(script); err != nil || out != "" {
				t.Errorf("a second run does something: %v: %s%s", err, out, errs)
			}
		})
	}
}

func TestEtcdRenewalLeavesAlone(t *testing.T) {
	t.Parallel()
	script := role(t, "etcd_certificates/files/renew.sh")
	for _, row := range []struct {
		name    string
		left    time.Duration
		edit    func(*node)
		refusal string // empty: it ends well
		says    string
	}{
		{"what is not due", 31 * 24 * time.Hour, func(*node) {}, "", ""},
		{"a node without etcd", -time.Hour, func(n *node) { n.ok(os.Remove(n.etcd + "/ca.pem")) }, "", ""},
		{"all, in check mode", -time.Hour, func(n *node) { n.check = "True" }, "", "changed: would renew"},
		{"all, without the authority's key", -time.Hour, func(n *node) { n.ok(os.Remove(n.etcd + "/ca-key.pem")) }, "ca-key.pem does not exist", ""},
		{"all, with the key of another authority", -time.Hour, func(n *node) {
			n.write(n.etcd+"/ca-key.pem", testpki.Authority(n.t, "x").Key, 0o600)
		}, "ca-key.pem does not belong to", ""},
		{"all, with an expired authority", -time.Hour, func(n *node) {
			ca := testpki.AuthorityUntil(n.t, "etcd-ca", time.Now().Add(-time.Minute))
			n.write(n.etcd+"/ca.pem", ca.Certificate, 0o644)
			n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
		}, "ca.pem has expired", ""},
		{"all, without a backup", -time.Hour, func(n *node) { n.ok(os.RemoveAll(n.backup)) }, "there is no verified backup", ""},
		{"a certificate without its key", -time.Hour, func(n *node) { n.ok(os.Remove(n.etcd + "/member-cp1-key.pem")) }, "member-cp1-key.pem does not exist", ""},
		{"a certificate with another's key", -time.Hour, func(n *node) {
			n.write(n.etcd+"/member-cp1-key.pem", testpki.Authority(n.t, "x").Key, 0o600)
		}, "member-cp1-key.pem does not belong to", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n, _, member := etcdNode(t, row.left)
			row.edit(n)
			out, errs, err := n.run(script)
			if (err != nil) != (row.refusal != "") || !strings.Contains(errs, row.refusal) {
				t.Errorf("%v: %q, want %q", err, errs, row.refusal)
			}
			if !strings.HasPrefix(out, row.says) || (row.says == "" && out != "") {
				t.Errorf("it says %q, want %q", out, row.says)
			}
			if !bytes.Equal(n.read(n.etcd+"/member-cp1.pem"), member.Certificate) {
				t.Error("the certificate was changed")
			}
		})
	}
}
