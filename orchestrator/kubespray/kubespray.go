// Package kubespray knows what a checkout of Kubespray is: which release, which
// Ansible it demands, where its playbooks lie, and what in them waits for an answer
// that nobody can give.
//
// It reads the checkout's files, asks git, and changes nothing.
package kubespray

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// The places of a checkout's playbooks, relative to it.
var (
	// upgradePlaybooks: the wrapper of all releases, its alias since v2.30, its home
	// since v2.22.
	upgradePlaybooks = []string{"upgrade-cluster.yml", "upgrade_cluster.yml", "playbooks/upgrade_cluster.yml"}
	// renewPlaybooks: no release of Kubespray has one, but checkouts of others do.
	renewPlaybooks = []string{"renew-certs.yml", "renew_certs.yml", "playbooks/renew-certs.yml", "playbooks/renew_certs.yml"}
	// versionPlaybooks check Ansible's version: since v2.22, and before.
	versionPlaybooks = []string{"playbooks/ansible_version.yml", "ansible_version.yml"}
)

// Checkout is a folder that holds Kubespray.
type Checkout struct {
	// Dir is absolute.
	Dir string
	// Release as the checkout tells it, such as "2.29.0", or by its layout, such as
	// "2.22 to 2.29"; ReleaseFrom says which.
	Release, ReleaseFrom string
	// Ansible is what it demands of ansible-core.
	Ansible Range
	// Upgrade and Renew are its playbooks, relative to Dir; Renew is empty where it
	// has none.
	Upgrade, Renew string
	// Warnings are in words what of it will not be as its owner may expect.
	Warnings []string
}

// Error says why a folder cannot be used as a checkout, and what to do.
type Error struct{ Detail, Next string }

func (e *Error) Error() string { return e.Detail }

// Open reads what a folder is. The error is an *Error.
func Open(dir string) (Checkout, error) {
	refuse := func(next, format string, args ...any) (Checkout, error) {
		return Checkout{}, &Error{Detail: fmt.Sprintf(format, args...), Next: next}
	}
	const name = "name the directory of your Kubespray checkout"
	abs, err := filepath.Abs(dir)
	if err != nil {
		return refuse(name, "%v", err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse(name, "%s does not exist", dir)
	case err != nil:
		return refuse(name, "%v", err)
	case !info.IsDir():
		return refuse(name, "%s is not a directory", dir)
	case info.Mode().Perm()&0o002 != 0:
		// Ansible ignores an ansible.cfg in such a folder, and with it the
		// checkout's roles, library and connection settings.
		return refuse("chmod o-w "+shell.Quote(abs), "%s is writable by everyone, so Ansible would ignore its ansible.cfg", dir)
	}
	c := Checkout{Dir: abs, Upgrade: first(abs, upgradePlaybooks), Renew: first(abs, renewPlaybooks)}
	if c.Upgrade == "" {
		return refuse("name the directory that holds upgrade-cluster.yml", "%s holds none of %s", dir, strings.Join(upgradePlaybooks, ", "))
	}
	c.Release, c.ReleaseFrom = release(abs)
	c.Ansible = demanded(abs, c.Release)
	if config := os.Getenv("ANSIBLE_CONFIG"); config != "" {
		c.Warnings = append(c.Warnings, fmt.Sprintf("ANSIBLE_CONFIG names %s, so Ansible ignores the ansible.cfg of the checkout", config))
	} else if !exists(abs, "ansible.cfg") {
		c.Warnings = append(c.Warnings, "the checkout has no ansible.cfg: its roles and modules may not be found")
	}
	return c, nil
}

// Find looks for a checkout where people keep one: the folder from that the command
// was given in, the one whose inventory folder holds an inventory, and the folder
// kubespray in or beside from. It returns how it was found, in words; nothing where
// there is none.
func Find(from string, inventories []string) (dir, how string) {
	type place struct{ dir, how string }
	places := []place{{from, "the directory the command was run in"}}
	for _, inventory := range inventories {
		path := inventory
		if !filepath.IsAbs(path) {
			path = filepath.Join(from, path)
		}
		for at := path; at != filepath.Dir(at); at = filepath.Dir(at) {
			if filepath.Base(at) == "inventory" {
				places = append(places, place{filepath.Dir(at), "the checkout that holds the inventory " + inventory})
			}
		}
	}
	places = append(places, place{filepath.Join(from, "kubespray"), "./kubespray"}, place{filepath.Join(from, "..", "kubespray"), "../kubespray"})
	for _, p := range places {
		if first(p.dir, upgradePlaybooks) != "" && exists(p.dir, "roles/kubernetes") {
			return p.dir, p.how
		}
	}
	return "", ""
}

// Prompts returns the names of the variables that a playbook of the checkout and
// those it imports ask for at their beginning (vars_prompt). A file that is missing
// or is no playbook is an *Error.
func (c Checkout) Prompts(playbook string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(c.Dir, playbook))
	if err != nil {
		return nil, &Error{Detail: fmt.Sprintf("%s is not complete: %v", c.Dir, err), Next: "check out the release again, for example with: git -C " + shell.Quote(c.Dir) + " status"}
	}
	var plays []struct {
		Import  string `yaml:"import_playbook"`
		FQCN    string `yaml:"ansible.builtin.import_playbook"`
		Prompts []struct {
			Name string `yaml:"name"`
		} `yaml:"vars_prompt"`
	}
	if err := yaml.Unmarshal(data, &plays); err != nil {
		return nil, &Error{Detail: fmt.Sprintf("%s is not a playbook: %v", filepath.Join(c.Dir, playbook), err), Next: "check the file; if it is damaged, check out the release again"}
	}
	var names []string
	for _, play := range plays {
		for _, p := range play.Prompts {
			names = append(names, p.Name)
		}
		imported := play.Import + play.FQCN
		// Only what lies in the checkout: an expression is Ansible's to render, and the
		// name of a collection's playbook is Ansible's to find.
		ext := filepath.Ext(imported)
		if (ext != ".yml" && ext != ".yaml") || strings.Contains(imported, "{{") || filepath.IsAbs(imported) {
			continue
		}
		inner, err := c.Prompts(filepath.Join(filepath.Dir(playbook), imported))
		if err != nil {
			return nil, err
		}
		names = append(names, inner...)
	}
	return names, nil
}

// first returns the first of some files that is in dir; nothing without one.
func first(dir string, files []string) string {
	for _, name := range files {
		if exists(dir, name) {
			return name
		}
	}
	return ""
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
