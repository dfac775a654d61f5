// Package kubespray inspects a checkout of Kubespray: its release, the Ansible versions it
// supports, the paths of its playbooks, and which of them prompt.
//
// It reads the checkout's files and calls git, and changes nothing.
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

// Paths of playbooks, relative to the checkout.
var (
	// upgradePlaybooks: the wrapper in all releases, its alias since v2.30, its location since
	// v2.22.
	upgradePlaybooks = []string{"upgrade-cluster.yml", "upgrade_cluster.yml", "playbooks/upgrade_cluster.yml"}
	// renewPlaybooks: no release of Kubespray has one, but forks do.
	renewPlaybooks = []string{"renew-certs.yml", "renew_certs.yml", "playbooks/renew-certs.yml",
		"playbooks/renew_certs.yml"}
	// versionPlaybooks check Ansible's version: since v2.22, and before.
	versionPlaybooks = []string{"playbooks/ansible_version.yml", "ansible_version.yml"}
)

// Checkout is a directory that contains Kubespray.
type Checkout struct {
	// Dir is absolute.
	Dir string
	// Release as the checkout states it, such as "2.29.0", or derived from its layout, such as
	// "2.22 to 2.29"; ReleaseFrom is the source.
	Release, ReleaseFrom string
	// Ansible is the supported range of ansible-core.
	Ansible Range
	// Upgrade and Renew are its playbooks, relative to Dir; Renew is empty if it has none.
	Upgrade, Renew string
	// Warnings describe what its owner may not expect.
	Warnings []string
}

// Error describes why a directory cannot be used as a checkout, and what to do.
type Error struct{ Detail, Next string }

func (e *Error) Error() string { return e.Detail }

// Open inspects a directory. The error is an *Error.
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
		// Ansible ignores an ansible.cfg in such a directory, and with it the checkout's
		// roles, library and connection settings.
		return refuse("chmod o-w "+shell.Quote(abs),
			"%s is writable by everyone, so Ansible would ignore its ansible.cfg", dir)
	}
	c := Checkout{Dir: abs, Upgrade: first(abs, upgradePlaybooks), Renew: first(abs, renewPlaybooks)}
	if c.Upgrade == "" {
		return refuse("name the directory that holds upgrade-cluster.yml", "%s holds none of %s", dir,
			strings.Join(upgradePlaybooks, ", "))
	}
	c.Release, c.ReleaseFrom = release(abs)
	c.Ansible = demanded(abs, c.Release)
	if config := os.Getenv("ANSIBLE_CONFIG"); config != "" {
		c.Warnings = append(c.Warnings,
			fmt.Sprintf("ANSIBLE_CONFIG names %s, so Ansible ignores the ansible.cfg of the checkout", config))
	} else if !exists(abs, "ansible.cfg") {
		c.Warnings = append(c.Warnings, "the checkout has no ansible.cfg: its roles and modules may not be found")
	}
	return c, nil
}

// Find looks for a checkout in the usual places: from (the directory where the command was
// run), the directory whose inventory/ contains an inventory, and kubespray in or next to
// from. It returns the directory and a description of the place; both are empty if there is
// none.
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
	places = append(places, place{filepath.Join(from, "kubespray"), "./kubespray"},
		place{filepath.Join(from, "..", "kubespray"), "../kubespray"})
	for _, p := range places {
		if first(p.dir, upgradePlaybooks) != "" && exists(p.dir, "roles/kubernetes") {
			return p.dir, p.how
		}
	}
	return "", ""
}

// Prompts returns the names of the variables that a playbook of the checkout and its imports
// prompt for (vars_prompt). For a file that is missing or not a playbook, the error is an
// *Error.
func (c Checkout) Prompts(playbook string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(c.Dir, playbook))
	if err != nil {
		return nil, &Error{Detail: fmt.Sprintf("%s is not complete: %v", c.Dir, err),
			Next: "check out the release again, for example with: git -C " + shell.Quote(c.Dir) + " status"}
	}
	var plays []struct {
		Import  string `yaml:"import_playbook"`
		FQCN    string `yaml:"ansible.builtin.import_playbook"`
		Prompts []struct {
			Name string `yaml:"name"`
		} `yaml:"vars_prompt"`
	}
	if err := yaml.Unmarshal(data, &plays); err != nil {
		return nil, &Error{Detail: fmt.Sprintf("%s is not a playbook: %v", filepath.Join(c.Dir, playbook), err),
			Next: "check the file; if it is damaged, check out the release again"}
	}
	var names []string
	for _, play := range plays {
		for _, p := range play.Prompts {
			names = append(names, p.Name)
		}
		imported := play.Import + play.FQCN
		// Only files in the checkout: Ansible renders expressions, and finds the playbooks of
		// collections.
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

// first returns the first of the files that exists in dir; empty if none does.
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
