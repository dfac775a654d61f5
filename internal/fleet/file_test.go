package fleet_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/fleet"
)

func known() config.Known {
	return config.Known{
		Settings: []config.Setting{{Name: "forks", Kind: config.Integer}, {Name: "warn", Kind: config.Time}, {Name: "extra-vars", Kind: config.String, List: true, ByFile: true}},
		Refused:  map[string]string{"inventory": "name it in inventories"},
	}
}

const whole = `# A fleet.
time-zone: Europe/Berlin
waves: [canary, rest]
failure-domain: {label: zone, at-once: 2}
settings:
  forks: 20
clusters:
  - name: one
    inventories: one.ini
    labels: {env: prod, zone: fra1}
    settings: {warn: 60d}
    windows:
      - {days: [sat, Sun], from: "22:00", to: "04:00"}
      - {from: "00:00", to: "24:00", time-zone: UTC}
    wave: canary
    hold: not before June
  - each: inv/*/hosts.ini
    labels: {env: test}
    wave: rest
  - name: three
    inventories: ["b*.ini", "cp1,", ~/x.ini, /abs/y.ini]
`

func TestParse(t *testing.T) {
	t.Parallel()
	f, err := fleet.Parse("dir/fleet.yaml", []byte(whole), known())
	if err != nil {
		t.Fatal(err)
	}
	root := fstest.MapFS{}
	for _, name := range []string{"etc/k/one.ini", "etc/k/inv/two/hosts.ini", "etc/k/inv/three/hosts.ini", "etc/k/inv/four/hosts.ini", "etc/k/b1.ini", "etc/k/b2.ini"} {
		root[name] = &fstest.MapFile{}
	}
	all, err := f.Clusters(root, "/etc/k")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range all {
		settings := config.Merge(c.Settings)
		got = append(got, fmt.Sprintf("%s %q wave %d %s domain %q labels %v forks %s (%s) warn %q windows %d hold %q",
			c.Name, c.Inventories, c.Wave, c.WaveName, c.Domain, c.Labels, settings["forks"].Values, settings["forks"].Origin, settings["warn"].Values, len(c.Windows), c.Hold))
	}
	want := []string{
		`one ["/etc/k/one.ini"] wave 0 canary domain "fra1" labels map[env:prod zone:fra1] forks [20] (dir/fleet.yaml:6) warn ["60d"] windows 2 hold "not before June"`,
		`four ["/etc/k/inv/four/hosts.ini"] wave 1 rest domain "" labels map[env:test] forks [20] (dir/fleet.yaml:6) warn [] windows 0 hold ""`,
		`two ["/etc/k/inv/two/hosts.ini"] wave 1 rest domain "" labels map[env:test] forks [20] (dir/fleet.yaml:6) warn [] windows 0 hold ""`,
		`three ["/etc/k/b1.ini" "/etc/k/b2.ini" "cp1," "~/x.ini" "/abs/y.ini"] wave 2  domain "" labels map[] forks [20] (dir/fleet.yaml:6) warn [] windows 0 hold ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if zone := all[0].Windows[0].Zone.String() + " " + all[0].Windows[1].Zone.String(); zone != "Europe/Berlin UTC" || f.PerDomain != 2 {
		t.Errorf("%s %d", zone, f.PerDomain)
	}
}

// Every problem has its line, and all are reported at once.
func TestParseProblems(t *testing.T) {
	t.Parallel()
	const c = "clusters:\n- {name: a, inventories: a.ini}\n"
	for _, row := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "# no\n", []string{"f:1: there is no cluster"}},
		{"no mapping", "- a\n", []string{"f:1:1: a fleet file must be a mapping", `f:1:1: there is no cluster: "clusters" is missing`}},
		{"no YAML", "a: [\n", []string{"f:2: this is not YAML: did not find expected node content"}},
		{"another document", c + "---\na: b\n", []string{"f:4:1: a second document starts here: only one is allowed"}},
		{"no clusters", "clusters: []\n", []string{"f:1:11: must be a list of clusters"}},
		{"unknown field", c + "wave: x\n", []string{`f:3:1: "wave" is unknown in a fleet file: it has time-zone, waves, failure-domain, settings, clusters`}},
		{"a wave twice", c + "waves: [x, y, x]\n", []string{`f:3:15: wave "x" is there a second time`}},
		{"twice", c + "waves: x\nwaves: y\n", []string{`f:4:1: "waves" is set a second time, after line 3`}},
		{"unknown setting", "settings: {froks: 3}\n" + c, []string{`f:1:12: unknown setting "froks"; did you mean "forks"?`}},
		{"refused setting", "clusters:\n- name: a\n  inventories: b\n  settings: {inventory: c}\n", []string{`f:4:14: "inventory" cannot be set: name it in inventories`}},
		{"a secret", "clusters:\n- name: a\n  inventories: b\n  settings: {extra-vars: a=b}\n", []string{`f:4:26: "extra-vars" may be a secret: write that into a file and name it here, as @FILE`}},
		{"two problems", "clusters:\n- name: a b\n- each: x\n  wave: none\n", []string{
			`f:2:9: "a b" is not a name: up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends`, "f:2:3: a cluster needs a name and inventories",
			`f:4:9: "none" is none of the waves of this file`,
		}},
		{"neither", "clusters:\n- hold: x\n", []string{`f:2:3: a cluster needs a name and inventories, or "each"`}},
		{"both", "clusters:\n- {name: a, inventories: b, each: c}\n", []string{`f:2:3: a cluster has a name and inventories, or "each", not both`}},
		{"the same name", c + "- {name: a, inventories: b.ini}\n", []string{`f:3:3: cluster "a" is there a second time, after line 2`}},
		{"a label", "clusters:\n- {name: a, inventories: b, labels: {-x: y, z: 'a b'}}\n", []string{`f:2:38: "-x" is not the key of a label`, `f:2:48: "a b" is not the value of a label`}},
		{"a number", "clusters:\n- {name: 3, inventories: b}\n", []string{"f:2:10: must be a string: quote it", "f:2:3: a cluster needs a name and inventories"}},
		{"a window", "clusters:\n- name: a\n  inventories: b\n  windows: [{from: 22:00, to: '4:00', days: someday, time-zone: Mars}]\n", []string{
			`f:4:31: must be a time of day such as "22:30", in quotes`,
			"f:4:45: must be one of mon, tue, wed, thu, fri, sat, sun", "f:4:65: must be the name of a time zone such as Europe/Berlin or UTC",
			"f:4:13: a window needs from, before 24:00, and to",
		}},
		{"half a window", "clusters:\n- name: a\n  inventories: b\n  windows: [{from: '22:00'}]\n", []string{"f:4:13: a window needs from, before 24:00, and to"}},
		{"this machine's zone", "time-zone: Local\n" + c, []string{"f:1:12: must be the name of a time zone such as Europe/Berlin or UTC"}},
		{"a domain that no cluster is in", "failure-domain: {label: zones}\n" + c, []string{`f:1:17: no cluster has the label "zones"`}},
		{"a domain", "failure-domain: {at-once: 0}\n" + c, []string{"f:1:27: must be a whole number, 1 or more", "f:1:17: failure-domain has no label"}},
		{"an alias", "settings: &s {forks: 3}\nclusters:\n- {name: a, inventories: b, settings: *s}\n", []string{`f:3:39: "settings" is an alias: write the value itself`}},
		{"a pattern", "clusters:\n- {name: a, inventories: '[b'}\n", []string{"f:2:26: is no pattern that can be used: [ has no ]"}},
	} {
		_, err := fleet.Parse("f", []byte(row.text), known())
		if got := problems(t, err); !slices.Equal(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func problems(t *testing.T, err error) (out []string) {
	t.Helper()
	all, ok := errors.AsType[config.SettingErrors](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range all {
		out = append(out, p.String())
	}
	return out
}

func TestClusters(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{}
	for _, name := range []string{
		"d/inv/a.ini", "d/inv/b.yaml", "d/inv/c/hosts", "d/inv/group_vars/all.yml", "d/inv/.hidden", "d/deep/x/prod/hosts", "d/deep/y/prod/hosts",
		"odd [dir]/a.ini", "d/bad/a b.ini", "d/one/hosts.ini",
		"d/inv/.a.ini.swp", "d/inv/b.yaml~", "d/inv/README.md", "d/inv/.git/hosts", "d/text/a.txt",
	} {
		root[name] = &fstest.MapFile{}
	}
	for _, row := range []struct {
		name, dir, each string
		want            []string
		wrong           string
	}{
		{"a directory", "/d", "inv", []string{"a /d/inv/a.ini", "b /d/inv/b.yaml", "c /d/inv/c"}, ""},
		{"a directory above", "/d/one", "../inv/", []string{"a /d/inv/a.ini", "b /d/inv/b.yaml", "c /d/inv/c"}, ""},
		{"files", "/d", "inv/*.ini", []string{"a /d/inv/a.ini"}, ""},
		{"what is asked for", "/d", "text/*.txt", []string{"a /d/text/a.txt"}, ""},
		{"hidden directories", "/d", "inv/*/hosts", []string{"c /d/inv/c/hosts"}, ""},
		{"the first wildcard names", "/d", "deep/*/prod/*", []string{"x /d/deep/x/prod/hosts", "y /d/deep/y/prod/hosts"}, ""},
		{"an absolute pattern", "/x", "/d/inv/?.ini", []string{"a /d/inv/a.ini"}, ""},
		{"no pattern but a place", "/odd [dir]", "*.ini", []string{"a /odd [dir]/a.ini"}, ""},
		{"nothing", "/d", "none/*", nil, "f:2:3: none/* finds no inventory"},
		{"no directory", "/d", "gone", nil, "f:2:3: gone is neither a directory of inventories nor a pattern"},
		{"one that is no name", "/d", "bad/*", nil, `f:2:3: "a b" is not a name`},
		{"two of one name", "/d", "deep/[xy]/*/hosts", []string{"x /d/deep/x/prod/hosts", "y /d/deep/y/prod/hosts"}, ""},
	} {
		f, err := fleet.Parse("f", fmt.Appendf(nil, "clusters:\n- each: %q\n", row.each), known())
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		all, err := f.Clusters(root, row.dir)
		var got []string
		for _, c := range all {
			got = append(got, c.Name+" "+strings.Join(c.Inventories, " "))
		}
		if !slices.Equal(got, row.want) || (err == nil) != (row.wrong == "") {
			t.Errorf("%s: %q %v, want %q %s", row.name, got, err, row.want, row.wrong)
		}
		if row.wrong != "" && !strings.HasPrefix(problems(t, err)[0], row.wrong) {
			t.Errorf("%s: %v, want %s", row.name, err, row.wrong)
		}
	}
}

// A cluster that a pattern finds is not there a second time next to its entry, which may hold it: by its name or its inventory.
func TestOwnEntries(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"d/inv/fra1.ini": {}, "d/inv/ber1.ini": {}, "d/inv/common.ini": {}, "d/inv/new.ini": {}}
	f, err := fleet.Parse("f", []byte(`clusters:
- {name: fra1, inventories: elsewhere.ini}
- {name: berlin, inventories: [./inv/ber1.ini, /d/inv/common.ini], hold: frozen}
- each: inv
`), known())
	if err != nil {
		t.Fatal(err)
	}
	all, err := f.Clusters(root, "/d")
	var got []string
	for _, c := range all {
		got = append(got, c.Name)
	}
	if want := []string{"fra1", "berlin", "new"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}

// The same where the entry names its inventory by a pattern or a directory.
func TestOwnEntriesByPattern(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"d/inv/fra1/hosts.yaml": {}, "d/inv/ber1/hosts.yaml": {}, "d/inv/new/hosts.yaml": {}}
	for _, inventory := range []string{"inv/fra1/*.yaml", "inv/fra1", "inv/fra1/hosts.yaml", "/d/inv/fra1/"} {
		f, err := fleet.Parse("f", fmt.Appendf(nil, "clusters:\n- {name: frankfurt, inventories: %q, hold: frozen}\n- each: inv/*/hosts.yaml\n", inventory), known())
		if err != nil {
			t.Fatal(err)
		}
		all, err := f.Clusters(root, "/d")
		var got []string
		for _, c := range all {
			got = append(got, c.Name+c.Hold)
		}
		if want := []string{"frankfurtfrozen", "ber1", "new"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", inventory, got, err, want)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	all := []fleet.Cluster{{Name: "a", Labels: map[string]string{"env": "prod"}}, {Name: "b"}}
	for _, row := range []struct {
		selector string
		names    []string
		want     string
	}{{"", nil, "ab"}, {"env=prod", nil, "a"}, {"!env", nil, "b"}, {"", []string{"b"}, "b"}, {"env=test", nil, ""}, {"env", []string{"b"}, ""}, {"", []string{"c"}, ""}} {
		s, err := fleet.ParseSelector(row.selector)
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := fleet.Choose(all, s, row.names)
		got := ""
		for _, c := range chosen {
			got += c.Name
		}
		if got != row.want || (err != nil) != (row.want == "") {
			t.Errorf("%q %q: %q %v", row.selector, row.names, got, err)
		}
	}
}

// The schema takes what the parser takes, and refuses what it refuses, where a schema can.
func TestSchema(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(fleet.JSONSchema(known()))
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("fleet.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("fleet.json")
	if err != nil {
		t.Fatal(err)
	}
	takes := func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return err
		}
		return schema.Validate(v)
	}
	if err := takes(strings.ReplaceAll(whole, "Sun", "sun")); err != nil {
		t.Error(err)
	}
	for _, text := range []string{
		"clusters: []", "more: 1\nclusters: [{each: a}]", "clusters: [{name: a}]", "clusters: [{each: a, name: b, inventories: c}]", "clusters: [{name: a b, inventories: c}]",
		"clusters: [{each: a, windows: [{from: '1'}]}]", "clusters: [{each: a, settings: {froks: 1}}]", "failure-domain: {}\nclusters: [{each: a}]",
	} {
		if takes(text) == nil {
			t.Errorf("the schema takes %q", text)
		}
		if _, err := fleet.Parse("f", []byte(text), known()); err == nil {
			t.Errorf("the parser takes %q", text)
		}
	}
}

// No text makes the parser fail otherwise than with lines of it, and what it takes is
// what it takes again.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	for _, text := range []string{"", "a: &a [*a]", "clusters: [{each: '*'}]", "clusters:\n- <<: {name: a}\n", "? {}\n: 1", "clusters: [{name: a, inventories: [b], labels: {a: ''}}]", "time-zone: ../../etc/passwd"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := fleet.Parse("f", []byte(text), known())
		if err != nil {
			for _, p := range problems(t, err) {
				if !strings.HasPrefix(p, "f:") {
					t.Errorf("no line: %q", p)
				}
			}
			return
		}
		again, err := fleet.Parse("f", []byte(text), known())
		if err != nil || !reflect.DeepEqual(file, again) {
			t.Errorf("another the second time: %v", err)
		}
		all, err := file.Clusters(fstest.MapFS{"a.ini": {}}, "/")
		if err != nil {
			_ = problems(t, err)
			return
		}
		names := map[string]bool{}
		for _, c := range all {
			if c.Name == "" || names[c.Name] || len(c.Inventories) == 0 {
				t.Errorf("cluster %+v", c)
			}
			names[c.Name] = true
		}
	})
}
