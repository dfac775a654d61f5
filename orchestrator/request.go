package orchestrator

import (
	"fmt"
	"os"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// request is what the options ask for, without their secrets and with absolute
// paths: enough for another process, started elsewhere, to go on.
func (o *Orchestrator) request() (run.Request, error) {
	dir, err := os.Getwd()
	if err != nil {
		return run.Request{}, fmt.Errorf("finding the working directory: %w", err)
	}
	opts := o.opts
	opts.Anchor(dir)
	a := opts.Ansible
	r := run.Request{
		Schema: run.RequestSchema, Dir: dir, User: a.User, Forks: a.Forks, Become: a.Become,
		Tags: opts.Tags, SkipTags: opts.SkipTags, StepTimeout: opts.StepTimeout,
		Limit: opts.Limit, SkipPhases: opts.SkipPhases, UntilPhase: opts.UntilPhase, Serial: opts.Serial, MaxUnavailable: opts.MaxUnavailable, StableFor: opts.StableFor,
		Playbook: opts.Playbook, Thresholds: opts.Thresholds, GateTimeout: opts.GateTimeout, BackupRoot: opts.BackupRoot,
		BinDir: a.BinDir, PrivateKey: a.PrivateKey, KubesprayDir: opts.KubesprayDir,
		Inventories: a.Inventories, VaultIDs: a.VaultIDs, VaultPasswordFiles: a.VaultPasswordFiles,
		BecomeMethod: a.BecomeMethod, BecomeUser: a.BecomeUser, Connection: a.Connection, Timeout: a.Timeout,
		SSHCommonArgs: a.SSHCommonArgs, SSHExtraArgs: a.SSHExtraArgs, SFTPExtraArgs: a.SFTPExtraArgs, SCPExtraArgs: a.SCPExtraArgs,
		AskPass: a.AskPass, AskBecomePass: a.AskBecomePass, AskVaultPass: a.AskVaultPass,
		AcceptSANLoss:          opts.AcceptSANLoss,
		AllowNotInInventory:    opts.AllowNotInInventory,
		RefreshKubeconfigs:     opts.RefreshKubeconfigs,
		ConnectionPasswordFile: a.ConnectionPasswordFile, BecomePasswordFile: a.BecomePasswordFile, Args: a.Args,
	}
	for _, v := range a.ExtraVars {
		if strings.HasPrefix(v, "@") {
			r.ExtraVars = append(r.ExtraVars, v)
		} else {
			r.WithheldVars++
		}
	}
	return r, nil
}

// Anchor makes the paths on the driver absolute: a relative one is below dir. A
// program that goes to another folder does so before.
func (o *Options) Anchor(dir string) {
	a := &o.Ansible
	for _, path := range []*string{&o.StateDir, &o.KubesprayDir, &a.BinDir, &a.PrivateKey, &a.ConnectionPasswordFile, &a.BecomePasswordFile} {
		*path = anchor.Path(dir, *path)
	}
	for _, list := range []struct {
		values *[]string
		find   anchor.Finder
	}{
		{&a.Inventories, anchor.Inventory},
		{&a.ExtraVars, anchor.AtFile},
		{&a.VaultIDs, anchor.VaultID},
		{&a.VaultPasswordFiles, anchor.Whole},
		{&o.RefreshKubeconfigs, anchor.Whole},
	} {
		var anchored []string
		for _, s := range *list.values {
			before, path := list.find(s)
			anchored = append(anchored, before+anchor.Path(dir, path))
		}
		*list.values = anchored
	}
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
	a.AskVaultPass = a.AskVaultPass || (r.AskVaultPass && len(a.VaultIDs)+len(a.VaultPasswordFiles) == 0)
	recall(&a.VaultIDs, r.VaultIDs)
	recall(&a.VaultPasswordFiles, r.VaultPasswordFiles)
	recall(&o.Tags, r.Tags)
	recall(&o.SkipTags, r.SkipTags)
	recall(&o.AcceptSANLoss, r.AcceptSANLoss)
	recall(&o.AllowNotInInventory, r.AllowNotInInventory)
	recall(&o.RefreshKubeconfigs, r.RefreshKubeconfigs)
	recall(&a.Args, r.Args)
	// One source of a password takes the place of the other.
	if !a.AskPass && a.ConnectionPasswordFile == "" {
		a.AskPass, a.ConnectionPasswordFile = r.AskPass, r.ConnectionPasswordFile
	}
	if !a.AskBecomePass && a.BecomePasswordFile == "" {
		a.AskBecomePass, a.BecomePasswordFile = r.AskBecomePass, r.BecomePasswordFile
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&a.BinDir, r.BinDir},
		{&a.User, r.User},
		{&a.PrivateKey, r.PrivateKey},
		{&o.KubesprayDir, r.KubesprayDir},
		{&o.BackupRoot, r.BackupRoot},
		{&o.Serial, r.Serial},
		{&a.BecomeMethod, r.BecomeMethod},
		{&a.BecomeUser, r.BecomeUser},
		{&a.Connection, r.Connection},
		{&a.SSHCommonArgs, r.SSHCommonArgs},
		{&a.SSHExtraArgs, r.SSHExtraArgs},
		{&a.SFTPExtraArgs, r.SFTPExtraArgs},
		{&a.SCPExtraArgs, r.SCPExtraArgs},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	if a.Forks == 0 {
		a.Forks = r.Forks
	}
	if a.Timeout == 0 {
		a.Timeout = r.Timeout
	}
	if o.GateTimeout == 0 {
		o.GateTimeout = r.GateTimeout
	}
	if o.StableFor == 0 {
		o.StableFor = r.StableFor
	}
	if o.StepTimeout == 0 {
		o.StepTimeout = r.StepTimeout
	}
	a.Become = a.Become || r.Become
	// What the plan was made from is not to be chosen again.
	o.Playbook, o.Thresholds = r.Playbook, r.Thresholds
	o.Limit, o.SkipPhases, o.UntilPhase = r.Limit, r.SkipPhases, r.UntilPhase
	return nil
}

func recall(to *[]string, from []string) {
	if len(*to) == 0 {
		*to = from
	}
}
