package plan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// keysLost takes the keys of the CAs off all control planes.
func keysLost() tc.Edit {
	return tc.On("cp1,cp2,cp3", func(n *snapshot.Node) {
		tc.Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindCA, certs.KindFrontProxyCA)(n)
		delete(n.Digests, tc.PKI+"/ca.key")
		delete(n.Digests, tc.PKI+"/front-proxy-ca.key")
	})
}

func expiredEverywhere() tc.Edit {
	return tc.Everywhere(func(n *snapshot.Node) {
		if n.Is(cluster.ControlPlane) {
			tc.Expired(certs.KindAdmin, certs.KindAPIServer)(n)
			tc.Unusable(1, tc.SaysExpired)(n)
		}
	})
}

// CAs are replaced on control planes, then on workers, whose kubelets are enrolled again; then comes what the
// cluster publishes, and the proof.
func TestReplaceAtOnce(t *testing.T) {
	t.Parallel()
	replaced := func(first string) []string {
		return []string{
			"~01-backup [cp1 cp2 cp3 w1]", first,
			"~03-ca-rotate-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "~05-ca-rotate-cp2 [cp2]", "06-gate-api-server-cp2 [cp2]",
			"~07-ca-rotate-cp3 [cp3]", "08-gate-api-server-cp3 [cp3]", "~09-ca-rotate-w1 [w1]", "~10-ca-rotate-w1 [w1]", "11-gate-kubelets-w1 [w1]",
			"~12-ca-publish-cp1 [cp1]", "~13-ca-rotate-cp1 [cp1]", "~14-ca-rotate [cp1 cp2 cp3] 3 at once", "15-gate-cluster [cp1 cp2 cp3 w1]",
		}
	}
	stages := []diagnosis.Stage{"", diagnosis.StageMake, diagnosis.StageReplace, "", diagnosis.StageReplace, "", diagnosis.StageReplace, "", diagnosis.StageReplace, diagnosis.StageEnroll, "", diagnosis.StageReplace, diagnosis.StageRepair, diagnosis.StageFinish, ""}
	for name, row := range map[string]struct {
		edits   []tc.Edit
		policy  plan.Policy
		warning string
	}{
		"healthy":          {nil, plan.Policy{}, "the cluster is healthy: kscertctl ca rotate without --strategy"},
		"a lost key":       {[]tc.Edit{keysLost()}, plan.Policy{RestartWorkloads: plan.RestartNone}, "no pod restarts"},
		"all have expired": {[]tc.Edit{keysLost(), expiredEverywhere()}, plan.Policy{RestartWorkloads: plan.RestartAll, PatchBundles: true}, "all pods that started"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), append([]tc.Edit{rotating(0)}, row.edits...)...)
			row.policy.RotateCAs, row.policy.RotateStage, row.policy.CAValidity = plan.RotatedCAs(), diagnosis.StageReplace, time.Hour
			p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), row.policy)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := lines(p), replaced("~02-ca-rotate [cp1 cp2 cp3] 3 at once"); !slices.Equal(got, want) {
				t.Errorf("steps are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
			}
			if cas, stage := p.Rotates(); len(cas) != 2 || stage != diagnosis.StageReplace || !p.ReplacesAtOnce() || p.Route != diagnosis.RotateCAs || !strings.Contains(strings.Join(p.Warnings, "\n"), row.warning) {
				t.Errorf("%v %q %s %q", cas, stage, p.Route, p.Warnings)
			}
			for i, step := range p.Steps {
				vars := step.Variables(plan.Settings{Run: "r"})
				if step.Stage != stages[i] || step.Stage != "" && vars["kscert_ca_stage"] != step.Stage {
					t.Errorf("%s: stage %q, %v", step.ID, step.Stage, vars)
				}
				switch {
				case step.Stage == diagnosis.StageMake && (vars["kscert_ca_offline"] != true || vars["kscert_ca_seconds"] != int64(3600)),
					step.Stage == diagnosis.StageRepair && (vars["kscert_patch_ca_bundles"] != row.policy.PatchBundles || vars["kscert_restart_workloads"] == ""):
					t.Errorf("%s: %v", step.ID, vars)
				}
			}
		})
	}
}

// The literal procedure has one control plane, and the same steps from its CAs on.
func TestReplaceLiterally(t *testing.T) {
	t.Parallel()
	c := tc.Single()
	s := tc.Healthy(c, rotating(0))
	p, err := plan.Make(c, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: diagnosis.StageLiteral})
	if err != nil {
		t.Fatal(err)
	}
	if _, stage := p.Rotates(); stage != diagnosis.StageLiteral || p.Steps[1].Stage != diagnosis.StageLiteral || p.Steps[2].Stage != diagnosis.StageReplace {
		t.Errorf("stage %q: %q", stage, lines(p))
	}
	if !strings.Contains(strings.Join(p.Warnings, "\n"), "what the literal procedure does, and kscertctl ca rotate would not") {
		t.Errorf("%q", p.Warnings)
	}
	back, err := plan.Rollback(c, plan.Undo{Run: "first", Plan: p, Published: true, Touched: cluster.Names(c.Nodes), Before: s, Now: tc.Now, Diagnosis: diagnosis.Diagnose(s, diagnosis.DefaultThresholds())})
	if err != nil || !back.ReplacesAtOnce() {
		t.Fatal(err, lines(back))
	}
	got := ids(back)
	if first := slices.Index(got, "02-rollback-"+c.Nodes[0].Name); first < 0 || !strings.HasPrefix(got[len(got)-2], "0") || back.Steps[len(back.Steps)-2].Stage != diagnosis.StageRepair || back.Steps[len(back.Steps)-3].Stage != diagnosis.StageReplace {
		t.Errorf("%q", got)
	}
	var unsupported *plan.UnsupportedError
	if _, err := plan.Rollback(c, plan.Undo{Run: "first", Plan: p, Only: []string{c.Nodes[0].Name}, Touched: cluster.Names(c.Nodes), Before: s}); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "would be cut off") {
		t.Errorf("one node: %v", err)
	}
}

// CAs are replaced at once only where what is cut off can be repaired.
func TestReplaceAtOnceRefuses(t *testing.T) {
	t.Parallel()
	literal := plan.Policy{RotateStage: diagnosis.StageLiteral}
	for name, row := range map[string]struct {
		edits  []tc.Edit
		policy plan.Policy
		why    string
	}{
		"literally, on three":          {nil, literal, "the others would be cut off"},
		"on some nodes":                {nil, plan.Policy{Limit: []string{"cp1"}}, "omit --limit"},
		"a key that is elsewhere":      {[]tc.Edit{func(s *snapshot.Snapshot) { s.ExternalCA = true }}, plan.Policy{}, "kube_external_ca_mode"},
		"of etcd":                      {nil, plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}}, "rotated in stages alone"},
		"a node that is not inspected": {[]tc.Edit{tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route"))}, plan.Policy{}, "--allow-unreachable w1"},
		"a control plane left out":     {[]tc.Edit{tc.On("cp3", tc.Unknown(snapshot.Unreachable, "no route")), tc.Gone("cp3")}, plan.Policy{}, "cp3 is left out"},
		"a rotation under way":         {[]tc.Edit{rotating(3)}, plan.Policy{}, `has reached the stage "clients"`},
		"another file to sign with":    {[]tc.Edit{tc.Everywhere(tc.Signing("own.crt"))}, plan.Policy{}, "signs with " + tc.PKI + "/own.crt"},
		"an outage of another cause":   {[]tc.Edit{tc.On("cp1", tc.Unusable(1, "no one knows why"))}, plan.Policy{}, "only where nothing else is wrong"},
		"etcd's CA has expired, too":   {[]tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindEtcdHostCA))}, plan.Policy{}, "has expired, too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), append([]tc.Edit{rotating(0)}, row.edits...)...)
			if row.policy.RotateCAs == nil {
				row.policy.RotateCAs = plan.RotatedCAs()
			}
			if row.policy.RotateStage == "" {
				row.policy.RotateStage = diagnosis.StageReplace
			}
			p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), row.policy)
			var unsupported *plan.UnsupportedError
			if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), row.why) || len(p.Steps) > 0 {
				t.Errorf("%v, want an UnsupportedError with %q", err, row.why)
			}
		})
	}
	// A worker that is left out is named.
	s := tc.Healthy(tc.HA(), rotating(0), tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route")), tc.Gone("w1"))
	p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: diagnosis.StageReplace})
	if err != nil || !strings.Contains(strings.Join(p.Warnings, "\n"), "w1 is left out and keeps the former CA") {
		t.Errorf("%v %q", err, p.Warnings)
	}
}
