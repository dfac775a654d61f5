package orchestrator

import (
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// EventSchema is the version of the JSON form of an Event.
const EventSchema = 1

// EventKind is what happened.
type EventKind string

// The kinds of events, in the order of a run.
const (
	EventBegin     EventKind = "begin"      // the work began; the message is the run directory
	EventInspected EventKind = "inspected"  // all nodes were inspected; the message is how many there are
	EventDiagnosis EventKind = "diagnosis"  // the diagnosis is known
	EventPlan      EventKind = "plan"       // the plan is known
	EventStepBegin EventKind = "step-begin" // a step began
	EventTaskBegin EventKind = "task-begin" // a task of the step began on its nodes
	EventTask      EventKind = "task"       // a task of the step finished on a node
	EventGate      EventKind = "gate"       // a gate was evaluated; it holds when nothing is unmet
	EventStepEnd   EventKind = "step-end"   // a step finished; the message is why it failed
	EventNotice    EventKind = "notice"     // the message is worth knowing and stops nothing; of a hook, with its step
	EventEnd       EventKind = "end"        // the work finished; the message is why it failed
)

// Event is one thing that happened in a run. Events are also written, one JSON object per line, to
// events.jsonl in the run directory.
type Event struct {
	// Schema is the version of this document. A field or a kind may be added within a version; none
	// is removed or changes its meaning.
	Schema int `json:"schema"`
	// Time is by the clock of the control node, in UTC.
	Time time.Time `json:"time"`
	// Run is the run's name.
	Run string `json:"run"`
	// Kind is what happened.
	Kind EventKind `json:"kind"`

	// Step is the step of the plan that it happened in.
	Step *plan.Step `json:"step,omitempty"`
	// Node is where a task finished, by its name in the inventory.
	Node string `json:"node,omitempty"`
	// Task is the name of Ansible's task.
	Task string `json:"task,omitempty"`
	// Done is how many tasks of a playbook of Kubespray have begun, without those that it includes
	// while it runs.
	Done int `json:"done,omitempty"`
	// Total is how many tasks that playbook has.
	Total int `json:"total,omitempty"`
	// Status of a task is Ansible's: ok, changed, failed, unreachable or retry; of a step and of
	// the end, a result: done, failed or interrupted.
	Status string `json:"status,omitempty"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds,omitempty"`
	// Message is a text for people.
	Message string `json:"message,omitempty"`
	// Unmet is what a gate still waits for.
	Unmet []gate.Unmet `json:"unmet,omitempty"`
	// Diagnosis is the document of the event of that kind.
	Diagnosis *diagnosis.Diagnosis `json:"diagnosis,omitempty"`
	// Plan is the document of the event of that kind.
	Plan *plan.Plan `json:"plan,omitempty"`
}
