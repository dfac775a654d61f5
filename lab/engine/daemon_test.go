package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The daemon must not inherit a lock of the process that starts it and may exit long before
// it.
func TestCloseOnExec(t *testing.T) {
	fd, err := syscall.Open(filepath.Join(t.TempDir(), "lock"), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	held := func() bool { return exec.Command("test", "-e", fmt.Sprintf("/proc/self/fd/%d", fd)).Run() == nil }
	if !held() {
		t.Fatal("a command of ours does not inherit the lock: this test cannot tell")
	}
	if err := closeOnExec(); err != nil {
		t.Fatal(err)
	}
	if held() {
		t.Error("the lock is inherited")
	}
}
