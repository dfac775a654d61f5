package run_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func load(t *testing.T, root, id string) run.History {
	t.Helper()
	h, err := run.LoadHistory(root, id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Everything that a run has left in its directory is read, however it finished.
func TestLoadHistory(t *testing.T) {
	t.Parallel()
	for name, want := range testruns.All() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			path := testruns.Write(t, root, want)
			got := load(t, root, want.ID)
			if got.Path != path || got.Status() != want.Status() || got.Torn != want.Torn || len(got.Unknown) > 0 {
				t.Errorf("%s: %s, %d bytes torn, unknown: %q", got.Path, got.Status(), got.Torn, got.Unknown)
			}
			for what, pair := range map[string][2]any{
				"entries": {got.Entries, want.Entries}, "looks": {got.Looks, want.Looks}, "backups": {got.Backups, want.Backups}, "exit": {got.Exit, want.Exit},
				"plan": {got.Proposal.Plan, want.Proposal.Plan}, "request": {got.Proposal.Request, want.Proposal.Request},
			} {
				if !reflect.DeepEqual(pair[0], pair[1]) {
					t.Errorf("%s: %+v, want %+v", what, pair[0], pair[1])
				}
			}
			if last := len(want.Snapshots) - 1; !got.Snapshots[len(got.Snapshots)-1].Taken.Equal(want.Snapshots[last].Taken) || !got.Snapshots[0].Taken.Equal(want.Snapshots[0].Taken) {
				t.Error("the first or the last look is missing")
			}
		})
	}
}

// A gate may inspect a hundred times: only the last inspection before an outcome is read, and
// numbers of three digits come after those of two.
func TestLoadHistoryReadsFewSnapshots(t *testing.T) {
	t.Parallel()
	h := testruns.FailedGate()
	end := h.Entries[len(h.Entries)-1].Time
	before := len(h.Snapshots)
	for i := range 100 {
		s := h.Snapshots[before-1]
		s.Taken = end.Add(time.Duration(i+1) * time.Second)
		h.Snapshots = append(h.Snapshots, s)
	}
	root := t.TempDir()
	testruns.Write(t, root, h)
	got := load(t, root, h.ID)
	if len(got.Looks) != before+100 || len(got.Snapshots) != 5 {
		t.Errorf("%d looks, of which %d were read", len(got.Looks), len(got.Snapshots))
	}
	for i, at := range got.Looks[1:] {
		if !at.After(got.Looks[i]) {
			t.Fatalf("look %d is not after the one before", i+2)
		}
	}
	if last := got.Snapshots[4].Taken; !last.Equal(got.Looks[len(got.Looks)-1]) {
		t.Errorf("the last one that was read is of %s", last)
	}
}

// What is lost is named, and the rest is still reported; without its journal nothing is known about
// a run.
func TestLoadHistoryOfADamagedRecord(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		file, text, wants string
	}{
		{run.PlanFile, "{", "plan.json is damaged"},
		{run.BackupsFile, "{", "backups.json is damaged"},
		{run.ExitFile, "{", "exit.json is damaged"},
		{run.ExitFile, `{"schema":9}`, "exit.json is damaged: it has schema 9"},
		{"snapshots/02.json", "{", "snapshots/02.json is damaged: it does not say when it was taken"},
		{"snapshots/02.json", `{"schema":1,"taken":"2026-03-01T13:00:14Z","nodes":[`, "02.json: it ends in the middle"},
		{"snapshots/notes.txt", "not ours", ""},
	} {
		root := t.TempDir()
		h := testruns.FailedGate()
		path := testruns.Write(t, root, h)
		if err := os.WriteFile(filepath.Join(path, row.file), []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(load(t, root, h.ID).Unknown, "\n")
		if (row.wants == "") != (got == "") || !strings.Contains(got, row.wants) || strings.Contains(got, "\n") {
			t.Errorf("%s: unknown is %q, want %q", row.file, got, row.wants)
		}
	}
	root := t.TempDir()
	h := testruns.FailedGate()
	path := testruns.Write(t, root, h)
	if err := os.WriteFile(filepath.Join(path, "journal.jsonl"), []byte("{}\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *run.DamagedError
	if _, err := run.LoadHistory(root, h.ID); !errors.As(err, &damaged) {
		t.Errorf("%v", err)
	}
	if _, err := run.LoadHistory(root, "nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A run that was refused, or stopped during the inspection, has no plan, and nothing is missing.
func TestLoadHistoryWithoutAPlan(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	h := testruns.Refused()
	h.Proposal, h.Exit = nil, nil
	testruns.Write(t, root, h)
	if got := load(t, root, h.ID); got.Proposal != nil || len(got.Unknown) > 0 || len(got.Snapshots) != 1 {
		t.Errorf("%+v", got)
	}
}

// The record of an exit counts until a process works on the run again.
func TestExit(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	h := testruns.FailedGate()
	testruns.Write(t, root, h)
	if got := load(t, root, h.ID).Exit; got == nil || got.Code != 8 || got.Next != h.Exit.Next {
		t.Errorf("%+v", got)
	}
	d, _, err := run.Open(root, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Record(run.Entry{Event: run.Begin, Kind: run.KindResume}), d.Close()); err != nil {
		t.Fatal(err)
	}
	if got := load(t, root, h.ID).Exit; got != nil {
		t.Errorf("a resume was killed since, and it is answered to have ended with %+v", got)
	}
	if err := run.SaveExit(root, "nothing", 0, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Later runs are those on the same cluster that may have changed a node.
func TestLater(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, h := range testruns.All() {
		testruns.Write(t, root, h)
	}
	for id, want := range map[string][]string{
		testruns.KilledID:     {testruns.RolledBackID, testruns.FailedGateID},
		testruns.FailedGateID: {testruns.RolledBackID},
		testruns.RolledBackID: nil,
	} {
		var got []string
		for _, r := range load(t, root, id).Later {
			got = append(got, r.ID)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %s: %q, want %q", id, got, want)
		}
	}
	if got, err := run.Later(root, testruns.RefusedID, "another cluster"); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
}
