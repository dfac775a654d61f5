package ansible

import (
	"crypto/sha256"
	"fmt"
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

// setSockets finds a setting of where ssh's sockets lie in a configuration of Ansible.
var setSockets = regexp.MustCompile(`(?m)^\s*control_path(?:_dir)?\s*[=:]`)

// sockets is the folder of the sockets over which connections are shared; empty where
// somebody says. Ansible names them by host, port and user alone: of two clusters with the
// same addresses behind different bastions one would be shown the other's nodes.
func (r *Runner) sockets(p Playbook) string {
	if os.Getenv("ANSIBLE_SSH_CONTROL_PATH_DIR")+os.Getenv("ANSIBLE_SSH_CONTROL_PATH") != "" || configured(p.Dir, setSockets) {
		return ""
	}
	by := sha256.Sum256([]byte(strings.Join(append([]string{r.opts.SSHCommonArgs, r.opts.SSHExtraArgs}, r.opts.Inventories...), "\x00")))
	return fmt.Sprintf("~/.ansible/cp/%x", by[:3]) // a socket's path must be short
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
