package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// Options say which cluster, by which way, and who is told. Only
// Ansible.Inventories is required.
type Options struct {
	// Ansible says how the nodes are reached.
	Ansible ansible.Options
	// KubesprayDir is a Kubespray checkout; Ansible runs in it, with its
	// ansible.cfg. Needed for the choice plan.UpgradeCluster.
	KubesprayDir string
	// Playbook is what runs after, or instead of, the pre-phase; plan.Auto when empty.
	Playbook plan.Choice
	// Thresholds say when a certificate is due; zero for the defaults.
	Thresholds diagnosis.Thresholds
	// StateDir holds the run directories; $XDG_STATE_HOME/kscertctl when empty.
	StateDir string
	// BackupRoot is the folder on each node that holds the backups.
	BackupRoot string
	// GateTimeout is how long a gate may take to hold; 5 minutes when zero.
	GateTimeout time.Duration
	// Approve is asked before anything is changed. Nil never approves.
	Approve func(context.Context, Proposal) (bool, error)
	// Observe is told what happens, one event at a time; may be nil.
	Observe func(Event)
	// Output gets a copy of what Ansible prints; may be nil.
	Output io.Writer
}

// DefaultBackupRoot is where backups lie on each node.
const DefaultBackupRoot = "/var/backups/kscertctl"

// gatePause is between two looks at a gate that does not hold yet.
const gatePause = 2 * time.Second

// Proposal is what Approve is asked about.
type Proposal struct {
	Snapshot  snapshot.Snapshot
	Diagnosis diagnosis.Diagnosis
	Plan      plan.Plan
}

// Result is what came of a run.
type Result struct {
	// RunID names the run; Dir is its directory on the driver.
	RunID string `json:"run"`
	Dir   string `json:"dir"`
	// Backups is the folder on each touched node; empty when none was touched.
	Backups string `json:"backups,omitempty"`
	// Before and After are the diagnoses at the beginning and at the end; After
	// equals Before when nothing was done.
	Before diagnosis.Diagnosis `json:"before"`
	After  diagnosis.Diagnosis `json:"after"`
	// Plan is what was carried out; no steps when there was nothing to do.
	Plan plan.Plan `json:"plan"`
	// Seconds the whole run took.
	Seconds float64 `json:"seconds"`
	// Snapshot is the last one taken; as JSON it lies in Dir.
	Snapshot snapshot.Snapshot `json:"-"`
}

// Orchestrator works on one cluster.
type Orchestrator struct {
	opts   Options
	runner *ansible.Runner
	kube   checkout
}

// New checks the options without asking any node. Errors are of type *Error.
func New(opts Options) (*Orchestrator, error) {
	if opts.Playbook == "" {
		opts.Playbook = plan.Auto
	}
	if opts.Thresholds == (diagnosis.Thresholds{}) {
		opts.Thresholds = diagnosis.DefaultThresholds()
	}
	if opts.GateTimeout == 0 {
		opts.GateTimeout = 5 * time.Minute
	}
	if opts.BackupRoot == "" {
		opts.BackupRoot = DefaultBackupRoot
	}
	if opts.StateDir == "" {
		dir, err := stateDir()
		if err != nil {
			return nil, &Error{Code: ExitUsage, Summary: err.Error(), Next: "name a folder with --state-dir", Err: err}
		}
		opts.StateDir = dir
	}
	o := &Orchestrator{opts: opts}
	runner, err := ansible.New(opts.Ansible)
	if err != nil {
		return nil, preflightError(err)
	}
	o.runner = runner
	if opts.KubesprayDir != "" {
		kube, refused := openCheckout(opts.KubesprayDir)
		if refused != nil {
			return nil, refused
		}
		o.kube = kube
	} else if opts.Playbook == plan.UpgradeCluster {
		return nil, &Error{Code: ExitUsage, Summary: "--playbook upgrade-cluster needs a Kubespray checkout", Next: "name it with --kubespray-dir"}
	}
	return o, nil
}

// stateDir follows the XDG Base Directory Specification.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kscertctl"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a place for run directories: %w", err)
	}
	return filepath.Join(home, ".local", "state", "kscertctl"), nil
}

// Inspect looks at every node and brings back what is there; it changes
// nothing. A node that cannot be inspected is part of the snapshot, not an
// error. The error is of type *Error.
func (o *Orchestrator) Inspect(ctx context.Context) (snapshot.Snapshot, error) {
	s, err := o.open()
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	defer s.close()
	return s.look(ctx)
}

// Diagnose looks at every node like Inspect and says what is wrong.
func (o *Orchestrator) Diagnose(ctx context.Context) (snapshot.Snapshot, diagnosis.Diagnosis, error) {
	snap, err := o.Inspect(ctx)
	if err != nil {
		return snap, diagnosis.Diagnosis{}, err
	}
	return snap, diagnosis.Diagnose(snap, o.opts.Thresholds), nil
}

// Run diagnoses, plans, asks for approval, carries the plan out and proves the
// result. When there is nothing to do it does nothing and succeeds.
//
// The error is of type *Error. The Result is filled as far as the run came.
func (o *Orchestrator) Run(ctx context.Context) (Result, error) {
	s, err := o.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	result, err := s.run(ctx)
	result.RunID, result.Dir, result.Seconds = s.dir.ID, s.dir.Path, time.Since(s.start).Seconds()
	end := Event{Kind: EventEnd, Status: "done", Seconds: result.Seconds}
	if err != nil {
		end.Status, end.Message = "failed", err.Error()
	}
	s.tell(end)
	if jerr := s.dir.Record(run.Entry{Event: "end", Outcome: run.Result(end.Status), Detail: end.Message}); jerr != nil && err == nil {
		err = &Error{Code: ExitUnexpected, Summary: jerr.Error(), Err: jerr}
	}
	return result, err
}

// session is one use of an Orchestrator.
type session struct {
	*Orchestrator
	start   time.Time
	cluster cluster.Cluster
	dir     *run.Dir
	events  *os.File
	mu      sync.Mutex
	looks   int
}

// begin checks the tools, reads the inventory and opens the run directory.
func (o *Orchestrator) begin(ctx context.Context) (*session, error) {
	var (
		wg       sync.WaitGroup
		nodes    cluster.Cluster
		toolErr  error
		nodesErr error
	)
	wg.Go(func() { _, toolErr = o.runner.Version(ctx) })
	wg.Go(func() { nodes, nodesErr = o.nodes(ctx) })
	wg.Wait()
	for _, err := range []error{toolErr, nodesErr} { // the tool before what it says
		if err != nil {
			return nil, preflightError(err)
		}
	}
	s, err := o.open()
	if err != nil {
		return nil, err
	}
	s.cluster = nodes
	s.tell(Event{Kind: EventBegin, Message: s.dir.Path})
	return s, nil
}

// nodes reads the inventory.
func (o *Orchestrator) nodes(ctx context.Context) (cluster.Cluster, error) {
	inventory, err := o.runner.Inventory(ctx)
	if err != nil {
		return cluster.Cluster{}, err
	}
	c, err := cluster.Parse(inventory)
	if err != nil {
		return c, fmt.Errorf("%s: %w", strings.Join(o.opts.Ansible.Inventories, ", "), err)
	}
	return c, nil
}

// open makes the run directory.
func (o *Orchestrator) open() (*session, error) {
	s := &session{Orchestrator: o, start: time.Now()}
	var all *multierror.Error
	var err error
	if s.dir, err = run.Create(o.opts.StateDir, s.start); err != nil {
		return nil, &Error{Code: ExitNotBegun, Summary: err.Error(), Next: "name a folder that can be written with --state-dir", Err: err}
	}
	all = multierror.Append(all, playbooks.WriteTo(s.dir.Playbooks()))
	s.events, err = os.OpenFile(filepath.Join(s.dir.Path, "events.jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	all = multierror.Append(all, err, s.dir.Record(run.Entry{Event: "begin"}))
	if err := all.ErrorOrNil(); err != nil {
		return nil, &Error{Code: ExitNotBegun, Summary: err.Error(), Next: "check the disk that holds --state-dir", Err: err}
	}
	return s, nil
}

func (s *session) close() {
	_ = s.events.Close()
	_ = s.dir.Close()
}

// tell hands an event to the observer and to the run directory.
func (s *session) tell(e Event) {
	e.Schema, e.Time, e.Run = EventSchema, time.Now().UTC(), s.dir.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	if line, err := json.Marshal(e); err == nil {
		_, _ = s.events.Write(append(line, '\n')) // a record for people; the journal is the one that counts
	}
	if s.opts.Observe != nil {
		s.opts.Observe(e)
	}
}

func (s *session) backups() string { return s.opts.BackupRoot + "/" + s.dir.ID }

func (s *session) run(ctx context.Context) (Result, error) {
	var r Result
	before, d, err := s.settled(ctx)
	if err != nil {
		return r, err
	}
	r.Before, r.After, r.Snapshot = d, d, before
	s.tell(Event{Kind: EventDiagnosis, Diagnosis: &d})
	if refused := refusal(d); refused != nil {
		return r, refused
	}
	p, err := plan.Make(s.cluster, before, d, s.opts.Playbook)
	if err != nil {
		return r, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err, Next: "nothing was changed"}
	}
	r.Plan = p
	s.tell(Event{Kind: EventPlan, Plan: &p})
	if err := s.dir.Save("plan.json", struct {
		Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
		Plan      plan.Plan           `json:"plan"`
	}{d, p}); err != nil {
		return r, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err, Next: "check the disk that holds --state-dir"}
	}
	if len(p.Steps) == 0 {
		return r, nil
	}
	if err := s.approve(ctx, Proposal{Snapshot: before, Diagnosis: d, Plan: p}); err != nil {
		return r, err
	}
	r.Backups = s.backups()
	changed := false
	for _, step := range p.Steps {
		after, err := s.step(ctx, step, before)
		// A backup adds files of its own and changes none of the node's.
		changed = changed || (step.Changes && step.Action != plan.Backup)
		if err != nil {
			return r, stepError(err, step, changed, s.dir.Path, r.Backups)
		}
		if step.Gate != "" {
			r.Snapshot = after
		}
	}
	r.After = diagnosis.Diagnose(r.Snapshot, s.opts.Thresholds)
	return r, nil
}

func (s *session) approve(ctx context.Context, p Proposal) error {
	notApproved := &Error{Code: ExitNotApproved, Summary: "the plan was not approved", Next: "nothing was changed; approve with --yes, or on a terminal by typing yes"}
	if s.opts.Approve == nil {
		return notApproved
	}
	yes, err := s.opts.Approve(ctx, p)
	switch {
	case ctx.Err() != nil:
		return &Error{Code: ExitInterrupted, Summary: "interrupted before any change", Err: context.Cause(ctx)}
	case err != nil:
		return &Error{Code: ExitNotApproved, Summary: "the plan was not approved: " + err.Error(), Err: err, Next: notApproved.Next}
	case !yes:
		return notApproved
	}
	return nil
}

// step carries out one step, with its intent and its outcome in the journal.
// For a gate it returns the snapshot that satisfied it.
func (s *session) step(ctx context.Context, step plan.Step, before snapshot.Snapshot) (snapshot.Snapshot, error) {
	if err := s.dir.Record(run.Entry{Event: "intent", Step: step.ID}); err != nil {
		return snapshot.Snapshot{}, err
	}
	start := time.Now()
	s.tell(Event{Kind: EventStepBegin, Step: &step})
	var (
		snap snapshot.Snapshot
		err  error
	)
	if step.Gate != "" {
		check := gate.Check{Gate: step.Gate, Nodes: step.Nodes, Before: before, Thresholds: s.opts.Thresholds}
		snap, err = check.Wait(ctx, s.opts.GateTimeout, gatePause, s.inspect, func(unmet []gate.Unmet) {
			s.tell(Event{Kind: EventGate, Step: &step, Unmet: unmet})
		})
	} else {
		err = s.play(ctx, step)
	}
	outcome := run.Entry{Event: "outcome", Step: step.ID, Outcome: "done"}
	if err != nil {
		outcome.Outcome, outcome.Detail = "failed", err.Error()
	}
	s.tell(Event{Kind: EventStepEnd, Step: &step, Status: string(outcome.Outcome), Message: outcome.Detail, Seconds: time.Since(start).Seconds()})
	if jerr := s.dir.Record(outcome); jerr != nil && err == nil {
		err = jerr
	}
	return snap, err
}

// play runs the playbook of a step.
func (s *session) play(ctx context.Context, step plan.Step) error {
	file := map[plan.Action]string{
		plan.Backup:           playbooks.Backup,
		plan.PrePhase:         playbooks.PrePhase,
		plan.Renew:            playbooks.RenewCerts,
		plan.KubeletBootstrap: playbooks.KubeletBootstrap,
	}[step.Action]
	p := s.playbook(step.ID, file, step.Nodes)
	if step.NoWait {
		p.Vars["kscert_wait_seconds"] = 0
	}
	if step.Action == plan.Upgrade {
		p.Path, p.Isolated, p.Vars = s.kube.upgrade, false, nil
	}
	_, err := s.runner.Run(ctx, p, func(e ansible.Event) {
		if e.Event == "result" && e.Status != "skipped" && e.Task != nil {
			s.tell(Event{Kind: EventTask, Step: &step, Node: e.Host, Task: e.Task.Name, Status: e.Status, Seconds: e.Seconds})
		}
	})
	return err
}

// playbook prepares one of the project's own playbooks for some nodes; nil is
// for those that the playbook itself names.
func (s *session) playbook(id, file string, nodes []string) ansible.Playbook {
	p := ansible.Playbook{
		Path:        filepath.Join(s.dir.Playbooks(), file),
		Dir:         s.kube.dir,
		Hosts:       nodes,
		CallbackDir: filepath.Join(s.dir.Playbooks(), playbooks.CallbackDir),
		Isolated:    true,
		Events:      s.dir.Events(id),
		Log:         s.dir.Log(id),
		Output:      s.opts.Output,
		Vars: map[string]any{
			"kscert_run":                  s.dir.ID,
			"kscert_backup_root":          s.opts.BackupRoot,
			"kscert_renew_before_seconds": int64(s.opts.Thresholds.RenewBefore.Seconds()),
			"kscert_wait_seconds":         int64(s.opts.GateTimeout.Seconds()),
		},
	}
	if nodes != nil {
		p.Vars["kscert_hosts"] = strings.Join(nodes, ",")
	}
	return p
}
