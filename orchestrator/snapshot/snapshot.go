// Package snapshot holds what "inspect" brought back from all nodes at one moment: typed facts,
// without conclusions.
//
// A snapshot is immutable and carries its own time, so that whatever is derived from it can be
// derived again, on another machine, from the saved JSON. It holds public certificates, digests and
// log lines, never a private key.
//
// Orchestrator.Inspect takes one; Load reads one that Save, or a command's --save-snapshot, has
// written. Its nodes have what each stores, runs and serves; one that could not be inspected has a
// Failure and nothing else, and must not be taken for healthy.
package snapshot

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// Schema is the version of the JSON form of a Snapshot.
const Schema = 1

// Snapshot is the state of all nodes at one moment.
type Snapshot struct {
	Schema int `json:"schema"`
	// Taken is the control node's clock when the nodes were asked.
	Taken time.Time `json:"taken"`
	// Probes are the API endpoints as the control node sees them from outside. Behind a bastion it
	// may reach none of them: that alone means nothing.
	Probes []Probe `json:"probes,omitempty"`
	// Endpoint is the load balancer before the API servers; empty without one.
	Endpoint string `json:"endpoint,omitempty"`
	// ExternalCA is that of cluster.Cluster.
	ExternalCA bool `json:"externalCA,omitempty"`
	// Nodes has one entry for each node of the cluster, in cluster order, also for those that could
	// not be reached.
	Nodes []Node `json:"nodes"`
	// Gone are the nodes that could not be reached and that are left out for that, each with its
	// failure: they count where members and nodes of the cluster do, and nothing is done there.
	Gone []Node `json:"gone,omitempty"`
}

// WithGone is the snapshot in which the nodes that are left out are among the others.
func (s Snapshot) WithGone() Snapshot {
	s.Nodes, s.Gone = slices.Concat(s.Nodes, s.Gone), nil
	return s
}

// WithoutGone is the snapshot in which those of these nodes that could not be reached are left out,
// unless no control plane would stay.
func (s Snapshot) WithoutGone(names []string) Snapshot {
	was := s
	gone := func(n Node) bool {
		return n.Failure != nil && n.Failure.Kind == Unreachable && slices.Contains(names, n.Name)
	}
	var stay []Node
	for _, n := range s.Nodes {
		if gone(n) {
			s.Gone = append(slices.Clone(s.Gone), n)
		} else {
			stay = append(stay, n)
		}
	}
	s.Nodes = stay
	if len(s.With(cluster.ControlPlane)) == 0 {
		return was
	}
	return s
}

// Asked is when a node was asked: when the snapshot was taken, or before.
func (s Snapshot) Asked(n Node) time.Time {
	if n.Taken.IsZero() {
		return s.Taken
	}
	return n.Taken
}

// Node is the state of one node.
type Node struct {
	cluster.Node
	// Failure is why nothing is known about the node; nil if it was inspected.
	Failure *Failure `json:"failure,omitempty"`

	// Taken is when the node was asked, by the control node's clock, if not for this snapshot but for
	// an earlier one: gates ask only the nodes that they are about. Zero otherwise.
	Taken time.Time `json:"taken,omitzero"`
	// Clock is the node's own time, whole seconds.
	Clock time.Time `json:"clock"`
	// Facts are single values by name: hostname, pki, pki-real, config-dir, etcd-dir, kubelet-dir,
	// calico-dir, cilium-dir, home-dir, kubeadm, kubeadm-config, kubectl, openssl, manifest;
	// runtime (containerd, crio or docker), runtime-version and kubelet-version ("v1.34.4") if the
	// node itself was asked; and its own settings under the name of the component that reads them,
	// such as "kube-apiserver.etcd-certfile" or "kubelet.server".
	Facts map[string]string `json:"facts,omitempty"`
	// Units are systemd units that are loaded, by name.
	Units map[string]Unit `json:"units,omitempty"`
	// Disks are the file systems that hold what matters, by mount point.
	Disks map[string]Disk `json:"disks,omitempty"`
	// Processes are the running ones of the control plane, etcd and the kubelet.
	Processes []Process `json:"processes,omitempty"`
	// Certificates found in files, in kubeconfigs and on ports.
	Certificates []certs.Certificate `json:"certificates,omitempty"`
	// Kubeconfigs by path, with the certificate they present listed above.
	Kubeconfigs []Kubeconfig `json:"kubeconfigs,omitempty"`
	// Unreadable names files that should hold a certificate and do not.
	Unreadable []Unreadable `json:"unreadable,omitempty"`
	// Endpoints has the answer of each port that was asked.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// Probes are API endpoints as the node sees them: its own API server, and the one its kubelet
	// uses.
	Probes []Probe `json:"probes,omitempty"`
	// Kubeadm is what matters of the node's kubeadm configuration; nil without one.
	Kubeadm *KubeadmConfig `json:"kubeadm,omitempty"`
	// Etcd is the etcd member that runs on the node; nil if none was asked.
	Etcd *Etcd `json:"etcd,omitempty"`
	// OtherEtcd are its members of other etcd clusters, by the name of the cluster, such as
	// "etcd-events".
	OtherEtcd map[string]*Etcd `json:"otherEtcd,omitempty"`
	// Digests are SHA-256 sums, hexadecimal, of what must never change: CA certificates and keys,
	// service account keys, the encryption configuration.
	Digests map[string]string `json:"digests,omitempty"`
	// Files are SHA-256 sums, hexadecimal, of what else a plan relies on, and what a change may
	// touch: static pod manifests, the configurations of kubeadm, the kubelet and etcd.
	Files map[string]string `json:"files,omitempty"`
	// Pods are the namespaces and names, such as "kube-system/etcd", that the kubelet's
	// manifests have, by path.
	Pods map[string]string `json:"pods,omitempty"`
	// Work is what may be changing something on the node at this moment.
	Work []Work `json:"work,omitempty"`
	// RenewalTimer is that of Kubespray; nil if none is installed.
	RenewalTimer *RenewalTimer `json:"renewalTimer,omitempty"`
	// Trust is what else trusts CAs: the pods on the node, and, on the control plane that asked its
	// API server for it, objects of the cluster.
	Trust []Trust `json:"trust,omitempty"`
	// Secrets are the certificates in Secrets of the cluster, on the control plane that asked its
	// API server for them. Results has whether it reported all.
	Secrets []Secret `json:"secrets,omitempty"`
	// Results are the outcomes of commands by name: kubeadm-version, kubeadm-config, readyz,
	// kubelet-access, trust (if the API server did not report all), secrets, apiserver-log,
	// kubelet-log, etcd-log, and the log of another etcd cluster's member.
	Results map[string]Result `json:"results,omitempty"`
	// View is the cluster as this node's API server reports it; nil if the API server could not be
	// asked.
	View *View `json:"view,omitempty"`
}

// FailureKind classifies why a node could not be inspected.
type FailureKind string

// The reasons why nothing is known about a node.
const (
	Unreachable FailureKind = "unreachable" // no SSH connection
	Privilege   FailureKind = "privilege"   // connected, but could not become root
	Garbled     FailureKind = "garbled"     // the answer was cut off or not understood
	Failed      FailureKind = "failed"      // the collector itself failed
	Missing     FailureKind = "missing"     // Ansible never asked the node
)

// Failure is why a node could not be inspected, with Ansible's own message.
type Failure struct {
	Kind    FailureKind `json:"kind"`
	Message string      `json:"message"`
}

// Work is one process that may be changing something on a node: a task of a run of ours, another
// task of Ansible, or kubeadm. One task may be several processes.
type Work struct {
	PID int `json:"pid"`
	// Seconds is how long it has been running.
	Seconds int `json:"seconds"`
	// What it is, in words, without its arguments: they may be secrets.
	What string `json:"what"`
}

// TimerState is whether Kubespray's renewal timer will fire.
type TimerState string

// The states of a renewal timer: it will fire, a run holds it back, it will not.
const (
	TimerOn   TimerState = "on"
	TimerHeld TimerState = "held"
	TimerOff  TimerState = "off"
)

// RenewalTimer is the timer with which Kubespray renews a control plane's certificates and restarts
// its components (roles/kubernetes/control-plane, auto_renew_certificates).
type RenewalTimer struct {
	State TimerState `json:"state"`
	// Next is when it fires; nil if systemd does not report it.
	Next *time.Time `json:"next,omitempty"`
}

// ActiveRenewalTimers are the nodes on which Kubespray's own renewal is installed and not off.
func (s Snapshot) ActiveRenewalTimers() []string {
	var nodes []string
	for _, n := range s.Nodes {
		if n.RenewalTimer != nil && n.RenewalTimer.State != TimerOff {
			nodes = append(nodes, n.Name)
		}
	}
	return nodes
}

// String describes when it fires.
func (t RenewalTimer) String() string {
	switch {
	case t.State == TimerHeld:
		return "a run holds it back"
	case t.State != TimerOn:
		return "it is not scheduled"
	case t.Next == nil:
		return "its next start is not known"
	default:
		return "it starts next at " + t.Next.UTC().Format(time.RFC3339)
	}
}

// Unit is the state of a systemd unit, in systemd's words.
type Unit struct {
	Active   string `json:"active"`
	Sub      string `json:"sub"`
	Restarts int    `json:"restarts"`
	// ActiveSeconds is how long it has been active.
	ActiveSeconds int `json:"activeSeconds"`
}

// Steady reports whether the unit runs and is not in a restart loop: systemd calls a unit active in
// the moments between two crashes too.
func (u Unit) Steady() bool {
	return u.Active == "active" && (u.Restarts == 0 || u.ActiveSeconds >= 30)
}

// Kubeconfig is the public part of a kubeconfig file.
type Kubeconfig struct {
	Path string `json:"path"`
	// Server is the API endpoint it uses.
	Server string `json:"server"`
	// ClientCertificateFile is set when the client certificate is a reference.
	ClientCertificateFile string `json:"clientCertificateFile,omitempty"`
	// ClientFingerprint is the SHA-256 of the embedded client certificate of its current context's
	// user, hexadecimal.
	ClientFingerprint string `json:"clientFingerprint,omitempty"`
	// CAFingerprint is the SHA-256 of the CA certificate it trusts, hexadecimal.
	CAFingerprint string `json:"caFingerprint,omitempty"`
	// CANotAfter is when that CA certificate expires.
	CANotAfter time.Time `json:"caNotAfter,omitzero"`
	// CAs are all CA certificates that it trusts, in their order: the two above are of the first.
	CAs []certs.Certificate `json:"cas,omitempty"`
}

// Disk is one mounted file system.
type Disk struct {
	FreeKiB int64 `json:"freeKiB"`
	SizeKiB int64 `json:"sizeKiB"`
	// FreeInodes is negative if the file system does not count them.
	FreeInodes int64 `json:"freeInodes"`
}

// Process is a running process in the node's own network namespace: a static
// pod or a unit, not a pod of a user.
type Process struct {
	// Name of the component: kube-apiserver, kube-controller-manager,
	// kube-scheduler, etcd, kubelet, kube-vip, or that of another etcd cluster.
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Started is when it began, to a hundredth of a second.
	Started time.Time `json:"started"`
}

// Stage is one step of asking an API endpoint, in the order they are taken.
type Stage string

// The stages. Each requires the one before.
const (
	StageResolve Stage = "resolve" // the name has an address
	StageTCP     Stage = "tcp"     // the port accepts
	StageTLS     Stage = "tls"     // a certificate is presented; not yet trusted
	StageLivez   Stage = "livez"   // /livez answers 200
	StageReadyz  Stage = "readyz"  // /readyz answers 200
	StageAuth    Stage = "auth"    // the administrator's request is accepted, TLS verified
)

// Probe is how far one client got with one API endpoint.
type Probe struct {
	// Endpoint is "host:port" as it was asked for.
	Endpoint string `json:"endpoint"`
	// Addresses the host resolved to.
	Addresses []string `json:"addresses,omitempty"`
	// Failed is the first stage that failed; empty if all that were tried passed.
	Failed Stage `json:"failed,omitempty"`
	// Error is why, in the words of the client or of the server.
	Error string `json:"error,omitempty"`
	// Fingerprint, SANs and NotAfter are of the certificate that was presented.
	Fingerprint string    `json:"fingerprint,omitempty"`
	SANs        []string  `json:"sans,omitempty"`
	NotAfter    time.Time `json:"notAfter,omitzero"`
}

// KubeadmConfig is the public part of a kubeadm ClusterConfiguration.
type KubeadmConfig struct {
	Path string `json:"path"`
	// APIVersion is that of the document, such as "kubeadm.k8s.io/v1beta4".
	APIVersion           string `json:"apiVersion,omitempty"`
	KubernetesVersion    string `json:"kubernetesVersion,omitempty"`
	ControlPlaneEndpoint string `json:"controlPlaneEndpoint,omitempty"`
	CertificatesDir      string `json:"certificatesDir,omitempty"`
	// EncryptionAlgorithm is that of new keys, as kubeadm writes it ("ECDSA-P256").
	EncryptionAlgorithm string   `json:"encryptionAlgorithm,omitempty"`
	CertSANs            []string `json:"certSANs,omitempty"`
	// EtcdEndpoints, and the files the API server authenticates with, if etcd is external to
	// kubeadm.
	EtcdEndpoints []string `json:"etcdEndpoints,omitempty"`
}

// Etcd is an etcd member as it reports itself and its cluster, from its own client port with the
// node's own credentials.
type Etcd struct {
	// Healthy is what /health answered: a linearizable read succeeded, so there is a quorum.
	Healthy bool `json:"healthy"`
	// Error is why it is unknown or not healthy.
	Error string `json:"error,omitempty"`
	// MemberID is this member's own, hexadecimal.
	MemberID string `json:"memberID,omitempty"`
	// Learner is true if it reported that it does not vote: it lists no members then, and what
	// /health answered is what the voting ones have reported to it.
	Learner bool `json:"learner,omitempty"`
	// Members is the membership as this member knows it, read without quorum.
	Members []EtcdMember `json:"members,omitempty"`
	// Version of etcd, such as "3.5.21".
	Version string `json:"version,omitempty"`
	// DBSize is how many bytes its database takes on the disk, which are those of a snapshot;
	// absent if it is unknown.
	DBSize int64 `json:"dbSize,omitempty"`
}

// EtcdMember is one member of the etcd cluster.
type EtcdMember struct {
	ID         string   `json:"id"` // hexadecimal
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	Learner    bool     `json:"learner,omitempty"`
}

// Unreadable is a file in a certificate's place without a certificate in it.
type Unreadable struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Endpoint is one port that was asked for its certificate.
type Endpoint struct {
	// Name of the component that should listen there.
	Name string `json:"name"`
	// Address is "host:port".
	Address string `json:"address"`
	// Fingerprint of the certificate it served; empty if none was served.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Error is what the TLS client reported instead.
	Error string `json:"error,omitempty"`
}

// Result is the outcome of a command on a node.
type Result struct {
	Status int    `json:"status"`
	Output string `json:"output"`
}

// View is the cluster as one API server reports it.
type View struct {
	// Nodes maps a Kubernetes node name to its Ready condition.
	Nodes map[string]string `json:"nodes"`
	// Versions maps a Kubernetes node name to what its kubelet reported about itself.
	Versions map[string]NodeVersions `json:"versions,omitempty"`
	// ControlPlanes are the Kubernetes node names that have the label of one.
	ControlPlanes []string `json:"controlPlanes,omitempty"`
	// Unschedulable are the Kubernetes node names that take no new pods (kubectl cordon).
	Unschedulable []string `json:"unschedulable,omitempty"`
	// Addresses maps a Kubernetes node name to its addresses and host names.
	Addresses map[string][]string `json:"addresses,omitempty"`
	// NodeLeases maps a Kubernetes node name to when its kubelet last renewed it.
	NodeLeases map[string]time.Time `json:"nodeLeases"`
	// ComponentLeases maps kube-controller-manager and kube-scheduler in the same way.
	ComponentLeases map[string]time.Time `json:"componentLeases"`
	// StaticPods are the control plane's mirror pods.
	StaticPods []StaticPod `json:"staticPods"`
	// Forbidden are the API server's messages if it did not let the administrator read one of
	// these: anyone may ask whether it is ready.
	Forbidden []string `json:"forbidden,omitempty"`
}

// NodeVersions are versions on a node, as in the API.
type NodeVersions struct {
	Kubelet string `json:"kubelet"` // "v1.34.4"
	Runtime string `json:"runtime"` // "containerd://1.7.27"
}

// StaticPod is one control plane component on one node.
type StaticPod struct {
	Component string `json:"component"`
	Node      string `json:"node"`
	Ready     string `json:"ready"`
}

// Window is how long before its expiry a certificate of the node is due, given the window for all
// others. A kubelet that renews its own does so after 70 to 90 % of their lifetime (client-go,
// util/certificate): before the last tenth there is nothing to do, and in it the kubelet has failed
// to.
func (n Node) Window(row certs.Row, c certs.Certificate, others time.Duration) time.Duration {
	if !n.KubeletRenews(row) {
		return others
	}
	return min(others, c.NotAfter.Sub(c.NotBefore)/10)
}

// KubeletRenews reports whether the node's kubelet renews a certificate of that row by itself.
func (n Node) KubeletRenews(row certs.Row) bool {
	return row.KubeletRenews && (row.Group != certs.GroupKubeletClient || n.Rotates())
}

// Rotates reports whether the node's kubelet renews its client certificate by itself, or that is
// unknown: by the flag, or else by the configuration. A setting that is missing from a
// configuration that was read is off (KubeletConfiguration, kubelet.config.k8s.io/v1beta1).
func (n Node) Rotates() bool {
	if word := n.Facts["kubelet.rotateCertificates"]; word != "" {
		return !isFalse(word)
	}
	return n.Facts["kubelet.kind"] != "KubeletConfiguration"
}

// isFalse reports whether a word means false to a kubelet, as a flag (strconv.ParseBool) or in YAML
// 1.1.
func isFalse(word string) bool {
	return slices.Contains([]string{"false", "f", "no", "n", "off", "0", "null", "~"}, strings.ToLower(word))
}

// Copies reports whether a certificate of that row is on the node a copy of one elsewhere, which no
// step renews: an administrator's kubeconfig is one, except on a control plane.
func (n Node) Copies(row certs.Row) bool {
	administrator := row.Base == certs.Home || row.Kind == certs.KindAdmin || row.Kind == certs.KindSuperAdmin
	return row.Copy || administrator && !n.Is(cluster.ControlPlane)
}

// Node returns the node with that inventory name.
func (s Snapshot) Node(name string) (Node, bool) {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return s.Nodes[i], true
}

// With returns the nodes that have the role, in order.
func (s Snapshot) With(r cluster.Role) []Node {
	var out []Node
	for _, n := range s.Nodes {
		if n.Is(r) {
			out = append(out, n)
		}
	}
	return out
}

// Observer returns the first control plane that has a view of the cluster: preferably one whose
// administrator has permission.
func (s Snapshot) Observer() (Node, bool) {
	for _, sees := range []func(Node) bool{
		func(n Node) bool { return n.View != nil && len(n.View.Forbidden) == 0 },
		func(n Node) bool { return n.View != nil },
	} {
		if i := slices.IndexFunc(s.Nodes, sees); i >= 0 {
			return s.Nodes[i], true
		}
	}
	return Node{}, false
}

// View returns what the observer sees.
func (s Snapshot) View() (View, bool) {
	n, ok := s.Observer()
	if !ok {
		return View{}, false
	}
	return *n.View, true
}

// Kubernetes returns the node that has this name in the API.
func (s Snapshot) Kubernetes(name string) (Node, bool) {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return s.NameOf(n) == name })
	if i < 0 {
		return Node{}, false
	}
	return s.Nodes[i], true
}

// NameOf is the name of a node in the API: that in its kubelet's certificate, which may be another
// name than the inventory's (--hostname-override, a cloud provider). The node's own report counts
// if the API server does not know the inventory's name, knows the other name, and no other node of
// the inventory has or reports that name.
func (s Snapshot) NameOf(n Node) string {
	own := n.OwnName()
	if own == "" || own == n.KubernetesName {
		return n.KubernetesName
	}
	if v, reported := s.View(); reported && len(v.Nodes) > 0 {
		_, listed := v.Nodes[n.KubernetesName]
		if _, known := v.Nodes[own]; listed || !known {
			return n.KubernetesName
		}
	}
	if slices.ContainsFunc(s.Nodes, func(other Node) bool {
		return other.Name != n.Name && slices.Contains([]string{other.Name, other.KubernetesName, other.OwnName()}, own)
	}) {
		return n.KubernetesName
	}
	return own
}

// KubeletConf is the kubelet's kubeconfig: Kubespray's, unless its --kubeconfig names another.
func (n Node) KubeletConf() string {
	return cmp.Or(n.Facts["kubelet-conf"], path.Join(n.Facts["config-dir"], "kubelet.conf"))
}

// KubeletPair is the kubelet's client file.
const KubeletPair = "kubelet-client-current.pem"

// Unjoined reports whether a worker has not joined yet, or was removed: no kubelet runs there, and it has
// no credentials, or the API server does not know it and its kubelet is stopped. Operators find that
// certificates have expired while they add a node, and a removed one must not come back. Kubespray starts
// the kubelet before the node joins, which makes itself a serving certificate and exits without
// kubelet.conf, and it gives the machine certificates of etcd's clients.
func (s Snapshot) Unjoined(n Node) bool {
	if n.Failure != nil || !n.Is(cluster.Worker) || n.Is(cluster.ControlPlane) || n.Is(cluster.Etcd) {
		return false
	}
	kubelet, unit := n.Units["kubelet"]
	if _, runs := n.Process("kubelet"); kubelet.Steady() || runs && !unit {
		return false
	}
	if v, reported := s.View(); reported {
		if _, known := v.Nodes[s.NameOf(n)]; known {
			return false
		}
		if len(v.Nodes) > 0 && (!unit || kubelet.Active == "inactive") { // removed, or never there
			return true
		}
	}
	joins := func(file string) bool {
		return file == n.KubeletConf() ||
			slices.Contains([]string{"bootstrap-kubelet.conf", "ca.crt", KubeletPair}, path.Base(file))
	}
	return !slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool { return !c.Served && joins(c.Path) }) &&
		!slices.ContainsFunc(n.Kubeconfigs, func(k Kubeconfig) bool { return joins(k.Path) }) &&
		!slices.ContainsFunc(n.Unreadable, func(u Unreadable) bool { return joins(u.Path) })
}

// OwnName is the name of the node in the subject of its kubelet's client certificate, such as
// "CN=system:node:cp1,O=system:nodes"; empty for another subject.
func (n Node) OwnName() string {
	for _, kind := range []certs.Kind{certs.KindKubeletClient, certs.KindKubeletConf} {
		c, _ := n.Certificate(kind)
		_, name, _ := strings.Cut(c.Subject, "CN=system:node:")
		if name, _, _ = strings.Cut(name, ","); name != "" {
			return name
		}
	}
	return ""
}

// Cluster returns the nodes the snapshot is of, as the inventory gave them.
func (s Snapshot) Cluster() cluster.Cluster {
	c := cluster.Cluster{Endpoint: s.Endpoint, ExternalCA: s.ExternalCA}
	for _, n := range s.Nodes {
		c.Nodes = append(c.Nodes, n.Node)
	}
	return c
}

// Process returns the running process of a component.
func (n Node) Process(name string) (Process, bool) {
	for _, p := range n.Processes {
		if p.Name == name {
			return p, true
		}
	}
	return Process{}, false
}

// Certificate returns the node's certificate of a kind in a file or kubeconfig.
func (n Node) Certificate(k certs.Kind) (certs.Certificate, bool) {
	for _, c := range n.Certificates {
		if c.Kind == k && !c.Served {
			return c, true
		}
	}
	return certs.Certificate{}, false
}

// SignsEtcd reports whether the key of the CA of etcd as a host service is on the node: the others'
// certificates are signed there.
func (n Node) SignsEtcd() bool { return n.Digests[path.Join(n.Facts["etcd-dir"], "ca-key.pem")] != "" }

// Endpoint returns what a component's port answered.
func (n Node) Endpoint(name string) (Endpoint, bool) {
	for _, e := range n.Endpoints {
		if e.Name == name {
			return e, true
		}
	}
	return Endpoint{}, false
}
