package ansible

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	const text = `{"v": 1, "time": 5.5, "event": "hello", "core": "2.14.18", "pid": 7}

{"v": 1, "event": "result", "status": "failed", "host": "a", "task": {"name": "T", "action": "raw", "path": "f.yml:2"}, "seconds": 0.5, "ignored": true, "evidence": {"rc": 3, "stderr": "no", "items": ["x"]}}
{"v": 1, "event": "stats", "hosts": {"a": {"ok": 1, "failures": 2, "unreachable": 3, "changed": 4, "skipped": 5, "rescued": 6, "ignored": 7}}}`
	var got []Event
	if err := decode(strings.NewReader(text), func(e Event) { got = append(got, e) }, nil); err != nil {
		t.Fatal(err)
	}
	want := []Event{
		{V: 1, Time: 5.5, Event: "hello", Core: "2.14.18"},
		{V: 1, Event: "result", Status: "failed", Host: "a", Task: &Task{Name: "T", Action: "raw", Path: "f.yml:2"}, Seconds: 0.5, Ignored: true,
			Evidence: &Evidence{RC: 3.0, Stderr: "no", Items: []string{"x"}}},
		{V: 1, Event: "stats", Hosts: map[string]Stats{"a": {OK: 1, Failures: 2, Unreachable: 3, Changed: 4, Skipped: 5, Rescued: 6, Ignored: 7}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	seen := 0
	err := decode(strings.NewReader("{\"v\": 1}\nTraceback\n{\"v\": 1}\n"), func(Event) { seen++ }, nil)
	if err == nil || !strings.Contains(err.Error(), "reading an event of Ansible") || seen != 1 {
		t.Errorf("a bad line: %v after %d events", err, seen)
	}
}

// A line that is too long is reported by its length and skipped: those around it are read.
func TestDecodeOversize(t *testing.T) {
	t.Parallel()
	line := func(size int) string {
		const head, tail = `{"host": "big", "payload": "`, `"}`
		return head + strings.Repeat("x", size-len(head)-len(tail)-1) + tail + "\n"
	}
	text := "{\"host\": \"a\"}\n" + line(maxEvent+1) + line(maxEvent) + "{\"host\": \"b\"}\n" + strings.Repeat("y", 3*maxEvent)
	var hosts []string
	var skipped []int
	err := decode(strings.NewReader(text), func(e Event) { hosts = append(hosts, e.Host) }, func(n int) { skipped = append(skipped, n) })
	if err != nil || !slices.Equal(hosts, []string{"a", "big", "b"}) || !slices.Equal(skipped, []int{maxEvent + 1, 3 * maxEvent}) {
		t.Errorf("events of %v, %v bytes passed over: %v", hosts, skipped, err)
	}
}

// The follower passes on what is written while it reads, and stops when the writer has stopped and
// the last byte was read.
func TestFollower(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, part := range []string{"{\"host\"", ": \"a\"}\n{\"host\": ", "\"b\"}\n"} { // torn lines
			_, _ = w.WriteString(part)
			time.Sleep(2 * poll)
		}
		_, _ = w.WriteString("{\"host\": \"c\"}\n")
		_ = w.Close()
	}()
	var hosts []string
	if err := decode(&follower{file: r, done: done}, func(e Event) { hosts = append(hosts, e.Host) }, nil); err != nil {
		t.Fatal(err)
	}
	if strings.Join(hosts, "") != "abc" {
		t.Errorf("events of %v", hosts)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "\n", "{}\n", `{"v":1,"event":"stats","hosts":{"a":{"ok":1}}}`, "{\"v\": \"x\"}\n", "null\n[]\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		seen := 0
		err := decode(strings.NewReader(text), func(Event) { seen++ }, func(int) { seen++ })
		if lines := strings.Count(text, "\n") + 1; seen > lines {
			t.Errorf("%d events of %d lines (%v)", seen, lines, err)
		}
	})
}
