package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// TestSet: the exporters of several clusters never inspect more at the same time than there
// are slots, spread over the interval after the first time, and each keeps what it knew.
func TestSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const clusters, atOnce = 8, 2
		slots := make(chan struct{}, atOnce)
		var now, most atomic.Int32
		began := make([][]time.Duration, clusters)
		start := time.Now()
		var all Set
		for i := range clusters {
			all = append(all, New(Options{
				Interval: time.Hour, Timeout: 10 * time.Minute, Log: slog.New(slog.DiscardHandler),
				Cluster: fmt.Sprintf("c%d", i), Slots: slots, Offset: time.Hour*time.Duration(i)/clusters - 30*time.Minute,
				Inspect: func(context.Context) (expiry.Report, error) {
					most.Store(max(most.Load(), now.Add(1)))
					defer now.Add(-1)
					began[i] = append(began[i], time.Since(start))
					time.Sleep(time.Minute)
					if i == 3 && len(began[i]) > 1 {
						return expiry.Report{}, errors.New("its bastion is down")
					}
					return few(), nil
				},
			}))
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, e := range all {
			go e.Run(ctx)
		}
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		cancel()
		time.Sleep(time.Minute)
		if most.Load() != atOnce {
			t.Errorf("%d inspections at the same time, want %d", most.Load(), atOnce)
		}
		for i, times := range began {
			first, second := 30*time.Minute+time.Hour*time.Duration(i)/clusters, 37*time.Minute+time.Hour*time.Duration(i)/clusters
			if len(times) < 2 || times[0] > clusters/atOnce*time.Minute || times[1] < first || times[1] > second {
				t.Errorf("cluster %d was inspected after %s; the second time must be after %s to %s", i, times, first, second)
			}
		}
		h, err := all.Handler()
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		text := w.Body.String()
		if problems, err := promlint.New(strings.NewReader(ours(text) + "\n")).Lint(); err != nil && len(problems) > 0 {
			t.Error(problems, err)
		}
		for _, s := range []string{
			`kscertctl_exporter_last_inspection_success{cluster="c2"} 1`, `kscertctl_exporter_last_inspection_success{cluster="c3"} 0`,
			`kscertctl_node_up{cluster="c3",node="cp1"} 1`, `kscertctl_exporter_node_last_success_timestamp_seconds{cluster="c7",node="w1"} `,
			`kscertctl_exporter_inspections_total{cluster="c3",result="success"} 1`,
		} {
			if !strings.Contains(text, "\n"+s) {
				t.Errorf("no %s in\n%s", s, ours(text))
			}
		}
		w = httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "c3: the last inspection failed; see the log\n") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// A cluster that is stuck is named, and so is one that only waits for its turn not stuck.
func TestSetIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slots := make(chan struct{}, 1)
		var all Set
		for _, name := range []string{"hangs", "waits"} {
			all = append(all, New(Options{
				Interval: time.Hour, Timeout: time.Minute, Log: slog.New(slog.DiscardHandler), Cluster: name, Slots: slots,
				Inspect: func(context.Context) (expiry.Report, error) { // heeds no context
					time.Sleep(100 * time.Hour)
					return few(), nil
				},
			}))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go all[0].Run(ctx)
		synctest.Wait()
		go all[1].Run(ctx)
		time.Sleep(3 * time.Hour)
		h, err := all.Handler()
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil))
		want := "hangs: stuck: an inspection that started 3h0m0s ago has not finished\nhangs: data: none yet\nwaits: ok\nwaits: data: none yet\n"
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != want {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		cancel()
		time.Sleep(100 * time.Hour)
	})
}
