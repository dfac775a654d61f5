package exporter

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// look is an inspection of a test: how long it takes and what it brings back.
type look struct {
	takes  time.Duration
	report expiry.Report
	err    error
}

// exporter inspects as in the list, and as in its last entry ever after.
func exporter(looks ...look) *Exporter {
	n := 0
	return New(Options{
		Interval: time.Hour, Timeout: 10 * time.Minute, Log: slog.New(slog.DiscardHandler),
		Inspect: func(ctx context.Context) (expiry.Report, error) {
			l := looks[min(n, len(looks)-1)]
			n++
			select {
			case <-time.After(l.takes):
				return l.report, l.err
			case <-ctx.Done():
				return expiry.Report{}, ctx.Err()
			}
		},
	})
}

func few(edits ...tc.Edit) expiry.Report {
	return expiry.Of(tc.Few(edits...), expiry.DefaultThresholds())
}

// TestSchedule: the first look is at once, the others follow each other after the
// interval and up to a tenth of it; never are there two at the same time.
func TestSchedule(t *testing.T) {
	t.Parallel()
	for name, takes := range map[string]time.Duration{"short": time.Second, "longer than the interval": 90 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var began []time.Time
				var now atomic.Int32
				e := New(Options{
					Interval: time.Hour, Timeout: 2 * time.Hour, Log: slog.New(slog.DiscardHandler),
					Inspect: func(context.Context) (expiry.Report, error) {
						if now.Add(1) > 1 {
							t.Error("two looks at the same time")
						}
						defer now.Add(-1)
						began = append(began, time.Now())
						time.Sleep(takes)
						return few(), nil
					},
				})
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				e.Run(ctx)
				if began[0] != start {
					t.Errorf("the first look began after %s", began[0].Sub(start))
				}
				least, most := max(time.Hour, takes), max(66*time.Minute, takes)
				gaps := map[time.Duration]bool{}
				for i := 1; i < len(began); i++ {
					gap := began[i].Sub(began[i-1])
					gaps[gap] = true
					if gap < least || gap > most {
						t.Errorf("look %d began %s after the one before, want %s to %s", i, gap, least, most)
					}
				}
				if least != most && len(gaps) < 2 {
					t.Error("nothing is put off at random")
				}
			})
		})
	}
}

// TestMetrics follows an exporter: what fails keeps what was last known,
// and is to be seen as failed.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := exporter(
			look{report: few(), takes: time.Minute},
			look{report: few(tc.Later(time.Hour), tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route to host")))},
			look{err: errors.New("ansible-playbook was killed")},
			look{takes: time.Hour},
		)
		ctx, cancel := context.WithCancel(t.Context())
		go e.Run(ctx)
		const kubelet = `kscertctl_certificate_not_after_timestamp_seconds{authority="kubernetes-ca",ca="false",kind="kubelet-client",name="kubelet-client-current.pem",node="w1"`
		for _, step := range []struct {
			after  time.Duration
			when   string
			has    []string
			hasNot []string
		}{
			{time.Second, "during the first look", []string{
				`kscertctl_exporter_inspection_running 1`, `kscertctl_exporter_inspections_total{result="success"} 0`,
			}, []string{"kscertctl_certificate", "kscertctl_node_up", "last_inspection"}},
			{5 * time.Minute, "after it", []string{
				`kscertctl_exporter_inspection_running 0`, `kscertctl_exporter_last_inspection_success 1`, `kscertctl_exporter_last_inspection_duration_seconds 60`,
				`kscertctl_exporter_inspections_total{result="success"} 1`, `kscertctl_node_up{node="w1"} 1`, kubelet,
			}, nil},
			{66 * time.Minute, "when a node did not answer", []string{
				`kscertctl_exporter_last_inspection_success 1`, `kscertctl_node_up{node="w1"} 0`, `kscertctl_node_up{node="cp1"} 1`, kubelet,
			}, nil},
			{66 * time.Minute, "when Ansible was killed", []string{
				`kscertctl_exporter_last_inspection_success 0`, `kscertctl_exporter_inspections_total{result="failure"} 1`, `kscertctl_node_up{node="cp1"} 1`, kubelet,
			}, nil},
			{66*time.Minute + 11*time.Minute, "when the nodes were too slow", []string{
				`kscertctl_exporter_last_inspection_success 0`, `kscertctl_exporter_inspections_total{result="timeout"} 1`, `kscertctl_node_up{node="cp1"} 1`, kubelet,
			}, nil},
		} {
			time.Sleep(step.after)
			synctest.Wait()
			code, text := get(t, e, "/metrics")
			if code != http.StatusOK {
				t.Fatalf("%s: %d: %s", step.when, code, text)
			}
			for _, s := range step.has {
				if !strings.Contains(text, "\n"+s) {
					t.Errorf("%s: no %s in\n%s", step.when, s, ours(text))
				}
			}
			for _, s := range step.hasNot {
				if strings.Contains(ours(text), s) {
					t.Errorf("%s: %s in\n%s", step.when, s, ours(text))
				}
			}
		}
		// The worker was seen by the first look only.
		_, text := get(t, e, "/metrics")
		seen := regexp.MustCompile(`kscertctl_exporter_node_last_success_timestamp_seconds\{node="(\w+)"\} (\S+)`).FindAllStringSubmatch(text, -1)
		if len(seen) != 3 || seen[0][1] != "cp1" || seen[2][1] != "w1" || seen[0][2] == seen[2][2] {
			t.Errorf("%q", seen)
		}
		cancel()
		synctest.Wait()
	})
}

// ours are the metrics that are not those of every program in Go.
func ours(text string) string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return !strings.HasPrefix(l, "kscertctl_") })
	return strings.Join(lines, "\n")
}

// get asks the exporter for a page.
func get(t *testing.T, e *Exporter, path string) (int, string) {
	t.Helper()
	h, err := Set{e}.Handler()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// Who asks for OpenMetrics gets it, with the same metrics; who does not gets text.
func TestOpenMetrics(t *testing.T) {
	t.Parallel()
	e := exporter(look{report: few()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go e.Run(ctx)
	for e.now().families == nil && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	h, err := Set{e}.Handler()
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{}
	for accept, kind := range map[string]string{
		"": "text/plain; version=0.0.4;", "*/*": "text/plain; version=0.0.4;", "text/html": "text/plain; version=0.0.4;",
		"application/openmetrics-text; version=1.0.0; charset=utf-8":                      "application/openmetrics-text; version=1.0.0;",
		"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3": "application/openmetrics-text; version=1.0.0;",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		open := strings.HasPrefix(kind, "application/")
		if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || !strings.HasPrefix(got, kind) || strings.HasSuffix(w.Body.String(), "\n# EOF\n") != open {
			t.Errorf("for %q: %d, %s, want %s\n%s", accept, w.Code, got, kind, w.Body)
		}
		names := regexp.MustCompile(`(?m)^(kscertctl_\S*(?:\{[^}]*\})?) `).FindAllString(w.Body.String(), -1)
		slices.Sort(names)
		answers[strings.Join(names, "\n")] = accept
		if len(names) < 10 {
			t.Errorf("for %q: only %q", accept, names)
		}
	}
	if len(answers) != 1 {
		t.Errorf("the metrics differ: %q", answers)
	}
}

// TestMerge: a node that does not answer keeps what was known of it, one that is gone
// from the inventory does not.
func TestMerge(t *testing.T) {
	t.Parallel()
	count := func(r expiry.Report, node string) (n int) {
		for _, c := range r.Certificates {
			if c.Node == node {
				n++
			}
		}
		return n
	}
	all := few()
	unknown := tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route to host"))
	gone := few()
	gone.Nodes = slices.DeleteFunc(gone.Nodes, func(n expiry.Node) bool { return n.Name == "w1" })
	gone.Certificates = slices.DeleteFunc(gone.Certificates, func(r expiry.Row) bool { return r.Node == "w1" })
	unreadable := tc.On("w1", func(n *snapshot.Node) {
		n.Unreadable = []snapshot.Unreadable{{Path: "/kubelet.crt", Reason: "no PEM block"}}
	})
	removed := tc.On("w1", func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindKubeletClient })
	})
	for _, tt := range []struct {
		name          string
		older, newer  expiry.Report
		certificates  int
		unreadable    int
		clockIsZero   bool
		controlPlanes int
	}{
		{"nothing was known", expiry.Report{}, all, count(all, "w1"), 0, false, count(all, "cp1")},
		{"the same again", all, few(), count(all, "w1"), 0, false, count(all, "cp1")},
		{"unknown now", all, few(unknown), count(all, "w1"), 0, false, count(all, "cp1")},
		{"unknown from the beginning", expiry.Report{}, few(unknown), 0, 0, true, count(all, "cp1")},
		{"gone from the inventory", all, gone, 0, 0, true, count(all, "cp1")},
		{"a file that could not be read", few(unreadable), few(unknown), count(all, "w1"), 1, false, count(all, "cp1")},
		{"one that can be read again", few(unreadable), few(), count(all, "w1"), 0, false, count(all, "cp1")},
		{"a certificate that is no more", all, few(removed), count(all, "w1") - 1, 0, false, count(all, "cp1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := merge(tt.older, tt.newer)
			if n := count(got, "w1"); n != tt.certificates {
				t.Errorf("%d certificates of the worker, want %d", n, tt.certificates)
			}
			if n := count(got, "cp1"); n != tt.controlPlanes {
				t.Errorf("%d certificates of the control plane, want %d", n, tt.controlPlanes)
			}
			if n := len(got.Unreadable); n != tt.unreadable {
				t.Errorf("%d unreadable, want %d", n, tt.unreadable)
			}
			i := slices.IndexFunc(got.Nodes, func(n expiry.Node) bool { return n.Name == "w1" })
			if zero := i < 0 || got.Nodes[i].Clock.IsZero(); zero != tt.clockIsZero {
				t.Errorf("the worker's clock is known: %t", !zero)
			}
		})
	}
}

// TestHealth: unwell is only an exporter whose schedule has stopped.
func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{
			Interval: time.Hour, Timeout: time.Minute, Log: slog.New(slog.DiscardHandler),
			Inspect: func(context.Context) (expiry.Report, error) { // heeds no context
				time.Sleep(100 * time.Hour)
				return few(), nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		go e.Run(ctx)
		for _, step := range []struct {
			after time.Duration
			code  int
			text  string
		}{
			{time.Minute, 200, "ok\ndata: none yet\n"},
			{2 * time.Hour, 503, "stuck: an inspection that started 2h1m0s ago has not finished\ndata: none yet\n"},
		} {
			time.Sleep(step.after)
			if code, text := get(t, e, "/healthz"); code != step.code || text != step.text {
				t.Errorf("%d %q, want %d %q", code, text, step.code, step.text)
			}
		}
		cancel()
		time.Sleep(100 * time.Hour)
	})
}
