package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubespray"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// DefaultBackupRoot is the directory of backups on each node.
const DefaultBackupRoot = run.DefaultBackupRoot

// gatePause is the time between two checks of a gate that does not hold yet.
const gatePause = 2 * time.Second

// Proposal is what Approve is asked about.
type Proposal struct {
	Snapshot  snapshot.Snapshot
	Diagnosis diagnosis.Diagnosis
	Plan      plan.Plan
	// TakenBack is what others have changed since the run that a rollback undoes: it would be lost,
	// so an approval that was given without having seen it does not count.
	TakenBack []Difference
}

// ResultSchema is the version of the JSON form of a Result.
const ResultSchema = 1

// Result is the result of a run.
type Result struct {
	Schema int `json:"schema"`
	// RunID names the run.
	RunID string `json:"run"`
	// Dir is its directory on the control node.
	Dir string `json:"dir"`
	// Backups is the directory on each changed node; empty if none was changed.
	Backups string `json:"backups,omitempty"`
	// Before is the diagnosis at the beginning.
	Before diagnosis.Diagnosis `json:"before"`
	// After is the diagnosis at the end; it equals Before if nothing was done.
	After diagnosis.Diagnosis `json:"after"`
	// Plan is what was carried out; no steps if there was nothing to do.
	Plan plan.Plan `json:"plan"`
	// Notes are what remains to be known or done, in words: names that certificates have lost,
	// outdated copies of certificates and kubeconfigs.
	Notes []string `json:"notes,omitempty"`
	// Seconds the whole run took.
	Seconds float64 `json:"seconds"`
	// Snapshot is the last one taken; as JSON it is in Dir.
	Snapshot snapshot.Snapshot `json:"-"`
}

// Orchestrator works on one cluster.
type Orchestrator struct {
	opts   Options
	runner *ansible.Runner
	kube   kubespray.Checkout
	// found is how the checkout was found; empty if it was named.
	found string
}

// New returns an Orchestrator for the cluster of an inventory, the only required option. It checks
// the options, the inventory's file and the checkout, asks no node, and asks Ansible.Ask for the
// passwords that the options need. Errors are of type *Error.
func New(options ...Option) (*Orchestrator, error) {
	opts := resolve(options)
	if err := opts.check(); err != nil {
		return nil, err
	}
	dir, err := stateOr(opts.StateDir)
	if err != nil {
		return nil, err
	}
	opts.StateDir = dir
	o := &Orchestrator{opts: opts}
	if err := o.openCheckout(); err != nil {
		return nil, err
	}
	// Last, because it may ask for passwords.
	if o.runner, err = ansible.New(opts.Ansible.AsConfigured(o.kube.Dir)); err != nil {
		return nil, preflightError(err)
	}
	return o, nil
}

// stateOr returns the directory, or the default one for none. The error is an *Error.
func stateOr(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	dir, err := stateDir()
	if err != nil {
		return "", &Error{Code: ExitUsage, Summary: err.Error(), Next: "name a directory with --state-dir", Err: err}
	}
	return dir, nil
}

// command is the command to type next, for the same runs.
func (o *Orchestrator) command(args ...string) string { return Command(o.opts.StateDir, args...) }

// Command is the command of kscertctl to type, with the arguments args, for the runs in a state
// directory; empty is the default one.
func Command(state string, args ...string) string {
	if dir := OtherStateDir(state); dir != "" {
		args = append(args, "--state-dir", dir)
	}
	return "kscertctl " + shell.Join(args)
}

// OtherStateDir is the state directory that commands have to name; empty for the default one.
func OtherStateDir(state string) string {
	if dir, err := stateDir(); err == nil && dir == state {
		return ""
	}
	return state
}

// stateDir follows the XDG Base Directory Specification.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kscertctl"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a directory for run records: %w", err)
	}
	return filepath.Join(home, ".local", "state", "kscertctl"), nil
}

// Inspect inspects every node and returns its state; it changes nothing. A node that cannot be
// inspected is part of the snapshot, not an error. The error is of type *Error.
func (o *Orchestrator) Inspect(ctx context.Context) (snapshot.Snapshot, error) {
	s, err := o.open(nil, run.Entry{Kind: run.KindLook}, playbooks.WriteToLook)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	defer s.close()
	return s.inspectInventory(ctx, true)
}

// Diagnose inspects every node like Inspect and returns what is wrong.
func (o *Orchestrator) Diagnose(ctx context.Context) (snapshot.Snapshot, diagnosis.Diagnosis, error) {
	snap, err := o.Inspect(ctx)
	if err != nil {
		return snap, diagnosis.Diagnosis{}, err
	}
	return snap, diagnosis.Diagnose(snap, o.opts.Thresholds), nil
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
	// missing are the directories that were made for its record, the lowest first.
	missing []string
	// first is the inspection that the session has begun with, until it is used; nil for none.
	first *inspection
	// latest is the last snapshot, asked the nodes that were asked for it.
	latest snapshot.Snapshot
	// gone are nodes that are left out; settled: no other will be.
	gone    []snapshot.Node
	settled bool
	asked   []string
	// held are the locks that every started Ansible holds, too.
	held []*os.File
	// left is what playbooks have left alone, in words.
	left []string
	// refused are the files of each node that playbooks have refused to change.
	refused map[string][]string
	// keeping is what control planes keep of the run.
	keeping keeping
	// release records that the work has stopped, with the function that it gets, and gives the lock
	// back; nil without a lock.
	release func(end func() error) error
	// demands is what a playbook of the checkout needs.
	demands
}

// begin opens the directory of a new run and its journal with the first entry.
func (o *Orchestrator) begin(ctx context.Context, first run.Entry) (*session, error) {
	return o.attach(ctx, nil, first)
}

// inspection is the result of one.
type inspection struct {
	snap snapshot.Snapshot
	err  error
}

// beginInspecting is begin for a session that inspects all nodes first. Without a checkout, which has
// demands to be known before, that reads the inventory, too: a start of Ansible less. It stops with soft.
func (o *Orchestrator) beginInspecting(ctx, soft context.Context, first run.Entry) (*session, error) {
	if o.kube.Dir != "" {
		return o.begin(ctx, first)
	}
	s, err := o.open(nil, first, playbooks.WriteTo)
	if err != nil {
		return nil, err
	}
	snap, err := s.inspectInventory(soft, false)
	if s.cluster.Nodes == nil {
		s.close()
		return nil, err
	}
	s.first = &inspection{snap, err}
	return s, nil
}

// attach checks the tools, reads the inventory and opens the directory of an earlier run, or of a
// new one if dir is nil.
func (o *Orchestrator) attach(ctx context.Context, dir *run.Dir, first run.Entry) (*session, error) {
	var (
		wg                sync.WaitGroup
		version           string
		nodes             cluster.Cluster
		inventory         []byte
		toolErr, nodesErr error
	)
	wg.Go(func() { version, toolErr = o.runner.Version(ctx) })
	wg.Go(func() { nodes, inventory, nodesErr = o.nodes(ctx) })
	wg.Wait()
	if toolErr != nil { // an error in the tool explains more than its output
		return nil, preflightError(toolErr)
	}
	kube := o.kube.Described(ctx)
	if err := o.demanded(&kube, version); err != nil {
		return nil, err
	}
	if nodesErr != nil {
		return nil, preflightError(nodesErr)
	}
	needs, err := o.demand(ctx, kube, version, inventory)
	if err != nil {
		return nil, err
	}
	s, err := o.open(dir, first, playbooks.WriteTo)
	if err != nil {
		return nil, err
	}
	s.cluster, s.demands = nodes, needs
	s.tell(Event{Kind: EventBegin, Message: s.dir.Path})
	return s, nil
}

// nodes reads the inventory as a play sees it, and returns its JSON, too.
func (o *Orchestrator) nodes(ctx context.Context) (cluster.Cluster, []byte, error) {
	dir, err := os.MkdirTemp("", "kscertctl-")
	if err != nil {
		return cluster.Cluster{}, nil, fmt.Errorf("reading the inventory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := playbooks.WriteToLook(filepath.Join(dir, "playbooks")); err != nil {
		return cluster.Cluster{}, nil, err
	}
	p := ansible.Playbook{
		Path: filepath.Join(dir, "playbooks", playbooks.Inspect), Dir: o.kube.Dir,
		CallbackDir: filepath.Join(dir, "playbooks", playbooks.CallbackDir),
		Isolated:    true, Looks: true, Vars: map[string]any{"kscert_hosts": "!all", "kscert_inspect": "collect"},
		Groups:    cluster.MadeGroups,
		Variables: slices.Concat(cluster.Variables, kubespray.Variables),
		Events:    filepath.Join(dir, "events.jsonl"), Log: filepath.Join(dir, "log"),
	}
	var stated []byte
	_, err = o.runner.Run(ctx, p, func(e ansible.Event) { stated = append(stated, e.Inventory...) })
	if ctx.Err() != nil {
		return cluster.Cluster{}, nil, err
	}
	if c, err := cluster.Parse(stated); err == nil {
		return c, stated, nil
	}
	return o.listed(ctx)
}

// listed reads the inventory as ansible-inventory prints it, with expressions that are not
// rendered. It is used to explain why an inventory cannot be used.
func (o *Orchestrator) listed(ctx context.Context) (cluster.Cluster, []byte, error) {
	inventory, err := o.runner.Inventory(ctx)
	var c cluster.Cluster
	if err == nil {
		c, err = cluster.Parse(inventory)
		if err == nil {
			return c, inventory, nil
		}
		err = fmt.Errorf("%s: %w", strings.Join(o.opts.Ansible.Inventories, ", "), err)
	}
	if ini := ignoredINI(o.opts.Ansible.Inventories); ini != "" && ctx.Err() == nil {
		err = &ansible.InventoryError{Path: filepath.Dir(ini), Detail: fmt.Sprintf(
			"in a directory, Ansible reads no file that ends in .ini: name the file itself: -i %s", shell.Quote(ini))}
	}
	return c, nil, err
}

// ignoredINI is the first file in a directory of inventories that Ansible ignores there by default
// (INVENTORY_IGNORE_EXTS) and that Kubespray's own documentation calls the inventory; empty if
// there is none.
func ignoredINI(inventories []string) string {
	for _, dir := range inventories {
		if found, _ := filepath.Glob(filepath.Join(dir, "*.ini")); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// open makes the run directory unless there is one, writes the playbooks into it, and begins its
// journal with the first entry.
func (o *Orchestrator) open(dir *run.Dir, first run.Entry, write func(dir string) error) (*session, error) {
	s := &session{Orchestrator: o, start: time.Now(), dir: dir, refused: map[string][]string{}}
	var all *multierror.Error
	var err error
	if dir == nil {
		s.missing = missing(o.opts.StateDir)
		if s.dir, err = run.Create(o.opts.StateDir, s.start); err != nil {
			return nil, &Error{Code: ExitNotBegun, Summary: err.Error(),
				Next: "name a writable directory with --state-dir", Err: err}
		}
	}
	first.Event = run.Begin
	// Those of the version that resumes, which may be another one.
	all = multierror.Append(all, os.RemoveAll(s.dir.Playbooks()), write(s.dir.Playbooks()))
	s.held = []*os.File{s.dir.Lock()}
	s.events, err = os.OpenFile(filepath.Join(s.dir.Path, "events.jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	all = multierror.Append(all, err, s.dir.Record(first))
	if err := all.ErrorOrNil(); err != nil {
		return nil, &Error{Code: ExitNotBegun, Summary: err.Error(), Next: "check the disk that holds --state-dir",
			Err: err}
	}
	return s, nil
}

// missing are the directories that are made with a state directory, the lowest first.
func missing(state string) (dirs []string) {
	for dir := state; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return dirs
		}
		dirs = append(dirs, dir)
	}
}

// neverBegan removes the record of a run that has not begun, and the directories that were made for it,
// unless others have used them.
func (s *session) neverBegan() {
	_ = os.RemoveAll(s.dir.Path)
	if len(s.missing) > 0 {
		_ = os.Remove(filepath.Dir(s.dir.Path))
	}
	for _, dir := range s.missing {
		_ = os.Remove(dir)
	}
}

func (s *session) close() {
	_ = s.events.Close()
	_ = s.dir.Close()
}

// tell sends an event to the observer and to the run directory.
func (s *session) tell(e Event) {
	e.Schema, e.Time, e.Run = EventSchema, time.Now().UTC(), s.dir.ID
	s.mu.Lock()
	defer s.mu.Unlock()
	if line, err := json.Marshal(e); err == nil {
		_, _ = s.events.Write(append(line, '\n')) // a record for people; the journal is authoritative
	}
	if s.opts.Observe != nil {
		s.opts.Observe(e)
	}
}

func (s *session) backups() string { return s.opts.BackupRoot + "/" + s.dir.ID }

// playbook prepares one of the project's own playbooks for some nodes; nil for those that the
// playbook itself names.
func (s *session) playbook(id, file string, nodes []string) ansible.Playbook {
	id = s.dir.Attempt(id)
	p := ansible.Playbook{
		Path:        filepath.Join(s.dir.Playbooks(), file),
		Dir:         s.kube.Dir,
		Hosts:       nodes,
		CallbackDir: filepath.Join(s.dir.Playbooks(), playbooks.CallbackDir),
		CommonArgs:  "kscert_ssh_common_args",
		Isolated:    true,
		Groups:      cluster.MadeGroups,
		SSH:         filepath.Join(s.dir.Playbooks(), playbooks.SSH),
		Hold:        s.held,
		Events:      s.dir.Events(id),
		Log:         s.dir.Log(id),
		Output:      s.opts.Output,
		Vars:        s.opts.settings(s.dir.ID).Variables(),
	}
	p.Vars["kscert_inspect"] = "collect" // there are Groups
	if nodes != nil {
		p.Vars["kscert_hosts"] = strings.Join(nodes, ",")
	}
	return p
}
