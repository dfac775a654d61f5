package cli

import (
	"errors"
	"testing"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// An error about the newest run names the one before it that can be used, and takes no other for it.
func TestInstead(t *testing.T) {
	t.Parallel()
	wrong := &orchestrator.Error{Code: orchestrator.ExitNotBegun, Next: "move it away"}
	broken, good := run.Record{ID: "b", Err: wrong}, run.Record{ID: "a"}
	for _, row := range []struct {
		name, named string
		older       []run.Record
		want        string
	}{
		{"another", "", []run.Record{broken, good, {ID: "earlier"}},
			"move it away. The newest that can be used: kscertctl rollback a -i INVENTORY"},
		{"none", "", []run.Record{broken}, "move it away"},
		{"named", "b", []run.Record{good}, "move it away"},
	} {
		err := instead(&cobra.Command{Use: "rollback [RUN]"}, "", wrong, row.named, row.older)
		e, ok := errors.AsType[*orchestrator.Error](err)
		if !ok || e.Code != wrong.Code || e.Next != row.want {
			t.Errorf("%s: %+v", row.name, err)
		}
	}
	if wrong.Next != "move it away" {
		t.Errorf("the error of the record was changed: %q", wrong.Next)
	}
}
