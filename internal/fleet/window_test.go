package fleet_test

import (
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
)

// A window in the hour that a clock skips is what the clock shows of it: from the moment when it is put
// forward, or nothing.
func TestWindowInTheSkippedHour(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Date(2027, 3, 27, 12, 0, 0, 0, berlin) // the clock is put forward from 02:00 to 03:00 on the next day
	const skipped, usual = "2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"
	for _, row := range []struct {
		from, to string
		opens    string
		lasts    time.Duration
	}{
		{"02:30", "03:30", skipped, 30 * time.Minute},
		{"02:30", "03:00", usual, 30 * time.Minute},
		{"01:30", "02:30", "2027-03-28T01:30:00+01:00", 30 * time.Minute},
		{"23:30", "02:30", "2027-03-27T23:30:00+01:00", 150 * time.Minute},
	} {
		f, err := fleet.Parse("f", []byte("time-zone: Europe/Berlin\nclusters: [{name: a, inventories: b, windows: [{from: '"+row.from+"', to: '"+row.to+"'}]}]\n"), known())
		if err != nil {
			t.Fatal(err)
		}
		w := f.Entries[0].Windows
		opens := w.Next(before)
		if got := opens.Format(time.RFC3339); got != row.opens || !w.Open(opens) || !w.Open(opens.Add(row.lasts-time.Minute)) || w.Open(opens.Add(row.lasts)) {
			t.Errorf("%s to %s: opens %s, open %t, %t, %t", row.from, row.to, got, w.Open(opens), w.Open(opens.Add(row.lasts-time.Minute)), w.Open(opens.Add(row.lasts)))
		}
	}
}

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
		{"an hour that the clock skips this week", fleet.Windows{{Days: []time.Weekday{time.Sunday}, From: 120, To: 180, Zone: berlin}}, "2026-03-24T12:00:00Z", false, "2026-04-05T00:00:00Z"},
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
