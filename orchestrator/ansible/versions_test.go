package ansible

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
)

// everyKind is a playbook in which everything happens that is reported.
const everyKind = `
    - name: Fine
      ansible.builtin.raw: "true"
      changed_when: false
    - name: Changed
      ansible.builtin.raw: "true"
      notify: Notified
    - name: Skipped
      ansible.builtin.raw: "true"
      when: false
    - name: Ignored
      ansible.builtin.raw: "echo stated; echo because >&2; exit 3"
      ignore_errors: true
    - name: Tried again
      ansible.builtin.raw: "echo x >> {{ playbook_dir }}/tries-{{ inventory_hostname }}; test $(grep -c x {{ playbook_dir }}/tries-{{ inventory_hostname }}) = 2"
      register: tried
      until: tried is succeeded
      retries: 3
      delay: 0
    - name: In a loop
      ansible.builtin.raw: "exit {{ item }}"
      loop: [0, 4]
      ignore_errors: true
    - name: Secret
      ansible.builtin.raw: "echo canary; exit 5"
      no_log: true
      ignore_errors: true
    - name: Rescued
      block:
        - name: Broken
          ansible.builtin.raw: "exit 6"
      rescue:
        - name: Fixed
          ansible.builtin.raw: "true"
    - name: Asked for
      ansible.builtin.raw: "printf payload"
      tags: [kscert_payload]
    - name: Included
      ansible.builtin.include_tasks: included.yml
    - name: Broken on b
      ansible.builtin.raw: "exit {{ 7 if inventory_hostname == 'b' else 0 }}"
    - name: Only on a
      ansible.builtin.raw: "true"
  handlers:
    - name: Notified
      ansible.builtin.raw: "true"
`

// Every version of Ansible reports the same about the same playbook. KSCERTCTL_TRY_ANSIBLES names
// further ones than the installed.
func TestSameEventsOnEachAnsible(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/events.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, bin := range testansible.Bins(t) {
		t.Run(bin, func(t *testing.T) {
			t.Parallel()
			p := book(t, everyKind)
			if err := os.WriteFile(filepath.Join(p.Dir, "included.yml"), []byte("- name: From elsewhere\n  ansible.builtin.raw: \"true\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			r := runner(t, Options{Inventories: []string{local(t, "a", "b")}, BinDir: bin, Forks: 1})
			var stated strings.Builder
			o, err := r.Run(t.Context(), p, func(e Event) {
				if e.Event == "hello" {
					t.Logf("ansible-core %s", e.Core)
				}
				stated.WriteString(inWords(e, p.Dir) + "\n")
			})
			if err == nil || o.Stats == nil {
				t.Fatalf("%v: %+v", err, o)
			}
			if stated.String() != string(want) {
				t.Errorf("it tells\n%s\nwant (testdata/events.txt)\n%s", stated.String(), want)
			}
		})
	}
}

// inWords is an event without what differs between runs, and between the texts of versions.
func inWords(e Event, dir string) string {
	line := []string{e.Event, e.Name, e.Host, e.Status}
	if e.Task != nil {
		line = append(line, fmt.Sprintf("%q %s %s", e.Task.Name, e.Task.Action, strings.TrimPrefix(e.Task.Path, dir+"/")))
	}
	if e.Ignored {
		line = append(line, "ignored")
	}
	if v := e.Evidence; v != nil {
		line = append(line, fmt.Sprintf("rc=%v stderr=%t items=%d censored=%t", v.RC, strings.Contains(v.Stdout+v.Stderr, "because"), len(v.Items), v.Censored != ""))
	}
	if e.Payload != "" {
		line = append(line, "payload="+e.Payload)
	}
	for _, host := range slices.Sorted(maps.Keys(e.Hosts)) {
		line = append(line, fmt.Sprintf("%s=%+v", host, e.Hosts[host]))
	}
	return strings.TrimSpace(regexp.MustCompile(` +`).ReplaceAllString(strings.Join(line, " "), " "))
}
