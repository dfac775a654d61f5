package cluster_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

const (
	cp     = cluster.ControlPlane
	worker = cluster.Worker
	etcd   = cluster.Etcd
)

func node(name string, roles ...cluster.Role) cluster.Node {
	return cluster.Node{Name: name, KubernetesName: name, Roles: roles}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		json string
		want []cluster.Node
	}{
		{
			"the group names since v2.16",
			`{"_meta": {"hostvars": {}}, "all": {"children": ["ungrouped", "k8s_cluster", "etcd"]},
			  "k8s_cluster": {"children": ["kube_control_plane", "kube_node"]},
			  "kube_control_plane": {"hosts": ["a", "b"]}, "kube_node": {"hosts": ["w"]}, "etcd": {"hosts": ["a", "b", "e"]}}`,
			[]cluster.Node{node("a", cp, etcd), node("b", cp, etcd), node("w", worker), node("e", etcd)},
		},
		{
			"the group names up to v2.15",
			`{"kube-master": {"hosts": ["m"]}, "kube-node": {"hosts": ["w"]}, "etcd": {"hosts": ["m"]}}`,
			[]cluster.Node{node("m", cp, etcd), node("w", worker)},
		},
		{
			"both spellings: the union, each node once",
			`{"kube_control_plane": {"hosts": ["a"]}, "kube-master": {"hosts": ["a", "b"]}, "kube_node": {"children": ["kube-node"]}, "kube-node": {"hosts": ["w"]}}`,
			[]cluster.Node{node("a", cp), node("b", cp), node("w", worker)},
		},
		{
			"etcd:children",
			`{"kube_control_plane": {"hosts": ["a"]}, "etcd": {"children": ["kube_control_plane"]}}`,
			[]cluster.Node{node("a", cp, etcd)},
		},
		{
			"children of children, with a circle",
			`{"kube_control_plane": {"children": ["x"]}, "x": {"hosts": ["a"], "children": ["y"]}, "y": {"hosts": ["a", "b"], "children": ["x"]}}`,
			[]cluster.Node{node("a", cp), node("b", cp)},
		},
		{
			"no k8s_cluster: it may be left out since v2.27",
			`{"kube_control_plane": {"hosts": ["a"]}, "kube_node": {"hosts": ["w"]}}`,
			[]cluster.Node{node("a", cp), node("w", worker)},
		},
		{
			"one node in every group keeps its roles in order",
			`{"etcd": {"hosts": ["a"]}, "kube_node": {"hosts": ["a"]}, "kube_control_plane": {"hosts": ["a"]}}`,
			[]cluster.Node{node("a", cp, worker, etcd)},
		},
		{
			"a host in no group of the cluster is no node",
			`{"bastion": {"hosts": ["b"]}, "kube_control_plane": {"hosts": ["a"]}, "ungrouped": {"hosts": ["x"]}}`,
			[]cluster.Node{node("a", cp)},
		},
		{
			"kube_override_hostname is the name in the API",
			`{"_meta": {"hostvars": {"a": {"kube_override_hostname": "a.example.com"}}}, "kube_control_plane": {"hosts": ["a"]}}`,
			[]cluster.Node{{Name: "a", KubernetesName: "a.example.com", Roles: []cluster.Role{cp}}},
		},
		{
			"an expression there is Ansible's to render",
			`{"_meta": {"hostvars": {"a": {"kube_override_hostname": "{{ inventory_hostname }}"}}}, "kube_control_plane": {"hosts": ["a"]}}`,
			[]cluster.Node{node("a", cp)},
		},
		{
			"nothing, or no text, there is no name",
			`{"_meta": {"hostvars": {"a": {"kube_override_hostname": ""}, "b": {"kube_override_hostname": 7}}}, "kube_control_plane": {"hosts": ["a", "b"]}}`,
			[]cluster.Node{node("a", cp), node("b", cp)},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := cluster.Parse([]byte(row.json))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Nodes, row.want) {
				t.Errorf("nodes are\n  %+v, want\n  %+v", got.Nodes, row.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		json string
		is   error
		text string
	}{
		{"nothing in it", `{"_meta": {"hostvars": {}}, "all": {"children": ["ungrouped"]}}`, cluster.ErrEmpty, ""},
		{"an empty document", `{}`, cluster.ErrEmpty, ""},
		{
			"hosts, and no control plane: its groups are named", `{"all": {"children": ["web", "db"]}, "web": {"hosts": ["a"]}, "db": {"hosts": ["b"]}}`,
			cluster.ErrNoControlPlane, "none in the groups kube_control_plane or kube-master; its groups are: db, web",
		},
		{"workers alone", `{"kube_node": {"hosts": ["w"]}}`, cluster.ErrNoControlPlane, "its groups are: kube_node"},
		{"an empty control plane group", `{"kube_control_plane": {}, "kube_node": {"hosts": ["w"]}}`, cluster.ErrNoControlPlane, ""},
		{"hosts only in _meta", `{"_meta": {"hostvars": {"a": {}}}}`, cluster.ErrNoControlPlane, ""},
		{"no JSON", `Usage: ansible-inventory`, nil, "reading the JSON of ansible-inventory"},
		{"a list", `[]`, nil, "reading the JSON of ansible-inventory"},
		{"a group that is no group", `{"kube_control_plane": ["a"]}`, nil, `reading group "kube_control_plane"`},
		{"variables that are none", `{"_meta": []}`, nil, "reading the host variables"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c, err := cluster.Parse([]byte(row.json))
			switch {
			case err == nil:
				t.Fatalf("no error, but %+v", c)
			case row.is != nil && !errors.Is(err, row.is):
				t.Errorf("error is %v, want %v", err, row.is)
			case row.is == nil && (errors.Is(err, cluster.ErrEmpty) || errors.Is(err, cluster.ErrNoControlPlane)):
				t.Errorf("what is no inventory is taken for one: %v", err)
			case !strings.Contains(err.Error(), row.text):
				t.Errorf("error is %q, want %q in it", err, row.text)
			}
		})
	}
}

func TestLookups(t *testing.T) {
	t.Parallel()
	c := cluster.Cluster{Nodes: []cluster.Node{node("a", cp, etcd), node("w", worker), node("e", etcd)}}
	if got := cluster.Names(c.With(etcd)); !reflect.DeepEqual(got, []string{"a", "e"}) {
		t.Errorf("etcd nodes: %v", got)
	}
	if got := cluster.Names(nil); len(got) != 0 {
		t.Errorf("names of nothing: %v", got)
	}
	if n, ok := c.Node("w"); !ok || !n.Is(worker) || n.Is(cp) {
		t.Errorf("w: %+v %t", n, ok)
	}
	if _, ok := c.Node("z"); ok {
		t.Error("a node that is not there was found")
	}
}
