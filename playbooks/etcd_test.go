package playbooks_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// client is a control plane without an etcd member: it has etcd's authority but not its
// key, a client certificate of its own, and the first control plane's name leads to it,
// as on those that joined.
func client(t *testing.T, ca testpki.Pair, left time.Duration) (n *node, cert testpki.Pair) {
	t.Helper()
	n = newNode(t)
	cert = ca.Issue(t, testpki.Leaf{
		CommonName: "etcd-node-cp2", DNSNames: []string{"localhost", "etcd1"}, IPs: []string{"10.0.0.2", "fd00::2"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left),
	})
	n.write(n.etcd+"/ca.pem", ca.Certificate, 0o644)
	n.write(n.etcd+"/node-cp2.pem", cert.Certificate, 0o640)
	n.write(n.etcd+"/node-cp2-key.pem", cert.Key, 0o600)
	n.ok(os.Symlink("node-cp2.pem", n.etcd+"/node-cp1.pem"))
	n.ok(os.Symlink("node-cp2-key.pem", n.etcd+"/node-cp1-key.pem"))
	n.verified()
	return n, cert
}

// with runs a script of the role with one more variable in its environment.
func (n *node) with(variable, value, script string) (stdout, stderr string, err error) {
	n.t.Helper()
	return n.run(variable + "='" + value + "'\nexport " + variable + "\n" + role(n.t, "etcd_certificates/files/issue.sh") + role(n.t, "etcd_certificates/files/"+script))
}

// words are what lines with a prefix say.
func words(out, prefix string) string {
	var all []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			all = append(all, rest)
		}
	}
	return strings.Join(all, "\n")
}

// TestEtcdSignedElsewhere: a certificate is renewed where etcd's authority has no key,
// and no key travels.
func TestEtcdSignedElsewhere(t *testing.T) {
	t.Parallel()
	signer, ca, _ := etcdNode(t, 365*24*time.Hour)
	n, old := client(t, ca, -time.Hour)
	calico, other := filepath.Dir(n.conf)+"/etc/calico/certs/cert.crt", filepath.Dir(n.conf)+"/etc/cilium/certs/cert.crt"
	n.write(calico, old.Certificate, 0o640)
	n.write(other, ca.Issue(t, testpki.Leaf{CommonName: "of another"}).Certificate, 0o640)

	asked, errs, err := n.run(etcdRenewal(t))
	requests := words(asked, "request: ")
	if err != nil || strings.Count(requests, "\n") > 0 || requests == "" {
		t.Fatalf("%v: %s%s", err, asked, errs)
	}
	signed, errs, err := signer.with("KSCERT_REQUESTS", requests, "sign.sh")
	issued := words(signed, "issued: ")
	if err != nil || issued == "" {
		t.Fatalf("%v: %s%s", err, signed, errs)
	}
	for _, said := range []string{asked, signed} {
		if strings.Contains(said, "PRIVATE") || regexp.MustCompile(`BEGIN|LS0tLS1CRUdJTiBSU0EgUFJ|LS0tLS1CRUdJTiBQUk`).MatchString(said) {
			t.Errorf("a key travels: %s", said)
		}
	}
	took, errs, err := n.with("KSCERT_ISSUED", issued, "take.sh")
	if err != nil || took != "changed: "+n.etcd+"/node-cp2.pem\nchanged: "+calico+"\n" {
		t.Fatalf("%v: %s%s", err, took, errs)
	}
	x := parsed(t, n.read(n.etcd+"/node-cp1.pem"))
	if x.NotAfter.Before(time.Now().AddDate(0, 11, 0)) || x.CheckSignatureFrom(ca.X509) != nil || x.Subject.String() != old.X509.Subject.String() ||
		len(x.DNSNames) != 2 || len(x.IPAddresses) != 2 || !bytes.Equal(x.RawSubjectPublicKeyInfo, old.X509.RawSubjectPublicKeyInfo) {
		t.Errorf("the new one is for %v %v %v until %s", x.Subject, x.DNSNames, x.IPAddresses, x.NotAfter)
	}
	if !bytes.Equal(n.read(calico), n.read(n.etcd+"/node-cp2.pem")) || parsed(t, n.read(other)).Subject.CommonName != "of another" {
		t.Error("the copy for Calico is stale, or what is no copy was taken for one")
	}
	if to, err := os.Readlink(n.etcd + "/node-cp1.pem"); err != nil || to != "node-cp2.pem" {
		t.Errorf("the link is no longer one: %s %v", to, err)
	}
	if !bytes.Equal(n.read(n.etcd+"/node-cp2-key.pem"), old.Key) {
		t.Error("the key has changed")
	}
	if out, errs, err := n.run(etcdRenewal(t)); err != nil || out != "" {
		t.Errorf("a second run asks for something: %v: %s%s", err, out, errs)
	}
}

func TestEtcdSignerRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		edit    func(signer *node)
		request func(string) string
		refusal string
	}{
		{"without the authority's key", func(n *node) { n.ok(os.Remove(n.etcd + "/ca-key.pem")) }, nil, "ca-key.pem does not exist"},
		{"more than names", nil, func(s string) string { return strings.Replace(s, "|DNS:", "|DNS:x;y=[z]:", 1) }, "not a request for an etcd certificate"},
		{"something else than a request", nil, func(s string) string { return s[:strings.LastIndex(s, "|")+1] + "bm9uc2Vuc2U=" }, "openssl req"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			signer, ca, _ := etcdNode(t, 365*24*time.Hour)
			n, _ := client(t, ca, -time.Hour)
			asked, _, err := n.run(etcdRenewal(t))
			n.ok(err)
			requests := words(asked, "request: ")
			if row.edit != nil {
				row.edit(signer)
			}
			if row.request != nil {
				requests = row.request(requests)
			}
			out, errs, err := signer.with("KSCERT_REQUESTS", requests, "sign.sh")
			if err == nil || !strings.Contains(errs, row.refusal) || strings.Contains(out, "issued: ") {
				t.Errorf("%v: %q %q, want %q", err, out, errs, row.refusal)
			}
		})
	}
	// What comes back from another authority, or for another key, takes no place.
	n, old := client(t, testpki.Authority(t, "etcd-ca"), -time.Hour)
	signer, _, _ := etcdNode(t, time.Hour)
	asked, _, err := n.run(etcdRenewal(t))
	n.ok(err)
	signed, errs, err := signer.with("KSCERT_REQUESTS", words(asked, "request: "), "sign.sh")
	if err != nil {
		t.Fatal(err, errs)
	}
	if _, errs, err := n.with("KSCERT_ISSUED", words(signed, "issued: "), "take.sh"); err == nil || !strings.Contains(errs, "is not valid under") {
		t.Errorf("%v: %s", err, errs)
	}
	if !bytes.Equal(n.read(n.etcd+"/node-cp2.pem"), old.Certificate) {
		t.Error("the certificate was changed")
	}
}
