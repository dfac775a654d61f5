package diagnosis_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry" //nolint:depguard // what several rooms say is compared
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"   //nolint:depguard // likewise
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// leadsOn is what a refusal of a plan says to do.
var leadsOn = regexp.MustCompile(`--[a-z]{4}|etcdctl|systemctl|put the key back|have it issued`)

// In every situation of the tables check-expiration, the diagnosis and the plan say the
// same: what the one warns of the other has found, a certificate that is due and can be
// renewed has a step, and where all is called well no file is about to end. What is refused
// is told with a way that leads on.
func TestCheckDiagnosisAndPlanAgree(t *testing.T) {
	t.Parallel()
	agree := func(name string, of cluster.Cluster, edits []tc.Edit) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(of, edits...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			for _, row := range expiry.Of(s, expiry.DefaultThresholds()).Certificates {
				if row.Status == expiry.Unused && slices.Contains(d.Due[row.Node], row.Kind) {
					t.Errorf("%s on %s is due, and the check calls it unused", row.Name, row.Node)
				}
				disagree(t, s, d, row)
			}
			if f, found := d.Primary(); found && f.Next() == "" {
				t.Errorf("%s leads nowhere", f.Reason)
			}
			p, err := plan.Make(of, s, d, plan.Policy{})
			if err != nil {
				if !leadsOn.MatchString(err.Error()) {
					t.Errorf("it is refused, and no way is named: %v", err)
				}
				return
			}
			works := d.Route == diagnosis.Renew || d.Route == diagnosis.Recover
			if works != (len(p.Steps) > 0) {
				t.Errorf("the route is %s, and the plan has %d steps", d.Route, len(p.Steps))
			}
			for node, kinds := range d.Due {
				if works && !slices.ContainsFunc(p.Steps, func(step plan.Step) bool {
					return step.Changes && step.Action != plan.Backup && slices.Contains(step.Nodes, node)
				}) {
					t.Errorf("%v are due on %s, and no step is there", kinds, node)
				}
			}
		})
	}
	for _, row := range situations() {
		agree(row.name, row.of, row.edits)
	}
	for _, row := range allFaults() {
		agree(row.name, row.of, row.edits)
	}
}

// disagree reports where a row of the check and the diagnosis do not say the same.
func disagree(t *testing.T, s snapshot.Snapshot, d diagnosis.Diagnosis, row expiry.Row) {
	t.Helper()
	kind, known := certs.Lookup(row.Kind)
	if !known || row.Served {
		return
	}
	n, _ := s.Node(row.Node)
	found := slices.ContainsFunc(d.Findings, func(f diagnosis.Finding) bool {
		return f.Node == n.Name && (f.Subject == row.Label() || f.Subject == row.Path)
	})
	due := slices.Contains(d.Due[n.Name], row.Kind)
	bad := row.Status.Level() > expiry.LevelOK
	switch {
	case bad && !found:
		t.Errorf("%s on %s is %s, and nothing was found", row.Name, n.Name, row.Status)
	case bad && !kind.CA && !n.Copies(kind) && strings.HasPrefix(d.Verdict, "healthy: every certificate"):
		t.Errorf("%s on %s is %s, and the verdict is %q", row.Name, n.Name, row.Status, d.Verdict)
	case due && !bad && !strings.Contains(kind.Path, "*"): // of which there may be several
		t.Errorf("%s on %s is due, and the check calls it valid", row.Name, n.Name)
	case bad && !due && !kind.CA && !n.Copies(kind) && !kind.Approved &&
		!d.Has(diagnosis.ClockSkew, diagnosis.CertificateNotYetValid):
		t.Errorf("%s on %s is %s, and not due", row.Name, n.Name, row.Status)
	}
}
