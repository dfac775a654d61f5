package playbooks_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"
)

const awxDir = "../examples/awx"

// known reads a YAML file of examples/awx, whose keys must be those that into has.
func known(t *testing.T, name string, into any) {
	t.Helper()
	f, err := os.Open(filepath.Join(awxDir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// The definition of the execution environment has keys that ansible-builder knows (version 3 of
// its schema, ansible_builder/ee_schema.py), and installs the file that it copies. Files of the
// build are below /build where collections are installed (containerfile.py).
func TestExecutionEnvironment(t *testing.T) {
	t.Parallel()
	type fromPip struct {
		Package string `yaml:"package_pip"`
	}
	var ee struct {
		Version      int `yaml:"version"`
		Dependencies struct {
			Core   fromPip  `yaml:"ansible_core"`
			Runner fromPip  `yaml:"ansible_runner"`
			System []string `yaml:"system"`
			Galaxy struct {
				Collections []struct {
					Name string `yaml:"name"`
					Type string `yaml:"type"`
				} `yaml:"collections"`
			} `yaml:"galaxy"`
		} `yaml:"dependencies"`
		Files []struct {
			From string `yaml:"src"`
			To   string `yaml:"dest"`
		} `yaml:"additional_build_files"`
	}
	known(t, "execution-environment.yml", &ee)
	collections, files := ee.Dependencies.Galaxy.Collections, ee.Files
	if ee.Version != 3 || ee.Dependencies.Core.Package == "" || ee.Dependencies.Runner.Package == "" {
		t.Errorf("%+v", ee)
	}
	if len(collections) != 1 || len(files) != 1 || collections[0].Type != "file" || collections[0].Name != filepath.Join("/build", files[0].To, files[0].From) {
		t.Errorf("%+v is not %+v", collections, files)
	}
}

// The job template has options of awx.awx 24, changes nothing by default, and runs a playbook
// that there is.
func TestJobTemplate(t *testing.T) {
	t.Parallel()
	var plays []struct {
		Name  string            `yaml:"name"`
		Hosts string            `yaml:"hosts"`
		Facts bool              `yaml:"gather_facts"`
		Vars  map[string]string `yaml:"vars"`
		Tasks []struct {
			Name        string            `yaml:"name"`
			Environment map[string]string `yaml:"awx.awx.execution_environment"`
			Template    map[string]any    `yaml:"awx.awx.job_template"`
		} `yaml:"tasks"`
	}
	known(t, "job-template.yml", &plays)
	if len(plays) != 1 || len(plays[0].Tasks) != 2 {
		t.Fatalf("%+v", plays)
	}
	image, template := plays[0].Tasks[0].Environment, plays[0].Tasks[1].Template
	options := []string{"name", "organization", "project", "playbook", "execution_environment", "inventory", "credentials", "job_type",
		"ask_job_type_on_launch", "ask_limit_on_launch", "allow_simultaneous"}
	for _, option := range slices.Sorted(maps.Keys(template)) {
		if !slices.Contains(options, option) {
			t.Errorf("awx.awx.job_template has no option %s", option)
		}
	}
	if template["job_type"] != "check" || template["ask_job_type_on_launch"] != true || template["execution_environment"] != image["name"] {
		t.Errorf("%v with %v", template, image)
	}
	name, _ := template["playbook"].(string)
	if _, err := os.Stat(filepath.Join(awxDir, name)); err != nil {
		t.Error(err)
	}
}
