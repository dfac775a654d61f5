// Command library uses kscertctl as a Go library: it inspects several clusters at the same
// time and prints, one JSON object per line, which certificate of each expires first.
//
//	go run . production/inventory.ini staging/inventory.ini
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// answer is the output for one cluster.
type answer struct {
	Inventory string    `json:"inventory"`
	Status    string    `json:"status,omitempty"`
	Node      string    `json:"node,omitempty"`
	Name      string    `json:"name,omitempty"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	Unknown   int       `json:"unknown,omitempty"`
	Error     string    `json:"error,omitempty"`
	Next      string    `json:"next,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run returns the highest of the clusters' exit codes.
func run(ctx context.Context, inventories []string) int {
	answers := make([]answer, len(inventories))
	codes := make([]int, len(inventories))
	var looking sync.WaitGroup
	for i, inventory := range inventories {
		looking.Go(func() {
			var err error
			answers[i], err = first(ctx, inventory)
			codes[i] = int(orchestrator.Code(err))
		})
	}
	looking.Wait()
	worst := 0
	for i, a := range answers {
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		worst = max(worst, codes[i])
	}
	return worst
}

// first returns the certificate of a cluster that expires first.
func first(ctx context.Context, inventory string) (answer, error) {
	a := answer{Inventory: inventory}
	o, err := orchestrator.New(orchestrator.WithInventory(inventory))
	if err != nil {
		return a.failed(err), err
	}
	snap, err := o.Inspect(ctx)
	if err != nil {
		return a.failed(err), err
	}
	r := expiry.Of(snap, expiry.DefaultThresholds())
	a.Status, a.Unknown = string(r.Status), len(r.Unknown())
	if len(r.Certificates) > 0 {
		c := r.Certificates[0]
		a.Node, a.Name, a.NotAfter = c.Node, c.Name, c.NotAfter
	}
	return a, nil
}

func (a answer) failed(err error) answer {
	a.Error = err.Error()
	if e := (*orchestrator.Error)(nil); errors.As(err, &e) {
		a.Next = e.Next
	}
	return a
}
