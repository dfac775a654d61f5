//go:build e2e

package e2e

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// typed matches a block of a runbook.
var typed = regexp.MustCompile("(?s)### On ([^\n]*): ([^\n:]*)\n\n```sh\n(.*?)```")

// pasted matches what is copied from one block into another.
var pasted = regexp.MustCompile("(?s)-----BEGIN [A-Z ]+-----\n.*?-----END [A-Z ]+-----\n")

// typeRunbook follows the runbook like an operator: every block on the nodes in its heading,
// from top to bottom, with requests and certificates where it asks for them.
func typeRunbook(ctx context.Context, t *testing.T, c *cluster.Cluster, runbook string) {
	t.Helper()
	blocks := typed.FindAllStringSubmatch(runbook, -1)
	if len(blocks) < 3 {
		t.Fatalf("only %d blocks in\n%s", len(blocks), runbook)
	}
	copied := map[string]string{} // by node: its request, then its certificate
	for _, block := range blocks {
		names, what, script := block[1], block[2], block[3]
		askers, signs := strings.CutPrefix(what, "sign for ")
		for node := range strings.SplitSeq(names, ", ") {
			said := copied[node]
			if signs {
				said = ""
				for asker := range strings.SplitSeq(askers, ", ") {
					said += copied[asker]
				}
			}
			began := time.Now()
			// As in a login shell, without the lab's environment.
			out, err := c.ExecInput(ctx, node, strings.NewReader(said), "env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script)
			if err != nil {
				t.Fatalf("%s on %s: %v\n%s\n%s", what, node, err, out, script)
			}
			t.Logf("%s on %s: %.1fs", what, node, time.Since(began).Seconds())
			pems := pasted.FindAllString(string(out), -1)
			switch {
			case signs:
				for i, asker := range strings.Split(askers, ", ") {
					copied[asker] = pems[i]
				}
			case what == "make a request":
				copied[node] = pems[0]
			}
		}
	}
}

// TestRunbook: an operator who follows the output of diagnose --runbook recovers the cluster
// as kscertctl would, with nothing left due.
func TestRunbook(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		opts expire.Options
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-book-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Restart: true}},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-book-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, expire.Options{}},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-book-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, expire.Options{Restart: true}},
		{"three-host-etcd", cluster.Spec{Name: "e2e-book-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Restart: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 15*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			expireAll(ctx, t, c, test.opts)
			wantErrorWith(t, w.Verify(ctx), "expired at")

			o := kscertctl(ctx, t, "diagnose", "-i", c.Inventory(), "--runbook")
			o.want(t, 0, "Route: recover")
			typeRunbook(ctx, t, c, o.stdout)
			if err := w.Verify(ctx); err != nil {
				t.Errorf("verification after the runbook failed: %v", err)
			}
			kscertctl(ctx, t, "diagnose", "-i", c.Inventory()).want(t, 0, "Route:   none")
		})
	}
}
