package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// ExpiryCalendar writes an iCalendar file (RFC 5545): one event for each day on which certificates
// expire, at the time of the first, with alarms at the thresholds. The same certificates give the
// same events, so that a subscribed calendar updates them.
func ExpiryCalendar(w io.Writer, r expiry.Report) error {
	cal := ics.NewCalendarFor("kscertctl")
	cal.SetMethod(ics.MethodPublish)
	name := clusterName(r)
	cal.SetXWRCalName(printable.Line("Certificates of " + name))
	addEvents(cal, r, calendarOf{name: name, id: name})
	_, err := io.WriteString(w, cal.Serialize(ics.WithNewLineWindows)) // RFC 5545, 3.1
	return err
}

// calendarOf is how events name a cluster: by its name if that is enough, and by the prefix of
// their titles otherwise. Its id is part of theirs.
type calendarOf struct{ name, prefix, id string }

// addEvents adds the events of one cluster.
func addEvents(cal *ics.Calendar, r expiry.Report, of calendarOf) {
	var day []expiry.Row
	flush := func() {
		if len(day) > 0 {
			addEvent(cal, r, day, of)
		}
		day = nil
	}
	for _, c := range r.Certificates { // sorted by expiry
		if c.InFile || c.Status == expiry.Unused {
			continue // its file has a row of its own, or it is unused
		}
		if len(day) > 0 && day[0].Ends().UTC().Format(time.DateOnly) != c.Ends().UTC().Format(time.DateOnly) {
			flush()
		}
		day = append(day, c)
	}
	flush()
}

// addEvent adds the event of the certificates that expire on one day.
func addEvent(cal *ics.Calendar, r expiry.Report, day []expiry.Row, of calendarOf) {
	first := day[0]
	sum := sha256.Sum256([]byte(of.id))
	e := cal.AddEvent(first.Ends().UTC().Format("20060102") + "-" + hex.EncodeToString(sum[:8]) + "@kscertctl")
	e.SetDtStampTime(r.Taken.UTC())
	e.SetStartAt(first.Ends().UTC())
	summary := fmt.Sprintf("%d certificates expire: %s", len(day), of.name)
	if len(day) == 1 {
		summary = fmt.Sprintf("%s%s on %s expires", of.prefix, first.Name, first.Node)
	}
	e.SetSummary(printable.Line(summary))
	lines := make([]string, len(day))
	for i, c := range day {
		lines[i] = printable.Line(fmt.Sprintf("%s %s: %s", c.Ends().UTC().Format("15:04 MST"), c.Node, c.Name))
	}
	e.SetDescription(strings.Join(lines, "\n"))
	for _, seconds := range []int64{r.WarnSeconds, r.CritSeconds} {
		alarm := e.AddAlarm()
		alarm.SetAction(ics.ActionDisplay)
		alarm.SetTrigger(fmt.Sprintf("-PT%dS", seconds))
		alarm.SetDescription(printable.Line(summary))
	}
}

// clusterName is how a calendar recognizes the cluster: by its control planes.
func clusterName(r expiry.Report) string {
	var names []string
	for _, n := range r.Nodes {
		for _, role := range n.Roles {
			if role == cluster.ControlPlane {
				names = append(names, n.Name)
			}
		}
	}
	return strings.Join(names, ", ")
}
