package orchestrator

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// request is what the options request, without their secrets and with absolute paths: enough to
// continue in another process, started elsewhere.
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
		Limit: opts.Limit, SkipPhases: opts.SkipPhases, UntilPhase: opts.UntilPhase, Serial: opts.Serial,
		MaxUnavailable: opts.MaxUnavailable, StableFor: opts.StableFor,
		Playbook: opts.Playbook, Thresholds: opts.Thresholds, GateTimeout: opts.GateTimeout,
		BackupRoot:   opts.BackupRoot,
		EtcdSnapshot: opts.EtcdSnapshot, BinDir: a.BinDir, PrivateKey: a.PrivateKey, KubesprayDir: opts.KubesprayDir,
		Inventories: a.Inventories, VaultIDs: a.VaultIDs, VaultPasswordFiles: a.VaultPasswordFiles,
		BecomeMethod: a.BecomeMethod, BecomeUser: a.BecomeUser, Connection: a.Connection, Timeout: a.Timeout,
		AskPass: a.AskPass, AskBecomePass: a.AskBecomePass, AskVaultPass: a.AskVaultPass,
		AcceptSANLoss:          opts.AcceptSANLoss,
		AcceptSubjectChange:    opts.AcceptSubjectChange,
		AllowNotInInventory:    opts.AllowNotInInventory,
		RefreshKubeconfigs:     opts.RefreshKubeconfigs,
		RenewCAs:               opts.RenewCAs,
		CAValidity:             opts.CAValidity,
		ConnectionPasswordFile: a.ConnectionPasswordFile, BecomePasswordFile: a.BecomePasswordFile,
		Withheld: withheld(a),
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

// withheld are the flags whose values are never recorded: an argument of ssh can be a command with
// a password in it (ProxyCommand=sshpass -p …).
func withheld(a ansible.Options) (flags []string) {
	for _, f := range []struct {
		flag  string
		given bool
	}{
		{"--ssh-common-args", a.SSHCommonArgs != ""},
		{"--ssh-extra-args", a.SSHExtraArgs != ""},
		{"--sftp-extra-args", a.SFTPExtraArgs != ""},
		{"--scp-extra-args", a.SCPExtraArgs != ""},
		{"options after --", len(a.Args) > 0},
	} {
		if f.given {
			flags = append(flags, f.flag)
		}
	}
	return flags
}

// Anchor makes the paths on the control node absolute: a relative one is below dir. Call it before
// changing the working directory.
func (o *Options) Anchor(dir string) {
	o.Ansible.Anchor(dir)
	for _, path := range []*string{&o.StateDir, &o.KubesprayDir} {
		*path = anchor.Path(dir, *path)
	}
	o.RefreshKubeconfigs = anchor.Each(dir, o.RefreshKubeconfigs, anchor.Whole)
}

// Recall fills the empty options from the request of an earlier command. It returns an *Error if
// that had extra variables or arguments of ssh that are not in the record, since they may be
// passwords, and none are given now.
func (o *Options) Recall(r run.Request) error {
	a := &o.Ansible
	if err := forgotten(r, *a); err != nil {
		return err
	}
	recall(&a.Inventories, r.Inventories)
	recall(&a.ExtraVars, r.ExtraVars)
	a.AskVaultPass = a.AskVaultPass || (r.AskVaultPass && len(a.VaultIDs)+len(a.VaultPasswordFiles) == 0)
	recall(&a.VaultIDs, r.VaultIDs)
	recall(&a.VaultPasswordFiles, r.VaultPasswordFiles)
	recall(&o.Tags, r.Tags)
	recall(&o.SkipTags, r.SkipTags)
	recall(&o.AcceptSANLoss, r.AcceptSANLoss)
	recall(&o.AcceptSubjectChange, r.AcceptSubjectChange)
	recall(&o.AllowNotInInventory, r.AllowNotInInventory)
	recall(&o.RefreshKubeconfigs, r.RefreshKubeconfigs)
	// One source of a password replaces the other.
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
	o.EtcdSnapshot = cmp.Or(o.EtcdSnapshot, r.EtcdSnapshot)
	a.Become = a.Become || r.Become
	// What the plan was made from cannot be chosen again.
	o.Playbook, o.Thresholds = r.Playbook, r.Thresholds
	o.Limit, o.SkipPhases, o.UntilPhase = r.Limit, r.SkipPhases, r.UntilPhase
	o.RenewCAs, o.CAValidity = r.RenewCAs, r.CAValidity
	return nil
}

// forgotten returns which options of a request are in no record and not given now; nil for none.
func forgotten(r run.Request, a ansible.Options) error {
	var what, flags []string
	if r.WithheldVars > 0 && len(a.ExtraVars) == 0 {
		what, flags = append(what, fmt.Sprintf("%d extra variables", r.WithheldVars)), append(flags, "-e")
	}
	given := withheld(a)
	for _, flag := range r.Withheld {
		if !slices.Contains(given, flag) {
			what, flags = append(what, flag), append(flags, flag)
		}
	}
	if len(what) == 0 {
		return nil
	}
	return &Error{
		Code: ExitUsage,
		Summary: fmt.Sprintf("it was started with %s that are not in its record, since they may be passwords",
			strings.Join(what, " and ")),
		Next: fmt.Sprintf("pass the same %s again", strings.Join(flags, " and ")),
	}
}

// Follow fills in, from the request of a plan file, the choices, the part of the cluster and the
// durations that a plan was made with. Whatever reaches nodes or names a file, a program or a place
// has to be set already: a plan file may come from others.
//
// The error is an *Error that names what the plan was made with and has to be given again:
// inventory, checkout, names that may be lost, tags, directory of backups.
func (o *Options) Follow(r run.Request) error {
	var missing []string
	if len(o.Ansible.Inventories) == 0 {
		missing = append(missing, "-i")
	}
	if r.Kubespray != nil && r.Kubespray.Found == "" && o.KubesprayDir == "" {
		missing = append(missing, "--kubespray-dir")
	}
	for _, names := range []struct {
		flag     string
		was, has []string
	}{
		{"--accept-san-loss", r.AcceptSANLoss, o.AcceptSANLoss},
		{"--accept-subject-change", r.AcceptSubjectChange, o.AcceptSubjectChange},
		{"--allow-not-in-inventory", r.AllowNotInInventory, o.AllowNotInInventory},
	} {
		if slices.ContainsFunc(names.was, func(name string) bool { return !slices.Contains(names.has, name) }) {
			missing = append(missing, names.flag)
		}
	}
	if !slices.Equal(o.Tags, r.Tags) {
		missing = append(missing, "--tags")
	}
	if !slices.Equal(o.SkipTags, r.SkipTags) {
		missing = append(missing, "--skip-tags")
	}
	if cmp.Or(o.BackupRoot, DefaultBackupRoot) != r.BackupRoot {
		missing = append(missing, "--backup-root")
	}
	if len(missing) > 0 {
		return &Error{
			Code: ExitUsage,
			Summary: "kscertctl does not take commands from a plan file; pass the same as for the plan: " +
				strings.Join(missing, ", "),
			Next: "see: kscertctl apply --help",
		}
	}
	o.Playbook, o.Thresholds, o.MaxUnavailable = r.Playbook, r.Thresholds, r.MaxUnavailable
	o.Limit, o.SkipPhases, o.UntilPhase = r.Limit, r.SkipPhases, r.UntilPhase
	o.Serial, o.EtcdSnapshot = cmp.Or(o.Serial, r.Serial), cmp.Or(o.EtcdSnapshot, r.EtcdSnapshot)
	o.GateTimeout = cmp.Or(o.GateTimeout, r.GateTimeout)
	o.StableFor = cmp.Or(o.StableFor, r.StableFor)
	o.StepTimeout = cmp.Or(o.StepTimeout, r.StepTimeout)
	return nil
}

func recall(to *[]string, from []string) {
	if len(*to) == 0 {
		*to = from
	}
}
