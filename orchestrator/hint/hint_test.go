package hint_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/infrapuzzle/kscertctl/orchestrator/hint"
)

// printed are messages as their authors print them, with the expected hint; an empty name means
// that no hint matches.
var printed = []struct{ name, text string }{
	{"host-key", "Failed to connect to the host via ssh: Host key verification failed."},
	{"host-key-changed", "Failed to connect to the host via ssh: @@@@@@@@@@@\r\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed."},
	{"sshpass-host-key", "Using a SSH password instead of a key is not possible because Host Key checking is enabled and sshpass does not support this.  Please add this host's fingerprint to your known_hosts file to manage this host."},
	{"sshpass", "to use the 'ssh' connection type with passwords or pkcs11_provider, you must install the sshpass program"},
	{"private-key-mode", "Permissions 0644 for '/home/me/.ssh/id_ed25519' are too open.\nThis private key will be ignored.\nLoad key \"/home/me/.ssh/id_ed25519\": bad permissions\nroot@10.0.0.1: Permission denied (publickey)."},
	{"ssh-login", "Failed to connect to the host via ssh: ubuntu@10.0.0.11: Permission denied (publickey,password)."},
	{"ssh-login", "Invalid/incorrect password: Permission denied, please try again."},
	{"ssh-name", "Failed to connect to the host via ssh: ssh: Could not resolve hostname node1: Name or service not known"},
	{"ssh-refused", "Failed to connect to the host via ssh: ssh: connect to host 127.0.0.1 port 1: Connection refused"},
	{"ssh-timeout", "Failed to connect to the host via ssh: ssh: connect to host 192.0.2.1 port 22: Connection timed out"},
	{"ssh-timeout", "Failed to connect to the host via ssh: ssh: connect to host 10.9.9.9 port 22: No route to host"},
	{"unreachable", "Failed to connect to the host via ssh: kex_exchange_identification: read: Connection reset by peer"},
	{"sudo-password", "Missing sudo password"},
	{"sudo-password", "sudo: a password is required\n"},
	{"sudo-password", "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper"},
	{"sudo-wrong", "Incorrect sudo password"},
	{"sudoers", "deploy is not in the sudoers file.  This incident will be reported."},
	{"sudoers", "Sorry, user deploy is not allowed to execute '/bin/sh -c echo' as root on node1."},
	{"become-prompt", "Timeout (12s) waiting for privilege escalation prompt: "},
	// sudo-rs 0.2.15: ansible-core before 2.22 does not recognize its prompt.
	{"answer-cut", "the answer was damaged on its way: it has no beginning, or no end"},
	{"become-prompt", "Task failed: Timeout (5s) waiting for privilege escalation prompt:"},
	{"become-prompt", "Task failed: Timed out waiting for become success or become password prompt.\n>>> Standard Error\n[sudo: [sudo via ansible, key=zyiuhxrq] password:] Password:"},
	{"sudo-password", "sudo: interactive authentication is required\n"},
	{"sudo-wrong", "sudo: maximum 3 incorrect authentication attempts"},
	{"sudoers", "sudo: I'm sorry kube. I'm afraid I can't do that"},
	{"vault-password", "Attempting to decrypt but no vault secrets found"},
	{"vault-password", "Decryption failed (no vault secrets were found that could decrypt) on /inventory/group_vars/all/vault.yml"},
	{"vault-password", "ERROR! The vault password file /nowhere was not found"},
	{"locale", "ERROR: Ansible requires the locale encoding to be UTF-8; Detected ISO8859-1."},
	{"ansible-version", "Ansible must be between 2.16.4 and 2.17.5 exclusive - you have 2.14.18"},
	{"python-library", "Python netaddr is not present"},
	{"python-library", "The ipaddr filter requires python's netaddr be installed on the ansible controller"},
	{"python-library", `You need to install "jmespath" prior to running json_query filter`},
	{"jinja-version", "Your Jinja version is too old, install via pip"},
	{"collection", "ERROR! couldn't resolve module/action 'community.general.modprobe'. This often indicates a misspelling, missing collection, or incorrect module path."},
	{"collection", "template error while templating string: Could not load \"ansible.utils.ipaddr\": 'ansible.utils.ipaddr'."},
	{"role", "ERROR! the role 'kubespray_defaults' was not found in /k/playbooks/roles:/root/.ansible/roles:/k/playbooks"},
	{"python", "/bin/sh: 1: /usr/bin/python3: not found\r\n"},
	{"python", "bash: /usr/bin/python: No such file or directory"},
	{"python-too-old", "ansible-core requires a minimum of Python version 3.7. Current version: 3.6.8"},
	{"python-too-old", "SyntaxError: future feature annotations is not defined"},
	{"apt-lock", "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)"},
	{"apt-lock", "Failed to lock apt for exclusive operation: Failed to lock directory /var/lib/apt/lists/"},
	{"apt-source", "Failed to update apt cache: unknown reason"},
	{"disk-full", "[Errno 28] No space left on device: '/root/.ansible/tmp'"},
	{"disk-full", "kscertctl: not enough space for a backup below /var/backups/kscertctl: 9000 KiB needed, 12 KiB free"},
	{"read-only", "cp: cannot create regular file '/etc/kubernetes/x': Read-only file system"},
	{"immutable", "kscertctl: /etc/kubernetes/ssl/apiserver.crt cannot be written; it is as it was, and so is its key /etc/kubernetes/ssl/apiserver.key (mv: cannot move '/etc/kubernetes/ssl/.kscertctl.apiserver.crt' to '/etc/kubernetes/ssl/apiserver.crt': Operation not permitted)."},
	{"remote-tmp", "Failed to create temporary directory. In some cases, you may have been able to authenticate and did not have permissions on the target directory."},
	{"version-skew", `[upgrade/version] FATAL: the --version argument is invalid due to these fatal errors: - Specified version to upgrade to "v1.33.0" is too high; kubeadm can upgrade only 1 minor version at a time`},
	{"version-skew", "this version of kubeadm only supports deploying clusters with the control plane version >= 1.33.0. Current version: v1.31.0"},
	{"kubeadm-config", `error: your configuration file uses an old API spec: "kubeadm.k8s.io/v1beta2" (kind: "ClusterConfiguration"). Please use kubeadm v1.22 instead and run 'kubeadm config migrate --old-config old-config-file --new-config new-config-file'`},
	{"kubeadm-config", `featureGates: Invalid value: {"PublicKeysECDSA":true}: PublicKeysECDSA is not a valid feature name.`},
	{"certificate-expired", "Unable to connect to the server: x509: certificate has expired or is not yet valid: current time 2026-01-02T00:00:00Z is after 2026-01-01T00:00:00Z"},
	{"unknown-authority", "Unable to connect to the server: x509: certificate signed by unknown authority"},
	{"token", `task "kubernetes/control-plane : Create kubeadm token for joining nodes with 24h expiration (default)": timed out waiting for the condition`},
	{"api-server", "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?"},
	{"api-server", "error execution phase upload-config: timed out waiting for the condition"},
	{"unauthorized", "error: You must be logged in to the server (Unauthorized)"},
	{"drain", "error when evicting pods/\"db-0\" -n \"default\" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget."},
	{"drain", "Failed to drain node node3"},
	{"etcd", "etcdserver: no leader"},
	{"image-pull", `failed to pull and unpack image "registry.k8s.io/pause:3.10": failed to resolve reference`},
	{"download", "Request failed: <urlopen error [Errno 111] Connection refused>"},
	{"facts", "The task includes an option with an undefined variable. The error was: 'ansible_default_ipv4' is undefined"},
	{"facts", "'ansible.vars.hostvars.HostVarsVars object' has no attribute 'ansible_hostname'"},
	{"undefined", "The task includes an option with an undefined variable. The error was: 'kube_apiserver_node_port_rang' is undefined"},
	{"undefined", "'dict object' has no attribute 'etcd'"},
	{"selinux", "Aborting, target uses selinux but python bindings (libselinux-python) aren't installed!"},
	{"out-of-memory", "OSError: [Errno 12] Cannot allocate memory"},
	{"", "kscertctl: the new apiserver.crt would lose these SANs: DNS:api.example.com"},
	{"", "non-zero return code"},
	{"", ""},
}

func TestOf(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, row := range printed {
		got, ok := hint.Of(row.text)
		if got.Name != row.name || ok != (row.name != "") {
			t.Errorf("%q\n  matches %q, want %q", row.text, got.Name, row.name)
		}
		found[got.Name] = true
	}
	for _, h := range hint.All() {
		if !found[h.Name] {
			t.Errorf("no message of this test matches %s", h.Name)
		}
	}
}

// Advice is a separate sentence after "hint: ", and describes what to do.
func TestAdvice(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, h := range hint.All() {
		if names[h.Name] || len(h.Advice) < 40 || strings.HasSuffix(h.Advice, ".") || strings.ContainsAny(h.Advice, "\n\t") {
			t.Errorf("%+v", h)
		}
		names[h.Name] = true
	}
}

// Any output of a node matches a hint of the table or none.
func FuzzOf(f *testing.F) {
	for _, row := range printed {
		f.Add(row.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, ok := hint.Of(text)
		if ok != (h.Name != "" && h.Advice != "") || !utf8.ValidString(h.Advice) {
			t.Errorf("%q: %+v, %t", text, h, ok)
		}
		if again, _ := hint.Of("before\n" + text + "\nafter"); ok && again.Name == "" {
			t.Errorf("%q within other text has no hint", text)
		}
	})
}
