package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// Until Task is built, hack/task reads the list from Taskfile.yml itself.
func TestTaskListWithoutTask(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "hack"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"Taskfile.yml", "hack/task"} {
		if err := os.WriteFile(filepath.Join(dir, page), []byte(read(t, page)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("sh", filepath.Join(dir, "hack/task"), "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^\* (\S+): +(.*)$`).FindAllStringSubmatch(string(out), -1) {
		listed[line[1]] = line[2]
	}

	var file struct {
		Tasks map[string]struct {
			Desc string `yaml:"desc"`
		} `yaml:"tasks"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "Taskfile.yml")), &file); err != nil {
		t.Fatal(err)
	}
	for name, task := range file.Tasks {
		if listed[name] != task.Desc {
			t.Errorf("%s is listed as %q, want %q", name, listed[name], task.Desc)
		}
	}
	if want := len(file.Tasks) + 1; len(listed) != len(file.Tasks) || strings.Count(string(out), "\n") != want {
		t.Errorf("%d tasks are listed of %d:\n%s", len(listed), len(file.Tasks), out)
	}
}
