//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestPartOfAPlan renews three control planes and two workers in selected parts and orders.
// Its rows build on each other.
func TestPartOfAPlan(t *testing.T) { //nolint:tparallel // its rows build on each other
	t.Parallel()
	ctx := testContext(t, 30*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-part", ControlPlanes: 3, Workers: 2, Etcd: cluster.EtcdKubeadm})
	w := plant(ctx, t, c)
	w.KubeletsKept = true
	soon := time.Now().Add(5 * 24 * time.Hour)
	run := func(t *testing.T, args ...string) outcome {
		t.Helper()
		return kscertctl(ctx, t, append([]string{"run", "-i", c.Inventory(), "--yes"}, args...)...)
	}

	// kubeadm drops URIs when it renews.
	const name = "URI:spiffe://cluster.test/apiserver"
	shellOutput(ctx, t, c, "cp1", `cd /etc/kubernetes/ssl
names=$(openssl x509 -in apiserver.crt -noout -ext subjectAltName | tail -n +2 | tr -d ' ' | sed 's/IPAddress:/IP:/g')
openssl req -new -key apiserver.key -subj /CN=kube-apiserver -out /tmp/request
printf 'subjectAltName=%s,`+name+`\nextendedKeyUsage=serverAuth\n' "$names" >/tmp/extensions
openssl x509 -req -in /tmp/request -CA ca.crt -CAkey ca.key -set_serial 77 -days 5 -extfile /tmp/extensions -out apiserver.crt`)
	t.Run("a SAN that would be lost stops the run", func(t *testing.T) {
		before := filesDigest(ctx, t, c)
		run(t, "--limit", "cp1").want(t, 8, "would lose these SANs: "+name, "--accept-san-loss "+name)
		for _, line := range before.Diff(filesDigest(ctx, t, c)) {
			if !strings.Contains(line, ": d ") { // the staging directory was created and removed
				t.Errorf("after it was refused: %s", line)
			}
		}
	})
	t.Run("losing a SAN is accepted", func(t *testing.T) {
		run(t, "--limit", "cp1", "--accept-san-loss", name).want(t, 0, "apiserver.crt is no longer for")
		if out := shellOutput(ctx, t, c, "cp1", "openssl x509 -in /etc/kubernetes/ssl/apiserver.crt -noout -text -checkend 2592000"); strings.Contains(out, "spiffe") {
			t.Errorf("cp1 has\n%s", out)
		}
	})

	copied := filepath.Join(t.TempDir(), "config")
	expireAll(ctx, t, c, expire.Options{NotAfter: soon})
	if err := os.WriteFile(copied, []byte(shellOutput(ctx, t, c, "cp1", "cat /etc/kubernetes/admin.conf")), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("one control plane", func(t *testing.T) {
		before := filesDigest(ctx, t, c)
		run(t, "--limit", "cp2").want(t, 0, "renew-certs-cp2: done")
		diff := before.Diff(filesDigest(ctx, t, c))
		for _, line := range diff {
			if !strings.Contains(line, "cp2:") {
				t.Errorf("outside the limit: %s", line)
			}
		}
		if len(diff) == 0 {
			t.Error("nothing was renewed")
		}
	})
	t.Run("without the check for it", func(t *testing.T) {
		o := run(t, "--limit", "cp3", "--skip-phases", "cluster", "--refresh-kubeconfig", copied)
		o.want(t, 0, "gate-api-server-cp3: done", copied+" was not updated")
		if strings.Contains(o.stderr, "gate-cluster") {
			t.Errorf("the check ran:\n%s", o.stderr)
		}
	})
	t.Run("two at a time, that stay", func(t *testing.T) {
		expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.Etcd, expire.APIServer}, NotAfter: soon})
		o := run(t, "--max-unavailable", "2", "--stable-for", "3s", "--refresh-kubeconfig", copied)
		o.want(t, 0, "limited to 1 at a time (2 requested)", "the gate must hold without interruption", "After:   healthy")
		usable(ctx, t, c, copied)
	})
	t.Run("three at a time where no member of etcd is touched", func(t *testing.T) {
		expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.Scheduler}, NotAfter: soon})
		run(t, "--max-unavailable", "3").want(t, 0, "renew-certs: done", "After:   healthy")
	})

	t.Run("workers in batches, one of which cannot start", func(t *testing.T) {
		const broken = "/etc/systemd/system/kubelet.service.d/90-broken.conf"
		expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"w1", "w2"}, Restart: true})
		shellOutput(ctx, t, c, "w1", "mkdir -p "+filepath.Dir(broken)+"; printf '[Service]\nExecStartPre=/bin/false\n' >"+broken+"; systemctl daemon-reload")
		// The certificate of w1 is new, but its kubelet was not restarted: resume detects it.
		retried := func(o outcome) {
			shellOutput(ctx, t, c, "w1", "rm "+broken+"; systemctl daemon-reload")
			kscertctlIn(ctx, t, o.stateDir, "resume").want(t, 0, "After:   healthy")
		}
		// Ansible stops after a batch in which all hosts fail.
		alone := run(t, "--serial", "1")
		alone.want(t, 8, "failed on w1, and never ran on w2", "the kubelet does not start")
		retried(alone)

		expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"w1", "w2"}, Restart: true})
		shellOutput(ctx, t, c, "w1", "printf '[Service]\nExecStartPre=/bin/false\n' >"+broken+"; systemctl daemon-reload")
		inBatches := run(t, "--serial", "2")
		inBatches.want(t, 8, "failed on w1", "the kubelet does not start")
		if out := shellOutput(ctx, t, c, "w2", "openssl x509 -in /var/lib/kubelet/pki/kubelet-client-current.pem -noout -checkend 86400 || true"); !strings.Contains(out, "will not expire") {
			t.Errorf("w2, in the batch of the failed one: %s", out)
		}
		retried(inBatches)
	})
	if err := w.Verify(ctx); err != nil {
		t.Errorf("verification failed: %v", err)
	}
}

// usable sends a request to the first API server with the credential of a kubeconfig, which
// must be that of admin.conf.
func usable(ctx context.Context, t *testing.T, c *cluster.Cluster, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config, err := credentialsOf(text)
	if err != nil {
		t.Fatal(err)
	}
	now, err := credentials(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	same := func(a, b tls.Certificate) bool { return string(a.Certificate[0]) == string(b.Certificate[0]) }
	if !same(config.Certificates[0], now.Certificates[0]) {
		t.Errorf("%s does not hold the certificate of admin.conf", path)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	if err := get(ctx, client, "https://"+c.ControlPlanes()[0].IP.String()+":6443/api/v1/nodes"); err != nil {
		t.Error(err)
	}
}
