package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Plan inspects every node and returns what Run would do, with everything that it is based on; it
// changes nothing. Route and Steps of the plan are empty or without steps if there is nothing to
// do. The error is of type *Error, also if no route can be taken; the proposal then holds the
// diagnosis that explains it.
func (o *Orchestrator) Plan(ctx context.Context) (p run.Proposal, err error) {
	if err := o.opts.renewable(); err != nil {
		return p, err
	}
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	s, err := o.beginInspecting(ctx, soft, run.Entry{Kind: run.KindLook})
	if err != nil {
		return p, err
	}
	var r Result
	defer s.finish(&r, &err)
	return s.propose(soft, &r)
}

// Run diagnoses, plans, asks for approval, carries the plan out and proves the result. If there is
// nothing to do it does nothing and succeeds.
//
// When ctx is done, everything is stopped at once; when the channel of WithStop is closed, the step
// that changes nodes is finished first. The error is of type *Error. The Result is filled as far as
// the run got.
func (o *Orchestrator) Run(ctx context.Context) (Result, error) {
	r, err := o.run(ctx)
	return o.recordExit(o.rollBackIfAsked(ctx, r, err))
}

func (o *Orchestrator) run(ctx context.Context) (r Result, err error) {
	if err := o.opts.renewable(); err != nil {
		return r, err
	}
	if err := o.refreshable(nil); err != nil {
		return r, err
	}
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	s, err := o.beginInspecting(ctx, soft, run.Entry{Kind: run.KindRun})
	if err != nil {
		return r, err
	}
	defer s.finish(&r, &err)
	p, err := s.propose(soft, &r)
	if len(p.Snapshot.Nodes) > 0 { // a refusal is reported, too
		if kerr := s.saveProposal(p); err == nil {
			err = kerr
		}
	}
	if err == nil {
		err = s.refreshable(&p.Snapshot)
	}
	if err != nil {
		return r, err
	}
	if len(p.Plan.Steps) == 0 {
		return r, s.finishHere(soft, p.Snapshot, &r)
	}
	for _, path := range o.opts.RefreshKubeconfigs { // it may be set elsewhere, and is no step
		s.tell(Event{Kind: EventNotice,
			Message: "at the end, " + path +
				" on this machine gets the client certificate and key of an administrator from a control plane"})
	}
	if err := s.approve(soft, Proposal{Snapshot: p.Snapshot, Diagnosis: p.Diagnosis, Plan: p.Plan}); err != nil {
		return r, err
	}
	return r, s.launch(ctx, work{Proposal: p}, &r)
}

// Apply carries out a plan that Plan made, without asking again. The connection to the nodes, and
// everything else that can run commands, is that of the Orchestrator and not of the proposal, which
// may come from a file (Options.Follow). It refuses with ExitNotBegun if the plan does not follow
// from the options, or if the nodes have changed since, naming node and file.
func (o *Orchestrator) Apply(ctx context.Context, p run.Proposal) (Result, error) {
	r, err := o.apply(ctx, p)
	return o.recordExit(o.rollBackIfAsked(ctx, r, err))
}

func (o *Orchestrator) apply(ctx context.Context, p run.Proposal) (r Result, err error) {
	s, err := o.begin(ctx, run.Entry{Kind: run.KindRun})
	if err != nil {
		return r, err
	}
	defer s.finish(&r, &err)
	if p, err = s.own(p); err != nil {
		return r, err
	}
	r.Before, r.After, r.Snapshot, r.Plan = p.Diagnosis, p.Diagnosis, p.Snapshot, p.Plan
	s.tell(Event{Kind: EventDiagnosis, Diagnosis: &p.Diagnosis})
	s.tell(Event{Kind: EventPlan, Plan: &p.Plan})
	if err := s.saveProposal(p); err != nil || len(p.Plan.Steps) == 0 {
		return r, err
	}
	return r, s.launch(ctx, work{Proposal: p}, &r)
}

// own makes the session's own proposal from the snapshot of another: with its own request, and the
// plan that follows from it. The error is an *Error if that is a different plan, or one for another
// checkout of Kubespray.
func (s *session) own(p run.Proposal) (run.Proposal, error) {
	steps, checkout := p.Plan.Steps, p.Request.Kubespray
	refuse := func(summary string, err error) (run.Proposal, error) {
		return p, &Error{Code: ExitNotBegun, Summary: summary, Err: err,
			Next: "nothing was changed; pass the flags that the plan was made with, or " + newPlan}
	}
	sum, err := hex.DecodeString(p.Cluster)
	if err != nil || len(sum) != sha256.Size { // it is part of the names of locks, here and on a node
		return refuse("the plan does not identify its cluster by a SHA-256", err)
	}
	if p.Request, err = s.request(); err != nil {
		return refuse(err.Error(), err)
	}
	p.Request.Kubespray = s.kubespray
	if was, is := release(checkout), release(s.kubespray); was != is {
		return refuse(fmt.Sprintf("the plan was made with %q, and this is %q", was, is), nil)
	}
	p.Diagnosis = diagnosis.Diagnose(p.Snapshot, p.Request.Thresholds)
	p.Plan, err = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, p.Request.Policy())
	if err != nil || !slices.EqualFunc(p.Plan.Steps, steps, sameStep) {
		return refuse("the plan does not follow from its snapshot with the settings of this command", err)
	}
	return p, nil
}

// release names a checkout of Kubespray by its release.
func release(k *plan.Kubespray) string {
	if k == nil {
		return "no Kubespray checkout"
	}
	return "Kubespray " + k.Release
}

// sameStep reports whether two steps do the same; their texts may differ.
func sameStep(a, b plan.Step) bool {
	a.Title, a.Why = b.Title, b.Why
	return reflect.DeepEqual(a, b)
}

// SamePlan reports whether two plans do the same; their texts may differ.
func SamePlan(a, b plan.Plan) bool {
	return a.Route == b.Route && slices.EqualFunc(a.Steps, b.Steps, sameStep)
}

// saveProposal saves what resuming and reporting need.
func (s *session) saveProposal(p run.Proposal) error {
	return diskError(s.dir.SaveProposal(p))
}

// launch carries out what was approved.
func (s *session) launch(ctx context.Context, w work, r *Result) error {
	if err := diskError(s.dir.Record(run.Entry{Event: run.Requested})); err != nil {
		return err
	}
	return s.carryOut(ctx, w, r)
}

// diskError explains a record that cannot be written; nil stays nil.
func diskError(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
		Next: "nothing was changed; check the disk that holds --state-dir"}
}

// PlanFrom returns what Plan would return for an earlier snapshot and a policy: it asks no node.
// The proposal cannot be applied, because it has no connection to the nodes. The error is as that
// of Plan.
func PlanFrom(snap snapshot.Snapshot, due diagnosis.Thresholds, policy plan.Policy) (run.Proposal, error) {
	p := run.Proposal{Schema: run.ProposalSchema, Made: snap.Taken, Cluster: run.ClusterID(snap), Snapshot: snap,
		Diagnosis: diagnosis.Diagnose(snap, due)}
	p.Request.Limit, p.Request.SkipPhases, p.Request.UntilPhase = policy.Limit, policy.Skip, policy.Until
	p.Request.AllowNotInInventory = policy.AllowNotInInventory
	return p, plannable(&p, policy)
}

// plannable fills in the plan, or returns why there is none.
func plannable(p *run.Proposal, policy plan.Policy) error {
	var err error
	p.Plan, err = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, policy)
	if unknown := selectionError(err); unknown != nil {
		return unknown
	}
	if d, cannot := policy.Effective(p.Snapshot, p.Diagnosis); cannot == nil {
		if refused := refusal(d, p.Plan, err == nil); refused != nil {
			return refused
		}
	}
	if err == nil && len(p.Plan.Steps) > 0 && p.Cluster == "" {
		err = errors.New("no control plane has a CA certificate to identify the cluster by")
	}
	if err != nil {
		return &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "nothing was changed; what was found: kscertctl diagnose -i INVENTORY"}
	}
	return nil
}

// selectionError explains a name that does not exist; nil for any other error.
func selectionError(err error) error {
	if unknown, ok := errors.AsType[*plan.SelectionError](err); ok {
		return &Error{Code: ExitUsage, Summary: err.Error(), Err: err, Next: unknown.Next}
	}
	return nil
}

// propose inspects the nodes and plans. The result holds the snapshot.
func (s *session) propose(ctx context.Context, r *Result) (run.Proposal, error) {
	p := run.Proposal{Schema: run.ProposalSchema, Made: time.Now().UTC()}
	err := selectionError(s.policy().Check(s.cluster)) // before any node is asked
	if err != nil {
		return p, err
	}
	if p.Snapshot, p.Diagnosis, err = s.inspectUntilStarted(ctx); err != nil {
		return p, err
	}
	p.Cluster = run.ClusterID(p.Snapshot)
	d, err := s.opts.Policy().Effective(p.Snapshot, p.Diagnosis)
	if err != nil { // the plan explains it
		d = p.Diagnosis
	}
	r.Before, r.After, r.Snapshot = d, d, p.Snapshot
	s.tell(Event{Kind: EventDiagnosis, Diagnosis: &d})
	if p.Request, err = s.request(); err != nil {
		return p, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "nothing was changed; run the command in a directory that can be read"}
	}
	p.Request.Kubespray = s.kubespray
	if err := plannable(&p, p.Request.Policy()); err != nil {
		return p, err
	}
	r.Plan = p.Plan
	s.tell(Event{Kind: EventPlan, Plan: &p.Plan})
	for _, note := range s.heldHere(p.Snapshot) {
		s.tell(Event{Kind: EventNotice, Message: note})
	}
	return p, nil
}

func (s *session) approve(ctx context.Context, p Proposal) error {
	notApproved := &Error{Code: ExitNotApproved, Summary: "the plan was not approved",
		Next: "nothing was changed; approve with --yes, or on a terminal by typing yes"}
	if s.opts.Approve == nil {
		return notApproved
	}
	yes, err := s.opts.Approve(ctx, p)
	refused, isOurs := errors.AsType[*Error](err)
	switch {
	case ctx.Err() != nil:
		return &Error{Code: ExitInterrupted, Summary: "interrupted before any change", Err: context.Cause(ctx)}
	case isOurs:
		return refused
	case err != nil:
		return &Error{Code: ExitNotApproved, Summary: "the plan was not approved: " + err.Error(), Err: err,
			Next: notApproved.Next}
	case !yes:
		return notApproved
	}
	return nil
}

// rollBackIfAsked rolls a run back that stopped after a change, if that was requested.
func (o *Orchestrator) rollBackIfAsked(ctx context.Context, r Result, err error) (Result, error) {
	// A copy of a kubeconfig on this machine is no reason to undo what was proved.
	if _, copied := errors.AsType[*KubeconfigError](err); !o.opts.RollbackOnFailure || Code(err) != ExitStopped ||
		copied {
		return r, err
	}
	back := *o
	back.opts.Approve = func(_ context.Context, p Proposal) (bool, error) { return true, p.Unseen() }
	undone, berr := back.Rollback(ctx, r.RunID, nil)
	if Code(berr) == ExitNotApproved {
		return r, &Error{Code: ExitStopped, Summary: fmt.Sprintf("%v; it was not rolled back: %v", err, berr), Err: err,
			Next: "check what was changed, then: " + o.command("rollback "+r.RunID)}
	}
	if berr != nil {
		return r, &Error{Code: ExitStopped, Summary: fmt.Sprintf("%v; the rollback failed: %v", err, berr), Err: err,
			Next: "resume the rollback: " + o.command("resume", undone.RunID)}
	}
	r.After, r.Snapshot = undone.After, undone.Snapshot
	return r, &Error{Code: ExitRolledBack, Summary: fmt.Sprintf("%v; run %s has rolled it back", err, undone.RunID),
		Err: err,
		Next: "the nodes are as they were: " + verdict(undone.After) + "; why the run failed: " +
			o.command("report", r.RunID)}
}

func verdict(d diagnosis.Diagnosis) string {
	if d.Verdict == "" {
		return "they were not inspected again"
	}
	return d.Verdict
}
