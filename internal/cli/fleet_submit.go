package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/internal/fleetjob"
	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// fleetSubmitFlags are those of "fleet submit".
type fleetSubmitFlags struct {
	fleetFlags
	managementFlags
	textOutput

	spec               fleetjob.Spec
	yes, print, follow bool
}

func newFleetSubmit(s Streams) *cobra.Command {
	var flags fleetSubmitFlags
	cmd := &cobra.Command{
		Use:   "submit [CLUSTER...] -f FILE --image IMAGE --files secret/NAME",
		Short: "Have a Kubernetes cluster recover or renew others, by Jobs",
		Long: `submit does by Pods in a management cluster what "fleet run" does from here. It makes an
Indexed Job: an index is a cluster. A Pod that ends with exit code 4 or 6, or that is
killed, is followed by another; what it left after a change (exit code 8) is resumed. A
cluster has failed for good with exit code 5, 7, 9, 10 or 64.

The Pods find the fleet file, under its name here, the inventories and keys in Secrets
and ConfigMaps that you have made: --files names them. Records of runs lie in the volume
of --volume-claim; without one they are lost with the Pod, except for what the clusters'
control planes keep, which is enough to resume.

Of several waves each is a Job, begun when the one before it is done: --follow waits for
that. --schedule makes a CronJob. kubectl must be in PATH.`,
		Example: `  kubectl --kubeconfig mgmt.conf create secret generic fleet \
    --from-file=fleet.yaml --from-file=fra1.ini --from-file=key
  kscertctl fleet submit -f fleet.yaml --image registry.example.com/kscertctl:0.1.0 \
    --files secret/fleet --volume-claim kscertctl --kubeconfig mgmt.conf --follow
  kscertctl fleet status --kubeconfig mgmt.conf`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error { return flags.run(cmd, s, names) },
	}
	flags.fleetFlags.register(cmd, 4)
	flags.managementFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&flags.spec.Name, "name", "", "name of the Job (default: kscertctl- and the time)")
	fl.StringVar(&flags.spec.Image, "image", "", "image of kscertctl, made with its Containerfile")
	fl.StringArrayVar(&flags.spec.Files, "files", nil,
		"what the Pods find in /etc/kscertctl: secret/NAME or configmap/NAME")
	fl.StringVar(&flags.spec.Claim, "volume-claim", "", "PersistentVolumeClaim with the records of runs")
	fl.IntVar(&flags.spec.StopAfter, "stop-after-failures", 1,
		"after how many clusters that failed the Job stops; 0 for never")
	fl.IntVar(&flags.spec.Retries, "retries", 3, "how many Pods may follow for a cluster")
	fl.StringVar(&flags.spec.Wait, "wait", "", "how long a Pod waits for windows to open, such as 12h")
	fl.BoolVar(&flags.spec.Check, "check", false, "only check the certificates")
	fl.StringVar(&flags.spec.Schedule, "schedule", "", "make a CronJob with this schedule, such as \"15 3 * * *\"")
	fl.StringVar(&flags.spec.Zone, "time-zone", "", "time zone of --schedule, such as Europe/Berlin")
	fl.StringVar(&flags.spec.Queue, "queue", "", "local queue of Kueue")
	fl.BoolVar(&flags.print, "print", false, "print the manifests and submit nothing")
	fl.BoolVar(&flags.follow, "follow", false, "show the logs, and wait until the Jobs have ended")
	fl.BoolVar(&flags.yes, "yes", false, "submit without asking")
	flags.textOutput.register(cmd)
	return cmd
}

func (f *fleetSubmitFlags) run(cmd *cobra.Command, s Streams, names []string) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	c, err := f.choose(cmd, s, names)
	if err != nil {
		return err
	}
	specs, err := f.specs(c)
	if err != nil {
		return usage(cmd, err)
	}
	manifests := make([][]byte, len(specs))
	for i, spec := range specs {
		if manifests[i], err = spec.Manifest(); err != nil {
			return usage(cmd, err)
		}
	}
	if f.print {
		for _, m := range manifests {
			if _, err := s.Out.Write(m); err != nil {
				return fmt.Errorf("writing the manifests: %w", err)
			}
		}
		return nil
	}
	if err := f.approve(cmd.Context(), s, specs); err != nil {
		return err
	}
	if err := f.unused(cmd.Context(), specs); err != nil {
		return err
	}
	if err := f.sourced(cmd.Context(), s); err != nil {
		return err
	}
	watching := watcher{managementFlags: f.managementFlags, says: newProgress(s), shown: map[string]string{},
		logs: map[string]bool{}}
	for i, spec := range specs {
		// A field that another has set is a conflict, and so an error.
		out, err := f.ask(cmd.Context(), manifests[i], "apply", "--server-side",
			"--field-manager=kscertctl", "--filename=-")
		if err != nil {
			if i > 0 {
				err = submittedAlready(err, spec.Submission)
			}
			return err
		}
		_, _ = fmt.Fprintf(s.Err, "%s\n", printable.Line(strings.TrimSpace(string(out))))
		if !f.follow {
			continue
		}
		doc, err := watching.until(cmd.Context(), spec)
		if err != nil {
			return submittedAlready(err, spec.Submission)
		}
		if i == len(specs)-1 || !spec.Check && unfinished(doc) {
			return f.ended(s, doc, specs[i+1:])
		}
	}
	return nil
}

// submittedAlready is an error after a Job was submitted: exit codes that promise that nothing was changed
// would have a pipeline submit it again.
func submittedAlready(err error, name string) error {
	if orchestrator.Code(err) == orchestrator.ExitInterrupted {
		return err
	}
	e := &orchestrator.Error{Code: orchestrator.ExitUnexpected, Summary: err.Error(), Err: err,
		Next: "what was submitted goes on; see: kscertctl fleet status " + name + " --kubeconfig FILE"}
	if cause, ok := errors.AsType[*orchestrator.Error](err); ok {
		e.Evidence = cause.Evidence
	}
	return e
}

// sourced checks that what the Pods are to find is there: they would wait for it forever. Who may submit
// may not be allowed to see it.
func (f *fleetSubmitFlags) sourced(ctx context.Context, s Streams) error {
	wanted := slices.Clone(f.spec.Files)
	if f.spec.Claim != "" {
		wanted = append(wanted, "persistentvolumeclaim/"+f.spec.Claim)
	}
	out, err := f.ask(ctx, nil, append(append([]string{"get"}, wanted...), "--ignore-not-found", "--output=name")...)
	if orchestrator.Code(err) == orchestrator.ExitInterrupted {
		return err
	}
	if err != nil {
		_, _ = fmt.Fprintf(s.Err, "whether %s exist was not checked: %v\n", strings.Join(wanted, ", "), err)
		return nil
	}
	there := strings.Fields(string(out))
	for _, name := range wanted {
		if !slices.Contains(there, name) {
			return &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: "the management cluster has no " + name,
				Next: "nothing was submitted; make it in the namespace of the Job, or name another one; what is " +
					"there: kubectl get secrets,configmaps,persistentvolumeclaims"}
		}
	}
	return nil
}

// ended writes the table and returns the verdict; left are the waves that were not begun.
func (f *fleetSubmitFlags) ended(s Streams, doc report.FleetRun, left []fleetjob.Spec) error {
	if err := fleetOutput(s, f.output, doc); err != nil {
		return err
	}
	for _, spec := range left {
		_, _ = fmt.Fprintf(s.Err, "%s was not begun, since a cluster of the wave before it is not done: %s\n",
			spec.Name, strings.Join(spec.Clusters, ", "))
	}
	return verdictOf("failed", doc.Clusters, "see the logs: kubectl logs --selector="+fleetjob.Selector)
}

// unused checks that there is no Job with these names: applied again, one that has ended would be taken
// for a new one. A CronJob may be replaced.
func (f *fleetSubmitFlags) unused(ctx context.Context, specs []fleetjob.Spec) error {
	if f.spec.Schedule != "" {
		return nil
	}
	args := []string{"get", "jobs"}
	for _, spec := range specs {
		args = append(args, spec.Name)
	}
	there, err := f.ask(ctx, nil, append(args, "--ignore-not-found", "--output=name")...)
	if err != nil || len(there) == 0 {
		return err
	}
	names := printable.Line(strings.Join(strings.Fields(string(there)), " "))
	return &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: "there is already " + names,
		Next: "nothing was submitted; choose another --name, or remove it: kubectl delete " + names}
}

// specs are the Jobs: one for each wave, in their order.
func (f *fleetSubmitFlags) specs(c chosen) ([]fleetjob.Spec, error) {
	base := f.spec
	if base.Name == "" {
		base.Name = "kscertctl-" + time.Now().UTC().Format("20060102-150405")
	}
	base.Namespace, base.Submission, base.File = f.namespace, base.Name, c.path
	if err := base.Validate(); err != nil {
		return nil, err
	}
	if _, err := config.ParseTime(cmp.Or(base.Wait, "0")); err != nil {
		return nil, fmt.Errorf("--wait: %w", err)
	}
	switch {
	case base.Image == "":
		return nil, errors.New("--image is missing")
	case len(base.Files) == 0:
		return nil, errors.New("--files is missing: the Secret or ConfigMap with the fleet file")
	case base.Schedule != "" && f.follow:
		return nil, errors.New("--follow is for a Job, and --schedule makes a CronJob")
	}
	var specs []fleetjob.Spec
	for _, wave := range fleet.InWaves(c.clusters) {
		spec := base
		spec.Wave = wave[0].WaveName
		spec.Parallel = min(f.parallel, fleet.AtOnce(wave, c.PerDomain))
		for _, of := range wave {
			spec.Clusters = append(spec.Clusters, of.Name)
		}
		specs = append(specs, spec)
	}
	switch {
	case len(specs) == 0:
		return nil, errors.New("every cluster is held: there is nothing to submit")
	case len(specs) > 1 && (f.print || !f.follow) && !base.Check:
		return nil, errors.New("the clusters are of several waves, and nothing would wait for one before the next: " +
			"submit them with --follow, or choose those of one wave")
	}
	for i := range specs {
		if len(specs) > 1 {
			specs[i].Name = fmt.Sprintf("%s-%d", base.Name, i+1)
		}
		if err := specs[i].Validate(); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

// approve shows what is submitted and asks for a yes, unless it was given or nothing can be changed.
func (f *fleetSubmitFlags) approve(ctx context.Context, s Streams, specs []fleetjob.Spec) error {
	if f.spec.Check {
		return nil
	}
	for _, spec := range specs {
		_, _ = fmt.Fprintf(s.Err, "%s: %d at once of %s\n", spec.Name, spec.Parallel, strings.Join(spec.Clusters, ", "))
	}
	return requireYes(ctx, s, f.yes, "Have these clusters recovered or renewed, without asking again?", "it was",
		"nothing was submitted; to see what would be done: kscertctl fleet plan")
}

// watcher shows how far the Jobs have got, and their logs.
type watcher struct {
	managementFlags

	says *progress
	// shown are the last lines about the clusters, logs the Pods whose logs are shown.
	shown map[string]string
	logs  map[string]bool
}

// until watches until a Job has ended.
func (w *watcher) until(ctx context.Context, spec fleetjob.Spec) (report.FleetRun, error) {
	logging, cancel := context.WithCancel(ctx)
	defer cancel()
	var following sync.WaitGroup
	for failed := 0; ; {
		at, err := w.status(ctx, spec.Submission)
		const patience = 30 // a minute: it may be about to come back
		if failed++; orchestrator.Code(err) == orchestrator.ExitUnreachable && failed < patience {
			w.says.line("%v", withEvidence(err))
			pause(ctx)
			continue
		}
		if err != nil {
			return at.doc, err
		}
		failed = 0
		for _, c := range at.doc.Clusters {
			now := strings.TrimSuffix(string(c.State)+": "+c.Reason, ": ")
			if w.shown[c.Name] != now {
				w.shown[c.Name] = now
				w.says.line("%s: %s", c.Name, now)
			}
		}
		for _, p := range at.pods {
			if name := p.Metadata.Name; p.Logs(spec.Name) && !w.logs[name] {
				w.logs[name] = true
				following.Go(func() { w.follow(logging, name) })
			}
		}
		i := slices.IndexFunc(at.jobs, func(j fleetjob.Job) bool { return j.Metadata.Name == spec.Name })
		if i < 0 {
			return at.doc, fmt.Errorf("the Job %s is no longer there: its clusters may be half done", spec.Name)
		}
		if at.jobs[i].Ended() {
			defer time.AfterFunc(lastLogs, cancel).Stop()
			following.Wait()
			return at.doc, nil
		}
		pause(ctx)
	}
}

// lastLogs is how long logs are read on when the Job has ended.
const lastLogs = 10 * time.Second

// withEvidence is an error with what kubectl printed.
func withEvidence(err error) string {
	if e, ok := errors.AsType[*orchestrator.Error](err); ok && e.Evidence != "" {
		return e.Error() + ": " + e.Evidence
	}
	return err.Error()
}

// pause waits before the management cluster is asked again.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
}

// longestLine is how many bytes of a log are one line at most.
const longestLine = 64 << 10

// follow shows the logs of a Pod until it ends.
func (w *watcher) follow(ctx context.Context, pod string) {
	cmd := w.kubectl(ctx, "logs", "--follow", "--prefix", "pod/"+pod)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return // the state of the Pod is shown all the same
	}
	for lines := bufio.NewReaderSize(out, longestLine); ; { // a longer one is shown in pieces
		line, _, err := lines.ReadLine()
		if err != nil {
			break
		}
		w.says.line("%s", string(line))
	}
	_ = cmd.Wait()
}

// unfinished reports whether a cluster is not done.
func unfinished(doc report.FleetRun) bool {
	return slices.ContainsFunc(doc.Clusters, func(c report.FleetCluster) bool { return c.State != report.FleetDone })
}
