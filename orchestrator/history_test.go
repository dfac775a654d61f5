package orchestrator

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// However a run finishes, its record has the exit code and what to do next.
func TestHistoryTellsHowItEnded(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		left     time.Duration
		ansible  int
		edit     func(*Options)
		code     ExitCode
		next     string
		steps    int
		backedUp bool
	}{
		{name: "nothing to do", left: 300 * 24 * time.Hour},
		{name: "not approved", left: 24 * time.Hour, code: ExitNotApproved, next: "nothing was changed; approve with --yes", steps: 4},
		{name: "no backup", left: 24 * time.Hour, ansible: 2, edit: func(o *Options) { o.Approve = yes }, code: ExitNotBegun, next: "nothing was changed", steps: 4},
		{name: "stopped at a gate", left: 24 * time.Hour, edit: func(o *Options) { o.Approve = yes }, code: ExitStopped, next: "fix this, then resume: kscertctl resume ", steps: 4, backedUp: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			bin, _ := fakeansible.New(t, row.left, row.ansible)
			var state string
			r, _, err := fakeRun(t, bin, func(o *Options) {
				if state = o.StateDir; row.edit != nil {
					row.edit(o)
				}
			})
			if Code(err) != row.code {
				t.Fatalf("code %d: %v", Code(err), err)
			}
			h, err := History(state, r.RunID)
			if err != nil {
				t.Fatal(err)
			}
			if h.Exit == nil || h.Exit.Code != int(row.code) || !strings.HasPrefix(h.Exit.Next, row.next) || h.StateDir != state {
				t.Errorf("%+v, of the folder %q", h.Exit, h.StateDir)
			}
			if len(h.Proposal.Plan.Steps) != row.steps || (len(h.Backups) > 0) != row.backedUp || len(h.Snapshots) == 0 || len(h.Unknown) > 0 {
				t.Errorf("%d steps, backups %v, %d snapshots, unknown %q", len(h.Proposal.Plan.Steps), h.Backups, len(h.Snapshots), h.Unknown)
			}
		})
	}
}

// A refused run is reported like any other, though it cannot be resumed.
func TestHistoryOfARefusedRun(t *testing.T) {
	t.Parallel()
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	seen := filepath.Join(bin, "inspect.yml")
	answer, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(seen, bytes.Replace(answer, []byte(`@@FACT openssl /bin/openssl\n`), nil, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var state string
	r, _, err := fakeRun(t, bin, func(o *Options) {
		state = o.StateDir
		o.Approve = func(context.Context, Proposal) (bool, error) { t.Error("asked for what is refused"); return false, nil }
	})
	if Code(err) != ExitNotBegun {
		t.Fatalf("code %d: %v", Code(err), err)
	}
	h, err := History(state, "")
	if err != nil {
		t.Fatal(err)
	}
	if h.ID != r.RunID || h.Proposal == nil || h.Proposal.Diagnosis.Route != diagnosis.Refuse || len(h.Proposal.Plan.Steps) > 0 || h.Exit.Code != int(ExitNotBegun) {
		t.Errorf("%+v", h)
	}
	if runs, err := Runs(state); err != nil || len(runs) > 0 {
		t.Errorf("it can be resumed: %v %v", runs, err)
	}
}

// Runs and rollbacks have a history, inspections have none; a name may be cut short, and none means
// the newest.
func TestHistoryIsFound(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	for _, h := range testruns.All() {
		testruns.Write(t, state, h)
	}
	look := testruns.Refused()
	look.ID, look.Proposal, look.Exit = "20260302T000000Z-100c00", nil, nil
	look.Entries = slices.Clone(look.Entries)
	for i := range look.Entries {
		look.Entries[i].Run = look.ID
	}
	look.Entries[0].Kind = run.KindLook
	testruns.Write(t, state, look)
	for name, want := range map[string]string{"": testruns.RolledBackID, testruns.RefusedID: testruns.RefusedID, "20260301T1230": testruns.KilledID} {
		if h, err := History(state, name); err != nil || h.ID != want || h.StateDir != state {
			t.Errorf("%q: %s %v", name, h.ID, err)
		}
	}
	for _, name := range []string{look.ID, "20260301", "nothing"} {
		if _, err := History(state, name); Code(err) != ExitUsage {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := History(filepath.Join(state, "empty"), ""); Code(err) != ExitUsage || !strings.Contains(err.Error(), "no run has been recorded here") {
		t.Errorf("%v", err)
	}
}

// With an inventory, only its own runs count, by any path, and no newer one of another cluster.
func TestFindRunOfAnInventory(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), t.TempDir()
	ids := map[string]string{}
	for i, name := range []string{"a", "b"} {
		path := filepath.Join(dir, name)
		d, err := run.Create(state, time.Date(2026, 3, 1, 12, i, 0, 0, time.UTC))
		err = errors.Join(err, os.WriteFile(path, []byte("[kube_control_plane]\ncp1\n"), 0o600),
			d.SaveProposal(run.Proposal{Schema: run.ProposalSchema, Request: run.Request{Schema: run.RequestSchema, Inventories: []string{path}}, Snapshot: snapshot.Snapshot{Schema: snapshot.Schema}}),
			d.Record(run.Entry{Event: run.Begin, Kind: run.KindRun}), d.Record(run.Entry{Event: run.Requested}), d.Close())
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = d.ID
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for inventory, want := range map[string]string{"a": ids["a"], "b": ids["b"], "link": ids["a"], "c": ""} {
		r, err := FindRunOf(state, []string{filepath.Join(dir, inventory)})
		if r.ID != want || (err != nil) != (want == "") || (err != nil && (Code(err) != ExitUsage || !strings.Contains(err.Error(), "no run of the inventory"))) {
			t.Errorf("%s: %s, %v, want %s", inventory, r.ID, err, want)
		}
	}
	if r, err := FindRunOf(state, []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}); err == nil {
		t.Errorf("of two together: %s", r.ID)
	}
	if r, err := FindRun(state, ids["a"]); err != nil || r.ID != ids["a"] {
		t.Errorf("by its name: %v", err)
	}
}

// Without a name, the newest run counts that has begun its plan, or was killed before: not one that
// found the cluster locked.
func TestFindRunWithoutAName(t *testing.T) {
	t.Parallel()
	lock := []run.Entry{{Event: run.Begin, Kind: run.KindRun}, {Event: run.Requested}, {Event: run.Intent, Step: run.StepLock}}
	locked := append(slices.Clone(lock), run.Entry{Event: run.Outcome, Step: run.StepLock, Outcome: run.Failed}, run.Entry{Event: run.End, Outcome: run.Failed})
	worked := append(slices.Clone(lock), run.Entry{Event: run.Outcome, Step: run.StepLock, Outcome: run.Done},
		run.Entry{Event: run.Intent, Step: "01-backup"}, run.Entry{Event: run.Outcome, Step: "01-backup", Outcome: run.Failed}, run.Entry{Event: run.End, Outcome: run.Failed})
	for _, row := range []struct {
		name string
		runs [][]run.Entry // the oldest first
		want int
	}{
		{"one that worked, then one that found the cluster locked", [][]run.Entry{worked, locked}, 0},
		{"one that worked, then one that was killed while it took the lock", [][]run.Entry{worked, lock}, 1},
		{"two that worked", [][]run.Entry{worked, worked}, 1},
		{"only one that found the cluster locked", [][]run.Entry{locked}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			var ids []string
			for i, entries := range row.runs {
				d, err := run.Create(state, time.Date(2026, 3, 1, 12, i, 0, 0, time.UTC))
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if err := d.Record(e); err != nil {
						t.Fatal(err)
					}
				}
				ids = append(ids, d.ID)
				_ = d.Close()
			}
			if r, err := FindRun(state, ""); err != nil || r.ID != ids[row.want] {
				t.Errorf("%s %v, want %s of %v", r.ID, err, ids[row.want], ids)
			}
		})
	}
}
