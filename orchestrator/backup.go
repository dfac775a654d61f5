package orchestrator

import (
	"context"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// ListBackups says which backups lie on the nodes; of one run when id is not empty.
func (o *Orchestrator) ListBackups(ctx context.Context, id string) ([]run.Backup, error) {
	return o.backupAction(ctx, "list", map[string]any{"kscert_backup_run": id})
}

// VerifyBackups reads the backups on the nodes back and compares them with their
// manifests; of one run when id is not empty. The error is an *Error with
// ExitNotBegun when one is damaged, beside the list.
func (o *Orchestrator) VerifyBackups(ctx context.Context, id string) ([]run.Backup, error) {
	all, err := o.backupAction(ctx, "verify", map[string]any{"kscert_backup_run": id})
	i := slices.IndexFunc(all, func(b run.Backup) bool { return b.State != run.BackupVerified })
	if err == nil && i >= 0 {
		err = &Error{Code: ExitNotBegun, Summary: "the backup of run " + all[i].Run + " on " + all[i].Node + " is " + string(all[i].State),
			Next: "do not roll back to it"}
	}
	return all, err
}

// PruneBackups removes all but the newest backups of each node. Those of runs
// that can still be resumed stay.
func (o *Orchestrator) PruneBackups(ctx context.Context, keep int) ([]run.Backup, error) {
	runs, err := Runs(o.opts.StateDir)
	if err != nil {
		return nil, err
	}
	protect := []string{}
	for _, r := range runs {
		if r.Err != nil || r.State.Ended != run.Done {
			protect = append(protect, r.ID)
		}
	}
	return o.backupAction(ctx, "prune", map[string]any{"kscert_backup_keep": keep, "kscert_backup_protect": protect})
}

func (o *Orchestrator) backupAction(ctx context.Context, action string, vars map[string]any) (all []run.Backup, err error) {
	s, err := o.begin(ctx, run.Entry{Kind: run.KindLook})
	if err != nil {
		return nil, err
	}
	defer s.finish(&Result{}, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	return s.backupsOn(soft, cluster.Names(s.cluster.Nodes), action, vars)
}
