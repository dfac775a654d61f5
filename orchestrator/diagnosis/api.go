package diagnosis

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

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

// apiState interprets kubectl's result from the node's own API server. The texts are those of
// kubectl and of Go's crypto/tls, unchanged since Kubernetes 1.14.
func apiState(n snapshot.Node) APIState {
	r, asked := n.Results["readyz"]
	if asked && r.Status == 0 {
		return APIUsable
	}
	e, _ := n.Endpoint(apiServer)
	for _, row := range []struct {
		text  string
		state APIState
	}{
		// kubectl asks for a name if admin.conf has no user to log in with: that is nothing about
		// the API server.
		{"Please enter Username", APIUnknown},
		{"certificate has expired or is not yet valid", APIExpired},
		{"certificate signed by unknown authority", APIUntrusted},
		{"certificate is valid for", APIUntrusted},
		{"certificate specifies an incompatible key usage", APIUntrusted},
		{"doesn't contain any IP SANs", APIUntrusted},
		{"Unauthorized", APIUnauthorized},
		{"connection refused", APIRefused},
		{"was refused", APIRefused},
		// It listens, waits for etcd, and gives up: over and over.
		{"connection reset by peer", APIRefused},
		{"EOF", APIRefused},
		{"TLS handshake timeout", APITimeout},
		{"i/o timeout", APITimeout},
		{"deadline exceeded", APITimeout},
		{"Client.Timeout exceeded", APITimeout},
		{"no route to host", APITimeout},
		{"check failed", APINotReady},
		{"[+]ping ok", APINotReady}, // it answers, and lists what is not ready
		{"ServiceUnavailable", APINotReady},
		// Just started, it has not loaded the permissions yet.
		{`cannot get path "/readyz"`, APINotReady},
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

// checkAPIServers: each API server can be used, or why it cannot.
func (d *Diagnosis) checkAPIServers(s snapshot.Snapshot) {
	for _, n := range s.With(cluster.ControlPlane) {
		if n.Failure != nil {
			d.ControlPlanes[n.Name] = APIUnknown
			continue
		}
		state := apiState(n)
		d.ControlPlanes[n.Name] = state
		if state == APIUsable {
			d.checkAdministrator(n)
			continue
		}
		if n.Facts["manifest"] == "missing" {
			d.add(ManifestMissing, n.Name, apiServer,
				n.Facts["config-dir"]+"/manifests/kube-apiserver.yaml does not exist")
		}
		d.checkManifests(n)
		if because, ok := d.certificateCause(s, n); ok {
			d.Findings = append(d.Findings,
				Finding{Reason: APIUnusable, Node: n.Name, Subject: string(state), Evidence: apiEvidence(n),
					Because: because})
			continue
		}
		reason := apiReason(n, state)
		evidence := apiEvidence(n)
		if p, ok := n.Process(apiServer); ok && reason == APIBlocked {
			evidence = fmt.Sprintf("process %d started at %s\n%s", p.PID, p.Started.Format(time.RFC3339), evidence)
		}
		d.add(reason, n.Name, string(state), evidence)
	}
}

// checkAdministrator: an API server reports to everyone that it is ready, so a user without any
// rights looks like an administrator until a step of a run fails.
func (d *Diagnosis) checkAdministrator(n snapshot.Node) {
	if n.View == nil || len(n.View.Forbidden) == 0 {
		return
	}
	evidence := n.View.Forbidden[0]
	path := n.Facts["config-dir"] + "/admin.conf"
	if c, ok := n.Certificate(certs.KindAdmin); ok {
		path = c.Path
		evidence = "the subject of its certificate is " + c.Subject + "\n" + evidence
	}
	d.add(AdministratorForbidden, n.Name, path, evidence)
}

// invalidManifest is the kubelet's log line about a file that is no pod, since Kubernetes 1.10:
// "FILE: couldn't parse as pod(yaml: ...), please check config file".
var invalidManifest = regexp.MustCompile(`(/[^\s:"\\]+\.(?:yaml|yml|json))[\\"]*: couldn't parse as pod.*`)

// checkManifests finds in the kubelet's log which static pod it cannot start.
func (d *Diagnosis) checkManifests(n snapshot.Node) {
	stated := map[string]bool{}
	for _, m := range invalidManifest.FindAllStringSubmatch(n.Results["kubelet-log"].Output, -1) {
		if !stated[m[1]] {
			stated[m[1]] = true
			d.add(ManifestInvalid, n.Name, m[1], m[0])
		}
	}
}

// certificateCause returns the reason of the certificate finding that explains the state of a
// node's API server: without one nothing is changed.
func (d *Diagnosis) certificateCause(s snapshot.Snapshot, n snapshot.Node) (Reason, bool) {
	ended := map[certs.Outage]Reason{}
	if because, lost := d.quorumCause(s); lost {
		ended[certs.OutageEtcd] = because
	}
	for _, c := range n.Certificates {
		row, ok := certs.Lookup(c.Kind)
		status := c.StatusAt(n.Clock, 0)
		switch {
		case !ok || c.Served || n.Copies(row) || passedOver(s, n, c):
		case status == certs.NotYetValid && slices.Contains(d.Due[n.Name], c.Kind):
			ended[row.Outage] = cmp.Or(ended[row.Outage], CertificateBeginsLater)
		case status != certs.Expired:
		case row.CA:
			for _, leaf := range certs.Table() {
				// Which the kubelet's start needs.
				if leaf.Signer == row.Authority && leaf.Outage != certs.OutageKubelet {
					ended[leaf.Outage] = CAExpired
				}
			}
		default:
			ended[row.Outage] = expired[row.Group]
		}
	}
	if _, broken := brokenPair(n); broken && ended[certs.OutageKubelet] == "" {
		ended[certs.OutageKubelet] = CertificateUnreadable
	}
	var causes []Reason
	switch d.ControlPlanes[n.Name] {
	case APIExpired:
		causes = append(causes, ended[certs.OutageTLS])
		if e, _ := n.Endpoint(apiServer); d.stales(n, apiServer) {
			if c, ok := servedCertificate(n, e); ok && c.StatusAt(n.Clock, 0) != certs.Valid {
				causes = append(causes, ServedCertificateStale)
			}
		}
	case APIUnauthorized:
		causes = append(causes, ended[certs.OutageClient])
	case APIRefused, APITimeout:
		// Nothing listens: etcd keeps the API server from starting, or the kubelet does not run and
		// so starts no static pod.
		causes = append(causes, ended[certs.OutageEtcd])
		if !n.Units["kubelet"].Steady() {
			causes = append(causes, ended[certs.OutageKubelet])
		}
	case APINotReady:
		causes = append(causes, ended[certs.OutageEtcd])
	case APIUsable, APIUntrusted, APIUnknown:
	}
	reason := cmp.Or(causes...)
	return reason, reason != ""
}

// passedOver reports whether the components of a node use another file than this: then it explains
// nothing.
func passedOver(s snapshot.Snapshot, n snapshot.Node, c certs.Certificate) bool {
	uses, known := n.Uses(c)
	return known && !uses || s.Unused(n, c)
}

// quorumCause is why etcd has no quorum if no member answers, and so many have certificates that
// are not valid, and are issued again, that the others are no quorum: then every API server is
// down, also one on a node whose own certificates are valid.
func (d *Diagnosis) quorumCause(s snapshot.Snapshot) (Reason, bool) {
	invalid := 0
	because := CertificateBeginsLater
	members := s.With(cluster.Etcd)
	for _, n := range members {
		if n.Etcd != nil && n.Etcd.Healthy {
			return "", false
		}
		reason, is := d.memberCause(s, n)
		if is {
			invalid++
		}
		if reason == EtcdExpired {
			because = reason
		}
	}
	return because, len(members)-invalid < len(members)/2+1
}

// memberCause is why other members of etcd do not trust the one on a node: its certificates are not
// valid, and are issued again.
func (d *Diagnosis) memberCause(s snapshot.Snapshot, n snapshot.Node) (because Reason, is bool) {
	for _, c := range n.Certificates {
		if c.Served || passedOver(s, n, c) ||
			!slices.Contains([]certs.Kind{certs.KindEtcdMember, certs.KindEtcdServer, certs.KindEtcdPeer}, c.Kind) {
			continue
		}
		switch c.StatusAt(n.Clock, 0) {
		case certs.Expired:
			return EtcdExpired, true
		case certs.NotYetValid:
			if slices.Contains(d.Due[n.Name], c.Kind) {
				because, is = CertificateBeginsLater, true
			}
		case certs.Valid, certs.Expiring:
		}
	}
	return because, is
}

// LostQuorum reports whether etcd has lost its quorum because of certificates of its members that are
// not valid, and not merely due.
func (d *Diagnosis) LostQuorum(s snapshot.Snapshot) bool {
	_, lost := d.quorumCause(s)
	return lost
}

// LostMember reports whether the other members of etcd do not trust the one on a node for that reason.
func (d *Diagnosis) LostMember(s snapshot.Snapshot, n snapshot.Node) bool {
	_, lost := d.memberCause(s, n)
	return lost
}

// stales reports whether a node's component serves an older certificate.
func (d *Diagnosis) stales(n snapshot.Node, component string) bool {
	for _, f := range d.Findings {
		if f.Reason == ServedCertificateStale && f.Node == n.Name && f.Subject == component {
			return true
		}
	}
	return false
}

// crashed matches the end of the log of a component that gave up: its command line's error, klog's
// fatal line, Go's panic.
var crashed = regexp.MustCompile(`(?m)^(Error|error|panic|fatal error):|^F\d{4} |"command failed"`)

// lasting is how long an API server runs that could start: one that waits for etcd without success
// gives up after 20 s.
const lasting = time.Minute

// apiReason names an outage that no certificate explains.
func apiReason(n snapshot.Node, state APIState) Reason {
	p, runs := n.Process(apiServer)
	lasts := runs && n.Clock.Sub(p.Started) > lasting
	switch state {
	case APIRefused:
		switch {
		case lasts:
			return APIBlocked
		case n.Units["kubelet"].Steady() && crashed.MatchString(n.Results["apiserver-log"].Output):
			return APICrashing
		default:
			return APIServerRefused
		}
	case APITimeout:
		e, _ := n.Endpoint(apiServer)
		switch {
		case e.Fingerprint != "" || reached(n, e.Address):
			return APIServerNotReady
		case runs || len(n.Processes) == 0:
			return APIBlocked
		default:
			return APIServerRefused
		}
	case APINotReady:
		return APIServerNotReady
	case APIUnauthorized:
		return APIRejectsClient
	case APIExpired, APIUntrusted:
		return APIServerUntrusted
	case APIUsable, APIUnknown:
	}
	return APIUnusable
}

// reached reports whether the node's own probe of an endpoint was accepted by
// TCP.
func reached(n snapshot.Node, endpoint string) bool {
	for _, p := range n.Probes {
		if p.Endpoint == endpoint {
			return p.Failed != snapshot.StageTCP && p.Failed != snapshot.StageResolve
		}
	}
	return strings.Contains(n.Results["readyz"].Output, "TLS handshake timeout")
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

// checkEndpoints: from every node the endpoint of its kubelet leads to an API server. Without a
// usable API server it finds nothing.
func (d *Diagnosis) checkEndpoints(s snapshot.Snapshot) {
	for _, n := range s.Nodes {
		own, _ := n.Endpoint(apiServer)
		for _, p := range n.Probes {
			if p.Failed == "" || p.Failed == snapshot.StageAuth || p.Endpoint == own.Address {
				continue
			}
			evidence := fmt.Sprintf("asked from %s, %s failed at %s: %s", n.Name, p.Endpoint, p.Failed, p.Error)
			owner, direct := ownerOf(s, hostOf(p.Endpoint))
			switch {
			case p.Failed == snapshot.StageResolve:
				d.add(NameResolutionFailed, n.Name, p.Endpoint, evidence)
			case direct && d.ControlPlanes[owner.Name] == APIUsable:
				d.add(APIBlocked, n.Name, p.Endpoint, evidence)
			case !direct && d.anyUsable():
				d.add(LoadBalancer, n.Name, p.Endpoint, evidence)
			}
		}
	}
}

func (d *Diagnosis) anyUsable() bool {
	for _, state := range d.ControlPlanes {
		if state == APIUsable {
			return true
		}
	}
	return false
}

// checkDriversView: the API as seen from the control node. Behind a bastion it reaches nothing,
// which means nothing.
func (d *Diagnosis) checkDriversView(s snapshot.Snapshot) {
	known, complete := apiCertificates(s)
	direct := false
	for _, p := range s.Probes {
		direct = direct || (p.Endpoint != s.Endpoint && p.Failed == "")
	}
	for _, p := range s.Probes {
		switch {
		case p.Fingerprint != "" && !known[p.Fingerprint] && complete && (!vouched(p) || !p.NotAfter.After(s.Taken)):
			evidence := fmt.Sprintf(
				"asked from the control node, %s presents %s, which expires at %s, and no API server serves it",
				p.Endpoint, short(p.Fingerprint), p.NotAfter.Format(time.RFC3339))
			d.add(LoadBalancer, "", p.Endpoint, evidence)
		case p.Endpoint == s.Endpoint && p.Failed != "" && p.Failed != snapshot.StageResolve && direct && d.anyUsable():
			d.add(LoadBalancer, "", p.Endpoint,
				fmt.Sprintf("asked from the control node, %s failed at %s: %s", p.Endpoint, p.Failed, p.Error))
		}
	}
}

// apiCertificates are the fingerprints of what API servers serve or have on disk; complete if no
// control plane may have another one.
func apiCertificates(s snapshot.Snapshot) (known map[string]bool, complete bool) {
	known, complete = map[string]bool{}, true
	for _, n := range s.With(cluster.ControlPlane) {
		e, _ := n.Endpoint(apiServer)
		known[e.Fingerprint] = true
		files := s.ServedFiles(n, apiServer)
		for _, c := range files {
			known[c.Fingerprint] = true
		}
		complete = complete && n.Failure == nil && len(files) > 0
	}
	return known, complete
}

// vouched reports whether an API server answered through an endpoint, and what was presented there
// has its name.
func vouched(p snapshot.Probe) bool {
	return (p.Failed == "" || p.Failed == snapshot.StageAuth) && covers(p.SANs, hostOf(p.Endpoint))
}

// fronted are the hosts at which another certificate than the API server's has the name: one that
// the API server uses for that name alone (--tls-sni-cert-key), or that of a load balancer that
// terminates TLS. No API server's certificate needs these names.
func fronted(s snapshot.Snapshot) map[string]bool {
	out := map[string]bool{}
	known, complete := apiCertificates(s)
	probes := slices.Clone(s.Probes)
	for _, n := range s.Nodes {
		probes = append(probes, n.Probes...)
	}
	for _, p := range probes {
		host := hostOf(p.Endpoint)
		if complete && p.Fingerprint != "" && !known[p.Fingerprint] && !isLoopback(host) && vouched(p) {
			out[canonical(host)] = true
		}
	}
	return out
}

// checkView checks what a usable API server reports about nodes and static pods.
func (d *Diagnosis) checkView(s snapshot.Snapshot) {
	v, ok := s.View()
	if !ok {
		return
	}
	for _, n := range s.Nodes {
		// An API server that listed no node at all could not be asked.
		if len(v.Nodes) == 0 || !n.Is(cluster.ControlPlane) && !n.Is(cluster.Worker) || d.on(n.Name, NodeNotJoined) {
			continue
		}
		name := s.NameOf(n)
		switch ready, known := v.Nodes[name]; {
		case !known:
			d.add(NodeNotRegistered, n.Name, name, "the API server has no node of this name")
		case ready != "True":
			d.add(NodeNotReady, n.Name, name, "its Ready condition is "+ready)
		}
		if slices.Contains(v.Unschedulable, name) {
			d.add(NodeUnschedulable, n.Name, name, "it is cordoned")
		}
	}
	for _, p := range v.StaticPods {
		if _, gone := (snapshot.Snapshot{Nodes: s.Gone}).Kubernetes(p.Node); gone {
			continue
		}
		n, _ := s.Kubernetes(p.Node)
		if p.Ready != "True" && !justStarted(n, p.Component) {
			d.add(StaticPodNotReady, cmp.Or(n.Name, p.Node), p.Component, "its Ready condition is "+p.Ready)
		}
	}
}

// probeDelay is how long a pod of the control plane may take to be Ready after its process or the
// kubelet has started: kubeadm's probes wait 10 s and come every 10 s
// (cmd/kubeadm/app/util/staticpod), and a kubelet reports them with a delay.
const probeDelay = time.Minute

// justStarted reports whether a component answers on its port, and its pod cannot be expected to be
// Ready yet.
func justStarted(n snapshot.Node, component string) bool {
	p, runs := n.Process(component)
	e, _ := n.Endpoint(component)
	kubelet := time.Duration(n.Units["kubelet"].ActiveSeconds) * time.Second
	return runs && e.Fingerprint != "" && min(n.Clock.Sub(p.Started), kubelet) < probeDelay
}
