// Package plan turns a diagnosis and the user's policy into ordered steps.
//
// It is a pure function of both: the same diagnosis gives the same plan.
//
//	p, err := plan.Make(snap.Cluster(), snap, d, plan.Policy{})
//	for _, step := range p.Steps { ... }
//
// A step either runs a playbook, and has an Action, or waits for a gate, and has a Gate. Package
// orchestrator carries plans out.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Choice is which playbook reconciles the cluster after, or instead of, the pre-phase.
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

// Policy is what the user wants from a plan, and what is available to carry it out.
type Policy struct {
	// Choice is the playbook; Auto when empty.
	Choice Choice
	// Kubespray is the checkout that was named or found; nil without one.
	Kubespray *Kubespray
	// Limit names the only nodes to be worked on, each by its own name or by that of its group; all
	// if empty.
	Limit []string
	// Skip are phases that are left out.
	Skip []Phase
	// Until is the last phase of the plan; empty for the whole plan.
	Until Phase
	// MaxUnavailable is how many control planes with a working API server may be renewed between
	// two gates; 1 if 0. It never takes the last one, nor the quorum of etcd.
	MaxUnavailable int
	// AllowNotInInventory names control planes and etcd members that may be missing from the
	// inventory, as in diagnosis.Strangers: each is assumed to be healthy.
	AllowNotInInventory []string
	// RenewCAs are the CAs to re-issue with their own keys; none in any other plan.
	RenewCAs []CA
	// RotateCAs are the CAs to take through one stage of their rotation; none in any other plan.
	RotateCAs   []CA
	RotateStage diagnosis.Stage
	// RestartWorkloads is which workloads are restarted before the stage that drops the cluster's CA, or
	// after CAs were replaced at once; none if empty, or then RestartSystem.
	RestartWorkloads Restart
	// PatchBundles changes caBundles that have a CA which is replaced at once.
	PatchBundles bool
	// CAValidity is their lifetime; if 0, that of kubeadm's configuration, or as before.
	CAValidity time.Duration
	// Signed are certificates that CAs outside of the cluster have signed, and that the plan places:
	// it issues none, and all keys stay.
	Signed []Signed
	// EtcdSnapshot defines which backups hold a snapshot of etcd; SnapshotAuto if empty.
	EtcdSnapshot EtcdSnapshot
	// BackupRoot is the directory of the backups on each node; if empty, a plan does not check the
	// space there.
	BackupRoot string
}

// Kubespray describes a checkout in a plan.
type Kubespray struct {
	Dir string `json:"dir"`
	// Found is the convention by which it was found; empty if it was named.
	Found string `json:"found,omitempty"`
	// Release, and its requirement for ansible-core, in words; Ansible is the one in use.
	Release string `json:"release"`
	Demands string `json:"demands"`
	Ansible string `json:"ansible"`
	// Upgrade and Renew are its playbooks, relative to Dir; Renew is empty without one.
	Upgrade string `json:"upgrade"`
	Renew   string `json:"renew,omitempty"`
	// Tasks is the number of tasks of the playbook that will run, without later includes; 0 if none
	// will.
	Tasks int `json:"tasks,omitempty"`
	// Warnings are about the checkout, in words.
	Warnings []string `json:"warnings,omitempty"`
}

// atOnce is how many control planes may be renewed between two gates, and why it is fewer than
// requested.
func (p Policy) atOnce(c cluster.Cluster, all []Quorum, members []string) (n int, bound string) {
	asked := max(p.MaxUnavailable, 1)
	n = asked
	// Members on separate machines come before, each with its gate.
	stacked := slices.ContainsFunc(members, func(name string) bool {
		n, _ := c.Node(name)
		return n.Is(cluster.ControlPlane)
	})
	why := "one control plane always stays untouched"
	n = min(n, max(len(c.With(cluster.ControlPlane))-1, 1))
	q := slices.MinFunc(all, func(a, b Quorum) int { return a.Spare() - b.Spare() })
	if stacked && max(q.Spare(), 1) < n {
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
	// Nodes are the inventory names of its nodes, in the order they are taken.
	Nodes []string `json:"nodes"`
	// Title is what it does.
	Title string `json:"title"`
	// Why is the reason for it.
	Why string `json:"why"`
	// Changes is true if the step changes nodes.
	Changes bool `json:"changes"`
	// NoWait leaves waiting for the members of etcd to the gate after the step.
	NoWait bool `json:"noWait,omitempty"`
	// AtOnce is how many of Nodes are worked on at the same time; 1 if absent.
	AtOnce int `json:"atOnce,omitempty"`
	// Signer is the node that signs etcd certificates for those of Nodes that do not have the key
	// of etcd's CA; absent if all have it.
	Signer string `json:"signer,omitempty"`
	// Authorities are the CAs that a step re-issues, or places.
	Authorities []certs.Authority `json:"authorities,omitempty"`
	// Stage is that of a rotation of CAs, and Next the fingerprints of the next ones.
	Stage diagnosis.Stage            `json:"stage,omitempty"`
	Next  map[certs.Authority]string `json:"next,omitempty"`
	// Restart is which workloads a step restarts; absent for none. PatchBundles: it changes caBundles, too.
	Restart      Restart `json:"restart,omitempty"`
	PatchBundles bool    `json:"patchBundles,omitempty"`
	// TrustedSince is when all trusted the next CA: what started before may know the former one alone; absent
	// if that is not known.
	TrustedSince time.Time `json:"trustedSince,omitzero"`
	// Offline places CAs and leaves the restart of what trusts them to later steps, or makes them without
	// the key of the former.
	Offline bool `json:"offline,omitempty"`
	// Validity is the lifetime of re-issued CAs; absent for the same as before.
	Validity time.Duration `json:"validity,omitempty"`
}

// Plan is the ordered steps of a route.
type Plan struct {
	Schema int `json:"schema"`
	// Route is the way out that it takes.
	Route diagnosis.Route `json:"route,omitempty"`
	// Undoes is the run that a rollback undoes; a rollback has no route.
	Undoes string `json:"undoes,omitempty"`
	// Steps is empty if there is nothing to do.
	Steps []Step `json:"steps"`
	// EtcdSnapshots is the forecast for each member of etcd that is backed up.
	EtcdSnapshots []MemberSnapshot `json:"etcdSnapshots,omitempty"`
	// Interruption is what users of the cluster will notice.
	Interruption string `json:"interruption"`
	// Unknown is what the plan was made without knowing.
	Unknown []string `json:"unknown,omitempty"`
	// Notes describe what it was made with.
	Notes []string `json:"notes,omitempty"`
	// Warnings are what the approver of the plan should know.
	Warnings []string `json:"warnings,omitempty"`
}

// Schema is the version of the JSON form of a Plan.
const Schema = 1

// UnsupportedError means that no safe plan exists for this state.
type UnsupportedError struct{ Detail string }

func (e *UnsupportedError) Error() string { return e.Detail }

// Make plans the way out of a diagnosis. It returns an *UnsupportedError if certificates are due
// that no step renews, if the policy leaves out what the route needs, if the inventory names less
// than the cluster has, if a signed certificate cannot be placed, or if there is no space for a snapshot
// of etcd that has to be saved, and a *SelectionError for a name that does not exist. The plan of a
// refused route has no steps.
func Make(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, policy Policy) (Plan, error) {
	p := Plan{Schema: Schema, Route: d.Route, Steps: []Step{}, Interruption: "none", Unknown: unknown(s)}
	if err := policy.Check(c); err != nil {
		return p, err
	}
	if len(policy.RenewCAs) > 0 {
		return policy.caRenewal(c, s, d, p)
	}
	if len(policy.RotateCAs) > 0 {
		return policy.rotation(c, s, d, p)
	}
	found := d
	d, err := policy.Effective(s, found)
	if err == nil {
		err = policy.installable(s, found, d)
	}
	if err != nil {
		return p, err
	}
	p.Route = d.Route
	cas, err := policy.expiredCAs(s, d)
	if err != nil || d.Route != diagnosis.Renew && d.Route != diagnosis.Recover && len(cas) == 0 {
		return p, err
	}
	if err := policy.supported(c, s, d); err != nil {
		return p, err
	}
	w := newWork(c, s, d, policy, cas)
	w.plan()
	steps, undone, err := policy.choose(c, d, w.steps)
	if err != nil || len(steps) == 0 {
		p.Warnings = undone
		return p, err
	}
	checks, steps, unsigned := policy.installation(c, found, d, steps)
	if err := spared(s, steps); err != nil {
		return p, err
	}
	allowed, err := w.refuses(steps)
	if err != nil {
		return p, err
	}
	if err := policy.complete(&p, c, s, checks, steps); err != nil {
		return p, err
	}
	p.Interruption = interruption(d, steps)
	notes, warnings := policy.notes()
	p.Notes = slices.Concat(notes, p.Notes, asFound(s, d, steps))
	p.Warnings = slices.Concat(allowed, caWarnings(cas), lasting(d, steps), warnings, undone, unsigned)
	if len(policy.Signed) == 0 { // it issues certificates
		p.Notes, p.Warnings = append(p.Notes, newKeys(d, s, steps)...), append(p.Warnings, outlived(s, d, steps)...)
	}
	if len(w.membersOf(steps)) > 0 {
		p.Notes = append(p.Notes, inWords(w.quorums)...)
	}
	if w.bound != "" {
		p.Notes = append(p.Notes, w.bound)
	}
	return p, nil
}

// complete fills in the steps of a plan: checks, a backup of every node that is changed, and the
// others. The error is an *UnsupportedError if there is no space for a snapshot of etcd.
func (p Policy) complete(made *Plan, c cluster.Cluster, s snapshot.Snapshot, checks, steps []Step) error {
	first := Step{Action: Backup, Nodes: changing(c, steps),
		Why: "nothing is changed on a node before it has a verified copy"}
	snapshots, err := p.snapshots(s, first.Nodes)
	if err != nil {
		return err
	}
	notes, silent := reported(snapshots)
	made.EtcdSnapshots, made.Steps = snapshots, numbered(slices.Concat(checks, []Step{first}, steps))
	made.Notes, made.Unknown = append(made.Notes, notes...), append(made.Unknown, silent...)
	return nil
}

// changing are the nodes that steps change, in the order of the cluster.
func changing(c cluster.Cluster, steps []Step) []string {
	return slices.DeleteFunc(cluster.Names(c.Nodes), func(name string) bool { return !changed(steps, name) })
}

// interruption is what the steps of a plan cost the users of the cluster.
func interruption(d diagnosis.Diagnosis, steps []Step) string {
	var out string
	switch d.Route {
	case diagnosis.Recover:
		out = "the API server is already unusable; running pods are not touched"
	case diagnosis.NewCA:
		out = "clients refuse the expired CA already; what it has signed becomes valid again, because its key stays; " +
			"kubelets, API servers and etcd may restart; running pods are not touched"
	default:
		out = renewalInterruption(d, steps)
		if slices.ContainsFunc(steps, func(s Step) bool { return s.Action == KubeletBootstrap }) {
			// Kubernetes, pkg/kubelet/prober: what probes found is lost. Since 1.35 the last status of a container
			// counts (feature gate ChangeContainerStatusOnKubeletRestart).
			out += "; kubelets restart, and before Kubernetes 1.35 report their pods with a readiness probe " +
				"as not ready for a moment (--serial 1: on one node at a time)"
		}
	}
	if slices.ContainsFunc(steps, func(s Step) bool { return s.Action.Row().Kubespray }) {
		// kubectl drain --force --delete-emptydir-data (Kubespray, roles/upgrade/pre-upgrade).
		out += "; upgrade-cluster.yml then drains one node after another: data in emptyDir volumes and pods without " +
			"a controller are lost"
	}
	return out
}

// renewalInterruption is what a renewal costs the users of a healthy cluster. An API
// server reloads renewed files by itself since Kubernetes 1.20 (kubernetes/kubernetes#92791 closed
// the last gap); only its loopback certificate needs a restart.
func renewalInterruption(d diagnosis.Diagnosis, steps []Step) string {
	var restart []string
	for _, f := range d.Findings {
		loopback := f.Reason == diagnosis.LoopbackCertificateExpired ||
			f.Reason == diagnosis.LoopbackCertificateExpiring
		if loopback && changed(steps, f.Node) {
			restart = append(restart, f.Node)
		}
	}
	if len(restart) > 0 {
		return fmt.Sprintf("the API server on %s restarts, because its in-memory loopback certificate expires soon: "+
			"with a single API server, a few seconds without an answer; running pods are not touched",
			strings.Join(restart, ", "))
	}
	return "none is expected: API servers reload renewed certificates by themselves; one that does not, as before " +
		"Kubernetes 1.20, is restarted: with a single API server, a few seconds without an answer; running pods are " +
		"not touched"
}

// lost reports whether etcd's members cannot be waited for one by one: no member answers with a
// quorum, no API server that is ready has asked one, and the reason is certificates that have expired.
// If they are merely due, something else is wrong, which each gate shows.
func lost(s snapshot.Snapshot, d diagnosis.Diagnosis, q Quorum) bool {
	_, usable := s.Observer()
	return !q.Holds() && !usable && d.LostQuorum(s)
}

// signer is a node that can sign etcd certificates for those of nodes that need it and do not have
// the key of etcd's CA themselves; empty if there is none of these.
func signer(s snapshot.Snapshot, needs func(snapshot.Node) bool, nodes []string) string {
	for _, name := range nodes {
		n, _ := s.Node(name)
		if !needs(n) || n.SignsEtcd() {
			continue
		}
		if other := etcdSigner(s, n); other != "" {
			return other
		}
	}
	return ""
}

// etcdSigner is another node that can sign etcd certificates for a node; empty if there is none.
func etcdSigner(s snapshot.Snapshot, n snapshot.Node) string {
	for _, other := range s.With(cluster.Etcd) {
		if other.SignsEtcd() && acceptsEtcd(n, other) {
			return other.Name
		}
	}
	return ""
}

// SignedInside reports whether certificates of a kind on a node are signed in the cluster, also where the
// keys of CAs are kept outside: by the node itself, or with the key of host etcd's CA, which is there or
// on a node of etcd.
func SignedInside(s snapshot.Snapshot, n snapshot.Node, k certs.Kind) bool {
	row, _ := certs.Lookup(k)
	return row.Signer == certs.SelfSigned ||
		row.Signer == certs.EtcdHostCA && (n.SignsEtcd() || etcdSigner(s, n) != "")
}

// ofEtcd reports whether certificates of Kubespray's etcd are due on a node.
func ofEtcd(d diagnosis.Diagnosis) func(snapshot.Node) bool {
	return func(n snapshot.Node) bool { return dueKind(d, n.Name, certs.EtcdHostCA) }
}

// acceptsEtcd reports whether a node trusts the CA of etcd that another one signs with: their files
// are the same, or it is one of several.
func acceptsEtcd(n, signer snapshot.Node) bool {
	file := n.Facts["etcd-dir"] + "/ca.pem"
	if n.Digests[file] == signer.Digests[signer.Facts["etcd-dir"]+"/ca.pem"] {
		return true
	}
	return slices.ContainsFunc(signer.Certificates, func(ca certs.Certificate) bool {
		return ca.Kind == certs.KindEtcdHostCA && ca.Key == certs.KeyMatches &&
			slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
				return c.Kind == certs.KindEtcdHostCA && c.SignsAs() == ca.SignsAs()
			})
	})
}

// numbered completes the steps and gives them their IDs.
func numbered(steps []Step) []Step {
	for i := range steps {
		steps[i] = steps[i].filled()
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

// affected lists the control planes whose certificates are due or served stale, the other nodes
// whose etcd certificates are, and the nodes whose kubelet needs a bootstrap: workers, and control
// planes that are otherwise left alone. A control plane's own step covers its etcd, and its kubelet
// when the API server is down.
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

// needEachOther lists the control planes that can only come back together if etcd has no quorum:
// more than one is down, and etcd certificates of some of them have expired. One member with new
// certificates among expired ones has no quorum either, and an API server waits for etcd without
// success. If there is a quorum, members whose certificates have expired continue over their open
// connections, and each comes back by itself. With an expired CA of etcd all members are down,
// whatever their API servers still report.
func needEachOther(s snapshot.Snapshot, d diagnosis.Diagnosis, expired bool) []string {
	var out []string
	etcd := expired
	for _, n := range s.With(cluster.ControlPlane) {
		if d.ControlPlanes[n.Name] == diagnosis.APIUsable && (!expired || !n.Is(cluster.Etcd)) {
			continue
		}
		out = append(out, n.Name)
		etcd = etcd || n.Is(cluster.Etcd) && d.LostMember(s, n)
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

// supported refuses what no step can fix, before anything is changed: only on the nodes of the
// limit, so that the others can be renewed meanwhile.
func (p Policy) supported(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis) error {
	if p.Choice == NoPlaybook && d.Route == diagnosis.Renew {
		return &UnsupportedError{
			"--playbook none leaves nothing to run: the API server can be used, so no pre-phase is needed; omit the " +
				"flag to renew what is due"}
	}
	for _, name := range p.limited(c) {
		n, _ := s.Node(name)
		exclude := "exclude the node for now: --limit " + limitWithout(c, name)
		for _, k := range d.Due[name] {
			if row, _ := certs.Lookup(k); !n.Is(cluster.ControlPlane) && !isKubelet(k) &&
				row.Signer != certs.EtcdHostCA {
				return &UnsupportedError{fmt.Sprintf(
					"%s is due on %s, which is not a control plane: kscertctl does not renew it there; "+
						"have it issued where it came from, remove it if it is not needed there, or %s", k, name,
					exclude)}
			}
		}
		for _, f := range d.Findings {
			_, has := n.Certificate(certs.KindKubeletClient)
			if f.Node == name && !has && f.Reason == diagnosis.NodeNotRegistered &&
				slices.Contains(d.Due[name], certs.KindKubeletClient) {
				return &UnsupportedError{fmt.Sprintf(
					"the kubelet of %s has lost its client certificate, and the API server knows no node %s: it is "+
						"not known for which "+
						"name to issue one; set kube_override_hostname to the node's name (kubectl get nodes -o "+
						"wide), or %s", name, f.Subject, exclude)}
			}
		}
		file, several := diagnosis.SigningBundle(n)
		if several && (slices.Contains(d.Due[name], certs.KindControllerManagerConf) ||
			slices.Contains(d.Stale[name], "kube-controller-manager")) {
			return &UnsupportedError{fmt.Sprintf(
				"kube-controller-manager on %s has to be restarted, and would not start: it signs with %s, which "+
					"holds several CAs; "+
					"copy the one that belongs to its --cluster-signing-key-file to a file of its own, and name that "+
					"with --cluster-signing-cert-file in its manifest, or %s", name, file, exclude)}
		}
		if len(p.Signed) == 0 && dueKind(d, name, certs.EtcdHostCA) && !n.SignsEtcd() &&
			signer(s, ofEtcd(d), []string{name}) == "" {
			return &UnsupportedError{fmt.Sprintf(
				"etcd certificates are due on %s, but %s/ca-key.pem is neither there nor, for the same CA, "+
					"on a node of the group etcd: new ones cannot be signed; restore the key on one of them from a "+
					"backup (kscertctl backup list -i INVENTORY), "+
					"have the certificates issued where it is, or %s", name, n.Facts["etcd-dir"], exclude)}
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
	if len(kinds)+len(stale) == 0 {
		return "what trusts the renewed CA must take it up"
	}
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
