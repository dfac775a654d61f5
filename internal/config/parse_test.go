package config_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/config"
)

var equal = slices.Equal[[]string]

func TestParse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		setting    string
		want       []string
		at         string
	}{
		{"a list", "inventory: [a.ini, b.ini]", "inventory", []string{"a.ini", "b.ini"}, "k.yaml:1"},
		{"a list, one per line", "# of production\ninventory:\n  - a.ini\n  - b.ini\n", "inventory", []string{"a.ini", "b.ini"}, "k.yaml:2"},
		{"one value of a list", "inventory: a.ini", "inventory", []string{"a.ini"}, "k.yaml:1"},
		{"a number in quotes is a string", "user: '1000'", "user", []string{"1000"}, "k.yaml:1"},
		{"a boolean", "become: True", "become", []string{"true"}, "k.yaml:1"},
		{"a duration", "gate-timeout: 1h30m", "gate-timeout", []string{"1h30m"}, "k.yaml:1"},
		{"days", "---\nwarn: 60d\n", "warn", []string{"60d"}, "k.yaml:2"},
		{"a dot in the name", "web.listen-address: 127.0.0.1:9995", "web.listen-address", []string{"127.0.0.1:9995"}, "k.yaml:1"},
		{"a file of variables", "extra-vars: '@vars.yml'", "extra-vars", []string{"@vars.yml"}, "k.yaml:1"},
		{"Windows line ends after a BOM", "\ufeffforks: 5\r\nuser: admin\r\n", "user", []string{"admin"}, "k.yaml:2"},
		{"nothing", "", "", nil, ""},
		{"nothing but a comment", "# nothing yet\n", "", nil, ""},
		{"an empty document", "---\n", "", nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			values, err := config.Parse("k.yaml", []byte(row.text), known())
			if err != nil {
				t.Fatal(err)
			}
			v := config.Merge(values)[row.setting]
			if !equal(v.Values, row.want) || v.Origin.String() != row.at {
				t.Errorf("%q at %q, want %q at %q", v.Values, v.Origin, row.want, row.at)
			}
			if !valid(t, row.text) {
				t.Error("the schema rejects it")
			}
		})
	}
}

// Parse reports all problems with their lines, and editors that know the schema report those
// that a schema can express.
func TestParseProblems(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		want       []string
		// unseen: a JSON Schema cannot express the problem.
		unseen bool
	}{
		{name: "unknown", text: "# settings\nfrobnicate: 1", want: []string{`k.yaml:2:1: unknown setting "frobnicate"`}},
		{name: "misspelt", text: "forks: 1\ngate-timout: 5m", want: []string{`k.yaml:2:1: unknown setting "gate-timout"; did you mean "gate-timeout"?`}},
		{name: "an underscore", text: "gate_timeout: 5m", want: []string{`k.yaml:1:1: unknown setting "gate_timeout"; did you mean "gate-timeout"?`}},
		{name: "capitals", text: "Forks: 5", want: []string{`k.yaml:1:1: unknown setting "Forks"; did you mean "forks"?`}},
		{name: "refused", text: "yes: true", want: []string{`k.yaml:1:1: "yes" cannot be set: say it each time`}},
		{name: "twice", text: "forks: 1\nuser: a\nforks: 2", want: []string{`k.yaml:3:1: "forks" is set a second time, after line 1`}, unseen: true},
		{name: "not a number", text: "forks: many", want: []string{`k.yaml:1:8: "forks" must be a whole number, 0 or more`}},
		{name: "a number in quotes", text: "forks: '5'", want: []string{`k.yaml:1:8: "forks" must be a whole number, 0 or more`}},
		{name: "negative", text: "forks: -1", want: []string{`k.yaml:1:8: "forks" must be a whole number, 0 or more`}},
		{name: "a fraction", text: "forks: 1.5", want: []string{`k.yaml:1:8: "forks" must be a whole number, 0 or more`}},
		{name: "too large", text: "forks: 99999999999", want: []string{`k.yaml:1:8: "forks" must be a whole number, 0 or more`}},
		{name: "no boolean", text: "become: yes", want: []string{`k.yaml:1:9: "become" must be true or false`}},
		{name: "seconds without a unit", text: "gate-timeout: 300", want: []string{`k.yaml:1:15: "gate-timeout" must be a duration such as 90s or 5m`}},
		{name: "no duration", text: "gate-timeout: soon", want: []string{`k.yaml:1:15: "gate-timeout" must be a duration such as 90s or 5m`}},
		{name: "zero", text: "gate-timeout: 0s", want: []string{`k.yaml:1:15: "gate-timeout" must be a duration such as 90s or 5m`}, unseen: true},
		{name: "days without a unit", text: "warn: 30", want: []string{`k.yaml:1:7: "warn" must be a time such as 30d or 12h`}},
		{name: "none of the values", text: "fail-on: error", want: []string{`k.yaml:1:10: "fail-on" must be one of warn, crit, never`}},
		{name: "a number for a string", text: "user: 1000", want: []string{`k.yaml:1:7: "user" must be a string: quote it`}},
		{name: "a list for a string", text: "user: [a]", want: []string{`k.yaml:1:7: "user" must be a string: quote it`}},
		{name: "a mapping for a list", text: "inventory:\n  hosts: a", want: []string{`k.yaml:2:3: "inventory" must be a string or a list of strings`}},
		{name: "a list in a list", text: "inventory:\n  - a\n  - [b]", want: []string{`k.yaml:3:5: "inventory" must be a string or a list of strings`}},
		{name: "an empty list", text: "inventory: []", want: []string{`k.yaml:1:12: "inventory" is an empty list: remove it`}},
		{name: "no value", text: "user:\nforks: 1", want: []string{`k.yaml:1:6: "user" has no value: remove it`}},
		{name: "an empty value", text: "user: ''", want: []string{`k.yaml:1:7: "user" is empty: remove it`}},
		{name: "a password", text: "extra-vars: [ansible_become_password=geheim]", want: []string{`k.yaml:1:14: "extra-vars" may be a secret: write that into a file and name it here, as @FILE`}},
		{name: "a vaulted value", text: "user: !vault |\n  $ANSIBLE_VAULT;1.1;AES256", want: []string{`k.yaml:1:7: "user" has the tag !vault, which means nothing here`}, unseen: true},
		{name: "an alias", text: "user: &a admin\nfail-on: *a", want: []string{`k.yaml:2:10: "fail-on" is an alias: write the value itself`}},
		{name: "a merge", text: "<<: {forks: 1}", want: []string{`k.yaml:1:1: unknown setting "<<"`}, unseen: true},
		{name: "an invalid key", text: "[a]: 1", want: []string{`k.yaml:1:1: expected the name of a setting`}, unseen: true},
		{name: "a list of settings", text: "- forks: 1", want: []string{`k.yaml:1:1: expected settings, one per line, such as forks: 10`}},
		{name: "words", text: "forks", want: []string{`k.yaml:1:1: expected settings, one per line, such as forks: 10`}},
		{name: "two documents", text: "forks: 1\n---\nforks: 2\n", want: []string{`k.yaml:3:1: a second document starts here: only one is allowed`}, unseen: true},
		{name: "a tab", text: "forks: 1\ninventory:\n\t- a\n", want: []string{`k.yaml:3: this is not YAML: found character that cannot start any token`}, unseen: true},
		{name: "two colons", text: "forks: 1\nuser: a: b\n", want: []string{`k.yaml:2: this is not YAML: mapping values are not allowed in this context`}, unseen: true},
		{name: "two colons at the top", text: "user: a: b\n", want: []string{`k.yaml:1: this is not YAML: mapping values are not allowed in this context`}, unseen: true},
		{name: "an unterminated list", text: "forks: 1\ninventory: [a,\nuser: b\n", want: []string{`k.yaml:2: this is not YAML: did not find expected ',' or ']'`}, unseen: true},
		{name: "no text", text: "\xff", want: []string{`k.yaml:1: this is not YAML: invalid leading UTF-8 octet`}, unseen: true},
		{name: "several", text: "frobnicate: 1\nforks: many\nbecome: 1\n", want: []string{
			`k.yaml:1:1: unknown setting "frobnicate"`, `k.yaml:2:8: "forks" must be a whole number, 0 or more`, `k.yaml:3:9: "become" must be true or false`,
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			values, err := config.Parse("k.yaml", []byte(row.text), known())
			if got := problems(t, err); !equal(got, row.want) || values != nil {
				t.Errorf("got %v and\n%q, want\n%q", values, got, row.want)
			}
			if !row.unseen && valid(t, row.text) {
				t.Error("the schema accepts it")
			}
		})
	}
}

func problems(t *testing.T, err error) (out []string) {
	t.Helper()
	all, ok := err.(config.SettingErrors) //nolint:errorlint // the documentation promises this type, unwrapped
	if err != nil && !ok {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range all {
		out = append(out, p.String())
	}
	return out
}

// valid reports whether the published schema accepts a file.
func valid(t *testing.T, text string) bool {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document) == nil
}

var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	text, err := json.Marshal(config.JSONSchema(known()))
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		return nil, err
	}
	return compiler.Compile("schema.json")
})

// Any file is either read, and then valid for the schema, or refused with a position and a
// reason.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"inventory:\n  - hosts.yaml\nuser: admin\nbecome: true\nforks: 10\n",
		"gate-timeout: 5m\nwarn: 30d\nfail-on: crit\nextra-vars: ['@vars.yml']\n",
		"forks: 1\n---\nforks: 2\n", "a: &a [*a]", "{forks: 1, forks: 2}", "warn: 1h1.5m", "? a\n: b",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		values, err := config.Parse("k.yaml", text, known())
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + strings.Count(string(text), "\u0085") + strings.Count(string(text), "\u2028") + strings.Count(string(text), "\u2029") + 2
		if err != nil {
			for _, p := range err.(config.SettingErrors) { //nolint:errorlint,forcetypeassert // documented
				if p.Message == "" || p.Origin.Line < 1 || p.Origin.Line > lines {
					t.Errorf("%s, of %d lines", p, lines)
				}
			}
			return
		}
		seen := map[string]bool{}
		for _, v := range values {
			if seen[v.Name] || len(v.Values) == 0 || v.Origin.Line < 1 || v.Origin.Line > lines {
				t.Errorf("%+v", v)
			}
			seen[v.Name] = true
		}
		if !valid(t, string(text)) {
			t.Errorf("%q is read, but the schema rejects it", text)
		}
	})
}
