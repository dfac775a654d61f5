// Package testschema makes JSON Schemas from Go types and their doc comments, so that tests
// detect a stale published one.
package testschema

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Document is a kind of JSON document that programs read.
type Document struct {
	// Title and Description are those of the schema.
	Title, Description string
	// Version is the value of the field "schema"; 0 for a document without it.
	Version int
	// Value is a value of the document's type.
	Value any
	// As maps types to the types that their JSON has.
	As map[reflect.Type]reflect.Type
	// Open are types that may have values other than their constants.
	Open []reflect.Type
}

type schema struct {
	Schema      string            `json:"$schema,omitempty"`
	Title       string            `json:"title,omitempty"`
	Description string            `json:"description,omitempty"`
	Ref         string            `json:"$ref,omitempty"`
	Type        any               `json:"type,omitempty"`
	Format      string            `json:"format,omitempty"`
	Const       int               `json:"const,omitempty"`
	Enum        []string          `json:"enum,omitempty"`
	Items       *schema           `json:"items,omitempty"`
	Additional  any               `json:"additionalProperties,omitempty"`
	Required    []string          `json:"required,omitempty"`
	Properties  properties        `json:"properties,omitempty"`
	Defs        map[string]schema `json:"$defs,omitempty"`
}

// properties keep the order of the fields.
type properties []property

type property struct {
	name string
	of   schema
}

func (p properties) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, f := range p {
		value, err := json.Marshal(f.of)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(strconv.AppendQuote(out, f.name), ':'), value...)
	}
	return append(out, '}'), nil
}

// Make returns the schema of a document. root is the module's directory, whose sources have
// the descriptions.
func Make(root, module string, d Document) ([]byte, error) {
	m := maker{root: root, module: module, doc: d, defs: map[string]schema{}, words: map[string]words{}}
	s, err := m.object(reflect.TypeOf(d.Value))
	if err != nil {
		return nil, err
	}
	s.Schema, s.Title, s.Description = "https://json-schema.org/draft/2020-12/schema", d.Title, d.Description
	if d.Version > 0 {
		s.Properties[0].of.Const, s.Properties[0].of.Type = d.Version, nil
	}
	s.Defs = m.defs
	return json.MarshalIndent(s, "", "  ")
}

type maker struct {
	root, module string
	doc          Document
	defs         map[string]schema
	words        map[string]words // by package path
}

// of returns the schema of a type, which may become a definition.
func (m *maker) of(t reflect.Type) (schema, error) {
	switch {
	case t == reflect.TypeFor[time.Time]():
		m.defs["time"] = schema{Type: "string", Format: "date-time"}
		return schema{Ref: "#/$defs/time"}, nil
	case t.Kind() == reflect.Pointer:
		return m.of(t.Elem())
	case t.Kind() == reflect.Struct:
		name := filepath.Base(t.PkgPath()) + "." + t.Name()
		if _, known := m.defs[name]; !known {
			m.defs[name] = schema{} // a type may contain itself
			s, err := m.object(t)
			if err != nil {
				return s, err
			}
			m.defs[name] = s
		}
		return schema{Ref: "#/$defs/" + name}, nil
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Map:
		elem, err := m.of(t.Elem())
		if t.Kind() == reflect.Map {
			return schema{Type: "object", Additional: elem}, err
		}
		return schema{Type: "array", Items: &elem}, err
	case t.Kind() == reflect.String:
		values, err := m.values(t)
		return schema{Type: "string", Enum: values}, err
	case t.Kind() == reflect.Bool:
		return schema{Type: "boolean"}, nil
	case t.Kind() == reflect.Float64:
		return schema{Type: "number"}, nil
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return schema{Type: "integer"}, nil
	default:
		return schema{}, fmt.Errorf("no schema for a %s", t)
	}
}

// object returns the schema of a struct.
func (m *maker) object(t reflect.Type) (schema, error) {
	s := schema{Type: "object", Additional: false}
	return s, m.fields(&s, t)
}

// fields adds the fields of a struct and of embedded ones, as encoding/json does.
func (m *maker) fields(s *schema, t reflect.Type) error {
	described := t
	if other, ok := m.doc.As[t]; ok {
		t = other
	}
	w, err := m.read(described.PkgPath())
	if err != nil {
		return err
	}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			if err := m.fields(s, f.Type); err != nil {
				return err
			}
			continue
		case name == "-" || !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		of, err := m.of(f.Type)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		of.Description = w.fields[described.Name()+"."+f.Name]
		if name == "schema" && of.Description == "" {
			of.Description = "Version of this document. A field may be added within a version; none is removed or " +
				"changes its meaning."
		}
		if options == "" {
			s.Required = append(s.Required, name)
			if k := f.Type.Kind(); k == reflect.Slice || k == reflect.Map {
				of.Type = []any{of.Type, "null"}
			}
		}
		// A field hides an embedded one of the same name.
		if i := slices.IndexFunc(s.Properties, func(p property) bool { return p.name == name }); i >= 0 {
			s.Properties[i].of = of
			continue
		}
		s.Properties = append(s.Properties, property{name, of})
	}
	slices.Sort(s.Required)
	s.Required = slices.Compact(s.Required)
	return nil
}

// values returns a type's constants in order; none for a plain string.
func (m *maker) values(t reflect.Type) ([]string, error) {
	if t.PkgPath() == "" || slices.Contains(m.doc.Open, t) {
		return nil, nil
	}
	w, err := m.read(t.PkgPath())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range w.constants[t.Name()] {
		out = append(out, c.Value)
	}
	return out, nil
}

// Constant is a constant with its comment.
type Constant struct{ Value, Words string }

// Constants returns the string constants of a value's type.
func Constants(root, module string, v any) ([]Constant, error) {
	m := maker{root: root, module: module, words: map[string]words{}}
	t := reflect.TypeOf(v)
	w, err := m.read(t.PkgPath())
	return w.constants[t.Name()], err
}

// words are the doc comments of a package.
type words struct {
	fields    map[string]string // "Type.Field"
	constants map[string][]Constant
}

func (m *maker) read(pkg string) (words, error) {
	if w, ok := m.words[pkg]; ok {
		return w, nil
	}
	w := words{map[string]string{}, map[string][]Constant{}}
	files, err := filepath.Glob(filepath.Join(m.root, strings.TrimPrefix(pkg, m.module), "*.go"))
	if err != nil {
		return w, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return w, err
		}
		for _, d := range parsed.Decls {
			if decl, ok := d.(*ast.GenDecl); ok {
				for _, spec := range decl.Specs {
					w.spec(spec)
				}
			}
		}
	}
	m.words[pkg] = w
	return w, nil
}

func (w words) spec(spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					w.fields[spec.Name.Name+"."+name.Name] = text(f.Doc, f.Comment)
				}
			}
		}
	case *ast.ValueSpec:
		if t, ok := spec.Type.(*ast.Ident); ok && len(spec.Values) == 1 {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				value, _ := strconv.Unquote(lit.Value)
				w.constants[t.Name] = append(w.constants[t.Name], Constant{value, text(spec.Doc, spec.Comment)})
			}
		}
	}
}

func text(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if s := strings.Join(strings.Fields(g.Text()), " "); s != "" {
			return s
		}
	}
	return ""
}

// Fields lists the field names of a JSON object.
func Fields(object []byte) []string {
	var m map[string]json.RawMessage
	if json.Unmarshal(object, &m) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}
