package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// NotesFile has what a run leaves to whoever asked for it.
const NotesFile = "notes.json"

// NotesSchema is the version of NotesFile.
const NotesSchema = 1

type notesDocument struct {
	Schema int      `json:"schema"`
	Notes  []string `json:"notes"`
}

// SaveNotes writes down, in words, what is left to be known or done after the run.
func (d *Dir) SaveNotes(notes []string) error {
	return d.Save(NotesFile, notesDocument{NotesSchema, notes})
}

// LoadNotes returns what a run wrote down; none of one that had nothing to say, or
// was stopped before.
func LoadNotes(root, id string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, runsDir, id, NotesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var doc notesDocument
	if err == nil {
		if err = checkSchema(data, NotesSchema); err == nil {
			err = json.Unmarshal(data, &doc)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the record of run %s: %w", id, &DamagedError{File: NotesFile, Reason: err.Error()})
	}
	return doc.Notes, nil
}
