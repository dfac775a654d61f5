package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// Phase is the one that the step belongs to.
func (s Step) Phase() Phase { return Phase(cmp.Or(string(s.Action), string(s.Gate))) }

// SelectionError means that a policy names a node or a phase that does not exist. That is a mistake
// in the request, whatever the state of the cluster.
type SelectionError struct {
	// Detail is what was named where; Next lists the possible names.
	Detail, Next string
}

func (e *SelectionError) Error() string { return e.Detail }

// Check checks that everything that the policy names exists in the cluster. The error is a
// *SelectionError.
func (p Policy) Check(c cluster.Cluster) error {
	for _, name := range p.Limit {
		if len(c.Named(name)) == 0 {
			return &SelectionError{
				fmt.Sprintf("--limit %s: the cluster has no such node, and no node in a group of that name", name),
				"name nodes of the inventory, or kube_control_plane, kube_node or etcd; see: ansible-inventory -i " +
					"INVENTORY --graph",
			}
		}
	}
	named := map[string][]Phase{"--skip-phases": p.Skip}
	if p.Until != "" {
		named["--until-phase"] = []Phase{p.Until}
	}
	for _, flag := range []string{"--skip-phases", "--until-phase"} {
		for _, phase := range named[flag] {
			if !slices.Contains(Phases(), phase) {
				return &SelectionError{fmt.Sprintf("%s %s: unknown phase", flag, phase),
					"name one of the phases: " + phases(Phases())}
			}
		}
	}
	return nil
}

// selects reports whether the policy leaves anything out.
func (p Policy) selects() bool { return len(p.Limit)+len(p.Skip) > 0 || p.Until != "" }

// selection is the part of a plan's steps that a policy keeps.
type selection struct {
	Policy

	cluster   cluster.Cluster
	diagnosis diagnosis.Diagnosis
	// nodes are those of the limit, or all.
	nodes []string
	// all are the steps of the whole plan, without the backup; kept are the same with the remaining
	// nodes of each: none for a step that is left out.
	all, kept []Step
}

// choose returns the steps that the policy keeps, and warnings about what stays undone. Without
// steps there is nothing to do on the nodes of the limit. The error is an *UnsupportedError if the
// rest would not be safe, or would change nothing.
func (p Policy) choose(c cluster.Cluster, d diagnosis.Diagnosis, steps []Step) ([]Step, []string, error) {
	if !p.selects() {
		return steps, nil, nil
	}
	s := selection{Policy: p, cluster: c, diagnosis: d, nodes: p.limited(c), all: steps}
	if !slices.ContainsFunc(steps, func(step Step) bool { return step.Changes && overlap(step.Nodes, s.nodes) }) {
		return nil, s.undone(), nil
	}
	end, err := p.end(steps)
	if err != nil {
		return nil, nil, err
	}
	s.restrict(end)
	for _, refuses := range []func() string{s.unbacked, s.cutsUpgrade, s.cutsQuorum, s.withoutAPI, s.ungated,
		s.changesNothing} {
		if why := refuses(); why != "" {
			return nil, nil, &UnsupportedError{why}
		}
	}
	warnings := s.undone()
	return slices.DeleteFunc(s.kept, func(step Step) bool { return len(step.Nodes) == 0 }), warnings, nil
}

// limited are the nodes of the limit in the order of the cluster; all without one.
func (p Policy) limited(c cluster.Cluster) []string {
	if len(p.Limit) == 0 {
		return cluster.Names(c.Nodes)
	}
	var named []string
	for _, name := range p.Limit {
		named = append(named, cluster.Names(c.Named(name))...)
	}
	return both(cluster.Names(c.Nodes), named)
}

// end is how many steps there are up to the last phase of the plan, with the gates after it,
// because they belong to what was changed.
func (p Policy) end(steps []Step) (int, error) {
	switch p.Until {
	case "":
		return len(steps), nil
	case Phase(Backup):
		return 0, &UnsupportedError{
			"--until-phase backup changes nothing: for a backup alone, run the collection's playbook: " +
				"ansible-playbook -i INVENTORY infrapuzzle.kscertctl.backup"}
	}
	end := 0
	present := []Phase{}
	for i, step := range steps {
		if step.Phase() == p.Until {
			end = i + 1
		}
		if !slices.Contains(present, step.Phase()) {
			present = append(present, step.Phase())
		}
	}
	if end == 0 {
		return 0, &UnsupportedError{fmt.Sprintf("--until-phase %s: the plan has no such phase; it has: %s", p.Until,
			phases(present))}
	}
	for end < len(steps) && !steps[end].Changes {
		end++
	}
	return end, nil
}

// restrict keeps the remaining nodes of each step. A gate stays for the nodes that were worked on;
// the proof for those on which nothing stays due.
func (s *selection) restrict(end int) {
	s.kept = make([]Step, len(s.all))
	for i, step := range s.all {
		s.kept[i] = step
		s.kept[i].Nodes = nil
		if i < end && !slices.Contains(s.Skip, step.Phase()) {
			s.kept[i].Nodes = both(step.Nodes, s.nodes)
		}
		if s.kept[i].AtOnce = min(step.AtOnce, len(s.kept[i].Nodes)); s.kept[i].AtOnce < 2 {
			s.kept[i].AtOnce = 0
		}
	}
	for i := range s.kept {
		step := &s.kept[i]
		switch step.Gate {
		case "":
		case ClusterGate:
			step.Nodes = slices.DeleteFunc(step.Nodes, func(n string) bool { return s.left(n) != "" })
			if len(step.Nodes) < len(s.cluster.Nodes) {
				step.Why = "of these nodes only: " + step.Why
			}
		default:
			step.Nodes = slices.DeleteFunc(step.Nodes,
				func(n string) bool { return !taken(s.kept[:i], n, step.Gate.waitsFor) })
		}
	}
}

// unbacked: nothing is changed without a verified backup.
func (s *selection) unbacked() string {
	if !slices.Contains(s.Skip, Phase(Backup)) {
		return ""
	}
	return "--skip-phases backup: nothing is changed on a node before it has a verified copy; keep that phase"
}

// cutsUpgrade: Kubespray's playbook handles the whole cluster.
func (s *selection) cutsUpgrade() string {
	if len(s.Limit) == 0 || !slices.ContainsFunc(s.kept,
		func(step Step) bool { return step.Action.Row().Kubespray && len(step.Nodes) > 0 }) {
		return ""
	}
	return "--limit with --playbook upgrade-cluster: that playbook of Kubespray works on every node; omit --limit, " +
		"or run the playbook separately afterwards"
}

// cutsQuorum: nodes that wait for each other come back together or not at all, and nothing else is
// changed while etcd has no quorum.
func (s *selection) cutsQuorum() string {
	var together, out []string
	var phase Phase
	for i, step := range s.all {
		if !step.Together() {
			continue
		}
		together = append(together, step.Nodes...)
		for _, name := range step.Nodes {
			if !slices.Contains(s.kept[i].Nodes, name) {
				out, phase = append(out, name), step.Phase()
			}
		}
	}
	if len(out) == 0 || s.changesNothing() != "" {
		return ""
	}
	instead := "name all of them in --limit, or omit --limit"
	if overlap(out, s.nodes) {
		instead = fmt.Sprintf("keep the phase %s", phase)
	}
	return fmt.Sprintf("%s would be left out: %s must be recovered together, because etcd has no quorum until most "+
		"members trust each other again; %s",
		strings.Join(out, ", "), strings.Join(together, ", "), instead)
}

// withoutAPI: a kubelet gets its certificate from any API server that answers it, and renew-certs
// needs one that can be used.
func (s *selection) withoutAPI() string {
	for i, step := range s.kept {
		if len(step.Nodes) == 0 {
			continue
		}
		needs := map[API][]string{
			NeedsAllAPIs: cluster.Names(s.cluster.With(cluster.ControlPlane)), NeedsOwnAPI: step.Nodes,
		}[step.Action.Row().API]
		for _, name := range needs {
			state := s.diagnosis.ControlPlanes[name]
			if state == diagnosis.APIUsable || taken(s.kept[:i], name, Step.restoresAPI) {
				continue
			}
			instead := fmt.Sprintf("keep the phase %s", PrePhase)
			if !slices.Contains(s.nodes, name) {
				instead = fmt.Sprintf("add %s to --limit", name)
			}
			return fmt.Sprintf("%s of %s needs the API server of %s, which would stay unusable (%s); %s", step.Action,
				strings.Join(step.Nodes, ", "), name, state, instead)
		}
	}
	return ""
}

// ungated: nothing is begun before what was changed is known to be back.
func (s *selection) ungated() string {
	for i, step := range s.all {
		next := slices.IndexFunc(s.kept[i:], func(later Step) bool { return later.Changes && len(later.Nodes) > 0 })
		if next < 0 {
			continue
		}
		for _, name := range without(step.Nodes, s.kept[i].Nodes) {
			if taken(s.kept[:i], name, step.Gate.waitsFor) {
				later := s.kept[i+next]
				return fmt.Sprintf("--skip-phases %s: %s of %s starts only when %s is known "+
					"to be back; keep that phase",
					step.Phase(), later.Action, strings.Join(later.Nodes, ", "), name)
			}
		}
	}
	return ""
}

// changesNothing: something is due, and the rest of the plan changes nothing.
func (s *selection) changesNothing() string {
	if slices.ContainsFunc(s.kept, func(step Step) bool { return step.Changes && len(step.Nodes) > 0 }) {
		return ""
	}
	return "--skip-phases and --until-phase leave nothing to change: " + strings.Join(s.undone(), "; ")
}

// undone describes what is not done: what stays due on which nodes, and what is not checked.
func (s *selection) undone() []string {
	var out []string
	var nodes grouped
	for _, n := range s.cluster.Nodes {
		text := s.left(n.Name)
		if text == "" {
			continue
		}
		nodes.add(text, n.Name)
	}
	for text, names := range nodes.all {
		out = append(out, fmt.Sprintf("not in this plan: %s (%s)", names, text))
	}
	for i, step := range s.kept {
		switch {
		case step.Gate == ClusterGate && len(step.Nodes) == 0:
			out = append(out, "the result is not proved: check the cluster afterwards with kscertctl diagnose")
		case step.Action == Upgrade && len(step.Nodes) == 0:
			out = append(out, "not in this plan: upgrade-cluster.yml")
		}
		unseen := slices.DeleteFunc(without(s.all[i].Nodes, step.Nodes),
			func(n string) bool { return !taken(s.kept[:i], n, step.Gate.waitsFor) })
		if len(unseen) > 0 {
			out = append(out, fmt.Sprintf(
				"nothing waits for the gate %s of %s: check yourself that it is healthy again", step.Gate,
				strings.Join(unseen, ", ")))
		}
	}
	return out
}

// left is what stays due on a node; empty for nothing.
func (s *selection) left(name string) string {
	issued, bootstrapped := issued(s.kept, name, IssuesEtcd), issued(s.kept, name, IssuesKubelet)
	stays := diagnosis.Diagnosis{Due: map[string][]certs.Kind{}, Stale: map[string][]string{}}
	for _, k := range s.diagnosis.Due[name] {
		if isKubelet(k) && !bootstrapped || !isKubelet(k) && !issued {
			stays.Due[name] = append(stays.Due[name], k)
		}
	}
	if !issued {
		stays.Stale[name] = s.diagnosis.Stale[name]
	}
	var parts []string
	if state, ok := s.diagnosis.ControlPlanes[name]; ok && state != diagnosis.APIUsable && !issued {
		parts = append(parts, fmt.Sprintf("its API server is unusable: %s", state))
	}
	if len(stays.Due[name])+len(stays.Stale[name]) > 0 {
		parts = append(parts, due(stays, name))
	}
	return strings.Join(parts, "; ")
}

// limitWithout is the argument of --limit that leaves out a node.
func limitWithout(c cluster.Cluster, node string) string {
	return shell.Quote(strings.Join(without(cluster.Names(c.Nodes), []string{node}), ","))
}

// both are the names of a that are in b too; without, those that are not.
func both(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return !slices.Contains(b, name) })
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return slices.Contains(b, name) })
}

func overlap(a, b []string) bool { return len(both(a, b)) > 0 }

func phases(all []Phase) string {
	names := make([]string, len(all))
	for i, phase := range all {
		names[i] = string(phase)
	}
	return strings.Join(names, ", ")
}

// grouped are names with the same report, in the order in which it came first.
type grouped struct {
	texts []string
	names map[string][]string
}

func (g *grouped) add(text, name string) {
	if g.names == nil {
		g.names = map[string][]string{}
	}
	if g.names[text] == nil {
		g.texts = append(g.texts, text)
	}
	g.names[text] = append(g.names[text], name)
}

// all are the texts, each with its names.
func (g *grouped) all(yield func(text, names string) bool) {
	for _, text := range g.texts {
		if !yield(text, strings.Join(g.names[text], ", ")) {
			return
		}
	}
}
