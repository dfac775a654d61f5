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

// TestCommandReference: the reference of the commands has the first paragraph of each --help, its
// examples and its flags. UPDATE_DOCS=1 writes it.
func TestCommandReference(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString(`# Commands

<!-- written by the test TestCommandReference: UPDATE_DOCS=1 go test ./internal/cli -->

Flags that ` + "`ansible-playbook`" + ` has too mean the same here. Data goes to standard output, progress to standard
error. [Exit codes](exit-codes.md) are the same for all. Most flags can be set in a file, which every command takes as
` + "`--config FILE`" + `, and in the environment: [configuration](configuration.md). ` + "`--help`" + ` and the man pages have more on
each command, and so have the [how-to guides](../README.md).

`)
	commands := slices.DeleteFunc(everyCommand(newRoot(Streams{Out: io.Discard, Err: io.Discard})), func(cmd *cobra.Command) bool {
		return !listed(cmd) || cmd.Parent().Name() == "completion"
	})
	for i, cmd := range commands {
		separator := ",\n"
		if i == len(commands)-1 {
			separator = ".\n"
		}
		_, name, _ := strings.Cut(cmd.CommandPath(), " ")
		fmt.Fprintf(&out, "[%s](#%s)%s", name, strings.ReplaceAll(name, " ", "-"), separator)
	}
	out.WriteString(`
"kscertctl completion" prints the completion script of bash, fish, powershell or zsh; its --help shows how
to load it.
`)
	flags, commandsWith := map[string]flagRows{}, map[flagRow]int{}
	for _, cmd := range commands {
		flags[cmd.CommandPath()] = flagsOf(cmd)
		for _, row := range flags[cmd.CommandPath()] {
			commandsWith[row]++
		}
	}
	var common flagRows
	described := shared(commandsWith)
	for _, cmd := range commands {
		_, rows := flags[cmd.CommandPath()].split(described)
		for _, row := range rows {
			if !slices.Contains(common, row) {
				common = append(common, row)
			}
		}
	}
	for _, cmd := range commands {
		long, _, _ := strings.Cut(cmd.Long, "\n\n")
		if long == "" {
			long = cmd.Short + "."
		}
		fmt.Fprintf(&out, "\n## %s\n\n```text\n%s\n```\n\n%s\n", strings.TrimPrefix(cmd.CommandPath(), "kscertctl "), strings.TrimSuffix(cmd.UseLine(), " [flags]"), strings.TrimSpace(long))
		if len(cmd.Aliases) > 0 {
			fmt.Fprintf(&out, "\nAlso called `%s`.\n", strings.Join(cmd.Aliases, "`, `"))
		}
		if cmd.Example != "" {
			fmt.Fprintf(&out, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
		}
		own, rows := flags[cmd.CommandPath()].split(described)
		if len(own) > 0 {
			out.WriteString("\n" + own.list())
		}
		if len(rows) > 0 {
			fmt.Fprintf(&out, "\n[Shared](#shared-flags): %s.\n", rows.names(common))
		}
	}
	out.WriteString("\n## Shared flags\n\nThese mean the same for every command that names them.\n")
	for _, title := range headings() {
		if rows := common.in(title); len(rows) > 0 {
			fmt.Fprintf(&out, "\n**%s**\n\n%s", title, rows.list())
		}
	}
	const page = "docs/reference/commands.md"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(filepath.Join(root, page), []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if read(t, page) != out.String() {
		t.Errorf("%s is not what the code says; write it again with UPDATE_DOCS=1", page)
	}
}

func listed(cmd *cobra.Command) bool {
	return cmd.Runnable() && !cmd.Hidden && !cmd.HasSubCommands()
}

// flagRow is an entry of a list of flags, with its group.
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
				fallback = " (default: `" + strings.Trim(f.DefValue, "[]") + "`)"
			}
			text := fmt.Sprintf("- `%s`: %s%s\n", name, f.Usage, fallback)
			out = append(out, flagRow{g.title, f.Name, text})
		})
	}
	return out
}

// shared has, by name, the rows that several commands have with the same text: if they differ, the
// most frequent.
func shared(commandsWith map[flagRow]int) map[string]flagRow {
	out := map[string]flagRow{}
	for row, n := range commandsWith {
		other, has := out[row.name]
		if m := commandsWith[other]; n > 1 && (!has || n > m || n == m && row.text > other.text) {
			out[row.name] = row
		}
	}
	return out
}

// split separates the flags of a command from the shared ones, which are described once.
func (rows flagRows) split(shared map[string]flagRow) (own, common flagRows) {
	for _, row := range rows {
		if shared[row.name] == row {
			common = append(common, row)
		} else {
			own = append(own, row)
		}
	}
	return own, common
}

// names are those of rows that several commands share; if they include most of a group, the group's
// title and the exceptions.
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
		short, _, _ := strings.Cut(title, ",")
		has, lacks := rows.in(title), slices.DeleteFunc(common.in(title), func(row flagRow) bool { return slices.Contains(rows, row) })
		switch {
		case len(has) == 0:
		case len(has) < 2*len(lacks) || len(has) < 3:
			out = append(out, list(has))
		case len(lacks) == 0:
			out = append(out, "**"+short+"**")
		default:
			out = append(out, "**"+short+"** without "+list(lacks))
		}
	}
	return strings.Join(out, "; ")
}

// in are the rows of a group.
func (rows flagRows) in(title string) flagRows {
	return slices.DeleteFunc(slices.Clone(rows), func(row flagRow) bool { return row.group != title })
}

// list has the rows in the order of their groups.
func (rows flagRows) list() string {
	var out strings.Builder
	for _, title := range headings() {
		for _, row := range rows.in(title) {
			out.WriteString(row.text)
		}
	}
	return out.String()
}

// Every command has a script that pins its exit codes and its output.
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
