package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

func proposal() orchestrator.Proposal {
	s := tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)))
	d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	p, _ := plan.Make(tc.Single(), s, d, plan.Policy{Choice: plan.Auto})
	return orchestrator.Proposal{Snapshot: s, Diagnosis: d, Plan: p}
}

// Only yes is accepted as approval, and only on a terminal; the plan is always shown.
func TestApprover(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, types string
		yes         bool
		terminal    bool
		want, fails bool
	}{
		{name: "yes", types: "yes\n", terminal: true, want: true},
		{name: "yes with blanks", types: " yes \r\n", terminal: true, want: true},
		{name: "y", types: "y\n", terminal: true},
		{name: "YES", types: "YES\n", terminal: true},
		{name: "only return", types: "\n", terminal: true},
		{name: "the end of input", types: "", terminal: true},
		{name: "--yes asks no one", yes: true, terminal: true, want: true},
		{name: "--yes off a terminal", yes: true, want: true},
		{name: "off a terminal nothing is read", types: "yes\n", fails: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var screen bytes.Buffer
			in := strings.NewReader(row.types)
			got, err := approver(Streams{In: in, Err: &screen, Terminal: row.terminal}, row.yes)(t.Context(), proposal())
			if got != row.want || (err != nil) != row.fails {
				t.Errorf("%t %v", got, err)
			}
			if !strings.Contains(screen.String(), "Plan (route renew):") {
				t.Errorf("the plan is not shown: %q", screen.String())
			}
			if asked := strings.Contains(screen.String(), "Carry out this plan?"); asked != (row.terminal && !row.yes) {
				t.Errorf("asked: %t", asked)
			}
			if !row.terminal && in.Len() != len(row.types) {
				t.Error("something was read off a terminal")
			}
		})
	}
}

func TestApproverIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe() // no one ever types
	defer w.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	got, err := approver(Streams{In: r, Err: io.Discard, Terminal: true}, false)(ctx, proposal())
	if got || !errors.Is(err, context.Canceled) {
		t.Errorf("%t %v", got, err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	step := &plan.Step{ID: "02-renew-certs-cp1", Title: "Renew", Nodes: []string{"cp1", "cp2"}}
	stable := func(held string) orchestrator.Event {
		return orchestrator.Event{Kind: orchestrator.EventGate, Step: step, Unmet: []gate.Unmet{{What: "must hold", Evidence: "holds, for " + held + " of 4 s"}}}
	}
	waits := func(what string) orchestrator.Event {
		return orchestrator.Event{Kind: orchestrator.EventGate, Step: step, Unmet: []gate.Unmet{{Node: "cp1", What: what}, {What: "more"}}}
	}
	looked := orchestrator.Event{Kind: orchestrator.EventInspected, Message: "2 nodes", Seconds: 1.26}
	var out bytes.Buffer
	p := newProgress(Streams{Err: &out})
	for _, e := range []orchestrator.Event{
		{Kind: orchestrator.EventBegin, Message: "/state/1"},
		looked,
		{Kind: orchestrator.EventDiagnosis, Diagnosis: &diagnosis.Diagnosis{Verdict: "healthy, but"}},
		{Kind: orchestrator.EventPlan, Plan: &plan.Plan{}},
		{Kind: orchestrator.EventStepBegin, Step: step},
		{Kind: orchestrator.EventTask, Node: "cp1", Task: "Renew it", Status: "changed", Seconds: 2},
		waits("must answer"), looked, waits("must answer"), waits("must serve"), stable("0 s"), stable("2 s"),
		{Kind: orchestrator.EventGate, Step: step},
		{Kind: orchestrator.EventStepEnd, Step: step, Status: "done", Seconds: 3.14},
		{Kind: orchestrator.EventEnd, Status: "done"},
	} {
		p.event(e)
	}
	got := regexp.MustCompile(`(?m)^\[ +\d+\.\ds\] `).ReplaceAllString(out.String(), "")
	want := `record of this run: /state/1
inspected 2 nodes in 1.3 s
healthy, but
02-renew-certs-cp1: Renew [cp1, cp2]
  cp1: Renew it: changed (2.0 s)
  waiting: cp1: must answer
  waiting: cp1: must serve
  waiting: must hold (holds, for 0 s of 4 s)
02-renew-certs-cp1: done (3.1 s)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	p := proposal()
	healthy := tc.Healthy(tc.Single())
	fine := diagnosis.Diagnose(healthy, diagnosis.DefaultThresholds())
	for _, row := range []struct {
		name string
		in   orchestrator.Result
		want string
	}{
		{"nothing to do on some nodes", orchestrator.Result{Before: p.Diagnosis, After: p.Diagnosis, Snapshot: healthy, Plan: plan.Plan{Warnings: []string{"not in this plan: cp1 (due: admin.conf)"}}}, `Nothing to do on the selected nodes.
Cluster: healthy, but 1 certificate is about to expire.
not in this plan: cp1 (due: admin.conf).
Next to expire on each node:
  cp1  2027-02-19  355d  kubelet-client-current.pem
  w1   2027-02-19  355d  kubelet-client-current.pem
`},
		{"nothing to do", orchestrator.Result{Before: fine, After: fine, Snapshot: healthy, Plan: plan.Plan{}}, `Nothing to do: healthy: every certificate on 2 nodes is valid, every API server answers.
Next to expire on each node:
  cp1  2027-02-19  355d  kubelet-client-current.pem
  w1   2027-02-19  355d  kubelet-client-current.pem
`},
		{"renewed", orchestrator.Result{Before: p.Diagnosis, After: fine, Snapshot: healthy, Plan: p.Plan, Seconds: 75.4, Backups: "/var/backups/1", Dir: "/state/1"}, `Before:  healthy, but 1 certificate is about to expire
Done:    4 steps in 1m15s
After:   healthy: every certificate on 2 nodes is valid, every API server answers
Next to expire on each node:
  cp1  2027-02-19  355d  kubelet-client-current.pem
  w1   2027-02-19  355d  kubelet-client-current.pem
Backups: /var/backups/1 on each node that was changed
Record:  /state/1
`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := summary(&out, row.in); err != nil || out.String() != row.want {
				t.Errorf("got (%v)\n%s\nwant\n%s", err, out.String(), row.want)
			}
		})
	}
}

func TestPrintError(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	printError(&out, &orchestrator.Error{Summary: "it broke", Evidence: "one\r\ntwo", Next: "do this\nand that"})
	printError(&out, errors.New("plain"))
	printError(&out, errors.New("two\n  next: lines"))
	want := "error: it broke\n  | one\n  | two\n  next: do this\n        and that\nerror: plain\nerror: two\n         next: lines\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
