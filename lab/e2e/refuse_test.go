//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestRefuse injects one fault after the other on one cluster. kscertctl must explain it, exit
// with the documented code and change nothing.
func TestRefuse(t *testing.T) { //nolint:tparallel // one fault at a time on one cluster
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-refuse", ControlPlanes: 1, Workers: 1})
	const manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	key := filepath.Join(t.TempDir(), "other-key")

	for _, test := range []struct {
		name string
		// fault and repair are root's scripts on the node.
		node, fault, repair string
		// inventory returns another inventory for the cluster.
		inventory func(string) string
		args      []string
		code      int
		says      []string
		// settled waits until the cluster answers after the repair.
		settled bool
		// visible is a command on the node that succeeds once the fault has an effect.
		visible string
	}{
		{
			name: "API server with an unknown flag, certificates fresh",
			node: "cp1", fault: "cp -p " + manifest + " /root/m && sed -i 's/- --secure-port=/- --no-such-flag=1\\n    - --secure-port=/' " + manifest,
			repair: "cp -p /root/m " + manifest, code: 5, settled: true,
			visible: "grep -rqs 'unknown flag' /var/log/pods/kube-system_kube-apiserver-*",
			says:    []string{"no expired certificate explains it: the API server exits as soon as it starts", "unknown flag: --no-such-flag"},
		},
		{
			name: "API server manifest that is not YAML, certificates fresh",
			node: "cp1", fault: "cp -p " + manifest + " /root/m && sed -i 's/^spec:/spec: [broken/' " + manifest,
			repair: "cp -p /root/m " + manifest, code: 5, settled: true,
			visible: noAPI + " && journalctl -u kubelet --since -30s | grep -q 'parse as pod'",
			says:    []string{"the kubelet cannot read a static pod manifest", "kube-apiserver.yaml"},
		},
		{
			name: "API server manifest missing",
			node: "cp1", fault: "mv " + manifest + " /root/m", repair: "mv /root/m " + manifest,
			code: 5, settled: true, visible: noAPI,
			says: []string{"the API server's static pod manifest is missing", "cp1"},
		},
		{
			name: "unreachable host", code: 4,
			inventory: func(s string) string {
				return strings.Replace(s, "w1 ansible_host=", "w1 ansible_port=1 ansible_host=", 1)
			},
			says: []string{"the node cannot be reached (w1)", "Connection refused"},
		},
		{
			name: "wrong SSH key", args: []string{"--private-key", key}, code: 4,
			inventory: func(s string) string {
				return replaceLine(s, "ansible_ssh_private_key_file=", "ansible_ssh_args='-o ControlMaster=no'")
			},
			says: []string{"the node cannot be reached", "Permission denied"},
		},
		{
			name: "no sudo", node: "w1", fault: "mv /etc/sudoers.d/kubespray /root/sudoers", repair: "mv /root/sudoers /etc/sudoers.d/kubespray",
			code: 7, says: []string{"cannot become root on the node (w1)", "password"},
		},
		{
			name: "kubeadm missing", node: "cp1", fault: "mv /usr/local/bin/kubeadm /root/kubeadm", repair: "mv /root/kubeadm /usr/local/bin/kubeadm",
			code: 7, says: []string{"a required command is missing on the node (cp1, kubeadm)"},
		},
		{
			name: "kubeadm configuration missing", node: "cp1", fault: "mv /etc/kubernetes/kubeadm-config.yaml /root/", repair: "mv /root/kubeadm-config.yaml /etc/kubernetes/",
			code: 7, says: []string{"the node's kubeadm configuration is missing"},
		},
		{
			name: "group that Kubespray does not know", code: 64,
			inventory: func(s string) string { return strings.ReplaceAll(s, "kube_control_plane", "masters") },
			says:      []string{"no control plane hosts", "kube_control_plane", "masters"},
		},
		{
			name: "empty inventory", inventory: func(string) string { return "" }, code: 64, says: []string{"the file is empty"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			inventory := c.Inventory()
			if test.inventory != nil {
				inventory = changedInventory(t, c, test.inventory)
			}
			if test.name == "wrong SSH key" {
				sshKey(ctx, t, key)
			}
			if test.fault != "" {
				if _, err := c.Shell(ctx, test.node, test.fault); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if _, err := c.Shell(ctx, test.node, test.repair); err != nil {
						t.Fatal(err)
					}
					if test.settled {
						// The kubelet checks its manifests every 20 s.
						if err := settle(ctx, c); err != nil {
							t.Fatal(err)
						}
					}
				}()
			}
			if test.visible != "" {
				waitFor(ctx, t, c, test.node, test.visible)
			}
			args := append([]string{"run", "-i", inventory, "--yes"}, test.args...)
			wantUnchanged(ctx, t, c, func() { kscertctl(ctx, t, args...).want(t, test.code, test.says...) })
		})
	}
}

// TestNotApproved: without a terminal, run does not prompt and changes nothing.
func TestNotApproved(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 10*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-approve", ControlPlanes: 1, Workers: 1})
	expireAll(ctx, t, c, expire.Options{Kinds: expire.Yearly()})
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory()).want(t, 10, "Plan (route recover)", "pass --yes to approve")
	})
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "diagnose", "-i", c.Inventory()).want(t, 0, "Route:   recover", "api-server-unusable")
	})
}

func changedInventory(t *testing.T, c *cluster.Cluster, change func(string) string) string {
	t.Helper()
	data, err := os.ReadFile(c.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "inventory.ini")
	if err := os.WriteFile(path, []byte(change(string(data))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func replaceLine(s, prefix, with string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, prefix) {
			lines[i] = with
		}
	}
	return strings.Join(lines, "\n")
}

// noAPI succeeds once the API server has stopped. A starting one refuses connections, too, and
// the kubelet may take 20 s to stop one.
const noAPI = "! pgrep -x kube-apiserver"

func waitFor(ctx context.Context, t *testing.T, c *cluster.Cluster, node, command string) {
	t.Helper()
	err := cluster.Poll(ctx, 2*time.Minute, time.Second, command, func(ctx context.Context) error {
		_, err := c.Shell(ctx, node, command)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
