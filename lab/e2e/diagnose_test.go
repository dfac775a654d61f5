//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/fault"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

// diagnosed is what these tests read of diagnose -o json.
type diagnosed struct {
	Verdict  string    `json:"verdict"`
	Route    string    `json:"route"`
	Primary  string    `json:"primary"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Reason   string `json:"reason"`
	Node     string `json:"node"`
	Subject  string `json:"subject"`
	Evidence string `json:"evidence"`
	Because  string `json:"because"`
}

func (f finding) String() string {
	return fmt.Sprintf("%s (%s, %s) because of %q: %s", f.Reason, f.Node, f.Subject, f.Because, f.Evidence)
}

// TestDiagnose breaks one thing after the other on real clusters. Each gets its
// own reason code as the first one, nothing but its consequences is found beside
// it, and looking changes nothing.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	specs := map[string]cluster.Spec{
		"host-etcd":    {Name: "e2e-states-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost},
		"kubeadm-etcd": {Name: "e2e-states-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm},
		"three":        {Name: "e2e-states-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost},
	}
	for _, group := range states() {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 75*time.Minute)
			c := newCluster(ctx, t, specs[group.name])
			for _, s := range group.states {
				i := slices.IndexFunc(group.faults, func(f fault.Fault) bool { return f.Name == s.fault })
				part := "more"
				if s.sample {
					part = "sample"
				}
				t.Run(part+"/"+s.fault, func(t *testing.T) { diagnoses(ctx, t, c, group.faults[i], s) })
			}
		})
	}
}

func diagnoses(ctx context.Context, t *testing.T, c *cluster.Cluster, f fault.Fault, s state) {
	t.Helper()
	defer func() {
		if err := f.Mend(ctx, c); err != nil {
			t.Fatal(err)
		}
		wantHealthy(ctx, t, c)
	}()
	if err := f.Make(ctx, c); err != nil {
		t.Fatal(err)
	}
	before := machineDigest(ctx, t, c)
	d := diagnose(ctx, t, c)
	if diff := before.Diff(machineDigest(ctx, t, c)); len(diff) > 0 {
		t.Errorf("looking has changed something:\n%s", strings.Join(diff, "\n"))
	}
	t.Logf("route %s: %s", d.Route, d.Verdict)
	if d.Primary != s.primary {
		t.Errorf("the first reason is %q, want %s", d.Primary, s.primary)
	}
	located := false
	for _, found := range d.Findings {
		t.Logf("%s", found)
		switch {
		case found.Reason == s.primary && found.Node == f.Node && (s.subject == "" || found.Subject == s.subject):
			located = true
		case !slices.Contains(s.also, found.Reason):
			t.Errorf("a false alarm: %s", found)
		}
	}
	if !located {
		t.Errorf("%s is not said of %s %s", s.primary, f.Node, s.subject)
	}
}

// wantHealthy fails the test unless nothing at all is found, soon.
func wantHealthy(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	err := cluster.Poll(ctx, 2*time.Minute, 2*time.Second, "a healthy cluster", func(ctx context.Context) error {
		d := diagnose(ctx, t, c)
		if d.Route != "none" || len(d.Findings) > 0 {
			return fmt.Errorf("route %s, %v", d.Route, d.Findings)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func diagnose(ctx context.Context, t *testing.T, c *cluster.Cluster) diagnosed {
	t.Helper()
	o := kscertctl(ctx, t, "diagnose", "-i", c.Inventory(), "-o", "json")
	var d diagnosed
	if err := json.Unmarshal([]byte(o.stdout), &d); err != nil {
		t.Fatalf("diagnose ended with %d and wrote no JSON: %v\n%s\n%s", o.code, err, o.stdout, o.stderr)
	}
	want := 0
	unknown := []string{"node-unreachable", "privilege-missing", "inspection-failed"}
	if slices.ContainsFunc(d.Findings, func(f finding) bool { return slices.Contains(unknown, f.Reason) }) {
		want = 4
	}
	if o.code != want {
		t.Errorf("diagnose ended with %d, want %d\n%s", o.code, want, o.stderr)
	}
	return d
}

func machineDigest(ctx context.Context, t *testing.T, c *cluster.Cluster) witness.Digest {
	t.Helper()
	d, err := witness.MachineDigest(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(d) < 1000 {
		t.Fatalf("only %d files were described: the description itself is broken", len(d))
	}
	return d
}
