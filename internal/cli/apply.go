package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newApply(s Streams) *cobra.Command {
	var (
		flags carryFlags
		back  bool
	)
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Carry out a plan that \"plan --out\" wrote",
		Long: `apply carries out a plan that was made and looked at before, without asking
again. It locks the cluster, looks at every node once more, and refuses with exit
code 7 when a node is no longer what the plan was made for, naming the file.

How the nodes are reached is in the plan; flags win over it. Extra variables that
were given as -e NAME=VALUE are not in it, since they may be passwords: give them
again.`,
		Example: `  kscertctl plan -i inventory.ini --out renewal.json
  kscertctl apply renewal.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := run.ReadProposal(args[0])
			if err != nil {
				return proposalError(err)
			}
			opts, err := flags.again(cmd, s, p.Request)
			if err != nil {
				return err
			}
			opts.RollbackOnFailure = back
			return carry(cmd, s, opts, flags.results, func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
				return o.Apply(ctx, p)
			})
		},
	}
	flags.register(cmd)
	acceptSANLoss(cmd, &flags.opts)
	allowNotInInventory(cmd, &flags.opts)
	serial(cmd, &flags.opts, "as before")
	rollbackOnFailure(cmd, &back)
	return cmd
}

func rollbackOnFailure(cmd *cobra.Command, back *bool) {
	cmd.Flags().BoolVar(back, "rollback-on-failure", false, "roll back by itself when it stops after a change (exit code 9)")
}

// proposalError explains a plan file that cannot be used.
func proposalError(err error) error {
	e := &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err, Next: "name a file that was written by: kscertctl plan --out FILE"}
	if _, ok := errors.AsType[*run.DamagedError](err); ok {
		e.Code, e.Next = orchestrator.ExitNotBegun, "nothing was changed; make a new plan"
	}
	return e
}
