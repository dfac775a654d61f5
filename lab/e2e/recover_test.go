//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

// TestRecover tests the main feature: one command recovers an expired cluster completely, and
// a second one finds nothing to do.
func TestRecover(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		// restarts: expire with a restart, without one, or one after the other.
		restarts []bool
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-recover-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}, []bool{true, false}},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-recover-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, []bool{true, false}},
		{"also-worker", cluster.Spec{Name: "e2e-recover-5", ControlPlanes: 1, Etcd: cluster.EtcdHost}, []bool{true}},
		// Only group_vars/k8s_cluster has the directory's path.
		{"other-folders", cluster.Spec{
			Name: "e2e-recover-6", ControlPlanes: 1, Workers: 1, BinDir: "/opt/kube/bin", ConfigDir: "/etc/k8s", Like: cluster.LikeKubespray,
		}, []bool{true}},
		{"renamed", cluster.Spec{Name: "e2e-recover-7", ControlPlanes: 1, Workers: 1, KubernetesNames: map[string]string{"cp1": "alpha", "w1": "beta"}}, []bool{true}},
		{"local-proxy", cluster.Spec{Name: "e2e-recover-8", ControlPlanes: 1, Workers: 1, LocalProxy: true}, []bool{true}},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-recover-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, []bool{true}},
		{"three-host-etcd", cluster.Spec{Name: "e2e-recover-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost}, []bool{false}},
		{"three-kubeadm-etcd-balanced", cluster.Spec{Name: "e2e-recover-9", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm, LoadBalancer: true}, []bool{true}},
		{"three-host-etcd-balanced", cluster.Spec{Name: "e2e-recover-10", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost, LoadBalancer: true}, []bool{true}},
		{"three-also-workers", cluster.Spec{Name: "e2e-recover-11", ControlPlanes: 3, Etcd: cluster.EtcdHost}, []bool{true}},
		{"three-etcd-nodes", cluster.Spec{Name: "e2e-recover-12", ControlPlanes: 3, Workers: 1, EtcdNodes: 3}, []bool{true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 20*time.Minute)
			c := newCluster(ctx, t, test.spec)
			for _, restart := range test.restarts {
				name := "running"
				if restart {
					name = "rebooted"
				}
				t.Run(name, func(t *testing.T) { recovers(ctx, t, c, expire.Options{Restart: restart}) })
			}
		})
	}
}

// recovers lets certificates expire, recovers the cluster, and returns how long that took.
func recovers(ctx context.Context, t *testing.T, c *cluster.Cluster, opts expire.Options) time.Duration {
	t.Helper()
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, opts)
	wantErrorWith(t, w.Verify(ctx), "apiserver.crt", "expired at")
	before := filesDigest(ctx, t, c)

	o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes")
	o.want(t, 0, "the API server cannot be used because", "After:   healthy")
	t.Logf("recovered in %.1fs", o.took.Seconds())
	if err := w.Verify(ctx); err != nil {
		t.Fatalf("verification failed: %v", err)
	}
	wantNoKeys(ctx, t, c, o)
	wantBackups(ctx, t, c, before)

	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do: healthy")
	})
	return o.took
}

// wantBackups fails the test unless each node's newest backup has exactly the files before the
// run, with content, owners, modes and times.
func wantBackups(ctx context.Context, t *testing.T, c *cluster.Cluster, before witness.Digest) {
	t.Helper()
	for _, n := range c.Nodes() {
		out, err := c.Shell(ctx, n.Name, `
cd "$(ls -d /var/backups/kscertctl/*/ | tail -n 1)"
stat -c '%a' . | grep -qx 700
grep -qx "manifest $(sha256sum <MANIFEST | cut -d ' ' -f 1)" COMPLETE
awk -F '\t' '$1 == "f" {print $7 "  files" $10}' MANIFEST | sha256sum -c --quiet
awk -F '\t' '$1 == "f" {print $7 "  " $10}' MANIFEST`)
		if err != nil {
			t.Errorf("the backup on %s: %v", n.Name, err)
			continue
		}
		saved := map[string]string{}
		for line := range strings.Lines(string(out)) {
			sum, path, _ := strings.Cut(strings.TrimSpace(line), "  ")
			saved[path] = sum
		}
		compared := 0
		for key, was := range before {
			path, ours := strings.CutPrefix(key, n.Name+":")
			covered := strings.HasPrefix(path, c.Spec.ConfigDir+"/") || strings.HasPrefix(path, "/etc/ssl/etcd/")
			if !ours || !covered || saved[path] == "" {
				continue
			}
			compared++
			if !strings.Contains(was, saved[path]) {
				t.Errorf("the backup of %s on %s differs from the original: %s, was %s", path, n.Name, saved[path], was)
			}
		}
		if compared < 5 {
			t.Errorf("only %d files of %s were compared with their backup", compared, n.Name)
		}
	}
}

// TestUpgradeDeadlock shows what kscertctl is for: Kubespray's upgrade alone hangs at the
// token, and succeeds after kscertctl.
func TestUpgradeDeadlock(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 25*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-deadlock", ControlPlanes: 1, Workers: 1})
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, expire.Options{Kinds: expire.Yearly()})

	started := time.Now()
	out, err := kubespray(ctx, c, "upgrade-cluster.yml", "-e", "lab_token_retries=1") // five of 80 seconds show no more
	if err == nil {
		t.Fatalf("the upgrade passes on an expired cluster:\n%s", out)
	}
	t.Logf("deadlock: %.1fs", time.Since(started).Seconds())
	last := out[max(strings.LastIndex(out, "TASK ["), 0):]
	if !strings.Contains(last, tokenTask) || !strings.Contains(last, "fatal: [cp1]") {
		t.Fatalf("it did not fail at the token:\n%s", last)
	}

	o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes", "-b", "--kubespray-dir", c.KubesprayDir(), "--playbook", "upgrade-cluster")
	o.want(t, 0, tokenTask, "upgrade-cluster: done", "After:   healthy")
	t.Logf("recovered and upgraded in %.1fs", o.took.Seconds())
	if err := w.Verify(ctx); err != nil {
		t.Errorf("verification failed: %v", err)
	}
}

// TestExpiredByItself lets certificates with a validity of five minutes expire by themselves,
// without re-signing them.
func TestExpiredByItself(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-natural", ControlPlanes: 1, Workers: 1, CertificateValidity: 5 * time.Minute})
	w := plant(ctx, t, c)
	// kube-controller-manager issues kubelets' certificates with the same validity, and
	// kubelets renew theirs: stop one, as after a year without maintenance.
	for _, n := range c.Nodes() {
		if _, err := c.Exec(ctx, n.Name, "systemctl", "stop", "kubelet"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(5*time.Minute + 5*time.Second)
	o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes", "--warn", "1m")
	o.want(t, 0, "the API server cannot be used because", "After:   healthy")
	if err := w.Verify(ctx); err != nil {
		t.Errorf("verification failed: %v", err)
	}
}

// settle waits until the cluster is idle, so that a round does not affect the next one.
func settle(ctx context.Context, c *cluster.Cluster) error {
	return cluster.Poll(ctx, 3*time.Minute, time.Second, "the cluster is idle", c.CheckReady)
}
