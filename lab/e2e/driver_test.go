package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcome is the result of a kscertctl command.
type outcome struct {
	code           int
	stdout, stderr string
	// stateDir contains the run's directory.
	stateDir string
	took     time.Duration
}

// driver is a running kscertctl.
type driver struct {
	cmd      *exec.Cmd
	stateDir string
	// out and errs are complete once ended is closed.
	out, errs bytes.Buffer
	ended     chan struct{}
}

// binary returns the path of the built kscertctl.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../.bin/kscertctl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; build it with: ./hack/task build", err)
	}
	return path
}

// start starts a command without a terminal.
func start(ctx context.Context, t *testing.T, stateDir string, args ...string) *driver {
	t.Helper()
	return startOf(ctx, t, binary(t), stateDir, args...)
}

// startOf is start with another build.
func startOf(ctx context.Context, t *testing.T, binary, stateDir string, args ...string) *driver {
	t.Helper()
	d := &driver{stateDir: stateDir, ended: make(chan struct{})}
	d.cmd = exec.CommandContext(ctx, binary, append(args, "--state-dir", stateDir)...)
	d.cmd.Env = environment()
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.errs
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(os.Interrupt) }
	// Ansible may outlive a killed driver and keeps its output open.
	d.cmd.WaitDelay = time.Second
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		_ = d.cmd.Wait()
	}()
	return d
}

// environment is that of kscertctl: the lab's own settings are none of it, and it warns of them.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KSCERTCTL_LAB_") })
}

// wait returns the result.
func (d *driver) wait() outcome {
	<-d.ended
	return outcome{code: d.cmd.ProcessState.ExitCode(), stdout: d.out.String(), stderr: d.errs.String(), stateDir: d.stateDir}
}

func (d *driver) signal(sig syscall.Signal) error {
	if err := d.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// killTree kills kscertctl and its descendants: it stops all of them first, so that none sees
// another one exit.
func (d *driver) killTree() error {
	var stopped []int
	for {
		fresh := slices.DeleteFunc(append(descendants(d.cmd.Process.Pid), d.cmd.Process.Pid), func(pid int) bool { return slices.Contains(stopped, pid) })
		if len(fresh) == 0 {
			break
		}
		for _, pid := range fresh {
			_ = syscall.Kill(pid, syscall.SIGSTOP) // may have exited already
		}
		stopped = append(stopped, fresh...)
	}
	for _, pid := range stopped {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return nil
}

// descendants lists the processes below one.
func descendants(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // exited in the meantime
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		f := strings.Fields(rest)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || len(f) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(f[1]); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var out []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		out = append(out, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return out
}

// alive returns the processes that are still Ansible's.
func alive(pids []int) []string {
	var out []string
	for _, pid := range pids {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if words := string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})); strings.Contains(words, "ansible-playbook") {
			out = append(out, fmt.Sprintf("%d: %.100s", pid, words))
		}
	}
	return out
}

// journalLine is the part of a journal's line that these tests read.
type journalLine struct {
	Event, Kind, Step, Outcome string
	Nodes                      []string
}

// runDirs lists the directories of runs below a state directory, oldest first, without inspections: a
// rotation inspects to find its next stage.
func runDirs(stateDir string) []string {
	dirs, _ := filepath.Glob(filepath.Join(stateDir, "runs", "*"))
	return slices.DeleteFunc(dirs, func(dir string) bool {
		lines := journal(dir)
		return len(lines) > 0 && lines[0].Kind == "look"
	})
}

// journal reads the complete lines of a run's journal.
func journal(dir string) []journalLine {
	data, _ := os.ReadFile(filepath.Join(dir, "journal.jsonl"))
	var out []journalLine
	for line := range bytes.Lines(data) {
		var l journalLine
		if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &l) == nil {
			out = append(out, l)
		}
	}
	return out
}

// tasks counts the started tasks of a step.
func tasks(dir, step string) int {
	data, _ := os.ReadFile(filepath.Join(dir, "steps", step+".events.jsonl"))
	return bytes.Count(data, []byte(`"event": "task_start"`)) + bytes.Count(data, []byte(`"event":"task_start"`))
}

// reached reports whether the newest run has reached the moment.
func (d *driver) reached(m moment) bool {
	dirs := runDirs(d.stateDir)
	if len(dirs) == 0 {
		return false
	}
	newest := dirs[len(dirs)-1]
	if m.line > 0 {
		return len(journal(newest)) >= m.line
	}
	return tasks(newest, m.step) >= m.task
}

// until waits for a moment; false if kscertctl exits before.
func (d *driver) until(m moment) bool {
	for {
		if d.reached(m) {
			return true
		}
		select {
		case <-d.ended:
			return d.reached(m)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
