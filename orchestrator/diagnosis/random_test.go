package diagnosis_test

import (
	"math/rand/v2"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// FuzzDiagnose combines situations and faults at random, and damages what is known about
// certificates: whatever the result, a change is only proposed when nothing forbids it and
// something is due, and every document is complete.
func FuzzDiagnose(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed, uint8(seed%7))
	}
	var edits []tc.Edit
	for _, row := range situations() {
		edits = append(edits, row.edits...)
	}
	for _, row := range allFaults() {
		edits = append(edits, row.edits...)
	}
	f.Fuzz(func(t *testing.T, seed uint64, count uint8) {
		r := rand.New(rand.NewPCG(seed, 1)) // the same snapshot for the same seed
		s := tc.Healthy([]cluster.Cluster{tc.Single(), tc.HA(), tc.ExternalEtcd()}[r.IntN(3)])
		for range count % 16 {
			attempt(&s, edits[r.IntN(len(edits))])
			damage(&s, r)
		}
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		primary, found := d.Primary()
		if found != (len(d.Findings) > 0) || primary.Reason != d.PrimaryReason || d.Verdict == "" {
			t.Fatalf("primary %+v (%t), %q in the document, verdict %q, of %d findings", primary, found, d.PrimaryReason, d.Verdict, len(d.Findings))
		}
		changes := d.Route == diagnosis.Renew || d.Route == diagnosis.Recover
		for _, finding := range d.Findings {
			if finding.Reason.Blocks() && changes {
				t.Errorf("route %s although %s forbids any change", d.Route, finding.Reason)
			}
			if finding.Title() == "" {
				t.Errorf("%q is no code of the table", finding.Reason)
			}
		}
		if changes && len(d.Due) == 0 && len(d.Stale) == 0 {
			t.Errorf("route %s, and nothing is due or stale", d.Route)
		}
		for _, n := range s.With(cluster.ControlPlane) {
			if d.Route == diagnosis.Renew && d.ControlPlanes[n.Name] != diagnosis.APIUsable {
				t.Errorf("route renew, and the API server of %s is %s", n.Name, d.ControlPlanes[n.Name])
			}
		}
	})
}

// attempt applies an edit that may not fit the cluster or what is left of it.
func attempt(s *snapshot.Snapshot, edit tc.Edit) {
	defer func() { _ = recover() }()
	edit(s)
}

// damage changes one certificate, as a broken node would.
func damage(s *snapshot.Snapshot, r *rand.Rand) {
	n := &s.Nodes[r.IntN(len(s.Nodes))]
	if len(n.Certificates) == 0 {
		return
	}
	c := &n.Certificates[r.IntN(len(n.Certificates))]
	switch r.IntN(8) {
	case 0:
		c.NotAfter = tc.Now.Add(time.Duration(r.Int64N(int64(800*tc.Day))) - 400*tc.Day)
	case 1:
		c.SignedBy = ""
	case 2:
		c.Kind = certs.Table()[r.IntN(len(certs.Table()))].Kind
	case 3:
		*c = certs.Certificate{}
	case 4:
		c.Served = !c.Served
	case 5:
		c.SANs = nil
	case 6:
		n.Facts, n.Digests = nil, nil
	default:
		n.Processes, n.Etcd, n.Kubeadm = nil, nil, nil
	}
}
