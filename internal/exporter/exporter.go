// Package exporter serves what inspections bring back as metrics of Prometheus.
//
// It inspects on a schedule of its own, one inspection at a time: no scrape waits
// for a node, and a thousand scrapes ask the nodes nothing. What could not be looked
// at keeps what was last known of it, and a metric has its age.
package exporter

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// Options say what is looked at, and how often.
type Options struct {
	// Inspect looks at every node; it ends soon after its context does. A node that
	// cannot be looked at is part of the report, not an error.
	Inspect func(context.Context) (expiry.Report, error)
	// Interval is from the beginning of one inspection to that of the next. Each is
	// put off by up to a tenth of it at random, so that exporters which were started
	// together do not ask together.
	Interval time.Duration
	// Timeout is how long an inspection may take.
	Timeout time.Duration
	// Log gets the result of each inspection.
	Log *slog.Logger
	// Cluster is the label of all metrics; empty for none.
	Cluster string
	// Slots bound how many inspections of several exporters run at the same time: one
	// waits for a place in the channel. Nil for no bound.
	Slots chan struct{}
	// Offset is how much later than after one interval the second inspection begins, or
	// earlier, so that those of several exporters do not follow each other at once.
	Offset time.Duration
}

// Exporter holds what the last inspections brought back.
type Exporter struct {
	opts Options

	mu    sync.Mutex
	state state
}

// state is what is known of the inspections.
type state struct {
	// report merges the inspections that have succeeded. families are its metrics: made
	// once, not for each scrape; none before the first.
	report   expiry.Report
	families []*dto.MetricFamily
	// seen is when each node was last looked at, by this machine's clock.
	seen map[string]time.Time
	// began and ended are of the last inspection that did so, took is how long that
	// one took; failed is why it has no result, nil when it has.
	began, ended time.Time
	took         time.Duration
	failed       error
	counts       map[result]int
}

// result is how an inspection ended.
type result string

const (
	success  result = "success"
	failure  result = "failure"
	timedOut result = "timeout"
)

func results() []result { return []result{success, failure, timedOut} }

// New returns an Exporter that has looked at nothing yet.
func New(opts Options) *Exporter {
	return &Exporter{opts: opts, state: state{seen: map[string]time.Time{}, counts: map[result]int{}}}
}

// Run inspects until the context ends; the first time at once.
func (e *Exporter) Run(ctx context.Context) {
	offset := e.opts.Offset
	for ctx.Err() == nil {
		next := time.Now().Add(e.opts.Interval + offset +
			rand.N(e.opts.Interval/10+1)) //nolint:gosec // no secret depends on it
		offset = 0
		e.inspect(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
	}
}

func (e *Exporter) inspect(ctx context.Context) {
	if e.opts.Slots != nil {
		select {
		case e.opts.Slots <- struct{}{}:
			defer func() { <-e.opts.Slots }()
		case <-ctx.Done():
			return
		}
	}
	began := time.Now()
	e.mu.Lock()
	e.state.began = began
	e.mu.Unlock()

	bounded, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	r, err := e.opts.Inspect(bounded)
	late := errors.Is(bounded.Err(), context.DeadlineExceeded)
	cancel()
	if ctx.Err() != nil { // the end of the exporter is no failure of the nodes
		return
	}

	var merged expiry.Report
	var families []*dto.MetricFamily
	if err == nil {
		merged = merge(e.now().report, r)
		families, err = e.gather(merged)
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.state
	s.ended, s.took, s.failed = now, now.Sub(began), err
	switch {
	case err == nil:
		s.counts[success]++
		s.report, s.families = merged, families
		for _, n := range r.Nodes {
			if n.Known {
				s.seen[n.Name] = r.Taken
			}
		}
		e.opts.Log.Info("inspected", "seconds", s.took.Seconds(), "certificates", len(r.Certificates), "unknown",
			len(r.Unknown()))
	case late:
		s.counts[timedOut]++
		e.opts.Log.Error("inspection timed out", "timeout", e.opts.Timeout, "error", err)
	default:
		s.counts[failure]++
		e.opts.Log.Error("inspection failed", "error", err)
	}
}

// merge returns the newer report, in which a node that could not be looked at keeps
// what the older one knew of it.
func merge(older, newer expiry.Report) expiry.Report {
	lost := map[string]bool{}
	for i, n := range newer.Nodes {
		if n.Known {
			continue
		}
		lost[n.Name] = true
		for _, before := range older.Nodes {
			if before.Name == n.Name {
				newer.Nodes[i].Clock = before.Clock
			}
		}
	}
	for _, c := range older.Certificates {
		if lost[c.Node] {
			newer.Certificates = append(newer.Certificates, c)
		}
	}
	known := func(u expiry.Unreadable) bool {
		return slices.ContainsFunc(newer.Unreadable,
			func(v expiry.Unreadable) bool { return v.Node == u.Node && v.Path == u.Path })
	}
	for _, u := range older.Unreadable {
		if lost[u.Node] && !known(u) {
			newer.Unreadable = append(newer.Unreadable, u)
		}
	}
	return newer
}

// now returns what is known at this moment.
func (e *Exporter) now() state {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.state
	s.counts, s.seen = maps.Clone(e.state.counts), map[string]time.Time{}
	for _, n := range s.report.Nodes { // not those that have left the inventory
		if t, ok := e.state.seen[n.Name]; ok {
			s.seen[n.Name] = t
		}
	}
	return s
}

// stuck reports whether the schedule has stopped: an inspection should have ended since. One
// that has begun ends in time, and so does one that waits for others of its kind.
func (e *Exporter) stuck(s state, now time.Time) bool {
	if s.began.After(s.ended) || e.opts.Slots == nil {
		return !s.began.IsZero() && now.Sub(s.began) > e.opts.Interval+e.opts.Interval/10+2*e.opts.Timeout
	}
	return false
}
