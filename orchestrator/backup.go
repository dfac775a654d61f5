package orchestrator

import (
	"context"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// ListBackups lists the backups on the nodes; of one run if id is not empty.
func (o *Orchestrator) ListBackups(ctx context.Context, id string) ([]run.Backup, error) {
	return o.backupAction(ctx, "list", map[string]any{"kscert_backup_run": id})
}

// VerifyBackups reads the backups on the nodes back and compares them with their manifests, and
// these with the digests that were recorded here when they were made; of one run if id is not
// empty. If one is damaged, or missing where there was one, it returns the list and an *Error with
// ExitNotBegun.
func (o *Orchestrator) VerifyBackups(ctx context.Context, id string) ([]run.Backup, error) {
	all, err := o.backupAction(ctx, "verify", map[string]any{"kscert_backup_run": id})
	if err != nil {
		return all, err
	}
	noted, err := run.LoadManifests(o.opts.StateDir, id)
	if err != nil {
		return all, recordError(err)
	}
	all = verdicts(all, noted)
	if i := slices.IndexFunc(all, func(b run.Backup) bool { return b.State != run.BackupVerified }); i >= 0 {
		return all, &Error{Code: ExitNotBegun,
			Summary:  "the backup of run " + all[i].Run + " on " + all[i].Node + " is " + string(all[i].State),
			Evidence: strings.Join(all[i].Notes, "\n"),
			Next:     "do not roll back to it; other backups: " + o.command("backup", "list", "-i", "INVENTORY")}
	}
	return all, nil
}

// verdicts leaves out the nodes that a run took no backup of. If nothing was recorded, as on
// another machine, a node certainly lacks one if another node has it.
func verdicts(all []run.Backup, noted map[string]string) []run.Backup {
	some := len(noted) > 0 || slices.ContainsFunc(all, func(b run.Backup) bool { return b.State != run.BackupMissing })
	return slices.DeleteFunc(asNoted(all, noted),
		func(b run.Backup) bool { return b.State == run.BackupMissing && some && noted[b.Node] == "" })
}

// asNoted marks those that verify, but whose manifest is not the recorded one.
func asNoted(all []run.Backup, noted map[string]string) []run.Backup {
	for i, b := range all {
		if noted[b.Node] != "" && b.State == run.BackupVerified && b.Manifest != noted[b.Node] {
			all[i].State, all[i].Notes = run.BackupDamaged,
				append(b.Notes, "MANIFEST differs from the one recorded when the backup was made")
		}
	}
	return all
}

// PruneBackups removes all but the newest backups of each node. Those of runs that can still be
// resumed stay.
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

func (o *Orchestrator) backupAction(ctx context.Context, action string, vars map[string]any) (all []run.Backup,
	err error) {
	s, err := o.begin(ctx, run.Entry{Kind: run.KindLook})
	if err != nil {
		return nil, err
	}
	defer s.finish(&Result{}, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	return s.backupsOn(soft, cluster.Names(s.cluster.Nodes), action, vars)
}
