// Package testhostile puts hostile text into nodes' answers, to test that output neither hides
// text nor commands a terminal or a shell.
package testhostile

import (
	"reflect"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// Texts are hostile answers of a node; harmless unless something interprets them.
func Texts() []string {
	return []string{
		"", "x", " two words", "$(id)", "`id`", "'; id; '", "\"; id; \"", "\\", "|e;s|.*|id|e;#", "&", "#", "-f", "*",
		"~", "!id", "{a,b}",
		"\n", "\nCONF\nid\n", "\nEXTENSIONS\nid", "\r", "\r\n", "\t", "\x00", "\x07", "\x1b[31m", "\x1b]0;title\x07",
		"\x7f", "\u009b31m",
		"\u0085", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\u00a0", "\U000e0041", "\xff", "\xc3(", "\ufffd",
		",IP:10.9.9.9",
		"\n```\n# x", "```", "<img src=x>", "[a](http://evil.example)", "<!--", "http://evil.example",
		"www.evil.example", "|", "${ENV}", "%s%n",
	}
}

// Put appends a text to every string below the values, which are pointers. Our own values,
// such as the kind of a certificate, have types of their own and stay unchanged. With sans,
// only the alternative names of certificates change.
func Put(text string, sans bool, values ...any) {
	h := hostile{text: text, sans: sans, seen: map[any]bool{}}
	for _, v := range values {
		h.walk(reflect.ValueOf(v))
	}
}

type hostile struct {
	text string
	sans bool
	// seen are the strings and maps already changed: values share some.
	seen map[any]bool
}

func (h *hostile) walk(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // the others hold no text
	case reflect.Pointer:
		if !v.IsNil() {
			h.walk(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && (h.sans || v.Type().Field(i).Name != "SANs") {
				h.walk(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			h.walk(v.Index(i))
		}
	case reflect.Map:
		h.entries(v)
	case reflect.String:
		if at := v.Addr().Interface(); v.Type() == reflect.TypeFor[string]() && !h.seen[at] {
			h.seen[at] = true
			v.SetString(v.String() + h.text)
		}
	}
}

// names are the map keys that are names of nodes; other keys are ours.
var names = []string{"cp1", "cp2", "cp3", "w1", "etcd1", "etcd2", "etcd3"}

func (h *hostile) entries(m reflect.Value) {
	if m.IsNil() || h.seen[m.Pointer()] {
		return
	}
	h.seen[m.Pointer()] = true
	changed := reflect.MakeMap(m.Type())
	for it := m.MapRange(); it.Next(); {
		key, value := it.Key(), reflect.New(m.Type().Elem()).Elem()
		value.Set(it.Value())
		h.walk(value)
		if slices.Contains(names, key.String()) {
			key = reflect.ValueOf(key.String() + h.text).Convert(m.Type().Key())
		}
		changed.SetMapIndex(key, value)
	}
	m.Clear()
	for it := changed.MapRange(); it.Next(); {
		m.SetMapIndex(it.Key(), it.Value())
	}
}

// Invisible returns a line that contains something a terminal interprets or does not show;
// empty if there is none.
func Invisible(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if printable.Line(line) != line {
			return line
		}
	}
	return ""
}
