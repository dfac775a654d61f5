package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxSigned is how many certificates a file from a CA may hold: a leaf and more CAs than any chain
// has.
const maxSigned = 10

// ParseSigned reads what a CA has returned for a request, in PEM, in any order: one certificate that is
// no CA's, and the CAs that lead from it. It returns that certificate, and after it the CAs in the order
// of the chain, each the issuer of the one before; others, and the self-signed one at the end, are left
// out, since who verifies a certificate has its own (RFC 5246, 7.4.2). The error describes what else is
// in the text: no or too many certificates, two leaves, or something that is no certificate, such as a
// private key.
func ParseSigned(data []byte) ([]*x509.Certificate, error) {
	var leaf *x509.Certificate
	var cas []*x509.Certificate
	for n := 0; ; n++ {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		switch {
		case n == maxSigned:
			return nil, fmt.Errorf("it has more than %d PEM blocks", maxSigned)
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("it has a PEM block %q, and must have certificates only", block.Type)
		}
		x, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, fmt.Errorf("block %d is no X.509 certificate: %w", n+1, err)
		case x.BasicConstraintsValid && x.IsCA:
			cas = append(cas, x)
		case leaf != nil && !leaf.Equal(x):
			return nil, fmt.Errorf("it has certificates for both %q and %q: put each into its own file",
				leaf.Subject, x.Subject)
		default:
			leaf = x
		}
	}
	switch {
	case leaf == nil && len(cas) > 0:
		return nil, errors.New("it has only certificates of CAs")
	case leaf == nil:
		return nil, ErrNoCertificate
	}
	chain, checks := []*x509.Certificate{leaf}, maxSigned*maxSigned
	for {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool {
			return !bytes.Equal(ca.RawIssuer, ca.RawSubject) && signed(last, ca, &checks)
		})
		if i < 0 {
			return chain, nil
		}
		chain = append(chain, cas[i])
		cas = slices.Delete(cas, i, i+1)
	}
}

// CheckSigned returns why what a CA has signed, as ParseSigned returns it, must not replace a certificate;
// nil if it may. It must be for the same key, user, groups, names and usages, as they were requested, be no
// CA's, be valid at now, and not expire before the old one; and Go must verify it. More usages do no harm,
// except for kubelets: who verifies asks for one. What its signature is worth is known only to who has the
// CA.
func CheckSigned(old Certificate, chain []*x509.Certificate, now time.Time) error {
	x := chain[0]
	is := Describe(x)
	switch {
	case is.PublicKey != old.PublicKey:
		return errors.New("it is for another key")
	case x.IsCA:
		return errors.New("it is the certificate of a CA")
	case now.Before(is.NotBefore):
		return fmt.Errorf("it is not valid before %s, and the node's clock is at %s",
			is.NotBefore.Format(time.RFC3339), now.Format(time.RFC3339))
	case now.After(is.NotAfter):
		return fmt.Errorf("it expired at %s", is.NotAfter.Format(time.RFC3339))
	case is.NotAfter.Before(old.NotAfter):
		return fmt.Errorf("it expires at %s, and the one in place later, at %s", is.NotAfter.Format(time.RFC3339),
			old.NotAfter.Format(time.RFC3339))
	case is.CommonName != old.CommonName || !sameWords(is.Organizations, old.Organizations):
		return fmt.Errorf("its subject is %q, and was requested as %q", is.Subject, old.Subject)
	case !sameWords(is.SANs, old.SANs):
		return fmt.Errorf("its names are %s, and were requested as %s", listed(is.SANs), listed(old.SANs))
	case x.KeyUsage != 0 && x.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("it may not sign (keyUsage digitalSignature), which TLS 1.3 needs")
	}
	for _, usage := range old.Usages {
		if !slices.Contains(is.Usages, usage) {
			return fmt.Errorf("it is not for %s, as requested: its usages are %s", usage, listed(is.Usages))
		}
	}
	if row, _ := Lookup(old.Kind); row.Group == GroupKubeletClient && !sameWords(is.Usages, old.Usages) {
		return fmt.Errorf("its usages are %s, and a kubelet's certificate is for client auth only", listed(is.Usages))
	}
	return verifies(old.Usages, chain)
}

// verifies returns why Go, and so the components of Kubernetes, would not verify a chain for usages although
// its signatures are valid (crypto/x509, Certificate.Verify).
func verifies(usages []string, chain []*x509.Certificate) error {
	weak := []x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1,
		x509.ECDSAWithSHA1}
	for i, x := range chain {
		what := "it"
		if i > 0 {
			what = fmt.Sprintf("the CA %q in its file", x.Subject)
		}
		switch {
		case slices.Contains(weak, x.SignatureAlgorithm):
			return fmt.Errorf("%s is signed with %s, which is not trusted any more", what, x.SignatureAlgorithm)
		case len(x.UnhandledCriticalExtensions) > 0:
			return fmt.Errorf("%s has the critical extension %s, which Kubernetes does not know", what,
				x.UnhandledCriticalExtensions[0])
		}
		allowed := Describe(x).Usages
		for _, usage := range usages {
			if i > 0 && len(allowed) > 0 && !slices.Contains(allowed, "any") && !slices.Contains(allowed, usage) {
				return fmt.Errorf("%s may not issue for %s: its usages are %s", what, usage, listed(allowed))
			}
		}
	}
	return nil
}

// sameWords reports whether two lists have the same words, in any order.
func sameWords(a, b []string) bool {
	in := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	return slices.Equal(in(a), in(b))
}

func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// CheckRequest returns why a certificate signing request must not be signed to replace a certificate; nil
// if it may. It must be signed with the certificate's key, and be for the same subject, names and usages,
// byte for byte, and for nothing else. A certificate that is, or may be used as, a CA's, or has names of
// which nothing is known here, has no such request.
func CheckRequest(of *x509.Certificate, r *x509.CertificateRequest) error {
	if err := r.CheckSignature(); err != nil {
		return fmt.Errorf("its signature: %w", err)
	}
	switch {
	case !bytes.Equal(r.RawSubjectPublicKeyInfo, of.RawSubjectPublicKeyInfo):
		return errors.New("it is for another key")
	case !bytes.Equal(r.RawSubject, of.RawSubject):
		return fmt.Errorf("it is for %s, and the certificate for %s", r.Subject, of.Subject)
	case of.IsCA || of.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("its certificate may be used as that of a CA")
	}
	if err := plainNames(of); err != nil {
		return err
	}
	want, err := requestInfo(of)
	if err != nil {
		return err
	}
	if !bytes.Equal(r.RawTBSCertificateRequest, want) {
		return fmt.Errorf("it requests other extensions than the names and usages of the certificate; its names are %s",
			listed(slices.Concat(r.DNSNames, r.EmailAddresses)))
	}
	return nil
}

// plainNames: no SAN is of another type than DNS name, address, email address and URI (RFC 5280,
// 4.2.1.6): the others are not in Certificate.SANs.
func plainNames(x *x509.Certificate) error {
	for _, e := range x.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return errors.New("the names of its certificate cannot be read")
		}
		for _, name := range names {
			if name.Class != asn1.ClassContextSpecific || !slices.Contains([]int{1, 2, 6, 7}, name.Tag) {
				return fmt.Errorf("its certificate has a name of another type ([%d]) than DNS name, address, email "+
					"address and URI", name.Tag)
			}
		}
	}
	return nil
}

// requestInfo is the CertificationRequestInfo (RFC 2986, 4.1) for the subject and key of a certificate,
// with its names and usages as the one attribute, extensionRequest (RFC 2985, 5.4.2).
func requestInfo(of *x509.Certificate) ([]byte, error) {
	var tbs struct { // RFC 5280, 4.1
		Version                   asn1.RawValue `asn1:"optional,explicit,tag:0"`
		Serial, Signature         asn1.RawValue
		Issuer, Validity, Subject asn1.RawValue
		Key                       asn1.RawValue
		IssuerUniqueID            asn1.BitString  `asn1:"optional,tag:1"`
		SubjectUniqueID           asn1.BitString  `asn1:"optional,tag:2"`
		Extensions                []asn1.RawValue `asn1:"optional,explicit,tag:3"`
	}
	if _, err := asn1.Unmarshal(of.RawTBSCertificate, &tbs); err != nil {
		return nil, fmt.Errorf("its certificate cannot be read: %w", err)
	}
	var wanted []byte
	for _, e := range tbs.Extensions {
		var id asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(e.Bytes, &id); err != nil {
			return nil, fmt.Errorf("an extension of its certificate cannot be read: %w", err)
		}
		if id.Equal(oidSubjectAltName) || id.Equal(oidKeyUsage) || id.Equal(oidExtKeyUsage) {
			wanted = append(wanted, e.FullBytes...)
		}
	}
	// wrapped is an element of DER around others.
	wrapped := func(class, tag int, content ...[]byte) []byte {
		value := asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: slices.Concat(content...)}
		der, err := asn1.Marshal(value)
		if err != nil {
			panic(err) // a RawValue is marshaled as it is
		}
		return der
	}
	var attributes []byte
	if len(wanted) > 0 {
		extensions := wrapped(asn1.ClassUniversal, asn1.TagSequence, wanted)
		attributes = wrapped(asn1.ClassUniversal, asn1.TagSequence, oidExtensionRequest,
			wrapped(asn1.ClassUniversal, asn1.TagSet, extensions))
	}
	version := []byte{asn1.TagInteger, 1, 0}
	return wrapped(asn1.ClassUniversal, asn1.TagSequence, version, of.RawSubject, of.RawSubjectPublicKeyInfo,
		wrapped(asn1.ClassContextSpecific, 0, attributes)), nil
}

// Those of RFC 5280, 4.2.1.
var (
	oidKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	// oidExtensionRequest is 1.2.840.113549.1.9.14 in DER.
	oidExtensionRequest = []byte{asn1.TagOID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14}
)
