package witness

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// recovery is how long the slow parts of a cluster may take to come back after
// a repair has ended: kubelets renew their leases every ten seconds, and a
// controller manager waits for its predecessor's lease.
const recovery = 90 * time.Second

// patience is how long an API server gets to answer at all.
const patience = 20 * time.Second

// Verify returns nil if the cluster is whole again and nothing planted was
// harmed. Its error joins one for each check that failed. Where an API server
// can't be used, what has to go through it is not waited for.
func (w *Witness) Verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	began := time.Now()
	checks := []check{
		{"files to keep", w.verifyKept},
		{"certificates on disk", w.verifyCertificates},
		{"certificates served", w.verifyServed},
		{"etcd members", w.verifyEtcd},
	}
	unusable := w.verifyAPI(ctx)
	if unusable == nil {
		checks = append(checks,
			check{"nodes", func(ctx context.Context) error { return w.verifyNodes(ctx, began) }},
			check{"events", w.verifyEvents},
			check{"secret", w.verifySecret},
			check{"service account token", w.verifyToken},
			check{"root's kubeconfig", w.verifyRootKubeconfig},
			check{"workload", w.verifyWorkload})
	} else {
		unusable = fmt.Errorf("API server (nodes, secret, token and workload not checked): %w", unusable)
	}
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() {
			if err := check.do(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", check.name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(append([]error{unusable}, errs...)...)
}

type check struct {
	name string
	do   func(context.Context) error
}

// verifyAPI asks every API server for the nodes, over verified TLS and with its
// own node's admin.conf.
func (w *Witness) verifyAPI(ctx context.Context) error {
	return cluster.Each(ctx, w.c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		return cluster.Poll(ctx, patience, time.Second, "an answer", func(ctx context.Context) error {
			_, err := w.c.KubectlOn(ctx, n.Name, nil, "get", "nodes", "-o", "name")
			return err
		})
	})
}

// verifyNodes asks every API server what it has seen since the check began.
// Conditions lag behind by most of a minute; leases don't.
func (w *Witness) verifyNodes(ctx context.Context, began time.Time) error {
	return cluster.Poll(ctx, recovery, time.Second, "nodes and leases", func(ctx context.Context) error {
		for _, n := range w.c.ControlPlanes() {
			if err := w.verifyLeases(ctx, n, began); err != nil {
				return fmt.Errorf("as %s sees it: %w", n.Name, err)
			}
		}
		return w.c.CheckReady(ctx)
	})
}

func (w *Witness) verifyLeases(ctx context.Context, via cluster.Node, began time.Time) error {
	out, err := w.c.KubectlOn(ctx, via.Name, nil, "-n", "kube-node-lease", "get", "leases", "-o", "json")
	if err != nil {
		return err
	}
	var leases struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ RenewTime time.Time }
		}
	}
	if err := json.Unmarshal(out, &leases); err != nil {
		return err
	}
	renewed := map[string]time.Time{}
	for _, l := range leases.Items {
		renewed[l.Metadata.Name] = l.Spec.RenewTime
	}
	var errs []error
	for _, n := range w.c.KubernetesNodes() {
		if at := renewed[n.KubernetesName]; !at.After(began) {
			errs = append(errs, fmt.Errorf("node %s has not renewed its lease since %s", n.Name,
				at.Format(time.RFC3339)))
		}
	}
	return errors.Join(errs...)
}

func (w *Witness) verifyKept(ctx context.Context) error {
	now, err := w.keptDigests(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for node, files := range w.Kept {
		for path, digest := range files {
			_, isCA := files[path+keyOf]
			switch is := now[node][path]; {
			case is == digest:
			case is == "":
				errs = append(errs, fmt.Errorf("node %s: %s is gone", node, path))
			case isCA && w.CAsRenewed, w.rotated(path):
			default:
				errs = append(errs, fmt.Errorf("node %s: %s has changed", node, path))
			}
		}
	}
	return sorted(errs)
}

// rotated reports whether a path is of a CA that was rotated.
func (w *Witness) rotated(path string) bool {
	path = strings.TrimSuffix(path, keyOf)
	allowed := w.CAsRotated
	if strings.Contains(path, "etcd") {
		allowed = w.EtcdRotated
	}
	return allowed && slices.Contains([]string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "ca.pem",
		"ca-key.pem"}, filepath.Base(path))
}

// ofRotation reports whether a path is that of the next or the former certificate of a CA.
func ofRotation(path string) bool {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return strings.HasSuffix(name, "-next") || strings.HasSuffix(name, "-former")
}

// verifyCertificates checks that whatever was there is there again, within its
// dates and signed by the CA it was signed by, that kubeconfigs lead to where they
// led, and that kubelets can rotate.
func (w *Witness) verifyCertificates(ctx context.Context) error {
	var mu sync.Mutex
	var errs []error
	fail := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, fmt.Errorf(format, args...))
	}
	cas, err := w.authorities(ctx)
	if err != nil {
		return err
	}
	err = cluster.Each(ctx, w.c.Nodes(), func(ctx context.Context, n cluster.Node) error {
		h, err := w.holdings(ctx, n)
		if err != nil {
			return err
		}
		for path := range w.Leaves[n.Name] {
			if _, ok := h.certs[path]; !ok {
				fail("node %s: %s is gone", n.Name, path)
			}
		}
		for path, was := range w.Servers[n.Name] {
			if is := h.servers[path]; is != was {
				fail("node %s: %s leads to %q, not to %q", n.Name, path, is, was)
			}
		}
		for path, list := range h.certs {
			for _, cert := range list {
				if err := valid(cert); err != nil {
					fail("node %s: %s: %w", n.Name, path, err)
				} else if path != kubeletServing && !ofRotation(path) && !signedBy(cert, cas) {
					fail("node %s: %s: %q is not signed by the cluster's CA", n.Name, path, cert.Subject)
				}
			}
		}
		if n.KubernetesName == "" {
			return nil
		}
		if !w.KubeletsKept && slices.Equal(fingerprintsOf(h.certs[kubeletClient]), w.Leaves[n.Name][kubeletClient]) {
			fail("node %s: kubelet still has the client certificate it had before", n.Name)
		}
		if !strings.Contains(h.kubelet, "client-certificate: "+kubeletClient) {
			fail("node %s: %s does not refer to %s: kubelet would not use what it rotates to", n.Name, kubeletConf(w.c),
				kubeletClient)
		}
		return nil
	})
	return errors.Join(err, sorted(errs))
}

// authorities are the CA certificates on the first control plane.
func (w *Witness) authorities(ctx context.Context) ([]*x509.Certificate, error) {
	files, err := w.c.ReadFiles(ctx, w.c.ControlPlanes()[0].Name, keptFiles(w.c)...)
	if err != nil {
		return nil, err
	}
	var cas []*x509.Certificate
	for _, f := range files {
		list, err := parse(f.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		cas = append(cas, list...)
	}
	return cas, nil
}

func signedBy(cert *x509.Certificate, cas []*x509.Certificate) bool {
	return slices.ContainsFunc(cas, func(ca *x509.Certificate) bool { return cert.CheckSignatureFrom(ca) == nil })
}

func valid(cert *x509.Certificate) error {
	now := time.Now()
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("%q expired at %s", cert.Subject, cert.NotAfter.Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("%q is not valid before %s", cert.Subject, cert.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// authorityPool is what a client of the cluster trusts.
func (w *Witness) authorityPool(ctx context.Context) (*x509.CertPool, error) {
	cas, err := w.authorities(ctx)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool, nil
}

// verifyServed looks at what the components really use: the file on disk may be
// new and the process old.
func (w *Witness) verifyServed(ctx context.Context) error {
	pool, err := w.authorityPool(ctx)
	if err != nil {
		return err
	}
	type target struct {
		node, address string
		// host is the name or address it must be for; empty for one that is signed
		// by no one else.
		host string
		// local: only the node itself can connect.
		local bool
	}
	var targets []target
	add := func(n cluster.Node, port, host string) {
		targets = append(targets, target{node: n.Name, address: net.JoinHostPort(n.IP.String(), port), host: host})
	}
	for _, n := range w.c.ControlPlanes() {
		add(n, "6443", n.IP.String())
		for _, port := range []string{"10257", "10259"} {
			if w.c.Spec.Hardened {
				targets = append(targets, target{node: n.Name, address: "127.0.0.1:" + port, local: true})
			} else {
				add(n, port, "")
			}
		}
	}
	for _, n := range w.c.EtcdMembers() {
		add(n, "2379", n.IP.String())
		add(n, "2380", n.IP.String())
		if w.c.Spec.EtcdEvents {
			add(n, "2381", n.IP.String())
			add(n, "2382", n.IP.String())
		}
	}
	for _, n := range w.c.KubernetesNodes() {
		host := "" // signed by itself
		if w.c.Spec.Hardened {
			host = n.IP.String()
		}
		add(n, "10250", host)
	}
	if lb, ok := w.c.LoadBalancer(); ok {
		targets = append(targets, target{node: lb.Machine.Name, address: lb.Address(), host: lb.Name})
	}
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			err := cluster.Poll(ctx, patience, 500*time.Millisecond, t.address, func(ctx context.Context) error {
				ask := served
				if t.local {
					ask = func(ctx context.Context, address string) ([]*x509.Certificate, error) {
						return w.servedThere(ctx, t.node, address)
					}
				}
				chain, err := ask(ctx, t.address)
				if err != nil {
					return err
				}
				if err := valid(chain[0]); err != nil || t.host == "" {
					return err
				}
				_, err = chain[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: t.host})
				return err
			})
			if err != nil {
				errs[i] = fmt.Errorf("node %s: %w", t.node, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// verifyEtcd asks every member whether it can commit, with the administrator's
// certificate on its node.
func (w *Witness) verifyEtcd(ctx context.Context) error {
	return cluster.Each(ctx, w.c.EtcdMembers(), func(ctx context.Context, n cluster.Node) error {
		return cluster.Poll(ctx, patience, time.Second, "the member to be healthy", func(ctx context.Context) error {
			_, err := w.etcdctl(ctx, n, "endpoint", "health", "--command-timeout=3s")
			if err == nil && w.c.Spec.EtcdEvents {
				_, err = w.c.Shell(ctx, n.Name, ofEvents+"endpoint health --command-timeout=3s")
			}
			return err
		})
	})
}

// verifyEvents stores an event, and finds it in the etcd for events alone.
func (w *Witness) verifyEvents(ctx context.Context) error {
	if !w.c.Spec.EtcdEvents {
		return nil
	}
	const event = `{"apiVersion":"v1","kind":"Event","metadata":{"generateName":"witness-","namespace":"default"},` +
		`"involvedObject":{"kind":"Namespace","name":"default","namespace":"default"},"reason":"Witness","type":"Normal"}`
	name, err := w.c.KubectlOn(ctx, w.c.ControlPlanes()[0].Name, strings.NewReader(event), "create", "-f", "-",
		"-o", "jsonpath={.metadata.name}")
	if err != nil {
		return fmt.Errorf("creating an event: %w", err)
	}
	const find = "get --keys-only /registry/events/default/"
	member := w.c.EtcdMembers()[0].Name
	here, err := w.c.Shell(ctx, member, ofEvents+find+string(name))
	if err != nil || len(bytes.TrimSpace(here)) == 0 {
		return fmt.Errorf("event %s is not in the etcd for events: %w", name, err)
	}
	there, err := w.c.Shell(ctx, member, "set -a; . /etc/etcd.env; etcdctl "+find+string(name))
	if err != nil || len(bytes.TrimSpace(there)) > 0 {
		return fmt.Errorf("event %s is in the main etcd: %s %w", name, there, err)
	}
	return nil
}

// served returns the certificates a port serves. Whether the handshake goes on
// from there is not asked: etcd wants a client certificate.
func served(ctx context.Context, address string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var chain []*x509.Certificate
	d := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		err = conn.Close()
	}
	if len(chain) > 0 {
		return chain, nil
	}
	return nil, fmt.Errorf("no certificate: %w", err)
}

// servedThere is served, asked from a node.
func (w *Witness) servedThere(ctx context.Context, node, address string) ([]*x509.Certificate, error) {
	text, err := w.c.Shell(ctx, node, "openssl s_client -connect "+address+" </dev/null 2>/dev/null | openssl x509")
	if err != nil {
		return nil, err
	}
	return parse(text)
}

func (w *Witness) verifySecret(ctx context.Context) error {
	return cluster.Poll(ctx, 30*time.Second, time.Second, "the secret", func(ctx context.Context) error {
		value, err := w.secretValue(ctx)
		if err == nil && value != w.Value {
			err = errors.New("it has another value")
		}
		return err
	})
}

// verifyToken asks every API server who the old token belongs to.
func (w *Witness) verifyToken(ctx context.Context) error {
	pool, err := w.authorityPool(ctx)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true},
		Timeout: 10 * time.Second,
	}
	return cluster.Each(ctx, w.c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		return cluster.Poll(ctx, 30*time.Second, time.Second, "the token to be accepted",
			func(ctx context.Context) error {
				return w.whoAmI(ctx, client, net.JoinHostPort(n.IP.String(), "6443"))
			})
	})
}

func (w *Witness) whoAmI(ctx context.Context, client *http.Client, address string) error {
	body := `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"https://"+address+"/apis/authentication.k8s.io/v1/selfsubjectreviews", bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var review struct {
		Status struct{ UserInfo struct{ Username string } }
	}
	if err := json.Unmarshal(answer, &review); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if want := "system:serviceaccount:" + namespace + ":" + namespace; review.Status.UserInfo.Username != want {
		return fmt.Errorf("%s: the token belongs to %q, want %q", resp.Status, review.Status.UserInfo.Username, want)
	}
	return nil
}

func (w *Witness) verifyRootKubeconfig(ctx context.Context) error {
	return cluster.Each(ctx, w.c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		return cluster.Poll(ctx, 30*time.Second, time.Second, "the API server", func(ctx context.Context) error {
			_, err := w.c.Exec(ctx, n.Name, "kubectl", "--kubeconfig", rootKubeconfig, "--cache-dir", "/run/kubectl",
				"--request-timeout", "10s",
				"get", "secrets", "-n", "kube-system", "-o", "name")
			return err
		})
	})
}

// verifyWorkload reads the workload's log through the API server, which needs
// its client certificate for kubelets, and checks that it is the same process.
func (w *Witness) verifyWorkload(ctx context.Context) error {
	return cluster.Poll(ctx, recovery, time.Second, "the workload", func(ctx context.Context) error {
		pod, err := w.podIdentity(ctx)
		if err != nil {
			return err
		}
		if pod != w.Pod {
			return errors.New("it was restarted or replaced")
		}
		out, err := w.c.Kubectl(ctx, "-n", namespace, "logs", namespace, "--tail", "1")
		if err == nil && !bytes.HasPrefix(out, []byte("witness ")) {
			err = fmt.Errorf("its log ends in %q", out)
		}
		return err
	})
}

// sorted joins errors in a stable order.
func sorted(errs []error) error {
	byText := map[string]error{}
	for _, err := range errs {
		byText[err.Error()] = err
	}
	var out []error
	for _, text := range slices.Sorted(maps.Keys(byText)) {
		out = append(out, byText[text])
	}
	return errors.Join(out...)
}
