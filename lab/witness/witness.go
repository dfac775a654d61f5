// Package witness plants things in a healthy cluster that a repair must not
// harm, and checks afterwards whether it did: data encrypted with a key on disk,
// a token signed by the service account key, a workload, the CAs. It knows
// nothing about how a repair is done.
package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/image"
)

// namespace holds the planted objects; each is named so too.
const namespace = "witness"

// Witness is what was planted and how the cluster was at that time.
type Witness struct {
	// Value is the content of the planted secret.
	Value string
	// Token is a service account token that outlives the certificates.
	Token string
	// Pod identifies the workload: a new pod or a restarted one differs.
	Pod string
	// Kept maps node and path of what must stay byte-identical to its digest.
	Kept map[string]map[string]string
	// Leaves maps node and path to the fingerprints of the certificates.
	Leaves map[string]map[string][]string
	// Servers maps node and path of kubeconfigs to the API server they name.
	Servers map[string]map[string]string
	// KubeletsKept: the kubelets' client certificates need not be
	// other ones than before. Set it where they were not made to expire.
	KubeletsKept bool
	// CAsRenewed: CA certificates may be other ones than before, for the
	// same keys.
	CAsRenewed bool
	// CAsRotated: those of the cluster and of the front proxy may have other
	// keys, too. EtcdRotated is the same of etcd's.
	CAsRotated, EtcdRotated bool

	c *cluster.Cluster
}

const manifest = `apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s, namespace: %[1]s}
---
apiVersion: v1
kind: Secret
metadata: {name: %[1]s, namespace: %[1]s}
stringData: {value: %[2]s}
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[1]s}
spec:
  nodeName: %[3]s
  serviceAccountName: %[1]s
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - {name: %[1]s, image: %[4]q, imagePullPolicy: Never}
`

// Plant plants the canaries. The cluster must be healthy.
func Plant(ctx context.Context, c *cluster.Cluster) (*Witness, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	w := &Witness{c: c}
	if err := w.plant(ctx); err != nil {
		return nil, fmt.Errorf("planting witnesses in cluster %s: %w", c.Name(), err)
	}
	return w, nil
}

func (w *Witness) plant(ctx context.Context) error {
	value := make([]byte, 24)
	if _, err := rand.Read(value); err != nil {
		return err
	}
	w.Value = hex.EncodeToString(value)
	first := w.c.ControlPlanes()[0].Name
	// A service account is not there the moment its namespace is: the pod
	// may be refused at first.
	err := cluster.Poll(ctx, time.Minute, 500*time.Millisecond, "the witnesses to be accepted",
		func(ctx context.Context) error {
			text := fmt.Sprintf(manifest, namespace, w.Value, w.node().KubernetesName, image.WitnessRef)
			_, err := w.c.KubectlOn(ctx, first, bytes.NewBufferString(text), "apply", "-f", "-")
			return err
		})
	if err != nil {
		return err
	}
	if err := w.AwaitWorkload(ctx); err != nil {
		return err
	}
	token, err := w.c.Kubectl(ctx, "-n", namespace, "create", "token", namespace, "--duration", "8760h")
	if err != nil {
		return err
	}
	w.Token = strings.TrimSpace(string(token))
	if err := w.checkEncrypted(ctx); err != nil {
		return err
	}
	if w.Kept, err = w.keptDigests(ctx); err != nil {
		return err
	}
	return w.remember(ctx)
}

// AwaitWorkload waits until the workload runs and notes which one it is: after
// its node was rebooted, it is another one. The API may still tell of the old one, as
// long as the kubelet cannot talk to it; so the node is asked, too.
func (w *Witness) AwaitWorkload(ctx context.Context) error {
	return cluster.Poll(ctx, 90*time.Second, 500*time.Millisecond, "the workload to run",
		func(ctx context.Context) error {
			var err error
			if w.Pod, err = w.podIdentity(ctx); err != nil {
				return err
			}
			runs, err := w.c.Shell(ctx, w.node().Name, "crictl ps --quiet --no-trunc --name '^"+namespace+"$'")
			if err != nil {
				return err
			}
			if id := strings.TrimSpace(string(runs)); id == "" || !strings.HasSuffix(w.Pod, id) {
				return fmt.Errorf("the API tells of %q, on the node runs %q", w.Pod, id)
			}
			return nil
		})
}

// node is where the workload runs: on a control plane only if that is a worker, too.
func (w *Witness) node() cluster.Node { return w.c.KubeNodes()[0] }

// podIdentity is what changes when the workload is restarted or replaced; it
// fails while the workload doesn't run.
func (w *Witness) podIdentity(ctx context.Context) (string, error) {
	out, err := w.c.Kubectl(ctx, "-n", namespace, "get", "pod", namespace, "-o", "json")
	if err != nil {
		return "", err
	}
	var pod struct {
		Metadata struct{ UID string }
		Status   struct {
			ContainerStatuses []struct {
				Ready       bool
				ContainerID string
			}
		}
	}
	if err := json.Unmarshal(out, &pod); err != nil {
		return "", err
	}
	if len(pod.Status.ContainerStatuses) != 1 || !pod.Status.ContainerStatuses[0].Ready {
		return "", fmt.Errorf("pod %s/%s is not ready", namespace, namespace)
	}
	return pod.Metadata.UID + " " + pod.Status.ContainerStatuses[0].ContainerID, nil
}

// checkEncrypted looks at the secret as it lies in etcd.
func (w *Witness) checkEncrypted(ctx context.Context) error {
	raw, err := w.etcdctl(ctx, w.c.EtcdMembers()[0], "get", "/registry/secrets/"+namespace+"/"+namespace,
		"--print-value-only")
	if err != nil {
		return fmt.Errorf("reading the secret from etcd: %w", err)
	}
	if !bytes.HasPrefix(raw, []byte("k8s:enc:secretbox:")) || bytes.Contains(raw, []byte(w.Value)) {
		return fmt.Errorf("the secret lies in etcd in the clear")
	}
	return nil
}

// etcdctl asks the etcd member on a node, as its administrator.
func (w *Witness) etcdctl(ctx context.Context, n cluster.Node, args ...string) ([]byte, error) {
	script := `if [ -e /etc/etcd.env ]; then
  set -a
  . /etc/etcd.env
else
  d=` + w.c.Spec.ConfigDir + `/ssl/etcd
  export ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT=$d/ca.crt ETCDCTL_CERT=$d/healthcheck-client.crt ETCDCTL_KEY=$d/healthcheck-client.key
fi
`
	return w.c.Shell(ctx, n.Name, script+"etcdctl "+strings.Join(args, " "))
}

// ofEvents has etcdctl ask the member for events, with the credentials of the first one.
const ofEvents = "set -a; . /etc/etcd.env; ETCDCTL_ENDPOINTS=https://127.0.0.1:2381; etcdctl "

func (w *Witness) secretValue(ctx context.Context) (string, error) {
	out, err := w.c.Kubectl(ctx, "-n", namespace, "get", "secret", namespace, "-o", "jsonpath={.data.value}")
	if err != nil {
		return "", err
	}
	value, err := base64.StdEncoding.DecodeString(string(out))
	return string(value), err
}

const stateFile = "witness.json"

// Save keeps the canary in the cluster's state directory for another process.
func (w *Witness) Save() error {
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.c.Dir(), stateFile), data, 0o600)
}

// Load returns the canary that Save kept.
func Load(c *cluster.Cluster) (*Witness, error) {
	data, err := os.ReadFile(filepath.Join(c.Dir(), stateFile))
	if err != nil {
		return nil, fmt.Errorf("cluster %s has no witness: %w", c.Name(), err)
	}
	w := &Witness{c: c}
	if err := json.Unmarshal(data, w); err != nil {
		return nil, fmt.Errorf("reading the witness of cluster %s: %w", c.Name(), err)
	}
	return w, nil
}
