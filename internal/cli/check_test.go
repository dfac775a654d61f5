package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/infrapuzzle/kscertctl/internal/exporter"
	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

var update = flag.Bool("update", false, "write the snapshots in testdata again")

// The scripts read these snapshots. They are files, so that snapshots of an earlier version are
// still read; go test ./internal/cli -update writes them again.
func TestSavedSnapshots(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]snapshot.Snapshot{"expiring.json": tc.Expiring(), "few.json": tc.Few()} {
		path := filepath.Join("testdata", "snapshots", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := snapshot.Save(path, want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := snapshot.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(expiry.Of(got, expiry.DefaultThresholds()), expiry.Of(want, expiry.DefaultThresholds())) {
			t.Errorf("%s is not what the test says", path)
		}
	}
}

// The exit codes are a contract: an unknown node outweighs the rest.
func TestExpiryError(t *testing.T) {
	t.Parallel()
	warning := tc.On("cp1", tc.EndsIn(20*tc.Day, certs.KindAdmin))
	critical := tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))
	expired := tc.On("cp1", tc.Expired(certs.KindAdmin))
	unreadable := tc.On("w1", func(n *snapshot.Node) { n.Unreadable = []snapshot.Unreadable{{Path: "/x"}} })
	unknown := tc.On("w1", tc.Unknown(snapshot.Unreachable, "gone"))
	for _, row := range []struct {
		name              string
		edits             []tc.Edit
		warn, crit, never orchestrator.ExitCode // by --fail-on
		nagios            report.NagiosState
	}{
		{"valid", nil, 0, 0, 0, report.NagiosOK},
		{"warning", []tc.Edit{warning}, 2, 0, 0, report.NagiosWarning},
		{"critical", []tc.Edit{critical}, 3, 3, 0, report.NagiosCritical},
		{"expired", []tc.Edit{expired}, 3, 3, 0, report.NagiosCritical},
		{"unreadable", []tc.Edit{unreadable}, 3, 3, 0, report.NagiosCritical},
		{"unknown", []tc.Edit{unknown}, 4, 4, 4, report.NagiosUnknown},
		{"unknown, and a warning", []tc.Edit{unknown, warning}, 4, 4, 4, report.NagiosUnknown},
		{"unknown, and expired", []tc.Edit{unknown, expired}, 4, 4, 4, report.NagiosCritical},
	} {
		r := expiry.Of(tc.Few(row.edits...), expiry.DefaultThresholds())
		for failOn, want := range map[string]orchestrator.ExitCode{"warn": row.warn, "crit": row.crit, "never": row.never} {
			got := orchestrator.Code(expiryError(r, func(l expiry.Level) bool { return l >= failLevels[failOn] }))
			if got != want {
				t.Errorf("%s, --fail-on %s: exit code %d, want %d", row.name, failOn, got, want)
			}
		}
		if got := orchestrator.Code(plugin(report.ExpiryNagiosState(r))); got != orchestrator.ExitCode(row.nagios) {
			t.Errorf("%s: a plugin's exit code is %d, want %d", row.name, got, row.nagios)
		}
	}
}

// The references of the formats match the schemas and the metrics. UPDATE_DOCS=1 writes them again.
func TestFormatsReferences(t *testing.T) {
	t.Parallel()
	for page, tables := range map[string]map[string]string{
		"docs/reference/check-formats.md": {
			"metrics": metricList(t, report.Collector{Latest: func() expiry.Report { return expiry.Of(tc.Expiring(), expiry.DefaultThresholds()) }}),
		},
		"docs/reference/exporter.md":      {"metrics": metricList(t, exporter.New(exporter.Options{}))},
		"docs/reference/events.md":        eventTables(t),
		"docs/reference/configuration.md": {"recorded": recordedList(), "flags": refusedList()},
	} {
		old := read(t, page)
		want := old
		for name, table := range tables {
			place := regexp.MustCompile(`(?s)(<!-- table: ` + name + `,[^\n]* -->\n\n).*?<!-- end -->`)
			if !place.MatchString(want) {
				t.Fatalf("%s has no place for its table of %s", page, name)
			}
			want = place.ReplaceAllStringFunc(want, func(s string) string {
				return place.FindStringSubmatch(s)[1] + table + "\n<!-- end -->"
			})
		}
		if os.Getenv("UPDATE_DOCS") != "" {
			if err := os.WriteFile(filepath.Join(root, page), []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if want != old {
			t.Errorf("%s is not what the code says; write it again with UPDATE_DOCS=1", page)
		}
	}
}

// metricList has the metrics that a collector describes, with their labels. Descriptions have no
// type: a counter's name ends in _total, and collected metrics show it.
func metricList(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kind := func(name string) string {
		if strings.HasSuffix(name, "_total") {
			return "counter"
		}
		return "gauge"
	}
	for _, f := range families {
		if got := strings.ToLower(f.GetType().String()); got != kind(f.GetName()) {
			t.Errorf("%s is a %s and does not look like one", f.GetName(), got)
		}
	}
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	parts := regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	var out strings.Builder
	for d := range descs {
		m := parts.FindStringSubmatch(d.String())
		name := m[1]
		if m[3] != "" {
			name += "{" + m[3] + "}"
		}
		fmt.Fprintf(&out, "- `%s`: %s\n", name, m[2])
	}
	return out.String()
}
