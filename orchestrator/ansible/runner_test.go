package ansible

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// These tests run the real Ansible; without it they prove nothing.
func needAnsible(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"ansible-playbook", "ansible-inventory"} {
		if _, err := exec.LookPath(name); err != nil {
			tb.Fatalf("%s is not installed: run hack/packages unit, or apt-get install ansible-core (%v)", name, err)
		}
	}
}

// callbacks is the directory of the event callback.
func callbacks(tb testing.TB) string {
	tb.Helper()
	dir, err := filepath.Abs(filepath.Join("../../playbooks", playbooks.CallbackDir))
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// local is an inventory whose hosts are this machine, by these names.
func local(tb testing.TB, hosts ...string) string {
	tb.Helper()
	return file(tb, "hosts.ini", strings.Join(hosts, "\n")+"\n[all:vars]\nansible_connection=local\nansible_python_interpreter=auto_silent\n")
}

func file(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func runner(tb testing.TB, o Options) *Runner {
	tb.Helper()
	needAnsible(tb)
	r, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// book makes a run of a playbook with these tasks on all hosts.
func book(tb testing.TB, tasks string) Playbook {
	tb.Helper()
	dir := tb.TempDir()
	path := filepath.Join(dir, "test.yml")
	text := "- name: Test\n  hosts: \"{{ target | default('all') }}\"\n  gather_facts: false\n  tasks:\n" + tasks
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return Playbook{
		Path: path, Dir: dir, CallbackDir: callbacks(tb), Isolated: true,
		Events: filepath.Join(dir, "events.jsonl"), Log: filepath.Join(dir, "log"),
	}
}

func TestRunSucceeds(t *testing.T) {
	t.Parallel()
	r := runner(t, Options{Inventories: []string{local(t, "a", "b")}, ExtraVars: []string{"word=user"}})
	p := book(t, `
    - name: Say a word
      ansible.builtin.raw: "printf '%s' {{ word }}"
      changed_when: false
      tags: [kscert_payload]
    - name: Change something
      ansible.builtin.raw: "true"
`)
	p.Hosts = []string{"a", "b"}
	p.Vars = map[string]any{"word": "ours"} // they win over the user's
	var screen bytes.Buffer
	p.Output = &screen
	var kinds []string
	o, err := r.Run(t.Context(), p, func(e Event) {
		if e.Event != "result" && e.Event != "task_start" {
			kinds = append(kinds, e.Event)
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, screen.String())
	}
	if o.ExitCode != 0 || o.Stats["a"].Changed != 1 || o.Stats["b"].OK != 2 || len(o.Failures) > 0 {
		t.Errorf("outcome: %+v", o)
	}
	if want := map[string]string{"a": "ours", "b": "ours"}; !maps.Equal(o.Payloads, want) {
		t.Errorf("payloads are %v, want %v", o.Payloads, want)
	}
	if want := []string{"hello", "playbook_start", "play_start", "stats"}; !slices.Equal(kinds, want) {
		t.Errorf("events are %v, want %v", kinds, want)
	}
	log, err := os.ReadFile(p.Log)
	if err != nil || !bytes.Equal(log, screen.Bytes()) || !strings.Contains(string(log), "PLAY RECAP") {
		t.Errorf("the log is %q (%v), the output was %q", log, err, screen.String())
	}
	for _, name := range []string{p.Log, p.Events} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

// Ansible exits with 0 in all of these; none is a success.
func TestExitCodeZeroIsNoSuccess(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		vars   map[string]any
		hosts  []string
		reason string
	}{
		{"no host matched", map[string]any{"target": "absent"}, []string{"a"}, "never ran on a"},
		{"no host matched, and none was expected", map[string]any{"target": "absent"}, nil, "no host matched"},
		{"an expected host is not in the inventory", nil, []string{"a", "z"}, "never ran on z"},
		{"an expected host was not asked", map[string]any{"target": "a"}, []string{"a", "b"}, "never ran on b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := book(t, "    - ansible.builtin.raw: 'true'\n")
			p.Vars, p.Hosts = row.vars, row.hosts
			o, err := runner(t, Options{Inventories: []string{local(t, "a", "b")}}).Run(t.Context(), p, nil)
			var failed *RunError
			if !errors.As(err, &failed) || !strings.Contains(failed.Reason, row.reason) {
				t.Errorf("error is %v, want a RunError with %q", err, row.reason)
			}
			if o.ExitCode != 0 {
				t.Errorf("exit code is %d: the test tests nothing", o.ExitCode)
			}
		})
	}
}

// A batch in which all fail is the last one: the error has its failure, and what was not reached.
func TestFailedBatch(t *testing.T) {
	t.Parallel()
	p := book(t, "    - ansible.builtin.raw: exit 3\n")
	p.Vars, p.Hosts = map[string]any{"target": "a"}, []string{"a", "b"}
	_, err := runner(t, Options{Inventories: []string{local(t, "a", "b")}}).Run(t.Context(), p, nil)
	var failed *RunError
	if !errors.As(err, &failed) || failed.Reason != "failed on a, and never ran on b" {
		t.Errorf("error is %v", err)
	}
}

func TestFailedTask(t *testing.T) {
	t.Parallel()
	p := book(t, `
    - name: Break on b
      ansible.builtin.raw: "echo out; echo because >&2; {{ 'exit 3' if inventory_hostname == 'b' else 'true' }}"
    - name: Ignored
      ansible.builtin.raw: exit 4
      ignore_errors: true
`)
	_, err := runner(t, Options{Inventories: []string{local(t, "a", "b")}}).Run(t.Context(), p, nil)
	var failed *RunError
	if !errors.As(err, &failed) {
		t.Fatalf("error is %v, want a RunError", err)
	}
	if failed.Reason != "failed on b" || failed.Log != p.Log || err.Error() != "playbook test.yml: failed on b" {
		t.Errorf("%+v: %v", failed, err)
	}
	if len(failed.Failures) != 1 {
		t.Fatalf("failures: %+v", failed.Failures)
	}
	f := failed.Failures[0]
	if f.Host != "b" || f.Status != "failed" || f.Task == nil || f.Task.Name != "Break on b" || !strings.HasPrefix(f.Task.Path, p.Path+":") {
		t.Errorf("failure: %+v, task %+v", f, f.Task)
	}
	if f.Evidence == nil || f.Evidence.RC == nil || fmt.Sprint(f.Evidence.RC) != "3" || !strings.Contains(f.Evidence.Stdout+f.Evidence.Stderr, "because") {
		t.Errorf("evidence: %+v", f.Evidence)
	}
}

func TestBrokenPlaybook(t *testing.T) {
	t.Parallel()
	p := book(t, "    - no.such.module: {}\n")
	o, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil)
	var failed *RunError
	if !errors.As(err, &failed) || o.ExitCode == 0 || o.Stats != nil {
		t.Errorf("error is %v, outcome %+v", err, o)
	}
}

func TestUnreachableHost(t *testing.T) {
	t.Parallel()
	inv := file(t, "hosts.ini", "a ansible_connection=local\nb ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args='-o ConnectTimeout=5'\n")
	o, err := runner(t, Options{Inventories: []string{inv}}).Run(t.Context(), book(t, "    - ansible.builtin.raw: 'true'\n"), nil)
	var failed *RunError
	if !errors.As(err, &failed) || !slices.Equal(failed.Unreachable, []string{"b"}) || failed.Reason != "could not reach b" {
		t.Errorf("error is %v: %+v", err, failed)
	}
	if o.Stats["a"].OK != 1 || len(o.Failures) != 1 || o.Failures[0].Status != "unreachable" || o.Failures[0].Evidence == nil {
		t.Errorf("outcome: %+v", o)
	}
}

// A token under no_log is nowhere: not in an event, not in the outcome. Output of successful tasks
// is left out too, since it may hold one.
func TestNoLogLeaksNothing(t *testing.T) {
	t.Parallel()
	const token = "s3cr3t.canary"
	p := book(t, `
    - name: Make a token
      ansible.builtin.raw: "printf %s%s s3cr3t .canary"
      register: made
      no_log: true
      tags: [kscert_payload]
    - name: Use it, and fail
      ansible.builtin.raw: "echo {{ made.stdout }}; exit 1"
      no_log: true
      ignore_errors: true
    - name: In a loop
      ansible.builtin.raw: "echo {{ item }}; exit 1"
      loop: ["{{ made.stdout }}"]
      no_log: true
      ignore_errors: true
    - name: Print it where it is not forbidden
      ansible.builtin.raw: "printf %s%s s3cr3t .canary"
`)
	o, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := os.ReadFile(p.Events)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Payloads) > 0 || bytes.Contains(events, []byte(token)) || strings.Contains(fmt.Sprintf("%+v", o), token) {
		t.Errorf("the token is in\n%s\n%+v", events, o)
	}
	if got := bytes.Count(events, []byte(`"censored"`)); got < 3 {
		t.Errorf("%d results are censored, want those of three tasks:\n%s", got, events)
	}
}

// A payload of 1 MiB passes whole.
func TestHugePayload(t *testing.T) {
	t.Parallel()
	p := book(t, `
    - ansible.builtin.raw: "head -c 1048576 /dev/zero | tr '\\0' x; echo; echo end"
      tags: [kscert_payload]
`)
	o, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.TrimRight(strings.ReplaceAll(o.Payloads["a"], "\r", ""), "\n")
	if want := strings.Repeat("x", 1<<20) + "\nend"; got != want {
		t.Errorf("the payload has %d bytes, want %d", len(got), len(want))
	}
}

// 100 MB from one host are cut off and their size is reported; the other hosts' answers are
// complete, and no more than one event is held in memory.
func TestOversizePayload(t *testing.T) {
	t.Parallel()
	const size = 100_000_000
	p := book(t, fmt.Sprintf(`
    - ansible.builtin.raw: "{{ 'head -c %d /dev/zero' if inventory_hostname == 'b' else 'printf ours' }}"
      tags: [kscert_payload]
`, size))
	o, err := runner(t, Options{Inventories: []string{local(t, "a", "b", "c")}}).Run(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"a": "ours", "c": "ours"}; !maps.Equal(o.Payloads, want) {
		t.Errorf("payloads are %v, want %v", o.Payloads, want)
	}
	if want := map[string]int{"b": size}; !maps.Equal(o.Oversize, want) {
		t.Errorf("oversize are %v, want %v", o.Oversize, want)
	}
	if info, err := os.Stat(p.Events); err != nil || info.Size() > 1<<20 {
		t.Errorf("the event file: %v, %v", info, err)
	}
}

// A short text may be long as JSON: the limit is for the event.
func TestOversizeEvent(t *testing.T) {
	t.Parallel()
	p := book(t, `
    - ansible.builtin.raw: "head -c 1048576 /dev/zero"
      tags: [kscert_payload]
`)
	o, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil)
	if err != nil || o.Oversize["a"] != 1<<20 || len(o.Payloads) > 0 { // a NUL is six bytes of JSON
		t.Errorf("oversize are %v, %d payloads: %v", o.Oversize, len(o.Payloads), err)
	}
}

// A failed result is printed with everything that the node has reported; the log keeps the
// beginning of it.
func TestOversizeFailure(t *testing.T) {
	t.Parallel()
	const size = 10_000_000
	p := book(t, fmt.Sprintf("    - ansible.builtin.raw: \"yes x | head -c %d; exit 3\"\n", size))
	o, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil)
	var failed *RunError
	if !errors.As(err, &failed) || len(o.Failures) != 1 || len(o.Failures[0].Evidence.Stdout) > 10_000 {
		t.Errorf("error is %v, %d failures", err, len(o.Failures))
	}
	log, err := os.ReadFile(p.Log)
	if err != nil || len(log) > 3*maxLine || !strings.Contains(string(log), "bytes cut ...]") || !strings.Contains(string(log), "PLAY RECAP") {
		t.Errorf("the log has %d bytes (%v), want its beginning and its end", len(log), err)
	}
}

// A foreign event may be of any length: it is reported, the rest counts.
func TestForeignEvent(t *testing.T) {
	t.Parallel()
	p := book(t, fmt.Sprintf(`
    - ansible.builtin.raw: "head -c %d /dev/zero >> {{ lookup('env', 'KSCERT_EVENTS') }}; echo >> {{ lookup('env', 'KSCERT_EVENTS') }}"
    - ansible.builtin.raw: printf ours
      tags: [kscert_payload]
`, 2*maxEvent))
	o, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil)
	var failed *RunError
	if !errors.As(err, &failed) || failed.Reason != fmt.Sprintf("an event of %d bytes was too long to read", 2*maxEvent+1) {
		t.Errorf("error is %v", err)
	}
	if o.Stats["a"].OK != 2 || o.Payloads["a"] != "ours" {
		t.Errorf("outcome: %+v", o)
	}
}

// If Ansible's own limits do not work, it is stopped from outside; while it reports, it is not.
func TestSilence(t *testing.T) {
	t.Parallel()
	p := book(t, `
    - ansible.builtin.raw: "sleep {{ item }}"
      loop: [1, 1, 1]
    - ansible.builtin.raw: "sleep 1"
    - ansible.builtin.raw: "exec sleep 300"
      when: hangs | default(false)
`)
	p.Silence = 10 * time.Second
	r := runner(t, Options{Inventories: []string{local(t, "a")}})
	if _, err := r.Run(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	p.Vars, p.Events = map[string]any{"hangs": true}, p.Events+"2"
	start := time.Now()
	if _, err := r.Run(t.Context(), p, nil); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), "reported nothing for 10s") || time.Since(start) > time.Minute {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

// Another strategy in a checkout's configuration, such as Mitogen's, is not used for our playbooks.
func TestStrategyOfOthers(t *testing.T) {
	t.Parallel()
	p := book(t, "    - ansible.builtin.raw: \"true\"\n")
	for name, text := range map[string]string{
		"ansible.cfg": "[defaults]\nstrategy = hanging\nstrategy_plugins = ./strategies\n",
		"strategies/hanging.py": "import time\nfrom ansible.plugins.strategy import StrategyBase\nDOCUMENTATION = 'name: hanging\\nshort_description: hangs\\n'\n" +
			"class StrategyModule(StrategyBase):\n    def run(self, iterator, play_context):\n        time.sleep(300)\n",
	} {
		path := filepath.Join(p.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p.Silence = 20 * time.Second
	r := runner(t, Options{Inventories: []string{local(t, "a")}})
	if o, err := r.Run(t.Context(), p, nil); err != nil || o.Stats["a"].OK != 1 {
		t.Errorf("%v: %+v", err, o)
	}
	p.Isolated, p.Silence, p.Events = false, 5*time.Second, p.Events+"2" // it does hang
	if _, err := r.Run(t.Context(), p, nil); !errors.Is(err, ErrSilent) {
		t.Error(err)
	}
}

// Cancelling stops Ansible and everything it started.
func TestCancel(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pids")
	p := book(t, fmt.Sprintf(`
    - ansible.builtin.raw: "echo $$ > %[1]s.tmp; sh -c 'echo $$ >> %[1]s.tmp; mv %[1]s.tmp %[1]s; sleep 60; true' & wait"
`, pidFile))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	r := runner(t, Options{Inventories: []string{local(t, "a")}})
	go func() { _, err := r.Run(ctx, p, nil); ended <- err }()

	var pids []int
	for deadline := time.Now().Add(30 * time.Second); len(pids) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the task never began")
		}
		data, _ := os.ReadFile(pidFile)
		pids = nil
		for f := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	start := time.Now()
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("Run did not come back")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s to end", d)
	}
	for _, pid := range pids {
		gone := false
		for deadline := time.Now().Add(2 * time.Second); !gone && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			gone = !alive(pid)
		}
		if !gone {
			t.Errorf("process %d of the task outlived the cancellation", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// alive is false for a zombie too: there may be no one to reap it.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// A context that is done before anything began starts nothing that continues.
func TestCancelledBefore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	mark := filepath.Join(t.TempDir(), "mark")
	p := book(t, "    - ansible.builtin.raw: touch "+mark+"\n")
	if _, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(ctx, p, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the task was carried out")
	}
}

// --- what is handed to ansible-playbook -----------------------------------------

func script(tb testing.TB, dir, name, text string) {
	tb.Helper()
	if err := testcommand.Write(filepath.Join(dir, name), "#!/bin/sh\n"+text); err != nil {
		tb.Fatal(err)
	}
}

// Text of a node in Ansible's output contains nothing that a terminal would interpret: neither at
// once nor when the log is read.
func TestOutputIsPrintable(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	script(t, bin, "ansible-playbook", `printf 'a\033]0;title\007b\r\n\302\2331mc\342\200\256d\n'; printf 'e\rf\n' >&2; echo "$ANSIBLE_FORCE_COLOR"`)
	r, err := New(Options{Inventories: []string{local(t, "a")}, BinDir: bin})
	if err != nil {
		t.Fatal(err)
	}
	p := book(t, "[]")
	var out bytes.Buffer
	p.Output = &out
	_, _ = r.Run(t.Context(), p, nil) // there are no statistics
	log, err := os.ReadFile(p.Log)
	if err != nil || string(log) != out.String() {
		t.Errorf("%v: the log has %q, the screen %q", err, log, out.String())
	}
	for _, want := range []string{"a\ufffd]0;title\ufffdb\r\n", "\ufffd1mc\ufffdd\n", "e f\n", "False\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	script(t, bin, "ansible-playbook",
		`{ for a; do printf '%s\n' "$a"; done; env | grep -E '^(ANSIBLE|KSCERT)_' | sort; } >"$KSCERT_EVENTS.called"`)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	a, b := local(t, "a"), local(t, "b")
	r, err := New(Options{
		Inventories: []string{a, b, "x,y"}, BinDir: bin, User: "root", PrivateKey: "/k", Forks: 7, Become: true,
		ExtraVars: []string{"one=1", "@f.yml"}, VaultIDs: []string{"v@p"}, VaultPasswordFiles: []string{"pw"}, Verbosity: 2,
		BecomeMethod: "su", BecomeUser: "toor", Connection: "paramiko", Timeout: 30, BecomePasswordFile: a, ConnectionPasswordFile: b,
		SSHCommonArgs: "-o ProxyJump=j", SSHExtraArgs: "-C", SFTPExtraArgs: "-l 1", SCPExtraArgs: "-l 2", Args: []string{"--force-handlers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := book(t, "")
	p.Args, p.Vars = []string{"--diff"}, map[string]any{"kscert_hosts": "a,b"}
	if _, err := r.Run(t.Context(), p, nil); err == nil {
		t.Error("a run without events is a success")
	}
	called, err := os.ReadFile(p.Events + ".called") // what it prints is masked
	if err != nil {
		t.Fatal(err)
	}
	out := string(called)
	lines := strings.Split(out, "\n")
	for _, want := range []string{
		"--inventory=" + a, "--inventory=" + b, "--inventory=x,y", "--vault-id=v@" + here + "/p", "--vault-password-file=" + here + "/pw",
		"--extra-vars=one=1", "--extra-vars=@" + here + "/f.yml", "-vv", p.Path, "--diff",
		"--become-password-file=" + a, "--connection-password-file=" + b, "--timeout=30", "--force-handlers",
		"--ssh-common-args=-o ProxyJump=j", "--ssh-extra-args=-C", "--sftp-extra-args=-l 1", "--scp-extra-args=-l 2",
		"KSCERT_EVENTS=" + p.Events, "ANSIBLE_CALLBACKS_ENABLED=kscert_events", "ANSIBLE_RETRY_FILES_ENABLED=False",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not among\n%s", want, out)
		}
	}
	for _, want := range []string{`kscert_hosts`, "--become", "--forks", "7", "--user", "--private-key", "--become-method", "su", "--become-user", "toor", "--connection", "paramiko"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	// Of two values of a variable the last one counts: ours.
	users, ours := strings.Index(out, "--extra-vars=one=1"), strings.Index(out, "kscert_hosts")
	if users > ours {
		t.Errorf("the user's variables come after ours:\n%s", out)
	}
}

// Variables that no command line takes are in a file for as long as the playbook runs.
func TestLongVariables(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	script(t, bin, "ansible-playbook", `for a; do case $a in --extra-vars=@*) cp "${a#*@}" "$KSCERT_EVENTS.called" && printf %s "${a#*@}" >"$KSCERT_EVENTS.name" ;; esac; done`)
	r, err := New(Options{Inventories: []string{"a,"}, BinDir: bin})
	if err != nil {
		t.Fatal(err)
	}
	p := book(t, "")
	p.Vars = map[string]any{"long": strings.Repeat("a", 200000)}
	if _, err := r.Run(t.Context(), p, nil); err == nil {
		t.Error("a run without events is a success")
	}
	called, err := os.ReadFile(p.Events + ".called")
	if want, _ := json.Marshal(p.Vars); err != nil || !bytes.Equal(called, want) {
		t.Fatalf("%v: it gets %d bytes", err, len(called))
	}
	name, err := os.ReadFile(p.Events + ".name")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(name)); !errors.Is(err, os.ErrNotExist) || !filepath.IsAbs(string(name)) {
		t.Errorf("%s: %v", name, err)
	}
}

// Kubespray's own playbooks keep the user's configuration.
func TestEnvironmentOfOthersPlaybooks(t *testing.T) {
	t.Parallel()
	for _, isolated := range []bool{false, true} {
		env := (&Runner{}).env(Playbook{Isolated: isolated, Events: "e", CallbackDir: "/c"})
		for _, name := range []string{"ANSIBLE_CALLBACKS_ENABLED", "ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_CACHE_PLUGIN", "ANSIBLE_STRATEGY"} {
			if _, set := env[name]; set != isolated {
				t.Errorf("isolated %t: %s is set: %t", isolated, name, set)
			}
		}
		if env["KSCERT_EVENTS"] != "e" || !strings.HasPrefix(env["ANSIBLE_CALLBACK_PLUGINS"], "/c:") {
			t.Errorf("isolated %t: %v", isolated, env)
		}
	}
}

// --- versions -------------------------------------------------------------------

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, says string
		want       string
		tooOld     bool
		unusable   bool
	}{
		{name: "before ansible-core", says: "echo 'ansible-playbook 2.9.6'", want: "2.9.6", tooOld: true},
		{name: "ansible-core 2.10", says: "echo 'ansible-playbook 2.10.8'", want: "2.10.8", tooOld: true},
		{name: "the oldest", says: "echo 'ansible-playbook [core 2.11.0]'", want: "2.11.0"},
		{name: "Debian's", says: "echo 'ansible-playbook [core 2.14.18]'; echo '  config file = None'", want: "2.14.18"},
		{name: "2.19", says: "echo 'ansible-playbook [core 2.19.0]'", want: "2.19.0"},
		{name: "a pre-release", says: "echo 'ansible-playbook [core 2.20.0rc1]'", want: "2.20.0rc1"},
		{name: "version 3", says: "echo 'ansible-playbook [core 3.0.1]'", want: "3.0.1"},
		{name: "garbage", says: "echo hello", unusable: true},
		{name: "a failure", says: "echo 'ansible-playbook [core 2.14.18]'; echo broken >&2; exit 1", unusable: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			script(t, bin, "ansible-playbook", row.says+"\n")
			r, err := New(Options{Inventories: []string{"a,"}, BinDir: bin})
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Version(t.Context())
			var (
				old   *VersionError
				tools *NotInstalledError
			)
			if errors.As(err, &old) != row.tooOld || errors.As(err, &tools) != row.unusable || (err != nil) != (row.tooOld || row.unusable) || got != row.want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestVersionWithoutAnsible(t *testing.T) {
	t.Parallel()
	r, err := New(Options{Inventories: []string{"a,"}, BinDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var tools *NotInstalledError
	if _, err := r.Version(t.Context()); !errors.As(err, &tools) || !strings.HasSuffix(tools.Command, "/ansible-playbook") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Version: %v", err)
	}
	if _, err := r.Inventory(t.Context()); !errors.As(err, &tools) {
		t.Errorf("Inventory: %v", err)
	}
	if _, err := r.Run(t.Context(), Playbook{}, nil); !errors.As(err, &tools) {
		t.Errorf("Run: %v", err)
	}
}

func TestVersionOfTheInstalledAnsible(t *testing.T) {
	t.Parallel()
	if v, err := runner(t, Options{Inventories: []string{"a,"}}).Version(t.Context()); err != nil || !strings.HasPrefix(v, "2.") {
		t.Errorf("%q, %v", v, err)
	}
}

// --- inventories ----------------------------------------------------------------

func TestInventoryErrors(t *testing.T) {
	t.Parallel()
	needAnsible(t)
	for _, row := range []struct {
		name string
		path string
		text string
	}{
		{"missing", "/nonexistent/hosts.ini", "it does not exist"},
		{"empty", file(t, "hosts.ini", ""), "the file is empty"},
		{"unparsable", file(t, "hosts.yml", "all: [\n"), ""},
		{"vaulted without a password", file(t, "hosts.yml", "$ANSIBLE_VAULT;1.1;AES256\n3132\n"), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r, err := New(Options{Inventories: []string{row.path}})
			if err == nil {
				var data []byte
				data, err = r.Inventory(t.Context())
				if err == nil {
					t.Fatalf("no error, but %s", data)
				}
			}
			var wrong *InventoryError
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), row.text) || !strings.Contains(err.Error(), row.path) || wrong.Detail == "" {
				t.Errorf("error is %v", err)
			}
		})
	}
	var wrong *InventoryError
	if _, err := New(Options{}); !errors.As(err, &wrong) || err.Error() != "inventory: no inventory was given" {
		t.Errorf("without any: %v", err)
	}
}

// Ansible renders expressions, with all that it knows about a host, and only in the requested
// variables. What needs facts stays as it is.
func TestRunTellsRenderedVariables(t *testing.T) {
	t.Parallel()
	inventory := file(t, "a.yml", `
kube_control_plane:
  hosts:
    cp1: {number: 1}
    cp2: {number: 2, access_ip: "{{ ansible_default_ipv4.address }}"}
  vars:
    ip: "10.0.0.{{ number }}"
    kube_override_hostname: "{% if number == 1 %}first{% else %}{{ inventory_hostname }}.{{ domain }}{% endif %}"
    domain: "{{ hostvars[groups['kube_control_plane'][0]].inventory_hostname }}.example.com"
    loadbalancer_apiserver: {address: "10.0.0.{{ groups['kube_control_plane'] | length }}", port: 8443}
    secret: canary
`)
	p := book(t, "    - ansible.builtin.raw: 'true'\n")
	p.Vars, p.Variables = map[string]any{"target": "!all"}, cluster.Variables
	var stated []byte
	_, _ = runner(t, Options{Inventories: []string{inventory}}).Run(t.Context(), p, func(e Event) { stated = append(stated, e.Inventory...) })
	got, err := cluster.Parse(stated)
	roles := []cluster.Role{cluster.ControlPlane}
	want := cluster.Cluster{Endpoint: "10.0.0.2:8443", Nodes: []cluster.Node{
		{Name: "cp1", Roles: roles, KubernetesName: "first", Address: "10.0.0.1", Port: 6443},
		{Name: "cp2", Roles: roles, KubernetesName: "cp2.cp1.example.com", Address: "10.0.0.2", Port: 6443},
	}}
	if err != nil || !reflect.DeepEqual(got, want) || bytes.Contains(stated, []byte("canary")) {
		t.Errorf("%v; got\n%+v, want\n%+v\n%s", err, got, want, stated)
	}
}

// A playbook reports the same inventory as ansible-inventory, with the requested variables alone,
// also for a host that no play names.
func TestRunTellsTheInventory(t *testing.T) {
	t.Parallel()
	for _, inventories := range [][]string{
		{"../../inventory-examples/ha"}, {"../../inventory-examples/external-etcd"}, {"../../inventory-examples/legacy-groups.ini"},
		{file(t, "a.ini", "[kube_control_plane]\ncp1 access_ip=10.0.0.1 secret=canary\n[all:vars]\nloadbalancer_apiserver={'address': '10.0.0.9', 'port': 443}\n"), file(t, "b.ini", "[kube_node]\nw1\n")},
	} {
		t.Run(filepath.Base(inventories[0]), func(t *testing.T) {
			t.Parallel()
			r := runner(t, Options{Inventories: inventories})
			want, err := r.Inventory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p := book(t, "    - ansible.builtin.raw: 'true'\n")
			p.Vars, p.Variables = map[string]any{"target": "absent"}, cluster.Variables
			var got []byte
			_, _ = r.Run(t.Context(), p, func(e Event) { got = append(got, e.Inventory...) })
			gotNodes, err := cluster.Parse(got)
			wantNodes, werr := cluster.Parse(want)
			if err != nil || werr != nil || !reflect.DeepEqual(gotNodes, wantNodes) || bytes.Contains(got, []byte("canary")) {
				t.Errorf("got\n%+v (%v)\nwant\n%+v (%v)\n%s", gotNodes, err, wantNodes, werr, got)
			}
		})
	}
}

// If it has to report the inventory, an inventory that cannot be parsed stops the run: Ansible
// would continue without it.
func TestRunTellsNoHalfInventory(t *testing.T) {
	t.Parallel()
	p := book(t, "    - ansible.builtin.raw: 'true'\n")
	p.Variables = cluster.Variables
	r := runner(t, Options{Inventories: []string{local(t, "a"), file(t, "b.yml", "all: [\n")}})
	o, err := r.Run(t.Context(), p, func(e Event) {
		if e.Inventory != nil {
			t.Errorf("stated: %s", e.Inventory)
		}
	})
	if err == nil || o.Stats != nil {
		t.Errorf("error is %v, outcome %+v", err, o)
	}
}

func TestTwoInventories(t *testing.T) {
	t.Parallel()
	a, b := file(t, "a.ini", "[kube_control_plane]\ncp1\n"), file(t, "b.ini", "[kube_node]\nw1\n")
	data, err := runner(t, Options{Inventories: []string{a, b}}).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Parse(data)
	if got := cluster.Names(c.Nodes); err != nil || !slices.Equal(got, []string{"cp1", "w1"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// Ansible wraps its lines, and repeats the error.
func TestAnsibleError(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ stated, want string }{
		{
			"[WARNING]:  * Failed to parse /a/very/long/path/of/an/inventory.yml with yaml plugin:\nSyntax Error while loading YAML.\n\nThe error appears\n[WARNING]: Unable to parse it\n",
			"[WARNING]:  * Failed to parse /a/very/long/path/of/an/inventory.yml with yaml plugin: Syntax Error while loading YAML.; [WARNING]: Unable to parse it",
		},
		{"ERROR! one\nERROR! two\nERROR! three\nERROR! four\n", "ERROR! one; ERROR! two; ERROR! three"},
		{"usage: ansible-inventory\n and more\n", "usage: ansible-inventory"},
	} {
		if got := ansibleError(row.stated); got != row.want {
			t.Errorf("of\n%s\nit is\n%s, want\n%s", row.stated, got, row.want)
		}
	}
}
