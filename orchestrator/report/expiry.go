package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// ExpiryTable writes one line per certificate under kubeadm's columns, with node and status. A
// served certificate is shown only if it differs from its file. For a width above zero, columns are
// left out, the least important first, until the lines fit.
func ExpiryTable(w io.Writer, r expiry.Report, width int) error {
	shown := columns(false)
	cells := lines(r, shown, hidden)
	for _, drop := range []string{"EXTERNALLY MANAGED", "CERTIFICATE AUTHORITY", "EXPIRES"} {
		if width <= 0 || tableWidth(cells) <= width {
			break
		}
		cells = without(cells, drop)
	}
	if err := writeTable(w, cells); err != nil {
		return err
	}
	return nodeNotes(w, r)
}

// nodeNotes writes a line for each node that has not joined the cluster, or on which Kubespray's
// own timer is installed.
func nodeNotes(w io.Writer, r expiry.Report) error {
	p := printer{w: w}
	for _, n := range r.Nodes {
		if n.NotJoined {
			p.line("%s: the node has not joined the cluster", n.Name)
		}
		if n.RenewalTimer != nil {
			p.renewalTimer(n.Name, *n.RenewalTimer)
		}
	}
	return p.err
}

func (p *printer) renewalTimer(node string, t snapshot.RenewalTimer) {
	p.line("%s: Kubespray's own renewal timer is %s: %s", node, t.State, t)
}

// ExpiryWide writes every certificate with all that fits on a line: also what ports serve, and the
// path and owner of each file.
func ExpiryWide(w io.Writer, r expiry.Report) error {
	if err := writeTable(w, lines(r, columns(true), func(expiry.Row) bool { return false })); err != nil {
		return err
	}
	return nodeNotes(w, r)
}

// hidden reports whether a row adds nothing to a file's row: a served certificate that is in a file
// too, or that a component made for itself and that is valid.
func hidden(c expiry.Row) bool {
	return c.Served && !c.Stale && (c.InFile || c.Status == expiry.Valid)
}

// column of a table: its head, and its cell in a row.
type column struct {
	head string
	cell func(expiry.Row) string
}

func columns(wide bool) []column {
	out := []column{
		{"NODE", func(c expiry.Row) string { return c.Node }},
		{"CERTIFICATE", func(c expiry.Row) string { return c.Name }},
		// As kubeadm writes it.
		{"EXPIRES", func(c expiry.Row) string { return c.Ends().UTC().Format("Jan 02, 2006 15:04 MST") }},
		{"RESIDUAL TIME", func(c expiry.Row) string { return residualTime(c.ResidualSeconds) }},
		{"CERTIFICATE AUTHORITY", func(c expiry.Row) string { return authorityName(c.Authority) }},
		{"EXTERNALLY MANAGED", func(c expiry.Row) string { return yesNo(c.ExternallyManaged) }},
		{"STATUS", func(c expiry.Row) string {
			if c.Stale {
				return string(c.Status) + ",stale"
			}
			return string(c.Status)
		}},
	}
	if !wide {
		return out
	}
	return append(out,
		column{"KIND", func(c expiry.Row) string { return string(c.Kind) }},
		column{"PATH", func(c expiry.Row) string { return c.Path }},
		column{"SERVED", func(c expiry.Row) string { return yesNo(c.Served) }},
		column{"OWNER", func(c expiry.Row) string {
			if c.File == nil {
				return ""
			}
			return c.File.Owner + ":" + c.File.Group
		}},
		column{"MODE", func(c expiry.Row) string {
			if c.File == nil {
				return ""
			}
			return c.File.Mode
		}},
		column{"KEY", func(c expiry.Row) string { return string(c.Key) }},
		column{"SIGNED BY", func(c expiry.Row) string { return authorityName(c.SignedBy) }},
		column{"SERIAL", func(c expiry.Row) string { return c.SerialNumber }},
		column{"SUBJECT", func(c expiry.Row) string { return c.Subject }},
		column{"SANS", func(c expiry.Row) string { return strings.Join(c.SANs, ",") }},
	)
}

// lines are the cells of a table, its head first. Unknown nodes come next: they may be worse than
// anything that is known.
func lines(r expiry.Report, shown []column, hide func(expiry.Row) bool) [][]string {
	head := make([]string, len(shown))
	for i, c := range shown {
		head[i] = c.head
	}
	out := [][]string{head}
	add := func(cell func(column) string) {
		line := make([]string, len(shown))
		for i, c := range shown {
			line[i] = printable.Line(cell(c))
			if line[i] == "" {
				line[i] = "-" // so that every line has as many words for awk
			}
		}
		out = append(out, line)
	}
	special := func(words map[string]string) { add(func(c column) string { return words[c.head] }) }
	for _, n := range r.Unknown() {
		special(map[string]string{"NODE": n.Name, "STATUS": "unknown"})
	}
	for _, u := range r.Unreadable {
		special(map[string]string{"NODE": u.Node, "CERTIFICATE": u.Path, "PATH": u.Path, "STATUS": "unreadable"})
	}
	for _, c := range r.Certificates {
		if !hide(c) {
			add(func(col column) string { return col.cell(c) })
		}
	}
	return out
}

// gap is the space between two columns.
const gap = 2

func columnWidths(cells [][]string) []int {
	out := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			out[i] = max(out[i], utf8.RuneCountInString(cell))
		}
	}
	return out
}

func tableWidth(cells [][]string) int {
	sum := -gap
	for _, w := range columnWidths(cells) {
		sum += w + gap
	}
	return sum
}

// without leaves a column out.
func without(cells [][]string, head string) [][]string {
	out := make([][]string, len(cells))
	for l, line := range cells {
		for i, cell := range line {
			if cells[0][i] != head {
				out[l] = append(out[l], cell)
			}
		}
	}
	return out
}

func writeTable(w io.Writer, cells [][]string) error {
	p := printer{w: w}
	widths := columnWidths(cells)
	for _, line := range cells {
		var b strings.Builder
		for i, cell := range line {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		p.line("%s", strings.TrimRight(b.String(), " "))
	}
	return p.err
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// authorityName is kubeadm's name of a CA, if it has one.
func authorityName(a certs.Authority) string {
	if a == certs.KubernetesCA {
		return "ca"
	}
	return string(a)
}

// residualTime is the time left in its largest unit, as kubeadm prints it (apimachinery,
// ShortHumanDuration). What has expired has a minus before the time since, while kubeadm only
// prints that it is invalid.
func residualTime(seconds int64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	switch minutes, hours, days := seconds/60, seconds/3600, seconds/86400; {
	case minutes == 0:
		return fmt.Sprintf("%s%ds", sign, seconds)
	case hours == 0:
		return fmt.Sprintf("%s%dm", sign, minutes)
	case days == 0:
		return fmt.Sprintf("%s%dh", sign, hours)
	case days < 365:
		return fmt.Sprintf("%s%dd", sign, days)
	default:
		return fmt.Sprintf("%s%dy", sign, days/365)
	}
}

// sentence describes the state of a certificate.
func sentence(c expiry.Row) string {
	left := strings.TrimPrefix(residualTime(c.ResidualSeconds), "-")
	switch c.Status {
	case expiry.Expired:
		return "expired " + left + " ago"
	case expiry.NotYetValid:
		return "not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
	case expiry.Unused:
		return "is not used by any component"
	case expiry.Valid, expiry.Warning, expiry.Critical:
		return "expires in " + left
	default:
		return string(c.Status)
	}
}

// YAML writes a document with the fields of its JSON form, in their order.
func YAML(w io.Writer, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(escaped(data, yamlEscape), &node); err != nil { // JSON is YAML
		return err
	}
	block(&node)
	var out bytes.Buffer // the encoder hides the writer's errors
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&node), enc.Close()); err != nil {
		return err
	}
	_, err = w.Write(escaped(out.Bytes(), yamlEscape))
	return err
}

// block gives a document read from JSON the style of YAML.
func block(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	odd := func(r rune) bool { return r != '\n' && !printable.Rune(r) }
	if strings.ContainsFunc(n.Value, odd) || strings.HasPrefix(n.Value, "\n") { // which a block would lose
		n.Style = yaml.DoubleQuotedStyle // the one that has escapes
	}
	for _, child := range n.Content {
		block(child)
	}
}
