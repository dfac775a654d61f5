//go:build e2e

package scale

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/payload"
)

// A password that kscertctl is given is on no command line and in no environment of any process,
// here or on a node, and in no file and no output: log, events, snapshot, journal.
func TestSecrets(t *testing.T) {
	become, vault, planted := rand.Text(), rand.Text(), rand.Text()
	hosts := healthy(4)
	f := newFarm(t, hosts)
	f.makeSudo(t, become)
	vaulted := f.makeVault(t, vault, become)
	program := f.program(t, "become.sh", "#!/bin/sh\necho "+base64.StdEncoding.EncodeToString([]byte(become))+" | base64 -d\n")
	binary, err := filepath.Abs("../../.bin/kscertctl")
	must(t, err)
	state := filepath.Join(f.dir, "kscertctl")

	for _, row := range []struct {
		name  string
		args  []string
		stdin string
		let   bool // into the nodes
	}{
		{"a program prints it", []string{"--become-password-file", program}, "", true},
		{"through a pipe", []string{"--become-password-file", "/dev/stdin"}, become, true},
		{"in a vault, whose own comes through a pipe", []string{"-e", "@" + vaulted, "--vault-password-file", "/dev/stdin"}, vault, true},
		{"a wrong one", []string{"--become-password-file", "/dev/stdin"}, vault, false},
		{"none", nil, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			// As verbose as Ansible can be.
			cmd := f.command(t, binary, append([]string{"check-expiration", "-i", f.inventory, "-vvvvv"}, row.args...)...)
			cmd.Env = append(cmd.Env, "PLANTED="+planted) // its children inherit it, and the search has to find it
			cmd.Stdin = struct{ *strings.Reader }{strings.NewReader(row.stdin)}
			var printed bytes.Buffer
			cmd.Stdout, cmd.Stderr = &printed, &printed
			must(t, cmd.Start())
			ended, seen := make(chan struct{}), make(chan map[string][]string)
			go func() { seen <- processesWith([]string{planted, become, vault}, ended) }()
			_ = cmd.Wait()
			close(ended)
			where := <-seen

			if let := cmd.ProcessState.ExitCode() != 4; let != row.let {
				t.Fatalf("exit code %d\n%s", cmd.ProcessState.ExitCode(), &printed)
			}
			if !slices.ContainsFunc(where[planted], func(p string) bool { return strings.Contains(p, "ansible-playbook") }) {
				t.Errorf("what was planted was found in %q alone: the search finds nothing", where[planted])
			}
			if found := filesWith(t, state, "inspect.yml"); len(found) == 0 {
				t.Error("the search finds nothing on the disk")
			}
			for name, secret := range map[string]string{"become": become, "vault": vault} {
				if processes, files := where[secret], filesWith(t, state, secret); len(processes)+len(files) > 0 || bytes.Contains(printed.Bytes(), []byte(secret)) {
					t.Errorf("the %s password is in processes %q, in files %q, or in\n%s", name, processes, files, &printed)
				}
			}
		})
	}
}

// makeSudo gives the hosts a sudo that asks for a password without showing it, and the inventory a
// user to become: Ansible skips sudo for its own user.
func (f farm) makeSudo(t *testing.T, password string) {
	t.Helper()
	stty, err := exec.LookPath("stty")
	must(t, err)
	must(t, os.Symlink(stty, filepath.Join(f.dir, "bin", "stty")))
	f.program(t, "bin/sudo", fmt.Sprintf(`#!/bin/sh
stty -echo
while [ "$1" != /bin/sh ]; do
	case $1 in
	-n) echo 'sudo: a password is required' >&2 && exit 1 ;;
	-p) printf '%%s' "$2" ;;
	esac
	shift
done
read -r word
case $(printf '%%s' "$word" | sha256sum) in %x*) exec "$@" ;; esac
echo 'sudo: 1 incorrect password attempt' >&2
exit 1
`, sha256.Sum256([]byte(password))))
	inventory, err := os.ReadFile(f.inventory)
	must(t, err)
	f.write(t, "inventory.ini", strings.Replace(string(inventory), "ansible_become=false", "ansible_become_user=operator", 1))
}

// makeVault writes a vaulted file of variables with the become password.
func (f farm) makeVault(t *testing.T, password, become string) string {
	t.Helper()
	key := f.write(t, "vault-key", password)
	path := f.write(t, "vault.yml", "ansible_become_password: "+become+"\n")
	out, err := f.command(t, "ansible-vault", "encrypt", "--vault-password-file", key, path).CombinedOutput()
	if err != nil {
		t.Fatalf("ansible-vault: %v: %s", err, out)
	}
	must(t, os.Remove(key))
	return path
}

// processesWith searches, until ended, for words on the command lines and in the environments of
// all processes of this machine, and names those that have them.
func processesWith(words []string, ended <-chan struct{}) map[string][]string {
	found := map[string][]string{}
	for {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			line, _ := os.ReadFile(file) // it may have exited
			environment, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
			for _, word := range words {
				if bytes.Contains(line, []byte(word)) || bytes.Contains(environment, []byte(word)) {
					if name := string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))); !slices.Contains(found[word], name) {
						found[word] = append(found[word], name)
					}
				}
			}
		}
		select {
		case <-ended:
			return found
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// filesWith are the files below a directory that hold a word.
func filesWith(t *testing.T, dir, word string) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(payload.Reveal(text), []byte(word)) {
			found = append(found, path)
		}
		return err
	}))
	return found
}
