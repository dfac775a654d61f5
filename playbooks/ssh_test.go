package playbooks_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// Ansible gets the output of ssh, up to the limit.
func TestBoundedSSH(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, ssh string // what ssh does
		out, errs string
		attempts  string
		length    int // of the output, if it is not out
		code      int
	}{
		{name: "an answer", ssh: `printf 'a\nb'; echo answered >&2`, out: "a\nb", errs: "answered\n"},
		{name: "a command that fails", ssh: `printf a; exit 3`, out: "a", code: 3},
		{name: "no connection", ssh: `echo refused >&2; exit 255`, errs: "refused\n", code: 255},
		{name: "no words", ssh: `exit 0`},
		{name: "its arguments", ssh: `printf '[%s]' "$@"`, out: "[-o][a b][node][echo 'c'; exit]"},
		{name: "fewer attempts", attempts: "1", ssh: `printf '[%s]' "$@"`, out: "[-o][ConnectionAttempts=1][-o][a b][node][echo 'c'; exit]"},
		{name: "its input", ssh: `cat`, out: "input"},
		{name: "a long answer", ssh: `head -c 5000000 /dev/zero`, length: 5_000_000},
		{name: "100 MB", ssh: `head -c 100000000 /dev/zero; exit 3`, length: 5 << 20, code: 3},
		{name: "an answer without end", ssh: `exec yes 2>/dev/null`, length: 5 << 20, code: 128 + 13},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			if err := testcommand.Write(filepath.Join(bin, "ssh"), "#!/bin/sh\n"+row.ssh); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "./"+playbooks.SSH, "-o", "a b", "node", "echo 'c'; exit")
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "KSCERT_SSH_ATTEMPTS="+row.attempts)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("input"), &out, &errs
			err := cmd.Run()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != row.code || errs.String() != row.errs {
				t.Errorf("exit code %d, want %d; %q, want %q", code, row.code, errs.String(), row.errs)
			}
			if row.length == 0 && out.String() != row.out {
				t.Errorf("answer %.100q, want %q", out.String(), row.out)
			}
			if row.length > 0 && out.Len() != row.length {
				t.Errorf("%d bytes, want %d", out.Len(), row.length)
			}
		})
	}
}

// A prompt is passed on while ssh waits for its answer.
func TestSSHPassesOnAPrompt(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := testcommand.Write(filepath.Join(bin, "ssh"), "#!/bin/sh\nprintf 'password: '\nread -r word\nprintf '%s, thanks' \"$word\"\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // it waits forever otherwise
	defer cancel()
	cmd := exec.CommandContext(ctx, "./"+playbooks.SSH)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	in, err := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err := errors.Join(err, oerr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	prompt := make([]byte, len("password: "))
	if _, err := io.ReadFull(out, prompt); err != nil {
		t.Errorf("%q: %v", prompt, err)
	}
	_, err = io.WriteString(in, "word\n")
	rest, rerr := io.ReadAll(out)
	if err := errors.Join(err, rerr, cmd.Wait()); err != nil || string(rest) != "word, thanks" {
		t.Errorf("%q: %v", rest, err)
	}
}
