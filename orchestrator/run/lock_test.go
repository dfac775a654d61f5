package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An owner counts as dead only for a reason: a silent heartbeat, or a process of this very machine
// that is gone.
func TestJudge(t *testing.T) {
	t.Parallel()
	owner := Owner{Schema: OwnerSchema, User: "op", Host: "here", PID: 7, Space: "a", Run: id}
	elsewhere, contained, older := owner, owner, owner
	elsewhere.Host, contained.Space, older.Space = "there", "b", ""
	for _, row := range []struct {
		name  string
		owner Owner
		age   time.Duration
		alive bool
		want  Verdict
	}{
		{name: "at work here", owner: owner, alive: true, want: Held},
		{name: "its process is gone", owner: owner, want: Stale},
		{name: "at work on another machine, whose processes no one can see", owner: elsewhere, want: Held},
		{name: "at work in a container of the same name", owner: contained, want: Held},
		{name: "silent in a container of the same name", owner: contained, age: time.Hour, want: Stale},
		{name: "of a version that did not note it", owner: older, want: Held},
		{name: "a heartbeat was missed", owner: elsewhere, age: 2 * Heartbeat, want: Held},
		{name: "at the very end", owner: elsewhere, age: StaleAfter, want: Held},
		{name: "not heard of any more", owner: elsewhere, age: StaleAfter + time.Second, want: Stale},
		{name: "hanging: a process that is there and silent", owner: owner, age: time.Hour, alive: true, want: Stale},
		{name: "an owner that cannot be read", owner: Owner{}, want: Held},
		{name: "an owner that cannot be read, long ago", owner: Owner{}, age: time.Hour, want: Stale},
	} {
		got := Holding{Owner: row.owner, Age: row.age}.Assess(Owner{Host: "here", Space: "a"}, func(pid int) bool { return pid == 7 && row.alive })
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

func TestParseOwner(t *testing.T) {
	t.Parallel()
	want := Owner{Schema: OwnerSchema, User: "op", Host: "here", PID: 7, Run: id, Started: start.UTC()}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseOwner(data); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
	for _, text := range []string{"", "{", "{}", `{"schema":9,"run":"x"}`, `{"schema":1}`,
		`{"schema":1,"run":"x; id"}`, `{"schema":1,"run":"--yes"}`, `{"schema":1,"run":"x\nid"}`,
	} {
		if got, err := ParseOwner([]byte(text)); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
	got, err := ParseOwner([]byte(`{"schema":1,"run":"x","user":"a\n  next: id","host":"b\u001b[31m"}`))
	if err != nil || got.User != "a   next: id" || got.Host != "b\ufffd[31m" {
		t.Errorf("%+v %v", got, err)
	}
	if got := want.String(); got != "op on here (process 7, run "+id+")" {
		t.Error(got)
	}
}

// Two runs on one machine: the second one learns who the first is, and can begin when the first has
// finished. Another cluster is another lock.
func TestLockDriver(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	first := Owner{Schema: OwnerSchema, User: "a", Host: "here", PID: 1, Run: "first"}
	second := Owner{Schema: OwnerSchema, User: "b", Host: "here", PID: 2, Run: "second"}
	l, err := LockDriver(root, "cluster", first)
	if err != nil || l.Before != (Owner{}) {
		t.Fatalf("%v, after %+v", err, l)
	}
	var locked *LockedError
	if _, err := LockDriver(root, "cluster", second); !errors.As(err, &locked) || locked.Owner != first || locked.Verdict != Held {
		t.Errorf("%v", err)
	}
	other, err := LockDriver(root, "another", second)
	if err != nil {
		t.Errorf("another cluster: %v", err)
	} else if err := other.Unlock(); err != nil {
		t.Error(err)
	}
	// With the owner's note gone or garbled it is still locked.
	if err := os.WriteFile(filepath.Join(root, "locks", "cluster.json"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LockDriver(root, "cluster", second); !errors.As(err, &locked) || locked.Owner != (Owner{}) {
		t.Errorf("%v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	for _, before := range []Owner{{}, second} {
		l, err = LockDriver(root, "cluster", second)
		if err != nil || l.Before != before {
			t.Fatalf("%v, after %+v", err, l)
		}
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}
