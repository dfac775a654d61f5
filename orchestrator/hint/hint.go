// Package hint knows common failures of Ansible, Kubespray and kubeadm by their messages, and
// what helps.
//
// It is a pure function over text. A hint is a guess from words: it is shown with the message,
// never instead of it.
package hint

import "regexp"

// Hint explains a well-known failure.
type Hint struct {
	// Name is short and stable: tests and the reference page use it.
	Name string
	// Advice describes the usual cause and what to do.
	Advice string
}

// table holds the failures, specific ones before general ones: the first match is the hint.
// Each pattern is part of a message as its author prints it.
var table = []struct {
	Hint

	says *regexp.Regexp
}{
	{Hint{"host-key-changed",
		"the node presents a different SSH host key than before: make sure that it is the right machine (a " +
			"reinstalled one has a new key), then: ssh-keygen -R HOST"},
		regexp.MustCompile(`REMOTE HOST IDENTIFICATION HAS CHANGED`)},
	{Hint{"sshpass-host-key",
		"with a password, Ansible cannot ask whether a host key is right: log in once by hand with ssh, or add the " +
			"keys with: ssh-keyscan HOST >> ~/.ssh/known_hosts"},
		regexp.MustCompile(`Using a SSH password instead of a key is not possible because Host Key checking is enabled`)},
	{Hint{"host-key", "the node's SSH host key is not known here: log in once by hand with ssh, or add the keys " +
		"with: ssh-keyscan HOST >> ~/.ssh/known_hosts"},
		regexp.MustCompile(`Host key verification failed`)},
	{Hint{"sshpass", "for SSH with a password, Ansible needs the program sshpass on this machine: apt-get install " +
		"sshpass, or use a key"},
		regexp.MustCompile(`you must install the sshpass program`)},
	{Hint{"private-key-mode", "ssh refuses a key file that others can read: chmod 600 KEY"},
		regexp.MustCompile(`UNPROTECTED PRIVATE KEY FILE|bad permissions`)},
	{Hint{"ssh-login", "the node accepts neither key nor password: check the user (-u, ansible_user) and the key " +
		"(--private-key), and try: ssh USER@HOST"},
		regexp.MustCompile(`Permission denied \((?:publickey|password|keyboard-interactive|gssapi)|Invalid/incorrect password`)},
	{Hint{"ssh-name", "this machine cannot resolve the node's name: set ansible_host in the inventory to an address"},
		regexp.MustCompile(`Could not resolve hostname`)},
	{Hint{"ssh-refused", "nothing listens on the node's SSH port: check ansible_host and ansible_port, and that " +
		"sshd runs"},
		regexp.MustCompile(`connect to host \S+ port \d+: Connection refused`)},
	{Hint{"ssh-timeout", "the node does not answer on its SSH port: check address, firewall and bastion, and that " +
		"it is switched on"},
		regexp.MustCompile(`connect to host \S+ port \d+: (?:Connection timed out|No route to host|Network is unreachable|Operation timed out)|Connection timed out during banner exchange`)},
	{Hint{"sudo-password", "sudo asks for a password: pass it with -K (--ask-become-pass) or " +
		"ansible_become_password in a vault, or let the user become root without one"},
		regexp.MustCompile(`Missing sudo password|sudo: a password is required|sudo: a terminal is required to read the password|sudo: interactive authentication is required`)},
	{Hint{"sudo-wrong", "the password for sudo is wrong: check -K, --become-password-file or ansible_become_password"},
		regexp.MustCompile(`Incorrect sudo password|Sorry, try again|[Ii]ncorrect authentication attempt`)},
	{Hint{"sudoers", "the user may not become root: add it to sudoers on the node, or connect as another user (-u)"},
		regexp.MustCompile(`is not in the sudoers file|I'm sorry \S+ I'm afraid I can't do that|is not allowed to (?:execute|run) .* as root`)},
	{Hint{"become-prompt", "Ansible did not recognize the password prompt of sudo on the node: if it is sudo-rs " +
		"(ssh NODE sudo --version), a password needs ansible-core 2.22 or later, the original sudo " +
		"(ansible_become_exe=sudo.ws) or a user that becomes root without one; else the node hangs, or its name " +
		"service is slow (try sudo -v there)"},
		regexp.MustCompile(`waiting for privilege escalation prompt|waiting for become success or become password prompt`)},
	{Hint{"answer-cut", "a part of what the node printed is missing: if sudo there is an old sudo-rs (ssh NODE " +
		"sudo --version; 0.2.5 does it, 0.2.15 does not), it loses the end of long output: write Defaults !use_pty " +
		"into its sudoers, or use the original sudo (ansible_become_exe=sudo.ws)"},
		regexp.MustCompile(`the answer was damaged on its way`)},
	{Hint{"vault-password", "something is encrypted with ansible-vault, and none of the given passwords decrypts " +
		"it: pass the right one with --vault-password-file or --vault-id"},
		regexp.MustCompile(`no vault secrets (?:were )?found|Decryption failed|vault password file .* was not found`)},
	{Hint{"locale", "Ansible needs a UTF-8 locale on this machine: export LC_ALL=C.UTF-8"},
		regexp.MustCompile(`requires the locale encoding to be UTF-8|unsupported locale setting`)},
	{Hint{"ansible-version",
		"the checkout refuses this version of Ansible: create an environment with the right one (python3 -m venv " +
			"VENV && VENV/bin/pip install -r requirements.txt) and pass --ansible-bin VENV/bin"},
		regexp.MustCompile(`Ansible must be between`)},
	{Hint{"python-library", "a Python library that Kubespray needs is missing next to Ansible: VENV/bin/pip install " +
		"-r requirements.txt of the checkout, in the environment that --ansible-bin names"},
		regexp.MustCompile(`Python netaddr is not present|requires python's netaddr|Failed to import the required Python library|You need to install "?jmespath|No module named '?(?:netaddr|jmespath|cryptography|ruamel)`)},
	{Hint{"jinja-version", "Jinja is too old for the checkout: VENV/bin/pip install -r requirements.txt in an " +
		"environment of its own, and pass --ansible-bin VENV/bin"},
		regexp.MustCompile(`Your Jinja version is too old`)},
	{Hint{"collection", "a module of a collection is not installed: the package ansible (not ansible-core alone) " +
		"brings those that Kubespray needs: VENV/bin/pip install -r requirements.txt"},
		regexp.MustCompile(`couldn't resolve module/action|the filter plugin '[^']+' was not found|Could not load "[^"]+": |No filter named`)},
	{Hint{"role", "a role is not found: run from the whole checkout, with its own ansible.cfg (roles_path); " +
		"ANSIBLE_CONFIG and ANSIBLE_ROLES_PATH must not point elsewhere"},
		regexp.MustCompile(`the role '[^']+' was not found`)},
	{Hint{"python", "the node has no Python where Ansible looks for it: install python3 there, or set " +
		"ansible_python_interpreter (our own playbooks need none to inspect a node)"},
		regexp.MustCompile(`python\S*: (?:not found|No such file or directory|command not found)|interpreter .* was not found|No python interpreters found`)},
	{Hint{"python-too-old", "the node's Python is too old or too new for this Ansible: set " +
		"ansible_python_interpreter to another one there"},
		regexp.MustCompile(`ansible-core requires a minimum of Python|Python version .* is not supported|SyntaxError: future feature annotations is not defined`)},
	{Hint{"apt-lock", "another package manager is running on the node, often unattended-upgrades: wait for it, " +
		"then resume"},
		regexp.MustCompile(`Could not get lock /var/lib/|Unable to acquire the dpkg frontend lock|Failed to lock apt for exclusive operation|holding the yum lock|waiting for process with pid \d+ to finish`)},
	{Hint{"apt-source", "a package repository does not answer or has a wrong signature: apt-get update on the node " +
		"shows which; without internet access, set Kubespray's mirror variables"},
		regexp.MustCompile(`Failed to update apt cache|NO_PUBKEY|does not have a Release file|Cannot find a valid baseurl`)},
	{Hint{"disk-full", "a file system is full: free some space on the node (or here); to see what uses it: du -xh / " +
		"| sort -h | tail"},
		regexp.MustCompile(`No space left on device|Disk quota exceeded|not enough space for a backup|not have enough free space`)},
	{Hint{"read-only", "a file system is mounted read-only, often after a disk error: dmesg on the node shows why"},
		regexp.MustCompile(`Read-only file system`)},
	{Hint{"immutable", "the file or its directory is immutable, or the file is a mount point: lsattr -d FILE " +
		"DIRECTORY and findmnt FILE on the node show which; remove that (chattr -i), then resume"},
		regexp.MustCompile(`it is as it was.*(?:Operation not permitted|Device or resource busy)`)},
	{Hint{"remote-tmp", "Ansible cannot use its temporary directory on the node: check space and rights of the " +
		"user's home, or set ansible_remote_tmp"},
		regexp.MustCompile(`Failed to create temporary directory|Failed to set permissions on the temporary files`)},
	{Hint{"version-skew", "Kubernetes is upgraded one minor version at a time, and no kubelet may be newer than its " +
		"API server: use the checkout of the release in between, or set kube_version"},
		regexp.MustCompile(`kubeadm can upgrade only 1 minor version at a time|is too high; kubeadm|this version of kubeadm only supports deploying clusters with the control plane version|kubelet version .* is (?:higher|newer) than|Kubelet.*is higher than the (?:control plane|specified)`)},
	{Hint{"kubeadm-config", "kubeadm rejects the node's kubeadm-config.yaml: kubeadm config migrate --old-config " +
		"FILE --new-config NEW converts an older one; remove feature gates that it no longer knows; then check: " +
		"kubeadm config validate --config FILE"},
		regexp.MustCompile(`your configuration file uses an old API spec|your configuration file seems to use a newer API spec|is not a valid feature name`)},
	{Hint{"certificate-expired",
		"a certificate has expired: kscertctl diagnose shows which, and kscertctl run renews it; then run " +
			"Kubespray's playbook"},
		regexp.MustCompile(`x509: certificate has expired or is not yet valid|certificate has expired`)},
	{Hint{"unknown-authority",
		"a certificate is signed by another CA than the trusted one: kscertctl diagnose shows where"},
		regexp.MustCompile(`x509: certificate signed by unknown authority`)},
	{Hint{"token", "the API server does not create a join token: it is down, or refuses admin.conf; kscertctl " +
		"diagnose shows why"},
		regexp.MustCompile(`Create kubeadm token|kubeadm.* token create|failed to create token`)},
	{Hint{"drain", "a node cannot be drained: a pod's disruption budget forbids it, or pods have no controller; " +
		"kubectl get pdb -A shows which, drain_timeout and drain_retries give it more time"},
		regexp.MustCompile(`Cannot evict pod as it would violate|Failed to drain node|cannot delete Pods (?:declare no controller|that declare no controller|not managed by)`)},
	{Hint{"etcd", "etcd does not answer properly: kscertctl diagnose checks its members, certificates and quorum"},
		regexp.MustCompile(`etcdserver: (?:no leader|request timed out|mvcc: database space exceeded)|Wait for etcd cluster to be healthy|etcd cluster is unavailable`)},
	{Hint{"image-pull", "an image cannot be pulled: check the registry and its mirror from the node; without " +
		"internet access, set Kubespray's *_image_repo variables"},
		regexp.MustCompile(`failed to pull (?:and unpack )?image|ErrImagePull|ImagePullBackOff|toomanyrequests`)},
	{Hint{"download", "a download failed: check proxy (http_proxy) and mirror (files_repo) from the node"},
		regexp.MustCompile(`Request failed: <urlopen error|HTTP Error (?:403|404|407|5\d\d)|The checksum for .* did not match`)},
	{Hint{"unauthorized", "the API server does not accept the credentials in a kubeconfig: kscertctl diagnose shows " +
		"whether they have expired"},
		regexp.MustCompile(`You must be logged in to the server|\bUnauthorized\b`)},
	{Hint{"api-server", "the API server does not answer: find out why with kscertctl diagnose before you try again"},
		regexp.MustCompile(`The connection to the server \S+ was refused|timed out waiting for the condition|dial tcp \S+:6443: connect`)},
	{Hint{"facts", "a node's facts are missing, which Kubespray keeps from an earlier run: run its facts.yml " +
		"without --limit, or clear the fact cache"},
		regexp.MustCompile(`ansible_(?:default_ipv4|facts|all_ipv4_addresses|distribution\w*)'? is undefined|has no attribute '(?:ansible_)?(?:default_ipv4|ansible_hostname|distribution)'`)},
	{Hint{"undefined", "a variable is not set: often a name of another Kubespray release in group_vars, or a group " +
		"that the inventory lacks; compare with inventory/sample of the checkout"},
		regexp.MustCompile(`is undefined|has no attribute`)},
	{Hint{"selinux", "the node uses SELinux, and Python has no bindings for it: install python3-libselinux there"},
		regexp.MustCompile(`target uses selinux but python bindings`)},
	{Hint{"out-of-memory", "a process was killed on the node, most often because memory ran out: dmesg | grep -i oom"},
		regexp.MustCompile(`Cannot allocate memory|MemoryError|Out of memory|rc: 137|'rc': 137`)},
	{Hint{"unreachable", "the node could not be reached: try by hand with the same user and key: ansible -i " +
		"INVENTORY NODE -m ansible.builtin.raw -a true -vvv"},
		regexp.MustCompile(`Failed to connect to the host via ssh|UNREACHABLE!`)},
}

// Of returns the hint for a failure's output; false if none matches.
func Of(text string) (Hint, bool) {
	for _, row := range table {
		if row.says.MatchString(text) {
			return row.Hint, true
		}
	}
	return Hint{}, false
}

// All returns all hints, in the order of matching.
func All() []Hint {
	out := make([]Hint, len(table))
	for i, row := range table {
		out[i] = row.Hint
	}
	return out
}
