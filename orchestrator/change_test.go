package orchestrator

import (
	"slices"
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

// What a gate need not wait for, by the line with which lib.sh refuses a file.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	got := refusedFiles([]string{"changed: a\nrefused: /etc/a b.conf stays as it is: why: it is\n", "refused: w1|no such file\nnoted: /etc/c stays as it is: b\n"})
	if !slices.Equal(got, []string{"/etc/a b.conf"}) {
		t.Errorf("%q", got)
	}
}
