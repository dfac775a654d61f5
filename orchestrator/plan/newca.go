package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// newCAs plans the replacement of CAs at once: what trusts the former alone is cut off until it is repaired.
func (p Policy) newCAs(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, made Plan) (Plan, error) {
	all := rotations(s, p.RotateCAs)
	names := authoritiesNamed(all)
	d = d.Replacing(s, names)
	if err := p.replaceableAtOnce(s, d, all); err != nil {
		return made, err
	}
	w := newWork(c, s, d, p, nil)
	w.replaceAtOnce(all, names)
	allowed, err := w.refuses(w.steps)
	if err = cmp.Or(err, spared(s, w.steps)); err != nil {
		return made, err
	}
	if err := p.complete(&made, c, s, nil, w.steps); err != nil {
		return made, err
	}
	made.Interruption = "each API server restarts. Until it is repaired, what trusts the former CA alone gets no " +
		"answer: kubelets until their node's turn, pods until they restart; workloads run on, and no node is drained"
	made.Warnings = slices.Concat(allowed, p.newCAWarnings(s, d))
	return made, nil
}

func authoritiesNamed(all []diagnosis.Rotation) (names []certs.Authority) {
	for _, r := range all {
		names = append(names, r.CA)
	}
	return names
}

// replaceableAtOnce returns why CAs cannot be replaced at once; nil if they can.
func (p Policy) replaceableAtOnce(s snapshot.Snapshot, d diagnosis.Diagnosis, all []diagnosis.Rotation) error {
	controlPlanes := s.WithGone().With(cluster.ControlPlane)
	literal := p.RotateStage == diagnosis.StageLiteral
	switch {
	case p.selects():
		return &UnsupportedError{
			"a CA is replaced on every node that trusts it: omit --limit, --skip-phases and --until-phase"}
	case slices.Contains(p.RotateCAs, EtcdCA):
		return &UnsupportedError{
			"the CA of etcd is rotated in stages alone: name the others (--ca cluster,front-proxy)"}
	case s.ExternalCA:
		return keyOutside()
	case literal && len(controlPlanes) > 1:
		return &UnsupportedError{fmt.Sprintf(
			"the literal procedure makes CAs of its own on each control plane, and there are %d: the others would be "+
				"cut off; use kscertctl ca rotate -i INVENTORY, or with --strategy offline if the CA cannot be used "+
				"any more",
			len(controlPlanes))}
	case literal && len(all) < len(RotatedCAs()):
		return &UnsupportedError{"the literal procedure replaces all of them: leave out --ca"}
	}
	for _, n := range s.WithGone().Nodes {
		left := n.Failure != nil && slices.ContainsFunc(s.Gone,
			func(o snapshot.Node) bool { return o.Name == n.Name })
		switch {
		case n.Failure == nil:
		case left && n.Is(cluster.ControlPlane):
			return &UnsupportedError{fmt.Sprintf(
				"%s is left out, and would keep the former CA: bring it back, or take it out of the cluster and "+
					"the inventory", n.Name)}
		case !left:
			return &UnsupportedError{fmt.Sprintf(
				"nothing is known of %s (%s), which would be cut off: bring it back, or leave it out with "+
					"--allow-unreachable %[1]s and enroll it again later", n.Name, n.Failure.Message)}
		}
	}
	for _, r := range all {
		if r.Stage != "" && r.Stage != diagnosis.StageMake {
			return &UnsupportedError{fmt.Sprintf(
				"%s is being rotated, and has reached the stage %q: finish that (kscertctl ca rotate -i INVENTORY "+
					"--until drop)", r.CA, r.Stage)}
		}
		for _, n := range controlPlanes {
			if err := inOnePlace(n, r); err != nil {
				return err
			}
		}
	}
	for _, a := range expiredAuthorities(s) {
		if a.ca == EtcdCA {
			return &UnsupportedError{fmt.Sprintf(
				"%s has expired, too, and is re-issued with its own key: do that first (kscertctl run -i INVENTORY)",
				a.of.Path)}
		}
	}
	if n, lacks := withoutEtcdKey(s); literal && lacks {
		return &UnsupportedError{fmt.Sprintf(
			"kubeadm would issue certificates of etcd, and the key of its CA is not on %s: restore it from a backup "+
				"(kscertctl backup list -i INVENTORY)",
			n.Name)}
	}
	if d.Route == diagnosis.Refuse {
		return &UnsupportedError{
			"CAs are replaced only where nothing else is wrong (kscertctl diagnose -i INVENTORY): " + d.Verdict}
	}
	return cutOff(all, diagnosis.StageMake)
}

// withoutEtcdKey is a control plane whose etcd is kubeadm's, and that does not have the key of its CA.
func withoutEtcdKey(s snapshot.Snapshot) (snapshot.Node, bool) {
	for _, n := range s.With(cluster.ControlPlane) {
		if ca, ok := n.Authority(certs.EtcdCA); ok && !s.Unused(n, ca) && ca.Key != certs.KeyMatches {
			return n, true
		}
	}
	return snapshot.Node{}, false
}

// replaceAtOnce adds the steps.
func (w *work) replaceAtOnce(all []diagnosis.Rotation, names []certs.Authority) {
	p, controlPlanes := w.policy, cluster.Names(w.cluster.With(cluster.ControlPlane))
	step := rotated{names: names}.step
	if p.RotateStage == diagnosis.StageLiteral {
		w.step(step(diagnosis.StageLiteral, controlPlanes, "Make new CAs and all that they sign with kubeadm",
			"kubeadm init phase certs all, and kubeconfig all, for an empty directory; the service account keys and "+
				"the CA of etcd stay"))
	} else {
		made := step(diagnosis.StageMake, controlPlanes, "Make the new CAs",
			"with new keys and other names, on "+controlPlanes[0]+"; the keys reach the other control planes "+
				"encrypted to each. Nothing uses them yet")
		made.Offline, made.Validity = true, p.CAValidity
		w.step(made)
	}
	w.renewEtcd(downFirst(w.quorums, w.targets.etcd))
	together := w.together()
	groups := steps(without(downFirst(w.quorums, controlPlanes), together), false)
	if len(together) > 0 {
		groups = append([][]string{together}, groups...)
	}
	for _, nodes := range groups {
		w.step(step(diagnosis.StageReplace, nodes, "Put the new CAs in place",
			"with all that they sign there; the former are trusted no more, and what has read them restarts"))
		w.step(Step{Gate: APIServerGate, Nodes: nodes})
	}
	if others := rotatedElsewhere(w.cluster, w.snapshot, all, diagnosis.StageReplace); len(others) > 0 {
		w.step(step(diagnosis.StageReplace, others, "Trust the new CAs alone", "files and kubeconfigs"))
	}
	if others := rotatedElsewhere(w.cluster, w.snapshot, all, diagnosis.StageClients); len(others) > 0 {
		w.step(step(diagnosis.StageEnroll, others, "Enroll kubelets again",
			"the first control plane signs for exactly that node; kubelets restart, and no pod"))
		w.step(Step{Gate: KubeletGate, Nodes: others})
	}
	w.publish(w.cluster)
	w.steps[len(w.steps)-1].Stage = diagnosis.StageReplace
	w.step(p.repair(controlPlanes[0], names))
	w.step(step(diagnosis.StageFinish, controlPlanes, "Remove the former CAs",
		"the files of the replacement"))
	w.step(Step{Gate: ClusterGate, Nodes: cluster.Names(w.cluster.Nodes),
		Why: "no file, port or object that kscertctl changes has the former CA; all nodes Ready with fresh leases"})
}

// repair is the step that repairs what trusts a former CA in the cluster.
func (p Policy) repair(node string, names []certs.Authority) Step {
	return Step{Action: CARotate, Stage: diagnosis.StageRepair, Nodes: []string{node}, Authorities: names,
		Restart: cmp.Or(p.RestartWorkloads, RestartSystem), PatchBundles: p.PatchBundles,
		Title: "Repair what trusts the former CAs",
		Why: "tokens in Secrets, caBundles, and pods that started with the former CA: restarted by their " +
			"controllers, or listed"}
}

// newCAWarnings are what the approver of such a plan has to know.
func (p Policy) newCAWarnings(s snapshot.Snapshot, d diagnosis.Diagnosis) []string {
	var out []string
	if d.Route == diagnosis.None && p.RotateStage != diagnosis.StageLiteral {
		out = append(out, "the cluster is healthy: kscertctl ca rotate without --strategy replaces the CAs, too, and "+
			"cuts no one off; this way is for a key that is lost or known to others")
	}
	if p.RotateStage == diagnosis.StageLiteral {
		out = append(out, "what the literal procedure does, and kscertctl ca rotate would not: there is no time in "+
			"which both CAs are trusted; workers, pods and users are cut off at once; names of certificates come from "+
			"kubeadm's configuration, and a name that would be lost stops the run. Unlike it, the service account "+
			"keys stay, without which every token would be refused")
	}
	out = append(out, "users' kubeconfigs and client certificates of the former CA work no more after this run, and "+
		"nodes join with another --discovery-token-ca-cert-hash")
	switch cmp.Or(p.RestartWorkloads, RestartSystem) {
	case RestartNone:
		out = append(out,
			"no pod restarts: kube-proxy, DNS and the network plugin may be cut off until you restart them")
	case RestartSystem:
		out = append(out, "pods of kube-system restart; others that started with the former CA are listed "+
			"(--restart-workloads all restarts them, too)")
	case RestartListed, RestartAll:
		out = append(out,
			"all pods that started with the former CA restart, in the order and pace of their controllers")
	}
	for _, n := range s.Gone {
		out = append(out, fmt.Sprintf("%s is left out and keeps the former CA: when it is back, join it again "+
			"(Kubespray's scale.yml --limit=%[1]s)", n.Name))
	}
	return out
}

// ReplacesAtOnce reports whether a plan replaces CAs at once, or undoes that.
func (p Plan) ReplacesAtOnce() bool {
	return slices.ContainsFunc(p.Steps, func(step Step) bool { return step.Stage.AtOnce() })
}
