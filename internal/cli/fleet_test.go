package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fleetOf is a directory with a fleet file of fake clusters; each is called before its
// playbooks, as in fake. With a text of its own, an entry replaces the one that is made.
func fleetOf(t *testing.T, head string, clusters ...[3]string) (p tried, dirs map[string]string) {
	t.Helper()
	text, dirs := head+"clusters:\n", map[string]string{}
	for _, c := range clusters {
		name, hook, more := c[0], c[1], c[2]
		dir := fake(t, hook).dir
		dirs[name] = dir
		text += fmt.Sprintf("- {name: %s, inventories: 'cp1,', settings: {ansible-bin: %s}%s}\n", name, dir, more)
	}
	p = tried{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(p.dir, "fleet.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, dirs
}

// well makes the fake cluster a renewed one.
func well(t *testing.T, dir string) {
	t.Helper()
	renewed, err := os.ReadFile(filepath.Join(dir, "renewed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "inspect.yml"), renewed, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What expires first over all clusters, the worst exit code, and each cluster's own.
func TestFleetCheck(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "settings: {forks: 3}\n",
		[3]string{"hangs", "[ $1 != inspect.yml ] || { sleep 3; exit 1; }", ", labels: {env: lab}"},
		[3]string{"due", "", ", labels: {env: prod}"},
		[3]string{"well", "", ", labels: {env: prod}"},
		[3]string{"lenient", "", ", labels: {env: test}"},
	)
	well(t, dirs["well"])
	// The setting of one cluster is that of this one alone.
	path := filepath.Join(p.dir, "fleet.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lenient := strings.Replace(string(text), "{ansible-bin: "+dirs["lenient"]+"}", "{ansible-bin: "+dirs["lenient"]+", warn: 2h, crit: 1h}", 1)
	if err := os.WriteFile(path, []byte(lenient), 0o600); err != nil {
		t.Fatal(err)
	}

	got := p.command(t, "fleet", "check", "-o", "json", "--parallel-clusters", "2").want(t, 7)
	var doc struct {
		ExitCode int `json:"exitCode"`
		Clusters []struct {
			Name     string    `json:"name"`
			ExitCode int       `json:"exitCode"`
			Error    string    `json:"error"`
			Report   *struct{} `json:"report"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range doc.Clusters {
		all = append(all, fmt.Sprintf("%s %d %t %t", c.Name, c.ExitCode, c.Report != nil, c.Error != ""))
	}
	if want := "hangs 7 false true, due 3 true true, lenient 0 true false, well 0 true false"; strings.Join(all, ", ") != want || doc.ExitCode != 7 {
		t.Errorf("exit code %d, clusters %q, want %s", doc.ExitCode, all, want)
	}
	// The one that hangs delays no other.
	if order := regexp.MustCompile(`(?m)^\[ *[0-9.]+s\] (\w+): `).FindAllStringSubmatch(got.err, -1); len(order) != 4 || order[3][1] != "hangs" {
		t.Errorf("%q in\n%s", order, got.err)
	}
	table := p.command(t, "fleet", "check", "--selector", "env in (prod, test)", "--fail-on", "never").want(t, 0)
	if !regexp.MustCompile(`(?s)^CLUSTER .*\ndue +critical .*\nlenient +valid .*\nwell +valid .*\n$`).MatchString(table.out) {
		t.Errorf("the table is\n%s", table.out)
	}
	p.command(t, "fleet", "check", "well").want(t, 0)
	// A flag counts before the file.
	p.command(t, "fleet", "check", "lenient", "--warn", "60d").want(t, 2, "error: not healthy, or unknown: 1 of 1 clusters", "lenient: exit code 2: certificates: ")
	for _, format := range []string{"wide", "yaml", "html", "prometheus", "junit", "ics"} {
		p.command(t, "fleet", "check", "due", "well", "-o", format).want(t, 3, "due")
	}
	p.command(t, "fleet", "check", "due", "-o", "html", "--output-file", "out.html").want(t, 3)
	if page, err := os.ReadFile(filepath.Join(p.dir, "out.html")); err != nil || !strings.Contains(string(page), "</html>") {
		t.Errorf("%v: %s", err, page)
	}
}

// A signal ends the inspections of all clusters, and what is known is written.
func TestFleetCheckIsInterrupted(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "", [3]string{"well", "", ""}, [3]string{"hangs", "[ $1 != inspect.yml ] || { echo >begun; sleep 600; }", ""})
	well(t, dirs["well"])
	began := time.Now()
	running := p.again(t, "fleet", "check")
	tried{dir: dirs["hangs"]}.until(t, "begun")
	if err := running.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := running.code(t); code != 130 || time.Since(began) > 50*time.Second {
		t.Errorf("exit code %d after %s", code, time.Since(began))
	}
}
