//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/repair"
)

// earlier is the commit of the build to compare a renewal with: the last one with unnecessary
// waits.
const earlier = "a79c63a"

// contender is one of two ways to do the same; do returns how long it took.
type contender struct {
	name string
	do   func(ctx context.Context, t *testing.T) time.Duration
}

// compare runs two contenders alternately, each first in every other round, with prepare
// before each, and returns the total time of each.
func compare(ctx context.Context, t *testing.T, rounds int, a, b contender, prepare func(c contender), settled func()) (took [2]time.Duration) {
	t.Helper()
	for round := range rounds {
		for i := range 2 {
			who := (i + round) % 2
			c := [2]contender{a, b}[who]
			prepare(c)
			d := c.do(ctx, t)
			took[who] += d
			t.Logf("round %d: %-12s %5.1f s", round+1, c.name, d.Seconds())
			settled()
		}
	}
	return took
}

// within fails the test if the ratio of two times exceeds the limit.
func within(t *testing.T, what string, rounds int, took [2]time.Duration, most float64) {
	t.Helper()
	mean := func(d time.Duration) float64 { return d.Seconds() / float64(rounds) }
	ratio := took[0].Seconds() / took[1].Seconds()
	t.Logf("%s, mean of %d: %.1f s, %.1f s, ratio %.2f, at most %.2f", what, rounds, mean(took[0]), mean(took[1]), ratio, most)
	if ratio > most {
		t.Errorf("%s: the ratio is %.2f, more than %.2f", what, ratio, most)
	}
}

// ours recovers with kscertctl, and checks that it returned only when the cluster was ready.
func ours(c *cluster.Cluster) contender {
	return contender{"kscertctl", func(ctx context.Context, t *testing.T) time.Duration {
		t.Helper()
		began := time.Now()
		o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes")
		o.want(t, 0)
		if err := repair.Leases(ctx, c, began); err != nil {
			t.Error("kscertctl returned too early:", err)
		}
		return o.took
	}}
}

// settling is settle for a test, which fails if the cluster does not come to rest.
func settling(ctx context.Context, t *testing.T, c *cluster.Cluster) func() {
	t.Helper()
	return func() {
		t.Helper()
		if err := settle(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecoveryBenchmark compares a recovery with the plain shell repair on the same cluster in
// the same run. The shell works on all control planes in parallel where that is safe.
func TestRecoveryBenchmark(t *testing.T) {
	for _, row := range []struct {
		name   string
		spec   cluster.Spec
		rounds int
		// most limits the whole time, first the time until the first good answer; 0 for no
		// limit.
		most, first float64
	}{
		{"one", cluster.Spec{Name: "e2e-bench", ControlPlanes: 1, Workers: 1}, 4, 0.65, 1.15},
		{"three", cluster.Spec{Name: "e2e-bench-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, 4, 0.85, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, row.spec)
			shell := contender{"bare shell", func(ctx context.Context, t *testing.T) time.Duration {
				t.Helper()
				took, err := repair.Cluster(ctx, c)
				if err != nil {
					t.Fatal(err)
				}
				return took
			}}
			var first [2]time.Duration
			took := compare(ctx, t, row.rounds, timed(c, ours(c), &first[0]), timed(c, shell, &first[1]),
				func(contender) { expireAll(ctx, t, c, expire.Options{Restart: true}) },
				settling(ctx, t, c))
			within(t, "recovery", row.rounds, took, row.most)
			if row.first > 0 {
				within(t, "first good answer", row.rounds, first, row.first)
			}
		})
	}
}

// timed adds the time until the first API server answers with a valid certificate.
func timed(c *cluster.Cluster, of contender, first *time.Duration) contender {
	return contender{of.name, func(ctx context.Context, t *testing.T) time.Duration {
		t.Helper()
		config, err := authority(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		asking, stop := context.WithCancel(ctx)
		defer stop()
		began, answered := time.Now(), make(chan time.Duration, 1)
		go func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
			for get(asking, client, fmt.Sprintf("https://%s:6443/readyz", c.ControlPlanes()[0].IP)) != nil && asking.Err() == nil {
				time.Sleep(pause)
			}
			answered <- time.Since(began)
		}()
		took := of.do(ctx, t)
		d := <-answered
		*first += d
		t.Logf("first good answer after %.1f s", d.Seconds())
		return took
	}}
}

// authority returns a TLS configuration that trusts only the cluster's CA.
func authority(ctx context.Context, c *cluster.Cluster) (*tls.Config, error) {
	text, err := c.Shell(ctx, c.ControlPlanes()[0].Name, "cat /etc/kubernetes/ssl/ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// TestWorkersBenchmark compares recoveries with ten expired workers and with one, on the same
// cluster.
func TestWorkersBenchmark(t *testing.T) {
	ctx := testContext(t, 40*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-bench-10", ControlPlanes: 1, Workers: 10})
	ten, one := ours(c), ours(c)
	ten.name, one.name = "ten workers", "one worker"
	const rounds = 4
	took := compare(ctx, t, rounds, ten, one, func(of contender) {
		var nodes []string // all
		if of.name == one.name {
			nodes = []string{c.ControlPlanes()[0].Name, c.Workers()[0].Name}
		}
		expireAll(ctx, t, c, expire.Options{Nodes: nodes, Restart: true})
	}, settling(ctx, t, c))
	within(t, "ten expired workers instead of one", rounds, took, 1.25)
}

// TestRenewalBenchmark compares a renewal of a healthy cluster with that of an earlier build.
// TestRenewUnnoticed shows that clients do not notice it.
func TestRenewalBenchmark(t *testing.T) {
	ctx := testContext(t, 40*time.Minute)
	before := build(ctx, t, earlier)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-bench-renew", ControlPlanes: 3, Workers: 2, Etcd: cluster.EtcdKubeadm, LoadBalancer: true})
	of := func(name, binary string) contender {
		return contender{name, func(ctx context.Context, t *testing.T) time.Duration {
			t.Helper()
			began := time.Now()
			startOf(ctx, t, binary, t.TempDir(), "run", "-i", c.Inventory(), "--yes").wait().want(t, 0, "After:   healthy")
			return time.Since(began)
		}}
	}
	const rounds = 4
	took := compare(ctx, t, rounds, of("this build", binary(t)), of(earlier, before), func(contender) {
		expireAll(ctx, t, c, expire.Options{NotAfter: time.Now().Add(5 * 24 * time.Hour)})
	}, settling(ctx, t, c))
	within(t, "renewal", rounds, took, 0.7)
}

// build builds kscertctl at a commit.
func build(ctx context.Context, t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	script := `git -C ../.. archive "$1" | tar -x -C "$2" && cd "$2" && go build -trimpath -buildvcs=false -o kscertctl ./cmd/kscertctl`
	if out, err := exec.CommandContext(ctx, "sh", "-euc", script, "sh", commit, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "kscertctl")
}
