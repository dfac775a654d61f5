package plan_test

import (
	"errors"
	"fmt"
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

// members are the membership that every etcd node reports: etcd1, etcd2 and so on.
func members(count int, learners ...int) tc.Edit {
	return tc.Everywhere(func(n *snapshot.Node) {
		if n.Etcd == nil || !n.Etcd.Healthy {
			return
		}
		n.Etcd.Members = nil
		for i := range count {
			n.Etcd.Members = append(n.Etcd.Members, snapshot.EtcdMember{ID: fmt.Sprintf("id of etcd%d", i+1), Name: fmt.Sprintf("etcd%d", i+1), Learner: slices.Contains(learners, i)})
		}
	})
}

// joins makes every member that lists members list one more.
func joins(m snapshot.EtcdMember) tc.Edit {
	return tc.Everywhere(func(n *snapshot.Node) {
		if n.Etcd != nil && n.Etcd.Members != nil {
			n.Etcd.Members = append(n.Etcd.Members, m)
		}
	})
}

// learner makes a member answer as one that does not vote: healthy, and without a list.
func learner(n *snapshot.Node) {
	n.Etcd = &snapshot.Etcd{Healthy: true, Learner: true, Version: "3.5.21"}
}

func TestQuorum(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		of    cluster.Cluster
		edits []tc.Edit
		want  string
		holds bool
		spare int
	}{
		{"one member", tc.Single(), nil, "etcd: 1 of 1 members healthy, quorum is 1", true, 0},
		{"three members", tc.EtcdNodes(), nil, "etcd: 3 of 3 members healthy, quorum is 2", true, 1},
		{"one of three is down", tc.EtcdNodes(), []tc.Edit{tc.On("etcd2", tc.NoQuorum)}, "etcd: 2 of 3 members healthy, quorum is 2; down: etcd2", true, 0},
		{"one of three cannot be reached", tc.EtcdNodes(), []tc.Edit{tc.On("etcd2", tc.Unknown(snapshot.Unreachable, "gone"))}, "etcd: 2 of 3 members healthy, quorum is 2; down: etcd2", true, 0},
		{"two of three are down", tc.EtcdNodes(), []tc.Edit{tc.On("etcd2,etcd3", tc.NoQuorum)}, "etcd: 1 of 3 members healthy, quorum is 2; down: etcd2, etcd3", false, 0},
		{"members that the inventory does not name", tc.EtcdNodes(), []tc.Edit{members(5)}, "etcd: 3 of 5 members healthy, quorum is 3; 2 not in the inventory's group etcd", true, 0},
		{"a learner does not vote", tc.EtcdNodes(), []tc.Edit{members(4, 3)}, "etcd: 3 of 3 members healthy, quorum is 2", true, 1},
		{"a learner in the group, whose own list is refused", tc.EtcdNodes(), []tc.Edit{members(3, 2), tc.On("etcd3", learner)},
			"etcd: 2 of 2 members healthy, quorum is 2", true, 0},
		{"a learner that is all that answers", tc.EtcdNodes(), []tc.Edit{tc.Everywhere(tc.NoQuorum), tc.On("etcd3", learner)},
			"etcd: the number of members is not known", false, 0},
		{"a node of the group that is no member", tc.EtcdNodes(), []tc.Edit{members(2), tc.On("etcd3", tc.Stopped("etcd"))},
			"etcd: 2 of 2 members healthy, quorum is 2", true, 0},
		{"a member that was replaced, and not removed", tc.EtcdNodes(), []tc.Edit{members(3), joins(snapshot.EtcdMember{ID: "old", Name: "etcd3"})},
			"etcd: 3 of 4 members healthy, quorum is 3; 1 not in the inventory's group etcd", true, 0},
		{"a member that is called otherwise, by its peer URL", tc.EtcdNodes(), []tc.Edit{members(2), joins(snapshot.EtcdMember{ID: "3", Name: "infra3", PeerURLs: []string{"https://10.0.0.3:2380"}}),
			tc.On("etcd3", tc.Unknown(snapshot.Unreachable, "gone"), func(n *snapshot.Node) { n.Address = "10.0.0.3" })},
			"etcd: 2 of 3 members healthy, quorum is 2; down: etcd3", true, 0},
		{"no one reported", tc.EtcdNodes(), []tc.Edit{tc.Everywhere(tc.NoQuorum)}, "etcd: the number of members is not known", false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			q := plan.QuorumOf(tc.Healthy(row.of, row.edits...))
			if q.String() != row.want || q.Holds() != row.holds || q.Spare() != row.spare {
				t.Errorf("%s, holds %t, spare %d; want %s, %t, %d", q, q.Holds(), q.Spare(), row.want, row.holds, row.spare)
			}
		})
	}
}

// If a member is down for another reason than its certificates, or is unknown, none is to spare:
// then none is restarted, and work without a restart continues. Every refusal names a way out.
func TestQuorumIsKept(t *testing.T) {
	t.Parallel()
	due := tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember))
	stale := tc.On("etcd1", tc.Renewed(certs.KindEtcdMember)) // and serves the older one
	staleEvents := tc.On("etcd1", func(n *snapshot.Node) {
		for i := range n.Endpoints {
			if n.Endpoints[i].Name == "etcd-events" {
				n.Endpoints[i].Fingerprint = "older"
			}
		}
	})
	version := func(v string) tc.Edit { return tc.On("etcd1", func(n *snapshot.Node) { n.Etcd.Version = v }) }
	pair := tc.EtcdNodes()
	pair.Nodes = slices.DeleteFunc(pair.Nodes, func(n cluster.Node) bool { return n.Name == "etcd3" })
	third := tc.Everywhere(func(n *snapshot.Node) { // etcd3 is gone, and its member is still listed
		if n.Etcd != nil && n.Etcd.Healthy {
			n.Etcd.Members = append(n.Etcd.Members, snapshot.EtcdMember{ID: "c3", Name: "etcd3", PeerURLs: []string{"https://10.0.0.3:2380"}})
		}
	})
	const (
		of3     = "etcd: 2 of 3 members healthy, quorum is 2; "
		restart = "the plan restarts etcd on etcd1, and a restart there would lose the quorum; restart it yourself " +
			"when etcd may be down for some seconds (systemctl restart etcd), and run without Kubespray's playbook"
		gone = "if the member of https://10.0.0.3:2380 is gone for good, remove it, on a node of etcd: set -a; . /etc/etcd.env; etcdctl member remove c3"
	)
	for _, row := range []struct {
		name   string
		of     cluster.Cluster
		policy plan.Policy
		edits  []tc.Edit
		want   string // the refusal, or a part of it; empty: there is a plan
		warns  string // part of a warning
	}{
		{"all well", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due}, "", ""},
		{"one restarts, and one is to spare", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{stale}, "", ""},
		{"another is down", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due, tc.On("etcd2", tc.NoQuorum)}, "", ""},
		{"another does not run", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due, tc.On("etcd2", tc.Stopped("etcd"))}, "", "the etcd member is not running (etcd2 etcd)"},
		{"another is down, and one restarts", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{stale, tc.On("etcd2", tc.NoQuorum)},
			of3 + "down: etcd2: " + restart + "; or bring back etcd2 first (systemctl start etcd); or if the member of etcd2 is gone for good, remove it, on a node of etcd: set -a; . /etc/etcd.env; etcdctl member remove 'id of etcd2'", ""},
		{"a release that reads its files again", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due, tc.On("etcd2", tc.NoQuorum), version("3.4.0")}, "", ""},
		{"a release that may not", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due, tc.On("etcd2", tc.NoQuorum), version("3.3.10")}, "a restart there would lose the quorum; a release of etcd before 3.4 may not reload renewed files: renew by hand, " +
			"when etcd may be down for some seconds, with the commands of: kscertctl diagnose -i INVENTORY --runbook; or bring back etcd2 first", ""},
		{"two members of a release that may not", pair, plan.Policy{}, []tc.Edit{due, version("3.3.10")}, "kscertctl diagnose -i INVENTORY --runbook", ""},
		{"a release that cannot be read", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due, tc.On("etcd2", tc.NoQuorum), version("4")}, "kscertctl diagnose -i INVENTORY --runbook", ""},
		{"it does not run where certificates are due", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Stopped("etcd"))},
			"exclude the node for now: --limit cp1,w1,etcd2,etcd3; or, if it is gone for good, remove the member, on another node of etcd (set -a; . /etc/etcd.env; etcdctl member remove 'id of etcd1'),", ""},
		{"two members", pair, plan.Policy{}, []tc.Edit{due}, "", ""},
		{"two members, and one restarts", pair, plan.Policy{}, []tc.Edit{stale}, "etcd: 2 of 2 members healthy, quorum is 2: " + restart, ""},
		{"one of three is gone for good", pair, plan.Policy{}, []tc.Edit{due, third}, "",
			"not in the inventory: etcd3 (etcd member at https://10.0.0.3:2380); nothing is renewed there, and no step restarts another; " + gone},
		{"one of three is gone, and one restarts", pair, plan.Policy{}, []tc.Edit{stale, third}, "pass --allow-not-in-inventory etcd3; " + gone, ""},
		{"it is allowed, and one restarts", pair, plan.Policy{AllowNotInInventory: []string{"etcd3"}}, []tc.Edit{stale, third}, "", "allowed by --allow-not-in-inventory: etcd3 (etcd member at https://10.0.0.3:2380)"},
		{"Kubespray's playbook, and another is down", tc.HA(), plan.Policy{Choice: plan.UpgradeCluster, Kubespray: &plan.Kubespray{Upgrade: "upgrade-cluster.yml"}},
			[]tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)), tc.On("cp2", tc.NoQuorum)}, "the plan restarts etcd on cp1, cp3, and", ""},
		{"more members than the inventory names", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{due, members(5)}, "", "not in the inventory: etcd4 (etcd member), etcd5 (etcd member); "},
		{"members on nodes that are not in the group, and one restarts", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{stale, tc.Everywhere(func(n *snapshot.Node) {
			if n.Etcd != nil {
				n.Etcd.Members = append(n.Etcd.Members, snapshot.EtcdMember{ID: "4", Name: "cp1"}, snapshot.EtcdMember{ID: "5", Name: "w1"})
			}
		})}, "2 not in the inventory's group etcd: " + restart + "; or if the member of cp1 is gone for good, remove it, on a node of etcd: set -a; . /etc/etcd.env; etcdctl member remove 4", ""},
		{"Kubespray's renewal, and another is down", tc.HA(), plan.Policy{Choice: plan.RenewCerts, Kubespray: &plan.Kubespray{Renew: "renew-certs.yml"}},
			[]tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)), tc.On("cp2", tc.NoQuorum)}, "the plan restarts etcd on cp1, and", ""},
		{"one restarts, and one whose other certificates are due is down", tc.HA(), plan.Policy{},
			[]tc.Edit{tc.On("cp1", tc.Renewed(certs.KindEtcdMember)), tc.On("cp2", tc.EndsIn(tc.Day, certs.KindAdmin), tc.NoQuorum)},
			"the plan restarts etcd on cp1, and a restart there would lose the quorum", ""},
		{"one restarts, and the one that is down is due and comes first", tc.EtcdNodes(), plan.Policy{},
			[]tc.Edit{stale, tc.On("etcd2", tc.Expired(certs.KindEtcdMember), tc.NoQuorum)}, "", ""},
		{"it does not run where certificates are due, in an outage", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{
			tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Stopped("etcd")),
			tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)),
		}, "", ""},
		{"two clusters, all well", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{tc.EtcdEvents, due}, "", ""},
		{"a member for events is down", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{tc.EtcdEvents, due, tc.On("etcd2", tc.Stopped("etcd-events"))}, "", "the etcd member is not running (etcd2 etcd-events)"},
		{"a member for events is down, and another restarts", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{tc.EtcdEvents, tc.On("etcd2", tc.Stopped("etcd-events")), staleEvents},
			"etcd-events: 2 of 3 members healthy, quorum is 2; down: etcd2: the plan restarts etcd-events on etcd1, and a restart there would lose the quorum; restart it yourself " +
				"when etcd may be down for some seconds (systemctl restart etcd-events), and run without Kubespray's playbook; or bring back etcd2 first (systemctl start etcd-events); " +
				"or if the member of https://etcd2:2382 is gone for good, remove it, on a node of etcd: set -a; . /etc/etcd.env; ETCDCTL_ENDPOINTS=https://127.0.0.1:2381; etcdctl member remove 'id of etcd2 for events'", ""},
		{"a member for events is down, and one of the main cluster restarts", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{stale, tc.EtcdEvents, tc.On("etcd2", tc.Stopped("etcd-events"))}, "", ""},
		{"a member for events does not run where certificates are due", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{tc.EtcdEvents, tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Stopped("etcd-events"))},
			"etcd-events on etcd1 is not running, and certificates are due there: the plan would start it and wait for it. Start it (systemctl start etcd-events)", ""},
		{"the one that is down is the one that is due", tc.EtcdNodes(), plan.Policy{}, []tc.Edit{tc.On("etcd1", tc.Expired(certs.KindEtcdMember), tc.NoQuorum)}, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, row.edits...)
			p, err := plan.Make(row.of, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), row.policy)
			if row.want == "" {
				if err != nil || len(p.Steps) == 0 || !strings.Contains(strings.Join(p.Warnings, "\n"), row.warns) {
					t.Errorf("%v, %d steps, warnings %q", err, len(p.Steps), p.Warnings)
				}
				return
			}
			var unsupported *plan.UnsupportedError
			if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), row.want) || len(p.Steps) > 0 {
				t.Errorf("%v, want %q; %d steps", err, row.want, len(p.Steps))
			}
		})
	}
}

// A member for events that the inventory does not name is named with its cluster, removed there, and
// may be allowed.
func TestStrangeMemberForEvents(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.EtcdNodes(), tc.EtcdEvents, tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember)), tc.Everywhere(func(n *snapshot.Node) {
		if e := n.OtherEtcd["etcd-events"]; e != nil {
			e.Members = append(e.Members, snapshot.EtcdMember{ID: "e4", Name: "etcd4-events", PeerURLs: []string{"https://10.0.0.4:2382"}})
		}
	}))
	all := diagnosis.Strangers(s)
	if len(all) != 1 || all[0].Etcd.Name != "etcd-events" || !strings.HasPrefix(all[0].Evidence, "etcd-events on etcd1 lists the member") {
		t.Fatalf("%+v", all)
	}
	p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
	warnings := strings.Join(p.Warnings, "\n")
	if err != nil || !strings.Contains(warnings, "not in the inventory: etcd4-events (etcd member at https://10.0.0.4:2382)") ||
		!strings.Contains(warnings, "ETCDCTL_ENDPOINTS=https://127.0.0.1:2381; etcdctl member remove e4") {
		t.Errorf("%v: %s", err, warnings)
	}
	p, err = plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{AllowNotInInventory: []string{"etcd4-events"}})
	notes := strings.Join(p.Notes, "\n")
	if err != nil || !strings.Contains(notes, "etcd: 3 of 3 members healthy, quorum is 2\netcd-events: 3 of 4 members healthy, quorum is 3; 1 not in the inventory's group etcd; 1 of these assumed to be healthy") {
		t.Errorf("%v: %s", err, notes)
	}
}

// Removing a member that does not vote makes no quorum larger: no refusal suggests it.
func TestQuorumIsNotKeptByLearners(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.EtcdNodes(), tc.On("etcd1", tc.Renewed(certs.KindEtcdMember)),
		joins(snapshot.EtcdMember{ID: "4", Name: "cp1"}), joins(snapshot.EtcdMember{ID: "5", Name: "w1", Learner: true}))
	_, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
	var unsupported *plan.UnsupportedError
	if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "etcdctl member remove 4") || strings.Contains(err.Error(), "etcdctl member remove 5") {
		t.Errorf("%v", err)
	}
}
