package orchestrator

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// keepingCluster has a certificate that is due until renew-certs has run, and keeps records of runs
// with the scripts of the role.
type keepingCluster struct {
	bin, ran string
}

// hookOfRecords does what the playbooks do with records: it keeps them below node, with a copy of each
// state below kept, and reads them.
const hookOfRecords = `#!/bin/sh
cd '%[1]s' || exit
case $1 in
renew-certs.yml) [ -f fails ] && exit 1; cp renewed inspect.yml ;;
rollback.yml) cp due inspect.yml ;;
backups.yml)
	of=$(printf '%%s' "$2" | sed -n 's/.*"kscert_backup_run":"\([^"]*\)".*/\1/p')
	sed "s/ that / $of /" backups >backups.yml
	;;
esac
case $1:$2 in
*'"kscert_record_hosts"'*) python3 record.py keep "$2" || exit ;;
recall.yml:*) python3 record.py recall "$2" || exit ;;
lock.yml:*'"kscert_lock_replace":"2'*) [ ! -f acquired ] || cp acquired lock.yml ;;
esac
true
`

const recordsOfNode = `
import json, os, shutil, subprocess, sys
sys.path.insert(0, '%[2]s/plugins/filter')
sys.dont_write_bytecode = True
import kscert
role, decoder, found = '%[2]s/roles/record/files/', json.JSONDecoder(), {}
for i, c in enumerate(sys.argv[2]):
    if c == '{':
        try: found.update(decoder.raw_decode(sys.argv[2][i:])[0])
        except (ValueError, TypeError): pass
head = "KSCERT_STATE_DIR=%[1]s/node\nKSCERT_RECORD_RUN='%%s'\n" %% found.get('record_run', '')
def sh(script): return subprocess.check_output(['sh', '-c', script]).decode()
if sys.argv[1] == 'keep':
    head += "KSCERT_RECORD_PLAN=%%s\nKSCERT_RECORD_REPLACE=%%s\n" %% (found['record_plan'], found['record_replace'])
    os.environ['KSCERT_EVENTS'] = ''
    out = sh(kscert.kscert_keep((head + open(role + 'keep.sh').read(), 'run', found['record_files'])))
    if not out.startswith('recorded: '): sys.exit(out)
    shutil.copytree('node/runs', 'kept/%%03d' %% len(os.listdir('kept')))
else:
    out = sh(head + open(role + 'recall.sh').read())
    if os.path.exists('held'): out = open('held').read() + out
    events = [{'v': 1, 'event': 'result', 'status': 'ok', 'host': 'cp1', 'task': {'name': 'Tell'}, 'payload': out}, {'v': 1, 'event': 'stats', 'hosts': {'cp1': {'ok': 1}}}]
    open('recall.yml', 'w').write(''.join(json.dumps(e) + '\n' for e in events))
`

func newKeepingCluster(t *testing.T) keepingCluster {
	t.Helper()
	in := fakeansible.NewCluster(t)
	in.Well = true
	c := keepingCluster{bin: t.TempDir()}
	due := fakeansible.Node(t, in, 24*time.Hour)
	c.ran = fakeansible.Write(t, c.bin, due, 0)
	collection, err := filepath.Abs("../playbooks/collections/ansible_collections/infrapuzzle/kscertctl")
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.Repeat("ab", 32)
	for name, text := range map[string]string{
		"due": fakeansible.Says(t, due), "renewed": fakeansible.Says(t, fakeansible.Node(t, in, 300*24*time.Hour)),
		"backup.yml": fakeansible.Says(t, "@@BACKUP this made 1 1 1 "+manifest+" -\n@@END\n"),
		"backups":    fakeansible.Says(t, "@@BACKUP that verified 1 1 1 "+manifest+" -\n@@END\n"),
		"hook":       fmt.Sprintf(hookOfRecords, c.bin), "record.py": fmt.Sprintf(recordsOfNode, c.bin, collection),
	} {
		c.write(t, name, text)
	}
	if err := os.Mkdir(c.bin+"/kept", 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c keepingCluster) write(t *testing.T, name, text string) {
	t.Helper()
	if err := testcommand.Write(filepath.Join(c.bin, name), text); err != nil {
		t.Fatal(err)
	}
}

// machine is one with nothing but the inventory.
func (c keepingCluster) machine(t *testing.T) *Orchestrator {
	t.Helper()
	return fakeOrchestrator(t, c.bin, func(o *Options) { o.Approve, o.GateTimeout = yes, time.Second })
}

// stopped is a run on a machine that a playbook has failed, which it does no more.
func (c keepingCluster) stopped(t *testing.T, on *Orchestrator) Result {
	t.Helper()
	c.write(t, "fails", "")
	r, err := on.Run(t.Context())
	if Code(err) != ExitStopped {
		t.Fatal(err)
	}
	if err := os.Remove(c.bin + "/fails"); err != nil {
		t.Fatal(err)
	}
	return r
}

// keptStates are the states of the node after each time that a record was kept, and the journal then.
func (c keepingCluster) keptStates(t *testing.T, id string) (dirs []string, journals [][]run.Entry) {
	t.Helper()
	dirs, err := filepath.Glob(c.bin + "/kept/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, id, "journal.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		j, err := run.ParseJournal(id, data)
		if err != nil || j.Torn > 0 {
			t.Fatalf("%v: %+v", err, j)
		}
		journals = append(journals, j.Entries)
	}
	return dirs, journals
}

// restore brings the node's copies into an earlier state; nothing is kept if dir is empty.
func (c keepingCluster) restore(t *testing.T, dir string) {
	t.Helper()
	err := os.RemoveAll(c.bin + "/node/runs")
	if err == nil && dir != "" {
		err = os.CopyFS(c.bin+"/node/runs", os.DirFS(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A run is killed at each line of its journal, and the machine is gone. From another one, which has
// only the inventory, it is resumed, and rolled back: as with the journal that is lost, since what a
// step is about to change is on the node before.
func TestAnyMachineContinues(t *testing.T) { //nolint:tparallel // its subtests share a node
	t.Parallel()
	c := newKeepingCluster(t)
	r, err := c.machine(t).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	journal := run.Read(filepath.Dir(filepath.Dir(r.Dir)), r.RunID).Entries
	dirs, journals := c.keptStates(t, r.RunID)
	for _, step := range r.Plan.Steps {
		if step.Changes && !slices.ContainsFunc(journals, func(j []run.Entry) bool {
			last := j[len(j)-1]
			return last.Event == run.Intent && last.Step == step.ID
		}) {
			t.Errorf("when step %s began, no node knew", step.ID)
		}
	}
	if last := journals[len(journals)-1]; last[len(last)-1].Event != run.End || len(last) != len(journal)-1 {
		t.Errorf("at last a node knows of %d lines, of %d", len(last), len(journal))
	}
	tried := map[string]bool{}
	for line := range journal {
		// The line is on the disk, and the node has what was kept before, or also what comes next.
		var states []string
		for i := range dirs {
			if n := len(journals[i]); n <= line+1 && (i+1 == len(dirs) || len(journals[i+1]) > line) {
				states = append(states, dirs[i])
			}
		}
		if len(states) == 0 {
			states = []string{""}
		}
		for _, dir := range states {
			if tried[dir] {
				continue
			}
			tried[dir] = true
			t.Run(fmt.Sprintf("line %d, %s", line+1, filepath.Base(dir)), func(t *testing.T) { c.continued(t, dir, r, journal[:line+1]) })
		}
	}
	if len(tried) != len(dirs)+1 {
		t.Errorf("%d states of %d were tried", len(tried), len(dirs)+1)
	}
}

// continued resumes a run, and rolls it back, from machines that know nothing of it.
func (c keepingCluster) continued(t *testing.T, dir string, r Result, known []run.Entry) {
	t.Helper()
	renewed := slices.ContainsFunc(known, func(e run.Entry) bool { return e.Event == run.Outcome && strings.Contains(e.Step, "renew") })
	begin := func() *Orchestrator {
		c.restore(t, dir)
		state := "due"
		if renewed {
			state = "renewed"
		}
		text, err := os.ReadFile(filepath.Join(c.bin, state))
		if err != nil {
			t.Fatal(err)
		}
		c.write(t, "inspect.yml", string(text))
		o := c.machine(t)
		found, err := o.Recall(t.Context(), "")
		if err != nil || (len(found) == 1) != (dir != "") || len(found) == 1 && (found[0].ID != r.RunID || found[0].Err != nil) {
			t.Fatalf("%v: %+v", err, found)
		}
		return o
	}
	o := begin()
	if dir == "" {
		if renewed {
			t.Error("it has changed nodes without a record there")
		}
		return
	}
	if _, err := o.Resume(t.Context(), r.RunID); err != nil {
		t.Errorf("resume: %v", err)
	}
	if got := run.Read(o.opts.StateDir, r.RunID); got.Status() != run.StatusDone || got.State.Next(r.Plan) != len(r.Plan.Steps) {
		t.Errorf("resumed: %s, %v", got.Status(), got.State.Steps)
	}
	kept, err := os.ReadFile(filepath.Join(c.bin, "node/runs", r.RunID, "journal.jsonl"))
	if err != nil || !bytes.Contains(kept, []byte(`"event":"end","outcome":"done"`)) {
		t.Errorf("the node does not know of the end: %v %s", err, kept)
	}

	o = begin()
	back, err := o.Rollback(t.Context(), r.RunID, nil)
	if err != nil {
		t.Fatalf("rollback: %v", err)
	}
	begun := slices.ContainsFunc(known, func(e run.Entry) bool { return strings.Contains(e.Step, "renew") })
	if restores := restored(back.Plan.Steps); begun && !slices.Equal(restores, []string{"cp1"}) {
		t.Errorf("restored are %v", restores)
	}
	if len(back.Plan.Steps) == 0 {
		return
	}
	// The rollback, too, is continued elsewhere, and a run that it has undone is not.
	o = c.machine(t)
	if found, err := o.Recall(t.Context(), ""); err != nil || len(found) != 2 || found[0].ID != back.RunID || found[0].Err != nil {
		t.Fatalf("%v: %+v", err, found)
	}
	if _, err := o.Resume(t.Context(), back.RunID); err != nil {
		t.Errorf("resuming the rollback: %v", err)
	}
	if _, err := o.Resume(t.Context(), r.RunID); Code(err) != ExitNotBegun && run.Read(o.opts.StateDir, r.RunID).Status() != run.StatusDone {
		t.Errorf("what was rolled back is resumed: %v", err)
	}
}

// Nothing of a record that comes from nodes is done before someone has approved it here; then the
// request is that of this machine.
func TestRecalledIsApproved(t *testing.T) {
	t.Parallel()
	c := newKeepingCluster(t)
	r := c.stopped(t, c.machine(t))
	o := c.machine(t)
	o.opts.Approve = func(_ context.Context, p Proposal) (bool, error) {
		if !SamePlan(p.Plan, r.Plan) {
			t.Errorf("asked about %+v", p.Plan)
		}
		return false, nil
	}
	before := ranPlaybooks(c.ran)
	for range 2 { // what was refused can be asked again
		if _, err := o.Recall(t.Context(), r.RunID[:10]); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Resume(t.Context(), r.RunID); Code(err) != ExitNotApproved {
			t.Fatalf("%v", err)
		}
	}
	if p, err := run.LoadProposal(o.opts.StateDir, r.RunID); err != nil || !strange(p.Request) || !slices.Equal(p.Request.Recalled.Nodes, []string{"cp1"}) {
		t.Errorf("%v: %+v", err, p.Request.Recalled)
	}
	if after := slices.DeleteFunc(ranPlaybooks(c.ran), func(name string) bool { return name == "recall.yml" }); !slices.Equal(after, before) {
		t.Errorf("ran %v, before %v", after, before)
	}
	o.opts.Approve = yes
	if _, err := o.Resume(t.Context(), r.RunID); err != nil {
		t.Fatal(err)
	}
	if p, err := run.LoadProposal(o.opts.StateDir, r.RunID); err != nil || strange(p.Request) || p.Request.Recalled == nil {
		t.Errorf("%v: %+v", err, p.Request.Recalled)
	}
}

// A run that was continued elsewhere is not continued with the older record here: nothing is done
// before -i has brought the newer one.
func TestResumeOfAnOlderRecord(t *testing.T) {
	t.Parallel()
	c := newKeepingCluster(t)
	first := c.machine(t)
	r := c.stopped(t, first)
	other := c.machine(t)
	_, err := other.Recall(t.Context(), "")
	if err == nil {
		_, err = other.Resume(t.Context(), r.RunID)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The hook fails as the node's script does, but Ansible learns nothing of it: the real ones are in
	// playbooks/record_test.go.
	before := len(ranPlaybooks(c.ran))
	if found, err := first.Recall(t.Context(), ""); err != nil || len(found) != 1 || found[0].Err != nil || found[0].State.Ended != run.Done {
		t.Fatalf("%v: %+v", err, found)
	}
	if got, err := first.Resume(t.Context(), r.RunID); err != nil || got.RunID != r.RunID || len(ranPlaybooks(c.ran)) != before {
		t.Errorf("what is done elsewhere is done again: %v, %v", err, ranPlaybooks(c.ran)[before:])
	}
}

// Before a playbook of others, which does not keep the record itself, another one does.
func TestRecordBeforePlaybooksOfOthers(t *testing.T) {
	t.Parallel()
	c := newKeepingCluster(t)
	o := fakeOrchestrator(t, c.bin, func(o *Options) {
		o.Approve, o.GateTimeout, o.Playbook = yes, time.Second, plan.UpgradeCluster
		o.KubesprayDir = kubesprayDir(t, "- hosts: all\n  tasks: []\n", nil)
	})
	r, err := o.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ran := ranPlaybooks(c.ran)
	if i := slices.Index(ran, "upgrade-cluster.yml"); i < 1 || ran[i-1] != "record.yml" {
		t.Errorf("ran %q", ran)
	}
	_, journals := c.keptStates(t, r.RunID)
	if !slices.ContainsFunc(journals, func(j []run.Entry) bool {
		last := j[len(j)-1]
		return last.Event == run.Intent && strings.Contains(last.Step, "upgrade-cluster")
	}) {
		t.Error("no node knew of it when it began")
	}
}

// A run whose owner sends heartbeats is running, wherever that is.
func TestRecallSeesWhoIsAlive(t *testing.T) {
	t.Parallel()
	c := newKeepingCluster(t)
	c.write(t, "fails", "")
	r, err := c.machine(t).Run(t.Context())
	if Code(err) != ExitStopped {
		t.Fatal(err)
	}
	lock := filepath.Join(c.bin, "node", "lock-0123456789abcdef")
	c.write(t, "node/lock-0123456789abcdef", fmt.Sprintf(`{"schema":1,"user":"anna","host":"elsewhere","pid":7,"run":"%s"}`+"\n", r.RunID))
	for age, want := range map[time.Duration]bool{0: true, time.Hour: false} {
		then := time.Now().Add(-age)
		if err := os.Chtimes(lock, then, then); err != nil {
			t.Fatal(err)
		}
		found, err := c.machine(t).Recall(t.Context(), "")
		if err != nil || len(found) != 1 || found[0].Running != want || want != (found[0].Status() == run.StatusRunning) {
			t.Errorf("after %s: %v, %+v", age, err, found)
		}
	}
}

// Where a node's record does not begin like the one here, nothing is begun, and what is typed next
// fetches it.
func TestResumeIsAhead(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 24*time.Hour, 0)
	hook := "#!/bin/sh\n[ \"$1\" != renew-certs.yml ]\n"
	if err := testcommand.Write(bin+"/hook", hook); err != nil {
		t.Fatal(err)
	}
	o := fakeOrchestrator(t, bin, func(o *Options) { o.Approve = yes })
	r, err := o.Run(t.Context())
	if Code(err) != ExitStopped {
		t.Fatal(err)
	}
	refuses := `{"v":1,"event":"result","status":"failed","host":"cp1","task":{"name":"record : Keep the record of the run"},"evidence":{"stderr":"kscertctl: another machine has continued run x: its record"}}
{"v":1,"event":"stats","hosts":{"cp1":{"failures":1}}}
`
	if err := testcommand.Write(bin+"/record.yml", refuses); err != nil {
		t.Fatal(err)
	}
	before, known := len(ranPlaybooks(ran)), run.Read(o.opts.StateDir, r.RunID)
	_, err = o.Resume(t.Context(), r.RunID)
	var e *Error
	if !errors.As(err, &e) || Code(err) != ExitNotBegun || !strings.Contains(e.Next, "kscertctl resume "+r.RunID+" -i INVENTORY") {
		t.Errorf("%+v", err)
	}
	if after := ranPlaybooks(ran)[before:]; !slices.Equal(after, []string{"record.yml"}) {
		t.Errorf("ran %q", after)
	}
	for _, entry := range run.Read(o.opts.StateDir, r.RunID).Entries[len(known.Entries):] {
		if entry.Event == run.Intent && entry.Step != run.StepLock && entry.Step != run.StepUnlock {
			t.Errorf("step %s was begun", entry.Step)
		}
	}
}

// The first machine does not continue what another one has rolled back, or has changed since: only the
// nodes know of that.
func TestResumeIsOvertaken(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		other func(o *Orchestrator, id string) (Result, error)
		want  string
	}{
		{"rolled back", func(o *Orchestrator, id string) (Result, error) { return o.Rollback(t.Context(), id, nil) }, "has rolled it back"},
		{"another run", func(o *Orchestrator, _ string) (Result, error) { return o.Run(t.Context()) }, "has worked on the cluster since"},
		{"nothing", func(*Orchestrator, string) (Result, error) { return Result{}, nil }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newKeepingCluster(t)
			first := c.machine(t)
			r := c.stopped(t, first)
			second := c.machine(t)
			if _, err := second.Recall(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			other, err := row.other(second, r.RunID)
			if err != nil {
				t.Fatal(err)
			}
			before := len(ranPlaybooks(c.ran))
			_, err = first.Resume(t.Context(), r.RunID)
			if row.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != ExitNotBegun || !strings.Contains(e.Summary, "cp1 keeps its record: cannot resume run "+r.RunID+": run "+other.RunID+" "+row.want) ||
				!strings.Contains(e.Next, "kscertctl status "+other.RunID+" -i INVENTORY") {
				t.Errorf("%+v", err)
			}
			if ran := ranPlaybooks(c.ran)[before:]; len(ran) > 0 {
				t.Errorf("ran %q", ran)
			}
		})
	}
}

// The lock of another machine counts although the record is here: while its owner seems to live,
// nothing is done; then it is replaced.
func TestRecalledLock(t *testing.T) {
	t.Parallel()
	here, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, id, host string
		age            int
		want           ExitCode
	}{
		{"alive", "", "burnt", 10, ExitLocked},
		{"alive, in a container with the name of this machine", "", here, 10, ExitLocked},
		{"silent for long", "", "burnt", 1000, 0},
		{"silent for long, of another run", "20200101T000000Z-abcdef", "burnt", 1000, ExitLocked},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newKeepingCluster(t)
			r := c.stopped(t, c.machine(t))
			id := row.id
			if id == "" {
				id = r.RunID
			}
			acquired, err := os.ReadFile(c.bin + "/lock.yml")
			if err != nil {
				t.Fatal(err)
			}
			c.write(t, "acquired", string(acquired))
			c.write(t, "lock.yml", fakeansible.Says(t, fmt.Sprintf(`@@LOCK held %d {"schema":1,"user":"anna","host":"%s","pid":4194304,"run":"%s"}`+"\n@@END\n", row.age, row.host, id)))
			o := c.machine(t)
			if _, err := o.Recall(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			if _, err := o.Resume(t.Context(), r.RunID); Code(err) != row.want {
				t.Errorf("%v", err)
			}
			// Approved or not, what is here proves nothing about another machine.
			if row.want == ExitLocked {
				if _, err := o.Resume(t.Context(), r.RunID); Code(err) != row.want {
					t.Errorf("once more: %v", err)
				}
			}
		})
	}
}

// A machine that was lost between the lock and the first change leaves a lock without a record. No
// older run is taken for that one.
func TestRecallLockWithoutRecord(t *testing.T) {
	t.Parallel()
	const id = "20300101T000000Z-abcdef"
	for _, row := range []struct {
		name, chosen string
		age          int
		running      bool
		next         string // empty if the holder is not among the answer
	}{
		{"dead", "", 1000, false, "break its lock: kscertctl unlock -i INVENTORY"},
		{"alive", "", 10, true, "wait until that run has finished"},
		{"by its name", id, 1000, false, "if burnt still has the record, resume it there: kscertctl resume " + id},
		{"another is asked for", "20200101", 1000, false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newKeepingCluster(t)
			if _, err := c.machine(t).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.write(t, "held", fmt.Sprintf(`@@LOCK held %d {"schema":1,"user":"anna","host":"burnt","pid":7,"run":"%s"}`+"\n", row.age, id))
			records, err := c.machine(t).Recall(t.Context(), row.chosen)
			if err != nil {
				t.Fatal(err)
			}
			first := records[0]
			if (first.ID == id) != (row.next != "") {
				t.Fatalf("the newest is %s: %v", first.ID, first.Err)
			}
			if row.next == "" {
				return
			}
			e, ok := errors.AsType[*Error](first.Err)
			if !ok || e.Code != ExitLocked || !strings.Contains(e.Next, row.next) || first.Running != row.running {
				t.Errorf("%+v, running %t", first.Err, first.Running)
			}
			if records[1].Err != nil {
				t.Errorf("the run before it: %v", records[1].Err)
			}
		})
	}
}

// A copy that cannot be used, or is of other nodes, is named with its node and its place; the run
// before it is still found.
func TestRecallNamesWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const later = "20300101T000000Z-abcdef"
	c := newKeepingCluster(t)
	r, err := c.machine(t).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrong := func(found run.Record, id, summary string) {
		t.Helper()
		e, ok := errors.AsType[*Error](found.Err)
		if !ok || found.ID != id || e.Code != ExitNotBegun || !strings.Contains(e.Summary, "cp1: run "+id+": "+summary) ||
			!strings.Contains(e.Next, "move /var/lib/kscertctl/runs/"+id+" away on the node") ||
			!strings.Contains(e.Next, "kscertctl runs list -i INVENTORY") {
			t.Errorf("%s: %+v", found.ID, found.Err)
		}
	}
	if err := os.MkdirAll(c.bin+"/node/runs/"+later, 0o700); err != nil {
		t.Fatal(err)
	}
	c.write(t, "node/runs/"+later+"/journal.jsonl", "nonsense\n")
	records, err := c.machine(t).Recall(t.Context(), "")
	if err != nil || len(records) != 2 || records[1].ID != r.RunID || records[1].Err != nil {
		t.Fatalf("%v, %+v", err, records)
	}
	wrong(records[0], later, "journal.jsonl is damaged")

	c.write(t, "inventory", `{"kube_control_plane": {"hosts": ["cp1"]}, "kube_node": {"hosts": ["cp1"]}}`)
	if records, err = c.machine(t).Recall(t.Context(), r.RunID); err != nil || len(records) != 2 {
		t.Fatalf("%v, %+v", err, records)
	}
	wrong(records[1], r.RunID, "its plan is for a node")
}

// What is kept on nodes holds no secret of this machine, not even packed.
func TestKeptHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := newKeepingCluster(t)
	const canary = "c4n4ry"
	o := fakeOrchestrator(t, c.bin, func(o *Options) {
		o.Approve, o.GateTimeout = yes, time.Second
		o.Ansible.ExtraVars = []string{"password=" + canary}
		o.Ansible.SSHCommonArgs, o.Ansible.SSHExtraArgs = "-o ProxyCommand=sshpass -p "+canary, canary
		o.Ansible.Args = []string{"--ssh-extra-args=" + canary}
		password := filepath.Join(t.TempDir(), "password")
		c.write(t, "password", canary)
		if err := os.WriteFile(password, []byte(canary), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Ansible.VaultPasswordFiles = []string{password}
	})
	if _, err := o.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(c.bin+"/node", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.HasSuffix(path, ".gz") {
			r, gerr := gzip.NewReader(bytes.NewReader(data))
			if gerr != nil {
				return gerr
			}
			data, err = io.ReadAll(r)
		}
		files++
		if bytes.Contains(data, []byte(canary)) || bytes.Contains(data, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files: %v", files, err)
	}
}

// No field of a request that nodes keep becomes a setting here, except those that the plan was made
// from. A new field has to be classified here.
func TestAdopt(t *testing.T) {
	t.Parallel()
	adopts := []string{"Playbook", "Thresholds", "MaxUnavailable", "Limit", "SkipPhases", "UntilPhase", "EtcdSnapshot", "RenewCAs", "CAValidity", "Signed", "RotateCAs", "RotateStage", "RestartWorkloads", "PatchCABundles"}
	again := []string{"BackupRoot", "Withheld", "WithheldVars"}
	for field := range reflect.TypeFor[run.Request]().Fields() {
		r := run.Request{BackupRoot: DefaultBackupRoot}
		if edit(reflect.ValueOf(&r).Elem().FieldByIndex(field.Index)); field.Name == "Recalled" {
			continue
		}
		r.Recalled = &run.Recalled{Nodes: []string{"cp1"}}
		given := Options{Ansible: ansible.Options{Inventories: []string{"mine"}}}
		got := given
		err := got.Recall(r)
		if (err != nil) != slices.Contains(again, field.Name) {
			t.Errorf("%s: %v", field.Name, err)
		}
		if err == nil && reflect.DeepEqual(got, given) == slices.Contains(adopts, field.Name) {
			t.Errorf("%s that a node keeps: %+v", field.Name, got)
		}
	}
	var none Options
	if err := none.Recall(run.Request{BackupRoot: DefaultBackupRoot, Recalled: &run.Recalled{}}); Code(err) != ExitUsage || !strings.Contains(err.Error(), "-i") {
		t.Errorf("without an inventory: %v", err)
	}
}

// Of copies of a run, the furthest counts if the others are earlier states of it.
func TestFurthest(t *testing.T) {
	t.Parallel()
	kept := func(node string, steps ...string) run.Kept {
		k := run.Kept{Node: node, Run: "run", Proposal: &run.Proposal{Cluster: "a"}}
		for i, step := range steps {
			k.Text = fmt.Appendf(k.Text, "%d %s\n", i, step)
			k.Journal.Entries = append(k.Journal.Entries, run.Entry{Event: run.Intent, Step: strings.TrimRight(step, "'")})
		}
		return k
	}
	with := func(k run.Kept, edit func(*run.Kept)) run.Kept { edit(&k); return k }
	for _, row := range []struct {
		name  string
		all   []run.Kept
		want  string
		wrong string
	}{
		{"one", []run.Kept{kept("a", "1")}, "a", ""},
		{"equal", []run.Kept{kept("a", "1"), kept("b", "1")}, "a", ""},
		{"one is behind", []run.Kept{kept("a", "1"), kept("b", "1", "2")}, "b", ""},
		{"one is behind and went another way", []run.Kept{kept("a", "1", "2'"), kept("b", "1", "2", "3")}, "b", ""},
		{"one is behind and has begun more", []run.Kept{kept("a", "1", "x"), kept("b", "1", "2", "3")}, "", "each has begun what the other has not"},
		{"as long, and other", []run.Kept{kept("a", "1", "2"), kept("b", "1", "2'")}, "", "they are equally long and differ"},
		{"other plans", []run.Kept{kept("a", "1"), with(kept("b", "1", "2"), func(k *run.Kept) { k.Proposal = &run.Proposal{Cluster: "b"} })}, "", "they have different plans"},
		{"other choices", []run.Kept{kept("a", "1"), with(kept("b", "1", "2"), func(k *run.Kept) {
			k.Proposal = &run.Proposal{Cluster: "a", Request: run.Request{Playbook: plan.NoPlaybook}}
		})}, "", "they have different plans"},
		{"another way to the nodes", []run.Kept{kept("a", "1"), with(kept("b", "1"), func(k *run.Kept) {
			k.Proposal = &run.Proposal{Cluster: "a", Request: run.Request{User: "root"}}
		})}, "a", ""},
		{"a list of journals", []run.Kept{with(kept("a", "1"), func(k *run.Kept) { k.Proposal = nil }), kept("b", "1")}, "b", ""},
		{"one lacks the backups", []run.Kept{kept("a", "1"), with(kept("b", "1"), func(k *run.Kept) { k.Backups = []run.Backup{{Node: "a"}} })}, "b", ""},
		{"other backups", []run.Kept{with(kept("a", "1"), func(k *run.Kept) { k.Backups = []run.Backup{{Node: "b"}} }), with(kept("b", "1"), func(k *run.Kept) { k.Backups = []run.Backup{{Node: "a"}} })}, "", "they are equally long and differ"},
	} {
		got, err := furthest(row.all)
		if (err == nil) != (row.wrong == "") || err == nil && got.Node != row.want || err != nil && (!strings.Contains(err.Error(), row.wrong) || Code(err) != ExitNotBegun) {
			t.Errorf("%s: %s, %v", row.name, got.Node, err)
		}
	}
}

// A copy may name only nodes of this inventory, as what they are there.
func TestRecalledNamesKnownNodes(t *testing.T) {
	t.Parallel()
	node := func(name string, roles ...cluster.Role) cluster.Node { return cluster.Node{Name: name, Roles: roles} }
	s := &session{cluster: cluster.Cluster{Nodes: []cluster.Node{node("cp1", cluster.ControlPlane), node("w1", cluster.Worker)}}}
	for _, row := range []struct {
		node  cluster.Node
		known bool
	}{
		{node("cp1", cluster.ControlPlane), true},
		{node("w1", cluster.Worker), true},
		{node("w1", cluster.ControlPlane), false},
		{node("w2", cluster.Worker), false},
		{node("w1;reboot", cluster.Worker), false},
	} {
		p := run.Proposal{Snapshot: snapshot.Snapshot{Nodes: []snapshot.Node{{Node: row.node}}}}
		if err := s.ofCluster(p); (err == nil) != row.known {
			t.Errorf("%+v: %v", row.node, err)
		}
	}
}

// One control plane that answers nothing, or nonsense, does not stop the others; if all do, that is
// an error.
func TestRecallOfNonsense(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"", "@@KEPT ../x journal.jsonl\n@@END\n", "@@KEPT 20260301T110000Z-abcdef journal.jsonl\n"} {
		bin, _ := fakeansible.New(t, time.Hour, 0)
		if err := testcommand.Write(bin+"/recall.yml", fakeansible.Says(t, answer)); err != nil {
			t.Fatal(err)
		}
		o := fakeOrchestrator(t, bin, func(*Options) {})
		var e *Error
		if found, err := o.Recall(t.Context(), ""); Code(err) != ExitUnreachable || !errors.As(err, &e) || e.Next == "" || found != nil {
			t.Errorf("%q: %v, %v", answer, found, err)
		}
	}
}
