package report

import (
	"bytes"
	_ "embed" // the pages' templates
	"fmt"
	"html/template"
	"io"
	"strings"
)

var (
	//go:embed page.html
	pageParts string
	//go:embed run.html
	runPage string
)

// writePage writes one self-contained page: no script, no font, no picture from elsewhere. name is
// the subject of the page, for errors.
func writePage(w io.Writer, name, text string, data any) error {
	page, err := template.New(name).Parse(pageParts)
	if err == nil {
		page, err = page.Parse(text)
	}
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	var out bytes.Buffer // whole or not at all
	if err := page.Execute(&out, data); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	lines := printer{w: w} // escaped text can still reorder or hide text
	for line := range strings.Lines(out.String()) {
		lines.line("%s", strings.TrimSuffix(line, "\n"))
	}
	return lines.err
}

// RunHTML writes the report of a run as a self-contained page.
func RunHTML(w io.Writer, r Run) error {
	v := view(r)
	return writePage(w, "run", runPage, struct {
		runView
		Timeline, Lifetimes picture
		AsOf                string
	}{v, timeline(r, v.Lanes), lifetimesPicture(r, v.Certificates), clock(r.Last)})
}
