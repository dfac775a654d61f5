package snapshot

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// Secret is a certificate that Secrets of the cluster hold, next to its key, which stays there.
type Secret struct {
	// In are the Secrets, each as "namespace/name".
	In []string `json:"in"`
	// Certificate is nil if it cannot be read.
	Certificate *certs.Certificate `json:"certificate,omitempty"`
	// Unreadable is why.
	Unreadable string `json:"unreadable,omitempty"`
}

// ResultSecrets is the name of the result of reading Secrets; there is none if they were not asked
// for.
const ResultSecrets = "secrets"

// Place describes where it is.
func (s Secret) Place() string { return "Secret " + cluster.Some(s.In, 5) }

// secretName is a name as the API server has them.
var secretName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9.-]{0,252}$`)

// ofCalico are the Secrets of Calico's Typha and API server that are made once, by Kubespray or by
// hand.
var ofCalico = []string{
	"kube-system/typha-server", "kube-system/typha-client", "calico-apiserver/calico-apiserver-certs",
}

// RenewedByOthers reports whether something in the cluster renews it, as a rule.
func (s Secret) RenewedByOthers() bool {
	return !slices.ContainsFunc(s.In, func(name string) bool { return slices.Contains(ofCalico, name) })
}

// readSecret: names, with the certificates.
func readSecret(n *reading, f []string, text []byte) error {
	s := Secret{In: strings.Fields(f[0])}
	for _, name := range s.In {
		if !secretName.MatchString(name) {
			return fmt.Errorf("not a name of a Secret: %.100q", name)
		}
	}
	if len(s.In) == 0 {
		return errors.New("a Secret without a name")
	}
	chain, unreadable := bundle(text, &n.secrets, maxCertificates)
	s.Unreadable = unreadable
	if len(chain) > 0 {
		c := describe(certs.Certificate{Kind: certs.KindSecret, Path: s.Place()}, chain)
		s.Certificate = &c
	}
	n.Secrets = append(n.Secrets, s)
	return nil
}
