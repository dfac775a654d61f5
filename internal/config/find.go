package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// FileName is what a file of settings is called where it is looked for.
const FileName = "kscertctl.yaml"

// FileError says why a file cannot be read, and what to do.
type FileError struct {
	Path string
	// Detail is what is wrong with it, Next what to do now.
	Detail, Next string
	// Err is the cause; may be nil.
	Err error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Detail }
func (e *FileError) Unwrap() error { return e.Err }

// Places are where a file is looked for when none is named: the working directory, and
// the user's folder of the XDG Base Directory Specification.
func Places(getenv func(string) string) []string {
	out := []string{FileName}
	dir := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); !filepath.IsAbs(dir) && home != "" {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		out = append(out, filepath.Join(dir, "kscertctl", FileName))
	}
	return out
}

// Find reads the file that is named; if none is, the one that KSCERTCTL_CONFIG names,
// and otherwise the first that lies at one of the Places. The name is empty where there
// is none. An error is a *FileError.
//
// One that was not named must not be anybody's to write: it can name commands to run.
func Find(named string, getenv func(string) string) (name string, text []byte, err error) {
	if named == "" {
		named = getenv(FileVariable)
	}
	if named != "" {
		text, err = read(named)
		return named, text, err
	}
	for _, place := range Places(getenv) {
		yml := strings.TrimSuffix(place, ".yaml") + ".yml"
		switch {
		case exists(place):
			if err := trusted(place); err != nil {
				return "", nil, err
			}
			text, err = read(place)
			return place, text, err
		case exists(yml): // not to be passed over in silence
			return "", nil, &FileError{
				Path: yml, Detail: "it is looked for as " + FileName, Next: "mv " + shell.Join([]string{yml, place}),
			}
		}
	}
	return "", nil, nil
}

// exists is false, too, in a folder that is not ours to look into.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// everybody is the bit that lets everybody write.
const everybody = 0o002

// trusted refuses what everybody can have written.
func trusted(path string) error {
	for _, checked := range []struct{ path, detail string }{
		{path, "everybody may write to it"},
		{filepath.Dir(path), "everybody may write to its folder"},
	} {
		info, err := os.Stat(checked.path)
		if err != nil {
			return unreadable(path, err)
		}
		if info.Mode().Perm()&everybody != 0 {
			return &FileError{
				Path: path, Detail: checked.detail + ", and it can name commands that kscertctl runs",
				Next: fmt.Sprintf("chmod o-w %s\nor, if its content is what you want, name it: --config %[2]s, or %[3]s=%[2]s",
					shell.Quote(checked.path), shell.Quote(path), FileVariable),
			}
		}
	}
	return nil
}

// maxFile is far more than anybody has to set.
const maxFile = 1 << 20

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(text) > maxFile {
		return nil, &FileError{Path: path, Detail: fmt.Sprintf("it is larger than %d bytes", maxFile), Next: "name a file of settings"}
	}
	return text, nil
}

func unreadable(path string, err error) error {
	detail := err.Error()
	if e, ok := errors.AsType[*os.PathError](err); ok {
		detail = e.Err.Error() // the path is said already
	}
	return &FileError{Path: path, Detail: detail, Next: "name a file of settings that can be read", Err: err}
}
