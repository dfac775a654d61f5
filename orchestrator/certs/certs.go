// Package certs knows what a certificate of a Kubespray cluster is: its place, its purpose, which
// CA signs it and when it is due.
//
// It parses PEM and reads nothing but its arguments.
//
// Table has all kinds of certificates, a row each; Lookup finds the row of a kind. ParsePEM
// describes a certificate, and Certificate.StatusAt returns its state at a time.
package certs

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Certificate is one X.509 certificate found on a node.
type Certificate struct {
	// Kind is its purpose; KindUnknown for a file that no row of the table names.
	Kind Kind `json:"kind"`
	// Path is the file it came from, or "address:port" for a served one.
	Path string `json:"path"`
	// Served is true for a certificate that a port presented in its handshake.
	Served bool `json:"served,omitempty"`
	// Position is the place of a CA in a file with several, from 1 on; absent elsewhere.
	Position int `json:"position,omitempty"`

	Subject string `json:"subject"`
	// CommonName and Organizations are those of the subject: a client's user and groups for the API
	// server.
	CommonName    string    `json:"commonName,omitempty"`
	Organizations []string  `json:"organizations,omitempty"`
	Issuer        string    `json:"issuer"`
	SerialNumber  string    `json:"serialNumber"` // hexadecimal
	SANs          []string  `json:"sans,omitempty"`
	NotBefore     time.Time `json:"notBefore"`
	NotAfter      time.Time `json:"notAfter"`
	IsCA          bool      `json:"isCA,omitempty"`
	// Chain is how many certificates follow it in its file, or are served with it.
	Chain int `json:"chain,omitempty"`
	// ChainNotAfter is when the first of the certificates expires that follow it in its file, or
	// are served with it, if that is earlier: it does not verify without them.
	ChainNotAfter time.Time `json:"chainNotAfter,omitzero"`
	// Fingerprint is the SHA-256 of the DER encoding, hexadecimal.
	Fingerprint string `json:"fingerprint"`
	// PublicKey is the SHA-256 of the SubjectPublicKeyInfo, hexadecimal: equal for
	// a certificate and its key, and for a renewal that kept the key.
	PublicKey string `json:"publicKey,omitempty"`
	// KeyAlgorithm as in "RSA 2048", "ECDSA P-256" or "ML-DSA-65"; the object identifier if it has
	// no name here.
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// Usages are the extended key usages: "server auth", "client auth".
	Usages []string `json:"usages,omitempty"`
	// SubjectKeyID and AuthorityKeyID are the identifiers of its key and of its issuer's (RFC 5280,
	// 4.2.1.1 and 4.2.1.2), hexadecimal; absent if it has none.
	SubjectKeyID   string `json:"subjectKeyID,omitempty"`
	AuthorityKeyID string `json:"authorityKeyID,omitempty"`
	// NotStrict are the missing extensions that strict clients require, which check certificates by
	// all of RFC 5280: OpenSSL with -x509_strict, Python from 3.13 on.
	NotStrict []string `json:"notStrict,omitempty"`
	// SignedBy is the CA whose key really signed it, by verified signature; empty if none of the
	// CAs on its node did.
	SignedBy Authority `json:"signedBy,omitempty"`
	// Signers are the CAs that lead from it, each as SignsAs names it, by verified signature: first
	// the one that signed it, then those that signed the CAs that it is presented with. Whatever
	// trusts any of them trusts it.
	Signers []string `json:"signers,omitempty"`
	// Key is the state of the private key next to it.
	Key KeyState `json:"key,omitempty"`
	// File is the owner and mode of the file; nil for a served certificate.
	File *File `json:"file,omitempty"`
}

// KeyState is what is known about a certificate's private key. The key itself never leaves its
// node: only a digest of its public half does.
type KeyState string

// The states of a private key; empty if no key belongs next to the certificate or none was read.
const (
	KeyMatches    KeyState = "matches"
	KeyMismatch   KeyState = "mismatch"
	KeyMissing    KeyState = "missing"
	KeyUnreadable KeyState = "unreadable"
)

// File is the metadata of a file on a node.
type File struct {
	Mode     string    `json:"mode"` // octal, as in "0600"
	Owner    string    `json:"owner"`
	Group    string    `json:"group"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// Status is the validity of a certificate at one moment.
type Status string

// Certificate states, from bad to good.
const (
	Expired     Status = "expired"
	NotYetValid Status = "not-yet-valid"
	Expiring    Status = "expiring"
	Valid       Status = "valid"
)

// Ends is when the certificate, or the first of those that it is presented with, expires.
func (c Certificate) Ends() time.Time {
	if c.ChainNotAfter.IsZero() || c.ChainNotAfter.After(c.NotAfter) {
		return c.NotAfter
	}
	return c.ChainNotAfter
}

// StatusAt returns the state at time t; a certificate is expiring if it expires within the given
// duration after t (RFC 5280, section 4.1.2.5: the validity period includes both of its ends).
func (c Certificate) StatusAt(t time.Time, within time.Duration) Status {
	switch {
	case t.After(c.Ends()):
		return Expired
	case t.Before(c.NotBefore):
		return NotYetValid
	case t.Add(within).After(c.Ends()):
		return Expiring
	default:
		return Valid
	}
}

// ErrNoCertificate means that a PEM text has no certificate block.
var ErrNoCertificate = errors.New("no PEM certificate block")

// ParsePEM describes the first certificate of a PEM text: in every file of the table the first
// block is the node's own, intermediates follow.
func ParsePEM(data []byte) (Certificate, error) {
	chain, err := ParseChain(data)
	if err != nil {
		return Certificate{}, err
	}
	return Describe(chain[0]), nil
}

// ParseChain returns the certificates of a PEM text in order, at least one. Later blocks that are
// not X.509 are ignored.
func ParseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		switch {
		case block == nil && chain == nil:
			return nil, ErrNoCertificate
		case block == nil:
			return chain, nil
		case block.Type != "CERTIFICATE":
			continue
		}
		x, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err == nil:
			chain = append(chain, x)
		case chain == nil:
			return nil, fmt.Errorf("parsing X.509: %w", err)
		}
	}
}

// Describe returns what a certificate contains. Kind and Path, and what needs more than the
// certificate to know, are left empty.
func Describe(x *x509.Certificate) Certificate {
	c := Certificate{
		Subject:       x.Subject.String(),
		CommonName:    x.Subject.CommonName,
		Organizations: x.Subject.Organization,
		Issuer:        x.Issuer.String(),
		SerialNumber:  x.SerialNumber.Text(16),
		NotBefore:     Bounded(x.NotBefore),
		NotAfter:      Bounded(x.NotAfter),
		IsCA:          x.IsCA,
		Fingerprint:   digest(x.Raw),
		PublicKey:     digest(x.RawSubjectPublicKeyInfo),
		KeyAlgorithm:  keyAlgorithm(x),

		SubjectKeyID:   hex.EncodeToString(x.SubjectKeyId),
		AuthorityKeyID: hex.EncodeToString(x.AuthorityKeyId),
		NotStrict:      notStrict(x),
	}
	c.SANs = append(c.SANs, x.DNSNames...)
	for _, ip := range x.IPAddresses {
		c.SANs = append(c.SANs, ip.String())
	}
	c.SANs = append(c.SANs, x.EmailAddresses...)
	for _, uri := range x.URIs {
		c.SANs = append(c.SANs, uri.String())
	}
	for _, u := range x.ExtKeyUsage {
		name, ok := usageNames[u]
		if !ok {
			name = fmt.Sprintf("usage %d", u)
		}
		c.Usages = append(c.Usages, name)
	}
	for _, oid := range x.UnknownExtKeyUsage {
		c.Usages = append(c.Usages, oid.String())
	}
	return c
}

// The extensions without which a strict client rejects a certificate.
const (
	LacksSubjectKeyID   = "subjectKeyIdentifier"
	LacksAuthorityKeyID = "authorityKeyIdentifier"
	LacksCertSign       = "keyUsage keyCertSign"
	LacksCritical       = "critical basicConstraints"
)

// oidBasicConstraints is that of RFC 5280, 4.2.1.9.
var oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}

// notStrict lists what OpenSSL requires with X509_V_FLAG_X509_STRICT (crypto/x509/x509_vfy.c,
// check_extensions) and what issuers of certificates for clusters have left out: of every CA the
// first three, of every certificate that is not self-signed the last one.
func notStrict(x *x509.Certificate) []string {
	if x.Version < 3 {
		return nil
	}
	critical := slices.ContainsFunc(x.Extensions,
		func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(oidBasicConstraints) })
	var out []string
	for _, rule := range []struct {
		lacks bool
		what  string
	}{
		{x.IsCA && len(x.SubjectKeyId) == 0, LacksSubjectKeyID},
		{x.IsCA && x.KeyUsage&x509.KeyUsageCertSign == 0, LacksCertSign},
		{x.IsCA && !critical, LacksCritical},
		{!bytes.Equal(x.RawIssuer, x.RawSubject) && len(x.AuthorityKeyId) == 0, LacksAuthorityKeyID},
	} {
		if rule.lacks {
			out = append(out, rule.what)
		}
	}
	return out
}

// Bounded is a time, or the nearest one in the years 1 to 9999: JSON has no others, and a time
// beyond them, which a time zone can cause, would make the whole document fail.
func Bounded(t time.Time) time.Time {
	first, last := time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	switch {
	case t.Before(first):
		return first
	case t.After(last):
		return last
	default:
		return t.UTC()
	}
}

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// usageNames are Kubernetes' names for the usages of its certificates (certificates.k8s.io/v1,
// KeyUsage).
var usageNames = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny:        "any",
	x509.ExtKeyUsageServerAuth: serverAuth,
	x509.ExtKeyUsageClientAuth: clientAuth,
}

func keyAlgorithm(x *x509.Certificate) string {
	switch key := x.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	}
	if x.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm {
		return x.PublicKeyAlgorithm.String()
	}
	var spki struct { // RFC 5280, 4.1
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(x.RawSubjectPublicKeyInfo, &spki); err != nil {
		return ""
	}
	oid := spki.Algorithm.Algorithm.String()
	return cmp.Or(algorithmNames[oid], oid)
}

// algorithmNames are those of public keys that Go does not name: RFC 4055, 8410, 9881 and 9909.
var algorithmNames = map[string]string{
	"1.2.840.113549.1.1.10":   "RSA-PSS",
	"1.3.101.113":             "Ed448",
	"2.16.840.1.101.3.4.3.17": "ML-DSA-44",
	"2.16.840.1.101.3.4.3.18": "ML-DSA-65",
	"2.16.840.1.101.3.4.3.19": "ML-DSA-87",
	"2.16.840.1.101.3.4.3.20": "SLH-DSA-SHA2-128s",
	"2.16.840.1.101.3.4.3.21": "SLH-DSA-SHA2-128f",
	"2.16.840.1.101.3.4.3.22": "SLH-DSA-SHA2-192s",
	"2.16.840.1.101.3.4.3.23": "SLH-DSA-SHA2-192f",
	"2.16.840.1.101.3.4.3.24": "SLH-DSA-SHA2-256s",
	"2.16.840.1.101.3.4.3.25": "SLH-DSA-SHA2-256f",
}

// Issuer is a CA's certificate, with the name it signs as.
type Issuer struct {
	Authority   Authority
	Certificate *x509.Certificate
}

// Limits for keys that a signature is verified with: a node may send any.
const (
	maxRSABits     = 8192
	maxRSAExponent = 1 << 24
)

// Signers returns which CA's key really signed a certificate, and the CAs that lead from it: first
// the one that signed it, then, as long as the certificates that it came with have the last one,
// the one that signed that. Signatures are verified (RFC 5280, section 6.1.3) with the keys of
// those that have the name of the issuer, the ones with its key identifier first. Each verification
// takes one of checks; with none left, and with an RSA key beyond 8192 bits or with a huge
// exponent, nothing is verified.
//
// The CA is that of the first of the CAs that is an issuer, SelfSigned if they end in a self-signed
// certificate, and "" if none of the arguments is known to have signed it. A negative *checks
// afterwards means that checks were missing.
func Signers(x *x509.Certificate, chain []*x509.Certificate, issuers []Issuer, checks *int) (Authority,
	[]*x509.Certificate) {
	var by Authority
	var path []*x509.Certificate
	for rest := slices.Clone(chain); ; {
		if bytes.Equal(x.RawIssuer, x.RawSubject) && verifiable(x) && take(checks) &&
			x.CheckSignature(x.SignatureAlgorithm, x.RawTBSCertificate, x.Signature) == nil {
			return cmp.Or(by, SelfSigned), path
		}
		next, authority := signer(x, issuers, checks)
		// A leaf that has the name and key of a CA next to it leads nowhere: its node may have made that CA.
		along := func(c *x509.Certificate) bool { return SameCA(c, next) && mayIssue(c) }
		if next == nil {
			along = func(c *x509.Certificate) bool { return signed(x, c, checks) }
		}
		i := slices.IndexFunc(rest, along)
		if i >= 0 && next == nil {
			next = rest[i]
		}
		if next != nil {
			by, path = cmp.Or(by, authority), append(path, next)
		}
		if i < 0 {
			return by, path
		}
		x = rest[i]
		rest = slices.Delete(rest, i, i+1)
	}
}

// signer is that of the issuers whose key signed a certificate; nil if none did.
func signer(x *x509.Certificate, issuers []Issuer, checks *int) (*x509.Certificate, Authority) {
	for _, sameKey := range []bool{true, false} {
		for _, i := range issuers {
			if keyed(x, i.Certificate) == sameKey && !x.Equal(i.Certificate) && signed(x, i.Certificate, checks) {
				return i.Certificate, i.Authority
			}
		}
	}
	return nil, ""
}

// SameCA reports whether two certificates are of one CA: they have the same key and the same
// subject, as after a re-issue.
func SameCA(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) && bytes.Equal(a.RawSubject, b.RawSubject)
}

// SignsAs identifies the CA of a certificate by its key and its subject: it is equal for a
// re-issued one, whatever its dates are.
func (c Certificate) SignsAs() string { return cmp.Or(c.PublicKey, c.Fingerprint) + " " + c.Subject }

// keyed reports whether by's key has the identifier that x names as its issuer's.
func keyed(x, by *x509.Certificate) bool {
	return len(x.AuthorityKeyId) > 0 && bytes.Equal(x.AuthorityKeyId, by.SubjectKeyId)
}

func signed(x, by *x509.Certificate, checks *int) bool {
	return bytes.Equal(x.RawIssuer, by.RawSubject) && verifiable(by) && take(checks) && x.CheckSignatureFrom(by) == nil
}

// mayIssue reports whether a certificate can be that of a CA, as CheckSignatureFrom decides.
func mayIssue(x *x509.Certificate) bool {
	ca := x.BasicConstraintsValid && x.IsCA || !x.BasicConstraintsValid && x.Version != 3
	return ca && (x.KeyUsage == 0 || x.KeyUsage&x509.KeyUsageCertSign != 0)
}

// verifiable reports whether a verification with its key takes little time.
func verifiable(x *x509.Certificate) bool {
	key, ok := x.PublicKey.(*rsa.PublicKey)
	return !ok || key.N.BitLen() <= maxRSABits && key.E <= maxRSAExponent
}

// take uses up one check; false if none was left.
func take(checks *int) bool {
	*checks = max(*checks-1, -1)
	return *checks >= 0
}

// Label is the usual name of the certificate: kubeadm's name if it has one, else the path.
func (c Certificate) Label() string {
	row, ok := Lookup(c.Kind)
	switch {
	case c.Served:
		return "served on " + c.Path
	case c.Kind == KindKubeconfigCA:
		return "the CA in " + c.Path + c.place()
	case ok && !strings.Contains(row.Path, "*"):
		return row.Name + c.place()
	default:
		return c.Path + c.place()
	}
}

// place distinguishes later CAs in a file from the first one.
func (c Certificate) place() string {
	if c.Position < 2 {
		return ""
	}
	return fmt.Sprintf(" #%d", c.Position)
}
