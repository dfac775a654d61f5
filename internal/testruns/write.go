package testruns

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// Write writes the run directory of a history below root, as the run itself would, and returns
// its path.
func Write(tb testing.TB, root string, h run.History) string {
	tb.Helper()
	ok := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	path := filepath.Join(root, "runs", h.ID)
	for _, dir := range []string{"snapshots", "steps"} {
		ok(os.MkdirAll(filepath.Join(path, dir), 0o700))
	}
	var lines bytes.Buffer
	for _, e := range h.Entries {
		line, err := json.Marshal(e)
		ok(err)
		lines.Write(append(line, '\n'))
	}
	// Block fork meanwhile: a child would hold the run's lock a moment longer than this
	// process (syscall.ForkLock).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	journal := filepath.Join(path, "journal.jsonl")
	ok(os.WriteFile(journal, lines.Bytes(), 0o600))
	d, _, err := run.Open(root, h.ID)
	ok(err)
	for _, s := range h.Snapshots {
		ok(d.SaveSnapshot(s))
	}
	if h.Proposal != nil {
		ok(d.SaveProposal(*h.Proposal))
	}
	if len(h.Backups) > 0 {
		ok(d.SaveBackups(h.Backups))
	}
	if len(h.Notes) > 0 {
		ok(d.SaveNotes(h.Notes))
	}
	ok(d.Close())
	if h.Exit != nil {
		ok(run.SaveExit(root, h.ID, h.Exit.Code, h.Exit.Next))
	}
	// A killed driver does not write these.
	ok(os.WriteFile(journal, append(lines.Bytes(), strings.Repeat("{", h.Torn)...), 0o600))
	return path
}

// Keep writes what a control plane keeps of the run, whose directory is below root, into its
// directory of records.
func Keep(tb testing.TB, state, root string, h run.History) {
	tb.Helper()
	ok := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	d, _, err := run.Open(root, h.ID)
	ok(err)
	defer func() { ok(d.Close()) }()
	parcel, err := d.Pack(*h.Proposal)
	ok(err)
	to := filepath.Join(state, "runs", h.ID)
	ok(os.MkdirAll(to, 0o700))
	var plan []byte
	for _, path := range parcel.Pieces {
		piece, err := os.ReadFile(path)
		ok(err)
		data, err := base64.StdEncoding.DecodeString(string(piece))
		ok(err)
		plan = append(plan, data...)
	}
	if run.Digest(plan) != parcel.Plan {
		tb.Fatal("the pieces are not the plan")
	}
	ok(os.WriteFile(filepath.Join(to, "plan.json.gz"), plan, 0o600)) //nolint:gosec // a directory of the test
	for _, path := range d.Kept() {
		data, err := os.ReadFile(path)
		ok(err)
		ok(os.WriteFile(filepath.Join(to, filepath.Base(path)), data, 0o600)) //nolint:gosec // as above
	}
}
