package fleetjob_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/fleetjob"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// jobsOf is a list with a Job of two clusters.
func jobsOf(name, wave, created, rest string) string {
	return fmt.Sprintf(`{"metadata": {"name": %q, "creationTimestamp": %q, "labels": {"kscertctl.infrapuzzle.github.com/submission": "night"},
		"annotations": {"kscertctl.infrapuzzle.github.com/clusters": "[\"fra1\",\"fra2\"]", "kscertctl.infrapuzzle.github.com/fleet-file": "/f.yaml",
		"kscertctl.infrapuzzle.github.com/wave": %q}}, %s}`, name, created, wave, rest)
}

// pod is one of index 0.
func pod(created, status string) string {
	return fmt.Sprintf(`{"metadata": {"name": "night-0-x", "creationTimestamp": %q, "labels": {"batch.kubernetes.io/job-name": "night"},
		"annotations": {"batch.kubernetes.io/job-completion-index": "0"}}, "status": %s}`, created, status)
}

func terminated(phase string, code int, message string) string {
	text, _ := json.Marshal(message)
	return fmt.Sprintf(`{"phase": %q, "containerStatuses": [{"state": {"terminated": {"exitCode": %d, "message": %s}}}]}`, phase, code, text)
}

const (
	at1, at2 = "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z"
	running  = `"status": {}`
)

// The state of each cluster is what Kubernetes answers; what a Pod left adds to it.
func TestStatus(t *testing.T) {
	t.Parallel()
	left := func(name string, state report.FleetState) string {
		return string(fleetjob.Result(report.FleetCluster{Name: name, Labels: map[string]string{"env": "prod"}, State: state, Wave: "another", Route: "renew", Run: "R", Reason: "why", ExitCode: 0}))
	}
	for _, row := range []struct {
		name, job string
		pods      []string
		state     report.FleetState
		code      int
		tells     string
	}{
		{"no Pod yet", running, nil, report.FleetWaiting, 0, ""},
		{"a queue holds it", `"spec": {"suspend": true}, "status": {}`, nil, report.FleetWaiting, 0, "suspended"},
		{"an image that is not there", running, []string{pod(at1, `{"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]}`)}, report.FleetWaiting, 0, "ErrImagePull: not found"},
		{"no node has room", running, []string{pod(at1, `{"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}`)}, report.FleetWaiting, 0, "0/3 nodes"},
		{"at work", running, []string{pod(at1, `{"phase": "Running"}`)}, report.FleetRunning, 0, ""},
		{"stopped after a change", running, []string{pod(at1, terminated("Failed", 8, left("fra1", report.FleetFailed)))}, report.FleetWaiting, 8, "another Pod follows one that ended with: exit code 8"},
		{"killed", running, []string{pod(at1, terminated("Failed", 137, ""))}, report.FleetWaiting, 1, "another Pod follows one that ended with: Pod night-0-x has exit code 137"},
		{"killed, and the next at work", running, []string{pod(at2, `{"phase": "Running"}`), pod(at1, terminated("Failed", 137, ""))}, report.FleetRunning, 0, ""},
		{"done", `"status": {"completedIndexes": "0"}`, []string{pod(at1, terminated("Succeeded", 0, left("fra1", report.FleetDone)))}, report.FleetDone, 0, "R"},
		{"done, and not counted yet", running, []string{pod(at1, terminated("Succeeded", 0, left("fra1", report.FleetDone)))}, report.FleetDone, 0, "R"},
		{"done, its Pod deleted", `"status": {"completedIndexes": "0-1"}`, nil, report.FleetDone, 0, ""},
		{"out of its window", `"status": {"completedIndexes": "0"}`, []string{pod(at1, terminated("Succeeded", 0, left("fra1", report.FleetWaiting)))}, report.FleetWaiting, 0, "why"},
		{"failed for good", `"status": {"failedIndexes": "0"}`, []string{pod(at1, terminated("Failed", 5, left("fra1", report.FleetFailed)))}, report.FleetFailed, 5, "R"},
		{"failed, its Pod deleted", `"status": {"failedIndexes": "0,1"}`, nil, report.FleetFailed, 1, ""},
		{"ended before it began", `"status": {"conditions": [{"type": "Failed", "status": "True"}]}`, nil, report.FleetWaiting, 0, "ended before"},
		{"a Pod that tells of success", `"status": {"failedIndexes": "0"}`, []string{pod(at1, terminated("Failed", 7, left("fra1", report.FleetDone)))}, report.FleetFailed, 7, ""},
		{"a Pod that tells of another", `"status": {"completedIndexes": "0"}`, []string{pod(at1, terminated("Succeeded", 0, left("fra2", report.FleetHeld)))}, report.FleetDone, 0, ""},
		{"a Pod that tells of no route", `"status": {"completedIndexes": "0"}`, []string{pod(at1, terminated("Succeeded", 0, strings.Replace(left("fra1", report.FleetDone), `"renew"`, `"bogus","steps":-1`, 1)))}, report.FleetDone, 0, "R"},
		{"a Pod that tells nonsense", `"status": {"completedIndexes": "0"}`, []string{pod(at1, terminated("Succeeded", 0, `{"name": "fra1", "state": 7}`))}, report.FleetDone, 0, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			jobs, err := fleetjob.Newest([]byte(`{"items": [`+jobsOf("night", "", at1, row.job)+`]}`), "")
			if err != nil {
				t.Fatal(err)
			}
			pods, err := fleetjob.Pods([]byte(`{"items": [` + strings.Join(row.pods, ",") + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			doc, err := fleetjob.Status(jobs, pods)
			if err != nil || len(doc.Clusters) != 2 || doc.Fleet != "night" || doc.File != "/f.yaml" {
				t.Fatalf("%v: %+v", err, doc)
			}
			c := doc.Clusters[0]
			if c.Route != "" && c.Route != "renew" || c.Steps < 0 {
				t.Errorf("route %q, %d steps", c.Route, c.Steps)
			}
			if c.Name != "fra1" || c.Wave != "" || c.State != row.state || c.ExitCode != row.code || !strings.Contains(c.Reason+c.Run, row.tells) {
				t.Errorf("%+v, want %s, exit code %d and %q", c, row.state, row.code, row.tells)
			}
		})
	}
}

// Waves are one table; of a CronJob the last Job counts.
func TestNewest(t *testing.T) {
	t.Parallel()
	list := `{"items": [` + strings.Join([]string{
		jobsOf("night-2", "", at2, `"status": {"conditions": [{"type": "Failed", "status": "True"}]}`), jobsOf("night-1", "canary", at1, `"status": {"completedIndexes": "0-1", "conditions": [{"type": "Complete", "status": "True"}]}`),
		jobsOf("night-0", "canary", "2026-02-01T11:00:00Z", running), `{"metadata": {"name": "of others", "creationTimestamp": "2026-03-02T00:00:00Z"}}`,
	}, ",") + `]}`
	jobs, err := fleetjob.Newest([]byte(list), "")
	if err != nil || len(jobs) != 2 || jobs[0].Metadata.Name != "night-1" || jobs[1].Metadata.Name != "night-2" {
		t.Fatalf("%v: %+v", err, jobs)
	}
	doc, err := fleetjob.Status(jobs, nil)
	if err != nil || len(doc.Clusters) != 4 || doc.Status != "failed" || doc.Clusters[0].Wave != "canary" {
		t.Errorf("%v: %+v", err, doc)
	}
	for name, wrong := range map[string]string{"": `{"items": []}`, "other": list, "night": `{`} {
		if jobs, err := fleetjob.Newest([]byte(wrong), name); err == nil || errors.Is(err, fleetjob.ErrNone) != (name != "night") {
			t.Errorf("%q: %v, %+v", name, err, jobs)
		}
	}
	for _, wrong := range []string{`"status": {"failedIndexes": "a"}`, `"status": {"completedIndexes": "1-"}`} {
		jobs, err := fleetjob.Newest([]byte(`{"items": [`+jobsOf("night", "", at1, wrong)+`]}`), "")
		if err != nil {
			t.Fatal(err)
		}
		if doc, err := fleetjob.Status(jobs, nil); err == nil {
			t.Errorf("%s: %+v", wrong, doc)
		}
	}
}

// A termination message is kept up to 4,096 bytes.
func TestResultIsShort(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"short", strings.Repeat("a", 10000), strings.Repeat("\x01\"<ä", 10000)} {
		in := report.FleetCluster{Name: strings.Repeat("n", 63), Labels: map[string]string{"a": strings.Repeat("b", 63)}, Error: text, Next: text, Verdict: text, Reason: text, ExitCode: 8}
		out := fleetjob.Result(in)
		var back report.FleetCluster
		if err := json.Unmarshal(out, &back); err != nil || len(out) > 4096 {
			t.Fatalf("%d bytes: %v", len(out), err)
		}
		if back.Name != in.Name || back.ExitCode != 8 || text == "short" && back.Error != text || back.Error == "" {
			t.Errorf("%+v", back)
		}
	}
}
