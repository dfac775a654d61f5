// Package testcommand writes programs that a test then starts.
package testcommand

import (
	"os"
	"syscall"
)

// Write writes a program with that text, for its owner alone. Nothing of this process is
// started meanwhile: a child begun while the file is open holds it open for writing too,
// and whoever starts the program then is told that it is busy (ETXTBSY; syscall.ForkLock).
func Write(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o700) //nolint:gosec // a program
}
