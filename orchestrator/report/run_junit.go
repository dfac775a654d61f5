package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// RunJUnit writes one test case for each step and each gate, and one for the run's own work around
// them. A failure has what went wrong and what to do next; a step that was never started is
// skipped.
func RunJUnit(w io.Writer, r Run) error {
	suite := junit.Testsuite{Name: "kscertctl " + string(r.Kind) + " " + r.Run, Time: seconds(r.Began, r.Last)}
	suite.SetTimestamp(r.Began)
	for _, p := range []fact{{"run", r.Run}, {"kind", string(r.Kind)}, {"outcome", string(r.Outcome.Status)},
		{"cluster", r.Cluster}} {
		suite.AddProperty(p.Name, p.Value)
	}
	v := view(r)
	suite.AddTestcase(driverCase(v))
	for _, s := range r.Steps {
		suite.AddTestcase(stepCase(s))
	}
	all := junit.Testsuites{Name: "kscertctl report"}
	all.AddSuite(suite)
	return all.WriteXML(printable.NewWriter(w))
}

func seconds(from, to time.Time) string { return fmt.Sprintf("%.3f", to.Sub(from).Seconds()) }

// driverCase is about inspection, planning, approval and the lock: it has failed if the run
// stopped, and in none of its steps.
func driverCase(v runView) junit.Testcase {
	c := junit.Testcase{Classname: "run.driver", Name: "look, plan, approval, lock"}
	if len(v.Stopped) == 0 {
		setState(&c, StepStatus(v.Outcome.Status), cmp.Or(v.Outcome.Detail, v.Outcome.Summary), nil, v.Outcome.Next)
	}
	return c
}

func stepCase(s RunStep) junit.Testcase {
	kind := "step"
	if s.Gate != "" {
		kind = "gate"
	}
	c := junit.Testcase{Classname: "run." + kind, Name: printable.Line(s.ID)}
	if n := len(s.Attempts); n > 0 {
		c.Time = seconds(s.Attempts[n-1].Began, s.Attempts[n-1].Ended)
	}
	var unmet []string
	for _, u := range s.Unmet {
		unmet = append(unmet, u.String())
	}
	setState(&c, s.Status, s.Detail, unmet, s.Next)
	return c
}

// setState sets the state of a test case: what stopped by itself has failed, what was stopped by
// others is an error.
func setState(c *junit.Testcase, status StepStatus, detail string, unmet []string, next string) {
	result := &junit.Result{Message: printable.Line(detail), Type: string(status), Data: explanation(unmet, next)}
	switch status {
	case StepDone:
	case StepFailed:
		c.Failure = result
	case StepToDo:
		c.Skipped = &junit.Result{Message: "never started"}
	case StepRunning:
		c.Skipped = &junit.Result{Message: "running"}
	default:
		c.Error = result
	}
}

// explanation has one line for each thing that is waited for or to be done.
func explanation(unmet []string, next string) string {
	var lines []string
	for _, u := range unmet {
		lines = append(lines, printable.Line("waits for: "+u))
	}
	prefix := "next: "
	for line := range strings.Lines(next) {
		lines = append(lines, prefix+printable.Line(strings.TrimRight(line, "\n")))
		prefix = "      "
	}
	return strings.Join(lines, "\n")
}
