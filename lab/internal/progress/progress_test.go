package progress

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged []string
		b := Start(func(line string) { logged = append(logged, line) }, nil)
		b.Step("step 1 of 2", "machines ready")
		b.Job("Kubernetes")("package %d of %d", 1, 9)
		b.Job("packages")("12 of 40")
		time.Sleep(interval + time.Second)
		b.Job("packages")("")
		time.Sleep(interval)
		b.Step("step 2 of 2", "etcd running")
		time.Sleep(2 * interval)
		b.Stop()
		want := []string{
			"step 1 of 2: Kubernetes: package 1 of 9; packages: 12 of 40",
			"step 1 of 2: Kubernetes: package 1 of 9",
			// A new step has no line yet.
			"step 2 of 2 (etcd running): for 29 s",
		}
		if fmt.Sprint(logged) != fmt.Sprint(want) {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(logged, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestBoardOnTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shown, last := 0, ""
		b := Start(
			func(string) { t.Error("no rewritten line on a terminal") },
			func(line string) { shown, last = shown+1, line },
		)
		b.Step("step 1 of 1", "etcd running")
		time.Sleep(10*time.Second + time.Millisecond)
		b.Stop()
		if shown < 10 || shown > 11 || last != "" {
			t.Errorf("shown %d times in ten seconds, last %q", shown, last)
		}
	})
}

func TestBoardForNobody(*testing.T) {
	b := Start(nil, nil)
	b.Step("step 1 of 1", "etcd running")
	b.Job("x")("y")
	b.Stop()
	NewCount(nil, "package", 1, 1).Add(1)
}

func TestLines(t *testing.T) {
	var got []string
	w := Lines(func(line string) { got = append(got, line) })
	for _, part := range []string{"a", "b\nc\n\nd", "e\nnot ended"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if fmt.Sprintf("%q", got) != `["ab" "c" "" "de"]` {
		t.Errorf("got %q", got)
	}
}

func TestCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		output := ""
		c := NewCount(func(format string, args ...any) { output = fmt.Sprintf(format, args...) }, "package", 3, 1000)
		if output != "package 0 of 3" {
			t.Errorf("output %q", output)
		}
		time.Sleep(10 * time.Second)
		// One small package of three is less than a third of the time.
		c.Add(100)
		if output != "package 1 of 3, about 2 min left" {
			t.Errorf("output %q", output)
		}
		time.Sleep(50 * time.Second)
		c.Add(500)
		if output != "package 2 of 3, about 40 s left" {
			t.Errorf("output %q", output)
		}
		c.Add(400)
		if output != "package 3 of 3, about 1 s left" {
			t.Errorf("output %q", output)
		}
	})
}

func TestLeft(t *testing.T) {
	for want, got := range map[string]string{
		"":                   Left(time.Second, 50, 100),
		", about 10 s left":  Left(10*time.Second, 50, 100),
		", about 8 min left": Left(10*time.Second, 2, 98),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := Left(time.Minute, 1, 100); got != "" {
		t.Errorf("an estimate from too little data: %q", got)
	}
}
