package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

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
	CAIssue          Action = "ca-issue"
	CARenew          Action = "ca-renew"
	CAPublish        Action = "ca-publish"
	CACheck          Action = "ca-check"
	CARotate         Action = "ca-rotate"
)

// Effect is what an action does to its nodes.
type Effect string

// The effects.
const (
	Reads  Effect = "reads"  // changes nothing
	Adds   Effect = "adds"   // adds files of its own, and changes nothing that was there
	Alters Effect = "alters" // changes what was there, so that it needs a backup first
)

// Issued is a group of certificates that an action issues, or places, if they are due.
type Issued string

// The groups: what etcd and its clients need on any node, what kubeadm issues on a control plane,
// and a kubelet's client certificate.
const (
	IssuesEtcd    Issued = "etcd"
	IssuesKubeadm Issued = "kubeadm"
	IssuesKubelet Issued = "kubelet"
)

// API is what an action has to do with API servers.
type API string

// The relations to API servers.
const (
	RestoresAPI  API = "restores"  // works without, and brings back that of its nodes
	NeedsOwnAPI  API = "needs-own" // needs those of its nodes
	NeedsAllAPIs API = "needs-all" // needs those of all control planes: any of them may be asked
)

// Row is all that is known of an action. Adding an action is adding a row, and its playbook.
type Row struct {
	Action Action
	// Title is that of its steps, if they have none of their own.
	Title string
	// Effect is what it does to nodes.
	Effect Effect
	// Phase: its steps are a phase, by which a part of a plan can be selected.
	Phase bool
	// Gate waits for its nodes; empty if there is none, or it depends on the nodes.
	Gate Gate
	// Issues are the certificates that it issues.
	Issues []Issued
	// API is empty for an action that has nothing to do with API servers.
	API API
	// Together: nodes that it works on at the same time come back together or not at all.
	Together bool
	// Many: nothing is lost if it runs on many nodes at the same time.
	Many bool
	// Serial is the variable of its playbook for the number of nodes at a time, as requested.
	Serial string
	// Signed: it checks or places certificates that were signed elsewhere, and takes kscert_signed.
	Signed bool
	// Kubespray: the playbook is one of the checkout, restarts what it likes, and needs every node.
	Kubespray bool
}

// Actions are the actions in the order in which a plan has them: one row for each.
func Actions() []Row {
	return []Row{
		{Action: Backup, Title: "Back up the PKI, kubeconfigs and manifests", Effect: Adds, Phase: true, Many: true},
		{Action: CACheck, Title: "Check the signed certificates on their nodes", Effect: Reads, Many: true,
			Signed: true},
		{Action: CAIssue, Title: "Re-issue CA certificates with their own keys", Effect: Reads},
		{Action: CARenew, Title: "Put the new CA certificates in place", Effect: Alters, Issues: []Issued{IssuesEtcd},
			Many: true, Serial: "kscert_max_unavailable"},
		{Action: CARotate, Title: "Take a stage of the rotation of CAs", Effect: Alters, Many: true,
			Issues: []Issued{IssuesEtcd, IssuesKubeadm, IssuesKubelet}, Serial: "kscert_max_unavailable"},
		{Action: EtcdCertificates, Title: "Renew the certificates of etcd members", Effect: Alters, Phase: true,
			Gate: EtcdGate, Issues: []Issued{IssuesEtcd}, Signed: true},
		{Action: PrePhase, Title: "Re-issue expired certificates without the API server", Effect: Alters, Phase: true,
			Gate: APIServerGate, Issues: []Issued{IssuesEtcd, IssuesKubeadm, IssuesKubelet}, API: RestoresAPI,
			Together: true, Signed: true},
		{Action: Renew, Title: "Renew the certificates of the control plane", Effect: Alters, Phase: true,
			Gate: APIServerGate, Issues: []Issued{IssuesEtcd, IssuesKubeadm}, API: NeedsOwnAPI, Signed: true},
		// A kubelet that cannot log in has nothing to lose.
		{Action: KubeletBootstrap, Title: "Give kubelets a new client certificate", Effect: Alters, Phase: true,
			Gate: KubeletGate, Issues: []Issued{IssuesKubelet}, API: NeedsAllAPIs, Many: true, Serial: "kscert_serial",
			Signed: true},
		{Action: Upgrade, Title: "Run Kubespray's upgrade-cluster.yml", Effect: Alters, Phase: true, API: NeedsAllAPIs,
			Kubespray: true},
		{Action: CAPublish, Title: "Wait until the cluster has published the CA certificate", Effect: Alters},
		{Action: RestoreBackup, Title: "Restore the backup of a run", Effect: Alters},
	}
}

// Row is the action's; the zero Row if it has none.
func (a Action) Row() Row {
	for _, r := range Actions() {
		if r.Action == a {
			return r
		}
	}
	return Row{}
}

// Playbook is the file name of the project's own playbook for an action.
func (a Action) Playbook() string { return string(a) + ".yml" }

// CollectionPlaybook is the name of the same in the collection.
func (a Action) CollectionPlaybook() string {
	return "infrapuzzle.kscertctl." + strings.ReplaceAll(string(a), "-", "_")
}

// Gate is a health condition that must hold before the next step.
type Gate string

// The gates.
const (
	EtcdGate      Gate = "etcd"
	APIServerGate Gate = "api-server"
	KubeletGate   Gate = "kubelets"
	ClusterGate   Gate = "cluster"
)

// words are the title and the reason of a gate's step, if it has none of its own.
func (g Gate) words() (title, why string) {
	w := map[Gate][2]string{
		EtcdGate: {"Wait for the etcd member",
			"it answers a read with quorum, and serves the certificate on disk, before another one is touched"},
		APIServerGate: {"Wait for the API server",
			"readyz with verified TLS, and the served certificate is the one on disk"},
		KubeletGate: {"Wait for the kubelets", "each must renew its lease"},
		ClusterGate: {"Prove the result", "every certificate valid, CAs unchanged, all nodes Ready with fresh leases"},
	}[g]
	return w[0], w[1]
}

// Phase is a part of a plan: the steps that do the same, by the name of their action or of their
// gate.
type Phase string

// Phases are all that a plan may have, those that change nodes before their gates.
func Phases() []Phase {
	var out []Phase
	var gate Gate
	for _, r := range append(Actions(), Row{Phase: true, Gate: ClusterGate}) {
		if !r.Phase {
			continue
		}
		if gate != "" && gate != r.Gate {
			out = append(out, Phase(gate))
		}
		if gate = r.Gate; r.Action != "" {
			out = append(out, Phase(r.Action))
		}
	}
	return append(out, Phase(gate))
}

// Alters reports whether the step changes what was on its nodes before: a backup does not.
func (s Step) Alters() bool { return s.Changes && s.Action.Row().Effect != Adds }

// Together reports whether the step's nodes come back together or not at all: etcd has no quorum
// before most of them have new certificates, so none is waited for before all have them.
func (s Step) Together() bool {
	return s.NoWait || s.AtOnce > 1 && (s.Action.Row().Together || s.Stage == diagnosis.StageReplace)
}

// filled is the step with what is known of its action or gate, where it has nothing else.
func (s Step) filled() Step {
	row := s.Action.Row()
	title, why := s.Gate.words()
	s.Title, s.Why = cmp.Or(s.Title, row.Title, title), cmp.Or(s.Why, why)
	s.Changes = row.Effect == Adds || row.Effect == Alters
	return s
}

// restoresAPI reports whether the step brings back the API servers of its nodes.
func (s Step) restoresAPI() bool { return s.Action.Row().API == RestoresAPI }

// waitsFor reports whether the gate waits for the nodes of a step.
func (g Gate) waitsFor(s Step) bool { return g != "" && s.Action.Row().Gate == g }

// issues reports whether the step issues certificates of a group, if they are due. Offline, it places CAs
// alone, and so do the stages of a rotation in a healthy cluster.
func (s Step) issues(what Issued) bool {
	return !s.Offline && (s.Stage == "" || s.Stage == diagnosis.StageReplace) &&
		slices.Contains(s.Action.Row().Issues, what)
}

// theirs reports whether the step runs a playbook of Kubespray.
func (s Step) theirs() bool { return s.Playbook != "" || s.Action.Row().Kubespray }

// taken reports whether one of the steps on a node satisfies a condition.
func taken(steps []Step, node string, is func(Step) bool) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return slices.Contains(s.Nodes, node) && is(s) })
}

// issued reports whether one of the steps issues certificates of one of some groups on a node.
func issued(steps []Step, node string, groups ...Issued) bool {
	return taken(steps, node, func(s Step) bool { return slices.ContainsFunc(groups, s.issues) })
}

// changed reports whether one of the steps changes a node.
func changed(steps []Step, node string) bool {
	return taken(steps, node, func(s Step) bool { return s.Changes })
}
