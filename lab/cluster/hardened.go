package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// discoveryFile is Kubespray's kubeconfig for joining nodes that cannot read the cluster's
// information without credentials (kubeadm_use_file_discovery).
const discoveryFile = "cluster-info-discovery-kubeconfig.yaml"

// discoveryScript prints the content of discoveryFile. With the token in it, the API server refuses
// the information to kubeadm (403), which is fine; without, it would not know who asks (401), and
// kubeadm would ask again until it gives up (kubeadm v1.34, app/discovery/file).
const discoveryScript = `exec 3>&1 >/dev/null
out=$(mktemp)
kubectl config --kubeconfig "$out" set-cluster kubernetes --server %[1]s --embed-certs --certificate-authority "$conf/ssl/ca.crt"
kubectl config --kubeconfig "$out" set-credentials joining --token %[2]s
kubectl config --kubeconfig "$out" set-context joining --cluster kubernetes --user joining
kubectl config --kubeconfig "$out" use-context joining
{ cat "$out"; rm "$out"; } >&3`

// routesUnit is the service that takes the place of a network plugin between nodes.
const routesUnit = "lab-routes.service"

// withoutAnonymous removes the right that kubeadm gives to requests without credentials, and hands
// to the other nodes what they would have read with it (remove_anonymous_access).
func (b *builder) withoutAnonymous(ctx context.Context) error {
	if !b.c.Spec.Hardened {
		return nil
	}
	script := fmt.Sprintf(discoveryScript, "https://"+b.c.endpoint(), b.r.secrets.Token)
	info, err := b.script(ctx, b.c.ControlPlanes()[0], script)
	if err != nil {
		return err
	}
	_, err = b.c.Kubectl(ctx, "-n", "kube-public", "delete", "rolebinding", "kubeadm:bootstrap-signer-clusterinfo")
	if err != nil {
		return err
	}
	return Each(ctx, b.c.KubernetesNodes()[1:], func(ctx context.Context, n Node) error {
		return b.c.WriteFiles(ctx, n.Name, File{Path: b.c.Spec.ConfigDir + "/" + discoveryFile, Data: info, Mode: 0o600})
	})
}

// startNeighbours starts the neighbours, approves the kubelets' serving certificates, and returns
// when the neighbours answer.
func (b *builder) startNeighbours(ctx context.Context) error {
	if !b.c.Spec.Hardened {
		return nil
	}
	if err := b.startProxy(ctx); err != nil {
		return fmt.Errorf("starting kube-proxy: %w", err)
	}
	neighbours, err := b.r.render("hardened/neighbours.yaml", Node{})
	if err != nil {
		return err
	}
	first := b.c.ControlPlanes()[0].Name
	if _, err := b.c.KubectlOn(ctx, first, bytes.NewReader(neighbours), "apply", "-f", "-"); err != nil {
		return err
	}
	err = Poll(ctx, 2*time.Minute, time.Second, "the kubelets' serving certificates", b.approveServing)
	if err != nil {
		return err
	}
	return Poll(ctx, 3*time.Minute, time.Second, "the neighbours", b.c.CheckNeighbours)
}

// startProxy makes kubeadm's kube-proxy run in the lab. As in Kubespray, it uses the API server on
// its own machine where there is one, or a proxy to it.
func (b *builder) startProxy(ctx context.Context) error {
	first := b.c.ControlPlanes()[0].Name
	if b.c.Spec.LocalProxy {
		config, err := b.c.Kubectl(ctx, "-n", "kube-system", "get", "configmap", "kube-proxy", "-o", "json")
		if err != nil {
			return err
		}
		config = bytes.ReplaceAll(config, []byte("https://"+b.c.endpoint()), []byte(localServer))
		if _, err := b.c.KubectlOn(ctx, first, bytes.NewReader(config), "replace", "-f", "-"); err != nil {
			return err
		}
	}
	patch, err := b.r.render("hardened/kube-proxy.yaml", Node{})
	if err != nil {
		return err
	}
	_, err = b.c.KubectlOn(ctx, first, bytes.NewReader(patch), "-n", "kube-system", "patch", "daemonset", "kube-proxy",
		"--patch-file", "/dev/stdin")
	return err
}

// approveServing approves the kubelets' requests for serving certificates, as an administrator does
// where Kubespray's kubelet-csr-approver is off, and returns nil if each kubelet has a certificate.
func (b *builder) approveServing(ctx context.Context) error {
	out, err := b.c.Kubectl(ctx, "get", "csr", "-o", "json")
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ SignerName string }
			Status   struct{ Conditions []any }
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return err
	}
	for _, r := range list.Items {
		if r.Spec.SignerName != "kubernetes.io/kubelet-serving" || len(r.Status.Conditions) > 0 {
			continue
		}
		if _, err := b.c.Kubectl(ctx, "certificate", "approve", r.Metadata.Name); err != nil {
			return err
		}
	}
	return Each(ctx, b.c.KubernetesNodes(), func(ctx context.Context, n Node) error {
		_, err := b.c.Exec(ctx, n.Name, "test", "-e", "/var/lib/kubelet/pki/kubelet-server-current.pem")
		return err
	})
}

// NodeMetrics is the path of the metrics of all nodes, in the aggregated API of metrics-server.
const NodeMetrics = "/apis/metrics.k8s.io/v1beta1/nodes"

// CheckNeighbours returns nil if all pods of the neighbours are ready, and each API server returns
// the metrics of each node, from the last minute.
func (c *Cluster) CheckNeighbours(ctx context.Context) error {
	for _, name := range []string{"daemonset/kube-proxy", "deployment/coredns", "deployment/metrics-server"} {
		if _, err := c.Kubectl(ctx, "-n", "kube-system", "rollout", "status", "--timeout", "1s", name); err != nil {
			return err
		}
	}
	return Each(ctx, c.ControlPlanes(), func(ctx context.Context, n Node) error {
		out, err := c.KubectlOn(ctx, n.Name, nil, "get", "--raw", NodeMetrics)
		if err != nil {
			return err
		}
		var list struct {
			Items []struct {
				Metadata  struct{ Name string }
				Timestamp time.Time
			}
		}
		if err := json.Unmarshal(out, &list); err != nil {
			return err
		}
		measured := map[string]time.Time{}
		for _, i := range list.Items {
			measured[i.Metadata.Name] = i.Timestamp
		}
		var errs []error
		for _, node := range c.KubernetesNodes() {
			if at := measured[node.KubernetesName]; time.Since(at) > time.Minute {
				errs = append(errs, fmt.Errorf("%s: the metrics of node %s are of %s", n.Name, node.Name, at))
			}
		}
		return errors.Join(errs...)
	})
}

// Resolve returns the address that CoreDNS, asked from a node, has for a name in the cluster.
func (c *Cluster) Resolve(ctx context.Context, node, name string) (string, error) {
	out, err := c.ExecInput(ctx, node, strings.NewReader(query), "python3", "-", name)
	return strings.TrimSpace(string(out)), err
}

// query asks the DNS service for a name's IPv4 address (RFC 1035, section 4).
const query = `import socket, struct, sys
name = b"".join(bytes([len(l)]) + l.encode() for l in sys.argv[1].split(".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1), ("10.233.0.3", 53))
answer = s.recv(512)
if struct.unpack(">H", answer[:2]) != (4711,) or answer[3] & 15 or answer[-6:-4] != b"\0\4":
    sys.exit("no address: %s" % answer.hex())
print(socket.inet_ntoa(answer[-4:]))
`
