package cli

import (
	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

func newDiagnose(s Streams) *cobra.Command {
	var (
		flags   inspectFlags
		verdict verdictFlags
	)
	cmd := &cobra.Command{
		Use:   "diagnose -i INVENTORY",
		Short: "Say why the API server does or does not answer; changes nothing",
		Long: `diagnose looks at every node and says what is wrong: the verdict in one
sentence, then each finding with its evidence and what to do next. It changes
nothing.`,
		Example: "  kscertctl diagnose -i inventory.ini",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			due, err := verdict.thresholds(cmd)
			if err != nil {
				return err
			}
			snap, err := flags.snapshot(cmd, s)
			if err != nil {
				return err
			}
			d := diagnosis.Diagnose(snap, due)
			if verdict.output == "json" {
				err = report.JSON(s.Out, d)
			} else {
				err = report.Diagnosis(s.Out, d)
			}
			if err == nil && d.Has(diagnosis.NodeUnreachable) {
				return &orchestrator.Error{Code: orchestrator.ExitUnreachable, Summary: "not every node could be reached: what is not known is not healthy", Next: "see the findings above"}
			}
			return err
		},
	}
	flags.register(cmd)
	verdict.register(cmd)
	flags.registerSnapshot(cmd)
	return cmd
}
