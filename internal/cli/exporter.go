package cli

import (
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

// exporterFlags are those of the exporter, beside those of every look.
type exporterFlags struct {
	inspectFlags

	thresholdFlags
	interval, timeout time.Duration
	listen            exporter.Listen
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

Where node_exporter runs already, its textfile collector needs no other daemon:
see "kscertctl check-expiration --help".`,
		Example: `  kscertctl exporter -i inventory.ini
  kscertctl exporter -i inventory.ini --interval 6h --web.listen-address 127.0.0.1:9995
  kscertctl exporter -i inventory.ini --web.config.file web.yml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.serve(cmd, s) },
	}
	flags.inspectFlags.register(cmd)
	flags.thresholdFlags.register(cmd)
	fl := cmd.Flags()
	fl.Lookup("state-dir").Usage = "keep the run directory of each inspection in this directory (default: none is kept)"
	fl.DurationVar(&flags.interval, "interval", time.Hour, "time between inspections; up to a tenth is added at random")
	fl.DurationVar(&flags.timeout, "timeout", 10*time.Minute, "how long an inspection may take")
	fl.StringArrayVar(&flags.listen.Addresses, "web.listen-address", []string{":9995"}, "address to serve at; may be repeated")
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
	opts := f.options(s)
	if _, err := orchestrator.New(opts); err != nil { // what can be known now is not told to a log
		return err
	}
	e := exporter.New(exporter.Options{
		Interval: f.interval, Timeout: f.timeout, Log: slog.New(slog.NewTextHandler(s.Err, nil)),
		Inspect: func(ctx context.Context) (r expiry.Report, err error) {
			opts := opts
			if opts.StateDir == "" {
				if opts.StateDir, err = os.MkdirTemp("", "kscertctl-"); err != nil {
					return r, err
				}
				defer func() { err = errors.Join(err, os.RemoveAll(opts.StateDir)) }()
			}
			o, err := orchestrator.New(opts) // the inventory may be another by now
			if err != nil {
				return r, err
			}
			snap, err := o.Inspect(ctx)
			return expiry.Of(snap, t), err
		},
	})
	if err := e.Serve(cmd.Context(), f.listen); err != nil {
		return &orchestrator.Error{
			Code: orchestrator.ExitUsage, Err: err,
			Summary: "cannot serve the metrics: " + err.Error(),
			Next:    "see --web.listen-address and --web.config.file",
		}
	}
	return nil
}
