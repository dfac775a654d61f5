package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// strangers are the control planes and the members of etcd that the inventory does not name: those
// that the policy allows, and the others.
func (p Policy) strangers(s snapshot.Snapshot) (allowed, refused []diagnosis.Stranger) {
	for _, st := range diagnosis.Strangers(s) {
		switch {
		case st.Role == cluster.Worker:
		case slices.Contains(p.AllowNotInInventory, st.Name):
			allowed = append(allowed, st)
		default:
			refused = append(refused, st)
		}
	}
	return allowed, refused
}

// knowsEnough refuses steps that change control planes or members of etcd while the inventory lacks
// control planes, or members of etcd and a member may have to stop: the effect of such a change
// depends on them. It warns about the others.
func (p Policy) knowsEnough(
	c cluster.Cluster, s snapshot.Snapshot, steps []Step, restart bool,
) (warnings []string, err error) {
	if !slices.ContainsFunc(steps, func(step Step) bool {
		return step.Changes && slices.ContainsFunc(step.Nodes, func(name string) bool {
			n, _ := c.Node(name)
			return n.Is(cluster.ControlPlane) || n.Is(cluster.Etcd)
		})
	}) {
		return nil, nil
	}
	allowed, others := p.strangers(s)
	var gone strings.Builder
	for _, st := range others {
		if st.MemberID != "" {
			gone.WriteString("; " + removal(st.Etcd, st.PeerURLs, st.Name, st.MemberID))
		}
	}
	controlPlane := slices.ContainsFunc(others, func(st diagnosis.Stranger) bool {
		return st.Role == cluster.ControlPlane
	})
	switch {
	case controlPlane, restart && len(others) > 0:
		var flags, evidence []string
		for _, st := range others {
			if flag := "--allow-not-in-inventory " + shell.Quote(st.Name); !slices.Contains(flags, flag) {
				flags = append(flags, flag)
			}
			evidence = append(evidence, st.Evidence)
		}
		return nil, &UnsupportedError{fmt.Sprintf("not in the inventory: %s (%s); "+
			"control planes and etcd members are not changed while others of the cluster are unknown: add them to "+
			"the inventory, or, "+
			"if each of them is healthy and must not be changed, pass %s%s",
			strings.Join(called(others), ", "), strings.Join(evidence, "; "), strings.Join(flags, " "), gone.String())}
	case len(others) > 0:
		warnings = append(warnings,
			fmt.Sprintf("not in the inventory: %s; nothing is renewed there, and no step restarts another%s",
				strings.Join(called(others), ", "), gone.String()))
	}
	if len(allowed) > 0 {
		warnings = append(warnings, fmt.Sprintf(
			"not in the inventory, but allowed by --allow-not-in-inventory: %s; each is assumed to be healthy, and "+
				"nothing is renewed there",
			strings.Join(called(allowed), ", ")))
	}
	return warnings, nil
}

// called are strangers by name and role.
func called(all []diagnosis.Stranger) []string {
	out := make([]string, len(all))
	for i, st := range all {
		as := map[cluster.Role]string{
			cluster.ControlPlane: "control plane", cluster.Worker: "worker", cluster.Etcd: "etcd member",
		}[st.Role]
		if len(st.PeerURLs) > 0 {
			as += " at " + where(st.PeerURLs, st.Name)
		}
		out[i] = fmt.Sprintf("%s (%s)", st.Name, as)
	}
	return out
}
