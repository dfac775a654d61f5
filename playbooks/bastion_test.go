package playbooks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

// A host named bastion is the way to the nodes, as in Kubespray. Otherwise the options of the
// command line are left alone.
func TestBastion(t *testing.T) {
	t.Parallel()
	const (
		nodes = "[kube_control_plane]\ncp1 ansible_host=192.0.2.1\ncp2 ansible_host=192.0.2.2 ansible_ssh_private_key_file='/keys/of cp2'\n" +
			"cp3 ansible_host=192.0.2.3 ansible_ssh_common_args='-o Tag=own'\n"
		command = `ssh -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -W %h:%p -p `
	)
	for _, row := range []struct {
		name, inventory string
		args, env       []string
		config          string
		want            map[string]string // by address: the options that concern the way
	}{
		{
			"with all that can be answered", "[bastion]\nbastion ansible_host=198.51.100.5 ansible_port=2222 ansible_user=jump\n", nil, nil, "",
			map[string]string{
				"192.0.2.1": "ProxyCommand=" + command + "2222  jump@198.51.100.5",
				"192.0.2.2": "ProxyCommand=" + command + "2222 -i '/keys/of cp2' jump@198.51.100.5",
				"192.0.2.3": "Tag=own",
			},
		},
		{
			"with the names of before Ansible 2.0", "[bastion]\nbastion ansible_ssh_host=198.51.100.5 ansible_ssh_port=2222 ansible_ssh_user=jump\n", nil, nil, "",
			map[string]string{
				"192.0.2.1": "ProxyCommand=" + command + "2222  jump@198.51.100.5",
				"192.0.2.2": "ProxyCommand=" + command + "2222 -i '/keys/of cp2' jump@198.51.100.5",
				"192.0.2.3": "Tag=own",
			},
		},
		{
			"with its name alone, in no group", "[all]\nbastion\n", nil, nil, "",
			map[string]string{
				"192.0.2.1": "ProxyCommand=" + command + "22  bastion",
				"192.0.2.2": "ProxyCommand=" + command + "22 -i '/keys/of cp2' bastion",
				"192.0.2.3": "Tag=own",
			},
		},
		{
			"a proxy of the command line before it", "[bastion]\nbastion ansible_host=b\n", []string{"-e", "{kscert_ssh_common_args: -o ProxyJump=other}"}, nil, "",
			map[string]string{
				"192.0.2.1": "ProxyJump=other ProxyCommand=" + command + "22  b",
				"192.0.2.2": "ProxyJump=other ProxyCommand=" + command + "22 -i '/keys/of cp2' b",
				"192.0.2.3": "Tag=own",
			},
		},
		{
			"a bastion by another name is none", "[bastion]\ngateway ansible_host=198.51.100.5\n", []string{"-e", "{kscert_ssh_common_args: -o ProxyJump=other}"}, nil, "",
			map[string]string{"192.0.2.1": "ProxyJump=other", "192.0.2.2": "ProxyJump=other", "192.0.2.3": "Tag=own"},
		},
		{
			"Ansible's configuration counts", "", nil, nil, "[ssh_connection]\nssh_common_args = -o ProxyJump=file\n",
			map[string]string{"192.0.2.1": "ProxyJump=file", "192.0.2.2": "ProxyJump=file", "192.0.2.3": "Tag=own"},
		},
		{
			"its environment before it", "", nil, []string{"ANSIBLE_SSH_COMMON_ARGS=-o ProxyJump=env"}, "[ssh_connection]\nssh_common_args = -o ProxyJump=file\n",
			map[string]string{"192.0.2.1": "ProxyJump=env", "192.0.2.2": "ProxyJump=env", "192.0.2.3": "Tag=own"},
		},
		{"none", "", nil, nil, "", map[string]string{"192.0.2.1": "", "192.0.2.2": "", "192.0.2.3": "Tag=own"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// ssh records its options and the address that follows -tt, and fails.
			for name, text := range map[string]string{
				"inventory.ini": nodes + row.inventory,
				"ansible.cfg":   row.config,
				"ssh": `#!/bin/sh
way=
for option; do
	case $option in Tag=* | Proxy*) way="$way $option" ;; esac
	case $before in -tt) printf '%s' "$way" >"${0%/*}/way.$option" ;; esac
	before=$option
done
exit 255
`,
			} {
				if err := testcommand.Write(filepath.Join(dir, name), text); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "ansible-playbook", append([]string{"-i", filepath.Join(dir, "inventory.ini"), "inspect.yml"}, row.args...)...)
			cmd.Env = append(os.Environ(), "ANSIBLE_CONFIG="+filepath.Join(dir, "ansible.cfg"), "ANSIBLE_SSH_EXECUTABLE="+filepath.Join(dir, "ssh"))
			cmd.Env = append(cmd.Env, row.env...)
			out, _ := cmd.CombinedOutput() // no node can be reached
			for address, want := range row.want {
				got, err := os.ReadFile(filepath.Join(dir, "way."+address))
				if err != nil || strings.TrimSpace(string(got)) != want {
					t.Errorf("%v; the way to %s is\n%s, want\n%s\n%s", err, address, got, want, out)
				}
			}
		})
	}
}
