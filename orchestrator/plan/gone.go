package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// spared refuses a plan that cannot succeed without the nodes that are left out: one with etcd, of
// which too few members would be left for a quorum, or with a playbook of Kubespray, which needs every
// node. An etcd whose members report nothing has those of the group etcd.
func spared(s snapshot.Snapshot, steps []Step) error {
	if len(s.Gone) == 0 || len(steps) == 0 {
		return nil
	}
	var names []string
	for _, n := range s.Gone {
		names = append(names, n.Name)
	}
	if slices.ContainsFunc(steps, Step.theirs) {
		return &UnsupportedError{fmt.Sprintf("Kubespray's playbooks work on every node, and %s cannot be reached: "+
			"omit --playbook, or remove what is gone for good from the inventory", strings.Join(names, ", "))}
	}
	for _, e := range s.EtcdClusters() {
		of := s.WithGone().OfEtcd(e)
		q, group := QuorumOf(of), of.With(cluster.Etcd)
		listed := diagnosis.Members(of)
		q.Members = max(q.Members, len(group))
		gone := slices.DeleteFunc(group, func(n snapshot.Node) bool {
			isMember := func(m diagnosis.Member) bool { return m.Node == n.Name && !m.Learner }
			return !slices.Contains(names, n.Name) || len(listed) > 0 && !slices.ContainsFunc(listed, isMember)
		})
		if left := q.Members - len(gone); len(gone) > 0 && left < q.Needed() {
			return &UnsupportedError{fmt.Sprintf("%s has %d members, and without %s no quorum is left: bring one of "+
				"them back (systemctl start %[1]s), and run this again; or, if they are gone for good, restore etcd "+
				"from a snapshot with the members that are left (etcdctl snapshot restore)", e.Name, q.Members,
				strings.Join(cluster.Names(snapshot.Snapshot{Nodes: gone}.Cluster().Nodes), ", "))}
		}
	}
	return nil
}
