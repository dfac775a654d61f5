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

// Plan looks at every node and says what Run would do, with all that it rests on;
// it changes nothing. Route and Steps of the plan are empty or without steps when
// there is nothing to do. The error is of type *Error, also when no way can be
// taken; the proposal then holds the diagnosis that says why.
func (o *Orchestrator) Plan(ctx context.Context) (p run.Proposal, err error) {
	s, err := o.begin(ctx, run.Entry{Kind: run.KindLook})
	if err != nil {
		return p, err
	}
	var r Result
	defer s.finish(&r, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	return s.propose(soft, &r)
}

// Run diagnoses, plans, asks for approval, carries the plan out and proves the
// result. When there is nothing to do it does nothing and succeeds.
//
// When ctx ends, everything is stopped at once; when the channel of WithStop is closed, the
// step that changes nodes is finished first. The error is of type *Error. The
// Result is filled as far as the run came.
func (o *Orchestrator) Run(ctx context.Context) (Result, error) {
	r, err := o.run(ctx)
	return o.ended(o.rollBackIfAsked(ctx, r, err))
}

func (o *Orchestrator) run(ctx context.Context) (r Result, err error) {
	if err := o.refreshable(nil); err != nil {
		return r, err
	}
	s, err := o.begin(ctx, run.Entry{Kind: run.KindRun})
	if err != nil {
		return r, err
	}
	defer s.finish(&r, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	p, err := s.propose(soft, &r)
	if len(p.Snapshot.Nodes) > 0 { // what was refused is reported too
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

// Apply carries out a plan that Plan made, without asking again. How the nodes are
// reached, and whatever else commands, is that of the Orchestrator and not of the
// proposal, which may come from a file (Options.Follow). It refuses with ExitNotBegun
// when the plan does not follow from the options, and when the nodes are no longer what
// it was made for, naming node and file.
func (o *Orchestrator) Apply(ctx context.Context, p run.Proposal) (Result, error) {
	r, err := o.apply(ctx, p)
	return o.ended(o.rollBackIfAsked(ctx, r, err))
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

// own makes a proposal of the session's own from the snapshot of another: with its own
// request, and the plan that follows from it. The error is an *Error when that is
// another plan, or one for another checkout of Kubespray.
func (s *session) own(p run.Proposal) (run.Proposal, error) {
	steps, checkout := p.Plan.Steps, p.Request.Kubespray
	refuse := func(summary string, err error) (run.Proposal, error) {
		return p, &Error{Code: ExitNotBegun, Summary: summary, Err: err,
			Next: "nothing was changed; pass the flags that the plan was made with, or " + newPlan}
	}
	sum, err := hex.DecodeString(p.Cluster)
	if err != nil || len(sum) != sha256.Size { // locks are named by it, here and on a node
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

// sameStep reports whether two steps do the same; their words may differ.
func sameStep(a, b plan.Step) bool {
	a.Title, a.Why = b.Title, b.Why
	return reflect.DeepEqual(a, b)
}

// SamePlan reports whether two plans do the same; their words may differ.
func SamePlan(a, b plan.Plan) bool {
	return a.Route == b.Route && slices.EqualFunc(a.Steps, b.Steps, sameStep)
}

// saveProposal writes down what a resumed run and a report need.
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

// diskError explains a record that cannot be kept; nil stays nil.
func diskError(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
		Next: "nothing was changed; check the disk that holds --state-dir"}
}

// PlanFrom says what Plan would say by a policy of nodes that were looked at before: it
// asks none. The proposal cannot be applied: it does not say how the nodes are reached.
// The error is as that of Plan.
func PlanFrom(snap snapshot.Snapshot, due diagnosis.Thresholds, policy plan.Policy) (run.Proposal, error) {
	p := run.Proposal{Schema: run.ProposalSchema, Made: snap.Taken, Cluster: run.ClusterID(snap), Snapshot: snap,
		Diagnosis: diagnosis.Diagnose(snap, due)}
	p.Request.Limit, p.Request.SkipPhases, p.Request.UntilPhase = policy.Limit, policy.Skip, policy.Until
	p.Request.AllowNotInInventory = policy.AllowNotInInventory
	return p, plannable(&p, policy)
}

// plannable fills in the plan, or says why there is none.
func plannable(p *run.Proposal, policy plan.Policy) error {
	var err error
	p.Plan, err = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, policy)
	if unknown := selectionError(err); unknown != nil {
		return unknown
	}
	if refused := refusal(p.Diagnosis, p.Plan, err == nil); refused != nil {
		return refused
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

// selectionError explains what is named and there is none of; nil for any other error.
func selectionError(err error) error {
	if unknown, ok := errors.AsType[*plan.SelectionError](err); ok {
		return &Error{Code: ExitUsage, Summary: err.Error(), Err: err, Next: unknown.Next}
	}
	return nil
}

// propose looks at the nodes and plans. The result holds what was seen.
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
	r.Before, r.After, r.Snapshot = p.Diagnosis, p.Diagnosis, p.Snapshot
	s.tell(Event{Kind: EventDiagnosis, Diagnosis: &p.Diagnosis})
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

// rollBackIfAsked rolls a run back that stopped after a change, where that was asked for.
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
