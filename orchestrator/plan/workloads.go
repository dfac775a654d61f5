package plan

import (
	"fmt"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Restart is which workloads are restarted before a CA is dropped, or after it was replaced at once.
type Restart string

// The choices: none, those with a container that may know the former CA alone, and all that have a CA of
// the cluster in a volume.
const (
	RestartNone   Restart = "none"
	RestartListed Restart = "listed"
	RestartAll    Restart = "all"
	// RestartSystem, where a CA was replaced at once: those of kube-system that are listed.
	RestartSystem Restart = "system"
)

// Restarts are the choices.
func Restarts() []Restart { return []Restart{RestartNone, RestartListed, RestartAll, RestartSystem} }

// asked reports whether workloads are to be restarted.
func (r Restart) asked() bool { return r == RestartListed || r == RestartAll }

// restart adds the step that restarts workloads before the cluster's CA is dropped, if it is asked for.
func (b *builder) restart(c cluster.Cluster, s snapshot.Snapshot, of rotated, p Policy) {
	drops := p.RotateStage == diagnosis.StageDrop && slices.Contains(of.names, certs.KubernetesCA)
	if !drops || !p.RestartWorkloads.asked() {
		return
	}
	step := of.step(diagnosis.StageRestart, cluster.Names(c.With(cluster.ControlPlane))[:1], "Restart workloads",
		"one after another, each at the pace of its own controller, before the former CA is dropped")
	step.Restart, step.TrustedSince = p.RestartWorkloads, s.TrustedSince()
	b.step(step)
}

// formerReaders are warnings of pods that may know the former CA alone.
func formerReaders(s snapshot.Snapshot, restart Restart) (out []string) {
	format := "restart these pods on %s before, unless they read their CA again while they run (as client-go from " +
		"Kubernetes 1.36 on), or have their controllers do it (--restart-workloads listed): %s"
	if restart.asked() {
		format = "pods on %s that know only the former CA are restarted by their controllers; those without one, of " +
			"jobs, or with the update strategy OnDelete are named, and are not: %s"
	}
	for _, n := range s.Nodes {
		if pods := s.ReadFormer(n); len(pods) > 0 {
			out = append(out, fmt.Sprintf(format, n.Name, cluster.Some(pods, 10)))
		}
	}
	return out
}

// pluginReaders are warnings of network plugins with etcd as their datastore: their pods read their copies of
// etcd's certificates only when they start.
func pluginReaders(s snapshot.Snapshot) (out []string) {
	for _, n := range s.Nodes {
		if slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
			row, _ := certs.Lookup(c.Kind)
			return row.Base == certs.Calico || row.Base == certs.Cilium
		}) {
			out = append(out, fmt.Sprintf("restart the network plugin's pod on %s after this stage and before the "+
				"next: it reads its certificate of etcd, and etcd's CA, only when it starts", n.Name))
		}
	}
	return out
}
