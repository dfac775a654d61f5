// Package testansible finds the versions of Ansible to test with.
package testansible

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BinsEnv names directories of more versions, such as VENV/bin, separated by colons.
const BinsEnv = "KSCERTCTL_TRY_ANSIBLES"

// Bins returns the directories of ansible-playbook: the one in PATH, and those of BinsEnv. It
// fails the test if there is none.
func Bins(tb testing.TB) []string {
	tb.Helper()
	found, err := exec.LookPath("ansible-playbook")
	if err != nil {
		tb.Fatalf("ansible-playbook is not installed: run hack/packages unit, or apt-get install ansible-core (%v)",
			err)
	}
	bins := []string{filepath.Dir(found)}
	for _, dir := range filepath.SplitList(os.Getenv(BinsEnv)) {
		if _, err := exec.LookPath(filepath.Join(dir, "ansible-playbook")); err != nil {
			tb.Fatalf("%s: %v", BinsEnv, err)
		}
		bins = append(bins, dir)
	}
	return bins
}
