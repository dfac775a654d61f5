package plan_test

import (
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

// A problem from before that no step fixes is named in the plan, since its proof does not check for
// it; consequences of a certificate are not, nor problems elsewhere.
func TestPlanNamesWhatLasts(t *testing.T) {
	t.Parallel()
	const lasting = "no step fixes it, and the proof of the result does not require it: "
	balancer := func(s *snapshot.Snapshot) {
		s.Endpoint = "lb:8443"
		s.Probes = []snapshot.Probe{{Endpoint: "lb:8443", Failed: snapshot.StageTCP, Error: "refused"}, {Endpoint: "10.0.0.1:6443"}}
	}
	for _, row := range []struct {
		name  string
		edits []tc.Edit
		limit []string
		want  []string
	}{
		{"nothing", []tc.Edit{due}, nil, nil},
		{"a kubelet whose certificate has expired", []tc.Edit{due, workerOut}, nil, nil},
		{"a kubelet without its pair", []tc.Edit{due, tc.On("w1", tc.CrashLoop(), func(n *snapshot.Node) {
			n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindKubeletClient })
		})}, nil, nil},
		{"the outage of an expired certificate", []tc.Edit{out}, nil, nil},
		{"a worker that has not joined, and a recovery", []tc.Edit{tc.Unjoined("w1"), out}, nil,
			[]string{lasting + "the node has not joined the cluster (w1)"}},
		{"a worker that has not joined, and a renewal", []tc.Edit{tc.Unjoined("w1"), due}, nil,
			[]string{lasting + "the node has not joined the cluster (w1)"}},
		{"kubelets that someone has stopped", []tc.Edit{due, tc.On("cp2,w1", tc.CrashLoop())}, nil,
			[]string{lasting + "the kubelet is not running (cp2 kubelet.service, w1 kubelet.service)"}},
		{"a load balancer that is down", []tc.Edit{due, balancer}, nil,
			[]string{lasting + "the API servers answer, but the endpoint in front of them does not reach them (lb:8443)"}},
		{"on a node that is left out", []tc.Edit{due, tc.On("w1", tc.CrashLoop())}, []string{"cp1"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), row.edits...)
			p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{Limit: row.limit})
			if err != nil || len(p.Steps) == 0 || !slices.Equal(p.Warnings, row.want) {
				t.Errorf("%v, %d steps, warnings %q, want %q", err, len(p.Steps), p.Warnings, row.want)
			}
		})
	}
}

// What a run leaves as it is and may surprise later is named in the plan: Kubespray's own renewal
// timer, on or off, and nodes that were cordoned before.
func TestPlanNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	timer := func(state snapshot.TimerState) tc.Edit {
		return tc.On("cp1", func(n *snapshot.Node) { n.RenewalTimer = &snapshot.RenewalTimer{State: state} })
	}
	for _, row := range []struct {
		name string
		edit tc.Edit
		want string
	}{
		{"a timer that is on", timer(snapshot.TimerOn), "Kubespray's own renewal timer on cp1 is on: its next start is not known; the run holds it back"},
		{"a timer that is off", timer(snapshot.TimerOff), "Kubespray's own renewal timer on cp1 is off: it is not scheduled"},
		{"a timer that a run holds back", timer(snapshot.TimerHeld), "Kubespray's own renewal timer on cp1 is held: a run holds it back"},
		{"a cordoned node", tc.View(func(v *snapshot.View) { v.Unschedulable = []string{"w1"} }), "cordoned before the run and not uncordoned by it: w1"},
	} {
		s := tc.Healthy(tc.Single(), due, row.edit)
		p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
		if err != nil || !slices.Contains(p.Notes, row.want) {
			t.Errorf("%s: %v, %q, want %q", row.name, err, p.Notes, row.want)
		}
	}
}

// A member that is healthy and lists no members is not one that does not answer.
func TestPlanSaysWhyMembersAreNotKnown(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), due, tc.On("cp1", func(n *snapshot.Node) {
		n.Etcd = &snapshot.Etcd{Healthy: true, Error: "its gateway is switched off"}
	}))
	p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
	const want = "which members etcd has: none of cp1 answered; on cp1, its gateway is switched off"
	if err != nil || !slices.Contains(p.Unknown, want) {
		t.Errorf("%v: %q, want %q", err, p.Unknown, want)
	}
}

// A member of etcd that does not answer while others do is named, whatever is renewed.
func TestPlanNamesASilentMember(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.HA(), due, tc.On("cp3", tc.NoQuorum, func(n *snapshot.Node) { n.Etcd.Version = "3.5.9" }))
	p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
	const want = "no step fixes it, and the proof of the result does not require it: the etcd member runs, but does not answer a read, while others do (cp3 etcd)"
	if err != nil || len(p.Steps) == 0 || !slices.Contains(p.Warnings, want) {
		t.Errorf("%v, %d steps, warnings %q", err, len(p.Steps), p.Warnings)
	}
}

// No certificate is issued for a kubelet whose node has another name that only the lost certificate
// had.
func TestPlanKnowsTheNodesName(t *testing.T) {
	t.Parallel()
	gone := tc.On("w1", func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindKubeletClient })
	})
	other := tc.View(func(v *snapshot.View) {
		v.Nodes["ip-10-0-0-7.internal"] = v.Nodes["w1"]
		delete(v.Nodes, "w1")
	})
	s := tc.Healthy(tc.HA(), gone, other)
	_, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
	if err == nil || !strings.Contains(err.Error(), "set kube_override_hostname to the node's name (kubectl get nodes -o wide), or exclude the node for now: --limit cp1,cp2,cp3") {
		t.Error(err)
	}
	if p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{Limit: []string{"cp1", "cp2", "cp3"}}); err != nil || len(p.Steps) > 0 {
		t.Errorf("without it: %d steps, %v", len(p.Steps), err)
	}
	s = tc.Healthy(tc.HA(), gone)
	if p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{}); err != nil || len(p.Steps) == 0 {
		t.Errorf("under the inventory's name: %v", err)
	}
}

// A node that no step can fix is left out with the --limit that the refusal names, and the others
// are renewed.
func TestExcludedNodeStopsNothing(t *testing.T) {
	t.Parallel()
	issued := func(kind certs.Kind, signer certs.Authority) tc.NodeEdit {
		return func(n *snapshot.Node) {
			n.Certificates = append(n.Certificates, certs.Certificate{
				Kind: kind, Path: "/x/" + string(kind), Subject: "CN=x", SignedBy: signer, Key: certs.KeyMatches,
				Fingerprint: "x", NotBefore: tc.Now.Add(-400 * tc.Day), NotAfter: tc.Now.Add(tc.Day),
			})
		}
	}
	noPair := func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindKubeletClient })
	}
	otherName := tc.View(func(v *snapshot.View) {
		v.Nodes["other"] = v.Nodes["w1"]
		delete(v.Nodes, "w1")
	})
	for name, row := range map[string]struct {
		of    cluster.Cluster
		edits []tc.Edit
		limit []string
	}{
		"kubeadm's etcd on a machine of its own": {tc.ExternalEtcd(), []tc.Edit{tc.On("etcd1", issued("etcd-server", certs.EtcdCA))}, []string{"cp1", "w1"}},
		"etcd's client, and no key of etcd's CA": {tc.ExternalEtcd(), []tc.Edit{tc.On("w1", issued("etcd-host-node", certs.EtcdHostCA))}, []string{"cp1", "etcd1"}},
		"a kubelet without a pair, and no name":  {tc.HA(), []tc.Edit{tc.On("w1", noPair), otherName}, []string{"cp1", "cp2", "cp3"}},
	} {
		s := tc.Healthy(row.of, append(row.edits, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)))...)
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		_, err := plan.Make(s.Cluster(), s, d, plan.Policy{})
		if err == nil || !strings.Contains(err.Error(), "exclude the node for now: --limit "+strings.Join(row.limit, ",")) {
			t.Errorf("%s: %v", name, err)
		}
		p, err := plan.Make(s.Cluster(), s, d, plan.Policy{Limit: row.limit})
		if err != nil || len(p.Steps) == 0 {
			t.Errorf("%s: without it: %d steps, %v", name, len(p.Steps), err)
		}
	}
}
