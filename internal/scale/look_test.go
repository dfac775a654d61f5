//go:build e2e

package scale

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// look is the cost and the result of one call of kscertctl.
type look struct {
	seconds float64
	code    int
	// memory is the peak of kscertctl itself, largest that of the largest process that it started
	// or is; KiB.
	memory, largest int64
	stderr          string
	snapshot        snapshot.Snapshot
}

// executable is the kscertctl that task build has made.
func executable(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../.bin/kscertctl")
	must(t, err)
	return path
}

// check runs kscertctl check-expiration on all hosts.
func (f farm) check(t *testing.T, args ...string) look {
	t.Helper()
	saved := filepath.Join(f.dir, "snapshot.json")
	cmd := f.command(t, executable(t), append([]string{"check-expiration", "-i", f.inventory, "-f", forks, "--save-snapshot", saved}, args...)...)
	var printed strings.Builder
	cmd.Stderr = &printed
	start := time.Now()
	must(t, cmd.Start())
	ended, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- watch(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	l := look{seconds: time.Since(start).Seconds(), code: cmd.ProcessState.ExitCode(), stderr: printed.String()}
	close(ended)
	l.memory = <-peak
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		l.largest = usage.Maxrss
	}
	if l.snapshot, err = snapshot.Load(saved); err != nil {
		t.Fatalf("%v; exit code %d\n%s", err, l.code, l.stderr)
	}
	must(t, os.Remove(saved))
	return l
}

// watch returns the peak resident memory of a process, KiB.
func watch(pid int, ended <-chan struct{}) int64 {
	var peak int64
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
			if kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64); err == nil {
				peak = max(peak, kib)
			}
		}
		select {
		case <-ended:
			return peak
		case <-time.After(10 * time.Millisecond):
		}
	}
}
