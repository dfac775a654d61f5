package fleetjob

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// indexOf is the annotation of a Pod with its index, and jobOf the label with its Job, which the Job
// controller writes.
const (
	indexOf = "batch.kubernetes.io/job-completion-index"
	jobOf   = "batch.kubernetes.io/job-name"
)

// Job is what is read of a Job (batch/v1).
type Job struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		Suspend bool `json:"suspend"`
	} `json:"spec"`
	Status struct {
		// CompletedIndexes and FailedIndexes are such as 1,3-5.
		CompletedIndexes string      `json:"completedIndexes"`
		FailedIndexes    string      `json:"failedIndexes"`
		Conditions       []condition `json:"conditions"`
	} `json:"status"`
}

type meta struct {
	Name              string            `json:"name"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
}

type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// Pod is what is read of a Pod of a Job.
type Pod struct {
	Metadata meta `json:"metadata"`
	Status   struct {
		Phase             string      `json:"phase"`
		Reason            string      `json:"reason"`
		Message           string      `json:"message"`
		Conditions        []condition `json:"conditions"`
		ContainerStatuses []struct {
			State struct {
				Waiting *struct {
					Reason  string `json:"reason"`
					Message string `json:"message"`
				} `json:"waiting"`
				Terminated *struct {
					ExitCode int    `json:"exitCode"`
					Message  string `json:"message"`
				} `json:"terminated"`
			} `json:"state"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

// list is what kubectl prints for several objects.
type list[T any] struct {
	Items []T `json:"items"`
}

// PodsOf is the label selector of the Pods of Jobs.
func PodsOf(jobs []Job) string {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Metadata.Name
	}
	return jobOf + " in (" + strings.Join(names, ",") + ")"
}

// Pods reads the Pods of a Job from a list as JSON.
func Pods(data []byte) ([]Pod, error) {
	l, err := decode[list[Pod]](data)
	return l.Items, err
}

// ErrNone means that nothing was submitted, or nothing of that name.
var ErrNone = errors.New("no work on a fleet was submitted")

// Newest are the Jobs, one for each wave, of what was submitted last, or as name, from a list as
// JSON. Of a CronJob it is the last Job. The error is ErrNone, or that the answer cannot be read.
func Newest(data []byte, name string) ([]Job, error) {
	l, err := decode[list[Job]](data)
	if err != nil {
		return nil, err
	}
	all := l.Items
	slices.SortFunc(all, func(a, b Job) int {
		return cmp.Or(b.Metadata.CreationTimestamp.Compare(a.Metadata.CreationTimestamp),
			cmp.Compare(b.Metadata.Name, a.Metadata.Name))
	})
	var out []Job
	waves := map[string]bool{}
	for _, j := range all {
		of, wave := j.Metadata.Labels[submissionOf], j.Metadata.Annotations[waveOf]
		if of == "" || name != "" && of != name || waves[wave] {
			continue
		}
		name, waves[wave] = of, true
		out = append(out, j)
	}
	slices.Reverse(out)
	switch {
	case len(out) == 0 && name == "":
		return nil, fmt.Errorf("%w there", ErrNone)
	case len(out) == 0:
		return nil, fmt.Errorf("%w as %q there", ErrNone, name)
	}
	return out, nil
}

func decode[T any](data []byte) (v T, err error) {
	if err = json.Unmarshal(data, &v); err != nil {
		err = fmt.Errorf("the answer of the API server cannot be read: %w", err)
	}
	return v, err
}

// Result is what a Pod leaves of the work on its cluster, as its termination message. It is short
// enough to be kept whole: the texts are cut.
func Result(c report.FleetCluster) []byte {
	const most = 4096
	c.Plan = nil
	for limit := most; ; limit /= 2 {
		for _, text := range []*string{&c.Error, &c.Next, &c.Reason, &c.Verdict} {
			if len(*text) > limit {
				*text = strings.ToValidUTF8((*text)[:limit], "") + "…"
			}
		}
		if limit < 100 {
			c.Labels = nil
		}
		data, _ := json.Marshal(c) // strings, numbers and times
		if len(data) <= most || limit == 0 {
			return data
		}
	}
}

// Status is how far the work has got, from the Jobs of all waves and their Pods. What a Pod left is
// the word of that Pod: which cluster it is about, and whether it has failed, is what Kubernetes
// answers.
func Status(jobs []Job, pods []Pod) (report.FleetRun, error) {
	doc := report.FleetRun{Schema: report.FleetRunSchema, Status: run.Status(run.Done)}
	for _, j := range jobs {
		if doc.Fleet == "" {
			doc.Fleet, doc.File = j.Metadata.Labels[submissionOf], j.Metadata.Annotations[fileOf]
			doc.Began = j.Metadata.CreationTimestamp
		}
		clusters, err := j.clusters(pods)
		if err != nil {
			return doc, fmt.Errorf("Job %s: %w", j.Metadata.Name, err)
		}
		for _, c := range clusters {
			worst := orchestrator.Worst(orchestrator.ExitCode(doc.ExitCode), orchestrator.ExitCode(c.ExitCode))
			doc.ExitCode = int(worst)
		}
		doc.Clusters = append(doc.Clusters, clusters...)
		if s := j.status(); doc.Status == run.Status(run.Done) || s == run.StatusRunning {
			doc.Status = s
		}
	}
	return doc, nil
}

// clusters are those of a Job.
func (j Job) clusters(pods []Pod) (out []report.FleetCluster, err error) {
	names, err := decode[[]string]([]byte(j.Metadata.Annotations[clustersOf]))
	if err != nil {
		return nil, err
	}
	completed, err := indices(j.Status.CompletedIndexes)
	if err != nil {
		return nil, err
	}
	failed, err := indices(j.Status.FailedIndexes)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		c := report.FleetCluster{Name: name, Wave: j.Metadata.Annotations[waveOf], Labels: map[string]string{},
			State: report.FleetWaiting}
		j.newest(pods, i).describe(&c)
		switch ended := c.State == report.FleetFailed || c.State == report.FleetDone; {
		case completed(i):
			if c.State != report.FleetHeld && (c.State != report.FleetWaiting || c.Reason == "") {
				c.State = report.FleetDone // what was held, or out of its window, is so still
			}
		case failed(i), ended && j.Ended():
			c.State, c.ExitCode = report.FleetFailed, cmp.Or(c.ExitCode, int(orchestrator.ExitUnexpected))
		case c.State == report.FleetDone: // it is about to be counted
		case ended:
			was := cmp.Or(c.Error, fmt.Sprintf("exit code %d", c.ExitCode))
			c.State, c.Error, c.Reason = report.FleetWaiting, "", "another Pod follows one that ended with: "+was
		case j.Ended():
			c.State, c.Reason = report.FleetWaiting, "the Job has ended before"
		case j.Spec.Suspend && c.State == report.FleetWaiting:
			c.Reason = "the Job is suspended"
		}
		out = append(out, c)
	}
	return out, nil
}

func (j Job) status() run.Status {
	for _, c := range j.Status.Conditions {
		if c.Status != "True" {
			continue
		}
		switch c.Type {
		case "Complete":
			return run.Status(run.Done)
		case "Failed":
			return run.Status(run.Failed)
		}
	}
	return run.StatusRunning
}

// Ended reports whether no Pod of the Job will run any more.
func (j Job) Ended() bool { return j.status() != run.StatusRunning }

// Logs reports whether the Pod is one of the Job and has logs.
func (p *Pod) Logs(job string) bool {
	return p.Metadata.Labels[jobOf] == job && p.Status.Phase != "Pending" && p.Status.Phase != "Unknown"
}

// newest is the last Pod of an index; nil for none.
func (j Job) newest(pods []Pod, index int) *Pod {
	var last *Pod
	for i := range pods {
		p := &pods[i]
		if p.Metadata.Labels[jobOf] != j.Metadata.Name || p.Metadata.Annotations[indexOf] != strconv.Itoa(index) {
			continue
		}
		if last == nil || p.Metadata.CreationTimestamp.After(last.Metadata.CreationTimestamp) {
			last = p
		}
	}
	return last
}

// describe sets what a Pod shows of the work on its cluster.
func (p *Pod) describe(c *report.FleetCluster) {
	if p == nil {
		return
	}
	c.Began = p.Metadata.CreationTimestamp
	switch p.Status.Phase {
	case "Running":
		c.State = report.FleetRunning
	case "Failed":
		c.State, c.ExitCode = report.FleetFailed, int(orchestrator.ExitUnexpected)
		c.Error = strings.TrimSpace(p.Status.Reason + " " + p.Status.Message)
	case "Succeeded":
		c.State = report.FleetDone
	default:
		c.Reason = "its Pod " + p.Metadata.Name + " has not started"
	}
	for _, of := range p.Status.ContainerStatuses {
		if w := of.State.Waiting; w != nil && w.Reason != "ContainerCreating" {
			c.Reason += ": " + strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
		}
		if t := of.State.Terminated; t != nil {
			c.ExitCode = t.ExitCode
			if !known(t.ExitCode) { // as after a signal
				c.ExitCode = int(orchestrator.ExitUnexpected)
				c.Error = fmt.Sprintf("Pod %s has exit code %d", p.Metadata.Name, t.ExitCode)
			}
			left(t.Message, c)
		}
	}
	for _, of := range p.Status.Conditions {
		if of.Type == "PodScheduled" && of.Status == "False" {
			c.Reason += ": " + of.Message
		}
	}
}

// known reports whether an exit code is one of kscertctl's.
func known(code int) bool {
	_, is := orchestrator.ExitCode(code).Means()
	return is
}

// left takes over what a Pod itself reports, as far as it may: not the name, nor the exit code.
func left(message string, c *report.FleetCluster) {
	var answer report.FleetCluster
	d := json.NewDecoder(bytes.NewReader([]byte(message)))
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil || answer.Name != c.Name {
		return // the exit code is there
	}
	answer.ExitCode, answer.Plan, answer.StateDir, answer.Wave = c.ExitCode, nil, "", c.Wave
	if answer.Labels == nil {
		answer.Labels = map[string]string{}
	}
	if !slices.Contains(diagnosis.Routes(), answer.Route) {
		answer.Route = ""
	}
	answer.Steps = max(answer.Steps, 0)
	if c.State == report.FleetFailed || answer.State != report.FleetHeld && answer.State != report.FleetWaiting {
		answer.State = c.State
	}
	*c = answer
}

// indices reads a list such as 1,3-5, and returns what is in it.
func indices(text string) (func(int) bool, error) {
	var spans [][2]int
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		from, to, several := strings.Cut(part, "-")
		if !several {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err = errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("the answer of the API server cannot be read: indices %q: %w", text, err)
		}
		spans = append(spans, [2]int{first, last})
	}
	return func(i int) bool {
		return slices.ContainsFunc(spans, func(s [2]int) bool { return s[0] <= i && i <= s[1] })
	}, nil
}
