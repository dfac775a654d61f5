package report_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
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

var update = flag.Bool("update", false, "write the golden files again")

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

// outage is a control plane all of whose certificates have expired, and a worker that cannot be
// inspected.
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
			p, err := plan.Make(tc.Single(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{Choice: plan.UpgradeCluster})
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
	p, err := plan.Make(tc.Single(), s, d, plan.Policy{Choice: plan.Auto})
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
		// Messages of others, and commands to type, stay on one line.
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

// A CA does not count, nor what a port serves, nor a node without any.
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

// assess does what diagnose does with a snapshot.
func assess(s snapshot.Snapshot) report.Assessment {
	d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	p, unplanned := plan.Make(s.Cluster(), s, d, plan.Policy{Choice: plan.Auto})
	return report.Assess(s, d, p, unplanned)
}

// probed makes the control node and every node ask the API of cp1.
func probed(s snapshot.Snapshot, driver, nodes snapshot.Probe) snapshot.Snapshot {
	s.Probes = []snapshot.Probe{driver}
	for i := range s.Nodes {
		s.Nodes[i].Probes = []snapshot.Probe{nodes}
	}
	return s
}

func TestAssessment(t *testing.T) {
	t.Parallel()
	refused := snapshot.Probe{Endpoint: "10.0.0.1:6443", Failed: snapshot.StageTCP, Error: "dial tcp 10.0.0.1:6443: connect: connection refused"}
	blocked := refused
	blocked.Error = "no answer within 5.0 s"
	fine := snapshot.Probe{Endpoint: "10.0.0.1:6443", NotAfter: tc.Now.Add(355 * tc.Day)}
	due := tc.Healthy(tc.ExternalEtcd(), tc.On("etcd1", tc.Expired(certs.KindEtcdMember), keyless))
	for name, s := range map[string]snapshot.Snapshot{
		"assessment-healthy.txt":   probed(tc.Healthy(tc.Single()), blocked, fine),
		"assessment-outage.txt":    probed(outage(), refused, refused),
		"assessment-refused.txt":   probed(tc.Healthy(tc.Single(), tc.On("cp1", tc.Refused())), blocked, refused),
		"assessment-unplanned.txt": due,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := assess(s).Text(&out); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

// A consequence of another finding is one line below its cause: on the same node if it is there,
// else anywhere; a finding without a cause here is listed itself.
func TestConsequencesAreFolded(t *testing.T) {
	t.Parallel()
	d := diagnosis.Diagnosis{Verdict: "bad", Route: diagnosis.Refuse, Findings: []diagnosis.Finding{
		{Reason: diagnosis.KubeletDown, Node: "cp1", Evidence: "it stopped"},
		{Reason: diagnosis.KubeletDown, Node: "w1"},
		{Reason: diagnosis.NodeNotReady, Node: "w1", Subject: "w1", Because: diagnosis.KubeletDown},
		{Reason: diagnosis.StaticPodNotReady, Node: "cp9", Subject: "kube-scheduler", Because: diagnosis.KubeletDown},
		{Reason: diagnosis.NodeNotReady, Node: "w2", Subject: "w2", Because: diagnosis.ClockSkew},
	}}
	var out bytes.Buffer
	if err := report.Diagnosis(&out, d); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "[") && !strings.Contains(line, "next:") {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	for i, want := range []string{"critical cp1: ", "         + cp9: ", "critical w1: ", "         + w1: ", "critical w2: "} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("line %d is not %q:\n%s", i, want, out.String())
		}
	}
	if len(lines) != 5 {
		t.Errorf("%d findings:\n%s", len(lines), out.String())
	}
}

// Two hundred nodes with the same finding are one finding to read.
func TestManyNodesAreOneFinding(t *testing.T) {
	t.Parallel()
	d := diagnosis.Diagnosis{Verdict: "bad"}
	for i := range 200 {
		node := fmt.Sprintf("w%d", i+1)
		d.Findings = append(d.Findings, diagnosis.Finding{Reason: diagnosis.KubeletClientExpired, Node: node, Subject: "kubelet-client-current.pem", Evidence: node + " has ended"})
	}
	var out bytes.Buffer
	if err := report.Diagnosis(&out, d); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "[kubelet-client-certificate-expired]") != 1 || !strings.Contains(got, " w1, w2, w3, w4, w5, w6, w7, w8 and 192 more: ") ||
		!strings.Contains(got, "| on w1: w1 has ended") || strings.Count(got, "kubelet-client-current.pem") != 1 {
		t.Errorf("%s", got)
	}
}

// Two hundred nodes that see the same are one line.
func TestReachIsJoined(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single())
	for i := range 200 {
		n := s.Nodes[1]
		n.Name = fmt.Sprintf("w%d", i+2)
		s.Nodes = append(s.Nodes, n)
	}
	a := assess(probed(s, snapshot.Probe{Endpoint: "api:6443", Failed: snapshot.StageTCP, Error: "no answer within 5.0 s"}, snapshot.Probe{Endpoint: "api:6443"}))
	if len(a.Reach) != 2 || len(a.Reach[1].From) != 202 {
		t.Fatalf("%+v", a.Reach)
	}
	var out bytes.Buffer
	if err := a.Text(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "and 194 more") || strings.Contains(out.String(), "w100") {
		t.Errorf("%s", out.String())
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := probed(tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))), snapshot.Probe{Endpoint: "10.0.0.1:6443"}, snapshot.Probe{Endpoint: "10.0.0.1:6443"})
	if err := report.JSON(&out, assess(s)); err != nil {
		t.Fatal(err)
	}
	golden(t, "diagnosis.json", out.String())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

// The caller gets write errors.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	s := outage()
	d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	for name, err := range map[string]error{
		"diagnosis": report.Diagnosis(broken{}, d), "plan": report.Plan(broken{}, plan.Plan{}),
		"expiry": report.Expiry(broken{}, s), "json": report.JSON(broken{}, d), "assessment": assess(s).Text(broken{}), "runbook": report.Runbook(broken{}, s, assess(s), hand),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
