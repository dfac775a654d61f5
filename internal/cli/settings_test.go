package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// Every flag of every command is a setting, or is listed as none, with the reason: a new flag needs
// a decision. And a setting is one thing, with one type and a variable of its own.
func TestSettingsAndFlags(t *testing.T) {
	t.Parallel()
	root := newRoot(Streams{Out: io.Discard, Err: io.Discard})
	refused := invocation()
	met := map[string]bool{}
	for _, cmd := range everyCommand(root) {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		both := pflag.NewFlagSet("", pflag.ContinueOnError)
		both.AddFlagSet(cmd.Flags())
		both.AddFlagSet(cmd.PersistentFlags())
		both.VisitAll(func(f *pflag.Flag) {
			met[f.Name] = true
			i := slices.IndexFunc(settings(), func(s setting) bool { return s.name == f.Name })
			_, no := refused[f.Name]
			if (i >= 0) == no {
				t.Errorf("%s --%s: it must be in settings() or, with a reason, in invocation(), and not in both", cmd.CommandPath(), f.Name)
			}
			if no || i < 0 {
				return
			}
			if kinds()[f.Value.Type()] == "" {
				t.Errorf("%s --%s: kinds() does not know %s", cmd.CommandPath(), f.Name, f.Value.Type())
			}
			s := settings()[i]
			if first := s.of(s.flags(root)[0]); cmd.Name() != s.but && (s.of(f).Kind != first.Kind || s.of(f).List != first.List) {
				t.Errorf("%s --%s is a %s, and elsewhere a %s", cmd.CommandPath(), f.Name, s.of(f).Kind, first.Kind)
			}
			if _, required := f.Annotations[cobra.BashCompOneRequiredFlag]; required {
				t.Errorf("%s --%s is required as a flag, so it cannot be set elsewhere", cmd.CommandPath(), f.Name)
			}
		})
	}
	variables := map[string]string{config.FileVariable: "config"}
	for _, s := range settings() {
		if v := config.Variable(s.name); variables[v] != "" {
			t.Errorf("%s and %s have one variable", s.name, variables[v])
		}
		variables[config.Variable(s.name)] = s.name
		if !met[s.name] {
			t.Errorf("%s is no flag", s.name)
		}
		if s.but != "" && !slices.ContainsFunc(everyCommand(root), func(c *cobra.Command) bool { return c.Name() == s.but && c.Flags().Lookup(s.name) != nil }) {
			t.Errorf("%s: there is no %s --%s", s.name, s.but, s.name)
		}
	}
	for name := range refused {
		if !met[name] {
			t.Errorf("%s is no flag", name)
		}
	}
}

// The names of this project's own variables for tests and tools are not close to a setting;
// otherwise kscertctl would not run with them.
func TestOwnVariables(t *testing.T) {
	t.Parallel()
	var own []string
	for _, page := range []string{"Taskfile.yml", "hack/browser", "lab/README.md", "lab/e2e/helpers_test.go", "lab/e2e/recover_test.go"} {
		for _, name := range regexp.MustCompile(`KSCERTCTL_[A-Z_]+`).FindAllString(read(t, page), -1) {
			own = append(own, name+"=x")
		}
	}
	if len(own) < 5 {
		t.Fatalf("only %q were found: the search is broken", own)
	}
	if _, _, err := config.FromEnvironment(own, known(newRoot(Streams{Out: io.Discard, Err: io.Discard}))); err != nil {
		t.Error(err)
	}
}

// Exactly what the record of a run holds is marked as recorded: the option that a flag fills is one
// that Recall fills.
func TestRecordedSettings(t *testing.T) {
	t.Parallel()
	samples := map[string]string{"bool": "true", "int": "3", "uint": "3", "count": "3", "duration": "3m"}
	for _, s := range settings() {
		var flags carryFlags
		cmd := &cobra.Command{Use: "resume"}
		flags.register(cmd)
		f := cmd.Flags().Lookup(s.name)
		if f == nil { // resume takes it from the record, or it means something else
			continue
		}
		sample, ok := samples[f.Value.Type()]
		if !ok {
			sample = "@sample"
		}
		if len(s.values) > 0 {
			sample = s.values[0]
		}
		if err := f.Value.Set(sample); err != nil {
			t.Fatalf("--%s %s: %v", s.name, sample, err)
		}
		var recalled orchestrator.Options
		if err := recalled.Recall(everything()); err != nil {
			t.Fatal(err)
		}
		given := flags.options(Streams{})
		given.Ansible.Ask = nil // the function that asks is not a setting
		field := differs(reflect.ValueOf(given), reflect.ValueOf(orchestrator.Options{}))
		holds := field != nil && !reflect.ValueOf(recalled).FieldByIndex(field).IsZero()
		if holds != s.recorded {
			t.Errorf("%s: that it is recorded is answered to be %t, and is %t", s.name, s.recorded, holds)
		}
	}
}

// everything is the record of a command with every option.
func everything() run.Request {
	var r run.Request
	v := reflect.ValueOf(&r).Elem()
	for _, f := range v.Fields() {
		switch f.Kind() { //nolint:exhaustive // the others hold nothing that Recall asks for
		case reflect.String:
			f.SetString("recorded")
		case reflect.Int, reflect.Int64:
			f.SetInt(7)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			if e := f.Index(0); e.Kind() == reflect.String {
				e.SetString("recorded")
			}
		}
	}
	r.WithheldVars, r.Withheld = 0, nil
	return r
}

// differs is the index of the first field in which two structs differ; nil for none.
func differs(a, b reflect.Value) []int {
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		if x.Kind() == reflect.Func || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		if x.Kind() == reflect.Struct {
			return append([]int{i}, differs(x, y)...)
		}
		return []int{i}
	}
	return nil
}

// The published schemas are those of the code; and the output of "config show" matches its schema.
// UPDATE_DOCS=1 writes the first again.
func TestConfigSchemas(t *testing.T) {
	t.Parallel()
	const page = "docs/reference/schemas/config-v1.json"
	schema := output(t, "config", "schema")
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(filepath.Join(root, page), []byte(schema), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if read(t, page) != schema {
		t.Errorf("%s is not what the code says; write it again with UPDATE_DOCS=1", page)
	}
	compiler := jsonschema.NewCompiler()
	if _, err := compiler.Compile(filepath.Join(root, page)); err != nil {
		t.Error(err)
	}
	shows, err := compiler.Compile(root + "/docs/reference/schemas/config-show-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"run", "-i", "a", "-i", "b", "-b", "-f", "3"}, {"resume"}} {
		text := output(t, append([]string{"config", "show", "--config", os.DevNull, "-o", "json"}, args...)...)
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := shows.Validate(document); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(output(t, "config", "show", "--config", os.DevNull, "-o", "json")), &document); err != nil {
		t.Fatal(err)
	}
	document["more"] = 1
	if shows.Validate(document) == nil {
		t.Error("the schema takes a field that it does not name")
	}
}

// The same for the schema of fleet files, and the example matches it.
func TestFleetFileSchema(t *testing.T) {
	t.Parallel()
	const page = "docs/reference/schemas/fleet-v1.json"
	made := fleetKnown(newRoot(Streams{Out: io.Discard, Err: io.Discard}))
	var text strings.Builder
	if err := report.JSON(&text, fleet.JSONSchema(made)); err != nil {
		t.Fatal(err)
	}
	fresh(t, page, text.String())
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	example := read(t, "examples/fleet.yaml")
	var document any
	if err := yaml.Unmarshal([]byte(example), &document); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Error(err)
	}
	f, err := fleet.Parse("fleet.yaml", []byte(example), made)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{"f/inventories/fra2/hosts.yaml": {}, "f/inventories/ber1/hosts.yaml": {}}
	if all, err := f.Clusters(files, "/f"); err != nil || len(all) != 4 {
		t.Errorf("%d clusters: %v", len(all), err)
	}
}

// The example can be used as it is.
func TestConfigExample(t *testing.T) {
	t.Parallel()
	const example = root + "/examples/kscertctl.yaml"
	if got, want := output(t, "config", "validate", example), example+": valid; settings: 13\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// output is what a command line writes.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	if code := Main(args, Streams{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("kscertctl %q: exit code %d\n%s", args, code, errs.String())
	}
	return out.String()
}

// recordedList is the reference's list of the settings in the record of a run.
func recordedList() string {
	var out []string
	for _, s := range settings() {
		if s.recorded {
			out = append(out, "`"+s.name+"`")
		}
	}
	return strings.Join(out, ", ") + "\n"
}

// refusedList is the reference's list of flags that cannot be set elsewhere, by the reason.
func refusedList() string {
	flags := map[string][]string{}
	refused := invocation()
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		flags[refused[name]] = append(flags[refused[name]], "`--"+name+"`")
	}
	const differs = "it means something else there than for the other commands"
	for _, s := range settings() {
		if s.but != "" {
			flags[differs] = append(flags[differs], fmt.Sprintf("`--%s` of `%s`", s.name, s.but))
		}
	}
	var out strings.Builder
	for _, why := range slices.Sorted(maps.Keys(flags)) {
		fmt.Fprintf(&out, "- %s: %s\n", strings.Join(flags[why], ", "), why)
	}
	return out.String()
}
