package plan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Nodes that are left out are named and in no step. The others are worked on as far as etcd keeps its
// quorum without them, and the quorum counts them as down.
func TestNodesLeftOut(t *testing.T) {
	t.Parallel()
	due := tc.On("cp2", tc.EndsIn(tc.Day, certs.KindAdmin))
	outage := tc.On("cp1,cp2,cp3", tc.Expired(certs.KindAPIServer, certs.KindEtcdMember), tc.Unusable(1, tc.SaysExpired), tc.NoQuorum)
	for _, row := range []struct {
		name   string
		of     cluster.Cluster
		policy plan.Policy
		gone   string
		edits  []tc.Edit
		want   string // the refusal, or a part of it; empty: there is a plan
		route  diagnosis.Route
	}{
		{"a worker", tc.HA(), plan.Policy{}, "w1", []tc.Edit{due}, "", diagnosis.Renew},
		{"a control plane with a member of etcd", tc.HA(), plan.Policy{}, "cp1", []tc.Edit{due}, "", diagnosis.Renew},
		{"a control plane, with two etcd clusters", tc.HA(), plan.Policy{}, "cp1", []tc.Edit{tc.EtcdEvents, due}, "", diagnosis.Renew},
		{"a control plane in an outage", tc.HA(), plan.Policy{}, "cp3", []tc.Edit{outage}, "", diagnosis.Recover},
		{"two of three in an outage", tc.HA(), plan.Policy{}, "cp1,cp3", []tc.Edit{outage}, "etcd has 3 members, and without cp1, cp3 no quorum is left", ""},
		{"a member for which another would have to stop", tc.HA(), plan.Policy{}, "cp3", []tc.Edit{tc.On("cp1", tc.Renewed(certs.KindEtcdMember))},
			"etcd: 2 of 3 members healthy, quorum is 2; down: cp3: the plan restarts etcd on cp1, and a restart there would lose the quorum", ""},
		{"a worker, and a playbook for every node", tc.HA(), plan.Policy{Choice: plan.UpgradeCluster, Kubespray: &plan.Kubespray{Upgrade: "upgrade-cluster.yml"}}, "w1", []tc.Edit{due},
			"Kubespray's playbooks work on every node, and w1 cannot be reached", ""},
		{"a worker, and a CA to be renewed", tc.HA(), plan.Policy{RenewCAs: []plan.CA{plan.ClusterCA}}, "w1", nil, "nothing is known of w1", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, append(row.edits, tc.Gone(row.gone))...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(s.Cluster(), s, d, row.policy)
			if row.want != "" {
				var unsupported *plan.UnsupportedError
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v, want %q", err, row.want)
				}
				return
			}
			if err != nil || p.Route != row.route || len(p.Steps) == 0 {
				t.Fatalf("%v: route %s, %d steps: %s", err, p.Route, len(p.Steps), d.Verdict)
			}
			if !strings.Contains(strings.Join(p.Unknown, "\n"), row.gone+": left out with --allow-unreachable") {
				t.Errorf("the plan does not name %s: %q", row.gone, p.Unknown)
			}
			if slices.ContainsFunc(diagnosis.Strangers(s), func(diagnosis.Stranger) bool { return true }) {
				t.Errorf("not in the inventory: %v", diagnosis.Strangers(s))
			}
			for _, step := range p.Steps {
				if slices.Contains(step.Nodes, row.gone) {
					t.Errorf("step %s works on %s", step.ID, row.gone)
				}
			}
		})
	}
}

// A node that can be reached is never left out, whatever is named.
func TestReachableNodesStay(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.HA(), tc.On("w1", tc.Unknown(snapshot.Missing, "it was not asked")))
	if out := s.WithoutGone([]string{"cp1", "w1"}); len(out.Gone) > 0 || len(out.Nodes) != len(s.Nodes) {
		t.Errorf("left out: %v", out.Gone)
	}
}
