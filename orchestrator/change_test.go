package orchestrator

import (
	"strings"
	"testing"
)

// A node may report any number of lines of any length: what is shown of it has a limit.
func TestToBeKnownIsBounded(t *testing.T) {
	t.Parallel()
	long := "noted: " + strings.Repeat("x", 1000) + "\n"
	got := toBeKnown("w1", []string{"changed: a\nrefused: f stays as it is: why\n", strings.Repeat(long, 60)})
	if len(got) != maxKnown+1 || got[0] != "w1: f stays as it is: why" || len(got[1]) != maxKnownLength ||
		!strings.HasPrefix(got[maxKnown], "w1: 11 more lines") {
		t.Errorf("%d: %q", len(got), got)
	}
}
