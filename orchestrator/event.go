package orchestrator

import (
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// EventSchema is the version of the JSON form of an Event.
const EventSchema = 1

// EventKind says what happened.
type EventKind string

// The kinds of events, in the order of a run.
const (
	EventBegin     EventKind = "begin"      // a run began; Message is its directory
	EventInspected EventKind = "inspected"  // all nodes were looked at
	EventDiagnosis EventKind = "diagnosis"  // Diagnosis is set
	EventPlan      EventKind = "plan"       // Plan is set
	EventStepBegin EventKind = "step-begin" // Step is set
	EventTaskBegin EventKind = "task-begin" // a task began on the nodes of a step; Done and Total are set where known
	EventTask      EventKind = "task"       // a task ended on a node
	EventGate      EventKind = "gate"       // a gate was evaluated; Unmet is set unless it holds
	EventStepEnd   EventKind = "step-end"   // Step, Status and Seconds are set
	EventNotice    EventKind = "notice"     // Message says what is worth knowing and stops nothing
	EventEnd       EventKind = "end"        // Status and Seconds are set
)

// Event is one thing that happened in a run. Events are also written, one JSON
// object a line, to events.jsonl in the run directory.
type Event struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"`
	Run    string    `json:"run"`
	Kind   EventKind `json:"kind"`

	Step *plan.Step `json:"step,omitempty"`
	Node string     `json:"node,omitempty"`
	Task string     `json:"task,omitempty"`
	// Done of Total tasks of a playbook of Kubespray were begun; of those that it
	// includes while it runs, none counts.
	Done      int                  `json:"done,omitempty"`
	Total     int                  `json:"total,omitempty"`
	Status    string               `json:"status,omitempty"`
	Seconds   float64              `json:"seconds,omitempty"`
	Message   string               `json:"message,omitempty"`
	Unmet     []gate.Unmet         `json:"unmet,omitempty"`
	Diagnosis *diagnosis.Diagnosis `json:"diagnosis,omitempty"`
	Plan      *plan.Plan           `json:"plan,omitempty"`
}
