// Package fleetjob is the work on a fleet as a Kubernetes Job: one index is one cluster. It makes the
// manifests, and reads how far the work has got from what the API server answers. It asks no one.
package fleetjob

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/robfig/cron/v3"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/orchestrator"
)

// Where the Pods find things.
const (
	filesDir = "/etc/kscertctl"
	stateDir = "/var/lib/kscertctl"
	// resultFile is what the kubelet reads as the termination message, of which it keeps 4,096 bytes
	// (Kubernetes, tasks/debug/debug-application/determine-reason-pod-failure).
	resultFile = "/dev/termination-log"
)

// Labels and annotations of what is submitted.
const (
	managedBy = "app.kubernetes.io/managed-by"
	manager   = "kscertctl"
	queueName = "kueue.x-k8s.io/queue-name"
	prefix    = "kscertctl.infrapuzzle.github.com/"
	// clustersOf has the names of the clusters by index, fileOf the fleet file, waveOf the wave.
	clustersOf, fileOf, waveOf = prefix + "clusters", prefix + "fleet-file", prefix + "wave"
	// submissionOf is one for the Jobs of all waves.
	submissionOf = prefix + "submission"
)

// Selector finds what was submitted.
const Selector = managedBy + "=" + manager

// Spec is what is submitted.
type Spec struct {
	Name, Namespace string
	// Image is that of the Containerfile.
	Image string
	// Submission is what the Jobs of all waves have in common, and Wave is the name of this one; empty
	// for the clusters without one.
	Submission, Wave string
	// File is the fleet file here, and Clusters are those of the wave, one index each.
	File     string
	Clusters []string
	// Parallel Pods run at the same time; after StopAfter indices that failed the Job stops, 0 for
	// never. Retries are for each index.
	Parallel, StopAfter, Retries int
	// Files are what the Pods find in one directory, the fleet file among it: secret/NAME or
	// configmap/NAME.
	Files []string
	// Claim is the PersistentVolumeClaim with the records of runs; empty for none.
	Claim string
	// Check looks only; Wait is how long a Pod waits for a window.
	Check bool
	Wait  string
	// Schedule makes a CronJob of it, in the time zone Zone; empty for a Job.
	Schedule, Zone string
	// Queue is Kueue's; empty for none.
	Queue string
}

// jobName matches what the API server accepts as the name of an object that Pods get their names
// from (RFC 1123; 63 characters with what is appended), and sourceName as that of a Secret, whose keys
// match keyName. An image without spaces is left to the kubelet.
var (
	jobName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	sourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	keyName    = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
	imageName  = regexp.MustCompile(`^[!-~]*$`)
)

// longestName is that of a Secret, ConfigMap or PersistentVolumeClaim.
const longestName = 253

// Validate returns what is wrong with what the API server would refuse, or would take and never begin.
func (s Spec) Validate() error {
	for _, name := range []struct {
		flag, value string
		pattern     *regexp.Regexp
		longest     int
		what        string
	}{
		{"--name", s.Name, jobName, 50, "lower-case letters, digits and '-'"},
		{"--namespace", s.Namespace, jobName, 63, "lower-case letters, digits and '-'"},
		{"--queue", s.Queue, sourceName, 63, "lower-case letters, digits, '-' and '.'"}, // it becomes a label
		{"--volume-claim", s.Claim, sourceName, longestName, "lower-case letters, digits, '-' and '.'"},
	} {
		wrong := len(name.value) > name.longest || !name.pattern.MatchString(name.value)
		if wrong && (name.value != "" || name.flag == "--name") {
			return fmt.Errorf("%s %q: must be up to %d %s, with a letter or digit at both ends", name.flag, name.value,
				name.longest, name.what)
		}
	}
	switch {
	case !imageName.MatchString(s.Image):
		return fmt.Errorf("--image %q: has characters that no image has", s.Image)
	case s.Retries < 0 || s.Retries > math.MaxInt32:
		return fmt.Errorf("--retries %d: must be 0 to %d", s.Retries, math.MaxInt32)
	case s.StopAfter < 0:
		return fmt.Errorf("--stop-after-failures %d: must be 0 or more", s.StopAfter)
	case !keyName.MatchString(path.Base(s.File)):
		return fmt.Errorf("%q cannot be the name of a file of a Secret, where the Pods look for it: call it fleet.yaml",
			path.Base(s.File))
	}
	// The Pods' host names have 63 characters at most; a CronJob appends 11 to the name of a Job.
	longest := len(s.Name) + len(fmt.Sprintf("-%d", max(len(s.Clusters), 1)-1))
	if s.Schedule != "" {
		longest += 11
	}
	if longest > 63 {
		return fmt.Errorf("--name %q: is too long by %d for the names of its Pods", s.Name, longest-63)
	}
	if s.Zone != "" && s.Schedule == "" {
		return errors.New("--time-zone is for --schedule")
	}
	// Kubernetes refuses a zone within the schedule, and the zone Local.
	_, err := cron.ParseStandard(s.Schedule)
	if s.Schedule != "" && (err != nil || strings.Contains(s.Schedule, "TZ")) {
		return fmt.Errorf("--schedule %q: must have five fields, such as \"15 3 * * *\", or be one such as @daily",
			s.Schedule)
	}
	if s.Zone != "" {
		if _, err := fleet.ParseZone(s.Zone); err != nil {
			return fmt.Errorf("--time-zone %q: %w", s.Zone, err)
		}
	}
	return nil
}

// source is a source of a projected volume.
func source(file string) (object, error) {
	kind, name, _ := strings.Cut(file, "/")
	field, ok := map[string]string{"secret": "secret", "configmap": "configMap"}[kind]
	if !ok || len(name) > longestName || !sourceName.MatchString(name) {
		return nil, fmt.Errorf("--files %q: must be secret/NAME or configmap/NAME", file)
	}
	return object{field: object{"name": name}}, nil
}

type object = map[string]any

// endingsOfCheck are final, too, for a check: levels are its results, not faults.
var endingsOfCheck = []orchestrator.ExitCode{orchestrator.ExitWarning, orchestrator.ExitCritical}

// Manifest is the Job, or the CronJob, as JSON. An error is one in the flags.
func (s Spec) Manifest() ([]byte, error) {
	sources := make([]object, len(s.Files))
	for i, f := range s.Files {
		var err error
		if sources[i], err = source(f); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(s.Clusters)
	if err != nil {
		return nil, fmt.Errorf("writing the names of the clusters: %w", err)
	}
	labels := object{managedBy: manager, submissionOf: s.Submission}
	meta := object{"name": s.Name, "labels": labels,
		"annotations": object{clustersOf: string(list), fileOf: s.File, waveOf: s.Wave}}
	if s.Namespace != "" {
		meta["namespace"] = s.Namespace
	}
	if s.Queue != "" {
		labels[queueName] = s.Queue
	}
	out := object{"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": s.job(sources)}
	if s.Schedule != "" {
		spec := object{
			"schedule": s.Schedule, "concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 1800,
			"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 7,
			"jobTemplate": object{
				"metadata": object{"labels": labels, "annotations": meta["annotations"]}, "spec": s.job(sources),
			},
		}
		if s.Zone != "" {
			spec["timeZone"] = s.Zone
		}
		out["kind"], out["spec"] = "CronJob", spec
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	return append(data, '\n'), nil
}

// job is the specification of the Job: an index each cluster (Kubernetes, concepts/workloads/
// controllers/job: completion mode, backoff limit per index, Pod failure policy).
func (s Spec) job(sources []object) object {
	var forGood []orchestrator.ExitCode // an index has failed; others are tried again
	for _, m := range orchestrator.ExitCodes() {
		if m.Final {
			forGood = append(forGood, m.Code)
		}
	}
	if s.Check {
		forGood = append(forGood, endingsOfCheck...)
	}
	slices.Sort(forGood)
	spec := object{
		"completionMode": "Indexed", "completions": len(s.Clusters), "parallelism": s.Parallel,
		"backoffLimitPerIndex": s.Retries, "ttlSecondsAfterFinished": 7 * 24 * 3600,
		"podFailurePolicy": object{"rules": []object{
			{"action": "Ignore", "onPodConditions": []object{{"type": "DisruptionTarget", "status": "True"}}},
			{"action": "FailIndex", "onExitCodes": object{"containerName": manager, "operator": "In",
				"values": forGood}},
		}},
		"template": object{"metadata": object{"labels": object{managedBy: manager}}, "spec": s.pod(sources)},
	}
	// A level that a check finds is no reason to check no other cluster; a limit above the number of
	// indices is refused.
	if s.StopAfter > 0 && s.StopAfter <= len(s.Clusters) && !s.Check {
		spec["maxFailedIndexes"] = s.StopAfter - 1
	}
	return spec
}

func (s Spec) pod(sources []object) object {
	state := object{"name": "state", "emptyDir": object{}}
	if s.Claim != "" {
		state = object{"name": "state", "persistentVolumeClaim": object{"claimName": s.Claim}}
	}
	mount := func(name, path string, readOnly bool) object {
		return object{"name": name, "mountPath": path, "readOnly": readOnly}
	}
	const user = 10001 // that of the Containerfile
	return object{
		"restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
		"terminationGracePeriodSeconds": 3600, // to finish the step that changes nodes
		"securityContext": object{"runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
			"seccompProfile": object{"type": "RuntimeDefault"}},
		"containers": []object{{
			"name": manager, "image": s.Image, "args": s.args(),
			"env": []object{
				{"name": "INDEX", "valueFrom": object{"fieldRef": object{
					"fieldPath": "metadata.annotations['" + indexOf + "']"}}},
				{"name": "HOME", "value": "/tmp"},
			},
			"terminationMessagePath": resultFile,
			"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
				"capabilities": object{"drop": []string{"ALL"}}},
			"resources": object{"requests": object{"cpu": "100m", "memory": "256Mi"},
				"limits": object{"memory": "1Gi"}},
			"volumeMounts": []object{mount("files", filesDir, true), mount("state", stateDir, false),
				mount("tmp", "/tmp", false)},
		}},
		"volumes": []object{
			{"name": "files", "projected": object{"defaultMode": 0o440, "sources": sources}},
			state, {"name": "tmp", "emptyDir": object{}},
		},
	}
}

// args are the command in a Pod.
func (s Spec) args() []string {
	args := []string{"fleet", "work", "--index=$(INDEX)", "--file=" + path.Join(filesDir, path.Base(s.File)),
		"--state-dir=" + stateDir, "--result-file=" + resultFile}
	if s.Check {
		args = append(args, "--check")
	}
	if s.Wait != "" {
		args = append(args, "--wait="+s.Wait)
	}
	return append(append(args, "--"), s.Clusters...)
}
