package report

import (
	"io"
	"text/tabwriter"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// Requests writes the signing requests in a directory for people, and what to do with them.
func Requests(w io.Writer, dir string, r plan.Requests) error {
	if len(r.Requests) == 0 {
		out := printer{w: w}
		if len(r.Missing) == 0 {
			out.line("No certificate is due that a node can request.")
		} else {
			out.line("No certificate is requested.")
		}
		return out.err
	}
	tw := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	out := printer{w: tw}
	out.row("REQUEST", "CA", "EXPIRES", "SUBJECT")
	for _, x := range r.Requests {
		out.row(x.Request, string(x.CA), x.NotAfter.UTC().Format(time.RFC3339), x.Subject)
	}
	if out.err != nil {
		return out.err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	out.w = w
	out.line("")
	out.line("Have each signed by its CA, with its subject, names and usages (%s), and put NAME.crt next to NAME.csr. "+
		"Then:", plan.RequestsFile)
	out.line("  kscertctl ca install -i INVENTORY --dir %s", shell.Quote(dir))
	return out.err
}
