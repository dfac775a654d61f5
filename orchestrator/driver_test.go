//go:build e2e

package orchestrator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// The limits for kscertctl, over a playbook of so many tasks on so many hosts that are this
// machine.
const (
	benchTasks, benchHosts = 1000, 10
	benchRounds            = 3
	maxOverhead            = 0.03
	maxDriverMemory        = 60 << 10 // KiB, of the process that holds this test, too
	maxLatency             = 100 * time.Millisecond
)

// number is a setting of the benchmark.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// TestDriverBenchmark measures what a step of kscertctl adds to the ansible-playbook that it runs:
// in turns, so that a busy moment of the machine affects both. On a busy machine, many rounds of
// fewer tasks give better results: KSCERTCTL_BENCH_ROUNDS, KSCERTCTL_BENCH_TASKS.
func TestDriverBenchmark(t *testing.T) {
	rounds, count := number("KSCERTCTL_BENCH_ROUNDS", benchRounds), number("KSCERTCTL_BENCH_TASKS", benchTasks)
	var tasks strings.Builder
	for i := range count {
		fmt.Fprintf(&tasks, "    - name: Task %d\n      ansible.builtin.raw: \"true\"\n", i)
	}
	dir := kubesprayDir(t, "- name: Bench\n  hosts: all\n  gather_facts: false\n  tasks:\n"+tasks.String(), nil)
	var hosts strings.Builder
	hosts.WriteString("[kube_control_plane]\n")
	step := plan.Step{ID: "01-upgrade-cluster", Action: plan.Upgrade, Playbook: "upgrade-cluster.yml", Changes: true}
	for i := range benchHosts {
		step.Nodes = append(step.Nodes, fmt.Sprintf("h%d", i))
		fmt.Fprintf(&hosts, "h%d ansible_connection=local\n", i)
	}
	inventory := filepath.Join(t.TempDir(), "hosts.ini")
	if err := os.WriteFile(inventory, []byte(hosts.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := New(Options{Ansible: ansible.Options{Inventories: []string{inventory}, BinDir: realAnsible(t), Forks: benchHosts}, StateDir: t.TempDir(), KubesprayDir: dir, Playbook: plan.UpgradeCluster})
	if err != nil {
		t.Fatal(err)
	}
	o.kube.Ansible.Min, o.kube.Ansible.Max = "", ""

	var ratios, processor []float64
	var latencies []time.Duration
	for range rounds {
		bare, bareCPU := timed(t, func() error {
			cmd := exec.CommandContext(t.Context(), filepath.Join(realAnsible(t), "ansible-playbook"), "-i", inventory, "-f", strconv.Itoa(benchHosts), "upgrade-cluster.yml")
			cmd.Dir = dir
			var log bytes.Buffer
			cmd.Stdout, cmd.Stderr = &log, &log
			return cmd.Run()
		})
		s, err := o.begin(t.Context(), run.Entry{Kind: run.KindRun})
		if err != nil {
			t.Fatal(err)
		}
		own, ownCPU := timed(t, func() error { return s.play(t.Context(), step, work{}) })
		s.close()
		ratios, processor = append(ratios, own/bare-1), append(processor, ownCPU/bareCPU-1)
		latencies = append(latencies, delays(t, s, count)...)
		fmt.Printf("ansible-playbook %.1f s (processor %.1f s), kscertctl %.1f s (processor %.1f s)\n", bare, bareCPU, own, ownCPU)
	}
	slices.Sort(ratios)
	slices.Sort(processor)
	slices.Sort(latencies)
	overhead, p95, memory := ratios[len(ratios)/2], latencies[len(latencies)*95/100], peak(t)
	fmt.Printf("%d tasks on %d hosts: wall %+.1f %%, processor %+.1f %%, memory %d MiB, latency of %d events: median %s, p95 %s\n",
		count, benchHosts, overhead*100, processor[len(processor)/2]*100, memory>>10, len(latencies), latencies[len(latencies)/2], p95)
	if overhead > maxOverhead {
		t.Errorf("it took %.1f %% longer than ansible-playbook alone: %.3f", overhead*100, ratios)
	}
	if memory > maxDriverMemory {
		t.Errorf("it held %d KiB", memory)
	}
	if p95 > maxLatency {
		t.Errorf("5 %% of the events came later than %s", p95)
	}
}

// timed returns how many seconds of the clock, and of the processors, something took,
// with all that it started.
func timed(t *testing.T, do func() error) (wall, cpu float64) {
	t.Helper()
	used := func() time.Duration {
		var sum time.Duration
		for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
			var u syscall.Rusage
			if err := syscall.Getrusage(who, &u); err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		return sum
	}
	start, before := time.Now(), used()
	if err := do(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start).Seconds(), (used() - before).Seconds()
}

// delays are the times from when Ansible wrote a result until kscertctl reported it.
func delays(t *testing.T, s *session, tasks int) []time.Duration {
	t.Helper()
	lines := func(path string) [][]byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	}
	var written []time.Time
	files, _ := filepath.Glob(filepath.Join(s.dir.Path, "steps", "*.events.jsonl"))
	for _, file := range files {
		for _, line := range lines(file) {
			var e ansible.Event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			if e.Event == "result" && e.Status != "skipped" {
				written = append(written, time.UnixMilli(int64(e.Time*1000)))
			}
		}
	}
	var out []time.Duration
	for _, line := range lines(filepath.Join(s.dir.Path, "events.jsonl")) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == EventTask {
			out = append(out, e.Time.Sub(written[len(out)]))
		}
	}
	if len(out) != tasks*benchHosts {
		t.Fatalf("%d results were stated", len(out))
	}
	return out
}

// peak is the most memory that this process has held, KiB.
func peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatal("the kernel does not say")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
