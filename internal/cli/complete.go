package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// complete registers the completions of arguments and flags: these values, files where one is
// named, nothing for the rest.
func complete(root *cobra.Command) {
	_ = root.MarkPersistentFlagFilename("config", "yaml")
	all := settings()
	for _, cmd := range everyCommand(root) {
		if strings.Contains(cmd.Use, "[RUN]") {
			cmd.ValidArgsFunction = completeRuns(orchestrator.Runs)
		} else if strings.Contains(cmd.Use, "[FLEET-RUN]") {
			cmd.ValidArgsFunction = completeRuns(orchestrator.Fleets)
		} else if cmd.ValidArgsFunction == nil && !strings.Contains(cmd.Use, "FILE") {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for _, of := range all {
			of.complete(cmd)
		}
		for flag, values := range map[string]cobra.CompletionFunc{
			"output":              cobra.FixedCompletions(outputs(cmd), cobra.ShellCompDirectiveNoFileComp),
			"selector":            cobra.NoFileCompletions,
			"parallel-clusters":   cobra.NoFileCompletions,
			"stop-after-failures": cobra.NoFileCompletions,
			"wait":                cobra.NoFileCompletions,
			"resume":              completeRuns(orchestrator.Fleets),
			"node":                completeNodes,
		} {
			if cmd.Flags().Lookup(flag) != nil && (flag != "node" || cmd.Name() == "rollback") {
				// An error would mean that the flag does not exist.
				_ = cmd.RegisterFlagCompletionFunc(flag, values)
			}
		}
		for _, flag := range []string{"file", "fleet"} {
			if cmd.Flags().Lookup(flag) != nil {
				_ = cmd.MarkFlagFilename(flag, "yaml", "yml")
			}
		}
		if cmd.Flags().Lookup("dir") != nil {
			_ = cmd.MarkFlagDirname("dir")
		}
	}
}

// complete registers the completions of the setting's values: those it can have, files or directories where
// it names one, else nothing.
func (s setting) complete(cmd *cobra.Command) {
	switch flag := cmd.Flags().Lookup(s.name); {
	case flag == nil:
	case s.values != nil:
		_ = cmd.RegisterFlagCompletionFunc(s.name, cobra.FixedCompletions(s.values, cobra.ShellCompDirectiveNoFileComp))
	case s.directory:
		_ = cmd.MarkFlagDirname(s.name)
	case s.path == nil && flag.Value.Type() != "bool":
		_ = cmd.RegisterFlagCompletionFunc(s.name, cobra.NoFileCompletions)
	}
}

func everyCommand(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, child := range cmd.Commands() {
		out = append(out, everyCommand(child)...)
	}
	return out
}

// outputs are the values of -o: its help lists them.
func outputs(cmd *cobra.Command) []string {
	f := cmd.Flags().Lookup("output")
	if f == nil {
		return nil
	}
	values, _, _ := strings.Cut(f.Usage, " (")
	return strings.Split(strings.ReplaceAll(values, " or ", ", "), ", ")
}

// completeRuns are the recorded runs, the newest first.
func completeRuns(recorded func(state string) ([]run.Record, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		runs, err := recorded(stateFlag(cmd))
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var out []cobra.Completion
		for _, r := range runs {
			if shell.Quote(r.ID) != r.ID { // bash expands the suggestions
				continue
			}
			out = append(out, cobra.CompletionWithDesc(r.ID, fmt.Sprintf("%s, %s", r.State.Kind, r.Status())))
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeNodes are the nodes of the named run, or of the newest.
func completeNodes(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	_, p, err := recorded(cmd, stateFlag(cmd), strings.Join(args, ""))
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for _, n := range p.Snapshot.Nodes {
		if shell.Quote(n.Name) == n.Name { // bash expands the suggestions
			out = append(out, n.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func stateFlag(cmd *cobra.Command) string {
	_, _, _ = settle(cmd) // the command itself reports errors in settings
	if f := cmd.Flags().Lookup("state-dir"); f != nil {
		return f.Value.String()
	}
	return ""
}
