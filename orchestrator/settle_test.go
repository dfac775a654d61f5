package orchestrator

import (
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A state that may pass by itself is inspected again before a run is refused for it.
func TestStarting(t *testing.T) {
	t.Parallel()
	balancer := func(at snapshot.Stage) tc.Edit {
		return tc.On("w1", func(n *snapshot.Node) {
			n.Probes = []snapshot.Probe{{Endpoint: "localhost:8443", Failed: at, Error: "HTTP 500"}}
		})
	}
	down := func(kubeletSeconds, status int, says string) tc.Edit {
		return tc.On("cp1", tc.Unusable(status, says), func(n *snapshot.Node) {
			n.Units["kubelet"] = snapshot.Unit{Active: "active", Sub: "running", ActiveSeconds: kubeletSeconds}
		})
	}
	for name, row := range map[string]struct {
		edit tc.Edit
		want bool
	}{
		"an API server that is not ready":                      {tc.On("cp1", tc.Unusable(1, "Error from server (InternalError): readyz check failed")), true},
		"a load balancer before an API server that is unwell":  {balancer(snapshot.StageLivez), true},
		"a load balancer that leads nowhere":                   {balancer(snapshot.StageTCP), false},
		"no API server yet":                                    {down(60, 1, tc.SaysRefused), true},
		"no API server, and a kubelet that runs for an hour":   {down(3600, 1, tc.SaysRefused), false},
		"an API server without an answer yet":                  {down(60, 124, ""), true},
		"an API server that knows no administrator yet":        {down(60, 1, tc.SaysUnauthorized), true},
		"an API server that says what no one has heard before": {down(60, 1, "a riddle"), true},
		"an API server that knows no administrator":            {down(3600, 1, tc.SaysUnauthorized), false},
		"a node that cannot be reached":                        {tc.On("w1", tc.Unknown(snapshot.Unreachable, "gone")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), row.edit)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			if got := starting(s, d); got != row.want || d.Route != diagnosis.Refuse {
				f, _ := d.Primary()
				t.Errorf("%t, want %t (%s, route %s)", got, row.want, f.Reason, d.Route)
			}
		})
	}
}
