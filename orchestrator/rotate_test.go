package orchestrator

import (
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// No rollback restores the key of a CA that another one has replaced.
func TestNoRollbackOfAnotherKey(t *testing.T) {
	t.Parallel()
	was := tc.Healthy(tc.HA())
	now := tc.Healthy(tc.HA(), tc.On("cp2", func(n *snapshot.Node) { n.Digests[tc.PKI+"/front-proxy-ca.key"] = "another" }))
	if err := otherKey("r", was, was); err != nil {
		t.Error(err)
	}
	if err := otherKey("r", was, now); Code(err) != ExitNotBegun || !strings.Contains(err.Error(), "front-proxy-ca.key on cp2") {
		t.Errorf("%v", err)
	}
}

// A cluster is the same one through all stages of the rotation of its CA, also to a run that drops the
// former one.
func TestRotatedClusterIsTheSame(t *testing.T) {
	t.Parallel()
	at := func(stages int) snapshot.Snapshot {
		return tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, stages),
			func(n *snapshot.Node) { // the next one is younger
				for i := range n.Certificates {
					if c := &n.Certificates[i]; c.Kind == certs.KindCA && strings.HasSuffix(c.Fingerprint, tc.Next) {
						c.NotBefore = tc.Now
					}
				}
			}))
	}
	id := run.ClusterID(at(0))
	for stages := range 5 {
		if is := run.ClusterID(at(stages)); is != id {
			t.Errorf("after %d stages it is %s", stages, is)
		}
	}
	s := at(4)
	p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: []plan.CA{plan.ClusterCA}, RotateStage: diagnosis.StageDrop})
	if err != nil {
		t.Fatal(err)
	}
	drop := run.Proposal{Cluster: id, Plan: p, Snapshot: s}
	if run.ClusterID(at(5)) == id || !drop.Is(at(4)) || !drop.Is(at(5)) {
		t.Error("a run that drops the former CA does not recognize its cluster")
	}
	if drop.Plan.Steps = nil; drop.Is(at(5)) {
		t.Error("any run takes it for the same cluster")
	}
	if other := tc.Healthy(tc.HA(), tc.Everywhere(tc.Bundle(certs.KindCA, "other", "other"))); drop.Is(other) {
		t.Error("another cluster is taken for the same")
	}
}

// A stage is not rolled back under a later one.
func TestNoRollbackUnderALaterStage(t *testing.T) {
	t.Parallel()
	at := func(stages int) snapshot.Snapshot {
		return tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, stages)))
	}
	of := func(stage diagnosis.Stage) plan.Plan {
		return plan.Plan{Steps: []plan.Step{{Action: plan.CARotate, Stage: stage, Authorities: []certs.Authority{certs.KubernetesCA}}}}
	}
	for _, row := range []struct {
		stage   diagnosis.Stage
		now     int
		refused bool
	}{
		{diagnosis.StageMake, 1, false}, {diagnosis.StageMake, 2, true}, {diagnosis.StageTrust, 2, false},
		{diagnosis.StageTrust, 3, true}, {diagnosis.StageClients, 3, false},
	} {
		if err := laterStage("r", of(row.stage), at(row.now)); (err != nil) != row.refused || err != nil && Code(err) != ExitNotBegun {
			t.Errorf("%s when %d stages are taken: %v", row.stage, row.now, err)
		}
	}
}

// A cluster whose CA was replaced at once is known by its service account key, to the run that does it and
// to the one that takes it back.
func TestReplacedClusterIsTheSame(t *testing.T) {
	t.Parallel()
	keyed := func(key string) tc.Edit {
		return tc.On("cp1,cp2,cp3", func(n *snapshot.Node) { n.Digests[tc.PKI+"/sa.pub"] = key })
	}
	before := tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt")), keyed("own"))
	after := tc.Healthy(tc.HA(), tc.Everywhere(tc.Bundle(certs.KindCA, "other", "other")), keyed("own"))
	strange := tc.Healthy(tc.HA(), tc.Everywhere(tc.Bundle(certs.KindCA, "other", "other")), keyed("strange"))
	d := diagnosis.Diagnose(before, diagnosis.DefaultThresholds())
	p, err := plan.Make(tc.HA(), before, d, plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: diagnosis.StageReplace})
	if err != nil {
		t.Fatal(err)
	}
	back, err := plan.Rollback(tc.HA(), plan.Undo{Run: "r", Plan: p, Touched: []string{"cp1", "w1"}, Before: before, Diagnosis: d, Published: true, Now: tc.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []run.Proposal{{Cluster: run.ClusterID(before), Plan: p, Snapshot: before}, {Cluster: run.ClusterID(before), Plan: back, Snapshot: after}} {
		if !of.Is(before) || !of.Is(after) || of.Is(strange) {
			t.Errorf("its own cluster: %t, %t; another: %t", of.Is(before), of.Is(after), of.Is(strange))
		}
	}
}
