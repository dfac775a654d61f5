// Package report renders diagnoses, plans and results, one renderer a format.
// It writes to what it is given and decides nothing.
package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Diagnosis writes the verdict first, then each finding with its evidence and
// what to do about it. Certificates of one node that share a fate are one line.
func Diagnosis(w io.Writer, d diagnosis.Diagnosis) error {
	p := printer{w: w}
	p.line("Verdict: %s", d.Verdict)
	p.line("Route:   %s", d.Route)
	for _, g := range group(d.Findings) {
		p.line("")
		p.line("%-8s %s: %s [%s]", g.first.Severity(), g.first.Node, g.first.Title(), g.first.Reason)
		if len(g.subjects) > 0 {
			p.wrapped("         ", strings.Join(g.subjects, ", "))
		}
		if g.first.Evidence != "" {
			for line := range strings.Lines(g.first.Evidence) {
				p.line("         | %s", strings.TrimRight(line, "\n"))
			}
		}
		p.line("         next: %s", g.first.Next())
	}
	return p.err
}

type findings struct {
	first    diagnosis.Finding
	subjects []string
}

// group joins findings that have the same reason on the same node.
func group(all []diagnosis.Finding) []findings {
	var out []findings
	index := map[string]int{}
	for _, f := range all {
		key := string(f.Reason) + "\x00" + f.Node
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, findings{first: f})
		}
		if f.Subject != "" {
			out[i].subjects = append(out[i].subjects, f.Subject)
		}
	}
	return out
}

// Plan writes the steps in order, with their nodes and reasons.
func Plan(w io.Writer, p plan.Plan) error {
	out := printer{w: w}
	if len(p.Steps) == 0 {
		out.line("Nothing to do.")
		return out.err
	}
	out.line("Plan (route %s):", p.Route)
	for _, s := range p.Steps {
		mark := "·"
		if s.Changes {
			mark = "~"
		}
		out.line("  %s %s  %s  [%s]", mark, s.ID[:2], s.Title, strings.Join(s.Nodes, ", "))
		out.wrapped("         ", s.Why)
	}
	out.line("  ~ changes nodes, · only looks")
	out.line("Interruption: %s.", p.Interruption)
	return out.err
}

// Expiry writes one line a node: its next leaf to end.
func Expiry(w io.Writer, s snapshot.Snapshot) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := printer{w: tw}
	for _, n := range s.Nodes {
		c, ok := next(n)
		if !ok {
			continue
		}
		p.line("  %s\t%s\t%s\t%s", n.Name, c.NotAfter.Format(time.DateOnly), residual(c.NotAfter.Sub(n.Clock)), c.Label())
	}
	if p.err != nil {
		return p.err
	}
	return tw.Flush()
}

// next is the leaf of a node that ends first.
func next(n snapshot.Node) (certs.Certificate, bool) {
	var first certs.Certificate
	found := false
	for _, c := range n.Certificates {
		row, known := certs.Lookup(c.Kind)
		if c.Served || !known || row.CA {
			continue
		}
		if !found || c.NotAfter.Before(first.NotAfter) {
			first, found = c, true
		}
	}
	return first, found
}

// residual is the time left as kubeadm prints it: in its largest unit.
func residual(d time.Duration) string {
	switch {
	case d < 0:
		return "expired"
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d < 2*365*24*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	default:
		return fmt.Sprintf("%dy", int(d.Hours()/24/365))
	}
}

// printer keeps the first error, so that callers need not look at each line's.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// wrapped breaks text between words so that it fits a terminal of 80 columns.
func (p *printer) wrapped(indent, text string) {
	const width = 80
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > width && line != indent {
			p.line("%s", strings.TrimRight(line, " "))
			line = indent
		}
		line += word + " "
	}
	if line != indent {
		p.line("%s", strings.TrimRight(line, " "))
	}
}
