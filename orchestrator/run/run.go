package run

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	runsDir      = "runs"
	journalFile  = "journal.jsonl"
	snapshotsDir = "snapshots"
)

// Dir is the directory of a run that this process works on. No other process can open it until
// Close.
type Dir struct {
	// ID names the run: its start in UTC and a random part.
	ID string
	// Path is absolute.
	Path string

	mu        sync.Mutex
	lock      *os.File
	journal   *os.File
	size      int64 // of the whole lines in the journal
	seq       int
	snapshots int
}

// idTime is the time that the name of a run begins with.
const idTime = "20060102T150405Z"

// Named returns when a run got its name; zero if that is no name of a run.
func Named(id string) time.Time {
	text, _, _ := strings.Cut(id, "-")
	at, err := time.Parse(idTime, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// Create makes the directory of a new run below root.
func Create(root string, start time.Time) (*Dir, error) {
	random := make([]byte, 3)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("naming the run: %w", err)
	}
	id := start.UTC().Format(idTime) + "-" + hex.EncodeToString(random)
	path, err := filepath.Abs(filepath.Join(root, runsDir, id))
	if err != nil {
		return nil, fmt.Errorf("finding the run directory: %w", err)
	}
	for _, dir := range []string{path, filepath.Join(path, snapshotsDir), filepath.Join(path, "steps")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the run directory: %w", err)
		}
	}
	d := &Dir{ID: id, Path: path}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// BusyError means that another process works on a run: kscertctl, or an Ansible that has outlived
// it.
type BusyError struct{ Run string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another process is working on run %s", e.Run)
}

// Open opens the directory of an earlier run to continue it, and returns its journal. An unfinished
// last line is cut off. The error is a *BusyError while another process works on the run, an
// *UntrustedError if others may have written its record, a *DamagedError if the journal is not what
// was written.
func Open(root, id string) (*Dir, Journal, error) {
	path, err := filepath.Abs(filepath.Join(root, runsDir, id))
	if err != nil {
		return nil, Journal{}, fmt.Errorf("finding the run directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(path, journalFile)); err != nil {
		return nil, Journal{}, fmt.Errorf("opening run %s: %w", id, err)
	}
	if err := (Record{ID: id, Path: path}).Trusted(); err != nil {
		return nil, Journal{}, err
	}
	d := &Dir{ID: id, Path: path}
	if err := d.open(); err != nil {
		return nil, Journal{}, err
	}
	j, err := d.read()
	if err != nil {
		_ = d.Close()
		return nil, Journal{}, err
	}
	return d, j, nil
}

// open takes the lock and opens the journal.
func (d *Dir) open() error {
	path := filepath.Join(d.Path, journalFile)
	var err error
	// A process that lists runs holds the lock for a moment, to see whether it is free.
	if d.lock, err = lockFile(path, time.Second); err != nil {
		if errors.Is(err, errLocked) {
			return &BusyError{Run: d.ID}
		}
		return fmt.Errorf("locking the journal: %w", err)
	}
	if d.journal, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return errors.Join(fmt.Errorf("opening the journal: %w", err), d.lock.Close())
	}
	return nil
}

// UntrustedError is why the record of a run must not be trusted: another user may have written it,
// and it names commands, files and programs.
type UntrustedError struct {
	// Path is the directory, Reason what is wrong with it, Next how to correct it.
	Path, Reason, Next string
}

func (e *UntrustedError) Error() string { return e.Path + " " + e.Reason }

// Trusted checks that the record and the directory of all records belong to the user who asks and
// that no one else may write to them. The error is an *UntrustedError, or why it cannot be checked.
func (r Record) Trusted() error {
	for _, path := range []string{filepath.Dir(r.Path), r.Path} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("checking who owns the record: %w", err)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		switch mine := os.Geteuid(); {
		case ok && int64(owner.Uid) != int64(mine):
			return &UntrustedError{Path: path,
				Reason: fmt.Sprintf("belongs to user %d, and this is user %d", owner.Uid, mine),
				Next:   "run the command as the user who started the run"}
		case info.Mode().Perm()&0o022 != 0:
			return &UntrustedError{Path: path,
				Reason: fmt.Sprintf("is writable by others (mode %04o)", info.Mode().Perm()),
				Next:   "make sure that no one has changed it, then: chmod go-w " + path}
		}
	}
	return nil
}

// Lock is the file whose descriptor holds the run: a process that inherits it holds the run until
// it exits.
func (d *Dir) Lock() *os.File { return d.lock }

// read reads the journal of a run that is continued, and cuts off what a killed process did not
// finish.
func (d *Dir) read() (Journal, error) {
	data, err := os.ReadFile(filepath.Join(d.Path, journalFile))
	if err != nil {
		return Journal{}, fmt.Errorf("reading the journal: %w", err)
	}
	j, err := ParseJournal(d.ID, data)
	if err != nil {
		return Journal{}, fmt.Errorf("run %s: %w", d.ID, err)
	}
	if j.Torn > 0 {
		if err := d.journal.Truncate(int64(len(data) - j.Torn)); err != nil {
			return Journal{}, fmt.Errorf("cutting off an unfinished line of the journal: %w", err)
		}
	}
	d.seq, d.size = len(j.Entries), int64(len(data)-j.Torn)
	shots, err := filepath.Glob(filepath.Join(d.Path, snapshotsDir, "*.json"))
	d.snapshots = len(shots)
	return j, err
}

// Close closes the journal and lets others open the run.
func (d *Dir) Close() error { return errors.Join(d.journal.Close(), d.lock.Close()) }

// Events is the file for Ansible's events of a step, Log for its output.
func (d *Dir) Events(step string) string { return filepath.Join(d.Path, "steps", step+".events.jsonl") }

// Log is the file for Ansible's own output of a step.
func (d *Dir) Log(step string) string { return filepath.Join(d.Path, "steps", step+".log") }

// Attempt is the name of a step's files: its ID, with a number after it if the step was begun
// before. The files of an earlier attempt are kept, and not read again.
func (d *Dir) Attempt(step string) string {
	name := step
	for i := 2; ; i++ {
		if _, err := os.Stat(d.Log(name)); err != nil {
			return name
		}
		name = fmt.Sprintf("%s.%d", step, i)
	}
}

// Playbooks is the directory of the playbooks that are run.
func (d *Dir) Playbooks() string { return filepath.Join(d.Path, "playbooks") }

// Record numbers an entry, appends it to the journal and returns once it is on
// the disk.
func (d *Dir) Record(e Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.V, e.Run, e.Seq, e.Time = JournalSchema, d.ID, d.seq+1, time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	line = append(line, '\n')
	if _, err := d.journal.Write(line); err != nil {
		_ = d.journal.Truncate(d.size) // on a full disk: no half a line before the next one
		return fmt.Errorf("writing the journal: %w", err)
	}
	if err := d.journal.Sync(); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	d.seq++
	d.size += int64(len(line))
	return nil
}

// Save writes a document to another file and renames that, so that a reader finds either the old or
// the new one, whole.
func (d *Dir) Save(name string, document any) error {
	return save(filepath.Join(d.Path, name), name, document)
}

func save(path, name string, document any) error {
	data, err := encode(document)
	if err == nil {
		err = saveBytes(path, data)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// encode is the text of a document's file.
func encode(document any) ([]byte, error) {
	data, err := json.MarshalIndent(document, "", "  ")
	return append(data, '\n'), err
}

func saveBytes(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// syncDir puts the names in a directory on the disk: a rename alone may be lost with the power.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// SaveSnapshot writes a snapshot under the next number.
func (d *Dir) SaveSnapshot(s any) error {
	d.mu.Lock()
	d.snapshots++
	name := filepath.Join(snapshotsDir, fmt.Sprintf("%02d.json", d.snapshots))
	d.mu.Unlock()
	return d.Save(name, s)
}

// Record is an earlier run as its directory records it.
type Record struct {
	ID, Path string
	State    State
	// Running is true while a process works on the run.
	Running bool
	// Torn is how many bytes of an unfinished last line the journal has.
	Torn int
	// Err is why State is unknown; nil if it is known.
	Err error
	// Entries are the whole lines of the journal.
	Entries []Entry
	// Inventories are those of the cluster. None are known where no plan was made, and of a run that only
	// control planes keep.
	Inventories []string
}

// Read reads the record of a run without changing it. Its Err is set if the journal cannot be read.
func Read(root, id string) Record {
	r := Record{ID: id, Path: filepath.Join(root, runsDir, id)}
	path := filepath.Join(r.Path, journalFile)
	r.Running = fileLocked(path)
	data, err := os.ReadFile(path)
	if err != nil {
		r.Err = fmt.Errorf("run %s: %w", id, err)
		return r
	}
	j, err := ParseJournal(id, data)
	if err != nil {
		r.Err = fmt.Errorf("run %s: %w", id, err)
		return r
	}
	r.State, r.Torn, r.Entries = j.State(), j.Torn, j.Entries
	var asked Request
	if found, err := load(r.Path, RequestFile, RequestSchema, decode, &asked); found && err == nil {
		r.Inventories = asked.Inventories
	}
	if r.Running {
		r.Torn = 0 // it is being written
	}
	return r
}

// List reads the records of all runs below root, the newest first. Without any the list is empty.
func List(root string) ([]Record, error) {
	entries, err := os.ReadDir(filepath.Join(root, runsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the runs: %w", err)
	}
	var out []Record
	for _, e := range slices.Backward(entries) { // sorted by name, which begins with the time
		if e.IsDir() {
			out = append(out, Read(root, e.Name()))
		}
	}
	return out, nil
}

// NoRunError means that no run, or more than one, has the name.
type NoRunError struct {
	Name string
	// Matches are the runs whose names begin so.
	Matches []string
}

func (e *NoRunError) Error() string {
	if len(e.Matches) > 0 {
		return fmt.Sprintf("%q is the beginning of %d runs: %s", e.Name, len(e.Matches), strings.Join(e.Matches, ", "))
	}
	return fmt.Sprintf("there is no run %q", e.Name)
}

// Find returns the one record whose ID is name or begins with it.
func Find(records []Record, name string) (Record, error) {
	var found []Record
	var ids []string
	for _, r := range records {
		if r.ID == name {
			return r, nil
		}
		if name != "" && strings.HasPrefix(r.ID, name) {
			found, ids = append(found, r), append(ids, r.ID)
		}
	}
	if len(found) != 1 {
		return Record{}, &NoRunError{Name: name, Matches: ids}
	}
	return found[0], nil
}

// Status of a run in one word.
type Status string

// The statuses of a run.
const (
	StatusRunning     Status = "running"     // a process works on it
	StatusDone        Status = "done"        // every step is done
	StatusFailed      Status = "failed"      // a step or a gate stopped it
	StatusInterrupted Status = "interrupted" // it was stopped by a signal or the caller
	StatusKilled      Status = "killed"      // its process died
	StatusDamaged     Status = "damaged"     // its journal cannot be read
)

// Status returns the status of the run.
func (r Record) Status() Status {
	switch {
	case r.Err != nil:
		return StatusDamaged
	case r.Running:
		return StatusRunning
	case r.State.Ended == "":
		return StatusKilled
	default:
		return Status(r.State.Ended)
	}
}

// Resumable reports whether there is something to continue.
func (r Record) Resumable() bool {
	return r.Err == nil && !r.Running && r.State.Requested && r.State.Ended != Done
}
