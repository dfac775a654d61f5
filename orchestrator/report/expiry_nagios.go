package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// NagiosState is the return code of a plugin (Monitoring Plugins Development
// Guidelines, "Plugin Return Codes").
type NagiosState int

// The states.
const (
	NagiosOK NagiosState = iota
	NagiosWarning
	NagiosCritical
	NagiosUnknown
)

func (s NagiosState) String() string {
	return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s]
}

// nagiosLines is how many lines of details are written: transports of plugin output cut it off
// after a few KiB.
const nagiosLines = 20

// ExpiryNagiosState is the state for a monitoring system: critical if something is known to be;
// then an unknown node is worse than a warning.
func ExpiryNagiosState(r expiry.Report) NagiosState {
	level, unknown := r.Level(), len(r.Unknown()) > 0
	switch {
	case level == expiry.LevelCritical:
		return NagiosCritical
	case unknown, len(r.Nodes) == 0:
		return NagiosUnknown
	case level == expiry.LevelWarning:
		return NagiosWarning
	default:
		return NagiosOK
	}
}

// ExpiryNagios writes one line with the state and performance data, then one line for each problem.
func ExpiryNagios(w io.Writer, r expiry.Report) error {
	unknown := r.Unknown()
	var answered []string
	for _, status := range []expiry.Status{expiry.Expired, expiry.NotYetValid, expiry.Critical, expiry.Warning} {
		if n := r.Counts[status]; n > 0 {
			answered = append(answered, fmt.Sprintf("%d %s", n, status))
		}
	}
	if n := len(r.Unreadable); n > 0 {
		answered = append(answered, fmt.Sprintf("%d unreadable", n))
	}
	if n := len(unknown); n > 0 {
		answered = append(answered, fmt.Sprintf("%d of %d nodes unknown", n, len(r.Nodes)))
	}
	if len(answered) == 0 {
		answered = []string{fmt.Sprintf("%d certificates on %d nodes are valid",
			len(r.Certificates)-r.Counts[expiry.Unused], len(r.Nodes))}
	}
	text := strings.Join(answered, ", ")
	// A certificate that is as bad comes before a file without one, and that before milder ones.
	if c, ok := r.Worst(); len(r.Unreadable) > 0 && (!ok || c.Status.Level() < expiry.LevelCritical) {
		text += fmt.Sprintf("; first: %s on %s: %s", r.Unreadable[0].Path, r.Unreadable[0].Node, r.Unreadable[0].Reason)
	} else if ok {
		text += fmt.Sprintf("; first: %s on %s %s", c.Name, c.Node, sentence(c))
	}
	perf := ""
	if i := slices.IndexFunc(r.Certificates, func(c expiry.Row) bool { return c.Status != expiry.Unused }); i >= 0 {
		next := r.Certificates[i].ResidualSeconds
		perf = fmt.Sprintf("'next_expiry'=%ds;%d:;%d: ", next, r.WarnSeconds, r.CritSeconds)
	}
	perf += fmt.Sprintf("'certificates'=%d;;;0 'warning'=%d;;;0 'critical'=%d;;;0 'not_yet_valid'=%d;;;0 "+
		"'expired'=%d;;;0 'unreadable'=%d;;;0 'unknown_nodes'=%d;;;0",
		len(r.Certificates), r.Counts[expiry.Warning], r.Counts[expiry.Critical], r.Counts[expiry.NotYetValid],
		r.Counts[expiry.Expired], len(r.Unreadable), len(unknown))

	p := printer{w: w}
	p.line("KSCERTCTL %s - %s | %s", ExpiryNagiosState(r), nagiosText(text), perf)
	var more []string
	for _, n := range unknown {
		first, _, _ := strings.Cut(strings.TrimSpace(n.Message), "\n")
		more = append(more, fmt.Sprintf("unknown: %s: %s: %s", n.Name, n.Reason, strings.TrimSpace(first)))
	}
	for _, u := range r.Unreadable {
		more = append(more, fmt.Sprintf("unreadable: %s: %s: %s", u.Node, u.Path, u.Reason))
	}
	worst := r.Worth(expiry.LevelWarning)
	slices.SortStableFunc(worst, func(a, b expiry.Row) int {
		return slices.Index(expiry.Statuses(), b.Status) - slices.Index(expiry.Statuses(), a.Status)
	})
	for _, c := range worst { // what does not fit is the mildest
		more = append(more, fmt.Sprintf("%s: %s: %s %s", c.Status, c.Node, c.Name, sentence(c)))
	}
	for _, line := range more[:min(len(more), nagiosLines)] {
		p.line("%s", nagiosText(line))
	}
	if rest := len(more) - nagiosLines; rest > 0 {
		p.line("and %d more: kscertctl check-expiration -o table", rest)
	}
	return p.err
}

// nagiosText keeps performance data separate: the bar begins it.
func nagiosText(s string) string { return strings.ReplaceAll(printable.Line(s), "|", "/") }
