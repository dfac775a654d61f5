package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

func newReport(s Streams) *cobra.Command {
	var (
		state, output string
		dir           reportDir
	)
	cmd := &cobra.Command{
		Use:   "report [RUN]",
		Short: "Report what a run saw and did, for people and for pipelines",
		Long: `report tells what a run or a rollback saw and did, by default the newest, from its
record on this machine: the verdict, each step and gate with its nodes and times,
certificates and findings before and after, backups, and how to go on or back. A run
that was refused or killed is reported too. It asks no node.

-o markdown, the default, fits a ticket. -o html is one page that needs nothing but
itself, to be read, printed or handed on. -o json is for programs, and -o junit has a
test case for each step and each gate. With --report-dir all of them are written into
a folder, as RUN.md, RUN.html, RUN.json and RUN.junit.xml; run, apply, resume and
rollback take it too.

Ansible's own output is in none of them: it stays in the run directory. The exit code
is 0 whatever the run's was.`,
		Example: `  kscertctl report
  kscertctl report -o html > report.html
  kscertctl report 20260301T110000Z-abcdef -o json
  kscertctl report --report-dir reports
  kscertctl run -i inventory.ini --yes --report-dir reports`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			write, err := runFormat(cmd, output)
			if err != nil {
				return err
			}
			if err := dir.ready(); err != nil {
				return err
			}
			h, err := orchestrator.History(state, strings.Join(args, ""))
			if err != nil {
				return err
			}
			r := report.OfRun(h)
			if err := dir.write(s, r); err != nil || dir != "" && !cmd.Flags().Changed("output") {
				return err
			}
			return write(s.Out, r)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "markdown", strings.Join(runFormats(), ", "))
	dir.register(cmd)
	cmd.Flags().StringVar(&state, "state-dir", "", "folder for run directories (default: $XDG_STATE_HOME/kscertctl)")
	return cmd
}

// runFormats are the values of report's -o.
func runFormats() []string {
	var out []string
	for _, f := range report.RunFormats() {
		out = append(out, f.Name)
	}
	return out
}

// runFormat returns the renderer that -o names.
func runFormat(cmd *cobra.Command, name string) (func(io.Writer, report.Run) error, error) {
	all := report.RunFormats()
	i := slices.IndexFunc(all, func(f report.RunFormat) bool { return f.Name == name })
	if i < 0 {
		return nil, usage(cmd, fmt.Errorf("-o %s: must be one of %s", name, strings.Join(runFormats(), ", ")))
	}
	return all[i].Write, nil
}
