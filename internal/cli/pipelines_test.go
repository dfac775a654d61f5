package cli

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
	"gopkg.in/yaml.v3"
)

// TestPipelines: each example of a pipeline parses by the rules of its system, and calls kscertctl
// with existing flags. (The rest of the formats is checked elsewhere: actionlint, ansible-lint and
// yamllint in task check, the API server of a lab's cluster in TestInspect.)
func TestPipelines(t *testing.T) {
	t.Parallel()
	const dir = root + "/examples/pipelines"
	readers := map[string]func(*testing.T, string) []string{
		"github-actions.yml":                 workflow,
		"github-renew.yml":                   workflow,
		"gitlab-renew.yml":                   gitlab,
		"kubernetes-renew.yaml":              cronJob,
		"systemd/kscertctl-renew.service":    renewService,
		"systemd/kscertctl-renew.timer":      timer,
		"gitlab-ci.yml":                      gitlab,
		"Jenkinsfile":                        jenkins,
		"kubernetes-cronjob.yaml":            cronJob,
		"awx.yml":                            playbook,
		"systemd/kscertctl-check.service":    service,
		"systemd/kscertctl-exporter.service": service,
		"systemd/kscertctl-check.timer":      timer,
	}
	var there []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			there = append(there, name)
		}
		return err
	})
	if want := slices.Sorted(maps.Keys(readers)); err != nil || !slices.Equal(slices.Sorted(slices.Values(there)), want) {
		t.Fatalf("%v; there are %q, and readers of %q", err, there, want)
	}
	for name, reader := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := reader(t, read(t, filepath.Join("examples/pipelines", name)))
			if len(calls) == 0 && !strings.HasSuffix(name, ".timer") {
				t.Error("it calls no kscertctl: the reader is broken")
			}
			for _, call := range calls {
				args := strings.Fields(call)
				cmd, rest, err := newRoot(Streams{Out: io.Discard, Err: io.Discard}).Find(args)
				if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err == nil {
					err = cmd.ValidateArgs(cmd.Flags().Args())
				}
				if err != nil {
					t.Errorf("kscertctl %s: %v", call, err)
				}
			}
		})
	}
}

// calls are the arguments of each kscertctl in a shell script.
func calls(script string) []string {
	var out []string
	script = strings.ReplaceAll(script, "\\\n", " ")
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:/usr/local/bin/)?kscertctl ([^|\n]*)`).FindAllStringSubmatch(script, -1) {
		out = append(out, m[1])
	}
	return out
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func workflow(t *testing.T, text string) (out []string) {
	t.Helper()
	var file struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string `yaml:"run"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	for _, job := range file.Jobs {
		for _, step := range job.Steps {
			out = append(out, calls(step.Run)...)
		}
	}
	return out
}

// gitlab knows the keywords that the example uses, from https://docs.gitlab.com/ci/yaml/.
func gitlab(t *testing.T, text string) (out []string) {
	t.Helper()
	type job struct {
		Extends       string   `yaml:"extends"`
		Stage         string   `yaml:"stage"`
		Tags          []string `yaml:"tags"`
		Needs         []string `yaml:"needs"`
		ResourceGroup string   `yaml:"resource_group"`
		Timeout       string   `yaml:"timeout"`
		Rules         []struct {
			If   string `yaml:"if"`
			When string `yaml:"when"`
		} `yaml:"rules"`
		BeforeScript []string `yaml:"before_script"`
		Script       []string `yaml:"script"`
		AllowFailure struct {
			ExitCodes []int `yaml:"exit_codes"`
		} `yaml:"allow_failure"`
		Artifacts struct {
			When     string            `yaml:"when"`
			Paths    []string          `yaml:"paths"`
			ExpireIn string            `yaml:"expire_in"`
			Reports  map[string]string `yaml:"reports"`
		} `yaml:"artifacts"`
	}
	var file struct {
		Stages    []string          `yaml:"stages"`
		Variables map[string]string `yaml:"variables"`
		Jobs      map[string]job    `yaml:",inline"`
	}
	decode(t, text, &file)
	for name, j := range file.Jobs {
		if j.Extends != "" {
			if _, ok := file.Jobs[j.Extends]; !ok {
				t.Errorf("%s extends %s, which is not there", name, j.Extends)
			}
		}
		for _, n := range j.Needs {
			if _, ok := file.Jobs[n]; !ok {
				t.Errorf("%s needs %s, which is not there", name, n)
			}
		}
		if hidden := strings.HasPrefix(name, "."); !hidden && (!slices.Contains(file.Stages, j.Stage) || len(j.Script) == 0) {
			t.Errorf("%s is in stage %q of %q, with %d lines of script", name, j.Stage, file.Stages, len(j.Script))
		}
		out = append(out, calls(strings.Join(j.Script, "\n"))...)
	}
	return out
}

// jenkins checks that blocks are closed.
func jenkins(t *testing.T, text string) []string {
	t.Helper()
	code := regexp.MustCompile(`(?s)'''.*?'''|'[^'\n]*'|//[^\n]*`).ReplaceAllString(text, "")
	depth := 0
	for _, r := range code {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth < 0 {
			break
		}
	}
	if depth != 0 || !strings.HasPrefix(strings.TrimSpace(code), "pipeline {") {
		t.Errorf("a block does not end, or there is none: depth %d", depth)
	}
	text = regexp.MustCompile(` \|\| code=\$\?`).ReplaceAllString(text, "")
	return calls(text)
}

func cronJob(t *testing.T, text string) []string {
	t.Helper()
	var file struct {
		Kind string `yaml:"kind"`
		Spec struct {
			JobTemplate struct {
				Spec struct {
					Template struct {
						Spec struct {
							Containers []struct {
								Args []string `yaml:"args"`
							} `yaml:"containers"`
						} `yaml:"spec"`
					} `yaml:"template"`
				} `yaml:"spec"`
			} `yaml:"jobTemplate"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range file.Spec.JobTemplate.Spec.Template.Spec.Containers {
		out = append(out, strings.Join(c.Args, " "))
	}
	return out
}

func playbook(t *testing.T, text string) []string {
	t.Helper()
	var plays []struct {
		Tasks []struct {
			Command struct {
				Argv []string `yaml:"argv"`
			} `yaml:"ansible.builtin.command"`
		} `yaml:"tasks"`
	}
	if err := yaml.Unmarshal([]byte(text), &plays); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range plays {
		for _, task := range p.Tasks {
			if len(task.Command.Argv) > 0 && task.Command.Argv[0] == "kscertctl" {
				out = append(out, strings.ReplaceAll(strings.Join(task.Command.Argv[1:], " "), "{{ kscert_inventory }}", "inventory.ini"))
			}
		}
	}
	return out
}

// systemdSections reads a unit, which may have only the given sections.
func systemdSections(t *testing.T, text string, sections ...string) map[string]string {
	t.Helper()
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, o := range options {
		if !slices.Contains(sections, o.Section) {
			t.Errorf("section %s of %s", o.Section, o.Name)
		}
		out[o.Section+"."+o.Name] = o.Value
	}
	return out
}

func service(t *testing.T, text string) []string {
	t.Helper()
	return calls(systemdSections(t, text, "Unit", "Service", "Install")["Service.ExecStart"])
}

// renewService is a unit that changes nodes: a signal must reach it alone, and it must have the
// time to finish its step.
func renewService(t *testing.T, text string) []string {
	t.Helper()
	u := systemdSections(t, text, "Unit", "Service", "Install")
	if u["Service.KillMode"] != "mixed" || u["Service.TimeoutStopSec"] == "" || u["Service.Type"] != "oneshot" {
		t.Errorf("%v", u)
	}
	return service(t, text)
}

// Unattended renewals never run twice at once.
func TestRenewalsExcludeEachOther(t *testing.T) {
	t.Parallel()
	for name, words := range map[string][]string{
		"github-renew.yml":                {"concurrency:\n  group: renew\n  cancel-in-progress: false\n"},
		"gitlab-renew.yml":                {"\n  resource_group: production\n"},
		"kubernetes-renew.yaml":           {"\n  concurrencyPolicy: Forbid ", "\n  startingDeadlineSeconds: ", "terminationGracePeriodSeconds: 3600", "persistentVolumeClaim:"},
		"systemd/kscertctl-renew.service": {"\nType=oneshot\n"},
		"systemd/kscertctl-renew.timer":   {"\nPersistent=false\n"},
	} {
		text := read(t, filepath.Join("examples/pipelines", name))
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s has no %q", name, word)
			}
		}
	}
}

// A renewal begins once each night: in no hour that a change of the clocks skips or repeats, which are
// those before three.
func TestRenewalsBeginOnceANight(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"kubernetes-renew.yaml":         `(?m)^  schedule: "\d+ (\d+) \* \* \*"`,
		"systemd/kscertctl-renew.timer": `(?m)^OnCalendar=\*-\*-\* 0?(\d+):\d+ `,
	} {
		hour := regexp.MustCompile(at).FindStringSubmatch(read(t, filepath.Join("examples/pipelines", name)))
		if hour == nil || len(hour[1]) == 1 && hour[1] < "3" {
			t.Errorf("%s begins at %q", name, hour)
		}
	}
}

func timer(t *testing.T, text string) []string {
	t.Helper()
	u := systemdSections(t, text, "Unit", "Timer", "Install")
	if u["Timer.OnCalendar"] == "" || u["Install.WantedBy"] != "timers.target" {
		t.Errorf("%v", u)
	}
	return nil
}
