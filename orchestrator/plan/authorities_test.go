package plan_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// edited changes a certificate of a kind.
func edited(kind certs.Kind, edit func(*certs.Certificate)) func(*snapshot.Node) {
	return func(n *snapshot.Node) {
		for i := range n.Certificates {
			if n.Certificates[i].Kind == kind {
				edit(&n.Certificates[i])
			}
		}
	}
}

// ofThree are the steps that renew what nodes with API servers trust, on three of them.
var ofThree = []string{
	"~01-backup [cp1 cp2 cp3 w1]", "02-ca-issue-cp1 [cp1]",
	"~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "~05-ca-renew-cp2 [cp2]", "06-gate-api-server-cp2 [cp2]",
	"~07-ca-renew-cp3 [cp3]", "08-gate-api-server-cp3 [cp3]", "~09-ca-renew-w1 [w1]", "10-gate-kubelets-w1 [w1]",
	"~11-ca-publish-cp1 [cp1]", "12-gate-cluster [cp1 cp2 cp3 w1]",
}

// ofMembers are the steps that renew etcd's CA on three nodes that have API servers, too.
var ofMembers = []string{
	"~01-backup [cp1 cp2 cp3]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]",
	"05-gate-etcd [cp1 cp2 cp3]", "~06-ca-renew-cp2 [cp2]", "07-gate-api-server-cp2 [cp2]",
	"08-gate-etcd [cp1 cp2 cp3]", "~09-ca-renew-cp3 [cp3]", "10-gate-api-server-cp3 [cp3]", "11-gate-cluster [cp1 cp2 cp3 w1]",
}

// ofEtcdNodes are the steps that renew etcd's CA on three nodes and their client.
var ofEtcdNodes = []string{
	"~01-backup [cp1 etcd1 etcd2 etcd3]", "02-ca-issue-etcd1 [etcd1]", "~03-ca-renew-etcd1 [etcd1]", "04-gate-etcd [etcd1 etcd2 etcd3]",
	"~05-ca-renew-etcd2 [etcd2]", "06-gate-etcd [etcd1 etcd2 etcd3]", "~07-ca-renew-etcd3 [etcd3]", "08-gate-etcd [etcd1 etcd2 etcd3]",
	"~09-ca-renew-cp1 [cp1]", "10-gate-api-server-cp1 [cp1]", "11-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
}

// unnamed removes the identifier of their CA's key from certificates of etcd.
var unnamed = tc.Files(func(c *certs.Certificate) { c.NotStrict = []string{certs.LacksAuthorityKeyID} }, certs.KindEtcdNode)

// numberedFrom gives steps other numbers.
func numberedFrom(first int, steps []string) []string {
	var out []string
	for i, s := range steps {
		id := regexp.MustCompile(`^~?(\d\d)`).FindStringSubmatch(s)[1]
		out = append(out, strings.Replace(s, id, fmt.Sprintf("%02d", first+i), 1))
	}
	return out
}

// A renewal of CAs has one node sign, then takes control planes one by one, then workers.
func TestRenewCAs(t *testing.T) {
	t.Parallel()
	for _, r := range []struct {
		name         string
		of           cluster.Cluster
		edits        []tc.Edit
		policy       plan.Policy
		steps        []string
		interruption string
		warning      string
		unsupported  string
	}{
		{
			name: "all", of: tc.Single(), policy: plan.Policy{RenewCAs: plan.CAs()}, interruption: "etcd and the API server restart once",
			steps: []string{
				"~01-backup [cp1 w1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]",
				"~05-ca-renew-w1 [w1]", "06-gate-kubelets-w1 [w1]", "~07-ca-publish-cp1 [cp1]", "08-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "the front proxy's", of: tc.Single(), policy: plan.Policy{RenewCAs: []plan.CA{plan.FrontProxyCA}}, interruption: "no API server restarts",
			steps: []string{"~01-backup-cp1 [cp1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "05-gate-cluster [cp1 w1]"},
		},
		{
			name: "of three control planes", of: tc.HA(), policy: plan.Policy{RenewCAs: []plan.CA{plan.ClusterCA, plan.FrontProxyCA}}, interruption: "one control plane at a time; no API server restarts",
			steps: ofThree,
		},
		{
			name: "of three control planes, which a former run has left with two certificates", of: tc.HA(), policy: plan.Policy{RenewCAs: []plan.CA{plan.ClusterCA, plan.FrontProxyCA}},
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Bundle(certs.KindFrontProxyCA, tc.Again, tc.Again)), tc.On("cp2", tc.Bundle(certs.KindCA, tc.Again, tc.Again), tc.Trusting("", tc.Again))},
			// The later one is re-issued, so that none expires before what a node has.
			steps: slices.Concat([]string{"~01-backup [cp1 cp2 cp3 w1]", "02-ca-issue-cp2 [cp2]", "03-ca-issue-cp1 [cp1]"}, numberedFrom(4, ofThree[2:])),
		},
		{
			name: "where a worker has the CA of another key in its place", of: tc.HA(), policy: plan.Policy{RenewCAs: plan.CAs()}, unsupported: "is of another key on w1 than on cp1",
			edits: []tc.Edit{tc.Everywhere(tc.Bundle(certs.KindCA, "", "", "next")), tc.On("w1", tc.Bundle(certs.KindCA, "", "next", ""))},
		},
		{
			name: "of which a worker has a former certificate, in a kubeconfig alone", of: tc.Single(), policy: plan.Policy{RenewCAs: []plan.CA{plan.ClusterCA}},
			edits: []tc.Edit{tc.On("w1", tc.Trusting("", tc.Again), func(n *snapshot.Node) {
				n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindCA })
			})},
			steps: []string{
				"~01-backup [cp1 w1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]",
				"~05-ca-renew-w1 [w1]", "06-gate-kubelets-w1 [w1]", "~07-ca-publish-cp1 [cp1]", "08-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "etcd's of three members", of: tc.HA(), policy: plan.Policy{RenewCAs: []plan.CA{plan.EtcdCA}}, interruption: "one node at a time: a client whose API server restarts must try another",
			steps: ofMembers,
		},
		{
			name: "etcd's of three members that kubeadm runs", of: tc.HA(), policy: plan.Policy{RenewCAs: []plan.CA{plan.EtcdCA}}, steps: ofMembers,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", kubeadmEtcdCA)},
		},
		{
			name: "etcd's of two members, neither of which can be spared", of: cluster.Cluster{Nodes: tc.HA().Nodes[1:]}, policy: plan.Policy{RenewCAs: []plan.CA{plan.EtcdCA}},
			unsupported: "a restart there would lose the quorum; renew the other CAs (--ca cluster,front-proxy)",
		},
		{
			name: "etcd's on nodes of its own", of: tc.EtcdNodes(), policy: plan.Policy{RenewCAs: []plan.CA{plan.EtcdCA}}, edits: []tc.Edit{tc.On("cp1", tc.EtcdClient, etcdCA)}, steps: ofEtcdNodes,
		},
		{
			name: "etcd's on nodes of its own, where a control plane's certificate does not name its key", of: tc.EtcdNodes(), policy: plan.Policy{RenewCAs: []plan.CA{plan.EtcdCA}},
			edits: []tc.Edit{tc.On("cp1", tc.EtcdClient, etcdCA, unnamed)}, steps: strings.Split(strings.Replace(strings.Join(ofEtcdNodes, "\n"), "-cp1 [cp1]", "-cp1 [cp1] signed by etcd1", 1), "\n"),
		},
		{
			name: "etcd's, and its key signs on no node what does not name it", of: tc.EtcdNodes(), policy: plan.Policy{RenewCAs: []plan.CA{plan.ClusterCA}}, unsupported: "and none can be issued",
			edits: []tc.Edit{tc.On("cp1", tc.EtcdClient, etcdCA, unnamed), tc.On("etcd1,etcd2,etcd3", func(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") })},
		},
		{
			name: "the cluster's, with etcd on nodes of its own", of: tc.EtcdNodes(), policy: plan.Policy{RenewCAs: []plan.CA{plan.ClusterCA}}, interruption: "no API server restarts",
			steps: []string{
				"~01-backup [cp1 w1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]",
				"~05-ca-renew-w1 [w1]", "06-gate-kubelets-w1 [w1]", "~07-ca-publish-cp1 [cp1]", "08-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
			},
		},
		{
			name: "for less than there is", of: tc.Single(), policy: plan.Policy{RenewCAs: []plan.CA{plan.FrontProxyCA}, CAValidity: 365 * tc.Day}, warning: "will expire earlier than now",
			steps: []string{"~01-backup-cp1 [cp1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "05-gate-cluster [cp1 w1]"},
		},
		{
			name: "while it is rotated", of: tc.Single(), edits: []tc.Edit{rotating(2)}, policy: plan.Policy{RenewCAs: plan.CAs()}, unsupported: "is being rotated",
		},
		{
			name: "while certificates are due", of: tc.Single(), edits: []tc.Edit{due}, policy: plan.Policy{RenewCAs: plan.CAs()}, unsupported: "renew these first",
		},
		{
			name: "of an outage", of: tc.Single(), edits: []tc.Edit{out}, policy: plan.Policy{RenewCAs: plan.CAs()}, unsupported: "only in a healthy cluster",
		},
		{
			name: "on some nodes", of: tc.Single(), policy: plan.Policy{RenewCAs: plan.CAs(), Limit: []string{"cp1"}}, unsupported: "omit --limit",
		},
		{
			name: "that another CA has signed", of: tc.Single(), policy: plan.Policy{RenewCAs: plan.CAs()}, unsupported: "is signed by another CA (CN=above)",
			edits: []tc.Edit{tc.On("cp1", edited(certs.KindFrontProxyCA, func(c *certs.Certificate) { c.Issuer, c.SignedBy = "CN=above", "" }))},
		},
		{
			name: "whose key is elsewhere", of: tc.Single(), policy: plan.Policy{RenewCAs: plan.CAs()}, unsupported: "kube_external_ca_mode",
			edits: []tc.Edit{func(s *snapshot.Snapshot) { s.ExternalCA = true }},
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(r.of, r.edits...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			p, err := plan.Make(r.of, s, d, r.policy)
			var unsupported *plan.UnsupportedError
			if r.unsupported != "" {
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), r.unsupported) || len(p.Steps) > 0 {
					t.Errorf("%v, want an UnsupportedError with %q; steps %v", err, r.unsupported, p.Steps)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(p); !slices.Equal(got, r.steps) {
				t.Errorf("steps are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(r.steps, "\n  "))
			}
			if p.Route != diagnosis.RenewCAs || !strings.Contains(p.Interruption, r.interruption) || !strings.Contains(strings.Join(p.Warnings, "\n"), r.warning) {
				t.Errorf("route %s, %q, %q", p.Route, p.Interruption, p.Warnings)
			}
		})
	}
}

// Only a plan for CAs touches them: no other plan does so unless asked, or for an expired CA.
func TestOnlyCAPlansTouchCAs(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		s := tc.Healthy(r.of, r.edits...)
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		p, _ := plan.Make(r.of, s, d, plan.Policy{Choice: plan.Auto})
		if len(p.Authorities()) > 0 && d.Route != diagnosis.NewCA {
			t.Errorf("%s: a plan of route %s re-issues %v", r.name, d.Route, p.Authorities())
		}
	}
}

// CA certificates that the cluster has published are published again when the run is rolled back.
func TestRollbackOfRenewedCAs(t *testing.T) {
	t.Parallel()
	before := tc.Healthy(tc.Single())
	undo := plan.Undo{
		Run: "r", Touched: []string{"cp1", "w1"}, Before: before, Published: true, Now: tc.Now.Add(time.Hour),
		Diagnosis: diagnosis.Diagnose(before, diagnosis.DefaultThresholds()),
	}
	want := []string{"01-backup", "02-rollback-w1", "03-gate-kubelets-w1", "04-rollback-cp1", "05-gate-api-server-cp1", "06-ca-publish-cp1", "07-gate-cluster"}
	p, err := plan.Rollback(tc.Single(), undo)
	if err != nil || !slices.Equal(ids(p), want) {
		t.Errorf("%v: %q, want %q", err, ids(p), want)
	}
}

// Where another run had left control planes with different certificates of a CA, none of them is
// what the cluster must publish again.
func TestRollbackToDifferentCAs(t *testing.T) {
	t.Parallel()
	before := tc.Healthy(tc.HA(), tc.On("cp1", tc.Bundle(certs.KindCA, tc.Again, tc.Again)))
	undo := plan.Undo{
		Run: "r", Touched: []string{"cp1", "cp2", "cp3", "w1"}, Before: before, Published: true, Now: tc.Now.Add(time.Hour),
		Diagnosis: diagnosis.Diagnose(before, diagnosis.DefaultThresholds()),
	}
	p, err := plan.Rollback(tc.HA(), undo)
	if got := ids(p); err != nil || slices.Contains(got, "10-ca-publish-cp1") || !slices.Contains(got, "10-gate-cluster") {
		t.Errorf("%v: %q", err, got)
	}
	undo.Before = tc.Healthy(tc.HA())
	p, err = plan.Rollback(tc.HA(), undo)
	if got := ids(p); err != nil || !slices.Contains(got, "10-ca-publish-cp1") {
		t.Errorf("%v: %q", err, got)
	}
}
