package report

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// certificateLabels name one certificate of one node.
var certificateLabels = []string{"node", "kind", "name", "path", "authority", "ca", "served"}

// The metrics: base units, so seconds; names as in the Prometheus documentation,
// "Metric and label naming".
var (
	notAfter = prometheus.NewDesc("kscertctl_certificate_not_after_timestamp_seconds",
		"When the certificate expires.", certificateLabels, nil)
	notBefore = prometheus.NewDesc("kscertctl_certificate_not_before_timestamp_seconds",
		"When the certificate becomes valid.", certificateLabels, nil)
	warningFrom = prometheus.NewDesc("kscertctl_certificate_warning_timestamp_seconds",
		"When the certificate becomes a warning, by --warn and by who renews it.", certificateLabels, nil)
	criticalFrom = prometheus.NewDesc("kscertctl_certificate_critical_timestamp_seconds",
		"When the certificate becomes critical, by --crit and by who renews it.", certificateLabels, nil)
	keyMatch = prometheus.NewDesc("kscertctl_certificate_key_match",
		"Whether the private key next to the certificate matches it: 1 or 0. Absent where no key is expected.",
		certificateLabels, nil)
	externallyManaged = prometheus.NewDesc("kscertctl_certificate_externally_managed",
		"Whether the key of the certificate's CA is absent from the control plane: 1 or 0.", certificateLabels, nil)
	servedStale = prometheus.NewDesc("kscertctl_served_certificate_stale",
		"Whether a port serves a different certificate than the file of its process holds: 1 or 0.", certificateLabels,
		nil)
	info = prometheus.NewDesc("kscertctl_certificate_info",
		"The subject, serial number and issuer of the certificate; always 1.",
		append(slices.Clip(certificateLabels), "subject", "issuer", "serial_number", "fingerprint_sha256", "signed_by"),
		nil)
	unreadable = prometheus.NewDesc("kscertctl_certificate_unreadable",
		"A file that should hold a certificate and does not; always 1.", []string{"node", "path"}, nil)
	nodeUp = prometheus.NewDesc("kscertctl_node_up",
		"Whether the node's certificates could be inspected: 1 or 0.", []string{"node"}, nil)
	nodeClock = prometheus.NewDesc("kscertctl_node_clock_timestamp_seconds",
		"The node's own time when it was inspected.", []string{"node"}, nil)
	inspected = prometheus.NewDesc("kscertctl_inspection_timestamp_seconds",
		"When the nodes were inspected, by the clock of the control node.", nil, nil)
)

// Collector turns reports into metrics; it is a prometheus.Collector.
type Collector struct {
	// Latest returns the report to show.
	Latest func() expiry.Report
}

// certificateMetrics are all possible metrics.
func certificateMetrics() []*prometheus.Desc {
	return []*prometheus.Desc{
		notAfter, notBefore, warningFrom, criticalFrom, keyMatch, externallyManaged, servedStale, info, unreadable,
		nodeUp, nodeClock, inspected,
	}
}

// Describe sends every possible metric.
func (c Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range certificateMetrics() {
		ch <- d
	}
}

// Collect sends the metrics of the latest report.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	r := c.Latest()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, clean(labels)...)
	}
	gauge(inspected, float64(r.Taken.Unix()))
	for _, n := range r.Nodes {
		gauge(nodeUp, number(n.Known), n.Name)
		if !n.Clock.IsZero() {
			gauge(nodeClock, float64(n.Clock.Unix()), n.Name)
		}
	}
	// Two samples with the same labels would lose the whole output. Of two certificates at one
	// place the one that expires first is used.
	seen := map[string]bool{}
	first := func(labels ...string) bool {
		key := strings.Join(clean(labels), "\x00")
		defer func() { seen[key] = true }()
		return !seen[key]
	}
	for _, u := range r.Unreadable {
		if first(u.Node, u.Path) {
			gauge(unreadable, 1, u.Node, u.Path)
		}
	}
	for _, c := range r.Certificates {
		labels := []string{c.Node, string(c.Kind), c.Name, c.Path, string(c.Authority), strconv.FormatBool(c.IsCA),
			strconv.FormatBool(c.Served)}
		if c.Status == expiry.Unused || !first(labels...) { // no one is to be paged for an unused certificate
			continue
		}
		gauge(notAfter, float64(c.Ends().Unix()), labels...)
		gauge(notBefore, float64(c.NotBefore.Unix()), labels...)
		gauge(warningFrom, float64(c.WarningFrom.Unix()), labels...)
		gauge(criticalFrom, float64(c.CriticalFrom.Unix()), labels...)
		gauge(externallyManaged, number(c.ExternallyManaged), labels...)
		if c.Key == certs.KeyMatches || c.Key == certs.KeyMismatch {
			gauge(keyMatch, number(c.Key == certs.KeyMatches), labels...)
		}
		if c.Served {
			gauge(servedStale, number(c.Stale), labels...)
		}
		gauge(info, 1, append(labels, c.Subject, c.Issuer, c.SerialNumber, c.Fingerprint, string(c.SignedBy))...)
	}
}

// clean makes labels printable: a node may report anything.
func clean(labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = printable.Line(l)
	}
	return out
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ExpiryPrometheus writes the text format that Prometheus scrapes and that node_exporter's textfile
// collector reads.
func ExpiryPrometheus(w io.Writer, r expiry.Report) error {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(Collector{Latest: func() expiry.Report { return r }}); err != nil {
		return err
	}
	return writeMetrics(w, registry)
}
