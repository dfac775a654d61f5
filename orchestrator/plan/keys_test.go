package plan_test

import (
	"slices"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// kubeadm makes new keys by its configuration, whatever the old ones were: the plan notes a change.
func TestPlanTellsOfNewKeyAlgorithms(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, old, config, want string }{
		{"no one says", "RSA 2048", "", ""},
		{"as it was", "ECDSA P-256", "ECDSA-P256", ""},
		{"not known", "", "", ""},
		{"the default", "ECDSA P-256", "", "new keys are RSA 2048, as kubeadm's configuration has it, and were ECDSA P-256 (cp1 apiserver, cp1 admin.conf)"},
		{"another length", "RSA 2048", "RSA-4096", "new keys are RSA 4096, as kubeadm's configuration has it, and were RSA 2048 (cp1 apiserver, cp1 admin.conf)"},
		{"another kind", "RSA 2048", "ECDSA-P256", "new keys are ECDSA P-256, as kubeadm's configuration has it, and were RSA 2048 (cp1 apiserver, cp1 admin.conf)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), due, tc.On("cp1", func(n *snapshot.Node) {
				n.Kubeadm = &snapshot.KubeadmConfig{EncryptionAlgorithm: row.config}
				for i := range n.Certificates {
					n.Certificates[i].KeyAlgorithm = row.old
				}
			}))
			p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{Choice: plan.Auto})
			if reported := slices.Contains(p.Notes, row.want); err != nil || reported != (row.want != "") {
				t.Errorf("%v: %q, want %q", err, p.Notes, row.want)
			}
			if row.want == "" && slices.ContainsFunc(p.Notes, func(n string) bool { return len(n) > 8 && n[:8] == "new keys" }) {
				t.Errorf("%q", p.Notes)
			}
		})
	}
}
