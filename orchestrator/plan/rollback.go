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

// Undo describes a run that is to be rolled back.
type Undo struct {
	// Run names it.
	Run string
	// Touched are the nodes it may have changed, in the order it came to them.
	Touched []string
	// Only limits the rollback to these nodes; all when empty.
	Only []string
	// Before and Diagnosis are what the run began with.
	Before    snapshot.Snapshot
	Diagnosis diagnosis.Diagnosis
	// Published means that the cluster may have published CA certificates of the run.
	Published bool
	// Plan is that of the run.
	Plan Plan
	// Now is when it is rolled back.
	Now time.Time
}

// Rollback plans the way back to the state before a run: a backup of the current state, then node
// by node in reverse order, the last changed first. A gate follows only if its condition held
// before the run. The plan has no steps if there is nothing to roll back; the error is an
// *UnsupportedError for a node that the run did not change.
func Rollback(c cluster.Cluster, u Undo) (Plan, error) {
	p := Plan{Schema: Schema, Undoes: u.Run, Steps: []Step{}, Interruption: "none"}
	for _, name := range u.Only {
		if !slices.Contains(u.Touched, name) {
			return p, &UnsupportedError{fmt.Sprintf("run %s changed nothing on %s: it changed %s", u.Run, name,
				orNothing(u.Touched))}
		}
	}
	var nodes []cluster.Node
	replaced := u.Plan.ReplacesAtOnce()
	order := slices.Clone(u.Touched)
	slices.Reverse(order)
	if replaced { // no kubelet can log in before its API server has the former CA again
		slices.SortStableFunc(order, func(a, b string) int {
			return cmp.Compare(controlPlanesFirst(c, a), controlPlanesFirst(c, b))
		})
	}
	for _, name := range order {
		i := slices.IndexFunc(c.Nodes, func(n cluster.Node) bool { return n.Name == name })
		switch {
		case len(u.Only) > 0 && !slices.Contains(u.Only, name):
			continue
		case i < 0:
			return p, &UnsupportedError{fmt.Sprintf(
				"run %s changed %s, which is no longer in the inventory: put it back there, or name the others "+
					"with --node", u.Run, name)}
		}
		nodes = append(nodes, c.Nodes[i])
	}
	if len(nodes) == 0 {
		return p, nil
	}
	if replaced && len(u.Only) > 0 {
		return p, &UnsupportedError{
			"the run has replaced a CA: a node with the former one would be cut off; leave out --node"}
	}
	// What was broken before is broken again: only what held is waited for.
	sound := (u.Diagnosis.Route == diagnosis.Renew || u.Diagnosis.Route == diagnosis.None) &&
		len(u.Diagnosis.With(diagnosis.Critical)) == 0
	b := builder{signer: func([]string) string { return "" }}
	p.Interruption = "none: no API server is restarted, and running pods are not touched"
	for _, n := range nodes {
		restore := Step{Action: RestoreBackup, Nodes: []string{n.Name}, Title: "Restore the backup of run " + u.Run,
			Why: "that run changed it; every file is restored with its owner, mode and times, and what the run " +
				"added is removed"}
		if replaced {
			restore.Stage = diagnosis.StageReplace
		}
		b.step(restore)
		switch {
		case n.Is(cluster.ControlPlane) && u.Diagnosis.ControlPlanes[n.Name] != diagnosis.APIUsable:
			p.Interruption = "the API server will be as unusable as it was before the run; running pods are not touched"
		case n.Is(cluster.ControlPlane):
			p.Interruption = "each API server restarts once: with a single API server, a few seconds without an " +
				"answer; running pods are not touched"
			b.step(Step{Gate: APIServerGate, Nodes: []string{n.Name},
				Why: "it could be used before the run"})
		case n.Is(cluster.Worker) && sound:
			b.step(Step{Gate: KubeletGate, Nodes: []string{n.Name}, Title: "Wait for the kubelet",
				Why: "it was healthy before the run"})
		}
	}
	if sound && u.Published && len(u.Only) == 0 && oneCA(u.Before) {
		b.publish(c)
		if replaced {
			b.steps[len(b.steps)-1].Stage = diagnosis.StageReplace
			b.repairBack(c, u.Plan)
			p.Interruption += "; what trusts the run's CA alone is cut off, as by the run itself"
		}
	}
	if sound {
		b.step(Step{Gate: ClusterGate, Nodes: cluster.Names(c.Nodes),
			Why: "the cluster was healthy before the run, so it must be healthy again"})
	}
	names := cluster.Names(nodes)
	first := Step{Action: Backup, Nodes: names, Title: "Back up what is there now",
		Why: "nothing is changed on a node before it has a verified copy; this rollback can be rolled back too"}
	p.Steps = numbered(append([]Step{first}, b.steps...))
	p.Warnings = slices.Concat(endedAlready(u, names), notTakenBack(u.Plan))
	return p, nil
}

// controlPlanesFirst sorts control planes before other nodes.
func controlPlanesFirst(c cluster.Cluster, name string) int {
	if n, _ := c.Node(name); n.Is(cluster.ControlPlane) {
		return 0
	}
	return 1
}

// repairBack restarts pods that started with the CA that is gone again, as the run has restarted others.
func (b *builder) repairBack(c cluster.Cluster, was Plan) {
	for _, step := range was.Steps {
		if step.Stage == diagnosis.StageRepair {
			first := c.With(cluster.ControlPlane)[0].Name
			b.step(Policy{RestartWorkloads: step.Restart}.repair(first, step.Authorities))
		}
	}
}

// notTakenBack warns about what a rollback leaves of a run that has replaced CAs at once.
func notTakenBack(was Plan) []string {
	if !slices.ContainsFunc(was.Steps, func(step Step) bool { return step.PatchBundles }) {
		return nil
	}
	return []string{"caBundles that the run has changed keep its CA: change them back where their servers need it " +
		"(kscertctl ca status -i INVENTORY)"}
}

// oneCA reports whether all control planes have the same certificates of the cluster's CA. If not,
// what the cluster publishes is that of the kube-controller-manager that leads.
func oneCA(s snapshot.Snapshot) bool {
	var first []certs.Certificate
	for i, n := range s.With(cluster.ControlPlane) {
		var now []certs.Certificate
		for _, c := range n.Certificates {
			if c.Kind == certs.KindCA && !c.Served {
				now = append(now, c)
			}
		}
		if i == 0 {
			first = now
		}
		if !slices.EqualFunc(now, first,
			func(a, b certs.Certificate) bool { return a.Fingerprint == b.Fingerprint }) {
			return false
		}
	}
	return true
}

// endedAlready warns about restored certificates that have expired already.
func endedAlready(u Undo, names []string) []string {
	var out []string
	for _, name := range names {
		n, _ := u.Before.Node(name)
		var labels []string
		for _, cert := range n.Certificates {
			if !cert.Served && cert.StatusAt(u.Now, 0) == certs.Expired {
				labels = append(labels, cert.Label())
			}
		}
		if len(labels) > 0 {
			slices.Sort(labels)
			out = append(out, fmt.Sprintf("what is restored on %s has expired: %s", name,
				strings.Join(slices.Compact(labels), ", ")))
		}
	}
	return out
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "no node"
	}
	return strings.Join(names, ", ")
}
