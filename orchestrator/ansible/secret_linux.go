package ansible

import (
	"os"

	"golang.org/x/sys/unix"
)

// secretFile is an open file in memory that holds a password. It has no name, and it is gone with
// the last process that has it open (memfd_create(2)).
func secretFile(password string) (*os.File, error) {
	fd, err := unix.MemfdCreate("password", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "password")
	// Ansible runs an executable password file, and every new one may be.
	err = f.Chmod(0o400)
	if err == nil {
		_, err = f.WriteString(password + "\n")
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
