package ansible

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// ArgumentError explains why an argument is not passed on to ansible-playbook.
type ArgumentError struct {
	Argument, Reason string
	// Next is what to do instead.
	Next string
}

func (e *ArgumentError) Error() string { return e.Argument + ": " + e.Reason }

// argument is an option of ansible-playbook (ansible-core 2.14 to 2.19).
type argument struct {
	names string
	// value: the option takes one; path: it names files on the control node.
	value, path bool
	// refused is why it is not passed on, next what to do instead.
	refused, next string
}

const (
	ownFlag    = "kscertctl needs it itself"
	ownNext    = "pass it to kscertctl, before the --"
	noChange   = "the steps and gates of a run rest on what was changed"
	noChangeDo = "to see what would be done: kscertctl plan"
	skips      = "a run that leaves tasks or nodes out cannot be proved"
	prints     = "it prints something else instead"
)

var arguments = []argument{
	{names: "-v --verbose"}, {names: "-b --become"}, {names: "-D --diff"}, {names: "--force-handlers"},
	{names: "--flush-cache"},
	{names: "-u --user", value: true}, {names: "-c --connection", value: true}, {names: "-T --timeout", value: true},
	{names: "-f --forks", value: true}, {names: "-M --module-path", value: true, path: true},
	{names: "--private-key --key-file", value: true, path: true},
	{names: "--become-method", value: true}, {names: "--become-user", value: true},
	{names: "--ssh-common-args", value: true}, {names: "--ssh-extra-args", value: true},
	{names: "--sftp-extra-args", value: true}, {names: "--scp-extra-args", value: true},

	{names: "-i --inventory --inventory-file", refused: ownFlag, next: ownNext},
	{names: "-e --extra-vars", refused: ownFlag, next: ownNext},
	{names: "-k --ask-pass", refused: ownFlag, next: ownNext},
	{names: "-K --ask-become-pass", refused: ownFlag, next: ownNext},
	{names: "-J --ask-vault-pass --ask-vault-password", refused: ownFlag, next: ownNext},
	{names: "--connection-password-file --conn-pass-file", refused: ownFlag, next: ownNext},
	{names: "--become-password-file --become-pass-file", refused: ownFlag, next: ownNext},
	{names: "--vault-id", refused: ownFlag, next: ownNext},
	{names: "--vault-password-file --vault-pass-file", refused: ownFlag, next: ownNext},

	{names: "-C --check", refused: noChange, next: noChangeDo},
	{names: "--syntax-check", refused: noChange, next: noChangeDo},
	{names: "--list-hosts", refused: noChange, next: noChangeDo},
	{names: "--list-tasks", refused: noChange, next: noChangeDo},
	{names: "--list-tags", refused: noChange, next: noChangeDo},
	{names: "-l --limit", refused: skips,
		next: "what is fresh stays unchanged anyway; for a part of the cluster, pass --limit to kscertctl run or " +
			"plan, before the --"},
	{names: "-t --tags", refused: ownFlag, next: ownNext},
	{names: "--skip-tags", refused: ownFlag, next: ownNext},
	{names: "--start-at-task", refused: skips, next: "to continue where a run was stopped: kscertctl resume"},
	{names: "--step", refused: "Ansible has no terminal to prompt on",
		next: "review the steps first, then carry them out: kscertctl plan --out FILE, kscertctl apply FILE"},
	{names: "-h --help", refused: prints, next: "ask Ansible: ansible-playbook --help"},
	{names: "--version", refused: prints, next: "ask Ansible: ansible-playbook --version"},
}

// CheckArguments checks that arguments for ansible-playbook are options that do not affect a run's
// safety. Names must be complete. The error is an *ArgumentError.
func CheckArguments(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		a, at, err := checkArgument(arg)
		wants := a.value && at == len(arg)
		switch {
		case err != nil:
			return err
		case wants && len(args) == 0:
			return &ArgumentError{Argument: arg, Reason: "it needs a value",
				Next: "pass it as " + shell.Quote(arg+"=VALUE")}
		case wants:
			args = args[1:]
		}
	}
	return nil
}

// checkArgument checks a long option, or short ones in one word. For one that takes a value it
// returns where in arg that begins: at the end of arg if it is the next argument.
func checkArgument(arg string) (a argument, at int, err error) {
	if strings.HasPrefix(arg, "--") {
		name, value, has := strings.Cut(arg, "=")
		a, err := option(arg, name)
		if !has {
			return a, len(arg), err
		}
		return a, len(arg) - len(value), err
	}
	if len(arg) < 2 || arg[0] != '-' {
		a, err := option(arg, arg)
		return a, len(arg), err
	}
	for i := 1; i < len(arg); i++ {
		if a, err = option(arg, "-"+arg[i:i+1]); err != nil || a.value {
			return a, i + 1, err
		}
	}
	return a, len(arg), nil
}

// anchored are arguments that CheckArguments accepts, with paths below dir.
func anchored(args []string, dir string) []string {
	args = slices.Clone(args)
	for i := 0; i < len(args); i++ {
		a, at, err := checkArgument(args[i])
		if err != nil || !a.value {
			continue
		}
		before := args[i][:at]
		if at == len(args[i]) { // the value is the next one
			if i++; i == len(args) {
				break
			}
			before, at = "", 0
		}
		if a.path {
			paths := filepath.SplitList(args[i][at:])
			for j := range paths {
				paths[j] = anchor.Path(dir, paths[j])
			}
			args[i] = before + strings.Join(paths, string(filepath.ListSeparator))
		}
	}
	return args
}

// option finds the option of that name in arg.
func option(arg, name string) (argument, error) {
	var known []string
	for _, a := range arguments {
		names := strings.Fields(a.names)
		switch {
		case !slices.Contains(names, name):
		case a.refused != "":
			return argument{}, &ArgumentError{Argument: arg, Reason: a.refused, Next: a.next}
		default:
			return a, nil
		}
		if a.refused == "" {
			known = append(known, names[len(names)-1])
		}
	}
	return argument{}, &ArgumentError{Argument: arg, Reason: "this cannot be passed on to Ansible",
		Next: "allowed: " + strings.Join(known, ", ")}
}
