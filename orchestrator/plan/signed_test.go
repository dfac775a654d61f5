package plan_test

import (
	"cmp"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// outside is a cluster whose CA has its key elsewhere, with certificates of some kinds that expire
// after a time, and what the CA has signed for their keys.
type outside struct {
	snapshot snapshot.Snapshot
	signed   map[string]plan.Signed // by node and kind
}

func newOutside(t *testing.T, c cluster.Cluster, left time.Duration, kinds map[string][]certs.Kind, edits ...tc.Edit) outside {
	t.Helper()
	ca := testpki.Authority(t, "kubernetes")
	o := outside{signed: map[string]plan.Signed{}}
	o.snapshot = tc.Healthy(c, func(s *snapshot.Snapshot) { s.ExternalCA = true })
	for i := range o.snapshot.Nodes {
		n := &o.snapshot.Nodes[i]
		for j := range n.Certificates {
			c := &n.Certificates[j]
			if c.Served || !slices.Contains(kinds[n.Name], c.Kind) {
				continue
			}
			of := testpki.Leaf{CommonName: string(c.Kind), NotBefore: tc.Now.AddDate(-1, 0, 0), NotAfter: tc.Now.Add(left)}
			if c.Kind == certs.KindKubeletClient {
				of.CommonName, of.Organization, of.Usages = "system:node:"+n.Name, "system:nodes", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}
			old := ca.Issue(t, of)
			is := certs.Describe(old.X509)
			is.Kind, is.Path, is.Key, is.SignedBy, is.Signers, is.File = c.Kind, c.Path, c.Key, c.SignedBy, c.Signers, c.File
			of.NotBefore, of.NotAfter = tc.Now.Add(-time.Hour), tc.Now.AddDate(1, 0, 0)
			again := ca.For(t, old, of)
			o.signed[n.Name+" "+string(c.Kind)] = plan.Signed{Node: n.Name, File: n.Name + "/" + string(c.Kind) + ".crt", Certificate: string(again.Certificate)}
			*c = is
		}
	}
	for _, edit := range edits {
		edit(&o.snapshot)
	}
	return o
}

func (o outside) of(names ...string) (out []plan.Signed) {
	for _, name := range names {
		out = append(out, o.signed[name])
	}
	return out
}

// Signed certificates are checked on their nodes, and then placed in the steps of a renewal, or of a
// recovery.
func TestSigned(t *testing.T) {
	t.Parallel()
	all := map[string][]certs.Kind{"cp1": {certs.KindAPIServer, certs.KindAdmin}, "w1": {certs.KindKubeletClient}}
	out := tc.On("cp1", tc.Unusable(1, tc.SaysExpired))
	long := strings.Repeat("text before it\n", plan.MaxSigned/15)
	for _, r := range []struct {
		name  string
		left  time.Duration
		edits []tc.Edit
		// give are the certificates that are at hand, edit changes them.
		give        []string
		edit        func([]plan.Signed) []plan.Signed
		policy      plan.Policy
		route       diagnosis.Route
		steps       []string
		warning     string
		unsupported string
		selection   string
	}{
		{
			name: "all", left: 24 * time.Hour, give: []string{"cp1 apiserver", "cp1 admin.conf", "w1 kubelet-client"}, route: diagnosis.Renew,
			steps: []string{"01-ca-check [cp1 w1] 2 at once", "~02-backup [cp1 w1]", "~03-renew-certs-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]",
				"~05-kubelet-bootstrap-w1 [w1]", "06-gate-kubelets-w1 [w1]", "07-gate-cluster [cp1 w1]"},
		},
		{
			name: "a part", left: 24 * time.Hour, give: []string{"cp1 apiserver"}, route: diagnosis.Renew,
			steps:   []string{"01-ca-check-cp1 [cp1]", "~02-backup-cp1 [cp1]", "~03-renew-certs-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]"},
			warning: "not in this plan: cp1 (due: admin.conf)",
		},
		{
			name: "what is not due", left: 300 * 24 * time.Hour, give: []string{"cp1 apiserver"}, route: diagnosis.Renew,
			steps: []string{"01-ca-check-cp1 [cp1]", "~02-backup-cp1 [cp1]", "~03-renew-certs-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "05-gate-cluster [cp1 w1]"},
		},
		{
			name: "of an outage", left: -time.Hour, edits: []tc.Edit{out}, give: []string{"cp1 apiserver", "cp1 admin.conf", "w1 kubelet-client"}, route: diagnosis.Recover,
			steps: []string{"01-ca-check [cp1 w1] 2 at once", "~02-backup [cp1 w1]", "~03-pre-phase-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]",
				"~05-kubelet-bootstrap-w1 [w1]", "06-gate-kubelets-w1 [w1]", "07-gate-cluster [cp1 w1]"},
		},
		{name: "too few for an outage", left: -time.Hour, edits: []tc.Edit{out}, give: []string{"cp1 admin.conf"}, unsupported: "would not come back without /etc/kubernetes/ssl/apiserver.crt"},
		{
			name: "on some nodes", left: 24 * time.Hour, give: []string{"cp1 apiserver"}, policy: plan.Policy{Limit: []string{"cp1"}},
			unsupported: "omit --limit",
		},
		{
			name: "of a host that there is not", left: 24 * time.Hour, give: []string{"cp1 apiserver"},
			edit: func(all []plan.Signed) []plan.Signed { all[0].Node = "cp9"; return all }, selection: "cp1/apiserver.crt: the inventory has no host cp9",
		},
		{
			name: "for a key of another node", left: 24 * time.Hour, give: []string{"cp1 apiserver"},
			edit: func(all []plan.Signed) []plan.Signed { all[0].Node = "w1"; return all }, unsupported: "for a key that no certificate in use on w1 has; have it signed as it was requested, request it again (kscertctl ca csr -i INVENTORY --dir DIR), or remove the file",
		},
		{
			name: "twice", left: 24 * time.Hour, give: []string{"cp1 apiserver", "cp1 apiserver"}, unsupported: "are for the same key",
		},
		{
			name: "garbage", left: 24 * time.Hour, give: []string{"cp1 apiserver"},
			edit: func(all []plan.Signed) []plan.Signed { all[0].Certificate = "garbage"; return all }, unsupported: "cp1/apiserver.crt cannot be used: no PEM",
		},
		{
			name: "that expires before the one in place", left: 700 * 24 * time.Hour, give: []string{"cp1 apiserver"},
			unsupported: "cp1/apiserver.crt cannot replace /etc/kubernetes/ssl/apiserver.crt of cp1: it expires at",
		},
		{
			name: "that is too long", left: 24 * time.Hour, give: []string{"cp1 apiserver"},
			edit:        func(all []plan.Signed) []plan.Signed { all[0].Certificate = long + all[0].Certificate; return all },
			unsupported: "cp1/apiserver.crt cannot be used: it has ",
		},
		{
			name: "that are too long together", left: 24 * time.Hour, give: []string{"cp1 apiserver", "cp1 admin.conf"},
			edit: func(all []plan.Signed) []plan.Signed {
				for i := range all {
					all[i].Certificate = long[:30000] + "\n" + all[i].Certificate
				}
				return all
			},
			unsupported: "what is signed for cp1 is more than fits into one command: install it in parts",
		},
		{
			name: "that a node is not entitled to", left: 24 * time.Hour, edits: []tc.Edit{tc.On("w1", tc.Files(func(c *certs.Certificate) { c.Signers = []string{"its own"} }, certs.KindKubeletClient))},
			give: []string{"w1 kubelet-client"}, unsupported: "w1/kubelet-client.crt cannot replace /var/lib/kubelet/pki/kubelet-client-current.pem of w1: the kubernetes-ca of the control planes has not signed it",
		},
		{
			name: "of a node that cannot be inspected", left: 24 * time.Hour, edits: []tc.Edit{tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route"))},
			give: []string{"w1 kubelet-client"}, unsupported: "nothing is known of w1 (no route), for which w1/kubelet-client.crt is",
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			o := newOutside(t, tc.Single(), r.left, all, r.edits...)
			r.policy.Signed = o.of(r.give...)
			if r.edit != nil {
				r.policy.Signed = r.edit(r.policy.Signed)
			}
			d := diagnosis.Diagnose(o.snapshot, diagnosis.DefaultThresholds())
			p, err := plan.Make(tc.Single(), o.snapshot, d, r.policy)
			var unsupported *plan.UnsupportedError
			var selection *plan.SelectionError
			switch {
			case r.unsupported != "":
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), r.unsupported) || len(p.Steps) > 0 {
					t.Errorf("%v, want an UnsupportedError with %q; steps %v", err, r.unsupported, p.Steps)
				}
				return
			case r.selection != "":
				if !errors.As(err, &selection) || err.Error() != r.selection {
					t.Errorf("%v, want a SelectionError %q", err, r.selection)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if got := lines(p); !slices.Equal(got, r.steps) || p.Route != r.route {
				t.Errorf("route %s, steps are\n  %s\nwant\n  %s", p.Route, strings.Join(got, "\n  "), strings.Join(r.steps, "\n  "))
			}
			if !strings.Contains(strings.Join(p.Warnings, "\n"), r.warning) {
				t.Errorf("%q", p.Warnings)
			}
			for _, step := range p.Steps {
				vars := step.Variables(plan.Settings{Signed: r.policy.Signed})
				if given, ok := vars["kscert_signed"].(map[string][]string); ok && len(given) != len(step.Nodes) {
					t.Errorf("%s: %d nodes get certificates: the others would issue some", step.ID, len(given))
				}
				if _, has := vars["kscert_signed"]; has != (step.Gate == "" && step.Action != plan.Backup) {
					t.Errorf("%s gets the certificates: %t", step.ID, has)
				}
			}
			// What is in place is nothing to do.
			for i := range o.snapshot.Nodes {
				o.snapshot.Nodes[i].Endpoints = nil // nor is an older one served
				for j, c := range o.snapshot.Nodes[i].Certificates {
					if given, ok := o.signed[o.snapshot.Nodes[i].Name+" "+string(c.Kind)]; ok && slices.Contains(r.policy.Signed, given) && !c.Served {
						is, _ := certs.ParsePEM([]byte(given.Certificate))
						is.Kind, is.Path, is.SignedBy, is.Signers, is.Key = c.Kind, c.Path, c.SignedBy, c.Signers, c.Key
						o.snapshot.Nodes[i].Certificates[j] = is
					}
				}
			}
			for _, step := range p.Steps { // and no node gets it again
				vars := step.Variables(plan.Settings{Signed: r.policy.Signed, Snapshot: o.snapshot})
				for _, name := range step.Nodes {
					if given, ok := vars["kscert_signed"].(map[string][]string); ok && (given[name] == nil || len(given[name]) > 0) {
						t.Errorf("%s: %s gets %q", step.ID, name, given[name])
					}
				}
			}
			if r.route == diagnosis.Renew {
				p, err = plan.Make(tc.Single(), o.snapshot, diagnosis.Diagnose(o.snapshot, diagnosis.DefaultThresholds()), r.policy)
				if err != nil || len(p.Steps) > 0 {
					t.Errorf("once more: %v, %v", err, p.Steps)
				}
			}
		})
	}
}

// A node gets only what its roles in the inventory need, under the CAs of the control planes.
func TestEntitled(t *testing.T) {
	t.Parallel()
	ofOther := tc.IssuedBy("other", certs.KindKubeletClient)
	has := func(kind certs.Kind, path string) tc.Edit {
		return tc.On("w1", func(n *snapshot.Node) {
			row, _ := certs.Lookup(kind)
			for _, ca := range certs.Table() {
				if ca.CA && !ca.Copy && ca.Authority == row.Signer {
					n.Certificates = append(n.Certificates, certs.Certificate{Kind: kind, Path: path, Subject: "CN=x", CommonName: "system:node:w1",
						Organizations: []string{"system:nodes"}, Usages: []string{"client auth"}, SignedBy: row.Signer, Signers: []string{tc.CA(ca.Kind, "").SignsAs()}})
				}
			}
		})
	}
	kubelet := func(edit func(*certs.Certificate)) tc.Edit {
		return tc.On("w1", tc.Files(edit, certs.KindKubeletClient))
	}
	role := func(r cluster.Role) tc.Edit {
		return tc.On("w1", func(n *snapshot.Node) { n.Roles = []cluster.Role{r} })
	}
	const foreign = "no node with its roles in the inventory has the certificate "
	for name, row := range map[string]struct {
		node  string // w1 if empty
		kind  certs.Kind
		edits []tc.Edit
		err   string
	}{
		"a kubelet":                            {kind: certs.KindKubeletClient},
		"a kubelet of a machine for etcd only": {kind: certs.KindKubeletClient, edits: []tc.Edit{role(cluster.Etcd)}, err: foreign + "kubelet-client-current.pem"},
		"a kubelet with the names of a server": {kind: certs.KindKubeletClient, edits: []tc.Edit{kubelet(func(c *certs.Certificate) { c.SANs = []string{"kubernetes"} })}, err: `it has the names ["kubernetes"]`},
		"a kubelet that is a server":           {kind: certs.KindKubeletClient, edits: []tc.Edit{kubelet(func(c *certs.Certificate) { c.Usages = []string{"client auth", "server auth"} })}, err: "client auth only"},
		"a kubelet for all uses":               {kind: certs.KindKubeletClient, edits: []tc.Edit{kubelet(func(c *certs.Certificate) { c.Usages = nil })}, err: "client auth only"},
		"a kubelet in another group":           {kind: certs.KindKubeletClient, edits: []tc.Edit{kubelet(func(c *certs.Certificate) { c.Organizations = []string{"system:masters"} })}, err: "and not for that node"},
		"of a CA that only the node has":       {kind: certs.KindKubeletClient, edits: []tc.Edit{tc.On("w1", tc.Bundle(certs.KindCA, "other", "other"), ofOther)}, err: "the kubernetes-ca of the control planes has not signed it"},
		"of a CA that one control plane lacks": {kind: certs.KindKubeletClient, edits: []tc.Edit{tc.On("cp1,cp2,w1", tc.Bundle(certs.KindCA, "", "", "other"), ofOther)}, err: "has not signed it"},
		"of one of several CAs":                {kind: certs.KindKubeletClient, edits: []tc.Edit{tc.Everywhere(tc.Bundle(certs.KindCA, "", "", "other")), tc.On("w1", ofOther)}},
		"a control plane has another CA":       {kind: certs.KindKubeletClient, edits: []tc.Edit{tc.On("cp2", tc.Bundle(certs.KindCA, "other", "other"))}, err: "the control planes do not agree on the key of the kubernetes-ca"},
		"a control plane is not inspected":     {kind: certs.KindKubeletClient, edits: []tc.Edit{tc.On("cp2", tc.Unknown(snapshot.Unreachable, "no route"))}},
		"no control plane is":                  {kind: certs.KindKubeletClient, edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Unknown(snapshot.Unreachable, "no route"))}, err: "no control plane has reported the kubernetes-ca"},
		"a certificate of a control plane": {kind: certs.KindControllerManagerConf, edits: []tc.Edit{has(certs.KindControllerManagerConf, "/etc/kubernetes/controller-manager.conf"),
			tc.On("w1", func(n *snapshot.Node) {
				n.Facts["kube-controller-manager.kubeconfig"] = "/etc/kubernetes/controller-manager.conf"
			})}, err: foreign + "controller-manager.conf"},
		"an API server":              {kind: certs.KindAPIServer, edits: []tc.Edit{has(certs.KindAPIServer, tc.PKI+"/apiserver.crt")}, err: foreign + "apiserver"},
		"a member of etcd":           {kind: certs.KindEtcdMember, edits: []tc.Edit{has(certs.KindEtcdMember, tc.EtcdPKI+"/member-w1.pem")}, err: foreign},
		"a client of etcd":           {kind: certs.KindEtcdNode, edits: []tc.Edit{has(certs.KindEtcdNode, tc.EtcdPKI+"/node-w1.pem")}},
		"another node's client":      {kind: certs.KindEtcdNode, edits: []tc.Edit{has(certs.KindEtcdNode, tc.EtcdPKI+"/node-cp1.pem")}, err: foreign},
		"an administrator of etcd":   {kind: certs.KindEtcdAdmin, edits: []tc.Edit{has(certs.KindEtcdAdmin, tc.EtcdPKI+"/admin-w1.pem"), role(cluster.Etcd)}},
		"etcd's API server":          {kind: certs.KindAPIServerEtcdClient, edits: []tc.Edit{has(certs.KindAPIServerEtcdClient, tc.PKI+"/apiserver-etcd-client.crt"), role(cluster.Etcd)}, err: foreign},
		"a control plane":            {node: "cp1", kind: certs.KindAPIServer},
		"a control plane's of no CA": {node: "cp1", kind: certs.KindAPIServer, edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.SignedBy = "" }, certs.KindAPIServer))}, err: "has not signed it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), row.edits...)
			n, _ := s.Node(cmp.Or(row.node, "w1"))
			c, ok := n.Certificate(row.kind)
			if !ok {
				t.Fatal("there is no such certificate")
			}
			ca, err := plan.Entitled(s, n, c)
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) || err == nil && !slices.Contains(c.Signers, ca.SignsAs()) {
				t.Errorf("%v, want %q; %+v", err, row.err, ca)
			}
		})
	}
}

// Host etcd whose CA's key is in the cluster is renewed with what was signed outside, on all nodes; without
// it, an API server that is down needs the certificates of a quorum.
func TestSignedAndHostEtcd(t *testing.T) {
	t.Parallel()
	without := func(nodes string) tc.Edit {
		return tc.On(nodes, func(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") })
	}
	client := tc.On("cp1", tc.EtcdClient, tc.EndsIn(tc.Day, certs.KindEtcdNode))
	members := func(left time.Duration, nodes string) tc.Edit {
		return tc.On(nodes, tc.EndsIn(left, certs.KindEtcdMember))
	}
	out := tc.On("cp1", tc.Unusable(1, tc.SaysExpired))
	for name, row := range map[string]struct {
		edits       []tc.Edit
		steps       []string
		unsupported string
	}{
		"with the key on one node": {
			edits: []tc.Edit{without("etcd2,etcd3"), client, members(tc.Day, "etcd1,etcd2")},
			steps: []string{"01-ca-check-cp1 [cp1]", "~02-backup [cp1 etcd1 etcd2]", "~03-etcd-certificates-etcd1 [etcd1]", "04-gate-etcd-etcd1 [etcd1]",
				"~05-etcd-certificates-etcd2 [etcd2] signed by etcd1", "06-gate-etcd-etcd2 [etcd2]", "~07-renew-certs-cp1 [cp1] signed by etcd1", "08-gate-api-server-cp1 [cp1]", "09-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]"},
		},
		"with the key on none": {
			edits: []tc.Edit{without("etcd1,etcd2,etcd3"), members(tc.Day, "etcd1")},
			steps: []string{"01-ca-check-cp1 [cp1]", "~02-backup-cp1 [cp1]", "~03-renew-certs-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "05-gate-cluster [cp1 w1 etcd2 etcd3]"},
		},
		"an outage, and one member of three": {
			edits: []tc.Edit{without("etcd1,etcd2,etcd3"), members(-tc.Day, "etcd1"), out},
			steps: []string{"01-ca-check-cp1 [cp1]", "~02-backup-cp1 [cp1]", "~03-pre-phase-cp1 [cp1]", "04-gate-api-server-cp1 [cp1]", "05-gate-cluster [cp1 w1 etcd2 etcd3]"},
		},
		"an outage, and two members of three": {
			edits:       []tc.Edit{without("etcd1,etcd2,etcd3"), members(-tc.Day, "etcd1,etcd2"), out},
			unsupported: "would have no quorum without etcd1: /etc/ssl/etcd/ssl/member-etcd1.pem; etcd2: /etc/ssl/etcd/ssl/member-etcd2.pem",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutside(t, tc.EtcdNodes(), -time.Hour, map[string][]certs.Kind{"cp1": {certs.KindAPIServer}}, row.edits...)
			p, err := plan.Make(tc.EtcdNodes(), o.snapshot, diagnosis.Diagnose(o.snapshot, diagnosis.DefaultThresholds()), plan.Policy{Signed: o.of("cp1 apiserver")})
			var unsupported *plan.UnsupportedError
			if row.unsupported != "" {
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), row.unsupported) {
					t.Errorf("%v, want %q; %q", err, row.unsupported, lines(p))
				}
				return
			}
			if got := lines(p); err != nil || !slices.Equal(got, row.steps) {
				t.Errorf("%v, steps are\n  %s\nwant\n  %s", err, strings.Join(got, "\n  "), strings.Join(row.steps, "\n  "))
			}
		})
	}
}
