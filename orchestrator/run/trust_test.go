package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The record of a run names programs and files, so one that another user may have written is not
// opened.
func TestOpenTrusts(t *testing.T) {
	t.Parallel()
	mode := func(m os.FileMode) func(string) error {
		return func(record string) error { return os.Chmod(record, m) }
	}
	others := "is writable by others "
	for _, row := range []struct {
		name  string
		harm  func(record string) error
		wrong string
		root  bool
	}{
		{name: "its owner's alone", harm: mode(0o700)},
		{name: "others may read it", harm: mode(0o755)},
		{name: "its group may write", harm: mode(0o770), wrong: others + "(mode 0770)"},
		{name: "everybody may write", harm: mode(0o707), wrong: others + "(mode 0707)"},
		{
			name: "everybody may write to all", wrong: others + "(mode 0777)",
			harm: func(record string) error { return os.Chmod(filepath.Dir(record), 0o777) },
		},
		{
			name: "someone else's", wrong: "belongs to user 65534, and this is user 0", root: true,
			harm: func(record string) error { return os.Chown(record, 65534, -1) },
		},
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
			case row.wrong == "" || !errors.As(err, &untrusted) || !strings.Contains(err.Error(), row.wrong) ||
				untrusted.Next == "":
				t.Errorf("%v, want %q", err, row.wrong)
			}
		})
	}
}
