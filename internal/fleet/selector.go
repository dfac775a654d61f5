package fleet

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Selector chooses clusters by their labels, as the label selectors of Kubernetes do:
// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors.
// All requirements must hold; none chooses everything.
type Selector []requirement

// requirement is one of a selector: the value of a key is, or is not, one of some; without
// values, the key is there or not.
type requirement struct {
	key    string
	not    bool
	values []string
}

// What keys and values of labels look like (the same page, "Syntax and character set").
var (
	labelName   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelPrefix = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func isKey(s string) bool {
	prefix, name, has := strings.Cut(s, "/")
	if !has {
		return labelName.MatchString(s)
	}
	return len(prefix) <= 253 && labelPrefix.MatchString(prefix) && labelName.MatchString(name)
}

func isValue(s string) bool { return s == "" || labelName.MatchString(s) }

// operators of a requirement with one value; that which another begins with comes last.
var operators = []struct {
	sign string
	not  bool
}{{"!=", true}, {"==", false}, {"=", false}}

// set is a requirement with a list of values.
var set = regexp.MustCompile(`^(\S+)\s+(in|notin)\s*\(([^()]*)\)$`)

// ParseSelector reads requirements with commas between them: key=value, key==value,
// key!=value, key in (a, b), key notin (a, b), key, !key. An empty text chooses everything.
func ParseSelector(text string) (Selector, error) {
	var out Selector
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for _, part := range parts(text) {
		r, ok := parseRequirement(strings.TrimSpace(part))
		if !ok || !isKey(r.key) || slices.ContainsFunc(r.values, func(v string) bool { return !isValue(v) }) {
			return nil, fmt.Errorf("%q is not a label selector such as env=prod, env!=test, env in (a, b), env "+
				"notin (a, b), env or !env", part)
		}
		out = append(out, r)
	}
	return out, nil
}

// parts are what commas outside of parentheses separate.
func parts(text string) []string {
	var out []string
	from, depth := 0, 0
	for i, c := range text {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			out, from = append(out, text[from:i]), i+1
		}
	}
	return append(out, text[from:])
}

func parseRequirement(text string) (r requirement, ok bool) {
	if m := set.FindStringSubmatch(text); m != nil {
		r = requirement{key: m[1], not: m[2] == "notin"}
		for v := range strings.SplitSeq(m[3], ",") {
			r.values = append(r.values, strings.TrimSpace(v))
		}
		return r, len(r.values) > 1 || r.values[0] != "" // "in ()" chooses by nothing
	}
	for _, o := range operators {
		if key, value, found := strings.Cut(text, o.sign); found {
			return requirement{key: strings.TrimSpace(key), not: o.not, values: []string{strings.TrimSpace(value)}},
				true
		}
	}
	key, not := strings.CutPrefix(text, "!")
	return requirement{key: strings.TrimSpace(key), not: not}, true
}

// Matches reports whether labels are what the selector asks for. A key that is not there
// has no value, so "not this value" holds.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s {
		value, holds := labels[r.key]
		if r.values != nil {
			holds = holds && slices.Contains(r.values, value)
		}
		if holds == r.not {
			return false
		}
	}
	return true
}
