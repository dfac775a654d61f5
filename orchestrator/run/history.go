package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// History is everything that the directory of a run records. Ansible's own output and the events
// are not part of it: they hold whatever was printed.
type History struct {
	Record
	// Proposal is what was planned, and what it is based on; nil for a run that never got that far,
	// or whose record of it is lost.
	Proposal *Proposal
	// Looks are the times of the inspections, in order.
	Looks []time.Time
	// Snapshots are the first inspection, the last one before each outcome, and the last of all, in
	// order: a gate may have taken many more.
	Snapshots []snapshot.Snapshot
	Backups   []Backup
	// Notes are what the run left to be known or done.
	Notes []string
	// Exit is how the last command on the run finished; nil if that is unknown.
	Exit *Exit
	// Later are runs on the same cluster that were begun afterwards and may have changed nodes, the
	// newest first.
	Later []Record
	// StateDir is the directory that commands about the run have to name; empty for the default
	// one.
	StateDir string
	// Unknown lists the lost parts of the record.
	Unknown []string
}

// LoadHistory reads the history of a run without changing it. The error means that the journal
// cannot be read; other losses are listed in Unknown.
func LoadHistory(root, id string) (History, error) {
	h := History{Record: Read(root, id)}
	if h.Err != nil {
		return h, h.Err
	}
	h.readProposal(root)
	var err error
	h.Backups, err = LoadBackups(root, id)
	h.noteUnread(err)
	h.Notes, err = LoadNotes(root, id)
	h.noteUnread(err)
	h.Exit, err = loadExit(h.Path, len(h.Entries))
	h.noteUnread(err)
	h.readInspections()
	return h, nil
}

// readProposal reads what was planned, and which runs came after it.
func (h *History) readProposal(root string) {
	p, err := LoadProposal(root, h.ID)
	if missing := new(MissingError); errors.As(err, &missing) && !h.State.Requested {
		return // it never got that far
	}
	h.noteUnread(err)
	if err != nil {
		return
	}
	h.Proposal = &p
	h.Later, err = Later(root, h.ID, p.Cluster)
	h.noteUnread(err)
}

// noteUnread records what cannot be read; nil is ignored.
func (h *History) noteUnread(err error) {
	if err != nil {
		h.Unknown = append(h.Unknown, err.Error())
	}
}

// readInspections reads the times of the inspections, and the snapshots that matter.
func (h *History) readInspections() {
	names, err := snapshotFiles(h.Path)
	h.noteUnread(err)
	var files []string
	for _, name := range names {
		at, err := takenAt(filepath.Join(h.Path, name))
		if err != nil {
			h.noteUnread(fmt.Errorf("the record of run %s: %w", h.ID, &DamagedError{File: name, Reason: err.Error()}))
			continue
		}
		h.Looks, files = append(h.Looks, at), append(files, name)
	}
	for _, i := range selected(h.Looks, h.Entries) {
		s, err := snapshot.Load(filepath.Join(h.Path, files[i]))
		if err != nil {
			h.noteUnread(fmt.Errorf("the record of run %s: %w", h.ID, err))
			continue
		}
		h.Snapshots = append(h.Snapshots, s)
	}
}

// selected picks from looks the first, the last before each line of the journal that completes
// something, and the last of all, in order.
func selected(looks []time.Time, entries []Entry) []int {
	if len(looks) == 0 {
		return nil
	}
	picked := []int{0, len(looks) - 1}
	for _, e := range entries {
		if e.Event == Intent || e.Event == Requested {
			continue
		}
		for i := range slices.Backward(looks) {
			if !looks[i].After(e.Time) {
				picked = append(picked, i)
				break
			}
		}
	}
	slices.Sort(picked)
	return slices.Compact(picked)
}

// snapshotFiles lists the snapshots of a run directory by their numbers.
func snapshotFiles(dir string) ([]string, error) {
	found, err := os.ReadDir(filepath.Join(dir, snapshotsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	number := func(e fs.DirEntry) int {
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".json"))
		if err != nil {
			return 0
		}
		return n
	}
	found = slices.DeleteFunc(found, func(e fs.DirEntry) bool { return number(e) == 0 })
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return number(a) - number(b) })
	var out []string
	for _, e := range found {
		out = append(out, filepath.Join(snapshotsDir, e.Name()))
	}
	return out, err
}

// takenAt reads the time of a snapshot from the beginning of its file: the rest may be long.
func takenAt(path string) (time.Time, error) {
	var at time.Time
	f, err := os.Open(path)
	if err != nil {
		return at, err
	}
	defer func() { _ = f.Close() }()
	d := json.NewDecoder(f)
	for {
		token, err := d.Token()
		if err != nil {
			return at, fmt.Errorf("it does not say when it was taken: %w", err)
		}
		if token == "taken" {
			return at, d.Decode(&at)
		}
	}
}

// Later returns the runs on a cluster that were begun after a run and may have changed nodes, the
// newest first.
func Later(root, id, cluster string) ([]Record, error) {
	records, err := List(root)
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, r := range records {
		if r.ID <= id || r.Err != nil || !r.State.Requested {
			continue
		}
		if p, err := LoadProposal(root, r.ID); err == nil && p.Cluster == cluster && len(r.State.Touched(p.Plan)) > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}
