package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
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

With --runbook it prints what a person would type instead, as Markdown: the
commands for this cluster, and only for what is due. On route "renew" these are
the ansible-playbook commands of "run", on route "recover" shell for each node.

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
			var hand *report.ByHand
			if runbook {
				if hand, err = byHand(cmd, flags.opts, snap, due); err != nil {
					return err
				}
			}
			if err := write(s.Out, verdict.output, hand, snap, report.Assess(snap, d, p, unplanned)); err != nil {
				return err
			}
			if slices.ContainsFunc(snap.Nodes, func(n snapshot.Node) bool { return n.Failure != nil }) {
				return &orchestrator.Error{Code: orchestrator.ExitUnreachable,
					Summary: "not every node could be inspected: what is not known is not healthy",
					Next:    "see the findings above"}
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

// byHand is how the operator calls Ansible: like this command, without what may be secret. The run
// of the manual steps is named by the time of the snapshot.
func byHand(
	cmd *cobra.Command, opts orchestrator.Options, snap snapshot.Snapshot, due diagnosis.Thresholds,
) (*report.ByHand, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the working directory: %w", err)
	}
	opts.Anchor(here)
	opts.Thresholds = due
	id := "manual-" + snap.Taken.UTC().Format("20060102T150405Z")
	hand := &report.ByHand{Dir: opts.KubesprayDir, BinDir: opts.Ansible.BinDir, Settings: opts.Settings(id)}
	others := []string{"verbose", "become", "ansible-bin"}
	for _, s := range settings() {
		f := s.flagOf(cmd)
		if s.group != reach || f == nil || f.Value.String() == f.DefValue || slices.Contains(others, s.name) {
			continue
		}
		name, values := "--"+s.name, []string{f.Value.String()}
		if f.Shorthand != "" {
			name = "-" + f.Shorthand
		}
		if many, ok := f.Value.(list); ok {
			values = many.GetSlice()
		}
		for _, value := range values {
			switch {
			case s.show != nil && s.show(value) != value:
				hand.Omitted = append(hand.Omitted, name)
			case f.Value.Type() == "bool":
				hand.Ansible = append(hand.Ansible, name)
			case s.path != nil:
				before, path := s.path(value)
				hand.Ansible = append(hand.Ansible, name, before+anchor.Path(here, path))
			default:
				hand.Ansible = append(hand.Ansible, name, value)
			}
		}
	}
	if len(opts.Ansible.Args) > 0 {
		hand.Omitted = append(hand.Omitted, "options after --")
	}
	hand.Omitted = slices.Compact(hand.Omitted)
	return hand, nil
}

// write renders an assessment in the format of the flags; as a runbook if hand is not nil.
func write(w io.Writer, format string, hand *report.ByHand, snap snapshot.Snapshot, a report.Assessment) error {
	switch {
	case hand != nil:
		return report.Runbook(w, snap, a, *hand)
	case format == "json":
		return report.JSON(w, a)
	default:
		return a.Text(w)
	}
}
