package notify

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var options = Options{Timeout: 5 * time.Second, Tries: 3}

const report = `{"run":"20260301T110000Z-abcdef"}`

// TestWebhook: a server that is ill is asked again, one that does not want the report
// is not; the URL, which may be a password, is in no error.
func TestWebhook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		answers []int // the last one for ever
		tries   int32
		err     string
	}{
		{"it takes it", []int{204}, 1, ""},
		{"it is ill at first", []int{503, 429, 200}, 3, ""},
		{"it stays ill", []int{500}, 3, "it answered 500 Internal Server Error"},
		{"it does not know us", []int{404}, 1, "it answered 404 Not Found"},
		{"it sends us elsewhere without saying where", []int{300}, 1, "it answered 300 Multiple Choices"},
		{"it sends us elsewhere without the report", []int{302}, 1, "it answered 302 Found"},
		{"it sends us elsewhere with it", []int{307, 200}, 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := int(tries.Add(1))
				body, _ := io.ReadAll(r.Body)
				if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || string(body) != report {
					t.Errorf("%s %s %q", r.Method, r.Header, body)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.answers[min(n, len(tt.answers))-1])
			}))
			defer server.Close()
			hook, err := ParseWebhook(server.URL + "/services/t0ken")
			if err != nil {
				t.Fatal(err)
			}
			err = Send(t.Context(), []Hook{hook}, Note{Moment: End, Report: []byte(report)}, options)
			if tries.Load() != tt.tries {
				t.Errorf("%d tries, want %d", tries.Load(), tt.tries)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "t0ken")):
				t.Errorf("%v, want %q and no token", err, tt.err)
			}
		})
	}
}

// TestSilentWebhook: who does not answer is given up, and no word of the URL is shown.
func TestSilentWebhook(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer silent.Close()
	defer close(done)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, address := range map[string]string{"silent": silent.URL, "gone": gone.URL} {
		hook, err := ParseWebhook(address + "/t0ken")
		if err != nil {
			t.Fatal(err)
		}
		err = Send(t.Context(), []Hook{hook}, Note{Moment: End, Report: []byte(report)}, Options{Timeout: 50 * time.Millisecond, Tries: 2})
		if err == nil || strings.Contains(err.Error(), "t0ken") || !strings.HasPrefix(err.Error(), "webhook at 127.0.0.1:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		name, command, err string
	}{
		{"it reads the report", "cat >DIR/read", ""},
		{"it does not read it", "true", ""},
		{"it works the second time", "test -f DIR/once || { touch DIR/once; false; }", ""},
		{"it fails", "echo tok3n is wrong >&2; exit 3", "command echo: exit status 3: tok3n is wrong"},
		{"it is not there", "kscertctl-no-such-command --token t0ken", "command kscertctl-no-such-command: exit status 127"},
		{"it knows the moment", "test $KSCERT_EVENT = end", ""},
		{"it hangs, with what it has started", "sleep 300 & sleep 300", "command sleep: it timed out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := options
			if strings.Contains(tt.command, "300") {
				o = Options{Timeout: 100 * time.Millisecond, Tries: 2}
			}
			began := time.Now()
			err := Send(t.Context(), []Hook{Command(strings.ReplaceAll(tt.command, "DIR", dir))}, Note{Moment: End, Report: []byte(report)}, o)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Cleanup(func() {
		if data, err := os.ReadFile(filepath.Join(dir, "read")); err != nil || string(data) != report {
			t.Errorf("it has read %q: %v", data, err)
		}
	})
}

// TestOthersAreTold: who fails keeps no one else from being notified.
func TestOthersAreTold(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "reported")
	err := Send(t.Context(), []Hook{Command("false"), Command("cat >" + file), Command("exit 2")}, Note{Moment: End, Report: []byte(report)}, Options{Timeout: time.Second, Tries: 1})
	if err == nil || !strings.Contains(err.Error(), "command false: exit status 1") || !strings.Contains(err.Error(), "command exit: exit status 2") {
		t.Error(err)
	}
	if data, _ := os.ReadFile(file); string(data) != report {
		t.Errorf("%q", data)
	}
}

func TestParseWebhook(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("https://hooks.example.com/t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"https://hooks.example.com/t0ken":   "webhook at hooks.example.com",
		"http://127.0.0.1:8080":             "webhook at 127.0.0.1:8080",
		"@" + file:                          "webhook at hooks.example.com",
		"@" + file + ".old":                 "",
		"hooks.example.com/t0ken":           "",
		"ftp://hooks.example.com/t0ken":     "",
		"":                                  "",
		"https://hooks.example.com/t0ken\n": "",
	} {
		hook, err := ParseWebhook(given)
		if want == "" {
			if err == nil || strings.Contains(err.Error(), "t0ken") {
				t.Errorf("%q: %v", given, err)
			}
			continue
		}
		if err != nil || hook.Name() != want {
			t.Errorf("%q: %v, %q, want %q", given, err, hook.Name(), want)
		}
	}
}

// A CloudEvent is one by its specification, in both modes, whatever the names of the host
// and of the run are.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	const noRecord = "/no record"
	for _, format := range []Format{Binary, Structured} {
		for i, odd := range []string{"", "\r\nX-Evil: 1", "\"%é\x00 ", noRecord} {
			n := Note{
				Moment: Stuck, Time: time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.FixedZone("", 3600)),
				Run: "20260301T110000Z-abcdef" + odd, ID: "20260301T110000Z-abcdef/2" + odd, Source: "//control/kscertctl" + odd, Report: []byte(report),
			}
			if odd == noRecord {
				n.Run = ""
			}
			if i > 0 { // of a fleet
				n.Cluster = "fra1" + odd
			}
			got := map[string]string{}
			var data, contentType string
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				data, contentType = string(body), r.Header.Get("Content-Type")
				for name := range r.Header {
					if key, ok := strings.CutPrefix(name, "Ce-"); ok {
						value, err := url.PathUnescape(r.Header.Get(name))
						if err != nil {
							t.Error(err)
						}
						got[strings.ToLower(key)] = value
					}
				}
				if r.Header.Get("X-Evil") != "" {
					t.Error("a name has made a header")
				}
			}))
			defer server.Close()
			hook, err := ParseWebhook(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			if err := Send(t.Context(), []Hook{hook}, n, Options{Timeout: 5 * time.Second, Tries: 1, Format: format}); err != nil {
				t.Fatal(err)
			}
			if format == Structured {
				if contentType != "application/cloudevents+json; charset=utf-8" || len(got) > 0 {
					t.Errorf("%s %v", contentType, got)
				}
				var document map[string]json.RawMessage
				if err := json.Unmarshal([]byte(data), &document); err != nil {
					t.Fatal(err)
				}
				data, contentType = string(document["data"]), strings.Trim(string(document["datacontenttype"]), `"`)
				delete(document, "data")
				delete(document, "datacontenttype")
				for name, value := range document {
					var text string
					if err := json.Unmarshal(value, &text); err != nil {
						t.Fatal(err)
					}
					got[name] = text
				}
			}
			want := map[string]string{
				"specversion": "1.0", "id": n.ID, "source": n.Source, "subject": n.Run, "type": "com.github.infrapuzzle.kscertctl.run.stuck", "time": "2026-03-01T11:00:00.5Z",
			}
			if n.Cluster != "" {
				want["cluster"] = n.Cluster
			}
			if n.Run == "" {
				delete(want, "subject")
			}
			if !maps.Equal(got, want) || data != report || contentType != "application/json" {
				t.Errorf("%s: %v, want %v; %s %s", format, got, want, contentType, data)
			}
		}
	}
}
