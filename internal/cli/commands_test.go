package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestCommandReference: the reference of the commands says what --help says. Write it
// anew with UPDATE_DOCS=1.
func TestCommandReference(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString(`# Commands

<!-- written by the test TestCommandReference: UPDATE_DOCS=1 go test ./internal/cli -->

Flags that ` + "`ansible-playbook`" + ` has too mean the same here. Data goes to standard output, what
happens meanwhile to standard error. [Exit codes](exit-codes.md) are the same for all.
Most flags can be set in a file, which every command takes as ` + "`--config FILE`" + `, and in the
environment: [configuration](configuration.md).

`)
	commands := everyCommand(newRoot(Streams{Out: io.Discard, Err: io.Discard}))[1:]
	for _, cmd := range commands {
		if listed(cmd) {
			fmt.Fprintf(&out, "- [`%s`](#%s): %s\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
		}
	}
	flags, commandsWith := map[string]flagRows{}, map[flagRow]int{}
	for _, cmd := range commands {
		flags[cmd.CommandPath()] = flagsOf(cmd)
		for _, row := range flags[cmd.CommandPath()] {
			if listed(cmd) {
				commandsWith[row]++
			}
		}
	}
	var common flagRows
	for _, cmd := range commands {
		_, shared := flags[cmd.CommandPath()].split(commandsWith)
		for _, row := range shared {
			if listed(cmd) && !slices.Contains(common, row) {
				common = append(common, row)
			}
		}
	}
	for _, cmd := range commands {
		if !listed(cmd) {
			continue
		}
		long := cmd.Long
		if long == "" {
			long = cmd.Short + "."
		}
		fmt.Fprintf(&out, "\n## %s\n\n```text\n%s\n```\n\n%s\n", cmd.CommandPath(), cmd.UseLine(), strings.TrimSpace(long))
		if len(cmd.Aliases) > 0 {
			fmt.Fprintf(&out, "\nAlso called `%s`.\n", strings.Join(cmd.Aliases, "`, `"))
		}
		if cmd.Example != "" {
			fmt.Fprintf(&out, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
		}
		own, shared := flags[cmd.CommandPath()].split(commandsWith)
		if table := own.table(); table != "" {
			fmt.Fprintf(&out, "\n%s", table)
		}
		if len(shared) > 0 {
			fmt.Fprintf(&out, "\n[Shared flags](#shared-flags): %s.\n", shared.names(common))
		}
	}
	fmt.Fprintf(&out, "\n## Shared flags\n\nThese mean the same for every command that names them.\n\n%s", common.table())
	const page = "docs/reference/commands.md"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(filepath.Join(root, page), []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if read(t, page) != out.String() {
		t.Errorf("%s is not what the code says; write it anew with UPDATE_DOCS=1", page)
	}
}

func listed(cmd *cobra.Command) bool {
	return cmd.Runnable() && !cmd.Hidden && !cmd.HasSubCommands()
}

// flagRow is a row of a table of flags, and the group that it belongs to.
type flagRow struct{ group, name, text string }

type flagRows []flagRow

func flagsOf(cmd *cobra.Command) flagRows {
	var out flagRows
	for _, g := range flagGroups(cmd) {
		g.flags.VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || cmd.InheritedFlags().Lookup(f.Name) != nil {
				return
			}
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			fallback := ""
			if !noValue(f.DefValue) {
				fallback = "`" + strings.Trim(f.DefValue, "[]") + "`"
			}
			text := fmt.Sprintf("| `%s` | %s | %s |\n", name, fallback, strings.ReplaceAll(f.Usage, "|", "\\|"))
			out = append(out, flagRow{g.title, f.Name, text})
		})
	}
	return out
}

// split separates the flags of a command from those that at least three commands have
// with the same words: these are described once.
func (rows flagRows) split(commandsWith map[flagRow]int) (own, shared flagRows) {
	for _, row := range rows {
		if commandsWith[row] >= 3 {
			shared = append(shared, row)
		} else {
			own = append(own, row)
		}
	}
	return own, shared
}

// names are those of rows that several commands share; where most of a group are among
// them, the group's title and what is left out.
func (rows flagRows) names(common flagRows) string {
	list := func(rows flagRows) string {
		var out []string
		for _, row := range rows {
			out = append(out, "`--"+row.name+"`")
		}
		return strings.Join(out, ", ")
	}
	var out []string
	for _, title := range headings() {
		has, lacks := rows.in(title), slices.DeleteFunc(common.in(title), func(row flagRow) bool { return slices.Contains(rows, row) })
		switch {
		case len(has) == 0:
		case len(has) < 2*len(lacks) || len(has) < 3:
			out = append(out, list(has))
		case len(lacks) == 0:
			out = append(out, "**"+title+"**")
		default:
			out = append(out, "**"+title+"** without "+list(lacks))
		}
	}
	return strings.Join(out, "; ")
}

// in are the rows of a group.
func (rows flagRows) in(title string) flagRows {
	return slices.DeleteFunc(slices.Clone(rows), func(row flagRow) bool { return row.group != title })
}

// table has the rows in their groups.
func (rows flagRows) table() string {
	if len(rows) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("| flag | default | meaning |\n| --- | --- | --- |\n")
	for _, title := range headings() {
		heading := fmt.Sprintf("| **%s** | | |\n", title)
		for _, row := range rows.in(title) {
			out.WriteString(heading + row.text)
			heading = ""
		}
	}
	return out.String()
}

// Every command has a script that pins its exit codes and what it writes.
func TestEveryCommandHasAScript(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var scripts strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		scripts.WriteString(strings.ReplaceAll(string(data), "\n", " \n"))
	}
	for _, cmd := range everyCommand(newRoot(Streams{Out: io.Discard, Err: io.Discard})) {
		if listed(cmd) && !strings.Contains(scripts.String(), " "+cmd.CommandPath()+" ") {
			t.Errorf("no script calls %s", cmd.CommandPath())
		}
	}
}
