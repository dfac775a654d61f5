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

// typed is one block of a runbook.
var typed = regexp.MustCompile("(?s)### On ([^\n]*): ([^\n:]*)\n\n```sh\n(.*?)```")

// typeRunbook does what a person would: every block on the nodes that its heading
// names, from top to bottom, with the token where it is asked for.
func typeRunbook(ctx context.Context, t *testing.T, c *cluster.Cluster, runbook string) {
	t.Helper()
	blocks := typed.FindAllStringSubmatch(runbook, -1)
	if len(blocks) < 3 {
		t.Fatalf("only %d blocks in\n%s", len(blocks), runbook)
	}
	token := ""
	for _, block := range blocks {
		names, what, script := block[1], block[2], block[3]
		said := ""
		switch {
		case strings.Contains(script, "read -r token"):
			said = token
		case strings.Contains(script, "read -r id"):
			said, _, _ = strings.Cut(token, ".")
		}
		for node := range strings.SplitSeq(names, ", ") {
			began := time.Now()
			// As in a login shell: nothing of the lab's own settings.
			out, err := c.ExecInput(ctx, node, strings.NewReader(said+"\n"), "env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script)
			if err != nil {
				t.Fatalf("%s on %s: %v\n%s\n%s", what, node, err, out, script)
			}
			t.Logf("%s on %s: %.1fs", what, node, time.Since(began).Seconds())
			if what == "make a token" {
				token = strings.TrimSpace(string(out))
			}
		}
	}
}

// TestRunbook: what diagnose --runbook writes for an outage, typed by hand, brings
// the cluster back as the product would, and leaves nothing due.
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
				t.Errorf("the witness is not content with the runbook: %v", err)
			}
			kscertctl(ctx, t, "diagnose", "-i", c.Inventory()).want(t, 0, "Route:   none")
		})
	}
}
