package playbooks_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/payload"
	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// Every playbook begins with the groups that Kubespray makes at run time, so that their variables
// count by hand and for a part of the nodes, too. Next to the collection each has a playbook that
// runs it, in whose name words are joined as in Kubespray's.
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
		if base := filepath.Base(name); base == "collect.yml" || base == "keep.yml" {
			continue // parts of others
		}
		if filepath.Base(name) != "groups.yml" && !strings.HasPrefix(begins, "  ansible.builtin.import_playbook: groups.yml\n") {
			t.Errorf("%s does not begin with the groups", name)
		}
		wrapper := strings.ReplaceAll(filepath.Base(name), "_", "-")
		name = strings.Replace(name, "/inspect.yml", "/{{ kscert_inspect | default('inspect') }}.yml", 1)
		text, err = os.ReadFile(wrapper)
		plain := strings.NewReplacer("\\\n    ", "", `"`, "").Replace(string(text))
		if err != nil || !strings.HasSuffix(plain, "  ansible.builtin.import_playbook: "+name+"\n") || strings.Count(plain, "\n") != 3 {
			t.Errorf("%s does not run %s alone: %v\n%s", wrapper, name, err, text)
		}
	}
	text, err := os.ReadFile(playbooks.Collection + "/playbooks/groups.yml")
	if err != nil {
		t.Fatal(err)
	}
	var pairs [][2]string
	for _, m := range regexp.MustCompile(`hosts: (\S+):!(\S+)\n.*\n.*\n  vars: \{kscert_group: (\S+), kscert_into: (\S+)}\n`).FindAllSubmatch(text, -1) {
		if string(m[1])+string(m[2]) != string(m[3])+string(m[4]) {
			t.Errorf("a play's hosts are not those that it groups: %s", m[0])
		}
		pairs = append(pairs, [2]string{string(m[3]), string(m[4])})
	}
	if !slices.Equal(pairs, cluster.MadeGroups) {
		t.Errorf("by hand %q are made, else %q", pairs, cluster.MadeGroups)
	}
	made := make([]string, len(pairs))
	for i, pair := range pairs {
		made[i] = strings.Join(pair[:], ":")
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
				events := filepath.Join(t.TempDir(), "events")
				for _, book := range []string{"inspect", "collect"} {
					cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "ansible-playbook"), "-v", "-i", filepath.Join(dir, inventory), "inspect.yml", "--limit", "node2", "-e", "kscert_inspect="+book)
					if book == "collect" {
						cmd.Env = append(os.Environ(), "KSCERT_EVENTS="+events, "ANSIBLE_CALLBACK_PLUGINS="+playbooks.CallbackDir, "KSCERT_GROUPS="+strings.Join(made, ","))
					}
					out, err := cmd.CombinedOutput()
					answer := string(out) + handedOver(t, events)
					if err != nil || !strings.Contains(answer, "FACT config-dir /of-the-group/node2") || strings.Contains(answer, "/node1") {
						t.Errorf("%s: %v\n%s", book, err, answer)
					}
					// With the callback it costs no task.
					if strings.Contains(answer, "Put the group into the other one") != (book == "inspect") {
						t.Errorf("%s: there are tasks, or there are none\n%s", book, answer)
					}
				}
			})
		}
	}
}

// handedOver is what a callback's file has of answers; empty without one.
func handedOver(t *testing.T, events string) string {
	t.Helper()
	text, _ := os.ReadFile(events)
	var all strings.Builder
	for line := range bytes.Lines(text) {
		var e struct {
			Coded string `json:"coded"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Coded != "" {
			answer, err := payload.Decode(e.Coded, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(answer)
		}
	}
	return all.String()
}
