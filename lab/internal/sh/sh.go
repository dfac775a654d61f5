// Package sh runs other programs for the lab: always with a context, always
// with what the program said in the error.
package sh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command is one program run.
type Command struct {
	Args  []string
	Dir   string
	Env   []string // added to the environment
	Stdin io.Reader
	// Log, if set, gets stdout and stderr as they come; stdout is returned
	// all the same.
	Log io.Writer
}

// Error tells which program failed, how, and the end of what it wrote.
type Error struct {
	Args   []string
	Output string
	Err    error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("%s: %v", describe(e.Args), e.Err)
	if e.Output != "" {
		msg += ": " + e.Output
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the program's exit code, or -1 if it did not exit by itself.
func (e *Error) ExitCode() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.Err); ok {
		return exit.ExitCode()
	}
	return -1
}

// Run runs the command to its end and returns its stdout.
func Run(ctx context.Context, c Command) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdin = c.Dir, c.Stdin
	if len(c.Env) > 0 {
		cmd.Env = append(os.Environ(), c.Env...)
	}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Log != nil {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, c.Log), io.MultiWriter(&stderr, c.Log)
	}
	// A build or an installation forks; its own process group is what ends
	// with it, and a pipe a stray child keeps open must not hang us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	said := stderr.String()
	if strings.TrimSpace(said) == "" {
		said = stdout.String()
	}
	return stdout.Bytes(), &Error{Args: c.Args, Output: tail(said, 1500), Err: err}
}

// describe keeps an error readable: a script given as one argument is cut.
func describe(args []string) string {
	var words []string
	for _, a := range args {
		if i := strings.IndexByte(a, '\n'); i >= 0 {
			a = a[:i] + "…"
		}
		if len(a) > 80 {
			a = a[:80] + "…"
		}
		words = append(words, a)
		if len(words) == 10 {
			words = append(words, "…")
			break
		}
	}
	return strings.Join(words, " ")
}

func tail(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = "…" + s[len(s)-n:]
	}
	return s
}
