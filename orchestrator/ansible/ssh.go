package ansible

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// lookTimeout is the longest that a look waits for a connection, seconds, where only
// Ansible's configuration asks for more: Kubespray's ansible.cfg has 300, and lets ssh try
// a hundred times, which is for a deployment and not for a node that may be dead.
const lookTimeout = 30

// setTimeout finds the timeout of connections in a configuration of Ansible.
var setTimeout = regexp.MustCompile(`(?m)^\s*timeout\s*[=:]\s*(\d+)`)

// timeout is the argument of --timeout; 0 leaves it to Ansible.
func (r *Runner) timeout(p Playbook) int {
	if r.opts.Timeout > 0 || !p.Looks || os.Getenv("ANSIBLE_TIMEOUT") != "" {
		return r.opts.Timeout
	}
	m := setTimeout.FindSubmatch(configuration(p.Dir))
	if m == nil {
		return 0
	}
	if n, err := strconv.Atoi(string(m[1])); err == nil && n <= lookTimeout {
		return 0
	}
	return lookTimeout
}

// attempts is how often ssh tries to connect for a look; empty where whoever asks says so.
func (r *Runner) attempts(p Playbook) string {
	if !p.Looks || strings.Contains(r.opts.SSHCommonArgs+r.opts.SSHExtraArgs, "ConnectionAttempts") {
		return ""
	}
	return "1"
}

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
