// Package testcommand writes programs that tests run.
package testcommand

import (
	"os"
	"syscall"
)

// Write writes an executable file. It blocks fork meanwhile: a child that inherits the open
// file makes the first exec fail with ETXTBSY (syscall.ForkLock).
func Write(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o700) //nolint:gosec // a program
}
