package ansible

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// answers stands in for the user: it knows the answer to each prompt, and records the prompts.
func answers(known map[string]string, asked *[]string) func(string) (string, error) {
	return func(prompt string) (string, error) {
		*asked = append(*asked, prompt)
		word, ok := known[prompt]
		if !ok {
			return "", errors.New("no one knows")
		}
		return word, nil
	}
}

// Each password is asked for once, in Ansible's order and with its prompts.
func TestPrompts(t *testing.T) {
	t.Parallel()
	plain := file(t, "password", "in a file\n")
	for _, row := range []struct {
		name string
		opts Options
		want []string
	}{
		{"nothing", Options{}, nil},
		{"a vault's file that is missing, which Ansible can do without", Options{VaultPasswordFiles: []string{plain + ".missing"}}, nil},
		{"files", Options{BecomePasswordFile: plain, ConnectionPasswordFile: plain, VaultIDs: []string{"a@" + plain}, VaultPasswordFiles: []string{plain}}, nil},
		{"connection", Options{AskPass: true}, []string{"SSH password: "}},
		{"become", Options{AskBecomePass: true}, []string{"BECOME password: "}},
		{"both", Options{AskPass: true, AskBecomePass: true}, []string{"SSH password: ", "BECOME password[defaults to SSH password]: "}},
		{"vaults", Options{VaultIDs: []string{"a@prompt", "prompt", "a@prompt"}, AskVaultPass: true}, []string{"Vault password: ", "Vault password (a): "}},
	} {
		var asked []string
		word := func(prompt string) (string, error) {
			if !slices.Contains(asked, prompt) {
				asked = append(asked, prompt)
			}
			return "word", nil
		}
		row.opts.Ask, row.opts.Inventories = word, []string{"a,"}
		if _, err := New(row.opts); err != nil || !slices.Equal(asked, row.want) {
			t.Errorf("%s: %v; asked %q, want %q", row.name, err, asked, row.want)
		}
	}
}

func TestPasswordErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, row := range []struct {
		name                string
		opts                Options
		flag, instead, text string
	}{
		{"no one to ask", Options{AskPass: true}, "--ask-pass", "--connection-password-file", "stdin is not a terminal"},
		{"no one answers", Options{AskBecomePass: true, Ask: answers(nil, new([]string))}, "--ask-become-pass", "--become-password-file", "no one knows"},
		{"a vault's prompt", Options{VaultIDs: []string{"prod@prompt"}}, "--vault-id", "--vault-password-file", "stdin is not a terminal"},
		{"an empty password of a vault", Options{AskVaultPass: true, Ask: answers(map[string]string{"Vault password: ": ""}, new([]string))}, "--ask-vault-pass", "", "cannot be empty"},
		{"no such file", Options{BecomePasswordFile: dir + "/missing"}, "--become-password-file", "", "no such file"},
		{"a folder", Options{ConnectionPasswordFile: dir}, "--connection-password-file", "", "is not a file"},
	} {
		row.opts.Inventories = []string{"a,"}
		_, err := New(row.opts)
		var refused *PasswordError
		if !errors.As(err, &refused) || refused.Flag != row.flag || !strings.Contains(refused.Instead, row.instead) || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %+v (%v)", row.name, refused, err)
		}
	}
}

// reader is an Ansible that prints its arguments and environment, and reads every password like
// Ansible: twice, because each of its starts can be the second.
const reader = `
for round in 1 2; do
	for a; do
		case $a in
		*password-file=*) file=${a#*=}; [ -x "$file" ] && "$file" || cat "$file" ;;
		--vault-id=*) cat "${a#*@}" ;;
		esac
	done
done
echo "read all"
cat /proc/$$/cmdline /proc/$$/environ | tr '\0' '\n'
`

// Every password reaches Ansible, each time it is started, and is neither on its command line nor
// in its environment, nor left in a file.
func TestPasswordsAreHanded(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	script(t, bin, "ansible-playbook", reader)
	pipe := filepath.Join(bin, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	words := map[string]string{}
	for _, name := range []string{"SSH password: ", "BECOME password[defaults to SSH password]: ", "Vault password: ", "Vault password (prod): ", "pipe"} {
		words[name] = rand.Text()
	}
	go func() { _ = os.WriteFile(pipe, []byte(words["pipe"]+"\n"), 0o600) }()
	r, err := New(Options{
		Inventories: []string{"a,"}, BinDir: bin, AskPass: true, AskBecomePass: true, AskVaultPass: true,
		VaultIDs: []string{"prod@prompt"}, VaultPasswordFiles: []string{pipe}, Ask: answers(words, new([]string)),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := book(t, "")
	lock, err := os.Open(p.Path) // takes the first descriptor
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	p.Hold = []*os.File{lock}
	for range 2 {
		var out bytes.Buffer
		p.Output = &out
		if _, err := r.Run(t.Context(), p, nil); err == nil {
			t.Error("a run without events is a success")
		}
		read, others, _ := strings.Cut(out.String(), "read all\n")
		for prompt, word := range words {
			if strings.Count(read, word) != 2 || strings.Contains(others, word) {
				t.Errorf("%q is %s: read\n%s\ncommand line and environment:\n%s", prompt, word, read, others)
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(p.Log), "password-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// An empty become password is that of the connection, as with Ansible.
func TestBecomePasswordOfConnection(t *testing.T) {
	t.Parallel()
	r, err := New(Options{Inventories: []string{"a,"}, AskPass: true, AskBecomePass: true, Ask: answers(map[string]string{
		"SSH password: ": "word", "BECOME password[defaults to SSH password]: ": "",
	}, new([]string))})
	if err != nil || *r.passwords.become != "word" {
		t.Errorf("%v %v", r, err)
	}
}

// The real Ansible becomes another user with the password, from any source, and reads the vault
// with the vault's. The stand-in for sudo prompts like sudo.
func TestPasswordsOfRealAnsible(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	dir, become, vault := t.TempDir(), rand.Text(), rand.Text()
	script(t, dir, "sudo", fmt.Sprintf(`
while [ "$1" != /bin/sh ]; do [ "$1" = -p ] && printf '%%s' "$2" >&2; shift; done
read -r word && [ "$word" = %s ] || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
exec "$@"
`, become))
	if err := os.MkdirAll(filepath.Join(dir, "in", "group_vars"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"vault":      vault,
		"become":     become,
		"secret.yml": "secret: from the vault\n",
		"program.sh": "#!/bin/sh\necho " + become + "\n",
		"inventory":  "a ansible_connection=local ansible_python_interpreter=auto_silent ansible_become_exe=" + dir + "/sudo\n",
		"in/hosts":   "a ansible_connection=local ansible_become_exe=" + dir + "/sudo ansible_become_password='{{ secret }}'\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../secret.yml", filepath.Join(dir, "in", "group_vars", "all.yml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "program.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	encrypt := exec.CommandContext(t.Context(), "ansible-vault", "encrypt", "--vault-id", "prod@"+dir+"/vault", dir+"/secret.yml")
	if out, err := encrypt.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	known := map[string]string{"BECOME password: ": become, "SUDO password: ": become, "Vault password (prod): ": vault, "Vault password: ": vault}
	for _, row := range []struct {
		name string
		opts Options
		ok   bool
	}{
		{"asked", Options{AskBecomePass: true}, true},
		{"in a file", Options{BecomePasswordFile: dir + "/become"}, true},
		{"of a program", Options{BecomePasswordFile: dir + "/program.sh"}, true},
		{"not given", Options{}, false},
		{"another", Options{BecomePasswordFile: dir + "/vault"}, false},
		{"with a vault, asked for by its name", Options{AskBecomePass: true, VaultIDs: []string{"prod@prompt"}, ExtraVars: []string{"@" + dir + "/secret.yml"}}, true},
		{"with a vault, asked for", Options{AskBecomePass: true, AskVaultPass: true, ExtraVars: []string{"@" + dir + "/secret.yml"}}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.opts.Inventories, row.opts.Ask = []string{dir + "/inventory"}, answers(known, new([]string))
			p := book(t, "    - ansible.builtin.raw: printf '%s' '{{ secret | default('ours') }}'\n      become: true\n      become_user: another\n      tags: [kscert_payload]\n")
			o, err := runner(t, row.opts).Run(t.Context(), p, nil)
			want := map[string]string{"a": "ours"}
			if len(row.opts.ExtraVars) > 0 {
				want["a"] = "from the vault"
			}
			if (err == nil) != row.ok || (row.ok && !reflect.DeepEqual(o.Payloads, want)) {
				log, _ := os.ReadFile(p.Log)
				t.Errorf("%v, %v\n%s", err, o.Payloads, log)
			}
		})
	}
	// ansible-inventory gets the vault's password, too.
	r := runner(t, Options{Inventories: []string{dir + "/in/hosts"}, VaultIDs: []string{"prod@prompt"}, Ask: answers(known, new([]string))})
	if data, err := r.Inventory(t.Context()); err != nil || !bytes.Contains(data, []byte("from the vault")) {
		t.Errorf("ansible-inventory: %v\n%s", err, data)
	}
}

// Ansible runs in a checkout of Kubespray, and files are relative to the directory in which the
// command was given.
func TestPathsAreAsTyped(t *testing.T) {
	needAnsible(t)
	p := book(t, "    - ansible.builtin.raw: printf '%s, %s' '{{ secret }}' '{{ plain }}'\n      become: true\n      become_user: another\n      tags: [kscert_payload]\n")
	dir := t.TempDir()
	t.Chdir(dir)
	script(t, dir, "sudo", `
while [ "$1" != /bin/sh ]; do [ "$1" = -p ] && printf '%s' "$2" >&2; shift; done
read -r word && [ "$word" = become ] || exit 1
exec "$@"
`)
	for name, text := range map[string]string{
		"vault": "vault", "become": "become", "connection": "connection", "key": "key", "secret.yml": "secret: from the vault\n", "plain.yml": "plain: next to it\n",
		"hosts": "a ansible_connection=local ansible_become_exe=" + dir + "/sudo\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "ansible-vault", "encrypt", "--vault-password-file", "vault", "secret.yml").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, vault := range []Options{{VaultPasswordFiles: []string{"vault"}}, {VaultIDs: []string{"prod@vault"}}, {}} {
		if len(vault.VaultIDs)+len(vault.VaultPasswordFiles) == 0 {
			t.Setenv("ANSIBLE_VAULT_PASSWORD_FILE", "vault")
		}
		vault.Inventories, vault.BecomePasswordFile, vault.ConnectionPasswordFile = []string{"hosts"}, "become", "connection"
		vault.ExtraVars, vault.PrivateKey = []string{"@secret.yml", "@plain.yml"}, "key"
		o, err := runner(t, vault).Run(t.Context(), p, nil)
		if err != nil || o.Payloads["a"] != "from the vault, next to it" {
			log, _ := os.ReadFile(p.Log)
			t.Errorf("%v, %v\n%s", err, o.Payloads, log)
		}
	}
}

// Ansible must not prompt for what its configuration makes it ask for.
func TestAsConfigured(t *testing.T) {
	for _, row := range []struct {
		name, config, env string
		opts              Options
		want              bool
	}{
		{name: "no one says"},
		{name: "the configuration", config: "become_ask_pass = True\n", want: true},
		{name: "it says no", config: "become_ask_pass = no\n"},
		{name: "a comment", config: "#become_ask_pass = True\n"},
		{name: "another setting", config: "ask_pass = True\n"},
		{name: "the environment", env: "yes", want: true},
		{name: "the environment before it", config: "become_ask_pass = True\n", env: "0"},
		{name: "a file is named", config: "become_ask_pass = True\n", opts: Options{BecomePasswordFile: "/a"}},
		{name: "the flag", opts: Options{AskBecomePass: true}, want: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("ANSIBLE_CONFIG", file(t, "ansible.cfg", "[privilege_escalation]\n"+row.config))
			if row.env != "" {
				t.Setenv("ANSIBLE_BECOME_ASK_PASS", row.env)
			}
			if got := row.opts.AsConfigured("").AskBecomePass; got != row.want {
				t.Errorf("%t, want %t", got, row.want)
			}
			if got := (&Runner{}).env(Playbook{})["ANSIBLE_BECOME_ASK_PASS"]; got != "False" {
				t.Errorf("Ansible gets %q", got)
			}
		})
	}
}
