// Package expiry computes how long each certificate of a snapshot will last.
//
// It is pure: the time is each node's own clock as the snapshot has it, so the
// same snapshot gives the same report on every machine.
//
// Of makes a Report of a snapshot, what ends first at the top; Report.Unknown are the
// nodes of which nothing is known, and that are not to be taken for healthy.
package expiry

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Schema is the version of the JSON form of a Report.
const Schema = 1

// Thresholds say how long before its end a certificate counts as a warning and
// as critical. They hold for CAs too.
type Thresholds struct {
	Warn, Crit time.Duration
}

// DefaultThresholds warn a month before the end; a week before, it is critical.
func DefaultThresholds() Thresholds {
	return Thresholds{Warn: 30 * 24 * time.Hour, Crit: 7 * 24 * time.Hour}
}

// Status is how it stands with a certificate at its node's time.
type Status string

// The states, from good to bad.
const (
	// Unused is not checked: no component uses the file.
	Unused      Status = "unused"
	Valid       Status = "valid"
	Warning     Status = "warning"
	Critical    Status = "critical"
	NotYetValid Status = "not-yet-valid"
	Expired     Status = "expired"
)

// Statuses lists every state, from good to bad.
func Statuses() []Status {
	return []Status{Unused, Valid, Warning, Critical, NotYetValid, Expired}
}

// Level is how much a state matters to those who are notified.
type Level int

// The levels.
const (
	LevelOK Level = iota
	LevelWarning
	LevelCritical
)

// Level of a state: what is expired or not yet valid is as bad as critical.
func (s Status) Level() Level {
	switch s {
	case Unused, Valid:
		return LevelOK
	case Warning:
		return LevelWarning
	case Critical, NotYetValid, Expired:
		return LevelCritical
	default:
		return LevelCritical // a state no one knows is not taken for a good one
	}
}

// Report is the expiry of every certificate of a cluster at one moment.
type Report struct {
	Schema int `json:"schema"`
	// Taken is when the nodes were asked, by the clock of the asking machine.
	Taken time.Time `json:"taken"`
	// WarnSeconds and CritSeconds are the thresholds.
	WarnSeconds int64 `json:"warnSeconds"`
	CritSeconds int64 `json:"critSeconds"`
	// Status is the worst of all certificates; valid when there are none.
	Status Status `json:"status"`
	// Complete is false when something is not known: a node, or a file.
	Complete bool `json:"complete"`
	// Counts has the number of certificates in each state, zeros included.
	Counts map[Status]int `json:"counts"`
	// Nodes are those of the inventory, in its order.
	Nodes []Node `json:"nodes"`
	// Certificates, what ends first at the top.
	Certificates []Row `json:"certificates"`
	// Unreadable names files that should hold a certificate and do not.
	Unreadable []Unreadable `json:"unreadable"`
}

// Node is one node of the cluster, and whether anything is known of it.
type Node struct {
	Name  string         `json:"name"`
	Roles []cluster.Role `json:"roles"`
	// Known is false for a node that could not be inspected.
	Known bool `json:"known"`
	// Reason and Message say why it is not known: a snapshot.FailureKind or
	// "no-certificates", and the words of its author.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Clock is the node's own time; absent when it is not known.
	Clock time.Time `json:"clock,omitzero"`
	// NotJoined is true for a worker that is no node of the cluster yet, and has no certificate
	// of it.
	NotJoined bool `json:"notJoined,omitempty"`
	// RenewalTimer is that of Kubespray; absent where none is installed.
	RenewalTimer *snapshot.RenewalTimer `json:"renewalTimer,omitempty"`
}

// NoCertificates is the reason for which nothing is known of a node that
// answered: nothing of a cluster was found on it.
const NoCertificates = "no-certificates"

// Unreadable is a file on a node without the certificate that belongs in it.
type Unreadable struct {
	Node   string `json:"node"`
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Row is one certificate of one node.
type Row struct {
	Node string `json:"node"`
	// Name is kubeadm's where it has one, else the path; of a served one, the
	// component and its port, since one port may serve two.
	Name   string `json:"name"`
	Status Status `json:"status"`
	// ResidualSeconds from the node's clock to the end; negative afterwards.
	ResidualSeconds int64 `json:"residualSeconds"`
	// WarningFrom and CriticalFrom are when it becomes a warning and critical.
	WarningFrom  time.Time `json:"warningFrom"`
	CriticalFrom time.Time `json:"criticalFrom"`
	// Authority is the one that issues certificates of this kind; for a served
	// one that no file of the node explains, the one that signed it.
	Authority certs.Authority `json:"authority,omitempty"`
	// ExternallyManaged is kubeadm's word for a CA whose key is not on
	// the control plane: the certificate cannot be renewed here. So it is of a file that
	// a component uses outside of the places where certificates are renewed.
	ExternallyManaged bool `json:"externallyManaged"`
	// InFile is true for a served certificate that also lies in a file of its
	// node; Stale for one whose process has not read its newer file yet.
	InFile bool `json:"inFile,omitempty"`
	Stale  bool `json:"stale,omitempty"`
	// KubeletRenews is true where the kubelet of the node renews it by itself.
	KubeletRenews bool `json:"-"`

	certs.Certificate
}

// Residual is the time left; negative after the end. It is at most what a Duration holds,
// which is 292 years: ResidualSeconds knows more.
func (r Row) Residual() time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	return time.Duration(max(-most, min(r.ResidualSeconds, most))) * time.Second
}

// Of makes the report of a snapshot.
func Of(s snapshot.Snapshot, t Thresholds) Report {
	r := Report{
		Schema: Schema, Taken: s.Taken,
		WarnSeconds: int64(t.Warn / time.Second), CritSeconds: int64(t.Crit / time.Second),
		Status: Valid, Complete: true, Counts: map[Status]int{},
		Nodes: []Node{}, Certificates: []Row{}, Unreadable: []Unreadable{},
	}
	for _, n := range s.Nodes {
		node := known(s, n)
		r.Nodes = append(r.Nodes, node)
		r.Complete = r.Complete && node.Known
		for _, u := range n.Unreadable {
			if s.Unused(n, n.At(u.Path)) {
				continue
			}
			r.unreadable(n, u.Path, u.Reason)
		}
		all := n.Certificates
		if node.Known {
			all = slices.Concat(all, s.Trusts(n))
		}
		for _, c := range all {
			// What lies on a machine that has not joined is made again when it does.
			if known, _ := certs.Lookup(c.Kind); known.Base != certs.Kubelet || !s.Unjoined(n) {
				r.Certificates = append(r.Certificates, row(s, n, c, t))
			}
		}
	}
	others := Thresholds{Warn: min(t.Warn, snapshot.RenewedByOthers), Crit: min(t.Crit, snapshot.RenewedByOthers/7)}
	for _, ca := range s.TrustedElsewhere() {
		within := others
		if ca.Own {
			within = t
		}
		r.Certificates = append(r.Certificates, row(s, ca.Node, ca.Certificate, within))
	}
	r.addSecrets(s, t, others)
	slices.SortStableFunc(r.Certificates, func(a, b Row) int {
		return cmp.Or(a.Ends().Compare(b.Ends()), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Path, b.Path))
	})
	rank := map[Status]int{}
	for i, status := range Statuses() {
		rank[status], r.Counts[status] = i, 0
	}
	for _, c := range r.Certificates {
		r.Counts[c.Status]++
		if rank[c.Status] > rank[r.Status] {
			r.Status = c.Status
		}
	}
	return r
}

// addSecrets adds what Secrets of the cluster hold, where that was asked for.
func (r *Report) addSecrets(s snapshot.Snapshot, t, others Thresholds) {
	for _, n := range s.Nodes {
		for _, secret := range n.Secrets {
			if secret.Certificate == nil {
				r.unreadable(n, secret.Place(), secret.Unreadable)
				continue
			}
			within := t
			if secret.RenewedByOthers() {
				within = others
			}
			r.Certificates = append(r.Certificates, row(s, n, *secret.Certificate, within))
		}
		if result, asked := n.Results[snapshot.ResultSecrets]; asked && result.Status != 0 {
			r.unreadable(n, "Secrets of the cluster", result.Output)
		}
	}
}

// unreadable adds what should be known, and is not.
func (r *Report) unreadable(n snapshot.Node, place, reason string) {
	r.Unreadable = append(r.Unreadable, Unreadable{Node: n.Name, Path: place, Reason: reason})
	r.Complete = false
}

// known reports whether the certificates of a node were seen.
func known(s snapshot.Snapshot, n snapshot.Node) Node {
	out := Node{Name: n.Name, Roles: n.Roles, Known: true, Clock: n.Clock, NotJoined: s.Unjoined(n),
		RenewalTimer: n.RenewalTimer}
	switch {
	case n.Failure != nil:
		out.Known, out.Reason, out.Message = false, string(n.Failure.Kind), n.Failure.Message
	case len(n.Certificates) == 0 && !out.NotJoined:
		out.Known, out.Reason, out.Message = false, NoCertificates, "no certificate of a cluster was found on it"
	}
	return out
}

func row(s snapshot.Snapshot, n snapshot.Node, c certs.Certificate, t Thresholds) Row {
	kind, inFile, stale := c.Kind, false, false
	if c.Served {
		kind, inFile, stale = servedFrom(s, n, c)
	}
	name := c.Label()
	if c.Served {
		name = string(c.Kind) + " at " + c.Path
	}
	r := Row{Node: n.Name, Name: name, InFile: inFile, Stale: stale, Authority: c.SignedBy, Certificate: c}
	entry, ok := certs.Lookup(kind)
	if ok {
		r.Authority = entry.Signer
	}
	r.ExternallyManaged = externallyManaged(s, n, r.Authority) || ok && entry.Own()
	if a, ok := authorityOf(c); ok {
		r.ExternallyManaged = externallyManaged(s, n, a)
	}
	// What a kubelet renews: the second half of what is left then is critical.
	r.KubeletRenews = n.KubeletRenews(entry)
	t = Thresholds{Warn: n.Window(entry, c, t.Warn), Crit: min(t.Crit, n.Window(entry, c, 2*t.Crit)/2)}
	r.WarningFrom, r.CriticalFrom = certs.Bounded(c.Ends().Add(-t.Warn)), certs.Bounded(c.Ends().Add(-t.Crit))
	r.ResidualSeconds = c.Ends().Unix() - n.Clock.Unix()
	r.Status = status(c, n.Clock, t)
	if s.Unused(n, c) {
		r.Status = Unused
	}
	return r
}

func status(c certs.Certificate, now time.Time, t Thresholds) Status {
	switch c.StatusAt(now, t.Warn) {
	case certs.Expired:
		return Expired
	case certs.NotYetValid:
		return NotYetValid
	case certs.Expiring:
		if now.Add(t.Crit).After(c.Ends()) {
			return Critical
		}
		return Warning
	case certs.Valid:
		return Valid
	default:
		return Expired
	}
}

// servedFrom returns for a served certificate the kind of its file, whether a file
// of the node holds it, and whether it is stale: the component has files to
// serve from, and this is in none of them.
func servedFrom(s snapshot.Snapshot, n snapshot.Node, c certs.Certificate) (kind certs.Kind, inFile, stale bool) {
	for _, file := range s.ServedFiles(n, string(c.Kind)) {
		if file.Fingerprint == c.Fingerprint {
			return file.Kind, true, false
		}
		if !stale {
			kind, stale = file.Kind, true
		}
	}
	return kind, false, stale
}

// homes returns for each CA which file is its certificate, and on which
// nodes its key belongs. Kubespray keeps the key of its own etcd CA on
// the etcd nodes, on some of them only.
var homes = map[certs.Authority]struct {
	kind certs.Kind
	role cluster.Role
}{
	certs.KubernetesCA: {certs.KindCA, cluster.ControlPlane},
	certs.FrontProxyCA: {certs.KindFrontProxyCA, cluster.ControlPlane},
	certs.EtcdCA:       {certs.KindEtcdCA, cluster.ControlPlane},
	certs.EtcdHostCA:   {certs.KindEtcdHostCA, cluster.Etcd},
}

// authorityOf returns the CA whose own certificate this is.
func authorityOf(c certs.Certificate) (certs.Authority, bool) {
	for a, home := range homes {
		if home.kind == c.Kind {
			return a, true
		}
	}
	return "", false
}

// externallyManaged reports whether the key of a CA is absent where it
// belongs. A control plane answers for itself, as kubeadm does there; for all
// others it takes every node that could have the key.
func externallyManaged(s snapshot.Snapshot, n snapshot.Node, a certs.Authority) bool {
	home, ok := homes[a]
	if !ok {
		return false
	}
	if home.role == cluster.ControlPlane && n.Is(cluster.ControlPlane) {
		c, ok := n.Certificate(home.kind)
		return ok && c.Key == certs.KeyMissing
	}
	absent := false
	for _, other := range s.With(home.role) {
		c, ok := other.Certificate(home.kind)
		if !ok {
			continue
		}
		if c.Key != certs.KeyMissing {
			return false
		}
		absent = true
	}
	return absent
}

// Unknown returns the nodes of which nothing is known.
func (r Report) Unknown() []Node {
	return slices.DeleteFunc(slices.Clone(r.Nodes), func(n Node) bool { return n.Known })
}

// Level is the worst that the report has to tell of what is known. A file that
// cannot be read as a certificate is critical: whatever needs it fails.
func (r Report) Level() Level {
	if len(r.Unreadable) > 0 {
		return LevelCritical
	}
	return r.Status.Level()
}

// Worst returns the row that has the worst to tell, and of several the one that ends first.
func (r Report) Worst() (Row, bool) {
	i := slices.IndexFunc(r.Certificates, func(c Row) bool { return c.Status == r.Status })
	if i < 0 {
		return Row{}, false
	}
	return r.Certificates[i], true
}

// Worth returns the rows of a level and above, in order.
func (r Report) Worth(l Level) []Row {
	return slices.DeleteFunc(slices.Clone(r.Certificates), func(c Row) bool { return c.Status.Level() < l })
}
