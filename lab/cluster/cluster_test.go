package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func testCluster(t *testing.T, spec Spec) *Cluster {
	t.Helper()
	spec, err := spec.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{env: Env{StateDir: t.TempDir()}}
	c.Spec, c.Subnet = spec, netip.MustParsePrefix("10.201.7.0/24")
	c.state.Nodes = plan(spec, c.Subnet)
	return c
}

func TestSpec(t *testing.T) {
	spec, err := Spec{KubernetesVersion: "v1.32.13"}.withDefaults()
	if err != nil || spec.Name != "lab" || spec.ControlPlanes != 1 || spec.Etcd != EtcdHost || spec.KubernetesVersion != "1.32.13" {
		t.Errorf("got %+v, %v", spec, err)
	}
	for name, bad := range map[string]Spec{
		"path in the name": {Name: "../x"},
		"long name":        {Name: strings.Repeat("x", 21)},
		"even":             {ControlPlanes: 2},
		"etcd":             {Etcd: "docker"},
		"workers":          {Workers: -1},
	} {
		if _, err := bad.withDefaults(); err == nil {
			t.Errorf("%s: %+v is accepted", name, bad)
		}
	}
}

func TestPlan(t *testing.T) {
	c := testCluster(t, Spec{Name: "x", ControlPlanes: 3, Workers: 1})
	var got []string
	for _, n := range c.Nodes() {
		got = append(got, n.Container+" "+n.IP.String()+" "+n.PodCIDR)
	}
	want := []string{
		"lab-x-cp1 10.201.7.11 10.233.64.0/24", "lab-x-cp2 10.201.7.12 10.233.65.0/24", "lab-x-cp3 10.201.7.13 10.233.66.0/24",
		"lab-x-w1 10.201.7.101 10.233.67.0/24",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNodeFiles(t *testing.T) {
	secrets, err := newSecrets()
	if err != nil {
		t.Fatal(err)
	}
	files := func(spec Spec, node string) map[string]string {
		c := testCluster(t, spec)
		n, err := c.Node(node)
		if err != nil {
			t.Fatal(err)
		}
		list, err := renderer{c, secrets}.nodeFiles(n, []byte("ssh-ed25519 key"))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, f := range list {
			out[f.Path] = string(f.Data)
		}
		return out
	}
	const config = "/etc/kubernetes/kubeadm-config.yaml"

	host := files(Spec{ControlPlanes: 3, Workers: 1}, "cp2")
	for _, want := range []string{"advertiseAddress: \"10.201.7.12\"", "node-cp2.pem", "https://10.201.7.13:2379", "controlPlaneEndpoint: \"10.201.7.11:6443\"", "NoSchedule", "- \"10.233.0.1\""} {
		if !strings.Contains(host[config], want) {
			t.Errorf("%q is missing in cp2's %s:\n%s", want, config, host[config])
		}
	}
	for _, path := range []string{"/etc/etcd.env", "/etc/ssl/etcd/openssl.conf", "/etc/kubernetes/kubeadm-controlplane.yaml", "/etc/kubernetes/ssl/secrets_encryption.yaml"} {
		if host[path] == "" {
			t.Errorf("cp2 has no %s", path)
		}
	}
	stacked := files(Spec{Etcd: EtcdKubeadm, CertificateValidity: 3 * time.Minute}, "cp1")
	if stacked["/etc/etcd.env"] != "" || !strings.Contains(stacked[config], "dataDir: /var/lib/etcd") || !strings.Contains(stacked[config], "certificateValidityPeriod: 3m0s") || strings.Contains(stacked[config], "NoSchedule") {
		t.Errorf("a lone control plane with stacked etcd has\n%s", stacked[config])
	}
	worker := files(Spec{Workers: 1}, "w1")
	if worker[config] != "" || strings.Contains(worker["/etc/kubernetes/kubeadm-client.conf"], "controlPlane:") || worker["/etc/kubernetes/ssl/secrets_encryption.yaml"] != "" {
		t.Errorf("a worker has what only a control plane may have: %v", worker)
	}
}

func TestSecretsAreFresh(t *testing.T) {
	a, err := newSecrets()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newSecrets()
	if err != nil {
		t.Fatal(err)
	}
	if a.Token == b.Token || a.CertificateKey == b.CertificateKey || a.EncryptionKey == b.EncryptionKey {
		t.Error("two clusters share a secret")
	}
	if !regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`).MatchString(a.Token) {
		t.Errorf("%q is no bootstrap token", a.Token)
	}
}

func TestEtcdPKI(t *testing.T) {
	c := testCluster(t, Spec{ControlPlanes: 1})
	files, err := etcdPKI(c.ControlPlanes(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certs := map[string]*x509.Certificate{}
	for _, f := range files {
		if block, _ := pem.Decode(f.Data); block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			certs[filepath.Base(f.Path)] = cert
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(certs["ca.pem"])
	for name, cn := range map[string]string{"member-cp1.pem": "etcd-member-cp1", "admin-cp1.pem": "etcd-admin-cp1", "node-cp1.pem": "etcd-node-cp1"} {
		cert := certs[name]
		if cert == nil || cert.Subject.CommonName != cn {
			t.Errorf("%s is %v", name, cert)
			continue
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: "10.201.7.11", KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInventory(t *testing.T) {
	c := testCluster(t, Spec{ControlPlanes: 1, Workers: 1})
	out, err := renderer{c: c}.render("inventory.ini", Node{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"cp1 ansible_host=10.201.7.11 ip=10.201.7.11 access_ip=10.201.7.11", "[kube_control_plane]\ncp1\n", "[etcd]\ncp1\n", "[kube_node]\nw1\n",
		"[k8s_cluster:children]", "ansible_user=kubespray",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "ansible_become") {
		t.Error("the inventory decides about become; that is the caller's to do")
	}
}

func TestSaveAndLoad(t *testing.T) {
	c := testCluster(t, Spec{Name: "x", Workers: 1})
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(c.env, "x")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := loaded.Node("w1"); err != nil || n.IP != c.Workers()[0].IP || n.Role != Worker {
		t.Errorf("got %+v, %v", n, err)
	}
	if _, err := Load(c.env, "y"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	if err := os.WriteFile(filepath.Join(c.Dir(), stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(c.env, "x"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a broken state: got %v", err)
	}
}
