package kubespray

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// layouts identify releases by the newest file that they contain, newest release first,
// according to the history of Kubespray's repository.
var layouts = []struct{ has, release string }{
	{"upgrade_cluster.yml", "2.30 or later"},
	{"playbooks/upgrade_cluster.yml", "2.22 to 2.29"},
	{"roles/kubernetes/control-plane", "2.16 to 2.21"},
	{"roles/kubernetes/master", "2.15 or earlier"},
}

// release returns the release of the Kubespray in dir, from its galaxy.yml (v2.22 and later)
// or else from its layout.
func release(dir string) (version, from string) {
	var galaxy struct {
		Version string `yaml:"version"`
	}
	if data, err := os.ReadFile(filepath.Join(dir, "galaxy.yml")); err == nil && yaml.Unmarshal(data, &galaxy) == nil &&
		galaxy.Version != "" {
		return galaxy.Version, "galaxy.yml"
	}
	for _, l := range layouts {
		if exists(dir, l.has) {
			return l.release, "its layout"
		}
	}
	return "unknown", "its layout"
}

// Series is a series of releases and the range of ansible-core that it supports.
type Series struct {
	Release string
	Demands Range
}

// AllSeries returns the known series, newest first, with the ranges from their
// requirements.txt and ansible_version.yml.
func AllSeries() []Series { return slices.Clone(series) }

// series is for checkouts that do not state a range.
var series = []Series{
	{"2.31", Range{"2.18.0", "2.19.0"}},
	{"2.30", Range{"2.17.3", "2.18.0"}},
	{"2.29", Range{"2.17.3", "2.18.0"}},
	{"2.28", Range{"2.16.4", "2.17.0"}},
	{"2.27", Range{"2.16.4", "2.17.0"}},
	{"2.26", Range{"2.16.4", "2.17.0"}},
	{"2.25", Range{"2.16.4", "2.17.0"}},
	{"2.24", Range{"2.15.5", "2.17.0"}},
	{"2.23", Range{"2.14.0", "2.15.0"}},
	{"2.22", Range{"2.11.0", "2.13.0"}},
	{"2.21", Range{"2.11.0", "2.13.0"}},
	{"2.20", Range{"2.11.0", "2.13.0"}},
	{"2.19", Range{"2.9.0", "2.13.0"}},
	{"2.18", Range{"2.9.0", "2.12.0"}},
	{"2.17", Range{"2.9.0", "2.11.0"}},
	{"2.16", Range{"2.9.0", "2.11.0"}},
	{"2.15", Range{"2.9.0", "2.10.0"}},
	{"2.14", Range{"2.8.0", ""}},
	{"2.13", Range{"2.8.0", ""}},
	{"2.12", Range{"2.7.8", ""}},
	{"2.11", Range{"2.7.8", ""}},
	{"2.10", Range{"2.7.8", ""}},
}

// Range is a range of versions: from Min, and before Max; an empty bound is open.
type Range struct{ Min, Max string }

var bound = regexp.MustCompile(`(?m)^\s*(minimal|maximal)_ansible_version: *["']?([0-9][0-9.]*)`)

// demanded reads the range of ansible-core from the playbook in which the checkout checks it;
// if that is missing, it returns the known range of its release.
func demanded(dir, release string) Range {
	if name := first(dir, versionPlaybooks); name != "" {
		var r Range
		data, err := os.ReadFile(filepath.Join(dir, name))
		for _, m := range bound.FindAllSubmatch(data, -1) {
			if string(m[1]) == "minimal" {
				r.Min = string(m[2])
			} else {
				r.Max = string(m[2])
			}
		}
		if err == nil && r != (Range{}) {
			return r
		}
	}
	for _, s := range series {
		if strings.HasPrefix(release+".", s.Release+".") {
			return s.Demands
		}
	}
	return Range{}
}

// Overridden returns the range with the extra variables that override Kubespray's own check.
func (r Range) Overridden(extra map[string]any) Range {
	for _, b := range []struct {
		name string
		to   *string
	}{{"minimal_ansible_version", &r.Min}, {"maximal_ansible_version", &r.Max}} {
		if v, ok := extra[b.name]; ok {
			*b.to = fmt.Sprint(v)
		}
	}
	return r
}

// LeastAnsible is the oldest ansible-core that kscertctl supports.
const LeastAnsible = "2.11"

// Suits reports whether the range has a version that kscertctl supports.
func (r Range) Suits() bool {
	return r.Max == "" || slices.Compare(numbers(r.Max), numbers(LeastAnsible)) > 0
}

func (r Range) String() string {
	switch {
	case r.Min == "" && r.Max == "":
		return "any"
	case r.Max == "":
		return r.Min + " or later"
	case r.Min == "":
		return "before " + r.Max
	default:
		return fmt.Sprintf("%s or later, before %s", r.Min, r.Max)
	}
}

// Allows reports whether a version, such as "2.14.18" or "2.18.0rc1", is in the range. A
// suffix does not count, as in Kubespray's check.
func (r Range) Allows(version string) bool {
	v := numbers(version)
	return (r.Min == "" || slices.Compare(v, numbers(r.Min)) >= 0) &&
		(r.Max == "" || slices.Compare(v, numbers(r.Max)) < 0)
}

var number = regexp.MustCompile(`^[0-9]+`)

// numbers returns the parts of a version, at least three.
func numbers(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		digits := number.FindString(part)
		n, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		out = append(out, n)
		if digits != part {
			break
		}
	}
	for len(out) < 3 {
		out = append(out, 0)
	}
	return out
}

// Requirement returns the arguments of pip install, quoted for a shell, for an Ansible that
// the checkout supports.
func (c Checkout) Requirement() string {
	if exists(c.Dir, "requirements.txt") {
		return "-r " + shell.Quote(filepath.Join(c.Dir, "requirements.txt"))
	}
	least := LeastAnsible
	if slices.Compare(numbers(c.Ansible.Min), numbers(least)) > 0 {
		least = c.Ansible.Min
	}
	versions := fmt.Sprintf("ansible-core>=%s,<%s", least, cmp.Or(c.Ansible.Max, "3"))
	return shell.Quote(versions) + " netaddr jmespath"
}
