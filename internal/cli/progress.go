package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// progress prints what happens on standard error: a line for each event, and on a terminal a status
// line.
type progress struct {
	*screen

	start time.Time
	// step is the current one, since stepped; unmet is what its gate waits for.
	step    string
	stepped time.Time
	unmet   string
}

func newProgress(s Streams) *progress {
	p := &progress{start: time.Now()}
	var ok bool
	if p.screen, ok = s.Err.(*screen); !ok {
		p.screen = &screen{w: s.Err}
	}
	return p
}

func (p *progress) event(e orchestrator.Event) {
	switch e.Kind {
	case orchestrator.EventBegin:
		p.line("record of this run: %s", e.Message)
		p.doing("inspecting the nodes", time.Now())
	case orchestrator.EventInspected:
		if p.step == "" {
			p.clear()
		}
		if e.Message != "" && p.unmet == "" {
			p.line("inspected %s in %.1f s", e.Message, e.Seconds)
		}
	case orchestrator.EventDiagnosis:
		p.line("%s", e.Diagnosis.Verdict)
	case orchestrator.EventStepBegin:
		p.step, p.stepped, p.unmet = e.Step.ID, time.Now(), ""
		title := fmt.Sprintf("%s: %s [%s]", e.Step.ID, e.Step.Title, strings.Join(e.Step.Nodes, ", "))
		if p.group.begin != nil {
			p.group.begin(p.w, printable.Line(e.Step.ID), printable.Line(title), e.Time)
		} else {
			p.line("%s", title)
		}
		p.doing(p.step, p.stepped)
	case orchestrator.EventTaskBegin:
		text := p.step
		if e.Total > 0 {
			text += fmt.Sprintf(" %d/%d tasks", e.Done, e.Total)
		}
		p.doing(text+": "+e.Task, p.stepped)
	case orchestrator.EventTask:
		var status any = e.Status
		if e.Status == "failed" || e.Status == "unreachable" {
			status = p.paint(red, e.Status)
		}
		p.line("  %s: %s: %s (%.1f s)", e.Node, e.Task, status, e.Seconds)
	case orchestrator.EventGate:
		// Printed once, and again only when something else is waited for; the status line shows how
		// long a gate has.
		if len(e.Unmet) == 0 {
			break
		}
		if first := e.Unmet[0]; first.Node+first.What != p.unmet {
			p.unmet = first.Node + first.What
			p.line("  %s: %s", p.paint(yellow, "waiting"), first)
		}
		p.doing(fmt.Sprintf("%s waits for %d: %s", p.step, len(e.Unmet), e.Unmet[0]), p.stepped)
	case orchestrator.EventStepEnd:
		p.step = ""
		p.clear()
		if p.group.end != nil {
			p.group.end(p.w, printable.Line(e.Step.ID), "", e.Time)
		}
		color := green
		if e.Status != string(run.Done) {
			color = red
		}
		p.line("%s: %s (%.1f s)", e.Step.ID, p.paint(color, e.Status), e.Seconds)
	case orchestrator.EventNotice:
		p.line("%s", e.Message)
	case orchestrator.EventEnd:
		p.clear()
	case orchestrator.EventPlan:
	}
}

// line prints a line with the time. Of its texts, only painted ones may have colors.
func (p *progress) line(format string, args ...any) {
	for i, arg := range args {
		switch arg.(type) {
		case painted, float64:
		default:
			args[i] = printable.Line(fmt.Sprint(arg))
		}
	}
	p.draw(painted(fmt.Sprintf("[%6.1fs] "+format, append([]any{time.Since(p.start).Seconds()}, args...)...)))
}
