package ansible

import (
	"os"
	"os/exec"
	"regexp"
)

// setSSH finds a setting of the program for ssh in a configuration of Ansible.
var setSSH = regexp.MustCompile(`(?m)^\s*ssh_executable\s*[=:]`)

// ssh is the program that Ansible calls for ssh; empty leaves it to the user's own
// setting, or to Ansible where the program cannot be run (mounted noexec).
func (p Playbook) ssh() string {
	if _, err := exec.LookPath(p.SSH); err != nil || os.Getenv("ANSIBLE_SSH_EXECUTABLE") != "" || configured(p.Dir, setSSH) {
		return ""
	}
	return p.SSH
}
