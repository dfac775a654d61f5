package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/internal/fleetjob"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// fleetWorkFlags are those of "fleet work".
type fleetWorkFlags struct {
	run    fleetRunFlags
	index  int
	check  bool
	result string
}

func newFleetWork(s Streams) *cobra.Command {
	flags := fleetWorkFlags{run: fleetRunFlags{yes: true, recall: true}}
	flags.run.parallel = 1
	cmd := &cobra.Command{
		Use:   "work CLUSTER... -f FILE --index 0",
		Short: "Work on one cluster of a fleet, as a Pod of \"fleet submit\"",
		Long: `work is the command in the Pods of what "fleet submit" submits. On the cluster with
this index among those that are named it does what "fleet run --yes" does. A run there
that an earlier Pod left after a change is resumed, never begun again: its record is in
--state-dir, or comes from the control planes if it is younger than a day.`,
		Example: `  kscertctl fleet work fra1 fra2 -f fleet.yaml --index 1 --state-dir /var/lib/kscertctl`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if flags.index < 0 || flags.index >= len(names) {
				return usage(cmd, fmt.Errorf("--index %d: must be 0 to %d, one of the clusters", flags.index,
					len(names)-1))
			}
			if flags.run.state == "" {
				return usage(cmd, errors.New("--state-dir is missing: the next Pod finds there what this one leaves"))
			}
			return flags.work(cmd, s, names[flags.index])
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&flags.run.file, "file", "f", fleet.FileName, "fleet file")
	fl.IntVar(&flags.index, "index", 0, "which of the clusters, counted from 0")
	fl.StringVar(&flags.run.wait, "wait", "0", "how long to wait for windows to open, such as 12h")
	fl.BoolVar(&flags.check, "check", false, "only check the certificates")
	fl.StringVar(&flags.result, "result-file", "", "write the result of the cluster to this file, as JSON")
	flags.run.recordFlags.register(cmd)
	return cmd
}

// work works on the cluster and writes the result.
func (f *fleetWorkFlags) work(cmd *cobra.Command, s Streams, name string) error {
	if err := f.run.recordFlags.check(cmd); err != nil {
		return err
	}
	at := report.FleetCluster{Name: name, Labels: map[string]string{}, State: report.FleetDone}
	doc, err := f.do(cmd, s, name)
	if doc != nil && len(doc.Clusters) == 1 {
		at = doc.Clusters[0]
	} else if err != nil {
		m := member{at: &at}
		m.ended(err)
		at.State = report.FleetFailed
	}
	if f.result != "" {
		if err := os.WriteFile(f.result, fleetjob.Result(at), 0o600); err != nil {
			_, _ = fmt.Fprintf(s.Err, "warning: the result is not in --result-file: %v\n", err)
		}
	}
	return f.run.written(s, doc, err)
}

// do returns the document of the work; nil for a check, or if the work has not begun.
func (f *fleetWorkFlags) do(cmd *cobra.Command, s Streams, name string) (*report.FleetRun, error) {
	if f.check {
		one := fleetCheckFlags{fleetFlags: f.run.fleetFlags}
		one.output = fleetCheckFormats()[0].name
		return nil, one.run(cmd, s, []string{name})
	}
	// Each cluster has its records in a directory of its own: so the newest one is that of this cluster.
	f.run.state = filepath.Join(f.run.state, name)
	r, err := orchestrator.FindFleet(f.run.state, "")
	if err != nil { // there is none
		return f.run.run(cmd, s, []string{name})
	}
	earlier, err := readFleet(r)
	if errors.Is(err, fs.ErrNotExist) { // it has begun nothing
		return f.run.run(cmd, s, []string{name})
	}
	if err != nil {
		return nil, err
	}
	names := []string{name}
	for i := range earlier.Clusters {
		m := member{at: &earlier.Clusters[i]}
		if m.at.Name != name || m.at.State == report.FleetDone {
			continue
		}
		if id, err := m.continues(); id != "" || err != nil {
			f.run.resume, names = r.ID, nil
		}
	}
	return f.run.run(cmd, s, names)
}
