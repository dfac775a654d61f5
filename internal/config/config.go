// Package config reads settings from kscertctl.yaml and from the variables KSCERTCTL_*, and
// records where each was set. It knows no flag: the caller passes the known settings. Parse
// and Environment are pure; Find reads files.
package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
)

// Kind is the type of a setting's value.
type Kind string

// The kinds. A Duration is Go's, such as 90s or 5m, and positive; a Time may also be in days,
// such as 30d.
const (
	String   Kind = "string"
	Bool     Kind = "true or false"
	Integer  Kind = "whole number"
	Duration Kind = "duration"
	Time     Kind = "time"
)

// must describes the values of each kind, for errors.
var must = map[Kind]string{
	String:   "must be a string: quote it",
	Bool:     "must be true or false",
	Integer:  "must be a whole number, 0 or more",
	Duration: "must be a duration such as 90s or 5m",
	Time:     "must be a time such as 30d or 12h",
}

// Setting describes a setting.
type Setting struct {
	// Name in the file, such as gate-timeout; Variable returns the environment's.
	Name string
	Kind Kind
	// List allows several values.
	List bool
	// Values are the only valid ones; nil for any.
	Values []string
	// ByFile: a value may be a secret, so only @FILE is accepted.
	ByFile bool
	// Usage describes the setting in one line.
	Usage string
}

// Variable is the name in the environment: gate-timeout is KSCERTCTL_GATE_TIMEOUT.
func Variable(name string) string {
	return prefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

const prefix = "KSCERTCTL_"

// Known is the set of settings.
type Known struct {
	Settings []Setting
	// Refused maps names that cannot be set to the reason.
	Refused map[string]string
}

func (k Known) find(name string) (Setting, bool) {
	i := slices.IndexFunc(k.Settings, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return k.Settings[i], true
}

// nearest returns the known name that was probably meant, or nothing. Up to a third of the
// letters may differ, at most three.
func (k Known) nearest(name string) string {
	if len(name) > 64 {
		return ""
	}
	best, near := "", min(3, (len(name)+1)/3)+1
	for _, s := range k.Settings {
		if d := levenshtein.ComputeDistance(strings.ToLower(name), s.Name); d < near {
			best, near = s.Name, d
		}
	}
	return best
}

// Source is where a value comes from, in ascending precedence. Record is the record of an
// earlier run.
type Source string

// The sources.
const (
	Default     Source = "default"
	File        Source = "file"
	Environment Source = "environment"
	Record      Source = "record"
	Flag        Source = "flag"
)

// Origin is where a value was set.
type Origin struct {
	Source Source
	// Name of the file or variable; empty for a default or a flag.
	Name string
	// Line and Column in the file, from 1; 0 if unknown.
	Line, Column int
}

// String is FILE:LINE, the variable's name, "flag" or "default".
func (o Origin) String() string {
	switch {
	case o.Name == "":
		return string(o.Source)
	case o.Line > 0:
		return o.Name + ":" + strconv.Itoa(o.Line)
	default:
		return o.Name
	}
}

// Value is what a setting was set to: one value, or the values of a list.
type Value struct {
	Name   string
	Values []string
	Origin Origin
}

// Problem is an unusable setting.
type Problem struct {
	Origin  Origin
	Message string
}

// String is FILE:LINE:COLUMN: or VARIABLE: with the message. It does not quote the value,
// which may be a secret.
func (p Problem) String() string {
	at := p.Origin.String()
	if p.Origin.Column > 0 {
		at += ":" + strconv.Itoa(p.Origin.Column)
	}
	return at + ": " + p.Message
}

// SettingErrors are all problems that make a source unusable, in order.
type SettingErrors []Problem

func (p SettingErrors) Error() string {
	if len(p) == 1 {
		return p[0].String()
	}
	return fmt.Sprintf("%s and %d more problems", p[0], len(p)-1)
}

// err returns nil if there are no problems.
func (p SettingErrors) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Merge returns each setting's value by name, from the last layer that sets it. A list
// replaces a list.
func Merge(layers ...[]Value) map[string]Value {
	out := map[string]Value{}
	for _, layer := range layers {
		for _, v := range layer {
			out[v.Name] = v
		}
	}
	return out
}

// check returns what is wrong with one value; empty if it is valid.
func (s Setting) check(text string) string {
	switch {
	case text == "":
		return "is empty: remove it"
	case strings.ContainsRune(text, 0):
		return "contains a NUL byte"
	case s.ByFile && (len(text) < 2 || text[0] != '@'):
		return "may be a secret: write that into a file and name it here, as @FILE"
	case s.Values != nil && !slices.Contains(s.Values, text):
		return "must be one of " + strings.Join(s.Values, ", ")
	case !s.Kind.reads(text):
		return must[s.Kind]
	}
	return ""
}

// reads reports whether a text is a value of the kind.
func (k Kind) reads(text string) bool {
	switch k {
	case Bool:
		return text == "true" || text == "false"
	case Integer:
		_, err := strconv.ParseUint(text, 10, 31)
		return err == nil
	case Duration:
		d, err := time.ParseDuration(text)
		return err == nil && d > 0
	case Time:
		_, err := ParseTime(text)
		return err == nil
	default:
		return true
	}
}

// ParseTime reads a Go duration, or a number of days such as 30d. Go has no days because of
// daylight saving time; certificates count days of 24 hours.
func ParseTime(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16) // avoids overflow
		if err != nil {
			return 0, fmt.Errorf("%q is not a number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("%q is not a time such as 30d or 12h", s)
	}
	return d, nil
}
