package cli

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// A command on an earlier run changes to the directory that the run was started in; directories on
// its own command line are relative to the current one.
func TestFoldersAreNamedFromHere(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	t.Chdir(here)
	var flags carryFlags
	s := Streams{Out: io.Discard, Err: io.Discard}
	cmd := newResume(s)
	flags.opts.StateDir, flags.opts.Ansible.Inventories, flags.output = "state", []string{"inventory.ini"}, "text"
	if err := flags.reports.Set("reports"); err != nil {
		t.Fatal(err)
	}
	opts, err := flags.again(cmd, s, run.Request{Dir: there})
	if err != nil {
		t.Fatal(err)
	}
	if now, err := os.Getwd(); err != nil || now != there {
		t.Errorf("it works in %s, not in %s: %v", now, there, err)
	}
	if opts.StateDir != filepath.Join(here, "state") || opts.Ansible.Inventories[0] != filepath.Join(here, "inventory.ini") || string(flags.reports) != filepath.Join(here, "reports") {
		t.Errorf("the runs are looked for in %s, the nodes in %s, the reports written into %s", opts.StateDir, opts.Ansible.Inventories, flags.reports)
	}
}

// A run that was rolled back at once leaves two reports: its own, and that of the rollback.
func TestReportsOfARolledBackRun(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), reportDir(t.TempDir())
	for _, h := range testruns.All() {
		testruns.Write(t, state, h)
	}
	s := Streams{Out: io.Discard, Err: io.Discard}
	if err := dir.writeAll(s, state, testruns.FailedGateID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{testruns.FailedGateID, testruns.RolledBackID} {
		if found, _ := filepath.Glob(filepath.Join(string(dir), id+".*")); len(found) != 4 {
			t.Errorf("of %s there are %q", id, found)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(string(dir), "*")); len(found) != 8 {
		t.Errorf("%q", found)
	}
}
