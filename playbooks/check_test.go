package playbooks_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// controlPlane is a node with the files of a control plane. All certificates expire after the given
// time and were written long ago. crictl knows a container of each component that has run since
// then, and systemctl a kubelet in the given state.
func controlPlane(t *testing.T, left time.Duration, kubelet string) *node {
	t.Helper()
	n := newNode(t)
	root := filepath.Dir(n.conf)
	ca, front, etcd := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "front-proxy-ca"), testpki.Authority(t, "etcd-ca")
	issue := func(by testpki.Pair, name string) testpki.Pair {
		organization := ""
		if strings.HasPrefix(name, "system:node:") {
			organization = "system:nodes"
		}
		return by.Issue(t, testpki.Leaf{CommonName: name, Organization: organization, DNSNames: []string{"cp1"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left)})
	}
	kubeconfig := func(name string) {
		p := issue(ca, name)
		b64 := base64.StdEncoding.EncodeToString
		n.write(n.conf+"/"+name+".conf", fmt.Appendf(nil, "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\nusers:\n- user:\n    client-certificate-data: %s\n    client-key-data: %s\n",
			b64(p.Certificate), b64(p.Key)), 0o600)
	}
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	for name, p := range map[string]testpki.Pair{
		"ca": ca, "front-proxy-ca": front, "apiserver": issue(ca, "kube-apiserver"), "front-proxy-client": issue(front, "front-proxy-client"),
	} {
		n.write(n.conf+"/ssl/"+name+".crt", p.Certificate, 0o644)
		n.write(n.conf+"/ssl/"+name+".key", p.Key, 0o600)
	}
	for name, p := range map[string]testpki.Pair{"ca": etcd, "node-cp1": issue(etcd, "etcd-node-cp1")} {
		n.write(n.etcd+"/"+name+".pem", p.Certificate, 0o644)
		n.write(n.etcd+"/"+name+"-key.pem", p.Key, 0o600)
	}
	for _, name := range []string{"admin", "scheduler", "kubelet"} {
		kubeconfig(name)
	}
	p := issue(ca, "system:node:cp1")
	n.write(root+"/var/lib/kubelet/pki/kubelet-client-current.pem", slices.Concat(p.Certificate, p.Key), 0o600)
	n.write(n.bin+"/crictl", []byte("#!/bin/sh\ncase $* in *name=kube-apiserver | *name=kube-scheduler | *name=kube-controller-manager) echo / ;; esac\n"), 0o700)
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\ncase $* in is-active*) exit "+kubelet+" ;; cat*) exit 1 ;; esac\necho \"$*\" >>"+root+"/called\n"), 0o700)
	long := time.Now().AddDate(-1, 0, 0)
	for path := range n.files() {
		n.ok(os.Chtimes(path, long, long))
	}
	return n
}

// files are the bytes of everything on a node.
func (n *node) files() map[string]string {
	n.t.Helper()
	out := map[string]string{}
	n.ok(filepath.WalkDir(filepath.Dir(n.conf), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			out[path] = string(n.read(path))
		}
		return err
	}))
	return out
}

// play runs a playbook by hand, with plain ansible-playbook, on the node.
func (n *node) play(bin, playbook string, args ...string) (string, error) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), filepath.Join(bin, "ansible-playbook"), append([]string{"-i", "cp1,", playbook,
		"-e", "kscert_hosts=all", "-e", "ansible_connection=local", "-e", "ansible_become=false", "-e", "ansible_python_interpreter={{ ansible_playbook_python }}",
		"-e", "kscert_config_dir=" + n.conf, "-e", "kscert_etcd_cert_dir=" + n.etcd, "-e", "kscert_bin_dir=" + n.bin,
		"-e", "kscert_backup_root=" + filepath.Dir(n.backup), "-e", "kscert_run=run", "-e", "kscert_wait_seconds=0",
		"-e", "kscert_etcd_snapshot=never",
	}, args...)...)
	config := filepath.Join(n.t.TempDir(), "ansible.cfg")
	n.write(config, []byte(n.config), 0o600)
	cmd.Dir = n.dir
	cmd.Env = append(append(os.Environ(), n.env...), "PATH="+n.bin+":"+os.Getenv("PATH"), "KSCERT_ROOT="+filepath.Dir(n.conf), "ANSIBLE_NOCOLOR=True", "ANSIBLE_CONFIG="+config)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// With --check each playbook reports what it would renew on each node, with the expiry, and what it
// would restart for it. It changes nothing, and reports nothing for a healthy node.
func TestCheckMode(t *testing.T) {
	t.Parallel()
	const running, dead = "0", "3"
	renewed := []string{
		"would back up to BACKUP", "would renew ETCD/node-cp1.pem, which expires TIME",
		"would renew CONF/ssl/apiserver.crt, which expires TIME", "would renew CONF/ssl/front-proxy-client.crt, which expires TIME",
		"would renew CONF/admin.conf, which expires TIME", "would renew CONF/scheduler.conf, which expires TIME",
	}
	restarted := []string{"would restart kube-apiserver", "would restart kube-scheduler"}
	for _, row := range []struct {
		name, playbook string
		left           time.Duration
		kubelet        string
		want           []string
		fails          string
	}{
		{name: "renew-certs, expiring", playbook: "renew-certs.yml", left: 24 * time.Hour, kubelet: running, want: slices.Concat(renewed, restarted)},
		{
			name: "pre-phase, all expired and the kubelet dead", playbook: "pre-phase.yml", left: -time.Hour, kubelet: dead,
			want: slices.Concat(renewed, []string{"would renew KUBELET/kubelet-client-current.pem, which expires TIME", "would let CONF/kubelet.conf refer to KUBELET/kubelet-client-current.pem", "would restart the kubelet"}, restarted),
		},
		{name: "renew-certs, where the kubelet is dead", playbook: "renew-certs.yml", left: 24 * time.Hour, kubelet: dead, fails: "the kubelet is not running"},
		{name: "renew-certs, fresh", playbook: "renew-certs.yml", left: 300 * 24 * time.Hour, kubelet: running, want: []string{"would back up to BACKUP"}},
	} {
		for _, bin := range testansible.Bins(t) {
			t.Run(row.name+", "+bin, func(t *testing.T) {
				t.Parallel()
				n := controlPlane(t, row.left, row.kubelet)
				before := n.files()
				out, err := n.play(bin, row.playbook, "--check", "--diff")
				if (err != nil) != (row.fails != "") || !strings.Contains(out, row.fails) {
					t.Fatalf("%v\n%s", err, out)
				}
				for path, text := range n.files() {
					if before[path] != text {
						t.Errorf("%s was changed or made", path)
					}
					delete(before, path)
				}
				for path := range before {
					t.Errorf("%s is gone", path)
				}
				if row.fails != "" {
					return
				}
				answered := regexp.MustCompile(`[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d \d{4} GMT`).ReplaceAllString(out, "TIME")
				answered = strings.NewReplacer(n.backup, "BACKUP", n.conf, "CONF", n.etcd, "ETCD", filepath.Dir(n.conf)+"/var/lib/kubelet/pki", "KUBELET").Replace(answered)
				got := would(answered)
				if !slices.Equal(got, row.want) {
					t.Errorf("it says\n  %s\nwant\n  %s\n%s", strings.Join(got, "\n  "), strings.Join(row.want, "\n  "), out)
				}
			})
		}
	}
}

// would are the changes that a playbook reports with --check.
func would(out string) []string {
	var reported []string
	for _, m := range regexp.MustCompile(`(?m)^\s+"(would .*?)",?$`).FindAllStringSubmatch(out, -1) {
		reported = append(reported, m[1])
	}
	return reported
}

// Kubelets are handled in batches. One that cannot be reached stops only its own work. (A batch in
// which all fail to start is the last: TestPartOfAPlan, on the lab.)
func TestKubeletsInBatches(t *testing.T) {
	t.Parallel()
	for serial, want := range map[string]string{"100%": "w1 w3 w4", "2": "w1 w3 w4", "50%": "w1 w3 w4", "1": "w1 w3 w4"} {
		for _, bin := range testansible.Bins(t) {
			t.Run(serial+", "+bin, func(t *testing.T) {
				t.Parallel()
				n := controlPlane(t, -time.Hour, "0")
				out, err := n.play(bin, "kubelet-bootstrap.yml", "--check", "-i", "w1,w2,w3,w4,", "-e", "kscert_hosts=w1:w2:w3:w4", "-e", "kscert_serial="+serial,
					"-e", "kscert_control_plane=cp1", "-e", "{kscert_config_dir: \"{{ '/nowhere' if inventory_hostname == 'w2' else '"+n.conf+"' }}\"}")
				var done []string
				for _, m := range regexp.MustCompile(`(?ms)^ok: \[(\S+)\] => \{[^}]*would give the kubelet a new client certificate`).FindAllStringSubmatch(out, -1) {
					done = append(done, m[1])
				}
				slices.Sort(done)
				if err == nil || strings.Join(done, " ") != want || !strings.Contains(out, "/nowhere/kubelet.conf does not exist") {
					t.Errorf("%v: done are %v, want %s\n%s", err, done, want, out)
				}
			})
		}
	}
}

// --check also reports what would prevent a renewal.
func TestCheckModeSeesWhatIsMissing(t *testing.T) {
	t.Parallel()
	n := controlPlane(t, 24*time.Hour, "0")
	n.ok(os.Remove(n.conf + "/ssl/front-proxy-ca.key"))
	if out, err := n.play(testansible.Bins(t)[0], "renew-certs.yml", "--check"); err == nil || !strings.Contains(out, "front-proxy-ca.key does not exist") {
		t.Errorf("%v\n%s", err, out)
	}
}
