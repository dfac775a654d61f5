package fleet_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
)

// Each job is STATE, wave, domain, and "closed" where its window is not open; "half-" where it was stopped
// after a change.
func TestSchedule(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	states := map[string]fleet.State{"waits": fleet.Waiting, "runs": fleet.Running, "done": fleet.Done, "failed": fleet.Failed, "refused": fleet.Refused}
	for _, row := range []struct {
		name   string
		policy fleet.Policy
		jobs   []string
		start  []int
		opens  bool
		why    map[int]fleet.Reason
	}{
		{"one at a time", fleet.Policy{Parallel: 1}, []string{"waits", "waits"}, []int{0}, false, nil},
		{"as many as may", fleet.Policy{Parallel: 3}, []string{"runs", "waits", "waits", "waits"}, []int{1, 2}, false, nil},
		{"no more than may", fleet.Policy{Parallel: 1}, []string{"runs", "waits"}, nil, false, map[int]fleet.Reason{1: fleet.Free}},
		{"the canary first", fleet.Policy{Parallel: 9}, []string{"waits 1", "waits 0", "waits 0"}, []int{1, 2}, false, map[int]fleet.Reason{0: fleet.AfterWave}},
		{"not while the canary runs", fleet.Policy{Parallel: 9}, []string{"runs 0", "waits 1"}, nil, false, map[int]fleet.Reason{1: fleet.AfterWave}},
		{"not when the canary has failed", fleet.Policy{Parallel: 9}, []string{"failed 0", "waits 0", "waits 1"}, []int{1}, false, map[int]fleet.Reason{2: fleet.AfterWave}},
		{"not when the canary's window is closed", fleet.Policy{Parallel: 9}, []string{"waits 0 - closed", "waits 1"}, nil, true, map[int]fleet.Reason{0: fleet.OutOfWindow, 1: fleet.AfterWave}},
		{"when the canary is done", fleet.Policy{Parallel: 9}, []string{"done 0", "waits 1"}, []int{1}, false, nil},
		{"after too many failures", fleet.Policy{Parallel: 9, StopAfter: 2}, []string{"failed", "failed", "waits", "waits 0 - closed"}, nil, false, map[int]fleet.Reason{2: fleet.AfterStop, 3: fleet.AfterStop}},
		{"after as many failures as are allowed", fleet.Policy{Parallel: 9, StopAfter: 2}, []string{"failed", "waits"}, []int{1}, false, nil},
		{"never two of a domain", fleet.Policy{Parallel: 9, PerDomain: 1}, []string{"waits 0 a", "waits 0 a", "waits 0 b", "waits", "waits"}, []int{0, 2, 3, 4}, false, nil},
		{"not next to one of its domain", fleet.Policy{Parallel: 9, PerDomain: 1}, []string{"runs 0 a", "waits 0 a"}, nil, false, map[int]fleet.Reason{1: fleet.InDomain}},
		{"two of a domain where that is allowed", fleet.Policy{Parallel: 9, PerDomain: 2}, []string{"runs 0 a", "waits 0 a", "waits 0 a"}, []int{1}, false, nil},
		{"not next to one of its domain that is half done", fleet.Policy{Parallel: 9, PerDomain: 1}, []string{"half-failed 0 a", "half-done 0 b", "waits 0 a", "waits 0 b"}, nil, false, map[int]fleet.Reason{2: fleet.InDomain, 3: fleet.InDomain}},
		{"not next to one of its domain that another fleet run left half done", fleet.Policy{Parallel: 9, PerDomain: 1, Half: map[string]int{"a": 1}}, []string{"waits 0 a", "waits 0 b", "half-waits 0 a"}, []int{1, 2}, false, map[int]fleet.Reason{0: fleet.InDomain}},
		{"what is half done, before the canary of its domain", fleet.Policy{Parallel: 9, PerDomain: 1}, []string{"waits 0 a", "half-waits 1 a", "waits 1 b"}, []int{1}, false, map[int]fleet.Reason{0: fleet.InDomain, 2: fleet.AfterWave}},
		{"what is half done first", fleet.Policy{Parallel: 9, PerDomain: 1}, []string{"waits 0 a", "half-waits 0 a", "half-waits 0 a"}, []int{1}, false, nil},
		{"one that was refused stops no other", fleet.Policy{Parallel: 9, StopAfter: 1}, []string{"refused", "waits", "waits 1"}, []int{1}, false, map[int]fleet.Reason{2: fleet.AfterWave}},
		{"others while a window is closed", fleet.Policy{Parallel: 9}, []string{"waits 0 - closed", "waits"}, []int{1}, true, nil},
		{"nothing is left", fleet.Policy{Parallel: 9}, []string{"done", "failed"}, nil, false, nil},
	} {
		var jobs []fleet.Job
		for _, text := range row.jobs {
			words := strings.Fields(text)
			words = append(words, []string{"", "0", "-", "open"}[len(words):]...)
			state, half := strings.CutPrefix(words[0], "half-")
			j := fleet.Job{State: states[state], Half: half, Wave: int(words[1][0] - '0'), Domain: strings.Trim(words[2], "-")}
			if words[3] == "closed" {
				j.Windows = fleet.Windows{{From: 0, To: 60, Zone: time.UTC}}
			}
			jobs = append(jobs, j)
		}
		start, opens := row.policy.Next(jobs, now)
		if !slices.Equal(start, row.start) || !opens.IsZero() != row.opens {
			t.Errorf("%s: starts %d, and waits until %s; want %d", row.name, start, opens, row.start)
		}
		for i, want := range row.why {
			if got := row.policy.Why(jobs, i, now); got != want {
				t.Errorf("%s: %d waits for %q, want %q", row.name, i, got, want)
			}
		}
	}
}
