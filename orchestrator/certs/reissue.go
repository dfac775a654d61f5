package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// CheckReissue returns why a certificate must not replace that of a CA, as one made again with the
// same key; nil if it may. So that what the old one has signed stays valid, key, subject, byte for
// byte (RFC 5280, 7.1, allows more; Go does not), and key identifier must be the same. It must be
// self-signed and a CA's, with an identifier and the usage to sign certificates, valid at now, and
// have the limits of the old one.
func CheckReissue(old, renewed *x509.Certificate, now time.Time) error {
	switch {
	case !bytes.Equal(old.RawSubjectPublicKeyInfo, renewed.RawSubjectPublicKeyInfo):
		return errors.New("it has another key")
	case !bytes.Equal(old.RawSubject, renewed.RawSubject):
		return fmt.Errorf("its subject is %s, and was %s", renewed.Subject, old.Subject)
	case !bytes.Equal(renewed.RawIssuer, renewed.RawSubject):
		return errors.New("it is not signed by itself")
	case !renewed.BasicConstraintsValid || !renewed.IsCA:
		return errors.New("it does not say that it is a CA (basicConstraints)")
	case old.MaxPathLen != renewed.MaxPathLen || old.MaxPathLenZero != renewed.MaxPathLenZero:
		return errors.New("it limits the length of chains in another way (pathlen)")
	case renewed.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("it may not sign certificates (keyUsage)")
	case len(renewed.SubjectKeyId) == 0:
		return errors.New("it has no subject key identifier")
	case len(old.SubjectKeyId) > 0 && !bytes.Equal(old.SubjectKeyId, renewed.SubjectKeyId):
		return errors.New("it has another subject key identifier, by which certificates name it")
	case len(renewed.AuthorityKeyId) > 0 && !bytes.Equal(renewed.AuthorityKeyId, renewed.SubjectKeyId):
		return errors.New("it names another key as that of its issuer (authorityKeyIdentifier)")
	case now.Before(renewed.NotBefore) || now.After(renewed.NotAfter):
		return fmt.Errorf("it is valid from %s to %s", renewed.NotBefore.UTC().Format(time.RFC3339),
			renewed.NotAfter.UTC().Format(time.RFC3339))
	case !verifiable(renewed):
		return errors.New("its key is too large to be verified")
	}
	if err := renewed.CheckSignatureFrom(renewed); err != nil {
		return fmt.Errorf("its signature: %w", err)
	}
	return nil
}
