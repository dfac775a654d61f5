package playbooks_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// aRun and others are names of runs, the oldest first.
const (
	aRun       = "20260301T110000Z-abcdef"
	aRollback  = "20260301T120000Z-abcdef"
	aLaterRun  = "20260301T130000Z-abcdef"
	itsJournal = "journal.jsonl"
)

// keeper keeps records of runs in a directory of the test, as the role does.
type keeper struct {
	t *testing.T
	// state is the node's, src has the files on the control node.
	state, src string
	replace    bool
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	return &keeper{t: t, state: t.TempDir() + "/state", src: t.TempDir()}
}

// plan is the packed plan of a run, and its digest.
func (k *keeper) plan(run string) ([]byte, string) {
	k.t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := fmt.Fprintf(w, "the plan of %s", run)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return out.Bytes(), fmt.Sprintf("%x", sha256.Sum256(out.Bytes()))
}

// keep keeps files; plan-NN are pieces of the plan.
func (k *keeper) keep(run string, files map[string]string) (string, error) {
	k.t.Helper()
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(k.src, name)
		if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
			k.t.Fatal(err)
		}
		paths = append(paths, "'"+path+"'")
	}
	_, digest := k.plan(run)
	replace := "False"
	if k.replace {
		replace = "True"
	}
	script := fmt.Sprintf("KSCERT_STATE_DIR='%s'\nKSCERT_RECORD_RUN='%s'\nKSCERT_RECORD_PLAN=%s\nKSCERT_RECORD_REPLACE=%s\n%s", k.state, run, digest, replace, role(k.t, "record/files/keep.sh"))
	return k.sh(filtered(k.t, "", "kscert_keep((sys.stdin.read(), 'run', ["+strings.Join(paths, ",")+"]))", script))
}

func (k *keeper) sh(script string) (string, error) {
	sh := strings.Fields(os.Getenv("KSCERTCTL_TRY_SH"))
	if len(sh) == 0 {
		sh = []string{"/bin/sh"}
	}
	out, err := exec.CommandContext(k.t.Context(), sh[0], append(sh[1:], "-c", script)...).CombinedOutput()
	return string(out), err
}

// whole is everything of a run, its plan in two pieces.
func (k *keeper) whole(run, journal string) map[string]string {
	packed, _ := k.plan(run)
	code := base64.StdEncoding.EncodeToString
	return map[string]string{itsJournal: journal, "plan-00": code(packed[:10]), "plan-01": code(packed[10:])}
}

// recallText is what is kept, as recall.sh prints it.
func (k *keeper) recallText(named string) string {
	k.t.Helper()
	out, err := k.sh(fmt.Sprintf("KSCERT_STATE_DIR='%s'\nKSCERT_RECORD_RUN='%s'\n%s", k.state, named, role(k.t, "record/files/recall.sh")))
	if err != nil {
		k.t.Fatalf("%v: %s", err, out)
	}
	return out
}

// recall reads what is kept.
func (k *keeper) recall(named string) map[string][]string {
	k.t.Helper()
	out := k.recallText(named)
	if _, err := run.ParseCopies("cp1", out); err != nil || len(out) > 1<<20 {
		k.t.Errorf("%v: %d bytes: %.1000s", err, len(out), out)
	}
	found := map[string][]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); f[0] == "@@KEPT" {
			found[f[1]] = append(found[f[1]], f[2])
		}
	}
	return found
}

func (k *keeper) read(run, name string) string {
	data, _ := os.ReadFile(filepath.Join(k.state, "runs", run, name))
	return string(data)
}

const beginning = `{"seq":1,"event":"begin","detail":"it's {{ here }} \\ and $HOME"}` + "\n"

// Each row keeps a record over the one that the previous rows left.
func TestKeep(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	journal := func(lines string) map[string]string { return map[string]string{itsJournal: beginning + lines} }
	for _, row := range []struct {
		name    string
		files   map[string]string
		replace bool
		printed string
		fails   bool
		// journal is the one that is kept then, without its first line.
		journal string
	}{
		{name: "without its plan", files: journal(""), printed: "noted: the record of the run is not kept here: its plan has not arrived"},
		{name: "whole", files: k.whole(aRun, beginning), printed: "recorded: "},
		{name: "further", files: journal("2\n3\n"), printed: "recorded: ", journal: "2\n3\n"},
		{name: "the same once more", files: journal("2\n3\n"), printed: "recorded: ", journal: "2\n3\n"},
		{name: "what another machine has continued", files: journal("2\n4\n5\n"), printed: "kscertctl: another machine has continued run " + aRun, fails: true, journal: "2\n3\n"},
		{name: "an earlier one", files: journal("2\n"), printed: "kscertctl: another machine", fails: true, journal: "2\n3\n"},
		{name: "what was chosen among all", files: journal("2\n4\n"), replace: true, printed: "recorded: ", journal: "2\n4\n"},
		{name: "a plan that is cut off", files: map[string]string{itsJournal: beginning + "2\n4\n5\n", "plan-00": "aGFsZg=="}, printed: "recorded: ", journal: "2\n4\n5\n"},
		{name: "with documents", files: map[string]string{itsJournal: beginning + "2\n4\n5\n6\n", "backups.json": "{}", "authorities.json": "{ }"}, printed: "recorded: ", journal: "2\n4\n5\n6\n"},
	} {
		k.replace = row.replace
		out, err := k.keep(aRun, row.files)
		if (err != nil) != row.fails || !strings.HasPrefix(out, row.printed) {
			t.Errorf("%s: %v: %q, want %q", row.name, err, out, row.printed)
		}
		want := beginning + row.journal
		if row.name == "without its plan" {
			want = ""
		}
		packed, _ := k.plan(aRun)
		if got := k.read(aRun, itsJournal); got != want || want != "" && k.read(aRun, "plan.json.gz") != string(packed) {
			t.Errorf("%s: what is kept is %q, want %q", row.name, got, want)
		}
	}
	if k.read(aRun, "backups.json") != "{}\n" || k.read(aRun, "authorities.json") != "{ }\n" {
		t.Error("the documents differ")
	}
	err := filepath.WalkDir(k.state, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A copy that cannot be kept stops nothing; it is reported.
func TestKeepIsNoCondition(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*keeper){
		"the place cannot be made": func(k *keeper) { k.state = "/proc/nowhere" },
		"no space": func(k *keeper) {
			if err := os.Mkdir(k.state, 0o700); err != nil {
				t.Fatal(err)
			}
			small(k.t, k.state, 8)
			_ = os.WriteFile(k.state+"/filler", bytes.Repeat([]byte("x"), 8192), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			spoil(k)
			out, err := k.keep(aRun, k.whole(aRun, beginning))
			if err != nil || !strings.HasPrefix(out, "noted: the record of the run is not kept here: cannot ") {
				t.Errorf("%v: %q", err, out)
			}
		})
	}
	k := newKeeper(t)
	out, err := k.keep("../../etc", k.whole("../../etc", beginning))
	if err != nil || !strings.HasPrefix(out, "noted: ") {
		t.Errorf("of a run whose name is a path: %v: %q", err, out)
	}
	// What Linux does not take as one argument: random text, which cannot be packed.
	huge := k.whole(aRun, beginning)
	for i := range 9000 {
		huge["backups.json"] += fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	out, err = k.keep(aRun, huge)
	if err != nil || out != "noted: the record of the run is not kept here: it is too long\n" {
		t.Errorf("too long: %v: %q", err, out)
	}
}

// All journals are read, and everything of the named run and later ones, or of the newest; of a
// rollback, also of the run that it undoes.
func TestRecall(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	if got := k.recall(""); len(got) != 0 {
		t.Errorf("of no run: %v", got)
	}
	for _, run := range []string{aRun, aRollback, aLaterRun} {
		journal := beginning
		if run == aRollback {
			journal = `{"seq":1,"event":"begin","kind":"rollback","of":"` + aRun + `"}` + "\n"
		}
		if out, err := k.keep(run, k.whole(run, journal)); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// What is no run, such as one that was put aside, and one that a full disk left empty.
	for _, dir := range []string{"no run", aRun + "-bad", "aaaa", "20990101T000000Z-abcdef"} {
		if err := os.Mkdir(k.state+"/runs/"+dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(dir, "-bad") {
			if err := os.WriteFile(k.state+"/runs/"+dir+"/"+itsJournal, []byte(beginning), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	short, long := []string{itsJournal}, []string{itsJournal, "plan.json.gz"}
	for _, row := range []struct {
		named string
		want  map[string][]string
	}{
		{"", map[string][]string{aRun: short, aRollback: short, aLaterRun: long}},
		{aLaterRun, map[string][]string{aRun: short, aRollback: short, aLaterRun: long}},
		{aRollback, map[string][]string{aRun: long, aRollback: long, aLaterRun: long}},
		{"20260301T12", map[string][]string{aRun: long, aRollback: long, aLaterRun: long}},
		{"2027", map[string][]string{aRun: short, aRollback: short, aLaterRun: short}},
	} {
		if got := k.recall(row.named); !maps.EqualFunc(got, row.want, func(a, b []string) bool { return slices.Equal(slices.Sorted(slices.Values(a)), b) }) {
			t.Errorf("%q: %v, want %v", row.named, got, row.want)
		}
	}

	// A run is found by its name however many there are later, and large files are left out after some.
	for i := range 60 {
		dir := fmt.Sprintf("%s/runs/20270301T1100%02dZ-abcdef", k.state, i)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, itsJournal), []byte(beginning), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if got := k.recall(""); len(got) != 50 || got[aRun] != nil {
		t.Errorf("%d runs of the newest", len(got))
	}
	if got := k.recall(aRun); len(got) != 51 || !slices.Equal(slices.Sorted(slices.Values(got[aRun])), long) {
		t.Errorf("%d runs, %v of that which is named", len(got), got[aRun])
	}
	for i := range 60 {
		if err := os.Truncate(fmt.Sprintf("%s/runs/20270301T1100%02dZ-abcdef/%s", k.state, i, itsJournal), 2<<20); err != nil {
			t.Fatal(err)
		}
	}
	if out := k.recallText(""); len(out) > 24<<20 || !strings.HasSuffix(out, "@@END\n") {
		t.Errorf("%d bytes", len(out))
	}
	for i := range 60 {
		if err := os.RemoveAll(fmt.Sprintf("%s/runs/20270301T1100%02dZ-abcdef", k.state, i)); err != nil {
			t.Fatal(err)
		}
	}

	// What kscertctl does not write keeps no one from reading the rest: a journal without end is
	// printed as an empty one, and a pipe is none.
	at := func(run string) string { return filepath.Join(k.state, "runs", run, itsJournal) }
	err := errors.Join(os.Truncate(at(aLaterRun), 1<<30), os.Remove(at(aRollback)), syscall.Mkfifo(at(aRollback), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	got := k.recall(aRollback)
	if want := []string{"plan.json.gz"}; !slices.Equal(got[aRollback], want) || !slices.Equal(got[aRun], short) || !slices.Contains(got[aLaterRun], itsJournal) {
		t.Errorf("%v", got)
	}
}

// Every playbook that changes nodes first keeps the record, with each Ansible: a control plane that
// cannot be reached stops nothing, one where another machine has continued the run stops everything.
func TestPlaybooksKeepTheRecord(t *testing.T) {
	t.Setenv("KSCERT_ROOT", "") // and not parallel: Ansible passes the node's on
	books, err := filepath.Glob(playbooks.Collection + "/playbooks/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, book := range books {
		text, err := os.ReadFile(book)
		if err != nil {
			t.Fatal(err)
		}
		before, after, keeps := strings.Cut(string(text), "import_playbook: keep.yml")
		reads := slices.Contains([]string{"backups.yml", "ca_csr.yml", "collect.yml", "groups.yml", "inspect.yml", "keep.yml", "kubeconfig.yml", "recall.yml", "record.yml"}, filepath.Base(book))
		if keeps == reads || keeps && (strings.Contains(before, "hosts:") || strings.Contains(after, "import_playbook:")) {
			t.Errorf("%s keeps the record before all else: %t", book, keeps)
		}
	}
	for _, bin := range testansible.Bins(t) {
		t.Run(bin, func(t *testing.T) {
			n := furnish(t)
			t.Setenv("KSCERT_ROOT", filepath.Dir(n.conf))
			k := newKeeper(t)
			if _, err := k.keep(aRun, k.whole(aRun, beginning)); err != nil { // for its files
				t.Fatal(err)
			}
			try := func(journal string) (ansible.Outcome, error) {
				n.write(k.src+"/"+itsJournal, []byte(journal), 0o600)
				hosts := n.t.TempDir() + "/hosts"
				n.write(hosts, []byte("cp1 ansible_connection=local ansible_become=false\ncp2 ansible_host=127.0.0.1 ansible_port=1\n[kube_control_plane]\ncp1\ncp2\n"), 0o600)
				r, err := ansible.New(ansible.Options{Inventories: []string{hosts}, BinDir: bin})
				n.ok(err)
				here, err := filepath.Abs(".")
				n.ok(err)
				dir := t.TempDir()
				_, digest := k.plan(aRun)
				return r.Run(t.Context(), ansible.Playbook{
					Path: here + "/backup.yml", Dir: dir, CallbackDir: filepath.Join(here, playbooks.CallbackDir), Isolated: true,
					Events: dir + "/events.jsonl", Log: dir + "/log", Hosts: []string{"cp1"},
					Vars: map[string]any{
						"kscert_hosts": "cp1", "kscert_config_dir": n.conf, "kscert_etcd_cert_dir": n.etcd, "kscert_bin_dir": n.bin, "kscert_backup_root": filepath.Dir(n.backup), "kscert_run": "run", "kscert_etcd_snapshot": "never",
						"kscert_record_hosts": "cp1,cp2", "record_run": aRun, "record_plan": digest, "kscert_state_dir": k.state, "record_files": []string{k.src + "/" + itsJournal},
					},
				}, nil)
			}
			if o, err := try(beginning + "2\n"); err != nil || len(o.Answers["cp1"]) != 2 || !strings.HasPrefix(o.Answers["cp1"][0], "recorded: ") {
				t.Errorf("%v: %q", err, o.Answers)
			}
			n.ok(os.RemoveAll(n.backup))
			if o, err := try(beginning + "3\n"); err == nil || len(o.Answers["cp1"]) > 0 || len(o.Failures) != 1 {
				t.Errorf("another machine has continued it: %v: %+v", err, o)
			}
			if _, err := os.Stat(n.backup); err == nil {
				t.Error("what comes after it was done")
			}
		})
	}
}
