//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// partly is a kind of certificate that has expired on some nodes, with the expected route.
type partly struct {
	name string
	opts expire.Options
	says string
}

// TestPartlyExpired expires one kind of certificate at a time, with or without a usable API
// server, and checks that only what is due is renewed.
func TestPartlyExpired(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spec  cluster.Spec
		cases []partly
	}{
		{"one", cluster.Spec{Name: "e2e-partly-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, []partly{
			{"kubelet of the worker", expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"w1"}, Restart: true}, "Route:   renew"},
			{"kubelet of the control plane, running", expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"cp1"}}, "Route:   renew"},
			{"kubelet of the control plane, rebooted", expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"cp1"}, Restart: true}, "Route:   recover"},
			{"front proxy", expire.Options{Kinds: []expire.Kind{expire.FrontProxyClient}, Restart: true}, "Route:   renew"},
			{"controller manager and scheduler", expire.Options{Kinds: []expire.Kind{expire.ControllerManager, expire.Scheduler}, Restart: true}, "Route:   renew"},
			{"administrator", expire.Options{Kinds: []expire.Kind{expire.Admin}}, "Route:   recover"},
			{"etcd", expire.Options{Kinds: []expire.Kind{expire.HostEtcd}, Restart: true}, "Route:   recover"},
		}},
		{"three", cluster.Spec{Name: "e2e-partly-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm, LoadBalancer: true}, []partly{
			{"one control plane", expire.Options{Nodes: []string{"cp2"}, Restart: true}, "Route:   recover"},
			{"kubelet of a control plane", expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"cp3"}, Restart: true}, "Route:   recover"},
			{"the worker", expire.Options{Nodes: []string{"w1"}, Restart: true}, "Route:   renew"},
			{"front proxy", expire.Options{Kinds: []expire.Kind{expire.FrontProxyClient}, Restart: true}, "Route:   renew"},
			{"etcd", expire.Options{Kinds: []expire.Kind{expire.Etcd, expire.APIServerEtcdClient}, Restart: true}, "Route:   recover"},
		}},
		{"etcd nodes", cluster.Spec{Name: "e2e-partly-etcd", ControlPlanes: 1, Workers: 1, EtcdNodes: 3}, []partly{
			{"etcd", expire.Options{Kinds: []expire.Kind{expire.HostEtcd}, Restart: true}, "Route:   recover"},
			{"one member", expire.Options{Kinds: []expire.Kind{expire.HostEtcd}, Nodes: []string{"etcd2"}, Files: []string{"/etc/ssl/etcd/ssl/member-etcd2.pem"}, Restart: true}, "Route:   renew"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 25*time.Minute)
			c := newCluster(ctx, t, test.spec)
			for _, row := range test.cases {
				t.Run(row.name, func(t *testing.T) { fixes(ctx, t, c, row) })
			}
		})
	}
}

func fixes(ctx context.Context, t *testing.T, c *cluster.Cluster, row partly) {
	t.Helper()
	w := plant(ctx, t, c)
	w.KubeletsKept = true
	expireAll(ctx, t, c, row.opts)
	o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes")
	o.want(t, 0, row.says, "After:   healthy")
	t.Logf("repaired in %.1fs", o.took.Seconds())
	if err := w.Verify(ctx); err != nil {
		t.Errorf("verification failed: %v", err)
	}
}

// TestPlaybooksByHand runs the project's playbooks with plain ansible-playbook: from a
// clone, and as a collection that was installed from its tarball into an empty place, alone
// and behind Kubespray's own playbook. They need nothing of the Go program, and change nothing
// the second time.
func TestPlaybooksByHand(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-byhand", ControlPlanes: 1, Workers: 1})
	w := plant(ctx, t, c)
	w.KubeletsKept = true
	expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.APIServer, expire.Admin, expire.Scheduler}, NotAfter: time.Now().Add(5 * 24 * time.Hour)})

	out := byHand(ctx, t, c, "../..", nil, "playbooks/renew-certs.yml", "--check")
	if !strings.Contains(out, "changed=") {
		t.Errorf("no summary:\n%s", out)
	}
	if changes(t, out) == 0 {
		t.Error("--check does not report that something would change")
	}
	for _, text := range []string{"would back up to ", "would renew /etc/kubernetes/ssl/apiserver.crt, which expires ", "would renew /etc/kubernetes/scheduler.conf, which expires ", "would restart kube-scheduler"} {
		if !strings.Contains(out, text) {
			t.Errorf("--check does not report %q:\n%s", text, out)
		}
	}
	if strings.Contains(out, "would restart kube-apiserver") {
		t.Errorf("--check would restart an API server that reloads its certificate by itself:\n%s", out)
	}
	wantErrorWith(t, certificateFresh(ctx, c), "apiserver.crt")

	env, installed := install(ctx, t)
	if out := byHand(ctx, t, c, installed, env, "infrapuzzle.kscertctl.renew_certs"); changes(t, out) == 0 {
		t.Errorf("nothing was renewed:\n%s", out)
	}
	if err := certificateFresh(ctx, c); err != nil {
		t.Error(err)
	}
	if err := w.Verify(ctx); err != nil {
		t.Errorf("verification failed: %v", err)
	}
	// Each run takes a backup; nothing else changes.
	wantUnchanged(ctx, t, c, func() {
		if out := byHand(ctx, t, c, installed, env, "infrapuzzle.kscertctl.renew_certs"); changes(t, out) != 1 {
			t.Errorf("the second time changes more than the backup:\n%s", out)
		}
	})

	wantSameFacts(ctx, t, c, installed, env)

	// One play of Kubespray's playbook, in its checkout and with its settings, and this one.
	site := installed + "/site.yml"
	if err := os.WriteFile(site, []byte("- import_playbook: "+c.KubesprayDir()+"/cluster.yml\n- import_playbook: infrapuzzle.kscertctl.renew_certs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const serial = "openssl x509 -noout -serial -in /etc/kubernetes/ssl/apiserver.crt"
	before, err := c.Shell(ctx, "cp1", serial)
	if err != nil {
		t.Fatal(err)
	}
	out = byHand(ctx, t, c, c.KubesprayDir(), env, site, "-b", "--skip-tags", "master,control-plane,node,kubeadm,pre-upgrade,post-upgrade",
		"-e", "kscert_renew_before_seconds=40000000")
	after, err := c.Shell(ctx, "cp1", serial)
	if err != nil || string(after) == string(before) || !strings.Contains(out, "TASK [kubernetes/preinstall : ") {
		t.Errorf("behind Kubespray's playbook the serial number is %s, before %s: %v\n%s", after, before, err, out)
	}
	if err := w.Verify(ctx); err != nil {
		t.Errorf("the witness is not content: %v", err)
	}
}

// wantSameFacts fails the test unless the collection's action sets the certificates as facts that
// kscertctl sees, on nodes without Python.
func wantSameFacts(ctx context.Context, t *testing.T, c *cluster.Cluster, installed string, env []string) {
	t.Helper()
	const play = `- hosts: kube_control_plane:kube_node
  gather_facts: false
  tasks:
    - infrapuzzle.kscertctl.certificates:
      become: true
    - ansible.builtin.copy:
        content: "{{ kscertctl | to_json }}"
        dest: "{{ playbook_dir }}/{{ inventory_hostname }}.json"
        mode: "0600"
      delegate_to: localhost
      vars: {ansible_connection: local, ansible_become: false, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
`
	if err := os.WriteFile(installed+"/facts.yml", []byte(play), 0o600); err != nil {
		t.Fatal(err)
	}
	byHand(ctx, t, c, installed, env, installed+"/facts.yml")
	saved := filepath.Join(t.TempDir(), "snapshot.json")
	kscertctl(ctx, t, "check-expiration", "-i", c.Inventory(), "--save-snapshot", saved).want(t, 0)
	type node struct {
		Name         string `json:"name"`
		Certificates []struct {
			Kind, Path, Fingerprint, NotAfter, SignedBy, Key string
		} `json:"certificates"`
	}
	load := func(path string, into any) {
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var snapshot struct{ Nodes []node }
	load(saved, &snapshot)
	for _, want := range snapshot.Nodes {
		var got node
		load(installed+"/"+want.Name+".json", &got)
		if len(want.Certificates) < 3 || !slices.Equal(got.Certificates, want.Certificates) {
			t.Errorf("facts of %s are\n%v\nwant\n%v", want.Name, got.Certificates, want.Certificates)
		}
	}
	if len(snapshot.Nodes) != 2 {
		t.Errorf("%d nodes", len(snapshot.Nodes))
	}
}

// install brings the collection to where nothing else of the project is. It returns the
// environment in which Ansible finds it, and the directory.
func install(ctx context.Context, t *testing.T) (env []string, dir string) {
	t.Helper()
	dir = t.TempDir()
	env = append(os.Environ(), "HOME="+dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ANSIBLE_COLLECTIONS_PATH="+dir+"/installed", "ANSIBLE_GALAXY_SERVER=http://127.0.0.1:9")
	galaxy := func(from string, args ...string) {
		cmd := exec.CommandContext(ctx, "ansible-galaxy", append([]string{"collection"}, args...)...)
		cmd.Dir, cmd.Env = from, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ansible-galaxy %q: %v\n%s", args, err, out)
		}
	}
	galaxy("../../playbooks/collections/ansible_collections/infrapuzzle/kscertctl", "build", "--output-path", dir)
	built, err := filepath.Glob(dir + "/*.tar.gz")
	if err != nil || len(built) != 1 {
		t.Fatalf("built: %v, %v", built, err)
	}
	galaxy(dir, "install", built[0], "-p", dir+"/installed")
	return env, dir
}

// byHand runs a playbook from a directory, in an environment or this one.
func byHand(ctx context.Context, t *testing.T, c *cluster.Cluster, dir string, env []string, playbook string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "ansible-playbook", append([]string{"-i", c.Inventory(), playbook}, args...)...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", playbook, err, out)
	}
	return string(out)
}

// changes returns the number of changed tasks in Ansible's summary.
func changes(t *testing.T, out string) int {
	t.Helper()
	n := 0
	for _, m := range regexp.MustCompile(`changed=(\d+)`).FindAllStringSubmatch(out, -1) {
		for _, digit := range m[1] {
			n = n*10 + int(digit-'0')
		}
	}
	return n
}

// certificateFresh returns an error if the API server's certificate expires soon.
func certificateFresh(ctx context.Context, c *cluster.Cluster) error {
	_, err := c.Shell(ctx, "cp1", "openssl x509 -noout -checkend 2592000 -in /etc/kubernetes/ssl/apiserver.crt || { echo apiserver.crt ends soon >&2; exit 1; }")
	return err
}
