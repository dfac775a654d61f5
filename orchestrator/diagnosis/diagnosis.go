// Package diagnosis concludes from a snapshot what is wrong with a cluster and
// which way leads out.
//
// It is a pure function: no I/O and no clock but the snapshot's, so that every
// situation is a row in a test and a saved snapshot gives the same diagnosis
// on another machine.
package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Route is the way out.
type Route string

// The routes.
const (
	None    Route = "none"    // nothing to do
	Renew   Route = "renew"   // API server usable, certificates due
	Recover Route = "recover" // API server unusable because of certificates
	NewCA   Route = "new-ca"  // a certificate authority has expired or is lost
	Refuse  Route = "refuse"  // another cause, or acting would destroy something
)

// Thresholds say when a certificate is due.
type Thresholds struct {
	// RenewBefore: a certificate that ends within it is due for renewal.
	RenewBefore time.Duration
	// ClockSkew is how far a node's clock may be from the driver's.
	ClockSkew time.Duration
}

// DefaultThresholds are 30 days, as kubeadm's own renewal window is measured in
// months, and 2 minutes, well above what asking many nodes takes.
func DefaultThresholds() Thresholds {
	return Thresholds{RenewBefore: 30 * 24 * time.Hour, ClockSkew: 2 * time.Minute}
}

// Diagnosis is what a snapshot means.
type Diagnosis struct {
	Schema int `json:"schema"`
	// Verdict is the state of the cluster in one sentence.
	Verdict string `json:"verdict"`
	Route   Route  `json:"route"`
	// Findings, the gravest first.
	Findings []Finding `json:"findings"`
	// ControlPlanes tells how each API server answered, by node.
	ControlPlanes map[string]APIState `json:"controlPlanes"`
	// Due maps a node to its certificates that must be renewed.
	Due map[string][]certs.Kind `json:"due,omitempty"`
}

// Schema is the version of the JSON form of a Diagnosis.
const Schema = 1

// APIState is how an API server answered its own node's administrator.
type APIState string

// The states of an API server.
const (
	APIUsable       APIState = "usable"
	APIExpired      APIState = "serving-certificate-expired"
	APIUntrusted    APIState = "serving-certificate-untrusted"
	APIUnauthorized APIState = "client-rejected"
	APIRefused      APIState = "connection-refused"
	APITimeout      APIState = "timeout"
	APINotReady     APIState = "not-ready"
	APIUnknown      APIState = "unknown"
)

// Diagnose concludes from a snapshot.
func Diagnose(s snapshot.Snapshot, t Thresholds) Diagnosis {
	d := Diagnosis{Schema: Schema, Findings: []Finding{}, ControlPlanes: map[string]APIState{}, Due: map[string][]certs.Kind{}}
	for _, n := range s.Nodes {
		d.inspectNode(n, s.Taken, t)
	}
	d.compareControlPlanes(s)
	d.judgeView(s)
	slices.SortStableFunc(d.Findings, func(a, b Finding) int {
		return a.Severity().rank() - b.Severity().rank()
	})
	d.Route = d.route(s)
	d.Verdict = d.verdict(s)
	return d
}

// Has reports whether any finding has one of the reasons.
func (d Diagnosis) Has(rs ...Reason) bool {
	return slices.ContainsFunc(d.Findings, func(f Finding) bool { return slices.Contains(rs, f.Reason) })
}

// With returns the findings of a severity.
func (d Diagnosis) With(sev Severity) []Finding {
	var out []Finding
	for _, f := range d.Findings {
		if f.Severity() == sev {
			out = append(out, f)
		}
	}
	return out
}

func (d *Diagnosis) find(r Reason, node, subject, evidence string) {
	d.Findings = append(d.Findings, Finding{Reason: r, Node: node, Subject: subject, Evidence: evidence})
}

func (d *Diagnosis) inspectNode(n snapshot.Node, taken time.Time, t Thresholds) {
	if n.Failure != nil {
		d.find(failureReasons[n.Failure.Kind], n.Name, "", n.Failure.Message)
		if n.Is(cluster.ControlPlane) {
			d.ControlPlanes[n.Name] = APIUnknown
		}
		return
	}
	if skew := n.Clock.Sub(taken); skew.Abs() > t.ClockSkew {
		d.find(ClockSkew, n.Name, "", fmt.Sprintf("its clock says %s, the driver's %s: %s apart",
			n.Clock.Format(time.RFC3339), taken.UTC().Format(time.RFC3339), skew.Abs().Round(time.Second)))
	}
	for _, u := range n.Unreadable {
		d.find(CertificateUnreadable, n.Name, u.Path, u.Reason)
	}
	for _, c := range n.Certificates {
		if !c.Served {
			d.judgeCertificate(n, c, t)
		}
	}
	d.judgeServed(n)
	if u, ok := n.Units["kubelet"]; ok && !u.Steady() {
		d.find(KubeletDown, n.Name, "kubelet.service", unitEvidence(u, n.Results["kubelet-log"]))
	}
	if n.Is(cluster.ControlPlane) {
		d.judgeControlPlane(n)
	}
}

// judgeCertificate finds what is wrong with one certificate on disk.
func (d *Diagnosis) judgeCertificate(n snapshot.Node, c certs.Certificate, t Thresholds) {
	row, known := certs.Lookup(c.Kind)
	if !known {
		return
	}
	evidence := fmt.Sprintf("%s ended at %s", c.Path, c.NotAfter.Format(time.RFC3339))
	switch status := c.StatusAt(n.Clock, row.Window(t.RenewBefore)); {
	case status == certs.Valid:
	case status == certs.NotYetValid:
		d.find(CertificateNotYetValid, n.Name, c.Label(), fmt.Sprintf("%s begins at %s, the node's clock says %s",
			c.Path, c.NotBefore.Format(time.RFC3339), n.Clock.Format(time.RFC3339)))
	case status == certs.Expired && row.Approved:
		d.find(CertificateUnapproved, n.Name, c.Label(), evidence)
	case status == certs.Expired && row.CA:
		d.find(CAExpired, n.Name, c.Label(), evidence)
	case status == certs.Expired:
		d.find(CertificateExpired, n.Name, c.Label(), evidence)
		d.Due[n.Name] = append(d.Due[n.Name], c.Kind)
	case row.CA:
		d.find(CAExpiring, n.Name, c.Label(), fmt.Sprintf("%s ends at %s", c.Path, c.NotAfter.Format(time.RFC3339)))
	default:
		d.find(CertificateExpiring, n.Name, c.Label(), fmt.Sprintf("%s ends at %s", c.Path, c.NotAfter.Format(time.RFC3339)))
		d.Due[n.Name] = append(d.Due[n.Name], c.Kind)
	}
}

// served maps a component's port to the file it must serve.
var served = map[string][]certs.Kind{
	"kube-apiserver": {certs.KindAPIServer},
	"etcd":           {certs.KindEtcdServer, certs.KindEtcdMember},
}

// judgeServed compares what a port presents with the file it was started from.
func (d *Diagnosis) judgeServed(n snapshot.Node) {
	for _, e := range n.Endpoints {
		for _, kind := range served[e.Name] {
			c, ok := ownCertificate(n, kind)
			if !ok || e.Fingerprint == "" {
				continue
			}
			if c.Fingerprint != e.Fingerprint {
				d.find(ServedCertificateStale, n.Name, e.Name, fmt.Sprintf("%s serves another certificate than %s", e.Address, c.Path))
			}
		}
	}
}

// ownCertificate is the node's certificate of a kind; the member's own where a
// folder holds those of all members, as Kubespray's first etcd node does.
func ownCertificate(n snapshot.Node, kind certs.Kind) (certs.Certificate, bool) {
	for _, c := range n.Certificates {
		if kind == certs.KindEtcdMember && c.Kind == kind && !c.Served && strings.HasSuffix(c.Path, "/member-"+n.Name+".pem") {
			return c, true
		}
	}
	return n.Certificate(kind)
}

func (d *Diagnosis) judgeControlPlane(n snapshot.Node) {
	state := apiState(n)
	d.ControlPlanes[n.Name] = state
	for _, tool := range []string{"kubeadm", "kubectl", "openssl"} {
		if n.Facts[tool] == "" {
			d.find(ToolMissing, n.Name, tool, "not in the node's PATH nor in bin_dir")
		}
	}
	if n.Facts["kubeadm-config"] == "" {
		d.find(KubeadmConfigMissing, n.Name, "kubeadm-config.yaml", n.Facts["config-dir"]+"/kubeadm-config.yaml does not exist")
	}
	pki := n.Facts["pki-real"]
	for _, ca := range []string{"ca", "front-proxy-ca"} {
		_, cert := n.Digests[pki+"/"+ca+".crt"]
		_, key := n.Digests[pki+"/"+ca+".key"]
		switch {
		case !cert:
			d.find(CAMissing, n.Name, ca, pki+"/"+ca+".crt does not exist")
		case !key:
			d.find(CAKeyMissing, n.Name, ca, pki+"/"+ca+".key does not exist")
		}
	}
	if state == APIUsable {
		return
	}
	if n.Facts["manifest"] == "missing" {
		d.find(ManifestMissing, n.Name, "kube-apiserver", n.Facts["config-dir"]+"/manifests/kube-apiserver.yaml does not exist")
	}
	d.find(APIUnusable, n.Name, string(state), apiEvidence(n))
}

// apiState reads how kubectl fared against the node's own API server. The texts
// are those of kubectl and of Go's crypto/tls, unchanged since Kubernetes 1.14.
func apiState(n snapshot.Node) APIState {
	r, asked := n.Results["readyz"]
	if asked && r.Status == 0 {
		return APIUsable
	}
	e, _ := n.Endpoint("kube-apiserver")
	for _, row := range []struct {
		text  string
		state APIState
	}{
		{"certificate has expired or is not yet valid", APIExpired},
		{"certificate signed by unknown authority", APIUntrusted},
		{"certificate is valid for", APIUntrusted},
		{"Unauthorized", APIUnauthorized},
		{"connection refused", APIRefused},
		{"was refused", APIRefused},
		// It listens, waits for etcd, and gives up: over and over.
		{"connection reset by peer", APIRefused},
		{"EOF", APIRefused},
		{"TLS handshake timeout", APITimeout},
		{"i/o timeout", APITimeout},
		{"deadline exceeded", APITimeout},
		{"no route to host", APITimeout},
		{"check failed", APINotReady},
		{"[+]ping ok", APINotReady}, // it answers, and lists what is not ready
		{"ServiceUnavailable", APINotReady},
		{"not ready", APINotReady},
	} {
		if strings.Contains(r.Output, row.text) {
			return row.state
		}
	}
	if e.Fingerprint == "" && strings.Contains(e.Error, "refused") {
		return APIRefused
	}
	if asked && r.Status == 124 { // timeout(1)
		return APITimeout
	}
	return APIUnknown
}

func apiEvidence(n snapshot.Node) string {
	var parts []string
	for _, name := range []string{"readyz", "apiserver-log", "kubelet-log"} {
		if out := lastLines(n.Results[name].Output, 2); out != "" {
			parts = append(parts, name+": "+out)
		}
	}
	return strings.Join(parts, "\n")
}

func unitEvidence(u snapshot.Unit, log snapshot.Result) string {
	s := fmt.Sprintf("systemd says %s (%s), restarted %d times", u.Active, u.Sub, u.Restarts)
	if last := lastLines(log.Output, 2); last != "" {
		s += "\n" + last
	}
	return s
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(strings.Join(lines[max(0, len(lines)-n):], "\n"))
}

// compareControlPlanes: every control plane must hold the same authorities and
// service account keys (kubeadm copies them on join).
func (d *Diagnosis) compareControlPlanes(s snapshot.Snapshot) {
	var first *snapshot.Node
	for _, n := range s.With(cluster.ControlPlane) {
		if n.Failure != nil {
			continue
		}
		if first == nil {
			first = &n
			continue
		}
		for _, name := range []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub", "etcd/ca.crt", "etcd/ca.key"} {
			a, b := first.Digests[first.Facts["pki-real"]+"/"+name], n.Digests[n.Facts["pki-real"]+"/"+name]
			if a != "" && b != "" && a != b {
				d.find(AuthoritiesDiffer, n.Name, name, fmt.Sprintf("%s is another file than on %s", name, first.Name))
			}
		}
	}
}

// judgeView reads what a usable API server says of nodes and static pods.
func (d *Diagnosis) judgeView(s snapshot.Snapshot) {
	v, ok := s.View()
	if !ok {
		return
	}
	for _, n := range s.Nodes {
		if !n.Is(cluster.ControlPlane) && !n.Is(cluster.Worker) {
			continue
		}
		switch ready, known := v.Nodes[n.KubernetesName]; {
		case !known:
			d.find(NodeNotRegistered, n.Name, n.KubernetesName, "the API server knows no node of this name")
		case ready != "True":
			d.find(NodeNotReady, n.Name, n.KubernetesName, "its Ready condition is "+ready)
		}
	}
	for _, p := range v.StaticPods {
		if p.Ready != "True" {
			d.find(StaticPodNotReady, p.Node, p.Component, "its Ready condition is "+p.Ready)
		}
	}
}

// explained reports whether a certificate finding on the node accounts for its
// API server's state: the condition without which nothing is changed.
func (d *Diagnosis) explained(n snapshot.Node) bool {
	expired := map[certs.Outage]bool{}
	for _, c := range n.Certificates {
		if row, ok := certs.Lookup(c.Kind); ok && !c.Served && c.StatusAt(n.Clock, 0) == certs.Expired {
			expired[row.Outage] = true
		}
	}
	switch d.ControlPlanes[n.Name] {
	case APIExpired:
		return expired[certs.OutageTLS]
	case APIUnauthorized:
		return expired[certs.OutageClient]
	case APIRefused, APITimeout:
		// Nothing listens: etcd keeps the API server from starting, or the
		// kubelet does not run and so starts no static pod.
		return expired[certs.OutageEtcd] || (expired[certs.OutageKubelet] && !n.Units["kubelet"].Steady())
	case APINotReady:
		return expired[certs.OutageEtcd]
	default:
		return false
	}
}

func (d *Diagnosis) route(s snapshot.Snapshot) Route {
	if slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Reason.Blocks() }) {
		return Refuse
	}
	if d.Has(CAExpired) {
		return NewCA
	}
	usable := true
	for _, n := range s.With(cluster.ControlPlane) {
		if d.ControlPlanes[n.Name] == APIUsable {
			continue
		}
		usable = false
		if !d.explained(n) {
			return Refuse
		}
	}
	switch {
	case !usable:
		return Recover
	case len(d.Due) > 0 || d.Has(ServedCertificateStale):
		return Renew
	case len(d.With(Critical)) > 0:
		return Refuse // something is wrong, and it is no certificate
	default:
		return None
	}
}

// verdict says the state of the cluster in one sentence.
func (d *Diagnosis) verdict(s snapshot.Snapshot) string {
	expired, expiring := d.count(CertificateExpired), d.count(CertificateExpiring)
	switch d.Route {
	case None:
		return fmt.Sprintf("healthy: every certificate on %s is valid, every API server answers", plural(len(s.Nodes), "node"))
	case Renew:
		switch {
		case expired > 0:
			return fmt.Sprintf("the API server can be used, but %s expired", plural(expired, "certificate")+have(expired))
		case expiring > 0:
			return fmt.Sprintf("healthy, but %s about to expire", plural(expiring, "certificate")+are(expiring))
		default:
			return "healthy, but a component serves an older certificate than the one on disk"
		}
	case Recover:
		return fmt.Sprintf("the API server cannot be used because %s expired", plural(expired, "certificate")+have(expired))
	case NewCA:
		return "a certificate authority has expired: all that it signed would have to be issued anew"
	default:
		return "refused: " + d.refusal()
	}
}

// Primary returns the finding that decided the route: what forbids a change
// before what is unusable before the rest.
func (d Diagnosis) Primary() (Finding, bool) {
	for _, decides := range []func(Finding) bool{
		func(f Finding) bool { return f.Reason.Blocks() },
		func(f Finding) bool { return f.Reason == CAExpired },
		func(f Finding) bool { return f.Reason == APIUnusable },
		func(f Finding) bool { return f.Severity() == Critical },
		func(Finding) bool { return true },
	} {
		if i := slices.IndexFunc(d.Findings, decides); i >= 0 {
			return d.Findings[i], true
		}
	}
	return Finding{}, false
}

// refusal says in words what stands in the way.
func (d *Diagnosis) refusal() string {
	switch f, _ := d.Primary(); {
	case f.Reason.Blocks():
		return fmt.Sprintf("%s (%s)", f.Title(), f.where())
	case f.Reason == APIUnusable:
		return fmt.Sprintf("the API server on %s cannot be used (%s), and no expired certificate explains it", f.Node, f.Subject)
	default:
		return fmt.Sprintf("%s (%s), and no certificate explains it", f.Title(), f.where())
	}
}

func (d *Diagnosis) count(r Reason) int {
	n := 0
	for _, f := range d.Findings {
		if f.Reason == r {
			n++
		}
	}
	return n
}

func (f Finding) where() string {
	if f.Subject == "" {
		return f.Node
	}
	return f.Node + ", " + f.Subject
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func have(n int) string {
	if n == 1 {
		return " has"
	}
	return " have"
}

func are(n int) string {
	if n == 1 {
		return " is"
	}
	return " are"
}
