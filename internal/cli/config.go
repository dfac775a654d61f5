package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

func newConfig(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show and check the settings in " + config.FileName + " and in the environment",
		Long: `config shows and checks the settings in ` + config.FileName + ` and in the environment,
which save typing the same flags each time.

A setting has the name of its flag; in the environment it is KSCERTCTL_ and that name
in capitals, with _ for - and for a dot. A flag wins over the environment, that over
the file, that over the default. One file is read: the one that --config or
KSCERTCTL_CONFIG names, or else ` + config.FileName + ` in the working directory, or else
the one in $XDG_CONFIG_HOME/kscertctl.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigShow(s), newConfigValidate(s), newConfigSchema(s))
	return cmd
}

func newConfigShow(s Streams) *cobra.Command {
	var (
		output string
		origin bool
	)
	cmd := &cobra.Command{
		Use:   "show [flags] [COMMAND [FLAGS]]",
		Short: "Show the settings, and where they are set",
		Long: `show lists every setting with its value. With a command, it lists what that
command would use: write "config show" in front of any command line. Values that
may be secrets are not shown.

With --origin it shows where each value was set: in a line of the file, in a variable,
by a flag, or nowhere. "-" is no value.`,
		Example: `  kscertctl config show
  kscertctl config show --origin run -i inventory.ini --forks 10
  kscertctl config show -o json check`,
		ValidArgsFunction: completeCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := show(cmd, s, args)
			if err != nil {
				return err
			}
			switch output {
			case "text":
				return c.text(s.Out, origin)
			case "json":
				return report.JSON(s.Out, c)
			case "yaml":
				return report.YAML(s.Out, c)
			default:
				return usage(cmd, fmt.Errorf("-o %s: must be text, json or yaml", output))
			}
		},
	}
	cmd.Flags().SetInterspersed(false) // the flags after the command are its own
	cmd.Flags().BoolVar(&origin, "origin", false, "show in the text where each value was set")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	return cmd
}

func newConfigValidate(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check a configuration file, line by line",
		Long: `validate reads a configuration file, by default the one that would be used, and
reports every problem with FILE:LINE:COLUMN. The exit code is 0 when there is none,
and 64 otherwise.`,
		Example: `  kscertctl config validate
  kscertctl config validate production/kscertctl.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			named := strings.Join(append(args, configFlag(cmd))[:1], "")
			name, text, err := config.Find(cmd.Context(), named, os.Getenv)
			if err != nil {
				return settingsError(err)
			}
			if name == "" {
				return usage(cmd, errors.New("there is no configuration file: neither "+
					strings.Join(config.Places(os.Getenv), " nor ")))
			}
			values, err := config.Parse(name, text, known(cmd.Root()))
			if err != nil {
				return settingsError(err)
			}
			_, err = fmt.Fprintf(s.Out, "%s: valid; settings: %d\n", name, len(values))
			return err
		},
	}
}

func newConfigSchema(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of " + config.FileName + ", for editors",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return report.JSON(s.Out, config.JSONSchema(known(cmd.Root())))
		},
	}
}

// configuration is the document of "config show".
type configuration struct {
	Schema int `json:"schema"`
	// File that was read; absent for none.
	File     string       `json:"file,omitempty"`
	Settings []configured `json:"settings"`
}

type configured struct {
	Name string `json:"name"`
	// Value is a string, a number, a boolean or a list of strings; absent for none.
	Value  any           `json:"value,omitempty"`
	Origin config.Source `json:"origin"`
	// At is the variable, or FILE:LINE.
	At string `json:"at,omitempty"`
}

// show returns the settings that a command line would use, or, without one, those that are set
// elsewhere.
func show(cmd *cobra.Command, s Streams, args []string) (configuration, error) {
	root := newRoot(s)
	of := settingsOnly(root)
	if len(args) > 0 {
		found, rest, err := root.Find(args)
		if err == nil {
			err = found.ParseFlags(rest)
		}
		if err == nil && found.HasSubCommands() { // a name that is no command is an argument
			err = found.ValidateArgs(found.Flags().Args())
		}
		if err == nil && len(settingsOf(found)) == 0 {
			err = fmt.Errorf("%s has no settings", found.CommandPath())
		}
		if err != nil {
			return configuration{}, usage(cmd, err)
		}
		of = found
	}
	if named := root.PersistentFlags().Lookup("config"); !named.Changed {
		if err := named.Value.Set(configFlag(cmd)); err != nil {
			return configuration{}, usage(cmd, err)
		}
	}
	all, from, err := settle(of)
	if err != nil {
		return configuration{}, err
	}
	from.tell(s.Err, nil)
	out := configuration{Schema: 1, File: from.file, Settings: []configured{}}
	for _, e := range all {
		at := ""
		if e.origin.Name != "" {
			at = e.origin.String()
		}
		out.Settings = append(out.Settings, configured{Name: e.name, Value: e.value(), Origin: e.origin.Source, At: at})
	}
	return out, nil
}

// settingsOnly is a command below root that has every setting.
func settingsOnly(root *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: "settings"}
	for _, s := range settings() {
		if flags := s.flags(root); len(flags) > 0 {
			f := *flags[0]
			f.Shorthand = "" // two of different commands may have the same
			cmd.Flags().AddFlag(&f)
		}
	}
	root.AddCommand(cmd)
	return cmd
}

// value is the printable part of a setting, with its type in the file; nil for none.
func (e effective) value() any {
	hide := e.show
	if hide == nil {
		hide = func(s string) string { return s }
	}
	text := e.flag.Value.String()
	if l, ok := e.flag.Value.(list); ok {
		var out []string
		for _, v := range l.GetSlice() {
			out = append(out, hide(v))
		}
		if out == nil {
			return nil
		}
		return out
	}
	switch kind := e.of(e.flag).Kind; {
	case kind == config.Bool:
		return text == "true"
	case noValue(text):
		return nil
	case kind == config.Integer:
		n, _ := strconv.Atoi(text) // the flag has read it already
		return n
	}
	return hide(text)
}

// noValue is true for the text of a default that stands for something else.
func noValue(text string) bool {
	return slices.Contains([]string{"", "0", "0s", "false", "[]"}, text)
}

func (d configuration) text(w io.Writer, origin bool) error {
	tw := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	file := d.File
	if file == "" {
		file = "none of " + strings.Join(config.Places(os.Getenv), ", ")
	}
	_, _ = fmt.Fprintf(tw, "file: %s\n\n", file)
	for _, s := range d.Settings {
		value := "-"
		switch v := s.Value.(type) {
		case nil:
		case []string:
			value = strings.Join(v, ", ")
		default:
			value = fmt.Sprint(v)
		}
		line := s.Name + "\t" + value
		if origin {
			line += "\t" + string(s.Origin)
			if s.At != "" {
				line += " " + s.At
			}
		}
		_, _ = fmt.Fprintln(tw, line)
	}
	return tw.Flush()
}

// completeCommands are the commands that have settings, level by level.
func completeCommands(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	parent, _, err := cmd.Root().Find(args)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for _, child := range parent.Commands() {
		if slices.ContainsFunc(everyCommand(child), func(c *cobra.Command) bool { return len(settingsOf(c)) > 0 }) {
			out = append(out, cobra.CompletionWithDesc(child.Name(), child.Short))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
