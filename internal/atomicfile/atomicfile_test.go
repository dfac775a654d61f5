package atomicfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/atomicfile"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "x.prom")
	for _, text := range []string{"first, and longer", "second", ""} {
		if err := atomicfile.Write(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%q %v, want %q", got, err, text)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.FileMode(0o644) {
			t.Errorf("mode %v %v", info.Mode(), err)
		}
	}
	onlyOne(t, dir)
}

// A reader that has the old file open still reads the old content.
func TestWriteReplaces(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.prom")
	if err := atomicfile.Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if err := atomicfile.Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	var old [8]byte
	if n, err := reader.Read(old[:]); err != nil || string(old[:n]) != "old" {
		t.Errorf("%q %v", old[:n], err)
	}
}

func TestWriteFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"folder": "not a regular file", "missing/x": "no such file", "/dev/null": "not a regular file"} {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(dir, name)
		}
		if err := atomicfile.Write(path, []byte("x"), 0o600); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	onlyOne(t, dir)
}

// onlyOne fails the test if a temporary file is left.
func onlyOne(t *testing.T, dir string) {
	t.Helper()
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
}

// A file keeps its mode and owner, and a link keeps its target.
func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "x"), filepath.Join(dir, "link")
	if err := os.Symlink("x", link); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Replace(link, []byte("new")); err == nil {
		t.Error("a missing file was replaced")
	}
	if err := atomicfile.Write(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 4711, 4712); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Replace(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	was, _ := before.Sys().(*syscall.Stat_t)
	is, _ := after.Sys().(*syscall.Stat_t)
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" || after.Mode() != before.Mode() || is.Uid != was.Uid || is.Gid != was.Gid {
		t.Errorf("%v: %q %v %d:%d", err, got, after.Mode(), is.Uid, is.Gid)
	}
	if to, err := os.Readlink(link); err != nil || to != "x" {
		t.Errorf("%v: the link's target is %q", err, to)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".kscertctl-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
