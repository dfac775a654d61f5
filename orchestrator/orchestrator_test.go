package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func fakeRun(t *testing.T, bin string, edit func(*Options)) (Result, []EventKind, error) {
	t.Helper()
	var kinds []EventKind
	r, err := fakeOrchestrator(t, bin, func(o *Options) {
		o.Observe = func(e Event) { kinds = append(kinds, e.Kind) }
		edit(o)
	}).Run(t.Context())
	return r, kinds, err
}

// fakeOrchestrator works with the commands of fakeAnsible.
func fakeOrchestrator(t *testing.T, bin string, edit func(*Options)) *Orchestrator {
	t.Helper()
	opts := Options{
		Ansible:  ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin},
		StateDir: t.TempDir(), GateTimeout: time.Millisecond,
	}
	edit(&opts)
	o, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func ranPlaybooks(ran string) []string {
	data, _ := os.ReadFile(ran)
	return strings.Fields(string(data))
}

// A second run on a healthy cluster changes nothing, and asks for no approval.
func TestRunOnAHealthyCluster(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 300*24*time.Hour, 0)
	r, kinds, err := fakeRun(t, bin, func(o *Options) {
		o.Approve = func(context.Context, Proposal) (bool, error) { t.Error("asked for nothing"); return true, nil }
	})
	if err != nil || r.Before.Route != diagnosis.None || len(r.Plan.Steps) > 0 || r.Backups != "" || r.RunID == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if got := ranPlaybooks(ran); len(got) > 0 {
		t.Errorf("playbooks were run: %v", got)
	}
	if want := []EventKind{EventBegin, EventInspected, EventDiagnosis, EventPlan, EventEnd}; !slices.Equal(kinds, want) {
		t.Errorf("events are %v, want %v", kinds, want)
	}
	for _, name := range []string{"plan.json", "journal.jsonl", "events.jsonl", "snapshots/01.json", "steps/inspect-01.log", "playbooks/inspect.yml"} {
		if _, err := os.Stat(filepath.Join(r.Dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// Nothing is changed without approval.
func TestRunNeedsApproval(t *testing.T) {
	t.Parallel()
	for name, approve := range map[string]func(context.Context, Proposal) (bool, error){
		"no one to ask": nil,
		"no":            func(context.Context, Proposal) (bool, error) { return false, nil },
		"no terminal":   func(context.Context, Proposal) (bool, error) { return true, errors.New("no terminal") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin, ran := fakeansible.New(t, 24*time.Hour, 0)
			r, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = approve })
			if Code(err) != ExitNotApproved || len(r.Plan.Steps) == 0 || r.Backups != "" {
				t.Errorf("%+v, %v", r, err)
			}
			if got := ranPlaybooks(ran); len(got) > 0 {
				t.Errorf("playbooks were run: %v", got)
			}
		})
	}
}

func yes(context.Context, Proposal) (bool, error) { return true, nil }

// Kubespray's own renewal timer is held back before the first change and released at the end,
// whatever happens; a timer that is off is not touched.
func TestRunHoldsTheTimer(t *testing.T) {
	t.Parallel()
	for state, want := range map[string][]string{
		"on":   {"renewal-timer.yml", "backup.yml", "renew-certs.yml", "renewal-timer.yml"},
		"held": {"renewal-timer.yml", "backup.yml", "renew-certs.yml", "renewal-timer.yml"},
		"off":  {"backup.yml", "renew-certs.yml"},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			node := fakeansible.Node(t, fakeansible.NewCluster(t), 24*time.Hour)
			ran := fakeansible.Write(t, bin, strings.Replace(node, "@@END", "@@TIMER "+state+" 0\n@@END", 1), 0)
			if _, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = yes }); Code(err) != ExitStopped {
				t.Fatal(err)
			}
			if got := ranPlaybooks(ran); !slices.Equal(got, want) {
				t.Errorf("playbooks were run: %v, want %v", got, want)
			}
		})
	}
}

// If a timer cannot be held back, nothing is begun, and those that were are released.
func TestTimerThatCannotBeHeld(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	node := fakeansible.Node(t, fakeansible.NewCluster(t), 24*time.Hour)
	ran := fakeansible.Write(t, bin, strings.Replace(node, "@@END", "@@TIMER on 0\n@@END", 1), 2)
	_, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = yes })
	e, _ := errors.AsType[*Error](err)
	if e == nil || e.Code != ExitNotBegun || !strings.Contains(e.Summary, "could not be held back (cp1)") || !strings.Contains(e.Next, "systemctl stop k8s-certs-renew.timer") {
		t.Errorf("%+v", e)
	}
	if got := ranPlaybooks(ran); !slices.Equal(got, []string{"renewal-timer.yml", "renewal-timer.yml"}) {
		t.Errorf("playbooks were run: %v", got)
	}
}

// The current timer counts, not that of the plan.
func TestRunHoldsATimerSwitchedOnLater(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		planned, found string
		want           []string
	}{
		"switched on":  {"off", "on", []string{"renewal-timer.yml", "backup.yml", "renew-certs.yml", "renewal-timer.yml"}},
		"installed":    {"", "on", []string{"renewal-timer.yml", "backup.yml", "renew-certs.yml", "renewal-timer.yml"}},
		"switched off": {"on", "off", []string{"backup.yml", "renew-certs.yml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			node := fakeansible.Node(t, fakeansible.NewCluster(t), 24*time.Hour)
			with := func(state string) string {
				if state == "" {
					return node
				}
				return strings.Replace(node, "@@END", "@@TIMER "+state+" 0\n@@END", 1)
			}
			ran := fakeansible.Write(t, bin, with(row.planned), 0)
			later := func(context.Context, Proposal) (bool, error) {
				return true, os.WriteFile(filepath.Join(bin, "inspect.yml"), []byte(fakeansible.Says(t, with(row.found))), 0o600)
			}
			if _, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = later }); Code(err) != ExitStopped {
				t.Fatal(err)
			}
			if got := ranPlaybooks(ran); !slices.Equal(got, row.want) {
				t.Errorf("playbooks were run: %v, want %v", got, row.want)
			}
		})
	}
}

// A new run begins nothing while someone else is changing a node, be it kubeadm, Kubespray's own
// renewal or a task of Ansible: it waits, and reports for what.
func TestRunWaitsForWork(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"kubeadm certs renew all", "Kubespray's renewal of certificates"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			node := fakeansible.Node(t, fakeansible.NewCluster(t), 24*time.Hour)
			ran := fakeansible.Write(t, bin, strings.Replace(node, "@@END", "@@WORK 4711 0 "+what+"\n@@END", 1), 0)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			stated := ""
			_, err := fakeOrchestrator(t, bin, func(o *Options) {
				o.Approve = yes
				o.Observe = func(e Event) {
					if strings.Contains(e.Message, "waiting for processes on the nodes") {
						stated = e.Message
						stop()
					}
				}
			}).Run(ctx)
			if want := "cp1: process 4711, " + what; !strings.Contains(stated, want) || Code(err) != ExitInterrupted {
				t.Errorf("stated: %q, which lacks %q; %v", stated, want, err)
			}
			if got := ranPlaybooks(ran); len(got) > 0 {
				t.Errorf("playbooks were run: %v", got)
			}
		})
	}
}

// A gate that does not hold after a change stops the run with 8, and the journal shows how far it
// got.
func TestRunStopsAtAGate(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 24*time.Hour, 0)
	r, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = yes })
	if Code(err) != ExitStopped || r.Backups != DefaultBackupRoot+"/"+r.RunID {
		t.Errorf("%+v, %v", r, err)
	}
	if got := ranPlaybooks(ran); !slices.Equal(got, []string{"backup.yml", "renew-certs.yml"}) {
		t.Errorf("playbooks were run: %v", got)
	}
	data, _ := os.ReadFile(filepath.Join(r.Dir, "journal.jsonl"))
	var got []string
	for line := range strings.Lines(string(data)) {
		var e run.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(string(e.Event)+" "+e.Step+" "+string(e.Outcome)))
	}
	steps := r.Plan.Steps
	want := []string{"begin", "request", "intent lock", "outcome lock done"}
	for i, s := range steps[:slices.IndexFunc(steps, func(s plan.Step) bool { return s.Gate != "" })+1] {
		outcome := "done"
		if s.Gate != "" && i > 0 && strings.Contains(err.Error(), s.ID) {
			outcome = "failed"
		}
		want = append(want, "intent "+s.ID, "outcome "+s.ID+" "+outcome)
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("journal:\n  %s\nwant it to begin with\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
	if end := got[len(got)-3:]; !slices.Equal(end, []string{"intent unlock", "end  failed", "outcome unlock done"}) {
		t.Errorf("the journal ends with %q", end)
	}
}

// A backup that fails has changed nothing yet: 7, and no other playbook is run.
func TestRunStopsWithoutABackup(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 24*time.Hour, 2)
	_, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = yes })
	if Code(err) != ExitNotBegun {
		t.Errorf("code %d: %v", Code(err), err)
	}
	if got := ranPlaybooks(ran); !slices.Equal(got, []string{"backup.yml"}) {
		t.Errorf("playbooks were run: %v", got)
	}
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	good := ansible.Options{Inventories: []string{"cp1,"}}
	for name, row := range map[string]struct {
		in   Options
		code ExitCode
	}{
		"no inventory":              {Options{}, ExitUsage},
		"upgrade without checkout":  {Options{Ansible: good, Playbook: plan.UpgradeCluster}, ExitUsage},
		"snapshots of etcd, maybe":  {Options{Ansible: good, EtcdSnapshot: "maybe"}, ExitUsage},
		"half a node at a time":     {Options{Ansible: good, Serial: "0.5"}, ExitUsage},
		"no node at a time":         {Options{Ansible: good, Serial: "0"}, ExitUsage},
		"more than all at a time":   {Options{Ansible: good, Serial: "101%"}, ExitUsage},
		"a checkout that is no one": {Options{Ansible: good, KubesprayDir: t.TempDir()}, ExitUsage},
	} {
		if _, err := New(row.in); Code(err) != row.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, serial := range []string{"", "1", "50", "20%", "100%"} {
		if _, err := New(Options{Ansible: good, Serial: serial}); err != nil {
			t.Error(err)
		}
	}
}
