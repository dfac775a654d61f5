package fleetjob_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/fleetjob"
)

func spec() fleetjob.Spec {
	return fleetjob.Spec{
		Name: "night", Submission: "night", Wave: "canary", File: "/home/op/fleet.yaml", Image: "registry.example.com/kscertctl:0.1.0",
		Clusters: []string{"fra1", "fra_2"}, Parallel: 2, StopAfter: 1, Retries: 3, Files: []string{"secret/fleet", "configmap/inventories"},
	}
}

// The manifest is what is in the documentation.
func TestManifest(t *testing.T) {
	t.Parallel()
	got, err := spec().Manifest()
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/job.json"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("UPDATE_DOCS=1 writes it anew:\n%s", got)
	}
}

// job is what the tests look at.
type job struct {
	Completions      int  `json:"completions"`
	MaxFailedIndexes *int `json:"maxFailedIndexes"`
	PodFailurePolicy struct {
		Rules []struct {
			OnExitCodes struct {
				Values []int `json:"values"`
			} `json:"onExitCodes"`
		} `json:"rules"`
	} `json:"podFailurePolicy"`
	Template struct {
		Spec struct {
			Containers []struct {
				Args []string `json:"args"`
			} `json:"containers"`
			Volumes []struct {
				Claim *struct {
					ClaimName string `json:"claimName"`
				} `json:"persistentVolumeClaim"`
			} `json:"volumes"`
		} `json:"spec"`
	} `json:"template"`
}

func read[T any](t *testing.T, s fleetjob.Spec) (v T) {
	t.Helper()
	data, err := s.Manifest()
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestManifestFollowsFlags(t *testing.T) {
	t.Parallel()
	type jobs struct {
		Spec job `json:"spec"`
	}
	codes := func(j job) []int { return j.PodFailurePolicy.Rules[1].OnExitCodes.Values }

	s := spec()
	j := read[jobs](t, s).Spec
	for _, retried := range []int{0, 1, 4, 6, 8, 130, 137} {
		if slices.Contains(codes(j), retried) {
			t.Errorf("exit code %d would not be tried again: %v", retried, codes(j))
		}
	}
	s.StopAfter, s.Claim, s.Check, s.Wait = 0, "records", true, "12h"
	j = read[jobs](t, s).Spec
	if j.MaxFailedIndexes != nil {
		t.Error("it stops after failures, which it was not to")
	}
	// The API server refuses a limit above the number of indices; a check checks all.
	for _, row := range []struct {
		stopAfter int
		check     bool
		want      int // -1 for no limit
	}{{1, false, 0}, {2, false, 1}, {3, false, -1}, {9, false, -1}, {1, true, -1}} {
		limited := spec()
		limited.StopAfter, limited.Check = row.stopAfter, row.check
		got := -1
		if most := read[jobs](t, limited).Spec.MaxFailedIndexes; most != nil {
			got = *most
		}
		if got != row.want {
			t.Errorf("--stop-after-failures %d, --check %t: maxFailedIndexes %d, want %d", row.stopAfter, row.check, got, row.want)
		}
	}
	if !slices.Contains(codes(j), 2) || !slices.Contains(codes(j), 3) {
		t.Errorf("what a check finds is tried again: %v", codes(j))
	}
	args := strings.Join(j.Template.Spec.Containers[0].Args, " ")
	if want := "--check --wait=12h -- fra1 fra_2"; !strings.HasSuffix(args, want) {
		t.Errorf("%q does not end with %q", args, want)
	}
	if c := j.Template.Spec.Volumes[1].Claim; c == nil || c.ClaimName != "records" {
		t.Errorf("the volume is not there: %+v", c)
	}

	s.Schedule, s.Zone, s.Queue, s.Namespace = "15 3 * * *", "Europe/Berlin", "nightly", "monitoring"
	cron := read[struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Namespace string            `json:"namespace"`
			Labels    map[string]string `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			Schedule          string `json:"schedule"`
			TimeZone          string `json:"timeZone"`
			ConcurrencyPolicy string `json:"concurrencyPolicy"`
			JobTemplate       struct {
				Metadata struct {
					Labels map[string]string `json:"labels"`
				} `json:"metadata"`
				Spec job `json:"spec"`
			} `json:"jobTemplate"`
		} `json:"spec"`
	}](t, s)
	if cron.Kind != "CronJob" || cron.Spec.Schedule != s.Schedule || cron.Spec.TimeZone != s.Zone || cron.Spec.ConcurrencyPolicy != "Forbid" ||
		cron.Metadata.Namespace != s.Namespace || cron.Spec.JobTemplate.Spec.Completions != 2 ||
		cron.Spec.JobTemplate.Metadata.Labels["kueue.x-k8s.io/queue-name"] != s.Queue {
		t.Errorf("%+v", cron)
	}
}

func TestManifestRefuses(t *testing.T) {
	t.Parallel()
	for _, files := range []string{"", "fleet", "secret/", "secret/Fleet", "pod/fleet", "secret/a/b", "/etc/passwd", "secret/a..b", "secret/" + strings.Repeat("a", 254)} {
		s := spec()
		s.Files = []string{files}
		if _, err := s.Manifest(); err == nil || !strings.Contains(err.Error(), "must be secret/NAME or configmap/NAME") {
			t.Errorf("%q: %v", files, err)
		}
	}
	for flag, values := range map[string][]string{
		"--name":         {"", "Night", "a_b", "-a", "a-", strings.Repeat("a", 51), "a\nb"},
		"--namespace":    {"A", "a.b", strings.Repeat("a", 64)},
		"--queue":        {"a/b", "a,b", strings.Repeat("a", 64)},
		"--volume-claim": {"a b", "A", strings.Repeat("a", 254)},
		"--image":        {" ", "a b", "a\n", "é"},
		"--schedule":     {"nope", "15 3 * *", "0 15 3 * * *", "60 3 * * *", "@reboot", "TZ=UTC 15 3 * * *", "CRON_TZ=UTC 15 3 * * *"},
		"--time-zone":    {"Foo", "Local", "+02:00"},
	} {
		for _, value := range values {
			s := spec()
			s.Schedule = "15 3 * * *"
			*map[string]*string{"--name": &s.Name, "--namespace": &s.Namespace, "--queue": &s.Queue, "--volume-claim": &s.Claim, "--image": &s.Image,
				"--schedule": &s.Schedule, "--time-zone": &s.Zone}[flag] = value
			if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("%s %q: ", flag, value)) {
				t.Errorf("%s %q: %v", flag, value, err)
			}
		}
	}
	for _, row := range []struct {
		change func(*fleetjob.Spec)
		want   string
	}{
		{func(s *fleetjob.Spec) { s.Retries = -1 }, "--retries -1: must be 0 to 2147483647"},
		{func(s *fleetjob.Spec) { s.Retries = 1 << 31 }, "--retries 2147483648: must be 0 to 2147483647"},
		{func(s *fleetjob.Spec) { s.StopAfter = -1 }, "--stop-after-failures -1: must be 0 or more"},
		{func(s *fleetjob.Spec) { s.File = "/etc/my fleet.yaml" }, `"my fleet.yaml" cannot be the name of a file of a Secret`},
	} {
		s := spec()
		row.change(&s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%v, want %s", err, row.want)
		}
	}
	for _, right := range []fleetjob.Spec{
		spec(), {Name: "a"}, {Name: "a", Namespace: "b-1", Queue: "team.a", Claim: "a.b", Schedule: "@daily", Zone: "Europe/Berlin"},
		{Name: "a", Schedule: "*/15 3-5 1,15 jan mon"},
	} {
		right.File = "/home/anna/fleet.yaml"
		if err := right.Validate(); err != nil {
			t.Errorf("%+v: %v", right, err)
		}
	}
	// NAME-11 with 12 clusters, as a Job and with what a CronJob appends.
	for _, row := range []struct {
		name     int
		schedule string
		wrong    bool
	}{{50, "", false}, {49, "@daily", false}, {50, "@daily", true}} {
		s := fleetjob.Spec{Name: strings.Repeat("n", row.name), Schedule: row.schedule, Clusters: make([]string, 12), File: "fleet.yaml"}
		if err := s.Validate(); (err != nil) != row.wrong {
			t.Errorf("%+v: %v", row, err)
		}
	}
	if err := (fleetjob.Spec{Name: "a", Zone: "UTC", File: "fleet.yaml"}).Validate(); err == nil || !strings.Contains(err.Error(), "--time-zone is for --schedule") {
		t.Errorf("a zone of nothing: %v", err)
	}
}
