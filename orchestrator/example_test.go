package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The whole of it: a run that nobody has to watch, but that leaves alone what is not
// a matter of certificates alone.
func Example() {
	o, err := orchestrator.New(orchestrator.Options{
		Ansible: ansible.Options{Inventories: []string{"inventory.ini"}},
		Approve: func(_ context.Context, p orchestrator.Proposal) (bool, error) {
			return p.Diagnosis.Route == diagnosis.Renew && len(p.Plan.Warnings) == 0, nil
		},
		RollbackOnFailure: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	result, err := o.Run(context.Background())
	switch orchestrator.Code(err) {
	case orchestrator.ExitDone:
		fmt.Println(result.After.Verdict)
	case orchestrator.ExitNotApproved:
		fmt.Println("a human has to look:", result.Before.Verdict)
	default:
		log.Fatal(err)
	}
}

// Looking changes nothing on any node, and needs nobody's approval.
func ExampleOrchestrator_Diagnose() {
	o, err := orchestrator.New(orchestrator.Options{Ansible: ansible.Options{Inventories: []string{"inventory.ini"}}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	_, d, err := o.Diagnose(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range d.Findings {
		fmt.Println(f.Node, f.Reason, f.Evidence)
	}
}

// What was seen of a cluster can be judged later, elsewhere, and without any node.
func ExamplePlanFrom() {
	snap, err := snapshot.Load("testdata/due.json") // from kscertctl diagnose --save-snapshot
	if err != nil {
		log.Fatal(err)
	}
	p, err := orchestrator.PlanFrom(snap, diagnosis.DefaultThresholds(), plan.Auto)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Diagnosis.Verdict)
	for _, step := range p.Plan.Steps {
		fmt.Println(step.ID, step.Nodes)
	}
	// Output:
	// healthy, but 1 certificate is about to expire
	// 01-backup-cp1 [cp1]
	// 02-renew-certs-cp1 [cp1]
	// 03-gate-api-server-cp1 [cp1]
	// 04-gate-cluster [cp1 w1]
}

// What happens is told as it happens: here every step and every gate that does not
// hold yet.
func ExampleEvent() {
	_, _ = orchestrator.New(orchestrator.Options{
		Ansible: ansible.Options{Inventories: []string{"inventory.ini"}},
		Observe: func(e orchestrator.Event) {
			switch e.Kind { //nolint:exhaustive // there are more
			case orchestrator.EventStepBegin:
				log.Println(e.Step.Title)
			case orchestrator.EventGate:
				for _, u := range e.Unmet {
					log.Println(e.Step.ID, "waits for", u)
				}
			case orchestrator.EventTask:
				log.Println(e.Node, e.Task, e.Status)
			}
		},
	})
}

// A gate of one's own: after each control plane the shop must still sell, or nothing
// more is touched.
func ExampleHook_gate() {
	shop := orchestrator.Hook{
		Name:  "the shop sells",
		Steps: func(s plan.Step) bool { return s.Gate == plan.APIServerGate },
		After: func(ctx context.Context, _ plan.Step) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://shop.example.com/healthz", nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			if err := res.Body.Close(); err != nil {
				return err
			}
			if res.StatusCode != http.StatusOK {
				return errors.New(res.Status)
			}
			return nil
		},
	}
	_, _ = orchestrator.New(orchestrator.Options{
		Ansible: ansible.Options{Inventories: []string{"inventory.ini"}},
		Hooks:   []orchestrator.Hook{shop},
	})
}

// A step of one's own, before a step that is named by what it does: silence the
// alerts, and let them speak again afterwards.
func ExampleHook_step() {
	renewal := func(s plan.Step) bool { return s.Action == plan.PrePhase || s.Action == plan.Renew }
	_, _ = orchestrator.New(orchestrator.Options{
		Ansible: ansible.Options{Inventories: []string{"inventory.ini"}},
		Hooks: []orchestrator.Hook{{
			Name: "silence", Steps: renewal,
			Before: func(context.Context, plan.Step) error { return os.WriteFile("/run/silence", nil, 0o600) },
			After:  func(context.Context, plan.Step) error { return os.Remove("/run/silence") },
		}},
	})
}

// Errors say what happened, what was seen and what to do next, and carry the exit code
// of the command line.
func ExampleError() {
	_, err := orchestrator.New(orchestrator.Options{Ansible: ansible.Options{Inventories: []string{"missing.ini"}}})
	if e, ok := errors.AsType[*orchestrator.Error](err); ok {
		fmt.Println(int(e.Code), e.Summary)
		fmt.Println("next:", e.Next)
	}
	// Output:
	// 64 inventory missing.ini: it does not exist
	// next: name an existing inventory with -i, and check it with: ansible-inventory -i INVENTORY --graph
}
