package run

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// keptPlan is the file of a Proposal on a control plane: what "plan --out" writes, packed. The other
// files have the names that they have in the run directory.
const keptPlan = "plan.json.gz"

// keptFiles are the other ones, and whether a control plane always has them.
func keptFiles() []string { return []string{journalFile, BackupsFile, AuthoritiesFile} }

const (
	// pieceSize is how much of a plan one command line takes, in bytes before base64: Linux has no
	// argument of more than 128 KiB.
	pieceSize = 48 << 10
	// keptLimit is the longest plan that is unpacked: what a node sends is not trusted.
	keptLimit = 16 << 20
)

// Parcel is what control planes are given of a run, as files on this machine.
type Parcel struct {
	// Pieces are the parts of the plan, and Plan is the SHA-256 of the whole.
	Pieces []string
	Plan   string
	// Whole is true if the plan is short enough to be sent with the journal.
	Whole bool
}

// Pack writes the pieces of a plan.
func (d *Dir) Pack(p Proposal) (Parcel, error) {
	p.Request.Recalled = nil
	text, err := encode(p)
	var packed bytes.Buffer
	if err == nil {
		w := gzip.NewWriter(&packed)
		_, err = w.Write(text)
		err = errors.Join(err, w.Close())
	}
	dir := filepath.Join(d.Path, "kept")
	if err = errors.Join(err, os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return Parcel{}, fmt.Errorf("packing the plan: %w", err)
	}
	out := Parcel{Plan: Digest(packed.Bytes()), Whole: packed.Len() <= pieceSize}
	for piece := range slices.Chunk(packed.Bytes(), pieceSize) {
		path := filepath.Join(dir, fmt.Sprintf("plan-%02d", len(out.Pieces)))
		if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(piece)), 0o600); err != nil {
			return Parcel{}, fmt.Errorf("packing the plan: %w", err)
		}
		out.Pieces = append(out.Pieces, path)
	}
	return out, nil
}

// Kept are the files of the run that control planes keep next to its plan, as they are now.
func (d *Dir) Kept() []string {
	var out []string
	for _, name := range keptFiles() {
		path := filepath.Join(d.Path, name)
		if _, err := os.Stat(path); err == nil {
			out = append(out, path)
		}
	}
	return out
}

// Copy is what a control plane keeps of a run. Everything in it may be chosen by an attacker.
type Copy struct {
	Node, Run string
	// files are its files by name.
	files map[string][]byte
}

// runName matches the names that Create makes.
var runName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$`)

// maxCopies limits what is read from one node.
const maxCopies = 100

// ParseCopies parses what a node prints of the runs it keeps. The error means that the answer was
// cut off or not understood.
func ParseCopies(node, payload string) ([]Copy, error) {
	var (
		out   []Copy
		files map[string][]byte // of the run whose file is being read
		name  string
		text  strings.Builder
		done  bool
	)
	for line := range strings.Lines(payload) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(line, "@@") {
			text.WriteString(line)
			continue
		}
		if name != "" {
			data, err := base64.StdEncoding.DecodeString(text.String())
			if err != nil {
				return nil, fmt.Errorf("%s: %s of a run cannot be read: %w", node, name, err)
			}
			files[name], name = data, ""
		}
		text.Reset()
		f := strings.Fields(line)
		switch {
		case done:
			return nil, fmt.Errorf("%s: its answer continues after its end: %.100q", node, line)
		case line == "@@END":
			done = true
			continue
		case len(f) != 3 || f[0] != "@@KEPT" || !runName.MatchString(f[1]) ||
			f[2] != keptPlan && !slices.Contains(keptFiles(), f[2]):
			return nil, fmt.Errorf("%s: a record of a run is not understood: %.100q", node, line)
		}
		i := slices.IndexFunc(out, func(c Copy) bool { return c.Run == f[1] })
		if i < 0 {
			i = len(out)
			out = append(out, Copy{Node: node, Run: f[1], files: map[string][]byte{}})
		}
		files, name = out[i].files, f[2]
		if _, twice := files[name]; twice || len(out) > maxCopies {
			return nil, fmt.Errorf("%s: %s of run %s is listed twice, or there are more than %d runs", node, name, f[1],
				maxCopies)
		}
	}
	if !done {
		return nil, fmt.Errorf("%s: its answer was cut off", node)
	}
	return out, nil
}

// Kept is a copy that was understood.
type Kept struct {
	// Node has it; empty for the record on this machine.
	Node, Run string
	// Text is the journal, byte for byte.
	Text    []byte
	Journal Journal
	// Proposal is nil if only the journal was read.
	Proposal    *Proposal
	Backups     []Backup
	Authorities map[certs.Authority]string
}

// Read reads a copy with the strictness with which a record on this machine is read, and more: what
// can be derived must be equal. A rollback has its plan from elsewhere: was are all copies of the
// node. The error is a *DamagedError.
func (c Copy) Read() (Kept, error) {
	k := Kept{Node: c.Node, Run: c.Run, Text: c.files[journalFile]}
	damaged := func(file string, err error) (Kept, error) {
		if _, is := errors.AsType[*DamagedError](err); !is {
			err = &DamagedError{File: file, Reason: err.Error()}
		}
		return k, fmt.Errorf("%s: run %s: %w", c.Node, c.Run, err)
	}
	var err error
	if k.Journal, err = ParseJournal(c.Run, k.Text); err != nil {
		return k, fmt.Errorf("%s: run %s: %w", c.Node, c.Run, err)
	}
	if state := k.Journal.State(); k.Journal.Torn > 0 || !state.Requested ||
		state.Of != "" && !runName.MatchString(state.Of) {
		return damaged(journalFile, errors.New("it is cut off, or its run was not approved"))
	}
	packed, ok := c.files[keptPlan]
	if !ok {
		return k, nil
	}
	p, err := unpack(packed)
	if err != nil {
		return damaged(keptPlan, err)
	}
	var (
		b backupsDocument
		a authoritiesDocument
	)
	for _, doc := range []struct {
		file   string
		schema int
		into   any
	}{{BackupsFile, BackupsSchema, &b}, {AuthoritiesFile, AuthoritiesSchema, &a}} {
		data, ok := c.files[doc.file]
		if !ok {
			continue
		}
		if err = checkSchema(data, doc.schema); err == nil {
			err = decode(data, doc.into)
		}
		if err != nil {
			return damaged(doc.file, err)
		}
	}
	k.Proposal, k.Backups, k.Authorities = &p, b.Backups, a.Authorities
	if err := k.consistent(); err != nil {
		return damaged(journalFile, err)
	}
	return k, nil
}

// unpack reads the plan of a copy. That of a rollback does not follow from its snapshot alone.
func unpack(packed []byte) (Proposal, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return Proposal{}, err
	}
	text, err := io.ReadAll(io.LimitReader(r, keptLimit+1))
	switch {
	case err != nil:
		return Proposal{}, err
	case len(text) > keptLimit:
		return Proposal{}, fmt.Errorf("it unpacks to more than %d bytes", keptLimit)
	}
	var head struct {
		Plan struct {
			Undoes string `json:"undoes"`
		} `json:"plan"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return Proposal{}, err
	}
	if head.Plan.Undoes == "" {
		return ParseProposal(keptPlan, text)
	}
	var w struct {
		Proposal
		Diagnosis json.RawMessage `json:"diagnosis"`
	}
	if err = checkSchema(text, ProposalSchema); err == nil {
		err = decode(text, &w)
	}
	if err != nil {
		return Proposal{}, err
	}
	p := w.Proposal
	p.Diagnosis = diagnosis.Diagnose(p.Snapshot, p.Request.Thresholds)
	if !says(w.Diagnosis, p.Diagnosis) {
		return p, errors.New("its diagnosis does not follow from its snapshot")
	}
	return p, nil
}

// consistent reports what in a copy does not belong to its plan.
func (k Kept) consistent() error {
	p := *k.Proposal
	state := k.Journal.State()
	if p.Plan.Undoes != state.Of || (state.Kind == KindRollback) != (state.Of != "") {
		return errors.New("it is not of the plan's kind")
	}
	for _, e := range k.Journal.Entries {
		if e.Event != Intent && e.Event != Outcome || e.Step == StepLock || e.Step == StepUnlock {
			continue
		}
		i := slices.IndexFunc(p.Plan.Steps, func(s plan.Step) bool { return s.ID == e.Step })
		if i < 0 || !slices.Equal(p.Plan.Steps[i].Nodes, e.Nodes) {
			return fmt.Errorf("step %.40q is not one of the plan", e.Step)
		}
	}
	for _, b := range k.Backups {
		sum, err := hex.DecodeString(b.Manifest)
		if _, known := p.Snapshot.Node(b.Node); !known || err != nil || len(sum) != 32 {
			return fmt.Errorf("the backup of %.100q is not one of the run", b.Node)
		}
	}
	return nil
}

// Record is the record of a run that is only read.
func (k Kept) Record() Record {
	return Record{ID: k.Run, State: k.Journal.State(), Entries: k.Journal.Entries}
}

// ReadKept reads the record on this machine as if it were a copy.
func ReadKept(root, id string) (Kept, error) {
	k := Kept{Run: id}
	dir := filepath.Join(root, runsDir, id)
	data, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		return k, err
	}
	if k.Journal, err = ParseJournal(id, data); err != nil {
		return k, fmt.Errorf("run %s: %w", id, err)
	}
	k.Text = data[:len(data)-k.Journal.Torn]
	p, err := LoadProposal(root, id)
	if err != nil {
		return k, err
	}
	k.Proposal = &p
	if k.Backups, err = LoadBackups(root, id); err != nil {
		return k, err
	}
	k.Authorities, err = LoadAuthorities(root, id)
	return k, err
}

// Import makes a copy the record of its run below root, with the request of p. It replaces an older
// record of the same run. The error is a *BusyError while another process works on it.
func Import(root string, k Kept, p Proposal) (err error) {
	to := filepath.Join(root, runsDir, k.Run)
	d := &Dir{ID: k.Run, Path: to}
	fresh := false
	if _, err := os.Stat(filepath.Join(to, journalFile)); err == nil {
		old, _, err := Open(root, k.Run)
		if err != nil {
			return err
		}
		defer func() { _ = old.Close() }()
	} else {
		fresh = true
		if err = os.MkdirAll(filepath.Dir(to), 0o700); err == nil {
			d.Path, err = os.MkdirTemp(root, ".recalled-*") // 0700
		}
		defer func() { _ = os.RemoveAll(d.Path) }() // gone after the rename
		for _, dir := range []string{snapshotsDir, "steps"} {
			err = errors.Join(err, os.Mkdir(filepath.Join(d.Path, dir), 0o700))
		}
		if err != nil {
			return fmt.Errorf("making the run directory: %w", err)
		}
	}
	err = d.SaveProposal(p) // first: from here on it is known where the record comes from
	if err == nil && len(k.Backups) > 0 {
		err = d.SaveBackups(k.Backups)
	}
	if err == nil && len(k.Authorities) > 0 {
		err = d.SaveAuthorities(k.Authorities)
	}
	if err == nil {
		err = saveBytes(filepath.Join(d.Path, journalFile), k.Text)
	}
	if err == nil && fresh {
		_ = os.RemoveAll(to) // of a run that was never begun here
		err = os.Rename(d.Path, to)
	}
	if err != nil {
		return fmt.Errorf("writing the record of run %s: %w", k.Run, err)
	}
	return syncDir(filepath.Dir(to))
}
