// Package plan turns a diagnosis and the user's policy into ordered steps.
//
// It is a pure function of both: the same diagnosis gives the same plan.
//
//	p, err := plan.Make(snap.Cluster(), snap, d, plan.Policy{})
//	for _, step := range p.Steps { ... }
//
// A step runs a playbook, and then its Action is set, or waits for a gate, and then
// its Gate is. Package orchestrator carries plans out.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Choice is which playbook reconciles the cluster after, or instead of, the
// pre-phase.
type Choice string

// The choices of --playbook.
const (
	// Auto renews what is due and runs nothing that is not needed.
	Auto Choice = "auto"
	// RenewCerts runs the renew-certs playbook.
	RenewCerts Choice = "renew-certs"
	// UpgradeCluster runs Kubespray's upgrade-cluster.yml once the API server
	// can be used again.
	UpgradeCluster Choice = "upgrade-cluster"
	// NoPlaybook runs the pre-phase alone.
	NoPlaybook Choice = "none"
)

// Choices in the order they are documented in.
func Choices() []Choice { return []Choice{Auto, RenewCerts, UpgradeCluster, NoPlaybook} }

// Policy is what the user asks of a plan, and what there is to carry it out with.
type Policy struct {
	// Choice is the playbook; Auto when empty.
	Choice Choice
	// Kubespray is the checkout that was named or found; nil without one.
	Kubespray *Kubespray
	// Limit names the only nodes to be worked on, each by its own name or by that of
	// its group; all when empty.
	Limit []string
	// Skip are phases that are left out.
	Skip []Phase
	// Until is the phase that the plan ends with; empty for the whole plan.
	Until Phase
	// MaxUnavailable is how many control planes whose API servers work may be renewed
	// between two gates; 1 when 0. It never takes the last one, nor the quorum of etcd.
	MaxUnavailable int
	// AllowNotInInventory names control planes and etcd members that the inventory need not
	// name, as diagnosis.Strangers has them: each is assumed to be healthy.
	AllowNotInInventory []string
	// EtcdSnapshot is which backups hold a snapshot of etcd; SnapshotAuto when empty.
	EtcdSnapshot EtcdSnapshot
	// BackupRoot is the folder of the backups on each node; when empty, no plan asks for
	// the room there.
	BackupRoot string
}

// Kubespray is a checkout as a plan tells of it.
type Kubespray struct {
	Dir string `json:"dir"`
	// Found says by which convention; empty where it was named.
	Found string `json:"found,omitempty"`
	// Release, and what it demands of ansible-core, in words; Ansible is the one in use.
	Release string `json:"release"`
	Demands string `json:"demands"`
	Ansible string `json:"ansible"`
	// Upgrade and Renew are its playbooks, relative to Dir; Renew is empty without one.
	Upgrade string `json:"upgrade"`
	Renew   string `json:"renew,omitempty"`
	// Tasks are those of the playbook that will run, before what it includes; 0 when
	// none will.
	Tasks int `json:"tasks,omitempty"`
	// Warnings are about the checkout, in words.
	Warnings []string `json:"warnings,omitempty"`
}

// atOnce is how many control planes may be renewed between two gates, and why it is
// fewer than was asked for.
func (p Policy) atOnce(c cluster.Cluster, q Quorum, members []string) (n int, bound string) {
	asked := max(p.MaxUnavailable, 1)
	n = asked
	// Members on machines of their own come before, each behind its gate.
	beside := slices.ContainsFunc(members, func(name string) bool {
		n, _ := c.Node(name)
		return n.Is(cluster.ControlPlane)
	})
	why := "one control plane always stays untouched"
	n = min(n, max(len(c.With(cluster.ControlPlane))-1, 1))
	if beside && max(q.Spare(), 1) < n {
		n, why = max(q.Spare(), 1), q.String()
	}
	if n < asked {
		bound = fmt.Sprintf("limited to %d at a time (%d requested): %s", n, asked, why)
	}
	return n, bound
}

// Runs reports whether a policy may run a playbook of the checkout.
func (p Policy) Runs() bool {
	return p.Choice == UpgradeCluster || (p.Choice == RenewCerts && p.Kubespray != nil && p.Kubespray.Renew != "")
}

// Action is what a playbook step does.
type Action string

// The actions. Each is named like its playbook.
const (
	Backup           Action = "backup"
	PrePhase         Action = "pre-phase"
	Renew            Action = "renew-certs"
	KubeletBootstrap Action = "kubelet-bootstrap"
	EtcdCertificates Action = "etcd-certificates"
	Upgrade          Action = "upgrade-cluster"
	RestoreBackup    Action = "rollback"
)

// Gate is a health condition that must hold before the next step.
type Gate string

// The gates.
const (
	EtcdGate      Gate = "etcd"
	APIServerGate Gate = "api-server"
	KubeletGate   Gate = "kubelets"
	ClusterGate   Gate = "cluster"
)

// Step is one playbook run or one gate; exactly one of Action and Gate is set.
type Step struct {
	// ID is unique in the plan and sorts in order: "02-pre-phase-cp1".
	ID string `json:"id"`
	// Action is the playbook that it runs; absent for a gate.
	Action Action `json:"action,omitempty"`
	// Gate is the condition that it waits for; absent for a playbook.
	Gate Gate `json:"gate,omitempty"`
	// Playbook is one of the Kubespray checkout, relative to it; absent for ours.
	Playbook string `json:"playbook,omitempty"`
	// Nodes are the inventory names it is about, in the order they are taken.
	Nodes []string `json:"nodes"`
	// Title is what it does.
	Title string `json:"title"`
	// Why is the reason for it.
	Why string `json:"why"`
	// Changes is true when the step changes nodes.
	Changes bool `json:"changes"`
	// NoWait leaves waiting for the members of etcd to the gate behind the step.
	NoWait bool `json:"noWait,omitempty"`
	// AtOnce is how many of Nodes are worked on at the same time; 1 when absent.
	AtOnce int `json:"atOnce,omitempty"`
	// Signer is the node that signs etcd certificates for those of Nodes that do not
	// have the key of etcd's CA; absent when all have it.
	Signer string `json:"signer,omitempty"`
}

// Together reports whether the step's nodes come back together or not at all: etcd has
// no quorum before most of them have new certificates, so none is waited for before all
// have them.
func (s Step) Together() bool { return s.NoWait || s.Action == PrePhase && s.AtOnce > 1 }

// Plan is the ordered steps of a route.
type Plan struct {
	Schema int `json:"schema"`
	// Route is the way out that it takes.
	Route diagnosis.Route `json:"route,omitempty"`
	// Undoes is the run that a rollback undoes; a rollback has no route.
	Undoes string `json:"undoes,omitempty"`
	// Steps is empty when there is nothing to do.
	Steps []Step `json:"steps"`
	// EtcdSnapshots are what is foreseen of each member of etcd that is backed up.
	EtcdSnapshots []MemberSnapshot `json:"etcdSnapshots,omitempty"`
	// Interruption is what users of the cluster will notice.
	Interruption string `json:"interruption"`
	// Unknown is what the plan was made without knowing.
	Unknown []string `json:"unknown,omitempty"`
	// Notes say in words what it was made with.
	Notes []string `json:"notes,omitempty"`
	// Warnings are what the approver of the plan should know.
	Warnings []string `json:"warnings,omitempty"`
}

// Schema is the version of the JSON form of a Plan.
const Schema = 1

// UnsupportedError says that no safe plan exists for what was found.
type UnsupportedError struct{ Detail string }

func (e *UnsupportedError) Error() string { return e.Detail }

// Make plans the way out of a diagnosis. It returns an *UnsupportedError when
// certificates are due that no step renews, when the policy leaves out what the route
// needs, when the inventory names less than the cluster has, or when there is no room for a
// snapshot of etcd that has to be saved, and a *SelectionError
// when it names what there is none of. The plan of a refused route has no steps.
func Make(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, policy Policy) (Plan, error) {
	p := Plan{Schema: Schema, Route: d.Route, Steps: []Step{}, Interruption: "none", Unknown: unknown(s)}
	if err := policy.Check(c); err != nil {
		return p, err
	}
	if d.Route != diagnosis.Renew && d.Route != diagnosis.Recover {
		return p, nil
	}
	if err := supported(c, s, d, policy.Choice); err != nil {
		return p, err
	}
	q := policy.quorum(s)
	t := affected(c, d)
	controlPlanes, kubelets := downFirst(q, t.controlPlanes), t.kubelets
	members := slices.DeleteFunc(append(slices.Clone(t.etcd), t.controlPlanes...), func(name string) bool {
		n, _ := s.Node(name)
		return !n.Is(cluster.Etcd) || !etcdDue(d, name)
	})
	b := builder{signer: func(nodes []string) string { return signer(s, d, nodes) }}
	kube, theirs := policy.Kubespray, ""
	if kube != nil && policy.Choice == RenewCerts {
		theirs = kube.Renew
	}
	left := d.Route == diagnosis.Recover // something may be left for renew-certs at the end

	// Where nobody is served any more, there is nobody to spare: all at the same time.
	all := lost(s, q)
	b.etcd(c, d, downFirst(q, t.etcd), all)
	if together := needEachOther(c, d); len(together) > 0 && all {
		b.step(Step{Action: PrePhase, Nodes: together, AtOnce: several(together), Title: "Re-issue expired certificates without the API server",
			Why: "etcd has no quorum until most members trust each other again, so they are handled at the same time; " + due(d, together...), Changes: true})
		b.step(apiServers(together))
		controlPlanes = without(controlPlanes, together)
	}
	atOnce, bound := policy.atOnce(c, q, members)
	for len(controlPlanes) > 0 {
		name := controlPlanes[0]
		now := controlPlanes[:1]
		state := d.ControlPlanes[name]
		switch {
		case state == diagnosis.APIUsable && theirs != "":
			left = true
			b.step(Step{Action: Renew, Playbook: theirs, Nodes: now, Title: "Run the checkout's own renew-certs playbook", Why: due(d, name), Changes: true})
		case state == diagnosis.APIUsable:
			for len(now) < min(atOnce, len(controlPlanes)) && d.ControlPlanes[controlPlanes[len(now)]] == diagnosis.APIUsable {
				now = controlPlanes[:len(now)+1]
			}
			b.step(Step{Action: Renew, Nodes: now, AtOnce: several(now), Title: "Renew the certificates of the control plane", Why: due(d, now...), Changes: true})
		default:
			b.step(Step{Action: PrePhase, Nodes: now, Title: "Re-issue expired certificates without the API server",
				Why: fmt.Sprintf("its API server is unusable (%s); %s", state, due(d, name)), Changes: true})
		}
		b.step(apiServers(now))
		controlPlanes = controlPlanes[len(now):]
	}
	if len(kubelets) > 0 {
		b.step(Step{Action: KubeletBootstrap, Nodes: kubelets, Title: "Give kubelets a new client certificate",
			Why: "a kubelet whose certificate has expired cannot request one by itself; " +
				"upgrade-cluster.yml never fixes it", Changes: true})
		b.step(Step{Gate: KubeletGate, Nodes: kubelets, Title: "Wait for the kubelets", Why: "each must renew its lease"})
	}
	proof := "every certificate valid, CAs unchanged, all nodes Ready with fresh leases"
	switch policy.Choice {
	case UpgradeCluster:
		upgrade := Step{Action: Upgrade, Nodes: cluster.Names(c.Nodes), Title: "Run Kubespray's upgrade-cluster.yml",
			Why: "requested; at an unchanged version it reconciles and renews nothing by itself", Changes: true}
		if kube != nil {
			upgrade.Playbook = kube.Upgrade
		}
		b.step(upgrade)
		proof += "; what upgrade-cluster.yml should have renewed is verified too"
	case RenewCerts:
		if left {
			b.step(Step{Action: Renew, Nodes: cluster.Names(c.With(cluster.ControlPlane)), Title: "Renew what is still due",
				Why: "requested; what was due has been issued again, so nothing should be left", Changes: true})
		}
	case Auto, NoPlaybook:
	}
	b.step(Step{Gate: ClusterGate, Nodes: cluster.Names(c.Nodes), Title: "Prove the result", Why: proof})

	steps, undone, err := policy.choose(c, d, b.steps)
	if err != nil || len(steps) == 0 {
		p.Warnings = undone
		return p, err
	}
	members = slices.DeleteFunc(members, func(name string) bool { return !taken(steps, name, EtcdCertificates, PrePhase, Renew) })
	restart := restarted(s, d, steps)
	allowed, err := policy.knowsEnough(c, s, steps, !q.Holds() || len(restart) > 0)
	if err != nil {
		return p, err
	}
	if err := cmp.Or(keepsQuorum(q, s, members, restart), startsNone(c, d, s, steps)); err != nil {
		return p, err
	}
	first := backup(c, steps)
	snapshots, err := policy.snapshots(s, first.Nodes)
	if err != nil {
		return p, err
	}
	p.EtcdSnapshots, p.Steps = snapshots, numbered(append([]Step{first}, steps...))

	switch d.Route {
	case diagnosis.Recover:
		p.Interruption = "the API server is already unusable; running pods are not touched"
	default:
		p.Interruption = interruption(d, p.Steps[0].Nodes)
	}
	if slices.ContainsFunc(steps, func(s Step) bool { return s.Action == Upgrade }) {
		// kubectl drain --force --delete-emptydir-data (Kubespray, roles/upgrade/pre-upgrade).
		p.Interruption += "; upgrade-cluster.yml then drains one node after another: data in emptyDir volumes and pods without a controller are lost"
	}
	p.Notes, p.Warnings = policy.notes()
	notes, silent := told(snapshots)
	p.Notes, p.Unknown = slices.Concat(p.Notes, notes, newKeys(d, s, steps), asFound(s, d, steps)), append(p.Unknown, silent...)
	p.Warnings = slices.Concat(allowed, lasting(d, steps), outlived(s, d, steps), p.Warnings, undone)
	if len(members) > 0 && q.Members > 1 {
		p.Notes = append(p.Notes, q.String())
	}
	if bound != "" {
		p.Notes = append(p.Notes, bound)
	}
	return p, nil
}

// interruption says what a renewal of nodes costs the users of a healthy cluster. An API
// server takes renewed files up by itself since Kubernetes 1.20
// (kubernetes/kubernetes#92791 closed the last gap); only what it made for itself when
// it started needs a restart.
func interruption(d diagnosis.Diagnosis, nodes []string) string {
	var restart []string
	for _, f := range d.Findings {
		loopback := f.Reason == diagnosis.LoopbackCertificateExpired || f.Reason == diagnosis.LoopbackCertificateExpiring
		if loopback && slices.Contains(nodes, f.Node) {
			restart = append(restart, f.Node)
		}
	}
	if len(restart) > 0 {
		return fmt.Sprintf("the API server on %s restarts, because its in-memory loopback certificate expires soon: with a single API server, a few seconds without an answer; running pods are not touched", strings.Join(restart, ", "))
	}
	return "none is expected: API servers reload renewed certificates by themselves; one that does not, as before Kubernetes 1.20, is restarted: with a single API server, a few seconds without an answer; running pods are not touched"
}

type builder struct {
	steps []Step
	// signer finds who signs etcd certificates for nodes; empty where they can.
	signer func(nodes []string) string
}

func (b *builder) step(s Step) {
	switch s.Action {
	case EtcdCertificates, PrePhase, Renew:
		if s.Signer = b.signer(s.Nodes); s.Signer != "" {
			s.Why += fmt.Sprintf("; %s, which has the key of etcd's CA, signs", s.Signer)
		}
	default:
	}
	b.steps = append(b.steps, s)
}

// etcd renews the certificates of etcd's members and clients that are no control plane:
// one after another, each member behind a gate; or all before the first gate, where
// they have lost each other. Clients come last.
func (b *builder) etcd(c cluster.Cluster, d diagnosis.Diagnosis, nodes []string, lost bool) {
	var members, clients []string
	for _, name := range nodes {
		if n, _ := c.Node(name); n.Is(cluster.Etcd) {
			members = append(members, name)
		} else {
			clients = append(clients, name)
		}
	}
	for _, nodes := range steps(members, lost) {
		step := Step{Action: EtcdCertificates, Nodes: nodes, AtOnce: several(nodes), NoWait: lost, Title: "Renew the certificates of etcd members", Why: due(d, nodes...), Changes: true}
		if lost {
			step.Why = "etcd has no quorum until most members trust each other again, so no step waits for one yet; " + step.Why
		}
		b.step(step)
		if !lost {
			b.step(Step{Gate: EtcdGate, Nodes: nodes, Title: "Wait for the etcd member", Why: "it answers a read with quorum, and serves the certificate on disk, before another one is touched"})
		}
	}
	if lost && len(members) > 0 {
		b.step(Step{Gate: EtcdGate, Nodes: members, Title: "Wait for etcd", Why: "every member answers a read with quorum, and serves the certificate on disk; API servers need it"})
	}
	if len(clients) > 0 {
		b.step(Step{Action: EtcdCertificates, Nodes: clients, Title: "Renew the certificates of etcd's clients", Why: due(d, clients...), Changes: true})
	}
}

// apiServers is the gate behind the work on control planes.
func apiServers(nodes []string) Step {
	return Step{Gate: APIServerGate, Nodes: nodes, Title: "Wait for the API server",
		Why: "readyz with verified TLS, and the served certificate is the one on disk"}
}

// steps are the nodes of one step each, or of one for all of them.
func steps(nodes []string, together bool) [][]string {
	switch {
	case len(nodes) == 0:
		return nil
	case together:
		return [][]string{nodes}
	}
	var out [][]string
	for _, name := range nodes {
		out = append(out, []string{name})
	}
	return out
}

// several is how many of the nodes are worked on at the same time, where that is not one.
func several(nodes []string) int {
	if len(nodes) < 2 {
		return 0
	}
	return len(nodes)
}

// lost reports whether etcd's members cannot be waited for one by one: no member
// answers with a quorum, and no API server that is ready has asked one.
func lost(s snapshot.Snapshot, q Quorum) bool {
	_, usable := s.Observer()
	return !q.Holds() && !usable
}

// signer is a node that can sign etcd certificates for those of nodes that need it and
// have no key of etcd's authority themselves; empty when there is none of these.
func signer(s snapshot.Snapshot, d diagnosis.Diagnosis, nodes []string) string {
	for _, name := range nodes {
		n, _ := s.Node(name)
		if !dueKind(d, name, certs.EtcdHostCA) || n.SignsEtcd() {
			continue
		}
		for _, other := range s.With(cluster.Etcd) {
			if other.SignsEtcd() && acceptsEtcd(n, other) {
				return other.Name
			}
		}
	}
	return ""
}

// acceptsEtcd reports whether a node trusts the CA of etcd that another one signs with: their
// files are the same, or it is among several.
func acceptsEtcd(n, signer snapshot.Node) bool {
	file := n.Facts["etcd-dir"] + "/ca.pem"
	if n.Digests[file] == signer.Digests[signer.Facts["etcd-dir"]+"/ca.pem"] {
		return true
	}
	return slices.ContainsFunc(signer.Certificates, func(ca certs.Certificate) bool {
		return ca.Kind == certs.KindEtcdHostCA && ca.Key == certs.KeyMatches && slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
			return c.Kind == certs.KindEtcdHostCA && c.SignsAs() == ca.SignsAs()
		})
	})
}

// backup covers every node that a step changes.
func backup(c cluster.Cluster, steps []Step) Step {
	changed := slices.DeleteFunc(cluster.Names(c.Nodes), func(name string) bool {
		return !changed(steps, name)
	})
	return Step{Action: Backup, Nodes: changed, Title: "Back up the PKI, kubeconfigs and manifests",
		Why: "nothing is changed on a node before it has a verified copy", Changes: true}
}

// numbered gives the steps their IDs.
func numbered(steps []Step) []Step {
	for i := range steps {
		name := string(steps[i].Action)
		if steps[i].Gate != "" {
			name = "gate-" + string(steps[i].Gate)
		}
		if len(steps[i].Nodes) == 1 {
			name += "-" + steps[i].Nodes[0]
		}
		steps[i].ID = fmt.Sprintf("%02d-%s", i+1, name)
	}
	return steps
}

// targets are the nodes that a plan works on, by what is done there.
type targets struct{ etcd, controlPlanes, kubelets []string }

// affected lists the control planes whose certificates are due or served stale, the
// other nodes whose etcd certificates are, and the nodes whose kubelet needs a
// bootstrap: workers, and control planes that are otherwise left alone. A control
// plane's own step covers its etcd, and its kubelet when the API server is out.
func affected(c cluster.Cluster, d diagnosis.Diagnosis) (t targets) {
	for _, n := range c.Nodes {
		var kubelet, other bool
		for _, k := range d.Due[n.Name] {
			if isKubelet(k) {
				kubelet = true
			} else {
				other = true
			}
		}
		isCP := n.Is(cluster.ControlPlane)
		out := isCP && d.ControlPlanes[n.Name] != diagnosis.APIUsable
		switch work := other || len(d.Stale[n.Name]) > 0 || out; {
		case work && isCP:
			t.controlPlanes = append(t.controlPlanes, n.Name)
		case work:
			t.etcd = append(t.etcd, n.Name)
		}
		if kubelet && !out {
			t.kubelets = append(t.kubelets, n.Name)
		}
	}
	return t
}

// needEachOther lists the control planes that can only come back together where etcd has
// no quorum: more than one is out, and etcd certificates are due on some of them. One
// member with new certificates among expired ones has no quorum either, and an API server
// waits for etcd in vain. Where there is one, members whose certificates have expired
// talk on over the connections that they have, and each comes back by itself.
func needEachOther(c cluster.Cluster, d diagnosis.Diagnosis) []string {
	var out []string
	etcd := false
	for _, n := range c.With(cluster.ControlPlane) {
		if d.ControlPlanes[n.Name] == diagnosis.APIUsable {
			continue
		}
		out = append(out, n.Name)
		etcd = etcd || n.Is(cluster.Etcd) && (dueKind(d, n.Name, certs.EtcdCA) || dueKind(d, n.Name, certs.EtcdHostCA))
	}
	if len(out) < 2 || !etcd {
		return nil
	}
	return out
}

func isKubelet(k certs.Kind) bool {
	row, _ := certs.Lookup(k)
	return row.Base == certs.Kubelet || k == certs.KindKubeletConf
}

// supported refuses what no step can mend, before anything is changed.
func supported(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, choice Choice) error {
	if choice == NoPlaybook && d.Route == diagnosis.Renew {
		return &UnsupportedError{"--playbook none leaves nothing to run: the API server can be used, so no pre-phase is needed; omit the flag to renew what is due"}
	}
	for _, n := range c.Nodes {
		if n.Is(cluster.ControlPlane) {
			continue
		}
		for _, k := range d.Due[n.Name] {
			if row, _ := certs.Lookup(k); !isKubelet(k) && row.Signer != certs.EtcdHostCA {
				return &UnsupportedError{fmt.Sprintf("%s is due on %s, which is not a control plane: kscertctl does not renew it there; "+
					"have it issued where it came from, or remove it if it is not needed there", k, n.Name)}
			}
		}
	}
	for _, f := range d.Findings {
		n, _ := s.Node(f.Node)
		if _, has := n.Certificate(certs.KindKubeletClient); has || f.Reason != diagnosis.NodeNotRegistered || !slices.Contains(d.Due[f.Node], certs.KindKubeletClient) {
			continue
		}
		return &UnsupportedError{fmt.Sprintf("the kubelet of %s has lost its client certificate, and the API server knows no node %s: it is not known for which "+
			"name to issue one; set kube_override_hostname to the node's name (kubectl get nodes -o wide), or exclude the node for now: --limit %s",
			f.Node, f.Subject, limitWithout(c, f.Node))}
	}
	for _, n := range s.Nodes {
		file, several := diagnosis.SigningBundle(n)
		if several && (slices.Contains(d.Due[n.Name], certs.KindControllerManagerConf) || slices.Contains(d.Stale[n.Name], "kube-controller-manager")) {
			return &UnsupportedError{fmt.Sprintf("kube-controller-manager on %s has to be restarted, and would not start: it signs with %s, which holds several CAs; "+
				"copy the one that belongs to its --cluster-signing-key-file to a file of its own, and name that with --cluster-signing-cert-file in its manifest", n.Name, file)}
		}
		if dueKind(d, n.Name, certs.EtcdHostCA) && !n.SignsEtcd() && signer(s, d, []string{n.Name}) == "" {
			return &UnsupportedError{fmt.Sprintf("etcd certificates are due on %s, but %s/ca-key.pem is neither there nor, for the same CA, "+
				"on a node of the group etcd: new ones cannot be signed; restore the key on one of them from a backup, or have the certificates "+
				"issued where it is", n.Name, n.Facts["etcd-dir"])}
		}
	}
	return nil
}

func dueKind(d diagnosis.Diagnosis, node string, signer certs.Authority) bool {
	return slices.ContainsFunc(d.Due[node], func(k certs.Kind) bool {
		row, _ := certs.Lookup(k)
		return row.Signer == signer
	})
}

// due names the certificates of nodes that are due.
func due(d diagnosis.Diagnosis, nodes ...string) string {
	var kinds []certs.Kind
	var stale []string
	for _, node := range nodes {
		kinds = append(kinds, d.Due[node]...)
		stale = append(stale, d.Stale[node]...)
	}
	slices.Sort(kinds)
	if kinds = slices.Compact(kinds); len(kinds) == 0 {
		slices.Sort(stale)
		return strings.Join(slices.Compact(stale), ", ") + " holds or serves an older certificate than the one on disk"
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return "due: " + strings.Join(names, ", ")
}
