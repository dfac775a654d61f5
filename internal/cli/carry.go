package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/trace"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// carryFlags are the flags of every command that carries a plan out.
type carryFlags struct {
	inspectFlags
	results
}

// results are the flags for the result of a plan that was carried out.
type results struct {
	textOutput

	reports reportDir
	notify  notifyFlags
	// asks is true if the operator will be asked for approval.
	asks bool
}

func (f *carryFlags) register(cmd *cobra.Command) {
	f.inspectFlags.register(cmd)
	cmd.Flags().DurationVar(&f.opts.GateTimeout, "gate-timeout", 0,
		"how long a health gate may take to pass (default: 5m, or as before)")
	cmd.Flags().DurationVar(&f.opts.StableFor, "stable-for", 0,
		"how long a gate must hold, without interruption, before the next step (default: as before)")
	stepTimeout(cmd, &f.opts)
	etcdSnapshot(cmd, &f.opts, " (default: as before)")
	f.events = true
	f.textOutput.register(cmd)
	f.results.register(cmd)
}

// useRecord makes a command one that uses the record of a run.
func (f *carryFlags) useRecord(cmd *cobra.Command) {
	f.register(cmd)
	cmd.Annotations = map[string]string{byRecord: ""}
	cmd.Flags().Lookup("inventory").Usage = "inventory to use instead of the recorded one; may be repeated"
}

// checked validates the flags and returns the options.
func (f *carryFlags) checked(cmd *cobra.Command, s Streams) (orchestrator.Options, error) {
	opts := f.options(s)
	if err := f.check(cmd); err != nil {
		return opts, err
	}
	opts.Observe = watch(s)
	return opts, nil
}

func (r *results) register(cmd *cobra.Command) {
	r.reports.register(cmd)
	r.notify.register(cmd)
}

// again returns the options of an earlier command, overridden by the flags, and changes to the
// directory that it was run in: its ansible.cfg counts.
func (f *carryFlags) again(cmd *cobra.Command, s Streams, r run.Request) (orchestrator.Options, error) {
	opts, err := f.checked(cmd, s)
	if err != nil {
		return opts, err
	}
	here, err := os.Getwd()
	if err != nil {
		return opts, fmt.Errorf("finding the working directory: %w", err)
	}
	opts.Anchor(here)
	if err := opts.Recall(r); err != nil {
		return opts, err
	}
	if err := os.Chdir(r.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return opts, &orchestrator.Error{Code: orchestrator.ExitUsage,
			Summary: "going to the directory the command was run in: " + err.Error(), Err: err,
			Next: "nothing was changed; see that you may enter it, or run the command as the user who ran it first"}
	}
	return opts, nil
}

// watch shows what happens, and the diagnosis before anything is done about it.
func watch(s Streams) func(orchestrator.Event) {
	progress := newProgress(s)
	return func(e orchestrator.Event) {
		progress.event(e)
		if e.Kind == orchestrator.EventDiagnosis && e.Diagnosis.Route != diagnosis.None {
			_ = report.Diagnosis(s.Err, *e.Diagnosis) // only progress: an output error is ignored
		}
	}
}

// lines writes each event as a line, and passes it on. Output errors are ignored.
func lines(w io.Writer, next func(orchestrator.Event)) func(orchestrator.Event) {
	return func(e orchestrator.Event) {
		_ = report.JSONLine(w, e)
		next(e)
	}
}

// carry carries something out and writes the result.
func carry(cmd *cobra.Command, s Streams, opts orchestrator.Options, to results,
	do func(context.Context, *orchestrator.Orchestrator) (orchestrator.Result, error)) error {
	if err := to.prepare(cmd); err != nil {
		return err
	}
	if to.output == jsonLines {
		opts.Observe = lines(s.Out, opts.Observe)
	}
	ctx, done := stopsInOrder(cmd, s, &opts)
	defer done()
	result, err := to.carried(ctx, s, opts, do)
	switch {
	case result.RunID == "":
		return err
	case to.output == jsonLines:
		return err
	case to.output == "json":
		return errors.Join(err, report.JSON(s.Out, result))
	case err != nil:
		return err
	}
	_ = summary(s.Out, result) // what is done is done, even if it cannot be shown
	return nil
}

// prepare reports, before anything is done, that the result cannot be delivered.
func (r *results) prepare(cmd *cobra.Command) error {
	return errors.Join(r.reports.prepare(), r.notify.prepare(cmd))
}

// carried carries something out, and delivers the result everywhere but to standard output.
func (r *results) carried(ctx context.Context, s Streams, opts orchestrator.Options,
	do func(context.Context, *orchestrator.Orchestrator) (orchestrator.Result, error)) (orchestrator.Result, error) {
	telling := r.notify.begin(ctx, s, &opts, r.asks)
	exported, err := export(ctx, s, &opts)
	if err != nil {
		telling.notifyEnd("", err)
		return orchestrator.Result{}, err
	}
	defer exported()
	o, err := orchestrator.New(opts)
	if err != nil {
		telling.notifyEnd("", err)
		return orchestrator.Result{}, err
	}
	result, err := do(ctx, o)
	telling.notifyEnd(result.RunID, err)
	if result.RunID == "" {
		return result, err
	}
	if unwritten := r.reports.writeAll(s, opts.StateDir, result.RunID); unwritten != nil {
		err = errors.Join(err, unwritten)
	}
	return result, err
}

// export lets the events in opts become a trace, where OpenTelemetry's variables ask for one; ended
// exports the rest of it. That it cannot be exported does not change the run's result.
func export(ctx context.Context, s Streams, opts *orchestrator.Options) (ended func(), err error) {
	t, err := trace.Begin(ctx, built().Version)
	if err != nil {
		return nil, &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err,
			Next: "nothing was changed; correct this variable, or export no traces with OTEL_TRACES_EXPORTER=none"}
	}
	next := opts.Observe
	opts.Observe = func(e orchestrator.Event) { // t may be nil
		t.Event(e)
		if next != nil {
			next(e)
		}
	}
	return func() {
		if err := t.End(ctx); err != nil {
			_, _ = fmt.Fprintf(s.Err, "warning: the trace is incomplete: %v\n", err)
		}
	}, nil
}
