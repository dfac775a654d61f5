package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/notify"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// notifyFlags define who is notified of a run, and when.
type notifyFlags struct {
	hooks   []notify.Hook
	options notify.Options
	// cluster is the name that a fleet has for the cluster; empty outside a fleet.
	cluster string
	// of is the run that is continued or rolled back; empty for a new one.
	of string
	// on are the moments of notifications; none means when the run stops.
	on words
	// wrong is the error of a webhook. The flag's parser does not return it, because pflag would
	// print the URL, which may hold a password.
	wrong error
}

func (f *notifyFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Var(&repeated{add: f.command}, "notify-command",
		"run this shell command when the run has finished, with its report as JSON on stdin; KSCERT_EVENT has the "+
			"moment, KSCERT_CLUSTER the name in a fleet; may be repeated")
	fl.Var(&repeated{add: f.webhook}, "notify-webhook",
		"POST the report to this URL, or to the one in @FILE; may be repeated")
	f.on.only, f.options.Format = names(notify.Moments()), notify.Report
	fl.Var(&f.on, "notify-on",
		"when to notify: "+strings.Join(f.on.only, ", ")+
			" (approval: someone is asked; stuck: a gate has used half of its time); separated by commas, may be "+
			"repeated (default: end)")
	fl.Var(oneOf[notify.Format]{&f.options.Format, notify.Formats()}, "notify-format",
		"what webhooks get: "+strings.Join(names(notify.Formats()), ", ")+" (CloudEvents 1.0 with the report as data)")
	fl.DurationVar(&f.options.Timeout, "notify-timeout", 10*time.Second, "how long one attempt to notify may take")
	fl.UintVar(&f.options.Tries, "notify-tries", 3, "how many attempts to make for each")
}

func (f *notifyFlags) command(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	f.hooks = append(f.hooks, notify.Command(s))
	return nil
}

func (f *notifyFlags) webhook(s string) error {
	hook, err := notify.ParseWebhook(s)
	if err != nil {
		f.wrong = fmt.Errorf("--notify-webhook: %w", err)
	}
	f.hooks = append(f.hooks, hook)
	return nil
}

// repeated is a flag that may be given several times, and passes on each value.
type repeated struct {
	values []string
	add    func(string) error
}

func (r *repeated) GetSlice() []string { return r.values }
func (r *repeated) String() string     { return strings.Join(r.values, ",") }
func (r *repeated) Type() string       { return "stringArray" }
func (r *repeated) Set(s string) error {
	r.values = append(r.values, s)
	return r.add(s)
}

// prepare reports, before anything is done, that a notification cannot be sent.
func (f *notifyFlags) prepare(cmd *cobra.Command) error {
	switch {
	case f.wrong != nil:
		return usage(cmd, f.wrong)
	case f.options.Tries == 0 || f.options.Timeout <= 0:
		return usage(cmd, errors.New("--notify-tries and --notify-timeout: must be more than 0"))
	}
	return nil
}

// notifier sends notifications about one piece of work. Only the end of the work waits for them.
type notifier struct {
	flags *notifyFlags
	state string
	s     Streams

	// run is the one that is at work.
	run       string
	notes     chan notify.Note
	delivered chan struct{}
	number    int
	// began makes the IDs of a resumed run others than those before.
	began time.Time
	// step is the gate that is waited for, since when, and whether that was notified.
	step  string
	since time.Time
	stuck bool
}

// queued is how many notifications may wait for earlier ones; more are dropped.
const queued = 64

// begin makes a notifier, which observes the events in opts; asks is true if the operator will be
// asked for approval.
func (f *notifyFlags) begin(ctx context.Context, s Streams, opts *orchestrator.Options, asks bool) *notifier {
	n := &notifier{flags: f, state: opts.StateDir, s: s, notes: make(chan notify.Note, queued),
		delivered: make(chan struct{}), began: time.Now()}
	go func() {
		defer close(n.delivered)
		for next := range n.notes {
			n.warn(notify.Send(ctx, f.hooks, next, f.options))
		}
	}()
	patience := cmp.Or(opts.GateTimeout, 5*time.Minute) / 2
	next := opts.Observe
	opts.Observe = func(e orchestrator.Event) {
		n.event(e, patience)
		if next != nil {
			next(e)
		}
	}
	if approve := opts.Approve; approve != nil && asks {
		opts.Approve = func(ctx context.Context, p orchestrator.Proposal) (bool, error) {
			n.add(notify.Approval, time.Now())
			return approve(ctx, p)
		}
	}
	return n
}

// event queues the moments that events mark.
func (n *notifier) event(e orchestrator.Event, patience time.Duration) {
	switch {
	case e.Kind == orchestrator.EventBegin:
		n.run = e.Run
		n.add(notify.Begin, e.Time)
	case e.Kind != orchestrator.EventGate || e.Step == nil || len(e.Unmet) == 0:
	case e.Step.ID != n.step:
		n.step, n.since, n.stuck = e.Step.ID, e.Time, false
	case !n.stuck && e.Time.Sub(n.since) >= patience:
		n.stuck = true
		n.add(notify.Stuck, e.Time)
	}
}

// add queues a moment that was requested.
func (n *notifier) add(m notify.Moment, at time.Time) {
	if n.run == "" || !n.wanted(m) {
		return
	}
	// The report as it is now, whenever it is sent.
	h, err := orchestrator.History(n.state, n.run)
	if err != nil {
		n.warn(err)
		return
	}
	n.send(m, at, report.OfRun(h))
}

// wanted reports whether someone is to be notified at that moment.
func (n *notifier) wanted(m notify.Moment) bool {
	on := n.flags.on.values
	return len(n.flags.hooks) > 0 && (slices.Contains(on, string(m)) || m == notify.End && len(on) == 0)
}

// send queues a report.
func (n *notifier) send(m notify.Moment, at time.Time, r report.Run) {
	var body bytes.Buffer
	if err := report.JSON(&body, r); err != nil {
		n.warn(err)
		return
	}
	n.number++
	host, _ := os.Hostname()
	id := fmt.Sprintf("%s/%s/%d-%d", cmp.Or(n.run, n.flags.cluster), m, n.began.UnixMilli(), n.number)
	select {
	case n.notes <- notify.Note{
		Moment: m, Time: at, Run: n.run, ID: id,
		Cluster: n.flags.cluster,
		Source:  (&url.URL{Host: cmp.Or(host, "localhost"), Path: "/kscertctl"}).String(), Report: body.Bytes(),
	}:
	default:
	}
}

// notifyEnd notifies how the run finished, and waits until all are notified. A run that failed before it had
// a record has no name; of one that cannot be continued now, the report is as it was.
func (n *notifier) notifyEnd(run string, err error) {
	n.run = cmp.Or(run, n.flags.of)
	if n.run == "" && err != nil && n.wanted(notify.End) {
		now, code := time.Now().UTC(), int(orchestrator.Code(err))
		o := report.Outcome{Summary: "nothing was changed", Detail: err.Error(), ExitCode: &code}
		if e, ok := errors.AsType[*orchestrator.Error](err); ok {
			o.Next = e.Next
		}
		n.send(notify.End, now, report.NotBegun(now, o))
	}
	n.add(notify.End, time.Now())
	close(n.notes)
	<-n.delivered
}

// warn reports on standard error who cannot be notified: that does not change the run's result.
func (n *notifier) warn(err error) {
	if err != nil {
		_, _ = fmt.Fprintf(n.s.Err, "warning: not all were notified: %v\n", err)
	}
}
