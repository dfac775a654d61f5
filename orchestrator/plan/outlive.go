package plan

import (
	"fmt"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// newLife is the lifetime of a new leaf: kubeadm and kube-controller-manager give a year.
const newLife = 365 * 24 * time.Hour

// LongestRenewBefore is the longest Thresholds.RenewBefore with which a new certificate is not due at once.
const LongestRenewBefore = newLife - 24*time.Hour

// outlived warns of each CA that expires before what a plan makes it sign: that is renewed again
// before, or not trusted.
func outlived(s snapshot.Snapshot, d diagnosis.Diagnosis, steps []Step) []string {
	var out []string
	reported := map[certs.Authority]bool{}
	for _, n := range s.Nodes {
		if !issued(steps, n.Name, IssuesEtcd, IssuesKubeadm, IssuesKubelet) {
			continue
		}
		for _, kind := range d.Due[n.Name] {
			row, _ := certs.Lookup(kind)
			ca, node, ok := issuer(s, row.Signer)
			if !ok || reported[row.Signer] || !ca.NotAfter.Before(n.Clock.Add(newLife)) {
				continue
			}
			reported[row.Signer] = true
			out = append(out, fmt.Sprintf(
				"%s on %s expires at %s, before what it signs now would: nothing that it signed is trusted after "+
					"that; to issue it again with its own key: %s",
				ca.Path, node, ca.NotAfter.Format(time.RFC3339), diagnosis.RenewCA))
		}
	}
	return out
}

// issuer is the certificate of the CA that would sign, and the node with its key: of several the
// one that expires last.
func issuer(s snapshot.Snapshot, by certs.Authority) (ca certs.Certificate, node string, ok bool) {
	for _, n := range s.Nodes {
		for _, c := range n.Certificates {
			row, _ := certs.Lookup(c.Kind)
			if row.CA && row.Authority == by && !c.Served && c.Key == certs.KeyMatches && !s.Unused(n, c) &&
				c.NotAfter.After(ca.NotAfter) {
				ca, node, ok = c, n.Name, true
			}
		}
	}
	return ca, node, ok
}
