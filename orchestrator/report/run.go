package report

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// RunSchema is the version of the JSON form of a Run.
const RunSchema = 1

// Run is what one run saw and did: the document behind every format of "report". It is made from
// the typed parts of a run's record alone, so that it cannot contain Ansible's own output or the
// events of its tasks.
type Run struct {
	Schema int      `json:"schema"`
	Run    string   `json:"run"`
	Kind   run.Kind `json:"kind"`
	// Of is the run that a rollback undoes.
	Of string `json:"of,omitempty"`
	// Dir is the run directory on the machine that the run was started on.
	Dir     string    `json:"dir"`
	Began   time.Time `json:"began,omitzero"`
	Last    time.Time `json:"last,omitzero"`
	Outcome Outcome   `json:"outcome"`
	// Cluster is the fingerprint of the cluster's CA.
	Cluster string `json:"cluster,omitempty"`
	// Asked is what was requested; nil if it is not in the record.
	Asked *Asked `json:"asked,omitempty"`
	// Work is the work on the run: the run itself, and each resume.
	Work []Work `json:"work"`
	// Before is the state when the plan was made, After the state after the last change; nil
	// without an inspection.
	Before *Seen `json:"before,omitempty"`
	After  *Seen `json:"after,omitempty"`
	// Route, Interruption, Warnings and Made are the plan's; Made is what it was made with, in
	// words (plan.Plan.Notes).
	Route        diagnosis.Route `json:"route,omitempty"`
	Interruption string          `json:"interruption,omitempty"`
	Warnings     []string        `json:"warnings,omitempty"`
	Made         []string        `json:"madeWith,omitempty"`
	Steps        []RunStep       `json:"steps"`
	Certificates []Lifetime      `json:"certificates"`
	// Backups are those the run took, as they were recorded then.
	Backups []run.Backup `json:"backups"`
	// Commands are the ways to continue or to roll back.
	Commands []Command `json:"commands"`
	// Later are runs that have changed nodes of the cluster since, the newest first.
	Later []string `json:"later,omitempty"`
	// Notes are what the run left to be known or done.
	Notes []string `json:"notes,omitempty"`
	// Unknown is what is unknown, or was when the plan was made.
	Unknown []string `json:"unknown,omitempty"`
}

// Outcome is how a run finished.
type Outcome struct {
	Status run.Status `json:"status"`
	// Summary is one sentence about it, Detail why it stopped, Next what to do.
	Summary string `json:"summary"`
	Detail  string `json:"detail,omitempty"`
	Next    string `json:"next,omitempty"`
	// ExitCode is absent if it is unknown: of a process that was killed.
	ExitCode *int `json:"exitCode,omitempty"`
	// Changed are the nodes that the run may have changed.
	Changed []string `json:"changed"`
}

// Asked is what was requested from a run, without anything that is secret.
type Asked struct {
	Inventories  []string    `json:"inventories"`
	KubesprayDir string      `json:"kubesprayDir,omitempty"`
	Playbook     plan.Choice `json:"playbook"`
	// Limit, SkipPhases and UntilPhase are the requested part of the plan.
	Limit      []string     `json:"limit,omitempty"`
	SkipPhases []plan.Phase `json:"skipPhases,omitempty"`
	UntilPhase plan.Phase   `json:"untilPhase,omitempty"`
	// Serial is how many kubelets were to get a new certificate at a time.
	Serial string `json:"serial,omitempty"`
	// WithheldVars is the number of extra variables that are not in the record.
	WithheldVars int `json:"withheldVars,omitempty"`
	// Withheld are the flags whose values are not in the record.
	Withheld           []string `json:"withheld,omitempty"`
	RenewBeforeSeconds int64    `json:"renewBeforeSeconds"`
	GateTimeoutSeconds int64    `json:"gateTimeoutSeconds"`
	// StableForSeconds is how long a gate had to hold.
	StableForSeconds int64  `json:"stableForSeconds,omitempty"`
	BackupRoot       string `json:"backupRoot"`
	// EtcdSnapshot defines which backups were to hold a snapshot of etcd.
	EtcdSnapshot plan.EtcdSnapshot `json:"etcdSnapshot,omitempty"`
}

// Work is one period of work on a run.
type Work struct {
	Kind  run.Kind  `json:"kind"`
	Began time.Time `json:"began"`
	// Ended is the last sign of it; Outcome is empty if its process was killed, or is at work.
	Ended   time.Time  `json:"ended"`
	Outcome run.Result `json:"outcome,omitempty"`
}

// Seen is the state of the nodes at one moment.
type Seen struct {
	Taken    time.Time           `json:"taken"`
	Verdict  string              `json:"verdict"`
	Route    diagnosis.Route     `json:"route"`
	Findings []diagnosis.Finding `json:"findings"`
}

// StepStatus is the state of a step in a run.
type StepStatus string

// The states of a step, in addition to the results of package run.
const (
	StepDone                   = StepStatus(run.Done)
	StepFailed                 = StepStatus(run.Failed)
	StepInterrupted            = StepStatus(run.Interrupted)
	StepKilled      StepStatus = "killed"  // its process died in it
	StepRunning     StepStatus = "running" // it is in progress
	StepToDo        StepStatus = "to-do"   // it was never begun
)

// RunStep is a step or a gate of a run.
type RunStep struct {
	plan.Step
	// Playbook is the file that the step runs; empty for a gate.
	Playbook string     `json:"playbook,omitempty"`
	Status   StepStatus `json:"status"`
	// Attempts are the times it was begun, in order.
	Attempts []Attempt `json:"attempts"`
	// Detail is why it failed, Next what to do about that.
	Detail string `json:"detail,omitempty"`
	Next   string `json:"next,omitempty"`
	// Unmet is what a gate still waited for at the last inspection.
	Unmet []gate.Unmet `json:"unmet,omitempty"`
}

// Attempt is one time that a step was begun.
type Attempt struct {
	Began time.Time `json:"began"`
	// Ended is the last sign of it, Outcome empty, if its process was killed in it or is at work.
	Ended   time.Time  `json:"ended"`
	Outcome run.Result `json:"outcome,omitempty"`
	// Looks counts the inspections meanwhile.
	Looks int `json:"looks,omitempty"`
}

// Lifetime is one certificate of one node before and after a run.
type Lifetime struct {
	Node string     `json:"node"`
	Name string     `json:"name"`
	Kind certs.Kind `json:"kind"`
	Path string     `json:"path"`
	IsCA bool       `json:"isCA,omitempty"`
	// Change is what happened to it.
	Change Change `json:"change"`
	// Before and After are nil if it did not exist, or was not seen.
	Before *Validity `json:"before,omitempty"`
	After  *Validity `json:"after,omitempty"`
}

// Change is what happened to a certificate.
type Change string

// The changes of a certificate.
const (
	Renewed   Change = "renewed"   // another one is in its place
	Unchanged Change = "unchanged" // it is the same
	Added     Change = "added"
	Removed   Change = "removed"
	NotSeen   Change = "not-seen" // its node was not inspected, before or after
)

// Validity is the state of a certificate at one moment, by its node's clock.
type Validity struct {
	NotBefore   time.Time     `json:"notBefore"`
	NotAfter    time.Time     `json:"notAfter"`
	Status      expiry.Status `json:"status"`
	Fingerprint string        `json:"fingerprint"`
}

// Command is something to type, and its purpose.
type Command struct {
	For     string `json:"for"`
	Command string `json:"command"`
}

// OfRun makes the report of a run from its history. It is a pure function: everything is as of the
// last line of the journal.
func OfRun(h run.History) Run {
	b := runBuilder{h: h, steps: []plan.Step{}}
	if p := h.Proposal; p != nil {
		b.before, b.thresholds, b.steps = &p.Snapshot, p.Request.Thresholds, p.Plan.Steps
		b.touched = h.State.Touched(p.Plan)
	} else if n := len(h.Snapshots); n > 0 {
		b.before, b.thresholds = &h.Snapshots[n-1], diagnosis.DefaultThresholds()
	}
	b.after = b.inspectionAfterLastChange()
	return b.run()
}

// NotBegun makes the report of a run that failed at that time, before it had a record: it has no name.
func NotBegun(at time.Time, o Outcome) Run {
	o.Status, o.Changed = run.StatusFailed, []string{}
	o.Detail, o.Next = snapshot.RedactText(o.Detail), snapshot.RedactText(o.Next)
	return Run{Schema: RunSchema, Kind: run.KindRun, Last: at, Outcome: o, Work: []Work{}, Steps: []RunStep{},
		Certificates: []Lifetime{}, Backups: []run.Backup{}, Commands: []Command{}}
}

// runBuilder is what a report of a run is made from.
type runBuilder struct {
	h          run.History
	thresholds diagnosis.Thresholds
	steps      []plan.Step
	touched    []string
	// before is what the plan was made for, after the state after the last change.
	before, after *snapshot.Snapshot
}

func (b *runBuilder) run() Run {
	s := b.h.State
	r := Run{
		Schema: RunSchema, Run: b.h.ID, Kind: s.Kind, Of: s.Of, Dir: b.h.Path, Began: s.Began, Last: s.Last,
		Outcome: b.outcome(), Work: b.work(), Before: b.seenBefore(), After: b.seenAfter(),
		Steps: b.runSteps(), Certificates: b.lifetimes(), Backups: b.backups(), Commands: b.commands(),
	}
	if p := b.h.Proposal; p != nil {
		r.Cluster, r.Asked = p.Cluster, asked(p.Request)
		r.Route, r.Interruption, r.Unknown = p.Plan.Route, p.Plan.Interruption, slices.Clone(p.Plan.Unknown)
		r.Warnings, r.Made = p.Plan.Warnings, p.Plan.Notes
	}
	for _, note := range b.h.Notes {
		r.Notes = append(r.Notes, snapshot.RedactText(note))
	}
	for _, later := range b.h.Later {
		r.Later = append(r.Later, later.ID)
	}
	if len(b.touched) > 0 && b.after == nil {
		r.Unknown = append(r.Unknown, "the present state of the nodes: they were not inspected since the last change")
	}
	if b.h.Torn > 0 {
		r.Unknown = append(r.Unknown,
			fmt.Sprintf("the last line of the journal: it was cut off in the middle (%d bytes)", b.h.Torn))
	}
	r.Unknown = append(r.Unknown, b.h.Unknown...)
	return r
}

// asked fills each field from that of the same name in a request; a duration has its unit in its name.
func asked(r run.Request) *Asked {
	var out Asked
	to, from := reflect.ValueOf(&out).Elem(), reflect.ValueOf(r)
	for _, f := range reflect.VisibleFields(to.Type()) {
		of := from.FieldByName(strings.TrimSuffix(f.Name, "Seconds"))
		if f.Name == "RenewBeforeSeconds" {
			of = reflect.ValueOf(r.Thresholds.RenewBefore)
		}
		if d, is := reflect.TypeAssert[time.Duration](of); is {
			of = reflect.ValueOf(int64(d / time.Second))
		}
		to.FieldByIndex(f.Index).Set(of)
	}
	return &out
}

// inspectionAfterLastChange is the last inspection, unless a node may have changed since: one before the
// last change does not show the current state. Neither does a node that it has from an earlier one.
func (b *runBuilder) inspectionAfterLastChange() *snapshot.Snapshot {
	changes := map[string]bool{}
	for _, step := range b.steps {
		changes[step.ID] = step.Alters()
	}
	var last time.Time
	of := map[string]time.Time{}
	for _, e := range b.h.Entries {
		if changes[e.Step] {
			last = e.Time
			for _, name := range e.Nodes {
				of[name] = e.Time
			}
		}
	}
	n := len(b.h.Snapshots)
	if n == 0 || last.IsZero() || b.h.Snapshots[n-1].Taken.Before(last) {
		return nil
	}
	after := b.h.Snapshots[n-1]
	after.Nodes = slices.Clone(after.Nodes)
	for i, node := range after.Nodes {
		if after.Asked(node).Before(of[node.Name]) {
			after.Nodes[i] = snapshot.Node{Node: node.Node, Failure: &snapshot.Failure{Kind: snapshot.Missing,
				Message: "it was not inspected after the last change of it"}}
		}
	}
	return &after
}

// seenBefore is what the plan was made for.
func (b *runBuilder) seenBefore() *Seen {
	switch p := b.h.Proposal; {
	case p != nil:
		return seen(p.Snapshot.Taken, p.Diagnosis)
	case b.before != nil:
		return seen(b.before.Taken, diagnosis.Diagnose(*b.before, b.thresholds))
	default:
		return nil
	}
}

// seenAfter is the diagnosis of the last inspection, if that shows the result.
func (b *runBuilder) seenAfter() *Seen {
	if b.after == nil {
		return nil
	}
	return seen(b.after.Taken, diagnosis.Diagnose(*b.after, b.thresholds))
}

func seen(taken time.Time, d diagnosis.Diagnosis) *Seen {
	return &Seen{Taken: taken, Verdict: d.Verdict, Route: d.Route,
		Findings: append([]diagnosis.Finding{}, d.Findings...)}
}

// outcome is how the run finished, and what is to be done about it.
func (b *runBuilder) outcome() Outcome {
	status := b.h.Status()
	o := Outcome{Status: status, Summary: b.summary(status), Detail: snapshot.RedactText(b.h.State.Detail),
		Changed: append([]string{}, b.touched...)}
	if e := b.h.Exit; e != nil {
		o.ExitCode, o.Next = &e.Code, snapshot.RedactText(e.Next)
	}
	switch {
	case len(b.h.Later) > 0: // what was reported then is no longer true
		o.Next = b.superseded()
	case o.Next == "" && status != run.StatusDone:
		o.Next = b.next()
	}
	return o
}

// summary describes the state of the run in one sentence.
func (b *runBuilder) summary(status run.Status) string {
	after := "nothing was changed"
	if n := len(b.touched); n > 0 {
		after = count(n, "node") + " may have changed"
	}
	switch status {
	case run.StatusDone:
		if len(b.steps) == 0 {
			return "there was nothing to do"
		}
		return fmt.Sprintf("every step is done: %s", count(len(b.steps), "step"))
	case run.StatusFailed:
		if before := b.seenBefore(); before != nil && !b.h.State.Requested && len(b.steps) == 0 &&
			slices.Contains(noWay(), before.Route) {
			return "it was refused: " + after
		}
		return "it stopped: " + after
	case run.StatusInterrupted:
		return "it was interrupted: " + after
	case run.StatusKilled:
		return "its process died: " + after
	case run.StatusRunning:
		return "it is running: " + after
	default:
		return string(status)
	}
}

// noWay are the routes on which nothing is changed; without steps, that of an expired CA.
func noWay() []diagnosis.Route { return []diagnosis.Route{diagnosis.Refuse, diagnosis.NewCA} }

// next is what to do about a run that has no next step in its record.
func (b *runBuilder) next() string {
	if b.h.Running {
		return "wait until it has finished, and see: " + b.command("status")
	}
	var lines []string
	for _, c := range b.commands() {
		lines = append(lines, c.For+": "+c.Command)
	}
	if len(lines) == 0 {
		return "nothing was changed; fix this, then run the command again"
	}
	return strings.Join(lines, "\n")
}

// superseded is what to do about a run after which another one has changed the nodes.
func (b *runBuilder) superseded() string {
	if b.undone() {
		return "it has been rolled back: nothing remains to be done"
	}
	return fmt.Sprintf("run %s has changed the cluster since: check its state with kscertctl diagnose", b.h.Later[0].ID)
}

// undone reports whether a rollback has restored the state before the run.
func (b *runBuilder) undone() bool {
	return slices.ContainsFunc(b.h.Later,
		func(r run.Record) bool { return r.State.Of == b.h.ID && r.State.Ended == run.Done })
}

// commands are those that can follow.
func (b *runBuilder) commands() []Command {
	out := []Command{}
	if b.h.Resumable() && len(b.h.Later) == 0 {
		out = append(out, Command{"resume", b.command("resume")})
	}
	if len(b.touched) > 0 && !b.h.Running && !b.undone() {
		out = append(out, Command{"roll back", b.command("rollback")})
	}
	return out
}

// backups are those that were recorded; the notes about what is not in one are a node's text.
func (b *runBuilder) backups() []run.Backup {
	out := []run.Backup{}
	for _, backup := range b.h.Backups {
		backup.Notes = slices.Clone(backup.Notes)
		for i, note := range backup.Notes {
			backup.Notes[i] = snapshot.RedactText(note)
		}
		out = append(out, backup)
	}
	return out
}

// command is what to type about this run, wherever its record is.
func (b *runBuilder) command(name string) string {
	var request run.Request
	if b.h.Proposal != nil {
		request = b.h.Proposal.Request
	}
	return command(name, b.h.ID, b.h.StateDir, request)
}

// command is what to type about a run: state is the directory of its record unless that is the
// default one. A record that comes from control planes does not name the inventory.
func command(name, id, state string, r run.Request) string {
	args := []string{name, id}
	if r.Recalled != nil && !r.Recalled.Approved {
		for _, inventory := range r.Inventories {
			args = append(args, "-i", inventory)
		}
	}
	if state != "" {
		args = append(args, "--state-dir", state)
	}
	return "kscertctl " + shell.Join(args)
}

// work reads from the journal who has worked on the run.
func (b *runBuilder) work() []Work {
	out := []Work{}
	for _, e := range b.signs() {
		if e.Event == run.Begin {
			out = append(out, Work{Kind: e.Kind, Began: e.Time})
		}
		if n := len(out); n > 0 {
			out[n-1].Ended = e.Time
			if e.Event == run.End {
				out[n-1].Outcome = e.Outcome
			}
		}
	}
	return out
}

// runSteps are the steps of the plan as the journal records them.
func (b *runBuilder) runSteps() []RunStep {
	out := []RunStep{}
	for _, step := range b.steps {
		s := RunStep{Step: step, Attempts: b.attempts(step.ID), Status: b.status(step.ID)}
		if step.Action != "" {
			s.Playbook = string(step.Action) + ".yml"
		}
		if !slices.Contains([]StepStatus{StepDone, StepToDo}, s.Status) {
			b.explain(&s)
		}
		out = append(out, s)
	}
	return out
}

func (b *runBuilder) status(step string) StepStatus {
	result, begun := b.h.State.Steps[step]
	switch {
	case !begun:
		return StepToDo
	case result != "":
		return StepStatus(result)
	case b.h.Running:
		return StepRunning
	default:
		return StepKilled
	}
}

// attempts are the times that a step was begun. One without an outcome lasts until the last sign of
// life before the run was resumed.
func (b *runBuilder) attempts(step string) []Attempt {
	out := []Attempt{}
	open := false
	for _, s := range b.signs() {
		n := len(out) - 1
		switch {
		case s.Step == step && s.Event == run.Intent:
			out, open = append(out, Attempt{Began: s.Time, Ended: s.Time}), true
		case s.Event == run.Begin:
			open = false
		case !open:
		case s.Step == step && s.Event == run.Outcome:
			out[n].Ended, out[n].Outcome, open = s.Time, s.Outcome, false
		default:
			out[n].Ended = s.Time
			if s.Event == looked {
				out[n].Looks++
			}
		}
	}
	return out
}

// looked is an inspection among the lines of the journal.
const looked run.EntryEvent = "looked"

// signs are the signs of life of a run in their order: the lines of its journal, and its
// inspections.
func (b *runBuilder) signs() []run.Entry {
	out := slices.Clone(b.h.Entries)
	for _, at := range b.h.Looks {
		out = append(out, run.Entry{Event: looked, Time: at})
	}
	slices.SortStableFunc(out, func(a, b run.Entry) int { return a.Time.Compare(b.Time) })
	return out
}

// explain adds why a step is not done: from the journal, for a gate also what it waited for at the
// last inspection, and what to do.
func (b *runBuilder) explain(s *RunStep) {
	for _, e := range b.h.Entries {
		if e.Event == run.Outcome && e.Step == s.ID {
			s.Detail = snapshot.RedactText(e.Detail)
		}
	}
	switch s.Status { //nolint:exhaustive // the others have ended by themselves
	case StepKilled:
		s.Detail = "its process died in this step"
	case StepRunning:
		s.Detail = "it is running"
	}
	s.Next = b.outcome().Next
	began := s.Attempts[len(s.Attempts)-1].Began
	n := len(b.h.Snapshots)
	if s.Gate == "" || b.before == nil || n == 0 || b.h.Snapshots[n-1].Taken.Before(began) {
		return
	}
	check := gate.Check{Gate: s.Gate, Nodes: s.Nodes, Before: *b.before, Thresholds: b.thresholds}
	s.Unmet = check.Evaluate(b.h.Snapshots[n-1])
}

// lifetimes compares the certificates before and after, node by node in the order of the cluster.
// CAs come with the others.
func (b *runBuilder) lifetimes() []Lifetime {
	out := []Lifetime{}
	if b.before == nil {
		return out
	}
	was, is := b.validities(b.before), b.validities(b.after)
	seen := map[place]bool{}
	for _, s := range []*snapshot.Snapshot{b.before, b.after} {
		if s == nil {
			continue
		}
		for _, n := range s.Nodes {
			for _, c := range n.Certificates {
				at := place{n.Name, c.Path}
				if c.Served || seen[at] {
					continue
				}
				seen[at] = true
				l := Lifetime{Node: n.Name, Name: c.Label(), Kind: c.Kind, Path: c.Path, IsCA: c.IsCA, Before: was[at],
					After: is[at]}
				l.Change = l.change(known(b.before, n.Name) && known(b.after, n.Name))
				out = append(out, l)
			}
		}
	}
	return out
}

// known reports whether a node was inspected.
func known(s *snapshot.Snapshot, node string) bool {
	if s == nil {
		return false
	}
	n, ok := s.Node(node)
	return ok && n.Failure == nil
}

// change compares before and after.
func (l Lifetime) change(known bool) Change {
	switch {
	case !known:
		return NotSeen
	case l.Before == nil:
		return Added
	case l.After == nil:
		return Removed
	case l.Before.Fingerprint != l.After.Fingerprint:
		return Renewed
	default:
		return Unchanged
	}
}

// place is the place of a certificate.
type place struct{ node, path string }

// validities is the state of each certificate in a file.
func (b *runBuilder) validities(s *snapshot.Snapshot) map[place]*Validity {
	out := map[place]*Validity{}
	if s == nil {
		return out
	}
	t := expiry.DefaultThresholds()
	t.Warn = b.thresholds.RenewBefore
	t.Crit = min(t.Crit, t.Warn)
	for _, row := range expiry.Of(*s, t).Certificates {
		if !row.Served {
			out[place{row.Node, row.Path}] = &Validity{NotBefore: row.NotBefore, NotAfter: row.Ends(),
				Status: row.Status, Fingerprint: row.Fingerprint}
		}
	}
	return out
}
