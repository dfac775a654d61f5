package cli

import (
	"errors"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func newDiagnose(s Streams) *cobra.Command {
	var (
		flags   inspectFlags
		verdict verdictFlags
		runbook bool
	)
	cmd := &cobra.Command{
		Use:   "diagnose -i INVENTORY",
		Short: "Show why the API server does or does not answer; changes nothing",
		Long: `diagnose inspects every node and reports what is wrong. It changes nothing.

It prints the verdict in one sentence, then each finding with its evidence and what
to do next, how far the control node and the nodes get when they connect to the
API, and what "run" would do.

With --runbook it prints what a person would type instead, node by node, as
Markdown: the commands for this cluster, and only for what is due.

The exit code is 0 whatever it finds, and 4 when a node could not be inspected.
With --from-snapshot it connects to no node and needs neither inventory nor
Ansible.`,
		Example: `  kscertctl diagnose -i inventory.ini
  kscertctl diagnose -i inventory.ini --runbook > runbook.md
  kscertctl diagnose -i inventory.ini --save-snapshot case.json
  kscertctl diagnose --from-snapshot case.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			due, err := verdict.thresholds(cmd)
			if err != nil {
				return err
			}
			if runbook && verdict.output != "text" {
				return usage(cmd, errors.New("--runbook is text, so it takes no -o"))
			}
			snap, err := flags.snapshot(cmd, s)
			if err != nil {
				return err
			}
			d := diagnosis.Diagnose(snap, due)
			p, unplanned := plan.Make(snap.Cluster(), snap, d, plan.Policy{Choice: plan.Auto})
			if err := write(s.Out, verdict.output, runbook, snap, report.Assess(snap, d, p, unplanned)); err != nil {
				return err
			}
			if slices.ContainsFunc(snap.Nodes, func(n snapshot.Node) bool { return n.Failure != nil }) {
				return &orchestrator.Error{Code: orchestrator.ExitUnreachable, Summary: "not every node could be inspected: what is not known is not healthy", Next: "see the findings above"}
			}
			return nil
		},
	}
	flags.register(cmd)
	verdict.register(cmd)
	cmd.Flags().BoolVar(&runbook, "runbook", false, "print what to type by hand on this cluster, as Markdown")
	flags.registerSnapshot(cmd)
	return cmd
}

// write renders an assessment as the flags say.
func write(w io.Writer, format string, runbook bool, snap snapshot.Snapshot, a report.Assessment) error {
	switch {
	case runbook:
		return report.Runbook(w, snap, a)
	case format == "json":
		return report.JSON(w, a)
	default:
		return a.Text(w)
	}
}
