package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// entry is a file with an owner, a group (by number) and a mode.
type entry struct {
	uid, gid uint32
	mode     os.FileMode
}

func (entry) Name() string        { return "kscertctl.yaml" }
func (entry) Size() int64         { return 0 }
func (e entry) Mode() os.FileMode { return e.mode }
func (entry) ModTime() time.Time  { return time.Time{} }
func (entry) IsDir() bool         { return false }
func (e entry) Sys() any          { return &syscall.Stat_t{Uid: e.uid, Gid: e.gid} }

// A file is trusted if it belongs to the user, to root, or under sudo to the caller, and no
// other user can write it.
func TestTrusted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		file entry
		euid int
		sudo string
		want string // part of the refusal; empty if the file is trusted
	}{
		{"one's own", entry{1000, 1000, 0o644}, 1000, "", ""},
		{"root's", entry{0, 0, 0o644}, 1000, "", ""},
		{"another user's", entry{1001, 1001, 0o600}, 1000, "", "it belongs to user 1001, and it can name commands that kscertctl runs"},
		{"a user's, for root", entry{1000, 1000, 0o600}, 0, "", "it belongs to user 1000"},
		{"the sudo caller's", entry{1000, 1000, 0o600}, 0, "1000", ""},
		{"another user's with sudo", entry{1001, 1001, 0o600}, 0, "1000", "it belongs to user 1001"},
		{"a variable without root", entry{1001, 1001, 0o600}, 1000, "1001", "it belongs to user 1001"},
		{"a group's", entry{1000, 50, 0o664}, 1000, "", "others can write to it"},
		{"group-readable", entry{1000, 50, 0o644}, 1000, "", ""},
		{"writable by the user's own group", entry{1000, 1000, 0o664}, 1000, "", ""},
		{"writable by everyone", entry{1000, 1000, 0o646}, 1000, "", "others can write to it"},
		{"a pipe", entry{1000, 50, 0o666 | os.ModeNamedPipe}, 1000, "", ""},
		{"another user's pipe", entry{1001, 50, 0o666 | os.ModeNamedPipe}, 1000, "", "it belongs to user 1001"},
	} {
		users := caller(row.euid, func(string) string { return row.sudo })
		err := source{path: path, flag: flagName, users: users}.trusted(row.file)
		if (err != nil) != (row.want != "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}
