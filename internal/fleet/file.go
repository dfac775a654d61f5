// Package fleet is what is known of many clusters before any of them is asked: the fleet
// file, which clusters are chosen, and in which order and when each may be changed. It
// reads no clock and, but for the names of inventories, no file.
package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/config"
)

// FileName is what a fleet file is called where none is named.
const FileName = "fleet.yaml"

// File is a fleet file.
type File struct {
	// Waves in their order; clusters without one come after all.
	Waves []string
	// DomainLabel is the label whose value is a cluster's failure domain, and PerDomain
	// how many clusters of one are worked on at the same time; 0 for any number.
	DomainLabel string
	PerDomain   int
	// Settings are those of every cluster.
	Settings []config.Value
	// Entries of clusters, in their order.
	Entries []Entry
}

// Entry is one item of "clusters": one cluster, or one for each inventory that a pattern
// finds.
type Entry struct {
	Origin config.Origin
	// Name is that of the one cluster; empty where Each is the pattern.
	Name, Each string
	// Inventories of the one cluster: paths, patterns or lists of hosts.
	Inventories []string
	Labels      map[string]string
	Settings    []config.Value
	Windows     Windows
	Wave        string
	// Hold is why the clusters are left alone; empty where they are not.
	Hold string
}

// Parse reads the text of a fleet file; known are the settings that clusters may have. The
// name of the file is for origins. An error is of type config.SettingErrors and has all
// that is wrong.
func Parse(name string, text []byte, known config.Known) (File, error) {
	document, err := config.Document(name, text)
	r := reader{name: name, known: known}
	r.add(err)
	var f File
	if document != nil {
		f = r.file(document)
	} else if err == nil {
		r.problems = append(r.problems,
			config.Problem{Origin: config.Origin{Source: config.File, Name: name, Line: 1},
				Message: "there is no cluster"})
	}
	if len(r.problems) > 0 {
		return File{}, r.problems
	}
	return f, nil
}

// reader is what reads a file.
type reader struct {
	name     string
	known    config.Known
	zone     *time.Location
	problems config.SettingErrors
}

func (r *reader) at(n *yaml.Node) config.Origin {
	return config.Origin{Source: config.File, Name: r.name, Line: n.Line, Column: n.Column}
}

func (r *reader) fault(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, config.Problem{Origin: r.at(n), Message: fmt.Sprintf(format, args...)})
}

// add notes the problems of a part that another reader has read.
func (r *reader) add(err error) {
	if problems, ok := errors.AsType[config.SettingErrors](err); ok {
		r.problems = append(r.problems, problems...)
	}
}

// field is a key of a mapping, and what reads its value.
type field struct {
	name string
	read func(*yaml.Node)
}

// mapping reads the keys of a mapping: each is known, and there once.
func (r *reader) mapping(n *yaml.Node, what string, fields []field) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s must be a mapping", what)
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		switch {
		case key.Kind != yaml.ScalarNode || at < 0:
			var names []string
			for _, f := range fields {
				names = append(names, f.name)
			}
			r.fault(key, "%q is unknown in %s: it has %s", key.Value, what, strings.Join(names, ", "))
		case first[key.Value] > 0:
			r.fault(key, "%q is set a second time, after line %d", key.Value, first[key.Value])
		case value.Kind == yaml.AliasNode:
			r.fault(value, "%q is an alias: write the value itself", key.Value)
		default:
			first[key.Value] = key.Line
			fields[at].read(value)
		}
	}
}

// text reads a string into a variable, where check has nothing against it.
func (r *reader) text(into *string, check func(string) string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		wrong := "must be a string: quote it"
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
			*into = n.Value
			if wrong = check(n.Value); wrong == "" {
				return
			}
		}
		r.fault(n, "%s", wrong)
	}
}

// parsed reads a string into a variable by a function that parses it.
func parsed[T any](r *reader, into *T, parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var text string
		r.text(&text, func(s string) (wrong string) {
			v, err := parse(s)
			if err != nil {
				return err.Error()
			}
			*into = v
			return ""
		})(n)
	}
}

// list reads a list of strings, or one string.
func (r *reader) list(into *[]string, check func(string) string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		items := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			if items = n.Content; len(items) == 0 {
				r.fault(n, "is an empty list: remove it")
			}
		}
		for _, item := range items {
			var one string
			r.text(&one, check)(item)
			*into = append(*into, one)
		}
	}
}

// settings reads the settings of clusters.
func (r *reader) settings(into *[]config.Value) func(*yaml.Node) {
	return func(n *yaml.Node) {
		values, err := config.Mapping(r.name, n, r.known)
		*into = values
		r.add(err)
	}
}

func notEmpty(s string) string {
	if strings.TrimSpace(s) == "" || strings.ContainsRune(s, 0) {
		return "must not be empty"
	}
	return ""
}

// wrongName returns what is wrong with the name of a cluster or a wave.
func wrongName(s string) string {
	if !labelName.MatchString(s) {
		return fmt.Sprintf("%q is not a name: up to 63 letters, digits, '-', '_' and '.', with a letter or digit at "+
			"both ends", s)
	}
	return ""
}

func wrongKey(s string) string {
	if !isKey(s) {
		return fmt.Sprintf("%q is not the key of a label", s)
	}
	return ""
}

func (r *reader) file(n *yaml.Node) File {
	var f File
	var clusters, domain *yaml.Node
	r.zone = time.UTC
	r.mapping(n, "a fleet file", []field{
		{"time-zone", parsed(r, &r.zone, ParseZone)},
		{"waves", r.list(&f.Waves, func(s string) string {
			if slices.Contains(f.Waves, s) {
				return fmt.Sprintf("wave %q is there a second time", s)
			}
			return wrongName(s)
		})},
		{"failure-domain", func(n *yaml.Node) { domain = n; r.domain(n, &f) }},
		{"settings", r.settings(&f.Settings)},
		{"clusters", func(n *yaml.Node) { clusters = n }},
	})
	switch {
	case clusters == nil:
		r.fault(n, "there is no cluster: \"clusters\" is missing")
	case clusters.Kind != yaml.SequenceNode || len(clusters.Content) == 0:
		r.fault(clusters, "must be a list of clusters")
	default:
		for _, item := range clusters.Content {
			f.Entries = append(f.Entries, r.entry(item, f.Waves))
		}
		r.twice(f.Entries)
	}
	inOne := func(e Entry) bool { return e.Labels[f.DomainLabel] != "" }
	if f.DomainLabel != "" && !slices.ContainsFunc(f.Entries, inOne) {
		r.fault(domain, "no cluster has the label %q", f.DomainLabel)
	}
	return f
}

// twice notes the names that two entries have.
func (r *reader) twice(entries []Entry) {
	lines := map[string]int{}
	for _, e := range entries {
		if line := lines[e.Name]; e.Name != "" && line > 0 {
			r.problems = append(r.problems,
				config.Problem{Origin: e.Origin,
					Message: fmt.Sprintf("cluster %q is there a second time, after line %d", e.Name, line)})
		}
		lines[e.Name] = e.Origin.Line
	}
}

func (r *reader) domain(n *yaml.Node, f *File) {
	f.PerDomain = 1
	r.mapping(n, "failure-domain", []field{
		{"label", r.text(&f.DomainLabel, wrongKey)},
		{"at-once", func(n *yaml.Node) {
			if err := n.Decode(&f.PerDomain); err != nil || n.ShortTag() != "!!int" || f.PerDomain < 1 {
				r.fault(n, "must be a whole number, 1 or more")
			}
		}},
	})
	if f.DomainLabel == "" {
		r.fault(n, "failure-domain has no label")
	}
}

func (r *reader) entry(n *yaml.Node, waves []string) Entry {
	e := Entry{Origin: r.at(n)}
	if n.Kind == yaml.AliasNode {
		r.fault(n, "is an alias: write the cluster itself")
		return e
	}
	r.mapping(n, "a cluster", []field{
		{"name", r.text(&e.Name, wrongName)},
		{"inventories", r.list(&e.Inventories, wrongPattern)},
		{"each", r.text(&e.Each, wrongPattern)},
		{"labels", func(n *yaml.Node) { e.Labels = r.labels(n) }},
		{"settings", r.settings(&e.Settings)},
		{"windows", func(n *yaml.Node) { e.Windows = r.windows(n) }},
		{"wave", r.text(&e.Wave, func(s string) string {
			if !slices.Contains(waves, s) {
				return fmt.Sprintf("%q is none of the waves of this file", s)
			}
			return ""
		})},
		{"hold", r.text(&e.Hold, notEmpty)},
	})
	switch one := e.Name != "" || e.Inventories != nil; {
	case one && e.Each != "":
		r.fault(n, "a cluster has a name and inventories, or \"each\", not both")
	case !one && e.Each == "":
		r.fault(n, "a cluster needs a name and inventories, or \"each\"")
	case one && (e.Name == "" || e.Inventories == nil):
		r.fault(n, "a cluster needs a name and inventories")
	}
	return e
}

// wrongPattern returns what is wrong with a path or a pattern of paths.
func wrongPattern(s string) string {
	if _, err := path.Match(s, ""); err != nil {
		return "is no pattern that can be used: [ has no ]"
	}
	return notEmpty(s)
}

func (r *reader) labels(n *yaml.Node) map[string]string {
	out := map[string]string{}
	if n.Kind != yaml.MappingNode {
		r.fault(n, "labels must be a mapping")
		return out
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		var k, v string
		r.text(&k, wrongKey)(key)
		r.text(&v, func(s string) string {
			if !isValue(s) {
				return fmt.Sprintf("%q is not the value of a label", s)
			}
			return ""
		})(value)
		if _, there := out[k]; there {
			r.fault(key, "label %q is set a second time", k)
		}
		out[k] = v
	}
	return out
}

func (r *reader) windows(n *yaml.Node) (out Windows) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.fault(n, "windows must be a list of windows")
		return nil
	}
	for _, item := range n.Content {
		w := Window{From: -1, To: -1, Zone: r.zone}
		var names []string
		r.mapping(item, "a window", []field{
			{"days", r.list(&names, func(s string) string {
				day, err := parseDay(s)
				if err != nil {
					return err.Error()
				}
				w.Days = append(w.Days, day)
				return ""
			})},
			{"from", parsed(r, &w.From, parseClock)},
			{"to", parsed(r, &w.To, parseClock)},
			{"time-zone", parsed(r, &w.Zone, ParseZone)},
		})
		if w.From < 0 || w.To < 0 || w.From == 24*60 {
			r.fault(item, "a window needs from, before 24:00, and to")
			continue
		}
		out = append(out, w)
	}
	return out
}

// Cluster is one of a fleet.
type Cluster struct {
	// Origin is its entry.
	Origin config.Origin
	Name   string
	// Inventories are paths, absolute or as Ansible knows them, or lists of hosts.
	Inventories []string
	Labels      map[string]string
	// Settings of the file and, after them, of its entry: the later one counts.
	Settings []config.Value
	Windows  Windows
	// Wave is the place of its wave, WaveName what it is called; empty for the last.
	Wave     int
	WaveName string
	// Domain is its failure domain; empty for none.
	Domain string
	Hold   string
}

// Clusters finds the inventories that patterns stand for and returns the clusters in their
// order; dir is the absolute directory of the file, below the root of the file system. A
// cluster that a pattern finds and that has an entry of its own, by its name or an inventory, is
// that of the entry. An error is of type config.SettingErrors.
func (f File) Clusters(root fs.FS, dir string) ([]Cluster, error) {
	var out []Cluster
	var problems config.SettingErrors
	where := map[string]config.Origin{}
	named := map[string]bool{}
	var places []string // of the inventories of named entries
	for _, e := range f.Entries {
		if e.Name == "" {
			continue
		}
		named[e.Name] = true
		if found, err := e.find(root, dir); err == nil { // it is reported below
			places = append(places, found[0].Inventories...)
		}
	}
	own := func(c Cluster) bool {
		return named[c.Name] || slices.ContainsFunc(places, func(p string) bool {
			return p == c.Inventories[0] || within(p, c.Inventories[0]) || within(c.Inventories[0], p)
		})
	}
	for _, e := range f.Entries {
		fault := func(format string, args ...any) {
			problems = append(problems, config.Problem{Origin: e.Origin, Message: fmt.Sprintf(format, args...)})
		}
		found, err := e.find(root, dir)
		if err != nil {
			fault("%v", err)
		}
		for _, c := range found {
			first, there := where[c.Name]
			switch wrong := wrongName(c.Name); {
			case e.Name == "" && own(c):
				continue
			case wrong != "":
				fault("%s, which its inventory %s would give to a cluster", wrong, c.Inventories[0])
			case there:
				fault("cluster %q is there a second time, after line %d", c.Name, first.Line)
			}
			where[c.Name], c.Origin = e.Origin, e.Origin
			c.Labels, c.Windows, c.WaveName, c.Hold = e.Labels, e.Windows, e.Wave, e.Hold
			c.Settings = slices.Concat(f.Settings, e.Settings)
			if c.Wave = slices.Index(f.Waves, e.Wave); c.Wave < 0 {
				c.Wave = len(f.Waves)
			}
			c.Domain = e.Labels[f.DomainLabel]
			out = append(out, c)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

// find returns the clusters of an entry, with name and inventories.
func (e Entry) find(root fs.FS, dir string) ([]Cluster, error) {
	if e.Each != "" {
		return each(root, dir, e.Each)
	}
	c := Cluster{Name: e.Name}
	for _, inventory := range e.Inventories {
		switch {
		case strings.Contains(inventory, ","), strings.HasPrefix(inventory, "~"): // hosts; Ansible's own
			c.Inventories = append(c.Inventories, inventory)
		case !isPattern(inventory):
			c.Inventories = append(c.Inventories, below(dir, inventory))
		default:
			paths, err := glob(root, dir, inventory)
			if err != nil {
				return nil, err
			}
			c.Inventories = append(c.Inventories, paths...)
		}
	}
	return []Cluster{c}, nil
}

// each returns a cluster for every inventory that a pattern finds, named by the part of its
// path that the first wildcard stands for; of a directory, for every inventory in it.
func each(root fs.FS, dir, pattern string) ([]Cluster, error) {
	if !isPattern(pattern) {
		info, err := fs.Stat(root, strings.TrimPrefix(below(dir, pattern), "/"))
		if err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%s is neither a directory of inventories nor a pattern", pattern)
		}
		pattern = path.Join(pattern, "*")
	}
	paths, err := glob(root, dir, pattern)
	if err != nil {
		return nil, err
	}
	all := path.Base(pattern) == "*"
	wild := strings.Split(path.Clean(pattern), "/") // from the first wildcard on
	wild = wild[slices.IndexFunc(wild, isPattern):]
	var out []Cluster
	for _, p := range paths {
		parts := strings.Split(p, "/")
		name := parts[len(parts)-len(wild)]
		if strings.HasPrefix(name, ".") || strings.HasPrefix(path.Base(p), ".") || all && ignored(p) {
			continue
		}
		if len(wild) == 1 { // an inventory itself
			name = strings.TrimSuffix(name, path.Ext(name))
			if slices.Contains([]string{"group_vars", "host_vars"}, name) {
				continue // what Ansible reads next to an inventory
			}
		}
		out = append(out, Cluster{Name: name, Inventories: []string{p}})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s finds no inventory", pattern)
	}
	return out, nil
}

// ignored reports whether Ansible ignores such a file in a directory of inventories
// (INVENTORY_IGNORE_EXTS of ansible-core 2.19, without .ini): an editor's, or one with text.
func ignored(file string) bool {
	return strings.HasSuffix(file, "~") || slices.Contains([]string{".pyc", ".pyo", ".swp", ".bak", ".rpm", ".md",
		".txt", ".rst", ".orig", ".cfg", ".retry"}, path.Ext(file))
}

// glob returns the paths that a pattern finds, sorted; at least one.
func glob(root fs.FS, dir, pattern string) ([]string, error) {
	full := pattern
	if !path.IsAbs(pattern) {
		full = quoted(dir) + "/" + pattern
	}
	paths, err := fs.Glob(root, strings.TrimPrefix(path.Clean(full), "/"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s finds no inventory", pattern)
	}
	for i, p := range paths {
		paths[i] = "/" + p
	}
	return paths, nil
}

// within reports whether a path is below a directory.
func within(p, dir string) bool { return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") }

func isPattern(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// quoted is a path as a pattern that finds it alone.
func quoted(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}

func below(dir, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(dir, p)
}

// Choose returns the clusters that a selector and names choose; no names choose all. An
// error names what is not there.
func Choose(all []Cluster, s Selector, names []string) ([]Cluster, error) {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(c Cluster) bool { return c.Name == name }) {
			return nil, fmt.Errorf("there is no cluster %q in the fleet file", name)
		}
	}
	var out []Cluster
	for _, c := range all {
		if s.Matches(c.Labels) && (len(names) == 0 || slices.Contains(names, c.Name)) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no cluster of the fleet file is chosen")
	}
	return out, nil
}
