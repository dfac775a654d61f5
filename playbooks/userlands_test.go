package playbooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// userlands are core utilities, shells and versions of OpenSSL that nodes have, by their directory of
// hack/userlands.
var userlands = []struct {
	// name is for people, dir comes first in PATH, sh takes the place of /bin/sh, and version
	// prints what it is.
	name, dir, sh, version string
	// refuses is why nothing is changed there, and blind is true if nothing can be inspected either.
	refuses string
	blind   bool
}{
	{name: "uutils coreutils, newest", dir: "uutils", version: "date --version"},
	{name: "uutils coreutils of Debian 13", dir: "uutils-0.0.30", version: "date --version", refuses: "change while they are being backed up, or cannot be copied"},
	{name: "BusyBox", dir: "busybox", version: "busybox", refuses: "these tools of this node cannot do what is needed: find cp mv du df."},
	{name: "bash as sh", sh: "bash", version: "bash --version"},
	{name: "mksh as sh", dir: "mksh", sh: "mksh", version: "mksh -c 'echo $KSH_VERSION'", blind: true, refuses: "the sh of this node computes with 32 bits"},
	{name: "BusyBox ash as sh, with its own tools", sh: "busybox ash", version: "busybox", refuses: "these tools of this node cannot do what is needed: "},
	{name: "OpenSSL 1.1.1", dir: "openssl-1.1.1", version: "openssl version"},
	{name: "OpenSSL 3.5", dir: "openssl-3.5", version: "openssl version"},
}

// onEachUserland are tests of what scripts do on a node: backup, renewal, restore, lock, inspection.
const onEachUserland = "TestBackup|TestBackupRefusesNames|TestTamperedBackup|TestVerifiedBackup|TestPrune|TestRestore|" +
	"TestReissue|TestPlaceCA|TestCollectorFollowsLinks|TestEtcdSignedElsewhere|TestEtcdRenewal|TestKubeletWithoutItsPair|" +
	"TestLock|TestLockAge|TestLockRefuses|TestKeep|TestKeepIsNoCondition|TestRecall|TestRenewalFollowsLinks|TestPlace|TestPlacePair|TestCheckSuccessor|" +
	"TestRenewServingPair|TestDurations|TestLeasesAreReleased|TestManifestsOfAnyStyle|TestRenewalRefusesByName|TestAdministrator"

// The scripts do the same with other tools, shells and versions of OpenSSL.
func TestUserlands(t *testing.T) {
	dir := os.Getenv("KSCERTCTL_TRY_USERLANDS")
	if dir == "" {
		t.Skip("KSCERTCTL_TRY_USERLANDS is not set: task test:userlands:all")
	}
	run := onEachUserland
	if testing.Short() {
		run = "TestBackup|TestEtcdRenewal|TestRenewalRefusesByName|TestLock"
	}
	page := "testdata/userlands.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, row := range userlands {
		t.Run(row.name, func(t *testing.T) {
			if row.dir != "" {
				t.Setenv("PATH", filepath.Join(dir, row.dir)+":"+os.Getenv("PATH"))
			}
			t.Setenv("KSCERTCTL_TRY_SH", row.sh)
			t.Setenv("KSCERTCTL_TRY_USERLANDS", "")
			version, err := exec.Command("sh", "-c", row.version+" 2>&1 | head -n 1").Output()
			if err != nil {
				t.Fatal(err)
			}
			outcome := "refused: " + row.refuses
			if row.refuses != "" {
				n := newNode(t)
				n.write(n.conf+"/files/ca.crt", nil, 0o600)
				n.ok(os.Symlink("files", n.conf+"/ssl"))
				out, errs, err := n.run(script(t, manifestLib, "backup/files/etcd.sh", "backup/files/backup.sh"))
				if _, made := os.Stat(n.backup); err == nil || made == nil || !strings.Contains(errs, row.refuses) {
					t.Errorf("%v: %s%s", err, out, errs)
				}
				if out, errs, err = n.sh(collector(t)); row.blind != (err != nil) || row.blind != !strings.Contains(out, "@@END") {
					t.Errorf("the inspection: %v: %s%s", err, out, errs)
				}
			} else {
				out, err := exec.Command(os.Args[0], "-test.v", "-test.run", "^("+run+")$").CombinedOutput()
				passed := len(regexp.MustCompile(`(?m)^ *--- PASS`).FindAllIndex(out, -1))
				if err != nil || passed < 10 {
					t.Errorf("%v: %s%s", err, version, out)
				}
				outcome = "passes"
			}
			fmt.Fprintf(&table, "| %s | %s | %s |\n", row.name, strings.TrimSpace(string(version)), outcome)
		})
		if os.Getenv("UPDATE_DOCS") == "" && !strings.Contains(string(text), "| "+row.name+" |") {
			t.Errorf("%s has no row for %s: UPDATE_DOCS=1", page, row.name)
		}
	}
	if os.Getenv("UPDATE_DOCS") != "" && !testing.Short() && !t.Failed() {
		head, _, _ := strings.Cut(string(text), "| --- | --- | --- |\n")
		if err := os.WriteFile(page, []byte(head+"| --- | --- | --- |\n"+table.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
