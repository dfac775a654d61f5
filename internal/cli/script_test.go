package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/infrapuzzle/kscertctl/internal/cli"
	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// TestMain lets the scripts call kscertctl: this test binary runs the real Main in a separate
// process.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kscertctl": func() { os.Exit(cli.Main(os.Args[1:], cli.OSStreams())) },
		// code NUMBER COMMAND...: the command must have exactly this exit code.
		"code": code,
	})
}

// TestScripts runs testdata/script/*.txt: each is a story of the command line.
func TestScripts(t *testing.T) {
	t.Parallel()
	// A state directory with a run of each kind, for commands that only read it.
	runs := t.TempDir()
	for _, h := range testruns.All() {
		testruns.Write(t, runs, h)
	}
	// What a control plane keeps of a run whose machine is gone.
	kept, gone, h := t.TempDir(), t.TempDir(), testruns.Killed()
	replaceIn(t, h.Proposal, run.ClusterID(h.Proposal.Snapshot), h.Proposal.Cluster) // its CA's key names the cluster
	testruns.Write(t, gone, h)
	testruns.Keep(t, kept, gone, h)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			config := filepath.Join(env.WorkDir, ".ansible.cfg")
			if err := os.WriteFile(config, nil, 0o600); err != nil {
				return err
			}
			// Snapshots to read, and what each format makes of the one called expiring.
			for key, dir := range map[string]string{
				"SNAPSHOTS": "testdata/snapshots", "DOCUMENTS": "testdata/documents", "REPORTS": "../../orchestrator/report/testdata",
				"DUE": "../../orchestrator/testdata/due.json", // one certificate of a healthy cluster
			} {
				abs, err := filepath.Abs(dir)
				if err != nil {
					return err
				}
				env.Setenv(key, abs)
			}
			env.Setenv("RUNS", runs)
			env.Setenv("KEPT", kept)
			// No state and no settings of the user who runs the tests.
			for key, value := range map[string]string{
				"HOME": env.WorkDir, "XDG_STATE_HOME": filepath.Join(env.WorkDir, "state"), "ANSIBLE_CONFIG": config,
				"ANSIBLE_HOME": filepath.Join(env.WorkDir, ".ansible"), "LC_ALL": "C.UTF-8",
			} {
				env.Setenv(key, value)
			}
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// replaceIn replaces a text everywhere in a document.
func replaceIn(t *testing.T, document any, old, text string) {
	t.Helper()
	data, err := json.Marshal(document)
	if err == nil {
		err = json.Unmarshal(bytes.ReplaceAll(data, []byte(old), []byte(text)), document)
	}
	if err != nil {
		t.Fatal(err)
	}
}
