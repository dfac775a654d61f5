package orchestrator

import (
	"reflect"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
)

// What names a file on the driver is made absolute, and nothing else.
func TestAnchor(t *testing.T) {
	t.Parallel()
	opts := Options{
		StateDir: "state", KubesprayDir: "../kubespray", BackupRoot: "on/the/nodes",
		Ansible: ansible.Options{
			Inventories: []string{"inventory.ini", "/etc/inventory", "cp1,w1,"}, BinDir: "venv/bin", PrivateKey: "~/.ssh/key", User: "admin",
			ExtraVars: []string{"a=b", "@vars.yml"}, VaultPasswordFiles: []string{"password"},
			VaultIDs: []string{"prod@secret", "prod@prompt", "prompt", "plain", "prod@/etc/secret"},
		},
	}
	opts.Anchor("/home/sre/cluster")
	want := Options{
		StateDir: "/home/sre/cluster/state", KubesprayDir: "/home/sre/kubespray", BackupRoot: "on/the/nodes",
		Ansible: ansible.Options{
			Inventories: []string{"/home/sre/cluster/inventory.ini", "/etc/inventory", "cp1,w1,"}, BinDir: "/home/sre/cluster/venv/bin", PrivateKey: "~/.ssh/key", User: "admin",
			ExtraVars: []string{"a=b", "@/home/sre/cluster/vars.yml"}, VaultPasswordFiles: []string{"/home/sre/cluster/password"},
			VaultIDs: []string{"prod@/home/sre/cluster/secret", "prod@prompt", "prompt", "/home/sre/cluster/plain", "prod@/etc/secret"},
		},
	}
	if !reflect.DeepEqual(opts, want) {
		t.Errorf("\n%+v, want\n%+v", opts, want)
	}
	var none Options
	if none.Anchor("/home"); !reflect.DeepEqual(none, Options{}) {
		t.Errorf("of nothing: %+v", none)
	}
}
