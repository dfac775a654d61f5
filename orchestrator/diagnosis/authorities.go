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

// sharedFile is one that every control plane holds. kind is that of the CA whose certificates, or
// whose key, are in it; empty if the bytes are compared.
type sharedFile struct {
	file   string
	kind   certs.Kind
	key    bool
	reason Reason
}

// shared are the files that every control plane holds alike: kubeadm copies them when a node joins.
var shared = []sharedFile{
	{"ca.crt", certs.KindCA, false, AuthoritiesDiffer},
	{"ca.key", certs.KindCA, true, AuthoritiesDiffer},
	{"front-proxy-ca.crt", certs.KindFrontProxyCA, false, AuthoritiesDiffer},
	{"front-proxy-ca.key", certs.KindFrontProxyCA, true, AuthoritiesDiffer},
	{"etcd/ca.crt", certs.KindEtcdCA, false, AuthoritiesDiffer},
	{"etcd/ca.key", certs.KindEtcdCA, true, AuthoritiesDiffer},
	{"sa.key", "", false, ServiceAccountKeysDiffer},
	{"sa.pub", "", false, ServiceAccountKeysDiffer},
}

// compareControlPlanes: every control plane holds the same CAs and service account keys, or ones
// that the others trust, too. Those in the minority are named.
func (d *Diagnosis) compareControlPlanes(s snapshot.Snapshot) {
	for _, row := range shared {
		holders := map[string][]string{} // content → nodes
		sets := map[string][]string{}    // node → what its file trusts
		bytes := map[string]string{}     // content → digest
		usual := ""
		for _, n := range s.With(cluster.ControlPlane) {
			ca := n.At(n.Facts["pki"] + "/" + row.file)
			if n.Failure != nil || ca.Kind == certs.KindEtcdCA && s.Unused(n, ca) {
				continue
			}
			content := n.Digests[n.Facts["pki-real"]+"/"+row.file]
			if bundle := bundleOf(n, row.kind); len(bundle) > 0 {
				sets[n.Name] = caNames(bundle)
				content = row.content(bundle, content)
			}
			if content == "" {
				continue
			}
			bytes[content] = n.Digests[n.Facts["pki-real"]+"/"+row.file]
			holders[content] = append(holders[content], n.Name)
			if len(holders[content]) > len(holders[usual]) {
				usual = content
			}
		}
		for _, n := range s.With(cluster.ControlPlane) {
			for content, nodes := range holders {
				same := content == usual || row.key && bytes[content] == bytes[usual]
				if !same && slices.Contains(nodes, n.Name) && !row.trusted(content, usual, sets) {
					d.add(row.reason, n.Name, row.file,
						fmt.Sprintf("%s differs from the file on %s", row.file, strings.Join(holders[usual], ", ")))
				}
			}
		}
	}
}

// content is what is compared of a file: for certificates the CAs that they trust, for a key its
// owner, if that is known, and the bytes of all else.
func (r sharedFile) content(bundle []certs.Certificate, digest string) string {
	if !r.key {
		names := caNames(bundle)
		slices.Sort(names)
		return strings.Join(slices.Compact(names), "\n")
	}
	if i := slices.IndexFunc(bundle, func(c certs.Certificate) bool { return c.Key == certs.KeyMatches }); i >= 0 {
		return bundle[i].SignsAs()
	}
	return digest
}

// trusted reports whether different content does no harm: files of certificates share a CA, or a
// key belongs to a CA that every control plane trusts.
func (r sharedFile) trusted(content, usual string, sets map[string][]string) bool {
	switch {
	case r.kind == "" || len(sets) == 0:
		return false
	case !r.key:
		return slices.ContainsFunc(strings.Split(content, "\n"), func(name string) bool {
			return slices.Contains(strings.Split(usual, "\n"), name)
		})
	}
	for _, set := range sets {
		if !slices.Contains(set, content) {
			return false
		}
	}
	return true
}

// checkExternalCA: if the CA keys are kept outside, it is normal that none is on a node, and
// nothing that is due can be issued there.
func (d *Diagnosis) checkExternalCA(s snapshot.Snapshot) {
	if !s.ExternalCA {
		return
	}
	d.Findings = slices.DeleteFunc(d.Findings, func(f Finding) bool { return f.Reason == CAKeyMissing })
	for _, n := range s.Nodes {
		var due []string
		for _, kind := range d.Due[n.Name] {
			// Kubespray keeps etcd's CA on the nodes, and a kubelet signs its own.
			if row, _ := certs.Lookup(kind); row.Signer == certs.KubernetesCA || row.Signer == certs.FrontProxyCA {
				due = append(due, string(kind))
			}
		}
		if len(due) > 0 {
			d.add(ExternalCA, n.Name, "",
				fmt.Sprintf("the inventory sets kube_external_ca_mode, and these are due on %s: %s", n.Name,
					strings.Join(due, ", ")))
		}
	}
}

// checkLifetimes: each CA outlives what it signed. A CA that only a kubeconfig trusts does not
// affect others.
func (d *Diagnosis) checkLifetimes(s snapshot.Snapshot, t Thresholds) {
	for _, n := range s.Nodes {
		for _, kind := range issuers {
			row, _ := certs.Lookup(kind)
			for i, ca := range bundleOf(n, kind) {
				if !s.Unused(n, ca) {
					d.checkLifetime(n, ca, slices.DeleteFunc(signedLeaves(n, row.Authority),
						func(c certs.Certificate) bool {
							by := signersOf(n, c)
							return s.Unused(n, c) || len(by) == 0 && i > 0 || len(by) > 0 && by[0] != ca.SignsAs()
						}))
				}
			}
		}
		for _, ca := range s.Trusts(n) {
			switch ca.StatusAt(n.Clock, t.RenewBefore) {
			case certs.Expired:
				d.add(CAExpired, n.Name, ca.Label(),
					fmt.Sprintf("%s expired at %s", ca.Label(), ca.Ends().Format(time.RFC3339)))
			case certs.Expiring:
				d.add(CAExpiring, n.Name, ca.Label(),
					fmt.Sprintf("%s expires at %s", ca.Label(), ca.Ends().Format(time.RFC3339)))
			case certs.Valid, certs.NotYetValid:
			}
		}
	}
}

// verified reports whether the signatures of a node's certificates are known.
func verified(n snapshot.Node) bool {
	return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool { return c.SignedBy != "" })
}

// signedLeaves are the node's certificates on disk that a CA must have signed. What a kubelet
// requests for approval may come from another signer.
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

// When it matters that a CA expires before what it signed: within a period that anyone plans for,
// or before the leaf would be renewed, if that is within the lifetime of a kubeadm CA. Kubespray
// issues etcd's leaves for as many days as the CA, after it: they expire a moment later, a century
// from now, or months later on a node that was added since
// (roles/etcd/templates/make-ssl-etcd.sh.j2).
const (
	caHorizon = 2 * 365 * 24 * time.Hour
	caLife    = 10 * 365 * 24 * time.Hour
	renewal   = 30 * 24 * time.Hour
)

// checkLifetime: when a CA expires before what it signed, that is not trusted any more, either.
func (d *Diagnosis) checkLifetime(n snapshot.Node, ca certs.Certificate, leaves []certs.Certificate) {
	if slices.ContainsFunc(d.Findings, func(f Finding) bool {
		return f.Node == n.Name && f.Subject == ca.Label() && (f.Reason == CAExpired || f.Reason == CAExpiring)
	}) {
		return // it expires soon, whatever it signed
	}
	for _, c := range leaves {
		soon, ever := ca.NotAfter.Before(n.Clock.Add(caHorizon)), ca.NotAfter.Before(n.Clock.Add(caLife))
		if ca.NotAfter.Before(c.NotAfter) && (soon || ever && ca.NotAfter.Before(c.NotAfter.Add(-renewal))) {
			d.add(CAExpiresFirst, n.Name, ca.Label(), fmt.Sprintf("%s expires at %s, %s at %s",
				ca.Path, ca.NotAfter.Format(time.RFC3339), c.Path, c.NotAfter.Format(time.RFC3339)))
			return
		}
	}
}

// stray reports whether a kubeconfig that is not one of the cluster's is unrelated to it: it may be
// for another one.
func stray(n snapshot.Node, k snapshot.Kubeconfig) bool {
	return path.Dir(k.Path) == n.Facts["config-dir"] &&
		certs.Classify(certs.Config, path.Base(k.Path)) == certs.KindUnknown
}
