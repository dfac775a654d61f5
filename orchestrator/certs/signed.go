package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
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

// CheckSigned returns why what a CA has signed must not replace a certificate; nil if it may. It must
// be for the same key, user, groups, names and usages, as they were requested, be no CA's, be valid at
// now, and not expire before the old one. More usages do no harm, except for kubelets: who verifies asks
// for one. What its signature is worth is known only to who has the CA.
func CheckSigned(old Certificate, x *x509.Certificate, now time.Time) error {
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

// DescribeRequest returns what a certificate signing request asks for: subject, key, names and usages,
// as Describe has them. The error is that its signature, which proves that the key is at hand, is not
// valid, or that its extensions cannot be read.
func DescribeRequest(r *x509.CertificateRequest) (Certificate, error) {
	if err := r.CheckSignature(); err != nil {
		return Certificate{}, fmt.Errorf("its signature: %w", err)
	}
	x := &x509.Certificate{Subject: r.Subject, RawSubjectPublicKeyInfo: r.RawSubjectPublicKeyInfo,
		PublicKey: r.PublicKey, PublicKeyAlgorithm: r.PublicKeyAlgorithm, SerialNumber: new(big.Int),
		DNSNames: r.DNSNames, IPAddresses: r.IPAddresses, EmailAddresses: r.EmailAddresses, URIs: r.URIs}
	for _, e := range r.Extensions {
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		var usages []asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(e.Value, &usages); err != nil {
			return Certificate{}, fmt.Errorf("its usages: %w", err)
		}
		for _, usage := range usages {
			switch {
			case usage.Equal(oidServerAuth):
				x.ExtKeyUsage = append(x.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
			case usage.Equal(oidClientAuth):
				x.ExtKeyUsage = append(x.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
			default:
				x.UnknownExtKeyUsage = append(x.UnknownExtKeyUsage, usage)
			}
		}
	}
	return Describe(x), nil
}

// Those of RFC 5280, 4.2.1.12.
var (
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidServerAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)
