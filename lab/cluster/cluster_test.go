package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
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
	want := Spec{
		Name: "lab", ControlPlanes: 1, AlsoWorkers: true, Etcd: EtcdHost, BinDir: "/usr/local/bin", ConfigDir: "/etc/kubernetes", KubernetesVersion: "1.32.13",
		Runtime: ContainerdDebian,
	}
	if err != nil || !reflect.DeepEqual(spec, want) {
		t.Errorf("got %+v, %v, want %+v", spec, err, want)
	}
	for name, bad := range map[string]Spec{
		"a path as name":          {Name: "../x"},
		"long name":               {Name: strings.Repeat("x", 21)},
		"even":                    {ControlPlanes: 2},
		"etcd":                    {Etcd: "docker"},
		"like nothing":            {Like: "kops"},
		"workers":                 {Workers: -1},
		"etcd nodes":              {EtcdNodes: 2},
		"stacked and not":         {Etcd: EtcdKubeadm, EtcdNodes: 3},
		"two ways":                {Workers: 1, LoadBalancer: true, LocalProxy: true},
		"runtime":                 {Runtime: "rkt"},
		"relative path":           {BinDir: "opt/bin"},
		"a directory with spaces": {ConfigDir: "/etc/my cluster"},
		"a name of no node":       {KubernetesNames: map[string]string{"w1": "x"}},
		"a name of an etcd node":  {EtcdNodes: 3, KubernetesNames: map[string]string{"etcd1": "x"}},
		"long node name":          {KubernetesNames: map[string]string{"cp1": strings.Repeat("x", 21)}},
	} {
		if _, err := bad.withDefaults(); err == nil {
			t.Errorf("%s: %+v is accepted", name, bad)
		}
	}
}

func TestPlan(t *testing.T) {
	c := testCluster(t, Spec{Name: "x", ControlPlanes: 3, Workers: 1, EtcdNodes: 1, LoadBalancer: true, KubernetesNames: map[string]string{"w1": "beta"}})
	var got []string
	for _, n := range c.Machines() {
		got = append(got, strings.TrimSpace(strings.Join([]string{n.Container, string(n.Role), n.IP.String(), n.KubernetesName, n.PodCIDR}, " ")))
	}
	want := []string{
		"lab-x-cp1 control-plane 10.201.7.11 cp1 10.233.64.0/24",
		"lab-x-cp2 control-plane 10.201.7.12 cp2 10.233.65.0/24",
		"lab-x-cp3 control-plane 10.201.7.13 cp3 10.233.66.0/24",
		"lab-x-w1 worker 10.201.7.101 beta 10.233.67.0/24",
		"lab-x-etcd1 etcd 10.201.7.31",
		"lab-x-lb load-balancer 10.201.7.10",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestGroups checks the members of Kubespray's groups.
func TestGroups(t *testing.T) {
	for _, test := range []struct {
		name                               string
		spec                               Spec
		nodes, kubernetes, kubeNodes, etcd string
	}{
		{"usual", Spec{Workers: 1}, "cp1 w1", "cp1 w1", "w1", "cp1"},
		{"no workers", Spec{}, "cp1", "cp1", "cp1", "cp1"},
		{"also workers", Spec{Workers: 1, AlsoWorkers: true}, "cp1 w1", "cp1 w1", "cp1 w1", "cp1"},
		{"etcd apart", Spec{Workers: 1, EtcdNodes: 3}, "cp1 w1 etcd1 etcd2 etcd3", "cp1 w1", "w1", "etcd1 etcd2 etcd3"},
		{"load balancer", Spec{Workers: 1, LoadBalancer: true}, "cp1 w1", "cp1 w1", "w1", "cp1"},
	} {
		c := testCluster(t, test.spec)
		for _, group := range []struct {
			name, want string
			got        []Node
		}{
			{"nodes", test.nodes, c.Nodes()},
			{"Kubernetes nodes", test.kubernetes, c.KubernetesNodes()},
			{"kube_node", test.kubeNodes, c.KubeNodes()},
			{"etcd", test.etcd, c.EtcdMembers()},
		} {
			if got := strings.Join(names(group.got), " "); got != group.want {
				t.Errorf("%s: the %s are %q, want %q", test.name, group.name, got, group.want)
			}
		}
	}
}

// TestServer checks the URL in a node's kubeconfigs, Kubespray's kube_apiserver_endpoint.
func TestServer(t *testing.T) {
	for _, test := range []struct {
		name                 string
		spec                 Spec
		controlPlane, worker string
	}{
		{"directly", Spec{Workers: 1}, "https://127.0.0.1:6443", "https://10.201.7.11:6443"},
		{"local proxy", Spec{Workers: 1, LocalProxy: true}, "https://127.0.0.1:6443", "https://localhost:6443"},
		{"load balancer", Spec{Name: "x", Workers: 1, LoadBalancer: true}, "https://api.x.test:8443", "https://api.x.test:8443"},
	} {
		c := testCluster(t, test.spec)
		if got := c.server(c.ControlPlanes()[0]); got != test.controlPlane {
			t.Errorf("%s: a control plane uses %s, want %s", test.name, got, test.controlPlane)
		}
		if got := c.server(c.Workers()[0]); got != test.worker {
			t.Errorf("%s: a worker uses %s, want %s", test.name, got, test.worker)
		}
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
	balanced := files(Spec{Name: "x", ControlPlanes: 3, Workers: 1, LoadBalancer: true, AlsoWorkers: true, KubernetesNames: map[string]string{"cp1": "alpha"}}, "cp1")
	for _, want := range []string{"controlPlaneEndpoint: \"api.x.test:8443\"", "- \"api.x.test\"", "- \"10.201.7.10\"", "name: \"alpha\"", "- \"alpha\""} {
		if !strings.Contains(balanced[config], want) {
			t.Errorf("%q is missing behind a load balancer in cp1's\n%s", want, balanced[config])
		}
	}
	if strings.Contains(balanced[config], "NoSchedule") || strings.Contains(balanced[config], "lb-apiserver") {
		t.Errorf("a control plane that is a worker, behind a load balancer with a name of its own, has\n%s", balanced[config])
	}
	if lb := files(Spec{ControlPlanes: 3, LoadBalancer: true}, "lb"); len(lb) != 2 || !strings.Contains(lb["/etc/haproxy/haproxy.cfg"], "bind :8443") || !strings.Contains(lb["/etc/haproxy/haproxy.cfg"], "cp3 10.201.7.13:6443") {
		t.Errorf("a load balancer has %v", lb)
	}
	apart := files(Spec{EtcdNodes: 3}, "cp1")
	if apart["/etc/etcd.env"] != "" || !strings.Contains(apart[config], "https://10.201.7.33:2379") || strings.Contains(apart[config], "https://10.201.7.11:2379") {
		t.Errorf("a control plane without etcd has\n%s", apart[config])
	}
	if etcd := files(Spec{EtcdNodes: 3}, "etcd2"); len(etcd) != 4 || !strings.Contains(etcd["/etc/etcd.env"], "etcd-etcd3=https://10.201.7.33:2380") {
		t.Errorf("an etcd node has %v", etcd)
	}
	elsewhere := files(Spec{Workers: 1, BinDir: "/opt/bin", ConfigDir: "/etc/k8s", LocalProxy: true}, "w1")
	for path, text := range elsewhere {
		if strings.Contains(path+text, "/etc/kubernetes") || strings.Contains(text, "=/usr/local/bin/") {
			t.Errorf("with other directories, %s contains\n%s", path, text)
		}
	}
	if !strings.Contains(elsewhere["/etc/haproxy/haproxy.cfg"], "bind 127.0.0.1:6443") || elsewhere["/etc/k8s/manifests/haproxy.yml"] == "" {
		t.Errorf("a worker with a proxy has %v", elsewhere)
	}
	hardened := func(etcd Etcd, node string) map[string]string {
		return files(Spec{ControlPlanes: 3, Workers: 1, Etcd: etcd, Hardened: true}, node)
	}
	cp := hardened(EtcdKubeadm, "cp2")
	for path, wants := range map[string][]string{
		config: {
			"name: authentication-config\n", "tls-min-version\n      value: TLS1.3\n", "name: bind-address\n    value: 127.0.0.1\n", "kind: KubeProxyConfiguration\n",
			"name: audit-policy-file\n", "name: kubelet-certificate-authority\n",
		},
		"/etc/kubernetes/kubelet-config.yaml":                      {"serverTLSBootstrap: true\n", "tlsMinVersion: VersionTLS13\n"},
		"/etc/kubernetes/kubeadm-controlplane.yaml":                {"discovery:\n  file:\n    kubeConfigPath: /etc/kubernetes/cluster-info-discovery-kubeconfig.yaml\n"},
		"/etc/kubernetes/apiserver-authentication-config.yaml":     {"- path: /readyz\n"},
		"/etc/kubernetes/audit-policy/apiserver-audit-policy.yaml": {"kind: Policy\n"},
		"/etc/systemd/system/lab-routes.service":                   {"10.233.64.0/24 via 10.201.7.11\n", "10.233.67.0/24 via 10.201.7.101\n"},
	} {
		for _, want := range wants {
			if !strings.Contains(cp[path], want) {
				t.Errorf("%q is missing on a hardened control plane in %s:\n%s", want, path, cp[path])
			}
		}
	}
	if strings.Contains(cp[config], "anonymous-auth") || strings.Contains(cp["/etc/systemd/system/lab-routes.service"], "via 10.201.7.12\n") {
		t.Errorf("a hardened control plane has\n%s\n%s", cp[config], cp["/etc/systemd/system/lab-routes.service"])
	}
	if env := hardened(EtcdHost, "cp1")["/etc/etcd.env"]; !strings.Contains(env, "\nETCD_TLS_MIN_VERSION=TLS1.3\n") {
		t.Errorf("a hardened member of etcd has\n%s", env)
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
	files, err := etcdPKI(c.EtcdMembers(), c.ControlPlanes(), time.Now())
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
		// Certificates outlive their CA, so a warning about that would be permanent.
		if left := cert.NotAfter.Sub(certs["ca.pem"].NotAfter); left <= 0 || left > time.Minute || cert.NotBefore.After(time.Now()) {
			t.Errorf("%s expires %s after its CA, and starts %s", name, left, cert.NotBefore)
		}
		if cert.KeyUsage != 0 || certs["ca.pem"].KeyUsage != 0 {
			t.Errorf("%s or its CA has a key usage", name)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: "10.201.7.11", KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEtcdFiles checks which of host etcd's files each node has.
func TestEtcdFiles(t *testing.T) {
	c := testCluster(t, Spec{ControlPlanes: 3, Workers: 1, EtcdNodes: 1, LoadBalancer: true})
	files, err := etcdPKI(c.EtcdMembers(), c.ControlPlanes(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string]string{
		"etcd1": "ca-key.pem ca.pem member-etcd1-key.pem member-etcd1.pem admin-etcd1-key.pem admin-etcd1.pem " +
			"node-cp1-key.pem node-cp1.pem node-cp2-key.pem node-cp2.pem node-cp3-key.pem node-cp3.pem",
		"cp2": "ca.pem node-cp2-key.pem node-cp2.pem",
		"w1":  "",
		"lb":  "",
	} {
		n, err := c.Node(node)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range c.etcdFiles(n, files) {
			got = append(got, filepath.Base(f.Path))
		}
		expected := strings.Fields(want)
		slices.Sort(got)
		slices.Sort(expected)
		if !slices.Equal(got, expected) {
			t.Errorf("%s holds %q, want %q", node, got, expected)
		}
	}
}

func TestInventory(t *testing.T) {
	for _, test := range []struct {
		name            string
		spec            Spec
		inventory, vars []string
	}{
		{
			name: "usual", spec: Spec{ControlPlanes: 1, Workers: 1},
			inventory: []string{
				"cp1 ansible_host=10.201.7.11 ip=10.201.7.11 access_ip=10.201.7.11\n", "[kube_control_plane]\ncp1\n", "[etcd]\ncp1\n", "[kube_node]\nw1\n",
				"[k8s_cluster:children]", "ansible_user=kubespray",
			},
			vars: []string{"bin_dir: /usr/local/bin\n", "kube_config_dir: /etc/kubernetes\n", "loadbalancer_apiserver_localhost: false\n"},
		},
		{
			name: "everything", spec: Spec{Name: "x", Workers: 1, AlsoWorkers: true, EtcdNodes: 1, LoadBalancer: true, ConfigDir: "/etc/k8s", KubernetesNames: map[string]string{"w1": "beta"}},
			inventory: []string{
				"w1 ansible_host=10.201.7.101 ip=10.201.7.101 access_ip=10.201.7.101 kube_override_hostname=beta\n",
				"etcd1 ansible_host=10.201.7.31 ip=10.201.7.31 access_ip=10.201.7.31\n", "[etcd]\netcd1\n", "[kube_node]\ncp1\nw1\n",
			},
			vars: []string{
				"kube_config_dir: /etc/k8s\n",
				"apiserver_loadbalancer_domain_name: api.x.test\nloadbalancer_apiserver:\n  address: 10.201.7.10\n  port: 8443\n",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := renderer{c: testCluster(t, test.spec)}
			for template, wants := range map[string][]string{"inventory.ini": test.inventory, "group_vars.yml": test.vars} {
				out, err := r.render(template, Node{})
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range wants {
					if !strings.Contains(string(out), want) {
						t.Errorf("%q is missing in\n%s", want, out)
					}
				}
				if strings.Contains(string(out), "ansible_become") {
					t.Error("the inventory sets become, which is up to the caller")
				}
				if strings.Contains(string(out), "lb ") {
					t.Errorf("the load balancer is a node in\n%s", out)
				}
			}
		})
	}
}

// TestLikeKubespray checks that the inventory is like the sample since v2.27, and that no node
// has a proxy without workers or with a load balancer.
func TestLikeKubespray(t *testing.T) {
	c := testCluster(t, Spec{Workers: 1, Like: LikeKubespray})
	out, err := renderer{c: c}.render(deploymentFiles[LikeKubespray]["inventory.ini"], Node{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "\ncp1 ansible_host=10.201.7.11 ip=10.201.7.11 access_ip=10.201.7.11 etcd_member_name=etcd-cp1\n" +
		"w1 ansible_host=10.201.7.101 ip=10.201.7.101 access_ip=10.201.7.101 etcd_member_name=\n\n" +
		"[kube_control_plane]\ncp1\n\n[etcd:children]\nkube_control_plane\n\n[kube_node]\nw1\n"
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	for proxy, spec := range map[bool]Spec{true: {Workers: 1, Like: LikeKubespray}, false: {Like: LikeKubespray}} {
		if c := testCluster(t, spec); c.Spec.LocalProxy != proxy {
			t.Errorf("with %d workers, local proxies: %t", spec.Workers, c.Spec.LocalProxy)
		}
	}
	if c := testCluster(t, Spec{Workers: 1, LoadBalancer: true, Like: LikeKubespray}); c.Spec.LocalProxy {
		t.Error("local proxies in addition to a load balancer")
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
		t.Errorf("with a broken state file: got %v", err)
	}
}
