package gate_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// later is how long after the beginning of a run its gates look.
const later = time.Minute

// renewed is the state after a successful run over certificates that were due.
func renewed(edits ...tc.Edit) snapshot.Snapshot {
	fresh := tc.On("cp1", tc.Renewed(certs.KindAPIServer), tc.Serving("kube-apiserver", certs.KindAPIServer))
	return tc.Healthy(tc.Single(), append([]tc.Edit{fresh, tc.Later(later)}, edits...)...)
}

func check(g plan.Gate, nodes ...string) gate.Check {
	return gate.Check{
		Gate: g, Nodes: nodes, Thresholds: diagnosis.DefaultThresholds(),
		Before: tc.Healthy(tc.Single(), tc.On("cp1", tc.Expired(certs.KindAPIServer))),
	}
}

// servesOld lets the API server serve another certificate than its file's.
func servesOld(n *snapshot.Node) {
	for i := range n.Endpoints {
		if n.Endpoints[i].Name == "kube-apiserver" {
			n.Endpoints[i].Fingerprint = "the old one"
		}
	}
}

func lease(age time.Duration) tc.Edit {
	return tc.View(func(v *snapshot.View) { v.NodeLeases["w1"] = tc.Now.Add(later - age) })
}

func unmet(c gate.Check, now snapshot.Snapshot) (out []string) {
	for _, u := range c.Evaluate(now) {
		out = append(out, u.String())
	}
	return out
}

// only has the answers of some nodes, and none of the others.
func only(s snapshot.Snapshot, names []string) snapshot.Snapshot {
	s.Nodes = slices.Clone(s.Nodes)
	for i, n := range s.Nodes {
		if !slices.Contains(names, n.Name) {
			s.Nodes[i] = snapshot.Node{Node: n.Node, Failure: &snapshot.Failure{Kind: snapshot.Missing, Message: "it was not asked"}}
		}
	}
	return s
}

// A gate has no more nodes asked than it reads of.
func TestAsks(t *testing.T) {
	t.Parallel()
	c := tc.HA()
	for _, row := range []struct {
		gate  plan.Gate
		nodes []string
		want  []string
	}{
		{plan.EtcdGate, []string{"cp2"}, []string{"cp2"}},
		{plan.APIServerGate, []string{"cp2"}, []string{"cp2"}},
		{plan.KubeletGate, []string{"w1", "cp2"}, []string{"cp1", "cp2", "cp3", "w1"}},
		{plan.ClusterGate, []string{"cp2"}, cluster.Names(c.Nodes)},
	} {
		if got := check(row.gate, row.nodes...).Asks(c); !slices.Equal(got, row.want) {
			t.Errorf("%s of %s asks %s, want %s", row.gate, row.nodes, got, row.want)
		}
	}
}

// ownServing lets the API server serve a file of someone's own.
func ownServing(n *snapshot.Node) {
	const own = "/etc/company/tls.crt"
	n.Facts["kube-apiserver.tls-cert-file"] = own
	n.Certificates = append(n.Certificates, certs.Certificate{
		Kind: certs.KindAPIServerFile, Path: own, Fingerprint: "own", NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(90 * tc.Day),
		SANs: []string{"cp1", "10.0.0.1", "127.0.0.1"},
	})
	tc.Serving("kube-apiserver", certs.KindAPIServerFile)(n)
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	apiServer, kubelet, all := check(plan.APIServerGate, "cp1"), check(plan.KubeletGate, "w1"), check(plan.ClusterGate, "cp1", "w1")
	for _, row := range []struct {
		name  string
		check gate.Check
		edit  tc.Edit
		// want are the unmet conditions as they are printed; none: the gate holds.
		want []string
	}{
		{"the API server is back", apiServer, nil, nil},
		{"the kubelet is back", kubelet, nil, nil},
		{"the cluster is whole", all, nil, nil},

		// --- the API server's gate -----------------------------------------------
		{"the API server does not answer", apiServer, tc.On("cp1", tc.Unusable(1, "one\n"+tc.SaysRefused)),
			[]string{"cp1: the API server must answer /readyz (" + tc.SaysRefused + ")"}},
		{"it serves another certificate than the one on disk", apiServer, tc.On("cp1", servesOld),
			[]string{"cp1: the API server must serve the certificate on disk (10.0.0.1:6443 serves another one)"}},
		{"it serves one of its own, as it is reported", apiServer, tc.On("cp1", ownServing), nil},
		{"it is reported of one of its own, and serves another", apiServer, tc.On("cp1", ownServing, servesOld),
			[]string{"cp1: the API server must serve the certificate on disk (10.0.0.1:6443 serves another one)"}},
		{"what no one uses has expired", all, tc.On("cp1", ownServing, tc.Expired(certs.KindAPIServer)), nil},
		{"it cannot be reached", apiServer, tc.On("cp1", tc.Unknown(snapshot.Unreachable, "Connection timed out")),
			[]string{"cp1: must be reachable (Connection timed out)"}},
		{"it was not asked", apiServer, func(s *snapshot.Snapshot) { s.Nodes = s.Nodes[1:] },
			[]string{"cp1: must be reachable (it was not asked)"}},
		{"a worker in trouble is not its business", apiServer, tc.On("w1", tc.CrashLoop()), nil},

		// --- the kubelets' gate ----------------------------------------------------
		{"the kubelet is not running", kubelet, tc.On("w1", tc.CrashLoop()),
			[]string{"w1: the kubelet must run (systemd reports activating)"}},
		{"the kubelet runs between two crashes, or has just got over one", kubelet, tc.On("w1", func(n *snapshot.Node) {
			n.Units["kubelet"] = snapshot.Unit{Active: "active", Sub: "running", Restarts: 1, ActiveSeconds: 8}
		}), []string{"w1: the kubelet must keep running (restarted 1 times, the last time 8 s ago)"}},
		{"the kubelet has got over a crash", kubelet, tc.On("w1", func(n *snapshot.Node) {
			n.Units["kubelet"] = snapshot.Unit{Active: "active", Sub: "running", Restarts: 1, ActiveSeconds: 31}
		}), nil},
		{"the kubelet is no unit at all", kubelet, tc.On("w1", func(n *snapshot.Node) { delete(n.Units, "kubelet") }),
			[]string{"w1: the kubelet must run (systemd reports none)"}},
		{"its client certificate has expired", kubelet, tc.On("w1", tc.Expired(certs.KindKubeletClient)),
			[]string{"w1: the kubelet's client certificate must be valid (expired since 2026-02-28T12:00:00Z)"}},
		{"a client certificate that ends soon is valid", kubelet, tc.On("w1", tc.EndsIn(time.Hour, certs.KindKubeletClient)), nil},
		{"it has no lease", kubelet, tc.View(func(v *snapshot.View) { delete(v.NodeLeases, "w1") }),
			[]string{"w1: the kubelet's lease must be fresh (it has none)"}},
		{"its lease is 40 seconds old", kubelet, lease(40 * time.Second), nil},
		{"its lease is 41 seconds old", kubelet, lease(41 * time.Second),
			[]string{"w1: the kubelet's lease must be fresh (last renewed 41s ago)"}},
		{"no one can be asked for its lease", kubelet, tc.On("cp1", tc.Refused()),
			[]string{"w1: the kubelet's lease must be fresh (no API server answers)"}},
		{"Ready comes later: the lease is enough", kubelet, tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "False" }), nil},

		// --- the cluster's gate ----------------------------------------------------
		{"a node is not Ready", all, tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown" }),
			[]string{"w1: the node must be Ready (its Ready condition is Unknown)"}},
		{"a node is not known", all, tc.View(func(v *snapshot.View) { delete(v.Nodes, "w1") }),
			[]string{
				"w1: the node must be Ready (its Ready condition is none)",
				"w1: w1 the API server does not know the node (the API server has no node of this name)",
			}},
		{"a certificate has expired", all, tc.On("cp1", tc.Expired(certs.KindAdmin)),
			[]string{"cp1: /etc/kubernetes/admin.conf must hold a fresh certificate (it is expired: it expires at 2026-02-28T12:00:00Z)"}},
		{"a certificate that was due is still there", all, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)),
			[]string{"cp1: /etc/kubernetes/admin.conf must hold a fresh certificate (it is expiring: it expires at 2026-03-02T12:00:00Z)"}},
		{"a new certificate of an authority that issues for a day", all,
			tc.On("cp1", tc.Renewed(certs.KindAdmin), tc.EndsIn(tc.Day, certs.KindAdmin)), nil},
		{"a kubelet's certificate that it renews by itself", all, tc.On("w1", tc.EndsIn(40*tc.Day, certs.KindKubeletClient)), nil},
		{"one that it has not renewed", all, tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletClient)),
			[]string{"w1: /var/lib/kubelet/pki/kubelet-client-current.pem must hold a fresh certificate (it is expiring: it expires at 2026-03-02T12:00:00Z)"}},
		{"an authority that ends soon is not renewed here", all, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindCA)), nil},
		{"an etcd member stopped meanwhile", all, tc.On("cp1", tc.Stopped("etcd")),
			[]string{"cp1: etcd the etcd member is not running (systemd reports inactive (dead), restarted 0 times\nconnect: Connection refused\n127.0.0.1:2379: connect:errno=111)"}},
		{"an etcd member that still serves an older certificate", all, tc.On("cp1", func(n *snapshot.Node) {
			for i := range n.Endpoints {
				if n.Endpoints[i].Name == "etcd" {
					n.Endpoints[i].Fingerprint = "older"
				}
			}
		}), []string{"cp1: the etcd member must serve the certificate on disk (127.0.0.1:2379 serves a certificate that is in none of its files)"}},
		{"an etcd member that is not asked any more", all, tc.On("cp1", func(n *snapshot.Node) { n.Etcd = nil }),
			[]string{"cp1: the etcd member must answer a read with quorum (it could not be asked)"}},
		{"a component lost its lease", all, tc.View(func(v *snapshot.View) { v.ComponentLeases["kube-scheduler"] = tc.Now }),
			[]string{"kube-scheduler must hold its lease (last renewed at 2026-03-01T12:00:00Z)"}},
		{"a component's lease is from before the run", check(plan.ClusterGate, "cp1", "w1"), func(s *snapshot.Snapshot) {
			tc.View(func(v *snapshot.View) { v.ComponentLeases["kube-scheduler"] = tc.Now })(s)
			for i := range s.Nodes {
				s.Nodes[i].Clock = tc.Now.Add(30 * time.Second)
			}
		}, []string{"kube-scheduler must hold its lease (last renewed at 2026-03-01T12:00:00Z)"}},
		{"a component is not Ready again", all, tc.View(func(v *snapshot.View) { v.StaticPods[0].Ready = "False" }),
			[]string{"cp1: kube-apiserver a control plane component is not Ready (its Ready condition is False)"}},
		{"root's own kubeconfig on a worker, which no step renews", all, tc.On("w1", tc.RootKubeconfigExpired), nil},
		{"a component that has just started is not Ready yet", all, func(s *snapshot.Snapshot) {
			tc.View(func(v *snapshot.View) { v.StaticPods[0].Ready = "False" })(s)
			tc.On("cp1", tc.StartedAgo("kube-apiserver", 5*time.Second))(s)
		}, nil},
		{"something else broke meanwhile", all, tc.On("cp1", func(n *snapshot.Node) { delete(n.Facts, "kubeadm-config") }),
			[]string{"cp1: kubeadm-config.yaml the node's kubeadm configuration is missing (/etc/kubernetes/kubeadm-config.yaml does not exist)"}},
		{"a worker cannot be reached", all, tc.On("w1", tc.Unknown(snapshot.Unreachable, "No route to host")),
			[]string{"w1: must be reachable (No route to host)"}},
		{"the API server is out: output once for each node", all, tc.On("cp1", tc.Refused()),
			[]string{
				"cp1: the API server must answer /readyz (" + tc.SaysRefused + ")",
				"cp1: the kubelet's lease must be fresh (no API server answers)",
				"w1: the kubelet's lease must be fresh (no API server answers)",
			}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			now := renewed()
			if row.edit != nil {
				row.edit(&now)
			}
			got := unmet(row.check, now)
			if !slices.Equal(got, row.want) {
				t.Errorf("unmet:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(row.want, "\n  "))
			}
			if asked := unmet(row.check, only(now, row.check.Asks(tc.Single()))); !slices.Equal(asked, row.want) {
				t.Errorf("unmet, by what %s asks for alone: %q", row.check.Gate, asked)
			}
		})
	}
}

// The proof of some nodes is theirs alone: what stays due on others, or is out there, is
// no matter of it, nor is what belonged to no node and was so before. What broke meanwhile
// is, and so are both components.
func TestPartOfTheCluster(t *testing.T) {
	t.Parallel()
	balancer := func(s *snapshot.Snapshot) {
		s.Endpoint = "lb.example:6443"
		s.Probes = append(s.Probes, snapshot.Probe{Endpoint: "10.0.0.1:6443"}, snapshot.Probe{Endpoint: s.Endpoint, Failed: snapshot.StageTCP, Error: "refused"})
	}
	left := tc.On("cp2", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))
	notReady := tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown" })
	for _, row := range []struct {
		name        string
		nodes       []string
		before, now []tc.Edit
		want        []string
	}{
		{"others stay as they were", []string{"cp1"}, []tc.Edit{left, notReady}, []tc.Edit{left, notReady, tc.On("cp3", tc.EndsIn(tc.Day, certs.KindAdmin))}, nil},
		{"its own is still due", []string{"cp3"}, []tc.Edit{tc.On("cp3", tc.EndsIn(tc.Day, certs.KindAdmin))}, []tc.Edit{tc.On("cp3", tc.EndsIn(tc.Day, certs.KindAdmin))},
			[]string{"cp3: /etc/kubernetes/admin.conf must hold a fresh certificate (it is expiring: it expires at 2026-03-02T12:00:00Z)"}},
		{"the load balancer was down before", []string{"w1"}, []tc.Edit{balancer}, []tc.Edit{balancer}, nil},
		{"the load balancer went down", []string{"w1"}, nil, []tc.Edit{balancer},
			[]string{"lb.example:6443 the API servers answer, but the endpoint in front of them does not reach them (asked from the control node, lb.example:6443 failed at tcp: refused)"}},
		{"a component lost its lease", []string{"w1"}, nil, []tc.Edit{tc.View(func(v *snapshot.View) { v.ComponentLeases["kube-scheduler"] = tc.Now })},
			[]string{"kube-scheduler must hold its lease (last renewed at 2026-03-01T12:00:00Z)"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := gate.Check{Gate: plan.ClusterGate, Nodes: row.nodes, Thresholds: diagnosis.DefaultThresholds(), Before: tc.Healthy(tc.HA(), row.before...)}
			var got []string
			for _, u := range c.Evaluate(tc.Healthy(tc.HA(), append([]tc.Edit{tc.Later(later)}, row.now...)...)) {
				got = append(got, u.String())
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("unmet:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(row.want, "\n  "))
			}
		})
	}
}

// The proof asks for what the run could do: what was found when it began, and no step
// fixes, is not asked for; what a step should have fixed is, and so is what broke meanwhile.
func TestWhatLasts(t *testing.T) {
	t.Parallel()
	due := tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer))
	w1 := func(edits ...tc.NodeEdit) tc.Edit { return tc.On("w1", edits...) }
	notReady := tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown"; v.NodeLeases["w1"] = tc.Now.Add(-tc.Day) })
	gone := tc.View(func(v *snapshot.View) { delete(v.Nodes, "w1"); delete(v.NodeLeases, "w1") })
	balancer := func(s *snapshot.Snapshot) {
		s.Endpoint = "lb.example:6443"
		s.Probes = append(s.Probes, snapshot.Probe{Endpoint: "10.0.0.1:6443"}, snapshot.Probe{Endpoint: s.Endpoint, Failed: snapshot.StageTCP, Error: "refused"})
	}
	scheduler := tc.View(func(v *snapshot.View) {
		v.StaticPods[2].Ready, v.ComponentLeases["kube-scheduler"] = "False", tc.Now.Add(-tc.Day)
	})
	unready := tc.View(func(v *snapshot.View) { v.StaticPods[2].Ready = "False" })
	unreadyExpired := func(s *snapshot.Snapshot) {
		unready(s)
		tc.On("cp1", tc.Expired(certs.KindSchedulerConf))(s)
	}
	nameless := tc.On("cp1", func(n *snapshot.Node) {
		n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Path: "/etc/kubernetes/x.conf", Server: "https://kubernetes.example:6443"})
	})
	expired := w1(tc.Expired(certs.KindKubeletClient), tc.CrashLoop())
	unjoined := func(edits ...tc.NodeEdit) tc.Edit {
		return func(s *snapshot.Snapshot) {
			tc.Unjoined("w1")(s)
			w1(edits...)(s)
		}
	}
	etcdClient := func(n *snapshot.Node) {
		tc.EtcdClient(n)
		tc.Expired(certs.KindEtcdNode)(n)
	}
	for _, row := range []struct {
		name        string
		before, now tc.Edit
		want        []string
	}{
		{"a worker that has not joined", tc.Unjoined("w1"), tc.Unjoined("w1"), nil},
		{"one that has made itself a certificate, and that one has ended", unjoined(), unjoined(tc.Expired(certs.KindKubeletServing)), nil},
		{"one whose certificate of etcd's clients was not renewed", unjoined(etcdClient), unjoined(etcdClient),
			[]string{"w1: /etc/ssl/etcd/ssl/node-w1.pem must hold a fresh certificate (it is expired: it expires at 2026-02-28T12:00:00Z)"}},
		{"one that joined meanwhile, with Kubespray's playbook", tc.Unjoined("w1"), nil, nil},
		{"a node that is called otherwise", tc.CalledInAPI("w1", "ip-10-0-0-4.internal"), tc.CalledInAPI("w1", "ip-10-0-0-4.internal"), nil},
		{"a kubelet that someone has stopped", w1(tc.CrashLoop()), w1(tc.CrashLoop()), nil},
		{"a node without a network", notReady, notReady, nil},
		{"a node that was deleted", gone, gone, nil},
		{"a load balancer that is down", balancer, balancer, nil},
		{"a name that the certificate lacks", nameless, nameless, nil},
		{"a component that is Ready nowhere", scheduler, scheduler, nil},
		{"a component that a certificate kept from being Ready, and that may have other reasons", unreadyExpired, unready, nil},
		{"a kubelet whose certificate had expired", expired, w1(tc.CrashLoop()),
			[]string{"w1: the kubelet must run (systemd reports activating)"}},
		{"another kubelet", w1(tc.CrashLoop()), tc.On("cp1", tc.CrashLoop()),
			[]string{"cp1: the kubelet must run (systemd reports activating)"}},
		{"a component that was Ready", nil, scheduler, []string{
			"cp1: kube-scheduler a control plane component is not Ready (its Ready condition is False)",
			"kube-scheduler must hold its lease (last renewed at 2026-02-28T12:00:00Z)",
		}},
		{"a worker that was one", nil, tc.Unjoined("w1"), []string{
			"w1: /etc/kubernetes/ssl/ca.crt must not change (SHA-256 was sum-of-ca.crt, is none)",
			"w1: the kubelet must run (systemd reports activating)",
			"w1: the kubelet's lease must be fresh (it has none)",
			"w1: the node must be Ready (its Ready condition is none)",
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := check(plan.ClusterGate, "cp1", "w1")
			c.Before = tc.Healthy(tc.Single(), due)
			if row.before != nil {
				row.before(&c.Before)
			}
			now := renewed()
			if row.now != nil {
				row.now(&now)
			}
			var got []string
			for _, u := range c.Evaluate(now) {
				got = append(got, u.String())
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("unmet:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(row.want, "\n  "))
			}
		})
	}
}

// Clocks that a diagnosis lets pass make no gate fail: a lease is as old as by the clock
// that wrote it. A kubelet or a leader that is gone is found by that clock, too.
func TestClocksOfLeases(t *testing.T) {
	t.Parallel()
	const apart = 100 * time.Second
	for _, row := range []struct {
		name   string
		behind string // the node whose clock is, or which is ahead
		by     time.Duration
		age    time.Duration // of what that node has written
		want   []string
	}{
		{"a kubelet whose clock is behind", "w1", apart, 5 * time.Second, nil},
		{"a kubelet whose clock is ahead", "w1", -apart, 5 * time.Second, nil},
		{"one that is behind and gone", "w1", apart, 50 * time.Second, []string{"w1: the kubelet's lease must be fresh (last renewed 50s ago)"}},
		{"a leader whose clock is behind", "cp2", apart, 5 * time.Second, nil},
		{"a leader that is behind and gone", "cp2", apart, 50 * time.Second, []string{
			"cp2: the kubelet's lease must be fresh (last renewed 50s ago)",
			"kube-controller-manager must hold its lease (last renewed at 2026-03-01T11:58:30Z)",
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			clock := tc.On(row.behind, func(n *snapshot.Node) { n.Clock = n.Clock.Add(-row.by) })
			written := tc.Now.Add(later - row.by - row.age)
			now := tc.Healthy(tc.HA(), tc.Later(later), clock, tc.View(func(v *snapshot.View) {
				v.NodeLeases[row.behind] = written
				if row.behind == "cp2" {
					v.ComponentLeases["kube-controller-manager"] = written
				}
			}))
			if d := diagnosis.Diagnose(now, diagnosis.DefaultThresholds()); d.Route != diagnosis.None {
				t.Fatalf("%+v", d.Findings)
			}
			c := gate.Check{Gate: plan.ClusterGate, Nodes: cluster.Names(tc.HA().Nodes), Thresholds: diagnosis.DefaultThresholds(), Before: tc.Healthy(tc.HA(), clock)}
			var got []string
			for _, u := range c.Evaluate(now) {
				got = append(got, u.String())
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("unmet: %q, want %q", got, row.want)
			}
		})
	}
}

// A lease that is fresh proves nothing when it was renewed before the run began:
// the kubelet may have died with its old certificate just now.
func TestLeaseMustBeRenewedInTheRun(t *testing.T) {
	t.Parallel()
	now := tc.Healthy(tc.Single())
	got := check(plan.KubeletGate, "w1").Evaluate(now) // at the same moment as Before
	if len(got) != 1 || got[0].What != "the kubelet must renew its lease" {
		t.Errorf("unmet: %v", got)
	}
}

// A node of etcd alone has neither API server nor kubelet to wait for.
func TestEtcdNodeIsOnlyReached(t *testing.T) {
	t.Parallel()
	c := tc.ExternalEtcd()
	g := gate.Check{Gate: plan.ClusterGate, Nodes: cluster.Names(c.Nodes), Thresholds: diagnosis.DefaultThresholds(), Before: tc.Healthy(c)}
	if got := g.Evaluate(tc.Healthy(c, tc.Later(later))); len(got) > 0 {
		t.Errorf("unmet: %v", got)
	}
	lost := tc.Healthy(c, tc.Later(later), tc.On("etcd1", tc.Unknown(snapshot.Unreachable, "gone")))
	if got := g.Evaluate(lost); len(got) != 1 || got[0].Node != "etcd1" {
		t.Errorf("unmet: %v", got)
	}
}

// events makes the member for events on etcd2 answer so, and serve a certificate unless it is empty.
func events(e snapshot.Etcd, served string) tc.Edit {
	return tc.On("etcd2", func(n *snapshot.Node) {
		n.OtherEtcd["etcd-events"] = &e
		for i := range n.Endpoints {
			if n.Endpoints[i].Name == "etcd-events" && served != "" {
				n.Endpoints[i].Fingerprint = served
			}
		}
	})
}

// After an outage, in which no API server could tell which nodes were Ready, a worker that reports
// itself not Ready is waited for until its kubelet has run for a while.
func TestNotReadySinceBeforeAnOutage(t *testing.T) {
	t.Parallel()
	up := func(node string, seconds int) tc.Edit {
		return tc.On(node, func(n *snapshot.Node) {
			n.Units["kubelet"] = snapshot.Unit{Active: "active", Sub: "running", ActiveSeconds: seconds}
		})
	}
	notReady := func(node, as string) tc.Edit { return tc.View(func(v *snapshot.View) { v.Nodes[node] = as }) }
	outage := tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Refused())
	for _, row := range []struct {
		name   string
		before tc.Edit
		after  []tc.Edit
		want   []string
	}{
		{"its kubelet runs for long", outage, []tc.Edit{up("w1", 200), notReady("w1", "False")}, nil},
		{"its kubelet has just started", outage, []tc.Edit{up("w1", 20), notReady("w1", "False")}, []string{"w1: the node must be Ready (its Ready condition is False)"}},
		{"it does not report", outage, []tc.Edit{up("w1", 200), notReady("w1", "Unknown")}, []string{"w1: the node must be Ready (its Ready condition is Unknown)"}},
		{"a control plane", outage, []tc.Edit{up("cp1", 200), notReady("cp1", "False")}, []string{"cp1: the node must be Ready (its Ready condition is False)"}},
		{"it was Ready before", tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer)), []tc.Edit{up("w1", 200), notReady("w1", "False")},
			[]string{"w1: the node must be Ready (its Ready condition is False)"}},
	} {
		c := check(plan.ClusterGate, "cp1", "w1")
		c.Before = tc.Healthy(tc.Single(), row.before)
		if got := unmet(c, renewed(row.after...)); !slices.Equal(got, row.want) {
			t.Errorf("%s: unmet %q, want %q", row.name, got, row.want)
		}
	}
}

// An etcd member is waited for as long as its answer matters.
func TestEtcdMember(t *testing.T) {
	t.Parallel()
	c := tc.EtcdNodes()
	expired := tc.On("etcd2", tc.Expired(certs.KindEtcdMember), tc.NoQuorum)
	renewed := tc.On("etcd2", tc.Renewed(certs.KindEtcdMember), tc.Serving("etcd", certs.KindEtcdMember))
	leftover := tc.On("etcd2", func(n *snapshot.Node) {
		n.Facts["etcd.cert-file"] = tc.EtcdPKI + "/member-etcd2.pem"
		old, _ := n.Certificate(certs.KindEtcdMember)
		old.Path, old.Fingerprint, old.NotAfter = tc.EtcdPKI+"/member-gone.pem", "of another", tc.Now.Add(-tc.Day)
		n.Certificates = append(n.Certificates, old)
	})
	for _, row := range []struct {
		name          string
		before, after []tc.Edit
		want          []string
	}{
		{"it is back", []tc.Edit{expired}, []tc.Edit{renewed}, nil},
		{"it has no quorum yet", []tc.Edit{expired}, []tc.Edit{renewed, tc.On("etcd2", tc.NoQuorum)},
			[]string{"etcd2: the etcd member must answer a read with quorum (context deadline exceeded)"}},
		{"it serves the old certificate", []tc.Edit{expired}, []tc.Edit{tc.On("etcd2", tc.Renewed(certs.KindEtcdMember))},
			[]string{"etcd2: the etcd member must serve the certificate on disk (127.0.0.1:2379 serves a certificate that is in none of its files)"}},
		{"it fell out meanwhile", nil, []tc.Edit{tc.On("etcd2", tc.NoQuorum)},
			[]string{"etcd2: the etcd member must answer a read with quorum (context deadline exceeded)"}},
		{"it could not be asked before, and what has expired is of a machine that is gone", []tc.Edit{leftover, tc.On("etcd2", tc.NoQuorum)}, []tc.Edit{leftover, tc.On("etcd2", tc.NoQuorum)}, nil},
		{"the one for events has no quorum", []tc.Edit{tc.EtcdEvents}, []tc.Edit{tc.EtcdEvents, events(snapshot.Etcd{Error: "no leader"}, "")},
			[]string{"etcd2: the etcd-events member must answer a read with quorum (no leader)"}},
		{"the one for events serves the old certificate", []tc.Edit{tc.EtcdEvents}, []tc.Edit{tc.EtcdEvents, events(snapshot.Etcd{Healthy: true}, "old")},
			[]string{"etcd2: the etcd-events member must serve the certificate on disk (127.0.0.1:2381 serves a certificate that is in none of its files)"}},
		{"the one for events could not be asked before", []tc.Edit{tc.EtcdEvents, events(snapshot.Etcd{Error: "no leader"}, "")},
			[]tc.Edit{tc.EtcdEvents, events(snapshot.Etcd{Error: "no leader"}, "")}, nil},
		{"it could not be asked before, for another reason", []tc.Edit{tc.On("etcd2", tc.NoQuorum)}, []tc.Edit{tc.On("etcd2", tc.NoQuorum)}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g := gate.Check{Gate: plan.EtcdGate, Nodes: []string{"etcd2"}, Thresholds: diagnosis.DefaultThresholds(), Before: tc.Healthy(c, row.before...)}
			now := tc.Healthy(c, append(row.after, tc.Later(later))...)
			got := unmet(g, now)
			if asked := unmet(g, only(now, g.Asks(c))); !slices.Equal(asked, got) {
				t.Errorf("unmet, by what the gate asks for alone: %q", asked)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("unmet: %q, want %q", got, row.want)
			}
		})
	}
}

// Authorities, service account keys and the encryption configuration stay what
// they are, byte for byte; a file that appears or disappears is a change too.
func TestIdentity(t *testing.T) {
	t.Parallel()
	before := tc.Healthy(tc.Single())
	cp1, _ := before.Node("cp1")
	if len(cp1.Digests) < 8 {
		t.Fatalf("the snapshot has only %d digests: %v", len(cp1.Digests), cp1.Digests)
	}
	for _, g := range []plan.Gate{plan.APIServerGate, plan.KubeletGate, plan.ClusterGate} {
		for file := range cp1.Digests {
			for how, edit := range map[string]func(map[string]string){
				"changed":     func(d map[string]string) { d[file] = "another" },
				"disappeared": func(d map[string]string) { delete(d, file) },
			} {
				now := renewed(tc.On("cp1", func(n *snapshot.Node) { edit(n.Digests) }))
				if !names(check(g, "cp1").Evaluate(now), file+" must not change") {
					t.Errorf("gate %s: no one sees that %s %s", g, file, how)
				}
			}
		}
		appeared := tc.PKI + "/secrets_encryption.yaml"
		now := renewed(tc.On("cp1", func(n *snapshot.Node) { n.Digests[appeared] = "new" }))
		if !names(check(g, "cp1").Evaluate(now), appeared+" must not change") {
			t.Errorf("gate %s: no one sees that %s appeared", g, appeared)
		}
	}
	if got := check(plan.APIServerGate, "cp1").Evaluate(renewed()); len(got) > 0 {
		t.Errorf("unchanged files are reported as changed: %v", got)
	}
}

// Evidence of a changed file names both sums, so that it can be looked up.
func TestIdentityEvidence(t *testing.T) {
	t.Parallel()
	now := renewed(tc.On("cp1", func(n *snapshot.Node) { delete(n.Digests, tc.PKI+"/sa.key") }))
	got := check(plan.APIServerGate, "cp1").Evaluate(now)
	want := gate.Unmet{Node: "cp1", What: "/etc/kubernetes/ssl/sa.key must not change", Evidence: "SHA-256 was sum-of-sa.key, is none"}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func names(unmet []gate.Unmet, what string) bool {
	return slices.ContainsFunc(unmet, func(u gate.Unmet) bool { return u.What == what })
}

// --- waiting -------------------------------------------------------------------

// looks hands out snapshots one after another and counts how often it was asked.
type looks struct {
	snaps []snapshot.Snapshot
	err   error
	count int
}

func (l *looks) take(context.Context) (snapshot.Snapshot, error) {
	l.count++
	if l.err != nil {
		return snapshot.Snapshot{}, l.err
	}
	return l.snaps[min(l.count, len(l.snaps))-1], nil
}

func TestWaitHoldsAtTheThirdLook(t *testing.T) {
	t.Parallel()
	refused := renewed(tc.On("cp1", tc.Refused()))
	stale := renewed(tc.On("cp1", servesOld))
	l := &looks{snaps: []snapshot.Snapshot{refused, stale, renewed()}}
	var observed []int
	got, err := check(plan.APIServerGate, "cp1").Wait(t.Context(), time.Minute, time.Millisecond, l.take, func(u []gate.Unmet) { observed = append(observed, len(u)) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(observed, []int{1, 1, 0}) {
		t.Errorf("unmet conditions at each look: %v", observed)
	}
	if n, _ := got.Node("cp1"); n.View == nil || l.count != 3 {
		t.Errorf("looked %d times, and the snapshot that came back is not the last one", l.count)
	}
}

func TestWaitGivesUpAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &looks{snaps: []snapshot.Snapshot{renewed(tc.On("cp1", tc.Refused()))}}
		start := time.Now()
		_, err := check(plan.APIServerGate, "cp1").Wait(t.Context(), 50*time.Second, 15*time.Second, l.take, func([]gate.Unmet) {})
		var timeout *gate.TimeoutError
		if !errors.As(err, &timeout) {
			t.Fatalf("error is %v, want a TimeoutError", err)
		}
		if timeout.Gate != plan.APIServerGate || len(timeout.Unmet) != 1 {
			t.Errorf("%+v", timeout)
		}
		if want := "gate api-server did not pass within 50s: cp1: the API server must answer /readyz (" + tc.SaysRefused + ")"; err.Error() != want {
			t.Errorf("error is %q, want %q", err, want)
		}
		// At 0, 15, 30 and 45 s; the next one would be too late.
		if took := time.Since(start); l.count != 4 || took != 45*time.Second {
			t.Errorf("looked %d times in %s", l.count, took)
		}
	})
}

// What a playbook has refused to change does not come true by waiting: the gate fails at once, but
// not before all else holds.
func TestWaitIsNotForRefusedFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		due := tc.On("cp1", tc.Expired(certs.KindSchedulerConf))
		file := tc.Healthy(tc.Single()).Nodes[0].Facts["config-dir"] + "/scheduler.conf"
		l := &looks{snaps: []snapshot.Snapshot{renewed(due, tc.On("cp1", tc.Refused())), renewed(due)}}
		c := check(plan.ClusterGate, "cp1")
		c.Refused = map[string][]string{"cp1": {file}, "w1": {"/etc/kubernetes/kubelet.conf"}}
		c.StableFor = time.Minute
		start := time.Now()
		_, err := c.Wait(t.Context(), time.Hour, 10*time.Second, l.take, func([]gate.Unmet) {})
		var timeout *gate.TimeoutError
		if !errors.As(err, &timeout) || !timeout.Refused || len(timeout.Unmet) != 1 {
			t.Fatalf("error is %v", err)
		}
		if want := "gate cluster cannot pass, since files were not changed: cp1: " + file + " must hold a fresh certificate"; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is %q, want %q", err, want)
		}
		if took := time.Since(start); l.count != 2 || took != 10*time.Second {
			t.Errorf("looked %d times in %s", l.count, took)
		}
	})
}

// A deadline in the past still allows one look: the gate may hold already.
func TestWaitLooksAtLeastOnce(t *testing.T) {
	t.Parallel()
	l := &looks{snaps: []snapshot.Snapshot{renewed()}}
	if _, err := check(plan.APIServerGate, "cp1").Wait(t.Context(), 0, time.Second, l.take, func([]gate.Unmet) {}); err != nil {
		t.Error(err)
	}
}

func TestWaitReturnsTheErrorOfALook(t *testing.T) {
	t.Parallel()
	broken := errors.New("ansible-playbook is gone")
	l := &looks{err: broken}
	_, err := check(plan.APIServerGate, "cp1").Wait(t.Context(), time.Minute, time.Millisecond, l.take, func([]gate.Unmet) { t.Error("an unknown state was evaluated") })
	var timeout *gate.TimeoutError
	if !errors.Is(err, broken) || l.count != 1 || errors.As(err, &timeout) {
		t.Errorf("error is %v after %d looks", err, l.count)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l := &looks{snaps: []snapshot.Snapshot{renewed(tc.On("cp1", tc.Refused()))}}
	start := time.Now()
	_, err := check(plan.APIServerGate, "cp1").Wait(ctx, time.Hour, time.Minute, l.take, func([]gate.Unmet) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %s to notice", d)
	}
}

// A gate must hold for a time without a break; what breaks begins again.
func TestWaitUntilStable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := renewed(tc.On("cp1", tc.Refused()))
		l := &looks{snaps: []snapshot.Snapshot{renewed(), renewed(), broken, renewed()}}
		c := check(plan.APIServerGate, "cp1")
		c.StableFor = 30 * time.Second
		var observed []string
		start := time.Now()
		_, err := c.Wait(t.Context(), 40*time.Second, 10*time.Second, l.take, func(u []gate.Unmet) {
			if len(u) == 0 {
				observed = append(observed, "holds")
			} else {
				observed = append(observed, u[0].Evidence)
			}
		})
		want := []string{"holds, for 0 s of 30 s", "holds, for 10 s of 30 s", tc.SaysRefused, "holds, for 0 s of 30 s", "holds, for 10 s of 30 s", "holds, for 20 s of 30 s", "holds"}
		if err != nil || !slices.Equal(observed, want) {
			t.Errorf("%v\n%q, want\n%q", err, observed, want)
		}
		// It began to hold before its deadline, and was given its time.
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// A gate that breaks off after its deadline does not hold: no wait is endless.
func TestWaitEndsWhereNothingIsStable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := renewed(tc.On("cp1", tc.Refused()))
		l := &looks{snaps: []snapshot.Snapshot{broken, renewed(), renewed(), broken, renewed()}}
		c := check(plan.APIServerGate, "cp1")
		c.StableFor = time.Minute
		_, err := c.Wait(t.Context(), 25*time.Second, 10*time.Second, l.take, func([]gate.Unmet) {})
		var timeout *gate.TimeoutError
		if !errors.As(err, &timeout) || l.count != 4 || timeout.Unmet[0].Node != "cp1" {
			t.Errorf("error is %v after %d looks", err, l.count)
		}
	})
}

// That a kubelet was down before excuses it from the proof alone: where a run waits for it,
// it has worked on it.
func TestKubeletGateExcusesNothing(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit tc.Edit
		want []string
	}{
		{"a kubelet that was down", tc.On("w1", tc.CrashLoop()), []string{"w1: the kubelet must run (systemd reports activating)"}},
		{"a node that was not Ready", tc.View(func(v *snapshot.View) { v.Nodes["w1"], v.NodeLeases["w1"] = "Unknown", tc.Now.Add(later-time.Hour) }),
			[]string{"w1: the kubelet's lease must be fresh (last renewed 1h0m0s ago)"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := check(plan.KubeletGate, "w1")
			c.Before = tc.Healthy(tc.Single(), row.edit)
			if got := unmet(c, renewed(row.edit)); !slices.Equal(got, row.want) {
				t.Errorf("unmet: %q, want %q", got, row.want)
			}
			c.Gate = plan.ClusterGate
			if got := unmet(c, renewed(row.edit)); len(got) > 0 {
				t.Errorf("the proof asks for it: %q", got)
			}
		})
	}
}

// Of CAs that are renewed a node must have the new certificate, and no other; of those that
// are rolled back it may have the one from before. Keys never change.
func TestRenewedCAs(t *testing.T) {
	t.Parallel()
	healthy := func(edits ...tc.Edit) snapshot.Snapshot {
		return tc.Healthy(tc.Single(), append([]tc.Edit{tc.Later(later)}, edits...)...)
	}
	other := func(fingerprint string) tc.Edit {
		return tc.On("cp1", func(n *snapshot.Node) {
			n.Digests[tc.PKI+"/front-proxy-ca.crt"] = "sum of " + fingerprint
			for i := range n.Certificates {
				if n.Certificates[i].Kind == certs.KindFrontProxyCA {
					n.Certificates[i].Fingerprint = fingerprint
				}
			}
		})
	}
	key := tc.On("cp1", func(n *snapshot.Node) { n.Digests[tc.PKI+"/front-proxy-ca.key"] = "another" })
	is, was := map[certs.Authority]string{certs.FrontProxyCA: "new"}, tc.Healthy(tc.Single(), other("new"))
	for name, row := range map[string]struct {
		renewed       map[certs.Authority]string
		later         []string
		restored, now snapshot.Snapshot
		want          string
	}{
		"changed without being asked": {now: healthy(other("new")), want: "front-proxy-ca.crt must not change"},
		"renewed":                     {renewed: is, now: healthy(other("new"))},
		"later, and not yet":          {renewed: is, later: []string{"cp1"}, now: healthy()},
		"later, and a third one":      {renewed: is, later: []string{"cp1"}, now: healthy(other("third")), want: "front-proxy-ca.crt must not change"},
		"not yet":                     {renewed: is, now: healthy(), want: "front-proxy-ca.crt must be the renewed CA"},
		"a third one":                 {renewed: is, now: healthy(other("third")), want: "front-proxy-ca.crt must be the renewed CA"},
		"another key":                 {renewed: is, now: healthy(other("new"), key), want: "front-proxy-ca.key must not change"},
		"rolled back":                 {restored: was, now: healthy(other("new"))},
		"not rolled back":             {restored: was, now: healthy()},
		"a third one after rollback":  {restored: was, now: healthy(other("third")), want: "front-proxy-ca.crt must not change"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := gate.Check{Gate: plan.APIServerGate, Nodes: []string{"cp1"}, Thresholds: diagnosis.DefaultThresholds(), Before: tc.Healthy(tc.Single()), Renewed: row.renewed, Later: row.later, Restored: row.restored}
			got := strings.Join(unmet(c, row.now), "; ")
			if (got == "") != (row.want == "") || !strings.Contains(got, row.want) || strings.Contains(got, "; ") {
				t.Errorf("unmet: %q, want %q", got, row.want)
			}
		})
	}
}

// TestRollbackAsksForNothingFresh: what a rollback left alone is still about to expire, as before;
// what has expired is no proof of anything.
func TestRollbackAsksForNothingFresh(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		rollback bool
		left     time.Duration
		want     string
	}{
		"a renewal":                  {left: 2 * tc.Day, want: "scheduler.conf must hold a fresh certificate (it is expiring"},
		"a rollback":                 {rollback: true, left: 2 * tc.Day},
		"a rollback, and it expired": {rollback: true, left: -tc.Day, want: "scheduler.conf must hold a fresh certificate (it is expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := tc.On("cp1", tc.EndsIn(row.left, certs.KindSchedulerConf))
			c := gate.Check{Gate: plan.ClusterGate, Nodes: []string{"cp1"}, Thresholds: diagnosis.DefaultThresholds(),
				Before: tc.Healthy(tc.Single(), ends), Rollback: row.rollback}
			got := strings.Join(unmet(c, tc.Healthy(tc.Single(), tc.Later(later), ends)), "; ")
			if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
				t.Errorf("unmet: %q, want %q", got, row.want)
			}
		})
	}
}

// TestMixedCAsAreRestored: a rollback gives each node back the certificate that it had, also
// where not all had the same.
func TestMixedCAsAreRestored(t *testing.T) {
	t.Parallel()
	having := func(names, fingerprint string) tc.Edit {
		return tc.On(names, func(n *snapshot.Node) {
			n.Digests[tc.PKI+"/ca.crt"] = "sum of " + fingerprint
			for i := range n.Certificates {
				if n.Certificates[i].Kind == certs.KindCA {
					n.Certificates[i].Fingerprint = fingerprint
				}
			}
		})
	}
	mixed := []tc.Edit{having("cp1", "second"), having("cp2,cp3,w1", "first")}
	healthy := func(edits ...tc.Edit) snapshot.Snapshot {
		return tc.Healthy(tc.HA(), append([]tc.Edit{tc.Later(later)}, edits...)...)
	}
	for name, row := range map[string]struct {
		now  snapshot.Snapshot
		want string
	}{
		"each its own":              {now: healthy(mixed...)},
		"cp2 has that of the first": {now: healthy(having("cp1,cp2", "second"), having("cp3,w1", "first")), want: "cp2: /etc/kubernetes/ssl/ca.crt must not change"},
		"cp1 has that of the rest":  {now: healthy(having("cp1,cp2,cp3,w1", "first")), want: "cp1: /etc/kubernetes/ssl/ca.crt must not change"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := gate.Check{
				Gate: plan.APIServerGate, Nodes: []string{"cp1", "cp2"}, Thresholds: diagnosis.DefaultThresholds(),
				Before: tc.Healthy(tc.HA(), having("cp1,cp2,cp3,w1", "third")), Restored: tc.Healthy(tc.HA(), mixed...),
			}
			got := strings.Join(unmet(c, row.now), "; ")
			if (got == "") != (row.want == "") || !strings.Contains(got, row.want) || strings.Contains(got, "; ") {
				t.Errorf("unmet: %q, want %q", got, row.want)
			}
		})
	}
}

// TestRotatedCAs: while CAs are rotated, their certificates and keys may change, and nothing else; the last
// gate of a stage holds once everything has reached it.
func TestRotatedCAs(t *testing.T) {
	t.Parallel()
	at := func(stages int, edits ...tc.Edit) snapshot.Snapshot {
		other := tc.On("cp1", func(n *snapshot.Node) {
			if stages > 3 {
				n.Digests[tc.PKI+"/ca.key"], n.Digests[tc.PKI+"/ca.crt"] = "next", "next"
			}
		})
		return tc.Healthy(tc.Single(), append([]tc.Edit{tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, stages)), other, tc.Later(later * time.Duration(stages))}, edits...)...)
	}
	finished := tc.Everywhere(func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool {
			return c.Kind == certs.KindCANext || c.Kind == certs.KindCAFormer
		})
	})
	trusting := func(by snapshot.Truster) tc.Edit {
		return tc.On("cp1", func(n *snapshot.Node) {
			n.Trust = append(n.Trust, snapshot.Trust{By: by, In: []string{"w/t"}, CAs: []certs.Certificate{tc.CA(certs.KindCA, "")}})
		})
	}
	for name, row := range map[string]struct {
		before, now snapshot.Snapshot
		stage       diagnosis.Stage
		rotated     []certs.Authority
		unmet       string
	}{
		"made":                   {at(0), at(1), diagnosis.StageMake, []certs.Authority{certs.KubernetesCA}, ""},
		"not made":               {at(0), at(0, tc.Later(later)), diagnosis.StageMake, []certs.Authority{certs.KubernetesCA}, "no control plane has the next one"},
		"servers":                {at(3), at(4), diagnosis.StageServers, []certs.Authority{certs.KubernetesCA}, ""},
		"servers of another CA":  {at(3), at(4), "", []certs.Authority{certs.FrontProxyCA}, "/ca.key must not change"},
		"servers, one step":      {at(3), at(4), "", []certs.Authority{certs.KubernetesCA}, ""},
		"trust, not by a worker": {at(1), at(2, tc.On("w1", tc.Trusting("", ""))), diagnosis.StageTrust, []certs.Authority{certs.KubernetesCA}, "w1: /etc/kubernetes/kubelet.conf does not trust the next CA"},
		"service account keys":   {at(1), at(2, tc.On("cp1", func(n *snapshot.Node) { n.Digests[tc.PKI+"/sa.key"] = "another" })), "", []certs.Authority{certs.KubernetesCA}, "/sa.key must not change"},
		"dropped, with files":    {at(4), at(5), diagnosis.StageDrop, []certs.Authority{certs.KubernetesCA}, "ca-next.crt is still there"},
		"dropped":                {at(4), at(5, finished), diagnosis.StageDrop, []certs.Authority{certs.KubernetesCA}, ""},
		"at once":                {at(0), at(5, finished), diagnosis.StageReplace, []certs.Authority{certs.KubernetesCA}, ""},
		"at once, literally":     {at(0), at(5, finished), diagnosis.StageLiteral, []certs.Authority{certs.KubernetesCA}, ""},
		"at once, with files":    {at(0), at(5), diagnosis.StageReplace, []certs.Authority{certs.KubernetesCA}, "ca-former.crt is still there"},
		"at once, not at all":    {at(0), at(0, tc.Later(later)), diagnosis.StageReplace, []certs.Authority{certs.KubernetesCA}, "no control plane has the next one"},
		"at once, not a worker":  {at(0), at(5, finished, tc.On("w1", tc.Trusting("", ""))), diagnosis.StageReplace, []certs.Authority{certs.KubernetesCA}, "w1: /etc/kubernetes/kubelet.conf still trusts the former CA"},
		"at once, but a webhook": {at(0), at(5, finished, trusting(snapshot.Webhook)), diagnosis.StageReplace, []certs.Authority{certs.KubernetesCA}, ""},
		"at once, but a token":   {at(0), at(5, finished, trusting(snapshot.ServiceAccountToken)), diagnosis.StageReplace, []certs.Authority{certs.KubernetesCA}, "ServiceAccount token w/t still trusts the former CA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := gate.Check{Gate: plan.ClusterGate, Nodes: []string{"cp1", "w1"}, Thresholds: diagnosis.DefaultThresholds(), Before: row.before, Rotated: row.rotated, Stage: row.stage}
			got := strings.Join(unmet(c, row.now), "\n")
			if (got == "") != (row.unmet == "") || !strings.Contains(got, row.unmet) {
				t.Errorf("unmet:\n%s\nwant %q", got, row.unmet)
			}
		})
	}
}
