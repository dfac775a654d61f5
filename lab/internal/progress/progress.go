// Package progress says what slow work is at, and how long it will take.
package progress

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Func is told what a job is at. Nil tells nobody.
type Func func(format string, args ...any)

// Say tells it.
func (f Func) Say(format string, args ...any) {
	if f != nil {
		f(format, args...)
	}
}

// interval is how often a line is written where there is no terminal to rewrite one.
const interval = 15 * time.Second

// A Board makes one line of what jobs that run at the same time are at.
type Board struct {
	mu    sync.Mutex
	title string
	goal  string
	since time.Time
	names []string
	texts map[string]string
	stop  chan struct{}
	done  sync.WaitGroup

	terminal func(line string)
}

// Start shows a board until its Stop is called: with terminal every second, through log
// otherwise, and seldom. Both may be nil.
func Start(log, terminal func(line string)) *Board {
	b := &Board{stop: make(chan struct{}), since: time.Now(), terminal: terminal}
	show, every := terminal, time.Second
	if show == nil {
		show, every = log, interval
	}
	if show == nil {
		return b
	}
	b.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-b.stop:
				return
			case <-tick.C:
				if line := b.line(every); line != "" {
					show(line)
				}
			}
		}
	})
	return b
}

// Stop ends the showing, and takes the line off a terminal.
func (b *Board) Stop() {
	close(b.stop)
	b.done.Wait()
	if b.terminal != nil {
		b.terminal("")
	}
}

// Step forgets all jobs and begins with what has that title, and ends with the goal.
func (b *Board) Step(title, goal string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.title, b.goal, b.since, b.names, b.texts = title, goal, time.Now(), nil, map[string]string{}
}

// Job returns what a job of the step tells where it is at; an empty text ends it.
func (b *Board) Job(name string) Func {
	return func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.texts[name]; !ok {
			b.names = append(b.names, name)
		}
		b.texts[name] = fmt.Sprintf(format, args...)
	}
}

// line is empty for a step that has only begun: most take less than a second or two.
func (b *Board) line(least time.Duration) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	passed := time.Since(b.since)
	if b.title == "" || passed < least {
		return ""
	}
	var jobs []string
	for _, name := range b.names {
		if text := b.texts[name]; text != "" {
			jobs = append(jobs, name+": "+text)
		}
	}
	if len(jobs) == 0 {
		return fmt.Sprintf("%s (%s): for %.0f s", b.title, b.goal, passed.Seconds())
	}
	return b.title + ": " + strings.Join(jobs, "; ")
}

// Lines calls f with each line that is written to it.
func Lines(f func(line string)) *LineWriter { return &LineWriter{f: f} }

// A LineWriter is what Lines returns. It may be the output of one program twice.
type LineWriter struct {
	mu   sync.Mutex
	f    func(string)
	rest []byte
}

func (w *LineWriter) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, data...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 {
			return len(data), nil
		}
		w.f(string(w.rest[:end]))
		w.rest = w.rest[end+1:]
	}
}

// A Count tells how many of many things are done. They may differ in weight: that is
// what the estimate goes by.
type Count struct {
	tell          Func
	what          string
	total, done   int
	weight, whole int64
	start         time.Time
}

// NewCount begins to count so many things that weigh so much together.
func NewCount(tell Func, what string, total int, whole int64) *Count {
	c := &Count{tell: tell, what: what, total: total, whole: whole, start: time.Now()}
	c.say()
	return c
}

// Add counts one more.
func (c *Count) Add(weight int64) {
	c.done++
	c.weight += weight
	c.say()
}

func (c *Count) say() {
	c.tell.Say("%s %d of %d%s", c.what, c.done, c.total, Left(time.Since(c.start), c.weight, c.whole))
}

// Left is an estimate, ", about 4 min left", or nothing as long as there is too little to
// make one of.
func Left(passed time.Duration, done, whole int64) string {
	if passed < 5*time.Second || done <= 0 || whole/done >= 50 {
		return ""
	}
	left := time.Duration(float64(passed) * max(float64(whole-done), 0) / float64(done))
	if left >= 90*time.Second {
		return fmt.Sprintf(", about %.0f min left", left.Minutes())
	}
	return fmt.Sprintf(", about %.0f s left", max(left.Seconds(), 1))
}
