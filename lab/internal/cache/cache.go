// Package cache caches what the lab builds slowly: binaries, root file systems, images.
// Everything in it can be deleted at any time.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// EnvDir is the environment variable for another cache directory.
const EnvDir = "KSCERTCTL_LAB_CACHE"

// Dir is the lab's cache directory: $KSCERTCTL_LAB_CACHE, or kscertctl-lab in the user's cache
// directory.
func Dir() (string, error) {
	if d := os.Getenv(EnvDir); d != "" {
		return filepath.Abs(d)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory (set %s): %w", EnvDir, err)
	}
	return filepath.Join(base, "kscertctl-lab"), nil
}

// Digest returns a short hash of the contents, for cache keys.
func Digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d\n", len(p))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Make returns the directory at path, and calls build to fill it if it does not exist. Builds
// of the same path exclude each other across processes. A killed build leaves nothing at path:
// Make builds in a temporary directory and renames it.
func Make(ctx context.Context, path string, build func(dir string) error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	unlock, err := Lock(ctx, path+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil // another process built it in the meantime
	}
	next := path + ".tmp"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.Mkdir(next, 0o755); err != nil {
		return err
	}
	if err := build(next); err != nil {
		return errors.Join(err, os.RemoveAll(next))
	}
	return os.Rename(next, path)
}

// Lock takes an exclusive lock on a file, and waits for it until ctx is done. The kernel
// releases it when the process exits.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another process to release %s: %w", path, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
