package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Parse reads the text of a file: one YAML mapping of settings, or nothing. The file's name is
// for origins. An error is of type SettingErrors and has all problems.
func Parse(name string, text []byte, known Known) ([]Value, error) {
	document, err := Document(name, text)
	if document == nil {
		return nil, err
	}
	values, settings := Mapping(name, document, known)
	var all SettingErrors
	for _, err := range []error{settings, err} {
		if problems, ok := errors.AsType[SettingErrors](err); ok {
			all = append(all, problems...)
		}
	}
	if len(all) > 0 {
		return nil, all
	}
	return values, nil
}

// Document reads the one document of a YAML file; nil for a file without one. An error is
// of type SettingErrors; the document is returned with it where only what follows it is
// wrong.
func Document(name string, text []byte) (*yaml.Node, error) {
	f := file{name: name}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, another yaml.Node
	if err := d.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil //nolint:nilnil // empty, or nothing but comments
	} else if err != nil {
		f.syntax(err)
		return nil, f.problems
	}
	switch err := d.Decode(&another); {
	case err == nil:
		f.fault(another.Content[0], "a second document starts here: only one is allowed")
	case !errors.Is(err, io.EOF):
		f.syntax(err)
	}
	return document.Content[0], f.problems.err()
}

// Mapping reads settings from a part of a YAML file. An error is of type SettingErrors and
// has all of them.
func Mapping(name string, n *yaml.Node, known Known) ([]Value, error) {
	f := file{name: name, known: known, first: map[string]int{}}
	f.mapping(n)
	if len(f.problems) > 0 {
		return nil, f.problems
	}
	return f.values, nil
}

// file is the state of parsing.
type file struct {
	name  string
	known Known
	// first is the line where each setting was first set.
	first    map[string]int
	values   []Value
	problems SettingErrors
}

func (f *file) at(n *yaml.Node) Origin {
	return Origin{Source: File, Name: f.name, Line: n.Line, Column: n.Column}
}

func (f *file) fault(n *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, Problem{Origin: f.at(n), Message: fmt.Sprintf(format, args...)})
}

// syntax records the YAML parser's error. The parser counts lines from 0 for an unexpected
// token and from 1 for an invalid one, and reports no line for the first.
func (f *file) syntax(err error) {
	m := regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`).FindStringSubmatch(err.Error())
	if m == nil {
		m = []string{"", "", err.Error()}
	}
	line, _ := strconv.Atoi(m[1])
	if line == 0 || strings.HasPrefix(m[2], "did not find") {
		line++
	}
	f.problems = append(f.problems,
		Problem{Origin: Origin{Source: File, Name: f.name, Line: line}, Message: "this is not YAML: " + m[2]})
}

func (f *file) mapping(n *yaml.Node) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return
	case n.Kind != yaml.MappingNode:
		f.fault(n, "expected settings, one per line, such as forks: 10")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f.entry(n.Content[i], n.Content[i+1])
	}
}

func (f *file) entry(key, value *yaml.Node) {
	name := key.Value
	setting, ok := f.known.find(name)
	why, refused := f.known.Refused[name]
	switch {
	case key.Kind != yaml.ScalarNode:
		f.fault(key, "expected the name of a setting")
		return
	case refused:
		f.fault(key, "%q cannot be set: %s", name, why)
		return
	case !ok:
		f.fault(key, "%s", f.known.unknown(strconv.Quote(name), name))
		return
	case f.first[name] > 0:
		f.fault(key, "%q is set a second time, after line %d", name, f.first[name])
		return
	}
	f.first[name] = key.Line
	before := len(f.problems)
	var values []string
	switch {
	case setting.List && value.Kind == yaml.SequenceNode:
		if len(value.Content) == 0 {
			f.fault(value, "%q is an empty list: remove it", name)
		}
		for _, item := range value.Content {
			values = append(values, f.scalar(setting, item))
		}
	default:
		values = append(values, f.scalar(setting, value))
	}
	if len(f.problems) == before {
		f.values = append(f.values, Value{Name: name, Values: values, Origin: f.at(key)})
	}
}

// unknown records an unknown setting, and which one was probably meant.
func (k Known) unknown(shown, name string) string {
	text := "unknown setting " + shown
	if meant := k.nearest(name); meant != "" {
		text += fmt.Sprintf("; did you mean %q?", meant)
	}
	return text
}

// tags are YAML's tags for values of a kind; a string for the others.
var tags = map[Kind]string{Bool: "!!bool", Integer: "!!int"}

// scalar returns the text of a value.
func (f *file) scalar(s Setting, n *yaml.Node) string {
	tag, ok := tags[s.Kind]
	if !ok {
		tag = "!!str"
	}
	switch {
	case n.Kind == yaml.AliasNode:
		f.fault(n, "%q is an alias: write the value itself", s.Name)
	case n.ShortTag() == "!!null":
		f.fault(n, "%q has no value: remove it", s.Name)
	case strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!"):
		f.fault(n, "%q has the tag %s, which means nothing here", s.Name, n.Tag)
	case n.Kind != yaml.ScalarNode && s.List:
		f.fault(n, "%q must be a string or a list of strings", s.Name)
	case n.Kind != yaml.ScalarNode || n.ShortTag() != tag:
		f.fault(n, "%q %s", s.Name, must[s.Kind])
	default:
		text := s.Kind.normal(n.Value)
		if wrong := s.check(text); wrong != "" {
			f.fault(n, "%q %s", s.Name, wrong)
		}
		return text
	}
	return ""
}

// normal returns a value's canonical form: YAML has several booleans.
func (k Kind) normal(text string) string {
	if b, err := strconv.ParseBool(text); k == Bool && err == nil {
		return strconv.FormatBool(b)
	}
	return text
}
