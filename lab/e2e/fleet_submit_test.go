//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/container"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

// TestFleetSubmitted has one lab cluster recover and renew two others, by Pods of the project's own
// image. The first Pod is killed in the middle, and the next one continues what the control plane
// keeps of the run: there is no volume.
func TestFleetSubmitted(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 30*time.Minute)
	manager := newCluster(ctx, t, cluster.Spec{Name: "e2e-submit-1", ControlPlanes: 1, Etcd: cluster.EtcdHost})
	lapsed := newCluster(ctx, t, cluster.Spec{Name: "e2e-submit-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost})
	due := newCluster(ctx, t, cluster.Spec{Name: "e2e-submit-3", ControlPlanes: 1, Etcd: cluster.EtcdKubeadm})
	w := plant(ctx, t, lapsed)
	const image = "kscertctl-lab/kscertctl:submitted"
	load(ctx, t, manager, image, lapsed, due)
	expireAll(ctx, t, lapsed, expire.Options{Restart: true})
	expireAll(ctx, t, due, expire.Options{NotAfter: time.Now().Add(5 * 24 * time.Hour)})

	dir := t.TempDir()
	file := filepath.Join(dir, "fleet.yaml")
	files := []string{"fleet.yaml"}
	text := "clusters:\n"
	for _, c := range []*cluster.Cluster{lapsed, due} {
		inventory, key := c.Name()+".ini", c.Name()+".key"
		text += fmt.Sprintf("- {name: %s, inventories: %s}\n", c.Name(), inventory)
		copied(t, c.Inventory(), filepath.Join(dir, inventory), c.KeyFile(), "/etc/kscertctl/"+key)
		copied(t, c.KeyFile(), filepath.Join(dir, key), "", "")
		files = append(files, inventory, key)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := []string{"create", "secret", "generic", "fleet"}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := manager.WriteFiles(ctx, "cp1", cluster.File{Path: "/root/fleet/" + name, Data: data, Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		secret = append(secret, "--from-file=/root/fleet/"+name)
	}
	if _, err := manager.Kubectl(ctx, secret...); err != nil {
		t.Fatal(err)
	}
	call := management(ctx, t, manager)
	call("fleet", "submit", "-f", file, "--image", image, "--files", "secret/fleet", "--name", "night",
		"--parallel-clusters", "1", "--yes").want(t, 0, "job.batch/night serverside-applied")
	status := func() map[string]string {
		o := call("fleet", "status", "night")
		o.want(t, 0, "Fleet run night: ")
		states := map[string]string{}
		for line := range strings.Lines(o.stdout) {
			if f := strings.Fields(line); len(f) > 2 {
				states[f[0]] = f[2]
			}
		}
		return states
	}
	until := func(what string, within time.Duration, of *cluster.Cluster, script string) {
		t.Helper()
		if err := cluster.Poll(ctx, within, time.Second, what, func(ctx context.Context) error {
			_, err := of.Shell(ctx, "cp1", script)
			return err
		}); err != nil {
			out, _ := manager.Kubectl(ctx, "get", "pods", "-o", "yaml")
			t.Fatalf("%v\n%s", err, out)
		}
	}
	until("a change", 5*time.Minute, lapsed, `grep -qs '"event":"intent".*pre-phase' /var/lib/kscertctl/runs/*/journal.jsonl`)
	if s := status(); s[lapsed.Name()] != "running" || s[due.Name()] != "waiting" {
		t.Errorf("in the middle: %v", s)
	}
	shellOutput(ctx, t, manager, "cp1", `id=$(crictl ps --quiet --no-trunc --state Running --label io.kubernetes.container.name=kscertctl)
[ -n "$id" ]; crictl stop --timeout 0 $id`)
	// The next Pod cannot see that the one before it is dead: it waits until the lock is stale.
	until("the Job", 15*time.Minute, manager, `kubectl --kubeconfig /etc/kubernetes/admin.conf get job night -o jsonpath='{.status.conditions[*].type}' | grep -q Complete`)

	if s := status(); s[lapsed.Name()] != "done" || s[due.Name()] != "done" {
		t.Errorf("at the end: %v", s)
	}
	const indices = `-o=jsonpath={range .items[*]}{.metadata.annotations.batch\.kubernetes\.io/job-completion-index} {.status.phase}{"\n"}{end}`
	out, err := manager.Kubectl(ctx, "get", "pods", "--selector=batch.kubernetes.io/job-name=night", indices)
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{"0 Failed": 1, "0 Succeeded": 1, "1 Succeeded": 1} {
		if got := strings.Count(string(out), line+"\n"); got != want {
			t.Errorf("%d Pods are %q, want %d:\n%s", got, line, want, out)
		}
	}
	if runs := strings.Fields(shellOutput(ctx, t, lapsed, "cp1", "ls /var/lib/kscertctl/runs")); len(runs) != 1 {
		t.Errorf("the run was begun again: %q", runs)
	}
	if err := w.Verify(ctx); err != nil {
		t.Errorf("the witness is not content: %v", err)
	}
	for _, c := range []*cluster.Cluster{lapsed, due} {
		wantHealthy(ctx, t, c)
		kscertctl(ctx, t, "check-expiration", "-i", c.Inventory()).want(t, 0)
	}
}

// copied copies a file, with one text in place of another.
func copied(t *testing.T, from, to, old, replacement string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil && old != "" {
		if !bytes.Contains(data, []byte(old)) {
			err = errors.New(from + " does not have " + old)
		}
		data = bytes.ReplaceAll(data, []byte(old), []byte(replacement))
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// load brings the image to the cluster's node, and the node into the networks of other clusters.
func load(ctx context.Context, t *testing.T, c *cluster.Cluster, image string, others ...*cluster.Cluster) {
	t.Helper()
	e, err := container.Build(ctx, "../..", image, t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = e.Docker(context.WithoutCancel(ctx), "rmi", image)
	})
	archive := filepath.Join(t.TempDir(), "image.tar")
	if _, err := e.Docker(ctx, "save", "--output", archive, image); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := c.ControlPlanes()[0]
	if _, err := c.ExecInput(ctx, n.Name, f, "ctr", "--namespace", "k8s.io", "images", "import", "-"); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		if _, err := e.Docker(ctx, "network", "connect", other.Network, n.Container); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, _ = e.Docker(context.WithoutCancel(ctx), "network", "disconnect", "--force", other.Network, n.Container)
		})
	}
}

// management returns what runs kscertctl with kubectl in PATH and the flags for a management cluster.
func management(ctx context.Context, t *testing.T, c *cluster.Cluster) func(args ...string) outcome {
	t.Helper()
	env, err := cluster.NewEnv(func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	built, err := kubebuild.Build(ctx, env.CacheDir, c.Spec.Versions(), t.Output(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(built.Dir, "hyperkube"), filepath.Join(dir, "kubectl")); err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(dir, "management.conf")
	cp1 := c.ControlPlanes()[0]
	reached := shellOutput(ctx, t, c, cp1.Name, "sed 's|server: .*|server: https://"+cp1.IP.String()+":6443|' /etc/kubernetes/admin.conf")
	if err := os.WriteFile(kubeconfig, []byte(reached), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) outcome {
		cmd := exec.CommandContext(ctx, binary(t), append(args, "--kubeconfig", kubeconfig)...)
		cmd.Env = append(environment(), "PATH="+dir+":"+os.Getenv("PATH"))
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return outcome{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
	}
}
