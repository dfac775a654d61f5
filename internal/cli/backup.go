package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newBackup(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "List, verify or prune the backups on the nodes",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	keep := 10
	prune := backupCommand(s, "prune", "Remove all but the newest backups of each node",
		func(o *orchestrator.Orchestrator, ctx context.Context, _ string) ([]run.Backup, error) {
			return o.PruneBackups(ctx, keep)
		})
	prune.Args = cobra.NoArgs
	prune.Use = "prune -i INVENTORY"
	prune.Long = `prune removes all but the newest backups of each node. Backups of runs that did
not finish stay: these runs can still be resumed or rolled back.`
	prune.Flags().IntVar(&keep, "keep", keep, "how many complete backups to keep on each node")
	prune.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if keep < 1 {
			return usage(cmd, errors.New("--keep: must be at least 1"))
		}
		return nil
	}
	cmd.AddCommand(
		backupCommand(s, "list", "List the backups on the nodes", (*orchestrator.Orchestrator).ListBackups),
		backupCommand(s, "verify", "Read backups and compare them with their manifests",
			(*orchestrator.Orchestrator).VerifyBackups),
		prune,
	)
	return cmd
}

// backupCommand is a command that does something with backups on all nodes and lists them.
func backupCommand(s Streams, name, short string,
	do func(*orchestrator.Orchestrator, context.Context, string) ([]run.Backup, error)) *cobra.Command {
	var (
		flags  inspectFlags
		root   string
		output recordFlags
	)
	cmd := &cobra.Command{
		Use:   name + " -i INVENTORY [RUN]",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := output.check(cmd); err != nil {
				return err
			}
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			opts := flags.options(s)
			opts.BackupRoot = root
			o, err := orchestrator.New(opts)
			if err != nil {
				return err
			}
			backups, err := do(o, cmd.Context(), id)
			if backups == nil && err != nil {
				return err
			}
			all := report.Backups{Schema: 1, Backups: backups}
			if output.output == "json" {
				return errors.Join(err, report.JSON(s.Out, all))
			}
			return errors.Join(err, all.Text(s.Out))
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&root, "backup-root", orchestrator.DefaultBackupRoot, "directory on each node for backups")
	cmd.Flags().StringVarP(&output.output, "output", "o", "text", "text or json")
	return cmd
}
