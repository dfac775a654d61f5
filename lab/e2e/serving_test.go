//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestServingRequests: the kubelet's request for a serving certificate after its restart is
// approved, and a request with foreign names under the node's identity is not.
func TestServingRequests(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-serving", ControlPlanes: 1, Workers: 1})
	w1, err := c.Node("w1")
	if err != nil {
		t.Fatal(err)
	}
	shellOutput(ctx, t, c, "w1", "echo 'serverTLSBootstrap: true' >>/etc/kubernetes/kubelet-config.yaml")
	// With the node's own credential, but with a foreign name.
	shellOutput(ctx, t, c, "w1", `cd /tmp
openssl req -new -newkey rsa:2048 -nodes -keyout evil.key -subj '/O=system:nodes/CN=system:node:w1' -addext 'subjectAltName=DNS:w1,DNS:kubernetes.default' -out evil.csr 2>/dev/null
kubectl --kubeconfig /etc/kubernetes/kubelet.conf create -f - <<END
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: too-much}
spec:
  signerName: kubernetes.io/kubelet-serving
  usages: [digital signature, key encipherment, server auth]
  request: $(base64 -w 0 <evil.csr)
END`)
	expireAll(ctx, t, c, expire.Options{Kinds: []expire.Kind{expire.Kubelet}, Nodes: []string{"w1"}, Restart: true})

	o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes")
	o.want(t, 0, "After:   healthy", "too-much, under the name of node w1: it names DNS:kubernetes.default, which is no address of node w1")
	if err := cluster.Poll(ctx, time.Minute, time.Second, "the kubelet to serve a certificate of the cluster's CA", func(ctx context.Context) error {
		_, err := c.Shell(ctx, "w1", `openssl s_client -connect `+w1.IP.String()+`:10250 </dev/null 2>/dev/null | openssl x509 >/tmp/served.pem
openssl verify -CAfile /etc/kubernetes/ssl/ca.crt /tmp/served.pem >/dev/null
test -L /var/lib/kubelet/pki/kubelet-server-current.pem`)
		return err
	}); err != nil {
		t.Error(err)
	}
	if out := shellOutput(ctx, t, c, "cp1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get csr too-much -o jsonpath='{.status}'"); strings.Contains(out, "Approved") {
		t.Errorf("the request with a foreign name was approved: %s", out)
	}
}
