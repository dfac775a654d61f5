package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// screen is standard error: lines for what has happened and, on a terminal, a status line below
// them for what is happening now, which leaves nothing behind. In a log that can be folded, such as
// a pipeline's, lines are grouped by step.
type screen struct {
	w io.Writer
	// text is the output of others, on its way to w.
	text *printable.Writer
	// width is the number of columns; nil without a terminal, where there is no status line.
	width func() int
	color bool
	group grouping

	mu    sync.Mutex
	now   string
	since time.Time
	shown bool
	ticks *time.Ticker
	done  chan struct{}
}

// grouping is how a log is folded; nil functions for one that is not.
type grouping struct {
	begin, end func(w io.Writer, id, title string, at time.Time)
}

// groupings maps a pipeline's variable to how its log is folded.
var groupings = map[string]grouping{
	// https://docs.github.com/actions/reference/workflow-commands-for-github-actions
	"GITHUB_ACTIONS": {
		func(w io.Writer, _, title string, _ time.Time) { _, _ = fmt.Fprintf(w, "::group::%s\n", title) },
		func(w io.Writer, _, _ string, _ time.Time) { _, _ = fmt.Fprintln(w, "::endgroup::") },
	},
	// https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
	"GITLAB_CI": {
		func(w io.Writer, id, title string, at time.Time) {
			_, _ = fmt.Fprintf(w, "\x1b[0Ksection_start:%d:%s\r\x1b[0K%s\n", at.Unix(), id, title)
		},
		func(w io.Writer, id, _ string, at time.Time) {
			_, _ = fmt.Fprintf(w, "\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", at.Unix(), id)
		},
	},
}

// newScreen returns the screen for a file and an environment. Color follows https://no-color.org; a
// terminal with TERM=dumb gets lines only.
func newScreen(w io.Writer, getenv func(string) string) *screen {
	s := &screen{w: w}
	f, ok := w.(*os.File)
	if ok && term.IsTerminal(int(f.Fd())) && getenv("TERM") != "dumb" {
		s.color = getenv("NO_COLOR") == ""
		s.width = func() int {
			columns, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80
			}
			return columns
		}
		return s
	}
	for variable, g := range groupings {
		if getenv(variable) == "true" {
			s.group = g
		}
	}
	return s
}

// Write prints text of others above the status line, without what a terminal would interpret.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text == nil {
		s.text = printable.NewWriter(s.w)
	}
	return s.above(s.text, p)
}

// draw prints our own text: it may have colors.
func (s *screen) draw(line painted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.above(s.w, []byte(line+"\n"))
}

// above writes above the status line.
func (s *screen) above(w io.Writer, p []byte) (int, error) {
	s.hide()
	n, err := w.Write(p)
	if strings.HasSuffix(string(p), "\n") {
		s.show()
	}
	return n, err
}

// doing sets the status line, and since when.
func (s *screen) doing(text string, since time.Time) {
	if s.width == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hide()
	s.now, s.since = text, since
	s.show()
	if s.ticks == nil {
		s.ticks, s.done = time.NewTicker(time.Second), make(chan struct{})
		go s.tick(s.ticks, s.done)
	}
}

func (s *screen) tick(ticks *time.Ticker, done <-chan struct{}) {
	for {
		select {
		case <-ticks.C:
			s.mu.Lock()
			s.hide()
			s.show()
			s.mu.Unlock()
		case <-done:
			return
		}
	}
}

// clear removes the status line.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hide()
	s.now = ""
	if s.ticks != nil {
		s.ticks.Stop()
		close(s.done)
		s.ticks, s.done = nil, nil
	}
}

// show and hide draw and erase the status line. It is cut to the width of the terminal: a line that
// wraps could not be erased.
func (s *screen) show() {
	if s.now == "" || s.shown {
		return
	}
	text := []rune(printable.Line(fmt.Sprintf("[%6.0fs] %s", time.Since(s.since).Seconds(), s.now)))
	if columns := s.width() - 1; len(text) > columns {
		text = append(text[:max(0, columns-3)], []rune("...")...)
	}
	_, _ = fmt.Fprint(s.w, s.paint(dim, string(text)))
	s.shown = true
}

func (s *screen) hide() {
	if s.shown {
		_, _ = fmt.Fprint(s.w, "\r\x1b[K")
		s.shown = false
	}
}

// paint is a Select Graphic Rendition code of ECMA-48.
type paint string

const (
	dim    paint = "2"
	red    paint = "1;31"
	green  paint = "32"
	yellow paint = "33"
)

// painted is text that may be printed as it is.
type painted string

// paint colors a text, if there are colors, and makes it printable as it is.
func (s *screen) paint(p paint, text string) painted {
	text = printable.Line(text)
	if s.color {
		text = "\x1b[" + string(p) + "m" + text + "\x1b[0m"
	}
	return painted(text)
}
