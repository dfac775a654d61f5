package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

func newExplain(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "explain REASON",
		Short: "Show what a reason code of a diagnosis means and what to do",
		Long: `explain shows what a reason code of diagnose, plan or a report means, how severe
it is, whether it keeps kscertctl from changing anything, and what to do. It
connects to no node.`,
		Example: `  kscertctl explain served-certificate-stale`,
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion,
			cobra.ShellCompDirective) {
			var out []cobra.Completion
			if len(args) == 0 {
				for _, r := range diagnosis.Reasons() {
					out = append(out, cobra.CompletionWithDesc(string(r), r.Title()))
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r := diagnosis.Reason(args[0])
			if !slices.Contains(diagnosis.Reasons(), r) {
				return usage(cmd, fmt.Errorf(
					"%q is not a reason code; complete it with the tab key, or see docs/reference/reason-codes.md",
					args[0]))
			}
			changes := "allowed"
			if r.Blocks() {
				changes = "refused while it lasts"
			}
			_, err := fmt.Fprintf(s.Out, "Reason:    %s\nMeans:     %s\nSeverity:  %s\nChanges:   %s\nNext:      %s\n",
				r, r.Title(), r.Severity(), changes, r.Next())
			return err
		},
	}
}
