// Package probe checks API endpoints from the control node, like any client outside the
// cluster: how far does a connection get?
//
// It sends no credentials and trusts nothing. Connections are direct, without HTTPS_PROXY:
// kubelets and Ansible connect directly, too, and a proxy's answer would hide the server's.
//
// Endpoints lists the endpoints of a cluster, and All probes them. The snapshots of package
// orchestrator already contain the results.
package probe

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The deadlines: for one stage, and for all of them together.
const (
	stageTime = 5 * time.Second
	totalTime = 8 * time.Second
)

// defaultPort is kube_apiserver_port if the inventory does not set it (Kubespray,
// roles/kubespray_defaults).
const defaultPort = 6443

// Endpoints lists the endpoints of a cluster as "host:port", without duplicates: the load
// balancer, then the API server of each control plane.
func Endpoints(c cluster.Cluster) []string {
	var out []string
	if c.Endpoint != "" {
		out = append(out, c.Endpoint)
	}
	for _, n := range c.With(cluster.ControlPlane) {
		host, port := n.Address, n.Port
		if host == "" {
			host = n.Name
		}
		if port == 0 {
			port = defaultPort
		}
		if e := net.JoinHostPort(host, strconv.Itoa(port)); !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

// All probes all endpoints in parallel and returns one probe each, in their order. It returns
// after 8 seconds at most, or when ctx is done: an endpoint without an answer by then has
// failed at the stage it had reached.
func All(ctx context.Context, endpoints []string) []snapshot.Probe {
	ctx, cancel := context.WithTimeout(ctx, totalTime)
	defer cancel()
	out := make([]snapshot.Probe, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() { out[i] = ask(ctx, e) })
	}
	wg.Wait()
	return out
}

// asker probes the stages of one endpoint.
type asker struct {
	probe snapshot.Probe
	host  string
	conn  net.Conn
	https *http.Client
}

// ask runs the stages in order and stops at the first failure.
func ask(ctx context.Context, endpoint string) snapshot.Probe {
	a := &asker{probe: snapshot.Probe{Endpoint: endpoint}}
	defer a.close()
	for _, stage := range []struct {
		name snapshot.Stage
		take func(context.Context) error
	}{
		{snapshot.StageResolve, a.resolve},
		{snapshot.StageTCP, a.connect},
		{snapshot.StageTLS, a.handshake},
		{snapshot.StageLivez, func(ctx context.Context) error { return a.get(ctx, "/livez") }},
		{snapshot.StageReadyz, func(ctx context.Context) error { return a.get(ctx, "/readyz") }},
	} {
		start := time.Now()
		stageCtx, cancel := context.WithTimeout(ctx, stageTime)
		err := stage.take(stageCtx)
		late := stageCtx.Err() != nil
		cancel()
		if err != nil {
			a.probe.Failed, a.probe.Error = stage.name, err.Error()
			if late {
				a.probe.Error = fmt.Sprintf("no answer within %.1f s", time.Since(start).Seconds())
			}
			break
		}
	}
	return a.probe
}

func (a *asker) close() {
	if a.conn != nil {
		_ = a.conn.Close()
	}
	if a.https != nil {
		a.https.CloseIdleConnections()
	}
}

func (a *asker) resolve(ctx context.Context) error {
	host, _, err := net.SplitHostPort(a.probe.Endpoint)
	if err != nil {
		return err
	}
	a.host = host
	a.probe.Addresses, err = net.DefaultResolver.LookupHost(ctx, host)
	return err
}

func (a *asker) connect(ctx context.Context) error {
	var err error
	a.conn, err = new(net.Dialer).DialContext(ctx, "tcp", a.probe.Endpoint)
	return err
}

// handshake keeps the presented certificate, even of an unknown signer.
func (a *asker) handshake(ctx context.Context) error {
	secured, err := a.secure(ctx, a.conn)
	if err != nil {
		return err
	}
	a.conn = secured
	shown := secured.ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return errors.New("no certificate was presented")
	}
	c, err := certs.ParsePEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shown[0].Raw}))
	if err != nil {
		return err
	}
	a.probe.Fingerprint, a.probe.SANs, a.probe.NotAfter = c.Fingerprint, c.SANs, c.NotAfter
	return nil
}

func (a *asker) secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	secured := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the certificate is what is checked; nothing secret is sent
		ServerName:         a.host,
		NextProtos:         []string{"http/1.1"},
	})
	return secured, secured.HandshakeContext(ctx)
}

// get requests a health endpoint. 401 and 403 of an API server mean that it works: anonymous
// requests may be disabled.
func (a *asker) get(ctx context.Context, path string) error {
	if a.https == nil {
		a.https = a.client()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.probe.Endpoint+path, nil)
	if err != nil {
		return err
	}
	res, err := a.https.Do(req)
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, errors.Unwrap(err)) // drops the URL, which is known
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody)) // all of it, so that the connection is reused
	if err != nil {
		return fmt.Errorf("GET %s: %s, then: %w", path, res.Status, err)
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		if err := snapshot.FromAPIServer(res.StatusCode, string(body)); err != nil {
			return fmt.Errorf("GET %s: %s: %w", path, res.Status, err)
		}
		return nil
	}
	return fmt.Errorf("GET %s: %s%s", path, res.Status, unhealthy(string(body)))
}

// maxBody is larger than any health endpoint's answer.
const maxBody = 16 << 10

// client uses the existing connection, and opens another only if the server has closed it.
func (a *asker) client() *http.Client {
	first := a.conn
	a.conn = nil // the client owns it from now on
	return &http.Client{
		Transport: &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn,
			error) {
			if conn := first; conn != nil {
				first = nil
				return conn, nil
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return a.secure(ctx, conn)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// unhealthy returns the failures in a health endpoint's answer: the lines of the checks that
// failed, else the first line.
func unhealthy(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			failed = append(failed, strings.TrimSpace(line))
		}
	}
	if len(failed) == 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(body), "\n")
		failed = []string{line}
	}
	if text := strings.Join(failed, "; "); text != "" {
		return ": " + text[:min(len(text), 500)]
	}
	return ""
}
