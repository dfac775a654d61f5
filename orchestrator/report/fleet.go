package report

import (
	_ "embed" // the page's template
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/jstemmer/go-junit-report/v2/junit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// FleetTable writes one line per cluster: what expires first in it, and how many of its nodes are
// known. Clusters that could not be inspected come first.
func FleetTable(w io.Writer, f expiry.Fleet) error {
	cells := [][]string{{"CLUSTER", "STATUS", "EXPIRES", "RESIDUAL TIME", "NODE", "CERTIFICATE", "NODES", "EXIT CODE"}}
	for _, m := range f.Clusters {
		line := []string{m.Name, "unknown", "-", "-", "-", "-", "-", strconv.Itoa(m.ExitCode)}
		if m.Report != nil {
			line[6] = fmt.Sprintf("%d/%d", len(m.Report.Nodes)-len(m.Report.Unknown()), len(m.Report.Nodes))
		}
		if c, ok := m.First(); ok {
			copy(line[1:], []string{memberStatus(m), c.Ends().UTC().Format("Jan 02, 2006 15:04 MST"),
				residualTime(c.ResidualSeconds), c.Node, c.Name})
		}
		cells = append(cells, line)
	}
	return writeTable(w, cells)
}

// memberStatus is the worst that is known of a cluster.
func memberStatus(m expiry.Member) string {
	switch {
	case m.Report == nil:
		return "unknown"
	case len(m.Report.Unreadable) > 0 && m.Report.Status.Level() < expiry.LevelCritical:
		return "unreadable"
	}
	return string(m.Report.Status)
}

// FleetWide writes one line per certificate of all clusters, what expires first at the top, and
// unknown ones before these.
func FleetWide(w io.Writer, f expiry.Fleet) error {
	shown := columns(true)
	cells := [][]string{{"CLUSTER"}}
	for _, c := range shown {
		cells[0] = append(cells[0], c.head)
	}
	for _, m := range f.Clusters {
		if m.Report == nil {
			m.Report = &expiry.Report{Nodes: []expiry.Node{{Name: "-"}}}
		}
		unknown := *m.Report
		unknown.Certificates = nil
		for _, line := range lines(unknown, shown, hidden)[1:] {
			cells = append(cells, append([]string{m.Name}, line...))
		}
	}
	for _, r := range f.Rows() {
		line := []string{r.Cluster}
		for _, c := range shown {
			line = append(line, c.cell(r.Row))
		}
		cells = append(cells, line)
	}
	return writeTable(w, cells)
}

// FleetJSON writes the document as JSON does, a cluster at a time: with hundreds of them it is
// large, and would be in memory several times.
func FleetJSON(w io.Writer, f expiry.Fleet) error {
	clusters := f.Clusters
	if len(clusters) == 0 {
		return JSON(w, f)
	}
	f.Clusters = []expiry.Member{}
	var frame strings.Builder
	if err := JSON(&frame, f); err != nil {
		return err
	}
	head, tail, _ := strings.Cut(frame.String(), "[]")
	separator := head + "["
	for _, m := range clusters {
		data, err := json.MarshalIndent(m, "    ", "  ")
		if err != nil {
			return err
		}
		if _, err := w.Write(append([]byte(separator+"\n    "), escaped(data, jsonEscape)...)); err != nil {
			return err
		}
		separator = ","
	}
	_, err := io.WriteString(w, "\n  ]"+tail)
	return err
}

// FleetJUnit writes one test suite per cluster and one test case per certificate; fails returns the
// level from which on one of a cluster has failed. An unknown cluster or node is an error.
func FleetJUnit(w io.Writer, f expiry.Fleet, fails func(cluster string, l expiry.Level) bool) error {
	all := junit.Testsuites{Name: "kscertctl fleet check"}
	for i, m := range f.Clusters {
		s := suite(i, m.Name, f.Taken)
		if m.Report == nil {
			s.Testcases = append(s.Testcases, junit.Testcase{
				Name: "the cluster can be inspected", Classname: printable.Line(m.Name) + ".cluster",
				Error: &junit.Result{Message: printable.Line(m.Error), Type: "exit code " + strconv.Itoa(m.ExitCode),
					Data: printable.Line(m.Next)},
			})
		} else {
			for _, n := range m.Report.Nodes {
				s.Testcases = append(s.Testcases,
					nodeCases(*m.Report, n, m.Name+"."+n.Name,
						func(l expiry.Level) bool { return fails(m.Name, l) })...)
			}
		}
		all.AddSuite(counted(s))
	}
	return all.WriteXML(printable.NewWriter(w))
}

// FleetCalendar writes an iCalendar file as ExpiryCalendar does, with an event for each day and
// cluster.
func FleetCalendar(w io.Writer, f expiry.Fleet) error {
	cal := ics.NewCalendarFor("kscertctl")
	cal.SetMethod(ics.MethodPublish)
	cal.SetXWRCalName("Certificates of the fleet")
	for _, m := range f.Clusters {
		if m.Report != nil {
			addEvents(cal, *m.Report, calendarOf{name: m.Name, prefix: m.Name + ": ", id: "fleet/" + m.Name})
		}
	}
	_, err := io.WriteString(w, cal.Serialize(ics.WithNewLineWindows)) // RFC 5545, 3.1
	return err
}

// clusterExit is the exit code of each cluster's check.
var clusterExit = prometheus.NewDesc("kscertctl_cluster_exit_code",
	"The exit code of the check of the cluster; 0 when all is well.", []string{"cluster"}, nil)

// exits exports the exit codes of the checks.
type exits struct{ fleet expiry.Fleet }

// Describe and Collect make it a prometheus.Collector.
func (exits) Describe(ch chan<- *prometheus.Desc) { ch <- clusterExit }

func (e exits) Collect(ch chan<- prometheus.Metric) {
	for _, m := range e.fleet.Clusters {
		ch <- prometheus.MustNewConstMetric(clusterExit, prometheus.GaugeValue, float64(m.ExitCode),
			printable.Line(m.Name))
	}
}

// OfCluster returns a registerer whose metrics have the label "cluster".
func OfCluster(r prometheus.Registerer, name string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"cluster": printable.Line(name)}, r)
}

// one is a collector with one of its metrics alone.
type one struct {
	prometheus.Collector

	metric *prometheus.Desc
}

// Describe and Collect make it a prometheus.Collector.
func (o one) Describe(ch chan<- *prometheus.Desc) { ch <- o.metric }

func (o one) Collect(ch chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		o.Collector.Collect(all)
	}()
	for m := range all {
		if m.Desc() == o.metric {
			ch <- m
		}
	}
}

// FleetPrometheus writes the metrics of ExpiryPrometheus for each cluster, with the label
// "cluster", and the exit code of each check. It gathers a metric at a time: those of hundreds of
// clusters would take a hundred megabytes.
func FleetPrometheus(w io.Writer, f expiry.Fleet) error {
	metrics := append(certificateMetrics(), clusterExit)
	slices.SortFunc(metrics,
		func(a, b *prometheus.Desc) int {
			return strings.Compare(a.String(),
				b.String())
		}) // which begins with the name
	for _, metric := range metrics {
		registry := prometheus.NewPedanticRegistry()
		if metric == clusterExit {
			if err := registry.Register(exits{f}); err != nil {
				return err
			}
		}
		for _, m := range f.Clusters {
			if m.Report == nil || metric == clusterExit {
				continue
			}
			c := one{Collector{Latest: func() expiry.Report { return *m.Report }}, metric}
			if err := OfCluster(registry, m.Name).Register(c); err != nil {
				return err
			}
		}
		if err := writeMetrics(w, registry); err != nil {
			return err
		}
	}
	return nil
}

// writeMetrics writes what a registry gathers in the text format.
func writeMetrics(w io.Writer, registry prometheus.Gatherer) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

//go:embed fleet.html
var fleetPage string

// fleetLine is a cluster in the page's table.
type fleetLine struct {
	expiry.Member
	Status, Labelled, Nodes string
	First, FirstAt          string
	Outage, OutageAt, Means string
}

// fleetYears is the range of the picture.
const fleetYears = 2

// FleetHTML writes one page with a picture of all clusters over the next two years: when what
// expires, and which outage is next. It is self-contained.
func FleetHTML(w io.Writer, f expiry.Fleet) error {
	var all []fleetLine
	for _, m := range f.Clusters {
		line := fleetLine{Member: m, Status: memberStatus(m)}
		for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
			line.Labelled = strings.TrimPrefix(line.Labelled+", "+key+"="+m.Labels[key], ", ")
		}
		if m.Report != nil {
			line.Nodes = fmt.Sprintf("%d of %d", len(m.Report.Nodes)-len(m.Report.Unknown()), len(m.Report.Nodes))
		}
		if c, ok := m.First(); ok {
			line.First, line.FirstAt = c.Name+" on "+c.Node, sentence(c)+", "+c.Ends().UTC().Format(time.DateOnly)
		}
		if c, ok := m.NextOutage(); ok {
			line.Outage, line.OutageAt, line.Means = c.Name+" on "+c.Node,
				sentence(c)+", "+c.Ends().UTC().Format(time.DateOnly), outageMeans(c)
		}
		all = append(all, line)
	}
	return writePage(w, "fleet", fleetPage, struct {
		expiry.Fleet
		Lines   []fleetLine
		Picture picture
		AsOf    string
	}{f, all, fleetPicture(f, all), clock(f.Taken)})
}

// outageMeans describes what no longer works once a certificate has expired.
func outageMeans(c expiry.Row) string {
	kind, _ := certs.Lookup(c.Kind)
	if kind.CA {
		return "everything that this CA has signed is refused"
	}
	return map[certs.Outage]string{
		certs.OutageTLS:     "clients refuse the API server",
		certs.OutageClient:  "the API server refuses its administrator",
		certs.OutageEtcd:    "the API server and etcd no longer trust each other",
		certs.OutageKubelet: "the kubelet does not start, and no static pod does",
	}[kind.Outage]
}

// fleetPicture draws for each cluster until when all is valid, and after that each day on which
// something expires.
func fleetPicture(f expiry.Fleet, all []fleetLine) picture {
	const barHeight = 12
	span := [2]time.Time{f.Taken, f.Taken.AddDate(fleetYears, 0, 0)}
	a := axis{spans: [][2]time.Time{span}}
	p := picture{Top: axisHeight}
	y := axisHeight + rowGap/2
	for _, l := range all {
		row := pictureRow{Label: l.Name, Hint: l.Outage, LabelY: y + labelHeight - 5}
		if row.Hint != "" {
			row.Hint = "next outage: " + l.Means + ", " + l.OutageAt
		}
		if l.Report == nil {
			row.Hint = "unknown: it could not be inspected"
		}
		y += labelHeight
		if c, ok := l.Member.First(); ok {
			x, width := a.span(span[0], c.Ends())
			row.Bars = append(row.Bars,
				bar{X: x, Width: width, Y: y, Height: barHeight, Class: "after " + string(c.Status),
					Title: l.First + ": " + l.FirstAt})
			row.Bars = append(row.Bars, endings(a, *l.Report, c.Ends(), y, barHeight)...)
		}
		y += barHeight + rowGap
		p.Rows = append(p.Rows, row)
	}
	p.Bottom, p.Height = y, y
	for _, t := range dates(span) {
		p.Ticks = append(p.Ticks, tickAt(a.at(t.at), tickY, t.label))
	}
	return p
}

// endings are a mark for each day after the first on which something expires, within the picture;
// an expiry that makes the API server unusable is painted as such.
func endings(a axis, r expiry.Report, first time.Time, y, height int) (out []bar) {
	type day struct {
		at     time.Time
		names  []string
		outage bool
	}
	var days []day
	for _, c := range r.Certificates { // sorted by expiry
		if c.Status == expiry.Unused || c.InFile || !c.Ends().After(first) || c.Ends().After(a.spans[0][1]) {
			continue
		}
		if last := len(days) - 1; last < 0 ||
			days[last].at.Format(time.DateOnly) != c.Ends().UTC().Format(time.DateOnly) {
			days = append(days, day{at: c.Ends().UTC()})
		}
		d := &days[len(days)-1]
		d.names = append(d.names, c.Name+" on "+c.Node)
		d.outage = d.outage || outageMeans(c) != ""
	}
	for _, d := range days {
		class := "after warning"
		if d.outage {
			class = "after expired"
		}
		const named = 5 // a cluster may have hundreds
		names := strings.Join(d.names[:min(named, len(d.names))], ", ")
		if more := len(d.names) - named; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, bar{X: min(a.at(d.at), 99.4), Width: 0.6, Y: y, Height: height, Class: class,
			Title: d.at.Format(time.DateOnly) + ": " + names})
	}
	return out
}
