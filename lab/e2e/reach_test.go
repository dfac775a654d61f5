//go:build e2e

package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestReach recovers a cluster repeatedly, with another kind of inventory each time. The other
// tests use an INI file, with a user who is not root and has sudo.
func TestReach(t *testing.T) { //nolint:tparallel // sequential, on one cluster
	t.Parallel()
	ctx := testContext(t, 25*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-reach", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost})
	ini, err := os.ReadFile(c.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	recovered := func(t *testing.T, reach ...string) {
		t.Helper()
		w := plant(ctx, t, c)
		expireAll(ctx, t, c, expire.Options{Restart: true})
		o := kscertctl(ctx, t, append([]string{"run", "--yes"}, reach...)...)
		o.want(t, 0, "the API server cannot be used because", "After:   healthy")
		if err := w.Verify(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Run("a directory of YAML files with group_vars", func(t *testing.T) {
		out, err := exec.CommandContext(ctx, "ansible-inventory", "-i", c.Inventory(), "--list", "--yaml").Output()
		if err != nil {
			t.Fatal(err)
		}
		const user = "ansible_user: kubespray\n"
		hosts := regexp.MustCompile(` *`+user).ReplaceAllString(string(out), "")
		if hosts == string(out) || !strings.Contains(hosts, "kube_control_plane:") {
			t.Fatalf("not the lab's inventory:\n%s", out)
		}
		recovered(t, "-i", folder(t, map[string]string{"hosts.yaml": hosts, "group_vars/all/connection.yml": user}))
	})
	t.Run("Kubespray's old group names", func(t *testing.T) {
		old := strings.NewReplacer("kube_control_plane", "kube-master", "kube_node", "kube-node", "k8s_cluster", "k8s-cluster").Replace(string(ini))
		recovered(t, "-i", folder(t, map[string]string{"inventory.ini": old})+"/inventory.ini")
	})
	t.Run("a bastion, and sudo with a password from a vault", func(t *testing.T) {
		password := rand.Text()
		var bastion cluster.Node
		for _, n := range c.Nodes() {
			if _, err := c.ExecInput(ctx, n.Name, strings.NewReader("kubespray:"+password+"\n"), "chpasswd"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Exec(ctx, n.Name, "sed", "-i", "s/NOPASSWD: *//", "/etc/sudoers.d/kubespray"); err != nil {
				t.Fatal(err)
			}
			bastion = n // the last node, the worker
		}
		// The existing SSH connections bypass the bastion.
		sockets, err := os.MkdirTemp("", "cp") //nolint:usetesting // the path of a socket is short
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(sockets)
		dir := folder(t, map[string]string{
			// A node's own common arguments replace the global ones.
			"inventory.ini": strings.Replace(string(ini), "ansible_ssh_common_args=", "ansible_ssh_extra_args=", 1) +
				fmt.Sprintf("\n[bastion]\nbastion ansible_host=%s\n[all:vars]\nansible_control_path_dir=%s\n", bastion.IP, sockets),
			"key": rand.Text(), "vault.yml": "ansible_become_password: " + password + "\n",
		})
		if out, err := exec.CommandContext(ctx, "ansible-vault", "encrypt", "--vault-password-file", dir+"/key", dir+"/vault.yml").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		recovered(t, "-i", dir+"/inventory.ini", "-e", "@"+dir+"/vault.yml", "--vault-password-file", dir+"/key")

		// Without the password the connection fails: the run above used it.
		kscertctl(ctx, t, "diagnose", "-i", dir+"/inventory.ini").want(t, 4)
		log, err := c.Exec(ctx, c.ControlPlanes()[0].Name, "journalctl", "-u", "ssh", "-o", "cat", "--no-pager")
		if from := "from " + bastion.IP.String(); err != nil || !strings.Contains(string(log), from) {
			t.Errorf("%v: no connection %s", err, from)
		}
	})
}

// folder writes files into a new directory.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
