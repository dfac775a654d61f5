// Package progress reports the progress of slow work, and estimates the remaining time.
package progress

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Func reports a job's progress. Nil is valid and reports nothing.
type Func func(format string, args ...any)

// Say calls f if it is not nil.
func (f Func) Say(format string, args ...any) {
	if f != nil {
		f(format, args...)
	}
}

// interval is the time between lines where no terminal line can be rewritten.
const interval = 15 * time.Second

// A Board combines the progress of parallel jobs into one line.
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

// Start shows the board until Stop is called: with terminal every second, otherwise through
// log at long intervals. Both may be nil.
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

// Stop stops the display, and removes the line from a terminal.
func (b *Board) Stop() {
	close(b.stop)
	b.done.Wait()
	if b.terminal != nil {
		b.terminal("")
	}
}

// Step removes all jobs and starts a step with that title and goal.
func (b *Board) Step(title, goal string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.title, b.goal, b.since, b.names, b.texts = title, goal, time.Now(), nil, map[string]string{}
}

// Job returns the function that reports a job of the step; an empty text ends the job.
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

// line returns an empty line for a new step: most take less than two seconds.
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

// Lines calls f for each line that is written to it.
func Lines(f func(line string)) *LineWriter { return &LineWriter{f: f} }

// A LineWriter is returned by Lines. It may be both stdout and stderr of a program.
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

// A Count reports how many of many things are done. Their weights are for the estimate.
type Count struct {
	tell          Func
	what          string
	total, done   int
	weight, whole int64
	start         time.Time
}

// NewCount starts a count of so many things with a total weight.
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

// Left returns an estimate, ", about 4 min left", or nothing as long as it has too little
// data.
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
