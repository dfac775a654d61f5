package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// fleetFile is the name of the document in the record of a fleet run.
const fleetFile = "fleet.json"

// member is the work on one cluster.
type member struct {
	fleet.Cluster
	// typed is the fleet command, and base has the other settings.
	typed *cobra.Command
	base  chosen

	at  *report.FleetCluster
	err error
	// alone: there is no other cluster.
	alone bool
	// shown is the plan that was approved; nil if every plan is.
	shown *plan.Plan
	// begun: a run on it was stopped after a change. That is continued whatever the windows are.
	begun bool
	// half: a run on it was stopped after a change, and may be left alone now.
	half bool
	// recalled: the record of that run comes from control planes, which may leave out what is due.
	recalled bool
}

// options are those of the work on the cluster: of a new run, or of one that is resumed.
func (m *member) options(s Streams, resumed string) (opts orchestrator.Options, to results, err error) {
	one := &cobra.Command{Use: "run", Args: cobra.NoArgs}
	if resumed == "" {
		var flags runFlags
		flags.register(one)
		if err = m.base.settle(m.typed, one, m.Cluster); err == nil {
			opts, err = flags.options(m.typed, s)
		}
		to = flags.results
		if flags.dueBefore == "" {
			opts.Thresholds.RenewBefore = max(opts.Thresholds.RenewBefore, untilNextRun(m.Windows, time.Now()))
		}
	} else {
		var flags carryFlags
		one.Use = "resume"
		flags.useRecord(one)
		acceptLosses(one, &flags.opts)
		allowNotInInventory(one, &flags.opts)
		serial(one, &flags.opts, "as before")
		if err = m.base.settle(m.typed, one, m.Cluster); err == nil {
			opts, err = flags.checked(m.typed, s)
		}
		to = flags.results
		if err == nil {
			var p run.Proposal
			if p, err = orchestrator.LoadRun(m.at.StateDir, resumed); err == nil {
				err = opts.Recall(p.Request)
			}
		}
	}
	opts.Ansible.Ask = m.base.ask
	if !m.alone {
		opts.Output, opts.Observe = nil, nil // with several at the same time the output would be mixed
	}
	return opts, to, err
}

// reserve is the safety margin before expiry in which a certificate is renewed, in case the next
// window is not used.
const reserve = 7 * 24 * time.Hour

// untilNextRun is how long a certificate must be valid that is not renewed in this window, or, if
// none is open, in the next one: until the window after that, plus the reserve; zero without windows.
func untilNextRun(w fleet.Windows, now time.Time) time.Duration {
	this := now
	if !w.Open(now) {
		this = w.Next(now)
	}
	next := w.Next(this)
	if next.IsZero() {
		return 0
	}
	return (next.Sub(now) + reserve).Truncate(time.Second)
}

// ended records how the work on the cluster finished.
func (m *member) ended(err error) {
	m.err, m.at.ExitCode, m.at.Error, m.at.Next = err, int(orchestrator.Code(err)), "", ""
	if err != nil {
		m.at.Error = err.Error()
	}
	if e, ok := errors.AsType[*orchestrator.Error](err); ok {
		m.at.Next = e.Next
	}
}

// changed reports whether the work on the cluster may have failed after a change.
func (m *member) changed() bool {
	means, _ := orchestrator.ExitCode(m.at.ExitCode).Means()
	return m.begun || !means.Untouched
}

// planned records the plan.
func (m *member) planned(verdict string, p plan.Plan) {
	m.at.Verdict, m.at.Route, m.at.Steps = verdict, p.Route, len(p.Steps)
}

// members creates the document of the work on the chosen clusters.
func (c chosen) members(cmd *cobra.Command) ([]*member, *report.FleetRun, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, nil, fmt.Errorf("finding the working directory: %w", err)
	}
	now := time.Now()
	doc := &report.FleetRun{Schema: report.FleetRunSchema, File: c.path, Dir: dir, Began: now.UTC(),
		Clusters: make([]report.FleetCluster, len(c.clusters))}
	all := make([]*member, len(c.clusters))
	for i, of := range c.clusters {
		at := &doc.Clusters[i]
		*at = report.FleetCluster{Name: of.Name, Labels: of.Labels, Wave: of.WaveName, State: report.FleetWaiting}
		if at.Labels == nil {
			at.Labels = map[string]string{}
		}
		all[i] = &member{Cluster: of, typed: cmd, base: c, at: at, alone: len(c.clusters) == 1}
		all[i].window(now)
		if of.Hold != "" {
			at.State, at.Reason = report.FleetHeld, of.Hold
		}
	}
	return all, doc, nil
}

// window records when the cluster may be changed, if that is not now.
func (m *member) window(now time.Time) {
	m.at.Opens, m.at.Reason = time.Time{}, ""
	if !m.begun && !m.Windows.Open(now) {
		m.at.Opens = m.Windows.Next(now).UTC()
		m.at.Reason = "its next window opens at " + m.at.Opens.Format(time.RFC3339)
	}
}

// planAll plans the work on clusters and changes nothing.
func planAll(ctx context.Context, s Streams, all []*member, parallel int) {
	p := newProgress(s)
	inParallel(len(all), parallel, func(i int) {
		m := all[i]
		made, err := m.propose(ctx, s)
		if err == nil {
			m.shown = &made.Plan
			m.at.Plan = &report.Proposal{Schema: made.Schema, Made: made.Made, Cluster: made.Cluster,
				Diagnosis: made.Diagnosis, Plan: made.Plan}
		}
		m.planned(made.Diagnosis.Verdict, made.Plan)
		if m.ended(err); err != nil {
			m.at.State = report.FleetFailed
		} else if m.at.State == report.FleetWaiting {
			m.at.State = report.FleetPlanned
		}
		p.line("%s: %s", m.Name, outcome(err))
	})
}

func (m *member) propose(ctx context.Context, s Streams) (run.Proposal, error) {
	opts, _, err := m.options(s, "")
	if err != nil {
		return run.Proposal{}, err
	}
	o, err := orchestrator.New(opts)
	if err != nil {
		return run.Proposal{}, err
	}
	return o.Plan(ctx)
}

// worst is the worst exit code of all.
func worst(all []*member) orchestrator.ExitCode {
	code := orchestrator.ExitDone
	for _, m := range all {
		code = orchestrator.Worst(code, orchestrator.ExitCode(m.at.ExitCode))
	}
	return code
}

// verdictOf is the error of work on a fleet; nil if all succeeded.
func verdictOf(what string, clusters []report.FleetCluster, next string) error {
	names, errs := make([]string, len(clusters)), make([]error, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
		if c.ExitCode != 0 {
			errs[i] = &orchestrator.Error{Code: orchestrator.ExitCode(c.ExitCode), Summary: c.Error, Next: c.Next}
		}
	}
	return summed(what, names, errs, next)
}

// fleetOutput writes the document of work on a fleet.
func fleetOutput(s Streams, output string, doc report.FleetRun) error {
	if output == "json" {
		return report.JSON(s.Out, doc)
	}
	return doc.Text(s.Out)
}

func newFleetPlan(s Streams) *cobra.Command {
	var (
		flags  fleetFlags
		output recordFlags
	)
	cmd := &cobra.Command{
		Use:   "plan [CLUSTER...] -f FILE",
		Short: "Show what \"fleet run\" would do on each cluster; changes nothing",
		Long: `plan inspects the clusters of a fleet file, or those that are named, and shows for
each what "fleet run" would do: the route, how many steps, and when its next
maintenance window opens. It changes nothing. -o json has all plans.

The exit code is the worst of all clusters.`,
		Example: `  kscertctl fleet plan -f fleet.yaml --selector env=prod
  kscertctl fleet plan -f fleet.yaml fra1 -o json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := output.check(cmd); err != nil {
				return err
			}
			c, err := flags.choose(cmd, s, names)
			if err != nil {
				return err
			}
			all, doc, err := c.members(cmd)
			if err != nil {
				return err
			}
			planAll(cmd.Context(), s, all, flags.parallel)
			doc.ExitCode = int(worst(all))
			if err := fleetOutput(s, output.output, *doc); err != nil {
				return err
			}
			return verdictOf("there is no plan", doc.Clusters, "to see why: kscertctl diagnose -i INVENTORY")
		},
	}
	flags.register(cmd, 8)
	output.register(cmd)
	return cmd
}

// fleetRunFlags are those of "fleet run".
type fleetRunFlags struct {
	fleetFlags
	recordFlags

	yes       bool
	resume    string
	stopAfter int
	wait      string
	// recall: what the control planes keep counts where this machine knows of no run.
	recall bool
}

func newFleetRun(s Streams) *cobra.Command {
	var flags fleetRunFlags
	cmd := &cobra.Command{
		Use:   "run [CLUSTER...] -f FILE",
		Short: "Recover or renew many clusters, in waves and within their windows",
		Long: `run does on the clusters of a fleet file, or on those that are named, what
"kscertctl run" does on one. On a terminal it plans all of them first, shows the plans
and asks; a cluster whose plan is another one by then is not changed. With --yes it
does not ask.

A wave begins when all clusters of those before it are done. A cluster is begun only
while one of its maintenance windows is open, and never while as many of its failure
domain are being changed as the file allows; one that is held is left alone. After
--stop-after-failures no other is begun; failures before a change do not count.

The first interrupt lets each cluster finish the step that changes nodes, and begins no
other; the second stops at once. --resume continues: clusters that are done stay as they
are, runs that were stopped after a change are resumed, and the others are begun.

The exit code is the worst of all clusters. One whose window is closed, or that is held,
is no failure.`,
		Example: `  kscertctl fleet run -f fleet.yaml --selector env=test
  kscertctl fleet run -f fleet.yaml --yes --parallel-clusters 4 --stop-after-failures 2
  kscertctl fleet run -f fleet.yaml --yes --wait 12h
  kscertctl fleet run --resume 20260301T110000Z-abcdef --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			doc, err := flags.run(cmd, s, names)
			return flags.written(s, doc, err)
		},
	}
	flags.fleetFlags.register(cmd, 1)
	fl := cmd.Flags()
	fl.IntVar(&flags.stopAfter, "stop-after-failures", 1,
		"after how many clusters that failed no other is begun; 0 for never")
	fl.StringVar(&flags.wait, "wait", "0", "how long to wait for windows to open, such as 12h")
	fl.StringVar(&flags.resume, "resume", "", "continue this fleet run")
	fl.BoolVar(&flags.yes, "yes", false, "carry out the plans without asking")
	flags.recordFlags.register(cmd)
	return cmd
}

// written writes the document of the work, unless it has not begun, and returns the error of the work.
func (f *fleetRunFlags) written(s Streams, doc *report.FleetRun, err error) error {
	if doc != nil {
		if failed := fleetOutput(s, f.output, *doc); failed != nil {
			return failed
		}
	}
	return err
}

// run works on the clusters, and returns the document once the work has begun.
func (f *fleetRunFlags) run(cmd *cobra.Command, s Streams, names []string) (*report.FleetRun, error) {
	wait, err := config.ParseTime(f.wait)
	if err != nil {
		return nil, usage(cmd, fmt.Errorf("--wait: %w", err))
	}
	if f.stopAfter < 0 {
		return nil, usage(cmd, fmt.Errorf("--stop-after-failures %d: must be 0 or more", f.stopAfter))
	}
	if f.state != "" { // commands to type next may be typed elsewhere
		if f.state, err = filepath.Abs(f.state); err != nil {
			return nil, fmt.Errorf("finding the working directory: %w", err)
		}
	}
	var earlier *report.FleetRun
	if f.resume != "" {
		if earlier, err = f.earlier(cmd, names); err != nil {
			return nil, err
		}
		names = nil
	}
	c, err := f.choose(cmd, s, names)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		c.clusters = c.those(*earlier)
	}
	all, doc, err := c.members(cmd)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		recall(all, doc, earlier)
	}
	for _, m := range all { // errors in settings are reported before anything is done
		if m.gone() {
			continue
		}
		if _, to, err := m.options(s, ""); err != nil {
			return nil, err
		} else if err := to.prepare(cmd); err != nil {
			return nil, err
		}
	}
	unlock, err := orchestrator.LockFleet(f.state, c.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unlock() }()
	var opts orchestrator.Options
	ctx, done := stopsInOrder(cmd, s, &opts)
	defer done()
	if err := f.approve(cmd.Context(), s, all, doc); err != nil {
		return nil, err
	}
	w, err := f.begin(cmd.Context(), doc, all)
	if err != nil {
		return nil, err
	}
	half, err := f.halfDone(c, all)
	if err != nil {
		return nil, err
	}
	policy := fleet.Policy{Parallel: f.parallel, PerDomain: c.PerDomain, Half: map[string]int{}, StopAfter: f.stopAfter}
	for domain, names := range half {
		policy.Half[domain] = len(names)
	}
	w.half = half
	w.work(ctx, s, policy, time.Now().Add(wait))
	again := []string{"fleet", "run", "--resume", doc.Fleet, "-f", c.path}
	for _, name := range []string{"parallel-clusters", "stop-after-failures"} {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			again = append(again, "--"+name, flag.Value.String())
		}
	}
	next := "see the runs of the clusters, and continue: " + orchestrator.Command(f.state, again...)
	err = verdictOf("failed", doc.Clusters, next)
	left := func(m *member) bool { return m.at.State == report.FleetWaiting }
	if cmd.Context().Err() != nil && slices.ContainsFunc(all, left) &&
		orchestrator.Worst(orchestrator.Code(err), orchestrator.ExitInterrupted) == orchestrator.ExitInterrupted {
		err = &orchestrator.Error{Code: orchestrator.ExitInterrupted, Summary: "interrupted", Next: next, Err: err}
	}
	if err := w.close(orchestrator.Code(err)); err != nil {
		return nil, err
	}
	return doc, err
}

// earlier reads the record of the fleet run that is resumed, and changes to the directory that it
// was started in: its ansible.cfg counts.
func (f *fleetRunFlags) earlier(cmd *cobra.Command, names []string) (*report.FleetRun, error) {
	if len(names) > 0 || f.selector != "" {
		return nil, usage(cmd,
			errors.New("--resume continues with the clusters of the fleet run: name none, and no --selector"))
	}
	r, err := orchestrator.FindFleet(f.state, f.resume)
	if err == nil {
		err = orchestrator.TrustRun(r)
	}
	if err != nil {
		return nil, err
	}
	doc, err := readFleet(r)
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("file") {
		if f.file, err = filepath.Abs(f.file); err != nil {
			return nil, fmt.Errorf("finding the working directory: %w", err)
		}
	} else {
		f.file = doc.File
	}
	if config := cmd.Flags().Lookup("config"); config != nil && config.Changed {
		path, err := filepath.Abs(config.Value.String())
		if err == nil {
			err = config.Value.Set(path)
		}
		if err != nil {
			return nil, fmt.Errorf("finding the working directory: %w", err)
		}
	}
	if err := os.Chdir(doc.Dir); err != nil {
		return nil, &orchestrator.Error{Code: orchestrator.ExitUsage,
			Summary: "going to the directory the command was run in: " + err.Error(), Err: err,
			Next: "nothing was changed; see that you may enter it"}
	}
	return &doc, nil
}

// halfDone marks the clusters that an earlier fleet run of this machine has left half done, and returns others
// by failure domain.
func (f *fleetRunFlags) halfDone(c chosen, all []*member) (map[string][]string, error) {
	if c.PerDomain == 0 {
		return nil, nil
	}
	records, err := orchestrator.Fleets(f.state)
	if err != nil {
		return nil, err
	}
	others, seen := map[string][]string{}, map[string]bool{}
	for _, r := range records { // the newest first
		doc, err := readFleet(r)
		if err != nil || !sameFile(doc.File, c.path) {
			continue
		}
		for _, was := range doc.Clusters {
			if seen[was.Name] { // that is asked of the disk
				continue
			}
			half, known := leftHalf(was)
			if !known {
				continue
			}
			seen[was.Name] = true
			i := slices.IndexFunc(all, func(m *member) bool { return m.Name == was.Name })
			switch domain := was.Labels[c.DomainLabel]; {
			case !half:
			case i >= 0 && all[i].at.State != report.FleetDone:
				all[i].half = true
			case domain != "":
				others[domain] = append(others[domain], was.Name)
			}
		}
	}
	return others, nil
}

// leftHalf reports whether the last run that has changed a cluster, since an earlier fleet run, was stopped. It
// is not known if that fleet run has begun no change there.
func leftHalf(was report.FleetCluster) (half, known bool) {
	if was.Run == "" {
		return false, false
	}
	r := run.Read(was.StateDir, was.Run)
	if r.Err != nil || !r.State.Begun() && r.State.Ended != run.Done {
		return false, false
	}
	if p, err := orchestrator.LoadRun(was.StateDir, was.Run); err == nil {
		if later, err := run.Later(was.StateDir, was.Run, p.Cluster); err == nil && len(later) > 0 {
			r = later[0]
		}
	}
	return r.State.Ended != run.Done, true
}

// sameFile reports whether two paths lead to one file, as far as they are there.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	one, err := os.Stat(a)
	other, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, other)
}

// those are the clusters of an earlier fleet run, as the fleet file has them now. One that it has no more
// is held, without inventories: what was begun there is not forgotten.
func (c chosen) those(earlier report.FleetRun) []fleet.Cluster {
	all := make([]fleet.Cluster, len(earlier.Clusters))
	for i, was := range earlier.Clusters {
		all[i] = fleet.Cluster{Name: was.Name, Labels: was.Labels, WaveName: was.Wave,
			Domain: was.Labels[c.DomainLabel], Hold: "it is no longer in the fleet file"}
		if at := slices.IndexFunc(c.clusters, func(c fleet.Cluster) bool { return c.Name == was.Name }); at >= 0 {
			all[i] = c.clusters[at]
		}
	}
	return all
}

// gone reports whether the fleet file has the cluster no more.
func (m *member) gone() bool { return len(m.Inventories) == 0 }

// readFleet reads the document in the record of a fleet run.
func readFleet(r run.Record) (report.FleetRun, error) {
	var doc report.FleetRun
	data, err := os.ReadFile(filepath.Join(r.Path, fleetFile))
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err == nil {
		err = r.Err
	}
	if err == nil && doc.Schema != report.FleetRunSchema {
		err = fmt.Errorf("it has schema %d, this version reads %d", doc.Schema, report.FleetRunSchema)
	}
	if err == nil && len(doc.Clusters) == 0 {
		err = errors.New("it has no clusters")
	}
	if err != nil {
		return doc, &orchestrator.Error{Code: orchestrator.ExitNotBegun,
			Summary: fmt.Sprintf("the record of fleet run %s cannot be used: %v", r.ID, err), Err: err,
			Next: "nothing was changed; it is in " + r.Path + "; the runs of its clusters: kscertctl runs list"}
	}
	doc.Status = r.Status()
	for i := range doc.Clusters {
		if c := &doc.Clusters[i]; c.State == report.FleetRunning && !r.Running {
			c.State = report.FleetKilled
		}
	}
	return doc, nil
}

// recall takes over what an earlier process has done.
func recall(all []*member, doc, earlier *report.FleetRun) {
	doc.Fleet, doc.Began, doc.Dir = earlier.Fleet, earlier.Began, earlier.Dir
	for _, m := range all {
		i := slices.IndexFunc(earlier.Clusters, func(c report.FleetCluster) bool { return c.Name == m.Name })
		if i < 0 {
			continue // it was not there
		}
		was := earlier.Clusters[i]
		if was.State == report.FleetDone {
			*m.at = was
			continue
		}
		m.at.Run, m.at.StateDir = was.Run, was.StateDir
		m.left(was)
	}
}

// left takes over that a run on the cluster was stopped after a change, if it was: until that is
// continued, its exit code is that of the cluster.
func (m *member) left(was report.FleetCluster) {
	if m.at.Run == "" {
		return
	}
	r := run.Read(m.at.StateDir, m.at.Run)
	if r.Err != nil || !r.State.Requested || !r.State.Begun() || r.State.Ended == run.Done || m.superseded() {
		return
	}
	m.begun = true
	m.at.ExitCode, m.at.Error, m.at.Next = was.ExitCode, was.Error, was.Next
	if m.at.ExitCode == 0 { // its process was killed
		m.ended(&orchestrator.Error{Code: orchestrator.ExitStopped,
			Summary: fmt.Sprintf("run %s was stopped after a change", r.ID),
			Next:    "continue it: " + orchestrator.Command(m.at.StateDir, "resume", r.ID)})
	}
	if m.at.State == report.FleetWaiting {
		m.window(time.Now())
	}
}

// continues is the run on the cluster that is to be continued; empty for none, and for one that has
// ended before a change: its plan may not fit any more. The error, an *orchestrator.Error, is that there
// is one, and that it cannot be continued now.
func (m *member) continues() (string, error) {
	if m.at.Run == "" {
		return "", nil
	}
	r := run.Read(m.at.StateDir, m.at.Run)
	switch {
	case r.Err != nil:
		return "", &orchestrator.Error{Code: orchestrator.ExitNotBegun, Err: r.Err,
			Summary: "the record of what was begun on the cluster cannot be read: " + r.Err.Error(),
			Next: "nothing was changed now; check the cluster, then begin another fleet run: kscertctl diagnose " +
				"-i INVENTORY"}
	case r.Running:
		return "", &orchestrator.Error{Code: orchestrator.ExitLocked,
			Summary: fmt.Sprintf("run %s is still at work on the cluster, or what it has started is", r.ID),
			Next: "nothing was changed now; wait until it has finished: " +
				orchestrator.Command(m.at.StateDir, "status", r.ID)}
	case r.Resumable() && (r.State.Begun() || r.State.Ended == "") && !m.superseded():
		return r.ID, nil
	}
	return "", nil
}

// superseded reports whether a later run of this machine has changed the cluster, so that its run cannot be
// resumed.
func (m *member) superseded() bool {
	p, err := orchestrator.LoadRun(m.at.StateDir, m.at.Run)
	if err != nil {
		return false
	}
	later, err := run.Later(m.at.StateDir, m.at.Run, p.Cluster)
	return err == nil && len(later) > 0
}

// requireYes asks for a yes, unless it was given. The error, an *Error with the next step, is that there
// was none: what is "the plans were" or the like.
func requireYes(ctx context.Context, s Streams, given bool, question, what, next string) error {
	yes, err := ask(ctx, s, given, question)
	if ctx.Err() != nil {
		return &orchestrator.Error{Code: orchestrator.ExitInterrupted, Summary: "interrupted before any change",
			Err: ctx.Err()}
	}
	if err == nil && !yes {
		err = errors.New("only yes is one")
	}
	if err != nil {
		return &orchestrator.Error{Code: orchestrator.ExitNotApproved, Err: err,
			Summary: what + " not approved: " + err.Error(), Next: next}
	}
	return nil
}

// approve shows the plans of all clusters and asks for a yes, unless it was given.
func (f *fleetRunFlags) approve(ctx context.Context, s Streams, all []*member, doc *report.FleetRun) error {
	if f.yes {
		return nil
	}
	require := func(question string) error {
		return requireYes(ctx, s, false, question, "the plans were",
			"nothing was changed; to approve without being asked, run the command again with --yes")
	}
	if !s.Terminal { // before clusters are inspected
		return require("")
	}
	var open []*member
	for _, m := range all {
		if id, err := m.continues(); m.at.State == report.FleetWaiting && id == "" && err == nil {
			open = append(open, m)
		}
	}
	planAll(ctx, s, open, max(f.parallel, 8))
	if err := doc.Text(s.Err); err != nil {
		return err
	}
	if err := require("Carry out these plans?"); err != nil {
		return err
	}
	for _, m := range open {
		m.ended(nil)
		m.at.Plan, m.at.State = nil, report.FleetWaiting
	}
	for _, m := range all {
		if m.shown == nil {
			m.shown = &plan.Plan{} // there was none to approve
		}
	}
	return nil
}

// approver approves what was shown.
func (m *member) approver() func(context.Context, orchestrator.Proposal) (bool, error) {
	return func(_ context.Context, p orchestrator.Proposal) (bool, error) {
		if m.shown == nil || orchestrator.SamePlan(*m.shown, p.Plan) {
			return true, nil
		}
		return false, errors.New("it is no longer the plan that was shown")
	}
}

// fleetWork is a fleet run in progress.
type fleetWork struct {
	dir *run.Dir
	doc *report.FleetRun
	all []*member
	// stop stops the work gracefully, and halt triggers that.
	stop <-chan struct{}
	halt func()
	// recall: see fleetRunFlags.
	recall bool
	// half are other clusters that were left half done, by failure domain.
	half map[string][]string

	// mu guards the document, and lost, the error of writing it.
	mu   sync.Mutex
	lost error
}

// begin opens the record. When the context is done, the work stops gracefully.
func (f *fleetRunFlags) begin(ctx context.Context, doc *report.FleetRun, all []*member) (w *fleetWork, err error) {
	ctx, halt := context.WithCancel(ctx)
	w = &fleetWork{doc: doc, all: all, stop: ctx.Done(), halt: halt, recall: f.recall}
	if doc.Fleet == "" {
		w.dir, err = orchestrator.CreateFleet(f.state)
	} else {
		w.dir, err = orchestrator.OpenFleet(f.state, doc.Fleet)
	}
	if err != nil {
		halt()
		return nil, err
	}
	doc.Fleet, doc.Status = w.dir.ID, run.StatusRunning
	if err := w.dir.Save(fleetFile, doc); err != nil {
		halt()
		return nil, errors.Join(&orchestrator.Error{Code: orchestrator.ExitNotBegun, Summary: err.Error(), Err: err,
			Next: "nothing was changed; check the disk that holds --state-dir"}, w.dir.Close())
	}
	return w, nil
}

// note changes the document and writes it, before anything else is done. If it cannot be written,
// the work stops gracefully: without a record no one could resume it.
func (w *fleetWork) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	if err := w.dir.Save(fleetFile, w.doc); err != nil {
		w.lost = err
		w.halt()
	}
}

func (w *fleetWork) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// jobs are the clusters for the scheduler. No wave waits for one that is held.
func (w *fleetWork) jobs() (jobs []fleet.Job, of []*member) {
	states := map[report.FleetState]fleet.State{report.FleetDone: fleet.Done, report.FleetRunning: fleet.Running,
		report.FleetFailed: fleet.Failed, report.FleetHeld: fleet.Done}
	for _, m := range w.all {
		j := fleet.Job{State: fleet.Waiting, Wave: m.Wave, Domain: m.Domain, Windows: m.Windows,
			Half: (m.begun || m.half) && m.at.State != report.FleetDone}
		if m.begun {
			j.Windows = nil
		}
		if s, ok := states[m.at.State]; ok {
			j.State = s
		}
		if j.State == fleet.Failed && !m.changed() {
			j.State = fleet.Refused
		}
		jobs, of = append(jobs, j), append(of, m)
	}
	return jobs, of
}

// work begins clusters as the policy allows until there are none left, waiting for windows until
// the deadline.
func (w *fleetWork) work(ctx context.Context, s Streams, p fleet.Policy, deadline time.Time) {
	says := newProgress(s)
	ended := make(chan struct{}, len(w.all))
	stop := w.stop
	running := 0
	if w.recall {
		for _, m := range w.all {
			w.lookBack(ctx, s, m)
		}
	}
	for {
		w.mu.Lock()
		jobs, of := w.jobs()
		w.mu.Unlock()
		now := time.Now()
		start, opens := p.Next(jobs, now)
		if w.stopped() {
			start, opens = nil, time.Time{}
		}
		for _, i := range start {
			m := of[i]
			w.note(func() {
				m.at.State, m.at.Reason, m.at.Opens, m.at.Began = report.FleetRunning, "", time.Time{}, now.UTC()
			})
			running++
			says.line("%s: begun", m.Name)
			go func() {
				w.cluster(ctx, s, m)
				says.line("%s: %s", m.Name, outcome(m.err))
				ended <- struct{}{}
			}()
		}
		if opens.After(deadline) {
			opens = time.Time{}
		}
		if running == 0 && opens.IsZero() {
			break
		}
		var window <-chan time.Time
		if !opens.IsZero() {
			if running == 0 {
				says.line("waiting until a window opens at %s", opens.UTC().Format(time.RFC3339))
			}
			window = time.After(time.Until(opens))
		}
		select {
		case <-ended:
			running--
		case <-stop:
			stop = nil // once
		case <-window:
		}
	}
	w.why(p)
}

// why records why the remaining clusters have not begun.
func (w *fleetWork) why(p fleet.Policy) {
	now := time.Now()
	words := map[fleet.Reason]string{
		fleet.AfterStop: "too many clusters have failed", fleet.AfterWave: "a wave before it is not done",
		fleet.InDomain: "a cluster of its failure domain was left half done",
	}
	w.note(func() {
		jobs, of := w.jobs()
		for i, m := range of {
			if m.at.State != report.FleetWaiting {
				continue
			}
			reason := p.Why(jobs, i, now)
			if m.window(now); m.at.Reason == "" || reason != fleet.OutOfWindow {
				m.at.Reason = words[reason]
			}
			switch {
			case w.stopped():
				m.at.Reason = "the fleet run was interrupted"
			case reason == fleet.InDomain: // nothing will change that by itself
				m.ended(&orchestrator.Error{Code: orchestrator.ExitNotBegun,
					Summary: strings.TrimSpace(m.at.Reason + " " + strings.Join(w.half[m.Domain], ", ")),
					Next: "nothing was changed; see what stopped that one, and finish it first: " +
						"kscertctl fleet status"})
			}
		}
	})
}

// cluster works on one cluster.
func (w *fleetWork) cluster(ctx context.Context, s Streams, m *member) {
	var result orchestrator.Result
	resumed, err := m.continues()
	if resumed == "" && err == nil && w.recall {
		resumed, err = w.recalled(ctx, s, m)
	}
	if err == nil {
		result, err = w.carry(ctx, s, m, resumed)
	}
	if overtaken, ok := errors.AsType[*orchestrator.SupersededError](err); ok {
		newProgress(s).line("%s: %v; it is planned again", m.Name, overtaken)
		m.begun = false
		if !m.Windows.Open(time.Now()) {
			w.note(func() {
				m.ended(nil)
				m.at.Run, m.at.StateDir, m.at.State = "", "", report.FleetWaiting
				m.err = errors.New("it waits for its window") // no failure
			})
			return
		}
		result, err = w.carry(ctx, s, m, "")
	}
	if err == nil && m.recalled && !w.stopped() {
		was, changed := *m.at, result
		if result, err = w.carry(ctx, s, m, ""); err == nil && len(result.Plan.Steps) == 0 {
			w.note(func() { m.at.Run, m.at.StateDir = was.Run, was.StateDir }) // the one to roll back
			result.Plan = changed.Plan
		}
	}
	w.note(func() {
		m.begun = m.begun || orchestrator.Code(err) == orchestrator.ExitStopped
		m.ended(err)
		m.planned(result.After.Verdict, result.Plan)
		m.at.Ended, m.at.State = time.Now().UTC(), report.FleetDone
		if err != nil {
			m.at.State = report.FleetFailed
		}
	})
}

// carry carries out a new run on a cluster, or continues one.
func (w *fleetWork) carry(ctx context.Context, s Streams, m *member, resumed string) (orchestrator.Result, error) {
	opts, to, err := m.options(s, resumed)
	if err != nil {
		return orchestrator.Result{}, err
	}
	opts.Stop, opts.Approve, to.notify.cluster = w.stop, m.approver(), m.Name
	if w.recall { // no other Pod may follow this one
		opts.Stop, opts.Observe = untilChange(w.stop, resumed != "" &&
			run.Read(opts.StateDir, resumed).State.Begun(), opts.Observe)
	}
	next := opts.Observe
	opts.Observe = func(e orchestrator.Event) {
		if next != nil {
			next(e)
		}
		if e.Kind == orchestrator.EventBegin { // nothing has been changed yet
			w.note(func() { m.at.Run, m.at.StateDir = e.Run, filepath.Dir(filepath.Dir(e.Message)) })
		}
	}
	return to.carried(ctx, s, opts,
		func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
			if resumed != "" {
				return o.Resume(ctx, resumed)
			}
			return o.Run(ctx)
		})
}

// untilChange returns a channel that is closed with stop, unless nodes are being changed by then: that is
// finished. changing is true if they are from the beginning. The function observes it, and calls next.
func untilChange(stop <-chan struct{}, changing bool, next func(orchestrator.Event)) (<-chan struct{},
	func(orchestrator.Event)) {
	before, changes := make(chan struct{}), make(chan struct{})
	var once sync.Once
	change := func() { once.Do(func() { close(changes) }) }
	if changing {
		change()
	}
	go func() {
		select {
		case <-changes:
			return
		case <-stop:
		}
		select {
		case <-changes:
		default:
			close(before)
		}
	}()
	return before, func(e orchestrator.Event) {
		if e.Kind == orchestrator.EventStepBegin && e.Step != nil && e.Step.Alters() {
			change()
		}
		if next != nil {
			next(e)
		}
	}
}

// lookBack asks a cluster whose window is closed for a run that an earlier Pod left: once begun, it is
// finished. While a window is open, that is asked when the work begins.
func (w *fleetWork) lookBack(ctx context.Context, s Streams, m *member) {
	id, err := m.continues()
	if m.at.State != report.FleetWaiting || m.Windows.Open(time.Now()) || id != "" || err != nil {
		return
	}
	_, err = w.recalled(ctx, s, m)
	w.note(func() {
		if m.left(*m.at); err != nil {
			m.ended(err) // it is asked again when its window opens
		}
	})
}

// recallWithin is how old the last line of a journal may be for "fleet work" to continue that run: an
// earlier Pod of the same Job wrote it, at most a window before.
const recallWithin = 24 * time.Hour

// clockSkew is how far the clock of the machine of an earlier Pod may be ahead of this one's.
const clockSkew = 10 * time.Minute

// podPatience is how long an earlier Pod's lock is waited for: until it is stale, if that Pod is dead.
const podPatience = run.StaleAfter + run.Heartbeat

// recalled is the newest run that the cluster's control planes keep, if it was stopped after its
// approval and not long ago; empty for none. Its record is here then.
func (w *fleetWork) recalled(ctx context.Context, s Streams, m *member) (string, error) {
	opts, _, err := m.options(s, "")
	if err != nil {
		return "", err
	}
	o, err := orchestrator.New(opts)
	if err != nil {
		return "", err
	}
	records, err := o.Recall(ctx, "")
	for until := time.Now().Add(podPatience); err == nil && running(records) && time.Now().Before(until); {
		newProgress(s).line("%s: run %s is at work, or its Pod was killed: waiting for its lock", m.Name, records[0].ID)
		select {
		case <-w.stop:
			return "", &orchestrator.Error{Code: orchestrator.ExitInterrupted, Summary: "interrupted"}
		case <-time.After(run.Heartbeat / 2):
			records, err = o.Recall(ctx, "")
		}
	}
	if err != nil {
		return "", err
	}
	id, err := leftByPod(records, time.Now())
	if id == "" || err != nil {
		return "", err
	}
	p, err := orchestrator.LoadRun(opts.StateDir, id)
	if err != nil {
		return "", err
	}
	if unlike := opts.Unlike(p.Request); len(unlike) > 0 { // no one has approved that
		return "", &orchestrator.Error{Code: orchestrator.ExitNotApproved,
			Summary: fmt.Sprintf("run %s was stopped on the cluster, and was begun with other options than these: %s",
				id, strings.Join(unlike, ", ")),
			Next: "nothing was changed now; see its plan and continue it: kscertctl resume " + id + " -i INVENTORY"}
	}
	w.note(func() { m.at.Run, m.at.StateDir, m.recalled = id, opts.StateDir, true })
	return id, nil
}

// running reports whether one of the runs seems to be at work.
func running(records []run.Record) bool {
	return slices.ContainsFunc(records, func(r run.Record) bool { return r.Running })
}

// leftByPod is the run that an earlier Pod left, of what control planes keep, the newest first; empty
// for none. The error is why it cannot be used.
func leftByPod(records []run.Record, now time.Time) (string, error) {
	for _, r := range records {
		if len(r.Entries) == 0 { // its copies cannot be read, or it only holds the lock
			age := now.Sub(run.Named(r.ID))
			fresh := age > -clockSkew && age < recallWithin
			if r.Err != nil && (fresh || orchestrator.Code(r.Err) == orchestrator.ExitLocked) {
				return "", r.Err
			}
			continue
		}
		age := now.Sub(r.Entries[len(r.Entries)-1].Time)
		switch {
		case age < -clockSkew: // no Pod wrote that
			continue
		case age > recallWithin, r.State.Kind == run.KindRollback, r.State.Ended == run.Done:
			return "", nil
		case r.Err != nil || !r.Resumable() || !r.State.Begun() && r.State.Ended != "":
			return "", r.Err
		}
		return r.ID, nil
	}
	return "", nil
}

// close ends the record with the exit code of the command.
func (w *fleetWork) close(code orchestrator.ExitCode) error {
	result := run.Done
	switch {
	case w.stopped():
		result = run.Interrupted
	case code != orchestrator.ExitDone:
		result = run.Failed
	}
	w.note(func() { w.doc.Status, w.doc.ExitCode = run.Status(result), int(code) })
	w.halt()
	err := errors.Join(w.lost, w.dir.Record(run.Entry{Event: run.End, Outcome: result}), w.dir.Close())
	if err != nil {
		return &orchestrator.Error{Code: orchestrator.ExitStopped,
			Summary: "the record of the fleet run could not be written: " + err.Error(), Err: err,
			Next: "check the disk that holds --state-dir, and each cluster: kscertctl runs list"}
	}
	return nil
}

func newFleetStatus(s Streams) *cobra.Command {
	var (
		flags   recordFlags
		cluster managementFlags
	)
	cmd := &cobra.Command{
		Use:   "status [FLEET-RUN]",
		Short: "Show the progress of a fleet run",
		Long: `status shows the progress of a fleet run, by default the newest, from its record on
this machine: which clusters are done, at work, waiting, held or failed, and their runs.
It connects to no node. "kscertctl status RUN" shows a run on one cluster.

With --kubeconfig or --context it shows what "fleet submit" has submitted to a
management cluster, from its Jobs and Pods.`,
		Example: `  kscertctl fleet status
  kscertctl fleet status 20260301T110000Z-abcdef -o json
  kscertctl fleet status --kubeconfig mgmt.conf --namespace monitoring`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			name := strings.Join(args, "")
			if cluster.named() {
				at, err := cluster.status(cmd.Context(), name)
				if err != nil {
					return err
				}
				return fleetOutput(s, flags.output, at.doc)
			}
			r, err := orchestrator.FindFleet(flags.state, name)
			if err != nil {
				return err
			}
			doc, err := readFleet(r)
			if err != nil {
				return err
			}
			return fleetOutput(s, flags.output, doc)
		},
	}
	flags.register(cmd)
	cluster.register(cmd)
	return cmd
}
