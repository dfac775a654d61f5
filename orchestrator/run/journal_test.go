package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

const id = "20260301T110000Z-abcdef"

// journal writes the lines of a journal as Record does.
func journal(entries ...Entry) string {
	var out strings.Builder
	for i, e := range entries {
		e.V, e.Run, e.Seq = JournalSchema, id, i+1
		line, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		out.Write(append(line, '\n'))
	}
	return out.String()
}

var (
	begin     = Entry{Event: Begin, Kind: KindRun}
	resume    = Entry{Event: Begin, Kind: KindResume}
	requested = Entry{Event: Requested}
)

func intent(step string) Entry            { return Entry{Event: Intent, Step: step} }
func outcome(step string, r Result) Entry { return Entry{Event: Outcome, Step: step, Outcome: r} }
func end(r Result) Entry                  { return Entry{Event: End, Outcome: r} }

// What a killed process leaves at the end is tolerated and counted; anything else is named with its
// line.
func TestParseJournal(t *testing.T) {
	t.Parallel()
	whole := journal(begin, requested, intent("01-backup"))
	lines := strings.SplitAfter(whole, "\n")
	for _, row := range []struct {
		name, text string
		entries    int
		torn       int
		wrong      string
	}{
		{name: "empty: killed before the first line"},
		{name: "whole", text: whole, entries: 3},
		{name: "the last line has no end", text: whole + `{"v":2,"seq":4`, entries: 3, torn: 14},
		{name: "the last line lacks its line feed only", text: strings.TrimSuffix(whole, "\n"), entries: 2, torn: len(lines[2]) - 1},
		{name: "the last line was never written, only its place", text: whole + "\x00\x00\x00\n", entries: 3, torn: 4},
		{name: "an unfinished line in the middle", text: lines[0] + lines[1][:20] + "\n" + lines[2], wrong: "journal.jsonl is damaged in line 2: it is not JSON"},
		{name: "a line is missing", text: lines[0] + lines[2], wrong: "line 2: it is number 3 instead of 2"},
		{name: "a line is there twice", text: lines[0] + lines[0], wrong: "line 2: it is number 1"},
		{name: "the first line is missing", text: lines[1] + lines[2], wrong: "line 1: it is number 2"},
		{name: "another run's", text: strings.ReplaceAll(whole, id, "other"), wrong: `line 1: it belongs to run "other"`},
		{name: "another version's", text: strings.ReplaceAll(whole, `"v":2`, `"v":3`), wrong: "line 1: it has schema 3, this version reads 2"},
		{name: "an unknown event", text: strings.Replace(whole, `"intent"`, `"hope"`, 1), wrong: `line 3: it has the unknown event "hope"`},
		{name: "an intent to do nothing", text: journal(begin, Entry{Event: Intent}), wrong: "line 2: it names no step"},
		{name: "it begins in the middle", text: journal(requested), wrong: "line 1: a journal must begin with"},
		{name: "it begins twice", text: journal(begin, begin), wrong: "line 2: a journal must begin with"},
		{name: "resumed", text: journal(begin, requested, resume), entries: 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			j, err := ParseJournal(id, []byte(row.text))
			if row.wrong != "" {
				var damaged *DamagedError
				if !errors.As(err, &damaged) || !strings.Contains(err.Error(), row.wrong) {
					t.Errorf("%v, want %q", err, row.wrong)
				}
				return
			}
			if err != nil || len(j.Entries) != row.entries || j.Torn != row.torn {
				t.Errorf("%d entries, %d bytes torn, %v; want %d and %d", len(j.Entries), j.Torn, err, row.entries, row.torn)
			}
		})
	}
}

var threeSteps = plan.Plan{Steps: []plan.Step{
	{ID: "01-backup", Action: plan.Backup, Nodes: []string{"cp1", "w1"}, Changes: true},
	{ID: "02-renew-certs-cp1", Action: plan.Renew, Nodes: []string{"cp1"}, Changes: true},
	{ID: "03-gate-api-server-cp1", Gate: plan.APIServerGate, Nodes: []string{"cp1"}},
	{ID: "04-kubelet-bootstrap", Action: plan.KubeletBootstrap, Nodes: []string{"w1"}, Changes: true},
}}

// At every line where a process can die, the journal shows what is done, what was in progress,
// which step comes next and which nodes may have changed.
func TestState(t *testing.T) {
	t.Parallel()
	lock := []Entry{begin, requested, intent(StepLock), outcome(StepLock, Done)}
	after := func(entries ...Entry) []Entry { return append(append([]Entry{}, lock...), entries...) }
	backedUp := after(intent("01-backup"), outcome("01-backup", Done))
	renewing := append(append([]Entry{}, backedUp...), intent("02-renew-certs-cp1"))
	stopped := append(append([]Entry{}, renewing...), outcome("02-renew-certs-cp1", Failed), intent(StepUnlock), outcome(StepUnlock, Done), end(Failed))
	for _, row := range []struct {
		name      string
		entries   []Entry
		requested bool
		next      int
		open      string
		touched   []string
		ended     Result
	}{
		{name: "begun", entries: []Entry{begin}},
		{name: "only looked", entries: []Entry{{Event: Begin, Kind: KindLook}, end(Done)}, ended: Done},
		{name: "approved", entries: []Entry{begin, requested}, requested: true},
		{name: "locking", entries: lock[:3], requested: true, open: StepLock},
		{name: "locked", entries: lock, requested: true},
		{name: "backing up", entries: after(intent("01-backup")), requested: true, open: "01-backup"},
		{name: "backed up: nothing has changed yet", entries: backedUp, requested: true, next: 1},
		{name: "changing", entries: renewing, requested: true, next: 1, open: "02-renew-certs-cp1", touched: []string{"cp1"}},
		{name: "stopped", entries: stopped, requested: true, next: 1, touched: []string{"cp1"}, ended: Failed},
		{name: "resumed", entries: append(append([]Entry{}, stopped...), resume), requested: true, next: 1, touched: []string{"cp1"}},
		{name: "resumed and at work again", entries: append(append([]Entry{}, stopped...), resume, intent("02-renew-certs-cp1")), requested: true, next: 1, open: "02-renew-certs-cp1", touched: []string{"cp1"}},
		{name: "past it", entries: append(append([]Entry{}, stopped...), resume, intent("02-renew-certs-cp1"), outcome("02-renew-certs-cp1", Done)), requested: true, next: 2, touched: []string{"cp1"}},
		{
			name: "a gate did not hold: what was changed before it is looked at again",
			entries: append(append([]Entry{}, renewing...), outcome("02-renew-certs-cp1", Done), intent("03-gate-api-server-cp1"), outcome("03-gate-api-server-cp1", Failed),
				end(Failed), resume), requested: true, next: 1, touched: []string{"cp1"},
		},
		{
			name:    "interrupted in a gate: only it is done again",
			entries: append(append([]Entry{}, renewing...), outcome("02-renew-certs-cp1", Done), intent("03-gate-api-server-cp1")), requested: true, next: 2, open: "03-gate-api-server-cp1", touched: []string{"cp1"},
		},
		{
			name: "done",
			entries: append(append([]Entry{}, renewing...), outcome("02-renew-certs-cp1", Done), intent("03-gate-api-server-cp1"), outcome("03-gate-api-server-cp1", Done),
				intent("04-kubelet-bootstrap"), outcome("04-kubelet-bootstrap", Done), end(Done)),
			requested: true, next: 4, touched: []string{"cp1", "w1"}, ended: Done,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			j, err := ParseJournal(id, []byte(journal(row.entries...)))
			if err != nil {
				t.Fatal(err)
			}
			s := j.State()
			open, _ := s.Open()
			if s.Requested != row.requested || s.Next(threeSteps) != row.next || open != row.open || s.Ended != row.ended {
				t.Errorf("requested %t, next %d, open %q, ended %q", s.Requested, s.Next(threeSteps), open, s.Ended)
			}
			if got := s.Touched(threeSteps); !reflect.DeepEqual(got, row.touched) {
				t.Errorf("touched %v, want %v", got, row.touched)
			}
		})
	}
}

// A rollback's state names the run it undoes, also after it was resumed.
func TestStateOfARollback(t *testing.T) {
	t.Parallel()
	j, err := ParseJournal(id, []byte(journal(Entry{Event: Begin, Kind: KindRollback, Of: "first"}, requested, resume)))
	if s := j.State(); err != nil || s.Kind != KindRollback || s.Of != "first" {
		t.Errorf("%+v %v", s, err)
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(journal(begin, requested, intent("01-backup"), outcome("01-backup", Done), end(Done))))
	f.Add([]byte(journal(begin) + `{"v":2`))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := ParseJournal(id, data)
		if err != nil {
			return
		}
		for i, e := range j.Entries {
			if e.Seq != i+1 || e.Run != id {
				t.Fatalf("entry %d: %+v", i, e)
			}
		}
		if j.Torn > len(data) {
			t.Fatalf("%d of %d bytes are torn", j.Torn, len(data))
		}
		// What is kept parses the same: cutting the rest off loses nothing.
		again, err := ParseJournal(id, data[:len(data)-j.Torn])
		if err != nil || again.Torn != 0 || !reflect.DeepEqual(again.Entries, j.Entries) {
			t.Fatalf("read again: %+v %v", again, err)
		}
	})
}

// A run that is resumed continues its journal; an unfinished line is cut off before anything is
// written after it.
func TestOpen(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d, err := Create(root, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Entry{begin, requested, intent("01-backup")} {
		if err := d.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.SaveSnapshot(1); err != nil {
		t.Fatal(err)
	}

	var busy *BusyError
	if _, _, err := Open(root, d.ID); !errors.As(err, &busy) || busy.Run != d.ID {
		t.Errorf("a run that is being worked on was opened: %v", err)
	}
	if r := Read(root, d.ID); !r.Running || r.Err != nil {
		t.Errorf("%+v", r)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.Path, journalFile)
	data, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append(data, `{"v":2,"se`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := Read(root, d.ID); r.Running || r.Torn != 10 || r.Err != nil {
		t.Errorf("%+v", r)
	}

	again, j, err := Open(root, d.ID)
	if err != nil || len(j.Entries) != 3 || j.Torn != 10 {
		t.Fatalf("%+v %v", j, err)
	}
	t.Cleanup(func() { _ = again.Close() })
	if err := again.Record(resume); err != nil {
		t.Fatal(err)
	}
	if err := again.SaveSnapshot(2); err != nil {
		t.Fatal(err)
	}
	data, _ = os.ReadFile(path)
	if j, err := ParseJournal(d.ID, data); err != nil || len(j.Entries) != 4 || j.Torn != 0 {
		t.Errorf("%+v %v", j, err)
	}
	if shots, _ := filepath.Glob(filepath.Join(d.Path, "snapshots", "*")); len(shots) != 2 {
		t.Errorf("a snapshot was overwritten: %v", shots)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, _, err := Open(root, "nowhere"); err == nil || !strings.Contains(err.Error(), "run nowhere") {
		t.Errorf("a run that is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, runsDir)); err == nil {
		t.Error("a directory was made for it")
	}
	d, err := Create(root, start)
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	if err := os.WriteFile(filepath.Join(d.Path, journalFile), []byte("damage\n"+journal(begin)), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, _, err := Open(root, d.ID); !errors.As(err, &damaged) || damaged.Line != 1 {
		t.Errorf("%v", err)
	}
	if r := Read(root, d.ID); !errors.As(r.Err, &damaged) || r.Running {
		t.Errorf("%+v", r)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	records := []Record{{ID: "2026-b"}, {ID: "2026-ab"}, {ID: "2026-a"}}
	for _, row := range []struct{ name, want, wrong string }{
		{name: "2026-b", want: "2026-b"},
		{name: "2026-a", want: "2026-a"}, // whole, though another begins with it
		{name: "2026-ab", want: "2026-ab"},
		{name: "2026", wrong: `"2026" is the beginning of 3 runs: 2026-b, 2026-ab, 2026-a`},
		{name: "2025", wrong: `there is no run "2025"`},
		{name: "", wrong: `there is no run ""`},
	} {
		r, err := Find(records, row.name)
		if (err == nil) != (row.wrong == "") || (err != nil && err.Error() != row.wrong) || r.ID != row.want {
			t.Errorf("%q: %q %v", row.name, r.ID, err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if got, err := List(root); err != nil || len(got) != 0 {
		t.Errorf("without any run: %v %v", got, err)
	}
	var want []string
	for i := range 3 {
		d, err := Create(root, start.AddDate(0, i, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Record(begin); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		want = append([]string{d.ID}, want...)
	}
	records, err := List(root)
	var got []string
	for _, r := range records {
		got = append(got, r.ID)
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v, want the newest first: %v", got, err, want)
	}
}

// BenchmarkRecord measures one line, from the call until it is on the disk.
func BenchmarkRecord(b *testing.B) {
	d, err := Create(b.TempDir(), start)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for b.Loop() {
		if err := d.Record(intent("02-renew-certs-cp1")); err != nil {
			b.Fatal(err)
		}
	}
}
