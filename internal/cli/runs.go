package cli

import (
	"cmp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newRuns(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs that this machine and control planes know",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var flags keptFlags
	list := &cobra.Command{
		Use:   "list",
		Short: "List runs and rollbacks, the newest first",
		Long: `list lists the runs and rollbacks that are recorded on this machine, the newest
first.

With -i, those that the control planes of the inventory keep are listed, too, from
whatever machine they were started.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			var kept []run.Record
			if cmd.Flags().Changed("inventory") {
				var err error
				if kept, err = flags.kept(cmd, s, ""); err != nil {
					return err
				}
			}
			records, err := orchestrator.Runs(flags.opts.StateDir)
			if err != nil {
				return err
			}
			records = merged(records, kept)
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

// merged are the runs of both lists, the newest first: of two records of a run the one that has got
// further, and where that is running it is.
func merged(here, kept []run.Record) []run.Record {
	for _, k := range kept {
		i := slices.IndexFunc(here, func(r run.Record) bool { return r.ID == k.ID })
		switch {
		case i < 0:
			here = append(here, k)
		case k.Err != nil || len(k.Entries) > len(here[i].Entries):
			k.Path, k.Inventories = here[i].Path, here[i].Inventories
			here[i] = k
		default:
			here[i].Running = here[i].Running || k.Running
		}
	}
	slices.SortFunc(here, func(a, b run.Record) int { return cmp.Compare(b.ID, a.ID) })
	return here
}
