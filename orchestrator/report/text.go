// Package report renders diagnoses, plans and results, one renderer per format. It writes to its
// writer and decides nothing.
//
// What has a type of its own (Assessment, Run, RunList, RunStatus, Backups, Proposal) is the
// document that the command line shows: JSON and YAML write it for programs, its Text method or a
// function of its format for people. The JSON schemas are in docs/reference/schemas.
package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Diagnosis writes the verdict first, then each finding with its evidence and what to do about it.
// Certificates of one node with the same problem are one line, and so are consequences of another
// finding.
func Diagnosis(w io.Writer, d diagnosis.Diagnosis) error {
	p := printer{w: w}
	p.line("Verdict: %s", d.Verdict)
	p.line("Route:   %s", d.Route)
	causes, brought := fold(group(d.Findings))
	for i, g := range causes {
		p.line("")
		p.line("%-8s %s [%s]", g.first.Severity(), g.title(), g.first.Reason)
		if len(g.subjects) > 0 {
			p.wrapped("         ", strings.Join(g.subjects, ", "))
		}
		for line := range strings.Lines(g.evidence()) {
			p.line("         | %s", strings.TrimRight(line, "\r\n"))
		}
		for _, c := range brought[i] {
			p.hanging("         + ", "           ", c.title()+" ["+string(c.first.Reason)+"]")
		}
		p.line("         next: %s", g.first.Next())
	}
	return p.err
}

// findings share a reason, and mostly a node.
type findings struct {
	first    diagnosis.Finding
	nodes    []string
	subjects []string
}

// crowd is the number of nodes from which on the same finding is reported once for all of them.
const crowd = 3

// group joins findings that have the same reason on the same node, or on many.
func group(all []diagnosis.Finding) []findings {
	type key struct {
		reason, because diagnosis.Reason
		node            string
	}
	nodes := map[key]map[string]bool{}
	for _, f := range all {
		k := key{reason: f.Reason, because: f.Because}
		if nodes[k] == nil {
			nodes[k] = map[string]bool{}
		}
		nodes[k][f.Node] = true
	}
	var out []findings
	index := map[key]int{}
	for _, f := range all {
		k := key{reason: f.Reason, because: f.Because}
		if len(nodes[k]) < crowd {
			k.node = f.Node
		}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			out = append(out, findings{first: f})
		}
		g := &out[i]
		if !slices.Contains(g.nodes, f.Node) {
			g.nodes = append(g.nodes, f.Node)
		}
		if f.Subject != "" && f.Subject != f.Node && f.Node == g.first.Node {
			g.subjects = append(g.subjects, f.Subject)
		}
	}
	return out
}

// title is the place and the reason.
func (g findings) title() string {
	if where := few(g.nodes); where != "" {
		return where + ": " + g.first.Title()
	}
	return g.first.Title()
}

// evidence is what was seen, of several nodes on the first.
func (g findings) evidence() string {
	if len(g.nodes) > 1 && g.first.Evidence != "" {
		return "on " + g.first.Node + ": " + g.first.Evidence
	}
	return g.first.Evidence
}

// fold separates causes from their consequences, by the cause's place: on the same node if it is
// there, else anywhere. A finding whose cause is not among the findings is a cause itself.
func fold(all []findings) (causes []findings, brought map[int][]findings) {
	place := func(f diagnosis.Finding) int {
		first := -1
		for i, c := range causes {
			if c.first.Reason != f.Because {
				continue
			}
			if slices.Contains(c.nodes, f.Node) {
				return i
			}
			if first < 0 {
				first = i
			}
		}
		return first
	}
	for _, g := range all {
		if g.first.Because == "" ||
			!slices.ContainsFunc(all,
				func(c findings) bool { return c.first.Because == "" && c.first.Reason == g.first.Because }) {
			causes = append(causes, g)
		}
	}
	brought = map[int][]findings{}
	for _, g := range all {
		if i := place(g.first); g.first.Because != "" && i >= 0 {
			brought[i] = append(brought[i], g)
		}
	}
	return causes, brought
}

// Assessment is the diagnosis of a snapshot and what would be done about it: the document of
// diagnose. As JSON it is the diagnosis with the plan next to it.
type Assessment struct {
	diagnosis.Diagnosis
	// Reach is how far each client got with each API endpoint.
	Reach []Reach `json:"reach"`
	// RenewalTimers are Kubespray's own, by node, where they are installed.
	RenewalTimers map[string]snapshot.RenewalTimer `json:"renewalTimers,omitempty"`
	// Plan is what "run" would do.
	Plan plan.Plan `json:"plan"`
	// Unplanned is why there is no plan; empty otherwise.
	Unplanned string `json:"unplanned,omitempty"`
}

// Assess combines what is known about a snapshot. unplanned is the error of plan.Make, or nil.
func Assess(s snapshot.Snapshot, d diagnosis.Diagnosis, p plan.Plan, unplanned error) Assessment {
	a := Assessment{Diagnosis: d, Reach: reach(s), Plan: p}
	for _, n := range s.Nodes {
		if n.RenewalTimer != nil {
			if a.RenewalTimers == nil {
				a.RenewalTimers = map[string]snapshot.RenewalTimer{}
			}
			a.RenewalTimers[n.Name] = *n.RenewalTimer
		}
	}
	if unplanned != nil {
		a.Unplanned = unplanned.Error()
	}
	return a
}

// Reach is how far some clients got with one API endpoint, all equally far.
type Reach struct {
	// Endpoint is the "host:port" that was asked.
	Endpoint string `json:"endpoint"`
	// From are nodes by their names in the inventory, or "(driver)".
	From []string `json:"from"`
	// Failed is the first stage that failed; absent if all that were tried passed.
	Failed snapshot.Stage `json:"failed,omitempty"`
	// Error is why, in the words of the client or of the server.
	Error string `json:"error,omitempty"`
	// NotAfter is when the presented certificate expires.
	NotAfter time.Time `json:"notAfter,omitzero"`
}

// Driver is the client that is no node: the machine that runs Ansible.
const Driver = "(driver)"

// reach joins the probes that got equally far, in the order they were asked: the control node's
// first, then the nodes'.
func reach(s snapshot.Snapshot) []Reach {
	out := []Reach{}
	add := func(from string, probes []snapshot.Probe) {
		for _, p := range probes {
			i := slices.IndexFunc(out, func(r Reach) bool {
				return r.Endpoint == p.Endpoint && r.Failed == p.Failed && r.Error == p.Error &&
					r.NotAfter.Equal(p.NotAfter)
			})
			if i < 0 {
				i = len(out)
				out = append(out, Reach{Endpoint: p.Endpoint, Failed: p.Failed, Error: p.Error, NotAfter: p.NotAfter})
			}
			out[i].From = append(out[i].From, from)
		}
	}
	add(Driver, s.Probes)
	for _, n := range s.Nodes {
		add(n.Name, n.Probes)
	}
	slices.SortStableFunc(out, func(a, b Reach) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return out
}

// Text writes an assessment for people: the diagnosis, how far each client got, and what would be
// done.
func (a Assessment) Text(w io.Writer) error {
	if err := Diagnosis(w, a.Diagnosis); err != nil {
		return err
	}
	p := printer{w: w}
	if len(a.Reach) > 0 {
		p.line("")
		p.line("Access to the API (name, TCP, TLS, /livez, /readyz, as administrator):")
	}
	for _, r := range a.Reach {
		p.line("  %s: %s", r.Endpoint, r.came())
		p.hanging("    from ", "         ", few(r.From))
	}
	for _, node := range slices.Sorted(maps.Keys(a.RenewalTimers)) {
		p.renewalTimer(node, a.RenewalTimers[node])
	}
	p.line("")
	if p.err != nil {
		return p.err
	}
	switch {
	case a.Unplanned != "":
		p.line("No plan: %s", a.Unplanned)
	case a.Route == diagnosis.Refuse || a.Route == diagnosis.NewCA && len(a.Plan.Steps) == 0:
		p.line("No plan: nothing is changed on this route. Commands to investigate:")
		p.line("  kscertctl diagnose -i INVENTORY --runbook")
	default:
		if err := Plan(w, a.Plan); err != nil || len(a.Plan.Steps) == 0 {
			return err
		}
		p.line("Carry it out:  kscertctl run -i INVENTORY")
		p.line("Or by hand:    kscertctl diagnose -i INVENTORY --runbook")
	}
	return p.err
}

// came is one line about how far.
func (r Reach) came() string {
	text := "answers"
	if r.Failed != "" {
		text = fmt.Sprintf("fails at %s: %s", r.Failed, clip(r.Error))
	}
	if !r.NotAfter.IsZero() {
		text += ", certificate until " + r.NotAfter.UTC().Format(time.DateOnly)
	}
	return text
}

// clip keeps the first line of a message, and of a long one its end, where most clients have the
// error.
func clip(s string) string {
	const most = 100
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if r := []rune(line); len(r) > most {
		return "…" + string(r[len(r)-most:])
	}
	return line
}

// few names some and counts the rest: 200 nodes with the same result are one line.
func few(names []string) string { return cluster.Some(names, 8) }

// Plan writes the steps in order, with their nodes and reasons.
func Plan(w io.Writer, p plan.Plan) error {
	out := printer{w: w}
	if len(p.Steps) == 0 {
		out.line("Nothing to do.")
		out.warnings(p)
		return out.err
	}
	way := "route " + string(p.Route)
	if p.Undoes != "" {
		way = "restore what was there before run " + p.Undoes
	}
	out.line("Plan (%s):", way)
	for _, s := range p.Steps {
		mark := "·"
		if s.Changes {
			mark = "~"
		}
		out.line("  %s %s  %s  [%s]", mark, s.ID[:2], s.Title, few(s.Nodes))
		by := string(s.Action) + ".yml: "
		switch {
		case s.Gate != "":
			by = "gate " + string(s.Gate) + ": "
		case s.Playbook != "":
			by = s.Playbook + " of the checkout: "
		}
		out.wrapped("         ", by+s.Why)
	}
	out.line("  ~ changes nodes, · only inspects")
	out.line("Interruption: %s.", p.Interruption)
	for _, text := range p.Unknown {
		out.hanging("Not known: ", "  ", text)
	}
	for _, text := range p.Notes {
		out.hanging("Note: ", "  ", text)
	}
	out.warnings(p)
	return out.err
}

// Notes writes what a run left to be known or done.
func Notes(w io.Writer, notes []string) error {
	p := printer{w: w}
	for _, text := range notes {
		p.hanging("Note:    ", "         ", text)
	}
	return p.err
}

func (p *printer) warnings(of plan.Plan) {
	for _, text := range of.Warnings {
		p.hanging("Warning: ", "  ", text)
	}
}

// Expiry writes one line per node: its next leaf to expire.
func Expiry(w io.Writer, s snapshot.Snapshot) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := printer{w: tw}
	for _, n := range s.Nodes {
		c, ok := next(s, n)
		if !ok {
			continue
		}
		p.row("  "+n.Name, c.Ends().Format(time.DateOnly), residual(c.Ends().Unix()-n.Clock.Unix()), c.Label())
	}
	if p.err != nil {
		return p.err
	}
	return tw.Flush()
}

// next is the leaf of a node that expires first, of those that are used.
func next(s snapshot.Snapshot, n snapshot.Node) (certs.Certificate, bool) {
	var first certs.Certificate
	found := false
	for _, c := range n.Certificates {
		row, known := certs.Lookup(c.Kind)
		if c.Served || !known || row.CA || s.Unused(n, c) {
			continue
		}
		if !found || c.Ends().Before(first.Ends()) {
			first, found = c, true
		}
	}
	return first, found
}

// residual is the time left as kubeadm prints it: in its largest unit.
func residual(seconds int64) string {
	switch hours, days := seconds/3600, seconds/86400; {
	case seconds < 0:
		return "expired"
	case hours == 0:
		return fmt.Sprintf("%dm", seconds/60)
	case days == 0:
		return fmt.Sprintf("%dh", hours)
	case days < 2*365:
		return fmt.Sprintf("%dd", days)
	default:
		return fmt.Sprintf("%dy", days/365)
	}
}

// printer keeps the first error, so that callers need not check each line's.
type printer struct {
	w   io.Writer
	err error
}

// line writes one line, whatever is in the texts of nodes.
func (p *printer) line(format string, args ...any) {
	p.write(printable.Line(fmt.Sprintf(format, args...)))
}

// row writes the cells of one line for a tabwriter.
func (p *printer) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable.Line(cell)
	}
	p.write(strings.Join(cells, "\t"))
}

func (p *printer) write(line string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, line)
	}
}

// width is that of the terminals which the text has to fit.
const width = 80

// wrapped breaks text between words so that it fits a terminal.
func (p *printer) wrapped(indent, text string) { p.hanging(indent, indent, text) }

// hanging is wrapped with another beginning of the first line.
func (p *printer) hanging(first, indent, text string) {
	line := first
	begun := false // the line has text already
	for word := range strings.FieldsSeq(text) {
		if begun && utf8.RuneCountInString(line)+utf8.RuneCountInString(word) > width {
			p.line("%s", strings.TrimRight(line, " "))
			line = indent
		}
		line += word + " "
		begun = true
	}
	if begun {
		p.line("%s", strings.TrimRight(line, " "))
	}
}
