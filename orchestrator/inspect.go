package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/probe"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// inspectInventory inspects the nodes of an inventory that is not known yet: the playbook needs no list of
// nodes to begin with, and reports the inventory when it begins. Starting Ansible is most of the
// cost of inspecting a few nodes. With trust also objects of the cluster are read, for what trusts its CAs.
func (s *session) inspectInventory(ctx context.Context, trust bool) (snapshot.Snapshot, error) {
	start := time.Now()
	playing, stop := context.WithCancel(ctx)
	defer stop()
	played, stated := make(chan answer, 1), make(chan []byte, 1)
	probing := make(chan func() []snapshot.Probe, 1) // once the cluster is known
	go func() {
		all := sync.OnceFunc(func() { close(stated) })
		defer all()
		played <- s.ask(playing, start, nil, trust, probing, func(e ansible.Event) {
			switch e.Event {
			case "inventory":
				stated <- e.Inventory
			case "stats":
				all()
			}
		})
	}()

	nodes, err := cluster.Parse(<-stated)
	if err != nil { // ansible-inventory reports why
		nodes, _, err = s.listed(ctx)
	}
	if err != nil {
		close(probing)
		stop()
		<-played
		s.neverBegan()
		return snapshot.Snapshot{}, s.precise(ctx, err)
	}
	s.cluster = nodes
	s.tell(Event{Kind: EventBegin, Message: s.dir.Path})
	probing <- probeBeside(ctx, nodes)
	a := <-played
	if a.outcome.Stats == nil && ctx.Err() == nil {
		if _, err := s.runner.Version(ctx); err != nil {
			return snapshot.Snapshot{}, preflightError(err)
		}
	}
	return s.seen(ctx, start, a)
}

// precise prefers an error in Ansible's installation to the error that Ansible reports.
func (s *session) precise(ctx context.Context, err error) *Error {
	if _, verr := s.runner.Version(ctx); verr != nil {
		err = verr
	}
	return preflightError(err)
}

// inspect inspects all nodes again, whose inventory is known.
func (s *session) inspect(ctx context.Context) (snapshot.Snapshot, error) {
	return s.inspectNodes(ctx, cluster.Names(s.cluster.Nodes))
}

// covers reports whether all of these nodes were asked for the last snapshot.
func (s *session) covers(nodes []string) bool {
	return !slices.ContainsFunc(nodes, func(name string) bool { return !slices.Contains(s.asked, name) })
}

// inspectNodes inspects some nodes again. The other nodes in the snapshot are from the last
// inspection of them, whose time they have.
func (s *session) inspectNodes(ctx context.Context, nodes []string) (snapshot.Snapshot, error) {
	start := time.Now()
	probing := make(chan func() []snapshot.Probe, 1)
	probing <- probeBeside(ctx, s.cluster)
	return s.seen(ctx, start, s.ask(ctx, start, nodes, false, probing, nil))
}

// probeGrace is how much longer than Ansible the endpoints may take to answer.
const probeGrace = 500 * time.Millisecond

// probeBeside asks the API endpoints while Ansible inspects the nodes. The returned function
// returns the answers.
func probeBeside(ctx context.Context, c cluster.Cluster) func() []snapshot.Probe {
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan []snapshot.Probe, 1)
	go func() { answers <- probe.All(ctx, probe.Endpoints(c)) }()
	return func() []snapshot.Probe {
		defer time.AfterFunc(probeGrace, cancel).Stop()
		defer cancel()
		return <-answers
	}
}

// answer is what Ansible brought back from one inspection.
type answer struct {
	playbook ansible.Playbook
	outcome  ansible.Outcome
	err      error
	// snap is made from it, and saved unless saved has an error.
	snap  snapshot.Snapshot
	saved error
}

// lookSilence is an outer limit for inspections, many times longer than any task of it takes.
const lookSilence = 10 * time.Minute

// ask inspects nodes in one round trip; nil asks all, and passes the inventory to observe. The
// snapshot is made while Ansible still exits, with the results of probing, which is closed if there
// is none to be made.
func (s *session) ask(ctx context.Context, start time.Time, nodes []string, trust bool,
	probing <-chan func() []snapshot.Probe, observe func(ansible.Event)) answer {
	s.looks++
	p := s.playbook(fmt.Sprintf("inspect-%02d", s.looks), playbooks.Inspect, nodes)
	p.Looks, p.Silence = true, lookSilence
	if trust || len(s.opts.RotateCAs) > 0 { // other gates do not use it
		p.Vars["kscert_trust"] = true
		if s.opts.ClusterSecrets {
			p.Vars["kscert_cluster_secrets"] = true
		}
	}
	if nodes == nil {
		p.Variables = cluster.Variables
	}
	a := answer{playbook: p}
	a.playbook.OnStats = func(o ansible.Outcome) {
		if probed, ok := <-probing; ok {
			a.snap = s.leaveOut(s.assemble(ctx, start, o, probed(), nodes))
			s.latest, s.asked = a.snap, nodes
			if nodes == nil {
				s.asked = cluster.Names(s.cluster.Nodes)
			}
			a.saved = s.dir.SaveSnapshot(a.snap)
		}
	}
	a.outcome, a.err = s.runner.Run(ctx, a.playbook, observe)
	return a
}

// leaveOut leaves out the nodes that cannot be reached and that may be: from then on, the session has
// the others alone. Once there is a lock, the plan has decided which.
func (s *session) leaveOut(snap snapshot.Snapshot) snapshot.Snapshot {
	snap.Gone = s.gone
	if s.settled {
		return snap
	}
	snap = snap.WithoutGone(s.opts.AllowUnreachable)
	s.without(snap.Gone)
	return snap
}

// leaveOutAsPlanned leaves out what the plan of a work has left out, also if that is resumed.
func (s *session) leaveOutAsPlanned(w work) {
	if len(w.Snapshot.Gone) > 0 {
		s.without(w.Snapshot.Gone)
	}
	s.settled = true
}

// without leaves out nodes.
func (s *session) without(gone []snapshot.Node) {
	s.gone = gone
	s.cluster.Nodes = slices.DeleteFunc(slices.Clone(s.cluster.Nodes), func(n cluster.Node) bool {
		return slices.ContainsFunc(gone, func(g snapshot.Node) bool { return g.Name == n.Name })
	})
}

// assemble makes a snapshot from the answers. A node that failed is recorded in it, and so is one
// that was not read any more when ctx was done. Nodes that were not asked stay as in the last
// snapshot; nil means all were asked.
func (s *session) assemble(ctx context.Context, start time.Time, o ansible.Outcome, probes []snapshot.Probe,
	asked []string) snapshot.Snapshot {
	snap := snapshot.Snapshot{
		Schema: snapshot.Schema, Taken: start.UTC(), Endpoint: s.cluster.Endpoint, ExternalCA: s.cluster.ExternalCA,
		Probes: probes,
		Nodes:  make([]snapshot.Node, len(s.cluster.Nodes)),
	}
	var reading sync.WaitGroup
	for i, n := range s.cluster.Nodes {
		if last, ok := s.latest.Node(n.Name); ok && asked != nil && !slices.Contains(asked, n.Name) {
			last.Taken = s.latest.Asked(last)
			snap.Nodes[i] = last
			continue
		}
		reading.Go(func() {
			if ctx.Err() != nil { // each answer is bounded, but there may be many
				snap.Nodes[i] = snapshot.Node{Node: n,
					Failure: &snapshot.Failure{Kind: snapshot.Missing, Message: "the inspection was stopped"}}
				return
			}
			snap.Nodes[i] = observed(n, o)
		})
	}
	reading.Wait()
	return snapshot.Redact(snap)
}

// seen reports an inspection. The error is set only if Ansible itself could not run.
func (s *session) seen(ctx context.Context, start time.Time, a answer) (snapshot.Snapshot, error) {
	var incomplete *ansible.RunError
	switch {
	case ctx.Err() != nil:
		return snapshot.Snapshot{},
			&Error{Code: ExitInterrupted, Summary: "interrupted during the inspection of the nodes",
				Err: context.Cause(ctx)}
	case a.err != nil && (!errors.As(a.err, &incomplete) || a.outcome.Stats == nil):
		e := &Error{Code: ExitNotBegun, Summary: "the nodes could not be inspected: " + a.err.Error(), Err: a.err,
			Next: "nothing was changed; Ansible's output is in " + a.playbook.Log}
		if errors.Is(a.err, ansible.ErrSilent) {
			e.Next = "nothing was changed; try what hangs by hand: ansible -i INVENTORY all -m ansible.builtin.raw " +
				"-a true; Ansible's output is in " + a.playbook.Log
		}
		if incomplete != nil {
			e.Evidence = logTail(a.playbook.Log)
		}
		return snapshot.Snapshot{}, e
	}
	snap := a.snap
	if err := a.saved; err != nil {
		return snap, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "check the disk that holds --state-dir"}
	}
	// The snapshot is kept; the raw answers are not, because they are not redacted.
	if err := os.Remove(a.playbook.Events); err != nil {
		return snap, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "check the disk that holds --state-dir"}
	}
	s.tell(Event{Kind: EventInspected, Seconds: time.Since(start).Seconds(),
		Message: fmt.Sprintf("%d nodes", len(s.asked))})
	return snap, nil
}

// settleTime is how long a started API server may take to be ready before its state counts, and
// settlePause the time between two inspections.
const (
	settleTime  = time.Minute
	settlePause = 3 * time.Second
)

// inspectUntilStarted inspects the nodes, and again while an API server is only starting: a run
// right after a reboot must not be refused for a temporary state.
func (s *session) inspectUntilStarted(ctx context.Context) (snapshot.Snapshot, diagnosis.Diagnosis, error) {
	deadline := time.Now().Add(settleTime)
	for {
		snap, err := s.inspectFirst(ctx)
		if err != nil {
			return snap, diagnosis.Diagnosis{}, err
		}
		d := diagnosis.Diagnose(snap, s.opts.Thresholds)
		if d.Route != diagnosis.Refuse || !starting(snap, d) || time.Now().After(deadline) {
			return snap, d, nil
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done(): // the next inspection reports it
		}
	}
}

// inspectFirst is the inspection that the session has begun with, and later a new one.
func (s *session) inspectFirst(ctx context.Context) (snapshot.Snapshot, error) {
	if first := s.first; first != nil {
		s.first = nil
		return first.snap, first.err
	}
	return s.inspect(ctx)
}

// starting reports whether the deciding finding is an outage that may pass by itself: an API server
// that answers without being ready, also through the endpoint before it; or, if the kubelet has
// just started, one that does not answer in time or refuses everyone, or etcd.
func starting(snap snapshot.Snapshot, d diagnosis.Diagnosis) bool {
	f, _ := d.Primary()
	n, _ := snap.Node(f.Node)
	kubelet := n.Units["kubelet"]
	justStarted := kubelet.Steady() && kubelet.ActiveSeconds < int(2*settleTime/time.Second)
	switch f.Reason {
	case diagnosis.APIServerNotReady:
		return true
	case diagnosis.APIServerRefused, diagnosis.APICrashing, diagnosis.APIBlocked, diagnosis.APIRejectsClient,
		diagnosis.APIUnusable,
		diagnosis.EtcdMemberDown, diagnosis.EtcdNoQuorum:
		return justStarted
	case diagnosis.LoadBalancer:
		return slices.ContainsFunc(append(slices.Clone(n.Probes), snap.Probes...), func(p snapshot.Probe) bool {
			return p.Endpoint == f.Subject && (p.Failed == snapshot.StageLivez || p.Failed == snapshot.StageReadyz)
		})
	default:
		return false
	}
}

// observed is one node as the inspection found it.
func observed(n cluster.Node, o ansible.Outcome) snapshot.Node {
	unknown := func(kind snapshot.FailureKind, format string, args ...any) snapshot.Node {
		return snapshot.Node{Node: n, Failure: &snapshot.Failure{Kind: kind, Message: fmt.Sprintf(format, args...)}}
	}
	if payload, ok := o.Payloads[n.Name]; ok {
		parsed, err := snapshot.Parse(n, []byte(payload))
		if err == nil {
			return parsed
		}
		return unknown(snapshot.Garbled, "%.1000s", err) // it may quote what it read
	}
	if err, ok := o.Unread[n.Name]; ok {
		return unknown(snapshot.Garbled, "%v", err)
	}
	if size, ok := o.Oversize[n.Name]; ok {
		return unknown(snapshot.Garbled, "its answer was cut off: %d bytes or more are too long for an event", size)
	}
	for _, f := range o.Failures {
		if f.Host == n.Name {
			return unknown(failureKind(f), "%s", failureText(f))
		}
	}
	if _, asked := o.Stats[n.Name]; asked {
		return unknown(snapshot.Garbled, "its answer is empty")
	}
	return unknown(snapshot.Missing, "Ansible returned no answer from it")
}

// becomeWait is Ansible's message if no answer of sudo came in time, with what came instead.
var becomeWait = regexp.MustCompile(
	`(?s)waiting for (?:privilege escalation prompt|become success or become password prompt)(.*)`)

// failureKind distinguishes a missing connection from a missing privilege. The texts are those of
// sudo, su, doas and of Ansible's become plugins.
func failureKind(f ansible.Event) snapshot.FailureKind {
	text := strings.ToLower(failureText(f))
	// Either a prompt that Ansible does not know came (sudo-rs), or nothing: from a node that does
	// not answer any more, over a connection that is still open. Ansible before 2.19 reports both
	// in the same way; the hint then names both.
	if m := becomeWait.FindStringSubmatch(text); m != nil {
		if strings.Contains(m[1], "password") {
			return snapshot.Privilege
		}
		return snapshot.Unreachable
	}
	if f.Status == "unreachable" {
		return snapshot.Unreachable
	}
	for _, sign := range []string{"sudo", "su:", "doas", "become", "password is required", "not permitted"} {
		if strings.Contains(text, sign) {
			return snapshot.Privilege
		}
	}
	return snapshot.Failed
}

func failureText(f ansible.Event) string {
	if text := evidenceText(f.Evidence); text != "" {
		return text
	}
	return "Ansible gave no reason"
}
