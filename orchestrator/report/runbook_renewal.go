package report

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// ByHand is how an operator calls Ansible for a cluster.
type ByHand struct {
	// Ansible are its options, the same for ansible and ansible-playbook, such as -i inventory.ini;
	// if empty, the runbook has an inventory to be filled in.
	Ansible []string
	// Omitted are the options whose values may be secrets.
	Omitted []string
	// Dir is where Ansible runs, and BinDir where its commands are; empty for anywhere.
	Dir, BinDir string
	// Settings are what a run would give its playbooks.
	Settings plan.Settings
}

// controlNode is the heading of blocks that are typed on the control node.
const controlNode = "the control node"

// renewal writes the steps of a plan for a cluster whose API servers work: the playbooks of a run
// with their variables, and commands in place of its gates.
func (b *book) renewal(p plan.Plan) {
	b.line("")
	b.wrapped("", "Each block is for a shell on the control node, where you run Ansible on this cluster. "+
		"It stops at the first command that fails. Work from top to bottom, and continue only after a block has "+
		"succeeded. The playbooks are those of the collection `infrapuzzle.kscertctl`, which has to be installed; "+
		"`kscertctl run` carries it, holds the lock of the cluster and has stricter gates.")
	if len(b.hand.Omitted) > 0 {
		b.line("")
		b.wrapped("", "Add to each command of Ansible what may be secret, and is not shown: "+
			shell.Join(b.hand.Omitted)+".")
	}
	timers := b.s.ActiveRenewalTimers()
	b.timer(timers, "hold", "Hold Kubespray's own renewal timer")
	for _, step := range p.Steps {
		b.heading(step)
		if step.Gate == "" {
			b.control(string(step.Action), b.playbook(step.Action, step.Variables(b.hand.Settings)))
			continue
		}
		b.gate(step)
	}
	b.timer(timers, "release", "Release Kubespray's own renewal timer")
}

// timer writes what holds Kubespray's renewal timers of nodes, or releases them.
func (b *book) timer(nodes []string, action, title string) {
	if len(nodes) == 0 {
		return
	}
	b.heading(plan.Step{Title: title, Why: "it restarts every component of a control plane at any time"})
	vars := plan.Step{Nodes: nodes}.Variables(b.hand.Settings)
	vars["kscert_timer_action"] = action
	b.control("renewal-timer", b.playbook("renewal-timer", vars))
}

// playbook is the command that runs the playbook of an action. None of its variables is a node's
// text: they are names of the inventory, and settings.
func (b *book) playbook(a plan.Action, vars map[string]any) script {
	text, err := json.Marshal(vars)
	if err != nil {
		b.err = err
	}
	var s script
	s.add("ansible-playbook %s %s \\", a.CollectionPlaybook(), b.hand.Ansible)
	s.add("  -e %s", string(text))
	return s
}

// expression is what Ansible would evaluate in a command for a node.
var expression = regexp.MustCompile(`\{[{%#]`)

// onNode is the command that runs lines as root on a node, through Ansible.
func (b *book) onNode(node string, lines script) script {
	text := strings.Join(append(script{"set -e"}, lines...), "; ")
	if expression.MatchString(text) {
		text = untypable // a node's text would be evaluated here
	}
	var s script
	s.add("ansible %s %s -b -m ansible.builtin.raw \\", node, b.hand.Ansible)
	s.add("  -a %s", text)
	return s
}

// gate writes the commands that wait for the condition of a run's gate, or fail.
func (b *book) gate(step plan.Step) {
	const wait = "timeout 300 sh -c %s"
	var all script
	on := func(name string, command func(snapshot.Node) script) {
		n, _ := b.s.Node(name)
		all = append(all, b.onNode(name, command(n))...)
	}
	ready := func(n snapshot.Node) (s script) {
		s.tools(n)
		s.add(wait, "until "+string(kubectl(n))+" --request-timeout=5s get --raw /readyz; do sleep 2; done")
		return s
	}
	healthy := func(n snapshot.Node) (s script) {
		s.tools(n)
		for _, e := range members(n) {
			s.add(e.Client()+wait, "until etcdctl endpoint health; do sleep 2; done")
		}
		return s
	}
	switch step.Gate {
	case plan.EtcdGate:
		for _, name := range step.Nodes {
			on(name, healthy)
		}
	case plan.APIServerGate:
		for _, name := range step.Nodes {
			on(name, ready)
		}
	case plan.KubeletGate, plan.ClusterGate:
		on(b.controlPlanes()[0], func(n snapshot.Node) script { return b.waitForNodes(n, step.Nodes) })
	}
	if step.Gate == plan.ClusterGate {
		all.add("kscertctl plan %s --detailed-exitcode # 0: nothing is left to do", b.hand.Ansible)
	}
	b.control("gate "+string(step.Gate), all)
}

// control writes a block for the control node.
func (b *book) control(what string, lines script) {
	where := []string{controlNode}
	if !lines.typable() {
		b.refused(where, what)
		return
	}
	var head script
	if b.hand.Dir != "" {
		head.add("cd %s", b.hand.Dir)
	}
	if b.hand.BinDir != "" {
		head.add("PATH=%s:$PATH", b.hand.BinDir)
	}
	b.block(where, what, append(head, lines...))
}
