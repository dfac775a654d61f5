//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/fault"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

// diagnosed is the part of diagnose -o json that these tests read.
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

// TestDiagnose injects one fault after the other on real clusters. Each gets its own reason
// code first, only its consequences are found in addition, and the diagnosis changes nothing.
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
		if err := f.Fix(ctx, c); err != nil {
			t.Fatal(err)
		}
		wantHealthy(ctx, t, c)
	}()
	if err := f.Make(ctx, c); err != nil {
		t.Fatal(err)
	}
	before := machineDigest(ctx, t, c)
	d, saved := diagnoseSettled(ctx, t, c, s)
	if diff := before.Diff(machineDigest(ctx, t, c)); len(diff) > 0 {
		t.Errorf("the diagnosis changed files:\n%s", strings.Join(diff, "\n"))
	}
	t.Logf("route %s: %s", d.Route, d.Verdict)
	if d.Primary != s.primary {
		t.Errorf("the first reason is %q, want %s", d.Primary, s.primary)
	}
	located := false
	for _, found := range d.Findings {
		t.Logf("%s", found)
		switch {
		case found.Reason == s.primary && found.Node == cmp.Or(s.on, f.Node) && (s.subject == "" || found.Subject == s.subject):
			located = true
		case !slices.Contains(s.also, found.Reason):
			t.Errorf("a false alarm: %s", found)
		}
	}
	if !located {
		t.Errorf("%s is not reported for %s %s", s.primary, cmp.Or(s.on, f.Node), s.subject)
	}
	wantAgreement(ctx, t, d, saved)
}

// diagnoseSettled diagnoses, and again while a pod that leads is not Ready, although the fault
// does not cause that: on a slow machine, or after the last fault, it may have lost its lease and
// restarted. It returns the diagnosis and the file of its snapshot.
func diagnoseSettled(ctx context.Context, t *testing.T, c *cluster.Cluster, s state) (d diagnosed, saved string) {
	t.Helper()
	const unready = "static-pod-not-ready"
	_ = cluster.Poll(ctx, time.Minute, 3*time.Second, "pods that lead", func(ctx context.Context) error {
		saved = filepath.Join(t.TempDir(), "snapshot.json")
		d = diagnose(ctx, t, c, "--save-snapshot", saved)
		for _, found := range d.Findings {
			leads := found.Subject == "kube-scheduler" || found.Subject == "kube-controller-manager"
			if found.Reason == unready && leads && s.primary != unready && !slices.Contains(s.also, unready) {
				t.Logf("once more: %s", found)
				return errors.New(found.String())
			}
		}
		return nil
	})
	return d, saved
}

// leadsOn matches a command to type.
var leadsOn = regexp.MustCompile(`--[a-z]{4}|\b(kscertctl|kubectl|kubeadm|etcdctl|crictl|systemctl|journalctl|timedatectl|getent|openssl|ansible(?:-\w+)?|nft|ss|du|find|sha256sum) `)

// wantAgreement fails the test if check-expiration or plan, for the diagnosed snapshot,
// contradict the diagnosis, or if the plan is refused without a command to type next.
func wantAgreement(ctx context.Context, t *testing.T, d diagnosed, saved string) {
	t.Helper()
	o := kscertctl(ctx, t, "plan", "--from-snapshot", saved, "-o", "json")
	works := slices.Contains([]string{"renew", "recover", "new-ca"}, d.Route)
	if o.code != 0 {
		if !leadsOn.MatchString(o.stderr) {
			t.Errorf("the plan is refused without a command to type next:\n%s", o.stderr)
		}
	} else {
		var p struct {
			Plan struct{ Steps []struct{ ID string } }
		}
		if err := json.Unmarshal([]byte(o.stdout), &p); err != nil {
			t.Fatalf("%v:\n%s", err, o.stdout)
		}
		if works != (len(p.Plan.Steps) > 0) {
			t.Errorf("the route is %s, and the plan has %d steps", d.Route, len(p.Plan.Steps))
		}
	}
	if refused := d.Route == "refuse"; refused && o.code == 0 {
		t.Error("the diagnosis refuses, and the plan does not")
	}
	o = kscertctl(ctx, t, "check-expiration", "--from-snapshot", saved, "-o", "json")
	var all checked
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil {
		t.Fatalf("%v:\n%s", err, o.stdout)
	}
	for _, cert := range all.Certificates {
		found := slices.ContainsFunc(d.Findings, func(f finding) bool { return f.Node == cert.Node })
		if !cert.Served && cert.Status != "valid" && !found {
			t.Errorf("check-expiration reports %s on %s as %s, but diagnose finds nothing there", cert.Name, cert.Node, cert.Status)
		}
	}
}

// wantHealthy fails the test unless there are soon no findings.
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

func diagnose(ctx context.Context, t *testing.T, c *cluster.Cluster, more ...string) diagnosed {
	t.Helper()
	o := kscertctl(ctx, t, append([]string{"diagnose", "-i", c.Inventory(), "-o", "json"}, more...)...)
	var d diagnosed
	if err := json.Unmarshal([]byte(o.stdout), &d); err != nil {
		t.Fatalf("diagnose exited with %d and wrote no JSON: %v\n%s\n%s", o.code, err, o.stdout, o.stderr)
	}
	want := 0
	unknown := []string{"node-unreachable", "privilege-missing", "inspection-failed"}
	if slices.ContainsFunc(d.Findings, func(f finding) bool { return slices.Contains(unknown, f.Reason) }) {
		want = 4
	}
	if o.code != want {
		t.Errorf("diagnose exited with %d, want %d\n%s", o.code, want, o.stderr)
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
		t.Fatalf("only %d files are in the digest: the digest is broken", len(d))
	}
	return d
}
