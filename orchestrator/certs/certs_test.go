package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os/exec"
	"path"
	"reflect"
	"slices"
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
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageOCSPSigning},
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

// The validity period includes both of its ends (RFC 5280, 4.1.2.5).
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
	x, err := x509.ParseCertificate(first)
	if err != nil {
		t.Fatal(err)
	}
	sum, public := sha256.Sum256(first), sha256.Sum256(x.RawSubjectPublicKeyInfo)
	want := Certificate{
		Subject: "CN=kube-apiserver,O=system:masters", CommonName: "kube-apiserver", Organizations: []string{"system:masters"},
		Issuer: "CN=kube-apiserver,O=system:masters", SerialNumber: "c0ffee",
		SANs: []string{"kubernetes", "10.0.0.1", "fd00::1"}, NotBefore: begin, NotAfter: end, IsCA: true,
		Fingerprint: hex.EncodeToString(sum[:]), PublicKey: hex.EncodeToString(public[:]), KeyAlgorithm: "Ed25519",
		Usages:       []string{"server auth", "client auth", "usage 9"},
		SubjectKeyID: hex.EncodeToString(x.SubjectKeyId), NotStrict: []string{LacksCertSign},
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

func TestParseChain(t *testing.T) {
	t.Parallel()
	first, second := selfSigned(t), selfSigned(t)
	text := slices.Concat(block("EC PRIVATE KEY", []byte{1}), block("CERTIFICATE", first), block("CERTIFICATE", []byte("no DER")), block("CERTIFICATE", second))
	chain, err := ParseChain(text)
	if err != nil || len(chain) != 2 || !bytes.Equal(chain[0].Raw, first) || !bytes.Equal(chain[1].Raw, second) {
		t.Errorf("%v, %d certificates", err, len(chain))
	}
}

func TestKeyAlgorithm(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, public := range map[string]any{"RSA 2048": small.Public(), "ECDSA P-256": curve.Public()} {
		if got := keyAlgorithm(&x509.Certificate{PublicKey: public}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// pair is a certificate and the key that signs with it.
type pair struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

// sign makes a certificate of the name; without a signer it signs itself.
func sign(t *testing.T, name string, ca bool, by *pair) pair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: begin, NotAfter: end, IsCA: ca, BasicConstraintsValid: true}
	if by == nil {
		by = &pair{template, private}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, public, by.key)
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{x, private}
}

// The key that signed counts, not the name in the certificate.
func TestSigner(t *testing.T) {
	t.Parallel()
	ca, namesake, etcd := sign(t, "kubernetes", true, nil), sign(t, "kubernetes", true, nil), sign(t, "etcd-ca", true, nil)
	issuers := []Issuer{{KubernetesCA, ca.cert}, {EtcdCA, etcd.cert}}
	leaf := func(by *pair) *x509.Certificate { return sign(t, "leaf", false, by).cert }
	between := sign(t, "intermediate", true, &ca)
	kubelet := sign(t, "cp1-ca@1700000000", true, nil)
	noAuthority := sign(t, "no authority", false, &ca)
	for _, row := range []struct {
		name  string
		cert  *x509.Certificate
		chain []*x509.Certificate
		want  Authority
	}{
		{"by the first authority", leaf(&ca), nil, KubernetesCA},
		{"by the second", leaf(&etcd), nil, EtcdCA},
		{"by another of the same name", leaf(&namesake), nil, ""},
		{"an authority itself", ca.cert, nil, SelfSigned},
		{"a leaf that signed itself", sign(t, "kubelet", false, nil).cert, nil, SelfSigned},
		{"by an intermediate that came along", leaf(&between), []*x509.Certificate{between.cert}, KubernetesCA},
		{"by an intermediate that did not", leaf(&between), nil, ""},
		{"by an authority of its own, as the kubelet's", leaf(&kubelet), []*x509.Certificate{kubelet.cert}, SelfSigned},
		{"with a chain that has nothing to do with it", leaf(&namesake), []*x509.Certificate{between.cert, kubelet.cert}, ""},
		{"by what may not sign", leaf(&noAuthority), []*x509.Certificate{noAuthority.cert}, ""},
	} {
		checks := 100
		if got, _ := Signers(row.cert, row.chain, issuers, &checks); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// The CAs that lead from a certificate are all that a client may trust: those that signed it, and
// those that signed the certificates that come with it.
func TestSigners(t *testing.T) {
	t.Parallel()
	root, old := sign(t, "root", true, nil), sign(t, "kubernetes", true, nil)
	between := sign(t, "intermediate", true, &root)
	next := sign(t, "kubernetes-2026", true, nil)
	cross := resign(t, next, &old)
	again := resign(t, old, &old)
	leaf := func(by *pair) *x509.Certificate { return sign(t, "leaf", false, by).cert }
	issuers := []Issuer{{KubernetesCA, old.cert}, {KubernetesCA, next.cert}, {KubernetesCA, root.cert}, {KubernetesCA, between.cert}}
	// A node has made itself a CA with the name and key of its own certificate.
	own := sign(t, "node", false, &old)
	template := *own.cert
	template.IsCA, template.KeyUsage, template.BasicConstraintsValid = true, x509.KeyUsageCertSign, true
	made := resign(t, pair{&template, own.key}, &pair{&template, own.key})
	name := func(p pair) string { return Describe(p.cert).SignsAs() }
	if name(again) != name(old) || name(cross) != name(next) || again.cert.Equal(old.cert) {
		t.Error("a CA that is issued again with its key is not the same")
	}
	for _, row := range []struct {
		name    string
		cert    *x509.Certificate
		chain   []*x509.Certificate
		issuers []Issuer
		want    []string
	}{
		{"by one of two", leaf(&next), nil, issuers, []string{name(next)}},
		{"by one that was issued again", leaf(&old), nil, []Issuer{{KubernetesCA, again.cert}}, []string{name(old)}},
		{"with a cross certificate", leaf(&next), []*x509.Certificate{cross.cert}, issuers, []string{name(next), name(old)}},
		{"with a cross certificate, and without the CA", leaf(&next), []*x509.Certificate{cross.cert}, issuers[:1], []string{name(next), name(old)}},
		{"by an intermediate", leaf(&between), nil, issuers, []string{name(between)}},
		{"by an intermediate that it brings along", leaf(&between), []*x509.Certificate{between.cert}, issuers, []string{name(between), name(root)}},
		{"an intermediate itself", between.cert, nil, issuers, []string{name(root)}},
		{"a CA itself, which was issued again", again.cert, nil, issuers, nil},
		{"by no one that is known", leaf(&next), nil, issuers[:1], nil},
		{"by a node, with its own certificate", leaf(&made), []*x509.Certificate{own.cert}, []Issuer{{KubernetesCA, made.cert}, issuers[0]}, []string{name(made)}},
	} {
		checks := 100
		var got []string
		_, path := Signers(row.cert, row.chain, row.issuers, &checks)
		for _, c := range path {
			got = append(got, Describe(c).SignsAs())
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// resign signs a CA again, with its own key and name.
func resign(t *testing.T, of pair, by *pair) pair {
	t.Helper()
	template := *of.cert
	template.SerialNumber, template.AuthorityKeyId = big.NewInt(2), nil
	der, err := x509.CreateCertificate(rand.Reader, &template, by.cert, of.cert.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{x, of.key}
}

// What a certificate lacks for strict clients matches OpenSSL.
func TestNotStrict(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	const (
		plain   = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier="
		leafs   = "basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=none"
		without = "basicConstraints=CA:FALSE\nauthorityKeyIdentifier=none\nsubjectKeyIdentifier=none"
	)
	for name, row := range map[string]struct {
		ca, leaf string
		want     []string
	}{
		"strict":                  {plain + "hash", leafs, nil},
		"a CA without identifier": {plain + "none", without, []string{LacksSubjectKeyID, LacksAuthorityKeyID}},
		"a leaf without":          {plain + "hash", without, []string{LacksAuthorityKeyID}},
		"a CA without key usage":  {"basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash", leafs, []string{LacksCertSign}},
		"not critical":            {"basicConstraints=CA:TRUE\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=hash", leafs, []string{LacksCritical}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := exec.CommandContext(t.Context(), "sh", "-euc", `cd "$1"
printf "$2
" >ca.ext; printf "$3
" >leaf.ext
for name in ca leaf; do "$0" req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -subj /CN=$name -out $name.csr; done
"$0" x509 -req -in ca.csr -signkey ca.key -extfile ca.ext -out ca.crt
"$0" x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile leaf.ext -out leaf.crt
cat leaf.crt ca.crt
"$0" verify -x509_strict -CAfile ca.crt leaf.crt >/dev/null 2>&1 || echo rejected`, openssl, t.TempDir(), row.ca, row.leaf)
			out, err := script.Output()
			if err != nil {
				t.Fatal(err)
			}
			chain, err := ParseChain(out)
			if err != nil || len(chain) != 2 {
				t.Fatalf("%d certificates: %v", len(chain), err)
			}
			got := slices.Concat(Describe(chain[1]).NotStrict, Describe(chain[0]).NotStrict)
			if !slices.Equal(got, row.want) {
				t.Errorf("lacks %q, want %q", got, row.want)
			}
			if rejected := bytes.Contains(out, []byte("rejected")); rejected != (len(got) > 0) {
				t.Errorf("it lacks %q, and OpenSSL rejects it: %v", got, rejected)
			}
		})
	}
}

// A node may send any number of CAs, and keys of any size.
func TestSignerIsBounded(t *testing.T) {
	t.Parallel()
	ca := sign(t, "kubernetes", true, nil)
	leaf := sign(t, "leaf", false, &ca).cert
	strangers, namesakes := make([]Issuer, 50), make([]Issuer, 50)
	for i := range strangers {
		strangers[i] = Issuer{EtcdCA, sign(t, "etcd-ca", true, nil).cert}
		namesakes[i] = Issuer{EtcdCA, sign(t, "kubernetes", true, nil).cert}
	}
	huge, odd := *ca.cert, *ca.cert
	huge.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 65537}
	odd.PublicKey = &rsa.PublicKey{N: big.NewInt(15), E: 1<<31 - 1}
	for _, row := range []struct {
		name    string
		issuers []Issuer
		checks  int
		want    Authority
		left    int
	}{
		{"another name is not tried", append(slices.Clone(strangers), Issuer{KubernetesCA, ca.cert}), 1, KubernetesCA, 0},
		{"its key identifier first", append(slices.Clone(namesakes), Issuer{KubernetesCA, ca.cert}), 1, KubernetesCA, 0},
		{"no more than it may", namesakes, 3, "", -1},
		{"a huge key", []Issuer{{KubernetesCA, &huge}}, 3, "", 3},
		{"a huge exponent", []Issuer{{KubernetesCA, &odd}}, 3, "", 3},
	} {
		checks := row.checks
		if got, _ := Signers(leaf, nil, row.issuers, &checks); got != row.want || checks != row.left {
			t.Errorf("%s: %q with %d checks left, want %q with %d", row.name, got, checks, row.want, row.left)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		kind      Kind
		rel, want string
	}{
		{KindAPIServer, "apiserver.crt", "apiserver.key"},
		{KindEtcdServer, "etcd/server.crt", "etcd/server.key"},
		{KindEtcdMember, "member-cp1.example.com.pem", "member-cp1.example.com-key.pem"},
		{KindKubeletClient, "kubelet-client-current.pem", "kubelet-client-current.pem"},
		{KindAdmin, "admin.conf", ""},
	} {
		r, _ := Lookup(row.kind)
		if got := r.KeyFile(row.rel); got != row.want {
			t.Errorf("the key of %s is %q, want %q", row.rel, got, row.want)
		}
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
		if r.Signer == "" || ((r.CA || r.Authority != "") && r.Signer != SelfSigned) {
			t.Errorf("%q is signed by %q", r.Kind, r.Signer)
		}
		if (r.CA && r.Authority == "") || r.Group == "" || (r.Copy && r.Outage != NoOutage) {
			t.Errorf("%q is incomplete: %+v", r.Kind, r)
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

// Code uses these by name; nothing else would notice a missing row.
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

// Every leaf that is renewed has someone who verifies it: a component by a setting, or those who have a
// kubeconfig. A component that verifies nothing is a mistake in the table.
func TestEveryLeafIsVerified(t *testing.T) {
	t.Parallel()
	verifies := map[string]int{}
	for _, row := range Table() {
		by := 0
		for _, v := range Verifiers() {
			if v.Verifies(row) && !row.CA {
				by++
				verifies[v.Setting]++
			}
		}
		leaf := !row.CA && !row.Copy && row.Group != GroupServing && row.Group != GroupKubeletServing
		if leaf && by == 0 {
			t.Errorf("no one verifies %s", row.Kind)
		}
	}
	if len(verifies) != len(Verifiers()) {
		t.Errorf("of %d verifiers only these have something to verify: %v", len(Verifiers()), verifies)
	}
}

// What a component reads follows from the table.
func TestReadBy(t *testing.T) {
	t.Parallel()
	for component, want := range map[string][]Kind{
		"kube-apiserver":          {KindAPIServer, KindAPIServerKubeletClient, KindFrontProxyClient, KindAPIServerEtcdClient, KindEtcdNode},
		"kube-controller-manager": {KindControllerManagerConf},
		"kube-scheduler":          {KindSchedulerConf},
		"kube-vip":                {KindAdmin, KindSuperAdmin},
		"etcd":                    {KindEtcdServer, KindEtcdPeer, KindEtcdMember},
		"kube-proxy":              nil,
	} {
		if got := ReadBy(component); !slices.Equal(got, want) {
			t.Errorf("%s reads %q", component, got)
		}
	}
}
