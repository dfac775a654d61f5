package plan_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func ids(p plan.Plan) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, s.ID)
	}
	return out
}

// The last node changed is the first restored; gates are only for what held before the run.
func TestRollback(t *testing.T) {
	t.Parallel()
	expiring := tc.Healthy(tc.HA(), tc.On("cp1,cp2,cp3", tc.EndsIn(tc.Day, certs.KindAPIServer)))
	expired := tc.Healthy(tc.HA(), tc.On("cp1,cp2,cp3", tc.Expired(certs.KindAdmin, certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)))
	worker := tc.Healthy(tc.HA(), tc.On("w1", tc.Expired(certs.KindKubeletClient)))
	for _, row := range []struct {
		name          string
		before        snapshot.Snapshot
		touched, only []string
		steps         []string
		warnings      int
		interruption  string
	}{
		{name: "nothing was changed", before: expiring, interruption: "none"},
		{
			name: "a renewal", before: expiring, touched: []string{"cp1", "cp2", "cp3"}, interruption: "restarts once",
			steps: []string{"01-backup", "02-rollback-cp3", "03-gate-api-server-cp3", "04-rollback-cp2", "05-gate-api-server-cp2", "06-rollback-cp1", "07-gate-api-server-cp1", "08-gate-cluster"},
		},
		{
			name: "a renewal that came as far as its first node", before: expiring, touched: []string{"cp1"}, interruption: "restarts once",
			steps: []string{"01-backup-cp1", "02-rollback-cp1", "03-gate-api-server-cp1", "04-gate-cluster"},
		},
		{
			name: "one node of a renewal", before: expiring, touched: []string{"cp1", "cp2"}, only: []string{"cp1"}, interruption: "restarts once",
			steps: []string{"01-backup-cp1", "02-rollback-cp1", "03-gate-api-server-cp1", "04-gate-cluster"},
		},
		{
			name: "a recovery: what did not work is waited for without success", before: expired, touched: []string{"cp1", "cp2"}, warnings: 2, interruption: "as unusable as it was",
			steps: []string{"01-backup", "02-rollback-cp2", "03-rollback-cp1"},
		},
		{
			name: "a worker whose kubelet was out, under an API server that was not", before: worker, touched: []string{"cp1", "w1"}, warnings: 1, interruption: "restarts once",
			steps: []string{"01-backup", "02-rollback-w1", "03-rollback-cp1", "04-gate-api-server-cp1"},
		},
		{
			name: "a worker that was sound", before: expiring, touched: []string{"w1"}, interruption: "none: no API server",
			steps: []string{"01-backup-w1", "02-rollback-w1", "03-gate-kubelets-w1", "04-gate-cluster"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, err := plan.Rollback(tc.HA(), plan.Undo{
				Run: "first", Touched: row.touched, Only: row.only, Before: row.before, Now: tc.Now,
				Diagnosis: diagnosis.Diagnose(row.before, diagnosis.DefaultThresholds()),
			})
			if err != nil || p.Undoes != "first" || !reflect.DeepEqual(ids(p), row.steps) {
				t.Errorf("%v, %v; want %v", ids(p), err, row.steps)
			}
			if len(p.Warnings) != row.warnings || !strings.Contains(p.Interruption, row.interruption) {
				t.Errorf("warnings %q, interruption %q", p.Warnings, p.Interruption)
			}
			if len(p.Steps) > 0 && !reflect.DeepEqual(p.Steps[0].Action, plan.Backup) {
				t.Error("nothing is backed up first")
			}
		})
	}
}

// Certificates that have expired since the run are warned about by the rollback's time, not the
// run's.
func TestRollbackWarnsOfWhatHasEndedSince(t *testing.T) {
	t.Parallel()
	before := tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)))
	undo := plan.Undo{Run: "first", Touched: []string{"cp1"}, Before: before, Diagnosis: diagnosis.Diagnose(before, diagnosis.DefaultThresholds())}
	undo.Now = tc.Now
	if p, err := plan.Rollback(tc.Single(), undo); err != nil || len(p.Warnings) != 0 {
		t.Errorf("%v %v", p.Warnings, err)
	}
	undo.Now = tc.Now.Add(2 * tc.Day)
	want := []string{"what is restored on cp1 has expired: admin.conf"}
	if p, err := plan.Rollback(tc.Single(), undo); err != nil || !reflect.DeepEqual(p.Warnings, want) {
		t.Errorf("%v %v", p.Warnings, err)
	}
}

func TestRollbackRefuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		c    cluster.Cluster
		undo plan.Undo
		want string
	}{
		"a node that was not changed":     {tc.Single(), plan.Undo{Run: "r", Touched: []string{"cp1"}, Only: []string{"w1"}}, "run r changed nothing on w1: it changed cp1"},
		"a node of a run without changes": {tc.Single(), plan.Undo{Run: "r", Only: []string{"w1"}}, "run r changed nothing on w1: it changed no node"},
		"a node that is gone":             {tc.Single(), plan.Undo{Run: "r", Touched: []string{"cp9"}}, "run r changed cp9, which is no longer in the inventory: put it back there, or name the others with --node"},
	} {
		var unsupported *plan.UnsupportedError
		if _, err := plan.Rollback(row.c, row.undo); !errors.As(err, &unsupported) || err.Error() != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A plan lists what it had to be made without knowing.
func TestUnknown(t *testing.T) {
	t.Parallel()
	members := tc.On("cp1", func(n *snapshot.Node) {
		n.Etcd = &snapshot.Etcd{Healthy: true, Members: []snapshot.EtcdMember{{ID: "1", Name: "cp1"}}}
	})
	for _, row := range []struct {
		name string
		edit tc.Edit
		want []string
	}{
		{"everything is known", func(*snapshot.Snapshot) {}, nil},
		{"a node", tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route to host")), []string{"w1: nothing is known of it (no route to host)"}},
		{"which nodes there are", tc.On("cp1", func(n *snapshot.Node) { n.View.Nodes = nil }), []string{"which nodes the cluster has that are not in the inventory: no API server answered"}},
		{
			"what the inventory does not name",
			func(s *snapshot.Snapshot) {
				tc.View(func(v *snapshot.View) {
					v.Nodes["cp9"], v.Nodes["w9"], v.ControlPlanes = "True", "True", []string{"cp9"}
				})(s)
				tc.On("cp1", func(n *snapshot.Node) {
					n.Etcd.Members = append(n.Etcd.Members, snapshot.EtcdMember{ID: "9", Name: "etcd9"})
				})(s)
			},
			[]string{"the state of what the inventory does not name: cp9 (control plane), w9 (worker), etcd9 (etcd member)"},
		},
		{"etcd", tc.On("cp1", func(n *snapshot.Node) { n.Etcd = nil }), []string{"which members etcd has: none of cp1 answered"}},
		{
			"a certificate of someone else",
			tc.On("cp1", func(n *snapshot.Node) {
				n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindUnknown, Path: "/etc/kubernetes/ssl/mine.crt"})
			}),
			[]string{"cp1: the purpose of these certificates, so no step renews them: /etc/kubernetes/ssl/mine.crt"},
		},
		{
			"the view from outside",
			func(s *snapshot.Snapshot) {
				s.Probes = []snapshot.Probe{{Endpoint: "lb:6443", Failed: snapshot.StageTCP}, {Endpoint: "cp1:6443", Failed: snapshot.StageReadyz}}
			},
			[]string{"what clients outside see: this machine reaches no API endpoint at lb:6443"},
		},
	} {
		s := tc.Healthy(tc.Single(), members, row.edit)
		p, err := plan.Make(tc.Single(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{Choice: plan.Auto})
		if err != nil || !reflect.DeepEqual(p.Unknown, row.want) {
			t.Errorf("%s: %q %v, want %q", row.name, p.Unknown, err, row.want)
		}
	}
}
