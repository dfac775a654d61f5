package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newResume(s Streams) *cobra.Command {
	var (
		flags carryFlags
		yes   bool
	)
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
passwords: pass them again. A record that others may have written is refused.

With -i, and where no record is found here, the copies on the control planes count
too: the machine that ran may be gone. They define what is done, and not how nodes
are reached: pass the flags of the run again. The plan is shown and approved again.`,
		Example: `  kscertctl status
  kscertctl resume
  kscertctl resume 20260301T110000Z-abcdef
  kscertctl resume -i inventory.ini`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, p, err := earlier(cmd, s, &flags.inspectFlags, args)
			if err != nil {
				return err
			}
			recalled := p.Request.Recalled != nil && !p.Request.Recalled.Approved
			if r.State.Ended == run.Done && (recalled || !r.State.Unlocking()) && flags.output == "text" {
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
			opts.Approve, flags.asks, flags.notify.of = approver(s, yes), recalled && s.Terminal && !yes, r.ID
			return carry(cmd, s, opts, flags.results,
				func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
					return o.Resume(ctx, r.ID)
				})
		},
	}
	flags.useRecord(cmd)
	acceptLosses(cmd, &flags.opts)
	allowNotInInventory(cmd, &flags.opts)
	allowUnreachable(cmd, &flags.opts)
	serial(cmd, &flags.opts, "as before")
	tags(cmd, &flags.opts)
	recordedBackupRoot(cmd, &flags.opts)
	cmd.Flags().BoolVar(&yes, "yes", false, "approve a plan that comes from control planes without asking")
	return cmd
}

// recordedBackupRoot adds the flag that a record of this machine makes unnecessary.
func recordedBackupRoot(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringVar(&opts.BackupRoot, "backup-root", "",
		"directory on each node for backups (default: as before)")
}

// earlier finds the named run, or the newest, for the inventory if one is given, and its request: on
// this machine, or else on control planes.
func earlier(cmd *cobra.Command, s Streams, flags *inspectFlags, args []string) (r run.Record, p run.Proposal,
	err error) {
	name := strings.Join(args, "")
	r, err = found(cmd, flags.opts.StateDir, name)
	inventories, ierr := givenInventories(cmd)
	if ierr != nil {
		return r, p, ierr
	}
	if !cmd.Flags().Changed("inventory") && (err == nil || len(inventories) == 0) {
		return recorded(cmd, flags.opts.StateDir, name)
	}
	given := flags.opts
	if err := settleRecorded(cmd); err != nil { // there may be no record here
		return r, p, err
	}
	if r, err = flags.recall(cmd, s, name, r, err); err != nil {
		return r, p, err
	}
	running := r.Running
	if r, p, err = recorded(cmd, flags.opts.StateDir, r.ID); err == nil && p.Request.Recalled == nil {
		flags.opts = given // a run continues as it was begun
	}
	r.Running = running
	return r, p, err
}

// recorded is the named run, or the newest, and its request, as this machine has them.
func recorded(cmd *cobra.Command, state, name string) (r run.Record, p run.Proposal, err error) {
	if r, err = found(cmd, state, name); err != nil {
		return r, p, err
	}
	if err := orchestrator.TrustRun(r); err != nil {
		return r, p, err
	}
	p, err = orchestrator.LoadRun(state, r.ID)
	return r, p, err
}

// found is the named run, or the newest, as far as this machine knows.
func found(cmd *cobra.Command, state, name string) (run.Record, error) {
	if name != "" {
		return orchestrator.FindRun(state, name)
	}
	return newest(cmd, state)
}

// recall asks the control planes for runs, and finds the run again: r and err are what was found
// before.
func (f *inspectFlags) recall(cmd *cobra.Command, s Streams, name string, r run.Record, err error) (run.Record,
	error) {
	kept, asked := f.kept(cmd, s, name)
	if asked != nil {
		if err != nil {
			return r, asked
		}
		_, _ = fmt.Fprintf(s.Err, "warning: %v\n", asked) // the record here is still one
		return r, nil
	}
	r, err = found(cmd, f.opts.StateDir, name)
	for i, k := range kept { // the newest first
		switch {
		case k.ID == r.ID:
			r.Running = r.Running || k.Running
		case err == nil && (name != "" || k.ID < r.ID) || !strings.HasPrefix(k.ID, name):
			continue
		}
		if k.Err != nil {
			return r, instead(cmd, f.opts.StateDir, k.Err, name, kept[i+1:])
		}
	}
	return r, err
}

// instead names, in the error about the newest run, the one before it that can be used: which of them
// is meant is not decided here.
func instead(cmd *cobra.Command, state string, err error, name string, older []run.Record) error {
	e, explained := errors.AsType[*orchestrator.Error](err)
	i := slices.IndexFunc(older, func(r run.Record) bool { return r.Err == nil })
	if name != "" || !explained || i < 0 {
		return err
	}
	out := *e
	out.Next += ". The newest that can be used: " +
		orchestrator.Command(state, cmd.Name(), older[i].ID, "-i", "INVENTORY")
	return &out
}

// kept asks the control planes for the runs that they keep.
func (f *inspectFlags) kept(cmd *cobra.Command, s Streams, name string) ([]run.Record, error) {
	opts := f.options(s)
	opts.Observe = newProgress(s).event
	o, err := orchestrator.New(opts)
	if err != nil {
		return nil, err
	}
	return o.Recall(cmd.Context(), name)
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
	from, err := readElsewhere(cmd)
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
