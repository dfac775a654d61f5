//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/image"
)

// TestCAReplaced replaces CAs at once: of a healthy cluster as users of kubeadm do it, and of clusters
// whose CA keys are lost and whose certificates have expired. Each ends healthy: the former CA is nowhere,
// and refused; old tokens work, and so do logs, exec and new pods; nothing else was restarted or drained.
func TestCAReplaced(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		spec     cluster.Spec
		strategy string
		// lost: the keys of the CAs are, and all certificates have expired.
		lost bool
	}{
		{"literal", cluster.Spec{Name: "e2e-new-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}, "literal", false},
		{"literal-expired", cluster.Spec{Name: "e2e-new-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, "literal", true},
		{"host-etcd", cluster.Spec{Name: "e2e-new-3", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, "offline", true},
		{"host-etcd-healthy", cluster.Spec{Name: "e2e-new-4", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}, "offline", false},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-new-5", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, "offline", true},
		{"three-host-etcd", cluster.Spec{Name: "e2e-new-6", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray, LoadBalancer: true}, "offline", true},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-new-7", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, "offline", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			w.CAsRenewed, w.CAsRotated = true, true
			trusting(ctx, t, c)
			if test.spec.ControlPlanes > 1 {
				wantUnchanged(ctx, t, c, func() {
					kscertctl(ctx, t, "ca", "rotate", "-i", c.Inventory(), "--strategy", "literal", "--yes").
						want(t, 7, "the others would be cut off")
				})
			}
			former := shellOutput(ctx, t, c, "cp1", "cat "+authorityFiles[0])
			old, err := credentials(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			started := startTimes(ctx, t, c)
			if test.lost {
				expireAll(ctx, t, c, expire.Options{})
				for _, n := range c.ControlPlanes() {
					shellOutput(ctx, t, c, n.Name, "rm /etc/kubernetes/ssl/ca.key /etc/kubernetes/ssl/front-proxy-ca.key")
				}
				kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 5, "a CA key is missing", "--strategy offline")
			}
			command := []string{"ca", "rotate", "-i", c.Inventory(), "--strategy", test.strategy, "--yes"}
			patched := test.spec.Etcd == cluster.EtcdHost
			if patched {
				command = append(command, "--patch-ca-bundles")
			}
			before := filesDigest(ctx, t, c)
			stateDir := t.TempDir()
			replace := func() outcome {
				t.Helper()
				o := kscertctlIn(ctx, t, stateDir, command...)
				o.want(t, 0, "After:   healthy", "pods of witness have started with the former CA", "trusting-")
				t.Logf("%s: %.0f s", test.name, o.took.Seconds())
				wantNoKeys(ctx, t, c, o)
				return o
			}
			o := replace()
			if !patched {
				o.want(t, 0, "the caBundle of validatingwebhookconfigurations hooks (/webhooks/1/clientConfig/caBundle) has the former CA")
				shellOutput(ctx, t, c, "cp1", "kubectl --kubeconfig /etc/kubernetes/admin.conf delete validatingwebhookconfiguration hooks")
			}
			wantRestarted(ctx, t, c, started)
			wantNowhere(ctx, t, c, former)
			wantRefused(ctx, t, c, old)
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the witness is not content: %v", err)
			}
			wantUsable(ctx, t, c)
			discoveryHash(ctx, t, c)
			wantHealthy(ctx, t, c)
			if test.name == "literal" {
				kscertctlIn(ctx, t, stateDir, "rollback", "--yes").want(t, 0, "After:   healthy")
				if diff := before.Diff(filesDigest(ctx, t, c)); len(diff) > 0 {
					t.Errorf("files differ after the rollback:\n%s", strings.Join(diff, "\n"))
				}
				discoveryHash(ctx, t, c)
				wantUsable(ctx, t, c)
				wantHealthy(ctx, t, c)
			}
			if test.spec.ControlPlanes == 1 {
				rejoin(ctx, t, c, discoveryHash(ctx, t, c))
				wantHealthy(ctx, t, c)
			}
		})
	}
}

// workloads trust the CA of the cluster, as those of kube-system do, and a webhook that embeds it.
const workloads = `apiVersion: apps/v1
kind: %[1]s
metadata: {name: trusting, namespace: %[2]s}
spec:
  selector: {matchLabels: {app: trusting}}
  template:
    metadata: {labels: {app: trusting}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      containers:
      - {name: trusting, image: %[3]q, imagePullPolicy: Never}
---
`

const hooks = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hooks}
webhooks:
- {name: first.example.com, admissionReviewVersions: [v1], sideEffects: None, clientConfig: {url: "https://127.0.0.1:1/"}}
- {name: second.example.com, admissionReviewVersions: [v1], sideEffects: None, clientConfig: {url: "https://127.0.0.1:1/", caBundle: %s}}
`

// trusting plants workloads in kube-system and elsewhere, a pod that no controller replaces, and a webhook.
func trusting(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	use(ctx, t, c).end(ctx, t) // its pod stays
	text := ""
	for _, of := range [][2]string{{"DaemonSet", "kube-system"}, {"Deployment", "kube-system"}, {"Deployment", "witness"}} {
		text += fmt.Sprintf(workloads, of[0], of[1], image.WitnessRef)
	}
	text += fmt.Sprintf(hooks, strings.TrimSpace(shellOutput(ctx, t, c, "cp1", "base64 -w0 "+authorityFiles[0])))
	if _, err := c.KubectlOn(ctx, "cp1", strings.NewReader(text), "create", "-f", "-"); err != nil { // apply would keep the caBundle in an annotation
		t.Fatal(err)
	}
	shellOutput(ctx, t, c, "cp1", `export KUBECONFIG=/etc/kubernetes/admin.conf
for of in kube-system/daemonset kube-system/deployment witness/deployment; do
  kubectl -n ${of%/*} rollout status ${of#*/}/trusting --timeout=2m
done`)
}

// startTimes are the start times of pods that trust the CA, by namespace and kind of owner.
func startTimes(ctx context.Context, t *testing.T, c *cluster.Cluster) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(shellOutput(ctx, t, c, "cp1", `kubectl --kubeconfig /etc/kubernetes/admin.conf get pods -A -l app=trusting -o 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.ownerReferences[0].kind} {.status.startTime}{"\n"}{end}'`)) {
		of, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[of] = at
	}
	return out
}

// wantRestarted fails the test unless the pods of kube-system have restarted, and no others.
func wantRestarted(ctx context.Context, t *testing.T, c *cluster.Cluster, before map[string]string) {
	t.Helper()
	now := startTimes(ctx, t, c)
	if len(before) != 3 || len(now) != 3 {
		t.Fatalf("pods were %v, are %v", before, now)
	}
	for of, at := range before {
		if (now[of] != at) != strings.HasPrefix(of, "kube-system/") {
			t.Errorf("%s started at %s, and now %s", of, at, now[of])
		}
	}
}

// wantUsable fails the test unless a new pod is scheduled and runs, and kubectl logs and exec work.
func wantUsable(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	shellOutput(ctx, t, c, "cp1", fmt.Sprintf(`export KUBECONFIG=/etc/kubernetes/admin.conf
kubectl -n witness delete pod scheduled --ignore-not-found --wait
kubectl -n witness run scheduled --image=%s --image-pull-policy=Never --restart=Never --overrides='{"spec":{"hostNetwork":true,"terminationGracePeriodSeconds":1}}'
kubectl -n witness wait pod scheduled --for=condition=Ready --timeout=2m`, image.WitnessRef))
	err := cluster.Poll(ctx, time.Minute, 2*time.Second, "logs and exec", func(ctx context.Context) error {
		out, err := c.Shell(ctx, "cp1", `export KUBECONFIG=/etc/kubernetes/admin.conf
kubectl -n witness logs scheduled --tail=1
(timeout 5 kubectl -n witness exec scheduled -- /witness || :) | sed -n 1p`)
		if err == nil && strings.Count(string(out), "witness ") != 2 {
			err = errors.New(string(out))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
