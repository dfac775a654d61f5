package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// unknown lists what a plan had to be made without knowing.
func unknown(s snapshot.Snapshot) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, n := range s.Gone {
		say("%s: left out with --allow-unreachable, nothing is renewed there (%s)", n.Name, n.Failure.Message)
	}
	members, silence := false, ""
	var etcd []string
	for _, n := range s.Nodes {
		if n.Failure != nil {
			say("%s: nothing is known of it (%s)", n.Name, n.Failure.Message)
			continue
		}
		if n.Is(cluster.Etcd) {
			etcd = append(etcd, n.Name)
			members = members || (n.Etcd != nil && len(n.Etcd.Members) > 0)
			if n.Etcd != nil && n.Etcd.Healthy && n.Etcd.Error != "" {
				silence = "; on " + n.Name + ", " + n.Etcd.Error
			}
		}
		var outside []string
		for _, c := range n.Certificates {
			if c.Kind == certs.KindUnknown && !c.Served {
				outside = append(outside, c.Path)
			}
		}
		if len(outside) > 0 {
			slices.Sort(outside)
			say("%s: the purpose of these certificates, so no step renews them: %s", n.Name,
				strings.Join(slices.Compact(outside), ", "))
		}
	}
	if len(etcd) > 0 && !members {
		say("which members etcd has: none of %s answered%s", strings.Join(etcd, ", "), silence)
	}
	if v, reported := s.View(); !reported || len(v.Nodes) == 0 {
		say("which nodes the cluster has that are not in the inventory: no API server answered")
	}
	if strangers := diagnosis.Strangers(s); len(strangers) > 0 {
		say("the state of what the inventory does not name: %s", strings.Join(called(strangers), ", "))
	}
	var silent []string
	for _, p := range s.Probes {
		if p.Failed == snapshot.StageResolve || p.Failed == snapshot.StageTCP {
			silent = append(silent, p.Endpoint)
		}
	}
	if len(silent) > 0 {
		say("what clients outside see: this machine reaches no API endpoint at %s", strings.Join(silent, ", "))
	}
	return out
}

// lasting lists findings on the nodes of the proof, or on the way to them, that no step fixes: the
// proof does not check for them.
func lasting(d diagnosis.Diagnosis, steps []Step) []string {
	var out []string
	var found grouped
	proof := steps[len(steps)-1]
	for _, f := range d.Lasting() {
		if proof.Gate == ClusterGate && (f.Node == "" || slices.Contains(proof.Nodes, f.Node)) {
			found.add(f.Title(), strings.TrimSpace(f.Node+" "+f.Subject))
		}
	}
	for what, where := range found.all {
		out = append(out, fmt.Sprintf("no step fixes it, and the proof of the result does not require it: %s (%s)",
			what, where))
	}
	return out
}

// asFound lists what a run leaves as it is and may surprise later: Kubespray's own renewal timer on
// the nodes that are changed, and nodes that were cordoned before.
func asFound(s snapshot.Snapshot, d diagnosis.Diagnosis, steps []Step) []string {
	var out []string
	for _, n := range s.Nodes {
		t := n.RenewalTimer
		if t == nil || !changed(steps, n.Name) {
			continue
		}
		text := fmt.Sprintf("Kubespray's own renewal timer on %s is %s: %s", n.Name, t.State, t)
		if t.State == snapshot.TimerOn {
			text += "; the run holds it back"
		}
		out = append(out, text)
	}
	var cordoned []string
	for _, f := range d.Findings {
		if f.Reason == diagnosis.NodeUnschedulable {
			cordoned = append(cordoned, f.Node)
		}
	}
	if len(cordoned) > 0 {
		out = append(out, "cordoned before the run and not uncordoned by it: "+strings.Join(cordoned, ", "))
	}
	return out
}
