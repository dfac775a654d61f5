//go:build e2e

// Package scale tries kscertctl on many hosts, and on hosts with nonsensical answers: loopback
// addresses of this machine, each with an OpenSSH server.
package scale

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// forks is used for both: with Ansible's default of 5, mostly waiting would be measured.
const forks = "20"

// The limits of kscertctl.
const (
	maxRatio  = 1.5
	maxMemory = 100 << 10 // KiB
)

// Rounds alternate, so that a busy moment of the machine affects all. In each the nodes are
// inspected twice: with answers from memory, since nodes have their own processors, and with every
// collector at work on this machine at the same time. The first is timed and not watched, as
// Ansible is; the second is watched for memory.
func TestScaleBenchmark(t *testing.T) {
	fmt.Printf("%5s %12s %16s %24s %16s %16s\n", "hosts", "raw -a true", "kscertctl", "with all nodes' work", "kscertctl's peak", "largest process")
	for _, row := range []struct{ hosts, rounds int }{{3, 15}, {50, 7}, {200, 5}} {
		t.Run(strconv.Itoa(row.hosts), func(t *testing.T) {
			hosts := healthy(row.hosts)
			for i := range hosts {
				hosts[i].remembers = true
			}
			f := newFarm(t, hosts)
			f.check(t).wantWhole(t, hosts)
			f.learn(t, hosts)
			f.bare(t) // reopens the connections that have been closed since
			var bare, own, shared, ratio, sharedRatio []float64
			var memory, largest int64
			for range row.rounds {
				a := f.bare(t)
				f.fromMemory(t, true)
				b, _ := f.table(t, executable(t), hosts)
				f.fromMemory(t, false)
				c := f.check(t)
				c.wantWhole(t, hosts)
				memory, largest = max(memory, c.memory), max(largest, c.largest)
				bare, own, shared = append(bare, a), append(own, b), append(shared, c.seconds)
				ratio, sharedRatio = append(ratio, b/a), append(sharedRatio, c.seconds/a)
			}
			fmt.Printf("%5d %10.2f s %7.2f s = %.2f× %15.2f s = %.2f× %12d MiB %12d MiB\n", row.hosts,
				median(bare), median(own), median(ratio), median(shared), median(sharedRatio), memory>>10, largest>>10)
			if r := median(ratio); r > maxRatio {
				t.Errorf("kscertctl took %.2f times as long as ansible -m raw -a true, more than %.1f: %.2f", r, maxRatio, ratio)
			}
			if memory > maxMemory {
				t.Errorf("kscertctl held %d KiB, more than %d", memory, maxMemory)
			}
		})
	}
}

// maxAgainst limits the processor time of this build against another one: no more, except for the
// variation between rounds.
const maxAgainst = 1.03

// Other builds, named by KSCERTCTL_BENCH_AGAINST (files, separated by colons), take turns with this
// one, each with the reports of its own collectors, after as long. Processor time is compared round
// by round: other work on this machine delays all of them.
func TestScaleBenchmarkAgainst(t *testing.T) {
	builds := filepath.SplitList(os.Getenv("KSCERTCTL_BENCH_AGAINST"))
	if len(builds) == 0 {
		t.Skip("KSCERTCTL_BENCH_AGAINST names no other build")
	}
	builds = append([]string{executable(t)}, builds...)
	fmt.Printf("%5s %10s %10s %10s %10s  %s\n", "hosts", "wall", "ratio", "CPU", "ratio", "build")
	for _, row := range []struct{ hosts, rounds int }{{3, 15}, {50, 7}, {200, 5}} {
		t.Run(strconv.Itoa(row.hosts), func(t *testing.T) {
			hosts := healthy(row.hosts)
			for i := range hosts {
				hosts[i].remembers = true
			}
			f := newFarm(t, hosts)
			for _, build := range builds { // opens the connections, too
				f.table(t, build, hosts)
			}
			f.learnAlike(t, hosts)
			f.fromMemory(t, true)
			wall, cpu := make([][]float64, len(builds)), make([][]float64, len(builds))
			for range row.rounds {
				for i, build := range builds {
					seconds, processors := f.table(t, build, hosts)
					wall[i], cpu[i] = append(wall[i], seconds), append(cpu[i], processors)
				}
			}
			for i, build := range builds {
				more := median(ratios(cpu[0], cpu[i]))
				fmt.Printf("%5d %8.2f s %10.2f %8.2f s %10.2f  %s\n", row.hosts, median(wall[i]), median(ratios(wall[0], wall[i])), median(cpu[i]), more, build)
				if more > maxAgainst {
					t.Errorf("this build takes %.2f times as much of processors as %s, more than %.2f: %.2f and %.2f", more, build, maxAgainst, cpu[0], cpu[i])
				}
			}
		})
	}
}

func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// bare is the least that Ansible can do on every host; in seconds.
func (f farm) bare(t *testing.T) float64 {
	t.Helper()
	cmd := f.command(t, "ansible", "all", "-i", f.inventory, "-f", forks, "-m", "ansible.builtin.raw", "-a", "true")
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return time.Since(start).Seconds()
}

// table prints the table of all hosts' certificates with a kscertctl; in seconds, and in seconds of
// processor time with child processes.
func (f farm) table(t *testing.T, build string, hosts []host) (seconds, processors float64) {
	t.Helper()
	cmd := f.command(t, build, "check-expiration", "-i", f.inventory, "-f", forks)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start).Seconds()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	rows := map[string]int{}
	for line := range strings.Lines(string(out)) {
		node, _, _ := strings.Cut(line, " ")
		rows[node]++
	}
	for _, h := range hosts {
		if rows[h.name] < h.certificates() {
			t.Fatalf("%s has %d certificates in the table, want %d\n%s", h.name, rows[h.name], h.certificates(), out)
		}
	}
	return took, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// certificates is how many a host has at least.
func (h host) certificates() int {
	if h.controlPlane {
		return 15 // kubeadm's five, etcd's four, four kubeconfigs', the kubelet's two
	}
	return 3 // the CA and the kubelet's two
}

// wantWhole: every host has reported all its certificates.
func (l look) wantWhole(t *testing.T, hosts []host) {
	t.Helper()
	for _, h := range hosts {
		n, _ := l.snapshot.Node(h.name)
		if n.Failure != nil || len(n.Certificates) < h.certificates() {
			t.Fatalf("%s has %d certificates, want %d (%+v)\n%s", h.name, len(n.Certificates), h.certificates(), n.Failure, l.stderr)
		}
	}
}
