package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

func newCA(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Renew or rotate the CAs of a cluster, or use CAs whose keys are kept outside",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCARenew(s), newCARotate(s), newCAStatus(s), newCACSR(s), newCAInstall(s))
	return cmd
}

// caFlags are those of the commands that change what CAs have to do with.
type caFlags struct {
	inspectFlags

	verdict   verdictFlags
	to        results
	yes, back bool
}

func (f *caFlags) register(cmd *cobra.Command) {
	f.opts.Playbook, f.opts.EtcdSnapshot = plan.Auto, plan.SnapshotAuto
	f.inspectFlags.register(cmd)
	f.verdict.register(cmd)
}

// registerRun adds the flags for how a run is carried out; serial is what workers have done in batches.
func (f *caFlags) registerRun(cmd *cobra.Command, serial string) {
	gated(cmd, &f.opts)
	cmd.Flags().StringVar(&f.opts.Serial, "serial", "",
		"how many "+serial+" at a time: a number, or a percentage of them (default: all at once)")
	backupRoot(cmd, &f.opts)
	etcdSnapshot(cmd, &f.opts, "")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "carry out the plan without asking")
	rollbackOnFailure(cmd, &f.back)
	refreshKubeconfigs(cmd, &f.opts)
	f.to.register(cmd)
}

// run carries out a run with these options.
func (f *caFlags) run(cmd *cobra.Command, s Streams, opts orchestrator.Options) error {
	f.to.output = f.verdict.output
	opts.Observe, opts.Approve, opts.RollbackOnFailure = watch(s), approver(s, f.yes), f.back
	return carry(cmd, s, opts, f.to,
		func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
			return o.Run(ctx)
		})
}

func newCARenew(s Streams) *cobra.Command {
	var (
		flags    caFlags
		cas      words
		validity string
	)
	cmd := &cobra.Command{
		Use:   "renew -i INVENTORY",
		Short: "Re-issue CA certificates with their own keys, and put them in place everywhere",
		Long: `renew re-issues the CAs of a healthy cluster, each with its own key and subject, so that
everything they have signed stays valid. It adds what strict clients miss: a subject key
identifier and a key usage.

It shows the plan, asks on a terminal (or takes --yes), backs up each node, has the new
certificates made where the keys are, checks them, and puts them in place on one control
plane at a time behind health gates: files, kubeconfigs, kubelets, etcd. It waits until
every namespace has the new certificate, and proves the result. A run that stops can be
resumed and rolled back. It never makes a new key.`,
		Example: `  kscertctl ca renew -i inventory.ini
  kscertctl ca renew -i inventory.ini --ca cluster --ca front-proxy --yes
  kscertctl ca renew -i inventory.ini --ca etcd --validity 10y`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := flags.authorities(cmd, s, validity)
			if err != nil {
				return err
			}
			opts.RenewCAs = chosenCAs(cas, plan.CAs())
			return flags.run(cmd, s, opts)
		},
	}
	flags.register(cmd)
	cas.only = names(plan.CAs())
	cmd.Flags().Var(&cas, "ca",
		"renew this CA: "+strings.Join(cas.only, ", ")+"; separated by commas, may be repeated (default: all)")
	cmd.Flags().StringVar(&validity, "validity", "",
		"how long the new certificates are valid, such as 10y or 3650d (default: as kubeadm's configuration sets "+
			"it, or as before, and never shorter than now)")
	flags.registerRun(cmd, "workers get the new certificates")
	return cmd
}

// directory is the flag for the requests and certificates of CAs outside of the cluster.
func directory(cmd *cobra.Command, dir *string, what string) {
	cmd.Flags().StringVar(dir, "dir", "", what+" (required)")
}

func newCACSR(s Streams) *cobra.Command {
	var (
		flags     inspectFlags
		verdict   verdictFlags
		dir       string
		overwrite bool
	)
	cmd := &cobra.Command{
		Use:   "csr -i INVENTORY --dir DIR",
		Short: "Request certificates that are due from CAs whose keys are kept outside; changes nothing",
		Long: `csr has each node make a certificate signing request (PKCS #10) for each of its certificates
that is due, with the same subject, names, usages and key. No key leaves its node.

It writes DIR/NODE/NAME.csr, and DIR/requests.json: what each is, which CA must sign it,
and under which name "ca install" expects the certificate. --warn 3650d requests all.`,
		Example: `  kscertctl ca csr -i inventory.ini --dir requests
  kscertctl ca csr -i inventory.ini --dir requests --warn 3650d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := flags.options(s)
			var err error
			if opts.Thresholds, err = verdict.thresholds(cmd); err != nil {
				return err
			}
			if dir == "" {
				return usage(cmd, errors.New("--dir is required: a new directory for the requests"))
			}
			opts.Observe = newProgress(s).event
			o, err := orchestrator.New(opts)
			if err != nil {
				return err
			}
			all, err := o.RequestCertificates(cmd.Context(), dir, overwrite)
			switch {
			case all.Schema == 0:
				return err
			case verdict.output == "json":
				return errors.Join(err, report.JSON(s.Out, all))
			}
			return errors.Join(err, report.Requests(s.Out, dir, all))
		},
	}
	flags.register(cmd)
	verdict.register(cmd)
	directory(cmd, &dir, "directory for the requests: a new or empty one")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace files of the same names in --dir")
	return cmd
}

func newCAInstall(s Streams) *cobra.Command {
	var (
		flags caFlags
		dir   string
	)
	cmd := &cobra.Command{
		Use:   "install -i INVENTORY --dir DIR",
		Short: "Put certificates in place that CAs outside of the cluster have signed",
		Long: `install reads DIR/NODE/*.crt, the answers to the requests of "ca csr", and puts each in the
place of the certificate with the same key. What else is due stays, and is named.

It checks each certificate first, here and on its node: key, subject, names, usages, dates,
and whether those who verify it trust its CA. Then it shows the plan, asks on a terminal
(or takes --yes), backs up each node, and places the certificates as "run" does. A run that
stops can be resumed and rolled back.`,
		Example: `  kscertctl ca install -i inventory.ini --dir requests
  kscertctl ca install -i inventory.ini --dir requests --yes --rollback-on-failure`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := flags.options(s)
			var err error
			if opts.Thresholds, err = flags.verdict.thresholds(cmd); err != nil {
				return err
			}
			if dir == "" {
				return usage(cmd, errors.New("--dir is required: that of ca csr, with the signed certificates"))
			}
			var ignored []string
			opts.Signed, ignored, err = orchestrator.ReadSigned(dir)
			for _, name := range ignored {
				_, _ = fmt.Fprintf(s.Err, "warning: %s is not read: only NODE/NAME.crt is\n", filepath.Join(dir, name))
			}
			if err != nil {
				return err
			}
			return flags.run(cmd, s, opts)
		},
	}
	flags.register(cmd)
	directory(cmd, &dir, "directory of ca csr, with the signed certificates")
	flags.registerRun(cmd, "kubelets get a new certificate")
	return cmd
}

// gated adds the flags for what a run waits for.
func gated(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().DurationVar(&opts.GateTimeout, "gate-timeout", 5*time.Minute, "how long a health gate may take to pass")
	cmd.Flags().DurationVar(&opts.StableFor, "stable-for", 0,
		"how long a gate must hold, without interruption, before the next step")
	stepTimeout(cmd, opts)
	allowNotInInventory(cmd, opts)
}

// The shortest and the longest lifetime of a CA: less than a month is a mistake, and dates after
// the year 9999 cannot be written (RFC 5280, 4.1.2.5).
const (
	leastValidity = 30 * 24 * time.Hour
	mostYears     = 200
)

// authorities returns the options of a command that makes CAs valid for as long as the text states.
func (f *caFlags) authorities(cmd *cobra.Command, s Streams, validity string) (orchestrator.Options, error) {
	opts := f.options(s)
	var err error
	if opts.Thresholds, err = f.verdict.thresholds(cmd); err != nil {
		return opts, err
	}
	if opts.CAValidity, err = parseValidity(validity); err != nil {
		return opts, usage(cmd, err)
	}
	return opts, nil
}

// chosenCAs are those that were named, or all.
func chosenCAs(named words, all []plan.CA) (out []plan.CA) {
	for _, name := range named.values {
		out = append(out, plan.CA(name))
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// parseValidity parses a time such as 10y or 3650d; zero for an empty text.
func parseValidity(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	var d time.Duration
	if years, ok := strings.CutSuffix(text, "y"); ok {
		n, err := strconv.ParseUint(years, 10, 16)
		if err != nil || n > mostYears {
			return 0, fmt.Errorf("--validity %s: not a number of years up to %d", text, mostYears)
		}
		d = time.Duration(n) * 365 * 24 * time.Hour
	} else {
		var err error
		if d, err = config.ParseTime(text); err != nil {
			return 0, fmt.Errorf("--validity: %w", err)
		}
	}
	if d < leastValidity {
		return 0, fmt.Errorf("--validity %s: a CA must be valid for at least 30d", text)
	}
	return d, nil
}
