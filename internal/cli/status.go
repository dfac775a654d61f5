package cli

import (
	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// recordFlags are the flags of commands that read the records of runs and ask no node.
type recordFlags struct {
	state string
	textOutput
}

func (f *recordFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.state, "state-dir", "", stateUsage)
	f.textOutput.register(cmd)
}

func newStatus(s Streams) *cobra.Command {
	var flags recordFlags
	cmd := &cobra.Command{
		Use:   "status [RUN]",
		Short: "Show the progress of a run",
		Long: `status shows the progress of a run, by default the newest, from its record on this
machine: which steps are done, which one was in progress, what stopped it, and what
can be done now. It connects to no node.`,
		Example: `  kscertctl status
  kscertctl status 20260301T110000Z-abcdef -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			r, err := orchestrator.FindRun(flags.state, name)
			if err != nil {
				return err
			}
			if r.Err != nil {
				return &orchestrator.Error{Code: orchestrator.ExitUnexpected, Summary: r.Err.Error(), Err: r.Err,
					Next: "its record is in " + r.Path + "; the others: kscertctl runs list"}
			}
			p, err := orchestrator.LoadRun(flags.state, r.ID)
			if err != nil {
				return err
			}
			status := report.Status(r, p)
			if flags.output == "json" {
				return report.JSON(s.Out, status)
			}
			return status.Text(s.Out)
		},
	}
	flags.register(cmd)
	return cmd
}
