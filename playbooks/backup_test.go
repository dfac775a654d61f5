package playbooks_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// What the roles put before the scripts that take and read backups.
const manifestLib = "settings/files/manifest.sh"

// script joins files of the roles into one script.
func script(t *testing.T, paths ...string) string {
	t.Helper()
	var all strings.Builder
	for _, p := range paths {
		all.WriteString(role(t, p) + "\n")
	}
	return all.String()
}

func backupScript(t *testing.T) string {
	t.Helper()
	return script(t, manifestLib, "backup/files/etcd.sh", "backup/files/backup.sh")
}

func backupsScript(t *testing.T) string {
	t.Helper()
	return script(t, manifestLib, "backups/files/backups.sh")
}

func restoreScript(t *testing.T) string {
	t.Helper()
	return script(t, manifestLib, "restore/files/verify.sh", "restore/files/restore.sh")
}

// A tool that fails, in any pipe, leaves no backup that passes for a verified one.
func TestBackupOfNothing(t *testing.T) {
	t.Parallel()
	const stops = "case $* in *-printf*) /usr/bin/find \"$@\" | head -n 3 && exit 1 ;; esac\nexec /usr/bin/find \"$@\""
	for name, row := range map[string]struct{ tool, text string }{
		"no find": {"find", "exit 1"}, "half a find": {"find", stops}, "no digests": {"sha256sum", "exit 1"}, "no awk": {"awk", "exit 1"}, "no sort": {"sort", "exit 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := furnish(t)
			n.write(n.bin+"/"+row.tool, []byte("#!/bin/sh\n"+row.text+"\n"), 0o700)
			out, errs, err := n.run(backupScript(t))
			if _, complete := os.Stat(n.backup + "/COMPLETE"); err == nil || complete == nil {
				t.Errorf("a backup is verified: %s%s", out, errs)
			}
		})
	}
}

// root is the directory that stands for the node's "/".
func (n *node) root() string { return filepath.Dir(n.conf) }

// places are the covered places that the fixture has.
func (n *node) places() []string {
	return []string{n.conf, n.etcd, n.root() + "/var/lib/kubelet", n.root() + "/root/.kube/config"}
}

// furnish puts one of everything that a backup has to keep on the node.
func furnish(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	kubelet := n.root() + "/var/lib/kubelet/pki"
	n.write(n.conf+"/ssl/ca.key", []byte("the authority's key"), 0o600)
	n.write(n.conf+"/ssl/apiserver.crt", []byte("an old certificate"), 0o644)
	n.write(n.conf+"/ssl/secrets_encryption.yaml", nil, 0o640)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte("kind: Pod\n"), 0o600)
	n.write(n.conf+"/a name with blanks", []byte{0, 1, '\n', 0xff}, 0o4755)
	n.write(n.conf+"/tmp/kubeadm-backup-etcd/db", bytes.Repeat([]byte("x"), 1<<20), 0o600)
	n.ok(os.MkdirAll(n.conf+"/empty", 0o1700))
	n.ok(os.Symlink("ssl", n.conf+"/pki"))
	n.ok(os.Symlink("/nowhere at all", n.conf+"/dangling"))
	n.write(kubelet+"/kubelet-client-2026-01-01-00-00-00.pem", []byte("old"), 0o600)
	n.write(kubelet+"/kubelet-client-2026-02-01-00-00-00.pem", []byte("new"), 0o600)
	n.ok(os.Symlink(kubelet+"/kubelet-client-2026-01-01-00-00-00.pem", kubelet+"/kubelet-client-current.pem"))
	n.write(n.root()+"/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\n"), 0o644)
	n.write(n.etcd+"/ca-key.pem", []byte("etcd's"), 0o640)
	n.write(n.root()+"/root/.kube/config", []byte("kind: Config\n"), 0o600)
	if os.Geteuid() == 0 {
		n.ok(os.Chown(n.conf+"/ssl", 4711, 4712))
		n.ok(os.Chown(n.conf+"/ssl/secrets_encryption.yaml", 0, 4712))
		n.ok(os.Lchown(n.conf+"/pki", 4711, 4712))
	}
	if attributes(t, n.conf) {
		n.ok(syscall.Setxattr(n.conf+"/ssl/ca.key", "user.kscertctl", []byte("kept = yes"), 0))
		n.ok(syscall.Setxattr(n.conf+"/ssl", "user.folder", []byte{0, 1}, 0))
	}
	old := time.Date(2020, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for _, path := range []string{n.conf + "/ssl/ca.key", n.conf + "/ssl", n.conf + "/empty", n.conf} {
		n.ok(os.Chtimes(path, old, old))
	}
	return n
}

// attributes reports whether extended attributes can be set in the directory, and whether the roles
// can see them.
func attributes(t *testing.T, dir string) bool {
	t.Helper()
	_, err := exec.LookPath("getfattr")
	return err == nil && syscall.Setxattr(dir, "user.try", nil, 0) == nil && syscall.Removexattr(dir, "user.try") == nil
}

// tree describes everything below some places that a backup has to keep.
func (n *node) tree(prefix string) map[string]string {
	n.t.Helper()
	all := map[string]string{}
	for _, place := range n.places() {
		n.ok(filepath.WalkDir(prefix+place, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path == prefix+n.conf+"/tmp" {
				return fs.SkipDir
			}
			name := strings.TrimPrefix(path, prefix)
			if strings.HasSuffix(name, "/var/lib/kubelet") {
				return nil // its content is not covered
			}
			all[name] = n.describe(path)
			return nil
		}))
	}
	return all
}

func (n *node) describe(path string) string {
	n.t.Helper()
	info, err := os.Lstat(path)
	n.ok(err)
	content := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		content, err = os.Readlink(path)
		n.ok(err)
	case info.Mode().IsRegular():
		content = fmt.Sprintf("%x", sha256.Sum256(n.read(path)))
	}
	var attrs []string
	if info.Mode()&fs.ModeSymlink == 0 {
		names := make([]byte, 4096)
		size, err := syscall.Listxattr(path, names)
		if err != nil {
			size = 0
		}
		for name := range strings.SplitSeq(strings.Trim(string(names[:size]), "\x00"), "\x00") {
			value := make([]byte, 4096)
			if size, err := syscall.Getxattr(path, name, value); err == nil {
				attrs = append(attrs, fmt.Sprintf("%s=%x", name, value[:size]))
			}
		}
	}
	return fmt.Sprint(info.Mode(), " ", owner(info), " ", info.ModTime().UnixNano(), " ", content, " ", sorted(attrs))
}

// wantSame fails the test unless both trees are the same in everything.
func wantSame(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path, w := range want {
		if got[path] != w {
			t.Errorf("%s is %q, want %q", path, got[path], w)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s should not be there", path)
		}
	}
}

// good runs a script that must succeed.
func (n *node) good(script string) string {
	n.t.Helper()
	out, errs, err := n.run(script)
	if err != nil {
		n.t.Fatalf("%v\n%s%s", err, out, errs)
	}
	return out
}

// refused runs a script that must fail and give this reason.
func (n *node) refused(script, why string) {
	n.t.Helper()
	out, errs, err := n.run(script)
	if err == nil || !strings.Contains(errs, why) {
		n.t.Errorf("%v: %q, want %q\n%s", err, errs, why, out)
	}
}

// exists reports whether the path exists, even as a dangling link.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// --- taking a backup ---------------------------------------------------------------

func TestBackup(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	before := n.tree("")
	out := n.good(backupScript(t))
	if !strings.HasPrefix(out, "@@BACKUP run made ") || !strings.Contains(out, "\n@@END\n") || !strings.Contains(out, "changed: backed up ") {
		t.Errorf("it says %q", out)
	}
	wantSame(t, n.tree(""), before)
	wantSame(t, n.tree(n.backup+"/files"), before)
	if exists(n.backup + "/files" + n.conf + "/tmp") {
		t.Error("kubeadm's own copies are in the backup")
	}
	if info, err := os.Stat(n.backup); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the backup folder: %v %v", info, err)
	}
	names, err := filepath.Glob(n.backup + "/*")
	n.ok(err)
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	if want := []string{"COMPLETE", "MANIFEST", "files"}; !slices.Equal(names, want) {
		t.Errorf("the folder holds %v, want %v", names, want)
	}
	// A place that did not exist is covered, too: a rollback removes what appears there.
	if !strings.Contains(string(n.read(n.backup+"/MANIFEST")), "\nroot\t"+n.root()+"/etc/etcd.env\n") {
		t.Error("a place where nothing is does not count as covered")
	}

	// A second run keeps the backup, whatever has changed since.
	n.write(n.conf+"/ssl/apiserver.crt", []byte("changed since"), 0o644)
	complete := n.describe(n.backup + "/COMPLETE")
	if out := n.good(backupScript(t)); strings.Contains(out, "changed: ") || !strings.HasPrefix(out, "@@BACKUP run kept ") {
		t.Errorf("it says %q", out)
	}
	if n.describe(n.backup+"/COMPLETE") != complete {
		t.Error("the backup was written again")
	}
	wantSame(t, n.tree(n.backup+"/files"), before)
}

// A directory with an unfinished backup is made again; one that is not ours is left alone.
func TestBackupMeetsAFolder(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		edit    func(*node)
		refusal string
	}{
		{"begun and not finished", func(n *node) {
			n.write(n.backup+"/MANIFEST", []byte("kscertctl-backup\t1\n"), 0o600)
			n.write(n.backup+"/files/half", nil, 0o600)
		}, ""},
		{"made and nothing in it", func(n *node) { n.ok(os.Mkdir(n.backup, 0o700)) }, ""},
		{"someone else's", func(n *node) { n.write(n.backup+"/precious", nil, 0o600) }, "is there and is no backup of kscertctl"},
		{"of a format to come", func(n *node) {
			n.write(n.backup+"/MANIFEST", []byte("kscertctl-backup\t2\n"), 0o600)
			n.write(n.backup+"/COMPLETE", nil, 0o600)
		}, "has another format"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := furnish(t)
			row.edit(n)
			if row.refusal != "" {
				n.refused(backupScript(t), row.refusal)
				if entries, err := os.ReadDir(n.backup); err != nil || len(entries) == 0 {
					t.Errorf("what was there is gone: %v", err)
				}
				return
			}
			n.good(backupScript(t))
			if exists(n.backup + "/files/half") {
				t.Error("it was not made again")
			}
			wantSame(t, n.tree(n.backup+"/files"), n.tree(""))
		})
	}
}

func TestBackupInCheckMode(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	n.check = "True"
	if out := n.good(backupScript(t)); !strings.Contains(out, "changed: would back up") {
		t.Errorf("it says %q", out)
	}
	if exists(n.backup) {
		t.Error("check mode made a folder")
	}
}

// A name that does not fit on one line stops the backup, and with it the run.
func TestBackupRefusesNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tab\tin it", "line\nbreak", `back\slash`} {
		n := furnish(t)
		n.write(n.conf+"/"+name, nil, 0o600)
		n.refused(backupScript(t), "nothing was backed up")
		if exists(n.backup) {
			t.Errorf("%q: a folder is left", name)
		}
	}
}

// small mounts a file system of so many KiB, or skips the test.
func small(t *testing.T, dir string, kib int) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=755,size=%dk", kib)); err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func TestBackupWithoutRoom(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	small(t, filepath.Dir(n.backup), 100)
	n.refused(backupScript(t), "not enough space for a backup: it needs 5 MiB, and "+filepath.Dir(n.backup)+" has 0 MiB. Free some there")
	if exists(n.backup) {
		t.Error("a folder is left")
	}
	n.check = "True"
	n.refused(backupScript(t), "not enough space for a backup")
	n.check = "False"
	// Space that df promised may be gone a moment later.
	lying := strings.Replace(backupScript(t), `[ "$free" -ge "$need" ]`, "true", 1)
	if lying == backupScript(t) {
		t.Fatal("the script does not ask for room as it did")
	}
	n.write(n.conf+"/big", bytes.Repeat([]byte("x"), 200<<10), 0o600)
	n.refused(lying, "or cannot be copied")
	if exists(n.backup) {
		t.Error("a folder is left")
	}
}

// --- the snapshot of etcd ------------------------------------------------------------

// member gives the node an etcd whose database has so many bytes, as openssl's client reads it.
// stream is a command that prints a snapshot; the requests are in the file "asked". For backups, so
// many KiB are free.
func (n *node) member(size, stream string, free int) {
	n.t.Helper()
	openssl, err := exec.LookPath("openssl")
	n.ok(err)
	n.write(n.etcd+"/admin-cp1.pem", []byte("a certificate"), 0o600)
	n.write(n.etcd+"/admin-cp1-key.pem", []byte("its key"), 0o600)
	n.write(n.bin+"/openssl", fmt.Appendf(nil, `#!/bin/sh
[ "$1" = s_client ] || exec %s "$@"
read -r _ path _
echo "${path##*/}" >>%s/asked
case $path in
*/status) printf 'HTTP/1.0 200 OK\r\n\r\n{"version":"3.5","dbSize":"%%s"}\n' '%s' ;;
*/snapshot) %s ;;
esac
`, openssl, n.root(), size, stream), 0o700)
	n.write(n.bin+"/df", fmt.Appendf(nil, "#!/bin/sh\necho header\necho / 9 9 %d 1%% /\n", free), 0o700)
}

// snapshotOf writes what etcd's gateway answers for a database, and returns a command that prints
// so many lines of it.
func (n *node) snapshotOf(db []byte, lines string) string {
	n.t.Helper()
	sum := sha256.Sum256(db)
	var text strings.Builder
	for chunk := range slices.Chunk(slices.Concat(db, sum[:]), 1000) {
		fmt.Fprintf(&text, "{\"result\":{\"remaining_bytes\":\"1\",\"blob\":\"%s\"}}\n", base64.StdEncoding.EncodeToString(chunk))
	}
	n.write(n.root()+"/stream", []byte(text.String()), 0o600)
	return "head -n " + lines + " " + n.root() + "/stream"
}

func TestEtcdSnapshot(t *testing.T) {
	t.Parallel()
	const (
		plenty = 100 << 20 // KiB free
		small  = "5000"
		whole  = "-0"
		cutOff = "2"
	)
	mib := func(n int) string { return fmt.Sprint(n << 20) }
	for _, row := range []struct {
		name, choice string
		size         string // of the database; the stream is always small
		lines        string
		sleep        string
		free         int
		seconds      int
		edit         func(string) string
		env          string // etcd's settings
		unasked      bool   // no snapshot is requested from etcd
		without      string // why there is none; empty if one is saved
		refusal      string // then nothing is left
		would        string // what check mode reports; empty if it is not run
	}{
		{name: "small", choice: "auto", size: small, would: "would save a snapshot of etcd, 1 MiB, in about 1 s"},
		{name: "within the bound", choice: "auto", size: mib(2400), would: "would save a snapshot of etcd, 2400 MiB, in about 120 s"},
		{
			name: "beyond the bound", choice: "auto", size: mib(2400) + "1", unasked: true, without: "MiB would take about",
			would: "would leave a snapshot of etcd out: 2",
		},
		{name: "just beyond the bound", choice: "auto", size: mib(2401), unasked: true, without: "2401 MiB would take about 121 s, longer than 120 s"},
		{name: "another bound", choice: "auto", size: mib(2401), seconds: 121},
		{name: "beyond the bound, but asked for", choice: "always", size: mib(5000), would: "would save a snapshot of etcd, 5000 MiB, in about 250 s"},
		{
			name: "no room for it", choice: "auto", size: mib(1000), free: 1260 << 10, unasked: true,
			without: "with the files it needs 1261 MiB, of which 256 stay free, but BACKUPS has 1260 MiB",
			would:   "would leave a snapshot of etcd out: with the files it needs 1261 MiB",
		},
		{name: "just room enough", choice: "auto", size: mib(1000), free: 1261 << 10},
		{
			name: "no room for it, but asked for", choice: "always", size: mib(1000), free: 1260 << 10, unasked: true,
			refusal: "no backup without a snapshot of etcd: with the files it needs 1261 MiB, of which 256 stay free, but BACKUPS has 1260 MiB." +
				" Fix that, or allow skipping it with --etcd-snapshot auto",
		},
		{name: "not wanted", choice: "never", size: small, unasked: true, without: "none was asked for", would: "would leave a snapshot of etcd out: none was asked for"},
		{name: "no answer", choice: "auto", size: "", unasked: true, without: "etcd does not answer"},
		{name: "no answer, with HTTP elsewhere", choice: "auto", env: "ETCD_LISTEN_CLIENT_HTTP_URLS=http://127.0.0.1:2382\n", unasked: true, without: "etcd has another port for HTTP (listen-client-http-urls)"},
		{name: "no answer, without a gateway", choice: "auto", env: "ETCD_ENABLE_GRPC_GATEWAY=\"false\"\n", unasked: true, without: "etcd's JSON gateway is switched off"},
		{name: "no number", choice: "auto", size: "-5", unasked: true, without: "etcd does not answer"},
		{name: "a number that nothing has", choice: "auto", size: strings.Repeat("9", 30), unasked: true, without: "etcd does not answer"},
		{name: "no answer, but asked for", choice: "always", size: "", unasked: true, refusal: "etcd does not answer"},
		{name: "cut off", choice: "auto", size: small, lines: cutOff, without: "etcd's was cut off, or took longer than 120 s"},
		{name: "cut off, but asked for", choice: "always", size: small, lines: cutOff, refusal: "etcd's was cut off, or took longer than 124 s"},
		{name: "slow", choice: "auto", size: small, sleep: "30", seconds: 1, without: "etcd's was cut off, or took longer than 1 s"},
		{name: "slow, but asked for", choice: "always", size: small, sleep: "1.5", seconds: 1},
		{
			name: "more than it answered", choice: "auto", size: small, without: "etcd's was cut off",
			edit: func(script string) string {
				return strings.Replace(script, "bytes + etcd_spare * 524288", "bytes - 1", 1)
			},
		},
		{name: "a word that is none", choice: "yes", size: small, unasked: true, refusal: "kscert_etcd_snapshot is yes: use auto, always or never"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/ssl/ca.key", []byte("the authority's key"), 0o600)
			if row.env != "" {
				n.write(filepath.Dir(n.conf)+"/etc/etcd.env", []byte(row.env), 0o600)
			}
			db := bytes.Repeat([]byte("bolt!"), 1000)
			n.member(row.size, "sleep "+cmp.Or(row.sleep, "0")+"; "+n.snapshotOf(db, cmp.Or(row.lines, whole)), cmp.Or(row.free, plenty))
			script := fmt.Sprintf("KSCERT_ETCD_SNAPSHOT=%s KSCERT_ETCD_SNAPSHOT_SECONDS=%d\n", row.choice, cmp.Or(row.seconds, 120)) + backupScript(t)
			if row.edit != nil {
				was := script
				if script = row.edit(was); script == was {
					t.Fatal("the script is not what this edits")
				}
			}
			text := func(s string) string { return strings.ReplaceAll(s, "BACKUPS", filepath.Dir(n.backup)) }

			// Check mode reports what would happen. It neither writes nor requests a snapshot.
			n.check = "True"
			out, errs, err := n.run(script)
			if !strings.Contains(out, text(row.would)) || (row.would != "" && err != nil) || exists(n.backup) {
				t.Errorf("in check mode: %v: %q %q, want %q", err, out, errs, row.would)
			}
			n.check = "False"
			asked := n.root() + "/asked"
			if exists(asked) && strings.Contains(string(n.read(asked)), "snapshot") {
				t.Error("check mode asked etcd for a snapshot")
			}

			out, errs, err = n.run(script)
			if (err != nil) != (row.refusal != "") || !strings.Contains(errs, text(row.refusal)) {
				t.Fatalf("%v: %q, want %q\n%s", err, errs, text(row.refusal), out)
			}
			if got := exists(asked) && strings.Contains(string(n.read(asked)), "snapshot"); got == row.unasked {
				t.Errorf("etcd was asked for a snapshot: %t", got)
			}
			if row.refusal != "" {
				if exists(n.backup) {
					t.Error("a folder is left")
				}
				return
			}
			file := n.backup + "/etcd-snapshot.db"
			if exists(file) == (row.without != "") || exists(file+".new") {
				t.Errorf("there is a snapshot: %t, half of one: %t\n%s", exists(file), exists(file+".new"), out)
			}
			if row.without != "" {
				if want := "\n|etcd: no snapshot: "; !strings.Contains(out, want) || !strings.Contains(out, text(row.without)) {
					t.Errorf("it says %q, want %q", out, text(row.without))
				}
			} else if sum := sha256.Sum256(db); !bytes.Equal(n.read(file), slices.Concat(db, sum[:])) {
				t.Errorf("the snapshot has %d bytes, want %d", len(n.read(file)), len(db)+len(sum))
			}
			if out := n.good("KSCERT_BACKUP_ACTION=verify KSCERT_BACKUP_RUN=run\n" + backupsScript(t)); !strings.Contains(out, "@@BACKUP run verified ") {
				t.Errorf("it does not verify: %q", out)
			}
		})
	}
}

// A node without etcd has nothing to save, whatever the settings ask for.
func TestEtcdSnapshotOfAWorker(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	if out := n.good("KSCERT_ETCD_SNAPSHOT=always\n" + backupScript(t)); strings.Contains(out, "|etcd: ") || exists(n.backup+"/etcd-snapshot.db") {
		t.Errorf("it says %q", out)
	}
}

// The plan calculates with the same numbers as the nodes.
func TestEtcdSnapshotNumbers(t *testing.T) {
	t.Parallel()
	etcd, defaults := role(t, "backup/files/etcd.sh"), role(t, "settings/defaults/main.yml")
	for _, row := range []struct{ text, want string }{
		{etcd, fmt.Sprintf("\netcd_pace=%d\n", plan.SnapshotPace>>20)},
		{etcd, fmt.Sprintf("\netcd_spare=%d\n", plan.SnapshotSpare>>20)},
		{defaults, fmt.Sprintf("\nkscert_etcd_snapshot_seconds: %.0f\n", plan.SnapshotBound.Seconds())},
		{defaults, "\nkscert_etcd_snapshot: " + string(plan.SnapshotAuto) + "\n"},
		{defaults, fmt.Sprintf(" at %d MiB a second", plan.SnapshotPace>>20)},
	} {
		if !strings.Contains(row.text, row.want) {
			t.Errorf("the roles have no %q", row.want)
		}
	}
	for _, choice := range plan.EtcdSnapshots() {
		if !regexp.MustCompile(`\b` + string(choice) + `\b`).MatchString(etcd) {
			t.Errorf("the role backup does not know %s", choice)
		}
	}
}

// --- verifying ---------------------------------------------------------------------

// tampering lists what may happen to a backup, and what is reported about it.
var tampering = []struct {
	name string
	edit func(*node)
	says string // with BACKUP and CONF for the paths
}{
	{"another content", func(n *node) { n.scribble("/ssl/ca.key") }, "differs CONF/ssl/ca.key (content)"},
	{"another mode", func(n *node) { n.ok(os.Chmod(n.copied("/ssl/ca.key"), 0o644)) }, "differs CONF/ssl/ca.key (mode)"},
	{"another time", func(n *node) {
		n.ok(os.Chtimes(n.copied("/ssl/ca.key"), time.Unix(1, 0), time.Unix(1, 1)))
	}, "differs CONF/ssl/ca.key (time)"},
	{"another attribute", func(n *node) {
		if !attributes(n.t, n.conf) {
			n.t.Skip("no extended attributes here")
		}
		n.ok(syscall.Setxattr(n.copied("/ssl/ca.key"), "user.kscertctl", []byte("no"), 0))
	}, "differs CONF/ssl/ca.key (attributes)"},
	{"another owner", func(n *node) {
		if os.Geteuid() != 0 {
			n.t.Skip("needs root")
		}
		n.ok(os.Chown(n.copied("/ssl/ca.key"), 1, 2))
	}, "differs CONF/ssl/ca.key (owner, group)"},
	{"another target", func(n *node) {
		n.ok(os.Remove(n.copied("/pki")))
		n.ok(os.Symlink("elsewhere", n.copied("/pki")))
	}, "differs CONF/pki ("},
	{"a file less", func(n *node) { n.ok(os.Remove(n.copied("/manifests/kube-apiserver.yaml"))) }, "missing CONF/manifests/kube-apiserver.yaml"},
	{"a file more", func(n *node) { n.write(n.copied("/ssl/evil"), nil, 0o600) }, "extra CONF/ssl/evil"},
	{"another manifest", func(n *node) {
		n.write(n.backup+"/MANIFEST", bytes.Replace(n.read(n.backup+"/MANIFEST"), []byte("f\t600"), []byte("f\t666"), 1), 0o600)
	}, "differs BACKUP/MANIFEST (content)"},
	{"no snapshot of etcd, where there was one", func(n *node) {
		n.write(n.backup+"/COMPLETE", bytes.Replace(n.read(n.backup+"/COMPLETE"), []byte("etcd-snapshot - 0"), []byte("etcd-snapshot 1234 5"), 1), 0o600)
	}, "differs BACKUP/etcd-snapshot.db (content)"},
}

func (n *node) copied(path string) string { return n.backup + "/files" + n.conf + path }

// scribble changes a copy like bit rot: size and time stay.
func (n *node) scribble(path string) {
	n.t.Helper()
	info, err := os.Stat(n.copied(path))
	n.ok(err)
	data := n.read(n.copied(path))
	data[0] ^= 1
	n.write(n.copied(path), data, info.Mode())
	n.ok(os.Chtimes(n.copied(path), info.ModTime(), info.ModTime()))
}

// Listing, verifying and restoring each detect and name any damage to a backup, before anything is
// changed.
func TestTamperedBackup(t *testing.T) {
	t.Parallel()
	for _, row := range tampering {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := furnish(t)
			n.good(backupScript(t))
			row.edit(n)
			says := strings.NewReplacer("BACKUP", n.backup, "CONF", n.conf).Replace(row.says)
			verify := "KSCERT_BACKUP_ACTION=verify KSCERT_BACKUP_RUN=run\n" + backupsScript(t)
			if out := n.good(verify); !strings.HasPrefix(out, "@@BACKUP run damaged ") || !strings.Contains(out, "\n|"+says) {
				t.Errorf("verify says %q, want %q", out, says)
			}
			n.refused(backupScript(t), says)
			n.refused(n.rollback(), says)
		})
	}
}

func TestVerifiedBackup(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	verify := "KSCERT_BACKUP_ACTION=verify KSCERT_BACKUP_RUN=\n" + backupsScript(t)
	if out := n.good(verify); out != "@@END\n" {
		t.Errorf("of no backup it says %q", out)
	}
	n.good(backupScript(t))
	if out := n.good(verify); !strings.HasPrefix(out, "@@BACKUP run verified ") || strings.Contains(out, "|") {
		t.Errorf("it says %q", out)
	}
	if out := n.good(strings.Replace(verify, "RUN=", "RUN=another", 1)); out != "@@BACKUP another missing - - - - -\n@@END\n" {
		t.Errorf("of another run it says %q", out)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	begun := func(run string, complete bool, age time.Duration) {
		dir := filepath.Dir(n.backup) + "/" + run
		n.write(dir+"/MANIFEST", []byte("kscertctl-backup\t1\n"), 0o600)
		if complete {
			n.write(dir+"/COMPLETE", []byte("kscertctl-backup 1\nmade 1\nentries 0\nkib 0\nmanifest -\netcd-snapshot - 0\n"), 0o600)
		}
		then := time.Now().Add(-age)
		n.ok(os.Chtimes(dir+"/MANIFEST", then, then))
	}
	begun("now", false, time.Minute)
	begun("newest", true, 2*time.Hour)
	begun("newer", true, 3*time.Hour)
	begun("old", true, 4*time.Hour)
	begun("resumable", true, 5*time.Hour)
	begun("abandoned", false, 6*time.Hour)
	n.write(filepath.Dir(n.backup)+"/precious/file", nil, 0o600)
	// Records go after them, by the same rule.
	records := n.root() + "/state/runs/"
	for _, run := range []string{"3", "2", "1", "newer", "old", "other"} { // of the newest by their names, "other" and "old"
		n.write(records+run+"/journal.jsonl", nil, 0o600)
	}
	prune := "KSCERT_BACKUP_ACTION=prune KSCERT_BACKUP_RUN= KSCERT_BACKUP_KEEP=2 KSCERT_BACKUP_PROTECT='1 resumable' KSCERT_STATE_DIR='" + n.root() + "/state'\n" + backupsScript(t)
	n.check = "True"
	if out := n.good(prune); strings.Contains(out, " pruned ") || strings.Count(out, "changed: would remove ") != 4 || !exists(records+"2") {
		t.Errorf("in check mode it says %q", out)
	}
	n.check = "False"
	out := n.good(prune)
	for run, state := range map[string]string{"now": "kept", "newest": "kept", "newer": "kept", "old": "pruned", "resumable": "kept", "abandoned": "pruned"} {
		if !strings.Contains(out, "@@BACKUP "+run+" "+state+" ") || exists(filepath.Dir(n.backup)+"/"+run) != (state == "kept") {
			t.Errorf("%s was not %s:\n%s", run, state, out)
		}
	}
	if !exists(filepath.Dir(n.backup) + "/precious/file") {
		t.Error("a folder of someone else was removed")
	}
	for run, kept := range map[string]bool{"other": true, "old": true, "newer": true, "1": true, "2": false, "3": false} {
		if exists(records+run) != kept {
			t.Errorf("the record of run %s: kept is not %t:\n%s", run, kept, out)
		}
	}
}

// --- restoring ---------------------------------------------------------------------

// rollback is the script that restores the backup "run". The rollback's own backup must exist.
func (n *node) rollback() string {
	n.t.Helper()
	return "KSCERT_RESTORE_RUN=run KSCERT_RESTORE_MANIFEST=${KSCERT_RESTORE_MANIFEST:-}\n" + restoreScript(n.t)
}

// changes are what a run, or anyone else, may have done since the backup.
var changes = []struct {
	name string
	edit func(*node)
}{
	{"nothing", func(*node) {}},
	{"a content", func(n *node) { n.write(n.conf+"/ssl/apiserver.crt", []byte("a new certificate"), 0o644) }},
	{"a mode", func(n *node) { n.ok(os.Chmod(n.conf+"/ssl/ca.key", 0o644)) }},
	{"a time", func(n *node) { n.ok(os.Chtimes(n.conf+"/ssl/ca.key", time.Now(), time.Now())) }},
	{"the time of a folder", func(n *node) { n.ok(os.Chtimes(n.conf, time.Now(), time.Now())) }},
	{"an attribute", func(n *node) {
		if attributes(n.t, n.conf) {
			n.ok(syscall.Removexattr(n.conf+"/ssl/ca.key", "user.kscertctl"))
			n.ok(syscall.Removexattr(n.conf+"/ssl", "user.folder"))
			n.ok(syscall.Setxattr(n.conf+"/ssl", "user.another", nil, 0))
		}
	}},
	{"owners", func(n *node) {
		if os.Geteuid() == 0 {
			n.ok(os.Chown(n.conf+"/ssl", 0, 0))
			n.ok(os.Chown(n.conf+"/ssl/secrets_encryption.yaml", 1, 1))
			n.ok(os.Lchown(n.conf+"/pki", 0, 0))
		}
	}},
	{"a file gone", func(n *node) { n.ok(os.Remove(n.conf + "/a name with blanks")) }},
	{"a folder gone", func(n *node) { n.ok(os.RemoveAll(n.conf + "/ssl")) }},
	{"all gone", func(n *node) {
		for _, place := range n.places() {
			n.ok(os.RemoveAll(place))
		}
	}},
	{"files and folders more", func(n *node) {
		n.write(n.conf+"/ssl/more/and/more", nil, 0o600)
		n.write(n.conf+"/empty/file", nil, 0o600)
		n.ok(os.Symlink("x", n.conf+"/another link"))
	}},
	{"a place that was empty", func(n *node) { n.write(n.root()+"/etc/etcd.env", nil, 0o600) }},
	{"the rotating link", func(n *node) {
		link := n.root() + "/var/lib/kubelet/pki/kubelet-client-current.pem"
		n.ok(os.Remove(link))
		n.ok(os.Symlink("kubelet-client-2026-02-01-00-00-00.pem", link))
	}},
	{"a link in a file's place", func(n *node) {
		n.ok(os.Remove(n.conf + "/ssl/ca.key"))
		n.ok(os.Symlink("/etc/hostname", n.conf+"/ssl/ca.key"))
	}},
	{"a folder in a link's place", func(n *node) {
		n.ok(os.Remove(n.conf + "/pki"))
		n.write(n.conf+"/pki/ca.key", []byte("a new authority"), 0o600)
	}},
	{"a file in a folder's place", func(n *node) {
		n.ok(os.RemoveAll(n.conf + "/manifests"))
		n.write(n.conf+"/manifests", nil, 0o600)
	}},
	{"what an interrupted run leaves behind", func(n *node) {
		n.write(n.conf+"/.kscertctl.ABCDEF/pki/apiserver.key", []byte("a key"), 0o600)
		n.write(n.conf+"/ssl/.kscertctl.apiserver.key", []byte("a key"), 0o600)
		n.write(n.root()+"/root/.kube/.kscertctl.config", []byte("a key"), 0o600)
	}},
}

// ownBackup takes the backup that a rollback takes before it restores.
func (n *node) ownBackup() {
	n.t.Helper()
	n.backup = filepath.Dir(n.backup) + "/rollback"
	n.good(backupScript(n.t))
}

func TestRestore(t *testing.T) {
	t.Parallel()
	for _, row := range changes {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := furnish(t)
			n.good(backupScript(t))
			before := n.tree("")
			row.edit(n)
			n.ownBackup()
			out := n.good(n.rollback())
			wantSame(t, n.tree(""), before)
			if row.name == "nothing" && !strings.HasPrefix(out, "@@RESTORED run unchanged 0 0\n") {
				t.Errorf("it says %q", out)
			}
			if exists(n.root() + "/etc/etcd.env") {
				t.Error("what was made in an empty place is left")
			}
			for _, left := range []string{n.conf + "/.kscertctl.ABCDEF", n.root() + "/root/.kube/.kscertctl.config"} {
				if exists(left) {
					t.Errorf("%s is left behind", left)
				}
			}
			if out := n.good(n.rollback()); !strings.HasPrefix(out, "@@RESTORED run unchanged 0 0\n") {
				t.Errorf("a second time it says %q", out)
			}
		})
	}
}

// What did not change is not written again: other processes may have it open.
func TestRestoreTouchesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	n.good(backupScript(t))
	inode := func(path string) uint64 {
		var st syscall.Stat_t
		n.ok(syscall.Lstat(path, &st))
		return st.Ino
	}
	kept := inode(n.conf + "/ssl/ca.key")
	n.write(n.conf+"/ssl/apiserver.crt", []byte("a new certificate"), 0o644)
	n.ownBackup()
	out := n.good(n.rollback())
	if inode(n.conf+"/ssl/ca.key") != kept {
		t.Error("a file that had not changed was written again")
	}
	if want := "|restored " + n.conf + "/ssl/apiserver.crt\n"; !strings.Contains(out, want) || strings.Contains(out, "ca.key") {
		t.Errorf("it says %q", out)
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		edit  func(*node)
		vars  string
		says  string
		plain bool // without the rollback's own backup
	}{
		{"a run without a backup", func(n *node) { n.ok(os.RemoveAll(filepath.Dir(n.backup) + "/run")) }, "", "is missing", false},
		{"an incomplete backup", func(n *node) { n.ok(os.Remove(filepath.Dir(n.backup) + "/run/COMPLETE")) }, "", "is incomplete", false},
		{"a manifest that is not the noted one", func(*node) {}, "KSCERT_RESTORE_MANIFEST=1234\n", "differs from the one recorded", false},
		{"without a backup of what is there now", func(*node) {}, "", "there is no verified backup in", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := furnish(t)
			n.good(backupScript(t))
			n.write(n.conf+"/ssl/apiserver.crt", []byte("a new certificate"), 0o644)
			if row.plain {
				n.backup = filepath.Dir(n.backup) + "/rollback"
			} else {
				n.ownBackup()
			}
			row.edit(n)
			after := n.tree("")
			n.refused(row.vars+n.rollback(), row.says)
			wantSame(t, n.tree(""), after)
		})
	}
}

// A full disk leaves every file whole: the current version or the restored one.
func TestRestoreWithoutRoom(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	small(t, n.conf, 400)
	n.write(n.conf+"/big", bytes.Repeat([]byte("old"), 40<<10), 0o600)
	n.good(backupScript(t))
	before := n.tree2(n.conf)
	n.write(n.conf+"/big", bytes.Repeat([]byte("new"), 40<<10), 0o600)
	n.ownBackup()
	n.write(n.conf+"/tmp/filler", bytes.Repeat([]byte("x"), 240<<10), 0o600)
	n.refused(n.rollback(), n.conf+"/big cannot be written; it is as it was")
	if !bytes.HasPrefix(n.read(n.conf+"/big"), []byte("newnew")) || len(n.read(n.conf+"/big")) != 3*40<<10 {
		t.Error("the file is neither as it was nor as it should be")
	}
	if left, _ := filepath.Glob(n.conf + "/.kscertctl*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	n.ok(os.RemoveAll(n.conf + "/tmp"))
	n.good(n.rollback())
	wantSame(t, n.tree2(n.conf), before)
}

// tree2 describes one whole place.
func (n *node) tree2(place string) map[string]string {
	n.t.Helper()
	all := map[string]string{}
	n.ok(filepath.WalkDir(place, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			all[path] = n.describe(path)
		}
		return err
	}))
	return all
}

// --- killed half-way ------------------------------------------------------------------

// killers puts wrappers in front of the programs that change files. At the call of the given number
// they kill the whole script, before or after the program has done its work.
func (n *node) killers() {
	n.t.Helper()
	for _, name := range []string{"cp", "mv", "rm", "mkdir", "rmdir", "sync", "touch", "chown", "chmod", "ln", "mktemp"} {
		program, err := exec.LookPath(name)
		n.ok(err)
		n.write(n.bin+"/"+name, []byte(`#!/bin/sh
read -r n <"$KILL_COUNT"
n=$((n + 1))
echo "$n" >"$KILL_COUNT"
[ "$n" != "$KILL_AT" ] || [ "$KILL_WHEN" != before ] || kill -KILL 0
`+program+` "$@"
code=$?
[ "$n" != "$KILL_AT" ] || kill -KILL 0
exit "$code"
`), 0o755)
	}
}

// runKilled runs a script that is killed at a call. It returns false if the script finished before
// that call.
func (n *node) runKilled(script string, at int, when string) (killed bool) {
	n.t.Helper()
	count := n.root() + "/count"
	n.write(count, []byte("0\n"), 0o600)
	cmd := n.command(lib(n.t) + script)
	cmd.Env = append(cmd.Env, "KILL_COUNT="+count, fmt.Sprintf("KILL_AT=%d", at), "KILL_WHEN="+when)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:forcetypeassert // so on Linux
		n.t.Fatalf("it ended by itself: %v\n%s", err, out)
	}
	return true
}

// everyKillEnv, if set, kills at every call, which takes minutes. By default only at some.
const everyKillEnv = "KSCERT_TEST_EVERY_KILL"

// everyKill runs a script once for each call that it makes: killed at that call, then run to
// completion. Each try gets a node of its own.
func everyKill(t *testing.T, prepare func(*testing.T) *node, script func(*node) string, check func(*node)) {
	t.Helper()
	step := 9
	if os.Getenv(everyKillEnv) != "" {
		step = 1
	}
	for at := 2; ; at += step {
		n := prepare(t)
		n.killers()
		killed := n.runKilled(script(n), at, []string{"before", "after"}[at%2])
		n.ok(os.RemoveAll(n.bin))
		n.good(script(n))
		check(n)
		if t.Failed() {
			t.Fatalf("killed at call %d", at)
		}
		if !killed {
			if at < 10 {
				t.Errorf("only %d calls", at)
			}
			return
		}
	}
}

func TestBackupKilledAnywhere(t *testing.T) {
	t.Parallel()
	var before map[string]string
	everyKill(t, func(t *testing.T) *node {
		t.Helper()
		n := furnish(t)
		before = n.tree("")
		return n
	}, func(n *node) string { return backupScript(n.t) }, func(n *node) {
		wantSame(n.t, n.tree(""), before)
		wantSame(n.t, n.tree(n.backup+"/files"), before)
	})
}

func TestRestoreKilledAnywhere(t *testing.T) {
	t.Parallel()
	var before map[string]string
	everyKill(t, func(t *testing.T) *node {
		t.Helper()
		n := furnish(t)
		n.good(backupScript(t))
		before = n.tree("")
		for _, row := range changes {
			if slices.Contains([]string{"a mode", "a file gone", "files and folders more", "a folder in a link's place", "the rotating link", "the time of a folder"}, row.name) {
				row.edit(n)
			}
		}
		n.ownBackup()
		return n
	}, (*node).rollback, func(n *node) {
		wantSame(n.t, n.tree(""), before)
		if left, _ := filepath.Glob(n.conf + "/*/.kscertctl*"); len(left) > 0 {
			n.t.Errorf("left behind: %v", left)
		}
	})
}

// A renewal that is killed leaves each file whole, old or new. The next one removes what it left
// next to them.
func TestEtcdRenewalKilledAnywhere(t *testing.T) {
	t.Parallel()
	var old []byte
	everyKill(t, func(t *testing.T) *node {
		t.Helper()
		n, _, member := etcdNode(t, -time.Hour)
		old = member.Certificate
		return n
	}, func(n *node) string { return etcdRenewal(n.t) }, func(n *node) {
		n.good(`pair "$KSCERT_ETCD_DIR/member-cp1.pem" "$KSCERT_ETCD_DIR/member-cp1-key.pem"`)
		n.good(`openssl verify -CAfile "$KSCERT_ETCD_DIR/ca.pem" "$KSCERT_ETCD_DIR/member-cp1.pem"`)
		if bytes.Equal(n.read(n.etcd+"/member-cp1.pem"), old) {
			n.t.Error("the certificate was not renewed")
		}
		if left, _ := filepath.Glob(n.etcd + "/.kscertctl*"); len(left) > 0 {
			n.t.Errorf("left behind: %v", left)
		}
	})
}

// A kubelet's pair from an interrupted run, to which nothing refers yet, is found through the link
// that was prepared for it. Other pairs stay.
func TestSweepKubeletPair(t *testing.T) {
	t.Parallel()
	n := furnish(t)
	kubelet := n.root() + "/var/lib/kubelet/pki/"
	before := n.tree("")
	left := kubelet + "kubelet-client-2026-03-01-00-00-00.pem"
	n.write(left, []byte("half a pair"), 0o600)
	n.ok(os.Symlink(left, kubelet+".kscertctl.link"))
	n.good("sweep")
	after := n.tree("")
	delete(before, filepath.Clean(kubelet)) // its time changes with its content
	delete(after, filepath.Clean(kubelet))
	wantSame(t, after, before)
	// If the run got further, the link is in its place: the pair is in use.
	current := kubelet + "kubelet-client-current.pem"
	target, err := os.Readlink(current)
	n.ok(err)
	n.ok(os.Symlink(target, kubelet+".kscertctl.link"))
	n.good("sweep")
	if !exists(target) || exists(kubelet+".kscertctl.link") {
		t.Error("a pair in use was removed, or the link was left")
	}
}
