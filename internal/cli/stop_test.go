package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

// stopTime is the limit for one action of a process in these tests.
const stopTime = time.Minute

// tried is a running kscertctl, on a cluster whose admin.conf is about to expire.
type tried struct {
	*exec.Cmd
	dir      string
	out, err *os.File // the ends to read
}

// try starts kscertctl on a fake cluster.
func try(t *testing.T, script string, args ...string) tried {
	t.Helper()
	p := fake(t, script)
	return p.again(t, append(args, "-i", "cp1,", "--ansible-bin", p.dir)...)
}

// fake is a directory with a fake Ansible that calls the script there before each playbook, with
// its name as $1.
func fake(t *testing.T, script string) tried {
	t.Helper()
	dir := t.TempDir()
	cluster := fakeansible.NewCluster(t)
	fakeansible.Write(t, dir, fakeansible.Node(t, cluster, 24*time.Hour), 0)
	cluster.Well = true
	renewed := fakeansible.Says(t, fakeansible.Node(t, cluster, 300*24*time.Hour))
	hook := fmt.Sprintf("#!/bin/sh\ncd '%s' || exit\n%s\n", dir, script)
	for name, text := range map[string]string{"renewed": renewed, "hook": hook} {
		if err := testcommand.Write(filepath.Join(dir, name), text); err != nil {
			t.Fatal(err)
		}
	}
	return tried{dir: dir}
}

// again starts kscertctl there.
func (p tried) again(t *testing.T, args ...string) tried {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kscertctl", args...)
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "XDG_STATE_HOME="+filepath.Join(p.dir, "state"),
		"XDG_CONFIG_HOME="+p.dir)
	cmd.Dir = p.dir
	return begin(t, cmd)
}

// begin starts a command, with pipes as its output.
func begin(t *testing.T, cmd *exec.Cmd) tried {
	t.Helper()
	p := tried{Cmd: cmd, dir: cmd.Dir}
	var writers []*os.File
	for _, end := range []struct {
		read *(*os.File)
		to   *io.Writer
	}{{&p.out, &cmd.Stdout}, {&p.err, &cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		*end.read, *end.to = r, w
		writers = append(writers, w)
		t.Cleanup(func() { _ = r.Close() })
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, w := range writers {
		_ = w.Close()
	}
	return p
}

// until waits for a file that the script writes, and returns its content.
func (p tried) until(t *testing.T, file string) string {
	t.Helper()
	for deadline := time.Now().Add(stopTime); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(filepath.Join(p.dir, file)); err == nil && strings.HasSuffix(string(text), "\n") {
			return strings.TrimSpace(string(text))
		}
	}
	if p.Cmd != nil {
		_ = p.Process.Kill()
	}
	t.Fatalf("there is no file %s in time", file)
	return ""
}

// code waits for the end of the process and returns its exit code.
func (p tried) code(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(stopTime, func() { _ = p.Process.Kill() })
	defer timer.Stop()
	_ = p.Wait()
	return p.ProcessState.ExitCode()
}

// slow makes renew-certs take its time, and succeed.
const slow = `case $1 in
renew-certs.yml)
	echo $$ >begun
	i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
	cp renewed inspect.yml
	echo done >finished
	;;
esac`

// A closing session sends SIGHUP, often twice: the step that changes nodes is finished and no other
// is begun.
func TestHangUp(t *testing.T) {
	t.Parallel()
	p := try(t, slow, "run", "--yes")
	p.until(t, "begun")
	for range 2 {
		if err := p.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // two signals of one kind at once are one
	}
	p.keep(t, "go", "")
	answered, _ := io.ReadAll(p.err)
	if code := p.code(t); code != 130 || !strings.Contains(string(answered), "stopped gracefully before step") {
		t.Errorf("exit code %d:\n%s", code, answered)
	}
	p.until(t, "finished")
}

// An inspection, which changes nothing, stops at once, and so do its child processes.
func TestHangUpOfALook(t *testing.T) {
	t.Parallel()
	p := try(t, "case $2 in *kscert_hosts*) ;; *) sleep 600 & echo $! >begun; wait ;; esac", "diagnose")
	pid := p.until(t, "begun")
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code := p.code(t); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if state, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !bytes.Contains(state, []byte(") Z ")) {
		t.Errorf("process %s is left behind", pid)
	}
}

// Output that can no longer be shown is no reason to stop in the middle.
func TestClosedPipeOfARun(t *testing.T) {
	t.Parallel()
	p := try(t, slow, "run", "--yes", "-v")
	p.until(t, "begun")
	_, _ = p.out.Close(), p.err.Close()
	p.keep(t, "go", "")
	if code := p.code(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.until(t, "finished")
	found, _ := filepath.Glob(filepath.Join(p.dir, "state/kscertctl/runs/*/journal.jsonl"))
	if len(found) != 1 {
		t.Fatalf("journals: %q", found)
	}
	if text, _ := os.ReadFile(found[0]); !strings.Contains(string(text), `"event":"end","outcome":"done"`) {
		t.Errorf("it did not go on to its end:\n%s", text)
	}
}

// Data that no one reads stops a command silently, like other tools.
func TestClosedPipeOfData(t *testing.T) {
	t.Parallel()
	due, err := filepath.Abs("../../orchestrator/testdata/due.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"version"},
		{"check", "--from-snapshot", due, "-o", "json"},
		{"check", "--from-snapshot", due},
		{"diagnose", "--from-snapshot", due},
		{"plan", "--from-snapshot", due, "-o", "json"}, {"config", "schema"}, {"explain", "ca-expired"},
	} {
		t.Run(strings.Join(args[:1], ""), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			wait := []string{"-c", `while [ ! -e go ]; do sleep 0.05; done; exec kscertctl "$@"`, "sh"}
			cmd := exec.CommandContext(t.Context(), "sh", append(wait, args...)...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
			p := begin(t, cmd)
			_ = p.out.Close()
			p.keep(t, "go", "")
			answered, _ := io.ReadAll(p.err)
			if code := p.code(t); code != 141 || len(answered) > 0 {
				t.Errorf("%q: exit code %d: %s", args, code, answered)
			}
		})
	}
}

// keep writes a file that the script, or kscertctl, reads.
func (p tried) keep(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
