package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	cp := func(name, address string, port int) cluster.Node {
		return cluster.Node{Name: name, Address: address, Port: port, Roles: []cluster.Role{cluster.ControlPlane}}
	}
	for name, row := range map[string]struct {
		in   cluster.Cluster
		want []string
	}{
		"a load balancer before its servers": {cluster.Cluster{Endpoint: "lb.example:8443", Nodes: []cluster.Node{cp("cp1", "10.0.0.1", 6443), cp("cp2", "fd00::2", 6444)}},
			[]string{"lb.example:8443", "10.0.0.1:6443", "[fd00::2]:6444"}},
		"only a name": {cluster.Cluster{Nodes: []cluster.Node{cp("cp1", "", 0)}}, []string{"cp1:6443"}},
		"the load balancer is a control plane": {cluster.Cluster{Endpoint: "10.0.0.1:6443", Nodes: []cluster.Node{cp("cp1", "10.0.0.1", 6443)}},
			[]string{"10.0.0.1:6443"}},
		"a worker": {cluster.Cluster{Nodes: []cluster.Node{{Name: "w1", Roles: []cluster.Role{cluster.Worker}}}}, nil},
	} {
		if got := Endpoints(row.in); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// certificate is self-signed, made for this run, and expires at the given time.
func certificate(t *testing.T, name string, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		NotBefore: notAfter.Add(-365 * 24 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// apiServer answers like a kube-apiserver: status and body by path.
func apiServer(t *testing.T, c tls.Certificate, answers map[string]func(http.ResponseWriter)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, ok := answers[r.URL.Path]; ok {
			answer(w)
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	s.Config.ErrorLog = nil
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// status is how an API server refuses a request.
const status = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`

func says(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// listener accepts connections and hands them over.
func listener(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

func TestAll(t *testing.T) {
	t.Parallel()
	inAYear, yesterday := time.Now().Add(365*24*time.Hour), time.Now().Add(-24*time.Hour)
	fresh, expired := certificate(t, "api.example", inAYear), certificate(t, "api.example", yesterday)
	closed := listener(t, func(net.Conn) {})
	for name, row := range map[string]struct {
		endpoint string
		failed   snapshot.Stage
		text     string // part of the error
		shown    *tls.Certificate
	}{
		"healthy":                        {apiServer(t, fresh, nil), "", "", &fresh},
		"a certificate that has expired": {apiServer(t, expired, nil), "", "", &expired},
		"a certificate for another name": {strings.Replace(apiServer(t, fresh, nil), "127.0.0.1", "localhost", 1), "", "", &fresh},
		"anonymous requests are refused": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": says(401, status), "/readyz": says(403, status)}), "", "", &fresh},
		"another server refuses": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": says(403, "<html><body><h1>403 Forbidden</h1>\nby rule</body></html>")}),
			snapshot.StageLivez, "GET /livez: 403 Forbidden: the answer is not from an API server: 403 Forbidden by rule", &fresh},
		"another server wants a password": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/readyz": says(401, "")}),
			snapshot.StageReadyz, "GET /readyz: 401 Unauthorized: the answer is empty", &fresh},
		"another server is well": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": says(200, "<p>Welcome to nginx!")}),
			snapshot.StageLivez, "not from an API server: Welcome to nginx!", &fresh},
		"the connection is closed within": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": func(w http.ResponseWriter) { w.Header().Set("Connection", "close"); _, _ = io.WriteString(w, "ok") }}), "", "", &fresh},
		"not alive": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": says(500, "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n")}),
			snapshot.StageLivez, "GET /livez: 500 Internal Server Error: [-]etcd failed: reason withheld", &fresh},
		"not ready": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/readyz": says(500, "[+]ping ok\n[-]a failed: x\n[-]b failed: y\nreadyz check failed\n")}),
			snapshot.StageReadyz, "[-]a failed: x; [-]b failed: y", &fresh},
		"a load balancer without servers": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": says(503, "<html>No server\nis available")}), snapshot.StageLivez, "503 Service Unavailable: <html>No server", &fresh},
		"a redirect":                      {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/livez": says(302, "")}), snapshot.StageLivez, "302 Found", &fresh},
		"no name":                         {"nowhere.invalid:6443", snapshot.StageResolve, "", nil},
		"no port":                         {"10.0.0.1", snapshot.StageResolve, "missing port", nil},
		"nothing listens":                 {"127.0.0.1:1", snapshot.StageTCP, "connection refused", nil},
		"it closes the connection":        {listener(t, func(c net.Conn) { _ = c.Close() }), snapshot.StageTLS, "", nil},
		"no TLS":                          {listener(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n") }), snapshot.StageTLS, "does not look like a TLS handshake", nil},
		"it accepts and never answers":    {closed, snapshot.StageTLS, "no answer within 5.", nil},
		"it closes the connection during the answer": {apiServer(t, fresh, map[string]func(http.ResponseWriter){"/readyz": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusInternalServerError)
		}}), snapshot.StageReadyz, "500", &fresh},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			p := All(t.Context(), []string{row.endpoint})[0]
			if p.Endpoint != row.endpoint || p.Failed != row.failed || !strings.Contains(p.Error, row.text) || (p.Error == "") != (row.failed == "") {
				t.Errorf("got %+v, want a failure of %q with %q", p, row.failed, row.text)
			}
			if took := time.Since(start); took > stageTime+time.Second {
				t.Errorf("it took %s", took)
			}
			want := ""
			if row.shown != nil {
				sum := sha256.Sum256(row.shown.Certificate[0])
				want = hex.EncodeToString(sum[:])
				if !reflect.DeepEqual(p.SANs, []string{"api.example", "10.0.0.1"}) || p.NotAfter.IsZero() || len(p.Addresses) == 0 {
					t.Errorf("the certificate is %+v", p)
				}
			}
			if p.Fingerprint != want {
				t.Errorf("fingerprint %q, want %q", p.Fingerprint, want)
			}
		})
	}
}

// All returns when the context is done, with the results so far.
func TestAllIsCutShort(t *testing.T) {
	t.Parallel()
	silent := listener(t, func(net.Conn) {})
	fast := apiServer(t, certificate(t, "api.example", time.Now().Add(time.Hour)), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	got := All(ctx, []string{silent, fast})
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if got[0].Failed != snapshot.StageTLS || !strings.HasPrefix(got[0].Error, "no answer within 0.") {
		t.Errorf("got %+v", got[0])
	}
	if got[1].Failed != "" || got[1].Fingerprint == "" {
		t.Errorf("got %+v", got[1])
	}
}

// Proxies in the environment are ignored.
func TestProxyIsIgnored(t *testing.T) {
	asked := false
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	endpoint := apiServer(t, certificate(t, "api.example", time.Now().Add(time.Hour)), nil)
	if p := All(t.Context(), []string{endpoint})[0]; p.Failed != "" || asked {
		t.Errorf("asked: %t, %+v", asked, p)
	}
}

func TestUnhealthy(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                  "",
		"\n":                                "",
		"one\ntwo":                          ": one",
		"[+]a ok\n[-]b failed\n[-]c failed": ": [-]b failed; [-]c failed",
		strings.Repeat("x", 1000):           ": " + strings.Repeat("x", 500),
	} {
		if got := unhealthy(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
