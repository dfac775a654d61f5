package snapshot

import (
	"maps"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// EtcdClusters are the etcd clusters that a snapshot knows: the main one, and others of which a node
// has a member, or which an API server is set to ask.
func (s Snapshot) EtcdClusters() []certs.EtcdCluster {
	return slices.DeleteFunc(certs.EtcdClusters(), func(e certs.EtcdCluster) bool {
		return !e.Main() && !slices.ContainsFunc(s.Nodes, func(n Node) bool {
			return n.Facts[e.Servers] != "" || n.HasMember(e)
		})
	})
}

// HasMember reports whether a node is set up as a member of an etcd cluster: the group etcd is that
// of the main one, and others have a unit or its settings.
func (n Node) HasMember(e certs.EtcdCluster) bool {
	if e.Main() {
		return n.Is(cluster.Etcd)
	}
	_, unit := n.Units[e.Name]
	return unit || n.Facts[e.Name+".listen-client-urls"] != ""
}

// OfEtcd is the snapshot in which an etcd cluster takes the place of the main one: what holds of etcd
// is then computed in the same way for each. A node of the group etcd that was not inspected counts
// as a member.
func (s Snapshot) OfEtcd(e certs.EtcdCluster) Snapshot {
	s.Nodes = slices.Clone(s.Nodes)
	for i, n := range s.Nodes {
		s.Nodes[i] = n.OfEtcd(e)
	}
	return s
}

// OfEtcd is the same for one node.
func (n Node) OfEtcd(e certs.EtcdCluster) Node {
	if e.Main() {
		return n
	}
	if !n.HasMember(e) && n.Failure == nil {
		n.Roles = slices.DeleteFunc(slices.Clone(n.Roles), func(r cluster.Role) bool { return r == cluster.Etcd })
	}
	// as is the name under which the main cluster has what is of e; empty for what is of the main one.
	as := func(name string) string {
		for _, end := range []string{"", "-peer", "-log"} {
			switch name {
			case e.Name + end:
				return certs.MainEtcd + end
			case certs.MainEtcd + end:
				return ""
			}
		}
		return name
	}
	n.Etcd = n.OtherEtcd[e.Name]
	n.Facts = maps.Clone(n.Facts)
	maps.DeleteFunc(n.Facts, func(name, _ string) bool { return strings.HasPrefix(name, certs.MainEtcd+".") })
	for name, value := range maps.Clone(n.Facts) {
		if setting, ok := strings.CutPrefix(name, e.Name+"."); ok {
			n.Facts[certs.MainEtcd+"."+setting] = value
		}
	}
	if n.Facts != nil {
		n.Facts[certs.EtcdClusters()[0].Servers] = e.Endpoints(n.Facts[e.Servers])
	}
	units, results := map[string]Unit{}, map[string]Result{}
	for name, u := range n.Units {
		units[as(name)] = u
	}
	for name, r := range n.Results {
		results[as(name)] = r
	}
	delete(units, "")
	delete(results, "")
	n.Units, n.Results = units, results
	n.Endpoints = slices.Clone(n.Endpoints)
	for i := range n.Endpoints {
		n.Endpoints[i].Name = as(n.Endpoints[i].Name)
	}
	n.Processes = slices.Clone(n.Processes)
	for i := range n.Processes {
		n.Processes[i].Name = as(n.Processes[i].Name)
	}
	n.Certificates = slices.Clone(n.Certificates)
	for i, c := range n.Certificates {
		if c.Served {
			n.Certificates[i].Kind = certs.Kind(as(string(c.Kind)))
		}
	}
	return n
}
