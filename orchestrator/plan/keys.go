package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// kubeadmDefault is the algorithm of new keys if the configuration names none (Kubernetes,
// cmd/kubeadm/app/apis/kubeadm/v1beta4, EncryptionAlgorithm).
const kubeadmDefault = "RSA-2048"

// newKeys lists certificates whose new key has another algorithm than the old one: kubeadm uses
// that of its configuration.
func newKeys(d diagnosis.Diagnosis, s snapshot.Snapshot, steps []Step) []string {
	var changes grouped
	for _, n := range s.Nodes {
		if n.Kubeadm == nil || !issued(steps, n.Name, IssuesKubeadm) {
			continue
		}
		name := cmp.Or(n.Kubeadm.EncryptionAlgorithm, kubeadmDefault)
		algorithm := strings.Replace(strings.Replace(name, "-", " ", 1), "ECDSA P", "ECDSA P-", 1)
		for _, k := range d.Due[n.Name] {
			row, _ := certs.Lookup(k)
			c, ok := n.Certificate(k)
			byKubeadm := row.Base == certs.PKI || row.Base == certs.Config
			if ok && byKubeadm && !slices.Contains([]string{"", algorithm}, c.KeyAlgorithm) {
				changes.add(fmt.Sprintf("new keys are %s, as kubeadm's configuration has it, and were %s", algorithm,
					c.KeyAlgorithm), n.Name+" "+row.Name)
			}
		}
	}
	var out []string
	for what, where := range changes.all {
		out = append(out, fmt.Sprintf("%s (%s)", what, where))
	}
	return out
}
