// Package notify reports to others how a run is going, and how it has ended: a command gets the
// report on its standard input, a webhook as the body of a POST.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
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

// Moment is when to notify.
type Moment string

// The moments of a run.
const (
	Begin    Moment = "begin"    // the work began
	Approval Moment = "approval" // someone is being asked
	Stuck    Moment = "stuck"    // a gate has used half of its time
	End      Moment = "end"      // the work ended
)

// Moments lists all of them.
func Moments() []Moment { return []Moment{Begin, Approval, Stuck, End} }

// Note is what to notify of.
type Note struct {
	Moment Moment
	Time   time.Time
	// Run names the run, and ID this note among all of its.
	Run, ID string
	// Cluster is the name that a fleet has for the cluster; empty outside a fleet.
	Cluster string
	// Source is where the run is at work, as a reference of RFC 3986.
	Source string
	// Report is that of the run as it is then, JSON.
	Report []byte
}

// Format is the form in which a webhook gets a note.
type Format string

// The formats. The last two are those of CloudEvents 1.0 over HTTP:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md.
const (
	Report     Format = "report"
	Binary     Format = "cloudevents-binary"
	Structured Format = "cloudevents-structured"
)

// Formats lists all of them.
func Formats() []Format { return []Format{Report, Binary, Structured} }

// eventType is what the type of an event begins with.
const eventType = "com.github.infrapuzzle.kscertctl.run."

// event is a CloudEvent of version 1.0 in the JSON format.
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"` // absent for a run without a record
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Cluster         string          `json:"cluster,omitempty"` // an extension
	Data            json.RawMessage `json:"data,omitempty"`
}

// event is the note as one.
func (n Note) event() event {
	return event{
		SpecVersion: "1.0", ID: n.ID, Source: n.Source, Type: eventType + string(n.Moment), Subject: n.Run,
		Time: n.Time.UTC().Format(time.RFC3339Nano), DataContentType: "application/json",
		Cluster: n.Cluster, Data: n.Report,
	}
}

// request is the body of a POST and its headers.
func (n Note) request(f Format) (body []byte, headers map[string]string, err error) {
	e := n.event()
	switch f {
	case Structured:
		body, err = json.Marshal(e)
		return body, map[string]string{"Content-Type": "application/cloudevents+json; charset=utf-8"}, err
	case Binary:
		headers = map[string]string{"Content-Type": e.DataContentType}
		for name, value := range map[string]string{"specversion": e.SpecVersion, "id": e.ID, "source": e.Source,
			"type": e.Type, "subject": e.Subject, "time": e.Time, "cluster": e.Cluster} {
			if value != "" {
				headers["Ce-"+name] = headerValue(value)
			}
		}
		return n.Report, headers, nil
	case Report:
	}
	headers = map[string]string{"Content-Type": "application/json", "Kscertctl-Event": string(n.Moment)}
	if n.Cluster != "" {
		headers["Kscertctl-Cluster"] = headerValue(n.Cluster)
	}
	return n.Report, headers, nil
}

// headerValue is an attribute in a header: what is no visible ASCII, a quote or a percent
// sign is percent-encoded (the same page, 3.1.3.2).
func headerValue(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		if b <= ' ' || b > '~' || b == '"' || b == '%' {
			fmt.Fprintf(&out, "%%%02X", b)
		} else {
			out.WriteByte(b)
		}
	}
	return out.String()
}

// Hook is someone to tell.
type Hook interface {
	// Name is who is notified, without anything secret.
	Name() string
	// tell hands the note over once. The error is permanent (backoff.Permanent)
	// when it is of no use to try again.
	tell(ctx context.Context, n Note, f Format) error
}

// Options say how hard is tried.
type Options struct {
	// Timeout is for one try, Tries is how many there are for each hook. Between two
	// tries it waits, first about half a second, then longer.
	Timeout time.Duration
	Tries   uint
	// Format is the one for webhooks; Report when empty.
	Format Format
}

// Send calls every hook, one after the other. It returns what could not be sent to
// whom; a hook that fails keeps no other from being called.
func Send(ctx context.Context, hooks []Hook, n Note, o Options) error {
	var all []error
	for _, h := range hooks {
		_, err := backoff.Retry(ctx, func() (struct{}, error) {
			one, cancel := context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			return struct{}{}, h.tell(one, n, o.Format)
		}, backoff.WithMaxTries(o.Tries), backoff.WithMaxElapsedTime(0))
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", h.Name(), err))
		}
	}
	return errors.Join(all...)
}

// In these environment variables a command finds the moment and the cluster of a fleet.
const (
	MomentVariable  = "KSCERT_EVENT"
	ClusterVariable = "KSCERT_CLUSTER"
)

// Command is run by sh, with the report as JSON on its standard input. It has succeeded when
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

// printed is how much of a command's output is shown when it fails.
const printed = 1000

func (c Command) tell(ctx context.Context, n Note, _ Format) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", string(c))
	var out bytes.Buffer
	cmd.Env = append(os.Environ(), MomentVariable+"="+string(n.Moment), ClusterVariable+"="+n.Cluster)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(n.Report), &out, &out
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
		return fmt.Errorf("%w: %s", err, text[max(0, len(text)-printed):])
	}
	return nil
}

// Webhook gets a POST with the report as JSON. It has succeeded when it answers with 2xx.
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

func (w Webhook) tell(ctx context.Context, n Note, f Format) error {
	body, headers, err := n.request(f)
	if err != nil {
		return backoff.Permanent(fmt.Errorf("writing the event: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(errors.New("the URL cannot be used"))
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "kscertctl")
	client := &http.Client{CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.Method == http.MethodPost {
			return nil
		}
		return http.ErrUseLastResponse // the report would not be sent
	}}
	res, err := client.Do(req)
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
