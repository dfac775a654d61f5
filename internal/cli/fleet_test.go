package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/cli"
	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// fleetOf is a directory with a fleet file of fake clusters; each is called before its playbooks,
// as in fake. A custom text replaces the generated entry.
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

// The report has what expires first over all clusters, the worst exit code, and each cluster's own.
func TestFleetCheck(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "settings: {forks: 3}\n",
		[3]string{"hangs", "[ $1 != inspect.yml ] || { sleep 3; exit 1; }", ", labels: {env: lab}"},
		[3]string{"due", "", ", labels: {env: prod}"},
		[3]string{"well", "", ", labels: {env: prod}"},
		[3]string{"lenient", "", ", labels: {env: test}"},
	)
	well(t, dirs["well"])
	// The setting of one cluster counts for this one alone.
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
	// A cluster that hangs delays no other.
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
	for _, format := range []string{"wide", "html", "prometheus", "junit", "ics"} {
		p.command(t, "fleet", "check", "due", "well", "-o", format).want(t, 3, "due")
	}
	p.command(t, "fleet", "check", "due", "-o", "html", "--output-file", "out.html").want(t, 3)
	if page, err := os.ReadFile(filepath.Join(p.dir, "out.html")); err != nil || !strings.Contains(string(page), "</html>") {
		t.Errorf("%v: %s", err, page)
	}
}

// A signal stops the inspections of all clusters, and what is known is written.
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

// fleetDoc is the part of a fleet run's document that the tests read.
type fleetDoc struct {
	Fleet    string `json:"fleet"`
	Status   string `json:"status"`
	ExitCode int    `json:"exitCode"`
	Clusters []struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		Reason   string `json:"reason"`
		Run      string `json:"run"`
		ExitCode int    `json:"exitCode"`
		Steps    int    `json:"steps"`
	} `json:"clusters"`
}

func readDoc(t *testing.T, text string) (d fleetDoc) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return d
}

// states are "NAME STATE EXITCODE" of each cluster.
func (d fleetDoc) states() string {
	var out []string
	for _, c := range d.Clusters {
		out = append(out, fmt.Sprintf("%s %s %d", c.Name, c.State, c.ExitCode))
	}
	return strings.Join(out, ", ")
}

func (d fleetDoc) want(t *testing.T, status string, code int, states string) {
	t.Helper()
	if d.Status != status || d.ExitCode != code || d.states() != states {
		t.Errorf("%s, exit code %d: %s; want %s, %d: %s", d.Status, d.ExitCode, d.states(), status, code, states)
	}
}

// closed is a window that is closed now and for some hours.
func closed() string {
	from := time.Now().UTC().Add(6 * time.Hour)
	return fmt.Sprintf("windows: [{from: %q, to: %q}]", from.Format("15:04"), from.Add(time.Hour).Format("15:04"))
}

// renewed reports whether the fake cluster was renewed.
func renewed(t *testing.T, dir string) bool {
	t.Helper()
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	return err == nil && strings.Contains(string(ran), "renew-certs.yml")
}

// The canary comes first, and after it the others. A cluster that is held, or whose window is
// closed, is left alone without a failure.
func TestFleetRun(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "waves: [canary]\n",
		[3]string{"a", renews + "\necho a >>../order", ""}, [3]string{"canary", renews, ", wave: canary"},
		[3]string{"frozen", renews, ", hold: until June"}, [3]string{"later", renews, ", " + closed()},
	)
	p.command(t, "fleet", "run").want(t, 10, "the plans were not approved: stdin is not a terminal")
	planned := p.command(t, "fleet", "plan", "-o", "json").want(t, 0)
	doc := readDoc(t, planned.out)
	doc.want(t, "", 0, "a planned 0, canary planned 0, frozen held 0, later planned 0")
	if doc.Clusters[0].Steps == 0 || !strings.Contains(planned.out, `"action": "renew-certs"`) {
		t.Errorf("no plan in\n%s", planned.out)
	}
	for name, dir := range dirs {
		if renewed(t, dir) {
			t.Errorf("%s was changed by a plan", name)
		}
	}

	got := p.command(t, "fleet", "run", "--yes", "-o", "json", "--parallel-clusters", "4").want(t, 0)
	doc = readDoc(t, got.out)
	doc.want(t, "done", 0, "a done 0, canary done 0, frozen held 0, later waiting 0")
	if order := regexp.MustCompile(`(?m)\] (\w+: (?:begun|ok))$`).FindAllStringSubmatch(got.err, -1); len(order) != 4 ||
		order[0][1] != "canary: begun" || order[1][1] != "canary: ok" || order[2][1] != "a: begun" {
		t.Errorf("the order is %q", order)
	}
	if !renewed(t, dirs["canary"]) || !renewed(t, dirs["a"]) || renewed(t, dirs["frozen"]) || renewed(t, dirs["later"]) {
		t.Error("not the right clusters were renewed")
	}
	if doc.Clusters[2].Reason != "until June" || !strings.HasPrefix(doc.Clusters[3].Reason, "its next window opens at ") {
		t.Errorf("%+v", doc.Clusters)
	}
	if status := readDoc(t, p.command(t, "fleet", "status", "-o", "json").want(t, 0).out); status.states() != doc.states() || status.Fleet != doc.Fleet {
		t.Errorf("the status is %+v", status)
	}
	p.command(t, "fleet", "status", doc.Fleet[:16]).want(t, 0, "Fleet run "+doc.Fleet+": done")
	p.command(t, "fleet", "status", "nothing").want(t, 64)
	// The runs on the clusters are normal runs.
	if list := p.command(t, "runs", "list").want(t, 0); !strings.Contains(list.out, doc.Clusters[0].Run) {
		t.Errorf("%s is not in\n%s", doc.Clusters[0].Run, list.out)
	}
	// A second time there is nothing to do.
	again := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 0).out)
	again.want(t, "done", 0, "a done 0, canary done 0, frozen held 0, later waiting 0")
	if again.Clusters[0].Steps != 0 {
		t.Errorf("%d steps on a renewed cluster", again.Clusters[0].Steps)
	}
}

// If the canary fails, the others are not begun; a cluster that stopped after a change is resumed.
func TestFleetRunStopsAndResumes(t *testing.T) {
	t.Parallel()
	const fails = "[ $1 != renew-certs.yml ] || { [ -e go ] && cp renewed inspect.yml || exit 3; }"
	p, dirs := fleetOf(t, "waves: [canary]\n", [3]string{"canary", fails, ", wave: canary"}, [3]string{"a", renews, ""})
	got := p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 8, "canary: exit code 8: ", "fleet run --resume ")
	doc := readDoc(t, got.out)
	doc.want(t, "failed", 8, "canary failed 8, a waiting 0")
	if doc.Clusters[1].Reason != "too many clusters have failed" || renewed(t, dirs["a"]) {
		t.Errorf("%+v", doc.Clusters[1])
	}
	more := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--stop-after-failures", "0", "--resume", doc.Fleet).want(t, 8).out)
	more.want(t, "failed", 8, "canary failed 8, a waiting 0")
	if more.Clusters[1].Reason != "a wave before it is not done" || more.Clusters[0].Run != doc.Clusters[0].Run {
		t.Errorf("%+v, and before %+v", more.Clusters, doc.Clusters)
	}

	tried{dir: dirs["canary"]}.keep(t, "go", "")
	p.command(t, "fleet", "run", "--yes", "--resume", doc.Fleet, "canary").want(t, 64, "name none")
	resumed := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--resume", doc.Fleet).want(t, 0).out)
	resumed.want(t, "done", 0, "canary done 0, a done 0")
	if resumed.Clusters[0].Run != doc.Clusters[0].Run || resumed.Fleet != doc.Fleet {
		t.Errorf("the run was begun again: %+v", resumed)
	}
}

// What has begun is finished, also after the window has closed. On a cluster that is held it is not, and
// its exit code stays that of the run that was stopped.
func TestFleetFinishesWhatHasBegun(t *testing.T) {
	t.Parallel()
	const fails = "[ $1 != renew-certs.yml ] || { [ -e go ] && cp renewed inspect.yml || exit 3; }"
	p, dirs := fleetOf(t, "", [3]string{"a", fails, ""})
	path := filepath.Join(p.dir, "fleet.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	with := func(more string) {
		p.keep(t, "fleet.yaml", strings.TrimSuffix(string(text), "}\n")+", "+more+"}\n")
	}
	first := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 8).out)
	resume := []string{"fleet", "run", "--yes", "-o", "json", "--resume", first.Fleet}
	with("hold: until June")
	held := readDoc(t, p.command(t, resume...).want(t, 8, "a: exit code 8: ").out)
	held.want(t, "failed", 8, "a held 8")
	with(closed())
	readDoc(t, p.command(t, resume...).want(t, 8).out).want(t, "failed", 8, "a failed 8")
	p.keep(t, "fleet.yaml", strings.Replace(string(text), "name: a,", "name: b,", 1))
	gone := readDoc(t, p.command(t, resume...).want(t, 8, "a: exit code 8: ").out)
	if gone.want(t, "failed", 8, "a held 8"); gone.Clusters[0].Reason != "it is no longer in the fleet file" {
		t.Errorf("%+v", gone.Clusters)
	}
	p.keep(t, "fleet.yaml", string(text))
	tried{dir: dirs["a"]}.keep(t, "go", "")
	done := readDoc(t, p.command(t, resume...).want(t, 0).out)
	if done.want(t, "done", 0, "a done 0"); done.Clusters[0].Run != first.Clusters[0].Run {
		t.Errorf("%+v", done)
	}
}

// Where the operator has worked on the cluster since, its run cannot be resumed: it is planned again, and the
// next wave begins.
func TestFleetPlansAgainWhatOthersChanged(t *testing.T) {
	t.Parallel()
	const fails = "[ $1 != renew-certs.yml ] || { [ -e go ] && cp renewed inspect.yml || exit 3; }"
	p, dirs := fleetOf(t, "waves: [canary]\n", [3]string{"a", fails, ", wave: canary"}, [3]string{"b", renews, ""})
	first := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 8).out)
	first.want(t, "failed", 8, "a failed 8, b waiting 0")
	tried{dir: dirs["a"]}.keep(t, "go", "")
	p.command(t, "run", "-i", "cp1,", "--ansible-bin", dirs["a"], "--yes").want(t, 0)
	done := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--resume", first.Fleet).want(t, 0).out)
	done.want(t, "done", 0, "a done 0, b done 0")
}

// A cluster that was left half done takes its place in its failure domain; one that was refused before a change
// keeps no other from being renewed.
func TestFleetAfterFailures(t *testing.T) {
	t.Parallel()
	zones := "failure-domain: {label: zone}\n"
	p, dirs := fleetOf(t, zones, [3]string{"a", "[ $1 != renew-certs.yml ] || exit 3", ", labels: {zone: z1}"},
		[3]string{"b", renews, ", labels: {zone: z1}"}, [3]string{"c", renews, ", labels: {zone: z2}"})
	first := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--stop-after-failures", "2").want(t, 8).out)
	doc := first
	if doc.want(t, "failed", 8, "a failed 8, b waiting 7, c done 0"); doc.Clusters[1].Reason != "a cluster of its failure domain was left half done" {
		t.Errorf("%+v", doc.Clusters)
	}
	// The next fleet run does not forget that, whichever clusters it is about.
	left := func(file string) {
		t.Helper()
		got := p.command(t, "fleet", "run", "b", "-f", file, "--yes", "-o", "json").want(t, 7, "a cluster of its failure domain was left half done a")
		readDoc(t, got.out).want(t, "failed", 7, "b waiting 7")
	}
	left("fleet.yaml")
	if err := os.Symlink("fleet.yaml", filepath.Join(p.dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	left("link.yaml")
	// Nor if others have tried it since, without success.
	lock := filepath.Join(dirs["a"], "hook")
	hook, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	if err := testcommand.Write(lock, strings.Replace(string(hook), "renew-certs.yml", "lock.yml", 1)); err != nil {
		t.Fatal(err)
	}
	p.command(t, "fleet", "run", "a", "--yes").want(t, 7)
	left("fleet.yaml")
	if err := testcommand.Write(lock, string(hook)); err != nil {
		t.Fatal(err)
	}
	p.command(t, "run", "-i", "cp1,", "--ansible-bin", dirs["a"], "--yes").want(t, 8)
	left("fleet.yaml")
	file := filepath.Join(p.dir, "fleet.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, regexp.MustCompile(`(?m)^- \{name: a,.*\n`).ReplaceAll(text, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nor does one that is resumed without the cluster.
	readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--resume", first.Fleet).want(t, 7).out).want(t, "failed", 7, "a held 0, b waiting 7, c done 0")
	p, _ = fleetOf(t, "", [3]string{"a", "[ $1 != lock.yml ] || exit 3", ""}, [3]string{"b", renews, ""})
	got := p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 7, "next: ")
	readDoc(t, got.out).want(t, "failed", 7, "a failed 7, b done 0")
}

// A run that ended before a change is planned again: another one may have worked on the cluster meanwhile.
func TestFleetPlansAnewBeforeAChange(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "", [3]string{"a", renews, ""})
	lock := filepath.Join(dirs["a"], "lock.yml")
	free, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	taken := fakeansible.Says(t, `@@LOCK held 5 {"schema":1,"user":"anna","host":"elsewhere","pid":7,"run":"20260301T110000Z-abcdef"}`+"\n@@END\n")
	if err := os.WriteFile(lock, []byte(taken), 0o600); err != nil {
		t.Fatal(err)
	}
	first := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 6, "anna on elsewhere").out)
	if err := os.WriteFile(lock, free, 0o600); err != nil {
		t.Fatal(err)
	}
	well(t, dirs["a"]) // anna has renewed it
	readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--resume", first.Fleet).want(t, 0).out).want(t, "done", 0, "a done 0")
}

// A cluster whose run has begun is never given another one: not while what a killed process has started
// still works there, and not if its record cannot be read.
func TestFleetKeepsToTheRunThatHasBegun(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "", [3]string{"a", slow, ""})
	a := tried{dir: dirs["a"]}
	running := p.again(t, "fleet", "run", "--yes")
	a.until(t, "begun")
	if err := running.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	running.code(t)
	killed := readDoc(t, p.command(t, "fleet", "status", "-o", "json").want(t, 0).out)
	resume := []string{"fleet", "run", "--yes", "-o", "json", "--resume", killed.Fleet}
	first := killed.Clusters[0].Run
	wantRun := func(doc fleetDoc) {
		t.Helper()
		if doc.Clusters[0].Run != first {
			t.Errorf("run %s took the place of %s", doc.Clusters[0].Run, first)
		}
	}
	wantRun(readDoc(t, p.command(t, resume...).want(t, 6, "run "+first+" is still at work on the cluster").out))
	a.keep(t, "go", "")
	a.until(t, "finished")

	journal := filepath.Join(p.dir, "state", "kscertctl", "runs", first, "journal.jsonl")
	text, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, append([]byte("junk\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRun(readDoc(t, p.command(t, resume...).want(t, 7, "the record of what was begun on the cluster cannot be read").out))
	if err := os.WriteFile(journal, text, 0o600); err != nil {
		t.Fatal(err)
	}
	done := readDoc(t, p.command(t, resume...).want(t, 0).out)
	done.want(t, "done", 0, "a done 0")
	wantRun(done)
}

// After the first signal the clusters at work finish their step; two runs of one fleet file never
// work at the same time; a killed run is detected, and resumed.
func TestFleetRunIsStopped(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		signal os.Signal
		code   int
		status string
		states string
	}{
		{os.Interrupt, 130, "interrupted", "a failed 130, b waiting 0"},
		{os.Kill, -1, "killed", "a killed 0, b waiting 0"},
	} {
		t.Run(row.status, func(t *testing.T) {
			t.Parallel()
			p, dirs := fleetOf(t, "", [3]string{"a", slow, ""}, [3]string{"b", renews, ""})
			running := p.again(t, "fleet", "run", "--yes")
			a := tried{dir: dirs["a"]}
			a.until(t, "begun")
			p.command(t, "fleet", "run", "--yes").want(t, 6, "works on the clusters of ")
			if d := readDoc(t, p.command(t, "fleet", "status", "-o", "json").want(t, 0).out); d.states() != "a running 0, b waiting 0" || d.Status != "running" {
				t.Errorf("%+v", d)
			}
			if err := running.Process.Signal(row.signal); err != nil {
				t.Fatal(err)
			}
			if row.signal == os.Interrupt {
				time.Sleep(200 * time.Millisecond)
			}
			a.keep(t, "go", "")
			if code := running.code(t); code != row.code {
				t.Errorf("exit code %d, want %d", code, row.code)
			}
			d := readDoc(t, p.command(t, "fleet", "status", "-o", "json").want(t, 0).out)
			if d.Status != row.status || d.states() != row.states || renewed(t, dirs["b"]) {
				t.Errorf("%+v", d)
			}
			a.until(t, "finished")
			again := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json", "--resume", d.Fleet).want(t, 0).out)
			again.want(t, "done", 0, "a done 0, b done 0")
			if again.Clusters[0].Run != d.Clusters[0].Run {
				t.Errorf("run %s was begun again as %s", d.Clusters[0].Run, again.Clusters[0].Run)
			}
		})
	}
}

// A fleet run that is interrupted while it waits for a window has its own exit code in the record, too.
func TestFleetWaitIsInterrupted(t *testing.T) {
	t.Parallel()
	p, _ := fleetOf(t, "", [3]string{"a", renews, ", " + closed()})
	waiting := p.again(t, "fleet", "run", "--yes", "--wait", "12h")
	records := filepath.Join(p.dir, "state", "kscertctl", "runs", "fleets", "*", "fleet.json")
	for deadline := time.Now().Add(stopTime); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if there, _ := filepath.Glob(records); len(there) > 0 {
			break
		}
	}
	if err := waiting.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := waiting.code(t); code != 130 {
		t.Errorf("exit code %d", code)
	}
	readDoc(t, p.command(t, "fleet", "status", "-o", "json").want(t, 0).out).want(t, "interrupted", 130, "a waiting 0")
	p.command(t, "fleet", "status", "never").want(t, 64, `there is no run "never"`, ", interrupted", "recorded here")
}

// What a Pod leaves after a change, the next one resumes, however it ended.
func TestFleetWorkGoesOn(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, hook string
		killed     bool
	}{
		{"stopped", "[ $1 != renew-certs.yml ] || { [ -e go ] && cp renewed inspect.yml || exit 3; }", false},
		{"killed", slow, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, dirs := fleetOf(t, "", [3]string{"other", renews, ""}, [3]string{"a", row.hook, ""})
			work := []string{"fleet", "work", "other", "a", "--index", "1", "--state-dir", filepath.Join(p.dir, "state"), "--result-file", filepath.Join(p.dir, "result")}
			result := func() (c report.FleetCluster) {
				data, err := os.ReadFile(filepath.Join(p.dir, "result"))
				if err == nil {
					err = json.Unmarshal(data, &c)
				}
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			a := tried{dir: dirs["a"]}
			var first string
			if row.killed {
				running := p.again(t, work...)
				a.until(t, "begun")
				if err := running.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				running.code(t)
				a.keep(t, "go", "")
				a.until(t, "finished")
				r, err := orchestrator.FindRun(filepath.Join(p.dir, "state", "a"), "")
				if err != nil {
					t.Fatal(err)
				}
				first = r.ID
			} else {
				p.command(t, work...).want(t, 8, "a: exit code 8: ")
				if c := result(); c.State != report.FleetFailed || c.ExitCode != 8 || c.Run == "" {
					t.Fatalf("%+v", c)
				}
				first = result().Run
				a.keep(t, "go", "")
			}
			p.command(t, work...).want(t, 0)
			if c := result(); c.State != report.FleetDone || c.Run != first {
				t.Errorf("%+v, want run %s", c, first)
			}
			// Once it is done, there is nothing to resume, and nothing to do.
			p.command(t, work...).want(t, 0)
			if c := result(); c.State != report.FleetDone || c.Steps != 0 || renewed(t, dirs["other"]) {
				t.Errorf("%+v", c)
			}
		})
	}
}

// A Pod that gets SIGTERM finishes a cluster that it has begun to change: no other Pod may follow.
func TestFleetWorkFinishesWhatItChanges(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "", [3]string{"a", slow, ""})
	running := p.again(t, "fleet", "work", "a", "--index", "0", "--state-dir", filepath.Join(p.dir, "state"), "-o", "json")
	a := tried{dir: dirs["a"]}
	a.until(t, "begun")
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	a.keep(t, "go", "")
	out, err := io.ReadAll(running.out)
	if code := running.code(t); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	readDoc(t, string(out)).want(t, "interrupted", 0, "a done 0")
}

// onTerminal is an operator who types an answer; before that, something else happens.
type onTerminal struct {
	answer string
	before func()
}

func (o *onTerminal) Read(p []byte) (int, error) {
	if o.before != nil {
		o.before()
	}
	return copy(p, o.answer), nil
}

// Only a yes on a terminal is accepted, and only for the plans that were shown.
func TestFleetRunAsks(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, answer string
		changes      bool
		code         int
		renewed      bool
	}{
		{"yes", "yes\n", false, 0, true}, {"no", "no\n", false, 10, false}, {"another plan by then", "yes\n", true, 10, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, dirs := fleetOf(t, "", [3]string{"a", renews, ""})
			dir := dirs["a"]
			before := func() {}
			if row.changes {
				due, err := os.ReadFile(filepath.Join(dir, "inspect.yml"))
				if err != nil {
					t.Fatal(err)
				}
				well(t, dir)
				before = func() { _ = os.WriteFile(filepath.Join(dir, "inspect.yml"), due, 0o600) }
			}
			var out, answered strings.Builder
			code := cli.Main([]string{"fleet", "run", "-f", filepath.Join(p.dir, "fleet.yaml"), "--state-dir", filepath.Join(p.dir, "state")},
				cli.Streams{In: &onTerminal{row.answer, before}, Out: &out, Err: &answered, Terminal: true})
			if code != row.code || renewed(t, dir) != row.renewed || !strings.Contains(answered.String(), "Carry out these plans?") {
				t.Errorf("exit code %d, want %d; renewed %t\n%s%s", code, row.code, renewed(t, dir), out.String(), answered.String())
			}
		})
	}
}

// A certificate that expires before the next window and a week is renewed in this one, even if it
// is not yet due by its days; a date does the same for one cluster.
func TestDueBefore(t *testing.T) {
	t.Parallel()
	open := "windows: [{from: '00:00', to: '24:00'}]" // the next one opens within a day
	p, dirs := fleetOf(t, "settings: {warn: 2h}\n", [3]string{"a", renews, ""}, [3]string{"b", renews, ", " + open})
	doc := readDoc(t, p.command(t, "fleet", "run", "--yes", "-o", "json").want(t, 0).out)
	doc.want(t, "done", 0, "a done 0, b done 0")
	if renewed(t, dirs["a"]) || !renewed(t, dirs["b"]) {
		t.Errorf("renewed: a %t, b %t, want b alone", renewed(t, dirs["a"]), renewed(t, dirs["b"]))
	}
	mine := []string{"--warn", "2h", "-i", "cp1,", "--ansible-bin", dirs["a"]}
	p.command(t, append([]string{"plan", "--detailed-exitcode", "--due-before", "12h"}, mine...)...).want(t, 0)
	p.command(t, append([]string{"plan", "--detailed-exitcode", "--due-before", "38d"}, mine...)...).want(t, 2)
	p.command(t, append([]string{"plan", "--due-before", "soon"}, mine...)...).want(t, 64, `--due-before: "soon" is neither a date`)
	p.command(t, append([]string{"run", "--yes", "--due-before", time.Now().AddDate(0, 0, 3).Format(time.DateOnly)}, mine...)...).want(t, 0)
	if !renewed(t, dirs["a"]) {
		t.Error("what was due by its date was not renewed")
	}
}

// A password is asked for once, however many clusters need it at the same time.
func TestFleetAsksForAPasswordOnce(t *testing.T) {
	t.Parallel()
	p, dirs := fleetOf(t, "settings: {ask-become-pass: true}\n", [3]string{"a", "", ""}, [3]string{"b", "", ""}, [3]string{"c", "", ""})
	for _, dir := range dirs {
		well(t, dir)
	}
	var asked atomic.Int32
	var out, answered strings.Builder
	code := cli.Main([]string{"fleet", "check", "-f", filepath.Join(p.dir, "fleet.yaml"), "--state-dir", filepath.Join(p.dir, "state")}, cli.Streams{
		Out: &out, Err: &answered, Terminal: true, Password: func(string) (string, error) {
			asked.Add(1)
			return "secret", nil
		},
	})
	if code != 0 || asked.Load() != 1 {
		t.Errorf("exit code %d, asked %d times\n%s", code, asked.Load(), answered.String())
	}
}
