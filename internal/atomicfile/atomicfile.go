// Package atomicfile writes files that a reader finds whole or not at all.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data into the file with the given permissions: into a file beside
// it, to the disk, and then under its name. What was there stays until then, and
// stays for good when Write fails. Only a regular file is ever replaced, so that
// a device or a folder of that name is safe.
func Write(path string, data []byte, perm fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("writing %s: it is no regular file", path)
	}
	// Its name ends in .tmp: node_exporter reads every *.prom of its folder.
	f, err := os.CreateTemp(filepath.Dir(path), ".kscertctl-*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
