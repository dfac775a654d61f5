package cluster

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"strings"
	"text/template"
	"time"
)

//go:embed templates
var templates embed.FS

// secrets are made anew for every cluster and live only in its nodes and in
// this process.
type secrets struct {
	Token          string
	CertificateKey string
	EncryptionKey  string
}

func newSecrets() (secrets, error) {
	id, err := randomString(6)
	if err != nil {
		return secrets{}, err
	}
	secret, err := randomString(16)
	if err != nil {
		return secrets{}, err
	}
	var certificate, encryption [32]byte
	if _, err := rand.Read(certificate[:]); err != nil {
		return secrets{}, err
	}
	if _, err := rand.Read(encryption[:]); err != nil {
		return secrets{}, err
	}
	return secrets{
		Token:          id + "." + secret,
		CertificateKey: hex.EncodeToString(certificate[:]),
		EncryptionKey:  base64.StdEncoding.EncodeToString(encryption[:]),
	}, nil
}

// randomString returns n characters a bootstrap token may have.
func randomString(n int) (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", err
		}
		out[i] = alphabet[k.Int64()]
	}
	return string(out), nil
}

// renderer fills the templates of one cluster's configuration.
type renderer struct {
	c       *Cluster
	secrets secrets
}

// render fills a template for a node.
func (r renderer) render(name string, node Node) ([]byte, error) {
	c := r.c
	kubeNodes := c.Workers()
	if len(kubeNodes) == 0 {
		kubeNodes = c.ControlPlanes()
	}
	cgroups := "cgroupfs"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		cgroups = "systemd"
	}
	var etcdCluster []string
	for _, n := range c.ControlPlanes() {
		etcdCluster = append(etcdCluster, fmt.Sprintf("etcd-%s=https://%s:2380", n.Name, n.IP))
	}
	data := map[string]any{
		"Node": node, "Nodes": c.Nodes(), "ControlPlanes": c.ControlPlanes(), "KubeNodes": kubeNodes,
		"IsControlPlane": node.Role == ControlPlane,
		// As Kubespray does it: a control plane is kept free of other pods
		// only if there is another node for them.
		"Tainted": len(c.Workers()) > 0,
		"Version": c.Spec.KubernetesVersion, "Endpoint": c.endpoint(), "SANs": c.sans(),
		"Validity": duration(c.Spec.CertificateValidity), "HostEtcd": c.Spec.Etcd == EtcdHost, "EtcdType": c.Spec.Etcd,
		"EtcdCluster": strings.Join(etcdCluster, ","), "CgroupDriver": cgroups, "KeyFile": c.KeyFile(),
		"Token": r.secrets.Token, "CertificateKey": r.secrets.CertificateKey, "EncryptionKey": r.secrets.EncryptionKey,
	}
	text, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").
		Funcs(template.FuncMap{"add": func(a, b int) int { return a + b }}).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// sans are the names the API server's certificate is for, as Kubespray lists
// them.
func (c *Cluster) sans() []string {
	names := []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"10.233.0.1", "localhost", "127.0.0.1", "::1",
	}
	for _, n := range c.ControlPlanes() {
		names = append(names, n.Name, "lb-apiserver.kubernetes.local", n.IP.String(), n.Name+".cluster.local")
	}
	seen := map[string]bool{}
	var unique []string
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			unique = append(unique, n)
		}
	}
	return unique
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// nodeFiles are the files a node gets before kubeadm runs on it.
func (r renderer) nodeFiles(n Node, sshKey []byte) ([]File, error) {
	type spec struct {
		template, path string
		mode           int64
		group          string
	}
	list := []spec{
		{"kubelet-config.yaml", "/etc/kubernetes/kubelet-config.yaml", 0o640, ""},
		{"kubelet.env", "/etc/kubernetes/kubelet.env", 0o640, ""},
		{"cni.conflist", "/etc/cni/net.d/10-lab.conflist", 0o644, ""},
	}
	first := n.Name == r.c.state.Nodes[0].Name
	if n.Role == ControlPlane {
		list = append(list,
			spec{"kubeadm-config.yaml", "/etc/kubernetes/kubeadm-config.yaml", 0o640, ""},
			spec{"secrets_encryption.yaml", "/etc/kubernetes/ssl/secrets_encryption.yaml", 0o640, "kube-cert"})
		if !first {
			list = append(list, spec{"kubeadm-join.yaml", "/etc/kubernetes/kubeadm-controlplane.yaml", 0o640, ""})
		}
		if r.c.Spec.Etcd == EtcdHost {
			list = append(list,
				spec{"etcd.env", "/etc/etcd.env", 0o640, ""},
				spec{"etcd.service", "/etc/systemd/system/etcd.service", 0o644, ""},
				spec{"etcd-openssl.conf", "/etc/ssl/etcd/openssl.conf", 0o644, ""})
		}
	} else {
		list = append(list, spec{"kubeadm-join.yaml", "/etc/kubernetes/kubeadm-client.conf", 0o640, ""})
	}
	files := []File{{Path: "/home/kubespray/.ssh/authorized_keys", Data: sshKey, Mode: 0o600, Owner: "kubespray", Group: "kubespray"}}
	for _, s := range list {
		data, err := r.render(s.template, n)
		if err != nil {
			return nil, fmt.Errorf("rendering %s: %w", s.path, err)
		}
		files = append(files, File{Path: s.path, Data: data, Mode: s.mode, Group: s.group})
	}
	return files, nil
}
