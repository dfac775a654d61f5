// Package notify tells others how a run has ended: a command gets the report on its
// standard input, a webhook as the body of a POST.
package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Hook is somebody to tell.
type Hook interface {
	// Name says who is told, without anything secret.
	Name() string
	// tell hands the report over once. The error is permanent (backoff.Permanent)
	// when it is of no use to try again.
	tell(ctx context.Context, report []byte) error
}

// Options say how hard is tried.
type Options struct {
	// Timeout is for one try, Tries is how many there are for each hook. Between two
	// tries it waits, first about half a second, then longer.
	Timeout time.Duration
	Tries   uint
}

// Send tells every hook, one after the other. It returns what could not be told to
// whom; a hook that fails keeps no other from being told.
func Send(ctx context.Context, hooks []Hook, report []byte, o Options) error {
	var all []error
	for _, h := range hooks {
		_, err := backoff.Retry(ctx, func() (struct{}, error) {
			one, cancel := context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			return struct{}{}, h.tell(one, report)
		}, backoff.WithMaxTries(o.Tries), backoff.WithMaxElapsedTime(0))
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", h.Name(), err))
		}
	}
	return errors.Join(all...)
}

// Command is run by sh, with the report as JSON on its standard input. It is told when
// it ends with exit code 0.
type Command string

// Name is how the command begins.
func (c Command) Name() string {
	words := strings.Fields(string(c))
	if len(words) == 0 {
		return "command"
	}
	return "command " + words[0] // what follows may be a token
}

// said is how much of a command's output is shown when it fails.
const said = 1000

func (c Command) tell(ctx context.Context, report []byte) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", string(c))
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(report), &out, &out
	// What it has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it timed out: %w", ctx.Err())
	case err != nil:
		text := strings.TrimSpace(out.String())
		return fmt.Errorf("%w: %s", err, text[max(0, len(text)-said):])
	}
	return nil
}

// Webhook gets a POST with the report as JSON. It is told when it answers with 2xx.
type Webhook struct{ url *url.URL }

// ParseWebhook reads a URL, or, from @FILE, the file that holds one: many a URL of a
// webhook is a password.
func ParseWebhook(s string) (Webhook, error) {
	if file, ok := strings.CutPrefix(s, "@"); ok {
		data, err := os.ReadFile(file)
		if err != nil {
			return Webhook{}, err
		}
		s = strings.TrimSpace(string(data))
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return Webhook{}, errors.New("not a URL that begins with https:// or http://") // err would repeat it
	}
	return Webhook{u}, nil
}

// Name is the webhook's host.
func (w Webhook) Name() string { return "webhook at " + w.url.Host }

func (w Webhook) tell(ctx context.Context, report []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(report))
	if err != nil {
		return backoff.Permanent(errors.New("the URL cannot be used"))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "kscertctl")
	res, err := http.DefaultClient.Do(req)
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err // without the URL
	}
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	_ = res.Body.Close()
	switch {
	case res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode >= 500:
		return fmt.Errorf("it answered %s", res.Status)
	default: // it will not like it better the next time
		return backoff.Permanent(fmt.Errorf("it answered %s", res.Status))
	}
}
