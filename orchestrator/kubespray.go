package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubespray"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// demands are what a playbook of the checkout needs, found out before any node is
// asked; empty where none will run.
type demands struct {
	// kubespray is what a plan tells of the checkout; nil without one.
	kubespray *plan.Kubespray
	// callbacks are the folders in which the checkout's configuration has callbacks.
	callbacks []string
	// plays are those of the playbook, with how many tasks each has.
	plays []ansible.Play
}

// openCheckout opens the checkout that was named, or finds one where a playbook of it
// was asked for. The error is an *Error.
func (o *Orchestrator) openCheckout() error {
	dir := o.opts.KubesprayDir
	if dir == "" && o.opts.Playbook == plan.UpgradeCluster {
		here, err := os.Getwd()
		if err != nil {
			return &Error{Code: ExitUsage, Summary: "finding a Kubespray checkout: " + err.Error(), Next: "name it with --kubespray-dir", Err: err}
		}
		if dir, o.found = kubespray.Find(here, o.opts.Ansible.Inventories); dir == "" {
			return &Error{Code: ExitUsage, Summary: "--playbook upgrade-cluster needs a Kubespray checkout, and none is here, above the inventory, or in ./kubespray or ../kubespray",
				Next: "name it with --kubespray-dir"}
		}
		o.opts.KubesprayDir = dir
	}
	if dir == "" {
		return o.tagless()
	}
	kube, err := kubespray.Open(dir)
	if err != nil {
		e := checkoutError(err)
		e.Summary = "--kubespray-dir: " + e.Summary
		return e
	}
	o.kube = kube
	return o.tagless()
}

// tagless refuses tags that no playbook would get.
func (o *Orchestrator) tagless() error {
	if len(o.opts.Tags)+len(o.opts.SkipTags) == 0 || o.policy().Runs() {
		return nil
	}
	return &Error{Code: ExitUsage, Summary: "--tags and --skip-tags are for playbooks of Kubespray, and none would run",
		Next: "choose one with --playbook upgrade-cluster, or omit the tags"}
}

// checkoutError explains a checkout that cannot be used.
func checkoutError(err error) *Error {
	e := &Error{Code: ExitUsage, Reason: diagnosis.KubesprayNotFound, Summary: err.Error(), Err: err}
	if wrong, ok := errors.AsType[*kubespray.Error](err); ok {
		e.Next = wrong.Next
	}
	return e
}

// withoutCheckout is the same, for work in which no playbook of the checkout runs and of
// which no part is asked for: a rollback.
func (o *Orchestrator) withoutCheckout() *Orchestrator {
	other := *o
	other.opts.Playbook, other.opts.Tags, other.opts.SkipTags = plan.Auto, nil, nil
	other.opts.Limit, other.opts.SkipPhases, other.opts.UntilPhase = nil, nil, ""
	return &other
}

// policy is what plans are made by, as far as it is known without Ansible.
func (o *Orchestrator) policy() plan.Policy {
	p := o.opts.Policy()
	if o.kube.Dir != "" {
		p.Kubespray = &plan.Kubespray{Dir: o.kube.Dir, Found: o.found, Upgrade: o.kube.Upgrade, Renew: o.kube.Renew,
			Demands: o.kube.Ansible.String(), Release: fmt.Sprintf("%s (%s)", o.kube.Release, o.kube.ReleaseFrom)}
	}
	return p
}

// playbookOf is the playbook of the checkout that a policy runs.
func playbookOf(p plan.Policy) string {
	if p.Choice == plan.UpgradeCluster {
		return p.Kubespray.Upgrade
	}
	return p.Kubespray.Renew
}

// demanded refuses an ansible-core that the checkout does not take, where a playbook
// of it is to run: it would refuse it itself, or behave in ways nobody has tried. Extra
// variables that change what it takes are somebody's decision, and worth a warning. The
// error is an *Error.
func (o *Orchestrator) demanded(kube *kubespray.Checkout, version string) error {
	if !o.policy().Runs() {
		return nil
	}
	taken := kube.Ansible.Overridden(kubespray.ExtraVars(o.opts.Ansible.ExtraVars))
	if taken.Allows(version) {
		if !kube.Ansible.Allows(version) {
			kube.Warnings = append(kube.Warnings, fmt.Sprintf("-e lets Kubespray %s run with ansible-core %s, but it requires %s: this combination is untested",
				kube.Release, version, kube.Ansible))
		}
		return nil
	}
	return &Error{
		Code: ExitNotBegun,
		Summary: fmt.Sprintf("Kubespray %s in %s requires ansible-core %s, but this one is %s",
			kube.Release, kube.Dir, taken, version),
		Next: "nothing was changed; " + anotherAnsible(*kube),
	}
}

// anotherAnsible says how to get an Ansible that the checkout takes; where that is none
// that kscertctl takes, too, how to do without.
func anotherAnsible(kube kubespray.Checkout) string {
	if !kube.Ansible.Suits() {
		return fmt.Sprintf("kscertctl itself needs %s or later, so no version suits both: renew without --playbook, "+
			"which needs none of Kubespray's, and run its playbook by hand with a separate Ansible; "+
			"or run it with this one anyway, at your own risk: -e maximal_ansible_version=99", kubespray.LeastAnsible)
	}
	venv := kube.Dir + "-venv"
	return fmt.Sprintf("create an environment with the right one:\npython3 -m venv %s && %s install %s\n"+
		"and run the command again with --ansible-bin %s",
		shell.Quote(venv), shell.Quote(venv+"/bin/pip"), kube.Requirement(), shell.Quote(venv+"/bin"))
}

// demand finds out whether a playbook of the checkout can be run, and what is needed
// for it: that it is whole and asks for nothing, its tasks, its callbacks. The error
// is an *Error.
func (o *Orchestrator) demand(ctx context.Context, kube kubespray.Checkout, version string, told []byte) (demands, error) {
	policy := o.policy()
	d := demands{kubespray: policy.Kubespray}
	if d.kubespray == nil {
		return d, nil
	}
	d.kubespray.Release = fmt.Sprintf("%s (%s)", kube.Release, kube.ReleaseFrom)
	d.kubespray.Ansible, d.kubespray.Demands, d.kubespray.Warnings = version, kube.Ansible.String(), kube.Warnings
	if !policy.Runs() {
		return d, nil
	}
	file := playbookOf(policy)
	if err := o.prompts(file, told); err != nil {
		return d, err
	}
	var (
		wg                   sync.WaitGroup
		listErr, callbackErr error
	)
	wg.Go(func() { d.plays, listErr = o.runner.Tasks(ctx, o.theirPlaybook(file)) })
	wg.Go(func() { d.callbacks, callbackErr = o.runner.CallbackPath(ctx, o.kube.Dir) })
	wg.Wait()
	for _, err := range []error{callbackErr, listErr} {
		switch {
		case err == nil:
		case interrupted(err):
			return d, preflightError(err)
		default:
			return d, &Error{Code: ExitUsage, Summary: err.Error(), Err: err, Hint: hinted(err.Error()),
				Next: fmt.Sprintf("nothing was changed; to see Ansible's message: cd %s && ansible-playbook %s --list-tasks",
					shell.Quote(o.kube.Dir), shell.Quote(file))}
		}
	}
	for _, p := range d.plays {
		d.kubespray.Tasks += p.Tasks
	}
	return d, nil
}

// prompts refuses what would ask on a terminal: Ansible gets none, and goes on as if
// somebody had pressed a key.
func (o *Orchestrator) prompts(file string, inventory []byte) error {
	asked, err := o.kube.Prompts(file)
	if err != nil {
		return checkoutError(err)
	}
	extra := kubespray.ExtraVars(o.opts.Ansible.ExtraVars)
	asked = slices.DeleteFunc(asked, func(name string) bool { _, given := extra[name]; return given })
	if len(asked) > 0 {
		return &Error{Code: ExitUsage, Summary: fmt.Sprintf("%s prompts for %s at its start, but there is no one to answer", file, strings.Join(asked, ", ")),
			Next: "pass it with -e " + shell.Quote(asked[0]+"=VALUE") + ", or -e @FILE"}
	}
	var told struct {
		Meta struct {
			HostVars map[string]map[string]any `json:"hostvars"`
		} `json:"_meta"`
	}
	if err := json.Unmarshal(inventory, &told); err != nil {
		return &Error{Code: ExitUsage, Summary: "reading the host variables of the inventory: " + err.Error(), Err: err,
			Next: "nothing was changed; check its output: ansible-inventory -i INVENTORY --list"}
	}
	for _, host := range slices.Sorted(maps.Keys(told.Meta.HostVars)) {
		vars := told.Meta.HostVars[host]
		maps.Copy(vars, extra)
		if names := kubespray.Confirmations(vars); len(names) > 0 {
			return &Error{Code: ExitUsage, Summary: fmt.Sprintf("%s is set for %s: Kubespray would wait for a key on a terminal, but there is none, so it would continue by itself", names[0], host),
				Next: "remove it, or add -e " + names[0] + "=false; to have time between nodes: -e upgrade_node_pause_seconds=60"}
		}
	}
	return nil
}

// theirPlaybook is a playbook of the checkout, run as its owner runs it: with its
// configuration, roles, modules, callbacks and fact cache.
func (o *Orchestrator) theirPlaybook(file string) ansible.Playbook {
	p := ansible.Playbook{Path: filepath.Join(o.kube.Dir, file), Dir: o.kube.Dir}
	for _, tags := range []struct {
		flag string
		of   []string
	}{{"--tags", o.opts.Tags}, {"--skip-tags", o.opts.SkipTags}} {
		for _, t := range tags.of {
			p.Args = append(p.Args, tags.flag+"="+t)
		}
	}
	return p
}

// theirs makes a step's playbook one of the checkout.
func (s *session) theirs(p *ansible.Playbook, step plan.Step) {
	t := s.theirPlaybook(step.Playbook)
	p.Path, p.Args, p.Isolated, p.SSH, p.Vars, p.Callbacks = t.Path, t.Args, false, "", nil, s.callbacks
	if len(step.Nodes) < len(s.cluster.Nodes) {
		p.Args = append(p.Args, "--limit="+strings.Join(step.Nodes, ","))
	}
}

// warnOfWait tells, once a stop is asked for while a playbook of the checkout is at work,
// how long that is waited for, and how not to. What it returns ends that.
func (s *session) warnOfWait(soft context.Context, step plan.Step) (end func() bool) {
	if step.Playbook == "" {
		return func() bool { return true }
	}
	return context.AfterFunc(soft, func() {
		s.tell(Event{Kind: EventNotice, Message: fmt.Sprintf("waiting for all of Kubespray's %s to finish, which may take long; to stop it now, "+
			"interrupt again: a node that it has drained stays cordoned, and resume starts the playbook again", step.Playbook)})
	})
}

// The longest that a step may take where nobody says: ours wait for what they
// restart, each for kscert_wait_seconds at most; Kubespray may drain and upgrade
// hundreds of nodes.
const (
	ourStepTimeout   = time.Hour
	theirStepTimeout = 12 * time.Hour
)

func (o *Orchestrator) stepTimeout(step plan.Step) time.Duration {
	switch {
	case o.opts.StepTimeout > 0:
		return o.opts.StepTimeout
	case step.Playbook != "":
		return theirStepTimeout
	default:
		return ourStepTimeout
	}
}

// StepTimeoutError says that a step took longer than it may, and was ended.
type StepTimeoutError struct {
	Timeout time.Duration
	// Doing is the task that it was at, with its file and line; empty before the first.
	Doing string
}

func (e *StepTimeoutError) Error() string {
	return fmt.Sprintf("it timed out after %s", e.Timeout)
}
