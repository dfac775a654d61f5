package sh

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	out, err := Run(t.Context(), Command{Args: []string{"sh", "-c", "cat; echo $X"}, Stdin: strings.NewReader("in "), Env: []string{"X=env"}})
	if err != nil || string(out) != "in env\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestRunFails(t *testing.T) {
	_, err := Run(t.Context(), Command{Args: []string{"sh", "-c", "echo why >&2; exit 3"}})
	var failed *Error
	if !errors.As(err, &failed) || failed.ExitCode() != 3 || !strings.Contains(err.Error(), "why") {
		t.Errorf("got %v", err)
	}
}

// A child that outlives its parent and keeps the pipe open must not block Run.
func TestRunEndsWithItsDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := Run(ctx, Command{Args: []string{"sh", "-c", "sleep 60 & sleep 60"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("it took %s to give up", took)
	}
}
