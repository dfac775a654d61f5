package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newUnlock(s Streams) *cobra.Command {
	var (
		flags inspectFlags
		yes   bool
	)
	cmd := &cobra.Command{
		Use:   "unlock -i INVENTORY",
		Short: "Show who has locked the cluster, and break the lock",
		Long: `unlock shows whose run has locked the cluster, since when, and the last heartbeat,
asks on a terminal (or takes --yes), and breaks the lock.

Breaking the lock of a run that is still active lets two runs change the same
nodes. When the owner has died, resume its run or roll it back instead: both take
over the lock.`,
		Example: "  kscertctl unlock -i inventory.ini",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := flags.options(s)
			opts.Observe = newProgress(s).event
			ctx, done := stopsInOrder(cmd, s, &opts)
			defer done()
			o, err := orchestrator.New(opts)
			if err != nil {
				return err
			}
			found, err := o.Unlock(ctx, func(ctx context.Context, h run.Holding, v run.Verdict) (bool, error) {
				_, _ = fmt.Fprintf(s.Err, "\nlocked by       %s\nsince           %s\nlast heartbeat  %s ago\n", h.Owner,
					h.Owner.Started.Format(time.RFC3339), h.Age)
				if v == run.Held {
					_, _ = fmt.Fprintln(s.Err, "its owner appears to be running")
				} else {
					_, _ = fmt.Fprintln(s.Err, "its owner appears to be dead")
				}
				return ask(ctx, s, yes, "Break this lock?")
			})
			if err != nil {
				return err
			}
			if found == nil {
				_, err = fmt.Fprintln(s.Out, "The cluster is not locked.")
			} else {
				_, err = fmt.Fprintf(s.Out, "Unlocked: run %s of %s no longer holds the cluster.\n", found.Owner.Run,
					found.Owner.User)
			}
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "break the lock without asking")
	return cmd
}
