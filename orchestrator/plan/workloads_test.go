package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Before a CA is dropped, pods that may know it alone are named: those that started before all trusted
// both, not before the next one was made; or their controllers restart them first.
func TestRestartWorkloads(t *testing.T) {
	t.Parallel()
	trusted := tc.Now.Add(-time.Hour)
	pods := tc.On("w1", func(n *snapshot.Node) {
		n.Trust = append(n.Trust, snapshot.Trust{By: snapshot.Pod, In: []string{"a/old", "a/between", "a/new", "a/unknown"},
			CAs: []certs.Certificate{tc.CA(certs.KindCA, tc.Next)},
			Started: map[string]time.Time{
				"a/old": trusted.Add(-tc.Day * 100), "a/between": trusted.Add(time.Minute), "a/new": trusted.Add(3 * time.Minute),
			}})
	})
	since := tc.On("cp2", func(n *snapshot.Node) { n.Facts[snapshot.TrustedSinceFact] = fmt.Sprint(trusted.Unix()) })
	for name, row := range map[string]struct {
		edits   []tc.Edit
		restart plan.Restart
		warning string
		step    bool
	}{
		"named":              {[]tc.Edit{pods, since}, "", "restart these pods on w1 before, unless they read their CA again while they run (as client-go from Kubernetes 1.36 on), or have their controllers do it (--restart-workloads listed): a/between, a/old, a/unknown", false},
		"since no one knows": {[]tc.Edit{pods}, plan.RestartNone, "a/between, a/new, a/old, a/unknown", false},
		"restarted":          {[]tc.Edit{pods, since}, plan.RestartListed, "pods on w1 that know only the former CA are restarted by their controllers", true},
		"all":                {[]tc.Edit{since}, plan.RestartAll, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), append([]tc.Edit{rotating(4)}, row.edits...)...)
			p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()),
				plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: diagnosis.StageDrop, RestartWorkloads: row.restart})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(p.Warnings, "\n"); !strings.Contains(got, row.warning) {
				t.Errorf("warnings are\n%s\nwant %s", got, row.warning)
			}
			i := slices.IndexFunc(p.Steps, func(step plan.Step) bool { return step.Restart != "" })
			if (i >= 0) != row.step {
				t.Fatalf("steps are %q", lines(p))
			}
			if _, stage := p.Rotates(); stage != diagnosis.StageDrop { // which the last gate proves
				t.Errorf("it takes the stage %q", stage)
			}
			if row.step {
				vars := p.Steps[i].Variables(plan.Settings{})
				if i != 1 || vars["kscert_restart_workloads"] != row.restart || vars["kscert_ca_stage"] != diagnosis.StageRestart {
					t.Errorf("step %d has %v", i, vars)
				}
			}
		})
	}
	// A network plugin with etcd as its datastore reads etcd's CA only when it starts.
	calico := tc.On("w1", func(n *snapshot.Node) {
		n.Certificates = append(n.Certificates, certs.Certificate{Kind: "calico-etcd-client", Path: "/etc/calico/certs/cert.crt", NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(365 * tc.Day), SignedBy: certs.EtcdHostCA})
	})
	withEtcd := tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindEtcdHostCA, 2)), calico)
	ofPlugin, err := plan.Make(tc.HA(), withEtcd, diagnosis.Diagnose(withEtcd, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}, RotateStage: diagnosis.StageClients})
	if err != nil || !strings.Contains(strings.Join(ofPlugin.Warnings, "\n"), "restart the network plugin's pod on w1 after this stage") {
		t.Errorf("%v: %q", err, ofPlugin.Warnings)
	}
	// No other stage restarts any.
	s := tc.Healthy(tc.HA(), rotating(1), pods)
	p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()),
		plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: diagnosis.StageTrust, RestartWorkloads: plan.RestartAll})
	if err != nil || slices.ContainsFunc(p.Steps, func(step plan.Step) bool { return step.Restart != "" }) {
		t.Errorf("%v: %q", err, lines(p))
	}
}
