package cli

import (
	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

func newDiagnose(s Streams) *cobra.Command {
	var flags inspectFlags
	cmd := &cobra.Command{
		Use:   "diagnose -i INVENTORY",
		Short: "Say why the API server does or does not answer; changes nothing",
		Long: `diagnose looks at every node and says what is wrong: the verdict in one
sentence, then each finding with its evidence and what to do next. It changes
nothing.`,
		Example: "  kscertctl diagnose -i inventory.ini",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := flags.options(cmd, s)
			if err != nil {
				return err
			}
			opts.Observe = newProgress(s).event
			o, err := orchestrator.New(opts)
			if err != nil {
				return err
			}
			_, d, err := o.Diagnose(cmd.Context())
			if err != nil {
				return err
			}
			if flags.output == "json" {
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
	return cmd
}
