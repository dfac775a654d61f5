package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Quorum is how many members etcd has and can do without (etcd documentation,
// "Failure tolerance": a cluster of n members needs n/2+1 of them).
type Quorum struct {
	// Members is the size of the membership as the members know it; 0 when none told.
	Members int
	// Down are the inventory's members that do not answer a read with quorum, by name.
	Down []string
	// Strangers counts members that the inventory does not name: how they are is not
	// known.
	Strangers int
	// Allowed is how many of them the policy assumes to be healthy.
	Allowed int
}

// QuorumOf reads the membership from a snapshot. Learners do not vote and do not count.
func QuorumOf(s snapshot.Snapshot) Quorum {
	var q Quorum
	nodes := s.With(cluster.Etcd)
	known := false
	for _, n := range nodes {
		if n.Etcd == nil {
			q.Down = append(q.Down, n.Name)
			continue
		}
		voters := 0
		for _, m := range n.Etcd.Members {
			if !m.Learner {
				voters++
			}
		}
		q.Members = max(q.Members, voters)
		known = known || voters > 0 || n.Etcd.Healthy
		if !n.Etcd.Healthy {
			q.Down = append(q.Down, n.Name)
		}
	}
	if !known {
		return Quorum{}
	}
	q.Members = max(q.Members, len(nodes))
	q.Strangers = q.Members - len(nodes)
	return q
}

// Healthy is how many members answer, or are assumed to; other strangers do not
// count.
func (q Quorum) Healthy() int { return q.Members - q.Strangers + q.Allowed - len(q.Down) }

// Needed is how many members a quorum takes.
func (q Quorum) Needed() int { return q.Members/2 + 1 }

// Holds reports whether there is a quorum.
func (q Quorum) Holds() bool { return q.Members > 0 && q.Healthy() >= q.Needed() }

// Spare is how many members may be stopped at a time without losing the quorum; of a
// single member none, and stopping it is an interruption.
func (q Quorum) Spare() int { return max(0, q.Healthy()-q.Needed()) }

func (q Quorum) String() string {
	if q.Members == 0 {
		return "etcd: how many members there are is not known"
	}
	parts := []string{fmt.Sprintf("etcd: of %d members %d answer, %d are needed", q.Members, q.Healthy()-q.Allowed, q.Needed())}
	if len(q.Down) > 0 {
		parts = append(parts, strings.Join(q.Down, ", ")+" does not")
	}
	if q.Strangers > 0 {
		parts = append(parts, fmt.Sprintf("%d more than the inventory's group etcd names", q.Strangers))
	}
	if q.Allowed > 0 {
		parts = append(parts, fmt.Sprintf("%d of these assumed to be healthy", q.Allowed))
	}
	return strings.Join(parts, "; ")
}

// keepsQuorum refuses to work on members of etcd when the quorum does not bear one
// more that is out: what is down must be what the plan mends.
func keepsQuorum(d diagnosis.Diagnosis, q Quorum, worked []string) error {
	if !q.Holds() || q.Members < 2 || q.Spare() > 0 {
		return nil // lost, and then the order is another one; or there is one to spare
	}
	healthy := slices.DeleteFunc(slices.Clone(worked), func(name string) bool { return slices.Contains(q.Down, name) })
	if len(healthy) == 0 {
		return nil
	}
	var foreign []string
	for _, name := range q.Down {
		if !slices.Contains(worked, name) || !etcdDue(d, name) {
			foreign = append(foreign, name)
		}
	}
	if len(foreign) == 0 && q.Strangers == q.Allowed && len(q.Down) > 0 {
		return nil // these come first, each behind a gate
	}
	next := "the members that the inventory does not name"
	if len(foreign) > 0 {
		next = strings.Join(foreign, ", ")
	}
	return &UnsupportedError{fmt.Sprintf("%s: none of %s may be worked on, for a restart there would cost the quorum; bring back %s first", q, strings.Join(healthy, ", "), next)}
}

// downFirst orders nodes of etcd so that those which cost nothing come first.
func downFirst(q Quorum, names []string) []string {
	out := slices.Clone(names)
	if !q.Holds() {
		return out
	}
	slices.SortStableFunc(out, func(a, b string) int {
		rank := func(name string) int {
			if slices.Contains(q.Down, name) {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	return out
}

// etcdDue reports whether certificates of etcd are due on a node, or served stale.
func etcdDue(d diagnosis.Diagnosis, name string) bool {
	return dueKind(d, name, certs.EtcdCA) || dueKind(d, name, certs.EtcdHostCA) || slices.Contains(d.Stale[name], "etcd")
}
