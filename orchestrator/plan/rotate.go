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

// RotatedCAs are the CAs that are rotated unless others are named: those for which no API server restarts.
func RotatedCAs() []CA { return []CA{ClusterCA, FrontProxyCA} }

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
	quorums, restarts := p.quorums(s), restartsEtcd(all, p.RotateStage)
	b := builder{signer: func([]string) string { return "" }}
	b.rotate(c, s, all, p, quorums)
	b.step(Step{Gate: ClusterGate, Nodes: cluster.Names(c.Nodes), Why: proofs[p.RotateStage]})
	allowed, err := p.knowsEnough(c, s, b.steps, restarts)
	for _, q := range quorums {
		of := s.OfEtcd(q.of())
		var restart []string
		for _, n := range of.With(cluster.Etcd) {
			if restarts || rotatesEtcd(all) && p.RotateStage == diagnosis.StageServers && old(n) {
				restart = append(restart, n.Name)
			}
		}
		err = cmp.Or(err, keepsQuorum(q, of, nil, restart,
			"rotate the other CAs (--ca cluster,front-proxy), and that of etcd when it has a member to spare"))
	}
	if err != nil {
		return made, err
	}
	if err := p.complete(&made, c, s, nil, b.steps); err != nil {
		return made, err
	}
	made.Interruption = rotationInterruption(all, c, restarts)
	made.Warnings = slices.Concat(allowed, p.rotationWarnings(s, all))
	if restarts {
		made.Notes = append(made.Notes, inWords(quorums)...)
	}
	return made, nil
}

// restartsEtcd reports whether a stage restarts the members of etcd and API servers, which read the CAs
// that they trust only when they start.
func restartsEtcd(all []diagnosis.Rotation, stage diagnosis.Stage) bool {
	return rotatesEtcd(all) && (stage == diagnosis.StageTrust || stage == diagnosis.StageDrop)
}

func rotatesEtcd(all []diagnosis.Rotation) bool {
	return slices.ContainsFunc(all, func(r diagnosis.Rotation) bool { return diagnosis.IsOfEtcd(r.CA) })
}

// rotationInterruption is what users of the cluster notice of a stage.
func rotationInterruption(all []diagnosis.Rotation, c cluster.Cluster, restarts bool) string {
	out := "no API server restarts, and no pod"
	if restarts {
		out = restartOfEtcd(c) + "; no pod restarts"
	}
	if slices.ContainsFunc(all, func(r diagnosis.Rotation) bool { return r.CA == certs.KubernetesCA }) {
		out += "; a kubelet that restarts cuts kubectl exec, port-forward and logs -f"
	}
	return out
}

// proofs are what the last gate of each stage proves.
var proofs = map[diagnosis.Stage]string{
	diagnosis.StageMake: "each node with the key of a CA has the next one with its key, and nothing else has changed",
	diagnosis.StageTrust: "files, kubeconfigs, pods and every namespace trust both CAs; all nodes Ready with fresh " +
		"leases",
	diagnosis.StageClients: "every client has a certificate of the next CA; all nodes Ready with fresh leases",
	diagnosis.StageServers: "every server serves a certificate of the next CA, whose key is in place",
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
	case slices.Contains(p.RotateCAs, EtcdCA) && !rotatesEtcd(rotations(s, []CA{EtcdCA})):
		return &UnsupportedError{"--ca etcd: no node has a certificate of that CA; name another one"}
	case s.ExternalCA && slices.ContainsFunc(p.RotateCAs, func(ca CA) bool { return ca != EtcdCA }):
		return keyOutside()
	case d.Route == diagnosis.Renew:
		return &UnsupportedError{
			"certificates are due: renew these first (kscertctl run -i INVENTORY), then rotate the CAs"}
	case d.Route != diagnosis.None:
		return &UnsupportedError{
			"a CA is rotated only in a healthy cluster; recover it first (kscertctl run -i INVENTORY): " + d.Verdict}
	case len(all) == 0:
		return &UnsupportedError{fmt.Sprintf("the next stage is %q, and not %q: see kscertctl ca status -i INVENTORY",
			NextStage(s, p.RotateCAs), p.RotateStage)}
	}
	for _, r := range all {
		holders := r.Holders(s)
		if len(holders) == 0 {
			return &UnsupportedError{fmt.Sprintf(
				"the key of %s is on no node: put the key back from a backup, or rotate the CA where its key is", r.CA)}
		}
		for _, n := range holders {
			if p.RotateStage != diagnosis.StageMake || r.MadeOn(n) {
				continue
			}
			if err := replaceable(n, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyOutside is why a CA cannot be replaced whose key is kept outside of the cluster.
func keyOutside() error {
	return &UnsupportedError{
		"the inventory sets kube_external_ca_mode: rotate the CA where its key is, then have certificates issued " +
			"(kscertctl ca csr -i INVENTORY --dir DIR)"}
}

// replaceable returns why the CA of a node cannot be replaced by another one; nil if it can.
func replaceable(n snapshot.Node, r diagnosis.Rotation) error {
	if ca, ok := n.Authority(r.CA); !ok || ca.Key != certs.KeyMatches {
		return &UnsupportedError{fmt.Sprintf(
			"the key of %s is not on %s: put it there from another node, or rotate the CA where its key is; "+
				"if it is lost: kscertctl ca rotate -i INVENTORY --strategy offline", r.CA, n.Name)}
	}
	return inOnePlace(n, r)
}

// inOnePlace returns why it is not known which CA of a control plane signs; nil if it is.
func inOnePlace(n snapshot.Node, r diagnosis.Rotation) error {
	name := r.CA
	ca, ok := n.Authority(name)
	several := slices.ContainsFunc(n.Certificates,
		func(o certs.Certificate) bool { return !o.Served && o.Path == ca.Path && o.Position > 1 })
	file := n.Facts[signingFact]
	switch {
	case !ok:
		return &UnsupportedError{fmt.Sprintf(
			"%s has no certificate of %s, so that it is not known what trusts it: restore it from a backup "+
				"(kscertctl backup list -i INVENTORY)", n.Name, name)}
	case several && r.Next != nil:
		return &UnsupportedError{fmt.Sprintf(
			"%s has joined while %s is rotated: copy the files of the rotation (ca-next.crt with its key, "+
				"ca-former.crt and ca-cross.crt, or those of that CA) from another holder of its key to the directory "+
				"of %s there, and, if that manifest differs, --cluster-signing-cert-file and its key; then continue "+
				"(kscertctl ca status -i INVENTORY)", n.Name, name, ca.Path)}
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
			if c.Elsewhere && c.Presents == diagnosis.PresentCA && c.Server {
				lines = append(lines, fmt.Sprintf("%s: %s is a serving certificate that no stage issues again",
					c.Node, c.Place))
			}
		}
		if stage == diagnosis.StageDrop {
			lines = append(lines, r.Outside()...)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return &UnsupportedError{"replace these first, which would be cut off (kscertctl ca status -i INVENTORY): " +
		strings.Join(lines, "; ")}
}

// rotationWarnings are what the approver of a stage has to know.
func (p Policy) rotationWarnings(s snapshot.Snapshot, all []diagnosis.Rotation) []string {
	stage := p.RotateStage
	var out []string
	for _, r := range all {
		if outside := r.Outside(); stage != diagnosis.StageMake && len(outside) > 0 {
			out = append(out, fmt.Sprintf("no stage changes these; replace them before %q: %s", diagnosis.StageDrop,
				cluster.Some(outside, 10)))
		}
		switch {
		case stage == diagnosis.StageServers:
			out = append(out, fmt.Sprintf("after this stage the key of %s is another one, and no rollback leads "+
				"behind it", r.CA))
		case stage == diagnosis.StageClients && diagnosis.IsOfEtcd(r.CA):
			out = append(out, pluginReaders(s)...)
		case stage == diagnosis.StageDrop && diagnosis.IsOfEtcd(r.CA):
			out = append(out, "other clients of etcd with certificates of the former CA, such as backup jobs, work no "+
				"more after this stage")
		case stage == diagnosis.StageDrop && r.CA == certs.KubernetesCA:
			out = append(out, "users' kubeconfigs and client certificates of the former CA work no more after this "+
				"stage")
			out = append(out, formerReaders(s, p.RestartWorkloads)...)
		}
	}
	return out
}

// stageWords are the title of each stage's steps, and the reason for them on control planes.
var stageWords = map[diagnosis.Stage][2]string{
	diagnosis.StageTrust: {"Trust both CAs", "files and kubeconfigs; what reads a CA only when it starts restarts: " +
		"the kubelet, kube-controller-manager and kube-scheduler"},
	diagnosis.StageClients: {"Give clients certificates of the next CA",
		"components, administrators and the kubelet; kube-controller-manager signs with the next CA"},
	diagnosis.StageServers: {"Serve certificates of the next CA",
		"the CA and its key are replaced; the API server reloads its certificate"},
	diagnosis.StageDrop: {"Trust the next CA alone",
		"files and kubeconfigs; what reads a CA only when it starts restarts"},
}

// etcdWords are the reasons on nodes of etcd.
var etcdWords = map[diagnosis.Stage]string{
	diagnosis.StageTrust:   "etcd and API servers read the CA of etcd only when they start",
	diagnosis.StageClients: "the API server and etcdctl present them at their next connection to etcd",
	diagnosis.StageServers: "the CA and its key are replaced; members present them at the next connection",
	diagnosis.StageDrop:    "etcd and API servers read the CA of etcd only when they start",
}

// rotated is what a stage works on.
type rotated struct {
	names []certs.Authority
	// next are the fingerprints of the next CAs.
	next map[certs.Authority]string
	// holders have the keys, and signer is the one that makes, and signs with, that of Kubespray's etcd.
	holders []string
	signer  string
	// ofEtcd, ofOthers: CAs of etcd are among them, and others.
	ofEtcd, ofOthers bool
}

func newRotated(c cluster.Cluster, s snapshot.Snapshot, all []diagnosis.Rotation) rotated {
	out := rotated{names: authoritiesNamed(all), next: map[certs.Authority]string{}}
	var holders []string
	for _, r := range all {
		if r.Next != nil {
			out.next[r.CA] = r.Next.Fingerprint
		}
		have := namesOf(r.Holders(s))
		if holders = append(holders, have...); r.CA == certs.EtcdHostCA {
			out.signer = have[0]
		}
		of := diagnosis.IsOfEtcd(r.CA)
		out.ofEtcd, out.ofOthers = out.ofEtcd || of, out.ofOthers || !of
	}
	out.holders = ordered(c, holders)
	return out
}

// ordered are nodes in the order of the cluster, each once.
func ordered(c cluster.Cluster, some []string) []string {
	return slices.DeleteFunc(cluster.Names(c.Nodes), func(name string) bool { return !slices.Contains(some, name) })
}

// step is a step of a stage.
func (r rotated) step(stage diagnosis.Stage, nodes []string, title, why string) Step {
	return Step{Action: CARotate, Stage: stage, Nodes: nodes, AtOnce: several(nodes), Authorities: r.names,
		Next: r.next, Signer: r.signer, Title: title, Why: why}
}

// rotate adds the steps of a stage.
func (b *builder) rotate(c cluster.Cluster, s snapshot.Snapshot, all []diagnosis.Rotation, p Policy,
	quorums []Quorum) {
	of, stage := newRotated(c, s, all), p.RotateStage
	controlPlanes := cluster.Names(c.With(cluster.ControlPlane))
	if stage == diagnosis.StageMake {
		made := of.step(stage, of.holders, "Make the next CAs",
			"with new keys and other names, each on one node; the keys reach the others that have the present one, "+
				"encrypted to each. Nothing uses them yet")
		made.Validity = p.CAValidity
		b.step(made)
		return
	}
	title, why := stageWords[stage][0], stageWords[stage][1]
	if !of.ofOthers {
		why = etcdWords[stage]
	}
	b.restart(c, s, of, p)
	var members []string // on nodes of their own
	if of.ofEtcd {
		members = downFirst(quorums, without(cluster.Names(c.With(cluster.Etcd)), controlPlanes))
		controlPlanes = downFirst(quorums, controlPlanes)
	}
	wait := Step{Gate: EtcdGate, Nodes: cluster.Names(c.With(cluster.Etcd)), Title: "Wait for etcd",
		Why: "every member answers a read with quorum before another one restarts"}
	for _, name := range members {
		b.step(of.step(stage, []string{name}, title, etcdWords[stage]))
		b.step(wait)
	}
	for i, name := range controlPlanes {
		b.step(of.step(stage, []string{name}, title, why))
		b.step(Step{Gate: APIServerGate, Nodes: []string{name}})
		if n, _ := c.Node(name); of.ofEtcd && n.Is(cluster.Etcd) && i+1 < len(controlPlanes) {
			b.step(wait)
		}
	}
	if others := without(rotatedElsewhere(c, s, all, stage), members); len(others) > 0 {
		b.step(of.step(stage, others, title, "kubelets restart"))
		b.step(Step{Gate: KubeletGate, Nodes: others})
	}
	if of.ofOthers && stage != diagnosis.StageClients {
		b.publish(c)
	}
	b.concludeRotation(c, stage, of)
}

// concludeRotation adds what a stage needs once all nodes have taken it.
func (b *builder) concludeRotation(c cluster.Cluster, stage diagnosis.Stage, of rotated) {
	switch stage {
	case diagnosis.StageTrust:
		var on, by []string
		if of.ofOthers {
			on, by = cluster.Names(c.With(cluster.ControlPlane))[:1], []string{"each API server", "each kubelet"}
		}
		if of.ofEtcd {
			on, by = append(on, of.holders...), append(by, "each member of etcd")
		}
		b.step(of.step(diagnosis.StageProve, ordered(c, on), "Prove that all servers trust the next CAs",
			"a certificate of it logs in at "+strings.Join(by, ", ")))
	case diagnosis.StageDrop:
		b.step(of.step(diagnosis.StageFinish, of.holders, "Remove the former CAs", "the files of the rotation"))
	default:
	}
}

func namesOf(nodes []snapshot.Node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
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
		case step.Action != CARotate, step.Stage == diagnosis.StageRestart:
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
	if s.Restart != "" {
		vars["kscert_restart_workloads"] = s.Restart
		if !s.TrustedSince.IsZero() {
			vars["kscert_trusted_since"] = s.TrustedSince.Unix()
		}
	}
	if len(s.Next) > 0 {
		vars["kscert_ca_want"] = s.Next
	}
	if s.Stage == diagnosis.StageRepair {
		vars["kscert_patch_ca_bundles"] = s.PatchBundles
	}
}
