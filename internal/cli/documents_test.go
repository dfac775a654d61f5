package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/internal/testschema"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

const module = "github.com/infrapuzzle/kscertctl"

// document is a JSON document that programs may read: its content, its name, and examples.
type document struct {
	testschema.Document
	examples []any
}

// finding is the JSON form of a Finding, with the texts of its reason.
type finding struct {
	Reason diagnosis.Reason `json:"reason"`
	// Severity is how much it matters.
	Severity diagnosis.Severity `json:"severity"`
	Node     string             `json:"node,omitempty"`
	Subject  string             `json:"subject,omitempty"`
	// Title is the reason in words.
	Title    string           `json:"title"`
	Evidence string           `json:"evidence,omitempty"`
	Because  diagnosis.Reason `json:"because,omitempty"`
	// Next is what to do or inspect next on this node.
	Next string `json:"next"`
}

// documents are all whose schemas are generated from the code; the schemas of check-expiration and
// report are written by hand.
func documents(t *testing.T) map[string]document {
	t.Helper()
	as := map[reflect.Type]reflect.Type{reflect.TypeFor[diagnosis.Finding](): reflect.TypeFor[finding]()}
	// New ones come with new versions of Kubernetes, and of this program.
	open := []reflect.Type{reflect.TypeFor[certs.Kind](), reflect.TypeFor[diagnosis.Reason]()}
	var records []run.Record
	var statuses, proposals, plans, results, events, backups []any
	for _, name := range []string{"failed-gate", "recovered", "killed", "rollback", "refused"} {
		h := testruns.All()[name]
		records = append(records, h.Record)
		p := *h.Proposal
		statuses = append(statuses, report.Status(h.Record, p))
		proposals = append(proposals, p)
		plans = append(plans, report.Proposal{Schema: p.Schema, Made: p.Made, Cluster: p.Cluster, Diagnosis: p.Diagnosis, Plan: p.Plan})
		results = append(results, orchestrator.Result{Schema: orchestrator.ResultSchema, RunID: h.ID, Dir: h.Path, Before: p.Diagnosis, After: p.Diagnosis, Plan: p.Plan, Notes: h.Notes, Seconds: 93.5})
		backups = append(backups, report.Backups{Schema: report.RunsSchema, Backups: h.Backups})
	}
	for _, e := range exampleEvents() {
		events = append(events, e)
	}
	var looks, seen []any
	for _, s := range []snapshot.Snapshot{tc.Few(), tc.Expiring(), tc.Healthy(tc.HA()), tc.Healthy(tc.ExternalEtcd()), {Schema: snapshot.Schema, Taken: tc.Now}} {
		seen = append(seen, s)
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		p, err := plan.Make(s.Cluster(), s, d, plan.Policy{})
		looks = append(looks, report.Assess(s, d, p, err))
	}
	return map[string]document{
		"event-v1": {testschema.Document{
			Title: "kscertctl event, version 1", Version: orchestrator.EventSchema, Value: orchestrator.Event{}, As: as, Open: open,
			Description: "One thing that happened in a run: a line of events.jsonl, and what orchestrator.WithObserver is given.",
		}, events},
		"diagnose-v1": {testschema.Document{
			Title: "kscertctl diagnose, version 1", Version: diagnosis.Schema, Value: report.Assessment{}, As: as, Open: open,
			Description: "What is wrong with a cluster and what would be done about it: kscertctl diagnose -o json.",
		}, looks},
		"plan-v1": {testschema.Document{
			Title: "kscertctl plan, version 1", Version: run.ProposalSchema, Value: report.Proposal{}, As: as, Open: open,
			Description: "A plan with the diagnosis that it follows from: kscertctl plan -o json.",
		}, plans},
		"plan-file-v1": {testschema.Document{
			Title: "kscertctl plan file, version 1", Version: run.ProposalSchema, Value: run.Proposal{}, As: as, Open: open,
			Description: "A plan with all that it rests on: the file of kscertctl plan --out, for kscertctl apply. To be read; apply --digest refuses a file that was changed.",
		}, proposals},
		"result-v1": {testschema.Document{
			Title: "kscertctl result of a run, version 1", Version: orchestrator.ResultSchema, Value: orchestrator.Result{}, As: as, Open: open,
			Description: "What came of a run: kscertctl run, apply, resume and rollback with -o json.",
		}, results},
		"runs-v1": {testschema.Document{
			Title: "kscertctl runs, version 1", Version: report.RunsSchema, Value: report.RunList{},
			Description: "The runs that were recorded on a machine: kscertctl runs list -o json.",
		}, []any{report.List(records), report.List(nil)}},
		"status-v1": {testschema.Document{
			Title: "kscertctl status, version 1", Version: report.RunsSchema, Value: report.RunStatus{},
			Description: "How far a run has come: kscertctl status -o json.",
		}, statuses},
		"fleet-run-v1": {testschema.Document{
			Title: "kscertctl fleet run, version 1", Version: report.FleetRunSchema, Value: report.FleetRun{}, As: as, Open: open,
			Description: "The work on the clusters of a fleet: kscertctl fleet plan, run and status with -o json.",
		}, exampleFleets()},
		"backups-v1": {testschema.Document{
			Title: "kscertctl backups, version 1", Version: report.RunsSchema, Value: report.Backups{},
			Description: "The backups on the nodes: kscertctl backup list, verify and prune with -o json.",
		}, backups},
		"requests-v1": {testschema.Document{
			Title: "kscertctl signing requests, version 1", Version: plan.RequestsSchema, Value: plan.Requests{}, Open: open,
			Description: "The certificate signing requests in a directory: its requests.json, and kscertctl ca csr -o json.",
		}, []any{plan.Requests{Schema: plan.RequestsSchema, Made: tc.Now, Cluster: "c4f3", Requests: []plan.Request{{
			Node: "cp1", Files: []string{"/etc/kubernetes/ssl/apiserver.crt"}, Kind: certs.KindAPIServer, Request: "cp1/apiserver.csr", Certificate: "cp1/apiserver.crt",
			Subject: "CN=kube-apiserver", SANs: []string{"cp1", "10.0.0.1"}, Usages: []string{"server auth"}, CA: certs.KubernetesCA, CAFile: "/etc/kubernetes/ssl/ca.crt",
			CASubject: "CN=kubernetes", CAFingerprint: "01ab", PublicKey: "23cd", KeyAlgorithm: "RSA 2048", Fingerprint: "45ef", NotAfter: tc.Now.Add(tc.Day),
		}}, Missing: []plan.Missing{{Node: "cp1", File: "/etc/kubernetes/admin.conf", Reason: "its key is not there"}, {Node: "w1", Reason: "no route to host"}}}}},
		"rotations-v1": {testschema.Document{
			Title: "kscertctl rotations of CAs, version 1", Version: diagnosis.RotationSchema, Value: diagnosis.Rotations{}, Open: open,
			Description: "How far the rotations of CAs are, and who trusts and presents which CA: kscertctl ca status -o json.",
		}, rotations()},
		"version-v1": {testschema.Document{
			Title: "kscertctl version, version 1", Version: buildSchema, Value: build{},
			Description: "What a kscertctl was built from: kscertctl version -o json.",
		}, []any{
			build{Schema: buildSchema, Version: "v1.2.3", Commit: "0123456789abcdef0123456789abcdef01234567", Time: "2026-03-01T12:00:00Z", Go: "go1.26.8", Platform: "linux/amd64"},
			build{Schema: buildSchema, Version: "(devel)", Modified: true, Go: "go1.26.8", Platform: "darwin/arm64"},
		}},
		"snapshot-v1": {testschema.Document{
			Title: "kscertctl snapshot, version 1", Version: snapshot.Schema, Value: snapshot.Snapshot{}, Open: open,
			Description: "What was seen of all nodes at one moment: the file of --save-snapshot, and snapshots/NN.json of a run.",
		}, seen},
	}
}

// exampleFleets are a fleet run that stopped, and a plan.
func exampleFleets() []any {
	h := testruns.FailedGate()
	p := *h.Proposal
	began := h.State.Began
	held := report.FleetCluster{Name: "fra1", Labels: map[string]string{"env": "prod"}, Wave: "production", State: report.FleetHeld, Reason: "frozen until June"}
	failed := report.FleetCluster{
		Name: "lab", Labels: map[string]string{}, Wave: "canary", State: report.FleetFailed, Run: h.ID, StateDir: "/home/op/.local/state/kscertctl", Began: began, Ended: began.Add(time.Minute),
		Verdict: p.Diagnosis.Verdict, Route: p.Plan.Route, Steps: len(p.Plan.Steps), ExitCode: 8, Error: "step 03-gate: the gate did not pass within 5m0s", Next: "fix this, then resume",
	}
	waiting := report.FleetCluster{Name: "ber1", Labels: map[string]string{}, State: report.FleetWaiting, Reason: "too many clusters have failed", Opens: began.Add(time.Hour)}
	planned := failed
	planned.State, planned.ExitCode, planned.Error, planned.Next, planned.Run, planned.StateDir = report.FleetPlanned, 0, "", "", "", ""
	planned.Plan = &report.Proposal{Schema: p.Schema, Made: p.Made, Cluster: p.Cluster, Diagnosis: p.Diagnosis, Plan: p.Plan}
	return []any{
		report.FleetRun{Schema: report.FleetRunSchema, Fleet: "20260301T110000Z-abcdef", Status: run.StatusFailed, File: "/home/op/fleet.yaml", Dir: "/home/op", Began: began, ExitCode: 8, Clusters: []report.FleetCluster{held, failed, waiting}},
		report.FleetRun{Schema: report.FleetRunSchema, File: "/home/op/fleet.yaml", Dir: "/home/op", Began: began, Clusters: []report.FleetCluster{planned}},
	}
}

// exampleEvents has one event of each kind, in the order of a run.
func exampleEvents() []orchestrator.Event {
	h := testruns.FailedGate()
	d, p := h.Proposal.Diagnosis, h.Proposal.Plan
	backup, gated := p.Steps[0], p.Steps[2]
	unmet := gate.Check{Gate: gated.Gate, Nodes: gated.Nodes, Before: h.Proposal.Snapshot}.Evaluate(h.Snapshots[len(h.Snapshots)-1])
	events := []orchestrator.Event{
		{Kind: orchestrator.EventBegin, Message: h.Path},
		{Kind: orchestrator.EventInspected, Seconds: 2.4, Message: "2 nodes"},
		{Kind: orchestrator.EventDiagnosis, Diagnosis: &d},
		{Kind: orchestrator.EventPlan, Plan: &p},
		{Kind: orchestrator.EventStepBegin, Step: &backup},
		{Kind: orchestrator.EventTaskBegin, Step: &backup, Task: "Take the backup"},
		{Kind: orchestrator.EventTask, Step: &backup, Node: "cp1", Task: "Take the backup", Status: "changed", Seconds: 1.8},
		{Kind: orchestrator.EventGate, Step: &gated, Unmet: unmet},
		{Kind: orchestrator.EventStepEnd, Step: &gated, Status: string(run.Failed), Seconds: 300.2, Message: "gate api-server did not pass within 5m0s: cp1: the API server must answer /readyz"},
		{Kind: orchestrator.EventNotice, Message: "the lock could not be renewed: could not reach cp1"},
		{Kind: orchestrator.EventEnd, Status: string(run.Failed), Seconds: 312.5, Message: "step " + gated.ID + ": the gate did not pass within 5m0s"},
	}
	for i := range events {
		e := &events[i]
		e.Schema, e.Run, e.Time = orchestrator.EventSchema, h.ID, h.State.Began.Add(time.Duration(i)*time.Second)
	}
	return events
}

// The published schemas are generated from the code: go test ./internal/cli -run TestSchemas with
// UPDATE_DOCS=1 writes them again. Every example matches its schema, and the first one is compared
// with a golden file.
func TestSchemas(t *testing.T) {
	t.Parallel()
	for name, d := range documents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := "docs/reference/schemas/" + name + ".json"
			made, err := testschema.Make(root, module, d.Document)
			if err != nil {
				t.Fatal(err)
			}
			fresh(t, path, string(made)+"\n")
			schema, err := jsonschema.NewCompiler().Compile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			for i, example := range d.examples {
				var text bytes.Buffer
				if err := report.JSON(&text, example); err != nil {
					t.Fatal(err)
				}
				if i == 0 && name != "event-v1" { // events have one of each kind: eventTables
					fresh(t, "internal/cli/testdata/documents/"+name+".json", text.String())
				}
				parsed, err := jsonschema.UnmarshalJSON(&text)
				if err != nil {
					t.Fatal(err)
				}
				if err := schema.Validate(parsed); err != nil {
					t.Errorf("example %d is not what the schema says: %v", i, err)
				}
				object, ok := parsed.(map[string]any)
				if !ok {
					t.Fatalf("example %d is no object", i)
				}
				object["surprise"] = true
				if schema.Validate(object) == nil {
					t.Error("the schema takes a field that it does not name")
				}
			}
		})
	}
}

// fresh compares a file with the generated text; UPDATE_DOCS=1 writes it.
func fresh(t *testing.T, file, want string) {
	t.Helper()
	path := filepath.Join(root, file)
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the code says (%v); write it again with UPDATE_DOCS=1", file, err)
	}
}

// The reference of the events: every kind and its fields. An example of each is in a golden file.
func eventTables(t *testing.T) map[string]string {
	t.Helper()
	kinds, err := testschema.Constants(root, module, orchestrator.EventBegin)
	if err != nil {
		t.Fatal(err)
	}
	var list, lines strings.Builder
	list.WriteString("| kind | what happened | fields in addition to `schema`, `time`, `run` and `kind` |\n| --- | --- | --- |\n")
	for _, k := range kinds {
		found := false
		for _, e := range exampleEvents() {
			if string(e.Kind) != k.Value {
				continue
			}
			found = true
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			fields := slices.DeleteFunc(testschema.Fields(line), func(f string) bool { return slices.Contains([]string{"schema", "time", "run", "kind"}, f) })
			fmt.Fprintf(&list, "| `%s` | %s | `%s` |\n", k.Value, k.Words, strings.Join(fields, "`, `"))
			fmt.Fprintf(&lines, "%s\n", line)
		}
		if !found {
			t.Errorf("there is no example of the event %q", k.Value)
		}
	}
	fresh(t, "internal/cli/testdata/documents/event-v1.jsonl", lines.String())
	return map[string]string{"kinds": list.String()}
}

// Every published schema is linked where the documents are described, except those of the
// configuration, which has its own page.
func TestSchemasAreNamed(t *testing.T) {
	t.Parallel()
	named := read(t, "docs/reference/json.md") + read(t, "docs/reference/configuration.md")
	schemas, err := filepath.Glob(filepath.Join(root, "docs/reference/schemas/*.json"))
	if err != nil || len(schemas) == 0 {
		t.Fatalf("%v: %d schemas", err, len(schemas))
	}
	for _, path := range schemas {
		if link := "(schemas/" + filepath.Base(path) + ")"; !strings.Contains(named, link) {
			t.Errorf("no page has %s", link)
		}
	}
}

// rotations are a cluster before a rotation and in the midst of one.
func rotations() []any {
	var out []any
	for stages := range 3 {
		s := tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, stages)), tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route")))
		out = append(out, diagnosis.RotationsOf(s))
	}
	return out
}
