package ansible

import (
	"os"
	"path/filepath"
	"regexp"
)

// manyForks is the default for how many nodes are worked on together if that is no risk: with
// Ansible's default of 5 two hundred nodes take forty rounds, and each costs the control node
// little.
const manyForks = 50

// setForks finds a setting of the number of forks in a configuration of Ansible.
var setForks = regexp.MustCompile(`(?m)^\s*forks\s*[=:]`)

// forks is the argument of --forks; 0 leaves it to Ansible. The user's flag goes first, then the
// user's configuration, then, if many nodes at a time are no risk, more than Ansible's default.
// Nodes that wait for each other have one each.
func (r *Runner) forks(p Playbook) int {
	return max(r.asked(p), p.Together)
}

func (r *Runner) asked(p Playbook) int {
	if r.opts.Forks > 0 || !p.Looks && !p.Many || os.Getenv("ANSIBLE_FORKS") != "" {
		return r.opts.Forks
	}
	if configured(p.Dir, setForks) {
		return 0
	}
	return manyForks
}

// configured reports whether the configuration that counts in dir has a setting.
func configured(dir string, setting *regexp.Regexp) bool {
	return setting.Match(configuration(dir))
}

// configuration is the text of the configuration that counts in dir; empty without one.
func configuration(dir string) []byte {
	text, err := os.ReadFile(configFile(dir))
	if err != nil {
		return nil
	}
	return text
}

// configFile is the one file that Ansible reads its configuration from when it runs in dir (Ansible
// documentation, "The configuration file"); empty without one.
func configFile(dir string) string {
	home, _ := os.UserHomeDir()
	for _, path := range []string{os.Getenv("ANSIBLE_CONFIG"), filepath.Join(dir, "ansible.cfg"),
		filepath.Join(home, ".ansible.cfg"), "/etc/ansible/ansible.cfg"} {
		if info, err := os.Stat(path); err == nil { //nolint:gosec // the user's own setting, read as Ansible reads it
			if info.IsDir() { // a directory is allowed for ANSIBLE_CONFIG alone
				path = filepath.Join(path, "ansible.cfg")
			}
			return path
		}
	}
	return ""
}
