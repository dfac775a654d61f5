//go:build e2e

// Package scale tries kscertctl on many hosts, and on hosts that answer with
// nonsense: loopback addresses of this machine, each with an OpenSSH server.
package scale

import (
	"fmt"
	"slices"
	"strconv"
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

// Rounds alternate, so that a busy moment of the machine falls on both.
func TestScaleBenchmark(t *testing.T) {
	fmt.Printf("%5s %22s %11s %6s %16s %16s\n", "hosts", "ansible -m raw -a true", "kscertctl", "ratio", "kscertctl's peak", "largest process")
	for _, row := range []struct{ hosts, rounds int }{{3, 9}, {50, 7}, {200, 5}} {
		t.Run(strconv.Itoa(row.hosts), func(t *testing.T) {
			hosts := healthy(row.hosts)
			f := newFarm(t, hosts)
			f.bare(t) // opens the connections, which Ansible keeps for a minute
			var bare, ours, ratios []float64
			var memory, largest int64
			for range row.rounds {
				a, b := f.bare(t), f.check(t)
				b.wantWhole(t, hosts)
				bare, ours, ratios = append(bare, a), append(ours, b.seconds), append(ratios, b.seconds/a)
				memory, largest = max(memory, b.memory), max(largest, b.largest)
			}
			fmt.Printf("%5d %20.2f s %9.2f s %6.2f %12d MiB %12d MiB\n", row.hosts, median(bare), median(ours), median(ratios), memory>>10, largest>>10)
			if r := median(ratios); r > maxRatio {
				t.Errorf("kscertctl took %.2f times as long as ansible -m raw -a true, more than %.1f: %.2f", r, maxRatio, ratios)
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

// wantWhole: every host has told all its certificates.
func (l look) wantWhole(t *testing.T, hosts []host) {
	t.Helper()
	for _, h := range hosts {
		n, _ := l.snapshot.Node(h.name)
		want := 3 // the authority and the kubelet's two
		if h.controlPlane {
			want = 15 // kubeadm's five, etcd's four, four kubeconfigs', the kubelet's two
		}
		if n.Failure != nil || len(n.Certificates) < want {
			t.Fatalf("%s has %d certificates, want %d (%+v)\n%s", h.name, len(n.Certificates), want, n.Failure, l.stderr)
		}
	}
}
