package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// fleetCheckFlags are the flags of "fleet check".
type fleetCheckFlags struct {
	fleetFlags
	levelFlags
	outputFlags

	state string
}

// fleetExpiry is what "fleet check" prints: a report, and which levels fail in each cluster.
type fleetExpiry struct {
	report expiry.Fleet
	fails  map[string]func(expiry.Level) bool
}

// fleetCheckFormats are the formats of "fleet check".
func fleetCheckFormats() []format[fleetExpiry] {
	of := func(write func(io.Writer, expiry.Fleet) error) func(io.Writer, fleetExpiry) error {
		return func(w io.Writer, out fleetExpiry) error { return write(w, out.report) }
	}
	return []format[fleetExpiry]{
		{"table", of(report.FleetTable)},
		{"wide", of(report.FleetWide)},
		{"json", of(report.FleetJSON)},
		{"html", of(report.FleetHTML)},
		{"prometheus", of(report.FleetPrometheus)},
		{"junit", func(w io.Writer, out fleetExpiry) error {
			return report.FleetJUnit(w, out.report,
				func(name string, l expiry.Level) bool { return out.fails[name](l) })
		}},
		{"ics", of(report.FleetCalendar)},
	}
}

func newFleetCheck(s Streams) *cobra.Command {
	var flags fleetCheckFlags
	cmd := &cobra.Command{
		Use:   "check [CLUSTER...] -f FILE",
		Short: "Show what expires first in many clusters; changes nothing",
		Long: `check inspects the clusters of a fleet file, or those that are named, and lists what
expires first over all of them: a line for each cluster, or with -o wide for each
certificate. It changes nothing. Clusters that cannot be inspected come first, and a
cluster that hangs delays no other.

The exit code is the worst of all clusters; that of each is in the document. html is a
page with a picture of the next two years; junit has a suite, ics an event and
prometheus the label "cluster" for each cluster.`,
		Example: `  kscertctl fleet check -f fleet.yaml
  kscertctl fleet check -f fleet.yaml --selector env=prod --parallel-clusters 16
  kscertctl fleet check -f fleet.yaml -o html --output-file fleet.html`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return flags.run(cmd, s, args) },
	}
	flags.fleetFlags.register(cmd, 8)
	flags.outputFlags.register(cmd, formatNames(fleetCheckFormats()))
	flags.levelFlags.register(cmd)
	cmd.Flags().StringVar(&flags.state, "state-dir", "", stateUsage)
	return cmd
}

// checked is the check of one cluster.
type checked struct {
	fleet.Cluster
	thresholds expiry.Thresholds
	fails      func(expiry.Level) bool
	// inspect inspects the cluster, or returns why it cannot be inspected.
	inspect func(context.Context) (expiry.Report, error)

	report *expiry.Report
	err    error
}

// run inspects the clusters, writes the report and returns the verdict as an error.
func (f *fleetCheckFlags) run(cmd *cobra.Command, s Streams, names []string) error {
	as, err := chosenFormat(cmd, f.outputFlags, fleetCheckFormats())
	if err != nil {
		return err
	}
	c, err := f.choose(cmd, s, names)
	if err != nil {
		return err
	}
	all := make([]checked, len(c.clusters))
	for i, of := range c.clusters {
		if all[i], err = c.check(cmd, s, of); err != nil {
			return err
		}
	}
	taken := time.Now().UTC()
	p := newProgress(s)
	inParallel(len(all), f.parallel, func(i int) {
		m := &all[i]
		r, err := m.inspect(cmd.Context())
		if err == nil {
			m.report, err = &r, expiryError(r, m.fails)
		}
		m.err, m.inspect = err, nil // frees what an inspection holds
		p.line("%s: %s", m.Name, outcome(err))
	})
	if err := f.write(s.Out, fleetReport(taken, all), all, as); err != nil {
		return err
	}
	errs := make([]error, len(all))
	for i, m := range all {
		errs[i] = m.err
	}
	return summed("not healthy, or unknown", c.names(), errs,
		"to see one of them: "+orchestrator.Command("", "fleet", "check", "CLUSTER", "-f", c.path, "-o", "wide"))
}

// write renders the report to standard output as it goes, since a large one would be in memory twice, or
// replaces the output file by it.
func (f *fleetCheckFlags) write(w io.Writer, r expiry.Fleet, all []checked, as format[fleetExpiry]) error {
	what := fleetExpiry{r, map[string]func(expiry.Level) bool{}}
	for _, m := range all {
		what.fails[m.Name] = m.fails
	}
	if f.outputFile == "" {
		out := bufio.NewWriter(w)
		return errors.Join(as.print(out, what), out.Flush())
	}
	var out bytes.Buffer
	if err := as.print(&out, what); err != nil {
		return err
	}
	return writeOutput(w, f.outputFile, out.Bytes())
}

// names are those of the clusters.
func (c chosen) names() (out []string) {
	for _, of := range c.clusters {
		out = append(out, of.Name)
	}
	return out
}

// outcome is a line about how work on a cluster finished.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// flagsOf sets the flags of a check for one cluster, and returns its levels.
func (c chosen) flagsOf(cmd *cobra.Command, flags *checkFlags, of fleet.Cluster) (expiry.Thresholds,
	func(expiry.Level) bool, error) {
	one := &cobra.Command{Use: "check-expiration", Args: cobra.NoArgs}
	flags.inspectFlags.register(one)
	flags.levelFlags.register(one)
	if err := c.settle(cmd, one, of); err != nil {
		return expiry.Thresholds{}, nil, err
	}
	t, fails, err := flags.levels(cmd)
	if e, ok := errors.AsType[*orchestrator.Error](err); ok {
		e.Summary = fmt.Sprintf("%s: cluster %s: %s", of.Origin, of.Name, e.Summary)
	}
	return t, fails, err
}

// check prepares the check of one cluster, like check-expiration.
func (c chosen) check(cmd *cobra.Command, s Streams, of fleet.Cluster) (checked, error) {
	var flags checkFlags
	m := checked{Cluster: of}
	var err error
	if m.thresholds, m.fails, err = c.flagsOf(cmd, &flags, of); err != nil {
		return m, err
	}
	opts := flags.options(s)
	opts.Output = nil // with several at the same time the output would be mixed
	opts.Ansible.Ask = c.ask
	o, err := orchestrator.New(opts)
	m.inspect = func(ctx context.Context) (expiry.Report, error) {
		if err != nil {
			return expiry.Report{}, err
		}
		snap, err := o.Inspect(ctx)
		return expiry.Of(snap, m.thresholds), err
	}
	return m, nil
}

// fleetReport is the document of checks.
func fleetReport(taken time.Time, all []checked) expiry.Fleet {
	worst := orchestrator.ExitDone
	members := make([]expiry.Member, len(all))
	for i, m := range all {
		code := orchestrator.Code(m.err)
		worst = orchestrator.Worst(worst, code)
		members[i] = expiry.Member{Name: m.Name, Labels: m.Labels, ExitCode: int(code), Report: m.report}
		if m.err != nil {
			members[i].Error = m.err.Error()
		}
		if e, ok := errors.AsType[*orchestrator.Error](m.err); ok {
			members[i].Next = e.Next
		}
	}
	return expiry.OfFleet(taken, int(worst), members)
}
