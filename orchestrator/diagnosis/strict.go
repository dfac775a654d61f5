package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// strict are the CAs whose certificates are verified by programs of any kind, in pods and of users:
// of the API server, of kubelets, of the front proxy. All others are verified by components of
// Kubernetes and by etcd, which are never strict: so Kubespray's CA of etcd, which openssl makes
// without key usage, is no finding.
var strict = []struct {
	kind   certs.Kind
	groups []certs.Group
}{
	{certs.KindCA, []certs.Group{certs.GroupServing, certs.GroupKubeletServing}},
	{certs.KindFrontProxyCA, []certs.Group{certs.GroupFrontProxy}},
}

// checkStrictness: strict clients accept a CA and what it signed. Once for each CA, whatever it has
// signed and wherever it is.
func (d *Diagnosis) checkStrictness(s snapshot.Snapshot) {
	for _, row := range strict {
		stated := map[string]bool{}
		for _, n := range append(s.With(cluster.ControlPlane), s.Nodes...) {
			for _, ca := range bundleOf(n, row.kind) {
				if stated[ca.SignsAs()] || s.Unused(n, ca) {
					continue
				}
				stated[ca.SignsAs()] = true
				var lacks []string
				if len(ca.NotStrict) > 0 {
					lacks = append(lacks, ca.Path+" has no "+strings.Join(ca.NotStrict, ", no "))
				}
				if leaves := notStrict(s, ca, row.groups); len(leaves) > 0 {
					lacks = append(lacks, "no "+certs.LacksAuthorityKeyID+" is in "+some(leaves))
				}
				if len(lacks) > 0 {
					d.add(AuthorityNotStrict, n.Name, ca.Label(), strings.Join(lacks, "; "))
				}
			}
		}
	}
}

// notStrict are the leaves of a CA without the identifier of its key.
func notStrict(s snapshot.Snapshot, ca certs.Certificate, groups []certs.Group) []string {
	var out []string
	for _, n := range s.Nodes {
		for _, c := range n.Certificates {
			row, _ := certs.Lookup(c.Kind)
			if !c.Served && slices.Contains(groups, row.Group) &&
				slices.Contains(c.NotStrict, certs.LacksAuthorityKeyID) &&
				slices.Contains(c.Signers, ca.SignsAs()) && !s.Unused(n, c) {
				out = append(out, fmt.Sprintf("%s of %s", c.Label(), n.Name))
			}
		}
	}
	return out
}
