// Package gate decides from a snapshot whether a health condition holds, and
// waits for it with a deadline.
//
// A gate is diagnosis again: take a snapshot, evaluate it purely.
//
//	check := gate.Check{Gate: plan.ClusterGate, Nodes: names, Before: before, Thresholds: due}
//	for _, u := range check.Evaluate(now) { // none: the gate holds
//		fmt.Println(u)
//	}
//
// A condition of a program's own is a hook of package orchestrator.
package gate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// leaseAge is how old a lease may be: a kubelet renews its own every 10 s and
// is taken for lost after 40 s (kubelet's nodeLeaseDurationSeconds); the
// components' leases last 15 s. It is of one clock: how far clocks may be apart is decided by
// diagnosis.Thresholds alone.
const leaseAge = 40 * time.Second

// Unmet is one condition that does not hold yet.
type Unmet struct {
	Node string `json:"node,omitempty"`
	// What must hold.
	What string `json:"what"`
	// Evidence is what is seen instead.
	Evidence string `json:"evidence"`
}

func (u Unmet) String() string {
	s := u.What
	if u.Node != "" {
		s = u.Node + ": " + s
	}
	if u.Evidence != "" {
		s += " (" + u.Evidence + ")"
	}
	return s
}

// Check is a gate together with what it is checked against.
type Check struct {
	Gate  plan.Gate
	Nodes []string
	// Before is the snapshot the run began with.
	Before snapshot.Snapshot
	// Thresholds as in the diagnosis.
	Thresholds diagnosis.Thresholds
	// StableFor is how long it must hold, without a break, before Wait is content.
	StableFor time.Duration
	// Renewed are the fingerprints of the CA certificates that each node must have that has
	// one, instead of that from before; but for the nodes that get them Later.
	Renewed map[certs.Authority]string
	Later   []string
	// Rotated are CAs whose certificates and keys may become others, and Stage the one that their
	// rotations must have reached; any if empty.
	Rotated []certs.Authority
	Stage   diagnosis.Stage
	// Restored is the snapshot whose CA certificates a node may have instead, each its own.
	Restored snapshot.Snapshot
	// Rollback renews nothing: what is about to expire may be what it was.
	Rollback bool
	// Refused are the files of each node that a playbook has refused to change. The gate waits for
	// none of them, and does not pass either while one is due.
	Refused map[string][]string

	// found is what Before shows, lasting what of it is fixed by no step.
	found, lasting []diagnosis.Finding
}

// Evaluate returns the conditions that do not hold in now; none: the gate holds.
func (c Check) Evaluate(now snapshot.Snapshot) []Unmet {
	before := diagnosis.Diagnose(c.Before, c.Thresholds)
	c.found, c.lasting = before.Findings, before.Lasting()
	var unmet []Unmet
	add := func(node, what, evidence string) {
		unmet = append(unmet, Unmet{Node: node, What: what, Evidence: evidence})
	}
	for _, name := range c.Nodes {
		n, ok := now.Node(name)
		if !ok || n.Failure != nil {
			add(name, "must be reachable", failure(n))
			continue
		}
		c.identity(n, add)
		switch c.Gate {
		case plan.EtcdGate:
			c.members(n, add)
		case plan.APIServerGate:
			c.members(n, add)
			apiServer(now, n, add)
		case plan.KubeletGate:
			c.kubelet(n, now, add)
		case plan.ClusterGate:
			c.members(n, add)
			if n.Is(cluster.ControlPlane) {
				apiServer(now, n, add)
			}
			if n.Is(cluster.ControlPlane) || n.Is(cluster.Worker) {
				c.kubelet(n, now, add)
			}
		}
	}
	if c.Gate == plan.ClusterGate {
		c.whole(now, add)
	}
	if c.Stage != "" {
		c.rotated(now, add)
	}
	return unmet
}

// rotated: all consumers of the rotated CAs have reached the stage. At the last one nothing holds the
// former CA any more, so that what it was is in the snapshot from before.
func (c Check) rotated(now snapshot.Snapshot, add func(node, what, evidence string)) {
	for _, ca := range c.Rotated {
		r := diagnosis.RotationOf(c.Before, ca)
		switch {
		case c.Stage.AtOnce():
			r = diagnosis.Replaced(c.Before, now, ca)
		case r.Next == nil:
			r = diagnosis.RotationOf(now, ca)
		}
		var lacks []string
		switch {
		case r.Next == nil:
			lacks = []string{"no control plane has the next one"}
		case c.Stage == diagnosis.StageDrop:
			lacks = r.Holds(now)
		case c.Stage.AtOnce():
			lacks = r.Leaves(now)
		default:
			lacks = r.Lacks(now, c.Stage)
		}
		for _, what := range lacks {
			add("", fmt.Sprintf("the rotation of %s must have reached the stage %q", ca, c.Stage), what)
		}
	}
}

// rotates reports whether the file of a node at a path is of a CA that is rotated.
func (c Check) rotates(n snapshot.Node, path string) bool {
	return slices.ContainsFunc(c.Rotated, func(ca certs.Authority) bool { return slices.Contains(n.FilesOf(ca), path) })
}

// Asks returns the nodes that a snapshot must have asked again for Evaluate: of others it
// reads nothing. Whether a kubelet's lease is fresh, any control plane can tell.
func (c Check) Asks(all cluster.Cluster) []string {
	switch c.Gate {
	case plan.EtcdGate, plan.APIServerGate:
		return c.Nodes
	case plan.KubeletGate:
		names := slices.Concat(c.Nodes, cluster.Names(all.With(cluster.ControlPlane)))
		slices.Sort(names)
		return slices.Compact(names)
	default:
		return cluster.Names(all.Nodes)
	}
}

func failure(n snapshot.Node) string {
	if n.Failure == nil {
		return "it was not asked"
	}
	return n.Failure.Message
}

// identity: CAs, service account keys and the encryption configuration
// are what they were: the first two byte for byte, the last in its content. A node that
// has joined since has its first ones. Of a CA that is renewed the key stays, and the
// certificate is the new one.
func (c Check) identity(n snapshot.Node, add func(node, what, evidence string)) {
	before, ok := c.Before.Node(n.Name)
	if !ok || before.Failure != nil || c.Before.Unjoined(before) {
		return
	}
	restored, _ := c.Restored.Node(n.Name)
	paths := maps.Clone(before.Digests)
	maps.Copy(paths, n.Digests)
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		name, ca := n.AuthorityAt(p)
		_, was := restored.AuthorityAt(p)
		want, renewed := c.Renewed[name]
		renewed = renewed && !slices.Contains(c.Later, n.Name)
		switch {
		case renewed && !c.Before.Unused(n, ca):
			if ca.Fingerprint != want {
				add(n.Name, p+" must be the renewed CA",
					"it is another certificate, which expires at "+ca.NotAfter.Format(time.RFC3339))
			}
		case before.Digests[p] == n.Digests[p], restored.Digests[p] != "" && restored.Digests[p] == n.Digests[p],
			ca.Fingerprint != "" && ca.Fingerprint == was.Fingerprint,
			c.rotates(n, p):
		default:
			add(n.Name, p+" must not change",
				fmt.Sprintf("SHA-256 was %s, is %s", orNone(before.Digests[p]), orNone(n.Digests[p])))
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// members: each etcd member on a node, of whatever cluster.
func (c Check) members(n snapshot.Node, add func(node, what, evidence string)) {
	for _, e := range c.Before.EtcdClusters() {
		if !n.HasMember(e) {
			continue
		}
		of := c
		of.Before = c.Before.OfEtcd(e)
		m := n.OfEtcd(e)
		if _, runs := m.Process(certs.MainEtcd); runs || c.Gate != plan.ClusterGate { // else it is a finding
			of.member(m, e, add)
		}
	}
}

// member: an etcd member answers a read with quorum and serves what is on disk. Until
// it does, a restart of another one may cost the quorum. One that could not be asked
// when the run began, for another reason than its certificates, proves nothing now; a cluster
// without which API servers work is waited for once all its members have their certificates.
func (c Check) member(n snapshot.Node, e certs.EtcdCluster, add func(node, what, evidence string)) {
	if before, _ := c.Before.Node(n.Name); !n.Is(cluster.Etcd) || n.Etcd == nil && !answered(before) ||
		!answered(before) && (!etcdInvalid(c.Before, before) || !e.Main() && c.Gate != plan.ClusterGate) {
		return
	}
	switch {
	case n.Etcd == nil:
		add(n.Name, "the "+e.Name+" member must answer a read with quorum", "it could not be asked")
	case !n.Etcd.Healthy:
		add(n.Name, "the "+e.Name+" member must answer a read with quorum", orNone(n.Etcd.Error))
	}
	port, asked := n.Endpoint(certs.MainEtcd)
	if !asked {
		return
	}
	for _, c := range n.Certificates {
		if !c.Served && c.Fingerprint == port.Fingerprint {
			return
		}
	}
	what := "serves a certificate that is in none of its files"
	if port.Fingerprint == "" {
		what = "serves none: " + port.Error
	}
	add(n.Name, "the "+e.Name+" member must serve the certificate on disk", port.Address+" "+what)
}

func answered(n snapshot.Node) bool { return n.Etcd != nil && n.Etcd.Healthy }

// etcdInvalid reports whether a certificate of etcd on a node has expired, or is not valid yet.
func etcdInvalid(s snapshot.Snapshot, n snapshot.Node) bool {
	return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
		row, _ := certs.Lookup(c.Kind)
		return row.Group == certs.GroupEtcd && !s.Unused(n, c) && c.StatusAt(n.Clock, 0) != certs.Valid
	})
}

// apiServer: /readyz holds with verified TLS, and what is served is on disk.
func apiServer(s snapshot.Snapshot, n snapshot.Node, add func(node, what, evidence string)) {
	if r := n.Results["readyz"]; n.View == nil {
		lines := strings.Split(r.Output, "\n")
		add(n.Name, "the API server must answer /readyz", strings.TrimSpace(lines[len(lines)-1]))
		return
	}
	e, _ := n.Endpoint("kube-apiserver")
	files := s.ServedFiles(n, "kube-apiserver")
	if !slices.ContainsFunc(files, func(c certs.Certificate) bool { return c.Fingerprint == e.Fingerprint }) {
		add(n.Name, "the API server must serve the certificate on disk", e.Address+" serves another one")
	}
}

// What the proof of a result does not ask of a node's kubelet where one of these lasts.
var (
	noKubelet = []diagnosis.Reason{diagnosis.NodeNotJoined, diagnosis.KubeletDown, diagnosis.ContainerRuntimeDown}
	noLease   = append([]diagnosis.Reason{diagnosis.NodeNotRegistered, diagnosis.NodeNotReady}, noKubelet...)
)

// lasts reports whether one of the reasons stays on a node, whatever the run does.
func (c Check) lasts(node string, reasons []diagnosis.Reason) bool {
	return slices.ContainsFunc(c.lasting, func(f diagnosis.Finding) bool {
		return f.Node == node && slices.Contains(reasons, f.Reason)
	})
}

// kubelet: the unit runs and is in no restart loop, as a diagnosis would have it,
// its client certificate is valid, its lease is fresh.
func (c Check) kubelet(n snapshot.Node, now snapshot.Snapshot, add func(node, what, evidence string)) {
	whole := c.Gate == plan.ClusterGate
	switch u := n.Units["kubelet"]; {
	case whole && c.lasts(n.Name, noKubelet):
	case u.Active != "active":
		add(n.Name, "the kubelet must run", "systemd reports "+orNone(u.Active))
	case !u.Steady():
		add(n.Name, "the kubelet must keep running",
			fmt.Sprintf("restarted %d times, the last time %d s ago", u.Restarts, u.ActiveSeconds))
	}
	if cert, ok := n.Certificate(certs.KindKubeletClient); ok {
		if s := cert.StatusAt(n.Clock, 0); s != certs.Valid {
			add(n.Name, "the kubelet's client certificate must be valid",
				string(s)+" since "+cert.NotAfter.Format(time.RFC3339))
		}
	}
	if whole && c.lasts(n.Name, noLease) {
		return
	}
	view, clock, ok := observer(now)
	if !ok {
		add(n.Name, "the kubelet's lease must be fresh", "no API server answers")
		return
	}
	lease := view.NodeLeases[now.NameOf(n)]
	before, _ := c.Before.Node(n.Name)
	// The kubelet writes the time of its own clock; the view may be older than the look at it.
	age := min(clock.Sub(lease), n.Clock.Sub(lease))
	switch {
	case lease.IsZero():
		add(n.Name, "the kubelet's lease must be fresh", "it has none")
	case age > leaseAge:
		add(n.Name, "the kubelet's lease must be fresh", fmt.Sprintf("last renewed %s ago", age.Round(time.Second)))
	case !lease.After(before.Clock):
		add(n.Name, "the kubelet must renew its lease", "not renewed since the run started")
	}
	if ready := view.Nodes[now.NameOf(n)]; ready != "True" && whole && !c.ownReason(n, ready) {
		add(n.Name, "the node must be Ready", "its Ready condition is "+orNone(ready))
	}
}

// settled is how long a kubelet of a worker may take, from its start, until its node is Ready.
const settled = 2 * time.Minute

// ownReason reports whether a worker is not Ready for another reason than its credentials, maybe since
// before an outage, in which no API server could tell: its kubelet, whose lease is fresh, reports that
// itself, long after it has started.
func (c Check) ownReason(n snapshot.Node, ready string) bool {
	_, known := c.Before.View()
	up := time.Duration(n.Units["kubelet"].ActiveSeconds) * time.Second
	return !known && ready == "False" && !n.Is(cluster.ControlPlane) && up >= settled
}

// observer returns a view of the cluster and the clock of the node it is from.
func observer(s snapshot.Snapshot) (snapshot.View, time.Time, bool) {
	n, ok := s.Observer()
	if !ok {
		return snapshot.View{}, time.Time{}, false
	}
	return *n.View, n.Clock, true
}

// whole: nothing is wrong any more with the nodes, the control plane is Ready again,
// and both components lead. Where the gate is about some nodes alone, what is wrong with
// others is no matter of it, and what belongs to no node may have been so before.
func (c Check) whole(now snapshot.Snapshot, add func(node, what, evidence string)) {
	part := slices.ContainsFunc(now.Nodes, func(n snapshot.Node) bool { return !slices.Contains(c.Nodes, n.Name) })
	for _, n := range now.Nodes {
		if !slices.Contains(c.Nodes, n.Name) {
			continue
		}
		before, _ := c.Before.Node(n.Name)
		for _, cert := range n.Certificates {
			// Of a machine that has not joined, what its kubelet made is no one's matter.
			if row, _ := certs.Lookup(cert.Kind); (row.Base != certs.Kubelet || !now.Unjoined(n)) &&
				!now.Unused(n, cert) {
				c.certificate(n, before, cert, add)
			}
		}
	}
	for _, f := range diagnosis.Diagnose(now, c.Thresholds).Findings {
		if f.Node != "" && !slices.Contains(c.Nodes, f.Node) || f.Node == "" && part &&
			slices.ContainsFunc(c.found, f.Same) {
			continue
		}
		// What was not Ready before may have reasons of its own.
		unready := f.Reason == diagnosis.StaticPodNotReady && !slices.ContainsFunc(c.found, f.Same)
		grave := f.Severity() == diagnosis.Critical && !saidByConditions(f.Reason)
		if (unready || grave) && !slices.ContainsFunc(c.lasting, f.Same) {
			add(f.Node, strings.TrimSpace(f.Subject+" "+f.Title()), f.Evidence)
		}
	}
	n, ok := now.Observer()
	if !ok {
		return
	}
	for _, component := range []string{"kube-controller-manager", "kube-scheduler"} {
		lease, ok := n.View.ComponentLeases[component]
		if (!ok || !c.holds(now, lease)) && !c.outEverywhere(component) {
			add("", component+" must hold its lease", "last renewed at "+lease.Format(time.RFC3339))
		}
	}
}

// holds reports whether a component's lease is fresh by the clock of a control plane, one of
// which leads. One from before the run names a leader that may be gone.
func (c Check) holds(now snapshot.Snapshot, lease time.Time) bool {
	return slices.ContainsFunc(now.With(cluster.ControlPlane), func(n snapshot.Node) bool {
		before, _ := c.Before.Node(n.Name)
		return n.Failure == nil && n.Clock.Sub(lease) <= leaseAge && lease.After(before.Clock)
	})
}

// outEverywhere reports whether a component was Ready on no control plane when the run
// began, for reasons that last: then no one leads.
func (c Check) outEverywhere(component string) bool {
	return !slices.ContainsFunc(c.Before.With(cluster.ControlPlane), func(n snapshot.Node) bool {
		unready := diagnosis.Finding{Reason: diagnosis.StaticPodNotReady, Node: n.Name, Subject: component}
		return !slices.ContainsFunc(c.lasting, unready.Same)
	})
}

// saidByConditions: the conditions of the node and of its certificates say so.
func saidByConditions(r diagnosis.Reason) bool {
	switch r {
	case diagnosis.NodeUnreachable, diagnosis.NodeNotReady, diagnosis.KubeletDown:
		return true
	case diagnosis.LoadBalancer, diagnosis.NameResolutionFailed:
		return false // on the way to the API servers, not of one
	default:
		return r.Expired() || r.Area() == diagnosis.API
	}
}

// certificate: valid, and not the one that was due when the run began. A new one
// may still end within the threshold: CAs may issue for shorter.
func (c Check) certificate(n, before snapshot.Node, cert certs.Certificate, add func(node, what, evidence string)) {
	row, known := certs.Lookup(cert.Kind)
	if !known || cert.Served || row.CA || row.Approved || n.Copies(row) {
		return
	}
	same := slices.ContainsFunc(before.Certificates,
		func(b certs.Certificate) bool { return b.Fingerprint == cert.Fingerprint })
	s := cert.StatusAt(n.Clock, n.Window(row, cert, c.Thresholds.RenewBefore))
	if s != certs.Valid && (s != certs.Expiring || same && !c.Rollback) {
		add(n.Name, cert.Path+" "+mustBeFresh,
			fmt.Sprintf("it is %s: it expires at %s", s, cert.Ends().Format(time.RFC3339)))
	}
}

const mustBeFresh = "must hold a fresh certificate"

// refuses reports whether waiting does not help: a playbook has refused to renew that file.
func (c Check) refuses(u Unmet) bool {
	file, ok := strings.CutSuffix(u.What, " "+mustBeFresh)
	return ok && slices.Contains(c.Refused[u.Node], file)
}

// TimeoutError means that a gate did not hold before its deadline, or that waiting until then would
// not have helped.
type TimeoutError struct {
	Gate    plan.Gate
	Timeout time.Duration
	// Refused: all that did not hold are files that a playbook has refused to change.
	Refused bool
	// Unmet is what did not hold when time ran out.
	Unmet []Unmet
}

func (e *TimeoutError) Error() string {
	lines := make([]string, len(e.Unmet))
	for i, u := range e.Unmet {
		lines[i] = u.String()
	}
	return fmt.Sprintf("gate %s %s: %s", e.Gate, e.How(), strings.Join(lines, "; "))
}

// How is how the gate failed, in words.
func (e *TimeoutError) How() string {
	if e.Refused {
		return "cannot pass, since files were not changed"
	}
	return fmt.Sprintf("did not pass within %s", e.Timeout)
}

// Wait takes snapshots until the gate holds and has held for StableFor, or until it does
// not hold when timeout has passed, or nothing but Refused is left to wait for: what holds
// then may still have its time. Between two
// of them it pauses at least as long as the last one took: nodes that are busy coming
// back are not kept busy being looked at. It returns the last snapshot taken; each
// evaluation is handed to observe, and while the gate holds and not for long enough, how
// long it has. The error is a *TimeoutError, or take's.
func (c Check) Wait(ctx context.Context, timeout, pause time.Duration,
	take func(context.Context) (snapshot.Snapshot, error), observe func([]Unmet)) (snapshot.Snapshot, error) {
	deadline := time.Now().Add(timeout)
	var since time.Time // the end of the first look since which it has held
	for {
		began := time.Now()
		s, err := take(ctx)
		if err != nil {
			return s, err
		}
		pause := max(pause, time.Since(began))
		unmet := c.Evaluate(s)
		holds := len(unmet) == 0
		switch {
		case !holds:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
			unmet = c.unstable(0)
		default:
			unmet = c.unstable(began.Sub(since))
		}
		observe(unmet)
		if len(unmet) == 0 {
			return s, nil
		}
		refused := !holds && !slices.ContainsFunc(unmet, func(u Unmet) bool { return !c.refuses(u) })
		if refused || !holds && !time.Now().Add(pause).Before(deadline) {
			return s, &TimeoutError{Gate: c.Gate, Timeout: timeout, Refused: refused, Unmet: unmet}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// unstable is what a gate that holds lacks after a time; nil when that was long enough.
func (c Check) unstable(held time.Duration) []Unmet {
	if held >= c.StableFor {
		return nil
	}
	return []Unmet{{What: "the gate must hold without interruption",
		Evidence: fmt.Sprintf("holds, for %s of %s", seconds(held), seconds(c.StableFor))}}
}

// seconds as SI has them: a duration of minutes is easier compared in one unit.
func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
