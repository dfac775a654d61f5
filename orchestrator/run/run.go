// Package run keeps the record of one run: its directory, its journal and its
// files.
//
// A run directory holds, readable by its owner alone:
//
//	plan.json               the diagnosis and the plan that was approved
//	journal.jsonl           every intent and every outcome, fsynced one by one
//	snapshots/NN.json       what the nodes looked like
//	steps/ID.events.jsonl   Ansible's events of a step
//	steps/ID.log            Ansible's own output of a step
//	playbooks/              the playbooks that were run
package run

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Dir is the directory of one run.
type Dir struct {
	// ID names the run: its start in UTC and a random part.
	ID string
	// Path is absolute.
	Path string

	mu        sync.Mutex
	journal   *os.File
	snapshots int
}

// Create makes the directory of a new run below root.
func Create(root string, start time.Time) (*Dir, error) {
	random := make([]byte, 3)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("naming the run: %w", err)
	}
	id := start.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(random)
	path, err := filepath.Abs(filepath.Join(root, "runs", id))
	if err != nil {
		return nil, fmt.Errorf("finding the run directory: %w", err)
	}
	for _, dir := range []string{path, filepath.Join(path, "snapshots"), filepath.Join(path, "steps")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the run directory: %w", err)
		}
	}
	journal, err := os.OpenFile(filepath.Join(path, "journal.jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	return &Dir{ID: id, Path: path, journal: journal}, nil
}

// Close closes the journal.
func (d *Dir) Close() error { return d.journal.Close() }

// Events is the file for Ansible's events of a step, Log for its output.
func (d *Dir) Events(step string) string { return filepath.Join(d.Path, "steps", step+".events.jsonl") }

// Log is the file for Ansible's own output of a step.
func (d *Dir) Log(step string) string { return filepath.Join(d.Path, "steps", step+".log") }

// Playbooks is the folder of the playbooks that are run.
func (d *Dir) Playbooks() string { return filepath.Join(d.Path, "playbooks") }

// JournalSchema is the version of a journal line.
const JournalSchema = 1

// Entry is one line of the journal.
type Entry struct {
	V    int       `json:"v"`
	Time time.Time `json:"time"`
	Run  string    `json:"run"`
	// Event is begin, intent, outcome or end.
	Event string `json:"event"`
	Step  string `json:"step,omitempty"`
	// Outcome of a step or of the run: done or failed.
	Outcome string `json:"outcome,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Record appends to the journal and returns once the line is on the disk.
func (d *Dir) Record(e Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.V, e.Run, e.Time = JournalSchema, d.ID, time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if _, err := d.journal.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if err := d.journal.Sync(); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// Save writes a document beside and renames it, so that a reader finds either
// the old or the new one, whole.
func (d *Dir) Save(name string, document any) error {
	data, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	path := filepath.Join(d.Path, name)
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// SaveSnapshot writes a snapshot under the next number.
func (d *Dir) SaveSnapshot(s any) error {
	d.mu.Lock()
	d.snapshots++
	name := filepath.Join("snapshots", fmt.Sprintf("%02d.json", d.snapshots))
	d.mu.Unlock()
	return d.Save(name, s)
}
