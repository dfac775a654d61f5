// Package testruns makes run histories for tests, one for each way in which a run can finish,
// and their run directories.
package testruns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The names of the runs, in the order of their start.
const (
	RefusedID    = "20260301T113000Z-0a0a0a"
	RecoveredID  = "20260301T120000Z-abcdef"
	KilledID     = "20260301T123000Z-1b2c3d"
	FailedGateID = "20260301T130000Z-c0ffee"
	RolledBackID = "20260301T133000Z-5eed01"
)

// All returns the histories of this package by name.
func All() map[string]run.History {
	return map[string]run.History{
		"recovered": Recovered(), "killed": Killed(), "failed-gate": FailedGate(), "rollback": RolledBack(),
		"refused": Refused(),
	}
}

// Recovered is a recovery of three control planes whose certificates had expired.
func Recovered() run.History { return Of(tc.HA()) }

// Of returns the history of a recovery of a cluster whose certificates had expired.
func Of(c cluster.Cluster) run.History {
	s := begin(RecoveredID, run.Entry{Kind: run.KindRun}, outage(c))
	s.request(plan.Auto)
	s.steps(len(s.plan().Steps))
	s.end(run.Done, "", 0, "")
	s.h.Notes = []string{"/home/op/artifacts/admin.conf: its client certificate expired on 2026-02-28; " +
		"--refresh-kubeconfig /home/op/artifacts/admin.conf updates it"}
	return s.h
}

// Killed is a run whose driver died while it changed the first control plane.
func Killed() run.History {
	s := begin(KilledID, run.Entry{Kind: run.KindRun}, outage(tc.Single()))
	s.request(plan.Auto)
	s.steps(1)
	s.intent(s.plan().Steps[1])
	s.h.Torn = 17
	return s.close()
}

// FailedGate renewed what was due on the only control plane, whose API server did not come
// back.
func FailedGate() run.History {
	s := begin(FailedGateID, run.Entry{Kind: run.KindRun}, expiring())
	s.request(plan.Auto)
	s.steps(2)
	step := s.plan().Steps[2]
	s.intent(step)
	for range 3 {
		s.inspect(broken(), 100*time.Second)
	}
	unmet := gate.Check{Gate: step.Gate, Nodes: step.Nodes, Before: s.h.Proposal.Snapshot}.Evaluate(s.last())
	timeout := gate.TimeoutError{Gate: step.Gate, Timeout: 5 * time.Minute, Unmet: unmet}
	s.outcome(step, run.Failed, timeout.Error())
	s.end(run.Failed, fmt.Sprintf("step %s: the gate did not pass within 5m0s", step.ID), 8,
		fmt.Sprintf("fix this, then resume: kscertctl resume %[1]s\nor roll back: kscertctl rollback %[1]s",
			FailedGateID))
	return s.h
}

// RolledBack restored the state before FailedGate.
func RolledBack() run.History {
	was := FailedGate()
	s := begin(RolledBackID, run.Entry{Kind: run.KindRollback, Of: FailedGateID}, broken())
	p, err := plan.Rollback(tc.Single(), plan.Undo{
		Run: FailedGateID, Touched: was.State.Touched(was.Proposal.Plan), Before: was.Proposal.Snapshot,
		Diagnosis: was.Proposal.Diagnosis, Now: s.at,
	})
	must(err)
	s.propose(plan.Auto, p)
	s.steps(len(p.Steps))
	s.end(run.Done, "", 0, "")
	return s.h
}

// Refused is a run on a cluster that no certificate would repair.
func Refused() run.History {
	s := begin(RefusedID, run.Entry{Kind: run.KindRun}, tc.Healthy(tc.Single(), tc.On("cp1", tc.Refused())))
	s.setProposal(plan.Auto, s.make(plan.Auto))
	f, _ := s.h.Proposal.Diagnosis.Primary()
	s.end(run.Failed, s.h.Proposal.Diagnosis.Verdict, 5, "nothing was changed. "+f.Next())
	return s.h
}

// outage is a cluster whose leaf certificates have all expired, with no API server running.
func outage(c cluster.Cluster) snapshot.Snapshot {
	s := tc.Healthy(c)
	for _, n := range s.Nodes {
		edits := []tc.NodeEdit{tc.Expired(tc.Kinds(n)...), aYearLong}
		if n.Is(cluster.ControlPlane) {
			edits = append(edits, tc.CrashLoop(), tc.Refused())
		}
		if n.Is(cluster.Etcd) { // no certificate is left to ask it with
			edits = append(edits, tc.NoQuorum)
		}
		tc.On(n.Name, edits...)(&s)
	}
	return s
}

// expiring is a working cluster whose administrator's certificate expires soon.
func expiring() snapshot.Snapshot {
	return tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin), aYearLong))
}

// broken is expiring after the renewal, without an API server.
func broken() snapshot.Snapshot {
	return tc.Healthy(tc.Single(), tc.On("cp1", tc.Renewed(certs.KindAdmin), tc.Refused()))
}

// aYearLong sets notBefore of leaf certificates that expire soon to a year before.
func aYearLong(n *snapshot.Node) {
	for i := range n.Certificates {
		if c := &n.Certificates[i]; !c.IsCA && c.NotAfter.Before(tc.Now.Add(30*tc.Day)) {
			c.NotBefore = c.NotAfter.Add(-365 * tc.Day)
		}
	}
}

// story records a history step by step.
type story struct {
	h   run.History
	at  time.Time
	now snapshot.Snapshot // the state of the nodes, at the time of package testcluster
}

// begin starts a run that has inspected the nodes.
func begin(id string, first run.Entry, now snapshot.Snapshot) *story {
	at, err := time.Parse("20060102T150405Z", strings.SplitN(id, "-", 2)[0])
	must(err)
	s := &story{at: at, now: now,
		h: run.History{Record: run.Record{ID: id, Path: "/home/op/.local/state/kscertctl/runs/" + id}}}
	first.Event = run.Begin
	s.entry(first)
	s.inspect(now, 3*time.Second)
	return s
}

func (s *story) plan() plan.Plan { return s.h.Proposal.Plan }

func (s *story) entry(e run.Entry) {
	e.V, e.Run, e.Seq, e.Time = run.JournalSchema, s.h.ID, len(s.h.Entries)+1, s.at
	s.h.Entries = append(s.h.Entries, e)
}

// inspect takes a snapshot of the current state, and lets some time pass.
func (s *story) inspect(now snapshot.Snapshot, took time.Duration) {
	data, err := json.Marshal(now)
	must(err)
	var seen snapshot.Snapshot // a copy, since the state changes later
	must(json.Unmarshal(data, &seen))
	tc.Later(s.at.Sub(seen.Taken))(&seen)
	s.h.Looks, s.h.Snapshots = append(s.h.Looks, seen.Taken), append(s.h.Snapshots, seen)
	s.at = s.at.Add(took)
}

// last is the last snapshot.
func (s *story) last() snapshot.Snapshot { return s.h.Snapshots[len(s.h.Snapshots)-1] }

// make plans for the last snapshot.
func (s *story) make(choice plan.Choice) plan.Plan {
	p, err := plan.Make(s.last().Cluster(), s.last(), diagnosis.Diagnose(s.last(), diagnosis.DefaultThresholds()),
		plan.Policy{Choice: choice})
	must(err)
	return p
}

// request plans with options, and has the plan approved.
func (s *story) request(choice plan.Choice) { s.propose(choice, s.make(choice)) }

func (s *story) setProposal(choice plan.Choice, p plan.Plan) {
	s.h.Proposal = &run.Proposal{
		Schema: run.ProposalSchema, Made: s.at, Cluster: strings.Repeat("ab12cd34", 8), Plan: p, Snapshot: s.last(),
		Diagnosis: diagnosis.Diagnose(s.last(), diagnosis.DefaultThresholds()),
		Request: run.Request{
			Schema: run.RequestSchema, Dir: "/home/op", Inventories: []string{"/home/op/inventory.ini"},
			WithheldVars: 1, Playbook: choice,
			Thresholds: diagnosis.DefaultThresholds(), GateTimeout: 5 * time.Minute,
			BackupRoot: "/var/backups/kscertctl",
		},
	}
}

func (s *story) propose(choice plan.Choice, p plan.Plan) {
	s.setProposal(choice, p)
	s.at = s.at.Add(9 * time.Second) // reading takes time
	s.entry(run.Entry{Event: run.Requested})
	lock := plan.Step{ID: run.StepLock, Nodes: []string{"cp1"}}
	s.intent(lock)
	s.at = s.at.Add(2 * time.Second)
	s.outcome(lock, run.Done, "")
	s.inspect(s.now, 3*time.Second) // checks whether the plan is still valid
}

// steps runs the first n steps of the plan.
func (s *story) steps(n int) {
	for _, step := range s.plan().Steps[:n] {
		s.intent(step)
		s.do(step)
		s.outcome(step, run.Done, "")
	}
}

// do runs a step with its effect and duration.
func (s *story) do(step plan.Step) {
	took := map[plan.Action]time.Duration{
		plan.Backup: 6 * time.Second, plan.PrePhase: 24 * time.Second, plan.Renew: 15 * time.Second,
		plan.KubeletBootstrap: 21 * time.Second, plan.RestoreBackup: 11 * time.Second,
	}
	switch step.Action {
	case plan.Backup:
		for i, node := range step.Nodes {
			s.h.Backups = append(s.h.Backups, run.Backup{
				Node: node, Run: s.h.ID, State: run.BackupMade, Made: s.at.Add(4 * time.Second), Entries: 41 - i,
				KiB: int64(812 - i), EtcdBytes: int64(2 << 20),
				Manifest: strings.Repeat(fmt.Sprintf("%02x", 160+i), 32),
			})
		}
	case plan.RestoreBackup:
		s.now = expiring()
	case "":
		s.inspect(s.now, 5*time.Second)
	default:
		s.now = s.renewed(step.Nodes)
	}
	s.at = s.at.Add(took[step.Action])
}

// renewed gives the named nodes new certificates and makes them work again.
func (s *story) renewed(names []string) snapshot.Snapshot {
	out := tc.Healthy(s.now.Cluster())
	for i, n := range out.Nodes {
		switch was, _ := s.now.Node(n.Name); {
		case slices.Contains(names, n.Name):
			tc.Renewed(tc.Kinds(n)...)(&out.Nodes[i])
			serveFiles(&out.Nodes[i])
		default:
			out.Nodes[i] = was
		}
	}
	return out
}

// serveFiles makes every port serve the current files.
func serveFiles(n *snapshot.Node) {
	for component, kind := range map[string]certs.Kind{"kube-apiserver": certs.KindAPIServer,
		"etcd": certs.KindEtcdMember, "etcd-peer": certs.KindEtcdMember} {
		file, ok := n.Certificate(kind)
		if !ok {
			continue
		}
		tc.Serving(component, kind)(n)
		for i := range n.Certificates {
			if c := &n.Certificates[i]; c.Served && string(c.Kind) == component {
				c.NotBefore, c.NotAfter, c.Fingerprint = file.NotBefore, file.NotAfter, file.Fingerprint
			}
		}
	}
	for i := range n.Processes {
		n.Processes[i].Started = tc.Now.Add(time.Second)
	}
}

func (s *story) intent(step plan.Step) {
	s.entry(run.Entry{Event: run.Intent, Step: step.ID, Nodes: step.Nodes})
}

func (s *story) outcome(step plan.Step, r run.Result, detail string) {
	s.entry(run.Entry{Event: run.Outcome, Step: step.ID, Nodes: step.Nodes, Outcome: r, Detail: detail})
}

// end releases the lock, if there is one, and finishes the run.
func (s *story) end(r run.Result, detail string, code int, next string) {
	if slices.ContainsFunc(s.h.Entries, func(e run.Entry) bool { return e.Step == run.StepLock }) {
		unlock := plan.Step{ID: run.StepUnlock, Nodes: []string{"cp1"}}
		s.intent(unlock)
		s.at = s.at.Add(time.Second)
		s.outcome(unlock, run.Done, "")
	}
	s.entry(run.Entry{Event: run.End, Outcome: r, Detail: detail})
	s.h.Exit = &run.Exit{Schema: run.ExitSchema, Seq: len(s.h.Entries), Code: code, Next: next}
	s.close()
}

// close derives the state of the run from the journal.
func (s *story) close() run.History {
	s.h.State = run.Journal{Entries: s.h.Entries}.State()
	return s.h
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
