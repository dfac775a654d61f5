package orchestrator

import (
	"cmp"
	"fmt"
	"os"
	"reflect"
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
	r := opts.recorded()
	r.Schema, r.Dir, r.Withheld = run.RequestSchema, dir, withheld(a)
	for _, v := range a.ExtraVars {
		if strings.HasPrefix(v, "@") {
			r.ExtraVars = append(r.ExtraVars, v)
		} else {
			r.WithheldVars++
		}
	}
	return r, nil
}

// recorded are the options that a request records, in one.
func (o Options) recorded() (r run.Request) {
	for _, row := range recorded() {
		row.of(&r).Set(row.in(&o))
	}
	return r
}

// withheld are the flags whose values are never recorded: an argument of ssh can be a command with
// a password in it (ProxyCommand=sshpass -p …).
func withheld(a ansible.Options) (flags []string) {
	given := []bool{a.SSHCommonArgs != "", a.SSHExtraArgs != "", a.SFTPExtraArgs != "", a.SCPExtraArgs != "",
		len(a.Args) > 0}
	for i, flag := range withholdable() {
		if given[i] {
			flags = append(flags, flag)
		}
	}
	return flags
}

// withholdable are all flags of this kind.
func withholdable() []string {
	return []string{"--ssh-common-args", "--ssh-extra-args", "--sftp-extra-args", "--scp-extra-args",
		"options after --"}
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
//
// Of a record that comes from control planes it takes only what was planned: what reaches nodes, or
// names a file, a program or a place, has to be set already.
func (o *Options) Recall(r run.Request) error {
	a := &o.Ansible
	if err := forgotten(r, *a); err != nil {
		return err
	}
	if strange(r) {
		if missing := o.lacking(run.Request{BackupRoot: r.BackupRoot}); len(missing) > 0 {
			return &Error{Code: ExitUsage,
				Summary: "the record of the run comes from control planes, which do not name where to work; pass the " +
					"same as for the run: " + strings.Join(missing, ", "),
				Next: "nothing was changed; run the command again with " + strings.Join(missing, ", ")}
		}
		o.adopt(r)
		return nil
	}
	if len(a.ExtraVars) == 0 {
		a.ExtraVars = r.ExtraVars
	}
	// One source of a password replaces the other.
	if len(a.VaultIDs)+len(a.VaultPasswordFiles) == 0 {
		a.AskVaultPass = a.AskVaultPass || r.AskVaultPass
	}
	if !a.AskPass && a.ConnectionPasswordFile == "" {
		a.AskPass, a.ConnectionPasswordFile = r.AskPass, r.ConnectionPasswordFile
	}
	if !a.AskBecomePass && a.BecomePasswordFile == "" {
		a.AskBecomePass, a.BecomePasswordFile = r.AskBecomePass, r.BecomePasswordFile
	}
	for _, row := range recorded() {
		row.take(row.recall, o, &r)
	}
	return nil
}

// taken is when an option gets the recorded value.
type taken int

const (
	never taken = iota
	ifAbsent
	always
)

// recordedOption is an option that requests record in a field of the same name.
type recordedOption struct {
	name string
	// recall is for a command that continues a run, follow for one that carries out a plan file, adopt
	// for one that continues a run whose record comes from control planes.
	recall, follow, adopt taken
}

// recorded are the options that requests record. What reaches nodes, or names a file, a program or a
// place, is neither followed nor adopted: a plan file may come from others, and what a control plane
// keeps from an attacker there. What a plan was made from is not chosen again.
func recorded() []recordedOption {
	return []recordedOption{
		{"Inventories", ifAbsent, never, never},
		{"BinDir", ifAbsent, never, never},
		{"User", ifAbsent, never, never},
		{"PrivateKey", ifAbsent, never, never},
		{"Forks", ifAbsent, never, never},
		{"Become", ifAbsent, never, never},
		{"BecomeMethod", ifAbsent, never, never},
		{"BecomeUser", ifAbsent, never, never},
		{"Connection", ifAbsent, never, never},
		{"Timeout", ifAbsent, never, never},
		{"AskPass", never, never, never}, // Recall: with the file that takes its place
		{"AskBecomePass", never, never, never},
		{"AskVaultPass", never, never, never},
		{"ConnectionPasswordFile", never, never, never},
		{"BecomePasswordFile", never, never, never},
		{"VaultIDs", ifAbsent, never, never},
		{"VaultPasswordFiles", ifAbsent, never, never},
		{"KubesprayDir", ifAbsent, never, never},
		{"Tags", ifAbsent, never, never},
		{"SkipTags", ifAbsent, never, never},
		{"AcceptSANLoss", ifAbsent, never, never},
		{"AcceptSubjectChange", ifAbsent, never, never},
		{"AllowNotInInventory", ifAbsent, never, never},
		{"AllowUnreachable", ifAbsent, never, never},
		{"RefreshKubeconfigs", ifAbsent, never, never},
		{"BackupRoot", ifAbsent, never, never},
		{"Playbook", always, always, always},
		{"Thresholds", always, always, always},
		{"Limit", always, always, always},
		{"SkipPhases", always, always, always},
		{"UntilPhase", always, always, always},
		{"MaxUnavailable", never, always, always},
		{"RenewCAs", always, never, always},
		{"CAValidity", always, never, always},
		{"RotateCAs", always, never, always},
		{"RotateStage", always, never, always},
		{"RestartWorkloads", always, never, always},
		{"PatchCABundles", always, never, always},
		{"Signed", always, never, always},
		{"Serial", ifAbsent, ifAbsent, never},
		{"EtcdSnapshot", ifAbsent, ifAbsent, always},
		{"GateTimeout", ifAbsent, ifAbsent, never},
		{"StableFor", ifAbsent, ifAbsent, never},
		{"StepTimeout", ifAbsent, ifAbsent, never},
	}
}

// in is the option among others, and of its field in a request.
func (r recordedOption) in(o *Options) reflect.Value {
	if of := reflect.ValueOf(&o.Ansible).Elem().FieldByName(r.name); of.IsValid() {
		return of
	}
	return reflect.ValueOf(o).Elem().FieldByName(r.name)
}

func (r recordedOption) of(request *run.Request) reflect.Value {
	return reflect.ValueOf(request).Elem().FieldByName(r.name)
}

// take sets the option to the recorded value, when it is to be taken.
func (r recordedOption) take(when taken, o *Options, request *run.Request) {
	to := r.in(o)
	absent := to.IsZero() || to.Kind() == reflect.Slice && to.Len() == 0
	if when == always || when == ifAbsent && absent {
		to.Set(r.of(request))
	}
}

// adopt takes what a plan was made from.
func (o *Options) adopt(r run.Request) {
	for _, row := range recorded() {
		row.take(row.adopt, o, &r)
	}
}

// Unlike returns the names of the options with which a request chose something else than these: those
// that decide what a plan may do, without thresholds, which time changes.
func (o Options) Unlike(r run.Request) (names []string) {
	for _, row := range recorded() {
		own, its := row.in(&o), row.of(&r)
		empty := own.Kind() == reflect.Slice && own.Len() == 0 && its.Len() == 0
		same := empty || reflect.DeepEqual(own.Interface(), its.Interface())
		if row.adopt == always && row.name != "Thresholds" && !same {
			names = append(names, row.name)
		}
	}
	return names
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
	missing := o.lacking(r)
	if len(missing) > 0 {
		return &Error{
			Code: ExitUsage,
			Summary: "kscertctl does not take commands from a plan file; pass the same as for the plan: " +
				strings.Join(missing, ", "),
			Next: "see: kscertctl apply --help",
		}
	}
	for _, row := range recorded() {
		row.take(row.follow, o, &r)
	}
	return nil
}

// lacking are the flags with which a plan was made and that have to be given again.
func (o *Options) lacking(r run.Request) (missing []string) {
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
		{"--allow-unreachable", r.AllowUnreachable, o.AllowUnreachable},
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
	return missing
}
