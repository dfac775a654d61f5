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

// TestTopologies: on clusters as operators have them, kscertctl renews without a failed request, and
// recovers after everything has expired. UPDATE_DOCS=1 writes a row of the page for each.
func TestTopologies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		// shape names the cluster on the page.
		name, shape string
		spec        cluster.Spec
		// units of etcd members must not be restarted by a renewal.
		units []string
		// faults: each of the sample is diagnosed.
		faults bool
	}{
		{"one-events", "1+1, two etcd clusters", cluster.Spec{Name: "e2e-topology-1", ControlPlanes: 1, Workers: 1, EtcdEvents: true}, []string{"etcd", "etcd-events"}, false},
		{"three-events", "3+1, two etcd clusters", cluster.Spec{Name: "e2e-topology-2", ControlPlanes: 3, Workers: 1, EtcdEvents: true, LoadBalancer: true}, []string{"etcd", "etcd-events"}, false},
		// As on Kubespray's hardening page, etcd is kubeadm's.
		{"one-hardened", "1+1, hardened", cluster.Spec{Name: "e2e-topology-3", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm, Hardened: true}, nil, true},
		{"three-hardened", "3+1, hardened", cluster.Spec{Name: "e2e-topology-4", ControlPlanes: 3, Workers: 1, LoadBalancer: true, Hardened: true}, []string{"etcd"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, test.spec)
			began := func() (out []string) {
				if len(test.units) == 0 {
					return nil
				}
				for _, n := range c.EtcdMembers() {
					out = append(out, shellOutput(ctx, t, c, n.Name, "systemctl show -p Id -p MainPID "+strings.Join(test.units, " ")))
				}
				return out
			}
			var took time.Duration
			var asked, failed, faults int
			if !t.Run("renew", func(t *testing.T) {
				before := began()
				asked, failed = renewsUnnoticed(ctx, t, c)
				if now := began(); strings.Join(now, "") != strings.Join(before, "") {
					t.Errorf("members of etcd were restarted: %q, were %q", now, before)
				}
				wantNeighbours(ctx, t, c)
			}) || !t.Run("recover", func(t *testing.T) {
				took = recovers(ctx, t, c, expire.Options{Restart: true})
				wantNeighbours(ctx, t, c)
			}) {
				return
			}
			wantQuiet(ctx, t, c)
			if test.faults {
				faults = diagnosesSample(ctx, t, c)
			}
			writeRow(ctx, t, c, test.shape, took, asked, failed, faults)
		})
	}
}

// wantNeighbours fails the test unless the neighbours work with the cluster as it is now: each API
// server has metrics that the kubelets measured in the last minute, each node resolves the name of a
// new service, and reaches it.
func wantNeighbours(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if !c.Spec.Hardened {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	if err := cluster.Poll(ctx, 3*time.Minute, time.Second, "the neighbours", c.CheckNeighbours); err != nil {
		t.Fatal(err)
	}
	const name = "e2e-new"
	kubectl := func(args ...string) string {
		out, err := c.Kubectl(ctx, append([]string{"-n", "kube-system"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	kubectl("create", "service", "clusterip", name, "--tcp=80:8181")
	defer kubectl("delete", "service", name)
	kubectl("patch", "service", name, "-p", `{"spec":{"selector":{"app":null,"k8s-app":"kube-dns"}}}`)
	address := kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
	if err := cluster.Poll(ctx, 30*time.Second, time.Second, "the new service", func(ctx context.Context) error {
		return cluster.Each(ctx, c.KubernetesNodes(), func(ctx context.Context, n cluster.Node) error {
			found, err := c.Resolve(ctx, n.Name, name+".kube-system.svc.cluster.local")
			if err != nil {
				return err
			}
			if found != address {
				return fmt.Errorf("DNS has %s for it, want %s", found, address)
			}
			_, err = c.Exec(ctx, n.Name, "curl", "--silent", "--show-error", "--fail", "--max-time", "3", "http://"+address+"/ready")
			return err
		})
	}); err != nil {
		t.Error(err)
	}
}
