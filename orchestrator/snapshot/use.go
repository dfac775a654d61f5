package snapshot

import (
	"path"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// Uses reports whether a component of the node uses the certificate's file, by the component's own
// settings; known is false if none of them is known.
func (n Node) Uses(c certs.Certificate) (uses, known bool) {
	row, _ := certs.Lookup(c.Kind)
	return n.uses(row, c.Path)
}

func (n Node) uses(row certs.Row, file string, asked ...certs.Kind) (uses, known bool) {
	for setting := range strings.FieldsSeq(row.Settings) {
		if named := n.Facts[setting]; named != "" {
			uses, known = uses || named == file, true
		}
	}
	if with, ok := certs.Lookup(row.With); ok && !known && !slices.Contains(asked, with.Kind) {
		return n.uses(with, path.Join(n.Facts["pki"], with.Path), append(asked, row.Kind)...)
	}
	return uses, known
}

// Unused reports whether a certificate on a node is a leftover: its components use other files in
// its place, they do not run on such a node, or it belongs to a machine that is gone. Without
// evidence, it counts as used.
func (s Snapshot) Unused(n Node, c certs.Certificate) bool {
	row, ok := certs.Lookup(c.Kind)
	uses, known := n.Uses(c)
	controlPlane := n.Is(cluster.ControlPlane)
	switch {
	case c.Position > 0 && s.spare(c, n.bundle(c.Path)):
		return true
	case !ok || c.Served || row.Own() || uses:
		return false
	case row.Base == certs.EtcdPKI:
		return s.unusedHostEtcd(n, row, c)
	case known:
		return true
	case row.CA:
		return false
	case row.Base == certs.PKI:
		return !controlPlane && (row.Group != certs.GroupEtcd || !n.Is(cluster.Etcd))
	case c.Kind == certs.KindKubeletServing: // a kubelet that requests its certificate serves no other
		return n.AsksToServe()
	default:
		return !controlPlane && row.Settings != ""
	}
}

// AsksToServe reports whether the kubelet requests its serving certificate, which someone has to approve.
func (n Node) AsksToServe() bool {
	word := n.Facts["kubelet.serverTLSBootstrap"]
	return word != "" && !isFalse(word)
}

// OfCluster reports whether a kubeconfig is one of those that components and administrators of the
// cluster have on a node. Another one may be for another cluster.
func (n Node) OfCluster(k Kubeconfig) bool {
	return path.Dir(k.Path) == n.Facts["config-dir"] &&
		certs.Classify(certs.Config, path.Base(k.Path)) != certs.KindUnknown
}

// Trusts are the CAs that a kubeconfig of the cluster trusts and that are in no file of CAs on the
// node, each once.
func (s Snapshot) Trusts(n Node) []certs.Certificate {
	var out []certs.Certificate
	same := func(a certs.Certificate) func(certs.Certificate) bool {
		return func(b certs.Certificate) bool { return !b.Served && a.Fingerprint == b.Fingerprint }
	}
	for _, k := range n.Kubeconfigs {
		for _, ca := range k.CAs {
			if n.OfCluster(k) && !s.spare(ca, k.CAs) && !slices.ContainsFunc(n.Certificates, same(ca)) &&
				!slices.ContainsFunc(out, same(ca)) {
				out = append(out, ca)
			}
		}
	}
	return out
}

// bundle are the CAs in a file, in their order.
func (n Node) bundle(file string) []certs.Certificate {
	var out []certs.Certificate
	for _, c := range n.Certificates {
		if c.Path == file && !c.Served && c.Position > 0 {
			out = append(out, c)
		}
	}
	return out
}

// spare reports whether a CA in a bundle is not needed: it was issued again, and the later one is
// there, too, or it has signed nothing, and another one lasts longer.
func (s Snapshot) spare(c certs.Certificate, bundle []certs.Certificate) bool {
	later, again := false, false
	for _, other := range bundle {
		if other.NotAfter.After(c.NotAfter) {
			later, again = true, again || other.SignsAs() == c.SignsAs()
		}
	}
	return again || later && c.Key != certs.KeyMatches && s.KnowsSigners() && !s.signs(c, bundle)
}

// KnowsSigners reports whether it is known who has signed what: snapshots of earlier versions do
// not have it.
func (s Snapshot) KnowsSigners() bool {
	return slices.ContainsFunc(s.Nodes, func(n Node) bool {
		return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool { return len(c.Signers) > 0 })
	})
}

// signs reports whether a certificate that the cluster uses needs a CA of a bundle: it leads to none
// that comes before, is in the bundle too, and lasts longer. An intermediate CA in a bundle is
// trusted without its root.
func (s Snapshot) signs(ca certs.Certificate, bundle []certs.Certificate) bool {
	name := ca.SignsAs()
	trusted := func(signer string) bool {
		return slices.ContainsFunc(bundle, func(other certs.Certificate) bool {
			return other.SignsAs() == signer && other.NotAfter.After(ca.NotAfter)
		})
	}
	return slices.ContainsFunc(s.Nodes, func(n Node) bool {
		return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
			path := append([]string{c.SignsAs()}, c.Signers...)
			at := slices.Index(path, name)
			return at > 0 && !slices.ContainsFunc(path[:at], trusted)
		})
	})
}

// hostEtcdSettings name the files of etcd's members and of its clients.
var hostEtcdSettings = func() []string {
	out := []string{"kube-apiserver.etcd-certfile"}
	for _, e := range certs.EtcdClusters() {
		out = append(out, e.Name+".cert-file", e.Name+".peer-cert-file")
	}
	return out
}()

// unusedHostEtcd: the directory is of an etcd that nothing on the node uses, or the file is one that
// no component names and that has no key, or is that of a host that neither the inventory nor a
// component knows. Kubespray may distribute files of other hosts there.
func (s Snapshot) unusedHostEtcd(n Node, row certs.Row, c certs.Certificate) bool {
	here, elsewhere := false, false
	for _, setting := range hostEtcdSettings {
		below := strings.HasPrefix(n.Facts[setting], n.Facts["etcd-dir"]+"/")
		here = here || below
		elsewhere = elsewhere || !below && n.Facts[setting] != ""
	}
	if !here || row.CA {
		return elsewhere && !here
	}
	if c.Key == certs.KeyMissing {
		return true
	}
	host := hostIn(c.Path)
	return !slices.ContainsFunc(s.Nodes, func(n Node) bool {
		return n.Name == host || n.KubernetesName == host ||
			slices.ContainsFunc(hostEtcdSettings, func(setting string) bool { return hostIn(n.Facts[setting]) == host })
	})
}

// hostIn is the host in the name of one of Kubespray's files for etcd, "member-cp1.pem".
func hostIn(file string) string {
	_, host, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".pem"), "-")
	return host
}

// ServedFiles are the certificates on the node from which a component may serve; none if it makes
// its own. A directory may hold those of all members of etcd: then it is the node's.
func (s Snapshot) ServedFiles(n Node, component string) []certs.Certificate {
	var out []certs.Certificate
	for _, kind := range certs.Presented(component) {
		var of []certs.Certificate
		for _, c := range n.Certificates {
			uses, known := n.Uses(c)
			if c.Kind == kind && !c.Served && (uses || !known) && !s.Unused(n, c) {
				of = append(of, c)
			}
		}
		if i := slices.IndexFunc(of, func(c certs.Certificate) bool { return hostIn(c.Path) == n.Name }); i >= 0 &&
			kind == certs.KindEtcdMember {
			of = of[i : i+1]
		}
		out = append(out, of...)
	}
	return out
}
