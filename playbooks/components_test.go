package playbooks_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
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

// A lease is released that nobody has renewed for long, and nobody renews now.
func TestLeasesAreReleased(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		// first and second are what the lease says, one time of asking after the other.
		first, second string
		check         string
		released      bool
	}{
		{"its holder is gone", "77 {long ago} 15 cp1_x", "77 {long ago} 15 cp1_x", "False", true},
		{"its holder may be alive", "77 {lately} 15 cp1_x", "77 {lately} 15 cp1_x", "False", false},
		{"somebody renews it", "77 {long ago} 15 cp1_x", "78 {now} 15 cp1_x", "False", false},
		{"nobody holds it", "77 {long ago} 15 ", "77 {long ago} 15 ", "False", false},
		{"there is none", "", "", "False", false},
		{"in check mode", "77 {long ago} 15 cp1_x", "77 {long ago} 15 cp1_x", "True", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.check = row.check
			ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format("2006-01-02T15:04:05.000000Z") }
			times := strings.NewReplacer("{long ago}", ago(time.Hour), "{lately}", ago(20*time.Second), "{now}", ago(0))
			n.write(n.bin+"/leases", []byte(times.Replace(row.first+"\n"+row.second+"\n")), 0o600)
			n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
cd '%s'
case $* in
*'patch lease kube-scheduler '*) printf '%%s\n' "$*" >patched ;;
*'get lease kube-scheduler '*) echo >>asked; sed -n "$(wc -l <asked)p" leases ;;
*) exit 1 ;;
esac
`, n.bin), 0o700)
			script := role(t, "settings/files/components.sh") + "\nnote_leases\nnoted_at=0\nrelease_leases"
			out, errs, err := n.run(script)
			patched, _ := os.ReadFile(n.bin + "/patched")
			want := ""
			if row.released {
				want = "changed: released the lease of the kube-scheduler that led before the outage\n"
			}
			if err != nil || out != want || (len(patched) > 0) != row.released {
				t.Errorf("%v: %q %q, patched %q", err, out, errs, patched)
			}
			if row.released && !strings.Contains(string(patched), `{"metadata":{"resourceVersion":"77"},"spec":{"holderIdentity":""}}`) {
				t.Errorf("not for the version that was seen: %s", patched)
			}
		})
	}
}

// What started after its certificate was written has it, even where it cannot yet be
// asked; of what is older, what it serves counts.
func TestEtcdIsRestarted(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "etcd-ca")
	member := ca.Issue(t, testpki.Leaf{CommonName: "member"})
	for _, row := range []struct {
		name    string
		written time.Duration // ago
		stale   bool
	}{
		{"one that started afterwards", 1000 * time.Hour, false},
		{"one that is older, and serves nothing", -time.Hour, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			server := n.conf + "/ssl/etcd/server.crt"
			n.write(server, member.Certificate, 0o600)
			at := time.Now().Add(-row.written)
			n.ok(os.Chtimes(server, at, at))
			n.write(n.bin+"/crictl", []byte("#!/bin/sh\ncase $* in *stop*) echo \"$*\" >"+n.bin+"/stopped ;; *) echo 0123abcd ;; esac\n"), 0o700)
			n.write(n.bin+"/systemctl", []byte("#!/bin/sh\nexit 1\n"), 0o700)
			out, err := n.command(role(t, "settings/files/lib.sh") + "\n" + role(t, "settings/files/components.sh") +
				"\nserved() { :; }\nstarted() { date +%s; }\nrestart_etcd").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if exists(n.bin+"/stopped") != row.stale {
				t.Errorf("restarted %t, want %t: %s", !row.stale, row.stale, out)
			}
		})
	}
}

// A kubelet that is started together with others is done when its member of etcd talks
// to others; one that is started alone, at once.
func TestKubeletsStartOneAfterAnother(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, manifest, together string
		asked                    int
	}{
		{"together", "    - --listen-peer-urls=https://10.0.0.11:2380\n", "True", 3},
		{"alone", "    - --listen-peer-urls=https://10.0.0.11:2380\n", "False", 0},
		{"together, without a member beside it", "", "True", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			if row.manifest != "" {
				n.write(n.conf+"/manifests/etcd.yaml", []byte(row.manifest), 0o600)
			}
			n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n[ \"$1\" != cat ]\n"), 0o700)
			// Its member answers the third time.
			n.write(n.bin+"/openssl", fmt.Appendf(nil, `#!/bin/sh
case $1 in
s_client) echo "$*" >>'%[1]s/asked'; [ $(wc -l <'%[1]s/asked') -lt 3 ] || echo certificate ;;
x509) cat ;;
esac
`, n.bin), 0o700)
			cmd := n.command(role(t, "settings/files/lib.sh") + "\n" + role(t, "settings/files/components.sh") + "\n" + role(t, "control_plane_kubelet/files/start.sh"))
			cmd.Env = append(cmd.Env, "KSCERT_TOGETHER="+row.together)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "changed: restarted the kubelet") {
				t.Fatalf("%v: %s", err, out)
			}
			asked, _ := os.ReadFile(n.bin + "/asked")
			if got := strings.Count(string(asked), "s_client -connect 10.0.0.11:2380\n"); got != row.asked {
				t.Errorf("the member was asked %d times, want %d: %s", got, row.asked, asked)
			}
		})
	}
}
