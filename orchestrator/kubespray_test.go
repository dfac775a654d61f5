package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubespray"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// kubesprayDir makes a checkout whose upgrade-cluster.yml has these plays.
func kubesprayDir(t *testing.T, plays string, more map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kubespray")
	files := map[string]string{"upgrade-cluster.yml": plays, "ansible.cfg": "[defaults]\nlocalhost_warning = False\n", "galaxy.yml": "version: 2.23.0\n"}
	maps.Copy(files, more)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What prevents a playbook of the checkout from running is reported before any node is
// contacted, and only if one would run.
func TestCheckoutIsRefused(t *testing.T) {
	t.Parallel()
	const plays = "- hosts: all\n  tasks: []\n"
	for _, row := range []struct {
		name      string
		plays     string
		more      map[string]string
		inventory string
		edit      func(*Options)
		code      ExitCode
		says      string
		next      string
	}{
		{
			name: "another ansible-core is required", more: map[string]string{"playbooks/ansible_version.yml": "minimal_ansible_version: 2.16.4\nmaximal_ansible_version: 2.17.5\n", "requirements.txt": ""},
			code: ExitNotBegun, says: "Kubespray 2.23.0 in DIR requires ansible-core 2.16.4 or later, before 2.17.5, but this one is 2.14.18",
			next: "python3 -m venv DIR-venv && DIR-venv/bin/pip install -r DIR/requirements.txt\nand run the command again with --ansible-bin DIR-venv/bin",
		},
		{
			name: "no ansible-core is supported by both", more: map[string]string{"ansible_version.yml": "minimal_ansible_version: 2.9.0\nmaximal_ansible_version: 2.11.0\n", "requirements.txt": ""},
			code: ExitNotBegun, says: "requires ansible-core 2.9.0 or later, before 2.11.0, but this one is 2.14.18",
			next: "kscertctl itself needs 2.11 or later, so no version suits both: renew without --playbook",
		},
		{
			name: "-e sets a range without this one",
			edit: func(o *Options) { o.Ansible.ExtraVars = []string{"minimal_ansible_version=2.14.19"} },
			code: ExitNotBegun, says: "requires ansible-core 2.14.19 or later, before 2.15.0, but this one is 2.14.18", next: "--ansible-bin",
		},
		{
			name: "a playbook is missing", plays: "- import_playbook: playbooks/upgrade_cluster.yml\n",
			code: ExitUsage, says: "DIR is not complete: open DIR/playbooks/upgrade_cluster.yml: no such file", next: "check out the release again",
		},
		{
			name: "a prompt at the start", plays: "- hosts: all\n  vars_prompt: [{name: sure}]\n",
			code: ExitUsage, says: "upgrade-cluster.yml prompts for sure at its start, but there is no one to answer", next: "pass it with -e sure=VALUE",
		},
		{
			name: "waiting for a key, set in the inventory", inventory: `{"kube_control_plane": {"hosts": ["cp1"]}, "_meta": {"hostvars": {"cp1": {"upgrade_node_confirm": true}}}}`,
			code: ExitUsage, says: "upgrade_node_confirm is set for cp1", next: "or add -e upgrade_node_confirm=false",
		},
		{
			name: "waiting for a key, set as an extra variable", inventory: `{"kube_control_plane": {"hosts": ["cp1"]}, "_meta": {"hostvars": {"cp1": {}}}}`,
			edit: func(o *Options) { o.Ansible.ExtraVars = []string{"upgrade_node_post_upgrade_confirm=yes"} },
			code: ExitUsage, says: "upgrade_node_post_upgrade_confirm is set for cp1", next: "upgrade_node_pause_seconds=60",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			bin, ran := fakeansible.New(t, 24*time.Hour, 0)
			if row.inventory != "" {
				if err := os.WriteFile(filepath.Join(bin, "inventory"), []byte(row.inventory), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if row.plays == "" {
				row.plays = plays
			}
			dir := kubesprayDir(t, row.plays, row.more)
			asked := func(choice plan.Choice) error {
				opts := Options{Ansible: ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin}, StateDir: t.TempDir(), KubesprayDir: dir, Playbook: choice}
				if row.edit != nil {
					row.edit(&opts)
				}
				o, err := New(opts)
				if err != nil {
					return err
				}
				_, err = o.Plan(t.Context())
				return err
			}
			err := asked(plan.UpgradeCluster)
			e, ok := errors.AsType[*Error](err)
			there := strings.NewReplacer("DIR", dir)
			if !ok || e.Code != row.code || !strings.Contains(e.Summary, there.Replace(row.says)) || !strings.Contains(e.Next, there.Replace(row.next)) {
				t.Errorf("%v: %+v", err, e)
			}
			if got := ranPlaybooks(ran); len(got) > 0 {
				t.Errorf("playbooks were run: %v", got)
			}
			if err := asked(plan.Auto); err != nil {
				t.Errorf("where none of its playbooks runs: %v", err)
			}
		})
	}
}

// An operator who overrides Kubespray's range of Ansible gets a warning, not a refusal.
func TestDemandIsOverridden(t *testing.T) {
	t.Parallel()
	if least := fmt.Sprintf("%d.%d", ansible.MinimumVersion[0], ansible.MinimumVersion[1]); least != kubespray.LeastAnsible {
		t.Errorf("the oldest Ansible is %s, want %s", least, kubespray.LeastAnsible)
	}
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	dir := kubesprayDir(t, "- hosts: all\n  tasks: []\n", map[string]string{"galaxy.yml": "version: 2.15.1\n"})
	const want = "-e lets Kubespray 2.15.1 run with ansible-core 2.14.18, but it requires 2.9.0 or later, before 2.10.0: this combination is untested"
	warned := func(dir, extra string) bool {
		o, err := New(Options{Ansible: ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin, ExtraVars: []string{extra}}, StateDir: t.TempDir(), KubesprayDir: dir, Playbook: plan.UpgradeCluster})
		if err != nil {
			t.Fatal(err)
		}
		p, err := o.Plan(t.Context())
		if err != nil {
			t.Errorf("%s: %v", extra, err)
		}
		return slices.Contains(p.Plan.Warnings, want)
	}
	for _, extra := range []string{"maximal_ansible_version=99", "{maximal_ansible_version: 2.15.0}"} {
		if !warned(dir, extra) {
			t.Errorf("%s: no warning", extra)
		}
	}
	// An override without effect adds no warning.
	if warned(kubesprayDir(t, "- hosts: all\n  tasks: []\n", nil), "minimal_ansible_version=2.14.5") {
		t.Error("a warning although the release takes this Ansible anyway")
	}
}

// A plan names the checkout that it was made with, and what its playbook does not do.
func TestPlanTellsOfTheCheckout(t *testing.T) {
	t.Parallel()
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	dir := kubesprayDir(t, "- hosts: all\n  tasks: []\n", map[string]string{"renew-certs.yml": "- hosts: all\n  tasks: []\n"})
	for _, row := range []struct {
		choice plan.Choice
		tags   []string
		says   []string
		runs   []string // playbooks of the checkout
	}{
		{plan.UpgradeCluster, []string{"master"}, []string{"Kubespray 2.23.0 (galaxy.yml) in " + dir, "ansible-core 2.14.18 (it asks for 2.14.0 or later, before 2.15.0)", "; tasks: 1", "It does not renew"}, []string{"upgrade-cluster.yml"}},
		{plan.RenewCerts, nil, []string{"renew-certs.yml is the checkout's own", "one control plane at a time"}, []string{"renew-certs.yml"}},
		{plan.Auto, nil, []string{"which is not run: --playbook renew-certs would"}, nil},
	} {
		o, err := New(Options{Ansible: ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin}, StateDir: t.TempDir(), KubesprayDir: dir, Playbook: row.choice, Tags: row.tags})
		if err != nil {
			t.Fatal(err)
		}
		p, err := o.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(p.Plan.Notes, "\n")
		for _, want := range row.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%s", row.choice, want, text)
			}
		}
		var runs []string
		for _, s := range p.Plan.Steps {
			if s.Playbook != "" {
				runs = append(runs, s.Playbook)
			}
		}
		if !slices.Equal(runs, row.runs) {
			t.Errorf("%s runs %v, want %v", row.choice, runs, row.runs)
		}
		// The saved plan is read back unchanged.
		file := filepath.Join(t.TempDir(), "plan.json")
		if _, err := run.WriteProposal(file, p); err != nil {
			t.Fatal(err)
		}
		again, err := run.ReadProposal(file)
		if err != nil || !slices.Equal(again.Request.Tags, row.tags) {
			t.Errorf("%s: %v", row.choice, err)
		}
	}
	if _, err := New(Options{Ansible: ansible.Options{Inventories: []string{"cp1,"}}, KubesprayDir: dir, Tags: []string{"etcd"}}); Code(err) != ExitUsage {
		t.Errorf("tags without a playbook: %v", err)
	}
}

// playing starts a step of the checkout's upgrade-cluster.yml with the real Ansible and
// returns when one of its tasks has created the file that the play calls MARK.
func playing(ctx context.Context, t *testing.T, tasks string, edit func(*Options)) (s *session, step plan.Step, mark string, ended chan error) {
	t.Helper()
	mark = filepath.Join(t.TempDir(), "mark")
	inventory := filepath.Join(t.TempDir(), "hosts.ini")
	if err := os.WriteFile(inventory, []byte("[kube_control_plane]\ncp1 ansible_connection=local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := kubesprayDir(t, "- name: Upgrade\n  hosts: all\n  gather_facts: false\n  tasks:\n"+strings.ReplaceAll(tasks, "MARK", mark), nil)
	opts := Options{Ansible: ansible.Options{Inventories: []string{inventory}, BinDir: realAnsible(t)}, StateDir: t.TempDir(), KubesprayDir: dir, Playbook: plan.UpgradeCluster}
	edit(&opts)
	o, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	o.kube.Ansible.Min, o.kube.Ansible.Max = "", "" // any installed version
	if s, err = o.begin(ctx, run.Entry{Kind: run.KindRun}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	step = plan.Step{ID: "01-upgrade-cluster", Action: plan.Upgrade, Playbook: "upgrade-cluster.yml", Nodes: []string{"cp1"}, Changes: true}
	ended = make(chan error, 1)
	go func() { ended <- s.play(ctx, step, work{}) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			return s, step, mark, ended
		}
		select {
		case err := <-ended:
			t.Fatalf("the step ended early: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the task never started")
		}
	}
}

// ofRun lists the processes that have the environment of a run's Ansible.
func ofRun(s *session) []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), "KSCERT_EVENTS="+s.dir.Path) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			out = append(out, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}

// Soon after a playbook of Kubespray is cancelled, no process of it is left, not even one that
// ignores signals; and it can run again.
func TestCancelKubespray(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, step, mark, ended := playing(ctx, t, `
    - name: Hear nothing, the first time
      ansible.builtin.raw: "[ ! -e MARK ] || exit 0; trap '' INT TERM HUP; (trap '' INT TERM HUP; setsid sleep 61) & touch MARK; sleep 60; sleep 60"
`, func(*Options) {})
	const soon = 15 * time.Second // five where nothing else runs
	start := time.Now()
	cancel()
	select {
	case err := <-ended:
		if !interrupted(err) {
			t.Errorf("error is %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the step did not return")
	}
	if took := time.Since(start); took > soon {
		t.Errorf("it took %s to stop", took)
	}
	for time.Since(start) < soon && len(ofRun(s)) > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	if left := ofRun(s); len(left) > 0 {
		t.Errorf("still running after %s: %s", time.Since(start), strings.Join(left, "\n"))
	}
	if err := s.play(t.Context(), step, work{}); err != nil {
		t.Errorf("second run, with %s: %v", mark, err)
	}
}

// An operator who stops a run while a playbook of Kubespray runs gets a message that the run
// waits for it; a step of ours takes moments, so there is none.
func TestStopWaitsForKubespray(t *testing.T) {
	t.Parallel()
	for playbook, want := range map[string]int{"upgrade-cluster.yml": 1, "": 0} {
		stated := make(chan string, 2)
		s := &session{Orchestrator: &Orchestrator{opts: Options{Observe: func(e Event) { stated <- e.Message }}}, dir: &run.Dir{}}
		soft, stop := context.WithCancel(t.Context())
		s.warnOfWait(soft, plan.Step{Playbook: playbook})() // this step has ended before the stop
		s.warnOfWait(soft, plan.Step{Playbook: playbook})
		stop()
		answered := 0
		for range 2 {
			select {
			case message := <-stated:
				answered++
				if !strings.Contains(message, "waiting for all of Kubespray's "+playbook+" to finish") {
					t.Errorf("got the message %q", message)
				}
			case <-time.After(time.Second):
			}
		}
		if answered != want {
			t.Errorf("%q: %d messages, want %d", playbook, answered, want)
		}
	}
}

// A step that times out is stopped, and the error names its task.
func TestStepTimeout(t *testing.T) {
	t.Parallel()
	s, step, _, ended := playing(t.Context(), t, `
    - name: Take long
      ansible.builtin.raw: "touch MARK; sleep 60"
`, func(o *Options) { o.StepTimeout = 8 * time.Second })
	err := <-ended
	e := s.stepError(err, step, true)
	if e.Code != ExitStopped || e.Summary != "step 01-upgrade-cluster timed out after 8s and was stopped" ||
		!strings.HasPrefix(e.Evidence, `task "Take long" `) || !strings.Contains(e.Evidence, "upgrade-cluster.yml:") || !strings.HasPrefix(e.Next, "allow more time with --step-timeout") {
		t.Errorf("%v: %+v", err, e)
	}
	if left := ofRun(s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, row := range []struct {
		given time.Duration
		step  plan.Step
		want  time.Duration
	}{{0, plan.Step{}, time.Hour}, {0, step, 12 * time.Hour}, {time.Minute, step, time.Minute}, {time.Minute, plan.Step{}, time.Minute}} {
		if got := (&Orchestrator{opts: Options{StepTimeout: row.given}}).stepTimeout(row.step); got != row.want {
			t.Errorf("of %s: %s, want %s", row.given, got, row.want)
		}
	}
}

// While a playbook of Kubespray runs, each task is reported with the progress; at the end,
// what failed where, with a hint if one matches.
func TestKubesprayProgress(t *testing.T) {
	t.Parallel()
	var stated []string
	s, step, _, ended := playing(t.Context(), t, `
    - name: One
      ansible.builtin.raw: "touch MARK"
    - name: Two
      ansible.builtin.debug: {msg: skipped}
      when: false
    - name: Three
      ansible.builtin.raw: "echo 'E: Could not get lock /var/lib/dpkg/lock-frontend' >&2; exit 100"
    - name: Four
      ansible.builtin.debug: {msg: never}
`, func(o *Options) {
		o.Observe = func(e Event) {
			if e.Kind == EventTaskBegin {
				stated = append(stated, fmt.Sprintf("%d/%d %s", e.Done, e.Total, e.Task))
			}
		}
	})
	err := <-ended
	if want := []string{"1/4 One", "2/4 Two", "3/4 Three"}; !slices.Equal(stated, want) {
		t.Errorf("got events %v, want %v", stated, want)
	}
	e := s.stepError(err, step, true)
	if !strings.HasPrefix(e.Evidence, `cp1, task "Three" (`) || !strings.Contains(e.Evidence, "upgrade-cluster.yml:") || !strings.HasPrefix(e.Hint, "another package manager is running") {
		t.Errorf("%+v", e)
	}
}
