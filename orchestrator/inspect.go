package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// inspect looks at all nodes in one round trip. A node that fails is recorded
// in the snapshot; the error is set only when Ansible itself could not run.
func (s *session) inspect(ctx context.Context) (snapshot.Snapshot, error) {
	s.looks++
	id := fmt.Sprintf("inspect-%02d", s.looks)
	p := s.playbook(id, playbooks.Inspect, cluster.Names(s.cluster.Nodes))
	start := time.Now()
	outcome, err := s.runner.Run(ctx, p, nil)
	var incomplete *ansible.RunError
	switch {
	case ctx.Err() != nil:
		return snapshot.Snapshot{}, &Error{Code: ExitInterrupted, Summary: "interrupted while looking at the nodes", Err: context.Cause(ctx)}
	case err != nil && (!errors.As(err, &incomplete) || outcome.Stats == nil):
		e := &Error{Code: ExitNotBegun, Summary: "the nodes could not be inspected: " + err.Error(), Err: err,
			Next: "nothing was changed; Ansible's own words are in " + p.Log}
		if incomplete != nil {
			e.Evidence = logTail(p.Log)
		}
		return snapshot.Snapshot{}, e
	}
	snap := snapshot.Snapshot{Schema: snapshot.Schema, Taken: start.UTC()}
	for _, n := range s.cluster.Nodes {
		snap.Nodes = append(snap.Nodes, observed(n, outcome))
	}
	if err := s.dir.SaveSnapshot(snap); err != nil {
		return snap, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err, Next: "check the disk that holds --state-dir"}
	}
	s.tell(Event{Kind: EventInspected, Seconds: time.Since(start).Seconds(), Message: fmt.Sprintf("%d nodes", len(snap.Nodes))})
	return snap, nil
}

// settleTime is how long an API server that has just been started may take to be
// ready before its state counts, and settlePause between two looks at it.
const (
	settleTime  = time.Minute
	settlePause = 3 * time.Second
)

// settled looks at the nodes, and again while an API server is only starting: a
// run right after a reboot must not be refused for what is about to pass.
func (s *session) settled(ctx context.Context) (snapshot.Snapshot, diagnosis.Diagnosis, error) {
	deadline := time.Now().Add(settleTime)
	for {
		snap, err := s.inspect(ctx)
		if err != nil {
			return snap, diagnosis.Diagnosis{}, err
		}
		d := diagnosis.Diagnose(snap, s.opts.Thresholds)
		if d.Route != diagnosis.Refuse || !starting(snap, d) || time.Now().After(deadline) {
			return snap, d, nil
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done(): // the next look says so
		}
	}
}

// starting reports whether the finding that decides is an API server that may
// yet become ready: it answers without being so, or its kubelet has just started.
func starting(snap snapshot.Snapshot, d diagnosis.Diagnosis) bool {
	f, _ := d.Primary()
	if f.Reason != diagnosis.APIUnusable {
		return false
	}
	n, _ := snap.Node(f.Node)
	state := d.ControlPlanes[f.Node]
	return state == diagnosis.APINotReady || (state == diagnosis.APIRefused && n.Units["kubelet"].ActiveSeconds < int(2*settleTime/time.Second))
}

// observed is one node as the inspection left it.
func observed(n cluster.Node, o ansible.Outcome) snapshot.Node {
	if payload, ok := o.Payloads[n.Name]; ok {
		parsed, err := snapshot.Parse(n, []byte(payload))
		if err == nil {
			return parsed
		}
		return snapshot.Node{Node: n, Failure: &snapshot.Failure{Kind: snapshot.Garbled, Message: err.Error()}}
	}
	for _, f := range o.Failures {
		if f.Host == n.Name {
			return snapshot.Node{Node: n, Failure: &snapshot.Failure{Kind: failureKind(f), Message: failureText(f)}}
		}
	}
	return snapshot.Node{Node: n, Failure: &snapshot.Failure{Kind: snapshot.Missing, Message: "Ansible brought no answer of it"}}
}

// failureKind tells a missing connection from a missing privilege. The texts
// are those of sudo, su, doas and of Ansible's become plugins.
func failureKind(f ansible.Event) snapshot.FailureKind {
	if f.Status == "unreachable" {
		return snapshot.Unreachable
	}
	text := strings.ToLower(failureText(f))
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
