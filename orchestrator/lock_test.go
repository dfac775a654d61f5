package orchestrator

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A lock that cannot be read is held by an unknown owner; an answer that is not one is an error.
func TestParseLock(t *testing.T) {
	t.Parallel()
	const owner = `{"schema":1,"user":"u","host":"h","pid":1,"run":"r"}`
	for _, row := range []struct {
		name, payload string
		state         lockState
		age           time.Duration
		run           string
		wrong         string
	}{
		{"taken", "@@LOCK acquired 0 " + owner + "\n@@END\n", lockAcquired, 0, "r", ""},
		{"over a terminal, after a banner", "welcome\r\n@@LOCK held 90 " + owner + "\r\n@@END\r\n", lockHeld, 90 * time.Second, "r", ""},
		{"given back", "@@LOCK released 0 -\n@@END\n", lockReleased, 0, "", ""},
		{"taken away", "@@LOCK lost 0 -\n@@END\n", lockLost, 0, "", ""},
		{"an owner that is no JSON", "@@LOCK held 90 -\n@@END\n", lockHeld, 90 * time.Second, "", ""},
		{"a clock that was set back", "@@LOCK held -5 -\n@@END\n", lockHeld, -5 * time.Second, "", ""},
		{"cut off", "@@LOCK held 90 " + owner + "\n", "", 0, "", "cut off"},
		{"nothing", "", "", 0, "", "cut off"},
		{"no age", "@@LOCK held soon -\n@@END\n", "", 0, "", "not a number"},
		{"an age that no clock can tell", "@@LOCK held 9223372036854775807 -\n@@END\n", "", 0, "", "not a number"},
		{"no state of a lock", "@@LOCK mine 1 -\n@@END\n", "", 0, "", "not a state"},
		{"a second answer", "@@LOCK held 1 -\n@@LOCK acquired 0 -\n@@END\n", "", 0, "", "second record"},
		{"an answer after the end", "@@LOCK held 1 -\n@@END\n@@LOCK acquired 0 -\n", "", 0, "", "second record"},
		{"garbage without end", strings.Repeat("x", 1<<20), "", 0, "", "cut off"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			state, holding, err := parseLock(row.payload)
			if state != row.state || holding.Age != row.age || holding.Owner.Run != row.run {
				t.Errorf("%s, %+v", state, holding)
			}
			if (err == nil) != (row.wrong == "") || (err != nil && (!strings.Contains(err.Error(), row.wrong) || len(err.Error()) > 1000)) {
				t.Errorf("%v, want %q", err, row.wrong)
			}
		})
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add("@@LOCK held 90 {\"schema\":1,\"run\":\"r\"}\n@@END\n")
	f.Fuzz(func(t *testing.T, payload string) {
		state, holding, err := parseLock(payload)
		if err != nil {
			return
		}
		if !slices.Contains(lockStates(), state) || !strings.Contains(payload, "@@END") {
			t.Errorf("a lock that is %q", state)
		}
		if holding.Age%time.Second != 0 {
			t.Errorf("an age of whole seconds became %s", holding.Age)
		}
	})
}
