package orchestrator

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// since returns what others changed after a run, on the nodes that a rollback restores, and
// that the rollback would revert: files that match neither the state after the run nor the
// backup. It also returns the names of nodes whose state after the run is unknown.
func since(
	was run.Proposal, h run.History, now snapshot.Snapshot, nodes []string,
) (changed []Difference, unknown []string) {
	left := snapshot.Snapshot{}
	for _, name := range nodes {
		if n, ok := leftBehind(h, was.Plan, name); ok {
			left.Nodes = append(left.Nodes, n)
		} else {
			unknown = append(unknown, name)
		}
	}
	for _, d := range Drift(left, now) {
		is, _ := now.Node(d.Node)
		then, _ := was.Snapshot.Node(d.Node)
		if slices.Contains(nodes, d.Node) && backedUp(is, d.Path) && state(is)[d.Path] != state(then)[d.Path] {
			changed = append(changed, d)
		}
	}
	return changed, unknown
}

// leftBehind returns a node's state after a run: the last snapshot between the run's last
// change there and the end of that process. It is false if there is no such snapshot, or if
// the change may have been incomplete.
func leftBehind(h run.History, p plan.Plan, name string) (snapshot.Node, bool) {
	changes := map[string]bool{}
	for _, step := range p.Steps {
		changes[step.ID] = step.Changes
	}
	var from, until time.Time
	for _, e := range h.Entries {
		switch {
		case changes[e.Step] && slices.Contains(e.Nodes, name):
			from, until = e.Time, time.Time{}
			if e.Event != run.Outcome {
				from = time.Time{}
			}
		case (e.Event == run.End || e.Event == run.Begin) && until.IsZero():
			until = e.Time
		}
	}
	for _, s := range slices.Backward(h.Snapshots) {
		n, ok := s.Node(name)
		if at := s.Asked(n); ok && n.Failure == nil && !from.IsZero() && at.After(from) &&
			(until.IsZero() || at.Before(until)) {
			return n, true
		}
	}
	return snapshot.Node{}, false
}

// backedUp reports whether backups contain a node's file. Certificates that a kubelet replaces
// by itself do not count (docs/reference/backup-format.md).
func backedUp(n snapshot.Node, file string) bool {
	kubelet := n.Facts["kubelet-dir"]
	switch {
	case path.Dir(file) == kubelet && strings.HasSuffix(file, "-current.pem"):
		return false
	case slices.ContainsFunc(certs.EtcdClusters(), func(e certs.EtcdCluster) bool { return e.EnvFile() == file }):
		return true
	case file == path.Join(path.Dir(kubelet), "config.yaml"):
		return true
	}
	folders := []string{
		"config-dir", "pki", "pki-real", "kubelet-dir", "etcd-dir", "calico-dir", "cilium-dir", "home-dir",
	}
	return slices.ContainsFunc(folders, func(name string) bool {
		return n.Facts[name] != "" && strings.HasPrefix(file, n.Facts[name]+"/")
	})
}

// takesBack describes what a rollback reverts, one line per node.
func takesBack(of string, changed []Difference) []string {
	var out []string
	for i, d := range changed {
		what := d.Path + " " + d.What
		if i > 0 && changed[i-1].Node == d.Node {
			out[len(out)-1] += ", " + what
		} else {
			out = append(out, fmt.Sprintf("%s: changed by others since run %s, and reverted: %s", d.Node, of, what))
		}
	}
	return out
}

// Unseen refuses an approval that was given before the plan was shown, such as with a flag; it
// returns nil if the plan reverts no changes of others. The error is an *Error with
// ExitNotApproved.
func (p Proposal) Unseen() error {
	if len(p.TakenBack) == 0 {
		return nil
	}
	lines := make([]string, len(p.TakenBack))
	for i, d := range p.TakenBack {
		lines[i] = d.String()
	}
	return &Error{
		Code: ExitNotApproved, Evidence: strings.Join(lines, "\n"),
		Summary: fmt.Sprintf("others have changed files since the run, which the rollback would revert: %d, first %s",
			len(lines), lines[0]),
		Next: "nothing was changed; save what you need of these files, then approve on a terminal, " +
			"or with --yes --discard-changes",
	}
}
