// Package cluster turns an Ansible inventory into the nodes of one Kubernetes
// cluster and their roles.
//
// The input is the JSON that "ansible-inventory --list" prints, so that every
// inventory source and plugin that works for ansible-playbook works here. The event
// callback reports the same with expressions rendered. The package does no I/O.
//
//	c, err := cluster.Parse(output) // of ansible-inventory --list
//	for _, n := range c.With(cluster.ControlPlane) { ... }
//
// Most programs need not call it: a snapshot knows its Cluster.
package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Role is what a node does in the cluster. One node may have several.
type Role string

// The roles, named after Kubespray's groups.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
	Etcd         Role = "etcd"
)

// groups maps each role to the inventory groups that give it, the current name
// first. Kubespray up to v2.15 used the names with a dash, later releases still
// understand them (Kubespray, roles/dynamic_groups). Route reflectors of Calico are
// workers: they run a kubelet (playbooks/upgrade_cluster.yml, kube_node:calico_rr).
var groups = []struct {
	role  Role
	names []string
}{
	{ControlPlane, []string{"kube_control_plane", "kube-master"}},
	{Worker, []string{"kube_node", "kube-node", "calico_rr", "calico-rr"}},
	{Etcd, []string{"etcd"}},
}

// MadeGroups are the groups that Kubespray puts into others when its playbooks begin, in that
// order (its role dynamic_groups; the playbook groups.yml does so by hand).
var MadeGroups = [][2]string{
	{"kube-master", "kube_control_plane"}, {"kube-node", "kube_node"}, {"calico-rr", "calico_rr"},
	{"k8s-cluster", "k8s_cluster"},
	{"kube_control_plane", "k8s_cluster"}, {"kube_node", "k8s_cluster"}, {"calico_rr", "k8s_cluster"},
}

// Node is one host of the inventory that belongs to the cluster.
type Node struct {
	// Name is the inventory hostname: the name Ansible reports events under.
	Name string `json:"name"`
	// Roles in the order control plane, worker, etcd.
	Roles []Role `json:"roles"`
	// KubernetesName is the node's name in the API: kube_override_hostname
	// where the inventory sets it, else Name.
	KubernetesName string `json:"kubernetesName"`
	// Address is how other machines reach the node: access_ip or ip, access_ip6 or ip6,
	// or ansible_host, else Name (Kubespray, roles/kubespray_defaults, main_access_ip).
	Address string `json:"address,omitempty"`
	// Port is what the node's API server listens on: kube_apiserver_port.
	Port int `json:"port,omitempty"`
}

// Is reports whether the node has the role.
func (n Node) Is(r Role) bool { return slices.Contains(n.Roles, r) }

// Cluster is the set of nodes that one inventory describes.
type Cluster struct {
	// Nodes in inventory order of their groups: control planes, workers, etcd.
	Nodes []Node `json:"nodes"`
	// Endpoint is the "host:port" of the load balancer before the API servers
	// (loadbalancer_apiserver, apiserver_loadbalancer_domain_name); empty without one.
	Endpoint string `json:"endpoint,omitempty"`
	// ExternalCA: the keys of the CAs are kept outside, and nothing on the
	// nodes can issue a certificate (kube_external_ca_mode, Kubespray v2.19 and later).
	ExternalCA bool `json:"externalCA,omitempty"`
	// Artifacts is the directory on the control node for what a deployment leaves there, such as
	// a copy of admin.conf (artifacts_dir); empty where the inventory sets none.
	Artifacts string `json:"artifacts,omitempty"`
}

// With returns the nodes that have the role, in order.
func (c Cluster) With(r Role) []Node {
	var out []Node
	for _, n := range c.Nodes {
		if n.Is(r) {
			out = append(out, n)
		}
	}
	return out
}

// Node returns the node with that inventory name.
func (c Cluster) Node(name string) (Node, bool) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Named returns the node of that name, or else the nodes of the group of that name, as
// far as it is one that stands for a role; none for any other name. Route reflectors
// count among kube_node and are no group of their own here.
func (c Cluster) Named(name string) []Node {
	if n, ok := c.Node(name); ok {
		return []Node{n}
	}
	for _, row := range groups {
		if slices.Contains(row.names, name) && !strings.HasPrefix(name, "calico") {
			return c.With(row.role)
		}
	}
	return nil
}

// Names returns the inventory names of nodes, in order.
func Names(nodes []Node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
}

// Some are names for a sentence: so many, separated by commas, and the number of the others. One
// more is named rather than counted.
func Some(names []string, most int) string {
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Errors that Parse returns; wrapped with what was found.
var (
	// ErrEmpty means that the inventory has no hosts at all.
	ErrEmpty = errors.New("the inventory has no hosts")
	// ErrNoControlPlane means that no host is in a control plane group.
	ErrNoControlPlane = errors.New("the inventory has no control plane hosts")
)

type group struct {
	Hosts    []string `json:"hosts"`
	Children []string `json:"children"`
}

type meta struct {
	HostVars map[string]hostVars `json:"hostvars"`
}

// Variables are the host variables that Parse reads.
var Variables = []string{
	"access_ip", "access_ip6", "ansible_host", "ansible_ssh_host", "apiserver_loadbalancer_domain_name",
	"artifacts_dir",
	"ip", "ip6", "ipv4_stack", "kube_apiserver_port", "kube_external_ca_mode", "kube_override_hostname",
	"loadbalancer_apiserver",
}

// Parse reads the JSON of "ansible-inventory --list".
//
// It returns ErrEmpty or ErrNoControlPlane, wrapped, when the inventory cannot
// describe a Kubespray cluster, and a plain error when data is not such JSON.
func Parse(data []byte) (Cluster, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return Cluster{}, fmt.Errorf("reading the JSON of ansible-inventory: %w", err)
	}
	var vars meta
	if m, ok := raw["_meta"]; ok {
		if err := json.Unmarshal(m, &vars); err != nil {
			return Cluster{}, fmt.Errorf("reading the host variables of ansible-inventory: %w", err)
		}
	}
	all := map[string]group{}
	for name, v := range raw {
		if name == "_meta" {
			continue
		}
		var g group
		if err := json.Unmarshal(v, &g); err != nil {
			return Cluster{}, fmt.Errorf("reading group %q of ansible-inventory: %w", name, err)
		}
		all[name] = g
	}

	var c Cluster
	index := map[string]int{}
	for _, row := range groups {
		for _, name := range row.names {
			for _, host := range members(all, name) {
				if host == "" {
					return Cluster{}, fmt.Errorf("a host in group %q of ansible-inventory has no name", name)
				}
				i, ok := index[host]
				if !ok {
					i = len(c.Nodes)
					index[host] = i
					c.Nodes = append(c.Nodes, describe(host, vars.HostVars[host]))
				}
				if !c.Nodes[i].Is(row.role) {
					c.Nodes[i].Roles = append(c.Nodes[i].Roles, row.role)
				}
			}
		}
	}
	if controlPlanes := c.With(ControlPlane); len(controlPlanes) > 0 {
		first := vars.HostVars[controlPlanes[0].Name]
		c.Endpoint, c.ExternalCA = loadBalancer(first, controlPlanes[0].Port), Truth(first["kube_external_ca_mode"])
		c.Artifacts = first.text("artifacts_dir")
		return c, nil
	}
	if len(members(all, "all")) == 0 && len(vars.HostVars) == 0 && len(c.Nodes) == 0 {
		return Cluster{}, ErrEmpty
	}
	return Cluster{}, fmt.Errorf("%w: none in the groups %s; its groups are: %s",
		ErrNoControlPlane, strings.Join(groups[0].names, " or "), strings.Join(groupNames(all), ", "))
}

// members lists the hosts of a group and of its children, each once, in order.
func members(all map[string]group, name string) []string {
	var out []string
	seenGroup, seenHost := map[string]bool{}, map[string]bool{}
	var walk func(string)
	walk = func(name string) {
		if seenGroup[name] {
			return
		}
		seenGroup[name] = true
		for _, h := range all[name].Hosts {
			if !seenHost[h] {
				seenHost[h] = true
				out = append(out, h)
			}
		}
		for _, child := range all[name].Children {
			walk(child)
		}
	}
	walk(name)
	return out
}

func groupNames(all map[string]group) []string {
	var out []string
	for name := range all {
		if name != "all" {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

// describe reads what a host's variables tell of a node.
func describe(host string, vars hostVars) Node {
	return Node{
		Name:           host,
		KubernetesName: cmp.Or(vars.text("kube_override_hostname"), host),
		Address:        cmp.Or(strings.Trim(vars.address(), "[]"), strings.Trim(host, "[]"), host),
		Port:           cmp.Or(vars.port("kube_apiserver_port"), defaultPort),
	}
}

// address is where a host is reached; "" where no variable has it.
func (v hostVars) address() string {
	names := []string{"access_ip", "ip", "access_ip6", "ip6", "ansible_host", "ansible_ssh_host"}
	if set, ok := v["ipv4_stack"]; ok && !Truth(set) { // IPv6 alone, whatever else is set
		names = append([]string{"access_ip6", "ip6"}, names...)
	}
	for _, name := range names {
		if text := v.text(name); text != "" {
			return text
		}
	}
	return ""
}

// defaultPort is kube_apiserver_port of Kubespray's defaults, and kubeadm's.
const defaultPort = 6443

// loadBalancer returns the "host:port" of the load balancer before the API
// servers, "" without one. Kubespray has one where loadbalancer_apiserver is set,
// and lets clients call it by apiserver_loadbalancer_domain_name. Its address is
// taken before, for the name may be known on the nodes alone.
func loadBalancer(vars hostVars, port int) string {
	lb, ok := vars["loadbalancer_apiserver"].(map[string]any)
	if !ok {
		return ""
	}
	host := strings.Trim(cmp.Or(hostVars(lb).text("address"), vars.text("apiserver_loadbalancer_domain_name")), "[]")
	if host == "" || strings.ContainsAny(host, "[] \t\r\n") { // which is no host, and would be no address
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(cmp.Or(hostVars(lb).port("port"), port)))
}

// hostVars are variables of a host. An expression that is left in them, because it
// needs facts or because ansible-inventory printed it, counts for nothing here.
type hostVars map[string]any

// text returns a variable that is plain text; "" for any other.
func (v hostVars) text(name string) string {
	if s, ok := v[name].(string); ok && !strings.Contains(s, "{{") && !strings.Contains(s, "{%") {
		return strings.TrimSpace(s)
	}
	return ""
}

// port returns a variable that is a port, as a number or as text; 0 for any other.
func (v hostVars) port(name string) int {
	n, err := strconv.Atoi(v.text(name))
	if f, ok := v[name].(float64); ok {
		n, err = int(f), nil
	}
	if err != nil || n < 1 || n > 65535 {
		return 0
	}
	return n
}

// Truth is Ansible's filter bool for a variable as ansible-inventory prints it. An
// expression, which is not rendered there, is false.
func Truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v == 1
	case string:
		return slices.Contains([]string{"yes", "on", "1", "true"}, strings.ToLower(v))
	default:
		return false
	}
}
