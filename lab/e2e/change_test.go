//go:build e2e

package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

// TestChange injects each fault at each of its moments into runs that change nodes. Afterwards
// each run can be resumed until every gate holds, and, in another trial, be rolled back: then
// every file is unchanged, including its metadata. The same holds for the rollback of a
// successful run.
func TestChange(t *testing.T) {
	t.Parallel()
	for i, state := range changeStates() {
		for j, part := range []struct {
			name  string
			holds func(blow) bool
		}{
			{"kills", func(b blow) bool { return b.strikes == boundary && !b.lost }},
			{"losses", func(b blow) bool { return b.lost }},
			{"ends", func(b blow) bool { return b.strikes == middle || b.strikes == inControlPlane }},
			{"faults", func(b blow) bool { return b.strikes == before }},
		} {
			holds := func(b blow) bool { return part.holds(b) && (b.only == "" || b.only == state.name) }
			if !slices.ContainsFunc(blows(), holds) {
				continue
			}
			t.Run(state.name+"-"+part.name, func(t *testing.T) {
				t.Parallel()
				ctx := testContext(t, 100*time.Minute)
				spec := state.spec
				spec.Name = fmt.Sprintf("e2e-change-%d%d", i+1, j+1)
				g := newTrials(ctx, t, state, newCluster(ctx, t, spec))
				for _, b := range blows() {
					if holds(b) {
						for _, m := range b.moments(g.journal, g.tasks) {
							t.Run(b.subtest(state.name, m), func(t *testing.T) { g.try(ctx, t, b, m) })
						}
					}
				}
				g.record(t, part.name)
			})
		}
	}
}

// changeState is a cluster's state before the runs.
type changeState struct {
	name string
	spec cluster.Spec
	// breaks brings the cluster into the state.
	breaks func(context.Context, *testing.T, *cluster.Cluster)
	// restart: restart the components after a rollback; the API server is not usable then.
	restart bool
	// kubeletsKept: some kubelets do not get a new certificate.
	kubeletsKept bool
	// casRenewed: CAs get new certificates.
	casRenewed bool
	// command is what changes the nodes; run if empty.
	command []string
}

func changeStates() []changeState {
	return []changeState{
		{
			name: "recover", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, restart: true,
			breaks: func(ctx context.Context, t *testing.T, c *cluster.Cluster) {
				t.Helper()
				expireAll(ctx, t, c, expire.Options{Restart: true})
			},
		},
		{
			name: "renew", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, kubeletsKept: true,
			breaks: func(ctx context.Context, t *testing.T, c *cluster.Cluster) {
				t.Helper()
				// The kubelet of the control plane would renew it immediately.
				kinds := slices.DeleteFunc(expire.All(), func(k expire.Kind) bool { return k == expire.Kubelet })
				expireAll(ctx, t, c, expire.Options{Kinds: kinds, NotAfter: time.Now().Add(5 * 24 * time.Hour)})
				expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"w1"}})
			},
		},
	}
}

// trials are the trials on one cluster, which is in its state before and after each.
type trials struct {
	state changeState
	c     *cluster.Cluster
	w     *witness.Witness
	// journal and tasks are those of an undisturbed run.
	journal []journalLine
	tasks   map[string]int
	endings []ending
	// spoilt: a failed trial left the cluster in another state.
	spoilt bool
	// trusted are the CAs that aggregated API servers trust, in a rotation: API servers only add to them.
	trusted []string
}

// newTrials brings the cluster into its state, runs once successfully, and rolls back.
func newTrials(ctx context.Context, t *testing.T, state changeState, c *cluster.Cluster) *trials {
	t.Helper()
	g := &trials{state: state, c: c, w: plant(ctx, t, c), tasks: map[string]int{}}
	g.w.KubeletsKept, g.w.CAsRenewed = state.kubeletsKept, state.casRenewed
	state.breaks(ctx, t, c)
	before := filesDigest(ctx, t, c)
	if g.rotates() {
		g.trusted = extensionCAs(ctx, t, c)
	}
	o := kscertctl(ctx, t, g.run()...)
	o.want(t, 0, "After:   healthy")
	dir := runDirs(o.stateDir)[0]
	g.journal = journal(dir)
	for _, l := range g.journal {
		g.tasks[l.Step] = tasks(dir, l.Step)
	}
	wantCheapJournal(t, dir, o.took)
	g.wantWhole(ctx, t)
	g.goBack(ctx, t, o.stateDir, before)
	return g
}

// rotates reports whether CAs are rotated.
func (g *trials) rotates() bool { return slices.Contains(g.state.command, "rotate") }

// extensionCAs are the certificates that extension-apiserver-authentication holds.
func extensionCAs(ctx context.Context, t *testing.T, c *cluster.Cluster) []string {
	t.Helper()
	out, err := c.Kubectl(ctx, "-n", "kube-system", "get", "configmap", "extension-apiserver-authentication", "-o",
		`jsonpath={.data.client-ca-file}{"\n"}{.data.requestheader-client-ca-file}`)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for block, rest := pem.Decode(out); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, string(pem.EncodeToMemory(block)))
	}
	slices.Sort(all)
	return all
}

func (g *trials) run() []string {
	command := g.state.command
	if len(command) == 0 {
		command = []string{"run"}
	}
	return slices.Concat(command, []string{"-i", g.c.Inventory(), "--yes", "--gate-timeout", "90s"})
}

// subtest names a trial so that -run can select the sample.
func (b blow) subtest(state string, m moment) string {
	part := "more"
	if slices.Contains(b.sample, state+"/"+m.name) {
		part = "sample"
	}
	return part + "/" + strings.ReplaceAll(b.name, " ", "-") + "/" + strings.ReplaceAll(m.name, " ", "-")
}

// try disturbs a run that it resumes, and one that it rolls back.
func (g *trials) try(ctx context.Context, t *testing.T, b blow, m moment) {
	t.Helper()
	e := ending{blow: b.name, moment: m.name, resumed: "FAILED", back: "FAILED"}
	defer func() { g.endings = append(g.endings, e) }()
	if g.spoilt { // a trial failed before its end
		g.state.breaks(ctx, t, g.c)
		g.spoilt = false
	}
	defer func() { g.spoilt = t.Failed() }()

	s := &struck{c: g.c, node: m.node}
	if b.prepare != nil {
		g.must(t, "preparing", b.prepare(ctx, s))
		g.awaitAPI(ctx, t)
		defer func() {
			g.must(t, "clearing", b.clear(ctx, s))
			g.awaitAPI(ctx, t)
		}()
	}
	for _, how := range []struct {
		name   string
		stated *string
		after  func(context.Context, *testing.T, string, witness.Digest, blow) string
	}{{"resume", &e.resumed, g.resume}, {"rollback", &e.back, g.back}} {
		stateDir := t.TempDir()
		before := filesDigest(ctx, t, g.c)
		s.driver = start(ctx, t, stateDir, g.run()...)
		if !s.driver.until(m) {
			t.Fatalf("the run never reached the moment: %+v\n%s", s.driver.wait(), journal(runDirs(stateDir)[0]))
		}
		started := append(descendants(s.driver.cmd.Process.Pid), s.driver.cmd.Process.Pid)
		hit := time.Now()
		g.must(t, "striking", b.hit(ctx, s))
		o := s.driver.wait()
		e.ran = o.ending()
		t.Logf("the run exited with %s after %.1fs", e.ran, time.Since(hit).Seconds())
		if b.strikes != boundary { // a killed driver cannot stop its Ansible
			if left := alive(started); len(left) > 0 {
				t.Errorf("Ansible is still running: %s", left)
			}
		}
		if !slices.Contains([]int{-1, 0, 4, 7, 8, 130}, o.code) {
			t.Errorf("it exited with %d:\n%s", o.code, o.stderr)
		}
		fix := func() {
			if b.fix != nil {
				g.must(t, "fixing", b.fix(ctx, s))
			}
		}
		if b.reboots { // a stopped node's files cannot be read
			fix()
		}
		if o.code == 4 || o.code == 7 {
			if diff := before.Diff(filesDigest(ctx, t, g.c)); len(diff) > 0 {
				t.Errorf("it reported that nothing was changed:\n%s\n%s", o.stderr, strings.Join(diff, "\n"))
			}
		}
		if !b.reboots {
			fix()
		}
		began := time.Now()
		if b.lost {
			*how.stated = g.elsewhere(ctx, t, stateDir, how.name, before)
		} else {
			*how.stated = how.after(ctx, t, stateDir, before, b)
		}
		t.Logf("%s: %s in %.1fs", how.name, *how.stated, time.Since(began).Seconds())
	}
}

// awaitAPI waits for the API server in states where it is usable.
func (g *trials) awaitAPI(ctx context.Context, t *testing.T) {
	t.Helper()
	if g.state.restart {
		return
	}
	g.must(t, "waiting for the API server", cluster.Poll(ctx, 2*time.Minute, time.Second, "the API server", func(ctx context.Context) error {
		_, err := g.c.Kubectl(ctx, "get", "--raw", "/readyz")
		return err
	}))
}

func (g *trials) must(t *testing.T, doing string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

// ending describes how a disturbed run exited.
func (o outcome) ending() string {
	if o.code == -1 {
		return "killed"
	}
	return fmt.Sprint(o.code)
}

// begun reports whether the run got far enough to be resumed.
func begun(stateDir string) bool {
	return slices.ContainsFunc(journal(runDirs(stateDir)[0]), func(l journalLine) bool { return l.Event == "request" })
}

// resume resumes the run until the cluster is healthy, then rolls it back.
func (g *trials) resume(ctx context.Context, t *testing.T, stateDir string, before witness.Digest, b blow) string {
	t.Helper()
	if !begun(stateDir) {
		kscertctlIn(ctx, t, stateDir, "resume").want(t, 64)
		g.wantAsBefore(ctx, t, before)
		return "nothing begun"
	}
	id := filepath.Base(runDirs(stateDir)[0])
	g.retryWhileLocked(ctx, t, stateDir, "resume", id).want(t, 0)
	if b.reboots {
		g.must(t, "waiting for the workload", g.w.AwaitWorkload(ctx))
	}
	g.wantWhole(ctx, t)
	g.goBack(ctx, t, stateDir, before)
	return "healthy"
}

// elsewhere removes all that a run has recorded here, and resumes it, or rolls it back, from a state
// directory that has nothing but the inventory.
func (g *trials) elsewhere(ctx context.Context, t *testing.T, stateDir, how string, before witness.Digest) string {
	t.Helper()
	id, lines := filepath.Base(runDirs(stateDir)[0]), journal(runDirs(stateDir)[0])
	g.must(t, "losing the machine", os.RemoveAll(stateDir))
	other := t.TempDir()
	inventory := []string{"-i", g.c.Inventory()}
	in := func(args ...string) outcome {
		t.Helper()
		return g.retryWhileLocked(ctx, t, other, append(args, inventory...)...)
	}
	listed := in("runs", "list", "-o", "json")
	listed.want(t, 0)
	lockAlone := strings.Contains(listed.stdout, "no control plane that answers keeps its record")
	if lockAlone || !strings.Contains(listed.stdout, id) {
		// The record comes before the first change, and so with the first step.
		if slices.ContainsFunc(lines, func(l journalLine) bool { return l.Event == "outcome" && strings.HasPrefix(l.Step, "01-") }) {
			t.Errorf("no control plane keeps run %s:\n%s", id, listed.stdout)
		}
		code := 64
		if lockAlone {
			code = 6
		}
		kscertctlIn(ctx, t, other, append([]string{how, id, "--yes"}, inventory...)...).want(t, code)
		in("unlock", "--yes").want(t, 0)
		g.wantAsBefore(ctx, t, before)
		return "nothing begun"
	}
	in("status").want(t, 0, id)
	stated := "as before"
	if how == "resume" {
		stated = "healthy"
		o := in("resume", id, "--yes")
		o.want(t, 0)
		if strings.Contains(o.stdout, "is done") { // its process may not have come to releasing the lock
			in("unlock", "--yes").want(t, 0)
		}
		g.wantWhole(ctx, t)
	}
	in("rollback", id, "--yes").want(t, 0)
	g.wantAsBefore(ctx, t, before)
	if g.state.restart {
		g.must(t, "restarting", g.c.Restart(ctx, g.c.Nodes()...))
	}
	return stated
}

// back rolls the run back.
func (g *trials) back(ctx context.Context, t *testing.T, stateDir string, before witness.Digest, _ blow) string {
	t.Helper()
	if !begun(stateDir) {
		kscertctlIn(ctx, t, stateDir, "rollback", "--yes").want(t, 64)
		g.wantAsBefore(ctx, t, before)
		return "nothing begun"
	}
	g.goBack(ctx, t, stateDir, before)
	return "as before"
}

// goBack rolls back the first run of a state directory, and restarts the components with the
// restored files.
func (g *trials) goBack(ctx context.Context, t *testing.T, stateDir string, before witness.Digest) {
	t.Helper()
	g.retryWhileLocked(ctx, t, stateDir, "rollback", filepath.Base(runDirs(stateDir)[0]), "--yes").want(t, 0)
	g.wantAsBefore(ctx, t, before)
	if g.state.restart {
		g.must(t, "restarting", g.c.Restart(ctx, g.c.Nodes()...))
	}
}

// retryWhileLocked repeats a command while processes of a killed driver still work on the run.
func (g *trials) retryWhileLocked(ctx context.Context, t *testing.T, stateDir string, args ...string) outcome {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(time.Second) {
		o := kscertctlIn(ctx, t, stateDir, args...)
		if o.code != 6 || time.Now().After(deadline) {
			return o
		}
	}
}

// wantAsBefore fails the test unless every file is unchanged and the lock is free.
func (g *trials) wantAsBefore(ctx context.Context, t *testing.T, before witness.Digest) {
	t.Helper()
	if diff := before.Diff(filesDigest(ctx, t, g.c)); len(diff) > 0 {
		t.Fatalf("files differ:\n%s", strings.Join(diff, "\n"))
	}
	if g.rotates() {
		if now := extensionCAs(ctx, t, g.c); !slices.Equal(now, g.trusted) {
			t.Fatalf("aggregated API servers trust %d CAs, and trusted %d:\n%s", len(now), len(g.trusted), strings.Join(now, ""))
		}
	}
	g.wantUnlocked(ctx, t)
}

func (g *trials) wantWhole(ctx context.Context, t *testing.T) {
	t.Helper()
	if g.state.restart && g.state.casRenewed { // pods could not reach the API server before
		g.must(t, "waiting for the workload", g.w.AwaitWorkload(ctx))
	}
	if err := g.w.Verify(ctx); err != nil {
		t.Fatalf("verification failed: %v", err)
	}
	g.wantUnlocked(ctx, t)
}

func (g *trials) wantUnlocked(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := g.c.Shell(ctx, "cp1", "! ls /var/lib/kscertctl/lock-* 2>/dev/null"); err != nil {
		t.Errorf("the lock is still held: %v", err)
	}
}

// wantCheapJournal repeats the writes of a journal, with a sync after each line, and compares
// the time with the run's.
func wantCheapJournal(t *testing.T, dir string, took time.Duration) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "journal.copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	began := time.Now()
	for line := range strings.Lines(string(data)) {
		_, err := f.WriteString(line)
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cost := time.Since(began)
	share := 100 * cost.Seconds() / took.Seconds()
	t.Logf("the journal of %d bytes cost %s of %.1fs: %.2f %%", len(data), cost.Round(time.Millisecond), took.Seconds(), share)
	if share > 2 {
		t.Errorf("the journal cost %.1f %% of the run, more than 2", share)
	}
}

// record logs the results of the trials, and writes them to the page with UPDATE_DOCS=1.
func (g *trials) record(t *testing.T, part string) {
	t.Helper()
	if len(g.endings) == 0 {
		return
	}
	for _, e := range g.endings {
		t.Log(e)
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := writeEndings(g.state.name, part, g.endings); err != nil {
			t.Error(err)
		}
	}
}
