package fleet_test

import (
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
)

func TestWindows(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := fleet.Window{Days: []time.Weekday{time.Saturday}, From: 22 * 60, To: 4 * 60, Zone: berlin}
	noon := fleet.Window{From: 12 * 60, To: 13*60 + 30, Zone: time.UTC}
	allDay := fleet.Window{Days: []time.Weekday{time.Monday}, From: 0, To: 24 * 60, Zone: time.UTC}
	for _, row := range []struct {
		name    string
		windows fleet.Windows
		now     string
		open    bool
		next    string
	}{
		{"none", nil, "2026-03-07T12:00:00Z", true, ""},
		{"at noon, before", fleet.Windows{noon}, "2026-03-07T11:59:59Z", false, "2026-03-07T12:00:00Z"},
		{"at noon, as it opens", fleet.Windows{noon}, "2026-03-07T12:00:00Z", true, "2026-03-08T12:00:00Z"},
		{"at noon, as it closes", fleet.Windows{noon}, "2026-03-07T13:30:00Z", false, "2026-03-08T12:00:00Z"},
		{"Saturday night, before", fleet.Windows{night}, "2026-03-07T20:59:59Z", false, "2026-03-07T21:00:00Z"},
		{"Saturday night", fleet.Windows{night}, "2026-03-07T21:00:00Z", true, "2026-03-14T21:00:00Z"},
		{"after midnight, on Sunday", fleet.Windows{night}, "2026-03-08T02:59:59Z", true, "2026-03-14T21:00:00Z"},
		{"Sunday morning", fleet.Windows{night}, "2026-03-08T03:00:00Z", false, "2026-03-14T21:00:00Z"},
		{"after midnight, on Saturday", fleet.Windows{night}, "2026-03-07T00:30:00Z", false, "2026-03-07T21:00:00Z"},
		// On 29 March 2026 the clock there goes from 02:00 to 03:00: the window has an hour less.
		{"before summer time", fleet.Windows{night}, "2026-03-29T01:59:59Z", true, "2026-04-04T20:00:00Z"},
		{"in summer time", fleet.Windows{night}, "2026-03-29T02:00:00Z", false, "2026-04-04T20:00:00Z"},
		{"a whole day", fleet.Windows{allDay}, "2026-03-09T23:59:59Z", true, "2026-03-16T00:00:00Z"},
		{"the first of two", fleet.Windows{night, noon}, "2026-03-07T14:00:00Z", false, "2026-03-07T21:00:00Z"},
		{"one of two", fleet.Windows{night, noon}, "2026-03-08T12:10:00Z", true, "2026-03-09T12:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, row.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := row.windows.Open(now); got != row.open {
			t.Errorf("%s: open %t", row.name, got)
		}
		next := ""
		if n := row.windows.Next(now); !n.IsZero() {
			next = n.UTC().Format(time.RFC3339)
		}
		if next != row.next {
			t.Errorf("%s: next %s, want %s", row.name, next, row.next)
		}
	}
}
