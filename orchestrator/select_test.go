package orchestrator

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// A partial plan is made, saved, read back, carried out and recorded as partial.
func TestApplyAPartOfAPlan(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 24*time.Hour, 0)
	part := func(o *Options) {
		o.Limit, o.UntilPhase, o.SkipPhases, o.Approve = []string{"kube_control_plane"}, "renew-certs", []plan.Phase{"cluster", "api-server"}, yes
	}
	o := fakeOrchestrator(t, bin, part)
	p, err := o.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	if _, err := run.WriteProposal(file, p); err != nil {
		t.Fatal(err)
	}
	if p, err = run.ReadProposal(file); err != nil {
		t.Fatal(err)
	}
	again := Options{StateDir: o.opts.StateDir, Ansible: ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin}}
	if err := again.Follow(p.Request); err != nil {
		t.Fatal(err)
	}
	if o, err = New(again); err != nil {
		t.Fatal(err)
	}
	r, err := o.Apply(t.Context(), p)
	if err != nil || len(r.Plan.Steps) != 2 || len(r.Plan.Warnings) != 2 {
		t.Errorf("%v: %+v", err, r.Plan)
	}
	if got := ranPlaybooks(ran); !slices.Equal(got, []string{"backup.yml", "renew-certs.yml"}) {
		t.Errorf("playbooks were run: %v", got)
	}
	kept, err := run.LoadProposal(again.StateDir, r.RunID)
	if err != nil || kept.Request.UntilPhase != "renew-certs" || !slices.Equal(kept.Request.Limit, []string{"kube_control_plane"}) || len(kept.Request.SkipPhases) != 2 {
		t.Errorf("%v: %+v", err, kept.Request)
	}
}

// An unknown node is refused before any node is contacted.
func TestLimitIsCheckedFirst(t *testing.T) {
	t.Parallel()
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	r, _, err := fakeRun(t, bin, func(o *Options) { o.Limit = []string{"cp9"} })
	if Code(err) != ExitUsage || !strings.HasPrefix(err.Error(), "--limit cp9: ") || len(r.Snapshot.Nodes) > 0 {
		t.Errorf("%v: %+v", err, r)
	}
}

// Only kubelets get new certificates, in the requested batches.
func TestSerial(t *testing.T) {
	t.Parallel()
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	if err := testcommand.Write(filepath.Join(bin, "hook"), "#!/bin/sh\necho \"$*\" >>\"${0%/*}/stated\"\n"); err != nil {
		t.Fatal(err)
	}
	o := fakeOrchestrator(t, bin, func(o *Options) { o.Serial = "20%" })
	s, err := o.begin(t.Context(), run.Entry{Kind: run.KindLook})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, action := range []plan.Action{plan.Renew, plan.KubeletBootstrap} {
		if err := s.play(t.Context(), plan.Step{ID: string(action), Action: action, Nodes: []string{"cp1"}}, work{}); err != nil {
			t.Fatal(err)
		}
	}
	stated, err := os.ReadFile(filepath.Join(bin, "stated"))
	if err != nil {
		t.Fatal(err)
	}
	var serial []string
	for line := range strings.Lines(string(stated)) {
		if strings.Contains(line, `"kscert_serial":"20%"`) {
			serial = append(serial, strings.Fields(line)[0])
		}
	}
	if !slices.Equal(serial, []string{"kubelet-bootstrap.yml"}) {
		t.Errorf("batch sizes for %q:\n%s", serial, stated)
	}
}

// A gate that has to hold for a while is checked again until then, before the run continues.
func TestStableFor(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	cluster := fakeansible.NewCluster(t)
	cluster.Well = true
	fakeansible.Write(t, bin, fakeansible.Node(t, cluster, 24*time.Hour), 0)
	var seen []string
	r, err := fakeOrchestrator(t, bin, func(o *Options) {
		o.StableFor, o.SkipPhases, o.Approve = time.Second, []plan.Phase{"cluster"}, yes
		o.Observe = func(e Event) {
			if e.Kind != EventGate {
				return
			}
			text := "holds"
			if len(e.Unmet) > 0 {
				text = e.Unmet[0].String()
			}
			seen = append(seen, text)
		}
	}).Run(t.Context())
	if want := []string{"the gate must hold without interruption (holds, for 0 s of 1 s)", "holds"}; err != nil || !slices.Equal(seen, want) {
		t.Errorf("%v: %q, want %q", err, seen, want)
	}
	if last := r.Plan.Steps[len(r.Plan.Steps)-1]; last.Gate != plan.APIServerGate {
		t.Errorf("the plan is %+v", r.Plan)
	}
}

// Of two gates in a row, the second uses the snapshot of the first, unless something may have
// changed in between, or it has to hold for a while.
func TestTwoGatesLookOnce(t *testing.T) {
	t.Parallel()
	const before = 2 // inspections: for the plan, and with the lock
	for _, row := range []struct {
		name  string
		edit  func(*Options)
		looks int
	}{
		{"nothing happens in between", func(*Options) {}, before + 1},
		{"a caller's own step may change something", func(o *Options) {
			o.Hooks = []Hook{{Name: "all", Before: func(context.Context, plan.Step) error { return nil }}}
		}, before + 2},
		{"each has to hold for a while", func(o *Options) { o.StableFor = time.Millisecond }, before + 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newRefreshCluster(t)
			c.renews(t)
			opts := c.options()
			row.edit(&opts)
			r, err := c.run(t, opts)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(r.Plan.Steps); n != 4 || r.Plan.Steps[n-2].Gate == "" || r.Plan.Steps[n-1].Gate == "" {
				t.Fatalf("the plan does not end with two gates: %+v", r.Plan.Steps)
			}
			looks, err := filepath.Glob(filepath.Join(r.Dir, "snapshots", "*.json"))
			if err != nil || len(looks) != row.looks || r.After.Route != diagnosis.None {
				t.Errorf("%d inspections, want %d: %v; finally %s", len(looks), row.looks, err, r.After.Verdict)
			}
		})
	}
}
