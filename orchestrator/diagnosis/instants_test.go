package diagnosis_test

import (
	"slices"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry" //nolint:depguard // what several rooms say is compared
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"   //nolint:depguard // as above
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

const year = 365 * tc.Day

// deployed gives a cluster the dates of one that Kubespray made so long ago and whose leaves were
// issued so long ago: etcd's CA and leaves for a century each, made seconds apart; kubeadm's CAs
// for ten years, their leaves for one, some minutes later on each further node; the kubelets' own
// in the middle of their lifetime. The components have run since moments after their kubeconfigs
// were written.
func deployed(ago, issued time.Duration) tc.Edit {
	return func(s *snapshot.Snapshot) {
		for at := range s.Nodes {
			n := &s.Nodes[at]
			later := time.Duration(at) * 7 * time.Minute
			for i := range n.Certificates {
				c := &n.Certificates[i]
				row, _ := certs.Lookup(c.Kind)
				var begin time.Time
				var life time.Duration
				switch {
				case row.Base == certs.Kubelet:
					begin, life = tc.Now.Add(-year/2), year
				case row.Signer == certs.EtcdHostCA || row.Authority == certs.EtcdHostCA:
					begin, life = tc.Now.Add(-ago), 36500*tc.Day
					if !row.CA {
						begin = begin.Add(time.Duration(1+i) * time.Second)
					}
				case row.CA:
					begin, life = tc.Now.Add(-ago), 10*year
				default:
					begin, life = tc.Now.Add(later-issued), year
				}
				c.NotBefore, c.NotAfter = begin, begin.Add(life)
				if c.File != nil {
					c.File.Modified = begin
				}
			}
			for i := range n.Processes {
				n.Processes[i].Started = tc.Now.Add(later - issued + time.Second)
			}
		}
	}
}

// A comparison of two times is reported if the operator would act on it, and for no cluster as
// Kubespray makes it: not on its first day, nor in any year of it whose leaves are renewed in time,
// until a CA's expiry is within what anyone plans for.
func TestWarningsOfTwoInstants(t *testing.T) {
	t.Parallel()
	etcdLeaf := func(d time.Duration) tc.NodeEdit {
		return func(n *snapshot.Node) {
			ca, _ := n.Certificate(certs.KindEtcdHostCA)
			tc.Files(func(c *certs.Certificate) { c.NotAfter = ca.NotAfter.Add(d) }, certs.KindEtcdMember)(n)
		}
	}
	// The controller manager's kubeconfig was written so long after it started.
	written := func(d time.Duration) tc.NodeEdit {
		return func(n *snapshot.Node) {
			p, _ := n.Process("kube-controller-manager")
			tc.Files(func(c *certs.Certificate) { c.File.Modified = p.Started.Add(d) }, controllerManager)(n)
		}
	}
	clock := func(d time.Duration) tc.NodeEdit {
		return func(n *snapshot.Node) { n.Clock = tc.Now.Add(d) }
	}
	for _, row := range []struct {
		name        string
		of          cluster.Cluster
		ago, issued time.Duration
		edits       []tc.Edit
		want        []diagnosis.Reason // each once
	}{
		{name: "an hour old", of: tc.HA(), ago: time.Hour, issued: time.Hour},
		{name: "an hour old, one control plane", of: tc.Single(), ago: time.Hour, issued: time.Hour},
		{name: "an hour old, etcd on machines of its own", of: tc.EtcdNodes(), ago: time.Hour, issued: time.Hour},
		{name: "eleven months old", of: tc.HA(), ago: 330 * tc.Day, issued: 330 * tc.Day},
		{name: "renewed in its fifth year", of: tc.HA(), ago: 5 * year, issued: tc.Day},
		{name: "renewed in its eighth year, and ten left", of: tc.HA(), ago: 8*year - tc.Day, issued: 10 * tc.Day},
		{name: "renewed in its last but one: the leaf ends before it", of: tc.HA(), ago: 9*year - 2*tc.Day, issued: tc.Day},
		{name: "etcd's node was added a year later", of: tc.HA(), ago: 2 * year, issued: tc.Day, edits: []tc.Edit{tc.On("cp3", etcdLeaf(year))}},
		{name: "leaves for as long as their authority, made minutes later", of: tc.HA(), ago: time.Hour, issued: time.Hour, edits: []tc.Edit{
			tc.On("cp1,cp2,cp3", tc.EndsIn(10*year-50*time.Minute, certs.KindAPIServer)),
		}},
		{name: "kubeconfigs written as their component started", of: tc.HA(), ago: year, issued: tc.Day, edits: []tc.Edit{tc.On("cp2", written(time.Second))}},
		{name: "clocks apart by less than two minutes", of: tc.HA(), ago: year, issued: tc.Day, edits: []tc.Edit{tc.On("cp2", clock(-119*time.Second)), tc.On("w1", clock(119*time.Second))}},

		{
			name: "eleven and a half months old", of: tc.HA(), ago: 350 * tc.Day, issued: 350 * tc.Day,
			want: []diagnosis.Reason{diagnosis.LoopbackCertificateExpiring, diagnosis.CertificateExpiring},
		},
		{
			name: "renewed in its last year", of: tc.HA(), ago: 9*year + 100*tc.Day, issued: tc.Day,
			want: []diagnosis.Reason{diagnosis.CAExpiresFirst},
		},
		{
			name: "in its last month", of: tc.HA(), ago: 10*year - 20*tc.Day, issued: tc.Day,
			want: []diagnosis.Reason{diagnosis.CAExpiring},
		},
		{
			name: "leaves for as long as their authority, which ends next year", of: tc.HA(), ago: 9 * year, issued: tc.Day, edits: []tc.Edit{
				tc.On("cp1,cp2,cp3", tc.EndsIn(year+10*time.Minute, certs.KindAPIServer)),
			},
			want: []diagnosis.Reason{diagnosis.CAExpiresFirst},
		},
		{
			name: "etcd's authority in its last year", of: tc.HA(), ago: 36400 * tc.Day, issued: tc.Day, edits: []tc.Edit{
				tc.On("cp1,cp2,cp3,w1", func(n *snapshot.Node) {
					tc.EndsIn(5*year, certs.KindCA)(n)
					if n.Is(cluster.ControlPlane) {
						tc.EndsIn(5*year, certs.KindFrontProxyCA)(n)
					}
				}),
			},
			want: []diagnosis.Reason{diagnosis.CAExpiresFirst},
		},
		{
			name: "a kubeconfig written minutes after its component started", of: tc.HA(), ago: year, issued: tc.Day,
			edits: []tc.Edit{tc.On("cp2", written(time.Minute))}, want: []diagnosis.Reason{diagnosis.CredentialStale},
		},
		{
			name: "a clock three minutes behind", of: tc.HA(), ago: year, issued: tc.Day,
			edits: []tc.Edit{tc.On("cp2", clock(-3*time.Minute))}, want: []diagnosis.Reason{diagnosis.ClockSkew},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, append([]tc.Edit{deployed(row.ago, row.issued)}, row.edits...)...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			var got []diagnosis.Reason
			for _, f := range d.Findings {
				if !slices.Contains(got, f.Reason) {
					got = append(got, f.Reason)
				}
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("printed is %v, want %v\n%+v", got, row.want, d.Findings)
			}
			if row.want != nil {
				return
			}
			if status := expiry.Of(s, expiry.DefaultThresholds()).Status; status != expiry.Valid {
				t.Errorf("check-expiration says %s", status)
			}
			if p, err := plan.Make(row.of, s, d, plan.Policy{}); err != nil || len(p.Warnings) > 0 {
				t.Errorf("the plan says %q, %v", p.Warnings, err)
			}
		})
	}
}
