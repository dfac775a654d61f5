package diagnosis

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// shared are the files that every control plane holds alike: kubeadm copies them
// when a node joins. kind is set where the file's certificate is compared, not
// its bytes.
var shared = []struct {
	file   string
	kind   certs.Kind
	reason Reason
}{
	{"ca.crt", certs.KindCA, AuthoritiesDiffer},
	{"ca.key", "", AuthoritiesDiffer},
	{"front-proxy-ca.crt", certs.KindFrontProxyCA, AuthoritiesDiffer},
	{"front-proxy-ca.key", "", AuthoritiesDiffer},
	{"etcd/ca.crt", certs.KindEtcdCA, AuthoritiesDiffer},
	{"etcd/ca.key", "", AuthoritiesDiffer},
	{"sa.key", "", ServiceAccountKeysDiffer},
	{"sa.pub", "", ServiceAccountKeysDiffer},
}

// compareControlPlanes: every control plane holds the same authorities and
// service account keys. Those in the minority are named.
func (d *Diagnosis) compareControlPlanes(s snapshot.Snapshot) {
	for _, row := range shared {
		holders := map[string][]string{} // content → nodes
		usual := ""
		for _, n := range s.With(cluster.ControlPlane) {
			content := n.Digests[n.Facts["pki-real"]+"/"+row.file]
			if c, ok := n.Certificate(row.kind); ok {
				content = c.Fingerprint // a line more in the file is no other authority
			}
			if ca := n.At(n.Facts["pki"] + "/" + row.file); n.Failure != nil || content == "" || ca.Kind == certs.KindEtcdCA && s.Unused(n, ca) {
				continue
			}
			holders[content] = append(holders[content], n.Name)
			if len(holders[content]) > len(holders[usual]) {
				usual = content
			}
		}
		for _, n := range s.With(cluster.ControlPlane) {
			for content, nodes := range holders {
				if content != usual && slices.Contains(nodes, n.Name) {
					d.find(row.reason, n.Name, row.file, fmt.Sprintf("%s differs from the file on %s", row.file, strings.Join(holders[usual], ", ")))
				}
			}
		}
	}
}

// judgeExternalCA: where the keys of the authorities are kept outside, that none is on
// a node is as it should be, and nothing that is due can be issued there.
func (d *Diagnosis) judgeExternalCA(s snapshot.Snapshot) {
	if !s.ExternalCA {
		return
	}
	d.Findings = slices.DeleteFunc(d.Findings, func(f Finding) bool { return f.Reason == CAKeyMissing })
	for _, n := range s.Nodes {
		var due []string
		for _, kind := range d.Due[n.Name] {
			// Kubespray keeps etcd's authority on the nodes, and a kubelet signs its own.
			if row, _ := certs.Lookup(kind); row.Signer == certs.KubernetesCA || row.Signer == certs.FrontProxyCA {
				due = append(due, string(kind))
			}
		}
		if len(due) > 0 {
			d.find(ExternalCA, n.Name, "", fmt.Sprintf("the inventory sets kube_external_ca_mode, and these are due on %s: %s", n.Name, strings.Join(due, ", ")))
		}
	}
}

// judgeSignatures: each certificate is signed by the authority that its place
// demands, and that authority outlives it.
func (d *Diagnosis) judgeSignatures(s snapshot.Snapshot) {
	clusterCA := clusterCA(s)
	for _, n := range s.Nodes {
		for _, row := range certs.Table() {
			ca, ok := n.Certificate(row.Kind)
			if !row.CA || !ok || row.Copy || s.Unused(n, ca) {
				continue
			}
			leaves := slices.DeleteFunc(signedLeaves(n, row.Authority), func(c certs.Certificate) bool { return s.Unused(n, c) })
			d.judgeLifetime(n, ca, leaves)
			if row.Kind == certs.KindCA && clusterCA.Fingerprint != "" && ca.Fingerprint != clusterCA.Fingerprint {
				d.find(UnknownAuthority, n.Name, ca.Path, fmt.Sprintf("%s (%s) is not the cluster's CA (%s)", ca.Path, short(ca.Fingerprint), short(clusterCA.Fingerprint)))
				continue
			}
			if verified(n) {
				d.judgeLeaves(n, ca, leaves)
			}
		}
		d.judgeKubeconfigs(n)
	}
}

// clusterCA is the authority that most control planes hold, of those that have
// signed anything there; none, where there is no such.
func clusterCA(s snapshot.Snapshot) certs.Certificate {
	var usual certs.Certificate
	count := map[string]int{}
	for _, n := range s.With(cluster.ControlPlane) {
		c, ok := n.Certificate(certs.KindCA)
		if !ok || signedNothing(n, signedLeaves(n, certs.KubernetesCA), certs.KubernetesCA) {
			continue
		}
		if count[c.Fingerprint]++; count[c.Fingerprint] > count[usual.Fingerprint] {
			usual = c
		}
	}
	return usual
}

// verified reports whether the signatures of a node's certificates are known.
func verified(n snapshot.Node) bool {
	return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool { return c.SignedBy != "" })
}

// signedNothing reports whether it is known that an authority signed none of
// several leaves.
func signedNothing(n snapshot.Node, leaves []certs.Certificate, by certs.Authority) bool {
	return verified(n) && len(leaves) > 1 && !slices.ContainsFunc(leaves, func(c certs.Certificate) bool { return c.SignedBy == by })
}

// signedLeaves are the node's certificates on disk that an authority must have
// signed. What a kubelet lets be approved may come from a signer of its own.
func signedLeaves(n snapshot.Node, ca certs.Authority) []certs.Certificate {
	var out []certs.Certificate
	for _, c := range n.Certificates {
		row, known := certs.Lookup(c.Kind)
		if known && !c.Served && !row.CA && !n.Copies(row) && !row.Approved && row.Signer == ca {
			out = append(out, c)
		}
	}
	return out
}

// judgeLeaves: the authority signed them. Where it signed none of several, it is
// the authority that is wrong, said once.
func (d *Diagnosis) judgeLeaves(n snapshot.Node, ca certs.Certificate, leaves []certs.Certificate) {
	var strangers []certs.Certificate
	also := alsoKnownAs(n, ca)
	for _, c := range leaves {
		if !slices.Contains(also, c.SignedBy) {
			strangers = append(strangers, c)
		}
	}
	if len(strangers) > 1 && len(strangers) == len(leaves) {
		labels := make([]string, len(strangers))
		for i, c := range strangers {
			labels[i] = c.Label()
		}
		d.find(UnknownAuthority, n.Name, ca.Path, fmt.Sprintf("%s (%s) signed none of: %s", ca.Path, short(ca.Fingerprint), strings.Join(labels, ", ")))
		return
	}
	for _, c := range strangers {
		d.find(UnknownAuthority, n.Name, c.Label(), fmt.Sprintf("%s is not signed by %s (%s); it names its issuer %s", c.Path, ca.Path, short(ca.Fingerprint), c.Issuer))
	}
	if len(strangers) > 0 {
		return
	}
	for _, c := range n.Certificates {
		// The file is right; who presents another authority's certificate is not.
		if c.Served && c.Kind == "kube-apiserver" && ca.Kind == certs.KindCA && !slices.Contains(also, c.SignedBy) {
			d.find(UnknownAuthority, n.Name, c.Label(), fmt.Sprintf("%s presents a certificate that %s did not sign; it names its issuer %s", c.Path, ca.Path, c.Issuer))
		}
	}
}

// alsoKnownAs lists the names of an authority on a node: the same certificate may
// lie in several places, as that of an external etcd does.
func alsoKnownAs(n snapshot.Node, ca certs.Certificate) []certs.Authority {
	var out []certs.Authority
	for _, c := range n.Certificates {
		row, _ := certs.Lookup(c.Kind)
		if row.Authority != "" && !c.Served && (c.Fingerprint == ca.Fingerprint || (c.PublicKey != "" && c.PublicKey == ca.PublicKey)) {
			out = append(out, row.Authority)
		}
	}
	return out
}

// When it matters that an authority ends before what it signed: within a time that
// anybody plans for, or before the leaf would be renewed, if that is within the life of an
// authority of kubeadm's. Kubespray issues etcd's leaves for as many days as the authority,
// after it: they end a moment later, a century from now, or months later on a node that was
// added since (roles/etcd/templates/make-ssl-etcd.sh.j2).
const (
	caHorizon = 2 * 365 * 24 * time.Hour
	caLife    = 10 * 365 * 24 * time.Hour
	renewal   = 30 * 24 * time.Hour
)

// judgeLifetime: an authority that ends before what it signed takes it along.
func (d *Diagnosis) judgeLifetime(n snapshot.Node, ca certs.Certificate, leaves []certs.Certificate) {
	if slices.ContainsFunc(d.Findings, func(f Finding) bool {
		return f.Node == n.Name && f.Subject == ca.Label() && (f.Reason == CAExpired || f.Reason == CAExpiring)
	}) {
		return // it ends soon, whatever it signed
	}
	for _, c := range leaves {
		soon, ever := ca.NotAfter.Before(n.Clock.Add(caHorizon)), ca.NotAfter.Before(n.Clock.Add(caLife))
		if ca.NotAfter.Before(c.NotAfter) && (soon || ever && ca.NotAfter.Before(c.NotAfter.Add(-renewal))) {
			d.find(CAExpiresFirst, n.Name, ca.Label(), fmt.Sprintf("%s expires at %s, %s at %s",
				ca.Path, ca.NotAfter.Format(time.RFC3339), c.Path, c.NotAfter.Format(time.RFC3339)))
			return
		}
	}
}

// stray reports whether a kubeconfig beside those of the cluster is none that it knows: it
// may be for another one.
func stray(n snapshot.Node, k snapshot.Kubeconfig) bool {
	return path.Dir(k.Path) == n.Facts["config-dir"] && certs.Classify(certs.Config, path.Base(k.Path)) == certs.KindUnknown
}

// judgeKubeconfigs: each trusts the authority that lies beside it. Root's own may
// be for another cluster.
func (d *Diagnosis) judgeKubeconfigs(n snapshot.Node) {
	ca, ok := n.Certificate(certs.KindCA)
	if !ok || d.on(n.Name, UnknownAuthority) {
		return
	}
	for _, k := range n.Kubeconfigs {
		if path.Dir(k.Path) == n.Facts["config-dir"] && !stray(n, k) && k.CAFingerprint != "" && k.CAFingerprint != ca.Fingerprint {
			d.find(UnknownAuthority, n.Name, k.Path, fmt.Sprintf("%s trusts %s, but %s is %s", k.Path, short(k.CAFingerprint), ca.Path, short(ca.Fingerprint)))
		}
	}
}
