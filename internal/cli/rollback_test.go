package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator"
)

// --yes approves the plan, but not the loss of what others have changed: that needs a flag of its
// own, or an operator who has seen it.
func TestRollbackAsksForWhatIsLost(t *testing.T) {
	t.Parallel()
	changed := []orchestrator.Difference{{Node: "cp1", Path: "/etc/kubernetes/admin.conf", What: "has changed"}}
	for _, row := range []struct {
		name      string
		typed     string
		yes, lose bool
		changed   []orchestrator.Difference
		want      bool
		code      orchestrator.ExitCode
	}{
		{"nothing is lost", "", true, false, nil, true, 0},
		{"something is lost", "", true, false, changed, false, orchestrator.ExitNotApproved},
		{"something may be lost", "", true, true, changed, true, 0},
		{"someone has seen it", "yes\n", false, false, changed, true, 0},
		{"someone has seen it, and does not want it", "no\n", false, false, changed, false, 0},
		{"a flag that is no yes", "no\n", false, true, changed, false, 0},
	} {
		s := Streams{In: strings.NewReader(row.typed), Out: io.Discard, Err: io.Discard, Terminal: row.typed != ""}
		ok, err := undoer(s, row.yes, row.lose)(t.Context(), orchestrator.Proposal{TakenBack: row.changed})
		if ok != row.want || (err != nil) != (row.code != 0) || err != nil && orchestrator.Code(err) != row.code {
			t.Errorf("%s: %t, %v", row.name, ok, err)
		}
	}
}
