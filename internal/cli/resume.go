package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newResume(s Streams) *cobra.Command {
	var flags carryFlags
	cmd := &cobra.Command{
		Use:   "resume [RUN]",
		Short: "Continue a run that was stopped or killed",
		Long: `resume continues a run or a rollback at its first step that is not done: the newest,
or, with -i, the newest of that inventory. A step that was interrupted is done
again, and so is the change before a gate that did not pass. Before that it makes
sure that no one else works on the run or on the cluster, that the cluster is the
one the plan was made for, and that no process of the run is left on a node.

How the nodes are reached is in the run's record; flags override it. Values of -e
NAME=VALUE, arguments of ssh and options after -- are not in it, since they may be
passwords: pass them again. A record that others may have written is refused.`,
		Example: `  kscertctl status
  kscertctl resume
  kscertctl resume 20260301T110000Z-abcdef`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, p, err := earlier(cmd, flags.opts.StateDir, args)
			if err != nil {
				return err
			}
			if r.State.Ended == run.Done && flags.output == "text" {
				_, _ = fmt.Fprintf(s.Out,
					"Run %s is done: there is nothing to resume.\nTo see how the cluster is now: kscertctl diagnose "+
						"-i INVENTORY\n",
					r.ID)
				return nil
			}
			opts, err := flags.again(cmd, s, p.Request)
			if err != nil {
				return err
			}
			return carry(cmd, s, opts, flags.results,
				func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
					return o.Resume(ctx, r.ID)
				})
		},
	}
	flags.useRecord(cmd)
	acceptLosses(cmd, &flags.opts)
	allowNotInInventory(cmd, &flags.opts)
	serial(cmd, &flags.opts, "as before")
	return cmd
}

// earlier finds the named run, or the newest, for the inventory if one is given, and its request.
func earlier(cmd *cobra.Command, state string, args []string) (r run.Record, p run.Proposal, err error) {
	if len(args) > 0 {
		r, err = orchestrator.FindRun(state, args[0])
	} else {
		r, err = newest(cmd, state)
	}
	if err != nil {
		return r, run.Proposal{}, err
	}
	if err := orchestrator.TrustRun(r); err != nil {
		return r, run.Proposal{}, err
	}
	p, err = orchestrator.LoadRun(state, r.ID)
	return r, p, err
}

// newest is the newest run, for the inventory if one is given.
func newest(cmd *cobra.Command, state string) (run.Record, error) {
	inventories, err := givenInventories(cmd)
	if err != nil {
		return run.Record{}, err
	}
	if len(inventories) > 0 {
		return orchestrator.FindRunOf(state, inventories)
	}
	return orchestrator.FindRun(state, "")
}

// givenInventories are those of a flag, of the environment or of kscertctl.yaml: they choose the
// cluster, even if the connection comes from a record.
func givenInventories(cmd *cobra.Command) ([]string, error) {
	const name = "inventory"
	from, err := readElsewhere(cmd.Root(), configFlag(cmd))
	if err != nil {
		return nil, err
	}
	v := from.values[name]
	if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
		given, err := cmd.Flags().GetStringArray(name)
		if err != nil {
			return nil, fmt.Errorf("-i: %w", err)
		}
		v = config.Value{Values: given}
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the working directory: %w", err)
	}
	var out []string
	for _, text := range v.Values {
		before, path := anchor.Inventory(text)
		out = append(out, before+anchor.Path(here, place(v.Origin, path)))
	}
	return out, nil
}
