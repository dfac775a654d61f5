//go:build e2e

package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// ugly has sequences that a terminal interprets (a title, a cleared screen, colors in one byte and
// in two), and an expression of Jinja.
const ugly = "\x1b]0;owned\x07\x1b[2J\u009b31m\x9b1m seven{{ 7*7 }}"

// hostileAnswer is what a worker answers every kind of command with.
type hostileAnswer struct {
	name, collector string
	// command is run instead of that.
	command string
	vars    string
	// unknown: the node must not be believed.
	unknown bool
	// heavy: it also takes a second of this machine.
	heavy bool
}

// hostileAnswers are the rows: each is a separate worker.
func hostileAnswers(t *testing.T, ca testpki.Pair) []hostileAnswer {
	t.Helper()
	fine := func(name string) string { return testcluster.WorkerAnswer(t, ca, name, 300*24*time.Hour) }
	watched := "@@WATCH " + strings.Repeat("0", 64) + " /etc/kubernetes/manifests/x.yaml\n"
	before := func(name, record string) string { return strings.Replace(fine(name), "@@END\n", record+"@@END\n", 1) }
	return []hostileAnswer{
		{name: "garbage", command: "head -c 100000 /dev/urandom", unknown: true},
		{name: "nothing", command: "exit 0", unknown: true},
		{name: "never", command: "sleep 300", vars: "kscert_inspect_seconds=3 kscert_backups_seconds=3", unknown: true},
		{name: "huge", command: `head -c 100000000 /dev/zero | tr '\0' x`, unknown: true, heavy: true},
		{name: "twice", collector: before("twice", fine("twice")), unknown: true},
		{name: "after-end", collector: fine("after-end") + "@@FACT hostname other\n", unknown: true},
		{name: "records", collector: before("records", strings.Repeat(watched, 20000)), heavy: true},
		{name: "certificates", collector: before("certificates", manyCertificates(t, ca, 1000)), heavy: true},
		{name: "terminal", collector: terminalAnswer(t, ca)},
		{name: "names", collector: before("names", oddNames(ca))},
	}
}

// manyCertificates are records of so many CAs instead of one, and of leaves that any of them might
// have signed.
func manyCertificates(t *testing.T, ca testpki.Pair, count int) string {
	t.Helper()
	var authorities, leaves strings.Builder
	for i := range count {
		other, leaf := testpki.Authority(t, "kubernetes"), ca.Issue(t, testpki.Leaf{CommonName: "leaf"})
		fmt.Fprintf(&authorities, "@@FILE 600 root root 1 1 /pki/ca.crt\n%s\n", testcluster.Bars(other))
		fmt.Fprintf(&leaves, "@@FILE 600 root root 1 1 /pki/leaf-%d.crt\n%s\n", i, testcluster.Bars(leaf))
	}
	return authorities.String() + leaves.String()
}

// terminalAnswer has ugly text in every free text field.
func terminalAnswer(t *testing.T, ca testpki.Pair) string {
	t.Helper()
	expired := ca.Issue(t, testpki.Leaf{
		CommonName: strings.ToValidUTF8(ugly, ""), // a certificate can hold no other
		NotBefore:  time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour),
	})
	records := strings.ReplaceAll(fmt.Sprintf(`@@FACT runtime UGLY
@@DISK 1 100 1 /UGLY
@@UNIT containerd UGLY UGLY 9 1
@@WORK 1 1 UGLY
@@UNREADABLE /pki/UGLY.crt
|UGLY
@@FILE 600 UGLY UGLY 1 1 /pki/UGLY.crt
%s
@@KUBECONFIG 600 root root 1 1 /etc/kubernetes/UGLY.conf
|clusters: [{cluster: {server: "https://UGLY:6443"}}]
|users: [{user: {client-certificate: "UGLY"}}]
@@RESOLVED UGLY
|UGLY
@@TLS kubelet 1 127.0.0.1:10250
|!UGLY
@@TLS endpoint 1 UGLY:6443
|!UGLY
@@HTTP endpoint 1 127.0.0.1:6443
|UGLY
@@RESULT kubelet-log 0
|UGLY
@@RESULT UGLY 1
|UGLY
`, testcluster.Bars(expired)), "UGLY", strings.ReplaceAll(ugly, " ", ""))
	text := testcluster.WorkerAnswer(t, ca, "terminal", -time.Hour)
	text = strings.Replace(text, "@@FACT hostname terminal", "@@FACT hostname "+ugly, 1)
	return strings.Replace(text, "@@END\n", records+"@@END\n", 1)
}

// oddNames are certificates in files whose names are commands, options and paths.
func oddNames(ca testpki.Pair) string {
	var out strings.Builder
	for _, name := range []string{
		"a b.crt", "'; touch owned; '.crt", "$(touch owned).crt", "`touch owned`.crt", "-rf.crt", "../../x.crt", "*|<>&.crt", "ü\u202e\u200b.crt",
	} {
		fmt.Fprintf(&out, "@@FILE 600 root root 1 1 /pki/%s\n%s\n", name, testcluster.Bars(ca))
	}
	return out.String()
}

// hostileFarm is an honest control plane, and a worker for each row.
func hostileFarm(t *testing.T, heavy bool) (farm, []hostileAnswer) {
	t.Helper()
	ca, front := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "front-proxy-ca")
	rows := slices.DeleteFunc(hostileAnswers(t, ca), func(row hostileAnswer) bool { return row.heavy && !heavy })
	var names []string
	for _, row := range rows {
		names = append(names, row.name)
	}
	s := newStage(t)
	hosts := []host{s.host("cp1", true, map[string]string{
		"collector": testcluster.ControlPlaneAnswer(t, testcluster.Answering{
			CA: ca, Front: front, Left: 300 * 24 * time.Hour, Well: true, Workers: names,
		}),
		"module": module(t, nil), "raw": progress, "lock": "@@LOCK acquired 0 -\n@@END\n",
	})}
	for _, row := range rows {
		backups := strings.ReplaceAll(progress, "abc", ugly) + row.collector
		text, err := json.Marshal(map[string]any{"changed": false, "rc": 0, "stdout": backups, "msg": ugly, "stderr": ugly})
		must(t, err)
		h := s.host(row.name, false, map[string]string{"collector": row.collector, "module": string(text), "raw": backups})
		if row.command != "" {
			h.command = row.command
		}
		h.vars += " " + row.vars
		hosts = append(hosts, h)
	}
	return newFarm(t, hosts), rows
}

// heard is what a command has printed and cost.
type heard struct {
	out, errs string
	code      int
	seconds   float64
	memory    int64 // KiB
}

// heldUp is longer than a command takes, on a busy machine, and shorter than a node could delay it
// (kscert_inspect_seconds).
const heldUp = time.Minute

// within runs a command with a time limit, then interrupts it, and kills it five seconds later.
func (f farm) within(t *testing.T, limit time.Duration, args ...string) heard {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := f.command(t, executable(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	must(t, cmd.Start())
	ended, peak, done := make(chan struct{}), make(chan int64), make(chan struct{})
	go func() { peak <- watch(cmd.Process.Pid, ended) }()
	go func() {
		defer close(done)
		select {
		case <-ended:
			return
		case <-ctx.Done():
			t.Errorf("kscertctl %s takes more than %s", args, limit)
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Errorf("kscertctl %s is deaf to SIGINT", args)
			_ = cmd.Process.Kill()
		}
	}()
	_ = cmd.Wait()
	close(ended)
	memory := <-peak
	<-done
	return heard{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(start).Seconds(), memory}
}

// wantClean fails for whatever a terminal would interpret, and for Jinja that was evaluated.
func wantClean(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if r == '\n' || r == '\t' || !unicode.IsControl(r) && (r != utf8.RuneError || size > 1) {
			continue
		}
		t.Errorf("%s has the character %q: %q", what, r, text[max(0, i-80):min(len(text), i+20)])
		break
	}
	if strings.Contains(text, "seven49") {
		t.Errorf("%s: Jinja was reckoned out", what)
	}
}

// Whatever a worker answers, an inspecting command finishes in time, with the exit code of its
// contract, prints nothing that a terminal interprets, and reports the other node as usual.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	saved := filepath.Join(t.TempDir(), "snapshot.json")
	for _, row := range []struct {
		args  []string
		code  int
		says  string
		heavy bool
	}{
		{[]string{"check-expiration", "--save-snapshot", saved}, 4, "cp1", true},
		{[]string{"diagnose"}, 4, "seven{{7*7}}", false},
		{[]string{"diagnose", "--runbook"}, 4, "# Runbook", false},
		{[]string{"plan"}, 7, "", false},
		{[]string{"run"}, 7, "", false},
		{[]string{"backup", "list"}, 7, "", false}, // of all nodes or of none
		{[]string{"backup", "verify"}, 7, "", false},
		{[]string{"runs", "list"}, 4, "", false}, // the only control plane answers like the collector
	} {
		t.Run(strings.Join(row.args[:min(2, len(row.args))], " "), func(t *testing.T) {
			t.Parallel()
			f, rows := hostileFarm(t, row.heavy)
			h := f.within(t, heldUp, append(row.args, "-i", f.inventory, "-T", "3", "-f", forks)...)
			if h.code != row.code {
				t.Errorf("exit code %d, want %d", h.code, row.code)
			}
			wantClean(t, "standard output", h.out)
			wantClean(t, "standard error", h.errs)
			if !strings.Contains(h.out, row.says) {
				t.Errorf("it does not say %q", row.says)
			}
			if _, err := os.Stat(filepath.Join(f.dir, "owned")); err == nil {
				t.Error("the name of a file has become a command")
			}
			if h.memory > maxMemory {
				t.Errorf("kscertctl held %d KiB", h.memory)
			}
			if row.heavy && h.code == row.code {
				wantOthersKnown(t, saved, rows)
			}
			t.Logf("%.1f s, %d MiB", h.seconds, h.memory>>10)
			if t.Failed() {
				t.Logf("%.4000q\n%.4000q", h.out, h.errs)
			}
		})
	}
}

// wantOthersKnown: nodes that have answered like the collector are known, and no others.
func wantOthersKnown(t *testing.T, saved string, rows []hostileAnswer) {
	t.Helper()
	s, err := snapshot.Load(saved)
	must(t, err)
	if n, _ := s.Node("cp1"); n.Failure != nil || len(n.Certificates) < 9 {
		t.Errorf("cp1 has %d certificates (%+v)", len(n.Certificates), n.Failure)
	}
	for _, row := range rows {
		if n, _ := s.Node(row.name); row.unknown && n.Failure == nil {
			t.Errorf("%s is believed", row.name)
		}
	}
}

// The lock is on a control plane, which may be hostile too.
func TestHostileLock(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"garbage": "\x00\x01garbage",
		"owner": `@@LOCK held 5 {"user":"` + strings.ToValidUTF8(ugly, "") + `\u001b[2J","host":"\u009b2J","run":"x"}` +
			"\n@@END\n",
		"after the end": "@@LOCK held 5 -\n@@END\n@@LOCK absent 0 -\n@@END\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			f := newFarm(t, []host{s.host("cp1", true, map[string]string{"lock": answer})})
			h := f.within(t, heldUp, "unlock", "-i", f.inventory)
			wantClean(t, "standard output", h.out)
			wantClean(t, "standard error", h.errs)
			if want := map[bool]int{true: 10, false: 7}[name == "owner"]; h.code != want {
				t.Errorf("exit code %d, want %d\n%q\n%q", h.code, want, h.out, h.errs)
			}
		})
	}
}

// Ctrl-C stops a command within five seconds, whatever the node does at that moment.
func TestHostileInterrupt(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{"never": "sleep 300", "endless": "yes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFarm(t, append(healthy(1), host{name: name, command: command}))
			cmd := f.command(t, executable(t), "check-expiration", "-i", f.inventory)
			must(t, cmd.Start())
			until(t, "the node is asked", func() bool { return len(clients(t, f.dir)) > 0 })
			start := time.Now()
			must(t, cmd.Process.Signal(syscall.SIGINT))
			_ = cmd.Wait()
			if took := time.Since(start); took > 5*time.Second || cmd.ProcessState.ExitCode() != 130 {
				t.Errorf("it ended after %s with %d", took, cmd.ProcessState.ExitCode())
			}
		})
	}
}

// The exporter's page holds text of nodes, and Prometheus can still read it.
func TestHostileExporter(t *testing.T) {
	t.Parallel()
	f, rows := hostileFarm(t, false)
	address := freeAddress(t)
	cmd := f.command(t, executable(t), "exporter", "-i", f.inventory, "-T", "3", "-f", forks,
		"--timeout", "30s", "--web.listen-address", address)
	var log bytes.Buffer
	cmd.Stderr = &log
	must(t, cmd.Start())
	var page string
	until(t, "the first look has ended", func() bool {
		_, body, err := scrape(http.DefaultClient, "http://"+address+"/metrics")
		page = body
		return err == nil && strings.Contains(body, "kscertctl_node_up{")
	})
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	wantClean(t, "the page", page)
	wantClean(t, "the log", log.String())
	for _, row := range rows {
		if row.unknown && !strings.Contains(page, fmt.Sprintf("\nkscertctl_node_up{node=%q} 0\n", row.name)) {
			t.Errorf("%s is believed", row.name)
		}
	}
	if !strings.Contains(page, "\nkscertctl_node_up{node=\"cp1\"} 1\n") {
		t.Error("cp1 is unknown")
	}
}

// What a run leaves on this machine is for its owner alone, under any umask.
func TestRunDirectory(t *testing.T) {
	t.Parallel()
	f := newFarm(t, healthy(4))
	cmd := f.command(t, "sh", "-c", `umask 0; "$0" "$@"`, executable(t), "check-expiration", "-i", f.inventory)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := 0
	must(t, filepath.WalkDir(filepath.Join(f.dir, "kscertctl", "runs"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files++
		return err
	}))
	if files < 5 {
		t.Errorf("the record of the run has %d files", files)
	}
}
