package report_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with testdata; go test ./orchestrator/report -update rewrites.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant (%s)\n%s", got, path, want)
	}
}

// outage is a control plane all of whose certificates have expired, and a worker
// that cannot be looked at.
func outage() snapshot.Snapshot {
	n, _ := tc.Healthy(tc.Single()).Node("cp1")
	return tc.Healthy(tc.Single(), tc.On("cp1", tc.Expired(tc.Kinds(n)...), tc.CrashLoop(), tc.Refused()))
}

func TestDiagnosis(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]snapshot.Snapshot{
		"diagnosis-healthy.txt": tc.Healthy(tc.Single()),
		"diagnosis-outage.txt":  outage(),
		"diagnosis-unknown.txt": tc.Healthy(tc.Single(), tc.On("w1", tc.Unknown(snapshot.Unreachable, "ssh: connect to host w1 port 22:\r\nNo route to host"))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := report.Diagnosis(&out, diagnosis.Diagnose(s, diagnosis.DefaultThresholds())); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]snapshot.Snapshot{"plan-nothing.txt": tc.Healthy(tc.Single()), "plan-recover.txt": outage()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := plan.Make(tc.Single(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.UpgradeCluster)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := report.Plan(&out, p); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

// Lists of certificates and reasons are wrapped to a terminal of 80 columns.
func TestWidth(t *testing.T) {
	t.Parallel()
	s := outage()
	d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	p, err := plan.Make(tc.Single(), s, d, plan.Auto)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := errors.Join(report.Diagnosis(&out, d), report.Plan(&out, p)); err != nil {
		t.Fatal(err)
	}
	wrapped := 0
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if line != strings.TrimRight(line, " ") {
			t.Errorf("blanks at the end of %q", line)
		}
		// What others said, and commands to type, are left in one line.
		if !strings.HasPrefix(line, "         ") || strings.HasPrefix(line, "         | ") || strings.HasPrefix(line, "         next: ") {
			continue
		}
		wrapped++
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("%d columns: %q", utf8.RuneCountInString(line), line)
		}
	}
	if wrapped < 5 {
		t.Errorf("only %d wrapped lines in\n%s", wrapped, out.String())
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		left time.Duration
		want string
	}{
		{-time.Second, "expired"}, {0, "0m"}, {59 * time.Minute, "59m"}, {time.Hour, "1h"}, {23 * time.Hour, "23h"}, {tc.Day, "1d"},
		{355 * tc.Day, "355d"}, {729 * tc.Day, "729d"}, {730 * tc.Day, "2y"}, {3650 * tc.Day, "10y"},
	} {
		s := tc.Healthy(tc.Single(), func(s *snapshot.Snapshot) { s.Nodes = s.Nodes[1:] }, tc.On("w1", tc.EndsIn(9000*tc.Day, certs.KindKubeletServing), tc.EndsIn(row.left, certs.KindKubeletClient)))
		var out bytes.Buffer
		if err := report.Expiry(&out, s); err != nil {
			t.Fatal(err)
		}
		want := "  w1  " + tc.Now.Add(row.left).Format(time.DateOnly) + "  " + row.want + "  kubelet-client-current.pem\n"
		if out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

// An authority does not count, nor what a port serves, nor a node without any.
func TestExpiryOfLeavesOnly(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(time.Hour, certs.KindCA)), tc.On("w1", tc.Unknown(snapshot.Unreachable, "")),
		tc.On("cp1", func(n *snapshot.Node) {
			n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindAPIServer, Served: true})
		}))
	var out bytes.Buffer
	if err := report.Expiry(&out, s); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "355d") {
		t.Errorf("got %q", got)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := report.JSON(&out, diagnosis.Diagnose(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))), diagnosis.DefaultThresholds())); err != nil {
		t.Fatal(err)
	}
	golden(t, "diagnosis.json", out.String())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

// Who cannot be told is known to the caller.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	s := outage()
	d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	for name, err := range map[string]error{
		"diagnosis": report.Diagnosis(broken{}, d), "plan": report.Plan(broken{}, plan.Plan{}),
		"expiry": report.Expiry(broken{}, s), "json": report.JSON(broken{}, d),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
