//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/repair"
)

// TestRepairByHand tests the lab itself: certificates really expire, the verification detects
// it, and passes after a repair that keeps the CAs.
func TestRepairByHand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		opts expire.Options
	}{
		{"host-etcd-running", cluster.Spec{Name: "e2e-hand-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Kinds: expire.Yearly()}},
		{"host-etcd-rebooted", cluster.Spec{Name: "e2e-hand-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Restart: true}},
		{"kubeadm-etcd-running", cluster.Spec{Name: "e2e-hand-3", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, expire.Options{}},
		{"three-kubeadm-etcd-rebooted", cluster.Spec{Name: "e2e-hand-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, expire.Options{Restart: true}},
		{"etcd-nodes-rebooted", cluster.Spec{Name: "e2e-hand-6", ControlPlanes: 3, Workers: 1, EtcdNodes: 3, LocalProxy: true}, expire.Options{Restart: true}},
		{"balanced-other-folders-renamed-rebooted", cluster.Spec{
			Name: "e2e-hand-7", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm, AlsoWorkers: true, LoadBalancer: true,
			BinDir: "/opt/kube/bin", ConfigDir: "/etc/k8s", KubernetesNames: map[string]string{"cp2": "beta"},
		}, expire.Options{Restart: true}},
		{"three-host-etcd-rebooted", cluster.Spec{Name: "e2e-hand-5", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Restart: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 15*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			w.KubeletsKept = true
			if err := w.Verify(ctx); err != nil {
				t.Fatalf("verification of a healthy cluster failed: %v", err)
			}
			w.KubeletsKept = false

			expireAll(ctx, t, c, test.opts)
			wantErrorWith(t, w.Verify(ctx), "apiserver.crt", "kubelet-client-current.pem", "admin.conf", "expired at")

			took, err := repair.Cluster(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("repaired by hand in %.1fs", took.Seconds())
			if err := w.Verify(ctx); err != nil {
				t.Errorf("verification after the repair failed: %v", err)
			}
		})
	}
}

// TestNaiveRepairIsSeenThrough checks that the verification requires more than an answering
// API server.
func TestNaiveRepairIsSeenThrough(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 10*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-naive", ControlPlanes: 1, Workers: 1})
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, expire.Options{Kinds: expire.Yearly(), Restart: true})
	if err := repair.Naive(ctx, c); err != nil {
		t.Fatal(err)
	}
	wantErrorWith(t, w.Verify(ctx), "/etc/kubernetes/ssl/ca.key has changed", "sa.key has changed")
}

// TestDigestSeesOnlyChanges checks the digest behind tests of "nothing was changed".
func TestDigestSeesOnlyChanges(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 10*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-digest", ControlPlanes: 1, Workers: 1})
	before := filesDigest(ctx, t, c)
	if _, err := c.Exec(ctx, "cp1", "kubectl", "--kubeconfig", "/root/.kube/config", "get", "nodes"); err != nil {
		t.Fatal(err)
	}
	if diff := before.Diff(filesDigest(ctx, t, c)); len(diff) > 0 {
		t.Errorf("reading the nodes changed files: %s", strings.Join(diff, "\n"))
	}
	if _, err := c.Exec(ctx, "w1", "touch", "/etc/kubernetes/kubelet.conf"); err != nil {
		t.Fatal(err)
	}
	diff := before.Diff(filesDigest(ctx, t, c))
	if len(diff) != 1 || !strings.HasPrefix(diff[0], "changed: w1:/etc/kubernetes/kubelet.conf") {
		t.Errorf("touching a file shows as %q", diff)
	}
}

// TestStandInUpgrade checks that the stand-in for Kubespray succeeds on a healthy cluster;
// TestUpgradeDeadlock, that it hangs where the original does.
func TestStandInUpgrade(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-kubespray", ControlPlanes: 1, Workers: 1})
	started := time.Now()
	out, err := kubespray(ctx, c, "upgrade-cluster.yml")
	if err != nil {
		t.Fatalf("the upgrade fails on a healthy cluster: %v\n%s", err, out)
	}
	t.Logf("upgrade of a healthy cluster: %.1fs", time.Since(started).Seconds())
	if !strings.Contains(out, tokenTask) {
		t.Errorf("the task %q did not run", tokenTask)
	}
}
