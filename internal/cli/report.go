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
		Short: "Show what a run saw and did, for people and for pipelines",
		Long: `report shows what a run or a rollback saw and did, by default the newest, from its
record on this machine: the verdict, each step and gate with its nodes and times,
certificates and findings before and after, backups, and how to resume or roll back.
A run that was refused or killed is reported too. It connects to no node.

-o markdown, the default, fits a ticket. -o html is one self-contained page to read,
print or pass on. -o json is for programs, and -o junit has a test case for each
step and each gate. With --report-dir all of them are written into a directory, as
RUN.md, RUN.html, RUN.json and RUN.junit.xml; run, apply, resume and rollback accept
it too.

Ansible's own output is in none of them: it stays in the run directory. The exit code
is 0 whatever that of the run was.`,
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
			if err := dir.prepare(); err != nil {
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
	cmd.Flags().StringVar(&state, "state-dir", "", "directory for run records (default: $XDG_STATE_HOME/kscertctl)")
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
