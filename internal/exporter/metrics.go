package exporter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// Of the inspections; what the certificates are like is report.Collector's.
var (
	lastResult = prometheus.NewDesc("kscertctl_exporter_last_inspection_success",
		"Whether the last finished inspection succeeded: 1 or 0. Absent until the first has finished.", nil, nil)
	lastEnd = prometheus.NewDesc("kscertctl_exporter_last_inspection_timestamp_seconds",
		"When the last inspection finished, with or without success.", nil, nil)
	lastDuration = prometheus.NewDesc("kscertctl_exporter_last_inspection_duration_seconds",
		"How long the last finished inspection took.", nil, nil)
	inspections = prometheus.NewDesc("kscertctl_exporter_inspections_total",
		"Finished inspections, by result: success, failure or timeout.", []string{"result"}, nil)
	running = prometheus.NewDesc("kscertctl_exporter_inspection_running",
		"Whether an inspection is running: 1 or 0.", nil, nil)
	nodeSeen = prometheus.NewDesc("kscertctl_exporter_node_last_success_timestamp_seconds",
		"When the node was last inspected successfully: its certificates are of that moment.", []string{"node"}, nil)
)

// Describe and Collect make the Exporter a prometheus.Collector of the metrics of
// its inspections.
func (e *Exporter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lastResult, lastEnd, lastDuration, inspections, running, nodeSeen} {
		ch <- d
	}
}

// Collect sends what is known at this moment.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	s := e.now()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, r := range results() {
		ch <- prometheus.MustNewConstMetric(inspections, prometheus.CounterValue, float64(s.counts[r]), string(r))
	}
	gauge(running, number(s.began.After(s.ended)))
	if !s.ended.IsZero() {
		gauge(lastResult, number(s.failed == nil))
		gauge(lastEnd, seconds(s.ended))
		gauge(lastDuration, s.took.Seconds())
	}
	for node, seen := range s.seen {
		gauge(nodeSeen, seconds(seen), node)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// metrics gathers all there are: of the inspections and the process as they are now,
// of the certificates as they were last seen.
func (all Set) metrics() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	out := prometheus.Gatherers{r}
	for _, e := range all {
		e.registerer(r).MustRegister(e)
		out = append(out, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return e.now().families, nil }))
	}
	return out
}

// registerer gives metrics the label of the exporter's cluster, where it has one.
func (e *Exporter) registerer(r prometheus.Registerer) prometheus.Registerer {
	if e.opts.Cluster == "" {
		return r
	}
	return report.OfCluster(r, e.opts.Cluster)
}

// gather makes the metrics of a report.
func (e *Exporter) gather(r expiry.Report) ([]*dto.MetricFamily, error) {
	registry := prometheus.NewRegistry()
	if err := e.registerer(registry).Register(report.Collector{Latest: func() expiry.Report { return r }}); err != nil {
		return nil, err
	}
	return registry.Gather()
}
