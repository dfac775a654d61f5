package ansible

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseTasks(t *testing.T) {
	t.Parallel()
	const text = `
playbook: upgrade-cluster.yml

  play #1 (k8s_cluster:etcd): Gather facts	TAGS: []
    tasks:
      Gather minimal facts	TAGS: [always]

  play #2 (kube_control_plane): 	TAGS: [never]
    tasks:

  play #3 (a(b)): Name (with) brackets: and colons	TAGS: []
    tasks:
      role : One {{ item }}	TAGS: [a, b]
      role : play #4 (x): no play	TAGS: []
`
	want := []Play{{"Gather facts", 1}, {"kube_control_plane", 0}, {"Name (with) brackets: and colons", 2}}
	if got := parseTasks(text); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := parseTasks("garbage\n      x\tTAGS: [\n"); got != nil {
		t.Errorf("%+v of garbage", got)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	play := func(name string) Event { return Event{Event: "play_start", Name: name} }
	task := func(path string) Event { return Event{Event: "task_start", Task: &Task{Name: "t", Path: path}} }
	for _, row := range []struct {
		name   string
		events []Event
		want   []int
	}{
		{"one after another", []Event{play("a"), task("1"), task("2"), play("b"), task("3"), {Event: "stats"}}, []int{0, 1, 2, 2, 3, 6}},
		{"in batches a task counts once", []Event{play("a"), task("1"), task("2"), play("a"), task("1"), task("2")}, []int{0, 1, 2, 2, 2, 2}},
		{"what is included counts no more than the play has", []Event{play("a"), task("1"), task("x"), task("y"), task("z")}, []int{0, 1, 2, 2, 2}},
		{"a play without hosts is over when the next one begins", []Event{play("a"), task("1"), play("c"), task("9")}, []int{0, 1, 5, 6}},
		{"one that was not listed", []Event{play("z"), task("1"), play("a"), task("1")}, []int{0, 0, 0, 1}},
		{"results say nothing", []Event{play("a"), {Event: "result", Task: &Task{}}}, []int{0, 0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := Progress{Plays: []Play{{"a", 2}, {"b", 3}, {"c", 1}}}
			var got []int
			for _, e := range row.events {
				done, total := p.Add(e)
				if total != 6 {
					t.Fatalf("total is %d", total)
				}
				got = append(got, done)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
	var none Progress
	if done, total := none.Add(play("a")); done != 0 || total != 0 {
		t.Errorf("of nothing: %d of %d", done, total)
	}
}

func FuzzParseTasks(f *testing.F) {
	f.Add("  play #1 (all): x\tTAGS: []\n    tasks:\n      y\tTAGS: []\n")
	f.Add("  play #1 (): \tTAGS: [\n")
	f.Fuzz(func(t *testing.T, text string) {
		total := 0
		for _, p := range parseTasks(text) {
			total += p.Tasks
		}
		if total > strings.Count(text, "TAGS") {
			t.Errorf("%d tasks", total)
		}
	})
}

// A checkout's own configuration counts for its playbooks: roles, modules, callbacks and the fact
// cache; our events are added.
func TestOthersConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ansible.cfg": "[defaults]\nlibrary = ./modules\nroles_path = ./parts\ncallback_plugins = ./theirs\ncallbacks_enabled = note\n" +
			"fact_caching = jsonfile\nfact_caching_connection = ./facts\n",
		"book/p.yml":             "- name: A play\n  hosts: all\n  gather_facts: false\n  roles: [part]\n",
		"parts/part/tasks/a.yml": "- name: Included\n  theirs:\n",
		"parts/part/tasks/main.yml": "- name: First\n  theirs:\n- name: Keep a fact\n  ansible.builtin.set_fact: {kept: 1, cacheable: true}\n" +
			"- name: Include\n  ansible.builtin.include_tasks: a.yml\n",
		"modules/theirs.py": "#!/usr/bin/python\nprint('{\"changed\": false}')\n",
		"theirs/note.py": "from ansible.plugins.callback import CallbackBase\nclass CallbackModule(CallbackBase):\n" +
			"    CALLBACK_VERSION = 2.0\n    CALLBACK_TYPE = 'aggregate'\n    CALLBACK_NAME = 'note'\n    CALLBACK_NEEDS_ENABLED = True\n" +
			"    def v2_playbook_on_stats(self, stats):\n        open('noted', 'w').close()\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := runner(t, Options{Inventories: []string{local(t, "a")}})
	p := Playbook{Path: filepath.Join(dir, "book/p.yml"), Dir: dir, CallbackDir: callbacks(t), Events: filepath.Join(dir, "events"), Log: filepath.Join(dir, "log")}
	var err error
	if p.Callbacks, err = r.CallbackPath(t.Context(), dir); err != nil || !slices.Equal(p.Callbacks, []string{filepath.Join(dir, "theirs")}) {
		t.Fatalf("callbacks are in %v: %v", p.Callbacks, err)
	}
	plays, err := r.Tasks(t.Context(), p)
	if want := []Play{{"A play", 3}}; err != nil || !reflect.DeepEqual(plays, want) {
		t.Fatalf("%+v, %v", plays, err)
	}
	progress := Progress{Plays: plays}
	var counts []int
	if _, err := r.Run(t.Context(), p, func(e Event) {
		if done, _ := progress.Add(e); e.Event == "task_start" {
			counts = append(counts, done)
		}
	}); err != nil {
		log, _ := os.ReadFile(p.Log)
		t.Fatalf("%v\n%s", err, log)
	}
	if want := []int{1, 2, 3, 3}; !slices.Equal(counts, want) {
		t.Errorf("progress was %v, want %v", counts, want)
	}
	for _, name := range []string{"noted", "facts/a"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// What is missing in a playbook is reported before anything is done.
func TestTasksErrors(t *testing.T) {
	t.Parallel()
	r := runner(t, Options{Inventories: []string{local(t, "a")}})
	p := book(t, "    - ansible.builtin.import_role: {name: nowhere}\n")
	if _, err := r.Tasks(t.Context(), p); err == nil || !strings.Contains(err.Error(), "the role 'nowhere' was not found") {
		t.Errorf("%v", err)
	}
	bin := t.TempDir()
	script(t, bin, "ansible-config", "echo nothing\n")
	r, err := New(Options{Inventories: []string{"a,"}, BinDir: bin})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.CallbackPath(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "does not list the directories of callbacks") {
		t.Errorf("%v", err)
	}
}
