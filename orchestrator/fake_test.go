package orchestrator

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

// TestMain gives the examples a cluster to work on, since they name nothing but an inventory: the
// Ansible in PATH reports a certificate that is due until renew-certs has run, and from then on a
// renewed one until the run has finished.
func TestMain(m *testing.M) { os.Exit(besideACluster(m.Run)) }

func besideACluster(test func() int) int {
	dir, err := os.MkdirTemp("", "orchestrator-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tb := exampleTB{}
	cluster := fakeansible.NewCluster(tb)
	due := fakeansible.Node(tb, cluster, 24*time.Hour)
	cluster.Well = true
	renewed := fakeansible.Node(tb, cluster, 300*24*time.Hour)
	fakeansible.Write(tb, dir, due, 0)
	for name, text := range map[string]string{
		"due":     fakeansible.Says(tb, due),
		"renewed": fakeansible.Says(tb, renewed),
		"hook": fmt.Sprintf(`#!/bin/sh
cd '%s' || exit
case $1:$2 in
renew-certs.yml:*) cp renewed inspect.yml ;;
lock.yml:*release*) cp due inspect.yml ;;
esac
`, dir),
	} {
		if err := testcommand.Write(filepath.Join(dir, name), text); err != nil {
			panic(err)
		}
	}
	for name, value := range map[string]string{"PATH": dir + ":" + os.Getenv("PATH"), "XDG_STATE_HOME": filepath.Join(dir, "state")} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	return test()
}

// realAnsible is the directory of the Ansible in PATH, without a fake one.
func realAnsible(tb testing.TB) string {
	tb.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH"))[1:] {
		if _, err := os.Stat(filepath.Join(dir, "ansible-playbook")); err == nil {
			return dir
		}
	}
	tb.Fatal("there is no ansible-playbook: run hack/packages unit")
	return ""
}

// exampleTB stands in for the test that examples do not have.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()           {}
func (exampleTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
