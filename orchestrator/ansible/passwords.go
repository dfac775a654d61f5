package ansible

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// PasswordError names a password that is not available.
type PasswordError struct {
	// Flag is the flag of ansible-playbook that needs it, Instead the one that takes the name of a
	// file or of a program.
	Flag, Instead string
	Err           error
}

func (e *PasswordError) Error() string { return fmt.Sprintf("%s: %v", e.Flag, e.Err) }
func (e *PasswordError) Unwrap() error { return e.Err }

// passwords are those that no file holds. Ansible is run several times, and has no terminal, so New
// asks once for what it would ask for.
type passwords struct {
	connection, become *string
	// vault is of those VaultIDs and VaultPasswordFiles that are keys.
	vault map[string]string
}

// vaultPrompt is the vault identity of --ask-vault-pass.
const vaultPrompt = "default@prompt"

// gather asks for the passwords, in Ansible's order and with its prompts, and reads those that can
// be read only once. The error is a *PasswordError.
func gather(o Options) (p passwords, err error) {
	var (
		connection = PasswordError{Flag: "--ask-pass", Instead: "--connection-password-file"}
		become     = PasswordError{Flag: "--ask-become-pass", Instead: "--become-password-file"}
	)
	prompt := strings.ToUpper(cmp.Or(o.BecomeMethod, "become")) + " password: "
	if o.AskPass {
		prompt = strings.Replace(prompt, ":", "[defaults to SSH password]:", 1)
	}
	if p.connection, err = o.password(connection, o.AskPass, "SSH password: ", o.ConnectionPasswordFile); err != nil {
		return p, err
	}
	if p.become, err = o.password(become, o.AskBecomePass, prompt, o.BecomePasswordFile); err != nil {
		return p, err
	}
	if p.become != nil && *p.become == "" && p.connection != nil {
		p.become = p.connection
	}
	p.vault = map[string]string{}
	for _, id := range append(o.vaultIDs(), o.VaultPasswordFiles...) {
		name, source := splitVaultID(id)
		vault := PasswordError{Flag: "--vault-id", Instead: "--vault-password-file, or --vault-id NAME@FILE"}
		prompt := "Vault password: "
		switch {
		case id == vaultPrompt:
			vault.Flag = "--ask-vault-pass"
		case name != "":
			prompt = fmt.Sprintf("Vault password (%s): ", name)
		}
		if info, err := os.Stat(source); source != "prompt" && (err != nil || info.Mode()&os.ModeNamedPipe == 0) {
			continue // for Ansible to read, or not needed
		}
		word, err := o.password(vault, source == "prompt", prompt, source)
		if err != nil {
			return p, err
		}
		if word != nil && *word == "" {
			vault.Err = errors.New("the password of a vault cannot be empty")
			return p, &vault
		}
		if word != nil {
			p.vault[id] = *word
		}
	}
	return p, nil
}

// vaultIDs are the vault identities, with that of --ask-vault-pass.
func (o Options) vaultIDs() []string {
	if o.AskVaultPass {
		return append([]string{vaultPrompt}, o.VaultIDs...)
	}
	return append([]string(nil), o.VaultIDs...)
}

// splitVaultID divides "NAME@SOURCE"; the name may be missing.
func splitVaultID(id string) (name, source string) {
	name, source, ok := strings.Cut(id, "@")
	if !ok {
		return "", id
	}
	return name, source
}

// password asks for a password, or reads it from a pipe. Nil: Ansible reads the file by itself,
// each time, or there is none.
func (o Options) password(refused PasswordError, ask bool, prompt, file string) (*string, error) {
	fail := func(err error) (*string, error) { refused.Err = err; return nil, &refused }
	switch {
	case ask && o.Ask == nil:
		return fail(errors.New("stdin is not a terminal"))
	case ask:
		word, err := o.Ask(prompt)
		if err != nil {
			return fail(err)
		}
		return &word, nil
	case file == "" || strings.HasPrefix(file, "~"): // Ansible knows its user's home
		return nil, nil
	}
	refused.Flag, _, _ = strings.Cut(refused.Instead, ",")
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return fail(err)
	case info.Mode().IsRegular():
		return nil, nil
	case info.Mode()&os.ModeNamedPipe == 0:
		return fail(fmt.Errorf("%s is not a file", file))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fail(err)
	}
	word := strings.TrimSpace(string(text)) // like Ansible
	if word == "" {
		return fail(fmt.Errorf("%s returned nothing: it can be read only once", file))
	}
	return &word, nil
}

// asked are the settings of Ansible's configuration that are the same as a flag (Ansible
// documentation, "Ansible Configuration Settings").
var asked = []struct {
	env, name string
	option    func(*Options) *bool
	// given: the password comes from elsewhere.
	given func(Options) bool
}{
	{"ANSIBLE_ASK_PASS", "ask_pass", func(o *Options) *bool { return &o.AskPass },
		func(o Options) bool { return o.ConnectionPasswordFile != "" }},
	{"ANSIBLE_BECOME_ASK_PASS", "become_ask_pass", func(o *Options) *bool { return &o.AskBecomePass },
		func(o Options) bool { return o.BecomePasswordFile != "" }},
	{"ANSIBLE_ASK_VAULT_PASS", "ask_vault_pass", func(o *Options) *bool { return &o.AskVaultPass },
		func(Options) bool { return false }},
}

// askSetting matches a setting that is true (ansible.module_utils.parsing.convert_bool).
func askSetting(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?mi)^\s*` + name + `\s*[=:]\s*(?:true|yes|on|y|t|1)\s*$`)
}

// AsConfigured returns the options with the passwords that Ansible would ask for in dir, because of
// its configuration or environment.
func (o Options) AsConfigured(dir string) Options {
	for _, s := range asked {
		setting := askSetting(s.name)
		set := configured(dir, setting)
		if env, ok := os.LookupEnv(s.env); ok {
			set = setting.MatchString(s.name + "=" + env)
		}
		if ask := s.option(&o); set && !s.given(o) {
			*ask = true
		}
	}
	return o
}

// handed are passwords on their way to one Ansible.
type handed struct {
	// args name files that it reads them from; files are the ones that it inherits for that.
	args  []string
	files []*os.File
	// scripts are files to remove.
	scripts []string
}

// hand prepares what an Ansible needs to read the passwords: an open file that it inherits as
// descriptor first, first+1 and so on. A vault's is named directly. For the files of the other
// passwords Ansible resolves links, and an open file has no name to resolve to, so a program in dir
// prints it, which finds it through its parent, Ansible; dir is empty for an Ansible that needs the
// vaults' alone.
func (r *Runner) hand(dir string, first int) (h handed, err error) {
	defer func() {
		if err != nil {
			h.end()
		}
	}()
	inherit := func(password string) (int, error) {
		f, err := secretFile(password)
		if err != nil {
			return 0, fmt.Errorf("passing a password to Ansible: %w; pass it in a file", err)
		}
		h.files = append(h.files, f)
		return first + len(h.files) - 1, nil
	}
	for _, list := range []struct {
		flag string
		ids  []string
	}{{"--vault-id", r.opts.vaultIDs()}, {"--vault-password-file", r.opts.VaultPasswordFiles}} {
		for _, id := range list.ids {
			if password, ok := r.passwords.vault[id]; ok {
				fd, err := inherit(password)
				if err != nil {
					return h, err
				}
				_, source := splitVaultID(id)
				id = strings.TrimSuffix(id, source) + fmt.Sprintf("/proc/self/fd/%d", fd)
			}
			h.args = append(h.args, list.flag+"="+id)
		}
	}
	if dir == "" {
		return h, nil
	}
	for _, p := range []struct {
		flag, file string
		password   *string
	}{
		{"--connection-password-file", r.opts.ConnectionPasswordFile, r.passwords.connection},
		{"--become-password-file", r.opts.BecomePasswordFile, r.passwords.become},
	} {
		file := p.file
		if p.password != nil {
			fd, err := inherit(*p.password)
			if err != nil {
				return h, err
			}
			if file, err = program(dir, fmt.Sprintf("#!/bin/sh\nexec cat \"/proc/$PPID/fd/%d\"\n", fd)); err != nil {
				return h, err
			}
			h.scripts = append(h.scripts, file)
		}
		if file != "" {
			h.args = append(h.args, p.flag+"="+file)
		}
	}
	return h, nil
}

func (h *handed) end() {
	for _, f := range h.files {
		_ = f.Close()
	}
	for _, name := range h.scripts {
		_ = os.Remove(name)
	}
}

// program writes an executable shell script into dir.
func program(dir, text string) (string, error) {
	f, err := os.CreateTemp(dir, "password-*.sh")
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(f, text)
	err = errors.Join(err, f.Chmod(0o700), f.Close())
	if err == nil {
		_, err = exec.LookPath(f.Name())
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("passing a password to Ansible needs a program in %s: %w", filepath.Dir(f.Name()), err)
	}
	return f.Name(), nil
}
