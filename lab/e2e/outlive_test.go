//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/image"
)

// TestOldCertificatesAreInNoUse renews certificates that expire in minutes, lets the old ones
// expire, and then uses every credential: whatever still uses an old certificate fails.
func TestOldCertificatesAreInNoUse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		// left is the remaining validity of the old ones, longer than a renewal takes.
		left time.Duration
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-outlive-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, 4 * time.Minute},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-outlive-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm, LoadBalancer: true}, 8 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 25*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			aggregate(ctx, t, c)
			// Kubelets renew by themselves, at once if less than a fifth of the validity is
			// left.
			end := time.Now().Add(test.left)
			expireAll(ctx, t, c, expire.Options{NotAfter: end})
			w.KubeletsKept = true
			kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Route:   renew", "After:   healthy")
			if !time.Now().Before(end) {
				t.Fatalf("the renewal took longer than the old certificates lived, %s", test.left)
			}
			time.Sleep(time.Until(end.Add(5 * time.Second)))
			for _, n := range c.ControlPlanes() {
				works(ctx, t, c, n)
			}
			if err := w.Verify(ctx); err != nil {
				t.Errorf("verification failed: %v", err)
			}
		})
	}
}

// aggregated is an API server in a pod, aggregated by the cluster's.
const aggregated = `apiVersion: v1
kind: Pod
metadata: {name: aggregated, namespace: witness}
spec:
  nodeName: %[1]s
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - {name: aggregated, image: %[3]q, imagePullPolicy: Never, args: [serve, ":8443", witness.example/v1]}
---
apiVersion: v1
kind: Service
metadata: {name: aggregated, namespace: witness}
spec: {type: ExternalName, externalName: "%[2]s", ports: [{port: 8443}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.witness.example}
spec:
  group: witness.example
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 10
  insecureSkipTLSVerify: true
  service: {name: aggregated, namespace: witness, port: 8443}
`

const aggregatedPath = "/apis/witness.example/v1"

func aggregate(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	n := append(c.Workers(), c.ControlPlanes()...)[0]
	text := fmt.Sprintf(aggregated, n.KubernetesName, n.IP, image.WitnessRef)
	if _, err := c.KubectlOn(ctx, c.ControlPlanes()[0].Name, strings.NewReader(text), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.ControlPlanes() {
		if err := cluster.Poll(ctx, 2*time.Minute, time.Second, "the aggregated API", func(ctx context.Context) error {
			_, err := c.KubectlOn(ctx, n.Name, nil, "get", "--raw", aggregatedPath)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// works uses every credential of a control plane: the API server's for kubelets (logs),
// aggregated servers and etcd (a write), and those of the scheduler and the controller manager
// (a deployment's pod starts).
func works(ctx context.Context, t *testing.T, c *cluster.Cluster, n cluster.Node) {
	t.Helper()
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := c.KubectlOn(ctx, n.Name, nil, args...)
		if err != nil {
			t.Errorf("on %s: kubectl %s: %v", n.Name, strings.Join(args, " "), err)
		}
		return string(out)
	}
	if out := kubectl("-n", "witness", "logs", "witness", "--tail=1"); !strings.HasPrefix(out, "witness ") {
		t.Errorf("on %s: logs are %q", n.Name, out)
	}
	kubectl("-n", "witness", "create", "configmap", "after-"+n.Name, "--from-literal=a=b")

	var list struct{ Presented string }
	if err := json.Unmarshal([]byte(kubectl("get", "--raw", aggregatedPath)), &list); err != nil {
		t.Errorf("on %s: the aggregated API: %v", n.Name, err)
	}
	file, err := c.Shell(ctx, n.Name, "cat /etc/kubernetes/ssl/front-proxy-client.crt")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	if block == nil {
		t.Fatalf("on %s: no front-proxy-client.crt", n.Name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(cert.Raw); list.Presented != hex.EncodeToString(sum[:]) {
		t.Errorf("on %s: the API server presented %s to an aggregated one, but the file has another that expires at %s", n.Name, list.Presented, cert.NotAfter)
	}

	name := "scheduled-" + n.Name
	kubectl("-n", "witness", "create", "deployment", name, "--image="+image.WitnessRef)
	kubectl("-n", "witness", "wait", "--for=condition=Available", "deployment/"+name, "--timeout=60s")
}
