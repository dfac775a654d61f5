package diagnosis

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// rolesOf are the roles of the nodes that a verifier is on; it is on every node without one.
var rolesOf = map[string]cluster.Role{"kube-apiserver": cluster.ControlPlane, "etcd": cluster.Etcd}

// issuers are the issuing CAs of leaves, by the kind of their certificate.
var issuers = []certs.Kind{certs.KindCA, certs.KindFrontProxyCA, certs.KindEtcdCA, certs.KindEtcdHostCA}

// trust is what one verifier trusts: the CAs of a file or of a kubeconfig.
type trust struct {
	node, place string
	cas         []certs.Certificate
}

// presented is a leaf that others verify, or the CA that would sign the next one.
type presented struct {
	node, subject, path, issuer string
	// by are the CAs that lead from it, as certs.Certificate.SignsAs names them.
	by []string
	// claims is the key identifier of its issuer, if no CA of its node has signed it.
	claims string
	// signs: it is the CA that would sign the next one.
	signs bool
}

// trustedBy reports whether a verifier that trusts these CAs accepts it. The signer of a
// certificate whose own node does not hold the CA is known by the identifiers alone.
func (p presented) trustedBy(cas []certs.Certificate) bool {
	return slices.ContainsFunc(cas, func(ca certs.Certificate) bool {
		if p.claims != "" {
			return p.claims == ca.SubjectKeyID && p.issuer == ca.Subject
		}
		return slices.Contains(p.by, ca.SignsAs())
	})
}

// present describes a certificate of a node as others verify it.
func present(n snapshot.Node, c certs.Certificate) presented {
	p := presented{node: n.Name, subject: c.Label(), path: c.Path, issuer: c.Issuer, by: signersOf(n, c)}
	if len(p.by) == 0 && !slices.ContainsFunc(n.Certificates,
		func(ca certs.Certificate) bool { return ca.SubjectKeyID == c.AuthorityKeyID }) {
		p.claims = c.AuthorityKeyID
	}
	return p
}

// signersOf are the CAs that lead from a certificate; for a snapshot of an earlier version, which
// does not have them, those of its node that have the name of the CA that signed it.
func signersOf(n snapshot.Node, c certs.Certificate) []string {
	if len(c.Signers) > 0 || c.SignedBy == "" || c.SignedBy == certs.SelfSigned {
		return c.Signers
	}
	var out []string
	for _, ca := range n.Certificates {
		if row, _ := certs.Lookup(ca.Kind); row.Authority == c.SignedBy && !ca.Served {
			out = append(out, ca.SignsAs())
		}
	}
	return out
}

// bundleOf are the certificates in a node's file of a kind, in their order.
func bundleOf(n snapshot.Node, kind certs.Kind) []certs.Certificate {
	first, ok := n.Certificate(kind)
	if !ok || kind == "" {
		return nil
	}
	return fileOf(n, first.Path)
}

func fileOf(n snapshot.Node, file string) []certs.Certificate {
	var out []certs.Certificate
	for _, c := range n.Certificates {
		if !c.Served && c.Path == file {
			out = append(out, c)
		}
	}
	return out
}

func caNames(cas []certs.Certificate) []string {
	out := make([]string, len(cas))
	for i, ca := range cas {
		out[i] = ca.SignsAs()
	}
	return out
}

// checkTrust: every verifier of a leaf trusts a CA that leads from it, and one that leads from what
// would be issued next.
func (d *Diagnosis) checkTrust(s snapshot.Snapshot) {
	for _, kind := range issuers {
		ca, _ := certs.Lookup(kind)
		s := d.without(s, ca)
		issue := next(s, kind)
		var all []trust
		for _, v := range certs.Verifiers() {
			var of []presented
			for _, n := range s.Nodes {
				if !verified(n) {
					continue
				}
				_, held := n.Certificate(kind)
				for _, c := range signedLeaves(n, ca.Authority) {
					row, _ := certs.Lookup(c.Kind)
					// Without such a CA, it is unknown who has signed.
					if (held || len(c.Signers) > 0) &&
						v.Verifies(row) && !s.Unused(n, c) {
						of = append(of, present(n, c))
					}
				}
			}
			if len(of) == 0 {
				continue
			}
			by := trusts(s, rolesOf[v.Component()], v.Setting, kind)
			all = append(all, by...)
			d.compareTrust(append(of, issue...), by)
		}
		all = append(all, trusts(s, "", "", kind)...)
		var others []trust
		if kind == certs.KindCA {
			kubeconfigs := kubeconfigTrusts(s, snapshot.Node.OfCluster)
			all = slices.Concat(all, trusts(s, cluster.ControlPlane, rootCA, kind), kubeconfigs)
			others = kubeconfigTrusts(s, ofNetworkPlugin)
			d.compareTrust(presentedByAPI(s, issue), kubeconfigs)
		}
		d.checkRotation(s, ca, all, append(others, objectTrusts(s, kind)...))
	}
}

// Files of kube-controller-manager: what it passes to every pod, and the CA with which it signs.
const (
	rootCA    = "kube-controller-manager.root-ca-file"
	signingCA = "kube-controller-manager.cluster-signing-cert-file"
)

// SigningBundle reports whether kube-controller-manager's file with the signing CA on a node holds
// several: it accepts exactly one when it starts (Kubernetes, pkg/controller/certificates/signer),
// and exits with any other number.
func SigningBundle(n snapshot.Node) (file string, several bool) {
	file = n.Facts[signingCA]
	return file, len(fileOf(n, file)) > 1
}

// ofNetworkPlugin reports whether a kubeconfig is one that a network plugin has written on the
// host, where it stays when the CA changes.
func ofNetworkPlugin(_ snapshot.Node, k snapshot.Kubeconfig) bool {
	return strings.HasSuffix(path.Dir(k.Path), "/etc/cni/net.d")
}

// without excludes the control planes whose CA is known to be a different one.
func (d *Diagnosis) without(s snapshot.Snapshot, ca certs.Row) snapshot.Snapshot {
	s.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), func(n snapshot.Node) bool {
		return slices.ContainsFunc(d.Findings, func(f Finding) bool {
			return f.Node == n.Name && f.Reason == AuthoritiesDiffer && (f.Subject == ca.Path || f.Subject == ca.Key)
		})
	})
	return s
}

// trusts are what the verifiers on nodes of a role trust: the file of the setting, or without the
// setting that of a kind.
func trusts(s snapshot.Snapshot, on cluster.Role, setting string, kind certs.Kind) []trust {
	var out []trust
	for _, n := range s.Nodes {
		first, ok := n.Certificate(kind)
		file := cmp.Or(n.Facts[setting], first.Path)
		cas := fileOf(n, file)
		if leftover := ok && file == first.Path && unusedFile(s, n, first); len(cas) > 0 && !leftover &&
			(on == "" || n.Is(on)) {
			out = append(out, trust{n.Name, file, cas})
		}
	}
	return out
}

// unusedFile reports whether the file that a CA is in is unused, whatever else is in it.
func unusedFile(s snapshot.Snapshot, n snapshot.Node, c certs.Certificate) bool {
	c.Position = 0
	return s.Unused(n, c)
}

// kubeconfigTrusts are what some kubeconfigs trust, without copies.
func kubeconfigTrusts(s snapshot.Snapshot, of func(snapshot.Node, snapshot.Kubeconfig) bool) []trust {
	var out []trust
	for _, n := range s.Nodes {
		for _, k := range n.Kubeconfigs {
			row, _ := certs.Lookup(n.At(k.Path).Kind)
			if cas := casOf(n, k); of(n, k) && !row.Copy && len(cas) > 0 {
				out = append(out, trust{n.Name, k.Path, cas})
			}
		}
	}
	return out
}

// objectTrusts are what objects of the cluster trust for a CA of it.
func objectTrusts(s snapshot.Snapshot, kind certs.Kind) []trust {
	var out []trust
	for _, n := range s.Nodes {
		for _, t := range n.Trust {
			if t.By.Of() == kind {
				out = append(out, trust{n.Name, t.Place(), t.CAs})
			}
		}
	}
	return out
}

// checkBundles: a CA that objects of the cluster trust, and that is in no file of a node, is valid.
func (d *Diagnosis) checkBundles(s snapshot.Snapshot, t Thresholds) {
	for _, ca := range s.TrustedElsewhere() {
		within := t.RenewBefore
		if !ca.Own {
			within = min(within, snapshot.RenewedByOthers)
		}
		if ca.StatusAt(ca.Node.Clock, within) != certs.Valid {
			d.add(CABundleExpiring, ca.Node.Name, ca.Label(), fmt.Sprintf("%s (%s) is valid from %s until %s",
				short(ca.Fingerprint), ca.Subject, ca.NotBefore.Format(time.RFC3339),
				ca.NotAfter.Format(time.RFC3339)))
		}
	}
}

// casOf are the CAs that a kubeconfig trusts; for a snapshot of an earlier version, which has the
// first one's fingerprint, that one as the node's file has it.
func casOf(n snapshot.Node, k snapshot.Kubeconfig) []certs.Certificate {
	if len(k.CAs) > 0 || k.CAFingerprint == "" {
		return k.CAs
	}
	for _, c := range n.Certificates {
		if c.Fingerprint == k.CAFingerprint {
			return []certs.Certificate{c}
		}
	}
	return []certs.Certificate{{Fingerprint: k.CAFingerprint}}
}

// next are the CAs whose keys are on the nodes: they sign what is issued next.
func next(s snapshot.Snapshot, kind certs.Kind) []presented {
	var out []presented
	for _, n := range s.Nodes {
		for _, ca := range bundleOf(n, kind) {
			if ca.Key == certs.KeyMatches && !s.Unused(n, ca) {
				out = append(out, presented{
					node: n.Name, subject: ca.Label(), path: ca.Path, issuer: ca.Issuer, signs: true,
					by: append([]string{ca.SignsAs()}, ca.Signers...),
				})
			}
		}
	}
	return out
}

// presentedByAPI is what API servers present: the files, what is presented in their place, and what
// would be issued next.
func presentedByAPI(s snapshot.Snapshot, issue []presented) []presented {
	var out []presented
	for _, n := range s.With(cluster.ControlPlane) {
		if !verified(n) {
			continue
		}
		files := s.ServedFiles(n, apiServer)
		for _, c := range files {
			if c.Kind == certs.KindAPIServer {
				out = append(out, present(n, c))
			}
		}
		for _, c := range n.Certificates {
			if c.Served && c.Kind == apiServer && !slices.ContainsFunc(files, func(f certs.Certificate) bool {
				return f.Kind == certs.KindAPIServer && f.Fingerprint == c.Fingerprint
			}) {
				out = append(out, present(n, c))
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return append(out, issue...)
}

// compareTrust names a verifier that trusts none of several, else what most verifiers do not trust,
// else those that do not trust what the others do.
func (d *Diagnosis) compareTrust(of []presented, by []trust) {
	var rest []trust
	for _, t := range by {
		trusts := func(p presented) bool { return p.trustedBy(t.cas) }
		if len(of) > 1 && !slices.ContainsFunc(of, trusts) {
			d.distrusts(t, "signed none of: "+labels(of, t.node))
		} else {
			rest = append(rest, t)
		}
	}
	for _, p := range of {
		var not []trust
		for _, t := range rest {
			if !p.trustedBy(t.cas) {
				not = append(not, t)
			}
		}
		switch {
		case len(not) == 0:
		case 2*len(not) > len(rest) && p.signs:
			d.unknown(p.node, p.subject,
				fmt.Sprintf("%s signs what is issued on %s, and is none of the CAs in %s", p.path, p.node,
					trusted(not)))
		case 2*len(not) > len(rest):
			d.unknown(p.node, p.subject,
				fmt.Sprintf("%s is not signed by a CA in %s; it names its issuer %s", p.path, trusted(not), p.issuer))
		default:
			what := "did not sign " + p.path + " of " + p.node
			if p.signs {
				what = "is not the CA in " + p.path + " that signs what is issued on " + p.node
			}
			for _, t := range not {
				d.distrusts(t, what)
			}
		}
	}
}

// trusted are places with their CAs, and their nodes.
func trusted(by []trust) string {
	var at grouped
	for _, t := range by {
		at.add(fmt.Sprintf("%s (%s)", t.place, listed(t.cas)), t.node)
	}
	words := make([]string, len(at.order))
	for i, what := range at.order {
		words[i] = what + " on " + some(at.of[what])
	}
	return some(words)
}

func (d *Diagnosis) distrusts(t trust, what string) {
	subject := t.place
	if len(t.cas) > 0 && t.cas[0].Kind != certs.KindKubeconfigCA {
		subject = t.cas[0].Label()
	}
	d.unknown(t.node, subject, fmt.Sprintf("%s (%s) %s", t.place, listed(t.cas), what))
}

// unknown reports once for a node that something there has, or trusts, the wrong CA.
func (d *Diagnosis) unknown(node, subject, evidence string) {
	if !slices.ContainsFunc(d.Findings, func(f Finding) bool {
		return f.Reason == UnknownAuthority && f.Node == node && f.Subject == subject
	}) {
		d.add(UnknownAuthority, node, subject, evidence)
	}
}

// listed are CAs in words.
func listed(cas []certs.Certificate) string {
	out := make([]string, len(cas))
	for i, ca := range cas {
		out[i] = short(ca.Fingerprint)
	}
	return strings.Join(out, ", ")
}

// labels are the names of some, those of a node if it has any.
func labels(of []presented, node string) string {
	var here, all []string
	for _, p := range of {
		if p.node == node {
			here = append(here, p.subject)
		}
		all = append(all, p.subject+" of "+p.node)
	}
	if len(here) > 0 {
		all = here
	}
	return some(all)
}

// some are the first of many names.
func some(names []string) string { return cluster.Some(slices.Compact(names), 5) }

// checkRotation: all verifiers of a CA trust the same certificates of it, and one key. Those that
// trust the wrong one have been named. Others may belong to another cluster: only what they lack
// counts.
func (d *Diagnosis) checkRotation(s snapshot.Snapshot, ca certs.Row, by, others []trust) {
	by = slices.DeleteFunc(by, func(t trust) bool {
		return slices.ContainsFunc(d.Findings, func(f Finding) bool {
			return f.Node == t.node && f.Reason == UnknownAuthority &&
				(f.Subject == t.place || f.Subject == t.cas[0].Label())
		})
	})
	var names []string
	last := map[string]certs.Certificate{} // the one of each that expires last
	for _, t := range by {
		for _, c := range t.cas {
			name := c.SignsAs()
			if l, ok := last[name]; !ok || c.NotAfter.After(l.NotAfter) {
				last[name] = c
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	// A CA that has signed nothing but the others is above them, and may be missing.
	names = slices.DeleteFunc(names, func(name string) bool {
		above := slices.ContainsFunc(names,
			func(other string) bool { return slices.Contains(last[other].Signers, name) })
		return above && !signsLeaf(s, name)
	})
	var lacks grouped
	node := ""
	seen := map[string]bool{}
	for _, t := range append(by, others...) {
		id := t.node + " " + t.place
		if seen[id] {
			continue
		}
		seen[id] = true
		for _, name := range names {
			c := last[name]
			switch {
			case slices.ContainsFunc(t.cas, func(o certs.Certificate) bool { return o.Fingerprint == c.Fingerprint }):
				continue
			case slices.Contains(caNames(t.cas), name):
				lacks.add(t.place+" has a former certificate of "+short(c.Fingerprint), t.node)
			default:
				lacks.add(t.place+" lacks "+short(c.Fingerprint), t.node)
			}
			node = cmp.Or(node, t.node)
		}
	}
	if len(names) < 2 && node == "" {
		return
	}
	var words []string
	for _, name := range names {
		c := last[name]
		words = append(words, fmt.Sprintf("%s (%s) expires at %s", short(c.Fingerprint), c.Subject,
			c.NotAfter.Format(time.RFC3339)))
	}
	for _, what := range lacks.order {
		words = append(words, fmt.Sprintf("%s on %s", what, some(lacks.of[what])))
	}
	for _, n := range s.With(cluster.ControlPlane) {
		if file, several := SigningBundle(n); ca.Kind == certs.KindCA && several {
			words = append(words, fmt.Sprintf(
				"kube-controller-manager on %s signs with %s, which must hold one certificate alone: it does not "+
					"start again with several", n.Name, file))
		}
	}
	if node == "" && len(by) > 0 {
		node = by[0].node
	}
	d.add(RotationUnfinished, node, ca.Name, strings.Join(words, "; "))
}

// signsLeaf reports whether a leaf is signed by a CA.
func signsLeaf(s snapshot.Snapshot, name string) bool {
	return slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool {
		return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
			by := signersOf(n, c)
			return !c.IsCA && len(by) > 0 && by[0] == name
		})
	})
}

// grouped are nodes by the report about them, in the order in which it came first.
type grouped struct {
	order []string
	of    map[string][]string
}

func (g *grouped) add(what, node string) {
	if g.of == nil {
		g.of = map[string][]string{}
	}
	if _, ok := g.of[what]; !ok {
		g.order = append(g.order, what)
	}
	g.of[what] = append(g.of[what], node)
}
