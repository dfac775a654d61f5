package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The record of a run names programs and files, so one that somebody else may have
// written is not opened.
func TestOpenTrusts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		harm  func(record string) error
		wrong string
		root  bool
	}{
		{name: "its owner's alone", harm: func(string) error { return nil }},
		{name: "others may read it", harm: func(record string) error { return os.Chmod(record, 0o755) }},
		{name: "its group may write", harm: func(record string) error { return os.Chmod(record, 0o770) }, wrong: "may be written to by others (mode 0770)"},
		{name: "everybody may write", harm: func(record string) error { return os.Chmod(record, 0o707) }, wrong: "may be written to by others (mode 0707)"},
		{name: "everybody may write to all", harm: func(record string) error { return os.Chmod(filepath.Dir(record), 0o777) }, wrong: "may be written to by others (mode 0777)"},
		{name: "somebody else's", harm: func(record string) error { return os.Chown(record, 65534, -1) }, wrong: "belongs to user 65534, and this is user 0", root: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.root && os.Geteuid() != 0 {
				t.Skip("only root can give a directory away")
			}
			root := t.TempDir()
			d, err := Create(root, start)
			if err == nil {
				err = errors.Join(d.Record(begin), d.Close(), row.harm(d.Path))
			}
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := Open(root, d.ID)
			var untrusted *UntrustedError
			switch {
			case row.wrong == "" && err == nil:
				_ = again.Close()
			case row.wrong == "" || !errors.As(err, &untrusted) || !strings.Contains(err.Error(), row.wrong) || untrusted.Next == "":
				t.Errorf("%v, want %q", err, row.wrong)
			}
		})
	}
}
