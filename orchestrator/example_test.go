package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A complete run without supervision, which does nothing unless certificates are the only problem.
func Example() {
	o, err := orchestrator.New(
		orchestrator.WithInventory("../inventory-examples/single.ini"),
		orchestrator.WithApproval(func(_ context.Context, p orchestrator.Proposal) (bool, error) {
			fmt.Println("is:", p.Diagnosis.Verdict)
			return p.Diagnosis.Route == diagnosis.Renew, nil
		}),
		orchestrator.WithRollbackOnFailure(),
	)
	if err != nil {
		log.Fatal(err)
	}
	result, err := o.Run(context.Background())
	switch orchestrator.Code(err) {
	case orchestrator.ExitDone:
		fmt.Println("is now:", result.After.Verdict)
	case orchestrator.ExitNotApproved:
		fmt.Println("a human has to look:", result.Before.Verdict)
	default:
		log.Fatal(err)
	}
	// Output:
	// is: healthy, but 1 certificate is about to expire
	// is now: healthy: every certificate on 1 node is valid, every API server answers
}

// An inspection changes nothing on any node, and needs no approval.
func ExampleOrchestrator_Diagnose() {
	o, err := orchestrator.New(orchestrator.WithInventory("../inventory-examples/single.ini"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	_, d, err := o.Diagnose(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Route, "-", d.Verdict)
	for _, f := range d.Findings {
		fmt.Println(f.Node, f.Reason)
	}
	// Output:
	// renew - healthy, but 1 certificate is about to expire
	// cp1 certificate-expiring
}

// Several clusters at the same time, in one process: an Orchestrator for each.
func ExampleNew() {
	inventories := []string{"../inventory-examples/single.ini", "../inventory-examples/ha"}
	verdicts := make([]string, len(inventories))
	var looking sync.WaitGroup
	for i, inventory := range inventories {
		looking.Go(func() {
			o, err := orchestrator.New(
				orchestrator.WithInventory(inventory),
				orchestrator.WithAnsible(ansible.Options{User: "ubuntu", Forks: 20}),
			)
			if err == nil {
				var d diagnosis.Diagnosis
				_, d, err = o.Diagnose(context.Background())
				verdicts[i] = d.Verdict
			}
			if err != nil {
				verdicts[i] = err.Error()
			}
		})
	}
	looking.Wait()
	for i, inventory := range inventories {
		fmt.Println(filepath.Base(inventory)+":", verdicts[i])
	}
	// Output:
	// single.ini: healthy, but 1 certificate is about to expire
	// ha: healthy, but 1 certificate is about to expire
}

// A saved snapshot of a cluster can be checked later, elsewhere, and without any node.
func ExamplePlanFrom() {
	snap, err := snapshot.Load("testdata/due.json") // from kscertctl diagnose --save-snapshot
	if err != nil {
		log.Fatal(err)
	}
	p, err := orchestrator.PlanFrom(snap, diagnosis.DefaultThresholds(), plan.Policy{Choice: plan.Auto})
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

// Events are reported as they happen: here every step, and every gate that does not hold yet.
func ExampleWithObserver() {
	o, err := orchestrator.New(
		orchestrator.WithInventory("../inventory-examples/single.ini"),
		orchestrator.WithApproval(yes),
		orchestrator.WithObserver(func(e orchestrator.Event) {
			switch e.Kind { //nolint:exhaustive // there are more
			case orchestrator.EventStepBegin:
				fmt.Println("begins:", e.Step.ID)
			case orchestrator.EventGate:
				for _, u := range e.Unmet {
					fmt.Println(e.Step.ID, "waits for", u)
				}
			case orchestrator.EventEnd:
				fmt.Println("ends:", e.Status)
			}
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := o.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// begins: 01-backup-cp1
	// begins: 02-renew-certs-cp1
	// begins: 03-gate-api-server-cp1
	// begins: 04-gate-cluster-cp1
	// ends: done
}

// A custom gate: after each control plane the shop must still sell, or the run stops.
func ExampleHook_gate() {
	shop := httptest.NewServer(http.NotFoundHandler())
	defer shop.Close()
	o, err := orchestrator.New(
		orchestrator.WithInventory("../inventory-examples/single.ini"),
		orchestrator.WithApproval(yes),
		orchestrator.WithHooks(orchestrator.Hook{
			Name:  "the shop sells",
			Steps: func(s plan.Step) bool { return s.Gate == plan.APIServerGate },
			After: func(ctx context.Context, _ plan.Step) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, shop.URL, nil)
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
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	_, err = o.Run(context.Background())
	fmt.Println(err)
	fmt.Println("can be resumed or rolled back:", orchestrator.Code(err) == orchestrator.ExitStopped)
	// Output:
	// step 03-gate-api-server-cp1 stopped: the shop sells, after the step: 404 Not Found
	// can be resumed or rolled back: true
}

// A custom step, around a step that is selected by its action: silence the alerts, and enable them
// again afterwards.
func ExampleHook_step() {
	o, err := orchestrator.New(
		orchestrator.WithInventory("../inventory-examples/single.ini"),
		orchestrator.WithApproval(yes),
		orchestrator.WithHooks(orchestrator.Hook{
			Name:  "alerts",
			Steps: func(s plan.Step) bool { return s.Action == plan.PrePhase || s.Action == plan.Renew },
			Before: func(_ context.Context, s plan.Step) error {
				fmt.Println("silence", s.Nodes)
				return nil
			},
			After: func(_ context.Context, s plan.Step) error {
				fmt.Println("speak again", s.Nodes)
				return nil
			},
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := o.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// silence [cp1]
	// speak again [cp1]
}

// yes approves everything.
func yes(context.Context, orchestrator.Proposal) (bool, error) { return true, nil }

// Errors have what happened, the evidence and what to do next, and carry the exit code of the
// command line.
func ExampleError() {
	_, err := orchestrator.New(orchestrator.WithInventory("missing.ini"))
	if e, ok := errors.AsType[*orchestrator.Error](err); ok {
		fmt.Println(int(e.Code), e.Summary)
		fmt.Println("next:", e.Next)
	}
	// Output:
	// 64 inventory missing.ini: it does not exist
	// next: name an existing inventory with -i, and check it with: ansible-inventory -i INVENTORY --graph
}
