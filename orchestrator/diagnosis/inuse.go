package diagnosis

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// apiServer and loopback are the names under which an API server's port was asked: for its
// certificate, and for the one it made for itself.
const (
	apiServer = "kube-apiserver"
	loopback  = "kube-apiserver-loopback"
)

// server is a port that serves a file. restarts: a renewal restarts the component if what it serves
// is not what is on disk.
type server struct {
	component string
	restarts  bool
}

// servers lists them, in the order of findings.
func servers() []server {
	out := []server{{apiServer, true}}
	for _, e := range certs.EtcdClusters() {
		out = append(out, server{e.Name, true}, server{e.Peer(), false})
	}
	return append(out, server{"kubelet", false})
}

// checkInUse compares files on disk with what is served and held.
func (d *Diagnosis) checkInUse(s snapshot.Snapshot, n snapshot.Node, t Thresholds) {
	for _, row := range servers() {
		for _, e := range n.Endpoints {
			if e.Name == row.component {
				d.checkServed(n, e, s.ServedFiles(n, row.component), row.restarts)
			}
		}
	}
	for _, row := range certs.Table() {
		component, reads := strings.CutSuffix(row.Settings, ".kubeconfig")
		if !reads { // its kubeconfig once, when it starts
			continue
		}
		c, ok := n.Certificate(row.Kind)
		p, runs := n.Process(component)
		// A second: a process has read what is written at the moment it starts.
		if ok && !s.Unused(n, c) && runs && c.File != nil && !p.Started.IsZero() &&
			c.File.Modified.Sub(p.Started) > time.Second {
			d.add(CredentialStale, n.Name, component, fmt.Sprintf("process %d started at %s, %s was written at %s",
				p.PID, p.Started.Format(time.RFC3339), c.Path, c.File.Modified.Format(time.RFC3339)))
			d.markStale(n, component)
		}
	}
	for _, c := range n.Certificates {
		if !c.Served || c.Kind != loopback {
			continue
		}
		switch c.StatusAt(n.Clock, t.RenewBefore) {
		case certs.Expired:
			d.add(LoopbackCertificateExpired, n.Name, apiServer,
				fmt.Sprintf("what %s presents to itself expired at %s", c.Path, c.NotAfter.Format(time.RFC3339)))
		case certs.Expiring:
			d.add(LoopbackCertificateExpiring, n.Name, apiServer,
				fmt.Sprintf("what %s presents to itself expires at %s", c.Path, c.NotAfter.Format(time.RFC3339)))
		case certs.NotYetValid:
			d.add(LoopbackCertificateExpiring, n.Name, apiServer,
				fmt.Sprintf("what %s presents to itself is valid from %s", c.Path, c.NotBefore.Format(time.RFC3339)))
		case certs.Valid:
		}
	}
}

// checkServed compares what a port presents with the files it may have been started from.
func (d *Diagnosis) checkServed(n snapshot.Node, e snapshot.Endpoint, of []certs.Certificate, restarts bool) {
	var files []string
	for _, c := range of {
		if c.Fingerprint == e.Fingerprint {
			return
		}
		files = append(files, c.Path)
	}
	if e.Fingerprint == "" || len(files) == 0 {
		return
	}
	evidence := fmt.Sprintf("%s serves a different certificate than %s", e.Address, strings.Join(files, " or "))
	if c, ok := servedCertificate(n, e); ok {
		evidence += fmt.Sprintf(": %s, which expires at %s", short(c.Fingerprint), c.NotAfter.Format(time.RFC3339))
	}
	d.add(ServedCertificateStale, n.Name, e.Name, evidence)
	if restarts {
		d.markStale(n, e.Name)
	}
}

// markStale records a component that a renewal restarts: those of control planes, and etcd.
func (d *Diagnosis) markStale(n snapshot.Node, component string) {
	isEtcd := func(e certs.EtcdCluster) bool { return e.Name == component }
	if (n.Is(cluster.ControlPlane) || n.Is(cluster.Etcd) && slices.ContainsFunc(certs.EtcdClusters(), isEtcd)) &&
		!slices.Contains(d.Stale[n.Name], component) {
		d.Stale[n.Name] = append(d.Stale[n.Name], component)
	}
}

// servedCertificate is the certificate that a port presented.
func servedCertificate(n snapshot.Node, e snapshot.Endpoint) (certs.Certificate, bool) {
	for _, c := range n.Certificates {
		if c.Served && c.Path == e.Address && c.Fingerprint == e.Fingerprint {
			return c, true
		}
	}
	return certs.Certificate{}, false
}

// --- names ---------------------------------------------------------------------

// use is one address of an API server.
type use struct {
	host string
	// of is the node of the API server; empty for all of them.
	of string
	// by is who uses it: a kubeconfig or a node.
	by string
}

// checkNames: the API server's certificate has every name by which it is asked.
func (d *Diagnosis) checkNames(s snapshot.Snapshot) {
	elsewhere := fronted(s)
	uses := slices.DeleteFunc(usesOf(s), func(u use) bool { return elsewhere[canonical(u.host)] })
	for _, n := range s.With(cluster.ControlPlane) {
		files := s.ServedFiles(n, apiServer)
		if len(files) == 0 || len(files[0].SANs) == 0 {
			continue
		}
		c := files[0]
		var stated []string
		for _, u := range uses {
			if (u.of == "" || u.of == n.Name) && !covers(c.SANs, u.host) && !slices.Contains(stated, u.host) {
				stated = append(stated, u.host)
				d.add(SANMissing, n.Name, u.host,
					fmt.Sprintf("%s is for %s; %s uses %s", c.Path, strings.Join(c.SANs, ", "), u.by, u.host))
			}
		}
		if n.Kubeadm == nil || c.Kind != certs.KindAPIServer { // which kubeadm did not issue
			continue
		}
		for _, name := range n.Kubeadm.CertSANs {
			if !covers(c.SANs, name) && !slices.Contains(stated, name) && !elsewhere[canonical(name)] {
				d.add(SANPending, n.Name, name,
					fmt.Sprintf("certSANs of %s name it, %s is for %s", n.Kubeadm.Path, c.Path,
						strings.Join(c.SANs, ", ")))
			}
		}
	}
}

// usesOf lists the names by which API servers are asked: in kubeconfigs, and by the inspection
// itself, each once. A name at which no certificate was presented leads to no API server.
func usesOf(s snapshot.Snapshot) []use {
	var out []use
	for _, n := range s.Nodes {
		var dead []string
		for _, p := range n.Probes {
			if p.Failed == snapshot.StageResolve || p.Failed == snapshot.StageTCP || p.Failed == snapshot.StageTLS {
				dead = append(dead, hostOf(p.Endpoint))
			}
		}
		note := func(host, by string) {
			known := slices.ContainsFunc(out,
				func(u use) bool { return u.host == host && (u.of == n.Name || !isLoopback(host)) })
			if host != "" && !known && !slices.Contains(dead, host) {
				out = append(out, use{host: host, of: meant(s, n, host), by: by})
			}
		}
		for _, k := range n.Kubeconfigs {
			if server, err := url.Parse(k.Server); err == nil && !strings.HasPrefix(k.Path, "/root/") && !stray(n, k) &&
				!ofNetworkPlugin(n, k) {
				note(server.Hostname(), k.Path+" on "+n.Name)
			}
		}
		for _, p := range n.Probes {
			note(hostOf(p.Endpoint), n.Name)
		}
		if e, ok := n.Endpoint(apiServer); ok && !isLoopback(hostOf(e.Address)) {
			note(hostOf(e.Address), n.Name)
		}
	}
	return out
}

// meant is the node whose API server answers when a node asks for a host: its owner, or a control
// plane itself on its loopback; empty for any of them, behind a load balancer or a worker's proxy.
func meant(s snapshot.Snapshot, asker snapshot.Node, host string) string {
	if isLoopback(host) {
		if asker.Is(cluster.ControlPlane) {
			return asker.Name
		}
		return ""
	}
	owner, _ := ownerOf(s, host)
	return owner.Name
}

// ownerOf returns the node that has this address or name as its own.
func ownerOf(s snapshot.Snapshot, host string) (snapshot.Node, bool) {
	for _, n := range s.Nodes {
		e, _ := n.Endpoint(apiServer)
		for _, own := range []string{n.Address, n.Name, n.KubernetesName, n.Facts["hostname"], hostOf(e.Address)} {
			if own != "" && !isLoopback(own) && same(own, host) {
				return n, true
			}
		}
	}
	return snapshot.Node{}, false
}

// hostOf is the host of a "host:port", without the brackets of IPv6.
func hostOf(endpoint string) string {
	u, err := url.Parse("//" + endpoint)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && a.IsLoopback())
}

// same compares two hosts as TLS does: addresses by value, names without case.
func same(a, b string) bool { return canonical(a) == canonical(b) }

// canonical is the same form of a host for all ways to write it.
func canonical(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// covers reports whether a certificate with these names is valid for the host; a star stands for
// one label.
func covers(sans []string, host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(sans, func(san string) bool {
		return same(san, host) || (parent != "" && same(san, "*."+parent))
	})
}
