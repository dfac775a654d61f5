//go:build e2e

package scale

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The exporter's limits.
const (
	scrapesPerSecond = 1000
	maxExporter      = 50 << 10 // KiB
)

// TestExporter scrapes an exporter a thousand times a second, for as many inspections as there are
// rows: whatever the nodes and Ansible do, a scrape is answered at once, and there is one
// inspection at a time.
func TestExporter(t *testing.T) {
	const seconds = 12
	hosts := append(healthy(3), host{name: "hanging", command: "sleep 300", vars: "kscert_inspect_seconds=2"})
	f := newFarm(t, hosts)
	address := freeAddress(t)
	cmd := f.command(t, executable(t), "exporter", "-i", f.inventory, "-f", forks, "--interval", "1s", "--timeout", "20s", "--web.listen-address", address)
	var log bytes.Buffer
	cmd.Stderr = &log
	must(t, cmd.Start())
	defer func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
		if left, _ := filepath.Glob(filepath.Join(f.dir, "kscertctl-*")); len(left) > 0 {
			t.Errorf("looks have left %q", left)
		}
	}()
	url := "http://" + address + "/metrics"
	metrics := func() string {
		code, body, err := scrape(http.DefaultClient, url)
		if err != nil || code != http.StatusOK {
			return ""
		}
		return body
	}
	until(t, "the first look has ended", func() bool {
		return strings.Contains(metrics(), "\nkscertctl_exporter_last_inspection_success 1\n")
	})
	if m := metrics(); !strings.Contains(m, "\nkscertctl_node_up{node=\"cp1\"} 1\n") || !strings.Contains(m, "\nkscertctl_node_up{node=\"hanging\"} 0\n") {
		t.Errorf("the nodes are reported wrong:\n%s", m)
	}

	ended, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- watch(cmd.Process.Pid, ended) }()
	var answered, busy, failed, slowest atomic.Int64
	var scraping sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	tick := time.NewTicker(time.Second / scrapesPerSecond)
	defer tick.Stop()
	killed, most := 0, 0
	var before []int
	for i := range scrapesPerSecond * seconds {
		<-tick.C
		scraping.Go(func() {
			began := time.Now()
			code, _, err := scrape(client, url)
			for took, old := time.Since(began).Milliseconds(), slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
			}
			switch {
			case err != nil:
				failed.Add(1)
			case code == http.StatusOK:
				answered.Add(1)
			case code == http.StatusServiceUnavailable:
				busy.Add(1)
			default:
				failed.Add(1)
			}
		})
		if i%100 > 0 { // checking is work, too
			continue
		}
		playbooks := children(cmd.Process.Pid, "ansible-playbook")
		most = max(most, len(playbooks))
		// One that has just begun: one that is about to finish may have reported everything.
		if began := len(playbooks) > 0 && !slices.Equal(playbooks, before); began && killed == 0 && i > scrapesPerSecond*seconds/3 {
			must(t, syscall.Kill(playbooks[0], syscall.SIGKILL))
			killed++
		}
		before = playbooks
	}
	scraping.Wait()
	close(ended)
	memory := <-peak

	if failed.Load() > 0 || answered.Load() < 100 {
		t.Errorf("of %d scrapes %d were answered, %d reported to come again, %d failed", scrapesPerSecond*seconds, answered.Load(), busy.Load(), failed.Load())
	}
	if memory > maxExporter {
		t.Errorf("the exporter held %d KiB, more than %d", memory, maxExporter)
	}
	if most != 1 || killed != 1 {
		t.Errorf("up to %d looks at the same time, want 1; %d were killed", most, killed)
	}
	until(t, "the killed look is reported", func() bool {
		return strings.Contains(metrics(), "\nkscertctl_exporter_inspections_total{result=\"failure\"} 1\n")
	})
	if m := metrics(); !strings.Contains(m, "kscertctl_certificate_not_after_timestamp_seconds{") {
		t.Errorf("what was known is lost:\n%s", m)
	}
	fmt.Printf("%d scrapes in %d s: %d answered, %d reported to come again; the slowest took %d ms; peak %d MiB\n",
		scrapesPerSecond*seconds, seconds, answered.Load(), busy.Load(), slowest.Load(), memory>>10)
}

func scrape(client *http.Client, url string) (int, string, error) {
	res, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	return res.StatusCode, string(body), err
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 300 {
		if holds() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("without success: %s", what)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// children are the processes that a process has started and that run a command.
func children(parent int, command string) []int {
	var out []int
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	status := regexp.MustCompile(`^\d+ \(.*\) \S (\d+) `)
	for _, file := range files {
		stat, _ := os.ReadFile(file) // it may have exited
		m := status.FindSubmatch(stat)
		if m == nil || string(m[1]) != strconv.Itoa(parent) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		words := strings.Split(string(line), "\x00")
		if slices.ContainsFunc(words, func(w string) bool { return filepath.Base(w) == command }) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			out = append(out, pid)
		}
	}
	return out
}
