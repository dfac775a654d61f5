package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"
	"github.com/santhosh-tekuri/jsonschema/v6"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// runReports are reports of every way in which a run can go, and of those that could break a
// format.
func runReports() map[string]report.Run {
	out := map[string]report.Run{"evil": report.OfRun(evilRun()), "begun": report.OfRun(begunRun()), "at-work": report.OfRun(atWork())}
	code := 64
	out["never-begun"] = report.NotBegun(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), report.Outcome{Summary: "nothing was changed", Detail: "inventory x: it does not exist", Next: "name an existing one", ExitCode: &code})
	for name, h := range testruns.All() {
		out[name] = report.OfRun(h)
	}
	return out
}

// begunRun is a run whose process died before it had seen anything.
func begunRun() run.History {
	h := testruns.Killed()
	h.Entries, h.Proposal, h.Looks, h.Snapshots, h.Backups = h.Entries[:1], nil, nil, nil, nil
	h.State = run.Journal{Entries: h.Entries}.State()
	return h
}

// atWork is a run that has begun to change a node.
func atWork() run.History {
	h := testruns.Killed()
	h.Running, h.Torn = true, 0
	return h
}

// evilRun is a run on nodes whose names and texts could break a format, stretch a page or load
// something.
func evilRun() run.History {
	const text = "<img src=http://evil.example/x>|\x1b[31m`]]>&amp;\r\n```\r\n<script>alert(1)</script>{{.}}\"'"
	name := strings.Repeat("a-name-without-any-end", 6) + text
	h := testruns.FailedGate()
	for i := range h.Entries {
		e := &h.Entries[i]
		if e.Nodes != nil {
			e.Nodes = []string{name}
		}
		if e.Detail != "" {
			e.Detail = text
		}
	}
	h.State = run.Journal{Entries: h.Entries}.State()
	h.Exit.Next = text
	p := h.Proposal
	p.Request.Inventories = []string{text}
	p.Plan.Warnings, p.Plan.Notes, p.Plan.Unknown = []string{text}, []string{text}, []string{text}
	for i := range p.Plan.Steps {
		p.Plan.Steps[i].Nodes = []string{name}
	}
	for i := range p.Diagnosis.Findings {
		f := &p.Diagnosis.Findings[i]
		f.Node, f.Subject, f.Evidence = name, text, text
	}
	for i := range h.Backups {
		h.Backups[i].Node, h.Backups[i].Notes = name, []string{text}
	}
	for i := range h.Snapshots {
		for j := range h.Snapshots[i].Nodes {
			n := &h.Snapshots[i].Nodes[j]
			n.Name = name + n.Name
			for k := range n.Certificates {
				n.Certificates[k].Path = text
			}
			for k := range n.Results {
				n.Results[k] = snapshot.Result{Output: text}
			}
		}
	}
	p.Snapshot = h.Snapshots[0]
	return h
}

func renderRun(t *testing.T, format string, r report.Run) string {
	t.Helper()
	i := slices.IndexFunc(report.RunFormats(), func(f report.RunFormat) bool { return f.Name == format })
	var out bytes.Buffer
	ok(t, report.RunFormats()[i].Write(&out, r))
	return out.String()
}

// Every format is a contract, and the same history gives the same bytes: also if it comes from the
// run directory.
func TestRunFormats(t *testing.T) {
	t.Parallel()
	for name, h := range testruns.All() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			testruns.Write(t, root, h)
			read, err := run.LoadHistory(root, h.ID)
			ok(t, err)
			read.Path = h.Path
			for _, f := range report.RunFormats() {
				got := renderRun(t, f.Name, report.OfRun(h))
				golden(t, "run-"+name+f.Suffix, got)
				if again := renderRun(t, f.Name, report.OfRun(read)); again != got {
					t.Errorf("from the run directory %s is\n%s", f.Name, again)
				}
			}
		})
	}
}

// The caller gets write errors, in every format.
func TestRunWriteErrors(t *testing.T) {
	t.Parallel()
	for _, f := range report.RunFormats() {
		if err := f.Write(broken{}, report.OfRun(testruns.FailedGate())); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}

// The JSON form matches its published schema, for every run.
func TestRunSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/reference/schemas/run-report-v1.json")
	ok(t, err)
	for name, r := range runReports() {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(renderRun(t, "json", r)))
		ok(t, err)
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// For a part of a plan, it names the part.
	part := testruns.Recovered()
	asked := &part.Proposal.Request
	asked.Limit, asked.SkipPhases, asked.UntilPhase, asked.Serial, asked.StableFor = []string{"cp1", "w1"}, []plan.Phase{"kubelets"}, "cluster", "20%", time.Minute
	text := renderRun(t, "json", report.OfRun(part))
	of, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	ok(t, err)
	if err := schema.Validate(of); err != nil || !strings.Contains(text, `"stableForSeconds": 60`) {
		t.Errorf("a part of a plan: %v\n%s", err, text)
	}
	if page := renderRun(t, "html", report.OfRun(part)); !strings.Contains(page, "--limit cp1,w1 --skip-phases kubelets --until-phase cluster") {
		t.Error("the page does not say that it was a part of a plan")
	}
	// A step has all of its fields somewhere.
	full := testruns.Recovered()
	step := &full.Proposal.Plan.Steps[1]
	step.Playbook, step.NoWait, step.AtOnce, step.Signer = "renew.yml", true, 3, "etcd1"
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(renderRun(t, "json", report.OfRun(full))))
	ok(t, err)
	if err := schema.Validate(whole); err != nil {
		t.Errorf("a step with all of its fields: %v", err)
	}
	// A field that the schema does not name is undocumented.
	var document map[string]any
	ok(t, json.Unmarshal([]byte(renderRun(t, "json", report.OfRun(testruns.Recovered()))), &document))
	document["more"] = 1
	if schema.Validate(document) == nil {
		t.Error("the schema takes a field that it does not name")
	}
}

// What can follow depends on the state of the run, and on what came after it.
func TestRunCommands(t *testing.T) {
	t.Parallel()
	rolledBack := func(r run.Result) func(*run.History) {
		return func(h *run.History) {
			h.Later = []run.Record{{ID: "20260302T000000Z-aaaaaa", State: run.State{Of: h.ID, Ended: r}}}
		}
	}
	for _, row := range []struct {
		name string
		run  run.History
		edit func(*run.History)
		want []string
	}{
		{name: "done", run: testruns.Recovered(), want: []string{"rollback"}},
		{name: "killed", run: testruns.Killed(), want: []string{"resume", "rollback"}},
		{name: "at work", run: testruns.Killed(), edit: func(h *run.History) { h.Running = true }},
		{name: "stopped", run: testruns.FailedGate(), want: []string{"resume", "rollback"}},
		{name: "stopped, and another run has worked since", run: testruns.FailedGate(), edit: func(h *run.History) { h.Later = []run.Record{{ID: "later"}} }, want: []string{"rollback"}},
		{name: "stopped, and its rollback has stopped", run: testruns.FailedGate(), edit: rolledBack(run.Failed), want: []string{"rollback"}},
		{name: "stopped, and rolled back", run: testruns.FailedGate(), edit: rolledBack(run.Done)},
		{name: "refused", run: testruns.Refused()},
		{name: "begun", run: begunRun()},
	} {
		if row.edit != nil {
			row.edit(&row.run)
		}
		var got []string
		for _, c := range report.OfRun(row.run).Commands {
			got = append(got, c.Command)
		}
		for i := range row.want {
			row.want[i] = "kscertctl " + row.want[i] + " " + row.run.ID
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	superseded := testruns.FailedGate()
	rolledBack(run.Done)(&superseded)
	if got := report.OfRun(superseded).Steps[2].Next; got != "it has been rolled back: nothing remains to be done" {
		t.Errorf("what was to be done then is no longer: %s", got)
	}
	elsewhere := testruns.Killed()
	elsewhere.StateDir = "/srv/the runs"
	if got := report.OfRun(elsewhere).Commands[0].Command; got != "kscertctl resume "+testruns.KilledID+" --state-dir '/srv/the runs'" {
		t.Errorf("of runs in another folder: %s", got)
	}
}

// While a run is in progress, nothing is reported that is true only of one that has stopped.
func TestRunAtWork(t *testing.T) {
	t.Parallel()
	h := atWork()
	r := report.OfRun(h)
	if want := "wait until it has finished, and see: kscertctl status " + h.ID; r.Outcome.Status != run.StatusRunning || r.Outcome.Next != want || r.Steps[1].Status != report.StepRunning || r.Steps[1].Next != want {
		t.Errorf("%+v, %+v", r.Outcome, r.Steps[1])
	}
	for _, format := range []string{"html", "markdown"} {
		if text := renderRun(t, format, r); !strings.Contains(text, "Running: 02-pre-phase-cp1") || regexp.MustCompile(`(?i)where it stopped|nothing was changed`).MatchString(text) {
			t.Errorf("%s", text)
		}
	}
}

// An inspection before the last change does not show the current state, and neither does a missing
// one.
func TestRunAfter(t *testing.T) {
	t.Parallel()
	const unknown = "the present state of the nodes: they were not inspected since the last change"
	for _, row := range []struct {
		name          string
		run           run.History
		after, unsure bool
		change        report.Change
	}{
		{"done", testruns.Recovered(), true, false, report.Renewed},
		{"stopped at a gate", testruns.FailedGate(), true, false, report.Renewed},
		{"killed in a change", testruns.Killed(), false, true, report.NotSeen},
		{"nothing was changed", testruns.Refused(), false, false, report.NotSeen},
	} {
		r := report.OfRun(row.run)
		i := slices.IndexFunc(r.Certificates, func(l report.Lifetime) bool { return l.Kind == certs.KindAdmin })
		if got := r.Certificates[i].Change; (r.After != nil) != row.after || slices.Contains(r.Unknown, unknown) != row.unsure || got != row.change {
			t.Errorf("%s: after: %v, unknown: %q, admin.conf is %s", row.name, r.After != nil, r.Unknown, got)
		}
	}
}

// What happened to a certificate.
func TestRunChanges(t *testing.T) {
	t.Parallel()
	kubelet := func(edit tc.NodeEdit) func(*run.History) {
		return func(h *run.History) { tc.On("w1", edit)(&h.Snapshots[len(h.Snapshots)-1]) }
	}
	// asked: the worker was asked at the beginning only, and these nodes are changed.
	asked := func(changed ...string) func(*run.History) {
		return func(h *run.History) {
			kubelet(func(n *snapshot.Node) { n.Taken = h.Entries[0].Time })(h)
			for i := range h.Entries {
				h.Entries[i].Nodes = changed
			}
		}
	}
	drop := func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindKubeletServing })
	}
	for _, row := range []struct {
		name string
		edit func(*run.History)
		want report.Change
	}{
		{"the same", func(*run.History) {}, report.Unchanged},
		{"another", kubelet(tc.Renewed(certs.KindKubeletServing)), report.Renewed},
		{"gone", kubelet(drop), report.Removed},
		{"not there before", func(h *run.History) { tc.On("w1", drop)(&h.Proposal.Snapshot) }, report.Added},
		{"its node was asked before it was changed", asked("cp1", "w1"), report.NotSeen},
		{"its node was asked before another was changed", asked("cp1"), report.Unchanged},
		{"its node does not answer any more", kubelet(tc.Unknown(snapshot.Unreachable, "gone")), report.NotSeen},
	} {
		h := testruns.FailedGate()
		row.edit(&h)
		for _, l := range report.OfRun(h).Certificates {
			if l.Node == "w1" && l.Kind == certs.KindKubeletServing && l.Change != row.want {
				t.Errorf("%s: %s", row.name, l.Change)
			}
		}
	}
}

// A run that was resumed reports each period, and for the step that was begun twice each attempt.
func TestRunOfSeveralTimes(t *testing.T) {
	t.Parallel()
	h := testruns.Killed()
	step := h.Proposal.Plan.Steps[1].ID
	at := h.Entries[len(h.Entries)-1].Time.Add(48 * time.Hour)
	for i, e := range []run.Entry{
		{Event: run.Begin, Kind: run.KindResume}, {Event: run.Intent, Step: step}, {Event: run.Outcome, Step: step, Outcome: run.Done}, {Event: run.End, Outcome: run.Interrupted},
	} {
		e.Time = at.Add(time.Duration(i) * 10 * time.Second)
		h.Entries = append(h.Entries, e)
	}
	h.State = run.Journal{Entries: h.Entries}.State()
	r := report.OfRun(h)
	if len(r.Work) != 2 || r.Work[0].Outcome != "" || r.Work[1].Kind != run.KindResume || r.Work[1].Outcome != run.Interrupted {
		t.Errorf("%+v", r.Work)
	}
	got := r.Steps[1]
	if got.Status != report.StepDone || len(got.Attempts) != 2 || got.Attempts[0].Outcome != "" || got.Attempts[1].Ended.Sub(got.Attempts[1].Began) != 10*time.Second {
		t.Errorf("%+v", got)
	}
	for format, want := range map[string]string{
		"html":     `<line class="break" x1="43.40%"`, // two days of rest take no space
		"markdown": "| 2026-03-03 12:30:33 | 10s | done at attempt 2 |",
	} {
		if text := renderRun(t, format, r); !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// The counts of a JUnit report are those of its cases; a failure has what to do.
func TestRunJUnitCounts(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ tests, failures, errs, skipped int }{
		"recovered": {7, 0, 0, 0}, "killed": {7, 0, 1, 4}, "failed-gate": {5, 1, 0, 1}, "rollback": {5, 0, 0, 0}, "refused": {1, 1, 0, 0}, "begun": {1, 0, 1, 0}, "evil": {5, 1, 0, 1},
	} {
		var doc junit.Testsuites
		ok(t, xml.Unmarshal([]byte(renderRun(t, "junit", runReports()[name])), &doc))
		s := doc.Suites[0]
		if s.Tests != want.tests || len(s.Testcases) != want.tests || s.Failures != want.failures || s.Errors != want.errs || s.Skipped != want.skipped {
			t.Errorf("%s: %+v", name, s)
		}
		for _, c := range s.Testcases {
			for _, r := range []*junit.Result{c.Failure, c.Error} {
				if r != nil && (r.Message == "" || !strings.Contains(r.Data, "next: ")) {
					t.Errorf("%s: %+v", name, r)
				}
			}
		}
	}
}

// A page requests nothing, whatever the names and texts of a cluster contain.
func TestRunHTMLIsAlone(t *testing.T) {
	t.Parallel()
	loads := regexp.MustCompile(`(?i)<(script|img|iframe|object|embed|audio|video|source)\b|<[^>]*\s(src|srcset|action|on[a-z]+)\s*=|@import|url\(`)
	linked := regexp.MustCompile(`href="([^"]*)"`)
	for name, r := range runReports() {
		page := renderRun(t, "html", r)
		if hit := loads.FindString(page); hit != "" {
			t.Errorf("%s: %q", name, hit)
		}
		for _, m := range linked.FindAllStringSubmatch(page, -1) {
			if m[1] != "data:," {
				t.Errorf("%s: it refers to %s", name, m[1])
			}
		}
	}
}

// Nothing that others have printed is taken for markup, or closes a block of code.
func TestRunMarkdownQuotes(t *testing.T) {
	t.Parallel()
	fence := ""
	for line := range strings.Lines(renderRun(t, "markdown", report.OfRun(evilRun()))) {
		line = strings.TrimSuffix(line, "\n")
		switch mark := regexp.MustCompile("^`{3,}").FindString(line); {
		case fence != "" && line == fence:
			fence = ""
		case fence == "" && mark != "":
			fence = mark
		case fence == "" && regexp.MustCompile(`(^|[^\\])<`).MatchString(line):
			t.Errorf("markup: %q", line)
		}
		if strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("not printable: %q", line)
		}
	}
	if fence != "" {
		t.Errorf("a block that begins with %s never ends", fence)
	}
}

// A report of two hundred nodes is still readable, and fits a ticket.
func TestRunOfManyNodes(t *testing.T) {
	t.Parallel()
	c := tc.HA()
	for i := range 200 {
		name := fmt.Sprintf("w%03d.example.org", i+2)
		c.Nodes = append(c.Nodes, cluster.Node{Name: name, KubernetesName: name, Roles: []cluster.Role{cluster.Worker}})
	}
	h := testruns.Of(c)
	for format, most := range map[string]int{"markdown": 60_000, "html": 150_000, "json": 1_500_000, "junit": 60_000} {
		if got := len(renderRun(t, format, report.OfRun(h))); got > most {
			t.Errorf("%s has %d bytes", format, got)
		}
	}
	if page := renderRun(t, "html", report.OfRun(h)); !strings.Contains(page, "and 193 more") || strings.Contains(page, "w150.example.org</th><td") {
		t.Error("nodes with the same steps are not joined")
	}
}

// Ansible's output and the events of a run never get into a report, and a secret that slipped into
// the journal is not passed on.
func TestRunIsRedacted(t *testing.T) {
	t.Parallel()
	const canary, token = "canary-in-a-log", "abcdef.0123456789abcdef"
	h := testruns.FailedGate()
	h.Exit.Next += "\nthe token is " + token
	h.Backups[0].Notes = []string{"the token is " + token}
	for i := range h.Entries {
		if h.Entries[i].Detail != "" {
			h.Entries[i].Detail += ", the token is " + token
		}
	}
	root := t.TempDir()
	dir := testruns.Write(t, root, h)
	plant := map[string]string{
		"events.jsonl": `{"schema":1,"kind":"task","node":"cp1","task":"` + canary + `","message":"` + canary + `","unmet":[{"what":"` + canary + `"}],"diagnosis":{"verdict":"` + canary + `"}}`,
	}
	for _, step := range h.Proposal.Plan.Steps {
		plant["steps/"+step.ID+".log"] = "fatal: [cp1]: FAILED! => " + canary
		plant["steps/"+step.ID+".events.jsonl"] = `{"event":"result","payload":"` + canary + `"}`
	}
	for name, text := range plant {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
	}
	read, err := run.LoadHistory(root, h.ID)
	ok(t, err)
	for _, f := range report.RunFormats() {
		got := renderRun(t, f.Name, report.OfRun(read))
		if strings.Contains(got, canary) || strings.Contains(got, token) {
			t.Errorf("%s holds what it must not:\n%s", f.Name, got)
		}
		if !strings.Contains(got, "redacted") {
			t.Errorf("%s does not tell that something is left out", f.Name)
		}
	}
}

// The report shows what was decided when the plan was made, not what another version would make of
// it.
func TestRunTellsWhatWasDecided(t *testing.T) {
	t.Parallel()
	h := testruns.FailedGate()
	h.Proposal.Diagnosis.Verdict, h.Proposal.Plan.Route = "as it was answered then", diagnosis.Renew
	if r := report.OfRun(h); r.Before.Verdict != "as it was answered then" || !reflect.DeepEqual(r.Steps[0].Step, h.Proposal.Plan.Steps[0]) || r.Steps[0].Action != plan.Backup {
		t.Errorf("%+v", r.Before)
	}
}

// Options that have to be given again are reported with the commands, and nothing of their values
// is known.
func TestRunTellsWhatIsWithheld(t *testing.T) {
	t.Parallel()
	h := testruns.Killed()
	h.Proposal.Request.Withheld = []string{"--ssh-common-args", "options after --"}
	r := report.OfRun(h)
	var out strings.Builder
	if err := report.RunMarkdown(&out, r); err != nil || !slices.Equal(r.Asked.Withheld, h.Proposal.Request.Withheld) ||
		!strings.Contains(out.String(),
			"It was started with --ssh-common-args, options after --: the values are not in its record") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// Each field of a request is in the report of its run, or is left out for a reason.
func TestAskedIsOfTheRequest(t *testing.T) {
	t.Parallel()
	leftOut := map[string]string{
		"Schema": "of the record", "Dir": "of the record", "Recalled": "of the record", "Thresholds": "RenewBeforeSeconds",
		"AskPass": reaches, "AskBecomePass": reaches, "AskVaultPass": reaches, "ConnectionPasswordFile": reaches, "BecomePasswordFile": reaches,
		"ExtraVars": reaches, "VaultIDs": reaches, "VaultPasswordFiles": reaches, "BinDir": reaches, "User": reaches, "PrivateKey": reaches, "Forks": reaches,
		"Become": reaches, "BecomeMethod": reaches, "BecomeUser": reaches, "Connection": reaches, "Timeout": reaches,
		"Kubespray": "in the plan's notes", "Tags": inCommands, "SkipTags": inCommands, "AcceptSANLoss": inCommands, "AcceptSubjectChange": inCommands,
		"AllowNotInInventory": inCommands, "AllowUnreachable": inCommands, "RefreshKubeconfigs": "in the run's notes", "MaxUnavailable": "in the plan's steps", "StepTimeout": inCommands,
		"RenewCAs": "in the plan's steps", "CAValidity": "in the plan's steps", "RotateCAs": "in the plan's steps", "RotateStage": "in the plan's steps", "RestartWorkloads": "in the plan's steps", "PatchCABundles": "in the plan's steps", "Signed": "in the plan's steps",
	}
	asked := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[report.Asked]()) {
		asked[strings.TrimSuffix(f.Name, "Seconds")] = true
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[run.Request]()) {
		if asked[f.Name] == (leftOut[f.Name] != "") {
			t.Errorf("%s of a request is in the report: %t, and left out because it is %q", f.Name, asked[f.Name], leftOut[f.Name])
		}
	}
}

// Why fields of a request are not in a report.
const (
	reaches    = "how nodes are reached"
	inCommands = "in the record, from which a command takes it"
)
