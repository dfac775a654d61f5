package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// JournalSchema is the version of a journal line.
const JournalSchema = 2

// EntryEvent is the kind of a journal line.
type EntryEvent string

// The events of a journal.
const (
	// Begin: a process began to work on the run; Kind is how.
	Begin EntryEvent = "begin"
	// Requested: request, plan and snapshot are on the disk and were approved. From here on the run
	// can be resumed.
	Requested EntryEvent = "request"
	// Intent and Outcome are before and after each step.
	Intent  EntryEvent = "intent"
	Outcome EntryEvent = "outcome"
	// End: the work on the run stopped gracefully.
	End EntryEvent = "end"
)

// Kind is what a process does with a run.
type Kind string

// The kinds, as a begin line has them.
const (
	KindRun      Kind = "run"
	KindRollback Kind = "rollback"
	// KindResume continues a run or a rollback in its own directory.
	KindResume Kind = "resume"
	// KindLook changes no certificate: a diagnosis, a plan, a list of backups.
	KindLook Kind = "look"
)

// Result of a step or of the work on a run.
type Result string

// The results. None yet: the step is in progress, or the process died in it.
const (
	Done        Result = "done"
	Failed      Result = "failed"
	Interrupted Result = "interrupted"
)

// Steps of kscertctl itself, which are in the journal but in no plan.
const (
	StepLock   = "lock"
	StepUnlock = "unlock"
)

// Entry is one line of the journal.
type Entry struct {
	V int `json:"v"`
	// Seq counts the lines of a journal from 1, without gaps.
	Seq  int       `json:"seq"`
	Time time.Time `json:"time"`
	Run  string    `json:"run"`

	Event EntryEvent `json:"event"`
	// Kind is set in a begin line, Of in that of a rollback: the run it undoes.
	Kind Kind   `json:"kind,omitempty"`
	Of   string `json:"of,omitempty"`
	// Step and Nodes are set in intents and outcomes.
	Step  string   `json:"step,omitempty"`
	Nodes []string `json:"nodes,omitempty"`
	// Outcome is set in outcome and end lines; Detail is the reason in words.
	Outcome Result `json:"outcome,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Journal is the content of a journal's lines.
type Journal struct {
	Entries []Entry
	// Torn is the size of an unfinished last line, in bytes: a process was killed while it wrote.
	// What the line would have recorded has not been acted upon.
	Torn int
}

// DamagedError means that a file of a run's record is not what was written.
type DamagedError struct {
	// File is a name below the run directory, Line counts from 1 in a journal.
	File   string
	Line   int
	Reason string
}

func (e *DamagedError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s is damaged in line %d: %s", e.File, e.Line, e.Reason)
	}
	return fmt.Sprintf("%s is damaged: %s", e.File, e.Reason)
}

// ParseJournal reads the journal of a run. An unfinished last line is no error and is left out;
// anything else that does not belong is a *DamagedError.
func ParseJournal(id string, data []byte) (Journal, error) {
	var j Journal
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		entry, reason := parseEntry(id, len(j.Entries)+1, line)
		if last := len(rest) == 0; last && (!whole || !json.Valid(line)) {
			j.Torn = len(data)
			return j, nil
		}
		if reason != "" {
			return Journal{}, &DamagedError{File: journalFile, Line: len(j.Entries) + 1, Reason: reason}
		}
		j.Entries = append(j.Entries, entry)
		data = rest
	}
	return j, nil
}

// parseEntry returns the entry of a line, or why it cannot be one.
func parseEntry(id string, seq int, line []byte) (Entry, string) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return e, "it is not JSON: " + err.Error()
	}
	events := []EntryEvent{Begin, Requested, Intent, Outcome, End}
	switch {
	case e.V != JournalSchema:
		return e, fmt.Sprintf("it has schema %d, this version reads %d", e.V, JournalSchema)
	case e.Run != id:
		return e, fmt.Sprintf("it belongs to run %q", e.Run)
	case e.Seq != seq:
		return e, fmt.Sprintf("it is number %d instead of %d: lines are missing or repeated", e.Seq, seq)
	case !slices.Contains(events, e.Event):
		return e, fmt.Sprintf("it has the unknown event %q", e.Event)
	case (seq == 1) != (e.Event == Begin && e.Kind != KindResume):
		return e, "a journal must begin with the line that describes the run"
	case (e.Event == Intent || e.Event == Outcome) && e.Step == "":
		return e, "it names no step"
	}
	return e, ""
}

// State is how far a run has got, by its journal.
type State struct {
	Kind Kind
	// Of is the run that a rollback undoes.
	Of    string
	Began time.Time
	// Last is when the last line was written.
	Last time.Time
	// Requested is true once the plan was approved and is on the disk.
	Requested bool
	// Ended is the result of the last work on the run; empty while a process is at work, and for
	// good if it was killed.
	Ended  Result
	Detail string
	// Steps that have been begun, by ID: their result, or nothing while they are in progress. Order
	// has them in the order they were first begun.
	Steps map[string]Result
	Order []string
}

// State returns how far the run has got.
func (j Journal) State() State {
	s := State{Steps: map[string]Result{}}
	for _, e := range j.Entries {
		s.Last = e.Time
		switch e.Event {
		case Begin:
			if e.Kind != KindResume {
				s.Kind, s.Of, s.Began = e.Kind, e.Of, e.Time
			}
			s.Ended, s.Detail = "", ""
		case Requested:
			s.Requested = true
		case Intent:
			if _, again := s.Steps[e.Step]; !again {
				s.Order = append(s.Order, e.Step)
			}
			s.Steps[e.Step] = ""
		case Outcome:
			s.Steps[e.Step] = e.Outcome
		case End:
			s.Ended, s.Detail = e.Outcome, e.Detail
		}
	}
	return s
}

// Next is the index of the step to continue at: the first that is not done; the number of steps if
// all are. If that is a gate that did not hold, it is the first change of one of its nodes: steps
// do only what is still due, so repeating them fixes what has gone wrong since, and harms nothing
// else.
func (s State) Next(p plan.Plan) int {
	i := slices.IndexFunc(p.Steps, func(step plan.Step) bool { return s.Steps[step.ID] != Done })
	if i < 0 {
		return len(p.Steps)
	}
	if gate := p.Steps[i]; gate.Gate != "" && s.Steps[gate.ID] == Failed {
		changes := func(step plan.Step) bool {
			return step.Alters() &&
				slices.ContainsFunc(step.Nodes, func(n string) bool { return slices.Contains(gate.Nodes, n) })
		}
		if again := slices.IndexFunc(p.Steps[:i], changes); again >= 0 {
			return again
		}
	}
	return i
}

// Begun reports whether a step of the plan was begun: a run that found the cluster locked, or a
// backup damaged, stopped before that.
func (s State) Begun() bool {
	return slices.ContainsFunc(s.Order, func(id string) bool { return id != StepLock && id != StepUnlock })
}

// Unlocking reports whether the run is done and its process died while it released the lock.
func (s State) Unlocking() bool {
	released, begun := s.Steps[StepUnlock]
	return s.Ended == Done && begun && released == ""
}

// Open returns the step that was begun and has no outcome.
func (s State) Open() (string, bool) {
	for _, id := range s.Order {
		if s.Steps[id] == "" {
			return id, true
		}
	}
	return "", false
}

// Touched lists the nodes that the run may have changed, in the order it came to them: those of
// every step that changes nodes and was begun. A backup alone changes nothing that was there.
func (s State) Touched(p plan.Plan) []string {
	var out []string
	for _, step := range p.Steps {
		if _, begun := s.Steps[step.ID]; !begun || !step.Alters() {
			continue
		}
		for _, n := range step.Nodes {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}
