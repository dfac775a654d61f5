package orchestrator

import (
	"slices"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A node that cannot be reached is left out if it is named, from the first inspection on, and no other
// once the plan is carried out: its lock is on the first control plane that is left.
func TestLeaveOut(t *testing.T) {
	t.Parallel()
	down := func(names string) snapshot.Snapshot {
		return tc.Healthy(tc.HA(), tc.On(names, tc.Unknown(snapshot.Unreachable, "No route to host")))
	}
	s := &session{Orchestrator: &Orchestrator{opts: Options{AllowUnreachable: []string{"cp1", "w1"}}}, cluster: tc.HA()}
	first := s.leaveOut(down("cp1,cp3"))
	if got := cluster.Names(s.cluster.Nodes); !slices.Equal(got, []string{"cp2", "cp3", "w1"}) || s.lockNode() != "cp2" {
		t.Errorf("left are %v, the lock is on %s", got, s.lockNode())
	}
	if n, ok := first.Node("cp3"); !ok || n.Failure == nil || len(first.Gone) != 1 || first.Gone[0].Name != "cp1" {
		t.Errorf("not named, and left out: %+v", first.Gone)
	}
	s.settled = true
	later := tc.Healthy(s.cluster, tc.On("w1", tc.Unknown(snapshot.Unreachable, "No route to host")))
	if got := s.leaveOut(later); len(got.Gone) != 1 || len(got.Nodes) != 3 {
		t.Errorf("left out while the plan is carried out: %v", got.Gone)
	}

	// Another session that resumes it leaves out the same.
	again := &session{Orchestrator: &Orchestrator{}, cluster: tc.HA()}
	again.leaveOutAsPlanned(work{Proposal: run.Proposal{Snapshot: first}})
	if got := cluster.Names(again.cluster.Nodes); !slices.Equal(got, []string{"cp2", "cp3", "w1"}) || !again.settled {
		t.Errorf("a run that is resumed has %v", got)
	}
}
