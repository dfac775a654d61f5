package plan_test

import (
	"errors"
	"fmt"
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

// rotating is a cluster after so many stages of a rotation of both CAs.
func rotating(stages int) tc.Edit {
	return tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, stages), tc.Rotating(certs.KindFrontProxyCA, stages))
}

// without removes the certificates of a kind.
func without(kind certs.Kind) tc.NodeEdit {
	return func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == kind })
	}
}

// Each stage of a rotation takes control planes one by one, then workers, and ends with a proof.
func TestRotate(t *testing.T) {
	t.Parallel()
	each := []string{
		"~02-ca-rotate-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-ca-rotate-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
		"~06-ca-rotate-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]",
	}
	for i, row := range []struct {
		stage   diagnosis.Stage
		steps   []string
		warning string
	}{
		{diagnosis.StageMake, []string{"~01-backup [cp1 cp2 cp3]", "~02-ca-rotate [cp1 cp2 cp3] 3 at once", "03-gate-cluster [cp1 cp2 cp3 w1]"}, ""},
		{diagnosis.StageTrust, slices.Concat([]string{"~01-backup [cp1 cp2 cp3 w1]"}, each, []string{
			"~08-ca-rotate-w1 [w1]", "09-gate-kubelets-w1 [w1]", "~10-ca-publish-cp1 [cp1]", "~11-ca-rotate-cp1 [cp1]", "12-gate-cluster [cp1 cp2 cp3 w1]"}), ""},
		{diagnosis.StageClients, slices.Concat([]string{"~01-backup [cp1 cp2 cp3 w1]"}, each, []string{
			"~08-ca-rotate-w1 [w1]", "09-gate-kubelets-w1 [w1]", "10-gate-cluster [cp1 cp2 cp3 w1]"}), ""},
		{diagnosis.StageServers, slices.Concat([]string{"~01-backup [cp1 cp2 cp3]"}, each, []string{
			"~08-ca-publish-cp1 [cp1]", "09-gate-cluster [cp1 cp2 cp3 w1]"}), "no rollback leads behind it"},
		{diagnosis.StageDrop, slices.Concat([]string{"~01-backup [cp1 cp2 cp3 w1]"}, each, []string{
			"~08-ca-rotate-w1 [w1]", "09-gate-kubelets-w1 [w1]", "~10-ca-publish-cp1 [cp1]", "~11-ca-rotate [cp1 cp2 cp3] 3 at once", "12-gate-cluster [cp1 cp2 cp3 w1]"}), "work no more"},
	} {
		t.Run(string(row.stage), func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), rotating(i))
			if next := plan.NextStage(s, plan.RotatedCAs()); next != row.stage {
				t.Errorf("the next stage is %q", next)
			}
			p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: row.stage, CAValidity: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(p); !slices.Equal(got, row.steps) {
				t.Errorf("steps are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(row.steps, "\n  "))
			}
			cas, stage := p.Rotates()
			if p.Route != diagnosis.RotateCAs || stage != row.stage || len(cas) != 2 || !strings.Contains(strings.Join(p.Warnings, "\n"), row.warning) {
				t.Errorf("route %s, stage %q, CAs %v, warnings %q", p.Route, stage, cas, p.Warnings)
			}
			for _, step := range p.Steps {
				vars := step.Variables(plan.Settings{Run: "r"})
				if step.Action != plan.CARotate {
					continue
				}
				next, _ := vars["kscert_ca_want"].(map[certs.Authority]string)
				if i > 0 && next[certs.KubernetesCA] != tc.CA(certs.KindCA, tc.Next).Fingerprint || i == 0 && vars["kscert_ca_seconds"] != int64(3600) {
					t.Errorf("%s: %v", step.ID, vars)
				}
			}
		})
	}
}

// A rotation of etcd's CA restarts members and API servers at two stages, one after another behind the gate
// of etcd; its next key is made where the present one is.
func TestRotateEtcd(t *testing.T) {
	t.Parallel()
	each := []string{
		"~02-ca-rotate-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-etcd [cp1 cp2 cp3]", "~05-ca-rotate-cp2 [cp2]", "06-gate-api-server-cp2 [cp2]",
		"07-gate-etcd [cp1 cp2 cp3]", "~08-ca-rotate-cp3 [cp3]", "09-gate-api-server-cp3 [cp3]",
	}
	apart := []string{
		"~02-ca-rotate-etcd1 [etcd1]", "03-gate-etcd [etcd1 etcd2 etcd3]", "~04-ca-rotate-etcd2 [etcd2]", "05-gate-etcd [etcd1 etcd2 etcd3]",
		"~06-ca-rotate-etcd3 [etcd3]", "07-gate-etcd [etcd1 etcd2 etcd3]", "~08-ca-rotate-cp1 [cp1]", "09-gate-api-server-cp1 [cp1]",
	}
	lacking := tc.On("etcd3", tc.Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindEtcdHostCA))
	for _, row := range []struct {
		cluster  cluster.Cluster
		edit     tc.Edit
		stage    diagnosis.Stage
		steps    []string
		restarts bool
	}{
		{tc.HA(), nil, diagnosis.StageMake, []string{"~01-backup [cp1 cp2 cp3]", "~02-ca-rotate [cp1 cp2 cp3] 3 at once", "03-gate-cluster [cp1 cp2 cp3 w1]"}, false},
		{tc.HA(), nil, diagnosis.StageTrust, slices.Concat([]string{"~01-backup [cp1 cp2 cp3]"}, each, []string{"~10-ca-rotate [cp1 cp2 cp3] 3 at once", "11-gate-cluster [cp1 cp2 cp3 w1]"}), true},
		{tc.HA(), nil, diagnosis.StageClients, slices.Concat([]string{"~01-backup [cp1 cp2 cp3]"}, each, []string{"10-gate-cluster [cp1 cp2 cp3 w1]"}), false},
		{tc.HA(), nil, diagnosis.StageServers, slices.Concat([]string{"~01-backup [cp1 cp2 cp3]"}, each, []string{"10-gate-cluster [cp1 cp2 cp3 w1]"}), false},
		{tc.HA(), nil, diagnosis.StageDrop, slices.Concat([]string{"~01-backup [cp1 cp2 cp3]"}, each, []string{"~10-ca-rotate [cp1 cp2 cp3] 3 at once", "11-gate-cluster [cp1 cp2 cp3 w1]"}), true},
		{tc.EtcdNodes(), lacking, diagnosis.StageMake, []string{"~01-backup [etcd1 etcd2]", "~02-ca-rotate [etcd1 etcd2] 2 at once", "03-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]"}, false},
		{tc.EtcdNodes(), lacking, diagnosis.StageDrop, slices.Concat([]string{"~01-backup [cp1 etcd1 etcd2 etcd3]"}, apart, []string{"~10-ca-rotate [etcd1 etcd2] 2 at once", "11-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]"}), true},
	} {
		t.Run(fmt.Sprintf("%s of %d", row.stage, len(row.cluster.Nodes)), func(t *testing.T) {
			t.Parallel()
			before := slices.Index(diagnosis.Stages(), row.stage)
			s := tc.Healthy(row.cluster, tc.Everywhere(tc.Rotating(certs.KindEtcdHostCA, before)))
			if row.edit != nil {
				row.edit(&s)
			}
			p, err := plan.Make(row.cluster, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}, RotateStage: row.stage})
			if err != nil {
				t.Fatal(err)
			}
			signs := " signed by " + row.cluster.With(cluster.Etcd)[0].Name
			if got := strings.ReplaceAll(strings.Join(lines(p), "\n"), signs, ""); got != strings.Join(row.steps, "\n") {
				t.Errorf("steps are\n%s\nwant\n%s", got, strings.Join(row.steps, "\n"))
			}
			if restarts := !strings.Contains(p.Interruption, "no API server restarts"); restarts != row.restarts {
				t.Errorf("interruption: %s", p.Interruption)
			}
			for _, step := range p.Steps {
				if vars := step.Variables(plan.Settings{Run: "r"}); step.Action == plan.CARotate && vars["kscert_etcd_signer"] != row.cluster.With(cluster.Etcd)[0].Name {
					t.Errorf("%s: %v", step.ID, vars)
				}
			}
		})
	}
}

// A rotation begins only where it can be finished, takes its stages in order, and cuts no one off.
func TestRotateRefuses(t *testing.T) {
	t.Parallel()
	trusting := func(by snapshot.Truster, variant string) tc.Edit {
		return tc.On("cp1", func(n *snapshot.Node) {
			ca := tc.CA(certs.KindCA, variant)
			n.Trust = append(n.Trust, snapshot.Trust{By: by, In: []string{"hook"}, CAs: []certs.Certificate{ca}})
		})
	}
	for name, row := range map[string]struct {
		edits  []tc.Edit
		policy plan.Policy
		why    string
	}{
		"on some nodes":                {[]tc.Edit{rotating(0)}, plan.Policy{Limit: []string{"cp1"}, RotateStage: diagnosis.StageMake}, "omit --limit"},
		"an etcd of someone else":      {[]tc.Edit{rotating(0), tc.Everywhere(without(certs.KindEtcdHostCA))}, plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}, RotateStage: diagnosis.StageMake}, "no node has a certificate of that CA"},
		"etcd's key that is nowhere":   {[]tc.Edit{rotating(0), tc.On("cp1,cp2,cp3", tc.Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindEtcdHostCA))}, plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}, RotateStage: diagnosis.StageMake}, "the key of etcd-host-ca is on no node"},
		"no member to spare":           {[]tc.Edit{tc.Everywhere(tc.Rotating(certs.KindEtcdHostCA, 1)), tc.On("cp3", func(n *snapshot.Node) { n.Etcd.Healthy = false })}, plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}, RotateStage: diagnosis.StageTrust}, "would lose the quorum"},
		"a key that is elsewhere":      {[]tc.Edit{rotating(0), func(s *snapshot.Snapshot) { s.ExternalCA = true }}, plan.Policy{RotateStage: diagnosis.StageMake}, "kube_external_ca_mode"},
		"a key that one lacks":         {[]tc.Edit{rotating(0), tc.On("cp3", tc.Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindCA))}, plan.Policy{RotateStage: diagnosis.StageMake}, "is not on cp3"},
		"another file to sign with":    {[]tc.Edit{rotating(0), tc.Everywhere(tc.Signing("own.crt"))}, plan.Policy{RotateStage: diagnosis.StageMake}, "signs with " + tc.PKI + "/own.crt"},
		"a node that is not inspected": {[]tc.Edit{rotating(0), tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route"))}, plan.Policy{RotateStage: diagnosis.StageMake}, "nothing is known of w1"},
		"a node that is left out":      {[]tc.Edit{rotating(0), tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route")), tc.Gone("w1")}, plan.Policy{RotateStage: diagnosis.StageMake}, "nothing is known of w1"},
		"a stage too far":              {[]tc.Edit{rotating(2)}, plan.Policy{RotateStage: diagnosis.StageServers}, `the next stage is "clients", and not "servers"`},
		"a stage again":                {[]tc.Edit{rotating(3)}, plan.Policy{RotateStage: diagnosis.StageTrust}, `the next stage is "servers"`},
		"certificates that are due":    {[]tc.Edit{rotating(0), tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotAfter = tc.Now.Add(tc.Day) }, certs.KindAPIServer))}, plan.Policy{RotateStage: diagnosis.StageMake}, "certificates are due"},
		"no key of etcd's CA any more": {[]tc.Edit{tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindEtcdHostCA, 2)), tc.On("cp1,cp2,cp3", tc.Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindEtcdHostCA))},
			plan.Policy{RotateCAs: []plan.CA{plan.EtcdCA}, RotateStage: diagnosis.StageClients}, "the key of etcd-host-ca is on no node"},
		"a control plane that joined between stages": {[]tc.Edit{rotating(3), tc.On("cp3", func(n *snapshot.Node) {
			n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindCANext || c.Kind == certs.KindCAFormer })
		})}, plan.Policy{RotateCAs: []plan.CA{plan.ClusterCA}, RotateStage: diagnosis.StageMake}, "cp3 has joined while kubernetes-ca is rotated: copy the files of the rotation"},
		"a webhook of the former CA": {[]tc.Edit{rotating(4), trusting(snapshot.Webhook, "")}, plan.Policy{RotateStage: diagnosis.StageDrop}, "cp1: caBundle of webhook hook still trusts the CA that is dropped"},
		"a kubelet that serves one": {[]tc.Edit{rotating(0), tc.On("w1", func(n *snapshot.Node) {
			n.Facts["kubelet.serverTLSBootstrap"] = "true"
			n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindKubeletServer, Path: tc.KubeletPKI + "/kubelet-server-current.pem",
				NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(355 * tc.Day), SignedBy: certs.KubernetesCA, Signers: []string{tc.CA(certs.KindCA, "").SignsAs()}})
		})}, plan.Policy{RotateStage: diagnosis.StageMake}, "kubelet-server-current.pem is a serving certificate that no stage issues again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), row.edits...)
			if row.policy.RotateCAs == nil {
				row.policy.RotateCAs = plan.RotatedCAs()
			}
			p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), row.policy)
			var unsupported *plan.UnsupportedError
			if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), row.why) || len(p.Steps) > 0 {
				t.Errorf("%v, want an UnsupportedError with %q", err, row.why)
			}
		})
	}
	// A webhook of the former CA is no reason to refuse an earlier stage, but named.
	s := tc.Healthy(tc.HA(), rotating(3), trusting(snapshot.Webhook, ""))
	if p, err := plan.Make(tc.HA(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{RotateCAs: plan.RotatedCAs(), RotateStage: diagnosis.StageServers}); err != nil || !strings.Contains(strings.Join(p.Warnings, "\n"), "cp1: caBundle of webhook hook still trusts the CA that is dropped") {
		t.Errorf("%v: %q", err, p.Warnings)
	}
}

// A rotation whose last step was stopped on some nodes is ended, and does not begin again.
func TestRotateFinishes(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.HA(), rotating(5), tc.On("cp1", func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool {
			row, _ := certs.Lookup(c.Kind)
			return row.CA && row.Copy
		})
	}))
	if next := plan.NextStage(s, plan.RotatedCAs()); next != diagnosis.StageDrop {
		t.Errorf("the next stage is %q", next)
	}
}
