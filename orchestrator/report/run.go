package report

import (
	"fmt"
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

// Run is what one run saw and did: the document behind every format of "report". It
// is made of what is typed in a run's record alone, so that Ansible's own output and
// the events of its tasks cannot be in it.
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
	// Asked is what was asked for; nil when the record does not tell.
	Asked *Asked `json:"asked,omitempty"`
	// Work is who has worked on the run: the run itself, and each resume.
	Work []Work `json:"work"`
	// Before is what was seen when the plan was made, After what was seen after the
	// last change; nil when no one looked.
	Before *Seen `json:"before,omitempty"`
	After  *Seen `json:"after,omitempty"`
	// Route, Interruption, Warnings and Made are the plan's; Made says what it was made
	// with, in words (plan.Plan.Notes).
	Route        diagnosis.Route `json:"route,omitempty"`
	Interruption string          `json:"interruption,omitempty"`
	Warnings     []string        `json:"warnings,omitempty"`
	Made         []string        `json:"madeWith,omitempty"`
	Steps        []RunStep       `json:"steps"`
	Certificates []Lifetime      `json:"certificates"`
	// Backups are those the run took, as they were noted when they were made.
	Backups []run.Backup `json:"backups"`
	// Commands say how to go on or back.
	Commands []Command `json:"commands"`
	// Later are runs that have changed nodes of the cluster since, the newest first.
	Later []string `json:"later,omitempty"`
	// Notes say in words what the run left to be known or done.
	Notes []string `json:"notes,omitempty"`
	// Unknown says in words what is not known, and was not when the plan was made.
	Unknown []string `json:"unknown,omitempty"`
}

// Outcome is how a run ended.
type Outcome struct {
	Status run.Status `json:"status"`
	// Summary says it in one sentence, Detail why it stopped, Next what to do.
	Summary string `json:"summary"`
	Detail  string `json:"detail,omitempty"`
	Next    string `json:"next,omitempty"`
	// ExitCode is absent when it is not known: of a driver that was killed.
	ExitCode *int `json:"exitCode,omitempty"`
	// Changed are the nodes that the run may have changed.
	Changed []string `json:"changed"`
}

// Asked is what a run was asked for, without anything that is secret.
type Asked struct {
	Inventories  []string    `json:"inventories"`
	KubesprayDir string      `json:"kubesprayDir,omitempty"`
	Playbook     plan.Choice `json:"playbook"`
	// Limit, SkipPhases and UntilPhase say which part of the plan was asked for.
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
	// EtcdSnapshot is which backups were to hold a snapshot of etcd.
	EtcdSnapshot plan.EtcdSnapshot `json:"etcdSnapshot,omitempty"`
}

// Work is one time that someone worked on a run.
type Work struct {
	Kind  run.Kind  `json:"kind"`
	Began time.Time `json:"began"`
	// Ended is the last sign of it; Outcome is empty when its driver was killed, or
	// is at work.
	Ended   time.Time  `json:"ended"`
	Outcome run.Result `json:"outcome,omitempty"`
}

// Seen is what the nodes looked like at one moment.
type Seen struct {
	Taken    time.Time           `json:"taken"`
	Verdict  string              `json:"verdict"`
	Route    diagnosis.Route     `json:"route"`
	Findings []diagnosis.Finding `json:"findings"`
}

// StepStatus is how a step of a run stands.
type StepStatus string

// The states of a step, in addition to the results of package run.
const (
	StepDone                   = StepStatus(run.Done)
	StepFailed                 = StepStatus(run.Failed)
	StepInterrupted            = StepStatus(run.Interrupted)
	StepKilled      StepStatus = "killed"  // its driver died in it
	StepRunning     StepStatus = "running" // it is at work
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
	// Unmet is what a gate still waited for when the nodes were last looked at.
	Unmet []gate.Unmet `json:"unmet,omitempty"`
}

// Attempt is one time that a step was begun.
type Attempt struct {
	Began time.Time `json:"began"`
	// Ended is the last sign of it, Outcome empty, when its driver was killed in it
	// or is at work.
	Ended   time.Time  `json:"ended"`
	Outcome run.Result `json:"outcome,omitempty"`
	// Looks counts how often the nodes were looked at meanwhile.
	Looks int `json:"looks,omitempty"`
}

// Lifetime is one certificate of one node before and after a run.
type Lifetime struct {
	Node string     `json:"node"`
	Name string     `json:"name"`
	Kind certs.Kind `json:"kind"`
	Path string     `json:"path"`
	IsCA bool       `json:"isCA,omitempty"`
	// Change is what has become of it.
	Change Change `json:"change"`
	// Before and After are nil when it was not there, or not seen.
	Before *Validity `json:"before,omitempty"`
	After  *Validity `json:"after,omitempty"`
}

// Change is what has become of a certificate.
type Change string

// The changes of a certificate.
const (
	Renewed   Change = "renewed"   // another one is in its place
	Unchanged Change = "unchanged" // it is the same
	Added     Change = "added"
	Removed   Change = "removed"
	NotSeen   Change = "not-seen" // its node was not looked at, before or after
)

// Validity is how it stands with a certificate at one moment, by its node's clock.
type Validity struct {
	NotBefore   time.Time     `json:"notBefore"`
	NotAfter    time.Time     `json:"notAfter"`
	Status      expiry.Status `json:"status"`
	Fingerprint string        `json:"fingerprint"`
}

// Command is something to type, and what for.
type Command struct {
	For     string `json:"for"`
	Command string `json:"command"`
}

// OfRun makes the report of a run from its history. It is a pure function: what it
// tells, it tells as of the last line of the journal.
func OfRun(h run.History) Run {
	b := runBuilder{h: h, steps: []plan.Step{}}
	if p := h.Proposal; p != nil {
		b.before, b.thresholds, b.steps = &p.Snapshot, p.Request.Thresholds, p.Plan.Steps
		b.touched = h.State.Touched(p.Plan)
	} else if n := len(h.Snapshots); n > 0 {
		b.before, b.thresholds = &h.Snapshots[n-1], diagnosis.DefaultThresholds()
	}
	b.after = b.lookAfterLastChange()
	return b.run()
}

// runBuilder is what a report of a run is made from.
type runBuilder struct {
	h          run.History
	thresholds diagnosis.Thresholds
	steps      []plan.Step
	touched    []string
	// before is what the plan was made for, after what was seen after the last change.
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

func asked(r run.Request) *Asked {
	return &Asked{
		Inventories: r.Inventories, KubesprayDir: r.KubesprayDir, Playbook: r.Playbook, WithheldVars: r.WithheldVars,
		Withheld: r.Withheld, BackupRoot: r.BackupRoot, EtcdSnapshot: r.EtcdSnapshot,
		Limit: r.Limit, SkipPhases: r.SkipPhases, UntilPhase: r.UntilPhase, Serial: r.Serial,
		StableForSeconds:   int64(r.StableFor / time.Second),
		RenewBeforeSeconds: int64(r.Thresholds.RenewBefore / time.Second),
		GateTimeoutSeconds: int64(r.GateTimeout / time.Second),
	}
}

// lookAfterLastChange is the last look, unless a node may have changed since: a look
// before the last change tells nothing of now.
func (b *runBuilder) lookAfterLastChange() *snapshot.Snapshot {
	changes := map[string]bool{}
	for _, step := range b.steps {
		changes[step.ID] = step.Changes && step.Action != plan.Backup
	}
	var last time.Time
	for _, e := range b.h.Entries {
		if changes[e.Step] {
			last = e.Time
		}
	}
	n := len(b.h.Snapshots)
	if n == 0 || last.IsZero() || b.h.Snapshots[n-1].Taken.Before(last) {
		return nil
	}
	return &b.h.Snapshots[n-1]
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

// seenAfter is what the last look means, where it tells of what was done.
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

// outcome says how the run ended, and what is to be done about it.
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

// summary says in one sentence how the run stands.
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

// next is what to do about a run that says nothing of it itself.
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

// superseded is what to do about a run after which another one has worked.
func (b *runBuilder) superseded() string {
	if b.undone() {
		return "it has been rolled back: nothing remains to be done"
	}
	return fmt.Sprintf("run %s has changed the cluster since: check its state with kscertctl diagnose", b.h.Later[0].ID)
}

// undone reports whether a rollback has put back what was there before the run.
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

// backups are those that were noted; why something is not in one are a node's words.
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
	out := "kscertctl " + name + " " + shell.Quote(b.h.ID)
	if b.h.StateDir != "" {
		out += " --state-dir " + shell.Quote(b.h.StateDir)
	}
	return out
}

// work tells from the journal who has worked on the run.
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

// runSteps are the steps of the plan as the journal tells of them.
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

// attempts are the times that a step was begun. One that has no outcome ends with
// the last sign of life before someone went on.
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

// looked is a look at the nodes among the lines of the journal.
const looked run.EntryEvent = "looked"

// signs are the signs of life of a run in their order: the lines of its journal, and
// its looks at the nodes.
func (b *runBuilder) signs() []run.Entry {
	out := slices.Clone(b.h.Entries)
	for _, at := range b.h.Looks {
		out = append(out, run.Entry{Event: looked, Time: at})
	}
	slices.SortStableFunc(out, func(a, b run.Entry) int { return a.Time.Compare(b.Time) })
	return out
}

// explain says why a step is not done: in the journal's words, of a gate also what
// it waited for when it was last looked at, and what to do.
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

// lifetimes compares the certificates that were there with those that are, node by
// node in the order of the cluster. CAs come with the others.
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

// known reports whether a node was looked at.
func known(s *snapshot.Snapshot, node string) bool {
	if s == nil {
		return false
	}
	n, ok := s.Node(node)
	return ok && n.Failure == nil
}

// change compares what was there with what is there.
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

// place is where a certificate lies.
type place struct{ node, path string }

// validities tells of each certificate in a file how it stands.
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
