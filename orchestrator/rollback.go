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
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// Rollback restores the state from before a run, on all nodes that it changed or on some of them.
// It is a run of its own: it asks for approval, backs up the current state first, and can be
// resumed and rolled back. What others have changed since the run is in the plan's warnings, and in
// the Proposal that Approve is asked about. Before the first change all backups are verified; one
// that is missing or was changed is refused with ExitNotBegun, naming the file.
func (o *Orchestrator) Rollback(ctx context.Context, id string, nodes []string) (Result, error) {
	return o.recordExit(o.rollback(ctx, id, nodes))
}

func (o *Orchestrator) rollback(ctx context.Context, id string, nodes []string) (r Result, err error) {
	of, journal, err := run.Open(o.opts.StateDir, id)
	if err != nil {
		return r, recordError(err)
	}
	defer func() { _ = of.Close() }() // no one resumes it meanwhile
	was, err := run.LoadProposal(o.opts.StateDir, id)
	state := journal.State()
	if !state.Requested {
		err = fmt.Errorf("run %s was not approved, so there is nothing to roll back", id)
	}
	if err != nil {
		return r, recordError(err)
	}
	s, err := o.withoutCheckout().begin(ctx, run.Entry{Kind: run.KindRollback, Of: id})
	if err != nil {
		return r, err
	}
	defer s.finish(&r, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	now, err := s.inspect(soft)
	if err != nil {
		return r, err
	}
	if !was.Plan.ReplacesAtOnce() { // which gives every node its files back
		if err := otherKey(id, was.Snapshot, now); err != nil {
			return r, err
		}
	}
	if err := laterStage(id, was.Plan, now); err != nil {
		return r, err
	}
	d := diagnosis.Diagnose(now, o.opts.Thresholds)
	r.Before, r.After, r.Snapshot = d, d, now
	s.tell(Event{Kind: EventDiagnosis, Diagnosis: &d})
	p := run.Proposal{Schema: run.ProposalSchema, Made: time.Now().UTC(), Cluster: was.Cluster, Diagnosis: d,
		Snapshot: now}
	if p.Request, err = s.request(); err == nil {
		p.Plan, err = plan.Rollback(s.cluster, undo(id, was, state, nodes, now))
	}
	if err != nil {
		return r, &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "nothing was changed; what that run did: " + s.command("report", id)}
	}
	history, err := run.LoadHistory(o.opts.StateDir, id)
	if err != nil {
		return r, recordError(err)
	}
	changed, unknown := since(was, history, now, restored(p.Plan.Steps))
	p.Plan.Warnings = slices.Concat(takesBack(id, changed), p.Plan.Warnings)
	if len(unknown) > 0 {
		p.Plan.Unknown = append(p.Plan.Unknown,
			fmt.Sprintf("what others have changed since run %s on %s: the run was stopped before it recorded what "+
				"it left there",
				id, strings.Join(unknown, ", ")))
	}
	r.Plan = p.Plan
	s.tell(Event{Kind: EventPlan, Plan: &p.Plan})
	if err := s.saveProposal(p); err != nil {
		return r, err
	}
	if len(p.Plan.Steps) > 0 {
		if err := s.approve(soft, Proposal{Snapshot: now, Diagnosis: d, Plan: p.Plan, TakenBack: changed}); err != nil {
			return r, err
		}
	}
	// Also if nothing is to be restored: the lock of a dead owner is cleared.
	return r, s.launch(ctx, work{Proposal: p, replaces: id, recalled: was.Request.Recalled != nil}, &r)
}

// laterStage refuses to undo a stage of a rotation of CAs on which a later one has built: its certificates
// would be of a CA that no one trusts any more.
func laterStage(id string, was plan.Plan, now snapshot.Snapshot) error {
	cas, stage := was.Rotates()
	for _, ca := range cas {
		for _, c := range diagnosis.RotationOf(now, ca).Consumers {
			if stage == diagnosis.StageMake && slices.Contains(c.Trusts, diagnosis.NextCA) ||
				stage == diagnosis.StageTrust && c.Presents == diagnosis.NextCA {
				return &Error{Code: ExitNotBegun,
					Summary: fmt.Sprintf("a later stage than that of run %s has been taken: %s on %s has the next CA",
						id, c.Place, c.Node),
					Next: "nothing was changed; roll back the runs of the later stages first: kscertctl runs list"}
			}
		}
	}
	return nil
}

// otherKey refuses to restore the key of a CA that has been rotated since: what it has signed is not
// there any more. A rotation back is a rotation.
func otherKey(id string, was, now snapshot.Snapshot) error {
	for _, n := range now.Nodes {
		before, _ := was.Node(n.Name)
		for _, ca := range diagnosis.RotationsOf(now).CAs {
			files := n.FilesOf(ca.CA)
			if len(files) == 0 {
				continue
			}
			file := files[1]
			if had, has := before.Digests[file], n.Digests[file]; had != "" && has != "" && had != has {
				return &Error{Code: ExitNotBegun,
					Summary: fmt.Sprintf("the CA has another key than before run %s: %s on %s", id, file, n.Name),
					Next: "nothing was changed; a stopped run is resumed (kscertctl resume), and the way back is " +
						"another rotation: kscertctl ca rotate -i INVENTORY"}
			}
		}
	}
	return nil
}

// published reports whether a run has reached the step where the cluster publishes CA certificates,
// or a component that does has restarted with them.
func published(p plan.Plan, state run.State) bool {
	return slices.ContainsFunc(p.Steps, func(step plan.Step) bool {
		_, begun := state.Steps[step.ID]
		return begun && slices.Contains([]plan.Action{plan.CARenew, plan.CARotate, plan.CAPublish}, step.Action) &&
			slices.ContainsFunc(p.Steps, func(s plan.Step) bool { return s.Action == plan.CAPublish })
	})
}

// restored are the nodes on which steps restore a backup, in their order.
func restored(steps []plan.Step) (nodes []string) {
	for _, step := range steps {
		if step.Action == plan.RestoreBackup {
			nodes = append(nodes, step.Nodes...)
		}
	}
	return nodes
}

// verified verifies the backups that a rollback is about to restore on their nodes, and compares
// them with the digests that were recorded when they were made.
func (s *session) verified(ctx context.Context, w work) error {
	nodes := restored(w.Plan.Steps[w.state.Next(w.Plan):])
	if len(nodes) == 0 {
		return nil
	}
	noted, err := run.LoadManifests(s.opts.StateDir, w.Plan.Undoes)
	if err != nil {
		return recordError(err)
	}
	backups, err := s.backupsOn(ctx, nodes, "verify", map[string]any{"kscert_backup_run": w.Plan.Undoes})
	if err != nil {
		return err
	}
	backups = asNoted(backups, noted)
	var wrong []string
	for _, node := range nodes {
		i := slices.IndexFunc(backups, func(b run.Backup) bool { return b.Node == node && b.Run == w.Plan.Undoes })
		switch {
		case i < 0:
			wrong = append(wrong, node+": the backup is missing")
		case backups[i].State != run.BackupVerified:
			lines := backups[i].Notes
			if len(lines) == 0 {
				lines = []string{"the backup is " + string(backups[i].State)}
			}
			for _, line := range lines {
				wrong = append(wrong, node+": "+line)
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &Error{Code: ExitNotBegun,
		Summary:  fmt.Sprintf("the backup of run %s cannot be trusted: %s", w.Plan.Undoes, wrong[0]),
		Evidence: strings.Join(wrong, "\n"),
		Next: "nothing was changed by this rollback; other backups: " +
			s.command("backup", "list", "-i", "INVENTORY")}
}

// backupsOn runs the playbook that handles backups and returns its report. The error is an *Error.
func (s *session) backupsOn(ctx context.Context, nodes []string, action string, vars map[string]any) ([]run.Backup,
	error) {
	p := s.playbook("backups-"+action, playbooks.Backups, nodes)
	p.Vars["kscert_backup_action"] = action
	maps.Copy(p.Vars, vars)
	outcome, err := s.runner.Run(ctx, p, nil)
	var all []run.Backup
	for _, node := range nodes {
		if err != nil {
			break
		}
		var found []run.Backup
		found, err = backupsIn(outcome, node)
		all = append(all, found...)
	}
	if err == nil {
		return all, nil
	}
	e := &Error{Code: ExitNotBegun, Summary: "the backups could not be listed: " + err.Error(), Err: err,
		Next: "nothing was changed; whether the nodes answer: " + s.command("diagnose", "-i", "INVENTORY")}
	var failed *ansible.RunError
	switch {
	case interrupted(err):
		e.Code = ExitInterrupted
	case errors.As(err, &failed):
		e.Evidence = taskEvidence(failed)
		if len(failed.Unreachable) > 0 {
			e.Code = ExitUnreachable
		}
	}
	return nil, e
}
