// Package kubespray is a stand-in for a Kubespray checkout, for the lab.
package kubespray

import (
	"embed"
	"errors"
	"io/fs"
	"os"
)

//go:embed all:checkout
var checkout embed.FS

// Write lays the checkout into dir, which must not exist.
func Write(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "write", Path: dir, Err: fs.ErrExist}
	}
	tree, err := fs.Sub(checkout, "checkout")
	if err != nil {
		return err
	}
	return os.CopyFS(dir, tree)
}
