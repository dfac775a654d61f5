package plan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// part is a cluster of three control planes and three members of etcd whose inventory names fewer.
func part(names ...string) tc.Edit {
	return func(s *snapshot.Snapshot) {
		tc.View(func(v *snapshot.View) { v.ControlPlanes = []string{"cp1", "cp2", "cp3"} })(s)
		s.Nodes = slices.DeleteFunc(s.Nodes, func(n snapshot.Node) bool { return !slices.Contains(names, n.Name) })
	}
}

// Control planes and members of etcd are not worked on while others of them are missing from the
// inventory, unless each is named.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		edits   []tc.Edit
		allow   []string
		limit   []string
		refused string // part of the refusal; empty: there is a plan
		warning string // part of a warning; empty: there is none of strangers
	}{
		{"all are named", []tc.Edit{due, part("cp1", "cp2", "cp3", "w1")}, nil, nil, "", ""},
		{"one of three", []tc.Edit{due, part("cp1")}, nil, nil,
			"not in the inventory: cp2 (control plane), cp3 (control plane), cp2 (etcd member), cp3 (etcd member) (", ""},
		{"who says so, and the flag", []tc.Edit{due, part("cp1", "cp2", "w1")}, nil, nil,
			`(the API server on cp1 lists the node cp3 (control-plane); etcd on cp1 lists the member "cp3", ID id of cp3, peer URL ); control planes and etcd members are not changed while others ` +
				"of the cluster are unknown: add them to the inventory, or, if each of them is healthy and must not be changed, pass --allow-not-in-inventory cp3", ""},
		{"one of three, and the others allowed", []tc.Edit{due, part("cp1", "w1")}, []string{"cp2", "cp3"}, nil, "",
			"not in the inventory, but allowed by --allow-not-in-inventory: cp2 (control plane), cp3 (control plane), cp2 (etcd member), cp3 (etcd member)"},
		{"one of three, and one allowed", []tc.Edit{due, part("cp1", "w1")}, []string{"cp2"}, nil, "not in the inventory: cp3 (control plane), cp3 (etcd member) (", ""},
		{"two of three, and the other allowed", []tc.Edit{part("cp1", "cp2", "w1"), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindEtcdMember))}, []string{"cp3"}, nil, "", "cp3 (etcd member)"},
		{"a worker", []tc.Edit{due, part("cp1", "cp2", "cp3")}, nil, nil, "", ""},
		{"work on a worker", []tc.Edit{workerOut, part("cp1", "w1")}, nil, []string{"w1"}, "", ""},
		{"nothing to do", []tc.Edit{part("cp1", "w1")}, nil, nil, "", ""},
		{"what no member tells, the API server's settings do", []tc.Edit{outCrashes, part("cp1", "w1"), tc.On("cp1", tc.NoQuorum, func(n *snapshot.Node) {
			n.Address, n.Facts["kube-apiserver.etcd-servers"] = "10.0.0.7", "https://10.0.0.7:2379,https://10.0.0.8:2379"
		})}, nil, nil, "not in the inventory: 10.0.0.8 (etcd member) (the API server on cp1 is set to ask etcd at 10.0.0.8; no etcd member listed its members)", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), row.edits...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(s.Cluster(), s, d, plan.Policy{AllowNotInInventory: row.allow, Limit: row.limit})
			if row.refused != "" {
				var unsupported *plan.UnsupportedError
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), row.refused) || len(p.Steps) > 0 {
					t.Errorf("%v, want %q; %d steps", err, row.refused, len(p.Steps))
				}
				return
			}
			if err != nil || (len(p.Steps) == 0) != (d.Route == diagnosis.None) {
				t.Fatalf("%v, route %s, %d steps", err, d.Route, len(p.Steps))
			}
			warned := strings.Contains(strings.Join(p.Warnings, "\n"), "not in the inventory")
			if warned != (row.warning != "") || !strings.Contains(strings.Join(p.Warnings, "\n"), row.warning) {
				t.Errorf("warnings: %q, want %q", p.Warnings, row.warning)
			}
		})
	}
}

// A member that is allowed to be missing from the inventory counts as healthy, and the plan has a
// note about it.
func TestAllowedMembersCount(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.EtcdNodes(), tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember)), part("cp1", "w1", "etcd1"))
	p, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{AllowNotInInventory: []string{"etcd2", "etcd3"}})
	want := "etcd: 1 of 3 members healthy, quorum is 2; 2 not in the inventory's group etcd; 2 of these assumed to be healthy"
	if err != nil || !slices.Contains(p.Notes, want) {
		t.Errorf("%v: %q, want %q", err, p.Notes, want)
	}
}

// In a command of a refusal, a name that a node made up is one word to a shell.
func TestStrangersAreQuoted(t *testing.T) {
	t.Parallel()
	const name = "x; touch owned #"
	s := tc.Healthy(tc.HA(), due, tc.View(func(v *snapshot.View) {
		v.Nodes[name] = "True"
		v.ControlPlanes = append(v.ControlPlanes, name)
	}))
	_, err := plan.Make(s.Cluster(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{})
	if err == nil || !strings.Contains(err.Error(), "--allow-not-in-inventory "+shell.Quote(name)) {
		t.Errorf("the refusal is %v", err)
	}
}
