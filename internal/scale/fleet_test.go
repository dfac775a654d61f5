//go:build e2e

package scale

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	fleetSize   = flag.Int("clusters", 200, "how many clusters the benchmark of fleets has")
	fleetRounds = flag.Int("rounds", 1, "how often the benchmark of fleets compares")
)

// The limits of a fleet check, and how many clusters it inspects at the same time.
const (
	maxFleetRatio  = 1.15
	maxFleetMemory = 120 << 10 // KiB
	fleetParallel  = 8
)

// placed is the address of a host in an inventory.
var placed = regexp.MustCompile(`(?m)^(\w+) ansible_host=\S+ ansible_port=\d+`)

// clusters makes inventories of clusters like the farm's, each with its own addresses, and their
// fleet file; every host of the last one runs the command instead of answering.
func (f farm) clusters(t *testing.T, count int, last string) (file string) {
	t.Helper()
	text, err := os.ReadFile(f.inventory)
	must(t, err)
	sshd, address := daemon(t), 0
	must(t, os.MkdirAll(filepath.Join(f.dir, "inventories"), 0o700))
	for i := range count {
		inventory := placed.ReplaceAllStringFunc(string(text), func(line string) string {
			name, _, _ := strings.Cut(line, " ")
			config := filepath.Join(f.dir, name+".sshd")
			if last != "" && i == count-1 {
				config = f.write(t, name+".last.sshd", f.sshdConfig(f.roots[true], last))
			}
			address++
			port := listen(t, net.IPv4(127, 2, byte(address/250), byte(address%250+1)), sshd, "-i", "-f", config)
			return fmt.Sprintf("%s ansible_host=%s ansible_port=%d", name, port.IP, port.Port)
		})
		f.write(t, fmt.Sprintf("inventories/c%03d.ini", i), inventory)
	}
	return f.write(t, "fleet.yaml", "clusters: [{each: inventories}]\n")
}

// fleetCommand prepares a command that opens each connection again: a check makes one to each host,
// and hundreds of open ones would dominate the measurement.
func (f farm) fleetCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := f.command(t, name, args...)
	cmd.Env = append(cmd.Env, "ANSIBLE_SSH_ARGS=-o ControlMaster=no -o ConnectTimeout=60")
	return cmd
}

// fleetCheck checks all clusters; it returns the time and the memory.
func (f farm) fleetCheck(t *testing.T, file string, code int, clusters int) (seconds float64, memory int64, stderr string) {
	t.Helper()
	cmd := f.fleetCommand(t, executable(t), "fleet", "check", "-f", file, "--parallel-clusters", strconv.Itoa(fleetParallel), "-o", "json")
	var out, printed strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &printed
	start := time.Now()
	must(t, cmd.Start())
	ended, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- watch(cmd.Process.Pid, ended) }()
	_ = cmd.Wait()
	seconds = time.Since(start).Seconds()
	close(ended)
	memory = <-peak
	var doc struct {
		Clusters []struct {
			Name   string `json:"name"`
			Report struct {
				Certificates []struct{} `json:"certificates"`
			} `json:"report"`
		} `json:"clusters"`
	}
	must(t, json.Unmarshal([]byte(out.String()), &doc))
	whole := 0
	for _, c := range doc.Clusters {
		if len(c.Report.Certificates) >= 3*(host{controlPlane: true}).certificates() {
			whole++
		}
	}
	if got := cmd.ProcessState.ExitCode(); got != code || whole != clusters {
		t.Fatalf("exit code %d, want %d; %d of %d clusters are known\n%s", got, code, whole, clusters, printed.String())
	}
	return seconds, memory, printed.String()
}

// singleChecks checks all clusters with a process each; in seconds.
func (f farm) singleChecks(t *testing.T) float64 {
	t.Helper()
	cmd := f.fleetCommand(t, "sh", "-c", fmt.Sprintf(
		`ls inventories/*.ini | xargs -P %d -I{} '%s' check-expiration -i {} -o json >/dev/null`, fleetParallel, executable(t)))
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return time.Since(start).Seconds()
}

// One check of a fleet takes no longer than separate checks of its clusters, with the same
// parallelism, and little memory; a cluster that hangs delays no other.
func TestFleetBenchmark(t *testing.T) {
	hosts := healthy(3)
	for i := range hosts {
		hosts[i].remembers = true
	}
	f := newFarm(t, hosts)
	f.check(t).wantWhole(t, hosts)
	f.learn(t, hosts)
	f.fromMemory(t, true)
	file := f.clusters(t, *fleetSize, "")
	var single, own, ratio []float64
	var memory int64
	for range *fleetRounds {
		a := f.singleChecks(t)
		b, m, _ := f.fleetCheck(t, file, 0, *fleetSize)
		single, own, ratio, memory = append(single, a), append(own, b), append(ratio, b/a), max(memory, m)
	}
	fmt.Printf("%d clusters of 3 hosts: xargs -P %d %.1f s, fleet check %.1f s = %.2f× (%.2f), %d MiB\n",
		*fleetSize, fleetParallel, median(single), median(own), median(ratio), ratio, memory>>10)
	if r := median(ratio); r > maxFleetRatio {
		t.Errorf("fleet check took %.2f times as long as single checks, more than %.2f: %.2f", r, maxFleetRatio, ratio)
	}
	if memory > maxFleetMemory {
		t.Errorf("kscertctl held %d KiB, more than %d", memory, maxFleetMemory)
	}
}

// All other clusters are inspected while one hangs.
func TestFleetHangs(t *testing.T) {
	hosts := healthy(3)
	for i := range hosts {
		hosts[i].remembers = true
	}
	f := newFarm(t, hosts)
	f.check(t).wantWhole(t, hosts)
	f.learn(t, hosts)
	f.fromMemory(t, true)
	const count = 12
	file := f.clusters(t, count, "sleep 600")
	// The one that hangs is asked first, and given up after a while.
	hung := "inventories/c011.ini"
	must(t, os.Rename(filepath.Join(f.dir, hung), filepath.Join(f.dir, "inventories/a-hung.ini")))
	f.write(t, "kscertctl.yaml", "extra-vars: ['@vars.yml']\n")
	f.write(t, "vars.yml", "kscert_inspect_seconds: 45\n")
	_, _, printed := f.fleetCheck(t, file, 4, count-1)
	order := regexp.MustCompile(`(?m)^\[ *([0-9.]+)s\] ([\w-]+): `).FindAllStringSubmatch(printed, -1)
	if len(order) != count || order[count-1][2] != "a-hung" {
		t.Fatalf("the one that hangs is not the last: %q", order)
	}
	at := func(i int) float64 {
		s, err := strconv.ParseFloat(order[i][1], 64)
		must(t, err)
		return s
	}
	fmt.Printf("%d clusters after %.1f s, the one that hangs after %.1f s\n", count-1, at(count-2), at(count-1))
}
