package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/notify"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// setting is a flag whose value may also come from kscertctl.yaml and from the environment.
type setting struct {
	name string
	// group is the heading of the flag in --help.
	group string
	// path finds the file or directory of this machine in a value; nil if there is none.
	path anchor.Finder
	// directory is true if path is that of a directory.
	directory bool
	// values are the only valid ones; nil for any, or if the flag itself checks.
	values []string
	// time is true for a duration that may be in days.
	time bool
	// secret is true if a value may be one, unless it is @FILE. show returns the printable part of
	// a value; nil for all of it.
	secret bool
	show   func(string) string
	// recorded is true for what the record of a run holds. Commands that use a record take it from
	// there or from a flag: a run continues as it was begun.
	recorded bool
	// whole is true if it is about a command as a whole, not about one cluster: no fleet file has it.
	whole bool
	// but is a command in which the flag means something else, and cannot be set elsewhere.
	but string
}

// settings are the flags that can be set elsewhere, in the order of the reference and of --help.
// Every other flag is in invocation; a test compares both with the commands.
func settings() []setting {
	return slices.Concat(
		grouped(reach, []setting{
			{name: "inventory", path: anchor.Inventory, recorded: true},
			{name: "user", recorded: true},
			{name: "private-key", path: anchor.Whole, recorded: true},
			{name: "extra-vars", path: anchor.AtFile, secret: true, show: onlyFile, recorded: true},
			{name: "ask-pass", recorded: true},
			{name: "connection-password-file", path: anchor.Whole, recorded: true},
			{name: "connection", recorded: true},
			{name: "timeout", recorded: true, but: "exporter"},
			{name: "connect-timeout"},
			{name: "ssh-common-args", show: hidden},
			{name: "ssh-extra-args", show: hidden},
			{name: "sftp-extra-args", show: hidden},
			{name: "scp-extra-args", show: hidden},
			{name: "become", recorded: true},
			{name: "become-method", recorded: true},
			{name: "become-user", recorded: true},
			{name: "ask-become-pass", recorded: true},
			{name: "become-password-file", path: anchor.Whole, recorded: true},
			{name: "forks", recorded: true},
			{name: "ask-vault-pass", recorded: true},
			{name: "vault-id", path: anchor.VaultID, recorded: true},
			{name: "vault-password-file", path: anchor.Whole, recorded: true},
			{name: "verbose"},
			{name: "ansible-bin", path: anchor.Whole, directory: true, recorded: true},
		}),
		grouped(planning, []setting{
			{name: "warn", time: true},
			{name: "crit", time: true},
			{name: "due-before"},
			{name: "cluster-secrets"},
			{name: "playbook", values: names(plan.Choices())},
			{name: "kubespray-dir", path: anchor.Whole, directory: true, recorded: true},
			{name: "tags", recorded: true},
			{name: "skip-tags", recorded: true},
			{name: "limit"},
			{name: "skip-phases", values: names(plan.Phases())},
			{name: "until-phase", values: names(plan.Phases())},
			{name: "serial", recorded: true},
			{name: "max-unavailable"},
			{name: "accept-san-loss", recorded: true},
			{name: "accept-subject-change", recorded: true},
			{name: "allow-not-in-inventory", recorded: true},
			{name: "allow-unreachable", recorded: true},
			{name: "backup-root", recorded: true},
			{name: "etcd-snapshot", values: names(plan.EtcdSnapshots()), recorded: true},
		}),
		grouped(gating, []setting{
			{name: "gate-timeout", recorded: true},
			{name: "stable-for", recorded: true},
			{name: "step-timeout", recorded: true},
			{name: "rollback-on-failure"},
		}),
		grouped(engine, []setting{
			{name: "image", whole: true},
			{name: "files", whole: true},
			{name: "volume-claim", whole: true},
			{name: "retries", whole: true},
			{name: "queue", whole: true},
		}),
		grouped(telling, []setting{
			{name: "fail-on", values: failOn()},
			{name: "state-dir", path: anchor.Whole, directory: true, but: "exporter"},
			{name: "report-dir", path: anchor.Whole, directory: true, but: "report"},
			{name: "refresh-kubeconfig", path: anchor.Whole, recorded: true},
			{name: "notify-command", show: firstWord},
			{name: "notify-webhook", path: anchor.AtFile, secret: true, show: onlyFile},
			{name: "notify-on", values: names(notify.Moments())},
			{name: "notify-format", values: names(notify.Formats())},
			{name: "notify-timeout"},
			{name: "notify-tries"},
			{name: "interval", whole: true},
			{name: "web.listen-address", whole: true},
			{name: "web.config.file", path: anchor.Whole, whole: true},
		}),
	)
}

// grouped are settings under one heading.
func grouped(group string, all []setting) []setting {
	for i := range all {
		all[i].group = group
	}
	return all
}

// invocation are the flags that concern one call of a command, and why each cannot be set
// elsewhere.
func invocation() map[string]string {
	const (
		oneFile = "it names a file of one invocation"
		oneCall = "it is about one invocation"
	)
	return map[string]string{
		"yes":                 "it approves the plan that is about to be carried out; pass it as a flag, each time",
		"discard-changes":     "it is about what has been reviewed; pass it as a flag, each time",
		"output":              "each command has its own formats, and scripts rely on them",
		"output-file":         oneFile,
		"out":                 oneFile,
		"save-snapshot":       oneFile,
		"from-snapshot":       oneFile,
		"file":                oneFile,
		"fleet":               oneFile,
		"selector":            oneCall,
		"parallel-clusters":   oneCall,
		"stop-after-failures": oneCall,
		"wait":                oneCall,
		"resume":              oneCall,
		"runbook":             oneCall,
		"digest":              "it is that of one file, and comes from its reviewer",
		"detailed-exitcode":   oneCall,
		"node":                oneCall,
		"keep":                "what is removed must be chosen each time",
		"ca":                  oneCall,
		"until":               oneCall,
		"strategy":            oneCall,
		"restart-workloads":   oneCall,
		"patch-ca-bundles":    oneCall,
		"validity":            oneCall,
		"dir":                 "it is about one set of requests",
		"overwrite":           oneCall,
		"kubeconfig":          oneCall,
		"context":             oneCall,
		"namespace":           oneCall,
		"name":                oneCall,
		"schedule":            oneCall,
		"time-zone":           oneCall,
		"print":               oneCall,
		"follow":              oneCall,
		"check":               oneCall,
		"index":               oneCall,
		"result-file":         oneFile,
		"config":              "a file does not name another",
		"origin":              oneCall,
		"no-descriptions":     oneCall,
		"help":                oneCall,
		"version":             oneCall,
	}
}

// onlyFile shows @FILE, and nothing of a value that may be a secret.
func onlyFile(value string) string {
	if strings.HasPrefix(value, "@") {
		return value
	}
	return hidden(value)
}

// hidden shows only that a value exists that may be a secret.
func hidden(value string) string {
	if value == "" {
		return ""
	}
	return "(not shown)"
}

// firstWord shows the first word of a command: the rest may be a token.
func firstWord(value string) string {
	if words := strings.Fields(value); len(words) > 1 {
		return words[0] + " …"
	}
	return value
}

// kinds are those of the types of flags.
func kinds() map[string]config.Kind {
	return map[string]config.Kind{
		"string": config.String, "stringArray": config.String, "name": config.String, "names": config.String,
		"bool": config.Bool, "int": config.Integer, "uint": config.Integer, "count": config.Integer,
		"duration": config.Duration,
	}
}

// list is a flag that takes several values.
type list interface{ GetSlice() []string }

// of describes a setting by its flag.
func (s setting) of(f *pflag.Flag) config.Setting {
	_, several := f.Value.(list)
	kind := kinds()[f.Value.Type()]
	if s.time {
		kind = config.Time
	}
	return config.Setting{Name: s.name, Kind: kind, List: several, Values: s.values, ByFile: s.secret, Usage: f.Usage}
}

// known are the settings of all commands below root.
func known(root *cobra.Command) config.Known {
	k := config.Known{Refused: invocation()}
	for _, s := range settings() {
		if flags := s.flags(root); len(flags) > 0 {
			k.Settings = append(k.Settings, s.of(flags[0]))
		}
	}
	return k
}

// flags are the setting's flags of all commands, that of "run" first.
func (s setting) flags(root *cobra.Command) (out []*pflag.Flag) {
	for _, cmd := range everyCommand(root) {
		f := s.flagOf(cmd)
		switch {
		case f == nil:
		case cmd.Name() == "run":
			out = slices.Insert(out, 0, f)
		default:
			out = append(out, f)
		}
	}
	return out
}

// flagOf is the setting's flag of a command; nil if it has none, or it means something else there.
func (s setting) flagOf(cmd *cobra.Command) *pflag.Flag {
	if cmd.Name() == s.but {
		return nil
	}
	return cmd.Flags().Lookup(s.name)
}

// byRecord is the annotation of commands that continue what another one has begun.
const byRecord = "by record"

func goesByRecord(cmd *cobra.Command) bool {
	_, ok := cmd.Annotations[byRecord]
	return ok
}

// elsewhere has the settings from the file and the environment.
type elsewhere struct {
	// file that was read; empty for none.
	file   string
	values map[string]config.Value
	// strange are variables that belong to no setting.
	strange []config.Problem
}

// readElsewhere reads the named file, or searches for one, and the environment.
func readElsewhere(cmd *cobra.Command) (elsewhere, error) {
	k := known(cmd.Root())
	ctx := cmd.Root().Context()
	if ctx == nil { // where the commands are described and not executed
		ctx = context.Background()
	}
	name, text, err := config.Find(ctx, configFlag(cmd), os.Getenv)
	if err != nil {
		return elsewhere{}, settingsError(err)
	}
	file, err := config.Parse(name, text, k)
	if err != nil {
		return elsewhere{}, settingsError(err)
	}
	environment, strange, err := config.FromEnvironment(os.Environ(), k)
	if err != nil {
		return elsewhere{}, settingsError(err)
	}
	return elsewhere{file: name, values: config.Merge(file, environment), strange: strange}, nil
}

// settingsError gives settings that cannot be used the exit code of wrong usage.
func settingsError(err error) error { return unusable(err, "see: kscertctl config --help") }

// unusable is the error of a file whose settings cannot be used. next is what to do if the file can
// be read.
func unusable(err error, next string) *orchestrator.Error {
	e := &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err, Next: next}
	if file, ok := errors.AsType[*config.FileError](err); ok {
		e.Next = file.Next
		if errors.Is(err, context.Canceled) {
			e.Code, e.Summary, e.Next = orchestrator.ExitInterrupted, "interrupted while reading "+file.Path, ""
		}
	}
	if problems, ok := errors.AsType[config.SettingErrors](err); ok && len(problems) > 1 {
		var all []string
		for _, p := range problems {
			all = append(all, p.String())
		}
		e.Summary, e.Evidence = fmt.Sprintf("%d settings cannot be used", len(problems)), strings.Join(all, "\n")
	}
	return e
}

// effective is the value of a setting for a command, and its origin.
type effective struct {
	setting
	flag   *pflag.Flag
	origin config.Origin
}

// settingsOf are the settings of a command, with the values of their flags.
func settingsOf(cmd *cobra.Command) (all []effective) {
	for _, s := range settings() {
		if f := s.flagOf(cmd); f != nil {
			all = append(all, effective{setting: s, flag: f, origin: config.Origin{Source: config.Default}})
		}
	}
	return all
}

// settle sets the flags of a command that were not given from the settings elsewhere. Those flags
// do not count as changed. A command without settings reads none, so that "help" and "version"
// always work.
func settle(cmd *cobra.Command) ([]effective, elsewhere, error) {
	all := settingsOf(cmd)
	if len(all) == 0 {
		return nil, elsewhere{}, nil
	}
	from, err := readElsewhere(cmd)
	if err != nil {
		return nil, from, err
	}
	for i := range all {
		e := &all[i]
		v, ok := from.values[e.name]
		switch {
		case e.flag.Changed:
			e.origin.Source = config.Flag
		case e.recorded && goesByRecord(cmd):
			e.origin.Source = config.Record
		case ok:
			if err := e.set(v); err != nil {
				return nil, from, usage(cmd, fmt.Errorf("%s: %w", v.Origin, err))
			}
			e.origin = v.Origin
		}
	}
	return all, from, nil
}

// settleRecorded sets the flags of a command that goes by a record from the settings elsewhere, too:
// there may be no record here.
func settleRecorded(cmd *cobra.Command) error {
	from, err := readElsewhere(cmd)
	if err != nil {
		return err
	}
	for _, e := range settingsOf(cmd) {
		v, ok := from.values[e.name]
		if !ok || e.flag.Changed || !e.recorded || !goesByRecord(cmd) {
			continue
		}
		if err := e.set(v); err != nil {
			return usage(cmd, fmt.Errorf("%s: %w", v.Origin, err))
		}
	}
	return nil
}

// applySettings settles a command that is about to run, and prints warnings.
func applySettings(cmd *cobra.Command, w io.Writer) error {
	all, from, err := settle(cmd)
	if err == nil {
		from.tell(w, all)
	}
	return err
}

// set sets the flag, with relative paths resolved against their origin.
func (e *effective) set(v config.Value) error {
	for _, text := range v.Values {
		if e.path != nil {
			before, path := e.path(text)
			text = before + place(v.Origin, path)
		}
		if err := e.flag.Value.Set(text); err != nil {
			return err
		}
	}
	return nil
}

// place resolves a path of this machine: in a file, a relative one is below the file's directory,
// and no shell has replaced ~.
func place(origin config.Origin, path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	if origin.Source != config.File {
		return path
	}
	dir, err := filepath.Abs(filepath.Dir(origin.Name))
	if err != nil { // the working directory is gone: a relative path leads nowhere anyway
		return path
	}
	return anchor.Path(dir, path)
}

func configFlag(cmd *cobra.Command) string {
	if f := cmd.Flag("config"); f != nil {
		return f.Value.String()
	}
	return ""
}

// tell warns about variables that belong to no setting, and with --verbose prints the settings from
// elsewhere that count.
func (e elsewhere) tell(w io.Writer, all []effective) {
	for _, p := range e.strange {
		_, _ = fmt.Fprintf(w, "warning: %s\n", p)
	}
	talks := func(s effective) bool { return s.name == "verbose" && s.flag.Value.String() != "0" }
	if !slices.ContainsFunc(all, talks) {
		return
	}
	for _, s := range all {
		if s.origin.Name != "" {
			_, _ = fmt.Fprintf(w, "setting: %s from %s\n", s.name, s.origin)
		}
	}
}
