//go:build e2e

package scale

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A broken node may answer anything, at any length, or not at all: it is named and unknown, and the
// others are inspected all the same. What limits an answer, and where:
//
//   - on the node, the collector stops its own after 4 MiB: worth nothing if the
//     node itself is broken;
//   - on the control node, playbooks/ssh.sh passes on 5 MiB, because Ansible would keep it all;
//   - the task has kscert_inspect_seconds;
//   - the callback passes on 4 MiB, or the length alone;
//   - kscertctl reads no longer event, and logs no longer line than 64 KiB.
func TestBrokenNodes(t *testing.T) {
	// 5 MiB, or less by the first pieces, which are passed on as they come.
	const answered = `^its answer was cut off: 52[34]\d{4} bytes or more are too long for an event$`
	rows := []struct {
		name, command, vars string
		kind                snapshot.FailureKind
		words               string // regular expression
	}{
		{"garbage", `head -c 100000000 /dev/zero | tr '\0' x`, "", snapshot.Garbled, answered},
		{"lines", `yes garbage | head -c 10000000`, "", snapshot.Garbled, answered},
		{"failing", `head -c 10000000 /dev/zero | tr '\0' x; exit 3`, "", snapshot.Failed, `^x+`},
		{"noise", `head -c 100000 /dev/urandom`, "", snapshot.Garbled, `^not the collector's output$`},
		{"half", `sh -c "$SSH_ORIGINAL_COMMAND" | head -c 2000`, "", snapshot.Garbled, `^the answer was damaged on its way: it has no beginning, or no end$`},
		{"bomb", `echo '@@<'; head -c 200000000 /dev/zero | gzip -c | base64; echo '@@>'`, "", snapshot.Garbled, `^the answer is too long: \d+ bytes unpack to more than 4194304$`},
		{"masked", `sh -c "$SSH_ORIGINAL_COMMAND" | sed '30,31s/.*/$REDACTED$/'`, "", snapshot.Garbled, `^the answer was damaged on its way: illegal base64`},
		{"silent", `exit 0`, "", snapshot.Garbled, `^its answer is empty$`},
		{"hanging", `sleep 300`, "kscert_inspect_seconds=3", snapshot.Failed, `expected time frame|[Tt]imed out`},
	}
	hosts := healthy(4)
	var names []string
	for _, row := range rows {
		hosts = append(hosts, host{name: row.name, command: row.command, vars: row.vars})
		names = append(names, row.name)
	}
	f := newFarm(t, hosts)
	l := f.check(t)

	for _, row := range rows {
		n, _ := l.snapshot.Node(row.name)
		if n.Failure == nil || (row.kind != "" && n.Failure.Kind != row.kind) || !regexp.MustCompile(row.words).MatchString(n.Failure.Message) {
			t.Errorf("%s: the failure is %+v, want %s with %q", row.name, n.Failure, row.kind, row.words)
		}
	}
	if want := "error: unknown, so not healthy: " + strings.Join(names, ", ") + "\n"; l.code != 4 || !strings.Contains(l.stderr, want) {
		t.Errorf("exit code %d, want 4 and %q in\n%s", l.code, want, l.stderr)
	}
	l.wantWhole(t, healthy(4))
	size := f.runs(t)
	if l.memory > maxMemory || size > 2<<20 {
		t.Errorf("kscertctl held %d KiB, its run directory holds %d bytes", l.memory, size)
	}
	if left := clients(t, f.dir); len(left) > 0 {
		t.Errorf("clients of ssh are left behind: %v", left)
	}
	t.Logf("%.1f s; kscertctl's peak %d MiB, largest process %d MiB, run directory %d KiB", l.seconds, l.memory>>10, l.largest>>10, size>>10)
}

// runs is the size of the run directories on the disk, in bytes.
func (f farm) runs(t *testing.T) int64 {
	t.Helper()
	var size int64
	must(t, filepath.WalkDir(filepath.Join(f.dir, "kscertctl"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	}))
	return size
}

// clients are the ssh processes that work on this farm, without those that only keep a connection
// open.
func clients(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, file := range files {
		line, _ := os.ReadFile(file) // it may have exited
		if bytes.HasPrefix(line, []byte("ssh\x00")) && bytes.Contains(line, []byte(dir)) {
			out = append(out, filepath.Dir(file))
		}
	}
	return out
}
