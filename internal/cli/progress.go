package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
)

// progress writes one line for each thing that happened to standard error.
type progress struct {
	w     io.Writer
	start time.Time
	unmet string
}

func newProgress(s Streams) *progress { return &progress{w: s.Err, start: time.Now()} }

func (p *progress) event(e orchestrator.Event) {
	switch e.Kind {
	case orchestrator.EventBegin:
		p.line("record of this run: %s", e.Message)
	case orchestrator.EventInspected:
		if e.Message != "" && p.unmet == "" {
			p.line("looked at %s in %.1f s", e.Message, e.Seconds)
		}
	case orchestrator.EventDiagnosis:
		p.line("%s", e.Diagnosis.Verdict)
	case orchestrator.EventStepBegin:
		p.unmet = ""
		p.line("%s: %s [%s]", e.Step.ID, e.Step.Title, strings.Join(e.Step.Nodes, ", "))
	case orchestrator.EventTask:
		p.line("  %s: %s: %s (%.1f s)", e.Node, e.Task, e.Status, e.Seconds)
	case orchestrator.EventGate:
		// Said once, and again only when something else is waited for.
		if len(e.Unmet) == 0 {
			break
		}
		if first := e.Unmet[0].String(); first != p.unmet {
			p.unmet = first
			p.line("  waiting: %s", first)
		}
	case orchestrator.EventStepEnd:
		p.line("%s: %s (%.1f s)", e.Step.ID, e.Status, e.Seconds)
	case orchestrator.EventNotice:
		p.line("%s", e.Message)
	case orchestrator.EventPlan, orchestrator.EventEnd:
	}
}

func (p *progress) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, "[%6.1fs] "+format+"\n", append([]any{time.Since(p.start).Seconds()}, args...)...)
}
