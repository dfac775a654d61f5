package ansible

import "testing"

// A batch in which all fail is the last one of its play; later ones have results of an earlier play
// alone, and are named.
func TestVerdictOfLaterBatches(t *testing.T) {
	t.Parallel()
	var o Outcome
	result := func(status string, hosts ...string) {
		for _, h := range hosts {
			o.add(Event{Event: "result", Host: h, Status: status})
		}
	}
	o.add(Event{Event: "play_start", Name: "Back up"})
	result("changed", "w1", "w2")
	o.add(Event{Event: "play_start", Name: "Sign"})
	result("ok", "cp1")
	o.add(Event{Event: "play_start", Name: "Restart"})
	result("failed", "w1")
	o.add(Event{Event: "stats", Hosts: map[string]Stats{"w1": {Failures: 1}, "w2": {OK: 1}, "cp1": {OK: 1}}})
	o.ExitCode = 2
	if got, want := o.verdict([]string{"w1", "w2"}), "failed on w1, and never ran on w2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	o.add(Event{Event: "play_start", Name: "Restart"})
	result("ok", "w2")
	if got, want := o.verdict([]string{"w1", "w2"}), "failed on w1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
