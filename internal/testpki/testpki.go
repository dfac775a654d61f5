// Package testpki makes CAs and certificates for tests at run time: the repository contains no
// keys.
package testpki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Pair is a certificate and its key in PEM.
type Pair struct {
	Certificate, Key []byte
	// X509 is the certificate, parsed.
	X509 *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf describes a certificate to issue.
type Leaf struct {
	CommonName   string
	Organization string
	// Subject replaces both: attributes in order, such as "O=a", each in its own RDN.
	Subject  []string
	DNSNames []string
	IPs      []string
	Usages   []x509.ExtKeyUsage
	// NotBefore and NotAfter default to an hour ago and in a year.
	NotBefore, NotAfter time.Time
}

// Authority makes a CA that expires in ten years.
func Authority(tb testing.TB, name string) Pair {
	tb.Helper()
	return AuthorityUntil(tb, name, time.Now().AddDate(10, 0, 0))
}

// AuthorityUntil makes a CA that expires at the given time.
func AuthorityUntil(tb testing.TB, name string, end time.Time) Pair {
	tb.Helper()
	return Pair{}.Intermediate(tb, name, end)
}

// Bare makes a CA as kubeadm made it before Kubernetes 1.19: without a key
// identifier, which Go gives to each. It needs openssl.
func Bare(tb testing.TB, name string) Pair {
	tb.Helper()
	dir := tb.TempDir()
	config := "[req]\ndistinguished_name=d\nx509_extensions=e\nprompt=no\n[d]\nCN=" + name +
		"\n[e]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n" +
		"subjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n"
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(os.WriteFile(dir+"/config", []byte(config), 0o600))
	out, err := exec.CommandContext(tb.Context(), "openssl", "req", "-x509", "-config", dir+"/config", "-days", "3650",
		"-nodes",
		"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", dir+"/key", "-out",
		dir+"/crt").CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	var p Pair
	p.Certificate, err = os.ReadFile(dir + "/crt")
	must(err)
	p.Key, err = os.ReadFile(dir + "/key")
	must(err)
	block, _ := pem.Decode(p.Certificate)
	p.X509, err = x509.ParseCertificate(block.Bytes)
	must(err)
	block, _ = pem.Decode(p.Key)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(err)
	p.key, _ = key.(*ecdsa.PrivateKey)
	return p
}

// Intermediate makes a CA that this one has signed.
func (p Pair) Intermediate(tb testing.TB, name string, end time.Time) Pair {
	tb.Helper()
	return p.sign(tb, authority(name, end))
}

// IntermediateFor is the same, with extended key usages.
func (p Pair) IntermediateFor(tb testing.TB, name string, end time.Time, usages ...x509.ExtKeyUsage) Pair {
	tb.Helper()
	template := authority(name, end)
	template.ExtKeyUsage = usages
	return p.sign(tb, template)
}

// Once re-issues a CA with the same name and key and another notAfter.
func (p Pair) Once(tb testing.TB, of Pair, end time.Time) Pair {
	tb.Helper()
	return p.signFor(tb, authority(of.X509.Subject.CommonName, end), of.key)
}

func authority(name string, end time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
}

// Issue signs a certificate with a new key.
func (p Pair) Issue(tb testing.TB, l Leaf) Pair {
	tb.Helper()
	return p.sign(tb, l.template(tb))
}

// For signs a certificate with the key of another one.
func (p Pair) For(tb testing.TB, of Pair, l Leaf) Pair {
	tb.Helper()
	return p.signFor(tb, l.template(tb), of.key)
}

func (l Leaf) template(tb testing.TB) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: l.CommonName}, DNSNames: l.DNSNames, ExtKeyUsage: l.Usages,
		NotBefore: l.NotBefore, NotAfter: l.NotAfter, BasicConstraintsValid: true,
	}
	if l.Organization != "" {
		template.Subject.Organization = []string{l.Organization}
	}
	if len(l.Subject) > 0 {
		template.RawSubject = rawSubject(tb, l.Subject)
	}
	for _, ip := range l.IPs {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	return template
}

// attributes maps attribute names to their object identifiers (RFC 4519).
var attributes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "ST": {2, 5, 4, 8}, "O": {2, 5, 4, 10},
	"OU":    {2, 5, 4, 11},
	"title": {2, 5, 4, 12},
}

func rawSubject(tb testing.TB, subject []string) []byte {
	tb.Helper()
	var rdns pkix.RDNSequence
	for _, attribute := range subject {
		name, value, _ := strings.Cut(attribute, "=")
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: attributes[name], Value: value}})
	}
	der, err := asn1.Marshal(rdns)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// Again signs a certificate for another one's key, with its subject and dates.
func (p Pair) Again(tb testing.TB, of Pair) Pair {
	tb.Helper()
	template := &x509.Certificate{Subject: of.X509.Subject, NotBefore: of.X509.NotBefore, NotAfter: of.X509.NotAfter,
		BasicConstraintsValid: true}
	return p.signFor(tb, template, of.key)
}

// sign makes a key and a certificate. If p has no key yet, the certificate is self-signed.
func (p Pair) sign(tb testing.TB, template *x509.Certificate) Pair {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return p.signFor(tb, template, key)
}

func (p Pair) signFor(tb testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) Pair {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(err)
	parent, signer := template, key
	if p.key != nil {
		parent, signer = p.X509, p.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(err)
	x, err := x509.ParseCertificate(der)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		X509:        x, key: key,
	}
}
