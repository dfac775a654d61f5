package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseBackups(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		want       []Backup
		wrong      string
	}{
		{name: "none", text: "@@END\n"},
		{
			name: "two, one of them damaged", text: "for people\r\n@@BACKUP first verified 1772366400 41 820 abc 20512\r\n@@BACKUP second damaged - - - - -\r\n|missing /etc/a\r\n|differs /etc/b (mode)\r\n@@END\r\n",
			want: []Backup{
				{Node: "cp1", Run: "first", State: BackupVerified, Made: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Entries: 41, KiB: 820, Manifest: "abc", EtcdBytes: 20512},
				{Node: "cp1", Run: "second", State: BackupDamaged, Notes: []string{"missing /etc/a", "differs /etc/b (mode)"}},
			},
		},
		{name: "another record's lines are not ours", text: "@@BACKUP a made 1 1 1 x -\n@@RESTORED a restored 1 0\n|restored /x\n@@END\n", want: []Backup{{Node: "cp1", Run: "a", State: BackupMade, Made: time.Unix(1, 0).UTC(), Entries: 1, KiB: 1, Manifest: "x"}}},
		{name: "cut off", text: "@@BACKUP a made 1 1 1 x -\n", wrong: "cp1: its answer was cut off"},
		{name: "nothing", text: "", wrong: "cut off"},
		{name: "a field short", text: "@@BACKUP a made 1 1 1 x\n@@END\n", wrong: "has 6 fields"},
		{name: "after the end", text: "@@END\n@@BACKUP a made 1 1 1 x -\n", wrong: "after its end"},
		{name: "twice", text: "@@BACKUP a made 1 1 1 x -\n@@BACKUP a made 1 1 1 y -\n@@END\n", wrong: "listed twice"},
		{name: "not a number", text: "@@BACKUP a made soon 1 1 x -\n@@END\n", wrong: `"soon"`},
		{name: "a time that JSON lacks", text: "@@BACKUP a made 253402300800 1 1 x -\n@@END\n", wrong: "is not a time"},
		{name: "the last second", text: "@@BACKUP a made 253402300799 1 1 x -\n@@END\n", want: []Backup{{Node: "cp1", Run: "a", State: BackupMade, Made: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), Entries: 1, KiB: 1, Manifest: "x"}}},
	} {
		got, err := ParseBackups("cp1", []byte(row.text))
		if (err == nil) != (row.wrong == "") || (err != nil && !strings.Contains(err.Error(), row.wrong)) || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v %v", row.name, got, err)
		}
	}
}

func FuzzParseBackups(f *testing.F) {
	f.Add([]byte("@@BACKUP first verified 1772366400 41 820 abc 20512\n|x\n@@END\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		backups, err := ParseBackups("n", data)
		for _, b := range backups {
			if err != nil || b.Node != "n" || b.Run == "" || b.Entries < 0 {
				t.Fatalf("%+v %v", b, err)
			}
			if _, err := json.Marshal(b); err != nil {
				t.Fatalf("%+v: %v", b, err)
			}
		}
	})
}

func TestManifests(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d, err := Create(root, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if got, err := LoadManifests(root, d.ID); err != nil || len(got) != 0 {
		t.Errorf("before any was noted: %v %v", got, err)
	}
	if err := d.SaveBackups([]Backup{{Node: "cp1", Manifest: "a"}, {Node: "w1", Manifest: "b"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadManifests(root, d.ID); err != nil || !reflect.DeepEqual(got, map[string]string{"cp1": "a", "w1": "b"}) {
		t.Errorf("%v %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, BackupsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := LoadManifests(root, d.ID); !errors.As(err, &damaged) || damaged.File != BackupsFile {
		t.Errorf("%v", err)
	}
}

// A step that is begun again gets files of its own: Ansible's first report is kept, and not taken
// for the current one.
func TestAttempt(t *testing.T) {
	t.Parallel()
	d := create(t)
	for _, want := range []string{"02-x", "02-x.2", "02-x.3"} {
		name := d.Attempt("02-x")
		if name != want {
			t.Errorf("%s, want %s", name, want)
		}
		if err := os.WriteFile(d.Log(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
