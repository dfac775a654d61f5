package cli

import (
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
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

// What is due is the same before a window and in it: what does not live until the next one.
func TestUntilNextRun(t *testing.T) {
	t.Parallel()
	saturdays := fleet.Windows{{Days: []time.Weekday{time.Saturday}, From: 2 * 60, To: 5 * 60, Zone: time.UTC}}
	open := time.Date(2026, 3, 7, 2, 0, 0, 0, time.UTC)
	const week = 7 * 24 * time.Hour
	for _, row := range []struct {
		name string
		w    fleet.Windows
		now  time.Time
		want time.Duration
	}{
		{"no windows", nil, open, 0},
		{"in the window", saturdays, open.Add(time.Hour), week - time.Hour + reserve},
		{"the day before", saturdays, open.Add(-24 * time.Hour), week + 24*time.Hour + reserve},
		{"after it", saturdays, open.Add(4 * time.Hour), 2*week - 4*time.Hour + reserve},
	} {
		if got := untilNextRun(row.w, row.now); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

// A Pod stops when it is asked to, unless nodes are being changed by then.
func TestUntilChange(t *testing.T) {
	t.Parallel()
	change := orchestrator.Event{Kind: orchestrator.EventStepBegin, Step: &plan.Step{Action: plan.Renew, Changes: true}}
	look := orchestrator.Event{Kind: orchestrator.EventStepBegin, Step: &plan.Step{Action: plan.Backup, Changes: true}}
	for _, row := range []struct {
		name     string
		changing bool
		events   []orchestrator.Event
		stops    bool
	}{{"at once", false, nil, true}, {"after a backup", false, []orchestrator.Event{look}, true}, {"in a change", false, []orchestrator.Event{look, change, look}, false}, {"resumed", true, nil, false}} {
		asked := make(chan struct{})
		seen := 0
		stop, observe := untilChange(asked, row.changing, func(orchestrator.Event) { seen++ })
		for _, e := range row.events {
			observe(e)
		}
		close(asked)
		select {
		case <-stop:
			if !row.stops {
				t.Errorf("%s: it stops", row.name)
			}
		case <-time.After(200 * time.Millisecond):
			if row.stops {
				t.Errorf("%s: it does not stop", row.name)
			}
		}
		if seen != len(row.events) {
			t.Errorf("%s: %d events are passed on", row.name, seen)
		}
	}
}

// A Pod waits while any run seems to be at work on its cluster.
func TestRunning(t *testing.T) {
	t.Parallel()
	if running(nil) || running([]run.Record{{ID: "b"}, {ID: "a"}}) || !running([]run.Record{{ID: "b"}, {ID: "a", Running: true}}) {
		t.Error("a run at work is not found")
	}
}
