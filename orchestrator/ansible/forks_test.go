package ansible

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

// The user's setting of forks counts; only inspections have a default of ours.
func TestForks(t *testing.T) {
	for _, row := range []struct {
		name   string
		asked  int
		env    string
		config string // ansible.cfg of the directory
		change bool
		many   bool
		// together is how many nodes wait for each other.
		together int
		want     int
	}{
		{name: "no one says", want: manyForks},
		{name: "the flag", asked: 3, want: 3},
		{name: "the flag before all others", asked: 3, env: "7", config: "[defaults]\nforks = 9\n", want: 3},
		{name: "the environment", env: "7", want: 0},
		{name: "the configuration", config: "[defaults]\nhost_key_checking=False\nforks=9\n", want: 0},
		{name: "a comment is no setting", config: "[defaults]\n# forks = 9\n", want: manyForks},
		{name: "what changes nodes is left to Ansible", change: true, want: 0},
		{name: "unless that is no risk", change: true, many: true, want: manyForks},
		{name: "nodes that wait for each other have one each", change: true, asked: 2, together: 3, want: 3},
		{name: "more is no harm", change: true, asked: 9, together: 3, want: 9},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("HOME", dir)
			t.Setenv("ANSIBLE_CONFIG", "")
			t.Setenv("ANSIBLE_FORKS", row.env)
			if row.config == "" {
				row.config = "[defaults]\n" // so that no file of this machine counts
			}
			if err := os.WriteFile(filepath.Join(dir, "ansible.cfg"), []byte(row.config), 0o600); err != nil {
				t.Fatal(err)
			}
			r := &Runner{opts: Options{Forks: row.asked}}
			if got := r.forks(Playbook{Dir: dir, Looks: !row.change, Many: row.many, Together: row.together}); got != row.want {
				t.Errorf("%d, want %d", got, row.want)
			}
		})
	}
}

// The first file that exists is the only one that counts.
func TestConfigFile(t *testing.T) {
	home, dir, other := t.TempDir(), t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("ANSIBLE_CONFIG", "")
	for _, path := range []string{filepath.Join(home, ".ansible.cfg"), filepath.Join(dir, "ansible.cfg"), filepath.Join(other, "ansible.cfg")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := configFile(t.TempDir()); got != filepath.Join(home, ".ansible.cfg") {
		t.Errorf("home: %s", got)
	}
	if got := configFile(dir); got != filepath.Join(dir, "ansible.cfg") {
		t.Errorf("folder: %s", got)
	}
	for _, set := range []string{other, filepath.Join(other, "ansible.cfg")} {
		t.Setenv("ANSIBLE_CONFIG", set)
		if got := configFile(dir); got != filepath.Join(other, "ansible.cfg") {
			t.Errorf("%s: %s", set, got)
		}
	}
}

// Files that Kubespray writes next to an inventory are excluded from it, and never run, in any
// working directory, unless the user sets what is excluded.
func TestArtifacts(t *testing.T) {
	for _, row := range []struct {
		name, config string
		want         bool
	}{
		{name: "no one says"},
		{name: "another setting", config: "[defaults]\nforks = 5\n"},
		{name: "as Kubespray has it", config: "[inventory]\nignore_patterns = artifacts, credentials\n"},
		{name: "as it was before", config: "[defaults]\ninventory_ignore_patterns = artifacts, credentials\n"},
		{name: "someone says otherwise", config: "[inventory]\nignore_patterns = nothing\n", want: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			artifacts := filepath.Join(dir, "mycluster/artifacts")
			ran := filepath.Join(artifacts, "ran")
			err := errors.Join(os.MkdirAll(artifacts, 0o700),
				os.WriteFile(filepath.Join(dir, "ansible.cfg"), []byte(row.config), 0o600),
				os.WriteFile(filepath.Join(dir, "mycluster/hosts.yaml"), []byte("kube_control_plane: {hosts: {cp1: {}}}\n"), 0o600),
				testcommand.Write(filepath.Join(artifacts, "kubectl.sh"), "#!/bin/sh\n: >'"+ran+"'\necho '{}'\n"))
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("ANSIBLE_CONFIG", filepath.Join(dir, "ansible.cfg"))
			r, err := New(Options{Inventories: []string{filepath.Join(dir, "mycluster")}})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := r.Inventory(t.Context()); err != nil || !strings.Contains(string(out), "cp1") {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := os.Stat(ran); (err == nil) != row.want {
				t.Errorf("an artifact was run: %v, want %v", err == nil, row.want)
			}
		})
	}
}
