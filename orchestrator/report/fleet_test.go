package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	ics "github.com/arran4/golang-ical"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/santhosh-tekuri/jsonschema/v6"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testhostile"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// fleetOf makes a fleet of clusters that have expired, are healthy, will soon warn and cannot be
// inspected.
func fleetOf() expiry.Fleet {
	few := func(edits ...tc.Edit) *expiry.Report {
		r := expiry.Of(tc.Few(edits...), expiry.DefaultThresholds())
		return &r
	}
	bad := expiring()
	return expiry.OfFleet(tc.Now, 64, []expiry.Member{
		{Name: "well", Labels: map[string]string{"env": "test"}, Report: few()},
		{Name: "expiring", Labels: map[string]string{"env": "prod", "zone": "fra1"}, ExitCode: 4, Error: "unknown, so not healthy: etcd1", Next: "test them", Report: &bad},
		{Name: "gone", ExitCode: 64, Error: "inventory gone.ini: it does not exist", Next: "name an existing inventory"},
		{Name: "soon", ExitCode: 2, Error: "certificates: 1 warning", Report: few(tc.On("cp1", tc.EndsIn(20*tc.Day, certs.KindAPIServer)))},
		{Name: "silent", ExitCode: 4, Error: "unknown, so not healthy", Report: few(tc.On("cp1,etcd1,w1", tc.Unknown(snapshot.Unreachable, "no route")))},
	})
}

// fleetFormats are all renderers under the names of their golden files.
func fleetFormats() map[string]func(io.Writer, expiry.Fleet) error {
	return map[string]func(io.Writer, expiry.Fleet) error{
		"fleet.txt":      report.FleetTable,
		"fleet-wide.txt": report.FleetWide,
		"fleet.json":     report.FleetJSON,
		"fleet.html":     report.FleetHTML,
		"fleet.ics":      report.FleetCalendar,
		"fleet.prom":     report.FleetPrometheus,
		"fleet.junit.xml": func(w io.Writer, f expiry.Fleet) error {
			return report.FleetJUnit(w, f, func(_ string, l expiry.Level) bool { return l >= expiry.LevelWarning })
		},
	}
}

func renderFleet(t *testing.T, name string, f expiry.Fleet) string {
	t.Helper()
	var out bytes.Buffer
	if err := fleetFormats()[name](&out, f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out.String()
}

func TestFleetFormats(t *testing.T) {
	t.Parallel()
	for name, write := range fleetFormats() {
		got := renderFleet(t, name, fleetOf())
		golden(t, name, got)
		if again := renderFleet(t, name, fleetOf()); again != got {
			t.Errorf("%s: the second time it is\n%s", name, again)
		}
		if err := write(broken{}, fleetOf()); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What expires first is on top, whichever cluster it is in, and what is unknown before it.
func TestFleetOrder(t *testing.T) {
	t.Parallel()
	var got []string
	for _, m := range fleetOf().Clusters {
		got = append(got, m.Name)
	}
	if want := []string{"gone", "silent", "expiring", "soon", "well"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	rows := fleetOf().Rows()
	if !slices.IsSortedFunc(rows, func(a, b expiry.FleetRow) int { return a.Ends().Compare(b.Ends()) }) || len(rows) < 30 {
		t.Errorf("%d rows, and not by when they end", len(rows))
	}
}

// The next outage is of something that makes the control plane unusable, and that no component is
// about to renew by itself.
func TestNextOutage(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit tc.NodeEdit
		want certs.Kind
	}{
		{"the API server's", tc.EndsIn(20*tc.Day, certs.KindAPIServer), certs.KindAPIServer},
		{"not what only some need", tc.EndsIn(20*tc.Day, certs.KindSchedulerConf), certs.KindAdmin},
		{"not what the kubelet renews", tc.EndsIn(300*tc.Day, certs.KindKubeletClient), certs.KindAdmin},
		{"what a kubelet does not renew that is reported not to", func(n *snapshot.Node) {
			tc.EndsIn(300*tc.Day, certs.KindKubeletClient)(n)
			n.Facts["kubelet.rotateCertificates"] = "false"
		}, certs.KindKubeletClient},
		{"a CA", tc.EndsIn(20*tc.Day, certs.KindCA), certs.KindCA},
	} {
		r := expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(350*tc.Day, certs.KindAdmin), row.edit)), expiry.DefaultThresholds())
		if c, ok := (expiry.Member{Report: &r}).NextOutage(); !ok || c.Kind != row.want {
			t.Errorf("%s: %s, want %s", row.name, c.Kind, row.want)
		}
	}
	if _, ok := (expiry.Member{}).NextOutage(); ok {
		t.Error("an outage of what is not known")
	}
}

// A cluster at a time or all at once, the bytes are the same.
func TestFleetJSONIsTheJSON(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]expiry.Fleet{"fleet": fleetOf(), "evil": evilFleet(), "empty": expiry.OfFleet(tc.Now, 0, nil)} {
		var whole bytes.Buffer
		if err := report.JSON(&whole, f); err != nil {
			t.Fatal(err)
		}
		if got := renderFleet(t, "fleet.json", f); got != whole.String() {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, whole.String())
		}
	}
}

func TestFleetSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/reference/schemas/fleet-check-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]expiry.Fleet{"fleet": fleetOf(), "evil": evilFleet(), "empty": expiry.OfFleet(tc.Now, 0, nil)} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(renderFleet(t, "fleet.json", f)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(renderFleet(t, "fleet.json", fleetOf())), &document); err != nil {
		t.Fatal(err)
	}
	document["more"] = 1
	if schema.Validate(document) == nil {
		t.Error("the schema takes a field that it does not name")
	}
}

// evilFleet is one whose names, labels and texts could break a format.
func evilFleet() expiry.Fleet {
	f := fleetOf()
	f.Clusters = append(f.Clusters, expiry.Member{Name: "<script>", Labels: map[string]string{`"></svg><script>`: "]]>"}})
	testhostile.Put("a|b\x1b[31m\r\n,;\"'\\</x>]]>&{}\t\xff", false, &f)
	return f
}

// Each format is read by its consumer, and has every cluster.
func TestFleetIsRead(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]expiry.Fleet{"fleet": fleetOf(), "evil": evilFleet()} {
		text := renderFleet(t, "fleet.prom", f)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v %v", name, problems, err)
		}
		families, err := new(expfmt.NewTextParser(model.UTF8Validation)).TextToMetricFamilies(strings.NewReader(text))
		if err != nil || len(families["kscertctl_cluster_exit_code"].GetMetric()) != len(f.Clusters) {
			t.Errorf("%s: %v in\n%s", name, err, text)
		}
		for _, m := range families["kscertctl_certificate_not_after_timestamp_seconds"].GetMetric() {
			if m.GetLabel()[2].GetName() != "cluster" {
				t.Fatalf("%s: no label cluster: %v", name, m)
			}
		}
		cal, err := ics.ParseCalendar(strings.NewReader(renderFleet(t, "fleet.ics", f)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids := map[string]bool{}
		for _, e := range cal.Events() {
			ids[e.Id()] = true
		}
		if len(ids) != len(cal.Events()) || len(ids) < 4 {
			t.Errorf("%s: %d events with %d ids", name, len(cal.Events()), len(ids))
		}
		var doc struct {
			Suites []struct {
				Name  string     `xml:"name,attr"`
				Cases []struct{} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		if err := xml.Unmarshal([]byte(renderFleet(t, "fleet.junit.xml", f)), &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(doc.Suites) != len(f.Clusters) {
			t.Errorf("%s: %d suites", name, len(doc.Suites))
		}
		for _, s := range doc.Suites {
			if s.Name == "" || len(s.Cases) == 0 {
				t.Errorf("%s: an empty suite %q", name, s.Name)
			}
		}
		page := renderFleet(t, "fleet.html", f)
		if strings.Contains(page, "<script") || regexp.MustCompile(`(?i)(src|href)\s*=\s*"?(https?:|//)`).MatchString(page) {
			t.Errorf("%s: something is run or fetched", name)
		}
		if n := strings.Count(page, "<title>"); n < len(f.Clusters) || strings.Count(page, "</svg>") != 4 {
			t.Errorf("%s: the picture is broken: %d", name, n)
		}
	}
}
