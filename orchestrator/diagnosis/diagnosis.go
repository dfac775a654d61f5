// Package diagnosis concludes from a snapshot what is wrong with a cluster and how to fix it.
//
// It is a pure function: no I/O and no clock but the snapshot's, so that every situation is a row
// in a test and a saved snapshot gives the same diagnosis on another machine. A fact that a
// snapshot lacks raises no finding.
//
// Diagnose is the only entry point. A Diagnosis has one verdict, one route and the findings; a
// finding's Reason is a stable code that programs may compare, with its texts, its severity and
// what to do next as methods.
package diagnosis

import (
	"fmt"
	"slices"
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
	NewCA   Route = "new-ca"  // a CA has expired: re-issued with its own key
	Refuse  Route = "refuse"  // another cause, or acting would destroy something
	// RenewCAs is the route of a plan that renews CAs on request; no diagnosis has it.
	RenewCAs Route = "renew-ca"
)

// Routes are all of them.
func Routes() []Route { return []Route{None, Renew, Recover, NewCA, Refuse, RenewCAs, RotateCAs} }

// Thresholds define when a certificate is due.
type Thresholds struct {
	// RenewBefore: a certificate that expires within it is due for renewal.
	RenewBefore time.Duration
	// ClockSkew is how far a node's clock may differ from the control node's.
	ClockSkew time.Duration
}

// DefaultThresholds are 30 days, as kubeadm's own renewal window is measured in months, and 2
// minutes, well above what asking many nodes takes.
func DefaultThresholds() Thresholds {
	return Thresholds{RenewBefore: 30 * 24 * time.Hour, ClockSkew: 2 * time.Minute}
}

// Diagnosis is the conclusion from a snapshot.
type Diagnosis struct {
	Schema int `json:"schema"`
	// Verdict is the state of the cluster in one sentence.
	Verdict string `json:"verdict"`
	// Route is the way out.
	Route Route `json:"route"`
	// PrimaryReason is the reason of the finding that Primary returns; empty without findings.
	PrimaryReason Reason `json:"primary,omitempty"`
	// Findings, the most severe first, and among those a cause before its symptoms.
	Findings []Finding `json:"findings"`
	// ControlPlanes is how each API server answered, by node.
	ControlPlanes map[string]APIState `json:"controlPlanes"`
	// Due maps a node to its certificates that must be renewed.
	Due map[string][]certs.Kind `json:"due,omitempty"`
	// Stale maps a control plane, or a node of etcd, to its components that hold or serve an older
	// credential than the file's: a renewal restarts them.
	Stale map[string][]string `json:"stale,omitempty"`
}

// Schema is the version of the JSON form of a Diagnosis.
const Schema = 1

// Diagnose concludes from a snapshot.
func Diagnose(s snapshot.Snapshot, t Thresholds) Diagnosis {
	d := Diagnosis{
		Schema: Schema, Findings: []Finding{}, ControlPlanes: map[string]APIState{},
		Due: map[string][]certs.Kind{}, Stale: map[string][]string{},
	}
	for _, n := range s.Nodes {
		d.checkNode(s, n, t)
	}
	for _, n := range s.Gone {
		d.add(NodeLeftOut, n.Name, "", n.Failure.Message)
	}
	d.checkExternalCA(s)
	d.checkKubeadmConfigs(s)
	d.compareControlPlanes(s)
	d.checkLifetimes(s, t)
	d.checkTrust(s)
	d.checkBundles(s, t)
	d.checkStrictness(s)
	d.checkIdentities(s)
	d.checkNames(s)
	for _, e := range s.EtcdClusters() {
		d.checkEtcd(s.WithGone().OfEtcd(e), e)
	}
	d.checkAPIServers(s)
	d.checkEndpoints(s)
	d.checkDriversView(s)
	d.checkView(s)
	d.checkInventory(s)
	d.explain()
	slices.SortStableFunc(d.Findings, func(a, b Finding) int {
		if order := a.Severity().rank() - b.Severity().rank(); order != 0 {
			return order
		}
		return ranks[a.Reason] - ranks[b.Reason]
	})
	d.decide(s)
	return d
}

// decide sets the route and the verdict from the findings.
func (d *Diagnosis) decide(s snapshot.Snapshot) {
	d.Route = d.route(s)
	d.PrimaryReason = ""
	if f, ok := d.Primary(); ok {
		d.PrimaryReason = f.Reason
	}
	d.Verdict = d.verdict(s)
}

// Placing is the diagnosis for a plan that places certificates from CAs outside of the cluster: due and
// stale replace what must be renewed, and that the keys of CAs are elsewhere (ExternalCA) prevents
// nothing. Route and verdict follow from that.
func (d Diagnosis) Placing(s snapshot.Snapshot, due map[string][]certs.Kind, stale map[string][]string) Diagnosis {
	d.Due, d.Stale = due, stale
	d.Findings = slices.DeleteFunc(slices.Clone(d.Findings), func(f Finding) bool { return f.Reason == ExternalCA })
	d.decide(s)
	return d
}

// Replacing is the diagnosis for a plan that gives the cluster other CAs: that keys of the present ones are
// missing prevents nothing. Route and verdict follow from that.
func (d Diagnosis) Replacing(s snapshot.Snapshot, cas []certs.Authority) Diagnosis {
	without := d
	without.Findings = slices.DeleteFunc(slices.Clone(d.Findings), func(f Finding) bool {
		return f.Reason == CAKeyMissing && slices.ContainsFunc(certs.Table(), func(row certs.Row) bool {
			return row.CA && slices.Contains(cas, row.Authority) && row.Path == f.Subject+".crt"
		})
	})
	without.decide(s)
	if without.Route != Refuse { // then they explain the verdict, too
		without.Findings = d.Findings
		without.Verdict = without.verdict(s)
	}
	return without
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

// Primary returns the root cause: the first finding, in the order of the table, that no other one
// caused. If the outage is refused because it is unexplained, what a run fixes is skipped, because
// that run is refused: it is then the first API server that is unexplained.
func (d Diagnosis) Primary() (Finding, bool) {
	for _, decides := range []func(Finding) bool{
		func(f Finding) bool { return f.Reason.Blocks() },
		func(f Finding) bool { return f.Because == "" && (d.Route != Refuse || !byRun(f)) },
		func(f Finding) bool {
			return d.Route == Refuse && f.Severity() == Critical && f.Reason.Area() == API && f.Reason != APIUnusable
		},
		func(f Finding) bool { return d.Route == Refuse && f.Severity() == Critical && !byRun(f) },
		func(Finding) bool { return true },
	} {
		if i := slices.IndexFunc(d.Findings, decides); i >= 0 {
			return d.Findings[i], true
		}
	}
	return Finding{}, false
}

// add adds a finding.
func (d *Diagnosis) add(r Reason, node, subject, evidence string) {
	d.Findings = append(d.Findings, Finding{Reason: r, Node: node, Subject: subject, Evidence: evidence})
}

// on reports whether a node has a finding with one of the reasons.
func (d *Diagnosis) on(node string, rs ...Reason) bool {
	return slices.ContainsFunc(d.Findings,
		func(f Finding) bool { return f.Node == node && slices.Contains(rs, f.Reason) })
}

// checkNode finds what is wrong on one node by itself.
func (d *Diagnosis) checkNode(s snapshot.Snapshot, n snapshot.Node, t Thresholds) {
	if n.Failure != nil {
		d.add(failureReasons[n.Failure.Kind], n.Name, "", n.Failure.Message)
		return
	}
	if s.Unjoined(n) {
		evidence := "it has neither " + n.KubeletConf() + " nor a certificate of the cluster, and no kubelet is running"
		if v, reported := s.View(); reported && len(v.Nodes) > 0 && len(n.Kubeconfigs) > 0 {
			evidence = "the API server has no node " + s.NameOf(n) + ", and no kubelet is running"
		}
		d.add(NodeNotJoined, n.Name, "", evidence)
		for _, c := range n.Certificates {
			if row, ok := certs.Lookup(c.Kind); ok && !c.Served && row.Signer == certs.EtcdHostCA {
				d.checkCertificate(s, n, c, t)
			}
		}
		return
	}
	d.checkGround(n, s.Taken, t)
	for _, u := range n.Unreadable {
		if !s.Unused(n, n.At(u.Path)) {
			d.add(CertificateUnreadable, n.Name, u.Path, u.Reason)
		}
	}
	for _, c := range n.Certificates {
		if !c.Served && !s.Unused(n, c) {
			d.checkCertificate(s, n, c, t)
		}
	}
	d.checkFiles(s, n)
	d.checkManifestFolder(n)
	d.checkInUse(s, n, t)
	d.checkUnits(n)
}

// route decides the way out. Nothing is changed while a finding blocks, nor unless certificates
// explain each API server that cannot be used.
func (d *Diagnosis) route(s snapshot.Snapshot) Route {
	if slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Reason.Blocks() }) {
		return Refuse
	}
	usable := true
	for _, n := range s.With(cluster.ControlPlane) {
		if d.ControlPlanes[n.Name] == APIUsable {
			continue
		}
		usable = false
		if _, explained := d.certificateCause(s, n); !explained {
			return Refuse
		}
	}
	switch {
	case d.Has(CAExpired):
		return NewCA
	case !usable:
		return Recover
	case len(d.Due) > 0 || len(d.Stale) > 0:
		return Renew
	case len(d.With(Critical)) > 0:
		return Refuse // something is wrong, and it is no certificate
	default:
		return None
	}
}

// verdict is the state of the cluster in one sentence.
func (d *Diagnosis) verdict(s snapshot.Snapshot) string {
	expired := d.count(Reason.Expired)
	expiring := d.count(func(r Reason) bool { return r == CertificateExpiring })
	early := d.count(func(r Reason) bool { return r == CertificateBeginsLater })
	switch d.Route {
	case None:
		healthy := "healthy: every API server answers"
		if allValid(s) && !d.Has(CertificateUnapproved, CABundleExpiring) {
			healthy = fmt.Sprintf("healthy: every certificate on %s is valid, every API server answers",
				plural(len(s.Nodes), "node"))
		}
		if f, ok := d.Primary(); ok {
			healthy += fmt.Sprintf("; but %s (%s)", f.Title(), f.where())
		}
		if more := len(d.Findings) - 1; more > 0 {
			healthy += fmt.Sprintf("; and %s (kscertctl diagnose)", plural(more, "more warning"))
		}
		return healthy
	case Renew:
		state, unfixed := "healthy", ""
		if len(d.With(Critical)) > 0 {
			state = "the API server can be used"
		}
		if lasting := d.Lasting(); len(lasting) > 0 && lasting[0].Severity() == Critical {
			unfixed = fmt.Sprintf("; and no renewal fixes that %s (%s)", lasting[0].Title(), lasting[0].where())
		}
		switch {
		case expired > 0:
			return "the API server can be used, but " + plural(expired, "certificate") + have(expired) + " expired" +
				unfixed
		case early > 0:
			return "the API server can be used, but " + plural(early, "certificate") + are(early) + " not valid yet" +
				unfixed
		case expiring > 0:
			return state + ", but " + plural(expiring, "certificate") + are(expiring) + " about to expire" + unfixed
		case len(d.Stale) > 0:
			return state + ", but a component holds or serves an older certificate than the one on disk" + unfixed
		default:
			return state + ", but " + d.primary() + unfixed
		}
	case Recover:
		if expired == 0 && early > 0 {
			return fmt.Sprintf("the API server cannot be used because %s not valid yet",
				plural(early, "certificate")+are(early))
		}
		if expired == 0 && !d.Has(ServedCertificateStale) {
			return "the API server cannot be used: " + d.primary()
		}
		if expired == 0 {
			return "the API server cannot be used because it serves an expired certificate, and the one on " +
				"disk is valid"
		}
		return fmt.Sprintf("the API server cannot be used because %s expired",
			plural(expired, "certificate")+have(expired))
	case NewCA:
		return "a CA has expired: nothing that it signed is trusted until it is re-issued with its own key"
	default:
		return "refused: " + d.refusal()
	}
}

// allValid reports whether every certificate that is in use, or may be, is valid by its node's
// clock, in files and on ports.
func allValid(s snapshot.Snapshot) bool {
	for _, n := range s.Nodes {
		for _, c := range n.Certificates {
			if status := c.StatusAt(n.Clock, 0); status != certs.Valid && !s.Unused(n, c) {
				return false
			}
		}
	}
	return true
}

// primary describes the primary finding, and its place.
func (d *Diagnosis) primary() string {
	f, _ := d.Primary()
	return fmt.Sprintf("%s (%s)", f.Title(), f.where())
}

// refusal describes what prevents a change.
func (d *Diagnosis) refusal() string {
	switch f, _ := d.Primary(); {
	case f.Reason.Blocks() || f.Reason == OwnInvalid:
		return fmt.Sprintf("%s (%s)", f.Title(), f.where())
	case f.Subject == string(d.ControlPlanes[f.Node]):
		return fmt.Sprintf("the API server on %s cannot be used (%s), and no expired certificate explains it: %s",
			f.Node, f.Subject, f.Title())
	default:
		return fmt.Sprintf("%s (%s), and no expired certificate explains it", f.Title(), f.where())
	}
}

func (d *Diagnosis) count(counts func(Reason) bool) int {
	n := 0
	for _, f := range d.Findings {
		if counts(f.Reason) {
			n++
		}
	}
	return n
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
