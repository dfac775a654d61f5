package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// planFlags are the flags of every command that makes a plan.
type planFlags struct {
	inspect inspectFlags
	verdict verdictFlags
	// limit and skip choose a part of the plan.
	limit, skip words
	// dueBefore is a date, or a time from now, as given; empty for none.
	dueBefore string
}

func (f *planFlags) register(cmd *cobra.Command) {
	f.inspect.opts.Playbook, f.inspect.opts.EtcdSnapshot = plan.Auto, plan.SnapshotAuto
	f.inspect.register(cmd)
	f.verdict.register(cmd)
	cmd.Flags().StringVar(&f.dueBefore, "due-before", "",
		"due, in addition to --warn: what expires before this date (2026-12-24) or within this time (38d), such as "+
			"a week after the next scheduled run (default: for a fleet with windows, a week after the next one opens)")
	cmd.Flags().Var(oneOf[plan.Choice]{&f.inspect.opts.Playbook, plan.Choices()}, "playbook",
		"what reconciles the cluster after, or instead of, the pre-phase: "+strings.Join(names(plan.Choices()), ", "))
	cmd.Flags().DurationVar(&f.inspect.opts.GateTimeout, "gate-timeout", 5*time.Minute,
		"how long a health gate may take to pass")
	cmd.Flags().DurationVar(&f.inspect.opts.StableFor, "stable-for", 0,
		"how long a gate must hold, without interruption, before the next step")
	stepTimeout(cmd, &f.inspect.opts)
	acceptLosses(cmd, &f.inspect.opts)
	allowNotInInventory(cmd, &f.inspect.opts)
	allowUnreachable(cmd, &f.inspect.opts)
	f.skip.only = names(plan.Phases())
	cmd.Flags().VarP(&f.limit, "limit", "l",
		"work on these nodes only: names of nodes, or a group such as kube_node; separated by commas, may be repeated")
	cmd.Flags().Var(&f.skip, "skip-phases",
		"skip these phases: "+strings.Join(names(plan.Phases()), ", ")+"; separated by commas, may be repeated")
	cmd.Flags().Var(oneOf[plan.Phase]{&f.inspect.opts.UntilPhase, plan.Phases()}, "until-phase",
		"stop the plan after the last step of this phase and its gate")
	serial(cmd, &f.inspect.opts, "all at once")
	cmd.Flags().IntVar(&f.inspect.opts.MaxUnavailable, "max-unavailable", 1,
		"how many control planes with a usable API server are renewed between two gates: never the last one, nor "+
			"more than etcd's quorum allows")
	tags(cmd, &f.inspect.opts)
	backupRoot(cmd, &f.inspect.opts)
	etcdSnapshot(cmd, &f.inspect.opts, "")
}

func etcdSnapshot(cmd *cobra.Command, opts *orchestrator.Options, fallback string) {
	cmd.Flags().Var(oneOf[plan.EtcdSnapshot]{&opts.EtcdSnapshot, plan.EtcdSnapshots()}, "etcd-snapshot",
		fmt.Sprintf("whether backups hold a snapshot of etcd: auto (not where etcd does not answer, space is short, "+
			"or it would "+
			"take longer than %.0f s), always (without it, nothing is changed), never%s",
			plan.SnapshotBound.Seconds(), fallback))
}

func tags(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringArrayVarP(&opts.Tags, "tags", "t", nil, "pass --tags to Kubespray's playbook; may be repeated")
	cmd.Flags().StringArrayVar(&opts.SkipTags, "skip-tags", nil,
		"pass --skip-tags to Kubespray's playbook; may be repeated")
}

func backupRoot(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringVar(&opts.BackupRoot, "backup-root", orchestrator.DefaultBackupRoot,
		"directory on each node for backups")
}

func serial(cmd *cobra.Command, opts *orchestrator.Options, fallback string) {
	cmd.Flags().StringVar(&opts.Serial, "serial", "",
		"how many kubelets get a new certificate at a time: a number, or a percentage of them; stops after a batch "+
			"in which all fail (default: "+fallback+")")
}

func stepTimeout(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().DurationVar(&opts.StepTimeout, "step-timeout", 0,
		"how long a step's playbook may take before it is stopped (default: 1h, 12h for Kubespray's)")
}

// acceptLosses takes names, not a yes to all of them: each accepted loss has been reviewed.
func acceptLosses(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringArrayVar(&opts.AcceptSANLoss, "accept-san-loss", nil,
		"let a new certificate lose this name, which otherwise stops the run; may be repeated")
	cmd.Flags().StringArrayVar(&opts.AcceptSubjectChange, "accept-subject-change", nil,
		"let the new certificate in this file have another subject, which otherwise stops the run; may be repeated")
}

// allowNotInInventory takes names in the same way: each has been found to be healthy.
func allowNotInInventory(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringArrayVar(&opts.AllowNotInInventory, "allow-not-in-inventory", nil,
		"change control planes although this control plane or etcd member is not in the inventory; it is assumed to "+
			"be healthy; may be repeated")
}

// allowUnreachable takes names, too: each has been found to be down.
func allowUnreachable(cmd *cobra.Command, opts *orchestrator.Options) {
	cmd.Flags().StringArrayVar(&opts.AllowUnreachable, "allow-unreachable", nil,
		"leave this node out if it cannot be reached; may be repeated")
}

// options returns the options from the flags.
func (f *planFlags) options(cmd *cobra.Command, s Streams) (orchestrator.Options, error) {
	opts := f.inspect.options(s)
	due, err := f.verdict.thresholds(cmd)
	if err != nil {
		return opts, err
	}
	within, err := dueWithin(f.dueBefore, time.Now())
	if err != nil {
		err = usage(cmd, fmt.Errorf("--due-before: %w", err))
	}
	due.RenewBefore = max(due.RenewBefore, within)
	opts.Thresholds, opts.Limit = due, f.limit.values
	for _, name := range f.skip.values {
		opts.SkipPhases = append(opts.SkipPhases, plan.Phase(name))
	}
	return opts, err
}

// dueWithin is the time from now until a date, or a time such as 38d; zero for an empty text and
// for a date that has passed.
func dueWithin(text string, now time.Time) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return max(0, at.Sub(now)).Truncate(time.Second), nil
		}
	}
	within, err := config.ParseTime(text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a date such as 2026-12-24 nor a time such as 38d", text)
	}
	return within, nil
}

func newPlan(s Streams) *cobra.Command {
	var (
		flags  planFlags
		out    string
		detail bool
	)
	cmd := &cobra.Command{
		Use:   "plan -i INVENTORY",
		Short: "Show what \"run\" would do, and keep it for \"apply\"; changes nothing",
		Long: `plan inspects every node and shows what "run" would do: the steps with their
reasons, nodes, playbooks and gates, what users of the cluster will notice, and what
is not known. It changes nothing.

With --out the plan is kept in a file together with all its inputs; "apply" carries
it out as long as the nodes have not changed. The file holds no secrets. Its SHA-256
is printed: "apply --digest" carries out this file only. With --from-snapshot it
connects to no node: the plan is shown, and cannot be applied.`,
		Example: `  kscertctl plan -i inventory.ini
  kscertctl plan -i inventory.ini --out renewal.json
  kscertctl plan -i inventory.ini --detailed-exitcode
  kscertctl plan --from-snapshot case.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, digest, err := flags.propose(cmd, s, out)
			if err != nil {
				return err
			}
			if flags.verdict.output == "json" {
				err = report.JSON(s.Out, report.Proposal{Schema: p.Schema, Made: p.Made, Cluster: p.Cluster,
					Diagnosis: p.Diagnosis, Plan: p.Plan, Digest: digest})
			} else {
				err = report.Proposed(s.Out, p, out, digest)
			}
			if err == nil && detail && len(p.Plan.Steps) > 0 {
				err = reported{&orchestrator.Error{Code: orchestrator.ExitWarning, Summary: "changes are needed"}}
			}
			return err
		},
	}
	flags.register(cmd)
	flags.inspect.registerSnapshot(cmd)
	cmd.Flags().StringVar(&out, "out", "", "also write the plan to this file, for \"apply\"")
	cmd.Flags().BoolVar(&detail, "detailed-exitcode", false,
		"exit with 2 when there is something to do, with 0 when there is nothing")
	return cmd
}

// propose makes the plan, from the nodes or from an earlier snapshot, and saves both on request.
// The digest is that of the plan's file, if there is one.
func (f *planFlags) propose(cmd *cobra.Command, s Streams, out string) (p run.Proposal, digest string, err error) {
	opts, err := f.options(cmd, s)
	if err != nil {
		return p, "", err
	}
	if f.inspect.from != "" {
		if out != "" {
			return p, "", usage(cmd,
				errors.New("--from-snapshot does not define how the nodes are reached, so its plan cannot be kept "+
					"with --out"))
		}
		snap, err := f.inspect.load(cmd)
		if err != nil {
			return p, "", err
		}
		p, err = orchestrator.PlanFrom(snap, opts.Thresholds, opts.Policy())
		return p, "", err
	}
	if err := f.inspect.writable(); err != nil {
		return p, "", err
	}
	opts.Observe = newProgress(s).event
	if out != "" {
		if out, err = filepath.Abs(out); err != nil {
			return p, "", usage(cmd, fmt.Errorf("--out: %w", err))
		}
	}
	o, err := orchestrator.New(opts)
	if err != nil {
		return p, "", err
	}
	p, err = o.Plan(cmd.Context())
	if len(p.Snapshot.Nodes) > 0 { // also of nodes for which there is no plan
		err = errors.Join(err, f.inspect.saveSnapshot(p.Snapshot))
	}
	if err != nil || out == "" {
		return p, "", err
	}
	if digest, err = run.WriteProposal(out, p); err != nil {
		return p, "", &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err,
			Next: "name a writable file with --out"}
	}
	return p, digest, nil
}
