//go:build e2e

// Package e2e tests kscertctl on real lab clusters. It needs root, a container engine or the
// right to start one, and time: go test -tags e2e -timeout 60m.
package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

// keepEnv, if set, keeps the clusters of failed tests for debugging.
const keepEnv = "KSCERTCTL_LAB_KEEP"

// useEnv names an existing cluster for a single test. The test keeps the cluster, which saves
// time while writing a test.
const useEnv = "KSCERTCTL_LAB_USE"

// These name other versions and another container runtime for all tests.
const (
	versionEnv = "KSCERTCTL_LAB_KUBERNETES_VERSION"
	etcdEnv    = "KSCERTCTL_LAB_ETCD_VERSION"
	runtimeEnv = "KSCERTCTL_LAB_RUNTIME"
)

// tokenTask is where Kubespray's upgrade gets stuck.
const tokenTask = "Create kubeadm token for joining nodes with 24h expiration (default)"

// TestMain builds Kubernetes and the node image before the tests' timeouts start: on a machine
// without caches that takes as long as all tests together.
func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	env, err := cluster.NewEnv(func(line string) { fmt.Println(line) })
	if err == nil {
		err = cluster.Prepare(ctx, env, versions(cluster.Spec{}), cluster.UpOptions{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the lab cannot run on this machine, so no test ran:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// testContext returns a context for the test with a timeout.
func testContext(t *testing.T, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// newCluster creates a cluster for a test and removes it afterwards. It first removes a
// cluster of that name from an interrupted test.
func newCluster(ctx context.Context, t *testing.T, spec cluster.Spec) *cluster.Cluster {
	t.Helper()
	spec = versions(spec)
	env, err := cluster.NewEnv(func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	if name := os.Getenv(useEnv); name != "" {
		c, err := cluster.Load(env, name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := cluster.Down(ctx, env, spec.Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { //nolint:contextcheck // the test's own context is done by then
		if t.Failed() && os.Getenv(keepEnv) != "" {
			t.Logf("cluster %s is kept", spec.Name)
			return
		}
		clean, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := cluster.Down(clean, env, spec.Name); err != nil {
			t.Errorf("removing cluster %s: %v", spec.Name, err)
		}
	})
	c, err := cluster.Up(ctx, env, spec, cluster.UpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Certificates that are valid for minutes are about to expire from the start.
	if spec.CertificateValidity == 0 {
		wantQuiet(ctx, t, c)
	}
	return c
}

// wantQuiet fails the test if diagnose or check-expiration report anything about a healthy
// cluster: users ignore tools with false alarms.
func wantQuiet(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	wantHealthy(ctx, t, c)
	o := kscertctl(ctx, t, "check-expiration", "-i", c.Inventory())
	o.want(t, 0)
	for line := range strings.Lines(o.stdout + o.stderr) {
		if stated := noisy.FindString(line); stated != "" {
			t.Errorf("a false alarm: %q in %s", stated, line)
		}
	}
}

// noisy matches what check-expiration must not print for a healthy cluster.
var noisy = regexp.MustCompile(`(?i)warn|critical|expir(?:ed|ing|es first)|unknown|unreadable|not[ -]yet|stale|missing|renewal`)

// versions adds what the environment names to spec.
func versions(spec cluster.Spec) cluster.Spec {
	spec.KubernetesVersion = cmp.Or(spec.KubernetesVersion, os.Getenv(versionEnv))
	spec.EtcdVersion = cmp.Or(spec.EtcdVersion, os.Getenv(etcdEnv))
	spec.Runtime = cmp.Or(spec.Runtime, cluster.Runtime(os.Getenv(runtimeEnv)))
	return spec
}

// plant plants the canaries.
func plant(ctx context.Context, t *testing.T, c *cluster.Cluster) *witness.Witness {
	t.Helper()
	w, err := witness.Plant(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// expireAll makes certificates expire.
func expireAll(ctx context.Context, t *testing.T, c *cluster.Cluster, opts expire.Options) {
	t.Helper()
	n, err := expire.Cluster(ctx, c, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files re-signed", n)
}

// shellOutput runs a script on a node and returns its output.
func shellOutput(ctx context.Context, t *testing.T, c *cluster.Cluster, node, script string) string {
	t.Helper()
	out, err := c.Shell(ctx, node, script)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// filesDigest returns a digest of the cluster's files.
func filesDigest(ctx context.Context, t *testing.T, c *cluster.Cluster) witness.Digest {
	t.Helper()
	d, err := witness.FilesDigest(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantErrorWith fails the test unless err contains all of the texts.
func wantErrorWith(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error does not contain %q: %v", text, err)
		}
	}
}

// kubespray runs a playbook of the cluster's stand-in checkout from its directory, as a user
// would, and returns Ansible's output.
func kubespray(ctx context.Context, c *cluster.Cluster, playbook string, args ...string) (string, error) {
	args = append([]string{"-i", c.Inventory(), "-b", playbook}, args...)
	cmd := exec.CommandContext(ctx, "ansible-playbook", args...)
	cmd.Dir = c.KubesprayDir()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
