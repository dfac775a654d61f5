package report

import (
	"cmp"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// Rotations writes for people how far the rotations of CAs are, and who trusts and presents which CA.
func Rotations(w io.Writer, all diagnosis.Rotations) error {
	out := printer{w: w}
	for i, r := range all.CAs {
		if i > 0 {
			out.line("")
		}
		stage := "no rotation is under way"
		if r.Next != nil {
			stage = "the rotation has reached the stage " + cmp.Or(string(r.Stage), "none")
		}
		out.line("%s: %s", r.CA, stage)
		out.line("  present: %s", caNamed(r.Present))
		if r.Next != nil {
			out.line("  next:    %s", caNamed(*r.Next))
		}
		for _, what := range r.Missing {
			out.line("  missing: %s", what)
		}
		if r.Next != nil {
			for _, what := range r.Outside() {
				out.line("  replace: %s", what)
			}
		}
		if out.err != nil {
			return out.err
		}
		tw := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
		table := printer{w: tw}
		table.row("  NODE", "TRUSTS", "PRESENTS", "PLACE")
		for _, c := range r.Consumers {
			table.row("  "+c.Node, cmp.Or(strings.Join(c.Trusts, ", "), "-"), cmp.Or(presented(c), "-"), c.Place)
		}
		if table.err != nil {
			return table.err
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if len(all.Unknown) > 0 {
		out.line("")
		out.line("Nothing is known of: %s", strings.Join(all.Unknown, ", "))
	}
	return out.err
}

func caNamed(ca diagnosis.CAName) string {
	return shell.Quote(ca.Subject) + ", expires at " + ca.NotAfter.UTC().Format(time.RFC3339)
}

// presented is the CA of what a consumer presents, or signs with.
func presented(c diagnosis.Consumer) string {
	if c.Signs {
		return c.Presents + ", signs"
	}
	return c.Presents
}
