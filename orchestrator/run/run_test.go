package run

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))

func create(t *testing.T) *Dir {
	t.Helper()
	d, err := Create(t.TempDir(), start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// A run directory is for its owner alone.
func TestModes(t *testing.T) {
	t.Parallel()
	d := create(t)
	if err := d.Save("plan.json", 1); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveSnapshot(1); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(d.Path, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		files++
		return nil
	})
	if err != nil || files != 6 { // three directories, three files
		t.Errorf("%d files, %v", files, err)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	a, b := create(t), create(t)
	if !regexp.MustCompile(`^20260301T110000Z-[0-9a-f]{6}$`).MatchString(a.ID) {
		t.Errorf("ID is %q: the start in UTC and a random part", a.ID)
	}
	if a.ID == b.ID {
		t.Errorf("two runs of one second have one ID: %s", a.ID)
	}
	if !filepath.IsAbs(a.Path) || filepath.Base(a.Path) != a.ID {
		t.Errorf("path is %q", a.Path)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	d := create(t)
	entries := []Entry{
		{Event: Begin, Kind: KindRollback, Of: "another"}, {Event: Intent, Step: "01-backup", Nodes: []string{"cp1", "w1"}},
		{Event: Outcome, Step: "01-backup", Outcome: Failed, Detail: "two\nlines"}, {Event: End, Outcome: Failed},
	}
	for _, e := range entries {
		if err := d.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(d.Path, "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != len(entries) {
		t.Fatalf("%d lines of %d entries:\n%s", len(lines), len(entries), data)
	}
	var last time.Time
	for i, line := range lines {
		var got Entry
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("line %d is no JSON: %v", i+1, err)
		}
		if got.V != JournalSchema || got.Seq != i+1 || got.Run != d.ID || got.Time.Before(last) || got.Time.IsZero() {
			t.Errorf("line %d: %+v", i+1, got)
		}
		last = got.Time
		got.V, got.Seq, got.Run, got.Time = 0, 0, "", time.Time{}
		if !reflect.DeepEqual(got, entries[i]) {
			t.Errorf("line %d is %+v, want %+v", i+1, got, entries[i])
		}
	}
}

func TestJournalFromManySides(t *testing.T) {
	t.Parallel()
	d := create(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := d.Record(Entry{Event: "intent", Detail: strings.Repeat("x", 5000)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, _ := os.ReadFile(filepath.Join(d.Path, "journal.jsonl"))
	count := 0
	for line := range strings.Lines(string(data)) {
		count++
		if !json.Valid([]byte(line)) {
			t.Errorf("line %d is torn", count)
		}
	}
	if count != 8 {
		t.Errorf("%d lines", count)
	}
}

// A document is complete, old or new; a failed write leaves the old one.
func TestSaveIsAtomic(t *testing.T) {
	t.Parallel()
	d := create(t)
	if err := d.Save("plan.json", map[string]int{"first": 1}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.Path, "plan.json")
	open, err := os.Open(path) // a reader of the old one
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := d.Save("plan.json", map[string]int{"second": 2}); err != nil {
		t.Fatal(err)
	}
	var old map[string]int
	if err := json.NewDecoder(open).Decode(&old); err != nil || old["first"] != 1 {
		t.Errorf("who was reading sees %v (%v): it was written in place", old, err)
	}
	before, err := os.ReadFile(path)
	if err != nil || string(before) != "{\n  \"second\": 2\n}\n" {
		t.Errorf("%q %v", before, err)
	}
	if err := d.Save("plan.json", func() {}); err == nil {
		t.Error("what is no document was saved")
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Errorf("a failed write left %q", after)
	}
	if err := os.Mkdir(filepath.Join(d.Path, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, "folder", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Save("folder", 1); err == nil {
		t.Error("a folder was replaced")
	}
	if left, _ := filepath.Glob(filepath.Join(d.Path, ".tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := d.Save("nowhere/plan.json", 1); err == nil || !strings.Contains(err.Error(), "writing nowhere/plan.json") {
		t.Errorf("without its folder: %v", err)
	}
}

func TestSnapshotsAreNumbered(t *testing.T) {
	t.Parallel()
	d := create(t)
	for _, want := range []string{"01.json", "02.json", "03.json"} {
		if err := d.SaveSnapshot(want); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(d.Path, "snapshots", want)); err != nil || string(data) != "\""+want+"\"\n" {
			t.Errorf("%q %v", data, err)
		}
	}
}

func TestUnwritableRoot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, "/proc/nowhere"} {
		if d, err := Create(root, start); err == nil || !strings.Contains(err.Error(), "making the run directory") {
			t.Errorf("%s: %v %v", root, d, err)
		}
	}
}

func TestRecordAfterClose(t *testing.T) {
	t.Parallel()
	d := create(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Record(Entry{Event: "end"}); err == nil {
		t.Error("a line that is on no disk was recorded")
	}
}

// A run whose process was killed is held by its child processes, until they exit.
func TestLockIsHandedDown(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d, err := Create(root, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Record(begin); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ansible := exec.CommandContext(ctx, "sleep", "60")
	ansible.ExtraFiles = []*os.File{d.Lock()}
	if err := ansible.Start(); err != nil {
		t.Fatal(err)
	}
	_ = d.Close() // as the operating system does
	var busy *BusyError
	if _, _, err := Open(root, d.ID); !errors.As(err, &busy) || !Read(root, d.ID).Running {
		t.Errorf("%v", err)
	}
	end()
	_ = ansible.Wait()
	again, _, err := Open(root, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}
