package trace_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/infrapuzzle/kscertctl/internal/trace"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// receiver is an OTLP receiver that answers with a status.
func receiver(t *testing.T, status int) (url string, received func() (spans []*otlp.Span, about map[string]string)) {
	t.Helper()
	var mu sync.Mutex
	var spans []*otlp.Span
	about := map[string]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &request) != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %d bytes, %v", r.URL, len(body), err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, of := range request.GetResourceSpans() {
			for _, a := range of.GetResource().GetAttributes() {
				about[a.GetKey()] = a.GetValue().GetStringValue()
			}
			for _, in := range of.GetScopeSpans() {
				spans = append(spans, in.GetSpans()...)
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() ([]*otlp.Span, map[string]string) {
		mu.Lock()
		defer mu.Unlock()
		return spans, about
	}
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// events are those of a run with a step that fails on one of two nodes.
func events() []orchestrator.Event {
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	backup := &plan.Step{ID: "01-backup", Action: plan.Backup, Nodes: []string{"cp1", "w1"}}
	wait := &plan.Step{ID: "02-gate-cluster", Gate: plan.ClusterGate, Nodes: []string{"cp1"}}
	return []orchestrator.Event{
		{Kind: orchestrator.EventBegin, Run: "20260301T120000Z-abcdef", Time: at(0)},
		{Kind: orchestrator.EventStepBegin, Step: backup, Time: at(1)},
		{Kind: orchestrator.EventTaskBegin, Step: backup, Task: "Back up", Time: at(1)},
		{Kind: orchestrator.EventTask, Step: backup, Node: "cp1", Task: "Back up", Status: "changed", Seconds: 1.5, Time: at(3)},
		{Kind: orchestrator.EventTask, Step: backup, Node: "w1", Task: "Back up", Status: "failed", Seconds: 2, Time: at(3.5)},
		{Kind: orchestrator.EventStepEnd, Step: backup, Status: "done", Time: at(4)},
		{Kind: orchestrator.EventStepBegin, Step: wait, Time: at(4)},
		{Kind: orchestrator.EventGate, Step: wait, Unmet: []gate.Unmet{{Node: "cp1"}}, Time: at(5)},
		{Kind: orchestrator.EventStepEnd, Step: wait, Status: "failed", Message: "the gate did not pass", Time: at(6)},
		{Kind: orchestrator.EventEnd, Status: "failed", Message: "step 02 stopped", Time: at(7)},
	}
}

// A run is a tree of spans under the caller's, with the times of its events and not of its export.
func TestTrace(t *testing.T) {
	url, received := receiver(t, http.StatusOK)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod")
	t.Setenv("TRACEPARENT", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	got, err := trace.Begin(t.Context(), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events() {
		got.Event(e)
	}
	if err := got.End(t.Context()); err != nil {
		t.Error(err)
	}
	spans, about := received()
	if about["service.name"] != "kscertctl" || about["service.version"] != "v1.2.3" || about["deployment.environment"] != "prod" {
		t.Errorf("the resource is %v", about)
	}
	names := map[string]string{"\x01\x23\x45\x67\x89\xab\xcd\xef": "caller"}
	for _, s := range spans {
		names[string(s.GetSpanId())] = s.GetName()
		if string(s.GetTraceId()) != "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef" {
			t.Errorf("%s is in another trace than the caller's", s.GetName())
		}
	}
	var lines []string
	for _, s := range spans {
		from, to := time.Unix(0, int64(s.GetStartTimeUnixNano())).Sub(began), time.Unix(0, int64(s.GetEndTimeUnixNano())).Sub(began)
		line := strings.Join([]string{names[string(s.GetParentSpanId())], s.GetName(), from.String(), to.String(), s.GetStatus().GetMessage()}, "|")
		for _, a := range s.GetAttributes() {
			if a.GetKey() == "kscertctl.node" || a.GetKey() == "kscertctl.step" || a.GetKey() == "kscertctl.run" {
				line += "|" + a.GetValue().GetStringValue()
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	want := []string{
		"caller|run|0s|7s|step 02 stopped|20260301T120000Z-abcdef",
		"run|gate cluster|4s|6s|the gate did not pass|02-gate-cluster",
		"run|step backup|1s|4s||01-backup",
		"step backup|Back up|1.5s|3.5s|failed|w1",
		"step backup|Back up|1.5s|3s||cp1",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// Work that ends in the middle, as with a panic in a caller's function, leaves a tree too.
func TestTraceOfWhatDoesNotEnd(t *testing.T) {
	url, received := receiver(t, http.StatusOK)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url+"/v1/traces")
	got, err := trace.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events()[:3] {
		got.Event(e)
	}
	if err := got.End(t.Context()); err != nil {
		t.Error(err)
	}
	if spans, _ := received(); len(spans) != 2 {
		t.Errorf("%d spans, want the run and its step", len(spans))
	}
}

// Without an endpoint, or if it is switched off, there is no trace, and that is no error.
func TestNoTrace(t *testing.T) {
	url, received := receiver(t, http.StatusOK)
	for _, environment := range []map[string]string{
		{},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_EXPORTER": "none"},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": url},
	} {
		t.Run("", func(t *testing.T) {
			for name, value := range environment {
				t.Setenv(name, value)
			}
			got, err := trace.Begin(t.Context(), "")
			if err != nil || got != nil {
				t.Fatalf("%v: %v, %v", environment, got, err)
			}
			for _, e := range events() {
				got.Event(e)
			}
			if err := got.End(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if spans, _ := received(); len(spans) > 0 {
		t.Errorf("exported: %v", spans)
	}
}

// A receiver that refuses is reported once, at the end, and a protocol that is not known at once.
func TestTraceNotExported(t *testing.T) {
	url, _ := receiver(t, http.StatusForbidden)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	got, err := trace.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events() {
		got.Event(e)
	}
	if err := got.End(t.Context()); err == nil || !strings.Contains(err.Error(), "exporting 5 spans") || !strings.Contains(err.Error(), "403") {
		t.Errorf("the error is %v", err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	if _, err := trace.Begin(t.Context(), ""); err == nil || err.Error() != `OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" is neither http/protobuf nor grpc` {
		t.Errorf("the error is %v", err)
	}
}
