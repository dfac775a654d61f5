package ansible

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An ssh client that Ansible leaves behind when it gives a task up is stopped with it, and no other
// process.
func TestAbandonedClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"ssh", "other"} {
		script(t, dir, name, "while sleep 1; do :; done")
	}
	p := book(t, fmt.Sprintf(`
    - ansible.builtin.raw: "for name in ssh other; do %[1]s/$name </dev/null >/dev/null 2>&1 & echo $! >%[1]s/$name.pid; done"
    - ansible.builtin.raw: "setsid %[1]s/ssh </dev/null >/dev/null 2>&1 & p=$!; echo $p >%[1]s/session.pid; until [ $(cut -d' ' -f6 /proc/$p/stat) = $p ]; do sleep 0.1; done; exit 1"
`, dir))
	if _, err := runner(t, Options{Inventories: []string{local(t, "a")}}).Run(t.Context(), p, nil); err == nil {
		t.Fatal("the task that failed is a success")
	}
	for name, want := range map[string]bool{"ssh": false, "other": true, "session": true} {
		pid := number(t, filepath.Join(dir, name+".pid"))
		got := alive(pid)
		for deadline := time.Now().Add(5 * time.Second); got && !want && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			got = alive(pid)
		}
		if got != want {
			t.Errorf("%s lives: %t, want %t", name, got, want)
		}
		if got {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func number(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
