package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// BackupState is a playbook's report of a backup.
type BackupState string

// The states, as docs/reference/backup-format.md has them.
const (
	BackupMade       BackupState = "made"
	BackupKept       BackupState = "kept"
	BackupComplete   BackupState = "complete"
	BackupIncomplete BackupState = "incomplete"
	BackupUnknown    BackupState = "unknown"
	BackupVerified   BackupState = "verified"
	BackupDamaged    BackupState = "damaged"
	BackupMissing    BackupState = "missing"
	BackupPruned     BackupState = "pruned"
)

// Backup is one backup on one node.
type Backup struct {
	// Node is its node, by its name in the inventory.
	Node string `json:"node"`
	// Run is the run that took it.
	Run string `json:"run"`
	// State is its state.
	State BackupState `json:"state"`
	// Made is by the node's clock; zero if it is unknown.
	Made time.Time `json:"made,omitzero"`
	// Entries are the files, directories and links in it.
	Entries int `json:"entries,omitempty"`
	// KiB is its size.
	KiB int64 `json:"kib,omitempty"`
	// EtcdBytes is the size of the snapshot of etcd in it.
	EtcdBytes int64 `json:"etcdBytes,omitempty"`
	// Manifest is the SHA-256 of its manifest, hexadecimal.
	Manifest string `json:"manifest,omitempty"`
	// Notes are what is wrong with it, or why something is not in it.
	Notes []string `json:"notes,omitempty"`
}

// maxBackups limits what is read from one node.
const maxBackups = 2000

// ParseBackups parses a playbook's list of the backups on a node. The error means that the answer
// was cut off or not understood.
func ParseBackups(node string, payload []byte) ([]Backup, error) {
	var out []Backup
	complete, ours := false, false
	lines := bufio.NewScanner(bytes.NewReader(payload))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		switch {
		case complete && strings.HasPrefix(line, "@@"):
			return nil, fmt.Errorf("%s: its answer continues after its end: %.100q", node, line)
		case len(out) > maxBackups:
			return nil, fmt.Errorf("%s: more than %d backups: remove old ones there, and try again", node, maxBackups)
		case strings.HasPrefix(line, "@@BACKUP "):
			b, err := parseBackup(node, strings.Fields(line)[1:])
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(out, func(o Backup) bool { return o.Run == b.Run }) {
				return nil, fmt.Errorf("%s: the backup of run %.100q is listed twice", node, b.Run)
			}
			out, ours = append(out, b), true
		case strings.HasPrefix(line, "@@"):
			complete = complete || line == "@@END"
			ours = false
		case ours && strings.HasPrefix(line, "|"):
			b := &out[len(out)-1]
			b.Notes = append(b.Notes, line[1:])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: its answer cannot be read: %w", node, err)
	}
	if !complete {
		return nil, fmt.Errorf("%s: its answer was cut off", node)
	}
	return out, nil
}

// parseBackup reads RUN STATE MADE ENTRIES KIB MANIFEST ETCD.
func parseBackup(node string, f []string) (Backup, error) {
	if len(f) != 7 {
		return Backup{}, fmt.Errorf("%s: a record of a backup has %d fields, not 7: %q", node, len(f), f)
	}
	b := Backup{Node: node, Run: f[0], State: BackupState(f[1])}
	var numbers [4]int64
	for i, text := range []string{f[2], f[3], f[4], f[6]} {
		if text == "-" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return Backup{}, fmt.Errorf("%s: %q in a record of a backup is not a number", node, text)
		}
		numbers[i] = n
	}
	if numbers[0] > 0 {
		if b.Made = time.Unix(numbers[0], 0).UTC(); !b.Made.Equal(certs.Bounded(b.Made)) {
			return Backup{}, fmt.Errorf("%s: %q in a record of a backup is not a time", node, f[2])
		}
	}
	b.Entries, b.KiB, b.EtcdBytes = int(numbers[1]), numbers[2], numbers[3]
	if f[5] != "-" {
		b.Manifest = f[5]
	}
	return b, nil
}

// BackupsFile records the backups of a run on the control node, so that a change on a node is
// detected.
const BackupsFile = "backups.json"

// BackupsSchema is the version of BackupsFile.
const BackupsSchema = 1

type backupsDocument struct {
	Schema  int      `json:"schema"`
	Backups []Backup `json:"backups"`
}

// SaveBackups records the backups of this run.
func (d *Dir) SaveBackups(b []Backup) error {
	return d.Save(BackupsFile, backupsDocument{BackupsSchema, b})
}

// LoadBackups returns the recorded backups of a run; none if it was stopped before.
func LoadBackups(root, id string) ([]Backup, error) {
	var doc backupsDocument
	if err := loadNoted(root, id, BackupsFile, BackupsSchema, &doc); err != nil {
		return nil, err
	}
	return doc.Backups, nil
}

// loadNoted fills in a document that a run may have saved; it stays unchanged if the run has not.
// The error is a *DamagedError, wrapped, if the file is invalid.
func loadNoted(root, id, file string, schema int, into any) error {
	if _, err := load(filepath.Join(root, runsDir, id), file, schema, json.Unmarshal, into); err != nil {
		return fmt.Errorf("the record of run %s: %w", id, err)
	}
	return nil
}

// LoadManifests returns the digests of a run's manifests by node; none if the run was stopped
// before it recorded them.
func LoadManifests(root, id string) (map[string]string, error) {
	backups, err := LoadBackups(root, id)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, b := range backups {
		out[b.Node] = b.Manifest
	}
	return out, nil
}
