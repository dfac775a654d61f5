package report

import (
	"bytes"
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed run.html
var runPage string

// RunHTML writes one page that needs nothing but itself: no script, no font, no
// picture from elsewhere.
func RunHTML(w io.Writer, r Run) error {
	page, err := template.New("run").Parse(runPage)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	v := view(r)
	var out bytes.Buffer // whole or not at all
	if err := page.Execute(&out, struct {
		runView
		Timeline, Lifetimes picture
		AsOf                string
	}{v, timeline(r, v.Lanes), lifetimesPicture(r, v.Certificates), clock(r.Last)}); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	lines := printer{w: w} // what is escaped can still reorder or hide text
	for line := range strings.Lines(out.String()) {
		lines.line("%s", strings.TrimSuffix(line, "\n"))
	}
	return lines.err
}
