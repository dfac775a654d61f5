//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/image"
)

// clients use a cluster during a test: one sends a request to each API server and the load
// balancer every 50 ms over a new connection, one watches, and a pod writes. With neighbours, one
// more asks for what metrics-server answers. All of them verify the server's certificate.
type clients struct {
	c       *cluster.Cluster
	stop    context.CancelFunc
	working sync.WaitGroup
	mu      sync.Mutex
	asked   int
	// failures are the errors by client.
	failures map[string][]string
}

const pause = 50 * time.Millisecond

// writer is the writing pod.
const writer = `apiVersion: v1
kind: ConfigMap
metadata: {name: writes, namespace: witness}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writes, namespace: witness}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: writes, namespace: witness}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writes}
subjects: [{kind: ServiceAccount, name: witness, namespace: witness}]
---
apiVersion: v1
kind: Pod
metadata: {name: writer, namespace: witness}
spec:
  nodeName: %s
  hostNetwork: true
  serviceAccountName: witness
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - {name: writer, image: %q, imagePullPolicy: Never, args: [%q]}
`

// use starts the clients of a cluster with canaries.
func use(ctx context.Context, t *testing.T, c *cluster.Cluster) *clients {
	t.Helper()
	u := &clients{c: c, failures: map[string][]string{}}
	server := fmt.Sprintf("https://%s:6443", c.ControlPlanes()[0].IP)
	nodes := append(c.Workers(), c.ControlPlanes()...)
	text := fmt.Sprintf(writer, nodes[0].Name, image.WitnessRef, server)
	if _, err := c.KubectlOn(ctx, c.ControlPlanes()[0].Name, strings.NewReader(text), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Poll(ctx, time.Minute, 500*time.Millisecond, "the pod's writes", func(ctx context.Context) error {
		out, err := c.Kubectl(ctx, "-n", "witness", "logs", "writer")
		if err == nil && !strings.Contains(string(out), "written ") {
			err = errors.New(string(out))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	config, err := credentials(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, u.stop = context.WithCancel(ctx)
	begin := func(server string, config *tls.Config) {
		u.working.Go(func() { u.ask(ctx, asking(server), server+"/api/v1/namespaces/witness/configmaps/writes", config) })
		u.working.Go(func() { u.watch(ctx, server, config) })
		if c.Spec.Hardened {
			// The API server forwards it, with its certificate for the front proxy.
			u.working.Go(func() { u.ask(ctx, asking(server)+" for metrics", server+cluster.NodeMetrics, config) })
		}
	}
	for _, n := range c.ControlPlanes() {
		begin(fmt.Sprintf("https://%s:6443", n.IP), config)
	}
	if lb, ok := c.LoadBalancer(); ok {
		named := config.Clone() // this machine does not resolve the name
		named.ServerName = lb.Name
		begin("https://"+lb.Address(), named)
	}
	return u
}

// credentials returns the administrator's current credentials.
func credentials(ctx context.Context, c *cluster.Cluster) (*tls.Config, error) {
	text, err := c.Shell(ctx, c.ControlPlanes()[0].Name, "cat /etc/kubernetes/admin.conf")
	if err != nil {
		return nil, err
	}
	return credentialsOf(text)
}

// credentialsOf returns the credentials embedded in a kubeconfig.
func credentialsOf(text []byte) (*tls.Config, error) {
	field := func(name string) []byte {
		if m := regexp.MustCompile(name + `: (\S+)`).FindSubmatch(text); m != nil {
			text, _ := base64.StdEncoding.DecodeString(string(m[1]))
			return text
		}
		return nil
	}
	pair, err := tls.X509KeyPair(field("client-certificate-data"), field("client-key-data"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(field("certificate-authority-data"))
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}

func (u *clients) failed(who string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failures[who] = append(u.failures[who], fmt.Sprintf("%s %v", time.Now().UTC().Format(time.TimeOnly), err))
}

// asking names the client that sends requests to a server.
func asking(server string) string { return "asking " + server }

// ask sends requests until ctx is done.
func (u *clients) ask(ctx context.Context, who, url string, config *tls.Config) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := get(ctx, &client, url); err != nil && ctx.Err() == nil {
			u.failed(who, err)
		}
		u.mu.Lock()
		u.asked++
		u.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	output, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", response.Status, output)
	}
	return err
}

// watch watches until ctx is done; an earlier end is a failure.
func (u *clients) watch(ctx context.Context, server string, config *tls.Config) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/v1/namespaces/witness/configmaps?watch=1&timeoutSeconds=3600", nil)
		if err == nil {
			var response *http.Response
			if response, err = client.Do(request); err == nil {
				if _, err = io.Copy(io.Discard, response.Body); err == nil {
					err = errors.New("the server closed the watch")
				}
				err = errors.Join(err, response.Body.Close())
			}
		}
		if ctx.Err() == nil {
			u.failed("watching "+server, err)
			time.Sleep(pause)
		}
	}
}

// end stops the clients and returns the number of requests and the failures.
func (u *clients) end(ctx context.Context, t *testing.T) (asked int, failures map[string][]string) {
	t.Helper()
	u.stop()
	u.working.Wait()
	out, err := u.c.Kubectl(ctx, "-n", "witness", "logs", "writer")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		switch output, rest, _ := strings.Cut(strings.TrimSpace(line), " "); output {
		case "failed":
			u.failures["a pod writing"] = append(u.failures["a pod writing"], rest)
		case "written":
			u.asked += 10
		}
	}
	if _, err := u.c.Kubectl(ctx, "-n", "witness", "delete", "pod", "writer", "--wait=true"); err != nil {
		t.Fatal(err)
	}
	return u.asked, u.failures
}
