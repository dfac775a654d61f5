//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/line"
)

// TestSlowLine recovers a cluster over lines of 150 ms that lose one segment of a hundred: nothing
// takes slowness for death. It logs how many round trips each step costs, one after another.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-line-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost})
	w := plant(ctx, t, c)
	expireAll(ctx, t, c, expire.Options{Restart: true})
	far := farAway(ctx, t, c, line.Line{RoundTrip: 150 * time.Millisecond, Loss: 0.01})

	o := kscertctl(ctx, t, "run", "-i", far.inventory, "--yes", "-o", "jsonl")
	o.want(t, 0)
	for _, risk := range []string{"the lock could not be renewed", "another run took the lock"} {
		if strings.Contains(o.stdout, risk) {
			t.Errorf("%s:\n%s", risk, o.stdout)
		}
	}
	if err := w.Verify(ctx); err != nil {
		t.Errorf("the witness is not content: %v", err)
	}
	for _, p := range parts(t, o.stdout) {
		t.Logf("%5.1f s, %3d round trips: %s", p.end.Sub(p.begin).Seconds(), far.most(p.begin, p.end), p.name)
	}
	t.Logf("recovered in %.1f s", o.took.Seconds())
	kscertctl(ctx, t, "check-expiration", "-i", far.inventory).want(t, 0)
}

// away is a cluster at the end of a line.
type away struct {
	// inventory has addresses on this machine, at which the lines begin.
	inventory string

	mu sync.Mutex
	// turns are the times at which a round trip began, for each node.
	turns map[string][]time.Time
}

// farAway puts a line between this machine and each node.
func farAway(ctx context.Context, t *testing.T, c *cluster.Cluster, l line.Line) *away {
	t.Helper()
	ini, err := os.ReadFile(c.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	text, out := string(ini), &away{turns: map[string][]time.Time{}}
	for _, n := range c.Nodes() {
		four := n.IP.As4()
		near := net.IPv4(127, 77, four[2], four[3]).String()
		from, err := net.Listen("tcp", near+":22")
		if err != nil {
			t.Fatal(err)
		}
		own := l
		own.Turn = func(at time.Time) {
			out.mu.Lock()
			defer out.mu.Unlock()
			out.turns[n.Name] = append(out.turns[n.Name], at)
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- own.Serve(ctx, from, n.IP.String()+":22") }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		there, here := "ansible_host="+n.IP.String()+" ", "ansible_host="+near+" "
		if strings.Count(text, there) != 1 {
			t.Fatalf("the inventory does not have %q once:\n%s", there, text)
		}
		text = strings.Replace(text, there, here, 1)
	}
	out.inventory = filepath.Join(t.TempDir(), "inventory.ini")
	if err := os.WriteFile(out.inventory, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// most is the number of round trips to the node that had most of them in that time.
func (a *away) most(begin, end time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := 0
	for _, turns := range a.turns {
		n := 0
		for _, at := range turns {
			if !at.Before(begin) && at.Before(end) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// part is a step of a run, or what is between two.
type part struct {
	name       string
	begin, end time.Time
}

// parts divides a run by its events.
func parts(t *testing.T, events string) (out []part) {
	t.Helper()
	for text := range strings.Lines(events) {
		var e struct {
			Time time.Time
			Kind string
			Step *struct{ ID string }
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if len(out) > 0 {
			out[len(out)-1].end = e.Time
		}
		switch e.Kind {
		case "begin", "inspected", "plan", "step-end":
			out = append(out, part{"after " + e.Kind, e.Time, e.Time})
		case "step-begin":
			out = append(out, part{e.Step.ID, e.Time, e.Time})
		}
	}
	return out
}
