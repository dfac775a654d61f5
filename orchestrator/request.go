package orchestrator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// request is what the options ask for, without their secrets and with absolute
// paths: enough for another process, started elsewhere, to go on.
func (o *Orchestrator) request() (run.Request, error) {
	a := o.opts.Ansible
	dir, err := os.Getwd()
	if err != nil {
		return run.Request{}, fmt.Errorf("finding the working directory: %w", err)
	}
	r := run.Request{
		Schema: run.RequestSchema, Dir: dir, User: a.User, Forks: a.Forks, Become: a.Become,
		Playbook: o.opts.Playbook, Thresholds: o.opts.Thresholds, GateTimeout: o.opts.GateTimeout, BackupRoot: o.opts.BackupRoot,
		BinDir: absolute(dir, a.BinDir), PrivateKey: absolute(dir, a.PrivateKey), KubesprayDir: absolute(dir, o.opts.KubesprayDir),
	}
	for _, inv := range a.Inventories {
		if !strings.Contains(inv, ",") { // a host list is no path
			inv = absolute(dir, inv)
		}
		r.Inventories = append(r.Inventories, inv)
	}
	for _, v := range a.ExtraVars {
		if file, ok := strings.CutPrefix(v, "@"); ok {
			r.ExtraVars = append(r.ExtraVars, "@"+absolute(dir, file))
		} else {
			r.WithheldVars++
		}
	}
	for _, id := range a.VaultIDs {
		if label, source, ok := strings.Cut(id, "@"); ok && source != "prompt" {
			id = label + "@" + absolute(dir, source)
		}
		r.VaultIDs = append(r.VaultIDs, id)
	}
	for _, file := range a.VaultPasswordFiles {
		r.VaultPasswordFiles = append(r.VaultPasswordFiles, absolute(dir, file))
	}
	return r, nil
}

func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || strings.HasPrefix(path, "~") { // Ansible knows its user's home
		return path
	}
	return filepath.Join(dir, path)
}

// Recall fills the options that are empty from what an earlier command was asked
// for. It returns an *Error when that took extra variables which are not in the
// record, since they may be passwords, and none are given now.
func (o *Options) Recall(r run.Request) error {
	a := &o.Ansible
	if r.WithheldVars > 0 && len(a.ExtraVars) == 0 {
		return &Error{
			Code:    ExitUsage,
			Summary: fmt.Sprintf("it was begun with %d extra variables that are not in its record, since they may be passwords", r.WithheldVars),
			Next:    "give the same -e again",
		}
	}
	recall(&a.Inventories, r.Inventories)
	recall(&a.ExtraVars, r.ExtraVars)
	recall(&a.VaultIDs, r.VaultIDs)
	recall(&a.VaultPasswordFiles, r.VaultPasswordFiles)
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&a.BinDir, r.BinDir},
		{&a.User, r.User},
		{&a.PrivateKey, r.PrivateKey},
		{&o.KubesprayDir, r.KubesprayDir},
		{&o.BackupRoot, r.BackupRoot},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	if a.Forks == 0 {
		a.Forks = r.Forks
	}
	if o.GateTimeout == 0 {
		o.GateTimeout = r.GateTimeout
	}
	a.Become = a.Become || r.Become
	// What the plan was made from is not to be chosen again.
	o.Playbook, o.Thresholds = r.Playbook, r.Thresholds
	return nil
}

func recall(to *[]string, from []string) {
	if len(*to) == 0 {
		*to = from
	}
}
