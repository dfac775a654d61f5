package playbooks_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// locker takes and releases the lock of a cluster, in a directory of the test.
type locker struct {
	t   *testing.T
	dir string
}

// do runs an action for a run and returns the state and the lock that it reports.
func (l locker) do(action, run string, vars ...string) (state, lock string) {
	l.t.Helper()
	out, err := l.try(action, run, vars...)
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", action, err, out)
	}
	first, rest, _ := strings.Cut(out, "\n")
	fields := strings.SplitN(first, " ", 4)
	if len(fields) != 4 || fields[0] != "@@LOCK" || rest != "@@END\n" {
		l.t.Fatalf("%s says %q", action, out)
	}
	return fields[1], fields[3]
}

func (l locker) try(action, run string, vars ...string) (string, error) {
	cmd := exec.Command("/bin/sh", "-c", role(l.t, "lock/files/lock.sh"))
	cmd.Env = append(os.Environ(),
		"KSCERT_STATE_DIR="+l.dir, "KSCERT_CONFIG_DIR=/nowhere", "KSCERT_LOCK_CLUSTER=0123456789abcdef", "KSCERT_LOCK_ACTION="+action,
		"KSCERT_LOCK_RUN="+run, "KSCERT_LOCK_REPLACE=", "KSCERT_LOCK_SEEN=", fmt.Sprintf(`KSCERT_LOCK_OWNER={"user":"\"run\":\"x\"","run":"%s"}`, run))
	cmd.Env = append(cmd.Env, vars...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// Each row acts on the lock that the previous rows left.
func TestLock(t *testing.T) {
	t.Parallel()
	l := locker{t, t.TempDir() + "/state"}
	for i, row := range []struct {
		action, run, replace string
		state, owner         string // owner: the run that the reported lock names
	}{
		{"show", "", "", "absent", ""},
		{"heartbeat", "a", "", "lost", ""},
		{"release", "a", "", "absent", ""},
		{"break", "", "", "absent", ""},
		{"acquire", "a", "", "acquired", "a"},
		{"acquire", "b", "", "held", "a"},
		{"acquire", "a", "", "held", "a"}, // a resuming run replaces its own lock
		{"show", "", "", "held", "a"},
		{"heartbeat", "a", "", "beaten", "a"},
		{"heartbeat", "b", "", "lost", "a"},
		{"release", "b", "", "held", "a"},
		{"break", "b", "", "held", "a"},
		{"acquire", "b", "c", "held", "a"},
		{"acquire", "b", "a", "acquired", "b"},
		{"heartbeat", "a", "", "lost", "b"},
		{"acquire", "b", "b", "acquired", "b"},
		{"release", "b", "", "released", "b"},
		{"show", "", "", "absent", ""},
		{"acquire", "c", "a", "acquired", "c"},
		{"break", "c", "", "broken", "c"},
		{"acquire", "d", "", "acquired", "d"},
		{"break", "", "", "broken", "d"},
	} {
		state, lock := l.do(row.action, row.run, "KSCERT_LOCK_REPLACE="+row.replace)
		named := row.owner == "" && lock == "-" || row.owner != "" && strings.HasSuffix(lock, `"run":"`+row.owner+`"}`)
		if state != row.state || !named {
			t.Errorf("row %d: %s %s: %s %s, want %s %q", i, row.action, row.run, state, lock, row.state, row.owner)
		}
	}
}

// Of two machines that saw the same dead owner, one gets the lock.
func TestLockReplacedOnce(t *testing.T) {
	t.Parallel()
	l := locker{t, t.TempDir()}
	owner := func(pid string) string { return `KSCERT_LOCK_OWNER={"host": "h", "pid": ` + pid + `, "run": "a"}` }
	_, line := l.do("acquire", "a", owner("1"))
	seen := fmt.Sprintf("KSCERT_LOCK_SEEN=%x", sha256.Sum256([]byte(line+"\n")))
	for _, row := range []struct{ pid, state string }{{"2", "acquired"}, {"3", "held"}} {
		if state, _ := l.do("acquire", "a", owner(row.pid), "KSCERT_LOCK_REPLACE=a", seen); state != row.state {
			t.Errorf("%s: %s, want %s", row.pid, state, row.state)
		}
	}
}

// Another machine may have resumed a run, and has its lock then: what distinguishes them is the owner
// that kscertctl writes.
func TestLockOfAnotherMachine(t *testing.T) {
	t.Parallel()
	l := locker{t, t.TempDir()}
	owner := func(pid string) string { return `KSCERT_LOCK_OWNER={"host": "h", "pid": ` + pid + `, "run": "a"}` }
	l.do("acquire", "a", owner("1"))
	for i, row := range []struct{ action, pid, replace, state string }{
		{"heartbeat", "1", "", "beaten"},
		{"acquire", "2", "a", "acquired"},
		{"heartbeat", "1", "", "lost"},
		{"release", "1", "", "held"},
		{"heartbeat", "2", "", "beaten"},
		{"release", "2", "", "released"},
	} {
		if state, _ := l.do(row.action, "a", owner(row.pid), "KSCERT_LOCK_REPLACE="+row.replace); state != row.state {
			t.Errorf("row %d: %s by %s: %s, want %s", i, row.action, row.pid, state, row.state)
		}
	}
}

// A node that is not given the lock's name derives it from the public key of its CA, like
// run.ClusterID; it stays when the CA is re-issued.
func TestLockByTheNode(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for name, file := range map[string]string{"Kubespray": "ssl/ca.crt", "kubeadm": "pki/ca.crt"} {
		l, conf := locker{t, t.TempDir()}, t.TempDir()
		l.do("acquire", "a", "KSCERT_LOCK_CLUSTER="+certs.Describe(ca.X509).PublicKey[:16])
		if err := os.MkdirAll(filepath.Join(conf, filepath.Dir(file)), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, held := range []struct {
			by    testpki.Pair
			state string
		}{{ca, "held"}, {testpki.Authority(t, "etcd").Again(t, ca), "held"}, {testpki.Authority(t, "kubernetes"), "absent"}} {
			if err := os.WriteFile(filepath.Join(conf, file), held.by.Certificate, 0o600); err != nil {
				t.Fatal(err)
			}
			if state, _ := l.do("show", "", "KSCERT_LOCK_CLUSTER=", "KSCERT_CONFIG_DIR="+conf); state != held.state {
				t.Errorf("%s: %s of %s: %s, want %s", name, file, held.by.X509.Subject, state, held.state)
			}
		}
	}
}

// Of many that try at the same moment one succeeds, and all others see its complete lock.
func TestLockAtTheSameMoment(t *testing.T) {
	t.Parallel()
	l := locker{t, t.TempDir()}
	const many = 12
	var (
		wg   sync.WaitGroup
		outs [many]string
	)
	for i := range many {
		wg.Go(func() { outs[i], _ = l.try("acquire", fmt.Sprintf("run-%d", i)) })
	}
	wg.Wait()
	_, lock := l.do("show", "")
	acquired := 0
	for _, out := range outs {
		if !strings.Contains(out, " "+lock+"\n@@END\n") {
			t.Errorf("one was reported %q, the lock is %q", out, lock)
		}
		if strings.HasPrefix(out, "@@LOCK acquired ") {
			acquired++
		}
	}
	if acquired != 1 {
		t.Errorf("%d acquired it", acquired)
	}
	if left, err := os.ReadDir(l.dir); err != nil || len(left) != 2 { // the lock and its mutex
		t.Errorf("left are %v", left)
	}
}

// The age is that of the last heartbeat.
func TestLockAge(t *testing.T) {
	t.Parallel()
	l := locker{t, t.TempDir()}
	l.do("acquire", "a")
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(l.dir+"/lock-0123456789abcdef", then, then); err != nil {
		t.Fatal(err)
	}
	if out, err := l.try("show", ""); err != nil || !strings.HasPrefix(out, "@@LOCK held 360") {
		t.Errorf("an hour later it says %q (%v)", out, err)
	}
	l.do("heartbeat", "a")
	if out, err := l.try("show", ""); err != nil || strings.HasPrefix(out, "@@LOCK held 360") {
		t.Errorf("after a sign of life it says %q (%v)", out, err)
	}
}

func TestLockRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, action, run, vars, says string }{
		{"an action it does not know", "steal", "a", "X=", "use acquire, heartbeat, release, show or break"},
		{"to acquire for no one", "acquire", "", "X=", "acquire needs kscert_lock_run"},
		{"to release for no one", "release", "", "X=", "release needs kscert_lock_run"},
		{"a cluster it cannot name", "show", "", "KSCERT_LOCK_CLUSTER=", "name it with kscert_lock_cluster"},
		{"a name that is a path", "show", "", "KSCERT_LOCK_CLUSTER=../x", "name it with kscert_lock_cluster"},
		{"a place that cannot be written", "acquire", "a", "KSCERT_STATE_DIR=/proc/nowhere", "cannot make /proc/nowhere"},
	} {
		if out, err := (locker{t, t.TempDir()}).try(row.action, row.run, row.vars); err == nil || !strings.Contains(out, row.says) {
			t.Errorf("%s: %v, %q, want %q", row.name, err, out, row.says)
		}
	}
	full := locker{t, t.TempDir()}
	small(t, full.dir, 4)
	if err := os.WriteFile(full.dir+"/filler", bytes.Repeat([]byte("x"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := full.try("acquire", "a"); err == nil || strings.Contains(out, "acquired") {
		t.Errorf("on a full disk: %v, %q", err, out)
	}
}

// What may be changing a node is reported by its kind, never by its arguments.
func TestCollectorTellsWork(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	sleep, err := exec.LookPath("sleep")
	n.ok(err)
	n.ok(os.Symlink(sleep, n.bin+"/kubeadm"))
	start := func(path string, env ...string) int {
		cmd := exec.Command(path, "60")
		cmd.Env = env
		n.ok(cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	kubeadm := start(n.bin + "/kubeadm")
	task := start(sleep, "KSCERT_RUN=20260301T120000Z-abcd", "TOKEN=c4n4ry")
	idle := start(sleep, "KSCERT_ROLES=worker")
	// By its command line alone, before the script is unpacked: the shell of a task and of an
	// inspection.
	shell := func(before, call string) int {
		cmd := exec.Command("/bin/sh", "-c", "read -r x; "+before+filtered(t, "file", call, "true"))
		cmd.Env = []string{}
		stdin, err := cmd.StdinPipe()
		n.ok(err)
		n.ok(cmd.Start())
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	const becoming = "echo BECOME-SUCCESS-abcdefghijklmnop ; "
	packed := shell("", "kscert_command((sys.stdin.read(), '20260302T120000Z-abcd'))")
	looks := map[string]int{
		"a look":                   shell("", "look('', kscert.packed(sys.stdin.read()))"),
		"a look that becomes root": shell(becoming, "look('', kscert.packed(sys.stdin.read()))"),
		"a lock that becomes root": shell(becoming, "kscert_lock(sys.stdin.read())"),
	}
	// Someone else's Ansible, in the three ways in which it starts a task.
	others := func(name string, args ...string) int {
		n.write(n.bin+"/"+name, []byte("#!/bin/sh\nread -r x\n"), 0o700)
		cmd := exec.Command(n.bin+"/"+name, args...)
		cmd.Env = []string{}
		stdin, err := cmd.StdinPipe()
		n.ok(err)
		n.ok(cmd.Start())
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	module := others("AnsiballZ_command.py")
	become := others("become", "echo BECOME-SUCCESS-abcdefghijklmnop ; /usr/bin/python3")
	pipelined := others("pipelined", "/usr/bin/python3.11 && sleep 0")
	renewal := others("k8s-certs-renew.sh")
	// A kubeadm that only reads, such as the collector's own.
	n.ok(os.Remove(n.bin + "/kubeadm"))
	n.ok(os.Symlink("/bin/sh", n.bin+"/kubeadm"))
	looking := map[string]int{}
	for _, call := range []string{"version -o short", "config validate --config x", "certs check-expiration --config x"} {
		words := strings.Fields(call)
		n.write(n.bin+"/"+words[0], []byte("read -r x\n"), 0o600)
		cmd := exec.Command(n.bin+"/kubeadm", words...)
		cmd.Dir = n.bin
		stdin, err := cmd.StdinPipe()
		n.ok(err)
		n.ok(cmd.Start())
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		looking[call] = cmd.Process.Pid
	}
	out, errs, err := n.sh(collector(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	for pid, what := range map[int]string{kubeadm: "kubeadm", task: "a task of run 20260301T120000Z-abcd", packed: "a task of run 20260302T120000Z-abcd",
		module: "a task of Ansible", become: "a task of Ansible", pipelined: "a task of Ansible", renewal: "Kubespray's renewal of certificates"} {
		if _, reported, found := strings.Cut(out, fmt.Sprintf("\n@@WORK %d ", pid)); !found || !strings.Contains(strings.SplitN(reported, "\n", 2)[0], " "+what) {
			t.Errorf("%s, process %d, is not reported: %.80q", what, pid, reported)
		}
	}
	for call, pid := range looking {
		if strings.Contains(out, fmt.Sprintf("@@WORK %d ", pid)) {
			t.Errorf("a kubeadm that only looks is reported: %s", call)
		}
	}
	for what, pid := range looks {
		if strings.Contains(out, fmt.Sprintf("@@WORK %d ", pid)) {
			t.Errorf("%s is reported", what)
		}
	}
	if strings.Contains(out, fmt.Sprintf("@@WORK %d ", idle)) || strings.Contains(out, "c4n4ry") {
		t.Error("more is reported than what may change something")
	}
}
