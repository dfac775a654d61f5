package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// place is where something uses a certificate, which may be elsewhere, and what it requires there.
type place struct {
	file   string
	c      certs.Certificate
	demand certs.Identity
}

// places are those of a node: the files of certificates, and the kubeconfigs, each with the client
// certificate of its current context's user. Other content of kubeconfigs, and users' own
// kubeconfigs, are ignored.
func places(s snapshot.Snapshot, n snapshot.Node) []place {
	var out []place
	put := func(file string, kind certs.Kind, c certs.Certificate) {
		row, _ := certs.Lookup(kind)
		demand, demands := certs.IdentityOf(kind)
		switch {
		case !demands || c.Served:
		case row.Group == certs.GroupClient && !n.Is(cluster.ControlPlane): // left there
		case row.Group == certs.GroupKubeletClient && !n.Is(cluster.ControlPlane) && !n.Is(cluster.Worker): // as above
		case s.Unused(n, c): // it is not presented
		case slices.ContainsFunc(out, func(p place) bool { return p.c.Path == c.Path && p.demand.User == demand.User }):
		default:
			out = append(out, place{file, c, demand})
		}
	}
	for _, c := range n.Certificates {
		if row, _ := certs.Lookup(c.Kind); row.Base != certs.Config {
			put(c.Path, c.Kind, c)
		}
	}
	for _, k := range n.Kubeconfigs {
		kind := certs.Classify(certs.Config, strings.TrimPrefix(k.Path, n.Facts["config-dir"]+"/"))
		for _, c := range n.Certificates {
			if c.Path == k.Path && c.Fingerprint == k.ClientFingerprint || c.Path == k.ClientCertificateFile {
				put(k.Path, kind, c)
			}
		}
	}
	return out
}

// checkIdentities: a certificate in its place has the usages and the user of that place. A renewal
// keeps the subject, so none of it is due.
func (d *Diagnosis) checkIdentities(s snapshot.Snapshot) {
	for _, n := range s.Nodes {
		for _, p := range places(s, n) {
			d.checkIdentity(s, n, p)
		}
		d.checkKubeletAccess(n)
	}
}

func (d *Diagnosis) checkIdentity(s snapshot.Snapshot, n snapshot.Node, p place) {
	if lacks := p.demand.Lacks(p.c); len(lacks) > 0 {
		d.add(IdentityWrong, n.Name, p.file, fmt.Sprintf("%s is for %s, but its place needs one for %s",
			p.file, strings.Join(p.c.Usages, ", "), strings.Join(lacks, ", ")))
		return
	}
	if p.c.CommonName == "" || p.demand.Holds(p.c, n.KubernetesName) {
		return
	}
	evidence := fmt.Sprintf("%s is of %s, but its place needs %s", p.file,
		whose(p.c.CommonName, p.c.Organizations), whose(p.demand.Of(n.KubernetesName), p.demand.Groups))
	name, ofNode := strings.CutPrefix(p.c.CommonName, "system:node:")
	switch {
	case ofNode && p.demand.Of(name) == p.c.CommonName && p.c.In(p.demand.Groups):
		if namedOtherwise(s, n, name) {
			d.add(IdentityWrong, n.Name, p.file, evidence)
		}
	case p.c.BuiltIn():
		d.add(IdentityWrong, n.Name, p.file, evidence)
	case !p.demand.Granted:
		d.add(IdentityUnusual, n.Name, p.file, evidence)
	}
}

// whose describes a user and groups; of a requirement one of the groups is enough.
func whose(user string, groups []string) string {
	var words []string
	if user != "" {
		words = append(words, "the user "+user)
	}
	if len(groups) > 0 {
		words = append(words, "the group "+strings.Join(groups, " or "))
	}
	return strings.Join(words, " in ")
}

// namedOtherwise reports whether it is known that a node has another name in the API: this one is
// another node's, or it is registered under its own. The inventory alone may be wrong.
func namedOtherwise(s snapshot.Snapshot, n snapshot.Node, name string) bool {
	if strings.EqualFold(name, n.Facts["hostname"]) {
		return false
	}
	if _, another := s.Kubernetes(name); another {
		return true
	}
	v, _ := s.View()
	_, registered := v.Nodes[n.KubernetesName]
	return registered
}

// checkKubeletAccess: the API server also decides which users kubelets let in. It was asked about
// its own client certificate.
func (d *Diagnosis) checkKubeletAccess(n snapshot.Node) {
	answer := n.Results["kubelet-access"]
	c, ok := n.Certificate(certs.KindAPIServerKubeletClient)
	last := lastLines(answer.Output, 1)
	if n.Facts["kubelet.authorization.mode"] == "AlwaysAllow" { // such a kubelet asks no one
		return
	}
	if !ok || answer.Status == 0 || last != "no" && !strings.HasPrefix(last, "no - ") {
		return
	}
	d.add(KubeletAccessForbidden, n.Name, c.Path,
		fmt.Sprintf("%s is of %s; asked whether it may get nodes/proxy, the API server answers: %s",
			c.Path, whose(c.CommonName, c.Organizations), answer.Output))
}
