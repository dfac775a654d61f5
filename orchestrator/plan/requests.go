package plan

import (
	"fmt"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// RequestsFile is the index of the requests in their directory.
const RequestsFile = "requests.json"

// Request is a request for one certificate, as its CA has to sign it.
type Request struct {
	Node string `json:"node"`
	// Files of the node that hold the certificate, the first of which names it.
	Files []string `json:"files"`
	// Kind is its purpose.
	Kind certs.Kind `json:"kind"`
	// Request is the file with the request, and Certificate the one in which "ca install" expects the
	// certificate: both below the directory.
	Request     string `json:"request"`
	Certificate string `json:"certificate"`
	// Subject, SANs and Usages are those of the certificate, which the new one must have, too.
	Subject string   `json:"subject"`
	SANs    []string `json:"sans,omitempty"`
	Usages  []string `json:"usages,omitempty"`
	// CA must sign it; CAFile is its certificate on a control plane, or on a node of etcd, CASubject and
	// CAFingerprint (SHA-256, hexadecimal) are of that.
	CA            certs.Authority `json:"ca"`
	CAFile        string          `json:"caFile,omitempty"`
	CASubject     string          `json:"caSubject,omitempty"`
	CAFingerprint string          `json:"caFingerprint,omitempty"`
	// PublicKey is the SHA-256 of the SubjectPublicKeyInfo, hexadecimal, and KeyAlgorithm its kind.
	PublicKey    string `json:"publicKey"`
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// Fingerprint is that of the present certificate (SHA-256, hexadecimal).
	Fingerprint string `json:"fingerprint"`
	// NotAfter is when the present certificate expires.
	NotAfter time.Time `json:"notAfter"`
}

// Requests are the requests of a cluster: the content of RequestsFile.
type Requests struct {
	Schema int `json:"schema"`
	// Made is by the clock of the control node.
	Made time.Time `json:"made"`
	// Cluster identifies the cluster as run.ClusterID does.
	Cluster  string    `json:"cluster"`
	Requests []Request `json:"requests"`
	// Missing are the certificates that are due, or may be, and for which there is no request.
	Missing []Missing `json:"missing,omitempty"`
}

// Missing is a certificate for which there is no request.
type Missing struct {
	Node string `json:"node"`
	// File holds the certificate; absent if nothing is known of the node.
	File string `json:"file,omitempty"`
	// Reason is in words, which may be the node's.
	Reason string `json:"reason"`
}

// String is a line about it.
func (m Missing) String() string {
	if m.File == "" {
		return fmt.Sprintf("%s: nothing is requested: %s", m.Node, m.Reason)
	}
	return fmt.Sprintf("%s: %s is due and is not requested: %s", m.Node, m.File, m.Reason)
}

// RequestsSchema is the version of the JSON form of Requests.
const RequestsSchema = 1
