package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/notify"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// notifyFlags say who is told how a run has ended.
type notifyFlags struct {
	hooks   []notify.Hook
	options notify.Options
	// wrong is what is wrong with a webhook. The flag itself does not say so: the
	// error would show the URL, which may be a password.
	wrong error
}

func (f *notifyFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Var(&repeated{add: f.command}, "notify-command", "run this shell command when the run has finished, with its report as JSON on stdin; may be repeated")
	fl.Var(&repeated{add: f.webhook}, "notify-webhook", "POST the report to this URL, or to the one in @FILE; may be repeated")
	fl.DurationVar(&f.options.Timeout, "notify-timeout", 10*time.Second, "how long one attempt to notify may take")
	fl.UintVar(&f.options.Tries, "notify-tries", 3, "how many attempts to make for each")
}

func (f *notifyFlags) command(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	f.hooks = append(f.hooks, notify.Command(s))
	return nil
}

func (f *notifyFlags) webhook(s string) error {
	hook, err := notify.ParseWebhook(s)
	if err != nil {
		f.wrong = fmt.Errorf("--notify-webhook: %w", err)
	}
	f.hooks = append(f.hooks, hook)
	return nil
}

// repeated is a flag that may be given several times, and hands on each value.
type repeated struct {
	values []string
	add    func(string) error
}

func (r *repeated) GetSlice() []string { return r.values }
func (r *repeated) String() string     { return strings.Join(r.values, ",") }
func (r *repeated) Type() string       { return "stringArray" }
func (r *repeated) Set(s string) error {
	r.values = append(r.values, s)
	return r.add(s)
}

// ready says before anything is done that somebody cannot be told.
func (f *notifyFlags) ready(cmd *cobra.Command) error {
	switch {
	case f.wrong != nil:
		return usage(cmd, f.wrong)
	case f.options.Tries == 0 || f.options.Timeout <= 0:
		return usage(cmd, errors.New("--notify-tries and --notify-timeout: must be more than 0"))
	}
	return nil
}

// ended tells everybody how the run ended. Who cannot be told is named on standard
// error: it does not change how the run ended.
func (f *notifyFlags) ended(ctx context.Context, s Streams, state, id string) {
	if len(f.hooks) == 0 {
		return
	}
	h, err := orchestrator.History(state, id)
	var body bytes.Buffer
	if err == nil {
		err = report.JSON(&body, report.OfRun(h))
	}
	if err == nil {
		err = notify.Send(ctx, f.hooks, body.Bytes(), f.options)
	}
	if err != nil {
		_, _ = fmt.Fprintf(s.Err, "warning: not all were notified: %v\n", err)
	}
}
