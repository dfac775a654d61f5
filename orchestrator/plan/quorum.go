package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Quorum is how many members etcd has and how many it can lose (etcd documentation, "Failure
// tolerance": a cluster of n members needs n/2+1 of them).
type Quorum struct {
	// Etcd is the name of the etcd cluster; the main one if empty.
	Etcd string
	// Members is the size of the membership as the members know it; 0 if none reported.
	Members int
	// Down are the inventory's members that do not answer a read with quorum, by name.
	Down []string
	// Strangers counts members that the inventory does not name: their state is unknown.
	Strangers int
	// Allowed is how many of them the policy assumes to be healthy.
	Allowed int
}

// QuorumOf reads the membership of the main etcd cluster from a snapshot. Learners do not vote and do
// not count; nor does a node of the group etcd that is not a member, if the members list all of them.
func QuorumOf(s snapshot.Snapshot) Quorum {
	s = s.WithGone()
	members := diagnosis.Members(s)
	learners := diagnosis.Learners(s, members)
	voters := slices.DeleteFunc(slices.Clone(members), func(m diagnosis.Member) bool { return m.Learner })
	var q Quorum
	known, ours := len(voters) > 0, 0
	for _, n := range s.With(cluster.Etcd) {
		isMember := func(m diagnosis.Member) bool { return m.Node == n.Name }
		if slices.Contains(learners, n.Name) || len(voters) > 0 && !slices.ContainsFunc(voters, isMember) {
			continue
		}
		ours++
		healthy := n.Etcd != nil && n.Etcd.Healthy
		known = known || healthy
		if !healthy {
			q.Down = append(q.Down, n.Name)
		}
	}
	if !known {
		return Quorum{}
	}
	q.Members = max(len(voters), ours)
	q.Strangers = q.Members - ours
	return q
}

// quorums are those of every etcd cluster, the main one first. Of each, the members that the policy
// allows to be missing from the inventory are assumed to be healthy.
func (p Policy) quorums(s snapshot.Snapshot) []Quorum {
	allowed, _ := p.strangers(s)
	var out []Quorum
	for _, e := range s.EtcdClusters() {
		q := QuorumOf(s.OfEtcd(e))
		if !e.Main() {
			q.Etcd = e.Name
		}
		for _, st := range allowed {
			if st.Role == cluster.Etcd && st.Etcd == e && !st.Learner {
				q.Allowed = min(q.Allowed+1, q.Strangers)
			}
		}
		out = append(out, q)
	}
	return out
}

// inWords are the quorums of clusters with several members.
func inWords(all []Quorum) []string {
	var out []string
	for _, q := range all {
		if q.Members > 1 {
			out = append(out, q.String())
		}
	}
	return out
}

// of is the etcd cluster of a quorum.
func (q Quorum) of() certs.EtcdCluster {
	all := certs.EtcdClusters()
	at := slices.IndexFunc(all, func(e certs.EtcdCluster) bool { return e.Name == q.Etcd })
	return all[max(at, 0)]
}

// Healthy is how many members answer, or are assumed to; other strangers do not count.
func (q Quorum) Healthy() int { return q.Members - q.Strangers + q.Allowed - len(q.Down) }

// Needed is how many members a quorum needs.
func (q Quorum) Needed() int { return q.Members/2 + 1 }

// Holds reports whether there is a quorum.
func (q Quorum) Holds() bool { return q.Members > 0 && q.Healthy() >= q.Needed() }

// Spare is how many members may be stopped at a time without losing the quorum; of a single member
// none, and stopping it is an interruption.
func (q Quorum) Spare() int { return max(0, q.Healthy()-q.Needed()) }

func (q Quorum) String() string {
	if q.Members == 0 {
		return q.of().Name + ": the number of members is not known"
	}
	parts := []string{fmt.Sprintf("%s: %d of %d members healthy, quorum is %d", q.of().Name, q.Healthy()-q.Allowed,
		q.Members, q.Needed())}
	if len(q.Down) > 0 {
		parts = append(parts, "down: "+strings.Join(q.Down, ", "))
	}
	if q.Strangers > 0 {
		parts = append(parts, fmt.Sprintf("%d not in the inventory's group etcd", q.Strangers))
	}
	if q.Allowed > 0 {
		parts = append(parts, fmt.Sprintf("%d of these assumed to be healthy", q.Allowed))
	}
	return strings.Join(parts, "; ")
}

// rereads is the oldest etcd that is known to read its files again at each handshake, so that
// renewed ones need no restart.
var rereads = []int{3, 4}

// restarted are the members of an etcd cluster that steps restart, in the snapshot in which it is the
// main one: those that hold an older certificate than the file's although they read it at each
// handshake, those whose release may not, and whatever Kubespray's own playbooks work on.
func restarted(e certs.EtcdCluster, s snapshot.Snapshot, d diagnosis.Diagnosis, steps []Step) []string {
	var out []string
	for _, n := range s.With(cluster.Etcd) {
		holds := slices.Contains(d.Stale[n.Name], e.Name) || etcdDue(d, n.Name) && old(n)
		if taken(steps, n.Name, Step.theirs) || holds && issued(steps, n.Name, IssuesEtcd) {
			out = append(out, n.Name)
		}
	}
	return out
}

// old reports whether a member has reported a release that may not read its files again.
func old(n snapshot.Node) bool {
	release := make([]int, len(rereads))
	if n.Etcd == nil || n.Etcd.Version == "" {
		return false
	}
	_, err := fmt.Sscanf(n.Etcd.Version, "%d.%d", &release[0], &release[1])
	return err != nil || slices.Compare(release, rereads) < 0
}

// restartFirst is what to do if a plan restarts members only because they hold an older certificate
// than their file, or Kubespray's playbook would.
func restartFirst(e certs.EtcdCluster) string {
	return "restart it yourself when etcd may be down for some seconds (systemctl restart " + e.Name + "), and run " +
		"without Kubespray's playbook"
}

// keepsQuorum refuses to restart members of an etcd cluster if the quorum cannot lose one more, in the
// snapshot in which it is the main one: what is down must be what the plan fixes. Work that restarts
// none continues behind its gates. worked are the members whose certificates of etcd are due and which
// steps work on; otherwise is what to do instead.
func keepsQuorum(q Quorum, s snapshot.Snapshot, worked, restart []string, otherwise string) error {
	if !q.Holds() || q.Members < 2 || q.Spare() > 0 {
		return nil // lost, so the order is different; or there is one to spare
	}
	healthy := without(restart, q.Down)
	if len(healthy) == 0 {
		return nil
	}
	foreign := without(q.Down, worked)
	if len(foreign) == 0 && q.Strangers == q.Allowed && len(q.Down) > 0 {
		return nil // these come first, each with a gate
	}
	ways := []string{otherwise}
	if slices.ContainsFunc(healthy,
		func(name string) bool { n, _ := s.Node(name); return slices.Contains(worked, name) && old(n) }) {
		// A restart before the renewal would change nothing.
		ways = []string{"a release of etcd before 3.4 may not reload renewed files: renew by hand, when etcd may be " +
			"down for some seconds, " +
			"with the commands of: kscertctl diagnose -i INVENTORY --runbook"}
	}
	if len(foreign) > 0 {
		ways = append(ways, fmt.Sprintf("bring back %s first (systemctl start %s)", strings.Join(foreign, ", "),
			q.of().Name))
	}
	for _, m := range diagnosis.Members(s) {
		n, _ := s.Node(m.Node)
		if !m.Learner && (slices.Contains(foreign, m.Node) || !n.Is(cluster.Etcd) && q.Strangers > q.Allowed) {
			ways = append(ways, removal(q.of(), m.PeerURLs, m.Name, m.ID))
		}
	}
	return &UnsupportedError{fmt.Sprintf(
		"%s: the plan restarts %s on %s, and a restart there would lose the quorum; %s",
		q, q.of().Name, strings.Join(healthy, ", "), strings.Join(ways, "; or "))}
}

// startsNone refuses a renewal if a member of etcd is stopped for a reason that no step fixes: the
// work there would start it, and wait for it without success. In an outage it may do so.
func startsNone(c cluster.Cluster, d diagnosis.Diagnosis, s snapshot.Snapshot, steps []Step) error {
	for _, f := range d.Lasting() {
		works := issued(steps, f.Node, IssuesEtcd)
		if d.Route != diagnosis.Renew || f.Reason != diagnosis.EtcdMemberDown || !works {
			continue
		}
		id, e := "ID", Quorum{Etcd: f.Subject}.of()
		for _, m := range diagnosis.Members(s.OfEtcd(e)) {
			if m.Node == f.Node {
				id = shell.Quote(m.ID)
			}
		}
		return &UnsupportedError{fmt.Sprintf("%s on %s is not running, and certificates are due there: "+
			"the plan would start it and wait for it. Start it (systemctl start %[1]s); if it stops, see why "+
			"(journalctl -u %[1]s); or exclude the node for now: --limit %[3]s; "+
			"or, if it is gone for good, remove the member, on another node of etcd (%[4]setcdctl member remove "+
			"%[5]s), and remove the node from the group etcd",
			e.Name, f.Node, limitWithout(c, f.Node), e.Client(), id)}
	}
	return nil
}

// removal describes how to remove a member of etcd that is gone for good.
func removal(e certs.EtcdCluster, peerURLs []string, name, id string) string {
	return fmt.Sprintf("if the member of %s is gone for good, remove it, on a node of etcd: %setcdctl member remove %s",
		where(peerURLs, name), e.Client(), shell.Quote(id))
}

// where identifies a member of etcd: by its peer URL, or else its name.
func where(peerURLs []string, name string) string {
	return cmp.Or(strings.Join(peerURLs, ", "), name)
}

// downFirst orders nodes of etcd so that members that are down, which cost nothing, come first; those
// of the main cluster before others.
func downFirst(all []Quorum, names []string) []string {
	out := slices.Clone(names)
	for _, q := range slices.Backward(all) {
		if !q.Holds() {
			continue
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
	}
	return out
}

// etcdDue reports whether certificates of etcd are due on a node, or served stale.
func etcdDue(d diagnosis.Diagnosis, name string) bool {
	return dueKind(d, name, certs.EtcdCA) || dueKind(d, name, certs.EtcdHostCA) ||
		slices.ContainsFunc(certs.EtcdClusters(),
			func(e certs.EtcdCluster) bool { return slices.Contains(d.Stale[name], e.Name) })
}
