// Package snapshot holds what "inspect" brought back from all nodes at one
// moment: typed facts, nothing concluded.
//
// A snapshot is immutable and carries its own time, so that whatever is derived
// from it can be derived again, on another machine, from the saved JSON. It
// holds public certificates, digests and log lines, never a private key.
package snapshot

import (
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// Schema is the version of the JSON form of a Snapshot.
const Schema = 1

// Snapshot is what all nodes looked like at one moment.
type Snapshot struct {
	Schema int `json:"schema"`
	// Taken is the driver's clock when the nodes were asked.
	Taken time.Time `json:"taken"`
	// Nodes has one entry for each node of the cluster, in cluster order, also
	// for those that could not be reached.
	Nodes []Node `json:"nodes"`
}

// Node is what one node looked like.
type Node struct {
	cluster.Node
	// Failure says why nothing is known of the node; nil when it was inspected.
	Failure *Failure `json:"failure,omitempty"`

	// Clock is the node's own time, whole seconds.
	Clock time.Time `json:"clock"`
	// Facts are single values by name: hostname, pki, pki-real, config-dir,
	// kubeadm, kubeadm-config, kubectl, openssl, manifest.
	Facts map[string]string `json:"facts,omitempty"`
	// Units are systemd units that are loaded, by name.
	Units map[string]Unit `json:"units,omitempty"`
	// DiskFree is the free space in KiB by mount point.
	DiskFree map[string]int64 `json:"diskFree,omitempty"`
	// Certificates found in files, in kubeconfigs and on ports.
	Certificates []certs.Certificate `json:"certificates,omitempty"`
	// Kubeconfigs by path, with the certificate they present listed above.
	Kubeconfigs []Kubeconfig `json:"kubeconfigs,omitempty"`
	// Unreadable names files that should hold a certificate and do not.
	Unreadable []Unreadable `json:"unreadable,omitempty"`
	// Endpoints tells what answered on each port that was asked.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// Digests are SHA-256 sums, hexadecimal, of what must never change: CA
	// certificates and keys, service account keys, the encryption configuration.
	Digests map[string]string `json:"digests,omitempty"`
	// Results are the outcomes of commands by name: kubeadm-version, readyz,
	// apiserver-log, kubelet-log.
	Results map[string]Result `json:"results,omitempty"`
	// View is the cluster as this node's API server tells it; nil when the API
	// server could not be asked.
	View *View `json:"view,omitempty"`
}

// FailureKind classifies why a node could not be inspected.
type FailureKind string

// The reasons for which nothing is known of a node.
const (
	Unreachable FailureKind = "unreachable" // no SSH connection
	Privilege   FailureKind = "privilege"   // connected, but root could not be had
	Garbled     FailureKind = "garbled"     // the answer was cut off or not understood
	Failed      FailureKind = "failed"      // the collector itself failed
	Missing     FailureKind = "missing"     // Ansible never asked the node
)

// Failure is why a node could not be inspected, with Ansible's own words.
type Failure struct {
	Kind    FailureKind `json:"kind"`
	Message string      `json:"message"`
}

// Unit is the state of a systemd unit, in systemd's words.
type Unit struct {
	Active   string `json:"active"`
	Sub      string `json:"sub"`
	Restarts int    `json:"restarts"`
	// ActiveSeconds is for how long it has been active.
	ActiveSeconds int `json:"activeSeconds"`
}

// Steady reports whether the unit runs and is not in a restart loop: systemd
// calls a unit active in the moments between two crashes too.
func (u Unit) Steady() bool {
	return u.Active == "active" && (u.Restarts == 0 || u.ActiveSeconds >= 30)
}

// Kubeconfig is the public part of a kubeconfig file.
type Kubeconfig struct {
	Path string `json:"path"`
	// Server is the API endpoint it points at.
	Server string `json:"server"`
	// ClientCertificateFile is set when the client certificate is a reference.
	ClientCertificateFile string `json:"clientCertificateFile,omitempty"`
	// CAFingerprint is the SHA-256 of the CA certificate it trusts, hexadecimal.
	CAFingerprint string `json:"caFingerprint,omitempty"`
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
	// Fingerprint of the certificate it served; empty when none was served.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Error is what the TLS client said instead.
	Error string `json:"error,omitempty"`
}

// Result is the outcome of a command on a node.
type Result struct {
	Status int    `json:"status"`
	Output string `json:"output"`
}

// View is the cluster as one API server tells it.
type View struct {
	// Nodes maps a Kubernetes node name to its Ready condition.
	Nodes map[string]string `json:"nodes"`
	// NodeLeases maps a Kubernetes node name to when its kubelet last renewed it.
	NodeLeases map[string]time.Time `json:"nodeLeases"`
	// ComponentLeases maps kube-controller-manager and kube-scheduler likewise.
	ComponentLeases map[string]time.Time `json:"componentLeases"`
	// StaticPods are the control plane's mirror pods.
	StaticPods []StaticPod `json:"staticPods"`
}

// StaticPod is one control plane component on one node.
type StaticPod struct {
	Component string `json:"component"`
	Node      string `json:"node"`
	Ready     string `json:"ready"`
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

// Observer returns the first control plane that has a view of the cluster.
func (s Snapshot) Observer() (Node, bool) {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.View != nil })
	if i < 0 {
		return Node{}, false
	}
	return s.Nodes[i], true
}

// View returns what the observer sees.
func (s Snapshot) View() (View, bool) {
	n, ok := s.Observer()
	if !ok {
		return View{}, false
	}
	return *n.View, true
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

// Endpoint returns what a component's port answered.
func (n Node) Endpoint(name string) (Endpoint, bool) {
	for _, e := range n.Endpoints {
		if e.Name == name {
			return e, true
		}
	}
	return Endpoint{}, false
}
