package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ics "github.com/arran4/golang-ical"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func expiring() expiry.Report { return expiry.Of(tc.Expiring(), expiry.DefaultThresholds()) }

func healthy() expiry.Report {
	return expiry.Of(tc.Healthy(tc.HA()), expiry.DefaultThresholds())
}

func nothing() expiry.Report {
	return expiry.Of(tc.Healthy(tc.Single(), tc.Everywhere(tc.Unknown(snapshot.Unreachable, "gone"))), expiry.DefaultThresholds())
}

// evil is a cluster whose nodes report text that could break a format or control a terminal.
func evil() expiry.Report {
	const text = "a|b\x1b[31m\r\n,;\"'\\</x>]]>&{}\t\xff"
	s := tc.Expiring()
	for i := range s.Nodes {
		n := &s.Nodes[i]
		for j := range n.Certificates {
			c := &n.Certificates[j]
			c.Path, c.Subject, c.Issuer, c.SANs = text, text, text, []string{text}
		}
		for j := range n.Unreadable {
			n.Unreadable[j] = snapshot.Unreadable{Path: text, Reason: text}
		}
		if n.Failure != nil {
			n.Failure.Message = text
		}
	}
	return expiry.Of(s, expiry.DefaultThresholds())
}

// formats are all renderers under the names of their golden files.
func formats() map[string]func(io.Writer, expiry.Report) error {
	return map[string]func(io.Writer, expiry.Report) error{
		"check.txt":      func(w io.Writer, r expiry.Report) error { return report.ExpiryTable(w, r, 0) },
		"check-80.txt":   func(w io.Writer, r expiry.Report) error { return report.ExpiryTable(w, r, 80) },
		"check-wide.txt": report.ExpiryWide,
		"check.json":     func(w io.Writer, r expiry.Report) error { return report.JSON(w, r) },
		"check.yaml":     func(w io.Writer, r expiry.Report) error { return report.YAML(w, r) },
		"check.prom":     report.ExpiryPrometheus,
		"check.junit.xml": func(w io.Writer, r expiry.Report) error {
			return report.ExpiryJUnit(w, r, func(l expiry.Level) bool { return l >= expiry.LevelCritical })
		},
		"check.nagios": report.ExpiryNagios,
		"check.ics":    report.ExpiryCalendar,
	}
}

func render(t *testing.T, name string, r expiry.Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := formats()[name](&out, r); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out.String()
}

// Every format is a contract, and the same report gives the same bytes.
func TestExpiryFormats(t *testing.T) {
	t.Parallel()
	for name := range formats() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := render(t, name, expiring())
			golden(t, name, got)
			if again := render(t, name, expiring()); again != got {
				t.Errorf("the second time it is\n%s", again)
			}
		})
	}
}

// The caller gets write errors, in every format.
func TestExpiryWriteErrors(t *testing.T) {
	t.Parallel()
	for name, write := range formats() {
		if err := write(broken{}, expiring()); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The states for a healthy cluster and for an unknown one.
func TestExpiryNagiosStates(t *testing.T) {
	t.Parallel()
	unreadable := tc.Healthy(tc.Single(), tc.On("w1", func(n *snapshot.Node) { n.Unreadable = []snapshot.Unreadable{{Path: "/x", Reason: "it is empty"}} }))
	for _, row := range []struct {
		name  string
		in    expiry.Report
		state report.NagiosState
		line  string
	}{
		{"healthy", healthy(), report.NagiosOK, `^KSCERTCTL OK - \d+ certificates on 4 nodes are valid; first: .* expires in 355d \| 'next_expiry'=30672000s;2592000:;604800: 'certificates'=`},
		{"a warning", expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(20*tc.Day, certs.KindAdmin))), expiry.DefaultThresholds()), report.NagiosWarning,
			`^KSCERTCTL WARNING - 1 warning; first: admin.conf on cp1 expires in 20d \|`},
		{"a warning, and a node unknown", expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(20*tc.Day, certs.KindAdmin)), tc.On("w1", tc.Unknown(snapshot.Unreachable, "gone"))), expiry.DefaultThresholds()), report.NagiosUnknown,
			`^KSCERTCTL UNKNOWN - 1 warning, 1 of 2 nodes unknown; first:`},
		{"all there is", expiring(), report.NagiosCritical, `^KSCERTCTL CRITICAL - 2 expired, 1 not-yet-valid, 1 critical, 1 warning, 1 unreadable, 1 of 3 nodes unknown; first: kube-apiserver at 10.0.0.1:6443 on cp1 expired 12d ago \|`},
		{"what ends first is not the worst", expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(20*tc.Day, certs.KindAdmin),
			tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(tc.Day) }, certs.KindSchedulerConf))), expiry.DefaultThresholds()), report.NagiosCritical,
			`^KSCERTCTL CRITICAL - 1 not-yet-valid, 1 warning; first: scheduler.conf on cp1 not valid before [0-9TZ:-]+ \| 'next_expiry'=1728000s;.*\nnot-yet-valid: .*\nwarning: `},
		{"nothing", nothing(), report.NagiosUnknown, `^KSCERTCTL UNKNOWN - 2 of 2 nodes unknown \| 'certificates'=0`},
		{"no node at all", expiry.Of(snapshot.Snapshot{}, expiry.DefaultThresholds()), report.NagiosUnknown, `^KSCERTCTL UNKNOWN - `},
		{"a file without a certificate", expiry.Of(unreadable, expiry.DefaultThresholds()), report.NagiosCritical, `^KSCERTCTL CRITICAL - 1 unreadable; first: /x on w1: it is empty \|`},
		{"a leftover that has expired", expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", tc.Expired(certs.KindAPIServer), func(n *snapshot.Node) {
			n.Facts["kube-apiserver.tls-cert-file"] = "/own.crt"
		})), expiry.DefaultThresholds()), report.NagiosOK, `^KSCERTCTL OK - 20 certificates on 2 nodes are valid; first: .* expires in 355d \| 'next_expiry'=30672000s;2592000:;604800: 'certificates'=21`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := report.ExpiryNagiosState(row.in); got != row.state {
				t.Errorf("state %s, want %s", got, row.state)
			}
			if got := render(t, "check.nagios", row.in); !regexp.MustCompile(row.line).MatchString(got) {
				t.Errorf("%q does not match %s", got, row.line)
			}
		})
	}
}

// A plugin's output is cut off by its transport: it stays short.
func TestExpiryNagiosIsShort(t *testing.T) {
	t.Parallel()
	n, _ := tc.Healthy(tc.HA()).Node("cp1")
	out := render(t, "check.nagios", expiry.Of(tc.Healthy(tc.HA(), tc.On("cp1,cp2,cp3", tc.Expired(tc.Kinds(n)...))), expiry.DefaultThresholds()))
	if lines := strings.Count(out, "\n"); lines != 22 || !strings.HasSuffix(out, " more: kscertctl check-expiration -o table\n") {
		t.Errorf("%d lines:\n%s", lines, out)
	}
	if strings.Count(out, "|") != 1 {
		t.Errorf("performance data is not apart:\n%s", out)
	}
}

func TestExpiryTableFits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		width int
		head  string
	}{
		{0, "NODE CERTIFICATE EXPIRES RESIDUAL TIME CERTIFICATE AUTHORITY EXTERNALLY MANAGED STATUS"},
		{200, "NODE CERTIFICATE EXPIRES RESIDUAL TIME CERTIFICATE AUTHORITY EXTERNALLY MANAGED STATUS"},
		{120, "NODE CERTIFICATE EXPIRES RESIDUAL TIME CERTIFICATE AUTHORITY STATUS"},
		{110, "NODE CERTIFICATE EXPIRES RESIDUAL TIME STATUS"},
		{90, "NODE CERTIFICATE RESIDUAL TIME STATUS"},
		{10, "NODE CERTIFICATE RESIDUAL TIME STATUS"}, // what matters is never left out
	} {
		var out bytes.Buffer
		if err := report.ExpiryTable(&out, expiring(), row.width); err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(out.String(), "\n")
		if got := strings.Join(regexp.MustCompile(` {2,}`).Split(head, -1), " "); got != row.head {
			t.Errorf("width %d: %s\nwant %s", row.width, got, row.head)
		}
		for line := range strings.Lines(out.String()) {
			if row.width > 80 && utf8.RuneCountInString(line) > row.width+1 {
				t.Errorf("width %d: %d columns: %q", row.width, utf8.RuneCountInString(line), line)
			}
		}
	}
}

// Kubespray's own renewal timer is named where it is installed, on or off.
func TestExpiryNamesTheRenewalTimer(t *testing.T) {
	t.Parallel()
	for state, want := range map[snapshot.TimerState]string{
		snapshot.TimerOff: "cp1: Kubespray's own renewal timer is off: it is not scheduled\n", "": "",
	} {
		s := tc.Healthy(tc.Single(), tc.On("cp1", func(n *snapshot.Node) {
			if state != "" {
				n.RenewalTimer = &snapshot.RenewalTimer{State: state}
			}
		}))
		var out bytes.Buffer
		if err := report.ExpiryTable(&out, expiry.Of(s, expiry.DefaultThresholds()), 0); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(out.String(), "cp1: "); got != strings.TrimPrefix(want, "cp1: ") {
			t.Errorf("timer %q: %q", state, out.String())
		}
	}
}

// Served certificates are in the table if they differ from their file.
func TestExpiryTableShowsWhatIsServed(t *testing.T) {
	t.Parallel()
	loopback := func(left time.Duration) tc.NodeEdit {
		return func(n *snapshot.Node) {
			n.Certificates = append(n.Certificates, certs.Certificate{Kind: "kube-apiserver-loopback", Path: "10.0.0.1:6443", Served: true, NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(left)})
		}
	}
	for _, row := range []struct {
		name string
		edit tc.NodeEdit
		want int
	}{
		{"the file's", func(*snapshot.Node) {}, 0},
		{"not the file's", tc.Renewed(certs.KindAPIServer), 1},
		{"made at start, valid", loopback(300 * tc.Day), 0},
		{"made at start, expired", loopback(-tc.Day), 1},
	} {
		r := expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", row.edit)), expiry.DefaultThresholds())
		if got := strings.Count(render(t, "check.txt", r), " at "); got != row.want {
			t.Errorf("%s: %d rows, want %d", row.name, got, row.want)
		}
		if got := strings.Count(render(t, "check-wide.txt", r), " at "); got < 2 { // API server and etcd
			t.Errorf("%s: wide has %d rows", row.name, got)
		}
	}
}

// The time left is printed as kubeadm does, except for what has expired.
func TestResidualTime(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Minute: "1m", time.Hour - 1: "59m", time.Hour: "1h", 24*time.Hour - 1: "23h", tc.Day: "1d",
		364 * tc.Day: "364d", 365 * tc.Day: "1y", 3650 * tc.Day: "10y", -time.Second: "-1s", -time.Hour: "-1h", -400 * tc.Day: "-1y",
	} {
		r := expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(left, certs.KindAdmin))), expiry.DefaultThresholds())
		got := ""
		for line := range strings.Lines(render(t, "check-wide.txt", r)) {
			if f := strings.Fields(line); f[1] == "admin.conf" {
				got = f[7]
			}
		}
		if truncated := left.Truncate(time.Second); left == truncated && got != want {
			t.Errorf("%s: %s, want %s", left, got, want)
		}
	}
}

// A time that is longer than 292 years, the limit of Go's durations, and one at the ends of what
// JSON holds.
func TestCenturiesLeft(t *testing.T) {
	t.Parallel()
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	ends := func(at time.Time) tc.Edit {
		return tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotBefore, c.NotAfter = time.Time{}, at }, certs.KindAdmin))
	}
	for _, row := range []struct {
		at    time.Time
		years string
	}{{last, "7979y"}, {time.Time{}.Add(tc.Day), "-2026y"}} {
		s := tc.Healthy(tc.Single(), ends(row.at))
		r := expiry.Of(s, expiry.DefaultThresholds())
		i := slices.IndexFunc(r.Certificates, func(c expiry.Row) bool { return c.Kind == certs.KindAdmin })
		c := r.Certificates[i]
		if want := row.at.Unix() - tc.Now.Unix(); c.ResidualSeconds != want {
			t.Errorf("%d seconds left, want %d", c.ResidualSeconds, want)
		}
		if left := c.Residual(); left > 0 != (c.ResidualSeconds > 0) {
			t.Errorf("%s left of %d s", left, c.ResidualSeconds)
		}
		if got := render(t, "check-wide.txt", r); !strings.Contains(got, " "+row.years+" ") {
			t.Errorf("no %s:\n%s", row.years, got)
		}
		for _, format := range []string{"check.json", "check.yaml"} {
			if got := render(t, format, r); !strings.Contains(got, row.at.Format("2006-01-02")) {
				t.Errorf("no %s in %s", row.at, format)
			}
		}
	}
}

// The JSON form matches its published schema, for every kind of report.
func TestExpirySchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/reference/schemas/check-expiration-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]expiry.Report{"expiring": expiring(), "healthy": healthy(), "nothing": nothing(), "evil": evil(), "empty": expiry.Of(snapshot.Snapshot{}, expiry.DefaultThresholds())} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(render(t, "check.json", r)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A field that the schema does not name is undocumented.
	var document map[string]any
	if err := json.Unmarshal([]byte(render(t, "check.json", expiring())), &document); err != nil {
		t.Fatal(err)
	}
	document["more"] = 1
	if schema.Validate(document) == nil {
		t.Error("the schema takes a field that it does not name")
	}
}

// YAML has what JSON has, field by field and in its order.
func TestExpiryYAMLIsTheJSON(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]expiry.Report{"expiring": expiring(), "nothing": nothing(), "evil": evil()} {
		var fromJSON, fromYAML any
		if err := json.Unmarshal([]byte(render(t, "check.json", r)), &fromJSON); err != nil {
			t.Fatal(err)
		}
		text := render(t, "check.yaml", r)
		if err := yaml.Unmarshal([]byte(text), &fromYAML); err != nil {
			t.Fatal(err)
		}
		// A round trip through JSON, so that numbers have one type.
		again, err := json.Marshal(fromYAML)
		if err != nil {
			t.Fatal(err)
		}
		fromYAML = nil
		if err := json.Unmarshal(again, &fromYAML); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Errorf("%s differs:\n%s", name, text)
		}
		if !strings.HasPrefix(text, "schema: 1\ntaken: ") {
			t.Errorf("%s: another order:\n%s", name, text)
		}
	}
}

// Prometheus can read it, and its linter finds nothing.
func TestExpiryPrometheusIsRead(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]expiry.Report{"expiring": expiring(), "healthy": healthy(), "nothing": nothing(), "evil": evil()} {
		text := render(t, "check.prom", r)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v %v", name, problems, err)
		}
		families, err := new(expfmt.NewTextParser(model.UTF8Validation)).TextToMetricFamilies(strings.NewReader(text))
		if err != nil || families["kscertctl_node_up"] == nil || families["kscertctl_inspection_timestamp_seconds"] == nil {
			t.Errorf("%s: %v in\n%s", name, err, text)
			continue
		}
		if got := len(families["kscertctl_node_up"].GetMetric()); got != len(r.Nodes) {
			t.Errorf("%s: %d nodes, want %d", name, got, len(r.Nodes))
		}
		f := families["kscertctl_certificate_not_after_timestamp_seconds"]
		if got := len(f.GetMetric()); name != "evil" && got != len(r.Certificates) {
			t.Errorf("%s: %d certificates, want %d", name, got, len(r.Certificates))
		}
	}
}

// Two certificates at one place cost no other its sample; the earlier expiry counts.
func TestExpiryPrometheusOfTwins(t *testing.T) {
	t.Parallel()
	s := tc.Expiring()
	twin := s.Nodes[0].Certificates[0]
	twin.NotAfter = twin.NotAfter.Add(tc.Day)
	s.Nodes[0].Certificates = append(s.Nodes[0].Certificates, twin)
	if got := render(t, "check.prom", expiry.Of(s, expiry.DefaultThresholds())); got != render(t, "check.prom", expiring()) {
		t.Errorf("got\n%s", got)
	}
}

func TestExpiryJUnitCounts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name             string
		in               expiry.Report
		from             expiry.Level
		failures, errors int
	}{
		{"critical fails", expiring(), expiry.LevelCritical, 5, 1},
		{"warnings fail", expiring(), expiry.LevelWarning, 6, 1},
		{"nothing fails", expiring(), expiry.LevelCritical + 1, 0, 1},
		{"healthy", healthy(), expiry.LevelWarning, 0, 0},
		{"nothing is known", nothing(), expiry.LevelWarning, 0, 2},
		{"evil", evil(), expiry.LevelCritical, 5, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := report.ExpiryJUnit(&out, row.in, func(l expiry.Level) bool { return l >= row.from }); err != nil {
				t.Fatal(err)
			}
			var doc struct {
				Tests    int `xml:"tests,attr"`
				Failures int `xml:"failures,attr"`
				Errors   int `xml:"errors,attr"`
				Suites   []struct {
					Cases []struct {
						Failure *struct{} `xml:"failure"`
						Error   *struct{} `xml:"error"`
					} `xml:"testcase"`
				} `xml:"testsuite"`
			}
			if err := xml.Unmarshal(out.Bytes(), &doc); err != nil {
				t.Fatalf("%v in\n%s", err, out.String())
			}
			tests, failures, errs := 0, 0, 0
			for _, s := range doc.Suites {
				for _, c := range s.Cases {
					tests++
					if c.Failure != nil {
						failures++
					}
					if c.Error != nil {
						errs++
					}
				}
			}
			if doc.Failures != row.failures || doc.Errors != row.errors || failures != row.failures || errs != row.errors || doc.Tests != tests || len(doc.Suites) != len(row.in.Nodes) {
				t.Errorf("%d tests (%d), %d failures (%d), %d errors (%d), %d suites", doc.Tests, tests, doc.Failures, failures, doc.Errors, errs, len(doc.Suites))
			}
		})
	}
}

func TestExpiryCalendarIsRead(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]expiry.Report{"expiring": expiring(), "healthy": healthy(), "evil": evil()} {
		text := render(t, "check.ics", r)
		cal, err := ics.ParseCalendar(strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		days := map[string]bool{}
		for _, c := range r.Certificates {
			days[c.NotAfter.Format(time.DateOnly)] = true
		}
		ids := map[string]bool{}
		for _, e := range cal.Events() {
			ids[e.Id()] = true
			if len(e.Alarms()) != 2 {
				t.Errorf("%s: %d alarms", name, len(e.Alarms()))
			}
		}
		if len(ids) != len(days) || len(cal.Events()) != len(days) {
			t.Errorf("%s: %d events with %d ids, want %d", name, len(cal.Events()), len(ids), len(days))
		}
		for line := range strings.Lines(text) {
			if !strings.HasSuffix(line, "\r\n") || len(line) > 77 { // RFC 5545, 3.1: 75 octets
				t.Errorf("%s: a line of %d octets: %q", name, len(line), line)
			}
		}
	}
}

// The events of the same cluster, inspected later, are the same.
func TestExpiryCalendarIsStable(t *testing.T) {
	t.Parallel()
	ids := func(edits ...tc.Edit) []string {
		return regexp.MustCompile(`(?m)^UID:.*$`).FindAllString(render(t, "check.ics", expiry.Of(tc.Healthy(tc.HA(), edits...), expiry.DefaultThresholds())), -1)
	}
	if a, b := ids(), ids(tc.Later(tc.Day)); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("%v, then %v", a, b)
	}
}

// Nothing that a node reports is interpreted by a terminal.
func TestExpiryIsPrintable(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"check.txt", "check-80.txt", "check-wide.txt", "check.nagios"} {
		got := render(t, name, evil())
		if strings.ContainsAny(got, "\x1b\r\t") || !utf8.ValidString(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// An unused certificate is listed, and pages no one.
func TestUnusedIsListed(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), tc.On("cp1", tc.Expired(certs.KindAPIServer), func(n *snapshot.Node) {
		n.Facts["kube-apiserver.tls-cert-file"] = "/etc/company/tls.crt"
	}))
	r := expiry.Of(s, expiry.DefaultThresholds())
	named := regexp.MustCompile(`[" ]apiserver["\s\\]`)
	for name, row := range map[string]struct {
		write func(io.Writer, expiry.Report) error
		lists bool
	}{
		"table":      {func(w io.Writer, r expiry.Report) error { return report.ExpiryTable(w, r, 0) }, true},
		"prometheus": {report.ExpiryPrometheus, false},
		"calendar":   {report.ExpiryCalendar, false},
	} {
		var out bytes.Buffer
		if err := row.write(&out, r); err != nil {
			t.Fatal(err)
		}
		var about []string
		for line := range strings.Lines(out.String()) {
			if named.MatchString(line) {
				about = append(about, line)
			}
		}
		if row.lists != (len(about) == 1 && strings.HasSuffix(strings.TrimSpace(about[0]), " unused")) || !row.lists && len(about) > 0 {
			t.Errorf("%s tells of it %q", name, about)
		}
	}
}
