package run

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// errLocked means that another process holds the lock of a file.
var errLocked = errors.New("the file is locked")

// lockPause is the time between two tries.
const lockPause = 20 * time.Millisecond

// lockFile opens a file, creating it if necessary, and takes its lock of flock(2), trying for that
// long. The error is errLocked while another process holds it.
//
// Libraries for file locks keep the descriptor to themselves; here Ansible inherits it, so that the
// lock is held until the last process that has it has exited, also if kscertctl was killed.
func lockFile(path string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		case time.Now().After(deadline):
			return nil, errors.Join(errLocked, f.Close())
		}
	}
}

// fileLocked reports whether a process holds the lock of a file.
func fileLocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it releases the lock, too
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
