package config_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/config"
)

// home makes a home directory, and changes to the directory work in it.
func home(t *testing.T) (getenv func(string) string) {
	t.Helper()
	dir := t.TempDir()
	variables := map[string]string{"HOME": dir}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o750); err != nil {
		t.Fatal(err)
	}
	t.Chdir(work)
	return func(name string) string { return variables[name] }
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The named file takes precedence over the variable, then the working directory, then the
// home; one file is read.
func TestFind(t *testing.T) {
	getenv := home(t)
	variable := ""
	env := func(name string) string {
		if name == config.FileVariable {
			return variable
		}
		return getenv(name)
	}
	find := func(named, want string) {
		t.Helper()
		if name, text, err := config.Find(t.Context(), named, env); err != nil || name != want || string(text) != want {
			t.Errorf("%q with %q, %v; want %q", name, text, err, want)
		}
	}
	find("", "")
	mine := filepath.Join(env("HOME"), ".config/kscertctl/kscertctl.yaml")
	put(t, mine, mine)
	find("", mine)
	put(t, "kscertctl.yaml", "kscertctl.yaml")
	find("", "kscertctl.yaml")
	put(t, "variable.yaml", "variable.yaml")
	variable = "variable.yaml"
	find("", "variable.yaml")
	put(t, "named.yaml", "named.yaml")
	find("named.yaml", "named.yaml")
}

func TestFindInXDG(t *testing.T) {
	home(t)
	dir := t.TempDir()
	want := filepath.Join(dir, "kscertctl/kscertctl.yaml")
	put(t, want, "")
	for dir, want := range map[string]string{dir: want, "relative": ""} {
		getenv := func(name string) string { return map[string]string{"XDG_CONFIG_HOME": dir}[name] }
		if name, _, err := config.Find(t.Context(), "", getenv); err != nil || name != want {
			t.Errorf("XDG_CONFIG_HOME=%s: %q %v, want %q", dir, name, err, want)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	for _, row := range []struct {
		name  string
		given func(*testing.T)
		named string
		want  string
	}{
		{"writable by everyone", func(t *testing.T) {
			t.Helper()
			put(t, "kscertctl.yaml", "")
			chmod(t, "kscertctl.yaml", 0o666)
		}, "", "kscertctl.yaml: others can write to it, and it can name commands that kscertctl runs"},
		{"writable by everyone, and named", func(t *testing.T) {
			t.Helper()
			put(t, "named.yaml", "")
			chmod(t, "named.yaml", 0o602)
		}, "named.yaml", "named.yaml: others can write to it, and it can name commands that kscertctl runs"},
		{"replaceable by everyone, and named", func(t *testing.T) {
			t.Helper()
			put(t, "named.yaml", "")
			chmod(t, ".", 0o777)
		}, "named.yaml", "named.yaml: everyone can write to its directory, and it can name commands that kscertctl runs"},
		{"replaceable by everyone", func(t *testing.T) {
			t.Helper()
			put(t, "kscertctl.yaml", "")
			chmod(t, ".", 0o777)
		}, "", "kscertctl.yaml: everyone can write to its directory, and it can name commands that kscertctl runs"},
		{"in a sticky directory", func(t *testing.T) {
			t.Helper()
			put(t, "kscertctl.yaml", "")
			chmod(t, ".", 0o777|os.ModeSticky)
		}, "", "kscertctl.yaml: everyone can write to its directory, and it can name commands that kscertctl runs"},
		{"another ending", func(t *testing.T) { t.Helper(); put(t, "kscertctl.yml", "") }, "", "kscertctl.yml: looked for as kscertctl.yaml"},
		{"missing", func(*testing.T) {}, "gone.yaml", "gone.yaml: no such file or directory"},
		{"a directory", func(*testing.T) {}, ".", ".: is a directory"},
		{"endless", func(*testing.T) {}, "/dev/zero", "/dev/zero: it is larger than 1048576 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			getenv := home(t)
			row.given(t)
			_, _, err := config.Find(t.Context(), row.named, getenv)
			file, ok := err.(*config.FileError) //nolint:errorlint // the documentation promises this type, unwrapped
			if !ok || err.Error() != row.want || file.Next == "" {
				t.Errorf("%v, want %q and what to do", err, row.want)
			}
		})
	}
}

// In a directory where only the owner can replace a file, its path is safe; a pipe or device
// has no mode to check.
func TestFindTakesWhatIsNamed(t *testing.T) {
	getenv := home(t)
	put(t, "kscertctl.yaml", "forks: 1\n")
	chmod(t, ".", 0o777|os.ModeSticky)
	if name, _, err := config.Find(t.Context(), "kscertctl.yaml", getenv); err != nil || name != "kscertctl.yaml" {
		t.Errorf("%q %v", name, err)
	}
	if name, text, err := config.Find(t.Context(), "/dev/null", getenv); err != nil || name != "/dev/null" || len(text) > 0 {
		t.Errorf("%q %q %v", name, text, err)
	}
}

// A pipe without a writer does not keep a command that is interrupted.
func TestReadIsInterrupted(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := config.Read(ctx, pipe, "-f", os.Getenv)
	file, ok := errors.AsType[*config.FileError](err)
	if !ok || !errors.Is(err, context.Canceled) || file.Next != "name a readable file: -f FILE" {
		t.Errorf("%v", err)
	}
}

// A daemon's home may not exist.
func TestFindWithoutHome(t *testing.T) {
	home(t)
	for _, dir := range []string{"", "/dev/null", "/nonexistent"} {
		if name, _, err := config.Find(t.Context(), "", func(name string) string { return map[string]string{"HOME": dir}[name] }); err != nil || name != "" {
			t.Errorf("HOME=%s: %q %v", dir, name, err)
		}
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
