// Package trace exports work on a cluster as an OpenTelemetry trace: the run, its steps and gates,
// and each task on a node are spans.
//
// Everything is set in the environment, by the variables that the OpenTelemetry specification names
// ("SDK environment variables", "OTLP exporter configuration", "Environment variables as carrier").
package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// last is how long the end of the work waits until the last spans are exported.
const last = 5 * time.Second

// Trace is the trace of one run. A nil *Trace exports nothing.
type Trace struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	// ended is the last error of an export.
	ended *failure

	root      context.Context // with the span of the caller, if there is one
	run, step api.Span
	inStep    context.Context
}

// Begin prepares the trace of a run with this version of the program. Without an OTLP endpoint in
// the environment it returns nil. The error names the variable that is wrong.
func Begin(ctx context.Context, version string) (*Trace, error) {
	if !wanted() {
		return nil, nil //nolint:nilnil // nil is a Trace
	}
	name, protocol := "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		name, protocol = "OTEL_EXPORTER_OTLP_PROTOCOL", os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if err := checkEndpoint(); err != nil {
		return nil, err
	}
	var client otlptrace.Client
	switch protocol {
	case "", "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, fmt.Errorf("%s: %q is neither http/protobuf nor grpc", name, protocol)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("preparing the export of traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "kscertctl"), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &Trace{ended: &failure{SpanExporter: exporter}}
	t.provider = sdk.NewTracerProvider(sdk.WithBatcher(t.ended), sdk.WithResource(about))
	t.tracer = t.provider.Tracer("github.com/infrapuzzle/kscertctl")
	t.root = propagation.TraceContext{}.Extract(context.WithoutCancel(ctx), propagation.MapCarrier{
		"traceparent": os.Getenv("TRACEPARENT"), "tracestate": os.Getenv("TRACESTATE"),
	})
	return t, nil
}

// wanted reports whether traces are to be exported with OTLP.
func wanted() bool {
	exporters := strings.Split(cmp.Or(os.Getenv("OTEL_TRACES_EXPORTER"), "otlp"), ",")
	_, endpoint := endpoint()
	return endpoint != "" && slices.Contains(exporters, "otlp") &&
		!strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
}

// endpoint is where traces go, with the name of the variable; empty for nowhere.
func endpoint() (name, value string) {
	const traces, all = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
	if value = os.Getenv(traces); value != "" {
		return traces, value
	}
	return all, os.Getenv(all)
}

// checkEndpoint reports an endpoint that is no URL, for which the exporter would use another address
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). It does not repeat it: it may hold a password.
func checkEndpoint() error {
	name, value := endpoint()
	u, err := url.Parse(value)
	if err != nil || u.Host == "" && u.Scheme != "unix" {
		return fmt.Errorf("%s: not a URL such as http://localhost:4318", name)
	}
	return nil
}

// Event adds what happened to the trace.
func (t *Trace) Event(e orchestrator.Event) {
	if t == nil || t.run == nil && e.Kind != orchestrator.EventBegin {
		return
	}
	at := api.WithTimestamp(e.Time)
	switch e.Kind {
	case orchestrator.EventBegin:
		t.root, t.run = t.tracer.Start(t.root, "run", at, api.WithAttributes(attribute.String("kscertctl.run", e.Run)))
		t.inStep = t.root
	case orchestrator.EventDiagnosis:
		if e.Diagnosis != nil {
			t.run.SetAttributes(attribute.String("kscertctl.route", string(e.Diagnosis.Route)),
				attribute.String("kscertctl.primary_reason", string(e.Diagnosis.PrimaryReason)))
			t.run.AddEvent("diagnosis", at,
				api.WithAttributes(attribute.String("kscertctl.verdict", e.Diagnosis.Verdict)))
		}
	case orchestrator.EventStepBegin:
		kind := "step "
		if e.Step.Gate != "" {
			kind = "gate "
		}
		t.inStep, t.step = t.tracer.Start(t.root, kind+string(e.Step.Phase()), at, api.WithAttributes(
			attribute.String("kscertctl.step", e.Step.ID), attribute.StringSlice("kscertctl.nodes", e.Step.Nodes)))
	case orchestrator.EventTask:
		_, task := t.tracer.Start(t.inStep, e.Task,
			api.WithTimestamp(e.Time.Add(-time.Duration(e.Seconds*float64(time.Second)))),
			api.WithAttributes(attribute.String("kscertctl.node", e.Node),
				attribute.String("ansible.status", e.Status)))
		if e.Status == "failed" || e.Status == "unreachable" {
			task.SetStatus(codes.Error, e.Status)
		}
		task.End(at)
	case orchestrator.EventGate:
		if t.step != nil {
			t.step.AddEvent("evaluated", at, api.WithAttributes(attribute.Int("kscertctl.unmet", len(e.Unmet))))
		}
	case orchestrator.EventNotice:
		api.SpanFromContext(t.inStep).AddEvent("notice", at, api.WithAttributes(attribute.String("message", e.Message)))
	case orchestrator.EventStepEnd:
		if t.step != nil {
			end(t.step, e)
			t.step, t.inStep = nil, t.root
		}
	case orchestrator.EventEnd:
		end(t.run, e)
		t.run = nil
	case orchestrator.EventInspected, orchestrator.EventPlan, orchestrator.EventTaskBegin:
	}
}

// end ends a span with the result of its work.
func end(span api.Span, e orchestrator.Event) {
	span.SetAttributes(attribute.String("kscertctl.result", e.Status))
	if e.Status != string(run.Done) {
		span.SetStatus(codes.Error, e.Message)
	}
	span.End(api.WithTimestamp(e.Time))
}

// End exports what is left, even if ctx is cancelled. The error means that the trace is incomplete.
func (t *Trace) End(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if t.step != nil {
		t.step.End()
	}
	if t.run != nil { // nothing came after its beginning
		t.run.End()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
	defer cancel()
	return errors.Join(t.provider.Shutdown(ctx), t.ended.failed())
}

// failure keeps the last error of an exporter, which the SDK would give to a handler that the whole
// program shares.
type failure struct {
	sdk.SpanExporter

	mu  sync.Mutex
	err error
}

// ExportSpans exports spans.
func (f *failure) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := f.SpanExporter.ExportSpans(ctx, spans); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = fmt.Errorf("exporting %d spans: %w", len(spans), err)
	}
	return nil
}

func (f *failure) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
