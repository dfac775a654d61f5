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

	"github.com/infrapuzzle/kscertctl/lab/image"
)

//go:embed templates
var templates embed.FS

// secrets are new for every cluster and exist only on its nodes and in this process.
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

// randomString returns n characters that are valid in a bootstrap token.
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

// renderer renders the configuration templates of a cluster.
type renderer struct {
	c       *Cluster
	secrets secrets
}

// render renders a template for a node.
func (r renderer) render(name string, node Node) ([]byte, error) {
	c := r.c
	cgroups := "cgroupfs"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		cgroups = "systemd"
	}
	var etcdCluster, eventsCluster, eventsServers []string
	for _, n := range c.EtcdMembers() {
		etcdCluster = append(etcdCluster, fmt.Sprintf("etcd-%s=https://%s:2380", n.Name, n.IP))
		eventsCluster = append(eventsCluster, fmt.Sprintf("etcd-%s-events=https://%s:2382", n.Name, n.IP))
		if c.Spec.EtcdEvents {
			eventsServers = append(eventsServers, fmt.Sprintf("https://%s:2381", n.IP))
		}
	}
	members := map[string]bool{}
	for _, n := range c.EtcdMembers() {
		members[n.Name] = true
	}
	balancer, balanced := c.LoadBalancer()
	// The load balancer accepts all clients; a worker's proxy only local ones.
	proxyListen := fmt.Sprintf(":%d", balancerPort)
	if node.Role == Worker {
		proxyListen = fmt.Sprintf("127.0.0.1:%d", apiPort)
	}
	data := map[string]any{
		"Node": node, "Nodes": c.Nodes(), "ControlPlanes": c.ControlPlanes(), "KubeNodes": c.KubeNodes(),
		"EtcdMembers": c.EtcdMembers(),
		"Members":     members, "EtcdApart": c.Spec.EtcdNodes > 0,
		"IsControlPlane": node.Role == ControlPlane,
		// As in Kubespray: a control plane has a taint unless it is in kube_node.
		"Tainted": !c.Spec.AlsoWorkers,
		"Version": c.Spec.KubernetesVersion, "Endpoint": c.endpoint(), "SANs": c.sans(node),
		"BinDir": c.Spec.BinDir, "ConfigDir": c.Spec.ConfigDir,
		"Balanced": balanced, "Balancer": balancer, "BalancerPort": balancerPort,
		"LocalProxy": c.Spec.LocalProxy, "ProxyListen": proxyListen, "ProxyImage": image.WitnessRef,
		"Validity": duration(c.Spec.CertificateValidity), "HostEtcd": c.Spec.Etcd == EtcdHost, "EtcdType": c.Spec.Etcd,
		"EtcdCluster": strings.Join(etcdCluster, ","), "EventsCluster": strings.Join(eventsCluster, ","),
		"EventsServers": strings.Join(eventsServers, ";"), "EtcdEvents": c.Spec.EtcdEvents, "CgroupDriver": cgroups, "KeyFile": c.KeyFile(),
		"Hardened": c.Spec.Hardened, "KubernetesNodes": c.KubernetesNodes(), "CoreDNS": image.CoreDNSRef,
		"MetricsServer": image.MetricsServerRef, "Discovery": discoveryFile,
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

// sans returns the SANs of a control plane's API server certificate, as Kubespray lists them.
func (c *Cluster) sans(node Node) []string {
	names := []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"10.233.0.1", "localhost", "127.0.0.1", "::1",
	}
	if lb, ok := c.LoadBalancer(); ok {
		names = append(names, lb.Name, lb.Machine.IP.String())
	} else {
		names = append(names, "lb-apiserver.kubernetes.local")
	}
	for _, n := range c.ControlPlanes() {
		names = append(names, n.Name, n.IP.String(), n.Name+".cluster.local")
	}
	seen := map[string]bool{}
	var unique []string
	for _, n := range append(names, node.KubernetesName) {
		if n != "" && !seen[n] {
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

// nodeFiles returns the files that a machine gets before kubeadm runs.
func (r renderer) nodeFiles(n Node, sshKey []byte) ([]File, error) {
	type spec struct {
		template, path string
		mode           int64
		group          string
	}
	var list []spec
	conf := r.c.Spec.ConfigDir
	const proxyConfig = "/etc/haproxy/haproxy.cfg"
	if n.Role.hasKubelet() {
		list = append(list,
			spec{"kubelet-config.yaml", conf + "/kubelet-config.yaml", 0o640, ""},
			spec{"kubelet.env", conf + "/kubelet.env", 0o640, ""},
			spec{"kubelet.service", "/etc/systemd/system/kubelet.service", 0o644, ""},
			spec{"cni.conflist", "/etc/cni/net.d/10-lab.conflist", 0o644, ""})
		if r.c.Spec.Hardened {
			list = append(list, spec{"hardened/routes.service", "/etc/systemd/system/" + routesUnit, 0o644, ""})
		}
	}
	switch n.Role {
	case ControlPlane:
		list = append(list,
			spec{"kubeadm-config.yaml", conf + "/kubeadm-config.yaml", 0o640, ""},
			spec{"secrets_encryption.yaml", conf + "/ssl/secrets_encryption.yaml", 0o640, "kube-cert"})
		if r.c.Spec.Hardened {
			list = append(list,
				spec{"hardened/authentication.yaml", conf + "/apiserver-authentication-config.yaml", 0o640, ""},
				spec{"hardened/audit-policy.yaml", conf + "/audit-policy/apiserver-audit-policy.yaml", 0o640, ""})
		}
		if n.Name != r.c.state.Nodes[0].Name {
			list = append(list, spec{"kubeadm-join.yaml", conf + "/kubeadm-controlplane.yaml", 0o640, ""})
		}
	case Worker:
		list = append(list, spec{"kubeadm-join.yaml", conf + "/kubeadm-client.conf", 0o640, ""})
		if r.c.Spec.LocalProxy {
			list = append(list,
				spec{"haproxy.cfg", proxyConfig, 0o644, ""},
				spec{"haproxy.yaml", conf + "/manifests/haproxy.yml", 0o600, ""})
		}
	case Balancer:
		list = append(list, spec{"haproxy.cfg", proxyConfig, 0o644, ""})
	case EtcdNode:
	}
	if r.c.Spec.Etcd == EtcdHost && r.c.isEtcdMember(n) {
		list = append(list,
			spec{"etcd.env", "/etc/etcd.env", 0o640, ""},
			spec{"etcd.service", "/etc/systemd/system/etcd.service", 0o644, ""},
			spec{"etcd-openssl.conf", "/etc/ssl/etcd/openssl.conf", 0o644, ""})
		if r.c.Spec.EtcdEvents {
			list = append(list,
				spec{"etcd-events.env", "/etc/etcd-events.env", 0o640, ""},
				spec{"etcd-events.service", "/etc/systemd/system/etcd-events.service", 0o644, ""})
		}
	}
	files := []File{{Path: "/home/kubespray/.ssh/authorized_keys", Data: sshKey, Mode: 0o600, Owner: "kubespray",
		Group: "kubespray"}}
	for _, s := range list {
		data, err := r.render(s.template, n)
		if err != nil {
			return nil, fmt.Errorf("rendering %s: %w", s.path, err)
		}
		files = append(files, File{Path: s.path, Data: data, Mode: s.mode, Group: s.group})
	}
	return files, nil
}
