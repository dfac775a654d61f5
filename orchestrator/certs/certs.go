// Package certs knows what a certificate of a Kubespray cluster is: where it
// lies, what it is for, which authority signs it and when it is due.
//
// It parses PEM and reads nothing but what it is given.
package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Certificate is one X.509 certificate found on a node.
type Certificate struct {
	// Kind says what it is for; KindUnknown for a file that no row of the table names.
	Kind Kind `json:"kind"`
	// Path is the file it came from, or "address:port" for a served one.
	Path string `json:"path"`
	// Served is true for a certificate that a port presented in its handshake.
	Served bool `json:"served,omitempty"`

	Subject      string    `json:"subject"`
	Issuer       string    `json:"issuer"`
	SerialNumber string    `json:"serialNumber"` // hexadecimal
	SANs         []string  `json:"sans,omitempty"`
	NotBefore    time.Time `json:"notBefore"`
	NotAfter     time.Time `json:"notAfter"`
	IsCA         bool      `json:"isCA,omitempty"`
	// Fingerprint is the SHA-256 of the DER encoding, hexadecimal.
	Fingerprint string `json:"fingerprint"`
	// PublicKey is the SHA-256 of the SubjectPublicKeyInfo, hexadecimal: equal for
	// a certificate and its key, and for a renewal that kept the key.
	PublicKey string `json:"publicKey,omitempty"`
	// KeyAlgorithm as in "RSA 2048" or "ECDSA P-256".
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// Usages are the extended key usages: "server auth", "client auth".
	Usages []string `json:"usages,omitempty"`
	// SignedBy is the authority whose key really signed it, by verified signature;
	// empty when none of the authorities on its node did.
	SignedBy Authority `json:"signedBy,omitempty"`
	// Key tells whether the private key beside it is its own.
	Key KeyState `json:"key,omitempty"`
	// File is the owner and mode of the file; nil for a served certificate.
	File *File `json:"file,omitempty"`
}

// KeyState tells what is known of a certificate's private key. The key itself
// never leaves its node: only a digest of its public half does.
type KeyState string

// The states of a private key; empty where no key belongs beside the
// certificate or none was looked for.
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

// StatusAt tells the state at time t; a certificate is expiring when it ends
// within the given duration after t (RFC 5280, section 4.1.2.5: both ends of
// the validity period belong to it).
func (c Certificate) StatusAt(t time.Time, within time.Duration) Status {
	switch {
	case t.After(c.NotAfter):
		return Expired
	case t.Before(c.NotBefore):
		return NotYetValid
	case t.Add(within).After(c.NotAfter):
		return Expiring
	default:
		return Valid
	}
}

// ErrNoCertificate says that a PEM text held no certificate block.
var ErrNoCertificate = errors.New("no PEM certificate block")

// ParsePEM returns the first certificate of a PEM text: in every file of the
// table the first block is the node's own, intermediates follow.
func ParsePEM(data []byte) (Certificate, error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return Certificate{}, ErrNoCertificate
		}
		if block.Type == "CERTIFICATE" {
			return ParseDER(block.Bytes)
		}
		data = rest
	}
}

// ParseDER describes one DER-encoded certificate. Kind and Path are left empty.
func ParseDER(der []byte) (Certificate, error) {
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("parsing X.509: %w", err)
	}
	sum := sha256.Sum256(x.Raw)
	c := Certificate{
		Subject:      x.Subject.String(),
		Issuer:       x.Issuer.String(),
		SerialNumber: x.SerialNumber.Text(16),
		NotBefore:    x.NotBefore.UTC(),
		NotAfter:     x.NotAfter.UTC(),
		IsCA:         x.IsCA,
		Fingerprint:  hex.EncodeToString(sum[:]),
	}
	c.SANs = append(c.SANs, x.DNSNames...)
	for _, ip := range x.IPAddresses {
		c.SANs = append(c.SANs, ip.String())
	}
	return c, nil
}

// Label is how people name the certificate: kubeadm's name where it has one,
// else the path.
func (c Certificate) Label() string {
	row, ok := Lookup(c.Kind)
	switch {
	case c.Served:
		return "served on " + c.Path
	case ok && !strings.Contains(row.Path, "*"):
		return row.Name
	default:
		return c.Path
	}
}
