package orchestrator

import (
	"context"
	"fmt"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// Hook is a program's own addition to the steps of a run: work, or a condition that must hold, such
// as a service that must answer again before the next control plane is changed.
//
// An error stops the run like a failed step: nothing is begun after it. Resume repeats the step,
// and for a gate also the change before it, with their hooks; so a hook must work when called
// twice. Its context is done when the run is stopped at once, and, in a hook around a gate, also
// when it is stopped gracefully.
type Hook struct {
	// Name is used in errors and events.
	Name string
	// Steps selects the steps; nil for every one. Recognize a step by its Action or Gate and by its
	// Nodes rather than by its ID, whose number depends on the plan.
	Steps func(plan.Step) bool
	// Before and After are called right before the step and, if it has succeeded, right after it;
	// either may be nil.
	Before, After func(context.Context, plan.Step) error
}

// hooked does a step between the hooks for it. Those of Before are called in the order of
// WithHooks, those of After in the opposite order, so that hooks nest.
func (s *session) hooked(ctx context.Context, step plan.Step, do func() error) error {
	var about []Hook
	for _, h := range s.opts.Hooks {
		if h.Steps == nil || h.Steps(step) {
			about = append(about, h)
		}
	}
	call := func(h Hook, when string, f func(context.Context, plan.Step) error) error {
		if f == nil {
			return nil
		}
		s.tell(Event{Kind: EventNotice, Step: &step, Message: fmt.Sprintf("%s, %s step %s", h.Name, when, step.ID)})
		if err := f(ctx, step); err != nil {
			return fmt.Errorf("%s, %s the step: %w", h.Name, when, err)
		}
		return nil
	}
	for _, h := range about {
		if err := call(h, "before", h.Before); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	for _, h := range slices.Backward(about) {
		if err := call(h, "after", h.After); err != nil {
			return err
		}
	}
	return nil
}
