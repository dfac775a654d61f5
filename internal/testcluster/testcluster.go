// Package testcluster makes clusters and snapshots for tests: a healthy one, and edits that
// turn it into the situation of a test.
package testcluster

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Now is the time of every snapshot of this package.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Day is a day of 24 hours, as certificates count.
const Day = 24 * time.Hour

// The directories of a node in Kubespray's layout.
const (
	PKI        = "/etc/kubernetes/ssl"
	EtcdPKI    = "/etc/ssl/etcd/ssl"
	KubeletPKI = "/var/lib/kubelet/pki"
)

func node(name string, roles ...cluster.Role) cluster.Node {
	return cluster.Node{Name: name, KubernetesName: name, Roles: roles}
}

// Single is one control plane that also runs etcd, and one worker.
func Single() cluster.Cluster {
	return cluster.Cluster{Nodes: []cluster.Node{
		node("cp1", cluster.ControlPlane, cluster.Etcd),
		node("w1", cluster.Worker),
	}}
}

// HA is three control planes that also run etcd, and one worker.
func HA() cluster.Cluster {
	return cluster.Cluster{Nodes: []cluster.Node{
		node("cp1", cluster.ControlPlane, cluster.Etcd),
		node("cp2", cluster.ControlPlane, cluster.Etcd),
		node("cp3", cluster.ControlPlane, cluster.Etcd),
		node("w1", cluster.Worker),
	}}
}

// ExternalEtcd is one control plane, one worker, and a separate machine for etcd.
func ExternalEtcd() cluster.Cluster {
	return cluster.Cluster{Nodes: []cluster.Node{
		node("cp1", cluster.ControlPlane),
		node("w1", cluster.Worker),
		node("etcd1", cluster.Etcd),
	}}
}

// EtcdNodes is ExternalEtcd with three machines for etcd.
func EtcdNodes() cluster.Cluster {
	c := ExternalEtcd()
	return cluster.Cluster{Nodes: append(c.Nodes, node("etcd2", cluster.Etcd), node("etcd3", cluster.Etcd))}
}

// NoQuorum is the state of a running etcd member that cannot answer: the others are down or no
// longer trust it.
func NoQuorum(n *snapshot.Node) { n.Etcd = &snapshot.Etcd{Error: "context deadline exceeded"} }

// EtcdEvents gives each node of etcd a member of the cluster for events.
func EtcdEvents(s *snapshot.Snapshot) {
	e := certs.EtcdClusters()[1]
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Is(cluster.ControlPlane) {
			n.Facts[e.Servers] = "/events#https://10.0.0.1:2381"
		}
		if !n.Is(cluster.Etcd) {
			continue
		}
		member := EtcdPKI + "/member-" + n.Name + ".pem"
		maps.Copy(n.Facts, map[string]string{
			e.Name + ".listen-client-urls": "https://10.0.0.1:2381", e.Name + ".cert-file": member,
			e.Name + ".peer-cert-file": member, "etcd.cert-file": member, "etcd.peer-cert-file": member,
		})
		listen(n, e.Name, "127.0.0.1:2381", certs.KindEtcdMember)
		listen(n, e.Peer(), "10.0.0.1:2382", certs.KindEtcdMember)
		n.Units[e.Name] = snapshot.Unit{Active: "active", Sub: "running", ActiveSeconds: 3600}
		run(n, e.Name)
		events := *n.Etcd
		events.Members = slices.Clone(events.Members)
		for j := range events.Members {
			events.Members[j].ID += " for events"
			events.Members[j].Name += "-events"
			events.Members[j].PeerURLs = []string{"https://" + n.Etcd.Members[j].Name + ":2382"}
		}
		events.MemberID += " for events"
		n.OtherEtcd = map[string]*snapshot.Etcd{e.Name: &events}
	}
}

// Gone leaves out nodes (comma-separated) that cannot be reached.
func Gone(names string) Edit {
	return func(s *snapshot.Snapshot) {
		On(names, Unknown(snapshot.Unreachable, "No route to host"))(s)
		*s = s.WithoutGone(strings.Split(names, ","))
	}
}

// EtcdClient gives a node an etcd client certificate, without the CA's key.
func EtcdClient(n *snapshot.Node) {
	add(n, certs.KindEtcdNode, EtcdPKI+"/node-"+n.Name+".pem")
	n.Digests[EtcdPKI+"/ca.pem"] = "sum-of-ca.pem"
}

// Healthy returns a snapshot of a healthy cluster, changed by edits.
func Healthy(c cluster.Cluster, edits ...Edit) snapshot.Snapshot {
	s := snapshot.Snapshot{Schema: snapshot.Schema, Taken: Now}
	for _, n := range c.Nodes {
		s.Nodes = append(s.Nodes, healthyNode(c, n))
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

func healthyNode(c cluster.Cluster, n cluster.Node) snapshot.Node {
	out := snapshot.Node{
		Node:  n,
		Clock: Now,
		Facts: map[string]string{
			"hostname": n.Name, "pki": PKI, "pki-real": PKI, "config-dir": "/etc/kubernetes", "etcd-dir": EtcdPKI,
			"kubeadm": "/usr/local/bin/kubeadm", "kubectl": "/usr/local/bin/kubectl", "openssl": "/usr/bin/openssl",
		},
		Units:   map[string]snapshot.Unit{},
		Disks:   map[string]snapshot.Disk{"/": {FreeKiB: 10 << 20, SizeKiB: 20 << 20, FreeInodes: 1 << 20}},
		Digests: map[string]string{},
		Results: map[string]snapshot.Result{},
	}
	if n.Is(cluster.ControlPlane) || n.Is(cluster.Worker) {
		out.Units["kubelet"] = snapshot.Unit{Active: "active", Sub: "running", ActiveSeconds: 3600}
		out.Units["containerd"] = snapshot.Unit{Active: "active", Sub: "running", ActiveSeconds: 3600}
		run(&out, "kubelet")
		add(&out, certs.KindKubeletClient, KubeletPKI+"/kubelet-client-current.pem")
		add(&out, certs.KindKubeletServing, KubeletPKI+"/kubelet.crt")
		add(&out, certs.KindCA, PKI+"/ca.crt")
		out.Digests[PKI+"/ca.crt"] = "sum-of-ca.crt"
		out.Kubeconfigs = append(out.Kubeconfigs, snapshot.Kubeconfig{
			Path: "/etc/kubernetes/kubelet.conf", Server: server,
			ClientCertificateFile: KubeletPKI + "/kubelet-client-current.pem",
		})
		Trusting("", "")(&out)
	}
	if n.Is(cluster.Etcd) {
		add(&out, certs.KindEtcdHostCA, EtcdPKI+"/ca.pem")
		add(&out, certs.KindEtcdMember, EtcdPKI+"/member-"+n.Name+".pem")
		add(&out, certs.KindEtcdAdmin, EtcdPKI+"/admin-"+n.Name+".pem")
		out.Digests[EtcdPKI+"/ca.pem"] = "sum-of-ca.pem"
		out.Digests[EtcdPKI+"/ca-key.pem"] = "sum-of-ca-key.pem"
		listen(&out, "etcd", "127.0.0.1:2379", certs.KindEtcdMember)
		listen(&out, "etcd-peer", "10.0.0.1:2380", certs.KindEtcdMember)
		out.Units["etcd"] = snapshot.Unit{Active: "active", Sub: "running", ActiveSeconds: 3600}
		run(&out, "etcd")
		out.Etcd = &snapshot.Etcd{Healthy: true, MemberID: "id of " + n.Name, DBSize: 24 << 20}
		for _, m := range c.With(cluster.Etcd) {
			out.Etcd.Members = append(out.Etcd.Members, snapshot.EtcdMember{ID: "id of " + m.Name, Name: m.Name})
		}
	}
	if n.Is(cluster.ControlPlane) {
		controlPlane(c, &out)
	}
	return out
}

func controlPlane(c cluster.Cluster, n *snapshot.Node) {
	n.Facts["manifest"] = "present"
	n.Facts["kubeadm-config"] = "/etc/kubernetes/kubeadm-config.yaml"
	for _, name := range []string{"ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub"} {
		n.Digests[PKI+"/"+name] = "sum-of-" + name
	}
	for _, row := range certs.Table() {
		file := path.Join(PKI, row.Path)
		switch {
		case row.Kind == certs.KindCA, row.Copy,
			strings.Contains(row.Path, "etcd"): // exists already; etcd is the host's
			continue
		case row.Base == certs.Config && row.Kind != certs.KindKubeletConf: // it refers to the rotating file
			file = path.Join("/etc/kubernetes", row.Path)
		case row.Base != certs.PKI:
			continue
		}
		add(n, row.Kind, file)
		if row.Base == certs.Config {
			c, _ := n.Certificate(row.Kind)
			n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{
				Path: file, Server: server, ClientFingerprint: c.Fingerprint,
			})
			Trusting(path.Base(file), "")(n)
		}
	}
	for i := range n.Certificates {
		if n.Certificates[i].Kind == certs.KindAPIServer {
			n.Certificates[i].SANs = []string{n.Name, "localhost", "10.0.0.1", "127.0.0.1"}
		}
	}
	listen(n, "kube-apiserver", "10.0.0.1:6443", certs.KindAPIServer)
	n.Certificates = append(n.Certificates, certs.Certificate{
		Kind: "kube-apiserver-loopback", Path: "10.0.0.1:6443", Served: true, Subject: "CN=apiserver-loopback-client",
		SignedBy:  certs.SelfSigned,
		NotBefore: Now.Add(-10 * Day), NotAfter: Now.Add(355 * Day), Fingerprint: "loopback of " + n.Name,
	})
	n.Probes = []snapshot.Probe{{Endpoint: "10.0.0.1:6443", Addresses: []string{"10.0.0.1"}}}
	n.Kubeadm = &snapshot.KubeadmConfig{Path: "/etc/kubernetes/kubeadm-config.yaml", CertificatesDir: PKI,
		CertSANs: []string{n.Name, "127.0.0.1"}, EtcdEndpoints: []string{"https://10.0.0.1:2379"}}
	for _, component := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		run(n, component)
	}
	n.Results["kubeadm-version"] = snapshot.Result{Output: "v1.33.5"}
	n.Results["readyz"] = snapshot.Result{Output: "[+]ping ok\nreadyz check passed"}
	n.View = &snapshot.View{
		Nodes:      map[string]string{},
		NodeLeases: map[string]time.Time{},
		ComponentLeases: map[string]time.Time{
			"kube-controller-manager": Now.Add(-2 * time.Second), "kube-scheduler": Now.Add(-2 * time.Second),
		},
	}
	for _, other := range c.Nodes {
		if other.Is(cluster.ControlPlane) || other.Is(cluster.Worker) {
			n.View.Nodes[other.KubernetesName] = "True"
			n.View.NodeLeases[other.KubernetesName] = Now.Add(-5 * time.Second)
		}
		if other.Is(cluster.ControlPlane) {
			for _, component := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
				n.View.StaticPods = append(n.View.StaticPods,
					snapshot.StaticPod{Component: component, Node: other.Name, Ready: "True"})
			}
		}
	}
}

// add gives a node a certificate issued ten days ago: a leaf for a year, a CA for ten.
func add(n *snapshot.Node, k certs.Kind, file string) {
	row, ok := certs.Lookup(k)
	if !ok {
		panic(fmt.Sprintf("no row for %q", k))
	}
	c := certs.Certificate{
		Kind: k, Path: file, Subject: "CN=" + string(k), Issuer: "CN=" + string(row.Signer), SerialNumber: "1",
		IsCA:      row.CA,
		NotBefore: Now.Add(-10 * Day), NotAfter: Now.Add(355 * Day), Fingerprint: "first " + n.Name + ":" + file,
		PublicKey: "key of " + n.Name + ":" + file, SignedBy: row.Signer, Key: certs.KeyMatches,
		Signers: signers(k, row.Signer),
		File:    &certs.File{Mode: "0600", Owner: "root", Group: "root", Size: 1100, Modified: Now.Add(-10 * Day)},
	}
	if demand, ok := certs.IdentityOf(k); ok {
		c.CommonName, c.Organizations, c.Usages = demand.Of(n.KubernetesName),
			demand.Groups[:min(1, len(demand.Groups))], demand.Usages
	}
	if row.CA {
		c = CA(k, "")
		c.Path, c.SignedBy, c.Key, c.File = file, row.Signer, certs.KeyMatches,
			&certs.File{Mode: "0600", Owner: "root", Group: "root", Size: 1100, Modified: Now.Add(-10 * Day)}
		if k == certs.KindCA && !n.Is(cluster.ControlPlane) {
			c.Key = certs.KeyMissing
		}
	}
	n.Certificates = append(n.Certificates, c)
}

// signers are those of a leaf; a kubelet's own serving certificate has none.
func signers(k certs.Kind, by certs.Authority) []string {
	for _, row := range certs.Table() {
		if row.CA && !row.Copy && row.Authority == by && row.Kind != k {
			return []string{CA(row.Kind, "").SignsAs()}
		}
	}
	return nil
}

// Again is the variant of a CA that was issued again with its key.
const Again = "again"

// CA is the certificate of a CA of a kind: of the cluster's own one for the variant "", of that
// one issued again for Again, and of another one with its name for every other.
func CA(k certs.Kind, variant string) certs.Certificate {
	row, ok := certs.Lookup(k)
	if !ok || !row.CA {
		panic(fmt.Sprintf("%q is no CA", k))
	}
	c := certs.Certificate{
		Kind: k, Subject: "CN=" + string(row.Authority), Issuer: "CN=" + string(row.Authority), SerialNumber: "1",
		IsCA:      true,
		NotBefore: Now.Add(-10 * Day), NotAfter: Now.Add(3640 * Day),
		Fingerprint: "authority " + string(k), PublicKey: "key of " + string(k), SignedBy: certs.SelfSigned,
	}
	switch variant {
	case "":
	case Again:
		c.Fingerprint += " again"
		c.NotAfter = c.NotAfter.Add(3650 * Day)
	default:
		c.Fingerprint += " " + variant
		c.PublicKey += " " + variant
		c.NotAfter = c.NotAfter.Add(365 * Day)
	}
	return c
}

// Bundle puts CAs of these variants into the file of a kind, in this order. The key next to
// it is that of the first variant that issues.
func Bundle(k certs.Kind, issuing string, variants ...string) NodeEdit {
	return func(n *snapshot.Node) {
		i := slices.IndexFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == k && !c.Served })
		if i < 0 {
			panic(fmt.Sprintf("%s has no certificate of kind %q", n.Name, k))
		}
		was := n.Certificates[i]
		var cas []certs.Certificate
		for p, c := range bundle(k, variants) {
			c.Path, c.File, c.Key = was.Path, was.File, ""
			switch {
			case was.Key == certs.KeyMissing:
				c.Key = was.Key
			case variants[p] == issuing:
				c.Key = certs.KeyMatches
			}
			cas = append(cas, c)
		}
		n.Certificates = slices.Replace(n.Certificates, i, i+1, cas...)
	}
}

func bundle(k certs.Kind, variants []string) []certs.Certificate {
	var out []certs.Certificate
	for i, v := range variants {
		c := CA(k, v)
		if len(variants) > 1 {
			c.Position = i + 1
		}
		out = append(out, c)
	}
	return out
}

// Trusting lets the kubeconfigs of these names trust cluster CAs of these variants.
func Trusting(names string, variants ...string) NodeEdit {
	return func(n *snapshot.Node) {
		for i := range n.Kubeconfigs {
			k := &n.Kubeconfigs[i]
			if names != "" && !slices.Contains(strings.Split(names, ","), path.Base(k.Path)) {
				continue
			}
			k.CAs = bundle(certs.KindCA, variants)
			for j := range k.CAs {
				k.CAs[j].Kind, k.CAs[j].Path = certs.KindKubeconfigCA, k.Path
			}
			k.CAFingerprint, k.CANotAfter = k.CAs[0].Fingerprint, k.CAs[0].NotAfter
		}
	}
}

// IssuedBy lets leaves of these kinds be of a CA of a variant, in files and as served.
func IssuedBy(variant string, kinds ...certs.Kind) NodeEdit {
	return func(n *snapshot.Node) {
		changed := map[string][]string{}
		Files(func(c *certs.Certificate) {
			row, _ := certs.Lookup(c.Kind)
			for _, ca := range certs.Table() {
				if ca.CA && !ca.Copy && ca.Authority == row.Signer {
					c.Signers = []string{CA(ca.Kind, variant).SignsAs()}
				}
			}
			changed[c.Fingerprint] = c.Signers
		}, kinds...)(n)
		for i := range n.Certificates {
			if by, ok := changed[n.Certificates[i].Fingerprint]; ok {
				n.Certificates[i].Signers = by
			}
		}
	}
}

// server is what kubeconfigs point at: a control plane's own API server, or the
// proxy next to a worker's kubelet.
const server = "https://127.0.0.1:6443"

// run makes a component run for nine days.
func run(n *snapshot.Node, component string) {
	n.Processes = append(n.Processes,
		snapshot.Process{Name: component, PID: 1000 + len(n.Processes), Started: Now.Add(-9 * Day)})
}

// RootKubeconfigExpired gives a node an administrator's kubeconfig in root's home, with an
// expired certificate.
func RootKubeconfigExpired(n *snapshot.Node) {
	n.Certificates = append(n.Certificates, certs.Certificate{
		Kind: "root-kubeconfig", Path: "/root/.kube/config", Subject: "O=kubeadm:cluster-admins,CN=kubernetes-admin",
		NotBefore: Now.Add(-366 * Day), NotAfter: Now.Add(-Day), Fingerprint: "root's own",
		SignedBy: certs.KubernetesCA,
	})
}

// StartedAgo sets how long ago a component started.
func StartedAgo(component string, d time.Duration) NodeEdit {
	return func(n *snapshot.Node) {
		i := slices.IndexFunc(n.Processes, func(p snapshot.Process) bool { return p.Name == component })
		n.Processes[i].Started = n.Clock.Add(-d)
	}
}

// Stopped stops a component: no process, no active unit, and no answer on its port.
func Stopped(component string) NodeEdit {
	return func(n *snapshot.Node) {
		n.Processes = slices.DeleteFunc(n.Processes, func(p snapshot.Process) bool { return p.Name == component })
		if _, ok := n.Units[component]; ok {
			n.Units[component] = snapshot.Unit{Active: "inactive", Sub: "dead"}
		}
		for i := range n.Endpoints {
			if n.Endpoints[i].Name == component {
				n.Endpoints[i].Fingerprint, n.Endpoints[i].Error = "", "connect: Connection refused\nconnect:errno=111"
			}
		}
		n.Certificates = slices.DeleteFunc(n.Certificates,
			func(c certs.Certificate) bool { return c.Served && c.Kind == certs.Kind(component) })
		if component == certs.MainEtcd {
			n.Etcd = &snapshot.Etcd{Error: "connect: Connection refused"}
		} else if n.OtherEtcd[component] != nil {
			n.OtherEtcd[component] = &snapshot.Etcd{Error: "connect: Connection refused"}
		}
	}
}

// Fault makes the node's probe of an endpoint fail at a stage. It adds the probe if necessary.
func Fault(endpoint string, at snapshot.Stage, text string) NodeEdit {
	return func(n *snapshot.Node) {
		n.Probes = slices.DeleteFunc(n.Probes, func(p snapshot.Probe) bool { return p.Endpoint == endpoint })
		n.Probes = append(n.Probes, snapshot.Probe{Endpoint: endpoint, Failed: at, Error: text})
	}
}

// listen makes a port serve the node's own certificate of a kind.
func listen(n *snapshot.Node, component, address string, k certs.Kind) {
	c, ok := n.Certificate(k)
	if !ok {
		panic(fmt.Sprintf("%s has no certificate of kind %q to serve", n.Name, k))
	}
	n.Endpoints = append(n.Endpoints, snapshot.Endpoint{Name: component, Address: address, Fingerprint: c.Fingerprint})
	c.Kind, c.Path, c.Served, c.Key, c.File = certs.Kind(component), address, true, "", nil
	n.Certificates = append(n.Certificates, c)
}

// Edit changes a snapshot into the situation of a test.
type Edit func(*snapshot.Snapshot)

// NodeEdit changes one node of a snapshot.
type NodeEdit func(*snapshot.Node)

// On applies edits to the named nodes (comma-separated).
func On(names string, edits ...NodeEdit) Edit {
	return func(s *snapshot.Snapshot) {
		for name := range strings.SplitSeq(names, ",") {
			i := slices.IndexFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == name })
			if i < 0 {
				panic("no node " + name)
			}
			for _, edit := range edits {
				edit(&s.Nodes[i])
			}
		}
	}
}

// Everywhere applies edits to all nodes.
func Everywhere(edits ...NodeEdit) Edit {
	return func(s *snapshot.Snapshot) {
		for i := range s.Nodes {
			for _, edit := range edits {
				edit(&s.Nodes[i])
			}
		}
	}
}

// Files applies an edit to the certificate files of these kinds.
func Files(edit func(*certs.Certificate), kinds ...certs.Kind) NodeEdit {
	return func(n *snapshot.Node) {
		for _, k := range kinds {
			if _, ok := n.Certificate(k); !ok {
				panic(fmt.Sprintf("%s has no certificate of kind %q", n.Name, k))
			}
		}
		for i := range n.Certificates {
			if c := &n.Certificates[i]; !c.Served && slices.Contains(kinds, c.Kind) {
				edit(c)
			}
		}
	}
}

// EndsIn makes certificate files expire after d; negative: they have expired.
func EndsIn(d time.Duration, kinds ...certs.Kind) NodeEdit {
	return Files(func(c *certs.Certificate) { c.NotAfter = Now.Add(d) }, kinds...)
}

// BeginsIn lets certificates in files be valid only from then on.
func BeginsIn(d time.Duration, kinds ...certs.Kind) NodeEdit {
	return Files(func(c *certs.Certificate) { c.NotBefore = Now.Add(d) }, kinds...)
}

// Expired lets certificates in files have ended a day ago.
func Expired(kinds ...certs.Kind) NodeEdit { return EndsIn(-Day, kinds...) }

// Renewed puts new certificates into the files; components still serve the old ones.
func Renewed(kinds ...certs.Kind) NodeEdit {
	return Files(func(c *certs.Certificate) {
		c.NotBefore, c.NotAfter = Now, Now.Add(365*Day)
		c.Fingerprint = strings.Replace(c.Fingerprint, "first", "second", 1)
	}, kinds...)
}

// Serving makes a component serve its certificate of this kind from the file.
func Serving(component string, k certs.Kind) NodeEdit {
	return func(n *snapshot.Node) {
		c, _ := n.Certificate(k)
		for i := range n.Endpoints {
			if n.Endpoints[i].Name == component {
				n.Endpoints[i].Fingerprint, n.Endpoints[i].Error = c.Fingerprint, ""
			}
		}
	}
}

// Kinds lists the kinds of leaf certificates in the node's files.
func Kinds(n snapshot.Node) []certs.Kind {
	var out []certs.Kind
	for _, c := range n.Certificates {
		if !c.Served && !c.IsCA {
			out = append(out, c.Kind)
		}
	}
	return out
}

// Loopback sets the expiry of the certificate that the API server makes for itself.
func Loopback(end time.Time) NodeEdit {
	return func(n *snapshot.Node) {
		for i := range n.Certificates {
			if n.Certificates[i].Kind == "kube-apiserver-loopback" {
				n.Certificates[i].NotAfter = end
			}
		}
	}
}

// Unusable makes the API server answer kubectl with an error.
func Unusable(status int, kubectl string) NodeEdit {
	return func(n *snapshot.Node) {
		n.View = nil
		n.Results["readyz"] = snapshot.Result{Status: status, Output: kubectl}
	}
}

// What kubectl prints about the lab's API servers in each situation.
const (
	SaysExpired = "Unable to connect to the server: tls: failed to verify certificate: x509: certificate has " +
		"expired or is not yet valid: current time 2026-03-01T12:00:00Z is after 2026-02-28T12:00:00Z"
	SaysRefused = "The connection to the server 10.0.0.1:6443 was refused - did you specify the right " +
		"host or port?"
	SaysUnauthorized = "error: You must be logged in to the server (Unauthorized)"
	SaysNotReady     = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\nError from server " +
		"(InternalError): an error on the server (\"...\") has prevented the request from succeeding"
)

// Refused stops all API servers.
func Refused() NodeEdit {
	return func(n *snapshot.Node) {
		Unusable(1, SaysRefused)(n)
		Stopped("kube-apiserver")(n)
		Stopped("kube-apiserver-loopback")(n)
		Fault("10.0.0.1:6443", snapshot.StageTCP, "connect: Connection refused")(n)
	}
}

// CrashLoop makes the kubelet exit again and again.
func CrashLoop() NodeEdit {
	return func(n *snapshot.Node) {
		n.Units["kubelet"] = snapshot.Unit{Active: "activating", Sub: "auto-restart", Restarts: 12}
		n.Results["kubelet-log"] = snapshot.Result{
			Output: `"command failed" err="failed to run Kubelet: unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory"`}
	}
}

// Unjoined turns a worker into a machine where Kubespray has installed the kubelet, but that
// has not joined the cluster yet.
func Unjoined(name string) Edit {
	return func(s *snapshot.Snapshot) {
		On(name, func(n *snapshot.Node) {
			n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool {
				return c.Kind != certs.KindKubeletServing
			})
			n.Kubeconfigs, n.Processes, n.Endpoints, n.Probes, n.Digests = nil, nil, nil, nil, map[string]string{}
			delete(n.Units, "containerd")
		}, CrashLoop())(s)
		View(func(v *snapshot.View) {
			delete(v.Nodes, name)
			delete(v.NodeLeases, name)
		})(s)
	}
}

// CalledInAPI gives a node another name in the API than in the inventory.
func CalledInAPI(name, own string) Edit {
	return func(s *snapshot.Snapshot) {
		On(name, Files(func(c *certs.Certificate) {
			c.Subject = "O=system:nodes,CN=system:node:" + own
		}, certs.KindKubeletClient))(s)
		View(func(v *snapshot.View) {
			v.Nodes[own], v.NodeLeases[own] = v.Nodes[name], v.NodeLeases[name]
			delete(v.Nodes, name)
			delete(v.NodeLeases, name)
			for i := range v.StaticPods {
				if v.StaticPods[i].Node == name {
					v.StaticPods[i].Node = own
				}
			}
		})(s)
	}
}

// Unknown removes all that is known of the node.
func Unknown(kind snapshot.FailureKind, message string) NodeEdit {
	return func(n *snapshot.Node) {
		*n = snapshot.Node{Node: n.Node, Failure: &snapshot.Failure{Kind: kind, Message: message}}
	}
}

// View changes what every answering API server reports about the cluster.
func View(edit func(*snapshot.View)) Edit {
	return Everywhere(func(n *snapshot.Node) {
		if n.View != nil {
			edit(n.View)
		}
	})
}

// Later moves the snapshot to a later time: clocks and leases, not certificates.
func Later(d time.Duration) Edit {
	return func(s *snapshot.Snapshot) {
		s.Taken = s.Taken.Add(d)
		for i := range s.Nodes {
			n := &s.Nodes[i]
			n.Clock = n.Clock.Add(d)
			if n.View == nil {
				continue
			}
			for _, leases := range []map[string]time.Time{n.View.NodeLeases, n.View.ComponentLeases} {
				for name := range leases {
					leases[name] = leases[name].Add(d)
				}
			}
		}
	}
}
