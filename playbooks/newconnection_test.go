package playbooks_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// The API server is asked for a new connection to this node's kubelet, with its own credentials for
// kubelets: by a request to upgrade, and only if it accepts none by a usual one.
func TestKubeletIsAskedOverANewConnection(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		// answers are the API server's, one after another.
		answers []string
		// upgrades are the requests to upgrade, and usual whether kubectl made one.
		upgrades int
		usual    bool
	}{
		{"passed on", []string{"200 ok"}, 1, false},
		{"reported with its code", []string{"502 unable to upgrade connection: unexpected response status code 200"}, 1, false},
		{"the connection that breaks first", []string{"502 use of closed network connection", "200 ok"}, 2, false},
		{"never accepted", []string{"403 forbidden"}, 3, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ca := testpki.Authority(t, "kubernetes")
			clients := x509.NewCertPool()
			clients.AppendCertsFromPEM(ca.Certificate)
			asked := make(chan *http.Request, 20)
			var upgrades int
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/livez" {
					return
				}
				asked <- r
				answer := row.answers[min(upgrades, len(row.answers)-1)]
				upgrades++
				if code, text, _ := strings.Cut(answer, " "); code == "200" {
					_, _ = io.WriteString(w, text)
				} else {
					http.Error(w, text, map[string]int{"403": http.StatusForbidden, "502": http.StatusBadGateway}[code])
				}
			}))
			server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
			server.StartTLS()
			defer server.Close()

			n := newNode(t)
			user := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver-kubelet-client"})
			n.write(n.conf+"/ssl/apiserver-kubelet-client.crt", user.Certificate, 0o600)
			n.write(n.conf+"/ssl/apiserver-kubelet-client.key", user.Key, 0o600)
			kubelet := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1"})
			n.write(n.bin+"/kubectl", []byte("#!/bin/sh\necho \"$*\" >>"+n.bin+"/usual\n"), 0o700)
			n.write(n.bin+"/kubelet/kubelet-client-current.pem", append(kubelet.Certificate, kubelet.Key...), 0o600)
			out, err := n.command("KSCERT_WAIT_SECONDS=9\n" + lib(t) + role(t, "settings/files/components.sh") +
				"\nkubelet=" + n.bin + "/kubelet api=" + server.Listener.Addr().String() + "\nask_kubelet\n").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			close(asked)
			seen := 0
			for r := range asked {
				seen++
				if r.URL.Path != "/api/v1/nodes/w1/proxy/healthz" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Upgrade") == "" ||
					r.TLS.PeerCertificates[0].Subject.CommonName != "kube-apiserver-kubelet-client" {
					t.Errorf("asked %s as %s: %v", r.URL, r.TLS.PeerCertificates[0].Subject, r.Header)
				}
			}
			if seen != row.upgrades || exists(n.bin+"/usual") != row.usual {
				t.Errorf("%d requests to upgrade, want %d; a usual one %t, want %t: %s", seen, row.upgrades, !row.usual, row.usual, out)
			}
		})
	}
}
