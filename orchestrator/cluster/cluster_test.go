package cluster_test

import (
	"errors"
	"net"
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
	return cluster.Node{Name: name, KubernetesName: name, Roles: roles, Address: name, Port: 6443}
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
			"route reflectors are workers, by either name",
			`{"kube_control_plane": {"hosts": ["a"]}, "kube_node": {"hosts": ["w"]}, "calico_rr": {"hosts": ["r"]}, "calico-rr": {"hosts": ["s", "w"]}}`,
			[]cluster.Node{node("a", cp), node("w", worker), node("r", worker), node("s", worker)},
		},
		{
			"kube_override_hostname is the name in the API",
			`{"_meta": {"hostvars": {"a": {"kube_override_hostname": "a.example.com"}}}, "kube_control_plane": {"hosts": ["a"]}}`,
			[]cluster.Node{{Name: "a", KubernetesName: "a.example.com", Roles: []cluster.Role{cp}, Address: "a", Port: 6443}},
		},
		{
			"an expression that is left there is no name",
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

// Where a node is reached, and the load balancer: Kubespray's variables, in its order.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, vars, address string
		port                int
		endpoint            string
	}{
		{"nothing is set", `{}`, "a", 6443, ""},
		{"only how Ansible connects", `{"ansible_host": "192.0.2.1"}`, "192.0.2.1", 6443, ""},
		{"the node's own address", `{"ansible_host": "192.0.2.1", "ip": "10.0.0.1"}`, "10.0.0.1", 6443, ""},
		{"the address for others", `{"ansible_host": "192.0.2.1", "ip": "10.0.0.1", "access_ip": "10.9.0.1"}`, "10.9.0.1", 6443, ""},
		{"its name of before Ansible 2.0", `{"ansible_ssh_host": "192.0.2.1"}`, "192.0.2.1", 6443, ""},
		{"IPv6 alone", `{"ansible_host": "192.0.2.1", "ip6": "fd00::1"}`, "fd00::1", 6443, ""},
		{"IPv6 alone, for others", `{"ip6": "fd00::1", "access_ip6": "[fd00::9]", "ip": ""}`, "fd00::9", 6443, ""},
		{"both", `{"ip": "10.0.0.1", "ip6": "fd00::1"}`, "10.0.0.1", 6443, ""},
		{"both, and a cluster of IPv6 alone", `{"ip": "10.0.0.1", "ip6": "fd00::1", "ipv4_stack": "False"}`, "fd00::1", 6443, ""},
		{"an expression is no address", `{"access_ip": "{{ ip }}", "ip": "{% if x %}1{% endif %}", "ansible_host": "192.0.2.1"}`, "192.0.2.1", 6443, ""},
		{"a port as a number", `{"kube_apiserver_port": 8443}`, "a", 8443, ""},
		{"a port as text", `{"kube_apiserver_port": "8443"}`, "a", 8443, ""},
		{"no port", `{"kube_apiserver_port": 70000}`, "a", 6443, ""},
		{"a load balancer", `{"loadbalancer_apiserver": {"address": "10.0.0.9", "port": 8383}}`, "a", 6443, "10.0.0.9:8383"},
		{"one with a name too", `{"loadbalancer_apiserver": {"address": "10.0.0.9", "port": "8383"}, "apiserver_loadbalancer_domain_name": "api.example.com"}`, "a", 6443, "10.0.0.9:8383"},
		{"one with a name alone", `{"loadbalancer_apiserver": {"address": "{{ vip }}"}, "apiserver_loadbalancer_domain_name": "api.example.com", "kube_apiserver_port": 8443}`, "a", 8443, "api.example.com:8443"},
		{"one in IPv6", `{"loadbalancer_apiserver": {"address": "fd00::9"}}`, "a", 6443, "[fd00::9]:6443"},
		{"a name without a load balancer", `{"apiserver_loadbalancer_domain_name": "api.example.com"}`, "a", 6443, ""},
		{"an expression is no load balancer", `{"loadbalancer_apiserver": "{{ lb }}"}`, "a", 6443, ""},
		{"one without an address", `{"loadbalancer_apiserver": {"port": 8383}}`, "a", 6443, ""},
	} {
		c, err := cluster.Parse([]byte(`{"_meta": {"hostvars": {"a": ` + row.vars + `}}, "kube_control_plane": {"hosts": ["a"]}}`))
		if err != nil {
			t.Fatal(err)
		}
		if n := c.Nodes[0]; n.Address != row.address || n.Port != row.port || c.Endpoint != row.endpoint {
			t.Errorf("%s: %s, %d and %q, want %s, %d and %q", row.name, n.Address, n.Port, c.Endpoint, row.address, row.port, row.endpoint)
		}
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

// Whether the keys of the CAs are kept outside is what the first control plane's
// variable holds, as Ansible understands truth; an expression counts for nothing.
func TestExternalCA(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		`true`: true, `false`: false, `"true"`: true, `"Yes"`: true, `"no"`: false, `1`: true, `0`: false, `"{{ x }}"`: false, `null`: false, `[]`: false,
	} {
		c, err := cluster.Parse([]byte(`{"_meta": {"hostvars": {"a": {"kube_external_ca_mode": ` + value + `}}}, "kube_control_plane": {"hosts": ["a"]}}`))
		if err != nil || c.ExternalCA != want {
			t.Errorf("%s: %t, %v", value, c.ExternalCA, err)
		}
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
	reflector := cluster.Cluster{Nodes: []cluster.Node{node("etcd", cp), node("r", worker)}}
	for _, row := range []struct {
		of   cluster.Cluster
		name string
		want []string
	}{
		{c, "w", []string{"w"}},
		{c, "etcd", []string{"a", "e"}},
		{c, "kube_control_plane", []string{"a"}},
		{c, "kube-master", []string{"a"}},
		{c, "kube_node", []string{"w"}},
		{c, "all", []string{}},
		{c, "", []string{}},
		{reflector, "calico_rr", []string{}},
		{reflector, "etcd", []string{"etcd"}}, // a node goes before a group
	} {
		if got := cluster.Names(row.of.Named(row.name)); !reflect.DeepEqual(got, row.want) {
			t.Errorf("named %q: %v, want %v", row.name, got, row.want)
		}
	}
	if n, ok := c.Node("w"); !ok || !n.Is(worker) || n.Is(cp) {
		t.Errorf("w: %+v %t", n, ok)
	}
	if _, ok := c.Node("z"); ok {
		t.Error("a node that is not there was found")
	}
}

// FuzzParse: an inventory is a cluster whose nodes can be distinguished and asked, or
// an error.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"_meta":{"hostvars":{"cp1":{"ip":"10.0.0.1","loadbalancer_apiserver":{"address":"10.0.0.9","port":8443}}}},"all":{"children":["kube_control_plane","kube_node"]},"kube_control_plane":{"hosts":["cp1"]},"kube_node":{"hosts":["cp1","w1"]},"etcd":{"children":["kube_control_plane"]}}`,
		`{"kube-master":{"hosts":["cp1"]}}`, "{}", "null", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := cluster.Parse(data)
		if err != nil {
			if len(c.Nodes) > 0 {
				t.Errorf("nodes next to the error %v: %+v", err, c.Nodes)
			}
			return
		}
		if len(c.With(cp)) == 0 {
			t.Errorf("a cluster without a control plane: %+v", c)
		}
		names := map[string]bool{}
		for _, n := range c.Nodes {
			if n.Name == "" || names[n.Name] || n.KubernetesName == "" || n.Address == "" || len(n.Roles) == 0 || n.Port < 1 || n.Port > 65535 {
				t.Errorf("not a node: %+v", n)
			}
			names[n.Name] = true
		}
		if _, _, err := net.SplitHostPort(c.Endpoint); c.Endpoint != "" && err != nil {
			t.Errorf("endpoint %q: %v", c.Endpoint, err)
		}
	})
}
