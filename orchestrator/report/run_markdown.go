package report

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// RunMarkdown writes a report that fits a ticket: what matters first, and short also for a cluster
// of many nodes. Text of others is written as code, so that none of it is taken for markup.
func RunMarkdown(w io.Writer, r Run) error {
	m := markdown{printer{w: w}}
	v := view(r)
	m.line("# %s: %s", md(v.Title), v.Badge)
	m.line("")
	m.line("**%s.**", md(sentenceCase(r.Outcome.Summary)))
	m.code("text", v.Why)
	m.facts(v)
	m.next(v)
	m.steps(v)
	m.certificates(v)
	m.findings(v)
	m.backups(v)
	m.list("What remains", r.Notes)
	m.list("What is not known", r.Unknown)
	return m.err
}

// markdown writes Markdown as GitHub and GitLab read it.
type markdown struct{ printer }

// md escapes a text, on one line or, if it is broken between words, on several: no markup, no HTML,
// no link.
func md(s string) string {
	words := strings.Split(printable.Line(s), " ")
	for i, word := range words {
		var out strings.Builder
		block := blockMark.MatchString(word)
		for j, c := range word {
			if strings.ContainsRune("\\`*_[]<>|~&#", c) || block && j == len(word)-1 ||
				strings.HasPrefix(word[j:], "://") || strings.HasPrefix(word[j:], ".") &&
				strings.HasSuffix(word[:j], "www") {
				out.WriteByte('\\')
			}
			out.WriteRune(c)
		}
		words[i] = out.String()
	}
	return strings.Join(words, " ")
}

// blockMark is a word that would begin a list, a heading or a line at the beginning of a line.
var blockMark = regexp.MustCompile(`^([-+]|-+|=+|\d+[.)])$`)

// span is a text as inline code if it is plain, and else escaped: code that is broken between words
// could begin a block.
func span(s string) string {
	words := strings.Split(s, " ")
	odd := func(word string) bool { return shell.Quote(word) != word || blockMark.MatchString(word) }
	if slices.ContainsFunc(words, odd) {
		return md(s)
	}
	return "`" + s + "`"
}

func sentenceCase(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return strings.ToUpper(string(first)) + s[size:]
}

func (m *markdown) heading(level int, text string) {
	m.line("")
	m.line("%s %s", strings.Repeat("#", level), md(text))
	m.line("")
}

// code writes a block that its content cannot close; nothing for no text.
func (m *markdown) code(language, text string) {
	if text == "" {
		return
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	m.line("")
	m.line("%s%s", fence, language)
	for line := range strings.Lines(text) {
		m.line("%s", printable.Line(strings.TrimRight(line, "\r\n")))
	}
	m.line("%s", fence)
}

func (m *markdown) list(title string, items []string) {
	if len(items) == 0 {
		return
	}
	m.heading(2, title)
	for _, item := range items {
		m.line("- %s", md(item))
	}
}

func (m *markdown) table(head []string, rows [][]string) {
	m.line("| %s |", strings.Join(head, " | "))
	m.line("|%s", strings.Repeat(" --- |", len(head)))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = md(cell)
		}
		m.line("| %s |", strings.Join(cells, " | "))
	}
}

func (m *markdown) facts(v runView) {
	m.line("")
	if v.Before != nil {
		m.line("- **Before:** %s", md(v.Before.Verdict))
	}
	if v.After != nil {
		m.line("- **After:** %s", md(v.After.Verdict))
	}
	for _, f := range v.Facts {
		m.line("- %s: %s", md(f.Name), md(f.Value))
	}
}

func (m *markdown) next(v runView) {
	if len(v.Commands) == 0 && v.Outcome.Next == "" {
		return
	}
	m.heading(2, v.NextTitle())
	for i, c := range v.Commands {
		if i > 0 {
			m.line("")
		}
		m.line("To %s:", md(c.For))
		m.code("sh", c.Command)
	}
	if len(v.Commands) == 0 {
		m.line("%s", md(v.Outcome.Next))
	}
	for _, note := range v.Caveats {
		m.line("")
		m.line("%s", md(note))
	}
}

func (m *markdown) steps(v runView) {
	m.heading(2, "Steps and gates")
	if len(v.Steps) == 0 {
		m.line("No step was taken.")
		return
	}
	var rows [][]string
	for _, s := range v.Steps {
		rows = append(rows, []string{s.Number + " " + s.Title, s.Runs, s.Where, s.When, s.Took, s.Result})
	}
	m.table([]string{"step", "runs", "nodes", "started (UTC)", "took", "result"}, rows)
	for _, s := range v.Stopped {
		m.heading(3, s.StoppedTitle())
		m.line("%s", md(sentenceCase(s.Why))+".")
		m.code("text", s.Detail)
		if len(s.Unmet) == 0 {
			continue
		}
		m.line("")
		m.line("When the nodes were last inspected, it waited for:")
		var lines []string
		for _, u := range s.Unmet {
			lines = append(lines, u.String())
		}
		m.code("text", strings.Join(lines, "\n"))
	}
}

func (m *markdown) certificates(v runView) {
	if len(v.Certificates) == 0 {
		return
	}
	m.heading(2, "Certificates")
	head := []string{"certificate", "nodes", "before", "after", "what happened"}
	if v.After == nil {
		head = head[:3]
	}
	var rows [][]string
	for _, c := range v.Certificates {
		rows = append(rows, []string{c.Name, c.Where, c.Was, c.Is, c.Fate}[:len(head)])
	}
	m.table(head, rows)
}

func (m *markdown) findings(v runView) {
	for _, section := range v.Findings {
		m.heading(2, "Findings: "+section.Title)
		m.line("%s.", md(sentenceCase(section.Verdict)))
		for _, f := range section.Findings {
			m.line("")
			m.line("**%s** %s `%s`", f.Severity, md(f.Title), f.Reason)
			if f.About != "" {
				m.line("")
				m.line("%s", md(f.About))
			}
			m.code("text", strings.Join(f.Evidence, "\n"))
			for _, b := range f.Brought {
				m.line("")
				m.line("It causes: %s", md(b))
			}
			m.line("")
			m.line("Next: %s", md(f.Next))
		}
	}
}

func (m *markdown) backups(v runView) {
	if len(v.Backups) == 0 {
		return
	}
	m.heading(2, "Backups")
	m.line("On each node in %s:", span(v.BackupDir))
	m.line("")
	rows := [][]string{}
	for _, b := range v.Backups {
		rows = append(rows, []string{b.Node, string(b.State), b.MadeAt, b.Size, b.EtcdSize, b.Digest})
	}
	m.table([]string{"node", "state", "made", "size", "snapshot of etcd", "manifest"}, rows[:min(len(rows), mostRows)])
	if more := len(rows) - mostRows; more > 0 {
		m.line("")
		m.line("%s", fmt.Sprintf("And %d more.", more))
	}
}

// mostRows limits a table that has a row for each node: more do not improve a ticket.
const mostRows = 30
