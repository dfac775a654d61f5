package orchestrator

import (
	"bytes"
	crand "crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

const examples = "../inventory-examples"

// described are the nodes of an inventory, a line each, and the load balancer.
func described(c cluster.Cluster) []string {
	var out []string
	for _, n := range c.Nodes {
		line := fmt.Sprintf("%s %v %s:%d", n.Name, n.Roles, n.Address, n.Port)
		if n.KubernetesName != n.Name {
			line += " is " + n.KubernetesName
		}
		out = append(out, line)
	}
	if c.Endpoint != "" {
		out = append(out, "behind "+c.Endpoint)
	}
	return out
}

// Every example of inventory-examples/, read by Ansible, is the cluster that its header describes:
// nodes, roles, addresses, names and load balancer.
func TestInventoryExamples(t *testing.T) {
	t.Parallel()
	rows := []struct {
		inventories []string
		want        []string
	}{
		{[]string{"single.ini"}, []string{
			"node1 [control-plane etcd] 192.0.2.11:6443", "node2 [worker] 192.0.2.12:6443", "node3 [worker] 192.0.2.13:6443",
		}},
		{[]string{"ha"}, []string{
			"cp1 [control-plane etcd] 192.0.2.51:6443", "cp2 [control-plane etcd] 192.0.2.52:6443", "cp3 [control-plane etcd] 192.0.2.53:6443",
			"worker1 [worker] 192.0.2.61:6443", "worker2 [worker] 192.0.2.62:6443", "worker3 [worker] 192.0.2.63:6443", "behind 192.0.2.50:6443",
		}},
		{[]string{"external-etcd"}, []string{
			"cp1 [control-plane] 198.51.100.71:8443", "cp2 [control-plane] 198.51.100.72:8443",
			"worker1 [worker] 198.51.100.91:8443", "worker2 [worker] 198.51.100.92:8443",
			"etcd1 [etcd] 198.51.100.81:6443", "etcd2 [etcd] 198.51.100.82:6443", "etcd3 [etcd] 198.51.100.83:6443",
		}},
		{[]string{"route-reflectors.ini"}, []string{
			"cp1 [control-plane etcd] 203.0.113.11:6443", "worker1 [worker] 203.0.113.21:6443",
			"rr1 [worker] 203.0.113.31:6443", "rr2 [worker] 203.0.113.32:6443",
		}},
		{[]string{"legacy-groups.ini"}, []string{
			"master-a [control-plane etcd] 198.51.100.11:6443", "master-b [control-plane etcd] 198.51.100.12:6443", "master-c [control-plane etcd] 198.51.100.13:6443",
			"worker-a [worker] 198.51.100.21:6443", "worker-b [worker] 198.51.100.22:6443 is worker-b.example.com",
		}},
		{[]string{"bastion.ini"}, []string{
			"cp1 [control-plane etcd] 192.0.2.131:6443", "cp2 [control-plane etcd] 192.0.2.132:6443", "cp3 [control-plane etcd] 192.0.2.133:6443",
			"worker1 [worker] 192.0.2.141:6443",
		}},
		{[]string{"proxy-jump.ini"}, []string{
			"cp1 [control-plane etcd] 192.0.2.31:6443", "cp2 [control-plane etcd] 192.0.2.32:6443", "cp3 [control-plane etcd] 192.0.2.33:6443",
			"worker1 [worker] 192.0.2.41:6443", "worker2 [worker] 192.0.2.42:6443",
		}},
		{[]string{"expressions"}, []string{
			"cp1 [control-plane etcd] 10.20.30.11:8443 is cp1.fra.example.com", "cp2 [control-plane etcd] 10.20.30.12:8443 is cp2.fra.example.com",
			"cp3 [control-plane etcd] 10.20.30.13:8443 is cp3.fra.example.com",
			"worker1 [worker] 10.20.30.21:8443 is worker1.fra.example.com", "worker2 [worker] 198.51.100.222:8443 is worker2.fra.example.com",
			"behind 10.20.30.11:8443",
		}},
		{[]string{"several/hosts.yaml", "several/roles.ini"}, []string{
			"rack1-a [control-plane etcd] 10.1.1.1:6443", "rack2-a [control-plane etcd] 10.1.2.1:6443",
			"rack1-b [worker] 10.1.1.2:6443", "rack2-b [worker] 10.1.2.2:6443",
		}},
		{[]string{"constructed"}, []string{
			"i-0a1 [control-plane etcd] 10.4.0.11:6443 is cp1", "i-0a2 [control-plane etcd] 10.4.0.12:6443 is cp2", "i-0b1 [worker] 10.4.0.21:6443 is worker1",
		}},
		{[]string{"script/inventory.sh"}, []string{
			"cp1 [control-plane etcd] 203.0.113.211:6443", "worker1 [worker] 203.0.113.221:6443", "worker2 [worker] 203.0.113.222:6443",
		}},
		{[]string{"vaulted/hosts.yaml"}, []string{"cp1 [control-plane etcd] 192.0.2.232:6443", "worker1 [worker] 192.0.2.241:6443"}},
	}
	tested := map[string]bool{}
	for _, row := range rows {
		tested[strings.Split(row.inventories[0], "/")[0]] = true
		t.Run(row.inventories[0], func(t *testing.T) {
			t.Parallel()
			opts := Options{StateDir: t.TempDir()}
			for _, name := range row.inventories {
				opts.Ansible.Inventories = append(opts.Ansible.Inventories, filepath.Join(examples, name))
			}
			if row.inventories[0] == "vaulted/hosts.yaml" {
				opts.Ansible = vaulted(t)
			}
			opts.Ansible.BinDir = realAnsible(t)
			o, err := New(opts)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := o.nodes(t.Context())
			if got := described(c); err != nil || !slices.Equal(got, row.want) {
				t.Errorf("%v; it is\n  %s\nwant\n  %s", err, strings.Join(got, "\n  "), strings.Join(row.want, "\n  "))
			}
			// What ansible-inventory prints has the same nodes, in the same roles.
			listed, _, err := o.listed(t.Context())
			same := func(a, b cluster.Node) bool { return a.Name == b.Name && slices.Equal(a.Roles, b.Roles) }
			if err != nil || !slices.EqualFunc(listed.Nodes, c.Nodes, same) {
				t.Errorf("ansible-inventory: %v\n  %s", err, strings.Join(described(listed), "\n  "))
			}
		})
	}
	entries, err := os.ReadDir(examples)
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(examples, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "README.md" && (!tested[e.Name()] || !bytes.Contains(index, []byte("[`"+e.Name()))) {
			t.Errorf("%s is not in this test, or not in the table of the README", e.Name())
		}
	}
}

// The groups that Kubespray makes at run time exist with each Ansible, with their group_vars,
// whatever variables the first host lacks.
func TestGroupsOfRunTime(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"k8s_cluster":        "kube_apiserver_port: 8443\nkube_override_hostname: \"{{ inventory_hostname }}.example.org\"\nupgrade_node_confirm: true\n",
		"kube_control_plane": "access_ip: 10.0.0.1\n",
		"kube_node":          "access_ip: 10.0.0.2\n",
		"calico_rr":          "access_ip: 10.0.0.3\n",
		"etcd":               "kube_apiserver_port: 1\n",
	}
	want := []string{
		"node1 [control-plane] 10.0.0.1:8443 is node1.example.org", "node2 [worker] 10.0.0.2:8443 is node2.example.org",
		"node3 [worker] 10.0.0.3:8443 is node3.example.org", "node4 [etcd] node4:1",
	}
	first := "node1 ansible_host=\"{{ nowhere }}\" ansible_connection=\"{{ nowhere }}\" ansible_become_password=\"{{ nowhere }}\"\n"
	for name, inventory := range map[string]string{
		"no k8s_cluster":         "[kube_control_plane]\n" + first + "[kube_node]\nnode2\n[calico_rr]\nnode3\n[etcd]\nnode4\n",
		"old names":              "[kube-master]\n" + first + "[kube-node]\nnode2\n[calico-rr]\nnode3\n[etcd]\nnode4\n[k8s-cluster:children]\nkube-master\nkube-node\n",
		"k8s_cluster without rr": "[kube_control_plane]\n" + first + "[kube_node]\nnode2\n[calico_rr]\nnode3\n[etcd]\nnode4\n[k8s_cluster:children]\nkube_control_plane\nkube_node\n",
	} {
		for _, bin := range append([]string{realAnsible(t)}, testansible.Bins(t)[1:]...) { // PATH's first is that of the examples
			t.Run(name+" "+bin, func(t *testing.T) {
				t.Parallel()
				files := map[string]string{"inventory/hosts.ini": inventory}
				for group, text := range vars {
					files["inventory/group_vars/"+group+".yml"] = text
				}
				dir := kubesprayDir(t, "[]", files)
				o, err := New(Options{StateDir: t.TempDir(), KubesprayDir: dir, Ansible: ansible.Options{BinDir: bin, Inventories: []string{dir + "/inventory/hosts.ini"}}})
				if err != nil {
					t.Fatal(err)
				}
				c, stated, err := o.nodes(t.Context())
				if got := described(c); err != nil || !slices.Equal(got, want) {
					t.Errorf("%v; it is\n  %s\nwant\n  %s", err, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
				}
				if err := o.prompts("upgrade-cluster.yml", stated); err == nil || !strings.Contains(err.Error(), "upgrade_node_confirm is set for node1") {
					t.Errorf("a key that Kubespray would wait for: %v", err)
				}
			})
		}
	}
}

// vaulted is a copy of the example with vaulted files, made as its header describes.
func vaulted(t *testing.T) ansible.Options {
	t.Helper()
	dir := t.TempDir()
	inventory := filepath.Join(dir, "inventory")
	if err := os.CopyFS(inventory, os.DirFS(filepath.Join(examples, "vaulted"))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"vault": crand.Text(), "become": crand.Text()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(inventory, "encrypt.sh"), "vault", "become")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return ansible.Options{Inventories: []string{filepath.Join(inventory, "hosts.yaml")}, VaultPasswordFiles: []string{filepath.Join(dir, "vault")}}
}
