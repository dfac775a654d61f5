package cli

import (
	"errors"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// A Pod continues only what an earlier one left, whatever else control planes keep.
func TestLeftByPod(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	kept := func(age time.Duration, kind run.Kind, ended run.Result) run.Record {
		return run.Record{ID: "a", State: run.State{Kind: kind, Requested: true, Ended: ended, Order: []string{"01-backup"}},
			Entries: []run.Entry{{Time: now.Add(-age)}}}
	}
	stopped, unreadable := kept(time.Hour, run.KindRun, run.Failed), errors.New("damaged")
	refused, unbegun := stopped, stopped
	done := kept(time.Hour, run.KindRun, run.Done)
	done.Err = unreadable
	refused.Err, unbegun.State.Order = unreadable, []string{run.StepLock}
	locked := &orchestrator.Error{Code: orchestrator.ExitLocked, Summary: "locked"}
	for _, row := range []struct {
		name    string
		records []run.Record
		want    string
		err     error
	}{
		{"nothing", nil, "", nil},
		{"stopped", []run.Record{stopped}, "a", nil},
		{"ended before a change", []run.Record{unbegun}, "", nil},
		{"killed", []run.Record{kept(time.Hour, run.KindRun, "")}, "a", nil},
		{"done", []run.Record{kept(time.Hour, run.KindRun, run.Done), stopped}, "", nil},
		{"long ago", []run.Record{kept(25*time.Hour, run.KindRun, run.Failed)}, "", nil},
		{"a rollback", []run.Record{kept(time.Hour, run.KindRollback, run.Failed), stopped}, "", nil},
		{"after one from the future", []run.Record{kept(-time.Hour, run.KindRun, run.Failed), stopped}, "a", nil},
		{"after one that cannot be read", []run.Record{{ID: "b", Err: unreadable}, stopped}, "a", nil},
		{"after one of today that cannot be read", []run.Record{{ID: "20260301T110000Z-abcdef", Err: unreadable}, stopped}, "", unreadable},
		{"after one of the future that cannot be read", []run.Record{{ID: "20990301T110000Z-abcdef", Err: unreadable}, stopped}, "a", nil},
		{"after one that is done, and whose plan cannot be used", []run.Record{done, stopped}, "", nil},
		{"after one of last week that cannot be read", []run.Record{{ID: "20260222T110000Z-abcdef", Err: unreadable}, stopped}, "a", nil},
		{"it cannot be used", []run.Record{refused}, "", unreadable},
		{"another holds the lock", []run.Record{{ID: "b", Err: locked}, stopped}, "", locked},
	} {
		if got, err := leftByPod(row.records, now); got != row.want || !errors.Is(err, row.err) {
			t.Errorf("%s: %q, %v; want %q, %v", row.name, got, err, row.want, row.err)
		}
	}
}
