package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/atomicfile"
)

// FileError is why a snapshot's file cannot be used, and what to do.
type FileError struct {
	// Path of the file, as it was given.
	Path string
	// Detail is what is wrong with it, Next what to do now.
	Detail, Next string
	// Err is the cause; may be nil.
	Err error
}

func (e *FileError) Error() string { return fmt.Sprintf("snapshot %s: %s", e.Path, e.Detail) }
func (e *FileError) Unwrap() error { return e.Err }

// maxFile limits what Load reads: a hundred times what 200 nodes take.
const maxFile = 1 << 30

const saveAgain = "save it again where the nodes are: kscertctl diagnose -i INVENTORY --save-snapshot FILE"

// Load reads a snapshot that Save wrote, such as one from another machine. The error is a
// *FileError.
func Load(path string) (Snapshot, error) {
	fail := func(next string, err error) (Snapshot, error) {
		return Snapshot{}, &FileError{Path: path, Detail: err.Error(), Next: next, Err: err}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Snapshot{}, &FileError{Path: path, Detail: "it does not exist",
			Next: "name a file that --save-snapshot wrote", Err: err}
	case err != nil:
		return fail("name a file that can be read", err)
	case info.IsDir():
		return Snapshot{}, &FileError{Path: path, Detail: "it is a directory",
			Next: "name the file in it; those of a run directory are snapshots/NN.json"}
	}
	f, err := os.Open(path)
	if err != nil {
		return fail("name a file that can be read", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fail("name a file that can be read", err)
	}
	s, wrong := decode(data)
	if wrong != nil {
		wrong.Path = path
		return Snapshot{}, wrong
	}
	return s, nil
}

// decode reads the JSON form of a snapshot and validates it; the error lacks a path.
func decode(data []byte) (Snapshot, *FileError) {
	wrong := func(next, format string, args ...any) (Snapshot, *FileError) {
		return Snapshot{}, &FileError{Detail: fmt.Sprintf(format, args...), Next: next}
	}
	if len(data) > maxFile {
		return wrong(saveAgain, "it is larger than %d MiB, so it is not a snapshot", maxFile>>20)
	}
	if len(strings.TrimSpace(string(data[:min(len(data), 4096)]))) == 0 {
		return wrong(saveAgain, "it is empty")
	}
	var version struct {
		Schema *int `json:"schema"`
	}
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(data, &version); {
	case errors.As(err, &syntax) && syntax.Offset >= int64(len(data)):
		return wrong("copy it again: it was cut off during the transfer", "it ends in the middle")
	case err != nil:
		return wrong(saveAgain, "it is not the JSON of a snapshot: %v", err)
	case version.Schema == nil:
		return wrong(saveAgain, "it is JSON, but not a snapshot: it names no schema")
	case *version.Schema > Schema:
		return wrong("use a newer kscertctl", "its schema is %d, and this kscertctl knows %d", *version.Schema, Schema)
	case *version.Schema != Schema:
		return wrong(saveAgain, "its schema is %d, and this kscertctl knows %d", *version.Schema, Schema)
	}
	var s Snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return wrong(saveAgain, "it is not the JSON of a snapshot: %v", err)
	}
	if len(s.Nodes) == 0 || s.Taken.IsZero() {
		return wrong(saveAgain, "it is JSON, but not a snapshot: it names no nodes or no time")
	}
	names := map[string]bool{}
	for _, n := range s.Nodes {
		if n.Name == "" || names[n.Name] {
			return wrong(saveAgain, "node %q is listed twice or has no name", n.Name)
		}
		names[n.Name] = true
	}
	return s, nil
}

// Writable reports whether Save could write a file there; the error is a
// *FileError.
func Writable(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return &FileError{Path: path, Detail: "it is not a regular file", Next: "name a file, new or to be replaced"}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".kscertctl-*.tmp")
	if err != nil {
		return cannotWrite(path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Save writes a snapshot so that Load finds it whole or not at all, readable by its owner alone.
// The error is a *FileError.
func Save(path string, s Snapshot) error {
	if err := Writable(path); err != nil {
		return err
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = atomicfile.Write(path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return cannotWrite(path, err)
	}
	return nil
}

func cannotWrite(path string, err error) error {
	return &FileError{Path: path, Detail: "it cannot be written: " + err.Error(),
		Next: "name a file in a directory that exists and is writable", Err: err}
}
