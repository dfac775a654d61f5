package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// errStop is the cause when work was asked to stop gracefully.
var errStop = fmt.Errorf("a stop was requested: %w", context.Canceled)

// stoppable returns a context that is done with ctx, and also when the channel of WithStop is
// closed: for work that may stop at any moment.
func (o *Orchestrator) stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	soft, cancel := context.WithCancelCause(ctx)
	if o.opts.Stop != nil {
		go func() {
			select {
			case <-o.opts.Stop:
				cancel(errStop)
			case <-soft.Done():
			}
		}()
	}
	return soft, func() { cancel(nil) }
}

// finish finishes the work on a run: it fills the result, sends the last event and records it.
func (s *session) finish(r *Result, err *error) {
	defer s.close()
	r.Schema, r.RunID, r.Dir, r.Seconds = ResultSchema, s.dir.ID, s.dir.Path, time.Since(s.start).Seconds()
	end := run.Entry{Event: run.End, Outcome: result(*err)}
	if *err != nil {
		end.Detail = (*err).Error()
	}
	release := s.release
	if release == nil {
		release = func(end func() error) error { return end() }
	}
	jerr := release(func() error { return s.dir.Record(end) })
	s.tell(Event{Kind: EventEnd, Status: string(end.Outcome), Message: end.Detail, Seconds: r.Seconds})
	if jerr != nil && *err == nil {
		*err = &Error{Code: ExitUnexpected, Summary: jerr.Error(), Err: jerr,
			Next: "check the disk that holds --state-dir"}
	}
}

// result is the journal's form of an error.
func result(err error) run.Result {
	switch {
	case err == nil:
		return run.Done
	case Code(err) == ExitInterrupted, interrupted(err):
		return run.Interrupted
	default:
		return run.Failed
	}
}

// recordStep does something between an intent and an outcome in the journal.
func (s *session) recordStep(step string, nodes []string, do func() error) error {
	if err := s.dir.Record(run.Entry{Event: run.Intent, Step: step, Nodes: nodes}); err != nil {
		return err
	}
	err := do()
	outcome := run.Entry{Event: run.Outcome, Step: step, Nodes: nodes, Outcome: result(err)}
	if err != nil {
		outcome.Detail = err.Error()
	}
	if jerr := s.dir.Record(outcome); jerr != nil && err == nil {
		err = jerr
	}
	return err
}

// work is a plan that is carried out.
type work struct {
	run.Proposal
	// state is how far the run got before.
	state run.State
	// replaces is the run whose lock is replaced, because its owner is dead.
	replaces string
	// recalled: its record comes from another machine, so that its owner may live.
	recalled bool
	// recalledNow: the copies on control planes have been compared.
	recalledNow bool
}

// carryOut locks the cluster, checks that it still is what the plan was made for, and takes the
// steps that are not done. The error is an *Error.
func (s *session) carryOut(ctx context.Context, w work, r *Result) error {
	soft, cancel := s.stoppable(ctx)
	defer cancel()
	r.Plan = w.Plan
	if err := s.keep(w); err != nil {
		return err
	}
	h, err := s.lock(ctx, w)
	if err != nil {
		return err
	}
	s.release = func(end func() error) error { return h.release(ctx, end) }
	if w.Plan.Undoes == "" {
		if err := s.refreshable(&w.Snapshot); err != nil {
			return err
		}
	}
	snap, err := s.sameCluster(soft, w)
	if err != nil {
		return err
	}
	if len(w.state.Order) > 0 {
		// It may have been continued elsewhere: that is noticed before anything is begun.
		if err := s.keepNow(ctx); err != nil {
			return s.stepError(err, plan.Step{ID: run.StepLock}, false)
		}
	}
	if w.recalled && w.Plan.Undoes == "" {
		if err := s.provenAuthorities(snap); err != nil {
			return err
		}
	}
	// The current state counts: a timer may have been switched on since the plan was made.
	letGo, err := s.holdTimers(soft, snap)
	if err != nil {
		return err
	}
	if letGo != nil {
		s.release = func(end func() error) error { letGo(ctx); return h.release(ctx, end) }
		if snap, err = s.inspect(soft); err != nil { // it may have fired before it was held
			return err
		}
	}
	changed := len(w.state.Touched(w.Plan)) > 0
	if err := s.checkNodes(soft, w, snap, changed); err != nil {
		return err
	}
	r.Backups = s.backups()
	var last *snapshot.Snapshot // of the previous step, if that was a gate
	for _, step := range w.Plan.Steps[w.state.Next(w.Plan):] {
		if err := s.mayGoOn(soft, h, step, changed); err != nil {
			return err
		}
		changed = changed || step.Alters()
		snap, err := s.step(ctx, soft, step, w, last)
		if err != nil {
			var late *StepTimeoutError
			if step.Changes && (ctx.Err() != nil || errors.As(err, &late)) {
				s.release = func(end func() error) error { h.abandon(); return end() } // a command may still run there
			}
			return s.stepError(err, step, changed)
		}
		last = nil
		if step.Gate != "" {
			r.Snapshot, last = snap, &snap
		}
	}
	all := cluster.Names(s.cluster.Nodes)
	if len(w.Plan.Steps) > 0 && (last == nil || !s.covers(all)) { // also if every step was done before
		if r.Snapshot, err = s.inspect(soft); err != nil {
			return err
		}
	}
	r.After = diagnosis.Diagnose(r.Snapshot, s.opts.Thresholds)
	if w.Plan.Undoes != "" {
		return nil
	}
	return s.finishHere(soft, w.Snapshot, r)
}

// finishHere does the work on this machine once the nodes are in the planned state, and collects
// notes. The error is an *Error.
func (s *session) finishHere(ctx context.Context, before snapshot.Snapshot, r *Result) error {
	var done []string
	var err error
	if proven(r.Plan) {
		done, err = s.refresh(ctx, before, r.Snapshot, len(r.Plan.Steps) > 0)
	} else {
		for _, path := range s.opts.RefreshKubeconfigs {
			done = append(done, path+" was not updated: the plan omits the proof of the result")
		}
	}
	r.Notes = slices.Concat(done, s.notes(before, r.Snapshot, r.After))
	if err == nil && len(r.Notes) > 0 {
		if err = s.dir.SaveNotes(r.Notes); err != nil {
			return &Error{Code: ExitUnexpected, Summary: err.Error(), Err: err,
				Next: "the nodes are as they should be; check the disk that holds --state-dir"}
		}
	}
	return err
}

// proven reports whether a plan that was carried out ends with the proof of its result, or had
// nothing to do.
func proven(p plan.Plan) bool {
	return len(p.Steps) == 0 || p.Steps[len(p.Steps)-1].Gate == plan.ClusterGate
}

// mayGoOn returns why the next step must not be begun; nil if it may.
func (s *session) mayGoOn(soft context.Context, h *hold, step plan.Step, changed bool) error {
	select {
	case <-h.lost:
		return s.stepError(errors.New("another run has taken the lock of the cluster"), step, changed)
	default:
	}
	if soft.Err() != nil {
		e := s.stepError(context.Cause(soft), step, changed)
		e.Summary = "stopped gracefully before step " + step.ID
		return e
	}
	return nil
}

// sameCluster inspects the nodes again, now that no other run works on them, and refuses those of
// another cluster.
func (s *session) sameCluster(ctx context.Context, w work) (snapshot.Snapshot, error) {
	snap, _, err := s.inspectUntilStarted(ctx)
	if err != nil {
		return snap, err
	}
	if !w.Is(snap) {
		return snap, &Error{Code: ExitNotBegun,
			Summary:  "this is not the cluster that the plan was made for: its CA differs",
			Evidence: fmt.Sprintf("SHA-256 was %s, is %s", w.Cluster, run.ClusterID(snap)),
			Next: "nothing was changed; name the inventory of the cluster that the plan was made for with " +
				"--inventory (-i)"}
	}
	return snap, nil
}

// checkNodes returns why the plan must not be carried out on the nodes as they were just seen.
func (s *session) checkNodes(ctx context.Context, w work, snap snapshot.Snapshot, changed bool) error {
	snap, err := s.waitUntilIdle(ctx, snap)
	if err != nil {
		return err
	}
	if w.Plan.Undoes == "" && !changed {
		return s.refuseDrift(w, snap)
	}
	if err := s.reachable(w, snap); err != nil {
		return err
	}
	return s.verified(ctx, w)
}

// workTime is how long leftovers of an earlier run on the nodes may take to finish: longer than a
// script waits for a component (kscert_wait_seconds, 240). workPause is the time between two
// inspections.
const (
	workTime  = 5 * time.Minute
	workPause = 2 * time.Second
)

// waitUntilIdle waits until nothing is running on a node that may be changing it: a command of a
// killed run can outlive its kscertctl, and others may work there. It returns the last snapshot.
func (s *session) waitUntilIdle(ctx context.Context, snap snapshot.Snapshot) (snapshot.Snapshot, error) {
	deadline := time.Now().Add(workTime)
	for stated := ""; ; {
		work := atWork(snap)
		if len(work) == 0 {
			return snap, nil
		}
		if time.Now().After(deadline) {
			return snap, &Error{Code: ExitNotBegun,
				Summary:  fmt.Sprintf("a process has been running on a node for %s: %s", workTime, work[0]),
				Evidence: strings.Join(work, "\n"),
				Next: "nothing was changed now; wait for it, or see there what it is (systemctl status PID) and " +
					"stop it, then run the command again"}
		}
		if work[0] != stated {
			stated = work[0]
			s.tell(Event{Kind: EventNotice, Message: "waiting for processes on the nodes to finish: " + stated})
		}
		select {
		case <-time.After(workPause):
		case <-ctx.Done(): // the next inspection reports it
		}
		var err error
		if snap, err = s.inspect(ctx); err != nil {
			return snap, err
		}
	}
}

// atWork names the processes that may be changing a node.
func atWork(snap snapshot.Snapshot) []string {
	var out []string
	for _, n := range snap.Nodes {
		for _, w := range n.Work {
			out = append(out, fmt.Sprintf("%s: process %d, %s", n.Name, w.PID, strings.TrimSpace(w.What)))
		}
	}
	return out
}

// refuseDrift refuses a plan if the nodes have changed since it was made.
func (s *session) refuseDrift(w work, snap snapshot.Snapshot) error {
	d := diagnosis.Diagnose(snap, s.opts.Thresholds)
	if drift := Drift(w.Snapshot, snap); len(drift) > 0 {
		return drifted(drift)
	}
	policy := w.Request.Policy()
	policy.AllowNotInInventory = slices.Concat(policy.AllowNotInInventory,
		s.opts.AllowNotInInventory) // what is noticed now
	again, err := plan.Make(s.cluster, snap, d, policy)
	if d, cannot := policy.Effective(snap, d); cannot == nil {
		if refused := refusal(d, again, err == nil); refused != nil {
			return refused
		}
	}
	if err != nil || !slices.EqualFunc(again.Steps, w.Plan.Steps, sameStep) {
		why := d.Verdict
		if err != nil {
			why = err.Error()
		}
		return &Error{Code: ExitNotBegun, Err: err,
			Summary: "the required steps have changed since the plan was made: " + why,
			Next:    "nothing was changed; " + newPlan}
	}
	return nil
}

// newPlan is the next step if the nodes have changed since a plan was made.
const newPlan = "make a new plan: kscertctl plan -i INVENTORY"

// drifted is the error that lists what has changed since the plan was made.
func drifted(drift []Difference) *Error {
	lines := make([]string, len(drift))
	for i, d := range drift {
		lines[i] = d.String()
	}
	summary := drift[0].String()
	if more := len(drift) - 1; more > 0 {
		summary += fmt.Sprintf(", and %d more", more)
	}
	return &Error{Code: ExitNotBegun, Summary: "since the plan was made, the nodes have changed: " + summary,
		Evidence: strings.Join(lines, "\n"), Next: "nothing was changed; " + newPlan}
}

// reachable refuses to begin if a node of a remaining step cannot be inspected.
func (s *session) reachable(w work, snap snapshot.Snapshot) error {
	for _, step := range w.Plan.Steps[w.state.Next(w.Plan):] {
		for _, name := range step.Nodes {
			n, _ := snap.Node(name)
			if n.Failure == nil {
				continue
			}
			e := &Error{Code: ExitNotBegun,
				Summary:  fmt.Sprintf("cannot inspect %s, which step %s works on", name, step.ID),
				Evidence: n.Failure.Message,
				Next:     "nothing was changed now; to see why: " + s.command("diagnose", "-i", "INVENTORY")}
			if n.Failure.Kind == snapshot.Unreachable {
				e.Code = ExitUnreachable
			}
			return e
		}
	}
	return nil
}

// step carries out one step, with its intent and its outcome in the journal. For a gate it returns
// the snapshot that satisfied it, the last one if that does. A gate stops with soft, a step that
// changes nodes only with ctx.
func (s *session) step(ctx, soft context.Context, step plan.Step, w work,
	last *snapshot.Snapshot) (snap snapshot.Snapshot, err error) {
	start := time.Now()
	s.tell(Event{Kind: EventStepBegin, Step: &step})
	during := ctx
	if step.Gate != "" {
		during = soft
	}
	take := func() error {
		if step.Gate == "" {
			defer s.warnOfWait(soft, step)()
			return s.play(during, step, w)
		}
		check := gate.Check{Gate: step.Gate, Nodes: step.Nodes, Before: w.Snapshot, Thresholds: s.opts.Thresholds,
			StableFor: s.opts.StableFor, Rollback: w.Plan.Undoes != "", Refused: s.refused}
		if err := s.mayChange(w, step, &check); err != nil {
			return err
		}
		asks := check.Asks(s.cluster)
		if last != nil && s.covers(asks) && s.opts.StableFor == 0 && len(s.opts.Hooks) == 0 &&
			len(check.Evaluate(*last)) == 0 {
			snap = *last // nothing was done since
			s.tell(Event{Kind: EventGate, Step: &step})
			return nil
		}
		var err error
		take := func(ctx context.Context) (snapshot.Snapshot, error) { return s.inspectNodes(ctx, asks) }
		snap, err = check.Wait(during, s.opts.GateTimeout, gatePause, take, func(unmet []gate.Unmet) {
			s.tell(Event{Kind: EventGate, Step: &step, Unmet: unmet})
		})
		return err
	}
	err = s.recordStep(step.ID, step.Nodes, func() error {
		if w.Plan.Undoes != "" {
			return take()
		}
		return s.hooked(during, step, take)
	})
	end := Event{Kind: EventStepEnd, Step: &step, Status: string(result(err)), Seconds: time.Since(start).Seconds()}
	if err != nil {
		end.Message = err.Error()
	}
	s.tell(end)
	return snap, err
}

// play runs the playbook of a step.
func (s *session) play(ctx context.Context, step plan.Step, w work) error {
	late := &StepTimeoutError{Timeout: s.stepTimeout(step)}
	ctx, cancel := context.WithTimeoutCause(ctx, late.Timeout, late)
	defer cancel()
	p := s.playbook(step.ID, step.Action.Playbook(), step.Nodes)
	settings := s.opts.settings(s.dir.ID)
	settings.Snapshot = s.latest
	p.Vars = step.Variables(settings)
	p.Many = step.Action.Row().Many
	if step.Together() {
		p.Together = len(step.Nodes)
	}
	if len(w.Plan.Authorities()) > 0 {
		p.Vars["kscert_ca_renewal"] = "yes"
	}
	switch {
	case step.Action == plan.CAIssue:
		if done, err := s.issued(step); err != nil || done {
			return err
		}
	case step.Action == plan.CARenew:
		renewed, err := s.newAuthorities(step)
		if err != nil {
			return err
		}
		p.Vars["kscert_ca_certificates"] = renewed
	case step.Playbook != "":
		if err := s.keepNow(ctx); err != nil {
			return err
		}
		s.theirs(&p, step)
	case step.Action == plan.RestoreBackup:
		manifests, err := run.LoadManifests(s.opts.StateDir, w.Plan.Undoes)
		if err != nil {
			return err
		}
		p.Vars["kscert_restore_run"], p.Vars["kscert_restore_manifests"] = w.Plan.Undoes, manifests
	}
	var progress ansible.Progress
	if step.Playbook != "" {
		progress.Plays = s.plays
	} else if err := s.keeps(ctx, &p); err != nil {
		return err
	}
	outcome, err := s.runner.Run(ctx, p, func(e ansible.Event) {
		done, total := progress.Add(e)
		switch {
		case e.Task == nil:
		case e.Event == "task_start":
			late.Doing = strings.TrimSpace(fmt.Sprintf("task %q %s", e.Task.Name, e.Task.Path))
			s.tell(Event{Kind: EventTaskBegin, Step: &step, Task: e.Task.Name, Done: done, Total: total})
		case e.Event == "result" && e.Status != "skipped":
			s.tell(Event{Kind: EventTask, Step: &step, Node: e.Host, Task: e.Task.Name, Status: e.Status,
				Seconds: e.Seconds})
		}
	})
	if ahead := s.heard(&step, outcome); ahead != nil {
		return ahead
	}
	if err == nil && step.Action == plan.Backup {
		err = s.noteBackups(step, outcome)
	}
	if err == nil && step.Action == plan.CAIssue {
		err = s.noteAuthorities(step, w.Snapshot, outcome)
	}
	return err
}

// heard passes on what nodes print for the operator: those of a step, the control plane that approves
// for them, and those that keep the record. The error is that of keptBy.
func (s *session) heard(step *plan.Step, outcome ansible.Outcome) error {
	for _, node := range slices.Sorted(maps.Keys(outcome.Answers)) {
		s.refused[node] = append(s.refused[node], refusedFiles(outcome.Answers[node])...)
		for _, what := range toBeKnown(node, outcome.Answers[node]) {
			s.left = append(s.left, what)
			s.tell(Event{Kind: EventNotice, Step: step, Message: what})
		}
	}
	for _, node := range slices.Sorted(maps.Keys(outcome.Unread)) {
		s.tell(Event{Kind: EventNotice, Step: step,
			Message: fmt.Sprintf("the output of %s could not be read: %v", node, outcome.Unread[node])})
	}
	return s.keptBy(outcome)
}

// Bounds of what is shown of a node, which may print any number of lines.
const (
	maxKnown       = 50  // lines of a playbook
	maxKnownLength = 500 // characters
)

// toBeKnown is what the playbooks report of a node that the operator has to know: what they
// have left alone, and why, and what a new certificate has lost.
func toBeKnown(node string, answers []string) (out []string) {
	more := 0
	for _, answer := range answers {
		for line := range strings.Lines(answer) {
			kind, what, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch kind {
			case "left":
				what = "left unchanged: " + what
			case "refused", "noted":
				what = node + ": " + what
			default:
				continue
			}
			if len(out) == maxKnown {
				more++
				continue
			}
			out = append(out, fmt.Sprintf("%.*s", maxKnownLength, snapshot.RedactText(what)))
		}
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("%s: %d more lines of this kind, in Ansible's events of the run", node, more))
	}
	return out
}

// refusedFiles are the files that the playbooks have refused to change (lib.sh, refuse).
func refusedFiles(answers []string) (files []string) {
	for _, answer := range answers {
		for line := range strings.Lines(answer) {
			what, ok := strings.CutPrefix(line, "refused: ")
			if file, _, found := strings.Cut(what, " stays as it is: "); ok && found {
				files = append(files, file)
			}
		}
	}
	return files
}

// backupsIn is a node's report of its backups.
func backupsIn(o ansible.Outcome, node string) ([]run.Backup, error) {
	answer, err := o.Payload(node)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", node, err)
	}
	return run.ParseBackups(node, []byte(answer))
}

// noteBackups records the digests of backups, so that a later change on a node is detected. What a
// backup lacks is reported, a line for each node.
func (s *session) noteBackups(step plan.Step, o ansible.Outcome) error {
	var all []run.Backup
	for _, node := range step.Nodes {
		backups, err := backupsIn(o, node)
		if err != nil {
			return fmt.Errorf("the backup was not confirmed: %w", err)
		}
		if len(backups) > 0 && len(backups[0].Notes) > 0 {
			s.tell(Event{Kind: EventNotice, Step: &step,
				Message: node + ": " + snapshot.RedactText(backups[0].Notes[0])})
		}
		all = append(all, backups...)
	}
	return s.dir.SaveBackups(all)
}
