package playbooks_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/payload"
	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// driven runs a playbook as kscertctl does, with a given Ansible, on the node.
func (n *node) driven(bin, playbook string, options ansible.Options, vars map[string]any) ansible.Outcome {
	n.t.Helper()
	here, err := filepath.Abs(".")
	n.ok(err)
	dir := n.t.TempDir()
	n.write(dir+"/hosts", []byte("cp1 ansible_connection=local ansible_become=false ansible_python_interpreter=auto_silent\n[kube_control_plane]\ncp1\n"), 0o600)
	options.Inventories, options.BinDir = []string{dir + "/hosts"}, bin
	r, err := ansible.New(options)
	n.ok(err)
	p := ansible.Playbook{
		Path: filepath.Join(here, playbook), Dir: dir, CallbackDir: filepath.Join(here, playbooks.CallbackDir), Isolated: true,
		Events: filepath.Join(dir, "events.jsonl"), Log: filepath.Join(dir, "log"), Hosts: []string{"cp1"},
		Vars: map[string]any{
			"kscert_hosts": "all", "kscert_config_dir": n.conf, "kscert_etcd_cert_dir": n.etcd, "kscert_bin_dir": n.bin,
			"kscert_backup_root": filepath.Dir(n.backup), "kscert_run": "run", "kscert_wait_seconds": 0, "kscert_etcd_snapshot": "never",
		},
	}
	maps.Copy(p.Vars, vars)
	o, err := r.Run(n.t.Context(), p, nil)
	if err != nil {
		log, _ := os.ReadFile(p.Log)
		n.t.Fatalf("%v\n%s", err, log)
	}
	return o
}

// secrets are words that are in every answer: values of a vault, and a password.
func (n *node) secrets(words ...string) ansible.Options {
	n.t.Helper()
	dir := n.t.TempDir()
	var vars strings.Builder
	vars.WriteString("ansible_become_password: '" + words[0] + "'\n")
	for i, word := range words {
		vars.WriteString("secret_" + string(rune('a'+i)) + ": '" + word + "'\n")
	}
	n.write(dir+"/vars.yml", []byte(vars.String()), 0o600)
	n.write(dir+"/key", []byte("key of the vault"), 0o600)
	if out, err := exec.CommandContext(n.t.Context(), "ansible-vault", "encrypt", "--vault-password-file", dir+"/key", dir+"/vars.yml").CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
	return ansible.Options{ExtraVars: []string{"@" + dir + "/vars.yml"}, VaultPasswordFiles: []string{dir + "/key"}}
}

// Text that Ansible masks because it is secret elsewhere still arrives in answers: with
// ansible-core 2.22 admin.conf vanished if a password was "admin".
func TestAnswersAreNotMasked(t *testing.T) {
	t.Setenv("KSCERT_ROOT", "") // and not parallel: Ansible passes the node's on
	for _, bin := range testansible.Bins(t) {
		t.Run(bin, func(t *testing.T) {
			n := controlPlane(t, 24*time.Hour, "0")
			t.Setenv("KSCERT_ROOT", filepath.Dir(n.conf))
			secret := n.secrets("admin", "root", "kubernetes", "@@KSCERT", "@@LOCK", "BACKUP", "CERTIFICATE", "left", n.conf, "H4sI")
			want := n.look()

			o := n.driven(bin, "inspect.yml", secret, nil)
			answer, err := o.Payload("cp1")
			n.ok(err)
			got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(answer))
			if err != nil || len(got.Certificates) != len(want.Certificates) || len(want.Certificates) < 5 {
				t.Errorf("%d certificates, want %d: %v\n%s", len(got.Certificates), len(want.Certificates), err, answer)
			}

			o = n.driven(bin, "lock.yml", secret, map[string]any{"kscert_lock_action": "show", "kscert_lock_cluster": "0123456789abcdef", "kscert_state_dir": t.TempDir()})
			if answer, err := o.Payload("cp1"); err != nil || !strings.HasPrefix(answer, "@@LOCK absent 0 ") {
				t.Errorf("the lock: %v\n%s", err, answer)
			}

			o = n.driven(bin, "backup.yml", secret, nil)
			answer, err = o.Payload("cp1")
			if err == nil {
				_, err = run.ParseBackups("cp1", []byte(answer))
			}
			if err != nil || o.Stats["cp1"].Changed != 1 {
				t.Errorf("the backup: %v, %+v\n%s", err, o.Stats, answer)
			}
		})
	}
}

// filtered is what a filter makes of a script, for kscertctl or by hand.
func filtered(t *testing.T, events, call, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", "-c", "import sys; sys.path.insert(0, '"+playbooks.Collection+"/plugins/filter')\nimport kscert\nsys.stdout.write(kscert."+call+")")
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), "KSCERT_EVENTS="+events, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// onlyBusyBox is a PATH with no other tools than BusyBox's.
func onlyBusyBox(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: run hack/packages unit", err)
	}
	dir := t.TempDir()
	for _, applet := range []string{"sh", "base64", "gzip", "sed", "date"} {
		if err := os.Symlink(path, filepath.Join(dir, applet)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Any login shell passes its argument on unchanged: one line, without characters that fish and tcsh
// read differently.
func TestLoginShells(t *testing.T) {
	t.Parallel()
	script := "set -u\nwords='it isn'\\''t! \\n $HOME `date` {a,b} *'\nprintf '%s\\n' \"$words\"\nfor i in 1 2; do echo \"$i\"; done\nexit ${code:-0}\n"
	const want = "it isn't! \\n $HOME `date` {a,b} *\n1\n2\n"
	busybox := onlyBusyBox(t)
	for name, row := range map[string]struct{ call, events, answer string }{
		"a task":         {"kscert_command((sys.stdin.read(), 'run'))", "file", want},
		"a payload":      {"kscert_payload((sys.stdin.read(), 'run'))", "file", want + "@@<\n"},
		"a look":         {"look('', kscert.packed(sys.stdin.read()))", "file", "@@<\n"},
		"a lock":         {"kscert_lock(sys.stdin.read())", "file", want + "@@<\n"},
		"a look by hand": {"look('', kscert.packed(sys.stdin.read()))", "", want},
		"an odd name":    {"kscert_command((sys.stdin.read(), \"a'b\\n!\"))", "file", want},
	} {
		line := filtered(t, row.events, row.call, script)
		if odd := regexp.MustCompile(`[\n\r'!\\` + "`" + `]`).FindString(line); odd != "" {
			t.Errorf("%s: %q is in %s", name, odd, line)
		}
		for _, shell := range [][]string{{"sh"}, {"bash"}, {"fish"}, {"tcsh"}, {"busybox", "sh"}, {"busybox", "ash"}} {
			path, err := exec.LookPath(shell[0])
			if err != nil {
				t.Fatalf("%v: run hack/packages unit", err)
			}
			// As Ansible lets ssh print it, with and without another user to become.
			for _, command := range []string{"/bin/sh -c '" + line + "'", "/bin/sh -c '/bin/sh -c '\"'\"'echo BECOME-SUCCESS-x ; " + line + "'\"'\"''"} {
				for code, answer := range []string{0: row.answer, 3: want} { // the reason is only printed
					if answer == "" {
						continue
					}
					cmd := exec.CommandContext(t.Context(), path, append(shell[1:], "-c", command)...)
					cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "code="+strconv.Itoa(code))
					if shell[len(shell)-1] == "ash" {
						cmd.Env = append(cmd.Env, "PATH="+busybox)
					}
					out, err := cmd.Output()
					got := strings.TrimPrefix(string(out), "BECOME-SUCCESS-x\n")
					if !strings.HasPrefix(got, answer) || (answer == want && got != want) || cmd.ProcessState.ExitCode() != code {
						t.Errorf("%s, in %s, which ends with %d: %v\n%s", name, shell[0], code, err, out)
					}
					if strings.HasPrefix(answer, want+"@@<") || answer == "@@<\n" {
						if text, err := payload.Decode(got, 1000); err != nil || text != want {
							t.Errorf("%s, in %s: %v\n%s", name, shell[0], err, text)
						}
						coded := got[strings.Index(got, "@@<"):]
						if long := regexp.MustCompile(`[^\t\n]{4,}`).FindString(coded); long != "" {
							t.Errorf("%s, in %s: %q could be a secret", name, shell[0], long)
						}
						if lines := strings.Count(coded, "\n"); lines > 3+len(coded)/90 {
							t.Errorf("%s, in %s: %d lines of %d characters", name, shell[0], lines, len(coded))
						}
					}
				}
			}
		}
	}
}
