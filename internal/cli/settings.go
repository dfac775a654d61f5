package cli

import (
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

// setting is a flag whose value may also come from kscertctl.yaml and from the
// environment.
type setting struct {
	name string
	// group is the heading of the flag in --help.
	group string
	// path finds the file or folder of this machine in a value; nil where there is none.
	path anchor.Finder
	// values are the only ones; nil for any, or where the flag itself knows.
	values []string
	// time is true for what may be in days.
	time bool
	// secret is true when a value may be one, unless it is @FILE. show is what may be
	// shown of a value; nil for all of it.
	secret bool
	show   func(string) string
	// recorded is true for what the record of a run holds. Commands that go by a record
	// take it from there or from a flag: a run goes on as it was begun.
	recorded bool
	// but is a command where the flag is about something else, and is not set elsewhere.
	but string
}

// settings are the flags that can be set elsewhere, in the order of the reference and of
// --help. Every other flag is one of invocation; a test holds both against the commands.
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
			{name: "ansible-bin", path: anchor.Whole, recorded: true},
		}),
		grouped(planning, []setting{
			{name: "warn", time: true},
			{name: "crit", time: true},
			{name: "due-before"},
			{name: "playbook", values: names(plan.Choices())},
			{name: "kubespray-dir", path: anchor.Whole, recorded: true},
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
			{name: "backup-root"},
			{name: "etcd-snapshot", values: names(plan.EtcdSnapshots()), recorded: true},
		}),
		grouped(gating, []setting{
			{name: "gate-timeout", recorded: true},
			{name: "stable-for", recorded: true},
			{name: "step-timeout", recorded: true},
			{name: "rollback-on-failure"},
		}),
		grouped(telling, []setting{
			{name: "fail-on", values: failOn()},
			{name: "state-dir", path: anchor.Whole, but: "exporter"},
			{name: "report-dir", path: anchor.Whole, but: "report"},
			{name: "refresh-kubeconfig", path: anchor.Whole, recorded: true},
			{name: "notify-command", show: firstWord},
			{name: "notify-webhook", path: anchor.AtFile, secret: true, show: onlyFile},
			{name: "notify-on", values: names(notify.Moments())},
			{name: "notify-format", values: names(notify.Formats())},
			{name: "notify-timeout"},
			{name: "notify-tries"},
			{name: "interval"},
			{name: "web.listen-address"},
			{name: "web.config.file", path: anchor.Whole},
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

// invocation are the flags that are about one call of a command, and why each cannot be
// set elsewhere.
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
		"validity":            oneCall,
		"config":              "a file does not name another",
		"origin":              oneCall,
		"no-descriptions":     oneCall,
		"help":                oneCall,
		"version":             oneCall,
	}
}

// onlyFile shows @FILE, and nothing of what may be a secret.
func onlyFile(value string) string {
	if strings.HasPrefix(value, "@") {
		return value
	}
	return hidden(value)
}

// hidden shows nothing of what may be a secret but that it is there.
func hidden(value string) string {
	if value == "" {
		return ""
	}
	return "(not shown)"
}

// firstWord shows how a command begins: what follows may be a token.
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

// flags are those of all commands that the setting is for, that of "run" first.
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

// flagOf is the setting's flag of a command; nil where there is none, or where it is
// about something else.
func (s setting) flagOf(cmd *cobra.Command) *pflag.Flag {
	if cmd.Name() == s.but {
		return nil
	}
	return cmd.Flags().Lookup(s.name)
}

// byRecord is the annotation of commands that carry out what another one has begun.
const byRecord = "by record"

func goesByRecord(cmd *cobra.Command) bool {
	_, ok := cmd.Annotations[byRecord]
	return ok
}

// elsewhere is what is set in the file and in the environment.
type elsewhere struct {
	// file that was read; empty for none.
	file   string
	values map[string]config.Value
	// strange are variables that are no setting's.
	strange []config.Problem
}

// readElsewhere reads the file that is named, or looks for one, and the environment.
func readElsewhere(root *cobra.Command, named string) (elsewhere, error) {
	k := known(root)
	name, text, err := config.Find(named, os.Getenv)
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

// unusable is the error of a file whose settings cannot be used. next is what to do where
// the file can be read.
func unusable(err error, next string) *orchestrator.Error {
	e := &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err, Next: next}
	if file, ok := errors.AsType[*config.FileError](err); ok {
		e.Next = file.Next
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

// effective is what a setting is for a command, and where that was set.
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

// settle gives the flags of a command that were not typed what is set elsewhere. Those
// flags do not count as changed. A command without settings reads none, so that "help"
// and "version" always work.
func settle(cmd *cobra.Command) ([]effective, elsewhere, error) {
	all := settingsOf(cmd)
	if len(all) == 0 {
		return nil, elsewhere{}, nil
	}
	from, err := readElsewhere(cmd.Root(), configFlag(cmd))
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

// applySettings settles a command that is about to run, and prints what is to be known.
func applySettings(cmd *cobra.Command, w io.Writer) error {
	all, from, err := settle(cmd)
	if err == nil {
		from.tell(w, all)
	}
	return err
}

// set gives the flag a value, with what is relative to its origin made absolute.
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

// place is a path of this machine as it was meant: in a file, one that is relative is
// below the file's folder, and no shell has replaced ~.
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
	if err != nil { // the working directory is gone: what is relative leads nowhere anyway
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

// tell warns of variables that are no setting's, and says with --verbose what is set
// elsewhere and counts.
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
