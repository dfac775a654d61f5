//go:build e2e

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestRenewUnnoticed renews a healthy cluster under load without a failed request. It logs the
// failures of the plain procedure for comparison.
func TestRenewUnnoticed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-renew-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-renew-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-renew-3", ControlPlanes: 3, Workers: 2, Etcd: cluster.EtcdKubeadm, LoadBalancer: true}},
		{"three-host-etcd", cluster.Spec{Name: "e2e-renew-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost, LoadBalancer: true}},
		{"three-etcd-nodes", cluster.Spec{Name: "e2e-renew-5", ControlPlanes: 3, Workers: 1, EtcdNodes: 3, LoadBalancer: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 20*time.Minute)
			c := newCluster(ctx, t, test.spec)
			renewsUnnoticed(ctx, t, c)

			expireAll(ctx, t, c, dueSoon())
			u := use(ctx, t, c)
			renewPlainly(ctx, t, c)
			asked, failures := u.end(ctx, t)
			t.Logf("the plain procedure: %d requests, failed: %d", asked, count(failures))
			if count(failures) == 0 {
				t.Error("no client noticed the restart of every API server: they detect nothing")
			}
		})
	}
}

// dueSoon makes certificates due. They are valid for so long that kubelets renew theirs by
// themselves.
func dueSoon() expire.Options { return expire.Options{NotAfter: time.Now().Add(5 * 24 * time.Hour)} }

// renewsUnnoticed renews a cluster's certificates while clients use it, and returns how many
// requests there were and how many failed.
func renewsUnnoticed(ctx context.Context, t *testing.T, c *cluster.Cluster) (asked, failed int) {
	t.Helper()
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, dueSoon())
	w.KubeletsKept = true
	running := apiServers(ctx, t, c)

	u := use(ctx, t, c)
	// An open connection to a control plane's kubelet, as after someone's kubectl logs: only a new
	// one makes the API server use its renewed certificate for all. The first one with the certificate
	// that is due breaks for the same reason.
	for _, n := range c.ControlPlanes() {
		path := "/api/v1/nodes/" + n.KubernetesName + "/proxy/healthz"
		if err := cluster.Poll(ctx, 10*time.Second, time.Second, "a connection to a kubelet", func(ctx context.Context) error {
			_, err := c.KubectlOn(ctx, n.Name, nil, "get", "--raw", path)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"run", "-i", c.Inventory(), "--yes"}
	if c.Spec.Hardened {
		// Before Kubernetes 1.35, a kubelet that starts reports pods with a readiness probe as not ready
		// until its first probe (pkg/kubelet/prober): on all nodes at once, no metrics-server would be left.
		args = append(args, "--serial", "1")
	}
	o := kscertctl(ctx, t, args...)
	asked, failures := u.end(ctx, t)
	o.want(t, 0, "Route:   renew", "After:   healthy")
	t.Logf("kscertctl: %d requests in %.0f s, failed: %d", asked, o.took.Seconds(), count(failures))
	for who, what := range failures {
		t.Errorf("%s failed %d times, first: %s", who, len(what), what[0])
	}
	if now := apiServers(ctx, t, c); !slices.Equal(now, running) {
		t.Errorf("API servers were restarted: %q, were %q", now, running)
	}
	if err := w.Verify(ctx); err != nil {
		t.Errorf("verification failed: %v", err)
	}
	return asked, count(failures)
}

// TestMemberDown: with one of three etcd members down, due certificates on the other nodes are
// renewed without restarting a member; nothing changes on the member's node.
func TestMemberDown(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-member-down", ControlPlanes: 3, Etcd: cluster.EtcdHost})
	expireAll(ctx, t, c, dueSoon())
	if _, err := c.Exec(ctx, "cp3", "systemctl", "stop", "etcd"); err != nil {
		t.Fatal(err)
	}
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 7, "etcd on cp3 is not running", "--limit cp1,cp2")
	})
	began := func() (out []string) {
		for _, node := range []string{"cp1", "cp2"} {
			out = append(out, shellOutput(ctx, t, c, node, "systemctl show -p MainPID -p ExecMainStartTimestamp etcd"))
		}
		return out
	}
	running, served := began(), apiServers(ctx, t, c)
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--limit", "cp1,cp2", "--yes").want(t, 0, "Route:   renew", "the etcd member is not running (cp3, etcd)")
	if now := began(); !slices.Equal(now, running) {
		t.Errorf("members of etcd were restarted: %q, were %q", now, running)
	}
	if now := apiServers(ctx, t, c); !slices.Equal(now, served) {
		t.Errorf("API servers were restarted: %q, were %q", now, served)
	}
	if _, err := c.Exec(ctx, "cp3", "systemctl", "start", "etcd"); err != nil {
		t.Fatal(err)
	}
	if err := settle(ctx, c); err != nil {
		t.Fatal(err)
	}
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Route:   renew", "After:   healthy")
}

func count(failures map[string][]string) int {
	n := 0
	for _, f := range failures {
		n += len(f)
	}
	return n
}

// apiServers returns the containers of the API servers.
func apiServers(ctx context.Context, t *testing.T, c *cluster.Cluster) []string {
	t.Helper()
	var out []string
	for _, n := range c.ControlPlanes() {
		id, err := c.Shell(ctx, n.Name, "crictl ps --quiet --no-trunc --name '^kube-apiserver$'")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(string(id)))
	}
	return out
}

// renewPlainly is the usual procedure: renew all, then remove the control plane's pods, on all
// control planes in parallel.
func renewPlainly(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	err := cluster.Each(ctx, c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		_, err := c.Shell(ctx, n.Name, `cd /etc/kubernetes
kubeadm certs renew all --config kubeadm-config.yaml >/dev/null
crictl pods --quiet --namespace kube-system --label tier=control-plane | while read -r pod; do
  crictl stopp "$pod" >/dev/null
  crictl rmp --force "$pod" >/dev/null 2>&1 || true # the kubelet clears up, too
done`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := settle(ctx, c); err != nil {
		t.Fatal(err)
	}
}
