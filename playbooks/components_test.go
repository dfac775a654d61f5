package playbooks_test

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// apiServer presents one certificate after the other, one per handshake, and then stays with the
// last one. To itself, by name, it presents another one.
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

// An API server that reloads renewed files is restarted only if it does not, or if its loopback
// certificate expires soon.
func TestAPIServerIsRestarted(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	before, after := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"}), ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	loopback := ca.Issue(t, testpki.Leaf{CommonName: "apiserver-loopback-client@1"})
	ending := ca.Issue(t, testpki.Leaf{CommonName: "apiserver-loopback-client@1", NotAfter: time.Now().AddDate(0, 0, 20)})
	const reloading = "registry.k8s.io/kube-apiserver:v1.20.0"
	for _, row := range []struct {
		name, image string
		works       bool // it worked before the renewal: what it reloads by itself counts
		loopback    testpki.Pair
		presents    []testpki.Pair
		idle        bool // no container of it runs
		stale       bool
	}{
		{"one that serves the new certificate", reloading, true, loopback, []testpki.Pair{after}, false, false},
		{"one that takes a moment", reloading, true, loopback, []testpki.Pair{before, before, after}, false, false},
		{"one that goes on serving the old one", reloading, true, loopback, []testpki.Pair{before}, false, true},
		{"one whose own certificate ends soon", reloading, true, ending, []testpki.Pair{after}, false, true},
		{"one that shows no one its own certificate", reloading, true, after, []testpki.Pair{after}, false, false},
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
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --secure-port="+port+"\n    - --advertise-address=127.0.0.1\n    image: "+row.image+"\n"), 0o600)
			containers := "echo 0123abcd"
			if row.idle {
				containers = ":"
			}
			n.write(n.bin+"/crictl", []byte("#!/bin/sh\n"+containers+"\n"), 0o700)
			script := role(t, "settings/files/components.sh") + "\nif stale kube-apiserver; then echo restart; fi"
			cmd := n.command(lib(t) + script)
			cmd.Env = append(cmd.Env, "KSCERT_API_RELOADS="+map[bool]string{true: "True", false: "False"}[row.works])
			out, err := cmd.Output()
			if err != nil || (strings.TrimSpace(string(out)) == "restart") != row.stale {
				t.Errorf("%v: %q; restarted %t, want %t", err, out, !row.stale, row.stale)
			}
		})
	}
}

// A component that runs is not restarted with a kubeconfig that cannot be read: it would not start.
func TestComponentThatWouldNotStart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"users: []\n":         "stopped\nchanged: restarted kube-scheduler\n",
		"users: \"\\/\"\n":    "noted: kube-scheduler is not restarted: it would not start with CONF/scheduler.conf, which kubectl cannot read\n",
		"users: \"not closed": "noted: kube-scheduler is not restarted: it would not start with CONF/scheduler.conf, which kubectl cannot read\n",
	} {
		n := newNode(t)
		n.write(n.conf+"/scheduler.conf", []byte(text), 0o600)
		n.write(n.bin+"/kubectl", []byte("#!/bin/sh\n! grep -qe '/' -e 'not closed' \"$7\"\n"), 0o700)
		out, err := n.command(lib(t) + role(t, "settings/files/components.sh") + `
stale() { :; }
containers() { echo 0123abcd; }
stop() { echo stopped; }
restart kube-scheduler
`).Output()
		if got := strings.ReplaceAll(string(out), n.conf, "CONF"); err != nil || got != want {
			t.Errorf("%q: %v: %q, want %q", text, err, got, want)
		}
	}
}

// A lease is released if its holder was a process of this host that is gone, or if no one has
// renewed it for long and no one renews it now.
func TestLeasesAreReleased(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	here, elsewhere := host+"_c0ffee", "not-"+host+"_c0ffee"
	const gone, silent = "release_leases gone", "noted_at=0\nrelease_leases silent"
	for _, row := range []struct {
		name, holder, conditions string
		// since is the age of the lease's last renewal.
		since time.Duration
		// old: a container of the component has run since before then.
		old bool
		// renewed: someone renews the lease after it was noted, or before it is released.
		renewed, late bool
		runtime       string
		check         string
		released      bool
	}{
		{name: "its holder is silent", holder: elsewhere, conditions: silent, since: time.Hour, released: true},
		{name: "it is silent for less than a minute", holder: elsewhere, conditions: silent, since: 70 * time.Second},
		{name: "someone renews it", holder: elsewhere, conditions: silent, since: time.Hour, renewed: true},
		{name: "someone renews it at the last moment", holder: elsewhere, conditions: silent, since: time.Hour, late: true},
		{name: "its holder, of this host, is gone", holder: here, conditions: gone, since: 20 * time.Second, released: true},
		{name: "once", holder: here, conditions: gone + "\n" + silent, since: time.Hour, released: true},
		{name: "it has not run out", holder: here, conditions: gone, since: 10 * time.Second},
		{name: "a process of this host may hold it", holder: here, conditions: gone, since: 20 * time.Second, old: true},
		{name: "its holder was of another host", holder: elsewhere, conditions: gone, since: 20 * time.Second},
		{name: "it names a host, and no process", holder: host, conditions: gone, since: 20 * time.Second},
		{name: "the runtime does not say what runs", holder: here, conditions: gone, since: 20 * time.Second, runtime: "exit 1"},
		{name: "gone, and renewed at the last moment", holder: here, conditions: gone, since: 20 * time.Second, late: true},
		{name: "no one holds it", conditions: gone + "\n" + silent, since: time.Hour},
		{name: "in check mode", holder: here, conditions: gone + "\n" + silent, since: time.Hour, check: "True"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.check = cmp.Or(row.check, "False")
			version := map[bool]int{false: 77, true: 78}
			now := time.Now()
			lease := func(renewed bool) string {
				at := map[bool]time.Time{false: now.Add(-row.since), true: now}[renewed]
				return fmt.Sprintf("%d %s 15 %s", version[renewed], at.UTC().Format("2006-01-02T15:04:05.000000Z"), row.holder)
			}
			for name, text := range map[string]string{
				"kubectl": fmt.Sprintf(`#!/bin/sh
cd '%s' || exit
case $* in
*'patch lease kube-scheduler '*"\"resourceVersion\":\"$(cat version)\""*'"holderIdentity":""'*)
	echo 79 >version
	echo '79 - 15 ' >second ;;
*'get lease kube-scheduler '*) cat first; mv second first 2>/dev/null ;;
*) exit 1 ;;
esac
`, n.bin),
				"crictl": "#!/bin/sh\n" + row.runtime + "\necho 0123abcd\n",
			} {
				n.write(n.bin+"/"+name, []byte(text), 0o700)
			}
			n.write(n.bin+"/first", []byte(lease(false)+"\n"), 0o600)
			n.write(n.bin+"/second", []byte(lease(row.renewed)+"\n"), 0o600)
			n.write(n.bin+"/version", fmt.Appendf(nil, "%d\n", version[row.renewed || row.late]), 0o600)
			started := now.Add(-row.since + time.Second)
			if row.old {
				started = started.Add(-2 * time.Second)
			}
			script := role(t, "settings/files/components.sh") + fmt.Sprintf("\nstarted() { echo %d.5; }\nnote_leases\n%s", started.Unix(), row.conditions)
			out, errs, err := n.run(script)
			want := ""
			if row.released {
				want = "changed: released the lease of the kube-scheduler that led before the outage\n"
			}
			if err != nil || out != want {
				t.Errorf("%v: %q %q", err, out, errs)
			}
		})
	}
}

// A component that started after its certificate was written has it, even if it cannot be asked
// yet. For an older one, what it serves counts.
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
			out, err := n.command(lib(t) + role(t, "settings/files/components.sh") +
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

// Of each etcd cluster the unit that serves something older is restarted. Only that of the main cluster
// is waited for: another one may get its quorum when other nodes have their certificates.
func TestEachMemberIsRestarted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	member := testpki.Authority(t, "etcd-ca").Issue(t, testpki.Leaf{CommonName: "etcd"})
	n.write(n.etcd+"/member-cp1.pem", member.Certificate, 0o600)
	for _, e := range certs.EtcdClusters() {
		n.write(n.root()+e.EnvFile(), []byte("ETCD_CERT_FILE="+n.etcd+"/member-cp1.pem\n"), 0o600)
	}
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n[ \"$1\" = cat ] || echo \"$*\" >>"+n.bin+"/asked\n"), 0o700)
	out, err := n.command(lib(t) + role(t, "settings/files/components.sh") + `
served() { case $1 in *:2379) fingerprint "$etcd_file" ;; esac; }
started() { echo 1; }
restart_etcd
etcd_back && echo back
served() { :; }
etcd_back || :`).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "back\netcd does not serve "+n.etcd+"/member-cp1.pem on 127.0.0.1:2379\n") {
		t.Errorf("%v: %s", err, out)
	}
	if got := strings.TrimSpace(string(n.read(n.bin + "/asked"))); got != "restart --no-block etcd-events" {
		t.Errorf("systemctl was asked to %q", got)
	}
}

// What reads a CA only when it starts restarts once its file has changed; but not etcd and API servers at the
// stage of a rotation that changes nothing but the order in the file.
func TestDistrusts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ renewal, stage, want string }{
		{"", "", ""},
		{"yes", "", "etcd kube-apiserver kube-controller-manager"},
		{"rotation", "trust", "etcd kube-apiserver kube-controller-manager"},
		{"rotation", "servers", "kube-controller-manager"},
		{"rotation", "drop", "etcd kube-apiserver kube-controller-manager"},
	} {
		out, errs, err := newNode(t).run(fmt.Sprintf("export KSCERT_CA_RENEWAL=%s KSCERT_CA_STAGE=%s KSCERT_WAIT_SECONDS=0\n", row.renewal, row.stage) + role(t, "settings/files/components.sh") + `
older() { return 0; }
for name in etcd kube-apiserver kube-controller-manager kube-scheduler; do ! distrusts $name || printf '%s ' $name; done`)
		if err != nil || strings.TrimSpace(out) != row.want {
			t.Errorf("%+v: %v: %s%s", row, err, out, errs)
		}
	}
}

// If an etcd member restarts for its CA, its API server goes first. Otherwise the API server is
// asked only once.
func TestAPIServerStopsBeforeItsMember(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		0: "kube-apiserver etcd kube-apiserver kube-controller-manager kube-scheduler kube-vip",
		1: "etcd kube-apiserver kube-controller-manager kube-scheduler kube-vip",
	} {
		n := newNode(t)
		n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n"), 0o700)
		n.write(n.bin+"/crictl", []byte("#!/bin/sh\n"), 0o700)
		out, err := n.command(lib(t) + role(t, "settings/files/components.sh") + fmt.Sprintf(`
restart() { echo "$1"; }
restart_etcd() { echo etcd; }
etcd_distrusts() { return %d; }
wait_for() { :; }
pki_dir() { :; }
release_leases() { :; }
note_leases() { :; }
ask_kubelet() { :; }
`, code) + role(t, "control_plane_restart/files/restart.sh")).CombinedOutput()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
			t.Errorf("etcd_distrusts %d: %v: %s, want %s", code, err, got, want)
		}
	}
}

// A kubelet that is started with others is done when its etcd member talks to others; one that is
// started alone, at once.
func TestKubeletsStartOneAfterAnother(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, manifest, together string
		asked                    int
	}{
		{"together", ofPod + "    - --listen-peer-urls=https://10.0.0.11:2380\n", "True", 3},
		{"alone", ofPod + "    - --listen-peer-urls=https://10.0.0.11:2380\n", "False", 0},
		{"together, without a member next to it", "", "True", 0},
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
			cmd := n.command(lib(t) + role(t, "settings/files/components.sh") + "\n" + role(t, "control_plane_kubelet/files/start.sh"))
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

// An API server that works may serve on, unready, as long as its flag has it: load balancers turn to
// others meanwhile. One that cannot be used is not waited for, nor is any for longer than two
// minutes.
func TestAPIServerDrains(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	loopback := ca.Issue(t, testpki.Leaf{CommonName: "apiserver-loopback-client@1"})
	valid := apiServer(t, loopback, ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"}))
	expired := apiServer(t, loopback, ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)}))
	const renewal, outage, restore = "KSCERT_API_RELOADS=True", "KSCERT_API_RELOADS=False", "KSCERT_OTHER=1"
	for _, row := range []struct {
		name, component, flag string
		of                    string // what runs the script
		wait                  int
		want                  string
	}{
		{"no flag", "kube-apiserver", "", renewal, 90, "3"},
		{"a flag", "kube-apiserver", "    - --shutdown-delay-duration=1m10s\n", renewal, 90, "73"},
		{"a long time", "kube-apiserver", "    - --shutdown-delay-duration=1h\n", renewal, 90, "123"},
		{"no time", "kube-apiserver", "    - --shutdown-delay-duration=never\n", renewal, 90, "3"},
		{"one that could not be used", "kube-apiserver", "    - --shutdown-delay-duration=70s\n", outage, 90, "3"},
		{"one that needs others to come back", "kube-apiserver", "    - --shutdown-delay-duration=70s\n", renewal, 0, "3"},
		{"a restore of one that serves", "kube-apiserver", "    - --shutdown-delay-duration=70s\n    - --advertise-address=127.0.0.1\n    - --secure-port=" + valid + "\n", restore, 90, "73"},
		{"a restore of one whose certificate has expired", "kube-apiserver", "    - --shutdown-delay-duration=70s\n    - --advertise-address=127.0.0.1\n    - --secure-port=" + expired + "\n", restore, 90, "3"},
		{"a restore of one that does not run", "kube-apiserver", "    - --shutdown-delay-duration=70s\n    - --advertise-address=127.0.0.1\n    - --secure-port=1\n", restore, 90, "3"},
		{"another component", "kube-scheduler", "    - --shutdown-delay-duration=70s\n", renewal, 90, "3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+row.flag), 0o600)
			n.write(n.conf+"/ssl/apiserver.crt", []byte("new"), 0o600)
			n.write(n.conf+"/scheduler.conf", []byte("users: []\n"), 0o600)
			n.write(n.bin+"/crictl", []byte("#!/bin/sh\nif [ \"$1\" = ps ]; then echo 0123abcd; else echo \"$*\" >>"+n.bin+"/asked; fi\n"), 0o700)
			script := role(t, "settings/files/components.sh") + "\nbefore=$deadline\nstale() { true; }\nrestart " + row.component + "\necho $((deadline - before))"
			cmd := n.command(lib(t) + script)
			cmd.Env = append(cmd.Env, row.of, fmt.Sprintf("KSCERT_WAIT_SECONDS=%d", row.wait))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got := string(n.read(n.bin + "/asked")); got != "stop --timeout "+row.want+" 0123abcd\n" {
				t.Errorf("it was asked %q, want %s seconds", got, row.want)
			}
			want, _ := strconv.Atoi(row.want)
			if !strings.HasSuffix(string(out), fmt.Sprintf("\n%d\n", want-3)) {
				t.Errorf("the deadline did not move by %d: %s", want-3, out)
			}
		})
	}
}
