// Package atomicfile writes files that a reader finds whole or not at all.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write puts data into the file with the given permissions: into a file beside
// it, to the disk, and then under its name. What was there stays until then, and
// stays for good when Write fails. Only a regular file is ever replaced, so that
// a device or a folder of that name is safe.
func Write(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, func(f *os.File) error { return f.Chmod(perm) })
}

// Replace puts data into a file that exists, likewise, and keeps its mode and owner. Of
// a symbolic link, the file that it leads to is replaced.
func Replace(path string, data []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return write(path, data, func(f *os.File) error {
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
				return fmt.Errorf("keeping its owner: %w", err)
			}
		}
		return f.Chmod(info.Mode().Perm())
	})
}

// write: dress gives the new file its mode and owner.
func write(path string, data []byte, dress func(*os.File) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("writing %s: it is not a regular file", path)
	}
	// Its name ends in .tmp: node_exporter reads every *.prom of its folder.
	f, err := os.CreateTemp(filepath.Dir(path), ".kscertctl-*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	err = dress(f)                             // before there is anything in it
	if err == nil {
		_, err = f.Write(data)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
