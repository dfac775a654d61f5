package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// builder collects the steps of a plan.
type builder struct {
	steps []Step
	// signer finds a node that signs etcd certificates for nodes; empty if they can.
	signer func(nodes []string) string
}

// step adds a step.
func (b *builder) step(s Step) {
	s = s.filled()
	if s.issues(IssuesEtcd) {
		if s.Signer = b.signer(s.Nodes); s.Signer != "" {
			s.Why += fmt.Sprintf("; %s, which has the key of etcd's CA, signs", s.Signer)
		}
	}
	b.steps = append(b.steps, s)
}

// gated adds a step, and the gate of its action.
func (b *builder) gated(s Step) {
	b.step(s)
	b.step(Step{Gate: s.Action.Row().Gate, Nodes: s.Nodes})
}

// work has the parts of the plan of a renewal or recovery.
type work struct {
	builder

	cluster   cluster.Cluster
	snapshot  snapshot.Snapshot
	diagnosis diagnosis.Diagnosis
	policy    Policy
	quorums   []Quorum // of each etcd cluster, the main one first
	targets   targets
	// cas are the expired CAs that are re-issued first.
	cas []authority
	// lost: no member of etcd and no API server serves anyone, because certificates have expired, so
	// members need not be handled one after another. Nor can they be with an expired CA of etcd:
	// members that started with it continue over their open connections, and refuse one that comes
	// back with the new certificate, until they have it, too.
	lost bool
	// atOnce is how many control planes may be renewed between two gates, and bound the reason why
	// it is fewer than requested.
	atOnce int
	bound  string
}

func newWork(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, policy Policy, cas []authority) *work {
	all := policy.quorums(s)
	w := &work{
		builder: builder{signer: func(nodes []string) string { return signer(s, ofEtcd(d), nodes) }},
		cluster: c, snapshot: s, diagnosis: d, policy: policy, quorums: all, cas: cas, targets: affected(c, d),
		lost: lost(s, d, all[0]) || has(cas, EtcdCA),
	}
	w.targets.trusting(c, s, cas)
	w.atOnce, w.bound = policy.atOnce(c, all, w.members())
	return w
}

// members are the nodes of etcd among the targets whose certificates of etcd are due.
func (w *work) members() []string {
	return slices.DeleteFunc(slices.Concat(w.targets.etcd, w.targets.controlPlanes), func(name string) bool {
		n, _ := w.snapshot.Node(name)
		return !n.Is(cluster.Etcd) || !etcdDue(w.diagnosis, name)
	})
}

// membersOf are the members whose certificates steps renew.
func (w *work) membersOf(steps []Step) []string {
	return slices.DeleteFunc(w.members(),
		func(name string) bool { return !issued(steps, name, IssuesEtcd) })
}

// plan adds the groups of steps in their order. The last step of each is a gate, except where the
// next group has it.
func (w *work) plan() {
	controlPlanes := downFirst(w.quorums, w.targets.controlPlanes)
	together := w.together()

	w.replace(w.snapshot, w.cas)
	w.renewEtcd(downFirst(w.quorums, w.targets.etcd))
	w.recoverTogether(together)
	w.renewControlPlanes(without(controlPlanes, together))
	w.bootstrapKubelets(w.targets.kubelets)
	w.runPlaybook()
	if has(w.cas, ClusterCA) {
		w.publish(w.cluster)
	}
	w.prove()
}

// renewEtcd renews the certificates of etcd's members and clients that are not control planes: one
// after another, each member with a gate; or all before the first gate, if they have lost each
// other. Clients come last.
func (w *work) renewEtcd(nodes []string) {
	var members, clients []string
	for _, name := range nodes {
		if n, _ := w.cluster.Node(name); n.Is(cluster.Etcd) {
			members = append(members, name)
		} else {
			clients = append(clients, name)
		}
	}
	for _, nodes := range steps(members, w.lost) {
		step := Step{Action: EtcdCertificates, Nodes: nodes, AtOnce: several(nodes), NoWait: w.lost,
			Why: due(w.diagnosis, nodes...)}
		gate := Step{Gate: EtcdGate, Nodes: nodes}
		if w.lost {
			step.Why = "etcd has no quorum until most members trust each other again, so no step waits for one yet; " +
				step.Why
			gate.Title, gate.Why = "Wait for etcd",
				"every member answers a read with quorum, and serves the certificate on disk; API servers need it"
		}
		w.step(step)
		w.step(gate)
	}
	if len(clients) > 0 {
		w.step(Step{Action: EtcdCertificates, Nodes: clients, Title: "Renew the certificates of etcd's clients",
			Why: due(w.diagnosis, clients...)})
	}
}

// together are the control planes that can only come back at the same time.
func (w *work) together() []string {
	if !w.lost {
		return nil
	}
	return needEachOther(w.snapshot, w.diagnosis, has(w.cas, EtcdCA))
}

// recoverTogether re-issues the certificates of control planes at the same time. No one is served
// any more, so no one is cut off.
func (w *work) recoverTogether(nodes []string) {
	if len(nodes) == 0 {
		return
	}
	w.gated(Step{Action: PrePhase, Nodes: nodes, AtOnce: several(nodes),
		Why: "etcd has no quorum until most members trust each other again, so they are handled at the same time; " +
			due(w.diagnosis, nodes...)})
}

// renewControlPlanes renews certificates if the API server can be used, and re-issues them offline
// if it cannot: one control plane after another, or several that can be used.
func (w *work) renewControlPlanes(nodes []string) {
	usable := func(name string) bool { return w.diagnosis.ControlPlanes[name] == diagnosis.APIUsable }
	for len(nodes) > 0 {
		now := nodes[:1]
		for w.playbook() == "" && usable(now[0]) && len(now) < min(w.atOnce, len(nodes)) && usable(nodes[len(now)]) {
			now = nodes[:len(now)+1]
		}
		step := Step{Action: Renew, Playbook: w.playbook(), Nodes: now, AtOnce: several(now),
			Why: due(w.diagnosis, now...)}
		switch {
		case !usable(now[0]):
			step.Action, step.Playbook = PrePhase, ""
			step.Why = fmt.Sprintf("its API server is unusable (%s); %s", w.diagnosis.ControlPlanes[now[0]], step.Why)
		case step.Playbook != "":
			step.Title = "Run the checkout's own renew-certs playbook"
		}
		w.gated(step)
		nodes = nodes[len(now):]
	}
}

// playbook is the checkout's own that renews certificates, if it is requested and exists.
func (w *work) playbook() string {
	if w.policy.Choice != RenewCerts || w.policy.Kubespray == nil {
		return ""
	}
	return w.policy.Kubespray.Renew
}

func (w *work) bootstrapKubelets(nodes []string) {
	if len(nodes) == 0 {
		return
	}
	w.gated(Step{Action: KubeletBootstrap, Nodes: nodes,
		Why: "these kubelets have not renewed their own, and cannot request one with a certificate " +
			"that is not valid; upgrade-cluster.yml never fixes it"})
}

// runPlaybook runs the user's choice, at the end.
func (w *work) runPlaybook() {
	switch w.policy.Choice {
	case UpgradeCluster:
		step := Step{Action: Upgrade, Nodes: cluster.Names(w.cluster.Nodes),
			Why: "requested; at an unchanged version it reconciles and renews nothing by itself"}
		if w.policy.Kubespray != nil {
			step.Playbook = w.policy.Kubespray.Upgrade
		}
		w.step(step)
	case RenewCerts:
		theirs := slices.ContainsFunc(w.steps, func(s Step) bool { return s.Playbook != "" })
		if theirs || w.diagnosis.Route != diagnosis.Renew { // something may be left
			w.step(Step{Action: Renew, Nodes: cluster.Names(w.cluster.With(cluster.ControlPlane)),
				Title: "Renew what is still due",
				Why:   "requested; what was due has been issued again, so nothing should be left"})
		}
	case Auto, NoPlaybook:
	}
}

func (w *work) prove() {
	_, proof := ClusterGate.words()
	if len(w.cas) > 0 {
		proof = proofOfCAs
	}
	if w.policy.Choice == UpgradeCluster {
		proof += "; what upgrade-cluster.yml should have renewed is verified too"
	}
	w.step(Step{Gate: ClusterGate, Nodes: cluster.Names(w.cluster.Nodes), Why: proof})
}

// refuses returns why steps would not be safe, or else warnings about assumptions.
func (w *work) refuses(steps []Step) (warnings []string, err error) {
	risk := !w.quorums[0].Holds()
	var lost error
	for _, q := range w.quorums {
		of := w.snapshot.OfEtcd(q.of())
		restart := restarted(q.of(), of, w.diagnosis, steps)
		risk = risk || len(restart) > 0
		lost = cmp.Or(lost, keepsQuorum(q, of, w.membersOf(steps), restart, restartFirst(q.of())))
	}
	warnings, err = w.policy.knowsEnough(w.cluster, w.snapshot, steps, risk)
	if err != nil {
		return nil, err
	}
	return warnings, cmp.Or(lost, startsNone(w.cluster, w.diagnosis, w.snapshot, steps))
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
