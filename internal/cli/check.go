package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/atomicfile"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// checkFlags are the flags of check-expiration, in addition to those of every inspection.
type checkFlags struct {
	inspectFlags
	levelFlags
	outputFlags
}

// failLevels maps each value of --fail-on to the first level that fails.
var failLevels = map[string]expiry.Level{
	"warn": expiry.LevelWarning, "crit": expiry.LevelCritical, "never": expiry.LevelCritical + 1,
}

// failOn are the values of --fail-on.
func failOn() []string { return []string{"warn", "crit", "never"} }

// format is a value of -o: its name, and how it prints a document.
type format[T any] struct {
	name  string
	print func(io.Writer, T) error
}

// formatNames are the names of formats, in the order of the help.
func formatNames[T any](all []format[T]) []string {
	out := make([]string, len(all))
	for i, f := range all {
		out[i] = f.name
	}
	return out
}

// expiryOutput is what check-expiration prints: a report, the levels that fail, and how many columns
// there are.
type expiryOutput struct {
	report expiry.Report
	fails  func(expiry.Level) bool
	width  int
}

// checkFormats are the formats of check-expiration.
func checkFormats() []format[expiryOutput] {
	of := func(write func(io.Writer, expiry.Report) error) func(io.Writer, expiryOutput) error {
		return func(w io.Writer, out expiryOutput) error { return write(w, out.report) }
	}
	return []format[expiryOutput]{
		{"table", func(w io.Writer, out expiryOutput) error { return report.ExpiryTable(w, out.report, out.width) }},
		{"wide", of(report.ExpiryWide)},
		{"json", func(w io.Writer, out expiryOutput) error { return report.JSON(w, out.report) }},
		{"yaml", func(w io.Writer, out expiryOutput) error { return report.YAML(w, out.report) }},
		{"prometheus", of(report.ExpiryPrometheus)},
		{"junit", func(w io.Writer, out expiryOutput) error { return report.ExpiryJUnit(w, out.report, out.fails) }},
		{"nagios", of(report.ExpiryNagios)},
		{"ics", of(report.ExpiryCalendar)},
	}
}

func newCheck(s Streams) *cobra.Command {
	var flags checkFlags
	cmd := &cobra.Command{
		Use:     "check-expiration -i INVENTORY",
		Aliases: []string{"check"},
		Short:   "Show when each certificate of each node expires; changes nothing",
		Long: `check-expiration lists the certificates of all nodes, the next to expire first:
those in files and kubeconfigs, and those that ports serve. It changes nothing.
The columns are those of "kubeadm certs check-expiration", with the node and the
status; time is each node's own clock.

The exit code is 0, or 2 when a certificate expires within --warn, 3 when one has
expired or expires within --crit, and 4 when a node could not be inspected; what is
known of the other nodes is printed anyway. --fail-on sets from which level on
codes 2 and 3 are used.

With -o nagios the exit code is that of a monitoring plugin instead: 0 OK,
1 WARNING, 2 CRITICAL, 3 UNKNOWN; --fail-on does not apply.`,
		Example: `  kscertctl check-expiration -i inventory.ini
  kscertctl check -i inventory.ini -o wide
  kscertctl check -i inventory.ini -o json --warn 60d --crit 14d
  kscertctl check -i inventory.ini -o prometheus --fail-on never \
    --output-file /var/lib/prometheus/node-exporter/kscertctl.prom`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.output != "nagios" {
				return flags.run(cmd, s)
			}
			s.Err = io.Discard // some agents take any text there for a failure
			return pluginError(s.Out, flags.run(cmd, s))
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if flags.output != "nagios" {
				return applySettings(cmd, s.Err)
			}
			return pluginError(s.Out, applySettings(cmd, io.Discard))
		},
	}
	flags.inspectFlags.register(cmd)
	flags.registerSnapshot(cmd)
	cmd.Flags().BoolVar(&flags.opts.ClusterSecrets, "cluster-secrets", false,
		"also list certificates in Secrets of type kubernetes.io/tls and of Calico; their keys stay where they are")
	flags.outputFlags.register(cmd, formatNames(checkFormats()))
	flags.levelFlags.register(cmd)
	return cmd
}

// readSecrets reports whether a node was asked for certificates in Secrets.
func readSecrets(n snapshot.Node) bool {
	_, asked := n.Results[snapshot.ResultSecrets]
	return asked
}

// outputFlags choose the format of a report, and where it is written.
type outputFlags struct{ output, outputFile string }

func (f *outputFlags) register(cmd *cobra.Command, formats []string) {
	cmd.Flags().StringVarP(&f.output, "output", "o", formats[0], strings.Join(formats, ", "))
	cmd.Flags().StringVar(&f.outputFile, "output-file", "", "write to this file instead, atomically")
}

// chosenFormat is the format that was chosen.
func chosenFormat[T any](cmd *cobra.Command, f outputFlags, all []format[T]) (format[T], error) {
	i := slices.IndexFunc(all, func(of format[T]) bool { return of.name == f.output })
	if i < 0 {
		return format[T]{}, usage(cmd,
			fmt.Errorf("-o %s: must be one of %s", f.output, strings.Join(formatNames(all), ", ")))
	}
	return all[i], nil
}

// levelFlags define what is a warning and what is critical, and which of them fail.
type levelFlags struct {
	thresholdFlags

	failOn string
}

func (f *levelFlags) register(cmd *cobra.Command) {
	f.thresholdFlags.register(cmd)
	cmd.Flags().StringVar(&f.failOn, "fail-on", "warn",
		"warn, crit or never: from which level on the exit code is 2 or 3")
}

// levels turns the flags into thresholds and into what fails.
func (f *levelFlags) levels(cmd *cobra.Command) (expiry.Thresholds, func(expiry.Level) bool, error) {
	from, ok := failLevels[f.failOn]
	if !ok {
		return expiry.Thresholds{}, nil, usage(cmd, fmt.Errorf("--fail-on %s: must be warn, crit or never", f.failOn))
	}
	t, err := f.thresholds(cmd)
	return t, func(l expiry.Level) bool { return l >= from }, err
}

// run inspects, writes the report and returns its verdict as an error.
func (f *checkFlags) run(cmd *cobra.Command, s Streams) error {
	as, err := chosenFormat(cmd, f.outputFlags, checkFormats())
	if err != nil {
		return err
	}
	t, fails, err := f.levels(cmd)
	if err != nil {
		return err
	}
	snap, err := f.snapshot(cmd, s)
	if err != nil {
		return err
	}
	if f.from != "" && f.opts.ClusterSecrets && !slices.ContainsFunc(snap.Nodes, readSecrets) {
		return usage(cmd,
			fmt.Errorf("--cluster-secrets: %s has no certificates of Secrets; save one with this flag", f.from))
	}
	r := expiry.Of(snap, t)
	var out bytes.Buffer
	if err := as.print(&out, expiryOutput{r, fails, s.Columns}); err != nil {
		return err
	}
	if err := writeOutput(s.Out, f.outputFile, out.Bytes()); err != nil {
		return err
	}
	if f.output == "nagios" {
		return plugin(report.ExpiryNagiosState(r))
	}
	return expiryError(r, fails)
}

// writeOutput writes a report to a file, or to w without one. Others may read the file, because a
// collector of metrics has its own user, and nothing in it is secret.
func writeOutput(w io.Writer, file string, data []byte) error {
	if file == "" {
		_, err := w.Write(data)
		return err
	}
	if err := atomicfile.Write(file, data, 0o644); err != nil {
		return &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err,
			Next: "name a file in a directory that exists and is writable with --output-file"}
	}
	return nil
}

// expiryError is the error for a report; nil if there is nothing to report. An unknown node
// outweighs the rest: more may be wrong than is seen.
func expiryError(r expiry.Report, fails func(expiry.Level) bool) error {
	var bad []string
	for _, status := range slices.Backward(expiry.Statuses()) {
		if n := r.Counts[status]; n > 0 && status.Level() > expiry.LevelOK {
			bad = append(bad, fmt.Sprintf("%d %s", n, status))
		}
	}
	if n := len(r.Unreadable); n > 0 {
		bad = append(bad, fmt.Sprintf("%d unreadable", n))
	}
	e := &orchestrator.Error{Summary: "certificates: " + strings.Join(bad, ", "),
		Next: "to see why, and what would be done: kscertctl diagnose -i INVENTORY"}
	unknown := r.Unknown()
	switch level := r.Level(); {
	case len(unknown) > 0:
		e.Code = orchestrator.ExitUnreachable
		var names, words []string
		for _, n := range unknown {
			names = append(names, n.Name)
			words = append(words, fmt.Sprintf("%s: %s: %s", n.Name, n.Reason, strings.TrimSpace(n.Message)))
		}
		e.Summary = "unknown, so not healthy: " + strings.Join(names, ", ")
		if len(bad) > 0 {
			e.Summary += "; of the others: " + strings.Join(bad, ", ")
		}
		e.Evidence = strings.Join(words, "\n")
		e.Next = "test them with: ansible -i INVENTORY NODE -b -m ansible.builtin.raw -a true"
	case !fails(level):
		return nil
	case level == expiry.LevelCritical:
		e.Code = orchestrator.ExitCritical
	default:
		e.Code = orchestrator.ExitWarning
	}
	return e
}

// reported is an error that has been printed already: only its exit code is left.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }

// plugin returns a state of the Monitoring Plugins as an error; nil for OK.
func plugin(state report.NagiosState) error {
	if state == report.NagiosOK {
		return nil
	}
	return reported{&orchestrator.Error{Code: orchestrator.ExitCode(state), Summary: state.String()}}
}

// pluginError reports to a monitoring system, in its own format, that the check itself failed: any
// other error is UNKNOWN.
func pluginError(w io.Writer, err error) error {
	var done reported
	if err == nil || errors.As(err, &done) {
		return err
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	if _, werr := fmt.Fprintf(w, "KSCERTCTL %s - %s\n", report.NagiosUnknown,
		strings.ReplaceAll(line, "|", "/")); werr != nil {
		return werr
	}
	return plugin(report.NagiosUnknown)
}
