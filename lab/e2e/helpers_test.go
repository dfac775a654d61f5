//go:build e2e

// Package e2e tries things on real lab clusters. It needs root, a container
// engine or the right to start one, and minutes: go test -tags e2e -timeout 60m.
package e2e

import (
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
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

// keepEnv, if set, leaves the clusters of tests that failed to be looked at.
const keepEnv = "KSCERTCTL_LAB_KEEP"

// useEnv names a cluster that is there already, for one test at a time: it is used
// and left, which saves most of the time while a test is being written.
const useEnv = "KSCERTCTL_LAB_USE"

// versionEnv names another Kubernetes version for all tests.
const versionEnv = "KSCERTCTL_LAB_KUBERNETES_VERSION"

// tokenTask is where Kubespray's upgrade gets stuck.
const tokenTask = "Create kubeadm token for joining nodes with 24h expiration (default)"

// TestMain builds Kubernetes and the node image before any test's time runs: on
// a machine without caches that takes as long as all tests together.
func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	env, err := cluster.NewEnv(func(line string) { fmt.Println(line) })
	if err == nil {
		err = cluster.Prepare(ctx, env, version(), cluster.UpOptions{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the lab cannot run on this machine, so nothing was tested:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// testContext ends with the test, or before its time is up.
func testContext(t *testing.T, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// newCluster makes a cluster for a test and removes it after. A cluster of that
// name that an interrupted test left behind is removed first.
func newCluster(ctx context.Context, t *testing.T, spec cluster.Spec) *cluster.Cluster {
	t.Helper()
	if spec.KubernetesVersion == "" {
		spec.KubernetesVersion = version()
	}
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
	t.Cleanup(func() { //nolint:contextcheck // the test's own has ended by then
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
	// Certificates of minutes are about to expire as soon as they are made.
	if spec.CertificateValidity == 0 {
		wantQuiet(ctx, t, c)
	}
	return c
}

// wantQuiet fails the test unless diagnose and check-expiration say nothing of a cluster,
// of which nothing is wrong: what is said to everybody is heard by nobody.
func wantQuiet(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	wantHealthy(ctx, t, c)
	o := kscertctl(ctx, t, "check-expiration", "-i", c.Inventory())
	o.want(t, 0)
	for line := range strings.Lines(o.stdout + o.stderr) {
		if said := noisy.FindString(line); said != "" {
			t.Errorf("a false alarm: %q in %s", said, line)
		}
	}
}

// noisy is what no line of check-expiration says of a healthy cluster.
var noisy = regexp.MustCompile(`(?i)warn|critical|expir(?:ed|ing|es first)|unknown|unreadable|not[ -]yet|stale|missing|renewal`)

func version() string {
	if v := os.Getenv(versionEnv); v != "" {
		return v
	}
	return kubebuild.DefaultVersion
}

// plant plants witnesses or ends the test.
func plant(ctx context.Context, t *testing.T, c *cluster.Cluster) *witness.Witness {
	t.Helper()
	w, err := witness.Plant(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// expireAll makes certificates expire or ends the test.
func expireAll(ctx context.Context, t *testing.T, c *cluster.Cluster, opts expire.Options) {
	t.Helper()
	n, err := expire.Cluster(ctx, c, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files re-signed", n)
}

// said runs a script on a node and returns what it said, or ends the test.
func said(ctx context.Context, t *testing.T, c *cluster.Cluster, node, script string) string {
	t.Helper()
	out, err := c.Shell(ctx, node, script)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// filesDigest describes the clusters' files or ends the test.
func filesDigest(ctx context.Context, t *testing.T, c *cluster.Cluster) witness.Digest {
	t.Helper()
	d, err := witness.FilesDigest(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantErrorWith fails the test unless err mentions all of the texts.
func wantErrorWith(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error says nothing of %q: %v", text, err)
		}
	}
}

// kubespray runs a playbook of the cluster's stand-in checkout, as a user would
// from its directory, and returns what Ansible printed.
func kubespray(ctx context.Context, c *cluster.Cluster, playbook string, args ...string) (string, error) {
	args = append([]string{"-i", c.Inventory(), "-b", playbook}, args...)
	cmd := exec.CommandContext(ctx, "ansible-playbook", args...)
	cmd.Dir = c.KubesprayDir()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
