//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestTwoRuns: of two runs on one cluster one proceeds, and the other reports the lock's
// owner; so does a command after a run that was killed.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-two", ControlPlanes: 1, Workers: 1})
	expireAll(ctx, t, c, expire.Options{Restart: true})
	args := []string{"run", "-i", c.Inventory(), "--yes"}

	// Two state directories: as on two machines, which share only the nodes.
	drivers := []*driver{start(ctx, t, t.TempDir(), args...), start(ctx, t, t.TempDir(), args...)}
	ends := []outcome{drivers[0].wait(), drivers[1].wait()}
	winner := slices.IndexFunc(ends, func(o outcome) bool { return o.code == 0 })
	if winner < 0 {
		t.Fatalf("neither proceeded:\n%s\n%s", ends[0].stderr, ends[1].stderr)
	}
	won, lost := ends[winner], ends[1-winner]
	lost.want(t, 6, "the cluster is locked on ", fmt.Sprintf("(process %d, run %s)", drivers[winner].cmd.Process.Pid, filepath.Base(runDirs(won.stateDir)[0])), "nothing was changed")
	won.want(t, 0, "After:   healthy")

	expireAll(ctx, t, c, expire.Options{Restart: true})
	first := start(ctx, t, t.TempDir(), args...)
	if !first.until(moment{task: 1, step: "01-backup"}) {
		t.Fatalf("the run exited early: %+v", first.wait())
	}
	// Pause it, or it would finish before the others have inspected the cluster.
	if err := first.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	owner := fmt.Sprintf("(process %d, run %s)", first.cmd.Process.Pid, filepath.Base(runDirs(first.stateDir)[0]))
	kscertctlIn(ctx, t, first.stateDir, args...).want(t, 6, "the cluster is locked on this machine by", owner)
	kscertctl(ctx, t, args...).want(t, 6, "the cluster is locked on cp1 by", owner)
	if err := first.killTree(); err != nil {
		t.Fatal(err)
	}
	first.wait()

	kscertctl(ctx, t, args...).want(t, 6, "the cluster is locked on cp1 by", owner, "its owner appears to be dead", "kscertctl resume", "kscertctl rollback", "kscertctl unlock")
	kscertctl(ctx, t, "unlock", "-i", c.Inventory()).want(t, 10, owner, "its owner appears to be dead")
	kscertctl(ctx, t, "unlock", "-i", c.Inventory(), "--yes").want(t, 0, "Unlocked: run ")
	kscertctl(ctx, t, "unlock", "-i", c.Inventory()).want(t, 0, "The cluster is not locked.")
	// Another user broke the lock: the run can still be resumed.
	kscertctlIn(ctx, t, first.stateDir, "resume").want(t, 0, "healthy")
	kscertctlIn(ctx, t, first.stateDir, "status").want(t, 0, "done")
	kscertctlIn(ctx, t, first.stateDir, "resume").want(t, 0, "is done: there is nothing to resume")
}

// TestApply: a plan is applied exactly as it was reviewed, or not at all.
func TestApply(t *testing.T) { //nolint:tparallel // sequential, on one cluster
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-apply", ControlPlanes: 1, Workers: 1})
	plan := filepath.Join(t.TempDir(), "plan.json")
	kscertctl(ctx, t, "plan", "-i", c.Inventory(), "--detailed-exitcode").want(t, 0)
	expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.APIServer, expire.Scheduler}, NotAfter: time.Now().Add(5 * 24 * time.Hour)})
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "plan", "-i", c.Inventory(), "--out", plan, "--detailed-exitcode").want(t, 2, "renew-certs",
			"kscertctl apply "+plan+" --digest ")
	})
	kscertctl(ctx, t, "apply", plan).want(t, 64, "review what it commands, then run: kscertctl apply "+plan+" -i "+c.Inventory())
	data, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	apply := func(file string) []string { return []string{"apply", file, "-i", c.Inventory()} }

	for _, test := range []struct{ name, change, fix, names string }{
		{
			"a certificate was renewed in the meantime",
			"cp -a /etc/kubernetes/scheduler.conf /root/kept && kubeadm certs renew scheduler.conf --config /etc/kubernetes/kubeadm-config.yaml",
			"mv /root/kept /etc/kubernetes/scheduler.conf", "cp1: /etc/kubernetes/scheduler.conf",
		},
		{
			"a configuration was edited",
			"cp -a /etc/kubernetes/kubeadm-config.yaml /root/kept && echo '# edited' >>/etc/kubernetes/kubeadm-config.yaml",
			"mv /root/kept /etc/kubernetes/kubeadm-config.yaml", "cp1: /etc/kubernetes/kubeadm-config.yaml has changed",
		},
		{
			"a file is missing",
			"mv /etc/kubernetes/ssl/front-proxy-client.crt /root/kept",
			"mv /root/kept /etc/kubernetes/ssl/front-proxy-client.crt", "cp1: /etc/kubernetes/ssl/front-proxy-client.crt is gone",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := c.Shell(ctx, "cp1", test.change); err != nil {
				t.Fatal(err)
			}
			wantUnchanged(ctx, t, c, func() {
				kscertctl(ctx, t, apply(plan)...).want(t, 7, "the nodes have changed", test.names, "nothing was changed")
			})
			if _, err := c.Shell(ctx, "cp1", test.fix); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("a plan that was edited", func(t *testing.T) {
		edited := filepath.Join(t.TempDir(), "plan.json")
		text := strings.Replace(string(data), `"02-renew-certs-cp1"`, `"02-renew-certs-w1"`, 1)
		if err := os.WriteFile(edited, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		kscertctl(ctx, t, append(apply(edited), "--digest", digest)...).want(t, 7, "is not the plan file with that digest")
		kscertctl(ctx, t, apply(edited)...).want(t, 7, "plan.json is damaged", "its plan does not follow from its diagnosis")
	})

	state := t.TempDir()
	before := filesDigest(ctx, t, c)
	kscertctlIn(ctx, t, state, append(apply(plan), "--digest", digest)...).want(t, 0, "After:   healthy")
	run := filepath.Base(runDirs(state)[0])
	backup := "/var/backups/kscertctl/" + run

	const saved = "/var/backups/saved"
	for _, test := range []struct{ name, harm, says string }{
		{"a byte of a backup was changed", "sed -i 's/a/b/' files/etc/kubernetes/admin.conf", "/etc/kubernetes/admin.conf"},
		{"a file of a backup is missing", "rm files/etc/kubernetes/ssl/ca.key", "/etc/kubernetes/ssl/ca.key"},
		{
			"backup and manifest were changed to fit",
			"sed -i '/admin.conf$/d' MANIFEST; rm files/etc/kubernetes/admin.conf; sed -i \"s/^manifest .*/manifest $(sha256sum MANIFEST | cut -d ' ' -f 1)/\" COMPLETE", "cp1: ",
		},
		{"a backup is missing", "rm -r " + backup, "cp1: the backup is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := c.Shell(ctx, "cp1", fmt.Sprintf("cp -a %s %s; cd %[1]s; %[3]s", backup, saved, test.harm)); err != nil {
				t.Fatal(err)
			}
			wantUnchanged(ctx, t, c, func() {
				// Of the applied plan: a refused rollback does not count.
				kscertctlIn(ctx, t, state, "rollback", "--yes").want(t, 7, "cannot be trusted", test.says, "nothing was changed")
				kscertctlIn(ctx, t, state, "backup", "verify", "-i", c.Inventory(), run).want(t, 7, "the backup of run "+run+" on cp1 is ")
			})
			if _, err := c.Shell(ctx, "cp1", fmt.Sprintf("rm -rf %s; mv %s %[1]s", backup, saved)); err != nil {
				t.Fatal(err)
			}
		})
	}
	kscertctl(ctx, t, "backup", "verify", "-i", c.Inventory(), run).want(t, 0, "verified") // as on another machine

	// One node alone, then all of them.
	kscertctlIn(ctx, t, state, "rollback", run, "--node", "w1", "--yes").want(t, 7, "changed nothing on w1")
	// A rollback is a run: killed while it restores files, it can be resumed.
	back := start(ctx, t, state, "rollback", run, "--node", "cp1", "--yes")
	if !back.until(moment{step: "02-rollback-cp1", task: 5}) {
		t.Fatalf("it exited before it restored anything: %+v", back.wait())
	}
	if err := back.killTree(); err != nil {
		t.Fatal(err)
	}
	back.wait()
	kscertctlIn(ctx, t, state, "resume").want(t, 0)
	if diff := before.Diff(filesDigest(ctx, t, c)); len(diff) > 0 {
		t.Errorf("the rollback of a successful run left this different:\n%s", strings.Join(diff, "\n"))
	}
	var list struct {
		Runs []struct{ Run, Kind, Of, Status string }
	}
	o := kscertctlIn(ctx, t, state, "runs", "list", "-o", "json")
	if err := json.Unmarshal([]byte(o.stdout), &list); err != nil {
		t.Fatalf("%v: %s", err, o.stdout)
	}
	if newest := list.Runs[0]; newest.Kind != "rollback" || newest.Of != run || newest.Status != "done" {
		t.Errorf("the newest run is %+v", newest)
	}
	kscertctl(ctx, t, "backup", "prune", "-i", c.Inventory(), "--keep", "1").want(t, 0)
	kscertctlIn(context.WithoutCancel(ctx), t, state, "backup", "list", "-i", c.Inventory()).want(t, 0, "cp1")
}
