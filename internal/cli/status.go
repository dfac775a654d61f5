package cli

import (
	"strings"

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

// keptFlags are those of commands that also ask control planes, if an inventory is given.
type keptFlags struct {
	inspectFlags
	textOutput
}

func (f *keptFlags) register(cmd *cobra.Command) {
	f.inspectFlags.register(cmd)
	cmd.Flags().Lookup("inventory").Usage = "also ask the control planes of this inventory; may be repeated"
	f.textOutput.register(cmd)
}

func newStatus(s Streams) *cobra.Command {
	var flags keptFlags
	cmd := &cobra.Command{
		Use:   "status [RUN]",
		Short: "Show the progress of a run",
		Long: `status shows the progress of a run, by default the newest, from its record on this
machine: which steps are done, which one was in progress, what stopped it, and what
can be done now. It connects to no node.

With -i, it also reads what the control planes keep of runs, from whatever machine
they were started.`,
		Example: `  kscertctl status
  kscertctl status 20260301T110000Z-abcdef -o json
  kscertctl status -i inventory.ini`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			name := strings.Join(args, "")
			r, err := orchestrator.FindRun(flags.opts.StateDir, name)
			if cmd.Flags().Changed("inventory") {
				r, err = flags.recall(cmd, s, name, r, err)
			}
			if err != nil {
				return err
			}
			if r.Err != nil {
				return &orchestrator.Error{Code: orchestrator.ExitUnexpected, Summary: r.Err.Error(), Err: r.Err,
					Next: "its record is in " + r.Path + "; the others: " +
						orchestrator.Command(flags.opts.StateDir, "runs", "list")}
			}
			p, err := orchestrator.LoadRun(flags.opts.StateDir, r.ID)
			if err != nil {
				return err
			}
			status := report.Status(r, p)
			status.StateDir = orchestrator.OtherStateDir(flags.opts.StateDir)
			if flags.output == "json" {
				return report.JSON(s.Out, status)
			}
			return status.Text(s.Out)
		},
	}
	flags.register(cmd)
	return cmd
}
