package exporter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// scrapes is how many are answered at the same time; more have to come again
// (503), so that they cannot fill the memory.
const scrapes = 8

// Listen is where the exporter is served. The fields are the flags of the
// Prometheus project's exporters of the same names (exporter-toolkit).
type Listen struct {
	Addresses []string
	// ConfigFile turns TLS and basic authentication on; empty for neither.
	ConfigFile string
}

// Set are exporters that are served together: one, or one for each cluster of a fleet.
type Set []*Exporter

// Serve inspects and answers until the context ends. It returns an error when it
// cannot listen or the configuration file is wrong.
func (all Set) Serve(ctx context.Context, l Listen, log *slog.Logger) error {
	handler, err := all.Handler()
	if err != nil {
		return err
	}
	if err := web.Validate(l.ConfigFile); err != nil {
		return fmt.Errorf("%s: %w", l.ConfigFile, err)
	}
	var listeners []net.Listener
	for _, address := range l.Addresses {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, listener)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inspecting := make(chan struct{})
	go func() {
		defer close(inspecting)
		var each sync.WaitGroup
		for _, e := range all {
			each.Go(func() { e.Run(ctx) })
		}
		each.Wait()
	}()
	server := newServer(handler)
	context.AfterFunc(ctx, func() {
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer stop()
		_ = server.Shutdown(last) // who still reads then is cut off
	})
	err = web.ServeMultiple(listeners, server,
		&web.FlagConfig{WebListenAddresses: &l.Addresses, WebConfigFile: &l.ConfigFile}, log)
	cancel()
	<-inspecting // with it ends the Ansible that it has started
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// newServer returns a server that waits for no client without an end: a connection that
// sends too slowly, reads too slowly or is left open is closed.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
}

func closeAll(listeners []net.Listener) (err error) {
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}

// Handler answers /metrics, /healthz and, for people, /.
func (all Set) Handler() (http.Handler, error) {
	home, err := web.NewLandingPage(web.LandingConfig{
		Name:        "kscertctl",
		Description: "When the certificates of a Kubernetes cluster expire",
		Links:       []web.LandingLinks{{Address: "/metrics", Text: "Metrics"}, {Address: "/healthz", Text: "Health"}},
		Profiling:   "false", // there are no such pages
	})
	if err != nil {
		return nil, fmt.Errorf("making the first page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", home)
	mux.HandleFunc("/healthz", all.health)
	mux.Handle("/metrics", promhttp.HandlerFor(all.metrics(),
		promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, EnableOpenMetrics: true}))
	return mux, nil
}

// health is about the exporters: they are well while their schedules go on, whatever the
// nodes do. The age of their data is shown as well.
func (all Set) health(w http.ResponseWriter, _ *http.Request) {
	now, code := time.Now(), http.StatusOK
	var text bytes.Buffer
	for _, e := range all {
		var own bytes.Buffer
		if e.health(&own, now) {
			code = http.StatusServiceUnavailable
		}
		for line := range strings.Lines(own.String()) {
			if e.opts.Cluster != "" {
				line = printable.Line(e.opts.Cluster) + ": " + line
			}
			text.WriteString(line)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = text.WriteTo(w)
}

// health is the state of one exporter, and whether it is stuck.
func (e *Exporter) health(w io.Writer, now time.Time) (stuck bool) {
	s := e.now()
	if stuck = e.stuck(s, now); stuck {
		_, _ = fmt.Fprintf(w, "stuck: an inspection that started %s ago has not finished\n",
			now.Sub(s.began).Round(time.Second))
	} else {
		_, _ = fmt.Fprintln(w, "ok")
	}
	if s.families != nil {
		_, _ = fmt.Fprintf(w, "data: %s old\n", now.Sub(s.report.Taken).Round(time.Second))
	} else {
		_, _ = fmt.Fprintln(w, "data: none yet")
	}
	if s.failed != nil {
		_, _ = fmt.Fprintln(w, "the last inspection failed; see the log")
	}
	return stuck
}
