package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// FileVariable names the configuration file.
const FileVariable = prefix + "CONFIG"

// ofKubernetes matches the variables that Kubernetes sets in every container for a Service
// whose name begins with kscertctl:
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
var ofKubernetes = regexp.MustCompile(
	`_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// FromEnvironment reads the variables KSCERTCTL_* of an environment in the form of os.Environ.
// An empty one counts as unset; a list has one value per line.
//
// An error is of type SettingErrors: an invalid value, a name that cannot be set, or a
// misspelled setting. Any other name may belong to another program, so it is returned as a
// warning.
func FromEnvironment(environ []string, known Known) (values []Value, strange []Problem, err error) {
	settings, refused := map[string]Setting{}, map[string]string{}
	for _, s := range known.Settings {
		settings[Variable(s.Name)] = s
	}
	for name, why := range known.Refused {
		refused[Variable(name)] = why
	}
	var problems SettingErrors
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		variable, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(variable, prefix) || variable == FileVariable || strings.TrimSpace(text) == "" {
			continue
		}
		origin := Origin{Source: Environment, Name: variable}
		if setting, ok := settings[variable]; ok {
			v := Value{Name: setting.Name, Values: setting.split(text), Origin: origin}
			for _, one := range v.Values {
				if wrong := setting.check(one); wrong != "" {
					problems = append(problems, Problem{origin, wrong})
				}
			}
			values = append(values, v)
			continue
		}
		meant := known.nearest(strings.ReplaceAll(strings.TrimPrefix(variable, prefix), "_", "-"))
		switch why, no := refused[variable]; {
		case no:
			problems = append(problems, Problem{origin, "this cannot be set: " + why})
		case ofKubernetes.MatchString(variable):
		case meant != "":
			problems = append(problems,
				Problem{origin, fmt.Sprintf("unknown setting; did you mean %s?", Variable(meant))})
		default:
			strange = append(strange, Problem{origin, "unknown setting"})
		}
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return values, strange, nil
}

// split returns the values in a variable.
func (s Setting) split(text string) []string {
	if !s.List {
		return []string{s.Kind.normal(text)}
	}
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}
