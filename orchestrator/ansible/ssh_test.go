package ansible

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program of ours replaces ssh only if the user names none.
func TestSSH(t *testing.T) {
	for _, row := range []struct {
		name   string
		mode   os.FileMode
		env    string
		config string // ansible.cfg of the directory
		want   bool
	}{
		{name: "no one says", mode: 0o700, want: true},
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
			got, set := (&Runner{}).env(Playbook{Dir: dir, SSH: program})["ANSIBLE_SSH_EXECUTABLE"]
			if set != row.want || (set && got != program) {
				t.Errorf("it is %q, set: %t, want %t", got, set, row.want)
			}
		})
	}
	if got := (Playbook{}).ssh(); got != "" {
		t.Errorf("out of nothing: %q", got)
	}
}

// An inspection does not wait as long as a deployment for any node, unless the user sets a limit.
func TestLooksAreBounded(t *testing.T) {
	const kubespray = "[defaults]\nforks = 9\ntimeout = 300\n[ssh_connection]\nssh_args = -o ConnectionAttempts=100\n"
	for _, row := range []struct {
		name     string
		opts     Options
		env      string
		config   string
		change   bool
		timeout  int
		attempts string
	}{
		{name: "no one says", config: "[defaults]\n", attempts: "1"},
		{name: "Kubespray's configuration", config: kubespray, timeout: lookTimeout, attempts: "1"},
		{name: "a change is left to it", config: kubespray, change: true},
		{name: "a timeout that is shorter", config: "[defaults]\ntimeout: 20\n", attempts: "1"},
		{name: "the flag", opts: Options{Timeout: 90}, config: kubespray, timeout: 90, attempts: "1"},
		{name: "the environment", env: "90", config: kubespray, attempts: "1"},
		{name: "arguments of ssh", opts: Options{SSHExtraArgs: "-o ConnectionAttempts=3"}, config: kubespray, timeout: lookTimeout},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("ANSIBLE_CONFIG", "")
			t.Setenv("ANSIBLE_TIMEOUT", row.env)
			for path, mode := range map[string]os.FileMode{filepath.Join(dir, "ansible.cfg"): 0o600, filepath.Join(dir, "ssh.sh"): 0o700} {
				if err := os.WriteFile(path, []byte(row.config), mode); err != nil {
					t.Fatal(err)
				}
			}
			r, p := &Runner{opts: row.opts}, Playbook{Dir: dir, SSH: filepath.Join(dir, "ssh.sh"), Looks: !row.change}
			if got := r.timeout(p); got != row.timeout {
				t.Errorf("a timeout of %d, want %d", got, row.timeout)
			}
			if got := r.env(p)["KSCERT_SSH_ATTEMPTS"]; got != row.attempts {
				t.Errorf("%q attempts, want %q", got, row.attempts)
			}
		})
	}
}

// Two clusters with the same addresses behind different bastions share no connection; the commands
// for one do. The user's setting for sockets is followed.
func TestSockets(t *testing.T) {
	dir := t.TempDir()
	inventory := func(name string) string { return filepath.Join(dir, name) }
	sockets := func(o Options) string {
		r := &Runner{opts: o}
		return r.env(Playbook{Dir: dir})["ANSIBLE_SSH_CONTROL_PATH_DIR"]
	}
	t.Setenv("ANSIBLE_CONFIG", "")
	first := sockets(Options{Inventories: []string{inventory("a")}})
	if first == "" || first != sockets(Options{Inventories: []string{inventory("a")}, User: "root"}) || len(first) > 24 {
		t.Errorf("of one inventory: %q", first)
	}
	for name, o := range map[string]Options{
		"another inventory": {Inventories: []string{inventory("b")}},
		"one more":          {Inventories: []string{inventory("a"), inventory("b")}},
		"another bastion":   {Inventories: []string{inventory("a")}, SSHCommonArgs: "-J bastion"},
		"another bastion's": {Inventories: []string{inventory("a")}, SSHExtraArgs: "-J bastion"},
	} {
		if sockets(o) == first {
			t.Errorf("%s: the same sockets, %s", name, first)
		}
	}
	for _, name := range []string{"ANSIBLE_SSH_CONTROL_PATH_DIR", "ANSIBLE_SSH_CONTROL_PATH"} {
		t.Setenv(name, "/tmp/cp")
		if got := sockets(Options{Inventories: []string{inventory("a")}}); got != "" {
			t.Errorf("%s is overridden with %s", name, got)
		}
		t.Setenv(name, "")
	}
	if err := os.WriteFile(inventory("ansible.cfg"), []byte("[ssh_connection]\ncontrol_path_dir = /tmp/cp\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sockets(Options{Inventories: []string{inventory("a")}}); got != "" {
		t.Errorf("the configuration is overridden with %s", got)
	}
}

// The variable for ssh's common arguments is set if the value is known without Ansible.
func TestCommonArgs(t *testing.T) {
	t.Setenv("ANSIBLE_CONFIG", "")
	set, unset := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(set, "ansible.cfg"), []byte("[ssh_connection]\nssh_common_args = -C\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ variable, given, dir, env, want string }{
		"given":              {"v", `-o ProxyCommand="a b"`, set, "-C", `--extra-vars={"v":"-o ProxyCommand=\"a b\""}`},
		"no one says":        {"v", "", unset, "", `--extra-vars={"v":""}`},
		"the configuration":  {"v", "", set, "", ""},
		"the environment":    {"v", "", unset, "-C", ""},
		"no variable for it": {"", "-C", unset, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ANSIBLE_SSH_COMMON_ARGS", row.env)
			r := &Runner{opts: Options{SSHCommonArgs: row.given}}
			if got := strings.Join(r.commonArgs(Playbook{CommonArgs: row.variable, Dir: row.dir}), " "); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		})
	}
}
