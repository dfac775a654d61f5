package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The headings of flags in --help, in the order in which a reader needs them.
const (
	fleets   = "Fleet"
	reach    = "Inventory and connection, as in ansible-playbook"
	planning = "Plan"
	gating   = "Gates"
	engine   = "Management cluster"
	telling  = "Output and records"
	other    = "Other"
)

// headings are all of them.
func headings() []string { return []string{fleets, engine, reach, planning, gating, telling, other} }

// helpWidth is the width of the help if that of the terminal is unknown.
const helpWidth = 100

// groupOf is the heading of a flag that is not a setting.
func groupOf(name string) string {
	switch name {
	case "file", "fleet", "selector", "parallel-clusters", "stop-after-failures", "wait", "resume":
		return fleets
	case "kubeconfig", "context", "namespace", "name", "schedule", "time-zone", "print", "follow", "check", "index",
		"result-file":
		return engine
	case "from-snapshot":
		return reach
	case "yes", "discard-changes", "digest", "node", "keep", "ca", "until", "strategy", "restart-workloads",
		"patch-ca-bundles", "validity", "dir", "overwrite":
		return planning
	case "config", "help", "version":
		return other
	default:
		return telling
	}
}

// flagGroup are the flags of a command under one heading.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

// flagGroups sorts a command's flags into groups. Flags that are not settings come before settings,
// in the order of the command.
func flagGroups(cmd *cobra.Command) []flagGroup {
	byTitle := map[string]*pflag.FlagSet{}
	var out []flagGroup
	for _, title := range headings() {
		byTitle[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
		byTitle[title].SortFlags = false
		out = append(out, flagGroup{title, byTitle[title]})
	}
	all := settings()
	add := func(f *pflag.Flag, title string) {
		if !f.Hidden {
			byTitle[title].AddFlag(f)
		}
	}
	flags := []*pflag.FlagSet{cmd.LocalFlags(), cmd.InheritedFlags()}
	for _, set := range flags {
		set.VisitAll(func(f *pflag.Flag) {
			if !slices.ContainsFunc(all, func(s setting) bool { return s.name == f.Name }) {
				add(f, groupOf(f.Name))
			}
		})
	}
	for _, s := range all {
		for _, set := range flags {
			if f := set.Lookup(s.name); f != nil {
				add(f, s.group)
			}
		}
	}
	return slices.DeleteFunc(out, func(g flagGroup) bool { return !g.flags.HasFlags() })
}

// groupFlags makes --help show the flags of each command in groups. A command that only has
// subcommands is shown in cobra's way.
func groupFlags(root *cobra.Command, columns int) {
	plain := root.UsageFunc()
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		if cmd.HasSubCommands() {
			return plain(cmd)
		}
		var out strings.Builder
		fmt.Fprintf(&out, "Usage:\n  %s\n", cmd.UseLine())
		if cmd.HasExample() {
			fmt.Fprintf(&out, "\nExamples:\n%s\n", cmd.Example)
		}
		for _, g := range flagGroups(cmd) {
			fmt.Fprintf(&out, "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(cmp.Or(columns, helpWidth)))
		}
		_, err := io.WriteString(cmd.OutOrStderr(), out.String())
		return err
	})
}
