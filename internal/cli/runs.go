package cli

import (
	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

func newRuns(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs that were recorded on this machine",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var flags recordFlags
	list := &cobra.Command{
		Use:   "list",
		Short: "List runs and rollbacks, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			records, err := orchestrator.Runs(flags.state)
			if err != nil {
				return err
			}
			all := report.List(records)
			if flags.output == "json" {
				return report.JSON(s.Out, all)
			}
			return all.Text(s.Out)
		},
	}
	flags.register(list)
	cmd.AddCommand(list)
	return cmd
}
