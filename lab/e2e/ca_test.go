//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// authorityFiles are where the certificates of CAs lie on a control plane.
var authorityFiles = []string{
	"/etc/kubernetes/ssl/ca.crt", "/etc/kubernetes/ssl/front-proxy-ca.crt", "/etc/kubernetes/ssl/etcd/ca.crt", "/etc/ssl/etcd/ssl/ca.pem",
}

// TestCARenewUnnoticed renews the CAs of healthy clusters under the eyes of their users:
// those of the cluster and of the front proxy cost no request and no restart of an API
// server; that of etcd one restart each, one after another, and no request where a load
// balancer leads to the others.
func TestCARenewUnnoticed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		// drains: API servers serve on after SIGTERM, unready, for longer than the load
		// balancer needs to notice. Others close connections that wait for them, one at most as
		// each of them stops.
		drains bool
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-ca-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}, false},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-ca-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, false},
		{"three-host-etcd", cluster.Spec{Name: "e2e-ca-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray, LoadBalancer: true}, false},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-ca-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm, LoadBalancer: true}, true},
		{"etcd-nodes", cluster.Spec{Name: "e2e-ca-5", ControlPlanes: 1, Workers: 1, EtcdNodes: 3}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, test.spec)
			for _, n := range c.ControlPlanes() {
				shellOutput(ctx, t, c, n.Name, "cd /etc/kubernetes; grep -q ^caCert kubeadm-config.yaml || sed -i 's/^clusterName:/caCertificateValidityPeriod: 131400h0m0s\\n&/' kubeadm-config.yaml")
			}
			if test.spec.EtcdNodes > 0 {
				unname(ctx, t, c)
			}
			if test.drains {
				drain(ctx, t, c)
			}
			w := plant(ctx, t, c)
			w.KubeletsKept, w.CAsRenewed = true, true
			pin := discoveryHash(ctx, t, c)
			running := apiServers(ctx, t, c)
			before := authorityFingerprints(ctx, t, c)

			u := use(ctx, t, c)
			o := kscertctl(ctx, t, "ca", "renew", "-i", c.Inventory(), "--ca", "cluster,front-proxy", "--yes")
			asked, failures := u.end(ctx, t)
			o.want(t, 0, "route renew-ca", "After:   healthy")
			wantNoKeys(ctx, t, c, o)
			t.Logf("cluster and front proxy: %d requests in %.0f s, failed: %d", asked, o.took.Seconds(), count(failures))
			for who, what := range failures {
				t.Errorf("%s failed %d times, first: %s", who, len(what), what[0])
			}
			if now := apiServers(ctx, t, c); !slices.Equal(now, running) {
				t.Errorf("API servers were restarted: %q, were %q", now, running)
			}
			wantRenewed(ctx, t, c, before, "/ca.crt", "/front-proxy-ca.crt")
			wantYears(ctx, t, c, 15, authorityFiles[0], authorityFiles[1])
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the witness is not content: %v", err)
			}
			if now := discoveryHash(ctx, t, c); now != pin {
				t.Errorf("nodes would join with %s, and did with %s", now, pin)
			}

			before = authorityFingerprints(ctx, t, c)
			u = use(ctx, t, c)
			o = kscertctl(ctx, t, "ca", "renew", "-i", c.Inventory(), "--ca", "etcd", "--validity", "120y", "--yes")
			asked, failures = u.end(ctx, t)
			o.want(t, 0, "route renew-ca", "After:   healthy")
			t.Logf("etcd: %d requests in %.0f s, failed: %d", asked, o.took.Seconds(), count(failures))
			lb, balanced := c.LoadBalancer()
			for who, what := range failures {
				t.Logf("%s failed %d times, first: %s", who, len(what), what[0])
				if balanced && who == asking("https://"+lb.Address()) && (test.drains || len(what) > test.spec.ControlPlanes) {
					t.Errorf("through the load balancer: %q", what)
				}
			}
			wantRenewed(ctx, t, c, before, "/etcd/ca.crt", "/ca.pem")
			wantYears(ctx, t, c, 120, authorityFiles[2], authorityFiles[3])
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the witness is not content: %v", err)
			}
			wantStrict(ctx, t, c, "kubernetes", "etcd-ca")
			if test.spec.EtcdNodes > 0 {
				shellOutput(ctx, t, c, "cp1", "openssl x509 -in /etc/ssl/etcd/ssl/node-cp1.pem -noout -ext authorityKeyIdentifier | grep Identifier:")
			}
			if test.spec.ControlPlanes == 1 {
				rejoin(ctx, t, c, pin)
			}
			wantHealthy(ctx, t, c)
		})
	}
}

// rejoin has a worker leave the cluster, and join it as a new machine does: it trusts what
// cluster-info publishes only if the CA there has this hash.
func rejoin(ctx context.Context, t *testing.T, c *cluster.Cluster, pin string) {
	t.Helper()
	w := c.Workers()[0].Name
	const leave = `systemctl stop kubelet
rm -rf /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf /etc/kubernetes/ssl/ca.crt /var/lib/kubelet/pki
`
	const join = `cd /etc/kubernetes
sed 's/unsafeSkipCAVerification: true/caCertHashes: ["%s"]/' kubeadm-client.conf >/root/join.yaml
grep -q '"sha256:' /root/join.yaml
timeout %d kubeadm join --config /root/join.yaml --skip-phases=preflight 2>&1`
	shellOutput(ctx, t, c, w, leave)
	if _, err := c.Kubectl(ctx, "delete", "node", w); err != nil {
		t.Fatal(err)
	}
	other := "sha256:" + strings.Repeat("0", 64)
	if out, err := c.Shell(ctx, w, fmt.Sprintf(join, other, 10)); err == nil {
		t.Errorf("it joined with the hash of another key: %s", out)
	}
	shellOutput(ctx, t, c, w, leave+fmt.Sprintf(join, pin, 100))
	if err := settle(ctx, c); err != nil {
		t.Errorf("the node that joined again: %v", err)
	}
}

// drain has API servers serve on, unready, for 8 seconds after SIGTERM: longer than
// the lab's load balancer takes to notice.
func drain(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	was := apiServers(ctx, t, c)
	for _, n := range c.ControlPlanes() {
		shellOutput(ctx, t, c, n.Name, "sed -i 's/^    - kube-apiserver$/&\\n    - --shutdown-delay-duration=8s/' /etc/kubernetes/manifests/kube-apiserver.yaml; grep -q shutdown-delay /etc/kubernetes/manifests/kube-apiserver.yaml")
	}
	if err := cluster.Poll(ctx, 3*time.Minute, time.Second, "other API servers", func(context.Context) error {
		now := apiServers(ctx, t, c)
		if slices.Contains(now, "") || slices.ContainsFunc(now, func(one string) bool { return slices.Contains(was, one) }) {
			return errors.New("one is the same, or there is none")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := settle(ctx, c); err != nil {
		t.Fatal(err)
	}
}

// TestCALapsed lets CAs expire, each alone and all, and has run recover the cluster: with the
// same keys, so that whatever they signed is valid again.
func TestCALapsed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		cas  []string
		// leaves have expired, too.
		leaves bool
	}{
		{"host-etcd/cluster", cluster.Spec{Name: "e2e-ca-old-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, []string{"kubernetes"}, false},
		{"host-etcd/front-proxy", cluster.Spec{Name: "e2e-ca-old-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, []string{"front-proxy-ca"}, false},
		{"host-etcd/etcd", cluster.Spec{Name: "e2e-ca-old-3", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, []string{"etcd-ca"}, false},
		{"host-etcd/all", cluster.Spec{Name: "e2e-ca-old-4", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, []string{"kubernetes", "front-proxy-ca", "etcd-ca"}, false},
		{"host-etcd/all-and-leaves", cluster.Spec{Name: "e2e-ca-old-5", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, []string{"kubernetes", "front-proxy-ca", "etcd-ca"}, true},
		{"kubeadm-etcd/etcd", cluster.Spec{Name: "e2e-ca-old-7", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, []string{"etcd-ca"}, false},
		{"kubeadm-etcd/all", cluster.Spec{Name: "e2e-ca-old-8", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, []string{"kubernetes", "front-proxy-ca", "etcd-ca"}, false},
		{"three-host-etcd/all", cluster.Spec{Name: "e2e-ca-old-6", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost}, []string{"kubernetes", "front-proxy-ca", "etcd-ca"}, false},
		{"three-kubeadm-etcd/etcd", cluster.Spec{Name: "e2e-ca-old-9", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, []string{"etcd-ca"}, false},
		{"three-kubeadm-etcd/all", cluster.Spec{Name: "e2e-ca-old-10", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, []string{"kubernetes", "front-proxy-ca", "etcd-ca"}, false},
		{"etcd-nodes/etcd", cluster.Spec{Name: "e2e-ca-old-11", ControlPlanes: 1, Workers: 1, EtcdNodes: 3}, []string{"etcd-ca"}, false},
		{"etcd-nodes/all-and-leaves", cluster.Spec{Name: "e2e-ca-old-12", ControlPlanes: 1, Workers: 1, EtcdNodes: 3}, []string{"kubernetes", "front-proxy-ca", "etcd-ca"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			w.KubeletsKept, w.CAsRenewed = true, true
			if test.leaves {
				expireAll(ctx, t, c, expire.Options{})
			}
			if err := expire.Authorities(ctx, c, time.Now().Add(-time.Hour), test.cas...); err != nil {
				t.Fatal(err)
			}
			// Without the CA of the front proxy alone, the API server works: an API server that has
			// just started, and refuses its administrator for a moment, is no outage by the CA.
			if slices.Equal(test.cas, []string{"front-proxy-ca"}) {
				if err := settle(ctx, c); err != nil {
					t.Fatal(err)
				}
			}
			wantUnchanged(ctx, t, c, func() {
				kscertctl(ctx, t, "run", "-i", c.Inventory()).want(t, 10, "Route:   new-ca", "not approved")
			})
			o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes")
			o.want(t, 0, "Route:   new-ca", "After:   healthy")
			wantNoKeys(ctx, t, c, o)
			t.Logf("recovered in %.0f s", o.took.Seconds())
			if err := w.AwaitWorkload(ctx); err != nil { // as after a reboot
				t.Error(err)
			}
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the witness is not content: %v", err)
			}
			wantStrict(ctx, t, c, test.cas...)
			kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do")
		})
	}
}

// TestCARenewStopped kills renewals of CAs while some control planes have the new certificates
// and others do not. Each can be resumed and be rolled back. Once the lock is broken, another
// renewal can follow, and its rollback gives each node back the certificate that it had.
func TestCARenewStopped(t *testing.T) { //nolint:tparallel // its trials build on each other
	t.Parallel()
	ctx := testContext(t, 40*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-ca-stop", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost})
	g := &trials{c: c, w: plant(ctx, t, c)}
	g.w.KubeletsKept, g.w.CAsRenewed = true, true
	renew := []string{"ca", "renew", "-i", c.Inventory(), "--yes"}
	// stopped kills a renewal, and all that it has started, when its journal has a line or,
	// of a step that is at work, when so many of its tasks have begun.
	stopped := func(t *testing.T, event, step string, begun int) (stateDir string) {
		t.Helper()
		d := start(ctx, t, t.TempDir(), renew...)
		reached := func() bool {
			for _, dir := range runDirs(d.stateDir) {
				if slices.ContainsFunc(journal(dir), func(l journalLine) bool { return l.Event == event && l.Step == step }) && tasks(dir, step) >= begun {
					return true
				}
			}
			return false
		}
		for !reached() {
			select {
			case <-d.ended:
				t.Fatalf("the run never reached %s of %s: %+v", event, step, d.wait())
			case <-time.After(2 * time.Millisecond):
			}
		}
		g.must(t, "killing", d.killTree())
		d.wait()
		return d.stateDir
	}
	before := filesDigest(ctx, t, c)
	t.Run("resumed", func(t *testing.T) {
		stateDir := stopped(t, "intent", "06-ca-renew-cp2", 5)
		g.resume(ctx, t, stateDir, before, blow{})
	})
	t.Run("rolled back", func(t *testing.T) {
		g.goBack(ctx, t, stopped(t, "intent", "06-ca-renew-cp2", 4), before)
	})
	t.Run("followed by another", func(t *testing.T) {
		first := stopped(t, "outcome", "03-ca-renew-cp1", 0)
		mixed := filesDigest(ctx, t, c)
		if len(before.Diff(mixed)) == 0 {
			t.Fatal("nothing was changed before it was killed")
		}
		kscertctl(ctx, t, "unlock", "-i", c.Inventory(), "--yes").want(t, 0, "Unlocked: run ")
		second := t.TempDir()
		g.retryWhileLocked(ctx, t, second, renew...).want(t, 0, "After:   healthy")
		one := map[string]string{}
		for at, is := range authorityFingerprints(ctx, t, c) {
			_, path, _ := strings.Cut(at, ":")
			if one[path] = cmp.Or(one[path], is); one[path] != is {
				t.Errorf("%s is another certificate than elsewhere", at)
			}
		}
		g.wantWhole(ctx, t)
		g.goBack(ctx, t, second, mixed)
		g.goBack(ctx, t, first, before)
	})
	g.wantWhole(ctx, t)
	wantHealthy(ctx, t, c)
}

// TestCAKilled kills runs that re-issue CAs at each line of their journals: a renewal, and a
// recovery from expired CAs. Each can be resumed until every gate holds, and be rolled back.
func TestCAKilled(t *testing.T) {
	t.Parallel()
	for i, state := range []changeState{
		{
			name: "lapsed", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, restart: true, kubeletsKept: true, casRenewed: true,
			breaks: func(ctx context.Context, t *testing.T, c *cluster.Cluster) {
				t.Helper()
				if err := expire.Authorities(ctx, c, time.Now().Add(-time.Hour), "kubernetes", "front-proxy-ca", "etcd-ca"); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "renewed", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, kubeletsKept: true, casRenewed: true,
			command: []string{"ca", "renew"}, breaks: func(context.Context, *testing.T, *cluster.Cluster) {},
		},
		{
			name: "made", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, kubeletsKept: true,
			command: []string{"ca", "rotate"}, breaks: func(context.Context, *testing.T, *cluster.Cluster) {},
		},
		{
			name: "trusted", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, kubeletsKept: true, casRenewed: true,
			command: []string{"ca", "rotate"}, breaks: rotatedUntil("make"),
		},
		{
			name: "clients", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, kubeletsKept: true, casRenewed: true,
			command: []string{"ca", "rotate"}, breaks: rotatedUntil("trust"),
		},
		{
			name: "etcd-trusted", spec: cluster.Spec{ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, kubeletsKept: true, casRenewed: true,
			command: []string{"ca", "rotate", "--ca", "etcd"}, breaks: rotatedUntil("make", "--ca", "etcd"),
		},
	} {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 90*time.Minute)
			spec := state.spec
			spec.Name = fmt.Sprintf("e2e-ca-kill-%d", i+1)
			g := newTrials(ctx, t, state, newCluster(ctx, t, spec))
			killed := blows()[0]
			for _, m := range killed.moments(g.journal, g.tasks) {
				t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) { g.try(ctx, t, killed, m) })
			}
		})
	}
}

// rotatedUntil takes a cluster through the stages of a rotation up to one.
func rotatedUntil(stage string, flags ...string) func(context.Context, *testing.T, *cluster.Cluster) {
	return func(ctx context.Context, t *testing.T, c *cluster.Cluster) {
		t.Helper()
		args := append([]string{"ca", "rotate", "-i", c.Inventory(), "--until", stage, "--yes"}, flags...)
		kscertctl(ctx, t, args...).want(t, 0, "After:   healthy")
	}
}

// authorityFingerprints are those of the CA certificates, by node and file.
func authorityFingerprints(ctx context.Context, t *testing.T, c *cluster.Cluster) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, n := range c.Nodes() {
		files, err := c.ReadFiles(ctx, n.Name, authorityFiles...)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			block, _ := pem.Decode(f.Data)
			if block == nil {
				t.Fatalf("%s of %s holds no certificate", f.Path, n.Name)
			}
			sum := sha256.Sum256(block.Bytes)
			out[n.Name+":"+f.Path] = hex.EncodeToString(sum[:])
		}
	}
	return out
}

// wantRenewed fails the test unless just the CA certificates have changed whose paths end so,
// and are one on all nodes.
func wantRenewed(ctx context.Context, t *testing.T, c *cluster.Cluster, before map[string]string, suffixes ...string) {
	t.Helper()
	one := map[string]string{}
	for at, is := range authorityFingerprints(ctx, t, c) {
		_, path, _ := strings.Cut(at, ":")
		renewed := slices.ContainsFunc(suffixes, func(s string) bool {
			return strings.HasSuffix(path, s) && (s != "/ca.crt" || !strings.Contains(path, "/etcd/"))
		})
		if (is != before[at]) != renewed {
			t.Errorf("%s has changed: %t, want %t", at, !renewed, renewed)
		}
		if one[path] == "" {
			one[path] = is
		}
		if one[path] != is {
			t.Errorf("%s is another certificate than elsewhere", at)
		}
	}
}

// unname gives the first control plane a certificate for etcd that does not name the key of its
// CA, as older openssl makes them: that key is on other nodes.
func unname(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	made := shellOutput(ctx, t, c, c.EtcdMembers()[0].Name, `cd /etc/ssl/etcd/ssl
openssl x509 -x509toreq -in node-cp1.pem -signkey node-cp1-key.pem -out /tmp/request
printf 'extendedKeyUsage=clientAuth,serverAuth\nauthorityKeyIdentifier=none\n' >/tmp/extensions
openssl x509 -req -in /tmp/request -CA ca.pem -CAkey ca-key.pem -set_serial 77 -days 3000 -extfile /tmp/extensions 2>/dev/null`)
	shellOutput(ctx, t, c, "cp1", "cat >/etc/ssl/etcd/ssl/node-cp1.pem <<'END'\n"+made+"\nEND\n! openssl x509 -in /etc/ssl/etcd/ssl/node-cp1.pem -noout -ext authorityKeyIdentifier 2>/dev/null | grep Identifier:")
}

// wantYears fails the test unless the CA certificates in these files are valid for so long.
func wantYears(ctx context.Context, t *testing.T, c *cluster.Cluster, years int, paths ...string) {
	t.Helper()
	want := time.Duration(years) * 365 * 24 * time.Hour
	for _, n := range c.Nodes() {
		files, err := c.ReadFiles(ctx, n.Name, paths...)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			block, _ := pem.Decode(f.Data)
			ca, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(ca.NotAfter); left > want || left < want-time.Hour {
				t.Errorf("%s of %s expires at %s, want in %d years", f.Path, n.Name, ca.NotAfter, years)
			}
		}
	}
}

// discoveryHash is by what a node that joins recognizes the cluster: the hash of the key of
// the CA in cluster-info, which is that on disk.
func discoveryHash(ctx context.Context, t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	first := c.ControlPlanes()[0].Name
	onDisk := shellOutput(ctx, t, c, first, "cat /etc/kubernetes/ssl/ca.crt")
	info, err := c.Kubectl(ctx, "-n", "kube-public", "get", "configmap", "cluster-info", "-o", "jsonpath={.data.kubeconfig}")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`certificate-authority-data: (\S+)`).FindSubmatch(info)
	if m == nil {
		t.Fatal("cluster-info names no CA")
	}
	published := shellOutput(ctx, t, c, first, "echo "+string(m[1])+" | base64 -d")
	if published != onDisk {
		t.Error("cluster-info names another certificate than the one on disk")
	}
	block, _ := pem.Decode([]byte(published))
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// strictly connects as a Python of 3.13 and later does by default.
const strictly = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
host, port = sys.argv[2].rsplit(":", 1)
with socket.create_connection((host, int(port)), timeout=5) as plain:
    with context.wrap_socket(plain, server_hostname=host) as s:
        print("accepted", s.getpeercert()["notAfter"])
`

// wantStrict fails the test unless strict clients accept what API servers and etcd serve, as far
// as it is signed by CAs of these common names: Kubespray's of etcd is strict once it is renewed.
func wantStrict(ctx context.Context, t *testing.T, c *cluster.Cluster, cas ...string) {
	t.Helper()
	dir := t.TempDir()
	ca := func(name string, nodes []cluster.Node, paths ...string) string {
		files, err := c.ReadFiles(ctx, nodes[0].Name, paths...)
		if err != nil || len(files) == 0 {
			t.Fatalf("no CA of %s: %v", name, err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, files[len(files)-1].Data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	try := func(ca, address string) {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address) // verified below
		if err != nil {
			t.Errorf("%s: %v", address, err)
			return
		}
		var leaf bytes.Buffer
		served := conn.(*tls.Conn).ConnectionState().PeerCertificates //nolint:forcetypeassert // of tls.Dialer
		_ = conn.Close()
		_ = pem.Encode(&leaf, &pem.Block{Type: "CERTIFICATE", Bytes: served[0].Raw})
		file := filepath.Join(dir, "leaf")
		if err := os.WriteFile(file, leaf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(ctx, "openssl", "verify", "-x509_strict", "-CAfile", ca, file).CombinedOutput(); err != nil {
			t.Errorf("%s: openssl: %s", address, out)
		}
		if out, err := exec.CommandContext(ctx, "python3", "-c", strictly, ca, address).CombinedOutput(); err != nil {
			t.Errorf("%s: Python: %s", address, out)
		}
	}
	if slices.Contains(cas, "kubernetes") {
		of := ca("cluster", c.ControlPlanes(), authorityFiles[0])
		for _, n := range c.ControlPlanes() {
			try(of, net.JoinHostPort(n.IP.String(), "6443"))
		}
	}
	if slices.Contains(cas, "etcd-ca") {
		of := ca("etcd", c.EtcdMembers(), authorityFiles[2:]...)
		for _, n := range c.EtcdMembers() {
			try(of, net.JoinHostPort(n.IP.String(), "2379"))
		}
	}
}
