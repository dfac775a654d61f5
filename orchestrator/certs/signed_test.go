package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// issued is a certificate with its key, in PEM too.
type issued struct {
	Certificate, Key []byte
	X509             *x509.Certificate
	key              *ecdsa.PrivateKey
}

// issue signs a certificate with a new key; by itself without an issuer.
func issue(t *testing.T, by *issued, template *x509.Certificate) issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.X509, by.key
	}
	template.SerialNumber, template.BasicConstraintsValid = big.NewInt(time.Now().UnixNano()), true
	template.NotBefore = time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return issued{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), x, key}
}

// authority is a CA, signed by another one or by itself.
func authority(t *testing.T, by *issued, name string) issued {
	t.Helper()
	return issue(t, by, &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().AddDate(5, 0, 0), IsCA: true, KeyUsage: x509.KeyUsageCertSign})
}

// What a CA returns is read in any order: one leaf, and what leads from it.
func TestParseSigned(t *testing.T) {
	t.Parallel()
	root, stranger := authority(t, nil, "kubernetes"), authority(t, nil, "kubernetes")
	upper := authority(t, &root, "upper")
	lower := authority(t, &upper, "lower")
	named := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().AddDate(1, 0, 0)}
	}
	leaf, other := issue(t, &lower, named("leaf")), issue(t, &root, named("other"))
	all := func(pairs ...issued) []byte {
		var out []byte
		for _, p := range pairs {
			out = append(out, p.Certificate...)
		}
		return out
	}
	for name, row := range map[string]struct {
		text []byte
		want []string
		err  string
	}{
		"alone":                         {text: all(leaf), want: []string{"leaf"}},
		"with its chain":                {text: all(leaf, lower, upper), want: []string{"leaf", "lower", "upper"}},
		"the root first":                {text: all(root, upper, lower, leaf), want: []string{"leaf", "lower", "upper"}},
		"twice, and another CA":         {text: all(leaf, stranger, leaf, lower), want: []string{"leaf", "lower"}},
		"with text before it":           {text: append([]byte("Certificate:\n  Data:\n"), all(leaf)...), want: []string{"leaf"}},
		"with CRLF":                     {text: bytes.ReplaceAll(all(leaf), []byte("\n"), []byte("\r\n")), want: []string{"leaf"}},
		"two leaves":                    {text: all(leaf, other), err: "each into its own file"},
		"only a CA":                     {text: all(root), err: "only certificates of CAs"},
		"with a key":                    {text: append(all(leaf), leaf.Key...), err: `a PEM block "PRIVATE KEY"`},
		"nothing":                       {err: "no PEM certificate block"},
		"DER":                           {text: leaf.X509.Raw, err: "no PEM certificate block"},
		"no certificate in the block":   {text: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("garbage")}), err: "block 1 is no X.509 certificate"},
		"more blocks than a chain has":  {text: bytes.Repeat(all(leaf), 11), err: "more than 10 PEM blocks"},
		"a certificate signing request": {text: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}}), err: "CERTIFICATE REQUEST"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain, err := certs.ParseSigned(row.text)
			var got []string
			for _, x := range chain {
				got = append(got, x.Subject.CommonName)
			}
			if !slices.Equal(got, row.want) || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// What is signed must be what was requested, for a time that makes sense.
func TestCheckSigned(t *testing.T) {
	t.Parallel()
	ca, now := authority(t, nil, "kubernetes"), time.Now()
	of := func(end time.Time) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver", Organization: []string{"a"}}, DNSNames: []string{"cp1", "localhost"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotAfter: end}
	}
	old := issue(t, &ca, of(now.Add(24*time.Hour)))
	none := func(*x509.Certificate) {}
	for name, row := range map[string]struct {
		edit func(*x509.Certificate)
		err  string
		cas  []*x509.Certificate
	}{
		"the same":                     {edit: func(*x509.Certificate) {}, err: ""},
		"with more usages":             {edit: func(x *x509.Certificate) { x.ExtKeyUsage = append(x.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }, err: ""},
		"names in another order":       {edit: func(x *x509.Certificate) { x.DNSNames = []string{"localhost", "cp1"} }, err: ""},
		"without a usage":              {edit: func(x *x509.Certificate) { x.ExtKeyUsage = nil }, err: "it is not for server auth"},
		"for a client":                 {edit: func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, err: "it is not for server auth, as requested: its usages are client auth"},
		"of another user":              {edit: func(x *x509.Certificate) { x.Subject.CommonName = "admin" }, err: "its subject is"},
		"in another group":             {edit: func(x *x509.Certificate) { x.Subject.Organization = []string{"a", "system:masters"} }, err: "its subject is"},
		"without a name":               {edit: func(x *x509.Certificate) { x.DNSNames = x.DNSNames[:1] }, err: "its names are cp1, 10.0.0.1, and were requested as cp1, localhost, 10.0.0.1"},
		"with a name more":             {edit: func(x *x509.Certificate) { x.DNSNames = append(x.DNSNames, "evil") }, err: "its names are"},
		"not valid yet":                {edit: func(x *x509.Certificate) { x.NotBefore = now.Add(time.Hour) }, err: "it is not valid before"},
		"expired":                      {edit: func(x *x509.Certificate) { x.NotAfter = now.Add(-time.Second) }, err: "it expired at"},
		"shorter than before":          {edit: func(x *x509.Certificate) { x.NotAfter = now.Add(time.Hour) }, err: "the one in place later"},
		"a CA":                         {edit: func(x *x509.Certificate) { x.IsCA = true }, err: "the certificate of a CA"},
		"that may not sign":            {edit: func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageKeyEncipherment }, err: "it may not sign"},
		"for another key":              {edit: func(x *x509.Certificate) { x.RawSubjectPublicKeyInfo = []byte{1} }, err: "it is for another key"},
		"of a kubelet":                 {edit: func(*x509.Certificate) {}, err: ""},
		"of a kubelet, for more":       {edit: func(x *x509.Certificate) { x.ExtKeyUsage = append(x.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }, err: "its usages are server auth, client auth, and a kubelet's"},
		"with SHA-1":                   {edit: func(x *x509.Certificate) { x.SignatureAlgorithm = x509.ECDSAWithSHA1 }, err: "it is signed with ECDSA-SHA1"},
		"with MD5":                     {edit: func(x *x509.Certificate) { x.SignatureAlgorithm = x509.MD5WithRSA }, err: "it is signed with MD5-RSA"},
		"with what no one knows":       {edit: func(x *x509.Certificate) { x.UnhandledCriticalExtensions = []asn1.ObjectIdentifier{{1, 2, 3}} }, err: "it has the critical extension 1.2.3"},
		"by a CA for all":              {edit: none, cas: []*x509.Certificate{{}}},
		"by a CA for this":             {edit: none, cas: []*x509.Certificate{{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}}},
		"by a CA for any":              {edit: none, cas: []*x509.Certificate{{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}}},
		"by a CA for others":           {edit: none, cas: []*x509.Certificate{{}, {Subject: pkix.Name{CommonName: "mail"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}}}, err: `the CA "CN=mail" in its file may not issue for server auth: its usages are client auth, usage 4`},
		"by a CA with SHA-1":           {edit: none, cas: []*x509.Certificate{{Subject: pkix.Name{CommonName: "old"}, SignatureAlgorithm: x509.SHA1WithRSA}}, err: `the CA "CN=old" in its file is signed with SHA1-RSA`},
		"by a CA of what no one knows": {edit: none, cas: []*x509.Certificate{{UnhandledCriticalExtensions: []asn1.ObjectIdentifier{{1, 2, 3}}}}, err: "in its file has the critical extension"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := *issue(t, &ca, of(now.AddDate(1, 0, 0))).X509
			x.RawSubjectPublicKeyInfo = old.X509.RawSubjectPublicKeyInfo
			row.edit(&x)
			was := certs.Describe(old.X509)
			if strings.HasPrefix(name, "of a kubelet") {
				was.Kind = certs.KindKubeletClient
			}
			err := certs.CheckSigned(was, append([]*x509.Certificate{&x}, row.cas...), now)
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%v, want %q", err, row.err)
			}
		})
	}
}

// A request is for what a certificate has, byte for byte, and for nothing else.
func TestCheckRequest(t *testing.T) {
	t.Parallel()
	extension := func(oid string, critical bool, value ...byte) pkix.Extension {
		var id asn1.ObjectIdentifier
		for part := range strings.SplitSeq(oid, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				t.Fatal(err)
			}
			id = append(id, n)
		}
		return pkix.Extension{Id: id, Critical: critical, Value: value}
	}
	add := func(e pkix.Extension) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) { r.ExtraExtensions = append(r.ExtraExtensions, e) }
	}
	kept := []string{"2.5.29.15", "2.5.29.17", "2.5.29.37"}
	const others = "it requests other extensions"
	for name, row := range map[string]struct {
		certificate func(*x509.Certificate)
		request     func(*x509.CertificateRequest)
		another     bool
		err         string
	}{
		"the same":                   {},
		"of a certificate with none": {certificate: func(x *x509.Certificate) { x.DNSNames, x.IPAddresses, x.ExtKeyUsage, x.KeyUsage = nil, nil, nil, 0 }},
		"with many names": {certificate: func(x *x509.Certificate) {
			x.DNSNames = strings.Split(strings.Repeat("a.example.org ", 500), " ")[:500]
		}},
		"with long names": {certificate: func(x *x509.Certificate) { x.DNSNames = []string{strings.Repeat("a", 150)} }},
		"with all types of names": {certificate: func(x *x509.Certificate) {
			x.EmailAddresses, x.URIs = []string{"a@b"}, []*url.URL{{Scheme: "spiffe", Host: "a"}}
		}},
		"for another key":              {another: true, err: "it is for another key"},
		"to be a CA":                   {request: add(extension("2.5.29.19", true, 0x30, 3, 1, 1, 0xff)), err: others},
		"to sign certificates":         {request: func(r *x509.CertificateRequest) { r.ExtraExtensions[0] = extension("2.5.29.15", true, 3, 2, 2, 0x04) }, err: others},
		"less strict":                  {request: func(r *x509.CertificateRequest) { r.ExtraExtensions[0].Critical = false }, err: others},
		"with a template of Microsoft": {request: add(extension("1.3.6.1.4.1.311.20.2", false, 0x0c, 1, 'a')), err: others},
		"without usages":               {request: func(r *x509.CertificateRequest) { r.ExtraExtensions = slices.Delete(r.ExtraExtensions, 1, 2) }, err: others},
		"with another name": {request: func(r *x509.CertificateRequest) {
			r.ExtraExtensions, r.DNSNames = r.ExtraExtensions[:2], []string{"evil"}
		}, err: others + " than the names and usages of the certificate; its names are evil"},
		"with another attribute": {request: func(r *x509.CertificateRequest) {
			//nolint:staticcheck // one attribute more
			r.Attributes = []pkix.AttributeTypeAndValueSET{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a"}}}}}
		}, err: others},
		"with two users": {request: func(r *x509.CertificateRequest) {
			r.RawSubject, r.Subject = nil, pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "admin"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "kube-apiserver"}}}
		}, err: "and the certificate for CN=kube-apiserver"},
		"with a name of another type": {certificate: func(x *x509.Certificate) {
			x.DNSNames, x.IPAddresses, x.ExtraExtensions = nil, nil, []pkix.Extension{extension("2.5.29.17", false, 0x30, 5, 0x88, 3, 0x2a, 3, 4)}
		}, err: "a name of another type ([8])"},
		"of a CA":                    {certificate: func(x *x509.Certificate) { x.IsCA = true }, err: "may be used as that of a CA"},
		"of one that may sign lists": {certificate: func(x *x509.Certificate) { x.KeyUsage |= x509.KeyUsageCRLSign }, err: "may be used as that of a CA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, DNSNames: []string{"cp1"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
			if row.certificate != nil {
				row.certificate(x)
			}
			der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			if x, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
			r := &x509.CertificateRequest{RawSubject: x.RawSubject}
			for _, e := range x.Extensions {
				if slices.Contains(kept, e.Id.String()) {
					r.ExtraExtensions = append(r.ExtraExtensions, e)
				}
			}
			if row.request != nil {
				row.request(r)
			}
			if row.another {
				if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
					t.Fatal(err)
				}
			}
			if der, err = x509.CreateCertificateRequest(rand.Reader, r, key); err != nil {
				t.Fatal(err)
			}
			asked, err := x509.ParseCertificateRequest(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := certs.CheckRequest(x, asked); (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%v, want %q", err, row.err)
			}
		})
	}
}
