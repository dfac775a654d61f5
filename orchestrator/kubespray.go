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

// demands are what a playbook of the checkout requires, known before any node is contacted;
// empty if none will run.
type demands struct {
	// kubespray is the plan's description of the checkout; nil without one.
	kubespray *plan.Kubespray
	// callbacks are the directories of callbacks in the checkout's configuration.
	callbacks []string
	// plays are the playbook's, with their numbers of tasks.
	plays []ansible.Play
}

// openCheckout opens the named checkout, or finds one if a playbook of it was requested. The
// error is an *Error.
func (o *Orchestrator) openCheckout() error {
	dir := o.opts.KubesprayDir
	if dir == "" && o.opts.Playbook == plan.UpgradeCluster {
		here, err := os.Getwd()
		if err != nil {
			return &Error{Code: ExitUsage, Summary: "finding a Kubespray checkout: " + err.Error(),
				Next: "name it with --kubespray-dir", Err: err}
		}
		if dir, o.found = kubespray.Find(here, o.opts.Ansible.Inventories); dir == "" {
			return &Error{Code: ExitUsage,
				Summary: "--playbook upgrade-cluster needs a Kubespray checkout, and none is here, above the " +
					"inventory, or in ./kubespray or ../kubespray",
				Next: "name it with --kubespray-dir"}
		}
		o.opts.KubesprayDir = dir
	}
	if dir == "" {
		return o.checkTags()
	}
	kube, err := kubespray.Open(dir)
	if err != nil {
		e := checkoutError(err)
		e.Summary = "--kubespray-dir: " + e.Summary
		return e
	}
	o.kube = kube
	return o.checkTags()
}

// checkTags refuses tags if no playbook that would get them runs.
func (o *Orchestrator) checkTags() error {
	if len(o.opts.Tags)+len(o.opts.SkipTags) == 0 || o.policy().Runs() {
		return nil
	}
	return &Error{Code: ExitUsage, Summary: "--tags and --skip-tags are for playbooks of Kubespray, and none would run",
		Next: "choose one with --playbook upgrade-cluster, or omit the tags"}
}

// checkoutError explains why a checkout cannot be used.
func checkoutError(err error) *Error {
	e := &Error{Code: ExitUsage, Reason: diagnosis.KubesprayNotFound, Summary: err.Error(), Err: err}
	if wrong, ok := errors.AsType[*kubespray.Error](err); ok {
		e.Next = wrong.Next
	}
	return e
}

// withoutCheckout returns an orchestrator without the options of a checkout and of parts of a
// plan: a rollback uses neither.
func (o *Orchestrator) withoutCheckout() *Orchestrator {
	other := *o
	other.opts.Playbook, other.opts.Tags, other.opts.SkipTags = plan.Auto, nil, nil
	other.opts.Limit, other.opts.SkipPhases, other.opts.UntilPhase = nil, nil, ""
	other.opts.RenewCAs, other.opts.CAValidity, other.opts.Signed = nil, 0, nil
	other.opts.RotateCAs, other.opts.RotateStage, other.opts.RestartWorkloads = nil, "", ""
	other.opts.PatchCABundles = false
	return &other
}

// policy returns the policy for plans, as far as it is known without Ansible.
func (o *Orchestrator) policy() plan.Policy {
	p := o.opts.Policy()
	if o.kube.Dir != "" {
		p.Kubespray = &plan.Kubespray{Dir: o.kube.Dir, Found: o.found, Upgrade: o.kube.Upgrade, Renew: o.kube.Renew,
			Demands: o.kube.Ansible.String(), Release: fmt.Sprintf("%s (%s)", o.kube.Release, o.kube.ReleaseFrom)}
	}
	return p
}

// playbookOf returns the playbook of the checkout that a policy runs.
func playbookOf(p plan.Policy) string {
	if p.Choice == plan.UpgradeCluster {
		return p.Kubespray.Upgrade
	}
	return p.Kubespray.Renew
}

// demanded refuses an ansible-core that the checkout does not support, if a playbook of it is
// to run: the playbook would refuse it, or behave in untested ways. Extra variables that
// override the range are the operator's decision and add a warning. The error is an *Error.
func (o *Orchestrator) demanded(kube *kubespray.Checkout, version string) error {
	if !o.policy().Runs() {
		return nil
	}
	taken := kube.Ansible.Overridden(kubespray.ExtraVars(o.opts.Ansible.ExtraVars))
	if taken.Allows(version) {
		if !kube.Ansible.Allows(version) {
			kube.Warnings = append(kube.Warnings,
				fmt.Sprintf("-e lets Kubespray %s run with ansible-core %s, but it requires %s: this combination "+
					"is untested",
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

// anotherAnsible describes how to install an Ansible that the checkout supports; if kscertctl
// supports none of those, how to do without.
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

// demand checks whether a playbook of the checkout can run, and collects what it needs: it
// must be complete and must not prompt. The error is an *Error.
func (o *Orchestrator) demand(ctx context.Context, kube kubespray.Checkout, version string, stated []byte) (demands,
	error) {
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
	if err := o.prompts(file, stated); err != nil {
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
				Next: fmt.Sprintf("nothing was changed; to see Ansible's message: cd %s && ansible-playbook %s "+
					"--list-tasks",
					shell.Quote(o.kube.Dir), shell.Quote(file))}
		}
	}
	for _, p := range d.plays {
		d.kubespray.Tasks += p.Tasks
	}
	return d, nil
}

// prompts refuses a playbook that would prompt on a terminal: without one, Ansible continues
// as if a key had been pressed.
func (o *Orchestrator) prompts(file string, inventory []byte) error {
	asked, err := o.kube.Prompts(file)
	if err != nil {
		return checkoutError(err)
	}
	extra := kubespray.ExtraVars(o.opts.Ansible.ExtraVars)
	asked = slices.DeleteFunc(asked, func(name string) bool { _, given := extra[name]; return given })
	if len(asked) > 0 {
		return &Error{Code: ExitUsage,
			Summary: fmt.Sprintf("%s prompts for %s at its start, but there is no one to answer", file,
				strings.Join(asked, ", ")),
			Next: "pass it with -e " + shell.Quote(asked[0]+"=VALUE") + ", or -e @FILE"}
	}
	var stated struct {
		Meta struct {
			HostVars map[string]map[string]any `json:"hostvars"`
		} `json:"_meta"`
	}
	if err := json.Unmarshal(inventory, &stated); err != nil {
		return &Error{Code: ExitUsage, Summary: "reading the host variables of the inventory: " + err.Error(), Err: err,
			Next: "nothing was changed; check its output: ansible-inventory -i INVENTORY --list"}
	}
	for _, host := range slices.Sorted(maps.Keys(stated.Meta.HostVars)) {
		vars := stated.Meta.HostVars[host]
		maps.Copy(vars, extra)
		if names := kubespray.Confirmations(vars); len(names) > 0 {
			return &Error{Code: ExitUsage,
				Summary: fmt.Sprintf("%s is set for %s: Kubespray would wait for a key on a terminal, but there is "+
					"none, so it would continue by itself", names[0], host),
				Next: "remove it, or add -e " + names[0] +
					"=false; to have time between nodes: -e upgrade_node_pause_seconds=60"}
		}
	}
	return nil
}

// theirPlaybook returns a playbook of the checkout, to run as its owner runs it: with its
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

// theirs makes the step run its playbook of the checkout.
func (s *session) theirs(p *ansible.Playbook, step plan.Step) {
	t := s.theirPlaybook(step.Playbook)
	p.Path, p.Args, p.Isolated, p.SSH, p.Vars, p.Callbacks = t.Path, t.Args, false, "", nil, s.callbacks
	if len(step.Nodes) < len(s.cluster.Nodes) {
		p.Args = append(p.Args, "--limit="+strings.Join(step.Nodes, ","))
	}
}

// warnOfWait reports, as soon as soft is done while a playbook of the checkout runs, that the
// run waits for the playbook, and how to stop it now. The returned function ends the watch.
func (s *session) warnOfWait(soft context.Context, step plan.Step) (end func() bool) {
	if step.Playbook == "" {
		return func() bool { return true }
	}
	return context.AfterFunc(soft, func() {
		s.tell(Event{Kind: EventNotice,
			Message: fmt.Sprintf("waiting for all of Kubespray's %s to finish, which may take long; to stop it now, "+
				"interrupt again: a node that it has drained stays cordoned, and resume starts the playbook again",
				step.Playbook)})
	})
}

// The default timeouts of a step. Our playbooks wait for each restart for at most
// kscert_wait_seconds; Kubespray may drain and upgrade hundreds of nodes.
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

// StepTimeoutError reports that a step timed out and was stopped.
type StepTimeoutError struct {
	Timeout time.Duration
	// Doing is the running task, with its file and line; empty before the first.
	Doing string
}

func (e *StepTimeoutError) Error() string {
	return fmt.Sprintf("it timed out after %s", e.Timeout)
}
