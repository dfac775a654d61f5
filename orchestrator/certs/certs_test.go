package certs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end   = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
)

// selfSigned makes a certificate at run time: no key is part of the repository.
func selfSigned(tb testing.TB) []byte {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xC0FFEE), Subject: pkix.Name{CommonName: "kube-apiserver", Organization: []string{"system:masters"}},
		DNSNames: []string{"kubernetes"}, IPAddresses: []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("fd00::1")},
		NotBefore: begin, NotAfter: end, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Both ends of the validity period belong to it (RFC 5280, 4.1.2.5).
func TestStatusAt(t *testing.T) {
	t.Parallel()
	c := Certificate{NotBefore: begin, NotAfter: end}
	const month = 30 * 24 * time.Hour
	for _, row := range []struct {
		name   string
		at     time.Time
		within time.Duration
		want   Status
	}{
		{"a second before it begins", begin.Add(-time.Second), month, NotYetValid},
		{"at its first moment", begin, month, Valid},
		{"half way", begin.AddDate(0, 6, 0), month, Valid},
		{"exactly a month before its end", end.Add(-month), month, Valid},
		{"a second less than a month before its end", end.Add(-month + time.Second), month, Expiring},
		{"at its last moment", end, month, Expiring},
		{"at its last moment, without a threshold", end, 0, Valid},
		{"a nanosecond after its end", end.Add(time.Nanosecond), 0, Expired},
		{"a year after its end", end.AddDate(1, 0, 0), month, Expired},
	} {
		if got := c.StatusAt(row.at, row.within); got != row.want {
			t.Errorf("%s it is %s, want %s", row.name, got, row.want)
		}
	}
}

func TestParsePEM(t *testing.T) {
	t.Parallel()
	first, second := selfSigned(t), selfSigned(t)
	sum := sha256.Sum256(first)
	want := Certificate{
		Subject: "CN=kube-apiserver,O=system:masters", Issuer: "CN=kube-apiserver,O=system:masters", SerialNumber: "c0ffee",
		SANs: []string{"kubernetes", "10.0.0.1", "fd00::1"}, NotBefore: begin, NotAfter: end, IsCA: true,
		Fingerprint: hex.EncodeToString(sum[:]),
	}
	cert := block("CERTIFICATE", first)
	for name, text := range map[string][]byte{
		"alone":                           cert,
		"with text around":                bytes.Join([][]byte{[]byte("subject=CN = x\n"), cert, []byte("more\n")}, nil),
		"the first of a chain":            append(bytes.Clone(cert), block("CERTIFICATE", second)...),
		"behind a key, as the kubelet's":  append(block("EC PRIVATE KEY", []byte{1, 2, 3}), cert...),
		"with carriage returns in a file": bytes.ReplaceAll(cert, []byte("\n"), []byte("\r\n")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParsePEM(text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestParsePEMErrors(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":       "",
		"text":          "hello\n",
		"only a key":    string(block("EC PRIVATE KEY", []byte{1, 2, 3})),
		"cut off":       string(block("CERTIFICATE", selfSigned(t))[:200]),
		"a broken body": "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
	} {
		if c, err := ParsePEM([]byte(text)); !errors.Is(err, ErrNoCertificate) {
			t.Errorf("%s: %v, %+v", name, err, c)
		}
	}
	if c, err := ParsePEM(block("CERTIFICATE", []byte("no DER"))); err == nil || errors.Is(err, ErrNoCertificate) {
		t.Errorf("a block that is no certificate: %v, %+v", err, c)
	}
}

// example is a path that a row's pattern must match.
func example(r Row) string { return strings.ReplaceAll(r.Path, "*", "node1") }

func TestTable(t *testing.T) {
	t.Parallel()
	rows := Table()
	if len(rows) < 20 {
		t.Fatalf("only %d rows", len(rows))
	}
	kinds := map[Kind]bool{}
	for _, r := range rows {
		if kinds[r.Kind] {
			t.Errorf("two rows of kind %q", r.Kind)
		}
		kinds[r.Kind] = true
		if got := Classify(r.Base, example(r)); got != r.Kind {
			t.Errorf("%s below %s is %q, want %q", example(r), r.Base, got, r.Kind)
		}
		if got, ok := Lookup(r.Kind); !ok || got != r {
			t.Errorf("Lookup of %q gives %+v", r.Kind, got)
		}
		if r.Signer == "" || (r.CA && r.Signer != SelfSigned) {
			t.Errorf("%q is signed by %q", r.Kind, r.Signer)
		}
		for _, other := range rows {
			if other.Kind == r.Kind || other.Base != r.Base {
				continue
			}
			if ok, err := path.Match(r.Path, example(other)); ok || err != nil {
				t.Errorf("%s of %q is taken by %q too (%v)", example(other), other.Kind, r.Kind, err)
			}
		}
	}
}

func TestClassifyUnknown(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		base Base
		rel  string
	}{{PKI, "old.crt"}, {Config, "ca.crt"}, {"elsewhere", "ca.crt"}, {EtcdPKI, "sub/member-a.pem"}, {PKI, ""}} {
		if got := Classify(row.base, row.rel); got != KindUnknown {
			t.Errorf("%s below %s is %q", row.rel, row.base, got)
		}
	}
	if _, ok := Lookup(KindUnknown); ok {
		t.Error("the unknown kind has a row")
	}
}

// Code asks for these by name; a row that went away would be noticed nowhere else.
func TestEveryNamedKindHasARow(t *testing.T) {
	t.Parallel()
	for _, k := range []Kind{
		KindCA, KindFrontProxyCA, KindEtcdCA, KindEtcdHostCA, KindAPIServer, KindAPIServerEtcdClient, KindAdmin,
		KindKubeletConf, KindKubeletClient, KindKubeletServing, KindEtcdServer, KindEtcdMember, KindEtcdAdmin, KindEtcdNode,
	} {
		if _, ok := Lookup(k); !ok {
			t.Errorf("no row of kind %q", k)
		}
	}
}

func TestLabel(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Certificate{
		"apiserver":                         {Kind: KindAPIServer, Path: "/etc/kubernetes/ssl/apiserver.crt"},
		"/etc/ssl/etcd/ssl/member-cp1.pem":  {Kind: KindEtcdMember, Path: "/etc/ssl/etcd/ssl/member-cp1.pem"},
		"/etc/kubernetes/ssl/something.crt": {Kind: KindUnknown, Path: "/etc/kubernetes/ssl/something.crt"},
		"served on 10.0.0.1:6443":           {Kind: "kube-apiserver", Path: "10.0.0.1:6443", Served: true},
	} {
		if got := c.Label(); got != want {
			t.Errorf("label is %q, want %q", got, want)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	cert := block("CERTIFICATE", selfSigned(f))
	for _, seed := range [][]byte{nil, cert, append([]byte("text\n"), cert...), block("PRIVATE KEY", []byte("x")), cert[:100], []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParsePEM(data)
		if err != nil {
			return
		}
		if len(c.Fingerprint) != 64 || c.SerialNumber == "" {
			t.Errorf("incomplete: %+v", c)
		}
		if !bytes.Contains(data, []byte("-----BEGIN CERTIFICATE-----")) {
			t.Errorf("a certificate out of nothing: %+v", c)
		}
	})
}
