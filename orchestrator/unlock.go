package orchestrator

import (
	"context"

	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// unconfirmed is what to do if no one has confirmed that a lock is to be broken.
const unconfirmed = "the lock is unchanged; confirm with --yes, or on a terminal by typing yes"

// Unlock shows who holds the lock of the cluster on its first control plane and breaks it if
// confirm returns true; without a lock it does nothing and confirm is not called. It returns the
// lock that was found.
func (o *Orchestrator) Unlock(ctx context.Context,
	confirm func(context.Context, run.Holding, run.Verdict) (bool, error)) (found *run.Holding, err error) {
	s, err := o.begin(ctx, run.Entry{Kind: run.KindLook})
	if err != nil {
		return nil, err
	}
	defer s.finish(&Result{}, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	state, holding, err := s.lockAction(soft, "show", "lock-show", nil)
	if err != nil {
		return nil, s.lockError(err)
	}
	if state == lockAbsent {
		return nil, nil //nolint:nilnil // no lock is no error
	}
	yes, err := confirm(soft, holding, holding.Assess(s.owner(), alive))
	switch {
	case soft.Err() != nil:
		return &holding, &Error{Code: ExitInterrupted, Summary: "interrupted; the lock is unchanged",
			Err: context.Cause(soft)}
	case err != nil:
		return &holding, &Error{Code: ExitNotApproved, Summary: "the lock was not broken: " + err.Error(), Err: err,
			Next: unconfirmed}
	case !yes:
		return &holding, &Error{Code: ExitNotApproved, Summary: "the lock was not broken", Next: unconfirmed}
	}
	// The lock that was shown, not one that was taken meanwhile.
	state, now, err := s.lockAction(ctx, "break", "lock-break", map[string]any{"kscert_lock_run": holding.Owner.Run})
	switch {
	case err != nil:
		return &holding, s.lockError(err)
	case state != lockBroken && state != lockAbsent:
		return &holding, s.lockError(&run.LockedError{Where: s.lockNode(), Holding: now, Verdict: run.Held})
	}
	return &holding, nil
}
