package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// Runs lists the runs and rollbacks in a state folder, the newest first; an empty
// folder is the default one. Commands that only looked are left out.
func Runs(state string) ([]run.Record, error) { return recorded(state, approved) }

// FindRun returns the run whose name is id or begins with it; the newest that can
// be resumed or rolled back when id is empty. Whoever names none does not mean one
// that ended before it began with its plan, such as one that found the cluster locked.
func FindRun(state, id string) (run.Record, error) {
	if id == "" {
		return newest(state, approved)
	}
	return find(state, id, approved)
}

// FindRunOf is FindRun without a name, among the runs that were asked for with these
// inventories: never one of another cluster.
func FindRunOf(state string, inventories []string) (run.Record, error) {
	state, err := stateOr(state)
	if err != nil {
		return run.Record{}, err
	}
	r, err := newest(state, func(r run.Record) bool {
		p, err := run.LoadProposal(state, r.ID)
		return approved(r) && err == nil && slices.EqualFunc(p.Request.Inventories, inventories, sameInventory)
	})
	if err != nil {
		return r, &Error{Code: ExitUsage, Err: err,
			Summary: "no run of the inventory " + strings.Join(inventories, ", ") + " has been recorded here",
			Next:    "name the run: see kscertctl runs list"}
	}
	return r, nil
}

// newest of the runs that are wanted: one that has begun with its plan, or was killed
// before, goes first.
func newest(state string, want func(run.Record) bool) (run.Record, error) {
	at := func(r run.Record) bool { return want(r) && (r.State.Ended == "" || r.State.Begun()) }
	if r, err := find(state, "", at); err == nil {
		return r, nil
	}
	return find(state, "", want)
}

// sameInventory reports whether two are the same list of hosts, or lead to the same file.
func sameInventory(a, b string) bool {
	at, err := os.Stat(a)
	bt, other := os.Stat(b)
	return a == b || err == nil && other == nil && os.SameFile(at, bt)
}

// approved: from then on a run can be resumed and rolled back.
func approved(r run.Record) bool { return r.State.Requested }

// LoadRun returns what a run was asked for, and its plan.
func LoadRun(state, id string) (run.Proposal, error) {
	state, err := stateOr(state)
	if err != nil {
		return run.Proposal{}, err
	}
	p, err := run.LoadProposal(state, id)
	if err != nil {
		return p, recordError(err)
	}
	return p, nil
}

// TrustRun checks that the record of a run may be believed, which says how the nodes are
// reached: that it belongs to whoever asks, and that nobody else may write to it. The
// error is an *Error.
func TrustRun(r run.Record) error {
	if err := r.Trusted(); err != nil {
		return recordError(err)
	}
	return nil
}

// recordError explains a record that cannot be used.
func recordError(err error) *Error {
	e := &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
		Next: "nothing was changed; the record of this run cannot be used: check the cluster with kscertctl diagnose, and start a new run"}
	var (
		busy      *run.BusyError
		missing   *fs.PathError
		untrusted *run.UntrustedError
	)
	switch {
	case errors.As(err, &busy):
		e.Code, e.Next = ExitLocked, "nothing was changed; wait until it has finished, and see: kscertctl status "+shell.Quote(busy.Run)
	case errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist):
		e.Code, e.Next = ExitUsage, "see: kscertctl runs list"
	case errors.As(err, &untrusted):
		e.Summary, e.Next = "the record of the run cannot be trusted: "+e.Summary, "nothing was changed; "+untrusted.Next
	}
	return e
}

// Resume goes on with a run or a rollback that was stopped or killed, at its
// first step that is not done, or at the change before a gate that did not hold.
// It refuses with ExitLocked while another process works on the run or on the
// cluster. A run that is done stays as it is.
func (o *Orchestrator) Resume(ctx context.Context, id string) (Result, error) {
	return o.ended(o.resume(ctx, id))
}

func (o *Orchestrator) resume(ctx context.Context, id string) (r Result, err error) {
	dir, journal, err := run.Open(o.opts.StateDir, id)
	if err != nil {
		return r, recordError(err)
	}
	state := journal.State()
	p, err := run.LoadProposal(o.opts.StateDir, id)
	if !state.Requested {
		err = fmt.Errorf("run %s was not approved, so there is nothing to resume", id)
	}
	if err == nil && state.Ended != run.Done {
		err = o.superseded(id, p.Cluster)
	}
	if err != nil {
		return r, errors.Join(recordError(err), dir.Close())
	}
	if state.Ended == run.Done {
		r.Schema, r.RunID, r.Dir, r.Before, r.After, r.Snapshot = ResultSchema, id, dir.Path, p.Diagnosis, p.Diagnosis, p.Snapshot
		return r, dir.Close()
	}
	if p.Plan.Undoes != "" {
		o = o.withoutCheckout()
	}
	s, err := o.attach(ctx, dir, run.Entry{Kind: run.KindResume})
	if err != nil {
		return r, errors.Join(err, dir.Close())
	}
	defer s.finish(&r, &err)
	if journal.Torn > 0 {
		s.tell(Event{Kind: EventNotice, Message: fmt.Sprintf("the last line of the journal was cut off in the middle (%d bytes): its process was killed while writing it", journal.Torn)})
	}
	r.Before, r.After, r.Snapshot = p.Diagnosis, p.Diagnosis, p.Snapshot
	s.tell(Event{Kind: EventPlan, Plan: &p.Plan})
	replaces := id // the journal is ours alone, so whoever held the lock for this run is dead
	if err := s.carryOut(ctx, work{Proposal: p, state: state, replaces: replaces}, &r); err != nil {
		return r, err
	}
	return r, nil
}

// superseded refuses to go on with a run after which another one has worked on
// the same cluster: its plan is no longer about what is there.
func (o *Orchestrator) superseded(id, cluster string) error {
	all, err := run.Later(o.opts.StateDir, id, cluster)
	if err != nil || len(all) == 0 {
		return err
	}
	later, what := all[0], "has worked on the cluster since"
	if strings.HasPrefix(later.State.Of, id) {
		what = "has rolled it back"
	}
	return fmt.Errorf("cannot resume run %s: run %s %s", id, later.ID, what)
}
