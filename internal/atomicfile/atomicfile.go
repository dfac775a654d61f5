// Package atomicfile writes files atomically: a reader sees the old or the new content.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write replaces a file with data and the given permissions: it writes a temporary file next
// to it, syncs and renames it. If Write fails, the old content stays. Only a regular file is
// ever replaced, so that a device or directory of that name is safe.
func Write(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, func(f *os.File) error { return f.Chmod(perm) })
}

// Replace writes data to an existing file in the same way, and keeps its mode and owner. It
// replaces the target of a symbolic link, not the link.
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

// write calls dress to set mode and owner of the new file.
func write(path string, data []byte, dress func(*os.File) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("writing %s: it is not a regular file", path)
	}
	// Its name ends in .tmp: node_exporter reads every *.prom of its directory.
	f, err := os.CreateTemp(filepath.Dir(path), ".kscertctl-*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // no such file after the rename
	err = dress(f)                             // before it has content
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
