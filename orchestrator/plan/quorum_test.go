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

// members are what every etcd node tells of the membership: etcd1, etcd2 and so on.
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
		{"one member", tc.Single(), nil, "etcd: of 1 members 1 answer, 1 are needed", true, 0},
		{"three members", tc.EtcdNodes(), nil, "etcd: of 3 members 3 answer, 2 are needed", true, 1},
		{"one of three is down", tc.EtcdNodes(), []tc.Edit{tc.On("etcd2", tc.NoQuorum)}, "etcd: of 3 members 2 answer, 2 are needed; etcd2 does not", true, 0},
		{"one of three cannot be reached", tc.EtcdNodes(), []tc.Edit{tc.On("etcd2", tc.Unknown(snapshot.Unreachable, "gone"))}, "etcd: of 3 members 2 answer, 2 are needed; etcd2 does not", true, 0},
		{"two of three are down", tc.EtcdNodes(), []tc.Edit{tc.On("etcd2,etcd3", tc.NoQuorum)}, "etcd: of 3 members 1 answer, 2 are needed; etcd2, etcd3 does not", false, 0},
		{"members that the inventory does not name", tc.EtcdNodes(), []tc.Edit{members(5)}, "etcd: of 5 members 3 answer, 3 are needed; 2 more than the inventory's group etcd names", true, 0},
		{"a learner does not vote", tc.EtcdNodes(), []tc.Edit{members(4, 3)}, "etcd: of 3 members 3 answer, 2 are needed", true, 1},
		{"nobody told", tc.EtcdNodes(), []tc.Edit{tc.Everywhere(tc.NoQuorum)}, "etcd: how many members there are is not known", false, 0},
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

// A member that is down for another reason than its certificates, or that nobody knows,
// leaves none to spare: then no other is touched.
func TestQuorumIsKept(t *testing.T) {
	t.Parallel()
	due := tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember))
	for _, row := range []struct {
		name  string
		edits []tc.Edit
		want  string // part of the refusal; empty: there is a plan
	}{
		{"all well", []tc.Edit{due}, ""},
		{"another is down", []tc.Edit{due, tc.On("etcd2", tc.NoQuorum)}, "none of etcd1 may be worked on, for a restart there would cost the quorum; bring back etcd2 first"},
		{"more members than the inventory names", []tc.Edit{due, members(5)}, "not in the inventory: etcd4 (etcd member), etcd5 (etcd member) ("},
		{"a member on a node that is not in the group", []tc.Edit{due, tc.Everywhere(func(n *snapshot.Node) {
			if n.Etcd != nil {
				n.Etcd.Members = append(n.Etcd.Members, snapshot.EtcdMember{ID: "4", Name: "cp1"}, snapshot.EtcdMember{ID: "5", Name: "w1"})
			}
		})}, "bring back the members that the inventory does not name first"},
		{"the one that is down is the one that is due", []tc.Edit{tc.On("etcd1", tc.Expired(certs.KindEtcdMember), tc.NoQuorum)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := tc.EtcdNodes()
			s := tc.Healthy(c, row.edits...)
			p, err := plan.Make(c, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
			if row.want == "" {
				if err != nil || len(p.Steps) == 0 {
					t.Errorf("%v, %d steps", err, len(p.Steps))
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
