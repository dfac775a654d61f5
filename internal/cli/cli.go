// Package cli is the command line: flags in, rendered result out, no logic.
//
// Standard output has data, standard error has progress. Without a terminal as standard input, no
// question is asked.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// Streams are the inputs and outputs of the command line.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Columns is the width of Out if it is a terminal; 0 otherwise.
	Columns int
	// Terminal is true if In and Err are one: only then is anything asked.
	Terminal bool
	// Password asks for a password; nil if no one can be asked.
	Password func(prompt string) (string, error)
}

// OSStreams are the streams of the process.
func OSStreams() Streams {
	s := Streams{In: os.Stdin, Out: os.Stdout, Err: newScreen(os.Stderr, os.Getenv)}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		s.Terminal, s.Password = term.IsTerminal(int(os.Stderr.Fd())), readPassword
	}
	if columns, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		s.Columns = columns
	}
	return s
}

// printable returns streams whose outputs are stripped of everything that a terminal would
// interpret: names, paths and messages come from nodes. A screen's own sequences are exempt.
func (s Streams) printable() Streams {
	s.Out = printable.NewWriter(s.Out)
	if _, ok := s.Err.(*screen); !ok {
		s.Err = &screen{w: s.Err}
	}
	return s
}

// Main runs the command line and returns its exit code.
func Main(args []string, s Streams) int {
	outlivePipes()
	ctx, stop := interrupts()
	defer stop()
	s = s.printable()
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if s, ok := s.Err.(*screen); ok {
		s.clear()
	}
	if pipeClosed(err) {
		return exitPipe
	}
	if err != nil && !errors.As(err, new(reported)) {
		printError(s.Err, err)
	}
	return int(orchestrator.Code(err))
}

// Command is the command line as a tree, to generate man pages and completions from. Do not execute
// it; Main does that.
func Command() *cobra.Command {
	return newRoot(Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
}

func newRoot(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "kscertctl",
		Short: "Recover Kubespray clusters whose certificates have expired",
		Long: `kscertctl recovers Kubespray clusters whose certificates have expired.

It inspects every node through Ansible, shows why the API server does or does not
answer, chooses a route, carries it out one control plane at a time behind health
gates, and proves the result. CAs and service account keys stay unchanged.`,
		Example: `  kscertctl check-expiration -i inventory.ini
  kscertctl diagnose -i inventory.ini
  kscertctl run -i inventory.ini
  kscertctl run -i inventory.ini --yes --kubespray-dir kubespray --playbook upgrade-cluster`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return applySettings(cmd, s.Err) },
		Version:           built().Version,
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentFlags().String("config", "",
		"configuration file (default: "+config.FileName+" here, or in $XDG_CONFIG_HOME/kscertctl)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	root.AddCommand(
		newCheck(s), newExporter(s), newDiagnose(s), newPlan(s), newApply(s), newRun(s), newFleet(s), newCA(s),
		newStatus(s), newReport(s), newRuns(s), newResume(s), newRollback(s), newBackup(s), newUnlock(s), newExplain(s),
		newConfig(s), newVersion(s),
	)
	root.InitDefaultCompletionCmd()
	wrapArgs(root)
	complete(root)
	groupFlags(root, s.Columns)
	return root
}

// wrapArgs gives wrong arguments the exit code of wrong usage.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage(c, err)
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		wrapArgs(child)
	}
}

func usage(cmd *cobra.Command, err error) error {
	return &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err,
		Next: "see: " + cmd.CommandPath() + " --help"}
}

// printError prints what went wrong, the evidence, and what to do next.
func printError(w io.Writer, err error) {
	printLines(w, "error: ", err.Error())
	var e *orchestrator.Error
	if !errors.As(err, &e) {
		return
	}
	for line := range strings.Lines(e.Evidence) {
		_, _ = fmt.Fprintf(w, "  | %s\n", strings.TrimRight(line, "\r\n"))
	}
	printLines(w, "  hint: ", e.Hint)
	printLines(w, "  next: ", e.Next)
}

// printLines prints lines with a prefix each, so that none can pass for other output; nothing for
// an empty text.
func printLines(w io.Writer, prefix, text string) {
	for line := range strings.Lines(text) {
		_, _ = fmt.Fprintf(w, "%s%s\n", prefix, strings.TrimRight(line, "\r\n"))
		prefix = strings.Repeat(" ", len(prefix))
	}
}

// build describes this program.
type build struct {
	// Schema is the version of this document.
	Schema int `json:"schema"`
	// Version is that of the release, or of the commit after one.
	Version string `json:"version"`
	// Commit is the last commit; absent in a release from a module proxy.
	Commit string `json:"commit,omitempty"`
	// Time is that of the commit, RFC 3339.
	Time string `json:"time,omitempty"`
	// Modified reports uncommitted changes.
	Modified bool `json:"modified,omitempty"`
	// Go is the version of Go that it was built with.
	Go string `json:"go"`
	// Platform is the operating system and the architecture, such as "linux/amd64".
	Platform string `json:"platform"`
}

// buildSchema is the version of the JSON form of a build.
const buildSchema = 1

// built reads what the Go tool recorded.
func built() build {
	b := build{Schema: buildSchema, Version: "(devel)", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func newVersion(s Streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch output {
			case "json":
				return report.JSON(s.Out, built())
			case "text":
				_, err := fmt.Fprintf(s.Out, "kscertctl %s\n", built().Version)
				return err
			default:
				return usage(cmd, fmt.Errorf("-o %s: must be text or json", output))
			}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
