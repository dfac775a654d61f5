package cli

import (
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
)

func TestDueWithin(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "38d": 38 * 24 * time.Hour, "12h": 12 * time.Hour, "2026-03-02": 12 * time.Hour, "2026-03-01T13:00:00+00:00": time.Hour, "2026-02-01": 0,
	} {
		if got, err := dueWithin(text, now); err != nil || got != want {
			t.Errorf("%q: %s %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"soon", "-1d", "2026-13-01", "38", "01.03.2026"} {
		if got, err := dueWithin(text, now); err == nil {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
}

// What is not renewed in this window is valid until the next one, and a week.
func TestUntilNextRun(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 7, 23, 0, 0, 0, time.UTC) // a Saturday
	weekly := fleet.Windows{{Days: []time.Weekday{time.Saturday}, From: 22 * 60, To: 4 * 60, Zone: time.UTC}}
	if got, want := untilNextRun(weekly, now), 14*24*time.Hour-time.Hour; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := untilNextRun(nil, now); got != 0 {
		t.Errorf("%s without windows", got)
	}
}
