package expiry_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// find returns the row of a node's certificate of a kind; served or in a file.
func find(t *testing.T, r expiry.Report, node string, kind certs.Kind, served bool) expiry.Row {
	t.Helper()
	i := slices.IndexFunc(r.Certificates, func(c expiry.Row) bool { return c.Node == node && c.Kind == kind && c.Served == served })
	if i < 0 {
		t.Fatalf("no row for %s of %s", kind, node)
	}
	return r.Certificates[i]
}

// begins moves the beginning of certificates, and so their lifetime.
func begins(before time.Duration, kinds ...certs.Kind) tc.NodeEdit {
	return tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(-before) }, kinds...)
}

func TestStatus(t *testing.T) {
	t.Parallel()
	clock := func(d time.Duration) tc.NodeEdit {
		return func(n *snapshot.Node) { n.Clock = n.Clock.Add(d) }
	}
	for _, row := range []struct {
		name  string
		kind  certs.Kind
		edits []tc.NodeEdit
		want  expiry.Status
	}{
		{"a year left", certs.KindAdmin, nil, expiry.Valid},
		{"as long as the warning", certs.KindAdmin, []tc.NodeEdit{tc.EndsIn(30*tc.Day, certs.KindAdmin)}, expiry.Valid},
		{"a second less", certs.KindAdmin, []tc.NodeEdit{tc.EndsIn(30*tc.Day-time.Second, certs.KindAdmin)}, expiry.Warning},
		{"as long as critical", certs.KindAdmin, []tc.NodeEdit{tc.EndsIn(7*tc.Day, certs.KindAdmin)}, expiry.Warning},
		{"a second less", certs.KindAdmin, []tc.NodeEdit{tc.EndsIn(7*tc.Day-time.Second, certs.KindAdmin)}, expiry.Critical},
		{"its last second", certs.KindAdmin, []tc.NodeEdit{tc.EndsIn(0, certs.KindAdmin)}, expiry.Critical},
		{"a second after", certs.KindAdmin, []tc.NodeEdit{tc.EndsIn(-time.Second, certs.KindAdmin)}, expiry.Expired},
		{"not begun", certs.KindAdmin, []tc.NodeEdit{begins(-time.Hour, certs.KindAdmin)}, expiry.NotYetValid},
		{"by the node's clock, not ours", certs.KindAdmin, []tc.NodeEdit{clock(400 * tc.Day)}, expiry.Expired},
		{"an authority counts like all others", certs.KindCA, []tc.NodeEdit{tc.EndsIn(20*tc.Day, certs.KindCA)}, expiry.Warning},

		{"renewed by the kubelet: a year's last 29 days", certs.KindKubeletClient, []tc.NodeEdit{begins(336*tc.Day, certs.KindKubeletClient), tc.EndsIn(29*tc.Day, certs.KindKubeletClient)}, expiry.Warning},
		{"a day's certificate is never warned about in its first nine tenths", certs.KindKubeletClient, []tc.NodeEdit{begins(21*time.Hour, certs.KindKubeletClient), tc.EndsIn(3*time.Hour, certs.KindKubeletClient)}, expiry.Valid},
		{"in the last tenth it is", certs.KindKubeletClient, []tc.NodeEdit{begins(22*time.Hour, certs.KindKubeletClient), tc.EndsIn(2*time.Hour, certs.KindKubeletClient)}, expiry.Warning},
		{"and in the last twentieth it is critical", certs.KindKubeletClient, []tc.NodeEdit{begins(23*time.Hour, certs.KindKubeletClient), tc.EndsIn(time.Hour, certs.KindKubeletClient)}, expiry.Critical},
		{"a day's certificate that no one renews", certs.KindAdmin, []tc.NodeEdit{begins(time.Hour, certs.KindAdmin), tc.EndsIn(23*time.Hour, certs.KindAdmin)}, expiry.Critical},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", row.edits...)), expiry.DefaultThresholds())
			got := find(t, r, "cp1", row.kind, false)
			if got.Status != row.want {
				t.Errorf("%s, want %s: %+v", got.Status, row.want, got)
			}
			if want := got.NotAfter.Sub(r.Nodes[0].Clock); got.Residual() != want {
				t.Errorf("residual time %s, want %s", got.Residual(), want)
			}
		})
	}
}

// The moments at which a row will change are those at which it does change.
func TestWarningAndCriticalFrom(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single())
	for _, c := range expiry.Of(s, expiry.DefaultThresholds()).Certificates {
		for moment, want := range map[time.Time][2]expiry.Status{
			c.WarningFrom:  {expiry.Valid, expiry.Warning},
			c.CriticalFrom: {expiry.Warning, expiry.Critical},
			c.NotAfter:     {expiry.Critical, expiry.Expired},
		} {
			for i, later := range []time.Duration{0, time.Second} {
				at := tc.Healthy(tc.Single(), tc.Later(moment.Add(later).Sub(tc.Now)))
				if got := find(t, expiry.Of(at, expiry.DefaultThresholds()), c.Node, c.Kind, c.Served); got.Status != want[i] {
					t.Errorf("%s of %s, %s after %s: %s, want %s", c.Name, c.Node, later, moment, got.Status, want[i])
				}
			}
		}
	}
}

func TestWhatEndsFirstIsFirst(t *testing.T) {
	t.Parallel()
	r := expiry.Of(tc.Healthy(tc.HA(), tc.On("cp2", tc.EndsIn(5*tc.Day, certs.KindAPIServer)), tc.On("cp3,w1", tc.Expired(certs.KindKubeletClient))), expiry.DefaultThresholds())
	var got []string
	for _, c := range r.Certificates[:3] {
		got = append(got, c.Node+" "+string(c.Kind))
	}
	if want := []string{"cp3 kubelet-client", "w1 kubelet-client", "cp2 apiserver"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !slices.IsSortedFunc(r.Certificates, func(a, b expiry.Row) int { return a.NotAfter.Compare(b.NotAfter) }) {
		t.Error("not sorted by their ends")
	}
	if r.Status != expiry.Expired || r.Level() != expiry.LevelCritical || !r.Complete || len(r.Worth(expiry.LevelWarning)) != 3 {
		t.Errorf("status %s, level %d, complete %t", r.Status, r.Level(), r.Complete)
	}
	sum := 0
	for _, status := range expiry.Statuses() {
		sum += r.Counts[status]
	}
	if r.Counts[expiry.Expired] != 2 || r.Counts[expiry.Critical] != 1 || sum != len(r.Certificates) {
		t.Errorf("counts %v of %d", r.Counts, len(r.Certificates))
	}
}

// What is not known is reported as unknown, and takes nothing from the others.
func TestUnknown(t *testing.T) {
	t.Parallel()
	whole := expiry.Of(tc.Healthy(tc.Single()), expiry.DefaultThresholds())
	for _, row := range []struct {
		name, reason string
		edit         tc.NodeEdit
	}{
		{"a node that does not answer", "unreachable", tc.Unknown(snapshot.Unreachable, "no route to host")},
		{"a node without a privilege", "privilege", tc.Unknown(snapshot.Privilege, "sudo: a password is required")},
		{"a node on which nothing was found", expiry.NoCertificates, func(n *snapshot.Node) { n.Certificates = nil }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := expiry.Of(tc.Healthy(tc.Single(), tc.On("w1", row.edit)), expiry.DefaultThresholds())
			unknown := r.Unknown()
			if r.Complete || len(unknown) != 1 || unknown[0].Name != "w1" || unknown[0].Reason != row.reason || unknown[0].Message == "" {
				t.Errorf("complete %t, unknown %+v", r.Complete, unknown)
			}
			others := slices.DeleteFunc(slices.Clone(whole.Certificates), func(c expiry.Row) bool { return c.Node == "w1" })
			if len(r.Certificates) != len(others) {
				t.Errorf("%d rows of the others, want %d", len(r.Certificates), len(others))
			}
		})
	}
}

// A worker that has not joined has no certificate that could expire, and takes nothing from the
// others: the diagnosis warns of it.
func TestNotJoined(t *testing.T) {
	t.Parallel()
	r := expiry.Of(tc.Healthy(tc.Single(), tc.Unjoined("w1"), tc.On("w1", func(n *snapshot.Node) { n.Certificates = nil })), expiry.DefaultThresholds())
	if len(r.Unknown()) > 0 || !r.Complete || r.Level() != expiry.LevelOK {
		t.Errorf("complete %t, level %d, unknown %+v", r.Complete, r.Level(), r.Unknown())
	}
	for _, n := range r.Nodes {
		if n.NotJoined != (n.Name == "w1") {
			t.Errorf("%s: %t", n.Name, n.NotJoined)
		}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	r := expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", func(n *snapshot.Node) {
		n.Unreadable = []snapshot.Unreadable{{Path: tc.PKI + "/apiserver.crt", Reason: "no PEM certificate block"}}
	})), expiry.DefaultThresholds())
	if r.Complete || r.Status != expiry.Valid || r.Level() != expiry.LevelCritical || len(r.Unreadable) != 1 || r.Unreadable[0].Node != "cp1" {
		t.Errorf("%+v", r.Unreadable)
	}
}

func TestServed(t *testing.T) {
	t.Parallel()
	serve := func(kind certs.Kind, address string, like certs.Kind) tc.NodeEdit {
		return func(n *snapshot.Node) {
			c, ok := n.Certificate(like)
			if !ok {
				c = certs.Certificate{NotBefore: tc.Now, NotAfter: tc.Now.Add(tc.Day), Fingerprint: "self-made", SignedBy: certs.SelfSigned}
			}
			c.Kind, c.Path, c.Served = kind, address, true
			n.Certificates = append(n.Certificates, c)
		}
	}
	for _, row := range []struct {
		name          string
		kind          certs.Kind
		edits         []tc.NodeEdit
		inFile, stale bool
		authority     certs.Authority
	}{
		{"the file's", "kube-apiserver", nil, true, false, certs.KubernetesCA},
		{"an older one than the file's", "kube-apiserver", []tc.NodeEdit{tc.Renewed(certs.KindAPIServer)}, false, true, certs.KubernetesCA},
		{"host etcd's", "etcd", nil, true, false, certs.EtcdHostCA},
		{"host etcd's, older", "etcd", []tc.NodeEdit{tc.Renewed(certs.KindEtcdMember)}, false, true, certs.EtcdHostCA},
		{"the kubelet's self-signed", "kubelet", []tc.NodeEdit{serve("kubelet", "127.0.0.1:10250", certs.KindKubeletServing)}, true, false, certs.SelfSigned},
		{"made at start: no file to compare", "kube-scheduler", []tc.NodeEdit{serve("kube-scheduler", "127.0.0.1:10259", "")}, false, false, certs.SelfSigned},
		{"the API server's own loopback", "kube-apiserver-loopback", []tc.NodeEdit{serve("kube-apiserver-loopback", "10.0.0.1:6443", "")}, false, false, certs.SelfSigned},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", row.edits...)), expiry.DefaultThresholds())
			got := find(t, r, "cp1", row.kind, true)
			if got.InFile != row.inFile || got.Stale != row.stale || got.Authority != row.authority {
				t.Errorf("in a file %t, stale %t, authority %s: %+v", got.InFile, got.Stale, got.Authority, got)
			}
		})
	}
}

func TestExternallyManaged(t *testing.T) {
	t.Parallel()
	key := func(state certs.KeyState, kinds ...certs.Kind) tc.NodeEdit {
		return tc.Files(func(c *certs.Certificate) { c.Key = state }, kinds...)
	}
	all := []certs.Kind{certs.KindCA, certs.KindFrontProxyCA}
	for _, row := range []struct {
		name, node string
		kind       certs.Kind
		edits      []tc.Edit
		want       bool
	}{
		{"the keys are there", "cp1", certs.KindAPIServer, []tc.Edit{tc.On("cp1,cp2,cp3", key(certs.KeyMatches, all...))}, false},
		{"not known", "cp1", certs.KindAPIServer, nil, false},
		{"no key", "cp1", certs.KindAPIServer, []tc.Edit{tc.On("cp1", key(certs.KeyMissing, certs.KindCA))}, true},
		{"no key: the authority itself", "cp1", certs.KindCA, []tc.Edit{tc.On("cp1", key(certs.KeyMissing, certs.KindCA))}, true},
		{"no key of another authority", "cp1", "front-proxy-client", []tc.Edit{tc.On("cp1", key(certs.KeyMissing, certs.KindCA))}, false},
		{"no key on another control plane", "cp2", certs.KindAPIServer, []tc.Edit{tc.On("cp1", key(certs.KeyMissing, certs.KindCA)), tc.On("cp2,cp3", key(certs.KeyMatches, certs.KindCA))}, false},
		{"a worker has no key and needs none", "w1", certs.KindKubeletClient, []tc.Edit{tc.On("w1", key(certs.KeyMissing, certs.KindCA)), tc.On("cp1,cp2,cp3", key(certs.KeyMatches, certs.KindCA))}, false},
		{"a worker of a cluster without the key", "w1", certs.KindKubeletClient, []tc.Edit{tc.On("cp1,cp2,cp3", key(certs.KeyMissing, certs.KindCA))}, true},
		{"host etcd: one member has the key", "cp2", certs.KindEtcdMember, []tc.Edit{tc.On("cp2,cp3", key(certs.KeyMissing, certs.KindEtcdHostCA)), tc.On("cp1", key(certs.KeyMatches, certs.KindEtcdHostCA))}, false},
		{"host etcd: no member has it", "cp2", certs.KindEtcdMember, []tc.Edit{tc.On("cp1,cp2,cp3", key(certs.KeyMissing, certs.KindEtcdHostCA))}, true},
		{"a certificate that signed itself", "w1", certs.KindKubeletServing, []tc.Edit{tc.On("cp1,cp2,cp3", key(certs.KeyMissing, all...))}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := expiry.Of(tc.Healthy(tc.HA(), row.edits...), expiry.DefaultThresholds())
			if got := find(t, r, row.node, row.kind, false); got.ExternallyManaged != row.want {
				t.Errorf("externally managed: %t", got.ExternallyManaged)
			}
		})
	}
}

// An empty snapshot, or one of nodes of which nothing is known, is no good news.
func TestNothing(t *testing.T) {
	t.Parallel()
	r := expiry.Of(tc.Healthy(tc.Single(), tc.Everywhere(tc.Unknown(snapshot.Unreachable, "gone"))), expiry.DefaultThresholds())
	if r.Complete || len(r.Certificates) != 0 || len(r.Unknown()) != 2 {
		t.Errorf("%+v", r)
	}
}

// What a kubelet has made for itself on a machine that has not joined is no certificate of
// the cluster: joining makes it again.
func TestUnjoinedMachine(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), tc.Unjoined("w1"), tc.On("w1", tc.Expired(certs.KindKubeletServing)))
	if r := expiry.Of(s, expiry.DefaultThresholds()); r.Status != expiry.Valid || len(r.Nodes) != 2 {
		t.Errorf("%s, %d nodes", r.Status, len(r.Nodes))
	}
}

// What no one uses is listed and not checked; what someone has put elsewhere is checked, and
// not renewed here. Of a chain the earliest end counts.
func TestUse(t *testing.T) {
	t.Parallel()
	const own = "/etc/company/tls.crt"
	of := func(edits ...tc.NodeEdit) expiry.Report {
		return expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", edits...)), expiry.DefaultThresholds())
	}
	r := of(tc.Expired(certs.KindAPIServer), func(n *snapshot.Node) {
		n.Facts["kube-apiserver.tls-cert-file"] = own
		n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindAPIServerFile, Path: own, Fingerprint: "own", NotBefore: tc.Now, NotAfter: tc.Now.Add(20 * tc.Day)})
		n.Unreadable = append(n.Unreadable, snapshot.Unreadable{Path: tc.PKI + "/apiserver.crt", Reason: "no PEM certificate block"})
		tc.Serving("kube-apiserver", certs.KindAPIServerFile)(n)
		for i := range n.Certificates {
			if c := &n.Certificates[i]; c.Served && c.Kind == "kube-apiserver" {
				c.Fingerprint = "own"
			}
		}
	})
	left := find(t, r, "cp1", certs.KindAPIServer, false)
	if left.Status != expiry.Unused || r.Counts[expiry.Unused] != 1 || r.Status != expiry.Warning || len(r.Unreadable) != 0 {
		t.Errorf("what no one uses is %s, the report %s with %v and unreadable %v", left.Status, r.Status, r.Counts, r.Unreadable)
	}
	if got := find(t, r, "cp1", certs.KindAPIServerFile, false); got.Status != expiry.Warning || !got.ExternallyManaged {
		t.Errorf("what is of someone's own: %+v", got)
	}
	if got := find(t, r, "cp1", "kube-apiserver", true); got.Stale || !got.InFile {
		t.Errorf("what is served: %+v", got)
	}
	got := find(t, of(tc.Files(func(c *certs.Certificate) { c.ChainNotAfter = tc.Now.Add(3 * tc.Day) }, certs.KindAPIServer)), "cp1", certs.KindAPIServer, false)
	if got.Status != expiry.Critical || got.Residual() != 3*tc.Day {
		t.Errorf("with what stands behind it in its file: %s, %s", got.Status, got.Residual())
	}
}

// Every CA of a bundle has a row, with its place; of a kubeconfig those that no file has.
// What has signed nothing and ends first, and what was issued again since, no one would miss.
func TestBundles(t *testing.T) {
	t.Parallel()
	const next = "next"
	ended := func(position int) tc.NodeEdit {
		return func(n *snapshot.Node) {
			for i := range n.Certificates {
				if c := &n.Certificates[i]; c.Kind == certs.KindCA && c.Position == position {
					c.NotAfter = tc.Now.Add(-tc.Day)
				}
			}
		}
	}
	moved := []tc.NodeEdit{
		tc.IssuedBy(next, certs.KindAPIServer, certs.KindAPIServerKubeletClient, certs.KindAdmin, certs.KindSuperAdmin,
			certs.KindControllerManagerConf, certs.KindSchedulerConf, certs.KindKubeletClient),
	}
	for name, row := range map[string]struct {
		edits []tc.NodeEdit
		want  map[string]expiry.Status
	}{
		"one":           {nil, map[string]expiry.Status{"ca": expiry.Valid}},
		"the old first": {[]tc.NodeEdit{tc.Bundle(certs.KindCA, "", "", next)}, map[string]expiry.Status{"ca": expiry.Valid, "ca #2": expiry.Valid}},
		"the new first": {[]tc.NodeEdit{tc.Bundle(certs.KindCA, next, next, "")}, map[string]expiry.Status{"ca": expiry.Valid, "ca #2": expiry.Valid}},
		"the old one has expired, and its leaves are there": {
			[]tc.NodeEdit{tc.Bundle(certs.KindCA, next, next, ""), ended(2)}, map[string]expiry.Status{"ca": expiry.Valid, "ca #2": expiry.Expired},
		},
		"the old one has expired, and nothing is of it": {
			append([]tc.NodeEdit{tc.Bundle(certs.KindCA, next, next, ""), ended(2)}, moved...), map[string]expiry.Status{"ca": expiry.Valid, "ca #2": expiry.Unused},
		},
		"issued again": {
			[]tc.NodeEdit{tc.Bundle(certs.KindCA, tc.Again, tc.Again, ""), ended(2)}, map[string]expiry.Status{"ca": expiry.Valid, "ca #2": expiry.Unused},
		},
		"kubeconfigs have another, too": {
			[]tc.NodeEdit{tc.Trusting("admin.conf", "", next), tc.Trusting("kubelet.conf,scheduler.conf", next)},
			map[string]expiry.Status{"ca": expiry.Valid, "the CA in /etc/kubernetes/kubelet.conf": expiry.Valid},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), tc.Everywhere(func(n *snapshot.Node) {
				if n.Name == "w1" { // has nothing of a control plane
					*n = snapshot.Node{Node: n.Node, Clock: n.Clock}
				}
			}), tc.On("cp1", row.edits...))
			got := map[string]expiry.Status{}
			for _, c := range expiry.Of(s, expiry.DefaultThresholds()).Certificates {
				if c.Kind == certs.KindCA || c.Kind == certs.KindKubeconfigCA {
					got[c.Name] = c.Status
				}
			}
			if !maps.Equal(got, row.want) {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

// What Secrets hold has rows. What others renew is a warning late; what no one renews, and what was
// asked for and is not known, is not overlooked.
func TestSecrets(t *testing.T) {
	t.Parallel()
	held := func(name string, left time.Duration) snapshot.Secret {
		c := certs.Certificate{Kind: certs.KindSecret, Path: "Secret " + name, NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(left), Fingerprint: name}
		return snapshot.Secret{In: []string{name}, Certificate: &c}
	}
	with := func(status int, secrets ...snapshot.Secret) expiry.Report {
		return expiry.Of(tc.Healthy(tc.Single(), tc.On("cp1", func(n *snapshot.Node) {
			n.Secrets = secrets
			n.Results[snapshot.ResultSecrets] = snapshot.Result{Status: status, Output: "a page is missing"}
		})), expiry.DefaultThresholds())
	}
	r := with(0, held("a/web", 20*tc.Day), held("b/web", 3*tc.Day), held("c/web", -tc.Day), held("kube-system/typha-server", 20*tc.Day))
	got := map[string]expiry.Status{}
	for _, c := range r.Certificates {
		if c.Kind == certs.KindSecret {
			got[c.Name] = c.Status
		}
	}
	want := map[string]expiry.Status{
		"Secret a/web": expiry.Valid, "Secret b/web": expiry.Warning, "Secret c/web": expiry.Expired, "Secret kube-system/typha-server": expiry.Warning,
	}
	if !maps.Equal(got, want) || !r.Complete {
		t.Errorf("%v, want %v; complete: %t", got, want, r.Complete)
	}
	r = with(1, snapshot.Secret{In: []string{"d/junk"}, Unreadable: "there is no certificate in it"})
	if r.Complete || len(r.Unreadable) != 2 || r.Unreadable[0].Path != "Secret d/junk" || r.Unreadable[1].Reason != "a page is missing" || r.Level() != expiry.LevelCritical {
		t.Errorf("%+v, complete: %t", r.Unreadable, r.Complete)
	}
}
