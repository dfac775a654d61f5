package orchestrator

import (
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// An inspection of some nodes leaves the others as last seen; one that was asked and did not answer
// is now unknown.
func TestLookAtSomeNodes(t *testing.T) {
	t.Parallel()
	s := &session{cluster: tc.Single(), latest: tc.Healthy(tc.Single())}
	worker, _ := s.latest.Node("w1")
	before := s.latest.Taken
	for _, row := range []struct {
		asked []string
		// failed are the nodes without an answer.
		failed map[string]bool
	}{
		{[]string{"cp1"}, map[string]bool{"cp1": true}},
		{[]string{"cp1", "w1"}, map[string]bool{"cp1": true, "w1": true}},
		{nil, map[string]bool{"cp1": true, "w1": true}},
	} {
		got := s.assemble(t.Context(), time.Now(), ansible.Outcome{}, nil, row.asked)
		for _, n := range got.Nodes {
			if failed := n.Failure != nil && n.Failure.Kind == snapshot.Missing; failed != row.failed[n.Name] {
				t.Errorf("%v were asked: %s has failed: %t", row.asked, n.Name, failed)
			} else if !failed && !n.Clock.Equal(worker.Clock) {
				t.Errorf("%v were asked: %s is as of %s, want %s", row.asked, n.Name, n.Clock, worker.Clock)
			}
			if at := got.Asked(n); at.Equal(before) == row.failed[n.Name] || row.failed[n.Name] && !at.Equal(got.Taken) {
				t.Errorf("%v were asked: %s was at %s", row.asked, n.Name, at)
			}
		}
	}
}

// A snapshot of some nodes does not satisfy checks that need others.
func TestCovers(t *testing.T) {
	t.Parallel()
	s := &session{asked: []string{"cp1", "w1"}}
	for _, row := range []struct {
		nodes []string
		want  bool
	}{{nil, true}, {[]string{"w1"}, true}, {[]string{"w1", "cp1"}, true}, {[]string{"cp1", "cp2"}, false}} {
		if got := s.covers(row.nodes); got != row.want {
			t.Errorf("%s: %t, want %t", row.nodes, got, row.want)
		}
	}
}
