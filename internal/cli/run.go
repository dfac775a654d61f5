package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// runFlags are the flags of every command that recovers or renews.
type runFlags struct {
	planFlags
	results

	// back rolls back a run that stops after a change.
	back bool
}

func (f *runFlags) register(cmd *cobra.Command) {
	f.verdict.events = true
	f.planFlags.register(cmd)
	rollbackOnFailure(cmd, &f.back)
	refreshKubeconfigs(cmd, &f.inspect.opts)
	f.results.register(cmd)
}

func refreshKubeconfigs(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringArrayVar(&opts.RefreshKubeconfigs, "refresh-kubeconfig", nil,
		"at the end, update the certificate, key and CAs in this copy of admin.conf on this machine; may be repeated")
}

// options returns the options from the flags.
func (f *runFlags) options(cmd *cobra.Command, s Streams) (orchestrator.Options, error) {
	opts, err := f.planFlags.options(cmd, s)
	f.textOutput, opts.RollbackOnFailure = f.verdict.textOutput, f.back
	return opts, err
}

func newRun(s Streams) *cobra.Command {
	var (
		flags runFlags
		yes   bool
	)
	cmd := &cobra.Command{
		Use:   "run -i INVENTORY",
		Short: "Recover a cluster, or renew what is due: diagnose, plan, ask, apply, prove",
		Long: `run recovers a cluster whose certificates have expired, and renews certificates
that are about to expire.

It diagnoses the cluster, shows the plan, asks on a terminal (or takes --yes),
backs up what it will change on each node, works on one control plane at a time
behind health gates, and proves the result. On a healthy cluster it does
nothing. It refuses, and changes nothing, when no certificate explains why the
API server does not answer.`,
		Example: `  kscertctl run -i inventory.ini
  kscertctl run -i inventory.ini --yes
  kscertctl run -i inventory.ini --yes --kubespray-dir kubespray --playbook upgrade-cluster`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := flags.options(cmd, s)
			if err != nil {
				return err
			}
			opts.Observe, opts.Approve, flags.asks = watch(s), approver(s, yes), s.Terminal && !yes
			return carry(cmd, s, opts, flags.results,
				func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
					return o.Run(ctx)
				})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "carry out the plan without asking")
	return cmd
}

// approver shows the plan and asks for a yes on a terminal.
func approver(s Streams, yes bool) func(context.Context, orchestrator.Proposal) (bool, error) {
	return func(ctx context.Context, p orchestrator.Proposal) (bool, error) {
		_, _ = fmt.Fprintln(s.Err)
		if err := report.Plan(s.Err, p.Plan); err != nil && !yes { // with --yes no one has to read it
			return false, err
		}
		return ask(ctx, s, yes, "Carry out this plan?")
	}
}

// ask asks on a terminal, and accepts only a yes.
func ask(ctx context.Context, s Streams, yes bool, question string) (bool, error) {
	switch {
	case yes:
		return true, nil
	case !s.Terminal:
		return false, errors.New("stdin is not a terminal: pass --yes to approve")
	}
	_, _ = fmt.Fprintf(s.Err, "\n%s Only 'yes' is accepted to approve: ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(s.In).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case a := <-answer:
		return a == "yes", nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// summary fits on a screen: what was wrong, what was done, and the state now.
func summary(w io.Writer, r orchestrator.Result) error {
	if len(r.Plan.Steps) == 0 && r.Plan.Undoes != "" {
		_, err := fmt.Fprintf(w, "Run %s changed nothing on any node: there is nothing to restore.\n", r.Plan.Undoes)
		return err
	}
	if len(r.Plan.Steps) == 0 {
		text := fmt.Sprintf("Nothing to do: %s.\n", r.Before.Verdict)
		if len(r.Plan.Warnings) > 0 {
			text = fmt.Sprintf("Nothing to do on the selected nodes.\nCluster: %s.\n%s.\n", r.Before.Verdict,
				strings.Join(r.Plan.Warnings, ".\n"))
		}
		if _, err := fmt.Fprint(w, text+"Next to expire on each node:\n"); err != nil {
			return err
		}
		return errors.Join(report.Expiry(w, r.Snapshot), report.Notes(w, r.Notes))
	}
	if _, err := fmt.Fprintf(w, `Before:  %s
Done:    %d steps in %s
After:   %s
Next to expire on each node:
`, r.Before.Verdict, len(r.Plan.Steps), time.Duration(r.Seconds*float64(time.Second)).Round(time.Second),
		r.After.Verdict); err != nil {
		return err
	}
	if err := report.Expiry(w, r.Snapshot); err != nil {
		return err
	}
	if err := report.Notes(w, r.Notes); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "Backups: %s on each node that was changed\nRecord:  %s\n", r.Backups, r.Dir)
	return err
}
