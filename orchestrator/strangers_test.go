package orchestrator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// A control plane that the API knows and the inventory does not stops the work on the others, also
// if it is noticed only when the plan is carried out; if it is named as allowed, it does not. The
// name is kept with the plan, and has to be given again with its file.
func TestNotInInventory(t *testing.T) {
	t.Parallel()
	in := fakeansible.NewCluster(t)
	alone := fakeansible.Node(t, in, 24*time.Hour)
	known := "|cp1\tTrue\tv1.34.4\tcontainerd://1.7.27\n"
	joined := strings.Replace(alone, known, known+"|cp9\tTrue\tv1.34.4\tcontainerd://1.7.27\tcontrol-plane \t10.0.0.9 cp9 \n", 1)
	part := func(allowed ...string) func(*Options) {
		return func(o *Options) {
			o.UntilPhase, o.SkipPhases, o.Approve = "renew-certs", []plan.Phase{"api-server", "cluster"}, yes
			o.AllowNotInInventory = allowed
		}
	}
	const says = "not in the inventory: cp9 (control plane) (the API server on cp1 lists the node cp9 (control-plane, 10.0.0.9, cp9))"
	for _, row := range []struct {
		name                  string
		before, now           string // what is found when the plan is made, and when it is carried out
		planned, allowed      []string
		planRefused, refusing bool
		unheard               bool // a plan file is not believed about it
	}{
		{name: "no one else", before: alone, now: alone},
		{name: "known from the beginning", before: joined, planRefused: true},
		{name: "another one is allowed", before: joined, planned: []string{"cp8"}, planRefused: true},
		{name: "allowed, which is to be answered again", before: joined, now: joined, planned: []string{"cp9"}, unheard: true},
		{name: "allowed both times", before: joined, now: joined, planned: []string{"cp9"}, allowed: []string{"cp9"}},
		{name: "joined since", before: alone, now: joined, refusing: true},
		{name: "joined since, and allowed", before: alone, now: joined, allowed: []string{"cp9"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			ran := fakeansible.Write(t, bin, row.before, 0)
			o := fakeOrchestrator(t, bin, part(row.planned...))
			p, err := o.Plan(t.Context())
			if row.planRefused {
				if Code(err) != ExitNotBegun || !strings.HasPrefix(err.Error(), says) {
					t.Errorf("%d: %v", Code(err), err)
				}
				return
			}
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
			if err := os.WriteFile(filepath.Join(bin, "inspect.yml"), []byte(fakeansible.Says(t, row.now)), 0o600); err != nil {
				t.Fatal(err)
			}
			again := Options{StateDir: o.opts.StateDir, Ansible: ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin}, AllowNotInInventory: row.allowed}
			if err := again.Follow(p.Request); err != nil {
				if Code(err) != ExitUsage || !strings.Contains(err.Error(), "--allow-not-in-inventory") || !row.unheard {
					t.Errorf("%d: %v", Code(err), err)
				}
				return
			}
			if o, err = New(again); err != nil {
				t.Fatal(err)
			}
			_, err = o.Apply(t.Context(), p)
			if row.refusing {
				if Code(err) != ExitNotBegun || !strings.Contains(err.Error(), says) || len(ranPlaybooks(ran)) > 0 {
					t.Errorf("%d: %v; %q was run", Code(err), err, ranPlaybooks(ran))
				}
				return
			}
			if got := ranPlaybooks(ran); err != nil || !slices.Equal(got, []string{"backup.yml", "renew-certs.yml"}) {
				t.Errorf("%v: %q was run", err, got)
			}
		})
	}
}
