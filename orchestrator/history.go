package orchestrator

import (
	"errors"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// History returns the whole record of the run or rollback whose name is id or begins with it, of
// the newest if id is empty: also of one that was refused, or not approved. It asks no node. The
// error is an *Error.
func History(state, id string) (run.History, error) {
	state, err := stateOr(state)
	if err != nil {
		return run.History{}, err
	}
	r, err := findRun(state, id,
		func(r run.Record) bool { return r.State.Kind == run.KindRun || r.State.Kind == run.KindRollback })
	if err != nil {
		return run.History{Record: r}, err
	}
	h, err := run.LoadHistory(state, r.ID)
	if err != nil {
		return h, &Error{Code: ExitUnexpected, Summary: err.Error(), Err: err,
			Next: "its record is in " + r.Path + "; the others: " + Command(state, "runs", "list")}
	}
	h.StateDir = OtherStateDir(state)
	return h, nil
}

// findRuns lists the wanted runs in a state directory, and those that cannot be read, the newest
// first. The error is an *Error.
func findRuns(state string, want func(run.Record) bool) ([]run.Record, error) {
	state, err := stateOr(state)
	if err != nil {
		return nil, err
	}
	records, err := run.List(state)
	if err != nil {
		return nil, &Error{Code: ExitUnexpected, Summary: err.Error(), Err: err,
			Next: "name the directory of the run records with --state-dir"}
	}
	return slices.DeleteFunc(records, func(r run.Record) bool { return r.Err == nil && !want(r) }), nil
}

// findRun returns the wanted run whose name is id or begins with it; the newest if id is empty. The
// error is an *Error.
func findRun(state, id string, want func(run.Record) bool) (run.Record, error) {
	records, err := findRuns(state, want)
	if err != nil {
		return run.Record{}, err
	}
	if id == "" && len(records) > 0 {
		return records[0], nil
	}
	r, err := run.Find(records, id)
	if err != nil {
		e := &Error{Code: ExitUsage, Summary: err.Error(), Err: err,
			Next: "see: " + Command(state, "runs", "list") +
				"; with -i INVENTORY also what control planes keep of runs"}
		if id == "" {
			e.Summary = "no run has been recorded here"
		}
		return r, e
	}
	return r, nil
}

// recordExit records how a command on a run finished, and returns both.
func (o *Orchestrator) recordExit(r Result, err error) (Result, error) {
	if r.RunID == "" {
		return r, err
	}
	_ = run.SaveExit(o.opts.StateDir, r.RunID, int(Code(err)),
		next(err)) // for reports; the journal is authoritative
	return r, err
}

// next is what to do about an error; may be empty.
func next(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Next
}
