package playbooks_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// client is a control plane without an etcd member: it has etcd's CA but not its key, a client
// certificate of its own, and the first control plane's name is a link to that, as on nodes that
// joined.
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

// with runs a script of the role with settings before it.
func (n *node) with(script string, settings ...string) (stdout, stderr string, err error) {
	n.t.Helper()
	var before strings.Builder
	for i := 0; i < len(settings); i += 2 {
		before.WriteString(settings[i] + "='" + settings[i+1] + "'\n")
	}
	return n.run(before.String() + role(n.t, "etcd_certificates/files/issue.sh") + role(n.t, "etcd_certificates/files/"+script))
}

// asks is what the node requests to have signed, as the playbook passes it on.
func (n *node) asks() string {
	n.t.Helper()
	out, errs, err := n.with("renew.sh", "KSCERT_ETCD", "request")
	if err != nil {
		n.t.Fatal(err, errs)
	}
	return "cp2|" + words(out, "request: ")
}

// words are what lines with a prefix contain after it.
func words(out, prefix string) string {
	var all []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			all = append(all, rest)
		}
	}
	return strings.Join(all, "\n")
}

// TestEtcdSignedElsewhere: a certificate is renewed where etcd's CA has no key, and no key travels.
func TestEtcdSignedElsewhere(t *testing.T) {
	t.Parallel()
	signer, ca, _ := etcdNode(t, 365*24*time.Hour)
	n, old := client(t, ca, -time.Hour)
	calico, other := filepath.Dir(n.conf)+"/etc/calico/certs/cert.crt", filepath.Dir(n.conf)+"/etc/cilium/certs/cert.crt"
	n.write(calico, old.Certificate, 0o640)
	n.write(other, ca.Issue(t, testpki.Leaf{CommonName: "of another"}).Certificate, 0o640)

	requests := n.asks()
	if strings.Count(requests, "\n") > 0 {
		t.Fatalf("it asks for %s", requests)
	}
	signed, errs, err := signer.with("sign.sh", "KSCERT_REQUESTS", requests)
	issued := words(signed, "issued: cp2|")
	if err != nil || issued == "" {
		t.Fatalf("%v: %s%s", err, signed, errs)
	}
	for _, answered := range []string{requests, signed} {
		if strings.Contains(answered, "PRIVATE") || regexp.MustCompile(`BEGIN|LS0tLS1CRUdJTiBSU0EgUFJ|LS0tLS1CRUdJTiBQUk`).MatchString(answered) {
			t.Errorf("a key travels: %s", answered)
		}
	}
	took, errs, err := n.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", issued)
	if err != nil || took != "changed: "+n.etcd+"/node-cp2.pem\nchanged: "+calico+"\n" {
		t.Fatalf("%v: %s%s", err, took, errs)
	}
	x := parsed(t, n.read(n.etcd+"/node-cp1.pem"))
	if ahead := time.Since(x.NotBefore); ahead < 5*time.Minute || ahead > 6*time.Minute {
		t.Errorf("it is valid since %s ago", ahead)
	}
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
	base64Of := func(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
	// field replaces one of HOST|ID|OLD|REQUEST.
	field := func(i int, with string) func(string) string {
		return func(s string) string {
			f := strings.Split(s, "|")
			f[i] = with
			return strings.Join(f, "|")
		}
	}
	stranger := testpki.Authority(t, "etcd-ca")
	own := stranger.Issue(t, testpki.Leaf{CommonName: "etcd-node-cp2"})
	for _, row := range []struct {
		name    string
		edit    func(signer *node)
		request func(string) string
		refusal string
	}{
		{"without the authority's key", func(n *node) { n.ok(os.Remove(n.etcd + "/ca-key.pem")) }, nil, "ca-key.pem does not exist"},
		{"a certificate that its authority has not signed", nil, field(2, base64Of(own.Certificate)), "cp2: etcd's CA has not signed the old certificate"},
		{"a request for another key", nil, field(3, base64Of(request(t, own, "etcd-node-cp2"))), "cp2: the request is for another key"},
		{"something else than a request", nil, field(3, "bm9uc2Vuc2U="), "cp2: "},
		{"nothing", nil, field(3, ""), "cp2: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			signer, ca, _ := etcdNode(t, 365*24*time.Hour)
			n, _ := client(t, ca, -time.Hour)
			requests := n.asks()
			if row.edit != nil {
				row.edit(signer)
			}
			if row.request != nil {
				requests = row.request(requests)
			}
			out, errs, err := signer.with("sign.sh", "KSCERT_REQUESTS", requests)
			if err == nil || !strings.Contains(errs, row.refusal) || strings.Contains(out, "issued: ") {
				t.Errorf("%v: %q %q, want %q", err, out, errs, row.refusal)
			}
		})
	}
	// The names of the old certificate count, not those in a request.
	signer, ca, _ := etcdNode(t, 365*24*time.Hour)
	n, old := client(t, ca, -time.Hour)
	signed, errs, err := signer.with("sign.sh", "KSCERT_REQUESTS",
		field(3, base64Of(request(t, old, "etcd-node-cp2", "kubernetes", "etcd2\nDNS:etcd3")))(n.asks()))
	n.ok(err)
	_, data, _ := strings.Cut(words(signed, "issued: cp2|"), "|")
	text, err := base64.StdEncoding.DecodeString(data)
	n.ok(err)
	if x := parsed(t, text); !slices.Equal(x.DNSNames, old.X509.DNSNames) || len(x.IPAddresses) != 2 {
		t.Errorf("%s: signed for %q %v", errs, x.DNSNames, x.IPAddresses)
	}

	// In a text with several blocks, every check uses the same one.
	evil := request(t, old, "root", "kubernetes")
	for name, fields := range map[string][2][]byte{
		"a request before the old certificate": {slices.Concat(evil, old.Certificate), evil},
		"the old certificate before a request": {old.Certificate, slices.Concat(old.Certificate, evil)},
		"two requests":                         {old.Certificate, slices.Concat(request(t, old, "etcd-node-cp2"), evil)},
	} {
		asks := field(3, base64Of(fields[1]))(field(2, base64Of(fields[0]))(n.asks()))
		signed, _, _ := signer.with("sign.sh", "KSCERT_REQUESTS", asks)
		_, data, _ := strings.Cut(words(signed, "issued: cp2|"), "|")
		text, err := base64.StdEncoding.DecodeString(data)
		n.ok(err)
		if len(text) == 0 {
			continue // refused
		}
		if x := parsed(t, text); x.Subject.String() != old.X509.Subject.String() || !slices.Equal(x.DNSNames, old.X509.DNSNames) {
			t.Errorf("%s: signed for %s %q", name, x.Subject, x.DNSNames)
		}
	}

	// A certificate from another CA, or for another key, is not placed.
	n, old = client(t, testpki.Authority(t, "etcd-ca"), -time.Hour)
	other, _, _ := etcdNode(t, time.Hour)
	id, _, _ := strings.Cut(strings.TrimPrefix(n.asks(), "cp2|"), "|")
	mine := id + "|" + base64Of(other.read(other.etcd+"/member-cp1.pem"))
	if _, errs, err := n.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", mine); err == nil || !strings.Contains(errs, "does not belong to its key") {
		t.Errorf("%v: %s", err, errs)
	}
	if !bytes.Equal(n.read(n.etcd+"/node-cp2.pem"), old.Certificate) {
		t.Error("the certificate was changed")
	}
}

// request is a certification request of a pair's key for these names.
func request(t *testing.T, p testpki.Pair, cn string, names ...string) []byte {
	t.Helper()
	block, _ := pem.Decode(p.Key)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	for _, n := range names {
		template.ExtraExtensions = append(template.ExtraExtensions, san(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(n)}))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// san is the extension of subject alternative names, with these names byte by byte.
func san(t *testing.T, names ...asn1.RawValue) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}
