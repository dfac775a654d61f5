package orchestrator

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// fleetsDir holds the records of fleet runs, below the directory of run records; the runs on their
// clusters are recorded like all runs.
const fleetsDir = "fleets"

// CreateFleet makes the record of a new fleet run. No other process can open it until it is closed.
// The error is an *Error.
func CreateFleet(state string) (*run.Dir, error) {
	state, err := stateOr(state)
	if err != nil {
		return nil, err
	}
	d, err := run.Create(filepath.Join(state, fleetsDir), time.Now())
	if err == nil {
		if err = d.Record(run.Entry{Event: run.Begin, Kind: run.KindRun}); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if err != nil {
		return nil, &Error{Code: ExitNotBegun, Summary: err.Error(), Next: "name a writable directory with --state-dir",
			Err: err}
	}
	return d, nil
}

// OpenFleet opens the record of an earlier fleet run, to continue it. The error is an *Error, with
// ExitLocked while another process works on it.
func OpenFleet(state, id string) (*run.Dir, error) {
	state, err := stateOr(state)
	if err != nil {
		return nil, err
	}
	d, _, err := run.Open(filepath.Join(state, fleetsDir), id)
	if err == nil {
		if err = d.Record(run.Entry{Event: run.Begin, Kind: run.KindResume}); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if err != nil {
		return nil, recordError(err)
	}
	return d, nil
}

// Fleets lists the fleet runs recorded in a state directory, the newest first. The error is an *Error.
func Fleets(state string) ([]run.Record, error) {
	state, err := stateOr(state)
	if err != nil {
		return nil, err
	}
	records, err := run.List(filepath.Join(state, fleetsDir))
	if err != nil {
		return nil, &Error{Code: ExitUnexpected, Summary: err.Error(), Err: err,
			Next: "name the directory of the run records with --state-dir"}
	}
	return records, nil
}

// FindFleet returns the record of the fleet run whose name is id or begins with it; the newest if
// id is empty. The error is an *Error.
func FindFleet(state, id string) (run.Record, error) {
	records, err := Fleets(state)
	if err != nil {
		return run.Record{}, err
	}
	if id == "" && len(records) > 0 {
		return records[0], nil
	}
	r, err := run.Find(records, id)
	switch {
	case err != nil && id == "":
		return r, &Error{Code: ExitUsage, Summary: "no fleet run has been recorded here", Err: err,
			Next: "name the directory of the run records with --state-dir"}
	case err != nil:
		var there []string
		for _, r := range records[:min(len(records), 10)] {
			there = append(there, fmt.Sprintf("%s, %s", r.ID, r.Status()))
		}
		return r, &Error{Code: ExitUsage, Summary: err.Error(), Err: err, Evidence: strings.Join(there, "\n"),
			Next: "name one of the fleet runs that are recorded here; the newest: kscertctl fleet status"}
	}
	return r, nil
}

// LockFleet excludes other fleet runs of the same fleet file on this machine until unlock. Each
// cluster has its own lock, which excludes work from elsewhere, too. The error is an *Error with
// ExitLocked.
func LockFleet(state, file string) (unlock func() error, err error) {
	if state, err = stateOr(state); err != nil {
		return nil, err
	}
	if path, err := filepath.EvalSymlinks(file); err == nil { // it is one file by all its names
		file = path
	}
	sum := sha256.Sum256([]byte(file))
	me := run.Owner{Schema: run.OwnerSchema, PID: os.Getpid(), Run: "fleet",
		Started: time.Now().UTC().Truncate(time.Second)}
	l, err := run.LockDriver(state, "fleet-"+hex.EncodeToString(sum[:8]), me)
	if locked, ok := errors.AsType[*run.LockedError](err); ok {
		return nil, &Error{Code: ExitLocked, Err: err,
			Summary: fmt.Sprintf("process %d works on the clusters of %s", locked.Owner.PID, file),
			Next:    "nothing was changed; wait until it has finished, and see: kscertctl fleet status"}
	}
	if err != nil {
		return nil, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "name a writable directory with --state-dir"}
	}
	return l.Unlock, nil
}
