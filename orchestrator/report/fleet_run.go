package report

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// FleetRunSchema is the version of the JSON form of a FleetRun.
const FleetRunSchema = 1

// FleetState is how far the work on a cluster of a fleet has got.
type FleetState string

// The states.
const (
	FleetHeld    FleetState = "held"    // the fleet file holds it back
	FleetPlanned FleetState = "planned" // it was planned, and nothing else was requested
	FleetWaiting FleetState = "waiting" // it has not begun
	FleetRunning FleetState = "running" // it is in progress
	FleetDone    FleetState = "done"    // it is done, or there was nothing to do
	FleetFailed  FleetState = "failed"  // it stopped with an error
	FleetKilled  FleetState = "killed"  // the process that worked on it died
)

// FleetRun is the work on the clusters of a fleet: the document of fleet plan, run and status.
type FleetRun struct {
	Schema int `json:"schema"`
	// Fleet is the name of the work; absent for a plan.
	Fleet string `json:"fleet,omitempty"`
	// Status is its state; absent for a plan.
	Status run.Status `json:"status,omitempty"`
	// File is the fleet file, and Dir the directory that the command was run in.
	File string `json:"file"`
	Dir  string `json:"dir"`
	// Began is when, by the clock of the control node.
	Began time.Time `json:"began"`
	// ExitCode is that of the command: the worst of the clusters, or that of an interrupt.
	ExitCode int `json:"exitCode"`
	// Clusters in the order of the file.
	Clusters []FleetCluster `json:"clusters"`
}

// FleetCluster is the work on one cluster.
type FleetCluster struct {
	// Name of the cluster, and its labels.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	// Wave is the name of its wave; absent for the last, which has none.
	Wave string `json:"wave,omitempty"`
	// State is how far the work has got.
	State FleetState `json:"state"`
	// Reason is why it waits or is held, in words.
	Reason string `json:"reason,omitempty"`
	// Opens is when the next of its maintenance windows opens; absent if one is open.
	Opens time.Time `json:"opens,omitzero"`
	// Run is the run on this cluster, and StateDir the directory of its record.
	Run      string `json:"run,omitempty"`
	StateDir string `json:"stateDir,omitempty"`
	// Began and Ended are when the work on it did.
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Verdict, Route and Steps are what was found and planned.
	Verdict string          `json:"verdict,omitempty"`
	Route   diagnosis.Route `json:"route,omitempty"`
	Steps   int             `json:"steps"`
	// ExitCode is that of the work on this cluster alone; Error and Next are its report.
	ExitCode int    `json:"exitCode"`
	Error    string `json:"error,omitempty"`
	Next     string `json:"next,omitempty"`
	// Plan is the document of plan; only in that of fleet plan.
	Plan *Proposal `json:"plan,omitempty"`
}

// Text writes one line per cluster.
func (f FleetRun) Text(w io.Writer) error {
	cells := [][]string{{"CLUSTER", "WAVE", "STATE", "ROUTE", "STEPS", "EXIT CODE", "RUN", "DETAIL"}}
	for _, c := range f.Clusters {
		detail := cmp.Or(c.Error, c.Reason, c.Verdict, "-")
		if c.State == FleetPlanned && !c.Opens.IsZero() {
			detail = fmt.Sprintf("%s; %s", c.Reason, c.Verdict)
		}
		cells = append(cells, []string{
			c.Name, cmp.Or(c.Wave, "-"), string(c.State), cmp.Or(string(c.Route), "-"), strconv.Itoa(c.Steps),
			strconv.Itoa(c.ExitCode), cmp.Or(c.Run, "-"), detail,
		})
	}
	if err := writeTable(w, cells); err != nil || f.Fleet == "" {
		return err
	}
	p := printer{w: w}
	p.line("Fleet run %s: %s", f.Fleet, f.Status)
	return p.err
}
