//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestFleet recovers an expired cluster as the one of a fleet that may be changed now.
func TestFleet(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-fleet-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray})
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, expire.Options{Restart: true})

	dir, state := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "fleet.yaml")
	later := time.Now().UTC().Add(6 * time.Hour)
	text := fmt.Sprintf(`waves: [canary]
clusters:
- {name: lab, inventories: %[1]q, labels: {env: test}, wave: canary}
- {name: frozen, inventories: %[1]q, labels: {env: test}, hold: until June}
- {name: closed, inventories: %[1]q, windows: [{from: %[2]q, to: %[3]q}]}
`, c.Inventory(), later.Format("15:04"), later.Add(time.Hour).Format("15:04"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kscertctlIn(ctx, t, state, "fleet", "check", "-f", file, "--selector", "env=test").want(t, 3, "lab", "frozen", "expired")
	o := kscertctlIn(ctx, t, state, "fleet", "run", "-f", file, "--yes")
	o.want(t, 0, "lab: begun", "lab: ok")
	columns := strings.Join(strings.Fields(o.stdout), " ")
	for _, want := range []string{"frozen - held", "closed - waiting", "lab canary done recover"} {
		if !strings.Contains(columns, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
	kscertctlIn(ctx, t, state, "fleet", "check", "lab", "-f", file).want(t, 0)
	kscertctlIn(ctx, t, state, "fleet", "status").want(t, 0, ": done")
	if err := w.Verify(ctx); err != nil {
		t.Errorf("the witness is not content: %v", err)
	}
}
