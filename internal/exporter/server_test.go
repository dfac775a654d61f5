package exporter

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// TestServe: the configuration file of the Prometheus project's exporters turns TLS
// and passwords on, and the end of the context ends everything.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testpki.Authority(t, "monitoring")
	pair := ca.Issue(t, testpki.Leaf{CommonName: "exporter", IPs: []string{"127.0.0.1"}})
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"tls.crt": pair.Certificate, "tls.key": pair.Key,
		"web.yml": fmt.Appendf(nil, "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\nbasic_auth_users:\n  prometheus: %s\n", hash),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := make(chan string, 1)
	looking := make(chan struct{})
	ended := make(chan struct{})
	e := New(Options{
		Interval: time.Hour, Timeout: time.Hour, Log: slog.New(listening{slog.DiscardHandler, address}),
		Inspect: func(ctx context.Context) (expiry.Report, error) {
			close(looking)
			<-ctx.Done()
			close(ended)
			return expiry.Report{}, ctx.Err()
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- Set{e}.Serve(ctx, Listen{Addresses: []string{"127.0.0.1:0"}, ConfigFile: filepath.Join(dir, "web.yml")}, e.opts.Log)
	}()
	roots := x509.NewCertPool()
	roots.AddCert(ca.X509)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	url := "https://" + <-address
	<-looking
	for _, tt := range []struct {
		path, password string
		code           int
		body           string
	}{
		{"/metrics", "open sesame", http.StatusOK, "kscertctl_exporter_inspection_running 1"},
		{"/metrics", "", http.StatusUnauthorized, ""},
		{"/metrics", "guessed", http.StatusUnauthorized, ""},
		{"/healthz", "open sesame", http.StatusOK, "ok\n"},
		{"/", "open sesame", http.StatusOK, `<a href="/metrics">`},
		{"/other", "open sesame", http.StatusNotFound, ""},
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.password != "" {
			req.SetBasicAuth("prometheus", tt.password)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != tt.code || !bytes.Contains(body, []byte(tt.body)) {
			t.Errorf("%s with password %q: %v, %d, want %d and %q in\n%s", tt.path, tt.password, err, res.StatusCode, tt.code, tt.body, body)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("the look goes on")
	}
}

// No page links to one that is not there, nor to another site.
func TestLinks(t *testing.T) {
	t.Parallel()
	handler, err := Set{New(Options{Interval: time.Hour, Timeout: time.Hour, Log: slog.New(slog.DiscardHandler)})}.Handler()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	links := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(get("/").Body.String(), -1)
	if len(links) != 2 {
		t.Errorf("%q", links)
	}
	for _, link := range links {
		if !strings.HasPrefix(link[1], "/") {
			t.Errorf("%s is no page of the exporter", link[1])
		} else if code := get(link[1]).Code; code != http.StatusOK {
			t.Errorf("%s: %d", link[1], code)
		}
	}
}

// A client that sends nothing, or is never done, holds no connection for good.
func TestServerHasTimeouts(t *testing.T) {
	t.Parallel()
	s := newServer(http.NotFoundHandler())
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": s.ReadHeaderTimeout, "ReadTimeout": s.ReadTimeout, "WriteTimeout": s.WriteTimeout, "IdleTimeout": s.IdleTimeout,
	} {
		if d <= 0 || d > 5*time.Minute {
			t.Errorf("%s is %s", name, d)
		}
	}
}

// listening returns the address that is logged.
type listening struct {
	slog.Handler

	address chan<- string
}

func (l listening) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "address" && r.Message == "Listening on" {
			l.address <- a.Value.String()
		}
		return true
	})
	return nil
}
func (l listening) Enabled(context.Context, slog.Level) bool { return true }

// TestServeRefuses: what is wrong with flags and files is reported at once, before any
// node is asked.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	wrong := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(wrong, []byte("tls_server:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		listen Listen
		word   string
	}{
		{"no such file", Listen{Addresses: []string{"127.0.0.1:0"}, ConfigFile: wrong + ".old"}, wrong + ".old"},
		{"an unknown field", Listen{Addresses: []string{"127.0.0.1:0"}, ConfigFile: wrong}, "tls_server"},
		{"no port", Listen{Addresses: []string{"127.0.0.1"}}, "missing port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := New(Options{
				Interval: time.Hour, Timeout: time.Hour, Log: slog.New(slog.DiscardHandler),
				Inspect: func(context.Context) (expiry.Report, error) { return expiry.Report{}, errors.New("asked") },
			})
			if err := (Set{e}).Serve(t.Context(), tt.listen, e.opts.Log); err == nil || !strings.Contains(err.Error(), tt.word) {
				t.Errorf("%v, want %q", err, tt.word)
			}
			if e.now().failed != nil {
				t.Error("the nodes were asked")
			}
		})
	}
}
