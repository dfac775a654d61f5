package ansible

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Event is one line of the callback plugin (plugins/callback of the collection).
type Event struct {
	V     int     `json:"v"`
	Time  float64 `json:"time"` // seconds since the epoch
	Event string  `json:"event"`
	// Core is Ansible's version, in the event "hello".
	Core string `json:"core,omitempty"`
	// Name is the play's name, in "play_start".
	Name string `json:"name,omitempty"`
	// Path is the playbook's file, in "playbook_start".
	Path string `json:"path,omitempty"`
	Task *Task  `json:"task,omitempty"`
	Host string `json:"host,omitempty"`
	// Status of a "result": ok, changed, skipped, failed, unreachable, retry.
	Status  string  `json:"status,omitempty"`
	Ignored bool    `json:"ignored,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Evidence explains why a result failed.
	Evidence *Evidence `json:"evidence,omitempty"`
	// Payload is the whole standard output of a task tagged kscert_payload.
	Payload string `json:"payload,omitempty"`
	// Coded is set instead in the file if the task codes it (internal/payload).
	Coded string `json:"coded,omitempty"`
	// PayloadSize is set instead, in bytes, if that is longer than MaxPayload.
	PayloadSize int `json:"payload_size,omitempty"`
	// Inventory is the output of "ansible-inventory --list", with the variables of
	// Playbook.Variables alone, in "inventory".
	Inventory json.RawMessage `json:"inventory,omitempty"`
	// Hosts are the final counts, in "stats".
	Hosts map[string]Stats `json:"hosts,omitempty"`
}

// Task is the source of an event.
type Task struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Path   string `json:"path,omitempty"` // "file:line"
}

// Evidence is the part of a result that explains its failure. Text is clipped.
type Evidence struct {
	Msg          string   `json:"msg,omitempty"`
	RC           any      `json:"rc,omitempty"`
	Stdout       string   `json:"stdout,omitempty"`
	Stderr       string   `json:"stderr,omitempty"`
	ModuleStdout string   `json:"module_stdout,omitempty"`
	ModuleStderr string   `json:"module_stderr,omitempty"`
	Reason       string   `json:"reason,omitempty"`
	Items        []string `json:"items,omitempty"`
	Censored     string   `json:"censored,omitempty"`
}

// Stats are Ansible's final counts for one host.
type Stats struct {
	OK          int `json:"ok"`
	Changed     int `json:"changed"`
	Failures    int `json:"failures"`
	Unreachable int `json:"unreachable"`
	Skipped     int `json:"skipped"`
	Rescued     int `json:"rescued"`
	Ignored     int `json:"ignored"`
}

// MaxPayload is the longest payload, in bytes of its event's line: the callback passes on only the
// size of a longer one (PAYLOAD_LIMIT there).
const MaxPayload = 4 << 20

// maxEvent limits one line: a payload and what surrounds it. The callback writes no longer one, so
// only a foreign writer is cut off here.
const maxEvent = MaxPayload + 1<<20

// decode reads JSON lines to the end of r. A line longer than maxEvent is skipped and its length
// passed to skipped; no more than that is held in memory.
func decode(r io.Reader, observe func(Event), skipped func(length int)) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, length, err := readLine(br)
		switch {
		case length > maxEvent:
			skipped(length)
		case length > 1:
			var e Event
			if jerr := json.Unmarshal(line, &e); jerr != nil {
				return fmt.Errorf("reading an event of Ansible: %w", jerr)
			}
			observe(e)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// readLine reads to the end of a line. It returns the line and its length; the line is nil if it is
// longer than maxEvent.
func readLine(br *bufio.Reader) (line []byte, length int, err error) {
	for {
		part, err := br.ReadSlice('\n')
		length += len(part)
		if length > maxEvent {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, length, err
		}
	}
}

// follower reads a growing file until done is closed and its end is reached.
type follower struct {
	file *os.File
	done <-chan struct{}
	last bool
}

// poll is the interval of checks of the event file: well below what a person notices.
const poll = 25 * time.Millisecond

func (f *follower) Read(p []byte) (int, error) {
	for {
		n, err := f.file.Read(p)
		if n > 0 || (err != nil && !errors.Is(err, io.EOF)) {
			return n, err
		}
		if f.last {
			return 0, io.EOF
		}
		select {
		case <-f.done:
			f.last = true
		case <-time.After(poll):
		}
	}
}
