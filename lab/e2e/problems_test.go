//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestNodeProblems: nodes with problems from before a run are named and hold up no gate, and what is
// due on the others is renewed. A machine that is down for good stops a run until it is named.
func TestNodeProblems(t *testing.T) {
	t.Parallel()
	t.Run("workers", func(t *testing.T) {
		t.Parallel()
		ctx := testContext(t, 20*time.Minute)
		c := newCluster(ctx, t, cluster.Spec{Name: "e2e-problems-1", ControlPlanes: 1, Workers: 4})
		const kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf "
		expireAll(ctx, t, c, dueSoon())
		shellOutput(ctx, t, c, "cp1", kubectl+"cordon w1")
		shellOutput(ctx, t, c, "w2", "rm /etc/cni/net.d/*; systemctl restart containerd")
		shellOutput(ctx, t, c, "w4", "systemctl disable -q --now kubelet")
		shellOutput(ctx, t, c, "cp1", kubectl+"delete node w4")
		stopFor(ctx, t, c, "w3")
		if err := cluster.Poll(ctx, 3*time.Minute, time.Second, "w2 and w3 not to be Ready", func(ctx context.Context) error {
			out, err := c.Kubectl(ctx, "get", "nodes", "w2", "w3", "--no-headers")
			if err == nil && strings.Count(string(out), "NotReady") != 2 {
				err = fmt.Errorf("%s", out)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}

		run := []string{"run", "-i", c.Inventory(), "--yes"}
		kscertctl(ctx, t, run...).want(t, 4, "the node cannot be reached (w3)", "--allow-unreachable w3")
		run = append(run, "--allow-unreachable", "w3")
		o := kscertctl(ctx, t, run...)
		o.want(t, 0, "Route:   renew", "w3: left out with --allow-unreachable", "the node is not Ready (w2", "w4: the node has not joined the cluster", "w1: the node is cordoned")
		wantFresh(ctx, t, c, "cp1", "w1", "w2")
		if out := shellOutput(ctx, t, c, "cp1", kubectl+"get nodes -o name"); strings.Contains(out, "w4") {
			t.Errorf("the node that was removed is back:\n%s", out)
		}

		expireAll(ctx, t, c, expire.Options{Nodes: []string{"cp1", "w1", "w2"}, Restart: true})
		kscertctl(ctx, t, run...).want(t, 0, "Route:   recover", "w3: left out with --allow-unreachable")
		wantFresh(ctx, t, c, "cp1", "w1", "w2")
	})
	t.Run("control-planes", func(t *testing.T) {
		t.Parallel()
		ctx := testContext(t, 25*time.Minute)
		c := newCluster(ctx, t, cluster.Spec{Name: "e2e-problems-2", ControlPlanes: 3, LoadBalancer: true, EtcdEvents: true})
		expireAll(ctx, t, c, dueSoon())
		stopFor(ctx, t, c, "cp3")
		run := []string{"run", "-i", c.Inventory(), "--yes"}
		kscertctl(ctx, t, run...).want(t, 4, "the node cannot be reached (cp3)", "--allow-unreachable cp3")
		run = append(run, "--allow-unreachable", "cp3")
		kscertctl(ctx, t, run...).want(t, 0, "Route:   renew", "cp3: left out with --allow-unreachable",
			"etcd: 2 of 3 members healthy, quorum is 2; down: cp3", "etcd-events: 2 of 3 members healthy, quorum is 2; down: cp3")
		wantFresh(ctx, t, c, "cp1", "cp2")

		expireAll(ctx, t, c, expire.Options{Nodes: []string{"cp1", "cp2"}, Restart: true})
		kscertctl(ctx, t, run...).want(t, 0, "Route:   recover", "cp3: left out with --allow-unreachable")
		wantFresh(ctx, t, c, "cp1", "cp2")

		expireAll(ctx, t, c, expire.Options{Nodes: []string{"cp1", "cp2"}, Restart: true})
		stopFor(ctx, t, c, "cp2")
		kscertctl(ctx, t, append(run, "--allow-unreachable", "cp2")...).want(t, 7, "etcd has 3 members, and without cp2, cp3 no quorum is left", "nothing was changed")
	})
}

// stopFor stops a node for good.
func stopFor(ctx context.Context, t *testing.T, c *cluster.Cluster, node string) {
	t.Helper()
	if err := c.Stop(ctx, node); err != nil {
		t.Fatal(err)
	}
}

// wantFresh fails the test unless the kubelet, and on a control plane the API server, has a certificate
// for most of a year.
func wantFresh(ctx context.Context, t *testing.T, c *cluster.Cluster, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		shellOutput(ctx, t, c, node, `for f in /var/lib/kubelet/pki/kubelet-client-current.pem /etc/kubernetes/ssl/apiserver.crt; do
  [ ! -e "$f" ] || openssl x509 -in "$f" -noout -checkend 17280000 || { echo "$f"; exit 1; }
done`)
	}
}
