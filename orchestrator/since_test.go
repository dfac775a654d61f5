package orchestrator

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A rollback lists what others changed since the run before it reverts that, and refuses an
// approval that was given before.
func TestRollbackNamesWhatOthersChanged(t *testing.T) {
	t.Parallel()
	in := fakeansible.NewCluster(t)
	node := fakeansible.Node(t, in, 24*time.Hour)
	const manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	with := func(content string) string {
		if content == "" {
			return node
		}
		return strings.Replace(node, "@@FACT manifest", fmt.Sprintf("@@WATCH %064s %s\n@@FACT manifest", content, manifest), 1)
	}
	for _, row := range []struct {
		name             string
		before, run, now string // the manifest's content
		fails            bool   // the run stops within a step
		want             string // changes by others
		unknown          bool
	}{
		{name: "nothing", before: "1", run: "1", now: "1"},
		{name: "changed by the run", before: "1", run: "2", now: "2"},
		{name: "restored", before: "1", run: "2", now: "1"},
		{name: "not changed by the run", before: "1", run: "1", now: "3", want: "has changed"},
		{name: "also changed by the run", before: "1", run: "2", now: "3", want: "has changed"},
		{name: "new", now: "3", want: "has appeared"},
		{name: "removed", before: "1", run: "1", want: "is gone"},
		{name: "after an interrupted run", before: "1", run: "1", now: "3", fails: true, unknown: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			fakeansible.Write(t, bin, with(row.before), 0)
			hook := "#!/bin/sh\ncase $1 in renew-certs.yml) cp \"${0%/*}/left\" \"${0%/*}/inspect.yml\" ;; esac\n"
			if row.fails {
				hook = "#!/bin/sh\n[ \"$1\" != renew-certs.yml ]\n"
			}
			write := func(name, text string) {
				if err := testcommand.Write(filepath.Join(bin, name), text); err != nil {
					t.Fatal(err)
				}
			}
			write("left", fakeansible.Says(t, with(row.run)))
			write("hook", hook)
			o := fakeOrchestrator(t, bin, func(o *Options) {
				o.UntilPhase, o.SkipPhases, o.Approve = "renew-certs", []plan.Phase{"api-server", "cluster"}, yes
			})
			r, err := o.Run(t.Context())
			if (err != nil) != row.fails {
				t.Fatal(err)
			}
			write("inspect.yml", fakeansible.Says(t, with(row.now)))
			var asked Proposal
			o.opts.Approve = func(_ context.Context, p Proposal) (bool, error) {
				asked = p
				return false, p.Unseen()
			}
			_, err = o.Rollback(t.Context(), r.RunID, nil)
			if Code(err) != ExitNotApproved || len(asked.Plan.Steps) == 0 {
				t.Fatalf("%v: %+v", err, asked.Plan)
			}
			want, warning := "", ""
			if row.want != "" {
				want = "cp1: " + manifest + " " + row.want
				warning = "cp1: changed by others since run " + r.RunID + ", and reverted: " + manifest + " " + row.want
			}
			var got []string
			for _, d := range asked.TakenBack {
				got = append(got, d.String())
			}
			warnings := strings.Join(asked.Plan.Warnings, "\n")
			if strings.Join(got, "\n") != want || !strings.Contains(warnings, warning) || strings.Contains(err.Error(), manifest) != (want != "") {
				t.Errorf("%q, want %q; warnings %q; %v", got, want, warnings, err)
			}
			if unknown := strings.Contains(strings.Join(asked.Plan.Unknown, "\n"), "what others have changed since run"); unknown != row.unknown {
				t.Errorf("not known: %q", asked.Plan.Unknown)
			}
		})
	}
}

// The state after a run is the one between its last change and the end of that process: not
// before, and not during a later resume.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return tc.Now.Add(time.Duration(minute) * time.Minute) }
	p := plan.Plan{Steps: []plan.Step{{ID: "change", Changes: true, Nodes: []string{"cp1"}}, {ID: "gate", Nodes: []string{"cp1"}}}}
	entry := func(minute int, event run.EntryEvent, step string) run.Entry {
		return run.Entry{Time: at(minute), Event: event, Step: step, Nodes: []string{"cp1"}}
	}
	changed := []run.Entry{entry(0, run.Begin, ""), entry(2, run.Intent, "change"), entry(4, run.Outcome, "change")}
	ended := append(changed[:3:3], entry(6, run.Intent, "gate"), entry(8, run.Outcome, "gate"), entry(9, run.End, ""))
	resumed := append(ended[:6:6], entry(20, run.Begin, ""), entry(30, run.End, ""))
	for _, row := range []struct {
		name    string
		entries []run.Entry
		looks   []int // negative: of other nodes, while this one stays as it was seen before
		want    int   // time of the inspection; 0 for none
	}{
		{"the last before the end", ended, []int{1, 5, 7, 8}, 8},
		{"none after the change", ended, []int{1, 3}, 0},
		{"the last look at this node", ended, []int{1, 5, 6, -7, -8}, 6},
		{"no look at this node after the change", ended, []int{1, -5, -8}, 0},
		{"resumed later", resumed, []int{1, 7, 25}, 7},
		{"no inspection before a later resume", resumed, []int{1, 25}, 0},
		{"the driver was killed in the change", changed[:2], []int{1, 3}, 0},
		{"the driver was killed after it", changed, []int{1, 5}, 5},
		{"done again", append(resumed[:7:7], entry(22, run.Intent, "change"), entry(24, run.Outcome, "change"), entry(28, run.End, "")), []int{1, 7, 21, 26}, 26},
	} {
		h := run.History{Record: run.Record{Entries: row.entries}}
		for _, minute := range row.looks {
			s := tc.Healthy(tc.Single())
			if s.Taken, s.Nodes[0].Clock = at(minute), at(minute); minute < 0 {
				before := h.Snapshots[len(h.Snapshots)-1]
				s.Taken, s.Nodes[0] = at(-minute), before.Nodes[0]
				s.Nodes[0].Taken = before.Asked(s.Nodes[0])
			}
			h.Snapshots = append(h.Snapshots, s)
		}
		n, ok := leftBehind(h, p, "cp1")
		if ok != (row.want != 0) || ok && !n.Clock.Equal(at(row.want)) {
			t.Errorf("%s: %t, %s", row.name, ok, n.Clock)
		}
	}
}

// A kubelet replaces its certificates by itself, and backups do not contain everything that is
// inspected.
func TestSinceIsAboutTheBackup(t *testing.T) {
	t.Parallel()
	before := tc.Healthy(tc.Single())
	left, now := tc.Healthy(tc.Single(), tc.Later(time.Minute)), tc.Healthy(tc.Single(), tc.Later(time.Hour), tc.Everywhere(func(n *snapshot.Node) {
		n.Facts["kubelet-dir"] = tc.KubeletPKI
		n.Files = map[string]string{"/etc/etcd.env": "2", "/var/lib/kubelet/config.yaml": "2", "/srv/elsewhere.yaml": "2"}
	}), tc.On("cp1", tc.Renewed(certs.KindKubeletClient, certs.KindAdmin)))
	was := run.Proposal{Snapshot: before, Plan: plan.Plan{Steps: []plan.Step{{ID: "change", Changes: true}}}}
	h := run.History{Snapshots: []snapshot.Snapshot{left}}
	h.Entries = []run.Entry{{Time: tc.Now, Event: run.Outcome, Step: "change", Nodes: []string{"cp1", "w1"}}}
	changed, unknown := since(was, h, now, []string{"cp1"})
	got := strings.Join(takesBack("X", changed), "\n")
	want := "cp1: changed by others since run X, and reverted: /etc/etcd.env has appeared, /etc/kubernetes/admin.conf has changed, /var/lib/kubelet/config.yaml has appeared"
	if got != want || len(unknown) > 0 {
		t.Errorf("%q, want %q; %q", got, want, unknown)
	}
}
