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

// Runs lists the runs and rollbacks in a state directory, newest first; empty is the default
// directory. It omits read-only commands.
func Runs(state string) ([]run.Record, error) { return findRuns(state, approved) }

// FindRun returns the run whose ID is or begins with id. An empty id means the newest run that
// can be resumed or rolled back, but not one that ended before it started its plan, such as
// one that found the cluster locked.
func FindRun(state, id string) (run.Record, error) {
	if id == "" {
		return newest(state, approved)
	}
	return findRun(state, id, approved)
}

// FindRunOf is FindRun without an ID, among the runs of these inventories: it never returns a
// run of another cluster.
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
			Next:    "name the run: see " + Command(state, "runs", "list")}
	}
	return r, nil
}

// newest prefers, among the wanted runs, one that has started its plan or was killed before.
func newest(state string, want func(run.Record) bool) (run.Record, error) {
	at := func(r run.Record) bool { return want(r) && (r.State.Ended == "" || r.State.Begun()) }
	if r, err := findRun(state, "", at); err == nil {
		return r, nil
	}
	return findRun(state, "", want)
}

// sameInventory reports whether both are the same list of hosts or the same file.
func sameInventory(a, b string) bool {
	at, err := os.Stat(a)
	bt, other := os.Stat(b)
	return a == b || err == nil && other == nil && os.SameFile(at, bt)
}

// approved: a run can be resumed and rolled back once it is approved.
func approved(r run.Record) bool { return r.State.Requested }

// LoadRun returns the request of a run and its plan.
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

// TrustRun checks that the record of a run can be trusted, since it configures how to reach
// the nodes: it must belong to the caller, and no other user may write to it. The error is an
// *Error.
func TrustRun(r run.Record) error {
	if err := r.Trusted(); err != nil {
		return recordError(err)
	}
	return nil
}

// recordError explains why a record cannot be used.
func recordError(err error) *Error {
	e := &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
		Next: "nothing was changed; the record of this run cannot be used: check the cluster with kscertctl " +
			"diagnose, and start a new run"}
	var (
		busy      *run.BusyError
		missing   *fs.PathError
		untrusted *run.UntrustedError
	)
	switch {
	case errors.As(err, &busy):
		e.Code, e.Next = ExitLocked,
			"nothing was changed; wait until it has finished, and see: kscertctl status "+shell.Quote(busy.Run)
	case errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist):
		e.Code, e.Next = ExitUsage, "see: kscertctl runs list"
	case errors.As(err, &untrusted):
		e.Summary, e.Next = "the record of the run cannot be trusted: "+e.Summary,
			"nothing was changed; "+untrusted.Next
	}
	return e
}

// Resume continues a run or a rollback that was stopped or killed, at its first incomplete
// step, or at the change before a gate that failed. It refuses with ExitLocked while another
// process works on the run or on the cluster. It does not change a completed run.
func (o *Orchestrator) Resume(ctx context.Context, id string) (Result, error) {
	return o.recordExit(o.resume(ctx, id))
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
	// A process that died while it released the lock has left that to be done.
	done := state.Ended == run.Done && (!state.Unlocking() || strange(p.Request))
	if err == nil && !done {
		err = o.refuseSuperseded(id, p.Cluster)
	}
	if err != nil {
		return r, errors.Join(recordError(err), dir.Close())
	}
	if done {
		r.Schema, r.RunID, r.Dir, r.Before, r.After, r.Snapshot = ResultSchema, id, dir.Path, p.Diagnosis, p.Diagnosis,
			p.Snapshot
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
		s.tell(Event{Kind: EventNotice,
			Message: fmt.Sprintf("the last line of the journal was cut off in the middle (%d bytes): its process "+
				"was killed while writing it", journal.Torn)})
	}
	r.Before, r.After, r.Snapshot = p.Diagnosis, p.Diagnosis, p.Snapshot
	s.tell(Event{Kind: EventPlan, Plan: &p.Plan})
	// We hold the journal, so the process that held the lock for this run is dead, if it was one of this
	// machine.
	w := work{state: state, replaces: id, recalled: p.Request.Recalled != nil,
		recalledNow: strange(p.Request)}
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	switch {
	case strange(p.Request):
		p, err = s.takeOver(soft, p, state)
	case state.Begun():
		err = s.refuseOvertaken(soft)
	}
	if err != nil {
		return r, err
	}
	w.Proposal = p
	return r, s.carryOut(ctx, w, &r)
}

// refuseSuperseded refuses to resume a run if a later one changed the same cluster: the plan may no
// longer fit the cluster's state.
func (o *Orchestrator) refuseSuperseded(id, cluster string) error {
	all, err := run.Later(o.opts.StateDir, id, cluster)
	if err != nil || len(all) == 0 {
		return err
	}
	return superseded(id, all[0].ID, all[0].State)
}

// SupersededError means that a run cannot be resumed, since a later one has changed the cluster: a new
// plan is needed.
type SupersededError struct {
	Run, Later string
	// RolledBack: the later one has undone it.
	RolledBack bool
}

func (e *SupersededError) Error() string {
	what := "has worked on the cluster since"
	if e.RolledBack {
		what = "has rolled it back"
	}
	return fmt.Sprintf("cannot resume run %s: run %s %s", e.Run, e.Later, what)
}

// superseded is why a run is not resumed after a later one.
func superseded(id, later string, state run.State) error {
	return &SupersededError{Run: id, Later: later, RolledBack: strings.HasPrefix(state.Of, id)}
}

// refuseOvertaken is refuseSuperseded for runs of other machines, which the control planes keep. The
// error is an *Error.
func (s *session) refuseOvertaken(ctx context.Context) error {
	copies, _, err := s.copies(ctx, s.dir.ID)
	if err != nil {
		return err
	}
	for _, c := range copies {
		if c.Run == s.dir.ID || s.hasRun(c.Run) { // of these the record here counts
			continue
		}
		k, err := c.Read()
		if err != nil {
			s.tell(Event{Kind: EventNotice, Message: "a copy of a run's record cannot be used: " + err.Error()})
			continue
		}
		state := k.Journal.State()
		after := k.Run > s.dir.ID || state.Of == s.dir.ID
		if after && state.Begun() && (k.Proposal == nil || len(state.Touched(k.Proposal.Plan)) > 0) {
			e := recordError(fmt.Errorf("%s keeps its record: %w", k.Node, superseded(s.dir.ID, k.Run, state)))
			e.Next = fmt.Sprintf("nothing was changed now; what that run did: %s; what is left to do: %s",
				s.command("status", k.Run, "-i", "INVENTORY"), s.command("diagnose", "-i", "INVENTORY"))
			return e
		}
	}
	return nil
}
