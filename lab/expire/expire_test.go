package expire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"
)

func newCA(t *testing.T, name string) CA {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ParseCA(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// newLeaf returns a leaf of the CA and its key, both as PEM.
func newLeaf(t *testing.T, ca CA) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:w1"},
		NotBefore:    time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"kubernetes", "localhost"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, k.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func firstCert(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("no PEM in %q", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newResigner(cas ...CA) *Resigner {
	end := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	return &Resigner{CAs: cas, NotBefore: end.Add(-year), NotAfter: end}
}

func TestResignChangesOnlyTheDates(t *testing.T) {
	other, ca := newCA(t, "front-proxy-ca"), newCA(t, "kubernetes")
	cert, key := newLeaf(t, ca)
	r := newResigner(other, ca)
	out, err := r.PEM(append(bytes.Clone(cert), key...))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(out, key) {
		t.Error("the private key next to the certificate was not kept")
	}
	before, after := firstCert(t, cert), firstCert(t, out)
	if !after.NotAfter.Equal(r.NotAfter) || !after.NotBefore.Equal(r.NotBefore) {
		t.Errorf("valid from %s to %s, want %s to %s", after.NotBefore, after.NotAfter, r.NotBefore, r.NotAfter)
	}
	if err := after.CheckSignatureFrom(ca.Cert); err != nil {
		t.Errorf("not signed by the CA it was signed by: %v", err)
	}
	if before.SerialNumber.Cmp(after.SerialNumber) == 0 {
		t.Error("the serial number is used twice")
	}
	if !bytes.Equal(before.RawSubject, after.RawSubject) || !bytes.Equal(before.RawSubjectPublicKeyInfo, after.RawSubjectPublicKeyInfo) ||
		!slices.Equal(before.DNSNames, after.DNSNames) || !before.IPAddresses[0].Equal(after.IPAddresses[0]) ||
		before.KeyUsage != after.KeyUsage || !slices.Equal(before.ExtKeyUsage, after.ExtKeyUsage) {
		t.Errorf("more than the dates is different:\n%+v\n%+v", before, after)
	}
}

func TestResignKeepsCopiesEqual(t *testing.T) {
	ca := newCA(t, "etcd-ca")
	cert, _ := newLeaf(t, ca)
	r := newResigner(ca)
	one, err := r.PEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.PEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("two copies of a certificate became two certificates")
	}
}

func TestResignRefuses(t *testing.T) {
	ca, stranger := newCA(t, "kubernetes"), newCA(t, "kubernetes")
	cert, key := newLeaf(t, stranger)
	if _, err := newResigner(ca).PEM(cert); !errors.Is(err, errUnknownIssuer) {
		t.Errorf("a stranger's certificate: got %v, want %v", err, errUnknownIssuer)
	}
	if _, err := newResigner(ca).PEM(key); err == nil {
		t.Error("a file without a certificate is no error")
	}
}

func TestResignKubeconfig(t *testing.T) {
	ca := newCA(t, "kubernetes")
	cert, _ := newLeaf(t, ca)
	const before, after = "apiVersion: v1\nusers:\n- name: admin\n  user:\n    client-certificate-data: ", "\n    client-key-data: c2VjcmV0\n"
	in := before + base64.StdEncoding.EncodeToString(cert) + after
	r := newResigner(ca)
	out, err := r.Kubeconfig([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	inner, ok := bytes.CutPrefix(out, []byte(before))
	if !ok {
		t.Fatalf("what comes before the certificate has changed:\n%s", out)
	}
	if inner, ok = bytes.CutSuffix(inner, []byte(after)); !ok {
		t.Fatalf("what comes after the certificate has changed:\n%s", out)
	}
	data, err := base64.StdEncoding.DecodeString(string(inner))
	if err != nil {
		t.Fatal(err)
	}
	if got := firstCert(t, data).NotAfter; !got.Equal(r.NotAfter) {
		t.Errorf("valid until %s, want %s", got, r.NotAfter)
	}

	reference := []byte("users:\n- user:\n    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n")
	if out, err := r.Kubeconfig(reference); err != nil || !bytes.Equal(out, reference) {
		t.Errorf("one that refers to a file: got %q, %v", out, err)
	}
}

func TestResignSelfIssued(t *testing.T) {
	ca := newCA(t, "w1-ca@1700000000")
	cert, _ := newLeaf(t, ca)
	chain := append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})...)
	r := newResigner()
	out, err := r.SelfIssued(chain)
	if err != nil {
		t.Fatal(err)
	}
	_, rest := pem.Decode(out)
	leaf, root := firstCert(t, out), firstCert(t, rest)
	if err := leaf.CheckSignatureFrom(root); err != nil {
		t.Errorf("the chain does not hold: %v", err)
	}
	if !leaf.NotAfter.Equal(r.NotAfter) || !bytes.Equal(leaf.RawSubjectPublicKeyInfo, firstCert(t, cert).RawSubjectPublicKeyInfo) || root.Subject.CommonName != "w1-ca@1700000000" {
		t.Errorf("got a leaf until %s of %q", leaf.NotAfter, root.Subject)
	}
}

func TestPlace(t *testing.T) {
	for _, test := range []struct {
		conf, file string
		want       Kind
	}{
		{"/etc/kubernetes", "/etc/kubernetes/ssl/apiserver.crt", APIServer},
		{"/etc/kubernetes", "/etc/ssl/etcd/ssl/node-cp1.pem", HostEtcd},
		{"/etc/kubernetes", "/etc/ssl/etcd/ssl/node-cp1-key.pem", ""},
		{"/etc/kubernetes", "/etc/ssl/etcd/ssl/ca.pem", ""},
		{"/etc/kubernetes", "/etc/kubernetes/ssl/ca.crt", ""},
		{"/etc/kubernetes", "/etc/kubernetes/ssl/etcd/peer.crt", Etcd},
		{"/etc/kubernetes", "/root/.kube/config", Admin},
		{"/etc/kubernetes", "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04.pem", Kubelet},
		{"/etc/k8s", "/etc/k8s/ssl/apiserver.crt", APIServer},
		{"/etc/k8s", "/etc/kubernetes/ssl/apiserver.crt", ""},
		{"/etc/k8s", "/root/.kube/config", Admin},
	} {
		if got, _, _ := place(test.conf, test.file); got != test.want {
			t.Errorf("%s is %q with %s, want %q", test.file, got, test.conf, test.want)
		}
	}
}

func TestParseKinds(t *testing.T) {
	if got, err := ParseKinds([]string{"etcd", "apiserver", "apiserver"}); err != nil || !slices.Equal(got, []Kind{APIServer, Etcd, HostEtcd}) {
		t.Errorf("got %q, %v", got, err)
	}
	if slices.Contains(Yearly(), HostEtcd) || !slices.Contains(Yearly(), Kubelet) {
		t.Errorf("a year does not do that: %q", Yearly())
	}
	if _, err := ParseKinds([]string{"apiservr"}); err == nil {
		t.Error("a misspelt kind is accepted")
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"-1h":                  now.Add(-time.Hour),
		"+5d":                  now.AddDate(0, 0, 5),
		"-400d":                now.AddDate(0, 0, -400),
		"2026-01-31":           time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		"2026-01-31T10:00:00Z": time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %s (%v), want %s", in, got, err, want)
		}
	}
	if _, err := ParseTime("soon", now); err == nil {
		t.Error("soon is a date")
	}
}
