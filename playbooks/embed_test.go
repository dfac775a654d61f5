package playbooks_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func owner(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

func parsed(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A run directory holds exactly what is run: every file of this directory that Ansible may read.
func TestWriteTo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "playbooks")
	if err := playbooks.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	count := 0
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".go") || strings.Contains(path, "__pycache__") || strings.HasSuffix(path, ".md") {
			return err
		}
		count++
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s was not written as it is: %v", path, err)
		}
		return nil
	})
	if err != nil || count < 20 {
		t.Errorf("%d files compared, %v", count, err)
	}
	for _, name := range []string{playbooks.Inspect, playbooks.Backups, playbooks.Lock, playbooks.CallbackDir + "/kscert_events.py", playbooks.SSH} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	look := filepath.Join(t.TempDir(), "playbooks")
	if err := playbooks.WriteToLook(look); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{playbooks.Inspect: true, playbooks.SSH: true, playbooks.Collection + "/roles/inspect/files/collect.sh": true, plan.Backup.Playbook(): false} {
		if _, err := os.Stat(filepath.Join(look, name)); (err == nil) != want {
			t.Errorf("to look, %s is there: %t", name, err == nil)
		}
	}
	if err := playbooks.WriteTo(dir); err == nil {
		t.Error("it was written over")
	}
	if err := playbooks.WriteTo("/proc/nowhere"); err == nil {
		t.Error("written to where nothing can be")
	}
}

// Every playbook is that of an action, or one of those that are no step of a plan; and every action
// has its playbook, here and in the collection, which keeps the record first and takes the variables
// of its row.
func TestActionsHavePlaybooks(t *testing.T) {
	t.Parallel()
	books, err := filepath.Glob("*.yml")
	if err != nil {
		t.Fatal(err)
	}
	noSteps := []string{"groups.yml", playbooks.Inspect, playbooks.Backups, playbooks.Lock, playbooks.RenewalTimer, playbooks.Kubeconfig, playbooks.CACSR, playbooks.Record, playbooks.Recall}
	for _, row := range plan.Actions() {
		if row.Kubespray {
			continue
		}
		inCollection, ours := strings.CutPrefix(row.Action.CollectionPlaybook(), "infrapuzzle.kscertctl.")
		text, err := os.ReadFile(playbooks.Collection + "/playbooks/" + inCollection + ".yml")
		if err != nil || !ours || !slices.Contains(books, row.Action.Playbook()) {
			t.Errorf("%s has no playbook: %v", row.Action, err)
		}
		if row.Serial != "" && !strings.Contains(string(text), "serial: \"{{ "+row.Serial+" |") {
			t.Errorf("the playbook of %s does not take %s", row.Action, row.Serial)
		}
		books = slices.DeleteFunc(books, func(file string) bool { return file == row.Action.Playbook() })
	}
	slices.Sort(noSteps)
	if !slices.Equal(books, noSteps) {
		t.Errorf("playbooks without a row: %q, and no step are %q", books, noSteps)
	}
}
