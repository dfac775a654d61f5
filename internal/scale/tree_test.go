//go:build e2e

package scale

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// tree writes files below a directory that stands for a node's root.
type tree struct {
	tb   testing.TB
	root string
}

func (t tree) write(path string, data []byte) {
	t.tb.Helper()
	path = filepath.Join(t.root, path)
	must(t.tb, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t.tb, os.WriteFile(path, data, 0o600))
}

// pair writes a certificate and its key: "ca" to ca.crt and ca.key, "ca.pem" to
// ca.pem and ca-key.pem.
func (t tree) pair(path string, p testpki.Pair) {
	t.tb.Helper()
	if base, ok := strings.CutSuffix(path, ".pem"); ok {
		t.write(path, p.Certificate)
		t.write(base+"-key.pem", p.Key)
		return
	}
	t.write(path+".crt", p.Certificate)
	t.write(path+".key", p.Key)
}

// kubeconfig writes one with an embedded client certificate.
func (t tree) kubeconfig(path string, ca, client testpki.Pair) {
	t.tb.Helper()
	b64 := base64.StdEncoding.EncodeToString
	t.write(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: cluster.local
  cluster:
    certificate-authority-data: %s
    server: https://127.0.0.1:6443
contexts:
- name: user@cluster.local
  context:
    cluster: cluster.local
    user: user
current-context: user@cluster.local
users:
- name: user
  user:
    client-certificate-data: %s
    client-key-data: %s
`, b64(ca.Certificate), b64(client.Certificate), b64(client.Key)))
}

// controlPlaneTree is a control plane of Kubespray's with etcd on the host.
func controlPlaneTree(tb testing.TB, dir string) string {
	tb.Helper()
	t := tree{tb, filepath.Join(dir, "control-plane")}
	const conf, etcd = "/etc/kubernetes", "/etc/ssl/etcd/ssl"
	ca, front, etcdCA := testpki.Authority(tb, "kubernetes"), testpki.Authority(tb, "front-proxy-ca"), testpki.Authority(tb, "etcd-ca")
	leaf := func(name string) testpki.Leaf {
		return testpki.Leaf{CommonName: name, DNSNames: []string{name, "localhost"}}
	}

	t.pair(conf+"/ssl/ca", ca)
	t.pair(conf+"/ssl/front-proxy-ca", front)
	t.write(conf+"/ssl/sa.key", ca.Issue(tb, leaf("sa")).Key)
	t.write(conf+"/ssl/sa.pub", []byte("its public half"))
	for _, name := range []string{"apiserver", "apiserver-kubelet-client"} {
		t.pair(conf+"/ssl/"+name, ca.Issue(tb, leaf(name)))
	}
	t.pair(conf+"/ssl/front-proxy-client", front.Issue(tb, leaf("front-proxy-client")))
	must(tb, os.Symlink("ssl", filepath.Join(t.root, conf, "pki")))
	t.pair(etcd+"/ca.pem", etcdCA)
	for _, name := range []string{"member-cp1", "admin-cp1", "node-cp1"} {
		t.pair(etcd+"/"+name+".pem", etcdCA.Issue(tb, leaf(name)))
	}
	for _, name := range []string{"admin", "super-admin", "controller-manager", "scheduler"} {
		t.kubeconfig(conf+"/"+name+".conf", ca, ca.Issue(tb, leaf(name)))
	}
	t.write(conf+"/kubeadm-config.yaml", fmt.Appendf(nil, "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncertificatesDir: %s%s/ssl\n", t.root, conf))
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		t.write(conf+"/manifests/"+name+".yaml", fmt.Appendf(nil, "spec:\n  containers:\n  - command:\n    - %s\n    - --advertise-address=127.0.0.1\n", name))
	}
	t.kubelet(ca)
	return t.root
}

func workerTree(tb testing.TB, dir string) string {
	tb.Helper()
	t := tree{tb, filepath.Join(dir, "worker")}
	ca := testpki.Authority(tb, "kubernetes")
	t.write("/etc/kubernetes/ssl/ca.crt", ca.Certificate)
	t.kubelet(ca)
	return t.root
}

// kubelet writes the files that every node has.
func (t tree) kubelet(ca testpki.Pair) {
	t.tb.Helper()
	const dir = "/var/lib/kubelet/pki"
	t.write("/etc/kubernetes/kubelet.conf", fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: default
clusters: [{name: default, cluster: {server: "https://127.0.0.1:6443"}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
users:
- name: default
  user:
    client-certificate: %[1]s/kubelet-client-current.pem
    client-key: %[1]s/kubelet-client-current.pem
`, t.root+dir))
	t.write("/etc/kubernetes/kubelet.env", []byte("KUBELET_ADDRESS=\"--node-ip=127.0.0.1\"\n"))
	client := ca.Issue(t.tb, testpki.Leaf{CommonName: "system:node:node", Organization: "system:nodes"})
	t.write(dir+"/kubelet-client-current.pem", slices.Concat(client.Certificate, client.Key))
	t.pair(dir+"/kubelet", ca.Issue(t.tb, testpki.Leaf{CommonName: "node"}))
}
