package orchestrator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// noter makes functions of hooks that record their calls.
type noter func(string) func(context.Context, plan.Step) error

// Hooks are called around their steps, and can stop the run.
func TestHooks(t *testing.T) {
	t.Parallel()
	renew := func(s plan.Step) bool { return s.Action == plan.Renew }
	drained := errors.New("a pod cannot be evicted")
	for _, tt := range []struct {
		name  string
		hooks func(note noter) []Hook
		// notes are the calls; ran are the playbooks that have been run.
		notes, ran []string
		code       ExitCode
		err        string
	}{
		{"around one step", func(note noter) []Hook {
			return []Hook{
				{Name: "outer", Steps: renew, Before: note("outer before"), After: note("outer after")},
				{Name: "inner", Steps: renew, Before: note("inner before"), After: note("inner after")},
			}
		}, []string{"outer before", "inner before", "inner after", "outer after"}, []string{"backup.yml", "renew-certs.yml"}, ExitStopped, "gate"},
		{"before every step", func(note noter) []Hook {
			return []Hook{{Name: "all", Before: note("step")}}
		}, []string{"step", "step", "step"}, []string{"backup.yml", "renew-certs.yml"}, ExitStopped, "gate"},
		{"it fails before a change", func(note noter) []Hook {
			return []Hook{
				{Name: "drain", Steps: renew, Before: func(context.Context, plan.Step) error { return drained }},
				{Name: "later", Steps: renew, Before: note("never"), After: note("never")},
			}
		}, nil, []string{"backup.yml"}, ExitStopped, "drain, before the step: a pod cannot be evicted"},
		{"a gate of one's own does not hold", func(note noter) []Hook {
			return []Hook{
				{Name: "shop", After: func(_ context.Context, s plan.Step) error {
					if renew(s) {
						return drained
					}
					return nil
				}},
				{Name: "later", Steps: func(s plan.Step) bool { return s.Gate != "" }, Before: note("never")},
			}
		}, nil, []string{"backup.yml", "renew-certs.yml"}, ExitStopped, "shop, after the step: a pod cannot be evicted"},
		{"it fails before anything", func(noter) []Hook {
			return []Hook{{Name: "no", Before: func(context.Context, plan.Step) error { return drained }}}
		}, nil, nil, ExitNotBegun, "no, before the step"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bin, ran := fakeansible.New(t, 24*time.Hour, 0)
			var notes []string
			_, _, err := fakeRun(t, bin, func(o *Options) {
				o.Approve = yes
				o.Hooks = tt.hooks(func(s string) func(context.Context, plan.Step) error {
					return func(context.Context, plan.Step) error {
						notes = append(notes, s)
						return nil
					}
				})
			})
			if Code(err) != tt.code || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("code %d: %v, want %d: %s", Code(err), err, tt.code, tt.err)
			}
			if !slices.Equal(notes, tt.notes) {
				t.Errorf("called were %q, want %q", notes, tt.notes)
			}
			if got := ranPlaybooks(ran); !slices.Equal(got, tt.ran) {
				t.Errorf("playbooks were run: %q, want %q", got, tt.ran)
			}
			if tt.err != "gate" && !errors.Is(err, drained) {
				t.Errorf("%v does not wrap the hook's own", err)
			}
		})
	}
}
