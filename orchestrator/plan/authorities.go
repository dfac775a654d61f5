package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// CA is one of the cluster's CAs, as a user names it.
type CA string

// The CAs of a cluster. That of etcd is kubeadm's, Kubespray's own, or both.
const (
	ClusterCA    CA = "cluster"
	FrontProxyCA CA = "front-proxy"
	EtcdCA       CA = "etcd"
)

// CAs in the order they are documented in.
func CAs() []CA { return []CA{ClusterCA, FrontProxyCA, EtcdCA} }

// userNames are the CAs that can be re-issued, by the names that users have for them.
var userNames = map[certs.Authority]CA{
	certs.KubernetesCA: ClusterCA, certs.FrontProxyCA: FrontProxyCA, certs.EtcdCA: EtcdCA, certs.EtcdHostCA: EtcdCA,
}

// authority is a CA that a plan re-issues.
type authority struct {
	name certs.Authority
	ca   CA
	// of is the certificate that is re-issued: of those with their key next to them the one that
	// expires last; signer is the node that has both, empty if none does.
	of     certs.Certificate
	signer string
	// first is when the first of its certificates on nodes expires.
	first time.Time
	// other is a node that has another CA in its place; empty if all have this one.
	other string
}

// authoritiesOf are the CAs in use whose certificates satisfy a condition.
func authoritiesOf(s snapshot.Snapshot, want func(CA, snapshot.Node, certs.Certificate) bool) []authority {
	var out []authority
	for _, row := range certs.Table() {
		ca, ok := userNames[row.Authority]
		if !ok || !row.CA || row.Copy {
			continue
		}
		var wanted bool
		a := authority{name: row.Authority, ca: ca}
		for _, n := range s.Nodes {
			c, ok := n.Certificate(row.Kind)
			if !ok || s.Unused(n, c) {
				continue
			}
			wanted = wanted || want(ca, n, c)
			if a.first.IsZero() || c.NotAfter.Before(a.first) {
				a.first = c.NotAfter
			}
			signs := c.Key == certs.KeyMatches
			if a.of.Fingerprint == "" || signs && (a.signer == "" || c.NotAfter.After(a.of.NotAfter)) {
				a.of = c
				if signs {
					a.signer = n.Name
				}
			}
		}
		if !wanted {
			continue
		}
		for _, n := range s.Nodes {
			if c, ok := n.Certificate(row.Kind); ok && !s.Unused(n, c) && c.SignsAs() != a.of.SignsAs() {
				a.other = n.Name
			}
		}
		out = append(out, a)
	}
	return out
}

// asked are the CAs that a policy names.
func asked(s snapshot.Snapshot, cas []CA) []authority {
	return authoritiesOf(s, func(ca CA, _ snapshot.Node, _ certs.Certificate) bool { return slices.Contains(cas, ca) })
}

// expiredAuthorities are the CAs that have expired.
func expiredAuthorities(s snapshot.Snapshot) []authority {
	return authoritiesOf(s, func(_ CA, n snapshot.Node,
		c certs.Certificate) bool {
		return c.StatusAt(n.Clock, 0) == certs.Expired
	})
}

// reissuable returns why CAs cannot be re-issued with their own keys; nil if they can.
func reissuable(s snapshot.Snapshot, all []authority) error {
	for _, a := range all {
		switch {
		case s.ExternalCA && a.ca != EtcdCA:
			return &UnsupportedError{fmt.Sprintf(
				"the inventory sets kube_external_ca_mode: have it issued again where its key is: %s", a.of.Path)}
		case a.of.Issuer != a.of.Subject && a.of.SignedBy != certs.SelfSigned: // an intermediate one
			return &UnsupportedError{fmt.Sprintf("%s is signed by another CA (%s): have it issued again there",
				a.of.Path, a.of.Issuer)}
		case a.signer == "":
			return &UnsupportedError{fmt.Sprintf(
				"the key of %s is on no node: put the key back from a backup, or have it issued again where its key is",
				a.of.Path)}
		case a.other != "":
			return &UnsupportedError{fmt.Sprintf(
				"%s is of another key on %s than on %s: finish that rotation first; kscertctl diagnose -i INVENTORY "+
					"names what lacks what",
				a.of.Path, a.other, a.signer)}
		}
	}
	return nil
}

// refuseQuorum refuses to re-issue an expired CA of etcd whose members still have their quorum: over
// connections from before, which a member would lose as soon as it comes back with the new
// certificate.
func refuseQuorum(s snapshot.Snapshot, quorums []Quorum, all []authority) error {
	at := slices.IndexFunc(quorums, func(q Quorum) bool { return q.Members > 1 && q.Holds() })
	if !has(all, EtcdCA) || at < 0 {
		return nil
	}
	q := quorums[at]
	expired := func(n snapshot.Node) bool {
		return slices.ContainsFunc(all, func(a authority) bool {
			c, ok := n.Authority(a.name)
			return a.ca == EtcdCA && ok && c.StatusAt(n.Clock, 0) == certs.Expired
		})
	}
	var on []string
	for _, n := range s.With(cluster.Etcd) {
		if expired(n) {
			on = append(on, n.Name)
		}
	}
	if len(without(on, q.Down)) == 0 {
		return &UnsupportedError{fmt.Sprintf(
			"etcd's CA has expired on %s only, and the others have their quorum with a newer certificate of it: "+
				"copy that file there, restart %s there, and run this again", strings.Join(on, ", "), q.of().Name)}
	}
	return &UnsupportedError{
		"etcd's CA has expired, and its members still have their quorum, over connections from before, which " +
			"this version does not re-issue it under: " +
			"make a snapshot of etcd, restart it on all of them (systemctl restart " + q.of().Name +
			", or the static pod), and run this again"}
}

// unidentified reports whether a node has certificates of Kubespray's etcd that a renewal of CAs
// issues again, because they do not name the key of their CA.
func unidentified(s snapshot.Snapshot) func(snapshot.Node) bool {
	return func(n snapshot.Node) bool {
		return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
			row, _ := certs.Lookup(c.Kind)
			return row.Signer == certs.EtcdHostCA && !row.CA && !c.Served && !s.Unused(n, c) &&
				slices.Contains(c.NotStrict, certs.LacksAuthorityKeyID)
		})
	}
}

// identifiable returns why such certificates cannot be issued again; nil if they can.
func identifiable(s snapshot.Snapshot) error {
	needs := unidentified(s)
	for _, n := range s.Nodes {
		if needs(n) && !n.SignsEtcd() && signer(s, needs, []string{n.Name}) == "" {
			return &UnsupportedError{fmt.Sprintf(
				"certificates of etcd on %s do not name the key of their CA, and none can be issued: %s/ca-key.pem "+
					"is neither there nor, "+
					"for the same CA, on a node of the group etcd; restore the key on one of them from a backup",
				n.Name,
				n.Facts["etcd-dir"])}
		}
	}
	return nil
}

// has reports whether one of the CAs is that of a user's name.
func has(all []authority, ca CA) bool {
	return slices.ContainsFunc(all, func(a authority) bool { return a.ca == ca })
}

func authorityNames(all []authority) []certs.Authority {
	out := make([]certs.Authority, len(all))
	for i, a := range all {
		out[i] = a.name
	}
	return out
}

// holders are the nodes that trust one of the CAs, by any of its certificates: in a file or in a
// kubeconfig. Every API server trusts that of etcd, wherever its file is.
func holders(s snapshot.Snapshot, all []authority) []string {
	var out []string
	for _, n := range s.Nodes {
		if n.Failure == nil && !s.Unjoined(n) && slices.ContainsFunc(all, func(a authority) bool {
			is := func(c certs.Certificate) bool { return !c.Served && c.SignsAs() == a.of.SignsAs() }
			return a.ca == EtcdCA && n.Is(cluster.ControlPlane) || slices.ContainsFunc(n.Certificates, is) ||
				slices.ContainsFunc(n.Kubeconfigs,
					func(k snapshot.Kubeconfig) bool { return slices.ContainsFunc(k.CAs, is) })
		}) {
			out = append(out, n.Name)
		}
	}
	return out
}

// issue re-issues each CA on the one node that signs for it.
func (b *builder) issue(all []authority, validity time.Duration) {
	var signers []string
	for _, a := range all {
		if !slices.Contains(signers, a.signer) {
			signers = append(signers, a.signer)
		}
	}
	for _, signer := range signers {
		var names []certs.Authority
		var files []string
		for _, a := range all {
			if a.signer == signer {
				names, files = append(names, a.name), append(files, a.of.Path)
			}
		}
		b.step(Step{Action: CAIssue, Nodes: []string{signer}, Authorities: names, Validity: validity,
			Why: fmt.Sprintf("for %s; the keys stay there, and each new certificate is checked on this machine: "+
				"same key, same subject", strings.Join(files, ", "))})
	}
}

// caPlan adds the steps that renew CAs in a cluster that works.
func (b *builder) caPlan(
	c cluster.Cluster, s snapshot.Snapshot, quorums []Quorum, all []authority, validity time.Duration,
) {
	b.issue(all, validity)
	names, on := authorityNames(all), holders(s, all)
	step := func(nodes []string, why string) Step {
		return Step{Action: CARenew, Nodes: nodes, AtOnce: several(nodes), Authorities: names, Why: why}
	}
	var controlPlanes, etcd, others []string
	for _, name := range on {
		switch n, _ := c.Node(name); {
		case n.Is(cluster.ControlPlane):
			controlPlanes = append(controlPlanes, name)
		case n.Is(cluster.Etcd):
			etcd = append(etcd, name)
		default:
			others = append(others, name)
		}
	}
	// A restarting member must not meet another that is down, for whatever reason.
	wait := Step{Gate: EtcdGate, Nodes: cluster.Names(c.With(cluster.Etcd)), Title: "Wait for etcd",
		Why: "every member answers a read with quorum before another one restarts"}
	for _, name := range downFirst(quorums, etcd) {
		b.step(step([]string{name}, "etcd reads the certificate of its CA only when it starts"))
		b.step(wait)
	}
	controlPlanes = downFirst(quorums, controlPlanes)
	for i, name := range controlPlanes {
		now := controlPlanes[i : i+1]
		b.step(step(now, "what trusts the CA restarts there, once"))
		b.step(Step{Gate: APIServerGate, Nodes: now})
		if n, _ := c.Node(name); has(all, EtcdCA) && n.Is(cluster.Etcd) && i+1 < len(controlPlanes) {
			b.step(wait)
		}
	}
	if len(others) > 0 {
		b.step(step(others, "kubelets read what they trust only when they start"))
		if has(all, ClusterCA) {
			b.step(Step{Gate: KubeletGate, Nodes: others})
		}
	}
	if has(all, ClusterCA) {
		b.publish(c)
	}
}

// publish makes the cluster publish the new certificate of its CA.
func (b *builder) publish(c cluster.Cluster) {
	b.step(Step{Action: CAPublish, Nodes: cluster.Names(c.With(cluster.ControlPlane))[:1],
		Why: "kube-root-ca.crt of every namespace, by which pods trust the API server; and " +
			"kube-public/cluster-info, by which nodes join"})
}

// proofOfCAs is what the last gate checks after CAs were renewed.
const proofOfCAs = "every node has the new CA certificates, with the same keys; every certificate valid, all nodes " +
	"Ready with fresh leases"

// caRenewal plans the renewal of CAs in a cluster that works.
func (p Policy) caRenewal(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, made Plan) (Plan, error) {
	made.Route = diagnosis.RenewCAs
	switch {
	case p.selects():
		return made, &UnsupportedError{
			"a CA is renewed on every node that trusts it: omit --limit, --skip-phases and --until-phase"}
	case d.Route == diagnosis.Renew:
		return made, &UnsupportedError{
			"certificates are due: renew these first (kscertctl run -i INVENTORY), then the CAs"}
	case d.Route != diagnosis.None:
		return made, &UnsupportedError{
			"a CA is renewed only in a healthy cluster; recover it first (kscertctl run -i INVENTORY): " + d.Verdict}
	}
	for _, r := range rotations(s, p.RenewCAs) {
		if r.Next != nil {
			return made, &UnsupportedError{fmt.Sprintf(
				"%s is being rotated, which gives it a new certificate anyway: finish that (kscertctl ca rotate -i "+
					"INVENTORY)", r.CA)}
		}
	}
	all := asked(s, p.RenewCAs)
	for _, ca := range p.RenewCAs {
		if !has(all, ca) {
			return made, &UnsupportedError{fmt.Sprintf(
				"--ca %s: no node has a certificate of that CA; name another one", ca)}
		}
	}
	if err := cmp.Or(reissuable(s, all), identifiable(s)); err != nil {
		return made, err
	}
	for _, n := range s.WithGone().Nodes {
		if n.Failure != nil {
			return made, &UnsupportedError{fmt.Sprintf(
				"nothing is known of %s (%s): a CA is renewed on all nodes; see why with kscertctl diagnose -i "+
					"INVENTORY", n.Name, n.Failure.Message)}
		}
	}
	quorums := p.quorums(s)
	b := builder{signer: func(nodes []string) string { return signer(s, unidentified(s), nodes) }}
	b.caPlan(c, s, quorums, all, p.CAValidity)
	b.step(Step{Gate: ClusterGate, Nodes: cluster.Names(c.Nodes), Why: proofOfCAs})
	var restart []string
	if has(all, EtcdCA) {
		restart = cluster.Names(c.With(cluster.Etcd))
	}
	allowed, err := p.knowsEnough(c, s, b.steps, len(restart) > 0)
	for _, q := range quorums {
		of := s.OfEtcd(q.of())
		if len(restart) > 0 {
			restart = cluster.Names(of.Cluster().With(cluster.Etcd))
		}
		err = cmp.Or(err, keepsQuorum(q, of, nil, restart,
			"renew the other CAs (--ca cluster,front-proxy), and that of etcd when it has a member to spare"))
	}
	if err != nil {
		return made, err
	}
	if err := p.complete(&made, c, s, nil, b.steps); err != nil {
		return made, err
	}
	made.Interruption, made.Notes = p.caInterruption(all, c), slices.Concat(caNotes(all), made.Notes)
	made.Warnings = slices.Concat(allowed, p.shortened(s, all))
	if len(restart) > 0 {
		made.Notes = append(made.Notes, inWords(quorums)...)
	}
	return made, nil
}

// caInterruption is what users of the cluster notice of a renewal of its CAs.
func (p Policy) caInterruption(all []authority, c cluster.Cluster) string {
	parts := []string{"what the CAs have signed stays valid, because their keys stay: kubeconfigs, tokens and " +
		"running pods are not touched"}
	if has(all, ClusterCA) {
		parts = append(parts, "every kubelet restarts once, which cuts kubectl exec, port-forward and logs -f; "+
			"so do kube-controller-manager and kube-scheduler, one control plane at a time")
	}
	if has(all, EtcdCA) {
		parts = append(parts, restartOfEtcd(c))
	} else {
		parts = append(parts, "no API server restarts")
	}
	return strings.Join(parts, "; ")
}

// restartOfEtcd is what the restart of etcd and of API servers, one node at a time, costs users.
func restartOfEtcd(c cluster.Cluster) string {
	if len(c.With(cluster.ControlPlane)) == 1 {
		return "etcd and the API server restart once: some seconds without an answer, because there is only one API " +
			"server"
	}
	return "each member of etcd and each API server restarts once, one node at a time: a client whose API server " +
		"restarts must try another"
}

// caNotes list who continues to use the old certificates.
func caNotes(all []authority) []string {
	var out []string
	for _, a := range all {
		out = append(out, fmt.Sprintf(
			"copies of %s elsewhere, such as users' kubeconfigs, keep working until %s; replace them before then",
			a.of.Path, a.first.Format(time.DateOnly)))
	}
	return out
}

// shortened warns of CAs that would expire earlier than before.
func (p Policy) shortened(s snapshot.Snapshot, all []authority) []string {
	var out []string
	for _, a := range all {
		if end := s.Taken.Add(p.CAValidity); p.CAValidity > 0 && end.Before(a.of.NotAfter) {
			out = append(out, fmt.Sprintf("%s will expire earlier than now, as asked for: at %s instead of %s",
				a.of.Path, end.Format(time.DateOnly), a.of.NotAfter.Format(time.DateOnly)))
		}
	}
	return out
}

// Authorities are the CAs that the steps of a plan re-issue.
func (p Plan) Authorities() []certs.Authority {
	var out []certs.Authority
	for _, step := range p.Steps {
		if step.Action == CAIssue {
			out = append(out, step.Authorities...)
		}
	}
	return out
}

// expiredCAs are the CAs that have expired and can be re-issued with their own keys, if that is the
// way out.
func (p Policy) expiredCAs(s snapshot.Snapshot, d diagnosis.Diagnosis) ([]authority, error) {
	if d.Route != diagnosis.NewCA {
		return nil, nil
	}
	all := expiredAuthorities(s)
	if err := cmp.Or(reissuable(s, all), refuseQuorum(s, p.quorums(s), all)); err != nil {
		return nil, err
	}
	if len(all) > 0 && p.selects() {
		return nil, &UnsupportedError{
			"a CA has expired, which concerns every node that trusts it: omit --limit, --skip-phases and --until-phase"}
	}
	return all, nil
}

// replace re-issues expired CAs and places them on every node, before anything that they sign is
// renewed.
func (b *builder) replace(s snapshot.Snapshot, cas []authority) {
	if len(cas) == 0 {
		return
	}
	b.issue(cas, 0)
	on := holders(s, cas)
	b.step(Step{Action: CARenew, Nodes: on, AtOnce: several(on), Authorities: authorityNames(cas), Offline: true,
		Why: "nothing trusts an expired CA, so no node waits for another; what the CA has signed becomes " +
			"valid again"})
}

// trusting adds the control planes and members of etcd that have to load a renewed CA.
func (t *targets) trusting(c cluster.Cluster, s snapshot.Snapshot, cas []authority) {
	if has(cas, ClusterCA) || has(cas, EtcdCA) {
		t.controlPlanes = cluster.Names(c.With(cluster.ControlPlane))
	}
	if !has(cas, EtcdCA) {
		return
	}
	for _, name := range holders(s, cas) {
		n, _ := c.Node(name)
		if n.Is(cluster.Etcd) && !n.Is(cluster.ControlPlane) && !slices.Contains(t.etcd, name) {
			t.etcd = append(t.etcd, name)
		}
	}
}

// caWarnings list what remains to be done after expired CAs are replaced on the nodes.
func caWarnings(cas []authority) []string {
	var out []string
	for _, a := range cas {
		switch a.ca {
		case ClusterCA:
			out = append(out, fmt.Sprintf(
				"copies of %s elsewhere have expired, too: replace them in users' kubeconfigs, and restart pods "+
					"that read the CA only when they start", a.of.Path))
		case EtcdCA:
			out = append(out, fmt.Sprintf(
				"copies of %s elsewhere have expired, too: replace them where other clients of etcd have them, and "+
					"restart those", a.of.Path))
		case FrontProxyCA:
		}
	}
	return out
}
