package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/exporter"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// exporterFlags are the flags of the exporter, in addition to those of every inspection.
type exporterFlags struct {
	inspectFlags

	thresholdFlags
	interval, timeout time.Duration
	listen            exporter.Listen
	// fleet is used if its file is given.
	fleet fleetFlags
}

func newExporter(s Streams) *cobra.Command {
	flags := exporterFlags{inspectFlags: inspectFlags{timeout: "connect-timeout"}}
	cmd := &cobra.Command{
		Use:   "exporter -i INVENTORY",
		Short: "Export the expiry of certificates to Prometheus; changes nothing",
		Long: `exporter inspects all nodes every --interval and serves the result at /metrics:
the metrics of "check-expiration -o prometheus", and those of the inspection
itself. A scrape never waits for a node. A node that does not answer keeps the
metrics of its last answer; kscertctl_node_up shows it, and
kscertctl_exporter_node_last_success_timestamp_seconds since when.

/healthz answers 503 only when the exporter itself is stuck. The inventory is
read again for each inspection. --web.config.file turns on TLS and basic
authentication, in the format of the Prometheus project's exporters.

With --fleet it inspects the clusters of a fleet file, each every --interval, at most
--parallel-clusters at the same time and spread over the interval. Their metrics have
the label "cluster". The fleet file is read once.

Where node_exporter runs already, its textfile collector needs no other daemon:
see "kscertctl check-expiration --help".`,
		Example: `  kscertctl exporter -i inventory.ini
  kscertctl exporter -i inventory.ini --interval 6h --web.listen-address 127.0.0.1:9995
  kscertctl exporter -i inventory.ini --web.config.file web.yml
  kscertctl exporter --fleet fleet.yaml --selector env=prod`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.serve(cmd, s) },
	}
	flags.inspectFlags.register(cmd)
	flags.thresholdFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&flags.fleet.file, "fleet", "", "instead of -i: the clusters of this fleet file")
	flags.fleet.choosing(cmd, 8)
	fl.Lookup("state-dir").Usage = "keep the run directory of each inspection in this directory (default: none is kept)"
	fl.DurationVar(&flags.interval, "interval", time.Hour, "time between inspections; up to a tenth is added at random")
	fl.DurationVar(&flags.timeout, "timeout", 10*time.Minute, "how long an inspection may take")
	fl.StringArrayVar(&flags.listen.Addresses, "web.listen-address", []string{":9995"},
		"address to serve at; may be repeated")
	fl.StringVar(&flags.listen.ConfigFile, "web.config.file", "", "file that turns on TLS or basic authentication")
	return cmd
}

func (f *exporterFlags) serve(cmd *cobra.Command, s Streams) error {
	t, err := f.thresholds(cmd)
	if err != nil {
		return err
	}
	for name, d := range map[string]time.Duration{"--interval": f.interval, "--timeout": f.timeout} {
		if d < time.Second {
			return usage(cmd, fmt.Errorf("%s %s: must be 1s or more", name, d))
		}
	}
	log := slog.New(slog.NewTextHandler(s.Err, nil))
	all, err := f.exporters(cmd, s, t, log)
	if err != nil {
		return err
	}
	if err := all.Serve(cmd.Context(), f.listen, log); err != nil {
		return &orchestrator.Error{
			Code: orchestrator.ExitUsage, Err: err,
			Summary: "cannot serve the metrics: " + err.Error(),
			Next:    "see --web.listen-address and --web.config.file",
		}
	}
	return nil
}

// exporters are the one of an inventory, or those of the clusters of a fleet.
func (f *exporterFlags) exporters(cmd *cobra.Command, s Streams, t expiry.Thresholds, log *slog.Logger) (exporter.Set,
	error) {
	base := exporter.Options{Interval: f.interval, Timeout: f.timeout, Log: log}
	if f.fleet.file == "" {
		if name := cmp.Or(f.fleet.selector, changed(cmd, "parallel-clusters")); name != "" {
			return nil, usage(cmd, errors.New(
				"--selector and --parallel-clusters are about a fleet: name it with --fleet"))
		}
		opts := f.options(s)
		if _, err := orchestrator.New(opts); err != nil { // known errors are returned now, not logged later
			return nil, err
		}
		base.Inspect = inspection(opts, t)
		return exporter.Set{exporter.New(base)}, nil
	}
	if changed(cmd, "inventory") != "" {
		return nil, usage(cmd, errors.New("--fleet names the inventories, so it takes no -i"))
	}
	c, err := f.fleet.choose(cmd, s, nil)
	if err != nil {
		return nil, err
	}
	var all exporter.Set
	slots := make(chan struct{}, f.fleet.parallel)
	for i, of := range c.clusters {
		var flags checkFlags
		if t, _, err = c.flagsOf(cmd, &flags, of); err != nil {
			return nil, err
		}
		opts := flags.options(s)
		opts.Output, opts.StateDir, opts.Ansible.Ask = nil, f.opts.StateDir, c.ask
		opts.Ansible.Timeout = cmp.Or(f.opts.Ansible.Timeout, opts.Ansible.Timeout)
		own := base
		own.Inspect, own.Cluster, own.Slots, own.Log = inspection(opts, t), of.Name, slots, log.With("cluster", of.Name)
		// The first inspections run all at once, within the limit; later ones are spread over the
		// interval.
		own.Offset = f.interval*time.Duration(i)/time.Duration(len(c.clusters)) - f.interval/2
		all = append(all, exporter.New(own))
	}
	return all, nil
}

// changed is the value of a flag that was given; empty otherwise.
func changed(cmd *cobra.Command, name string) string {
	if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
		return f.Value.String()
	}
	return ""
}

// inspection inspects all nodes with these options, in a directory of its own unless one is given.
func inspection(opts orchestrator.Options, t expiry.Thresholds) func(context.Context) (expiry.Report, error) {
	return func(ctx context.Context) (r expiry.Report, err error) {
		opts := opts
		if opts.StateDir == "" {
			if opts.StateDir, err = os.MkdirTemp("", "kscertctl-"); err != nil {
				return r, err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(opts.StateDir)) }()
		}
		o, err := orchestrator.New(opts) // the inventory may have changed by now
		if err != nil {
			return r, err
		}
		snap, err := o.Inspect(ctx)
		return expiry.Of(snap, t), err
	}
}
