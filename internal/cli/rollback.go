package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
)

func newRollback(s Streams) *cobra.Command {
	var (
		flags carryFlags
		yes   bool
		lose  bool
		nodes []string
	)
	cmd := &cobra.Command{
		Use:   "rollback [RUN]",
		Short: "Restore what was there before a run",
		Long: `rollback restores, on every node that a run changed or on some of them, what was
there before it: every file with its owner, mode and times; what the run added is
removed. By default it is about the newest run, or, with -i, the newest of that
inventory.

It is a run of its own: it shows its plan and asks, backs up the present state first,
has gates where the state to restore was healthy, and can itself be resumed and
rolled back. Every backup is verified before anything is changed.

Files that others have changed since the run are listed, because those changes are
lost. A yes on the terminal approves that; --yes does so only with
--discard-changes.

With -i, and where no record is found here, the copies on the control planes count,
as for resume.`,
		Example: `  kscertctl rollback
  kscertctl rollback 20260301T110000Z-abcdef --node cp2 --yes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			of, p, err := earlier(cmd, s, &flags.inspectFlags, args)
			if err != nil {
				return err
			}
			opts, err := flags.again(cmd, s, p.Request)
			if err != nil {
				return err
			}
			opts.Approve, flags.asks, flags.notify.of = undoer(s, yes, lose), s.Terminal && !yes, of.ID
			return carry(cmd, s, opts, flags.results,
				func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
					return o.Rollback(ctx, of.ID, nodes)
				})
		},
	}
	flags.useRecord(cmd)
	recordedBackupRoot(cmd, &flags.opts)
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "only this node; may be repeated")
	cmd.Flags().BoolVar(&yes, "yes", false, "roll back without asking")
	cmd.Flags().BoolVar(&lose, "discard-changes", false,
		"with --yes: also revert what others have changed since the run")
	return cmd
}

// undoer is the approver of a rollback: --yes does not approve the loss of what others have changed
// since, which has a flag of its own.
func undoer(s Streams, yes, lose bool) func(context.Context, orchestrator.Proposal) (bool, error) {
	ask := approver(s, yes)
	return func(ctx context.Context, p orchestrator.Proposal) (bool, error) {
		ok, err := ask(ctx, p)
		if ok && yes && !lose {
			err = p.Unseen()
		}
		return ok && err == nil, err
	}
}
