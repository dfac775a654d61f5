package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// holdTimers holds back Kubespray's own renewal of certificates where it is installed and on: it
// restarts every component of a control plane at any time. The returned function releases them. The
// error is an *Error.
func (s *session) holdTimers(ctx context.Context, snap snapshot.Snapshot) (letGo func(context.Context), err error) {
	nodes := snap.ActiveRenewalTimers()
	if len(nodes) == 0 {
		return nil, nil
	}
	handle := func(ctx context.Context, action string) error {
		p := s.playbook("timer-"+action, playbooks.RenewalTimer, nodes)
		p.Vars["kscert_timer_action"] = action
		if err := s.keeps(ctx, &p); err != nil {
			return err
		}
		outcome, err := s.runner.Run(ctx, p, nil)
		if ahead := s.heard(nil, outcome); ahead != nil {
			return ahead
		}
		return err
	}
	where := strings.Join(nodes, ", ")
	letGo = func(ctx context.Context) {
		ctx, cancel := ending(ctx)
		defer cancel()
		if err := handle(ctx, "release"); err != nil {
			s.tell(Event{Kind: EventNotice, Message: fmt.Sprintf(
				"Kubespray's renewal timer could not be released; it continues by itself within a day (%s): %s", where,
				err)})
		}
	}
	if err := handle(ctx, "hold"); err != nil {
		letGo(ctx) // on the other nodes it may be held back already
		return nil, s.timerError(err, where)
	}
	s.tell(Event{Kind: EventNotice, Message: "Kubespray's renewal timer is held back: " + where})
	return letGo, nil
}

// timerError explains why the timers were not held back, and what to do.
func (s *session) timerError(err error, where string) *Error {
	e := &Error{
		Code: ExitNotBegun, Err: err,
		Summary: fmt.Sprintf("Kubespray's renewal timer could not be held back (%s): %s", where, err),
		Next: "nothing was changed now; stop it on the node: systemctl stop k8s-certs-renew.timer; run the command " +
			"again, and start the timer after it",
	}
	var failed *ansible.RunError
	switch {
	case interrupted(err):
		e.Code, e.Summary, e.Next = ExitInterrupted, "interrupted while Kubespray's renewal timer was held back",
			"nothing was changed now; run the command again"
	case errors.As(err, &failed):
		e.Evidence = taskEvidence(failed)
		e.Hint = hinted(e.Evidence)
		if len(failed.Unreachable) > 0 {
			e.Code, e.Next = ExitUnreachable,
				"nothing was changed now; whether the nodes answer: "+s.command("diagnose", "-i", "INVENTORY")
		}
	}
	return e
}
