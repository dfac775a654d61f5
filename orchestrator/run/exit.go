package run

import (
	"encoding/json"
	"fmt"
	"path/filepath"
)

// ExitFile records how the last command on a run finished.
const ExitFile = "exit.json"

// ExitSchema is the version of the JSON form of an Exit.
const ExitSchema = 1

// Exit is how a command on a run finished.
type Exit struct {
	Schema int `json:"schema"`
	// Seq is the number of the journal's last line at that moment: with a later one, a process has
	// worked on the run since.
	Seq int `json:"seq"`
	// Code is the exit code, Next what to do now; empty if it is done.
	Code int    `json:"code"`
	Next string `json:"next,omitempty"`
}

// SaveExit records how a command on a run finished, once its directory is closed.
func SaveExit(root, id string, code int, next string) error {
	r := Read(root, id)
	if r.Err != nil {
		return r.Err
	}
	return save(filepath.Join(r.Path, ExitFile), ExitFile,
		Exit{Schema: ExitSchema, Seq: len(r.Entries), Code: code, Next: next})
}

// loadExit reads how the last command on a run finished; nil if that was not recorded after the
// journal's last line.
func loadExit(dir string, seq int) (*Exit, error) {
	var e Exit
	found, err := load(dir, ExitFile, ExitSchema, json.Unmarshal, &e)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading its exit status: %w", err)
	case !found || e.Seq != seq:
		return nil, nil
	}
	return &e, nil
}
