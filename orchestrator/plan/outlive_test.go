package plan_test

import (
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A plan warns once about each CA that signs in it and expires before what it signs.
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
			var output []string
			for _, w := range p.Warnings {
				if strings.Contains(w, diagnosis.RenewCA) {
					output = append(output, w)
				}
			}
			if len(output) > 1 || !strings.HasPrefix(strings.Join(output, ""), row.want) || (row.want == "") != (len(output) == 0) {
				t.Errorf("it warns of %q, want %q", output, row.want)
			}
		})
	}
}

// kube-controller-manager does not start with several CAs in the file that it signs with: what
// would restart it is refused, and all else is renewed.
func TestSigningBundle(t *testing.T) {
	t.Parallel()
	alone := tc.On("cp1", func(n *snapshot.Node) {
		ca := tc.CA(certs.KindCA, "")
		ca.Kind, ca.Path = certs.KindUnknown, "/etc/kubernetes/signing.crt"
		n.Certificates = append(n.Certificates, ca)
		n.Facts["kube-controller-manager.cluster-signing-cert-file"] = ca.Path
	})
	bundle := []tc.Edit{tc.Everywhere(tc.Bundle(certs.KindCA, "", "", "next"), tc.Trusting("", "", "next")), tc.On("cp1", func(n *snapshot.Node) {
		n.Facts["kube-controller-manager.cluster-signing-cert-file"] = tc.PKI + "/ca.crt"
	})}
	for _, row := range []struct {
		name    string
		edits   []tc.Edit
		refused bool
	}{
		{"its kubeconfig is due", append(bundle, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindControllerManagerConf))), true},
		{"it holds an older one", append(bundle, tc.On("cp1", tc.StartedAgo("kube-controller-manager", 11*tc.Day))), true},
		{"another certificate is due", append(bundle, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer))), false},
		{"it signs with a file of one", append(bundle, alone, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindControllerManagerConf))), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), row.edits...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(tc.Single(), s, d, plan.Policy{})
			if refused := err != nil && strings.Contains(err.Error(), "--cluster-signing-cert-file"); refused != row.refused || refused == (len(p.Steps) > 0) {
				t.Errorf("%s: %v, %d steps", d.Verdict, err, len(p.Steps))
			}
		})
	}
}

// The CA of etcd that signs for others need not be alone in their files.
func TestEtcdSignerOfSeveral(t *testing.T) {
	t.Parallel()
	due := tc.On("cp1", tc.EtcdClient, tc.EndsIn(tc.Day, certs.KindEtcdNode), func(n *snapshot.Node) {
		ca := tc.CA(certs.KindEtcdHostCA, "")
		ca.Path = tc.EtcdPKI + "/ca.pem"
		n.Certificates = append(n.Certificates, ca)
	})
	for name, row := range map[string]struct {
		edits []tc.Edit
		works bool
	}{
		"the same file":    {nil, true},
		"a bundle there":   {[]tc.Edit{tc.On("etcd1", tc.Bundle(certs.KindEtcdHostCA, "", "next", ""), otherFile)}, true},
		"one of a bundle":  {[]tc.Edit{tc.On("cp1", tc.Bundle(certs.KindEtcdHostCA, "", "", "next"), otherFile)}, true},
		"another CA signs": {[]tc.Edit{tc.On("etcd1", tc.Bundle(certs.KindEtcdHostCA, "next", "", "next"), otherFile)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.ExternalEtcd(), append([]tc.Edit{due}, row.edits...)...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(tc.ExternalEtcd(), s, d, plan.Policy{})
			if works := err == nil && len(p.Steps) > 0; works != row.works {
				t.Errorf("%s: %v, %d steps", d.Verdict, err, len(p.Steps))
			}
		})
	}
}

func otherFile(n *snapshot.Node) { n.Digests[tc.EtcdPKI+"/ca.pem"] = "another sum" }
