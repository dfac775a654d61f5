//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestTopologies: on clusters as operators have them, kscertctl renews without a failed request, and
// recovers after everything has expired.
func TestTopologies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		// units of etcd members must not be restarted by a renewal.
		units []string
	}{
		{"one-events", cluster.Spec{Name: "e2e-topology-1", ControlPlanes: 1, Workers: 1, EtcdEvents: true}, []string{"etcd", "etcd-events"}},
		{"three-events", cluster.Spec{Name: "e2e-topology-2", ControlPlanes: 3, Workers: 1, EtcdEvents: true, LoadBalancer: true}, []string{"etcd", "etcd-events"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 25*time.Minute)
			c := newCluster(ctx, t, test.spec)
			began := func() (out []string) {
				for _, n := range c.EtcdMembers() {
					out = append(out, shellOutput(ctx, t, c, n.Name, "systemctl show -p Id -p MainPID "+strings.Join(test.units, " ")))
				}
				return out
			}
			t.Run("renew", func(t *testing.T) {
				before := began()
				renewsUnnoticed(ctx, t, c)
				if now := began(); strings.Join(now, "") != strings.Join(before, "") {
					t.Errorf("members of etcd were restarted: %q, were %q", now, before)
				}
			})
			t.Run("recover", func(t *testing.T) { recovers(ctx, t, c, expire.Options{Restart: true}) })
		})
	}
}
