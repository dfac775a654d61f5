package orchestrator

import (
	"context"
	"fmt"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// holdTimers holds back Kubespray's own renewal of certificates where it is installed and
// would go off: it restarts every component of a control plane whoever works there. What
// it returns lets them go again. The error is an *Error.
func (s *session) holdTimers(ctx context.Context, snap snapshot.Snapshot) (letGo func(context.Context), err error) {
	var nodes []string
	for _, n := range snap.Nodes {
		if n.RenewalTimer != nil && n.RenewalTimer.State != snapshot.TimerOff {
			nodes = append(nodes, n.Name)
		}
	}
	if len(nodes) == 0 {
		return func(context.Context) {}, nil
	}
	handle := func(ctx context.Context, action string) error {
		p := s.playbook("timer-"+action, playbooks.RenewalTimer, nodes)
		p.Vars["kscert_timer_action"] = action
		_, err := s.runner.Run(ctx, p, nil)
		return err
	}
	where := strings.Join(nodes, ", ")
	if err := handle(ctx, "hold"); err != nil {
		e := preflightError(err)
		e.Summary = fmt.Sprintf("Kubespray's renewal timer could not be held back (%s): %s", where, e.Summary)
		return nil, e
	}
	s.tell(Event{Kind: EventNotice, Message: "Kubespray's renewal timer is held back: " + where})
	return func(ctx context.Context) {
		ctx, cancel := ending(ctx)
		defer cancel()
		if err := handle(ctx, "release"); err != nil {
			s.tell(Event{Kind: EventNotice, Message: fmt.Sprintf(
				"Kubespray's renewal timer could not be released; it continues by itself within a day (%s): %s", where, err)})
		}
	}, nil
}
