// Package sh runs other programs for the lab, always with a context, and with the program's
// output in errors.
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

// Command is a program to run.
type Command struct {
	Args  []string
	Dir   string
	Env   []string // added to the environment
	Stdin io.Reader
	// Log, if set, gets stdout and stderr immediately; Run still returns stdout.
	Log io.Writer
}

// Error describes which program failed, how, and the last part of its output.
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

// ExitCode is the program's exit code, or -1 if it was killed by a signal.
func (e *Error) ExitCode() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.Err); ok {
		return exit.ExitCode()
	}
	return -1
}

// Run runs the command and returns its stdout.
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
	// Builds and installations fork: kill the whole process group, and do not wait for a pipe
	// that a child keeps open.
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
	printed := stderr.String()
	if strings.TrimSpace(printed) == "" {
		printed = stdout.String()
	}
	return stdout.Bytes(), &Error{Args: c.Args, Output: tail(printed, 1500), Err: err}
}

// describe shortens arguments, such as scripts, in errors.
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
