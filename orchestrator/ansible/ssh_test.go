package ansible

import (
	"os"
	"path/filepath"
	"testing"
)

// A program of ours takes the place of ssh only where the user names none.
func TestSSH(t *testing.T) {
	for _, row := range []struct {
		name   string
		mode   os.FileMode
		env    string
		config string // ansible.cfg of the folder
		want   bool
	}{
		{name: "nobody says", mode: 0o700, want: true},
		{name: "the environment", mode: 0o700, env: "/opt/ssh", want: false},
		{name: "the configuration", mode: 0o700, config: "ssh_executable = /opt/ssh\n", want: false},
		{name: "a comment is no setting", mode: 0o700, config: "#ssh_executable = /opt/ssh\n", want: true},
		{name: "it cannot be run", mode: 0o600, want: false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("ANSIBLE_CONFIG", "")
			t.Setenv("ANSIBLE_SSH_EXECUTABLE", row.env)
			program := filepath.Join(dir, "ssh.sh")
			for path, mode := range map[string]os.FileMode{filepath.Join(dir, "ansible.cfg"): 0o600, program: row.mode} {
				if err := os.WriteFile(path, []byte("[ssh_connection]\n"+row.config), mode); err != nil {
					t.Fatal(err)
				}
			}
			got, set := Playbook{Dir: dir, SSH: program}.env()["ANSIBLE_SSH_EXECUTABLE"]
			if set != row.want || (set && got != program) {
				t.Errorf("it is %q, set: %t, want %t", got, set, row.want)
			}
		})
	}
	if got := (Playbook{}).ssh(); got != "" {
		t.Errorf("out of nothing: %q", got)
	}
}
