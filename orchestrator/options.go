package orchestrator

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// Option is a setting of an Orchestrator, for New. Each With function makes one; a setting that is
// not set, or set to its zero value, has its default. Of two that set the same thing the later one
// wins.
//
// Options, the record of all settings, is an Option too: for programs that have them from
// elsewhere, such as flags, a file, or an earlier run (Options.Recall).
type Option interface{ apply(*Options) }

// setting is an Option that sets one thing.
type setting func(*Options)

func (set setting) apply(o *Options) { set(o) }

func (o Options) apply(to *Options) { *to = o }

// Options are all settings at once: which cluster, how to reach it, and who observes it. Only
// Ansible.Inventories is required. Each has a With function with the same meaning.
type Options struct {
	// Ansible configures how the nodes are reached.
	Ansible ansible.Options
	// KubesprayDir is a Kubespray checkout; Ansible runs in it, with its ansible.cfg. If empty, it
	// is searched for plan.UpgradeCluster: in the working directory, above the inventory, and in
	// ./kubespray and ../kubespray.
	KubesprayDir string
	// Tags and SkipTags are those flags of ansible-playbook, for playbooks of the checkout alone.
	Tags, SkipTags []string
	// Playbook is what runs after, or instead of, the pre-phase; plan.Auto when empty.
	Playbook plan.Choice
	// Limit names the only nodes to be worked on, each by its name in the inventory or by that of a
	// group (kube_control_plane, kube_node, etcd); all if empty.
	Limit []string
	// SkipPhases are left out of the plan, and UntilPhase is its last one.
	SkipPhases []plan.Phase
	UntilPhase plan.Phase
	// Serial is how many kubelets get a new certificate at a time: a number, or a percentage with
	// %; all at once if empty.
	Serial string
	// MaxUnavailable is how many control planes are renewed between two gates; one if zero
	// (plan.Policy.MaxUnavailable).
	MaxUnavailable int
	// Thresholds define when a certificate is due; zero for the defaults.
	Thresholds diagnosis.Thresholds
	// StateDir holds the run directories; $XDG_STATE_HOME/kscertctl when empty.
	StateDir string
	// BackupRoot is the directory on each node that holds the backups.
	BackupRoot string
	// EtcdSnapshot defines which backups hold a snapshot of etcd; plan.SnapshotAuto if empty.
	EtcdSnapshot plan.EtcdSnapshot
	// GateTimeout is how long a gate may take to hold; 5 minutes if zero.
	GateTimeout time.Duration
	// StableFor is how long a gate must hold, without interruption, before the next step. It is
	// added to GateTimeout.
	StableFor time.Duration
	// StepTimeout is how long the playbook of a step may take; if zero, 1 hour for ours and 12 for
	// those of Kubespray.
	StepTimeout time.Duration
	// AcceptSANLoss are names that a new certificate may lose, as in the error of a run that stops
	// for them; any other name that would be lost stops the run.
	AcceptSANLoss []string
	// AcceptSubjectChange are the files whose new certificate may have another subject, as in the
	// error of a run that stops for one; any other stops the run.
	AcceptSubjectChange []string
	// AllowNotInInventory names control planes and etcd members that may be missing from the
	// inventory, as in the error of a plan that is refused for them: each is assumed to be healthy.
	AllowNotInInventory []string
	// AllowUnreachable names nodes that may be left out if they cannot be reached: nothing is done
	// there, and others are worked on as far as etcd keeps its quorum.
	AllowUnreachable []string
	// RenewCAs are the CAs to re-issue with their own keys (plan.Policy.RenewCAs): then Run does
	// that and nothing else. CAValidity is their lifetime; as before if zero.
	RenewCAs   []plan.CA
	CAValidity time.Duration
	// RotateCAs are the CAs of which Run takes one stage of the rotation to a new key, and nothing else.
	RotateCAs   []plan.CA
	RotateStage diagnosis.Stage
	// RestartWorkloads is which workloads are restarted before the cluster's CA is dropped, or after it was
	// replaced at once; none if empty, or then plan.RestartSystem.
	RestartWorkloads plan.Restart
	// PatchCABundles changes caBundles that have a CA which is replaced at once.
	PatchCABundles bool
	// Signed are certificates that CAs outside of the cluster have signed (ReadSigned): then Run places
	// these, issues none, and does nothing else.
	Signed []plan.Signed
	// ClusterSecrets has Inspect read certificates in Secrets of the cluster, too (snapshot.Secret).
	ClusterSecrets bool
	// RefreshKubeconfigs are kubeconfigs on this machine, copies of the cluster's admin.conf or
	// super-admin.conf, that get its new client certificate and key once the result is proved;
	// their old versions stay next to them.
	RefreshKubeconfigs []string
	// RollbackOnFailure rolls a run back that stopped after a change.
	RollbackOnFailure bool
	// Stop, when closed, stops the work gracefully: a step that changes nodes is finished, none is
	// begun after it. Cancelling the context stops it at once.
	Stop <-chan struct{}
	// Hooks are called around steps; a rollback calls none.
	Hooks []Hook
	// Approve is asked before anything is changed. Nil never approves.
	Approve func(context.Context, Proposal) (bool, error)
	// Observe gets the events, one at a time; may be nil.
	Observe func(Event)
	// Output gets a copy of Ansible's output; may be nil.
	Output io.Writer
}

// resolve applies options in their order and fills in the defaults.
func resolve(options []Option) Options {
	var o Options
	for _, option := range options {
		option.apply(&o)
	}
	if o.Playbook == "" {
		o.Playbook = plan.Auto
	}
	if o.Thresholds == (diagnosis.Thresholds{}) {
		o.Thresholds = diagnosis.DefaultThresholds()
	}
	if o.GateTimeout == 0 {
		o.GateTimeout = 5 * time.Minute
	}
	if o.BackupRoot == "" {
		o.BackupRoot = DefaultBackupRoot
	}
	if o.EtcdSnapshot == "" {
		o.EtcdSnapshot = plan.SnapshotAuto
	}
	return o
}

// Policy is what the options request from a plan, without a checkout of Kubespray.
func (o Options) Policy() plan.Policy { return o.recorded().Policy() }

// Settings are the settings of the playbooks in a run of that ID, with defaults for what the
// options leave out.
func (o Options) Settings(id string) plan.Settings { return resolve([]Option{o}).settings(id) }

func (o Options) settings(id string) plan.Settings {
	return plan.Settings{
		Run: id, BackupRoot: o.BackupRoot, EtcdSnapshot: o.EtcdSnapshot, RenewBefore: o.Thresholds.RenewBefore,
		Wait:   o.GateTimeout,
		Serial: o.Serial, AcceptSANLoss: o.AcceptSANLoss, AcceptSubjectChange: o.AcceptSubjectChange,
		Signed: o.Signed,
	}
}

// batches are Ansible's values of serial: a number of nodes, or a percentage.
var batches = regexp.MustCompile(`^([1-9][0-9]{0,5}|([1-9][0-9]?|100)%)$`)

// check returns which setting cannot be used, whatever the cluster. The error is an *Error.
func (o Options) check() error {
	if o.MaxUnavailable < 0 {
		return &Error{Code: ExitUsage,
			Summary: fmt.Sprintf("--max-unavailable %d: it must be a number of control planes", o.MaxUnavailable),
			Next:    "for example 1 or 2"}
	}
	if o.Serial != "" && !batches.MatchString(o.Serial) {
		return &Error{Code: ExitUsage,
			Summary: fmt.Sprintf("--serial %s: it must be a number of nodes, or a percentage of them", o.Serial),
			Next:    "for example 5 or 20%"}
	}
	if all := plan.EtcdSnapshots(); !slices.Contains(all, o.EtcdSnapshot) {
		return &Error{Code: ExitUsage, Summary: fmt.Sprintf("--etcd-snapshot %s: unknown value", o.EtcdSnapshot),
			Next: fmt.Sprintf("use one of %v", all)}
	}
	if all := plan.Restarts(); o.RestartWorkloads != "" && !slices.Contains(all, o.RestartWorkloads) {
		return &Error{Code: ExitUsage,
			Summary: fmt.Sprintf("--restart-workloads %s: unknown value", o.RestartWorkloads),
			Next:    fmt.Sprintf("use one of %v", all)}
	}
	for _, given := range []struct {
		flag  string
		names []string
	}{{"--accept-san-loss", o.AcceptSANLoss}, {"--accept-subject-change", o.AcceptSubjectChange},
		{"--allow-not-in-inventory", o.AllowNotInInventory}, {"--allow-unreachable", o.AllowUnreachable}} {
		if i := slices.IndexFunc(given.names,
			func(name string) bool { return len(strings.Fields(name)) != 1 }); i >= 0 {
			return &Error{Code: ExitUsage, Summary: fmt.Sprintf("%s %q is not a name", given.flag, given.names[i]),
				Next: "pass each name separately, as in the message of the run that stopped"}
		}
	}
	return nil
}

// renewable reports, before any node is asked, that what would be renewed would be due again at once.
func (o Options) renewable() error {
	days := func(d time.Duration) int { return int(d / (24 * time.Hour)) }
	if o.Thresholds.RenewBefore <= plan.LongestRenewBefore {
		return nil
	}
	return &Error{Code: ExitUsage,
		Summary: fmt.Sprintf("what expires within %d days is to be renewed, and new certificates are valid for a year",
			days(o.Thresholds.RenewBefore)),
		Next: fmt.Sprintf("nothing was changed; name at most %d days with --warn or --due-before",
			days(plan.LongestRenewBefore))}
}

// WithInventory names the cluster: files, directories or scripts of an Ansible inventory, or host
// lists ("a,b,"), as ansible-playbook takes them with -i.
func WithInventory(inventories ...string) Option {
	return setting(func(o *Options) { o.Ansible.Inventories = inventories })
}

// WithAnsible configures how Ansible reaches the nodes: user, key, variables, vaults. Without
// Inventories of its own it keeps those of WithInventory.
func WithAnsible(a ansible.Options) Option {
	return setting(func(o *Options) {
		if a.Inventories == nil {
			a.Inventories = o.Ansible.Inventories
		}
		o.Ansible = a
	})
}

// WithKubespray names a Kubespray checkout: Ansible runs in it, with its ansible.cfg. Without it
// WithPlaybook(plan.UpgradeCluster) searches for one (Options.KubesprayDir).
func WithKubespray(dir string) Option {
	return setting(func(o *Options) { o.KubesprayDir = dir })
}

// WithTags sets --tags of ansible-playbook, for playbooks of the checkout alone.
func WithTags(tags ...string) Option {
	return setting(func(o *Options) { o.Tags = tags })
}

// WithSkipTags sets --skip-tags, in the same way.
func WithSkipTags(tags ...string) Option {
	return setting(func(o *Options) { o.SkipTags = tags })
}

// WithStepTimeout limits how long the playbook of a step may take; an hour for ours and twelve for
// Kubespray's by default.
func WithStepTimeout(d time.Duration) Option {
	return setting(func(o *Options) { o.StepTimeout = d })
}

// WithPlaybook chooses what runs after, or instead of, the pre-phase; plan.Auto by default.
func WithPlaybook(c plan.Choice) Option {
	return setting(func(o *Options) { o.Playbook = c })
}

// WithLimit names the only nodes to be worked on, each by its name in the inventory or by that of a
// group. An unsafe choice is refused, and the plan warns of what stays due.
func WithLimit(nodes ...string) Option {
	return setting(func(o *Options) { o.Limit = nodes })
}

// WithSkipPhases leaves phases out of the plan. An unsafe choice is refused, and the plan warns of
// what stays undone.
func WithSkipPhases(phases ...plan.Phase) Option {
	return setting(func(o *Options) { o.SkipPhases = phases })
}

// WithUntilPhase ends the plan with the last step of a phase, and with its gate.
func WithUntilPhase(phase plan.Phase) Option {
	return setting(func(o *Options) { o.UntilPhase = phase })
}

// WithMaxUnavailable sets how many control planes may be renewed between two gates; one by default.
// It never takes the last one, nor the quorum of etcd.
func WithMaxUnavailable(n int) Option {
	return setting(func(o *Options) { o.MaxUnavailable = n })
}

// WithSerial sets how many kubelets get a new certificate at a time: "5", or "20%" of them; all at
// once by default.
func WithSerial(batch string) Option {
	return setting(func(o *Options) { o.Serial = batch })
}

// WithThresholds sets when a certificate is due; diagnosis.DefaultThresholds by default.
func WithThresholds(t diagnosis.Thresholds) Option {
	return setting(func(o *Options) { o.Thresholds = t })
}

// WithStateDir names the directory on this machine that holds the run directories;
// $XDG_STATE_HOME/kscertctl by default. Several Orchestrators may share it.
func WithStateDir(dir string) Option {
	return setting(func(o *Options) { o.StateDir = dir })
}

// WithBackupRoot names the directory on each node that holds the backups; DefaultBackupRoot by
// default.
func WithBackupRoot(dir string) Option {
	return setting(func(o *Options) { o.BackupRoot = dir })
}

// WithEtcdSnapshot sets which backups hold a snapshot of etcd; plan.SnapshotAuto by default.
func WithEtcdSnapshot(which plan.EtcdSnapshot) Option {
	return setting(func(o *Options) { o.EtcdSnapshot = which })
}

// WithGateTimeout sets how long a gate may take to hold; 5 minutes by default.
func WithGateTimeout(d time.Duration) Option {
	return setting(func(o *Options) { o.GateTimeout = d })
}

// WithAcceptedSANLoss names what a new certificate may lose of the old one's names; any other loss
// stops the run before the certificate is placed.
func WithAcceptedSANLoss(names ...string) Option {
	return setting(func(o *Options) { o.AcceptSANLoss = names })
}

// WithAcceptedSubjectChange names files whose new certificate may have another subject; any other
// change of a subject that a component reads stops the run before the certificate is placed.
func WithAcceptedSubjectChange(files ...string) Option {
	return setting(func(o *Options) { o.AcceptSubjectChange = files })
}

// WithAllowedNotInInventory names control planes and etcd members that may be missing from the
// inventory: each is assumed to be healthy, and is left alone. While there are others, no control
// plane and no etcd member is worked on.
func WithAllowedNotInInventory(names ...string) Option {
	return setting(func(o *Options) { o.AllowNotInInventory = names })
}

// WithAllowedUnreachable names nodes that may be left out if they cannot be reached.
func WithAllowedUnreachable(names ...string) Option {
	return setting(func(o *Options) { o.AllowUnreachable = names })
}

// WithRenewedCAs makes Run re-issue CAs with their own keys, with a lifetime or, if that is 0, with
// the same lifetime as before, and do nothing else.
func WithRenewedCAs(validity time.Duration, cas ...plan.CA) Option {
	return setting(func(o *Options) { o.RenewCAs, o.CAValidity = cas, validity })
}

// WithRotatedCAs makes Run take one stage of the rotation of CAs to new keys, and do nothing else. The
// lifetime counts when they are made; if it is 0, it is that of kubeadm's configuration, or as before.
func WithRotatedCAs(stage diagnosis.Stage, validity time.Duration, cas ...plan.CA) Option {
	return setting(func(o *Options) { o.RotateCAs, o.RotateStage, o.CAValidity = cas, stage, validity })
}

// WithReplacedCAs makes Run replace CAs at once, with diagnosis.StageReplace or StageLiteral, and do nothing
// else: what trusts the former alone is cut off until it is repaired. patch is whether caBundles with the
// former CA are changed.
func WithReplacedCAs(how diagnosis.Stage, validity time.Duration, patch bool, cas ...plan.CA) Option {
	return setting(func(o *Options) {
		o.RotateCAs, o.RotateStage, o.CAValidity, o.PatchCABundles = cas, how, validity, patch
	})
}

// WithRestartedWorkloads has workloads restarted before the stage of a rotation that drops the cluster's CA,
// or after that was replaced at once.
func WithRestartedWorkloads(which plan.Restart) Option {
	return setting(func(o *Options) { o.RestartWorkloads = which })
}

// WithSigned makes Run place certificates that CAs outside of the cluster have signed, issue none, and
// do nothing else.
func WithSigned(certificates ...plan.Signed) Option {
	return setting(func(o *Options) { o.Signed = certificates })
}

// WithRefreshedKubeconfigs names kubeconfigs on this machine that get the cluster's new client
// certificate and key at the end of Run: a private key leaves its node for that.
func WithRefreshedKubeconfigs(paths ...string) Option {
	return setting(func(o *Options) { o.RefreshKubeconfigs = paths })
}

// WithClusterSecrets has Inspect read certificates in Secrets of the cluster, too.
func WithClusterSecrets() Option {
	return setting(func(o *Options) { o.ClusterSecrets = true })
}

// WithStableFor sets how long a gate must hold, without interruption, before the next step; not at
// all by default.
func WithStableFor(d time.Duration) Option {
	return setting(func(o *Options) { o.StableFor = d })
}

// WithRollbackOnFailure rolls a run back by itself if it stopped after a change; the error then has
// the code ExitRolledBack.
func WithRollbackOnFailure() Option {
	return setting(func(o *Options) { o.RollbackOnFailure = true })
}

// WithStop stops the work gracefully when the channel is closed: a step that changes nodes is
// finished, none is begun after it. Cancelling the context stops it at once.
func WithStop(stop <-chan struct{}) Option {
	return setting(func(o *Options) { o.Stop = stop })
}

// WithHooks adds steps and gates of the program's own to the existing ones.
func WithHooks(hooks ...Hook) Option {
	return setting(func(o *Options) { o.Hooks = slices.Concat(o.Hooks, hooks) })
}

// WithApproval sets the function that is asked before anything is changed; without one, nothing
// ever is. An error counts as a no, and Run's error wraps it.
func WithApproval(approve func(context.Context, Proposal) (bool, error)) Option {
	return setting(func(o *Options) { o.Approve = approve })
}

// WithObserver sets the function that gets the events: one at a time, in order. The work waits for
// it.
func WithObserver(observe func(Event)) Option {
	return setting(func(o *Options) { o.Observe = observe })
}

// WithOutput gets a copy of Ansible's output.
func WithOutput(w io.Writer) Option {
	return setting(func(o *Options) { o.Output = w })
}
