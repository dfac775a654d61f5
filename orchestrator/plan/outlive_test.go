package plan_test

import (
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// A plan says once of each CA that signs in it that it ends before what it signs.
func TestOutlived(t *testing.T) {
	t.Parallel()
	due := tc.On("cp1", tc.Expired(certs.KindControllerManagerConf), tc.EndsIn(tc.Day, certs.KindFrontProxyClient))
	ca := func(in time.Duration) string {
		return "/etc/kubernetes/ssl/ca.crt on cp1 expires at " + tc.Now.Add(in).Format(time.RFC3339)
	}
	for _, row := range []struct {
		name  string
		edits []tc.Edit
		want  string
	}{
		{"it lasts for years", nil, ""},
		{"it ends in ten months", []tc.Edit{tc.On("cp1", tc.EndsIn(300*tc.Day, certs.KindCA))}, ca(300 * tc.Day)},
		{"it ends a moment later", []tc.Edit{tc.On("cp1", tc.EndsIn(365*tc.Day, certs.KindCA))}, ""},
		{"it ends in ten months, and signs nothing", []tc.Edit{tc.On("cp1", tc.EndsIn(300*tc.Day, certs.KindEtcdHostCA))}, ""},
		{"the one that signs lasts", []tc.Edit{tc.Everywhere(tc.Bundle(certs.KindCA, "next", "", "next")), tc.On("cp1", tc.Files(func(c *certs.Certificate) {
			if c.Position == 1 {
				c.NotAfter = tc.Now.Add(300 * tc.Day)
			}
		}, certs.KindCA)), tc.Everywhere(tc.Trusting("", "", "next"))}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), append([]tc.Edit{due}, row.edits...)...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(tc.Single(), s, d, plan.Policy{})
			if err != nil || len(p.Steps) == 0 {
				t.Fatalf("%v: %s, %d steps", err, d.Verdict, len(p.Steps))
			}
			var said []string
			for _, w := range p.Warnings {
				if strings.Contains(w, diagnosis.RenewCA) {
					said = append(said, w)
				}
			}
			if len(said) > 1 || !strings.HasPrefix(strings.Join(said, ""), row.want) || (row.want == "") != (len(said) == 0) {
				t.Errorf("it warns of %q, want %q", said, row.want)
			}
		})
	}
}
