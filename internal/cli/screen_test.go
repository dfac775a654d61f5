package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// shown is what a terminal finally shows of what was written to it, without erased lines. It has to
// know only carriage return and "erase in line".
func shown(written string) string {
	lines := strings.Split(written, "\n")
	for i, l := range lines {
		if at := strings.LastIndex(l, "\r\x1b[K"); at >= 0 {
			lines[i] = l[at+len("\r\x1b[K"):]
		}
	}
	return strings.Join(lines, "\n")
}

// TestLineForNow: on a terminal the last line shows what is happening and for how long; other lines
// push it down, and in the end it is gone.
func TestLineForNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &screen{w: &out, width: func() int { return 40 }}
		p := newProgress(Streams{Err: s})
		step := &plan.Step{ID: "03-gate-api-server-cp1", Title: "wait", Nodes: []string{"cp1"}, Gate: plan.APIServerGate}
		for _, at := range []struct {
			event *orchestrator.Event
			want  string
		}{
			{&orchestrator.Event{Kind: orchestrator.EventBegin, Message: "/runs/1"}, "[   0.0s] record of this run: /runs/1\n[     0s] inspecting the nodes"},
			{nil, "[     3s] inspecting the nodes"},
			{&orchestrator.Event{Kind: orchestrator.EventInspected, Message: "2 nodes", Seconds: 6}, "[   6.0s] inspected 2 nodes in 6.0 s\n"},
			{&orchestrator.Event{Kind: orchestrator.EventStepBegin, Step: step}, "[   9.0s] 03-gate-api-server-cp1: wait [cp1]\n[     0s] 03-gate-api-server-cp1"},
			{
				&orchestrator.Event{Kind: orchestrator.EventGate, Step: step, Unmet: []gate.Unmet{{Node: "cp1", What: "the API server answers"}}},
				"waiting: cp1: the API server answers\n[     3s] 03-gate-api-server-cp1 wai...",
			},
			{nil, "[     6s] 03-gate-api-server-cp1 wai..."},
			{&orchestrator.Event{Kind: orchestrator.EventStepEnd, Step: step, Status: "done", Seconds: 9}, "[  18.0s] 03-gate-api-server-cp1: done (9.0 s)\n"},
			{&orchestrator.Event{Kind: orchestrator.EventEnd}, "done (9.0 s)\n"},
		} {
			if at.event != nil {
				p.event(*at.event)
			}
			synctest.Wait()
			s.mu.Lock() // the clock ticks on
			got := shown(out.String())
			s.mu.Unlock()
			if !strings.HasSuffix(got, at.want) {
				t.Errorf("the screen is\n%s\nwant it to end with\n%s", got, at.want)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		if strings.Contains(out.String(), "\x1b[3") || strings.Contains(out.String(), "\x1b[1") {
			t.Error("colour was not asked for")
		}
	})
}

// TestTasksOnAScreen: while a playbook runs, the status line shows its task, and for one of
// Kubespray its progress. None of it becomes a line of its own.
func TestTasksOnAScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(Streams{Err: &screen{w: &out, width: func() int { return 80 }}})
	step := &plan.Step{ID: "04-upgrade-cluster", Title: "upgrade", Nodes: []string{"cp1"}}
	p.event(orchestrator.Event{Kind: orchestrator.EventStepBegin, Step: step})
	for _, at := range []struct {
		event orchestrator.Event
		want  string
	}{
		{orchestrator.Event{Task: "Gather facts", Done: 12, Total: 1209}, "04-upgrade-cluster 12/1209 tasks: Gather facts"},
		{orchestrator.Event{Task: "Renew"}, "04-upgrade-cluster: Renew"},
	} {
		at.event.Kind, at.event.Step = orchestrator.EventTaskBegin, step
		p.event(at.event)
		if got, want := shown(out.String()), "[   0.0s] 04-upgrade-cluster: upgrade [cp1]\n[     0s] "+at.want; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	p.clear()
}

// TestErrorsOnAScreen: output of others is printed above the status line.
func TestErrorsOnAScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &screen{w: &out, width: func() int { return 80 }, color: true}
	s.doing("looking", time.Now())
	if _, err := s.Write([]byte("warning: something\n")); err != nil {
		t.Fatal(err)
	}
	if got := shown(out.String()); got != "warning: something\n\x1b[2m[     0s] looking\x1b[0m" {
		t.Errorf("%q", got)
	}
	s.clear()
	if got := shown(out.String()); got != "warning: something\n" {
		t.Errorf("%q", got)
	}
}

// TestGroups: in the log of a pipeline that can be folded, each step is a group.
func TestGroups(t *testing.T) {
	t.Parallel()
	at := time.Unix(1800000000, 0)
	for variable, want := range map[string]string{
		"GITHUB_ACTIONS": "::group::02-renew-certs-cp1: renew [cp1]\n[   0.0s]   cp1: Renew: changed (1.0 s)\n::endgroup::\n[   0.0s] 02-renew-certs-cp1: done (2.0 s)\n",
		"GITLAB_CI": "\x1b[0Ksection_start:1800000000:02-renew-certs-cp1\r\x1b[0K02-renew-certs-cp1: renew [cp1]\n" +
			"[   0.0s]   cp1: Renew: changed (1.0 s)\n" +
			"\x1b[0Ksection_end:1800000000:02-renew-certs-cp1\r\x1b[0K\n[   0.0s] 02-renew-certs-cp1: done (2.0 s)\n",
		"CI": "[   0.0s] 02-renew-certs-cp1: renew [cp1]\n[   0.0s]   cp1: Renew: changed (1.0 s)\n[   0.0s] 02-renew-certs-cp1: done (2.0 s)\n",
	} {
		var out bytes.Buffer
		s := newScreen(&out, func(name string) string {
			if name == variable {
				return "true"
			}
			return ""
		})
		p := newProgress(Streams{Err: s})
		step := &plan.Step{ID: "02-renew-certs-cp1", Title: "renew", Nodes: []string{"cp1"}, Action: plan.Renew}
		for _, e := range []orchestrator.Event{
			{Kind: orchestrator.EventStepBegin, Step: step, Time: at},
			{Kind: orchestrator.EventTask, Step: step, Node: "cp1", Task: "Renew", Status: "changed", Seconds: 1},
			{Kind: orchestrator.EventStepEnd, Step: step, Status: "done", Seconds: 2, Time: at},
		} {
			p.event(e)
		}
		if out.String() != want {
			t.Errorf("%s: %q, want %q", variable, out.String(), want)
		}
	}
}

// TestPlainScreen: a file, and so a pipe, is not a terminal: no status line, no color.
func TestPlainScreen(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := newScreen(f, func(string) string { return "" })
	s.doing("looking", time.Now())
	if _, err := s.Write([]byte(s.paint(red, "failed") + "\n")); err != nil {
		t.Fatal(err)
	}
	s.clear()
	if data, err := os.ReadFile(f.Name()); err != nil || string(data) != "failed\n" {
		t.Errorf("%q %v", data, err)
	}
}
