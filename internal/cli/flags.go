package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// stateUsage describes --state-dir.
const stateUsage = "directory for run records (default: $XDG_STATE_HOME/kscertctl)"

// inspectFlags are the flags of every command that inspects nodes. Those of ansible-playbook keep
// their names and meaning.
type inspectFlags struct {
	opts    orchestrator.Options
	verbose int
	// save and from are files of snapshots, of commands that only inspect.
	save, from string
	// timeout is another name for Ansible's --timeout, for commands that do not use it themselves.
	timeout string
}

// register adds the flags for the inventory and the connection.
func (f *inspectFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	a := &f.opts.Ansible
	fl.StringArrayVarP(&a.Inventories, "inventory", "i", nil,
		"inventory file, directory, script or host list; may be repeated (required)")
	fl.StringVarP(&a.User, "user", "u", "", "connect as this user")
	fl.StringVar(&a.PrivateKey, "private-key", "", "SSH private key file")
	fl.StringArrayVarP(&a.ExtraVars, "extra-vars", "e", nil,
		"extra variables: key=value, JSON, or @FILE; may be repeated")
	fl.BoolVarP(&a.AskPass, "ask-pass", "k", false, "ask for the connection password, once")
	fl.StringVar(&a.ConnectionPasswordFile, "connection-password-file", "",
		"file with the connection password, or a program that prints it")
	fl.StringVarP(&a.Connection, "connection", "c", "", "connection plugin (default: Ansible's, ssh)")
	fl.IntVarP(&a.Timeout, cmp.Or(f.timeout, "timeout"), "T", 0,
		"how long connecting to a node may take, seconds (default: Ansible's, 10)")
	fl.StringVar(&a.SSHCommonArgs, "ssh-common-args", "", "arguments of ssh, sftp and scp, such as -o ProxyJump=HOST")
	fl.StringVar(&a.SSHExtraArgs, "ssh-extra-args", "",
		"arguments of ssh alone; sftp and scp have flags of this kind too")
	fl.StringVar(&a.SFTPExtraArgs, "sftp-extra-args", "", "arguments of sftp alone")
	fl.StringVar(&a.SCPExtraArgs, "scp-extra-args", "", "arguments of scp alone")
	fl.BoolVarP(&a.Become, "become", "b", false,
		"pass -b to Kubespray's playbooks (kscertctl's own always become root)")
	fl.StringVar(&a.BecomeMethod, "become-method", "", "how to become another user (default: Ansible's, sudo)")
	fl.StringVar(&a.BecomeUser, "become-user", "",
		"user to become (default: Ansible's, root; another user needs the same rights)")
	fl.BoolVarP(&a.AskBecomePass, "ask-become-pass", "K", false, "ask for the become password, once")
	fl.StringVar(&a.BecomePasswordFile, "become-password-file", "",
		"file with the become password, or a program that prints it")
	fl.IntVarP(&a.Forks, "forks", "f", 0,
		"nodes to work on at the same time where that is safe (default: Ansible's; 50 for inspection, backups and "+
			"kubelets)")
	fl.BoolVarP(&a.AskVaultPass, "ask-vault-pass", "J", false, "ask for the vault password, once")
	fl.StringArrayVar(&a.VaultIDs, "vault-id", nil,
		"vault identity: [NAME@]FILE, a program, or prompt; may be repeated")
	fl.StringArrayVar(&a.VaultPasswordFiles, "vault-password-file", nil, "vault password file; may be repeated")
	fl.CountVarP(&f.verbose, "verbose", "v", "show Ansible's own output; -vv and more make Ansible verbose too")
	fl.StringVar(&a.BinDir, "ansible-bin", "", "directory of ansible-playbook, such as VENV/bin (default: search PATH)")
	fl.StringVar(&f.opts.KubesprayDir, "kubespray-dir", "",
		"Kubespray checkout to run in (default, where one is needed: here, above the inventory, ./kubespray, "+
			"../kubespray)")
	fl.StringVar(&f.opts.StateDir, "state-dir", "", stateUsage)
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(cmp.Or(otherNames[name], name))
	})
	f.passOn(cmd)
}

// otherNames are ansible-playbook's other names of a flag.
var otherNames = map[string]string{
	"inventory-file": "inventory", "key-file": "private-key", "conn-pass-file": "connection-password-file",
	"become-pass-file":   "become-password-file",
	"ask-vault-password": "ask-vault-pass", "vault-pass-file": "vault-password-file",
}

// passOn removes the arguments after -- from the command's, for ansible-playbook, and checks for
// flags that exclude each other.
func (f *inspectFlags) passOn(cmd *cobra.Command) {
	before := func(cmd *cobra.Command, args []string) []string {
		if n := cmd.ArgsLenAtDash(); n >= 0 {
			return args[:n]
		}
		return args
	}
	check, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		own := before(cmd, args)
		f.opts.Ansible.Args = args[len(own):]
		for ask, file := range map[string]string{"ask-pass": "connection-password-file",
			"ask-become-pass": "become-password-file"} {
			if cmd.Flags().Changed(ask) && cmd.Flags().Changed(file) {
				return usage(cmd, fmt.Errorf("--%s and --%s exclude each other", ask, file))
			}
		}
		return check(cmd, own)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, before(cmd, args)) }
}

// registerSnapshot adds the flags of commands that only inspect.
func (f *inspectFlags) registerSnapshot(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.save, "save-snapshot", "",
		"also write the snapshot to this file, without secrets: a support case in one file")
	cmd.Flags().StringVar(&f.from, "from-snapshot", "",
		"connect to no node: read a snapshot from a file of --save-snapshot")
}

// options returns the options from the flags.
func (f *inspectFlags) options(s Streams) orchestrator.Options {
	opts := f.opts
	opts.Ansible.Ask = asker(s)
	if f.verbose > 0 {
		opts.Output = s.Err
		opts.Ansible.Verbosity = f.verbose - 1
	}
	return opts
}

// snapshot inspects the nodes, or reads an earlier inspection. Problems are reported on standard
// error as they happen, and the snapshot is saved on request.
func (f *inspectFlags) snapshot(cmd *cobra.Command, s Streams) (snapshot.Snapshot, error) {
	if f.from != "" {
		return f.load(cmd)
	}
	if err := f.writable(); err != nil {
		return snapshot.Snapshot{}, err
	}
	opts := f.options(s)
	opts.Observe = newProgress(s).event
	o, err := orchestrator.New(opts)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	snap, err := o.Inspect(cmd.Context())
	if err != nil {
		return snap, err
	}
	return snap, f.saveSnapshot(snap)
}

// load reads the file of --from-snapshot.
func (f *inspectFlags) load(cmd *cobra.Command) (snapshot.Snapshot, error) {
	switch {
	case cmd.Flags().Changed("inventory"):
		return snapshot.Snapshot{}, usage(cmd, errors.New("--from-snapshot connects to no node, so it takes no -i"))
	case f.save != "":
		return snapshot.Snapshot{},
			usage(cmd, errors.New("--from-snapshot and --save-snapshot exclude each other: the file already exists"))
	}
	snap, err := snapshot.Load(f.from)
	return snap, fileError(err)
}

// writable checks the file of --save-snapshot before the nodes are inspected, so that no one waits
// in order to fail.
func (f *inspectFlags) writable() error {
	if f.save == "" {
		return nil
	}
	return fileError(snapshot.Writable(f.save))
}

// saveSnapshot writes the file of --save-snapshot.
func (f *inspectFlags) saveSnapshot(snap snapshot.Snapshot) error {
	if f.save == "" {
		return nil
	}
	return fileError(snapshot.Save(f.save, snap))
}

// fileError gives a snapshot file that cannot be used the exit code of wrong usage; nil stays nil.
func fileError(err error) error {
	if err == nil {
		return nil
	}
	e := &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err}
	if file, ok := errors.AsType[*snapshot.FileError](err); ok {
		e.Next = file.Next
	}
	return e
}

// thresholdFlags define when a certificate is reported.
type thresholdFlags struct{ warn, crit string }

func (f *thresholdFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.warn, "warn", "30d", "warn when a certificate expires within this time, such as 30d, 12h")
	cmd.Flags().StringVar(&f.crit, "crit", "7d", "critical when a certificate expires within this time")
}

// thresholds validates the flags and returns the thresholds.
func (f *thresholdFlags) thresholds(cmd *cobra.Command) (t expiry.Thresholds, err error) {
	if t.Warn, err = config.ParseTime(f.warn); err != nil {
		return t, usage(cmd, fmt.Errorf("--warn: %w", err))
	}
	if t.Crit, err = config.ParseTime(f.crit); err != nil {
		return t, usage(cmd, fmt.Errorf("--crit: %w", err))
	}
	if t.Crit > t.Warn {
		return t, usage(cmd, fmt.Errorf(
			"--crit %s is longer than --warn %s: a critical certificate would never have been a warning", f.crit,
			f.warn))
	}
	return t, nil
}

// verdictFlags are the flags of every command that diagnoses.
type verdictFlags struct {
	warn string
	textOutput
}

func (f *verdictFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.warn, "warn", "30d",
		"a certificate is due when it expires within this time, such as 30d, 12h")
	f.textOutput.register(cmd)
}

// textOutput is the output format of a command that has text and documents.
type textOutput struct {
	output string
	// events allows the format for the events of a run.
	events bool
}

// jsonLines is the format of events: one JSON object per line.
const jsonLines = "jsonl"

func (f *textOutput) register(cmd *cobra.Command) {
	usage := "text or json"
	if f.events {
		usage = "text, json or " + jsonLines + " (each event when it happens)"
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", usage)
}

// check validates the format.
func (f *textOutput) check(cmd *cobra.Command) error {
	switch {
	case f.output == "text", f.output == "json", f.output == jsonLines && f.events:
		return nil
	case f.events:
		return usage(cmd, fmt.Errorf("-o %s: must be text, json or %s", f.output, jsonLines))
	}
	return usage(cmd, fmt.Errorf("-o %s: must be text or json", f.output))
}

// thresholds validates the flags and returns when a certificate is due.
func (f *verdictFlags) thresholds(cmd *cobra.Command) (diagnosis.Thresholds, error) {
	t := diagnosis.DefaultThresholds()
	if err := f.check(cmd); err != nil {
		return t, err
	}
	before, err := config.ParseTime(f.warn)
	if err != nil {
		return t, usage(cmd, fmt.Errorf("--warn: %w", err))
	}
	t.RenewBefore = before
	return t, nil
}

// oneOf is a flag that takes one of some names.
type oneOf[T ~string] struct {
	value *T
	all   []T
}

func (f oneOf[T]) String() string {
	if f.value == nil { // pflag asks a zero value that it has made itself
		return ""
	}
	return string(*f.value)
}
func (f oneOf[T]) Type() string { return "name" }
func (f oneOf[T]) Set(s string) error {
	if !slices.Contains(f.all, T(s)) {
		return fmt.Errorf("must be one of %s", strings.Join(names(f.all), ", "))
	}
	*f.value = T(s)
	return nil
}

func names[T ~string](all []T) (out []string) {
	for _, name := range all {
		out = append(out, string(name))
	}
	return out
}

// words is a flag that takes several values, separated by commas or repeated; if only is set, no
// others.
type words struct{ values, only []string }

func (w *words) String() string     { return strings.Join(w.values, ",") }
func (w *words) Type() string       { return "names" }
func (w *words) GetSlice() []string { return w.values }
func (w *words) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		switch {
		case word == "":
			return errors.New("a name is missing")
		case w.only != nil && !slices.Contains(w.only, word):
			return fmt.Errorf("%s must be one of %s", word, strings.Join(w.only, ", "))
		}
		w.values = append(w.values, word)
	}
	return nil
}
