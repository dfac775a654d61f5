package plan_test

import (
	"slices"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Whatever CAs a cluster is between, what is due is renewed, and no CA is touched.
func TestDueIsRenewedBetweenCAs(t *testing.T) {
	t.Parallel()
	const next = "next"
	trusting := func(issuing string, variants ...string) tc.NodeEdit {
		return func(n *snapshot.Node) {
			tc.Bundle(certs.KindCA, issuing, variants...)(n)
			tc.Trusting("", variants...)(n)
		}
	}
	signedBy := func(name, above string) tc.NodeEdit { // a CA whose certificate another one has signed
		return func(n *snapshot.Node) {
			edit := func(all []certs.Certificate) {
				for i := range all {
					if all[i].Fingerprint == tc.CA(certs.KindCA, name).Fingerprint {
						all[i].Issuer, all[i].SignedBy = "CN="+above, certs.KubernetesCA
						all[i].Signers = []string{tc.CA(certs.KindCA, above).SignsAs()}
					}
				}
			}
			edit(n.Certificates)
			for _, k := range n.Kubeconfigs {
				edit(k.CAs)
			}
		}
	}
	for name, edits := range map[string][]tc.Edit{
		"a bundle, the old CA first":                                 {tc.Everywhere(trusting("", "", next))},
		"a bundle, the new CA first":                                 {tc.Everywhere(trusting(next, next, ""))},
		"a CA issued again on some control planes only":              {tc.On("cp2", tc.Bundle(certs.KindCA, tc.Again, tc.Again))},
		"a CA issued again on the control planes only":               {tc.On("cp1,cp2,cp3", trusting(tc.Again, tc.Again))},
		"a CA issued again, and kubeconfigs with the former one":     {tc.Everywhere(tc.Bundle(certs.KindCA, tc.Again, tc.Again))},
		"an intermediate CA":                                         {tc.Everywhere(signedBy("", "root"))},
		"two CAs with one name on control planes, one on the worker": {tc.On("cp1,cp2,cp3", trusting("", "", next))},
		"a CA that the former one has signed, too":                   {tc.Everywhere(trusting("", "", next), signedBy(next, ""))},
		"a CA that expires first":                                    {tc.Everywhere(tc.EndsIn(100*tc.Day, certs.KindCA))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tc.HA()
			s := tc.Healthy(c, append(edits, tc.On("cp1,cp2", tc.EndsIn(tc.Day, certs.KindAdmin, certs.KindAPIServer)))...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(c, s, d, plan.Policy{})
			if err != nil || p.Route != diagnosis.Renew {
				t.Fatalf("%v, route %s, because of %v", err, p.Route, d.Findings)
			}
			var renewed []string
			for _, step := range p.Steps {
				if step.Action == plan.Renew {
					renewed = append(renewed, step.Nodes...)
				}
			}
			if !slices.Equal(renewed, []string{"cp1", "cp2"}) || len(p.Authorities()) > 0 {
				t.Errorf("renewed on %v, CAs %v", renewed, p.Authorities())
			}
		})
	}
}
