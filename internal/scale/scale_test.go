//go:build e2e

// Package scale tries kscertctl on many hosts, and on hosts that answer with
// nonsense: loopback addresses of this machine, each with an OpenSSH server.
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

// forks is what both are given: with Ansible's own default of 5, waiting is most of
// what one measures.
const forks = "20"

// What kscertctl is held to.
const (
	maxRatio  = 1.5
	maxMemory = 100 << 10 // KiB
)

// Rounds alternate, so that a busy moment of the machine falls on all. In each the
// nodes are looked at twice: with answers from memory, since nodes work on processors
// of their own, and with every collector at work on this machine at the same time. The
// first is timed and not watched, as Ansible is; the second is watched for memory.
//
// Other builds, named by KSCERTCTL_BENCH_AGAINST (files, separated by colons), take turns
// with this one in the first: with what their own collectors said, after as long.
func TestScaleBenchmark(t *testing.T) {
	builds := append([]string{executable(t)}, filepath.SplitList(os.Getenv("KSCERTCTL_BENCH_AGAINST"))...)
	fmt.Printf("%5s %12s %16s %24s %16s %16s\n", "hosts", "raw -a true", "kscertctl", "with all nodes' work", "kscertctl's peak", "largest process")
	for _, row := range []struct{ hosts, rounds int }{{3, 15}, {50, 7}, {200, 5}} {
		t.Run(strconv.Itoa(row.hosts), func(t *testing.T) {
			hosts := healthy(row.hosts)
			for i := range hosts {
				hosts[i].remembers = true
			}
			f := newFarm(t, hosts)
			for _, build := range builds {
				f.table(t, build, hosts)
			}
			f.learn(t, hosts)
			f.bare(t) // opens the connections that have ended since
			var bare, shared, ratio, sharedRatio []float64
			var memory, largest int64
			took := make([]cost, len(builds))
			for range row.rounds {
				a := f.bare(t)
				f.fromMemory(t, true)
				for i, build := range builds {
					took[i].add(f.table(t, build, hosts))
				}
				f.fromMemory(t, false)
				c := f.check(t)
				c.wantWhole(t, hosts)
				memory, largest = max(memory, c.memory), max(largest, c.largest)
				bare, shared = append(bare, a), append(shared, c.seconds)
				ratio, sharedRatio = append(ratio, last(took[0].seconds)/a), append(sharedRatio, c.seconds/a)
			}
			fmt.Printf("%5d %10.2f s %7.2f s = %.2f× %15.2f s = %.2f× %12d MiB %12d MiB\n", row.hosts,
				median(bare), median(took[0].seconds), median(ratio), median(shared), median(sharedRatio), memory>>10, largest>>10)
			for i, other := range took[1:] {
				fmt.Printf("      %.2f s, %.2f s of processors; %s: %.2f s, %.2f s; this/that %.2f, %.2f\n",
					median(took[0].seconds), median(took[0].processors), builds[i+1], median(other.seconds), median(other.processors),
					median(took[0].seconds)/median(other.seconds), median(took[0].processors)/median(other.processors))
			}
			if r := median(ratio); r > maxRatio {
				t.Errorf("kscertctl took %.2f times as long as ansible -m raw -a true, more than %.1f: %.2f", r, maxRatio, ratio)
			}
			if memory > maxMemory {
				t.Errorf("kscertctl held %d KiB, more than %d", memory, maxMemory)
			}
		})
	}
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// bare is the least that Ansible can do on every host; seconds.
func (f farm) bare(t *testing.T) float64 {
	t.Helper()
	cmd := f.command(t, "ansible", "all", "-i", f.inventory, "-f", forks, "-m", "ansible.builtin.raw", "-a", "true")
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return time.Since(start).Seconds()
}

// cost is how long each call of one build took, and how much of processors.
type cost struct{ seconds, processors []float64 }

func (c *cost) add(seconds, processors float64) {
	c.seconds, c.processors = append(c.seconds, seconds), append(c.processors, processors)
}

func last(values []float64) float64 { return values[len(values)-1] }

// table is a kscertctl's table of all hosts' certificates; seconds, and those of
// processors that it and all it waited for took.
func (f farm) table(t *testing.T, build string, hosts []host) (float64, float64) {
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
	return 3 // the authority and the kubelet's two
}

// wantWhole: every host has told all its certificates.
func (l look) wantWhole(t *testing.T, hosts []host) {
	t.Helper()
	for _, h := range hosts {
		n, _ := l.snapshot.Node(h.name)
		if n.Failure != nil || len(n.Certificates) < h.certificates() {
			t.Fatalf("%s has %d certificates, want %d (%+v)\n%s", h.name, len(n.Certificates), h.certificates(), n.Failure, l.stderr)
		}
	}
}
