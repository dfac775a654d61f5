package playbooks_test

import (
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// apiServer presents one certificate after the other, one a handshake and the last one
// from then on; and to itself, by name, another one.
func apiServer(t *testing.T, loopback testpki.Pair, presents ...testpki.Pair) (port string) {
	t.Helper()
	pair := func(p testpki.Pair) *tls.Certificate {
		c, err := tls.X509KeyPair(p.Certificate, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	own := pair(loopback)
	var all []*tls.Certificate
	for _, p := range presents {
		all = append(all, pair(p))
	}
	var asked atomic.Int64
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "apiserver-loopback-client" {
			return own, nil
		}
		return all[min(int(asked.Add(1)), len(all))-1], nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				if c, ok := conn.(*tls.Conn); ok {
					_ = c.HandshakeContext(t.Context())
				}
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// An API server that takes renewed files up by itself is restarted only when it does
// not, or when what it made for itself ends soon.
func TestAPIServerIsRestarted(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	before, after := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"}), ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	loopback := ca.Issue(t, testpki.Leaf{CommonName: "apiserver-loopback-client@1"})
	ending := ca.Issue(t, testpki.Leaf{CommonName: "apiserver-loopback-client@1", NotAfter: time.Now().AddDate(0, 0, 20)})
	const reloading = "registry.k8s.io/kube-apiserver:v1.20.0"
	for _, row := range []struct {
		name, image string
		works       bool // it worked before the renewal: what it takes up by itself counts
		loopback    testpki.Pair
		presents    []testpki.Pair
		idle        bool // no container of it runs
		stale       bool
	}{
		{"one that serves the new certificate", reloading, true, loopback, []testpki.Pair{after}, false, false},
		{"one that takes a moment", reloading, true, loopback, []testpki.Pair{before, before, after}, false, false},
		{"one that goes on serving the old one", reloading, true, loopback, []testpki.Pair{before}, false, true},
		{"one whose own certificate ends soon", reloading, true, ending, []testpki.Pair{after}, false, true},
		{"one that shows nobody its own certificate", reloading, true, after, []testpki.Pair{after}, false, false},
		{"one too old to take up all of its files", "registry.k8s.io/kube-apiserver:v1.19.16", true, loopback, []testpki.Pair{after}, false, true},
		{"one of no known version", "example.com/kube-apiserver@sha256:0123", true, loopback, []testpki.Pair{after}, false, true},
		{"one that could not be used", reloading, false, loopback, []testpki.Pair{after}, false, true},
		{"one that does not run", reloading, true, ending, []testpki.Pair{before}, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			port := apiServer(t, row.loopback, row.presents...)
			n.write(n.conf+"/ssl/apiserver.crt", after.Certificate, 0o600)
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte("    - --secure-port="+port+"\n    - --advertise-address=127.0.0.1\n    image: "+row.image+"\n"), 0o600)
			containers := "echo 0123abcd"
			if row.idle {
				containers = ":"
			}
			n.write(n.bin+"/crictl", []byte("#!/bin/sh\n"+containers+"\n"), 0o700)
			script := role(t, "settings/files/components.sh") + "\nif stale kube-apiserver; then echo restart; fi"
			cmd := n.command(role(t, "settings/files/lib.sh") + "\n" + script)
			cmd.Env = append(cmd.Env, "KSCERT_API_RELOADS="+map[bool]string{true: "True", false: "False"}[row.works])
			out, err := cmd.Output()
			if err != nil || (strings.TrimSpace(string(out)) == "restart") != row.stale {
				t.Errorf("%v: %q; restarted %t, want %t", err, out, !row.stale, row.stale)
			}
		})
	}
}
