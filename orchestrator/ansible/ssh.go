package ansible

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// lookTimeout is the longest that an inspection waits for a connection, seconds, if only Ansible's
// configuration asks for more: Kubespray's ansible.cfg has 300, and makes ssh try a hundred times,
// which is for a deployment and not for a node that may be dead.
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

// attempts is how often ssh tries to connect for an inspection; empty if the user sets it.
func (r *Runner) attempts(p Playbook) string {
	if !p.Looks || strings.Contains(r.opts.SSHCommonArgs+r.opts.SSHExtraArgs, "ConnectionAttempts") {
		return ""
	}
	return "1"
}

// setSockets matches a setting of the path of ssh's sockets in a configuration of Ansible.
var setSockets = regexp.MustCompile(`(?m)^\s*control_path(?:_dir)?\s*[=:]`)

// sockets is the directory of the sockets over which connections are shared; empty if the user sets
// it. Ansible names them by host, port and user alone: of two clusters with the same addresses
// behind different bastions one would get the other's nodes.
func (r *Runner) sockets(p Playbook) string {
	if os.Getenv("ANSIBLE_SSH_CONTROL_PATH_DIR")+os.Getenv("ANSIBLE_SSH_CONTROL_PATH") != "" ||
		configured(p.Dir, setSockets) {
		return ""
	}
	by := sha256.Sum256([]byte(strings.Join(append([]string{r.opts.SSHCommonArgs, r.opts.SSHExtraArgs},
		r.opts.Inventories...), "\x00")))
	return fmt.Sprintf("~/.ansible/cp/%x", by[:3]) // a socket's path must be short
}

// setCommonArgs matches a setting of ssh's arguments in a configuration of Ansible.
var setCommonArgs = regexp.MustCompile(`(?m)^\s*ssh_common_args\s*[=:]`)

// commonArgs is the argument that sets the variable CommonArgs; none if only Ansible knows its
// value. A template in its place would be compiled for each node.
func (r *Runner) commonArgs(p Playbook) []string {
	common := r.opts.SSHCommonArgs
	if p.CommonArgs == "" || common == "" &&
		(os.Getenv("ANSIBLE_SSH_COMMON_ARGS") != "" || configured(p.Dir, setCommonArgs)) {
		return nil
	}
	value, _ := json.Marshal(map[string]string{p.CommonArgs: common}) //nolint:errchkjson // strings
	return repeat("--extra-vars", []string{string(value)})
}

// setSSH matches a setting of the program for ssh in a configuration of Ansible.
var setSSH = regexp.MustCompile(`(?m)^\s*ssh_executable\s*[=:]`)

// ssh is the program that Ansible calls for ssh; empty leaves it to the user's own setting, or to
// Ansible if the program cannot be run (mounted noexec).
func (p Playbook) ssh() string {
	if _, err := exec.LookPath(p.SSH); err != nil || os.Getenv("ANSIBLE_SSH_EXECUTABLE") != "" ||
		configured(p.Dir, setSSH) {
		return ""
	}
	return p.SSH
}
