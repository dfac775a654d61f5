package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/infrapuzzle/kscertctl/internal/cli"
)

// newYear2026 as SOURCE_DATE_EPOCH.
const newYear2026 = "1767225600"

func TestManPages(t *testing.T) {
	t.Parallel()
	pages := generate(t, "man")
	for _, cmd := range visible(cli.Command()) {
		name := pageName(cmd)
		page, ok := pages[name]
		if !ok {
			t.Errorf("page %s is missing, found %q", name, slices.Sorted(maps.Keys(pages)))
			continue
		}
		delete(pages, name)
		if title := `"1" "2026-01-01" "kscertctl" "User Commands"`; !strings.Contains(page, title) {
			t.Errorf("the title of %s does not contain %s", name, title)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			// roff needs an escape for a literal hyphen.
			if want := strings.ReplaceAll("--"+f.Name, "-", `\-`); !f.Hidden && !strings.Contains(page, want) {
				t.Errorf("%s does not name %s", name, want)
			}
		})
	}
	if len(pages) > 0 {
		t.Errorf("pages without a command: %q", slices.Sorted(maps.Keys(pages)))
	}
}

func TestManPagesAreWellFormed(t *testing.T) {
	t.Parallel()
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("mandoc is not installed; check:release installs it")
	}
	dir := t.TempDir()
	if err := run([]string{dir}, newYear2026, "c0ffee", ""); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "man", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mandoc, append([]string{"-T", "lint", "-W", "warning"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

func TestCompletions(t *testing.T) {
	t.Parallel()
	files := generate(t, "completions")
	for name, words := range map[string]string{
		"kscertctl.bash": "complete -o default -F __start_kscertctl kscertctl",
		"kscertctl.fish": "complete -c kscertctl ",
		"_kscertctl":     "#compdef kscertctl\n",
	} {
		if !strings.Contains(files[name], words) {
			t.Errorf("%s has no %q", name, words)
		}
		delete(files, name)
	}
	if len(files) > 0 {
		t.Errorf("unexpected: %q", slices.Sorted(maps.Keys(files)))
	}
}

// The same source produces the same bytes, and removes what an older one wrote.
func TestAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var made [2]map[string]string
	for i := range made {
		if err := run([]string{dir}, newYear2026, "c0ffee", ""); err != nil {
			t.Fatal(err)
		}
		made[i] = files(t, dir)
		if err := os.WriteFile(filepath.Join(dir, "man", fmt.Sprintf("kscertctl-gone-%d.1", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(made[0], made[1]) {
		t.Errorf("first %q, then %q, or other contents", slices.Sorted(maps.Keys(made[0])), slices.Sorted(maps.Keys(made[1])))
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, epoch string
		args        []string
		want        string
	}{
		{"no directory", newYear2026, nil, "want one directory to write to, got []"},
		{"no date", "", []string{t.TempDir()}, "SOURCE_DATE_EPOCH must hold the date of the man pages in seconds"},
	} {
		if err := run(row.args, row.epoch, "", ""); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
	}
}

func generate(t *testing.T, kind string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := run([]string{dir}, newYear2026, "c0ffee", ""); err != nil {
		t.Fatal(err)
	}
	return files(t, filepath.Join(dir, kind))
}

// files returns the contents of all files in a directory, by relative path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
