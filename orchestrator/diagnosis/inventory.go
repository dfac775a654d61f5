package diagnosis

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Stranger is a node or an etcd member that the cluster knows and the inventory does not.
type Stranger struct {
	// Name is that of the node in the API or of the etcd member; the member's ID if its name is not
	// a plain word, or its address if no member reported.
	Name string
	// Role is cluster.ControlPlane or cluster.Worker for a node, cluster.Etcd for a member.
	Role cluster.Role
	// Learner is true for an etcd member that does not vote.
	Learner bool
	// Etcd is the etcd cluster of a member.
	Etcd certs.EtcdCluster
	// MemberID and PeerURLs are those of an etcd member, if a member reported them.
	MemberID string
	PeerURLs []string
	// By is the inventory name of the node on which it was found.
	By string
	// Evidence is who lists it, and how.
	Evidence string
}

// Strangers returns what the inventory of a snapshot does not name: nodes that the API server
// lists, then members that etcd lists. What was not reported is unknown: without an API server that
// answers there are no nodes among them.
func Strangers(s snapshot.Snapshot) []Stranger {
	s = s.WithGone()
	out := strangeNodes(s)
	for _, e := range s.EtcdClusters() {
		out = append(out, strangeMembers(s.OfEtcd(e), e)...)
	}
	return out
}

// checkInventory finds what the inventory does not name.
func (d *Diagnosis) checkInventory(s snapshot.Snapshot) {
	for _, st := range Strangers(s) {
		d.add(NotInInventory, st.By, st.Name, st.Evidence)
	}
}

// strangeNodes are the nodes of the API that no node of the inventory is.
func strangeNodes(s snapshot.Snapshot) []Stranger {
	by, ok := s.Observer()
	if !ok {
		return nil
	}
	// A worker's own report makes no control plane known.
	listed, heard := map[string]bool{}, map[string]bool{}
	for _, n := range s.Nodes {
		for _, name := range namesOf(n, true) {
			heard[canonical(name)] = true
		}
		for _, name := range namesOf(n, n.Is(cluster.ControlPlane)) {
			listed[canonical(name)] = true
		}
	}
	var out []Stranger
	for _, name := range slices.Sorted(maps.Keys(by.View.Nodes)) {
		st := Stranger{Name: name, Role: cluster.Worker, By: by.Name}
		known := heard
		if slices.Contains(by.View.ControlPlanes, name) {
			st.Role, known = cluster.ControlPlane, listed
		}
		addresses := by.View.Addresses[name]
		if known[canonical(name)] ||
			slices.ContainsFunc(addresses, func(a string) bool { return known[canonical(a)] }) {
			continue
		}
		as := strings.Join(append([]string{string(st.Role)}, addresses...), ", ")
		st.Evidence = fmt.Sprintf("the API server on %s lists the node %s (%s)", by.Name, name, as)
		out = append(out, st)
	}
	return out
}

// Member is a member of etcd as one of them lists it.
type Member struct {
	snapshot.EtcdMember

	// Node is the inventory name of its node; empty if the inventory names none.
	Node string
	// By is the inventory name of the node whose etcd lists it.
	By string
}

// Members are those of etcd, each with its node: by its own ID, the host of the peer URL, or else
// by name. A node is one member at most. None if no member reported.
func Members(s snapshot.Snapshot) []Member {
	s = s.WithGone()
	members := membership(s)
	taken := map[string]bool{}
	for _, matches := range []func(n snapshot.Node, m Member) bool{
		func(n snapshot.Node, m Member) bool { return runsEtcd(n) && n.Etcd != nil && n.Etcd.MemberID == m.ID },
		func(n snapshot.Node, m Member) bool { return overlaps(namesOf(n, runsEtcd(n)), hosts(m.PeerURLs)) },
		func(n snapshot.Node, m Member) bool {
			listed := m.Name == n.Name || m.Name == n.KubernetesName
			return m.Name != "" && (listed || runsEtcd(n) && m.Name == n.Facts["etcd.name"])
		},
	} {
		for i, m := range members {
			if m.Node != "" {
				continue
			}
			at := slices.IndexFunc(s.Nodes, func(n snapshot.Node) bool { return !taken[n.Name] && matches(n, m) })
			if at >= 0 {
				members[i].Node = s.Nodes[at].Name
				taken[members[i].Node] = true
			}
		}
	}
	return members
}

// Learners are the nodes whose member of etcd does not vote, as the others list it or it reports
// itself: its answer to /health is that of the members that do.
func Learners(s snapshot.Snapshot, members []Member) []string {
	var out []string
	for _, n := range s.Nodes {
		listed := slices.ContainsFunc(members, func(m Member) bool { return m.Node == n.Name && m.Learner })
		if listed || n.Etcd != nil && n.Etcd.Learner {
			out = append(out, n.Name)
		}
	}
	return out
}

// strangeMembers are the members of etcd that no node of the inventory is.
func strangeMembers(s snapshot.Snapshot, e certs.EtcdCluster) []Stranger {
	members := Members(s)
	if len(members) == 0 {
		return strangeServers(s, e)
	}
	var out []Stranger
	for _, m := range members {
		if m.Node != "" {
			continue
		}
		name := m.Name
		if !plain.MatchString(name) {
			name = m.ID
		}
		out = append(out, Stranger{
			Name: name, Role: cluster.Etcd, Etcd: e, Learner: m.Learner, MemberID: m.ID, PeerURLs: m.PeerURLs, By: m.By,
			Evidence: fmt.Sprintf("%s on %s lists the %s %q, ID %s, peer URL %s",
				e.Name, m.By, map[bool]string{true: "learner", false: "member"}[m.Learner], m.Name, m.ID,
				strings.Join(m.PeerURLs, ", ")),
		})
	}
	return out
}

// plain is a name that can be given to a flag as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// membership is what etcd's members list, each member once; preferably from those with a quorum,
// because another one's list may be outdated.
func membership(s snapshot.Snapshot) []Member {
	var out []Member
	for _, healthy := range []bool{true, false} {
		for _, n := range s.Nodes {
			if !runsEtcd(n) || n.Etcd == nil || n.Etcd.Healthy != healthy {
				continue
			}
			for _, m := range n.Etcd.Members {
				if !slices.ContainsFunc(out, func(other Member) bool { return other.ID == m.ID }) {
					out = append(out, Member{EtcdMember: m, By: n.Name})
				}
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}

// strangeServers are the addresses of etcd in the settings of API servers that no node of the
// inventory has: the only source if no member reports. A name may stand for several, and an etcd
// node that is not asked cannot report: both prove nothing.
func strangeServers(s snapshot.Snapshot, e certs.EtcdCluster) []Stranger {
	if slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool { return runsEtcd(n) && n.Failure != nil }) {
		return nil
	}
	var out []Stranger
	for _, by := range s.With(cluster.ControlPlane) {
		for _, host := range hosts(strings.Split(by.Facts["kube-apiserver.etcd-servers"], ",")) {
			if _, err := netip.ParseAddr(host); err != nil || isLoopback(host) {
				continue
			}
			known := slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool {
				return overlaps(namesOf(n, runsEtcd(n)), []string{host})
			})
			if known || slices.ContainsFunc(out, func(st Stranger) bool { return st.Name == host }) {
				continue
			}
			out = append(out, Stranger{
				Name: host, Role: cluster.Etcd, Etcd: e, By: by.Name,
				Evidence: fmt.Sprintf("the API server on %s is set to ask %s at %s; "+
					"no etcd member listed its members", by.Name, e.Name, host),
			})
		}
	}
	return out
}

// runsEtcd reports whether a node may be a member of etcd: the group etcd is empty if kubeadm keeps
// etcd on the control planes.
func runsEtcd(n snapshot.Node) bool { return n.Is(cluster.Etcd) || n.Is(cluster.ControlPlane) }

// namesOf are the names and addresses of a node: those of the inventory, and with own also those
// that the node itself reports.
func namesOf(n snapshot.Node, own bool) []string {
	out := []string{n.Name, n.KubernetesName, n.Address}
	if own {
		out = append(out, n.Facts["hostname"], n.Facts["kube-apiserver.advertise-address"])
		for _, component := range []string{apiServer, "etcd", "etcd-peer"} {
			e, _ := n.Endpoint(component)
			out = append(out, hostOf(e.Address))
		}
		for _, urls := range []string{n.Facts["etcd.listen-peer-urls"], n.Facts["etcd.listen-client-urls"]} {
			out = append(out, hosts(strings.Split(urls, ","))...)
		}
		out = append(out, n.OwnName())
	}
	return slices.DeleteFunc(out, func(name string) bool {
		a, err := netip.ParseAddr(name)
		return name == "" || isLoopback(name) || err == nil && a.IsUnspecified()
	})
}

// hosts are those of URLs; a text that is none has none.
func hosts(urls []string) []string {
	var out []string
	for _, text := range urls {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil && u.Hostname() != "" {
			out = append(out, u.Hostname())
		}
	}
	return out
}

// overlaps reports whether two lists of hosts have one in common.
func overlaps(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool { return same(x, y) })
	})
}
