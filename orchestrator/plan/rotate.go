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

// RotatableCAs are the CAs that can be rotated.
func RotatableCAs() []CA { return []CA{ClusterCA, FrontProxyCA} }

// rotations are the states of the CAs that a user names.
func rotations(s snapshot.Snapshot, cas []CA) []diagnosis.Rotation {
	return slices.DeleteFunc(diagnosis.RotationsOf(s).CAs,
		func(r diagnosis.Rotation) bool { return !slices.Contains(cas, userNames[r.CA]) })
}

// NextStage is the stage that comes next for CAs: of several that are not equally far, that of the last.
func NextStage(s snapshot.Snapshot, cas []CA) diagnosis.Stage {
	all := diagnosis.Stages()
	least := len(all) - 1
	for _, r := range rotations(s, cas) {
		least = min(least, slices.Index(all, r.After()))
	}
	return all[least]
}

// rotation plans one stage of a rotation of CAs.
func (p Policy) rotation(c cluster.Cluster, s snapshot.Snapshot, d diagnosis.Diagnosis, made Plan) (Plan, error) {
	made.Route = diagnosis.RotateCAs
	if p.RotateStage.AtOnce() {
		return p.newCAs(c, s, d, made)
	}
	var all []diagnosis.Rotation
	for _, r := range rotations(s, p.RotateCAs) {
		if r.After() == p.RotateStage {
			all = append(all, r)
		}
	}
	if err := cmp.Or(p.rotatable(s, d, all), cutOff(all, p.RotateStage)); err != nil {
		return made, err
	}
	b := builder{signer: func([]string) string { return "" }}
	b.rotate(c, s, all, p)
	b.step(Step{Gate: ClusterGate, Nodes: cluster.Names(c.Nodes), Why: proofs[p.RotateStage]})
	allowed, err := p.knowsEnough(c, s, b.steps, false)
	if err != nil {
		return made, err
	}
	if err := p.complete(&made, c, s, nil, b.steps); err != nil {
		return made, err
	}
	made.Interruption = "no API server restarts, and no pod; a kubelet that restarts cuts kubectl exec, port-forward " +
		"and logs -f"
	made.Warnings = slices.Concat(allowed, rotationWarnings(s, all, p.RotateStage))
	return made, nil
}

// proofs are what the last gate of each stage proves.
var proofs = map[diagnosis.Stage]string{
	diagnosis.StageMake: "every control plane has the next CAs with their keys, and nothing else has changed",
	diagnosis.StageTrust: "files, kubeconfigs, pods and every namespace trust both CAs; all nodes Ready with fresh " +
		"leases",
	diagnosis.StageClients: "every client has a certificate of the next CA; all nodes Ready with fresh leases",
	diagnosis.StageServers: "every API server serves a certificate of the next CA, whose key is in place",
	diagnosis.StageDrop:    "no file, port or object of the cluster has the former CA",
}

// rotatable returns why the stage of a rotation cannot be planned; nil if it can.
func (p Policy) rotatable(s snapshot.Snapshot, d diagnosis.Diagnosis, all []diagnosis.Rotation) error {
	for _, n := range s.WithGone().Nodes {
		if n.Failure != nil {
			return &UnsupportedError{fmt.Sprintf(
				"nothing is known of %s (%s): a CA is rotated on all nodes; see why with kscertctl diagnose -i "+
					"INVENTORY", n.Name, n.Failure.Message)}
		}
	}
	switch {
	case p.selects():
		return &UnsupportedError{
			"a CA is rotated on every node that trusts it: omit --limit, --skip-phases and --until-phase"}
	case p.notHere(s) != nil:
		return p.notHere(s)
	case d.Route == diagnosis.Renew:
		return &UnsupportedError{
			"certificates are due: renew these first (kscertctl run -i INVENTORY), then rotate the CAs"}
	case d.Route != diagnosis.None:
		return &UnsupportedError{
			"a CA is rotated only in a healthy cluster; recover it first (kscertctl run -i INVENTORY): " + d.Verdict}
	case len(all) == 0:
		return &UnsupportedError{fmt.Sprintf("the next stage is %q, and not %q: see kscertctl ca status -i INVENTORY",
			NextStage(s, p.RotateCAs), p.RotateStage)}
	case p.RotateStage != diagnosis.StageMake:
		return nil
	}
	for _, r := range all {
		for _, n := range s.With(cluster.ControlPlane) {
			if err := replaceable(n, r.CA); err != nil {
				return err
			}
		}
	}
	return nil
}

// notHere returns why CAs cannot be replaced on the nodes at all; nil if they can.
func (p Policy) notHere(s snapshot.Snapshot) error {
	switch {
	case slices.Contains(p.RotateCAs, EtcdCA):
		return &UnsupportedError{
			"the CA of etcd is not rotated by this version: name the others (--ca cluster,front-proxy)"}
	case s.ExternalCA:
		return &UnsupportedError{
			"the inventory sets kube_external_ca_mode: rotate the CA where its key is, then have certificates issued " +
				"(kscertctl ca csr -i INVENTORY --dir DIR)"}
	}
	return nil
}

// replaceable returns why the CA of a control plane cannot be replaced by another one; nil if it can.
func replaceable(n snapshot.Node, name certs.Authority) error {
	if ca, ok := n.Authority(name); !ok || ca.Key != certs.KeyMatches {
		return &UnsupportedError{fmt.Sprintf(
			"the key of %s is not on %s: put it there from another control plane, or rotate the CA where its key is; "+
				"if it is lost: kscertctl ca rotate -i INVENTORY --strategy offline", name, n.Name)}
	}
	return inOnePlace(n, name)
}

// inOnePlace returns why it is not known which CA of a control plane signs; nil if it is.
func inOnePlace(n snapshot.Node, name certs.Authority) error {
	ca, ok := n.Authority(name)
	several := slices.ContainsFunc(n.Certificates,
		func(o certs.Certificate) bool { return !o.Served && o.Path == ca.Path && o.Position > 1 })
	file := n.Facts[signingFact]
	switch {
	case !ok:
		return &UnsupportedError{fmt.Sprintf(
			"%s has no certificate of %s, so that it is not known what trusts it: restore it from a backup "+
				"(kscertctl backup list -i INVENTORY)", n.Name, name)}
	case several:
		return &UnsupportedError{fmt.Sprintf(
			"%s on %s holds several certificates: leave only the one that signs there, once nothing needs the others "+
				"(kscertctl ca status -i INVENTORY)", ca.Path, n.Name)}
	case name == certs.KubernetesCA && file != ca.Path:
		return &UnsupportedError{fmt.Sprintf(
			"kube-controller-manager on %s signs with %s, and not with %s, which this version does not rotate: have "+
				"it sign with the cluster's CA first", n.Name, cmp.Or(file, "no file"), ca.Path)}
	}
	return nil
}

const signingFact = "kube-controller-manager.cluster-signing-cert-file"

// cutOff returns who would be cut off by a stage; nil if no one would: what presents a certificate that no
// stage replaces, and what trusts only the CA that is dropped.
func cutOff(all []diagnosis.Rotation, stage diagnosis.Stage) error {
	var lines []string
	for _, r := range all {
		for _, c := range r.Consumers {
			switch {
			case c.Elsewhere && c.Presents == diagnosis.PresentCA && c.Server:
				lines = append(lines, fmt.Sprintf("%s: %s is a serving certificate that no stage issues again",
					c.Node, c.Place))
			case stage != diagnosis.StageDrop:
			case c.Elsewhere && c.Presents == diagnosis.PresentCA:
				lines = append(lines, fmt.Sprintf("%s: %s is of the CA that is dropped", c.Node, c.Place))
			case c.Elsewhere && slices.Contains(c.Trusts, diagnosis.PresentCA):
				lines = append(lines, fmt.Sprintf("%s: %s still trusts the CA that is dropped", c.Node, c.Place))
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return &UnsupportedError{"replace these first, which would be cut off (kscertctl ca status -i INVENTORY): " +
		strings.Join(lines, "; ")}
}

// rotationWarnings are what the approver of a stage has to know.
func rotationWarnings(s snapshot.Snapshot, all []diagnosis.Rotation, stage diagnosis.Stage) []string {
	var out []string
	for _, r := range all {
		switch {
		case stage == diagnosis.StageServers:
			out = append(out, fmt.Sprintf("after this stage the key of %s is another one, and no rollback leads "+
				"behind it", r.CA))
		case stage == diagnosis.StageDrop && r.CA == certs.KubernetesCA:
			out = append(out, "users' kubeconfigs and client certificates of the former CA work no more after this "+
				"stage")
			for _, n := range s.Nodes {
				for _, t := range n.Trust {
					if t.By == snapshot.Pod && len(t.StartedBefore) > 0 {
						out = append(out, fmt.Sprintf("restart these pods on %s before, unless they read their CA "+
							"again while they run (as client-go from Kubernetes 1.36 on): %s", n.Name,
							cluster.Some(t.StartedBefore, 10)))
					}
				}
			}
		}
	}
	return out
}

// rotate adds the steps of a stage.
func (b *builder) rotate(c cluster.Cluster, s snapshot.Snapshot, all []diagnosis.Rotation, p Policy) {
	names, next := []certs.Authority{}, map[certs.Authority]string{}
	ofCluster := false
	for _, r := range all {
		names = append(names, r.CA)
		ofCluster = ofCluster || r.CA == certs.KubernetesCA
		if r.Next != nil {
			next[r.CA] = r.Next.Fingerprint
		}
	}
	step := func(stage diagnosis.Stage, nodes []string, title, why string) Step {
		return Step{Action: CARotate, Stage: stage, Nodes: nodes, AtOnce: several(nodes), Authorities: names,
			Next: next, Title: title, Why: why}
	}
	controlPlanes := cluster.Names(c.With(cluster.ControlPlane))
	if p.RotateStage == diagnosis.StageMake {
		made := step(p.RotateStage, controlPlanes, "Make the next CAs",
			"with new keys and other names, on "+controlPlanes[0]+"; the keys reach the other control planes "+
				"encrypted to each. Nothing uses them yet")
		made.Validity = p.CAValidity
		b.step(made)
		return
	}
	what := map[diagnosis.Stage][2]string{
		diagnosis.StageTrust: {"Trust both CAs", "files and kubeconfigs; the kubelet, kube-controller-manager and " +
			"kube-scheduler restart, because they read a CA only when they start"},
		diagnosis.StageClients: {"Give clients certificates of the next CA",
			"components, administrators and the kubelet; kube-controller-manager signs with the next CA"},
		diagnosis.StageServers: {"Serve certificates of the next CA",
			"the CA and its key are replaced; the API server reloads its certificate"},
		diagnosis.StageDrop: {"Trust the next CA alone",
			"files and kubeconfigs; what reads a CA only when it starts restarts"},
	}[p.RotateStage]
	for _, name := range controlPlanes {
		b.step(step(p.RotateStage, []string{name}, what[0], what[1]))
		b.step(Step{Gate: APIServerGate, Nodes: []string{name}})
	}
	if others := rotatedElsewhere(c, s, all, p.RotateStage); len(others) > 0 {
		b.step(step(p.RotateStage, others, what[0], "kubelets restart"))
		b.step(Step{Gate: KubeletGate, Nodes: others})
	}
	if ofCluster && p.RotateStage != diagnosis.StageClients {
		b.publish(c)
	}
	switch p.RotateStage {
	case diagnosis.StageTrust:
		b.step(step(diagnosis.StageProve, controlPlanes[:1], "Prove that all servers trust the next CAs",
			"a certificate of it logs in at each API server and each kubelet"))
	case diagnosis.StageDrop:
		b.step(step(diagnosis.StageFinish, controlPlanes, "Remove the former CAs",
			"from kube-system/extension-apiserver-authentication, to which API servers only ever add, and the files "+
				"of the rotation"))
	default:
	}
}

// rotatedElsewhere are the nodes that are no control planes and have something that a stage changes.
func rotatedElsewhere(c cluster.Cluster, s snapshot.Snapshot, all []diagnosis.Rotation,
	stage diagnosis.Stage) []string {
	var out []string
	for _, n := range c.Nodes {
		seen, _ := s.Node(n.Name)
		if n.Is(cluster.ControlPlane) || s.Unjoined(seen) || stage == diagnosis.StageServers {
			continue
		}
		if slices.ContainsFunc(all, func(r diagnosis.Rotation) bool {
			return slices.ContainsFunc(r.Consumers, func(c diagnosis.Consumer) bool {
				onDisk := strings.HasPrefix(c.Place, "/")
				if stage == diagnosis.StageClients {
					return c.Node == n.Name && onDisk && c.Presents != "" && !c.Server
				}
				return c.Node == n.Name && onDisk && len(c.Trusts) > 0
			})
		}) {
			out = append(out, n.Name)
		}
	}
	return out
}

// Rotates are the CAs of which a plan takes a stage of the rotation, and the stage; that of a policy if it
// replaces them at once.
func (p Plan) Rotates() (cas []certs.Authority, stage diagnosis.Stage) {
	for _, step := range p.Steps {
		switch {
		case step.Action != CARotate:
		case step.Stage.AtOnce():
			return step.Authorities, step.Stage
		case stage == "":
			cas, stage = step.Authorities, step.Stage
		}
	}
	return cas, stage
}

// rotationVariables are the variables of the playbook for a step.
func (s Step) rotationVariables(vars map[string]any) {
	vars["kscert_cas"], vars["kscert_ca_stage"] = s.Authorities, s.Stage
	vars["kscert_ca_seconds"] = int64(s.Validity / time.Second)
	if len(s.Next) > 0 {
		vars["kscert_ca_want"] = s.Next
	}
	if s.Stage == diagnosis.StageRepair {
		vars["kscert_restart_workloads"], vars["kscert_patch_ca_bundles"] = s.Restart, s.PatchBundles
	}
}
