package expire

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"time"
)

// A CA can sign leaves again.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// ParseCA reads a CA from its PEM files.
func ParseCA(certPEM, keyPEM []byte) (CA, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return CA{}, errors.New("no certificate in the CA file")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return CA{}, fmt.Errorf("reading the CA certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return CA{}, fmt.Errorf("reading the key of CA %s: %w", cert.Subject, err)
	}
	return CA{cert, key}, nil
}

func parseKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("unknown kind of private key: %w", err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T can't sign", k)
	}
	return signer, nil
}

// Resigner issues certificates again with other dates and nothing else new but
// the serial number: same key, subject, names, usages and issuer. Expired
// certificates are so as they would be if the time had really passed.
type Resigner struct {
	CAs                 []CA
	NotBefore, NotAfter time.Time
	// done maps a certificate to its successor, so that copies of one
	// certificate on several nodes stay copies.
	done map[[sha256.Size]byte][]byte
}

// errUnknownIssuer is returned for a leaf none of the CAs has signed.
var errUnknownIssuer = errors.New("not issued by any of the cluster's CAs")

// Certificate returns the successor of a DER certificate.
func (r *Resigner) Certificate(der []byte) ([]byte, error) {
	sum := sha256.Sum256(der)
	if out, ok := r.done[sum]; ok {
		return out, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	for _, ca := range r.CAs {
		if cert.CheckSignatureFrom(ca.Cert) != nil {
			continue
		}
		out, err := r.sign(cert, ca)
		if err != nil {
			return nil, err
		}
		if r.done == nil {
			r.done = map[[sha256.Size]byte][]byte{}
		}
		r.done[sum] = out
		return out, nil
	}
	return nil, fmt.Errorf("certificate %q of issuer %q: %w", cert.Subject, cert.Issuer, errUnknownIssuer)
}

func (r *Resigner) sign(cert *x509.Certificate, ca CA) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	next := *cert
	next.SerialNumber = serial
	next.NotBefore, next.NotAfter = r.NotBefore, r.NotAfter
	next.SignatureAlgorithm = 0 // the CA key's, whatever signed before
	next.ExtraExtensions = nil
	out, err := x509.CreateCertificate(rand.Reader, &next, ca.Cert, cert.PublicKey, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("signing %q: %w", cert.Subject, err)
	}
	return out, nil
}

// PEM re-signs the leaves of a PEM file. Keys and CA certificates in it are
// kept byte for byte.
func (r *Resigner) PEM(data []byte) ([]byte, error) {
	var out bytes.Buffer
	found := false
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			if !cert.IsCA {
				if block.Bytes, err = r.Certificate(block.Bytes); err != nil {
					return nil, err
				}
				found = true
			}
		}
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, errors.New("no leaf certificate in it")
	}
	return out.Bytes(), nil
}

var clientCertificateData = regexp.MustCompile(`(client-certificate-data:[ \t]*)([A-Za-z0-9+/=]+)`)

// Kubeconfig re-signs the client certificates embedded in a kubeconfig. One
// that refers to files has none, and is returned as it is.
func (r *Resigner) Kubeconfig(data []byte) ([]byte, error) {
	var failed error
	out := clientCertificateData.ReplaceAllFunc(data, func(match []byte) []byte {
		parts := clientCertificateData.FindSubmatch(match)
		inner, err := base64.StdEncoding.DecodeString(string(parts[2]))
		if err == nil {
			inner, err = r.PEM(inner)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			return match
		}
		return append(bytes.Clone(parts[1]), base64.StdEncoding.EncodeToString(inner)...)
	})
	return out, failed
}

// SelfIssued re-signs a chain whose CA's key does not exist, like the kubelet's own serving
// certificate: it makes another CA of the same name for it.
func (r *Resigner) SelfIssued(data []byte) ([]byte, error) {
	var leaf, issuer *x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if leaf == nil {
			leaf = cert
		} else if issuer == nil {
			issuer = cert
		}
	}
	if leaf == nil || issuer == nil {
		return nil, errors.New("not a leaf with its issuer")
	}
	var key crypto.Signer
	var err error
	if _, ok := issuer.PublicKey.(*ecdsa.PublicKey); ok {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return nil, err
	}
	next := *issuer
	next.NotBefore, next.NotAfter, next.SignatureAlgorithm = r.NotBefore, r.NotAfter, 0
	next.PublicKey, next.SubjectKeyId, next.AuthorityKeyId = key.Public(), nil, nil
	der, err := x509.CreateCertificate(rand.Reader, &next, &next, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	signed, err := r.sign(leaf, CA{root, key})
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}
