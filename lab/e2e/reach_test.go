//go:build e2e

package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestReach recovers a cluster whose control plane is reached through a bastion, by a
// user whose sudo wants a password, which lies in a vault.
func TestReach(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-reach", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost})
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, expire.Options{Restart: true})

	password, dir := rand.Text(), t.TempDir()
	var bastion cluster.Node
	for _, n := range c.Nodes() {
		if _, err := c.ExecInput(ctx, n.Name, strings.NewReader("kubespray:"+password+"\n"), "chpasswd"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(ctx, n.Name, "sed", "-i", "s/NOPASSWD: *//", "/etc/sudoers.d/kubespray"); err != nil {
			t.Fatal(err)
		}
		bastion = n // the worker, the last
	}
	inventory, err := os.ReadFile(c.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	// A node with common arguments of its own goes its own way.
	text := strings.Replace(string(inventory), "ansible_ssh_common_args=", "ansible_ssh_extra_args=", 1) +
		fmt.Sprintf("\n[bastion]\nbastion ansible_host=%s\n", bastion.IP)
	for name, text := range map[string]string{
		"inventory.ini": text, "key": rand.Text(), "vault.yml": "ansible_become_password: " + password + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(ctx, "ansible-vault", "encrypt", "--vault-password-file", dir+"/key", dir+"/vault.yml").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	reach := []string{"-i", dir + "/inventory.ini", "-e", "@" + dir + "/vault.yml", "--vault-password-file", dir + "/key"}
	o := kscertctl(ctx, t, append([]string{"run", "--yes"}, reach...)...)
	o.want(t, 0, "the API server cannot be used because", "Is now:  healthy")
	if err := w.Verify(ctx); err != nil {
		t.Error(err)
	}
	// Without the password nobody gets in: what was tried above needed it.
	kscertctl(ctx, t, "diagnose", "-i", dir+"/inventory.ini").want(t, 4)
	log, err := c.Exec(ctx, c.ControlPlanes()[0].Name, "journalctl", "-u", "ssh", "-o", "cat", "--no-pager")
	if from := "from " + bastion.IP.String(); err != nil || !strings.Contains(string(log), from) {
		t.Errorf("%v: nobody came %s:\n%s", err, from, log)
	}
}
