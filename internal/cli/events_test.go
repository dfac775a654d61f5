package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/infrapuzzle/kscertctl/internal/cli"
)

// kindsOf are the kinds of the events in lines, which must match the schema.
func kindsOf(t *testing.T, text string) string {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/reference/schemas/event-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(text) {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(document)
		}
		var e struct {
			Kind string `json:"kind"`
		}
		if err != nil || json.Unmarshal([]byte(line), &e) != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(kinds) == 0 || kinds[len(kinds)-1] != e.Kind {
			kinds = append(kinds, e.Kind)
		}
	}
	return strings.Join(kinds, " ")
}

// With -o jsonl standard output has the events and nothing else, each when it happens and as in the
// record.
func TestEventsOnStandardOutput(t *testing.T) {
	t.Parallel()
	const fails = "[ $1 != renew-certs.yml ] || { [ -e go ] && cp renewed inspect.yml || exit 3; }"
	p := fake(t, fails)
	mine := []string{"-i", "cp1,", "--ansible-bin", p.dir}
	stopped := p.command(t, append([]string{"run", "--yes", "-o", "jsonl"}, mine...)...).want(t, 8)
	if kinds := kindsOf(t, stopped.out); !strings.HasPrefix(kinds, "begin inspected diagnosis plan ") || !strings.HasSuffix(kinds, " end") {
		t.Errorf("the events are %s", kinds)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "state/kscertctl/runs/*/events.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q %v", files, err)
	}
	recorded, err := os.ReadFile(files[0])
	if err != nil || string(recorded) != stopped.out {
		t.Errorf("%v; recorded\n%s\nand written\n%s", err, recorded, stopped.out)
	}
	p.keep(t, "go", "")
	resumed := p.command(t, "resume", "-o", "jsonl").want(t, 0)
	if kinds := kindsOf(t, resumed.out); !strings.HasPrefix(kinds, "begin plan ") || !strings.HasSuffix(kinds, " end") {
		t.Errorf("the events are %s", kinds)
	}
	p.command(t, append([]string{"plan", "-o", "jsonl"}, mine...)...).want(t, 64, "-o jsonl: must be text or json")
	p.command(t, append([]string{"run", "-o", "yaml"}, mine...)...).want(t, 64, "-o yaml: must be text, json or jsonl")
}

// Webhooks are called at each requested moment, in order, with the report at that time; without
// --notify-on only when the run stops.
func TestNotifiedMoments(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Run     string `json:"run"`
			Outcome struct {
				Status string `json:"status"`
			} `json:"outcome"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Ce-Id") != "" && (r.Header.Get("Ce-Subject") != body.Run || r.Header.Get("Ce-Specversion") != "1.0") {
			t.Errorf("%v of %+v", r.Header, body)
		}
		moment := strings.TrimPrefix(r.Header.Get("Ce-Type"), "com.github.infrapuzzle.kscertctl.run.") + r.Header.Get("Kscertctl-Event")
		if body.Run == "" {
			moment += " without a record"
		}
		got = append(got, moment+" "+body.Outcome.Status)
	}))
	defer server.Close()
	want := func(what string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if all := strings.Join(got, ", "); all != what {
			t.Errorf("notified of %q, want %q", all, what)
		}
		got = nil
	}
	p := fake(t, "") // a renewal that does nothing, so a gate that never passes
	mine := []string{"run", "-i", "cp1,", "--ansible-bin", p.dir, "--gate-timeout", "4s", "--notify-webhook", server.URL}
	p.command(t, append(mine, "--yes", "--notify-on", "begin,stuck,approval", "--notify-on", "end", "--notify-format", "cloudevents-binary")...).want(t, 8)
	want("begin running, stuck running, end failed")
	p.command(t, append(mine, "--yes", "--limit", "absent")...).want(t, 64)
	want("end failed")
	p.command(t, append(mine, "--yes", "-i", "absent.ini")...).want(t, 64) // it never has a record
	want("end without a record failed")
	p.command(t, "resume", "--ansible-bin", filepath.Join(p.dir, "nowhere"), "--notify-webhook", server.URL).want(t, 7) // what it continues is not forgotten
	want("end failed")
	p.command(t, append(mine, "--yes", "--warn", "400d", "--notify-on", "begin,stuck")...).want(t, 64, "within 400 days", "at most 364 days")
	want("")

	// The operator is asked, and declines.
	var out, answered strings.Builder
	code := cli.Main(append(mine, "--notify-on", "approval,end", "--state-dir", filepath.Join(p.dir, "state2")),
		cli.Streams{In: strings.NewReader("no\n"), Out: &out, Err: &answered, Terminal: true})
	if code != 10 {
		t.Errorf("exit code %d: %s", code, answered.String())
	}
	want("approval running, end failed")
	p.command(t, append(mine, "--yes", "--notify-on", "never")...).want(t, 64, "never must be one of begin, approval, stuck, end")
}

// Where OpenTelemetry's variables name a receiver, it gets the run as a trace. That no one answers
// there changes no result, and a variable that is wrong stops the run before anything is done.
func TestRunIsTraced(t *testing.T) {
	var exported atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && bytes.Contains(body, []byte("gate api-server")) {
			exported.Add(1)
		}
	}))
	p := fake(t, "")
	mine := []string{"run", "-i", "cp1,", "--ansible-bin", p.dir, "--gate-timeout", "2s", "--yes"}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	if shown := p.command(t, mine...); strings.Contains(shown.err, "trace") || exported.Load() != 1 {
		t.Errorf("%d exports with a gate\n%s", exported.Load(), shown.err)
	}
	server.Close()
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "100")
	p.command(t, mine...).want(t, 8, "warning: the trace is incomplete: ")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")
	p.command(t, mine...).want(t, 64, "OTEL_EXPORTER_OTLP_ENDPOINT: not a URL such as http://localhost:4318")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	p.command(t, mine...).want(t, 64, `OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" is neither`, "OTEL_TRACES_EXPORTER=none")
}
