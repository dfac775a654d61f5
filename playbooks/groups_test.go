package playbooks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// Every playbook begins with the groups that Kubespray makes at run time, and by hand,
// also for a part of the nodes, their variables count. Beside the collection each has a
// playbook that runs it, in whose name words are joined as in Kubespray's.
func TestGroupsByHand(t *testing.T) {
	t.Parallel()
	books, err := filepath.Glob(playbooks.Collection + "/playbooks/*.yml")
	if err != nil || len(books) < 10 {
		t.Fatalf("%v: %v", books, err)
	}
	for _, name := range books {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, plays, _ := strings.Cut(string(text), "\n- ")
		_, begins, _ := strings.Cut(plays, "\n")
		if filepath.Base(name) != "groups.yml" && !strings.HasPrefix(begins, "  ansible.builtin.import_playbook: groups.yml\n") {
			t.Errorf("%s does not begin with the groups", name)
		}
		wrapper := strings.ReplaceAll(filepath.Base(name), "_", "-")
		if text, err := os.ReadFile(wrapper); err != nil || !strings.HasSuffix(string(text), "  ansible.builtin.import_playbook: "+name+"\n") || strings.Count(string(text), "\n") != 3 {
			t.Errorf("%s does not run %s alone: %v\n%s", wrapper, name, err, text)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"new.ini":                    "[kube_control_plane]\nnode1\n[kube_node]\nnode2\n",
		"old.ini":                    "[kube-master]\nnode1\n[kube-node]\nnode2\n[k8s-cluster:children]\nkube-master\nkube-node\n",
		"group_vars/k8s_cluster.yml": "ansible_connection: local\nansible_become: false\nkube_config_dir: /of-the-group/{{ inventory_hostname }}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, inventory := range []string{"new.ini", "old.ini"} {
		for _, bin := range testansible.Bins(t) {
			t.Run(inventory+" "+bin, func(t *testing.T) {
				t.Parallel()
				cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "ansible-playbook"), "-v", "-i", filepath.Join(dir, inventory), "inspect.yml", "--limit", "node2")
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), "FACT config-dir /of-the-group/node2") || strings.Contains(string(out), "/node1") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
