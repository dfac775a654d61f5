package report_test

import (
	"bytes"
	"os/exec"
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
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// allExpired is a cluster where every leaf has expired and no API server answers.
func allExpired(c cluster.Cluster) snapshot.Snapshot {
	s := tc.Healthy(c, joined)
	for _, n := range s.Nodes {
		edits := []tc.NodeEdit{tc.Expired(tc.Kinds(n)...)}
		if n.Is(cluster.ControlPlane) {
			edits = append(edits, tc.CrashLoop(), tc.Refused())
		}
		tc.On(n.Name, edits...)(&s)
	}
	return s
}

// joined gives nodes the inspection's facts about kubeconfigs, names and layout.
func joined(s *snapshot.Snapshot) {
	tc.Everywhere(func(n *snapshot.Node) {
		n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Path: "/etc/kubernetes/kubelet.conf", Server: "https://lb.example:6443"})
		n.Facts["pki"] = "/etc/kubernetes/pki"
		for i, c := range n.Certificates {
			if c.Kind == certs.KindAPIServer {
				n.Certificates[i].SANs = append(slices.Clone(c.SANs), "lb.example")
			}
			if c.Kind == certs.KindEtcdMember && !c.Served {
				n.Certificates[i].SANs, n.Certificates[i].Usages = []string{"etcd." + n.Name, "10.0.0.1", "fd00::1"}, []string{"server auth", "client auth"}
			}
		}
		if n.Is(cluster.ControlPlane) {
			n.Kubeadm = &snapshot.KubeadmConfig{CertificatesDir: "/etc/kubernetes/ssl", CertSANs: []string{"lb.example", "10.0.0.1"}}
		}
	})(s)
}

// kubeadmEtcd turns etcd of the host into kubeadm's static pod.
func kubeadmEtcd(s *snapshot.Snapshot) {
	tc.Everywhere(func(n *snapshot.Node) {
		if !n.Is(cluster.Etcd) {
			return
		}
		member, _ := n.Certificate(certs.KindEtcdMember)
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool {
			row, _ := certs.Lookup(c.Kind)
			return row.Base == certs.EtcdPKI || c.Served
		})
		for _, kind := range []certs.Kind{certs.KindEtcdCA, certs.KindEtcdServer, "etcd-peer", "etcd-healthcheck-client", certs.KindAPIServerEtcdClient} {
			row, _ := certs.Lookup(kind)
			c := member
			c.Kind, c.Path, c.IsCA, c.SignedBy = kind, tc.PKI+"/"+row.Path, row.CA, row.Signer
			ca := tc.CA(certs.KindEtcdCA, "")
			c.Signers = []string{ca.SignsAs()}
			if row.CA {
				ca.Path, ca.Key, ca.File = c.Path, member.Key, member.File
				c = ca
			}
			n.Certificates = append(n.Certificates, c)
		}
		n.Digests[tc.PKI+"/etcd/ca.crt"], n.Digests[tc.PKI+"/etcd/ca.key"] = "sum-of-etcd/ca.crt", "sum-of-etcd/ca.key"
		delete(n.Units, "etcd")
		n.Kubeadm.EtcdEndpoints = nil
	})(s)
}

// hand is how Ansible is called in the runbooks of the tests.
var hand = report.ByHand{
	Ansible: []string{"-i", "/srv/inventory.ini"},
	Settings: plan.Settings{
		Run: "manual-20260301T120000Z", BackupRoot: "/var/backups/kscertctl", EtcdSnapshot: plan.SnapshotAuto,
		RenewBefore: 30 * tc.Day, Wait: 5 * time.Minute,
	},
}

func runbook(t *testing.T, s snapshot.Snapshot) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.Runbook(&out, s, assess(s), hand); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// keyless removes the key of etcd's CA from a node.
func keyless(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") }

// runbooks makes the snapshots whose runbooks are in testdata.
func runbooks() map[string]func() snapshot.Snapshot {
	healthy := func(c cluster.Cluster, edits ...tc.Edit) func() snapshot.Snapshot {
		return func() snapshot.Snapshot { return tc.Healthy(c, edits...) }
	}
	return map[string]func() snapshot.Snapshot{
		"recover-host-etcd": func() snapshot.Snapshot { return allExpired(tc.Single()) },
		"recover-kubeadm-etcd": func() snapshot.Snapshot {
			s := tc.Healthy(tc.HA(), joined, kubeadmEtcd)
			for _, n := range s.With(cluster.ControlPlane) {
				tc.On(n.Name, tc.Expired(tc.Kinds(n)...), tc.CrashLoop(), tc.Refused(), tc.NoQuorum)(&s)
			}
			return s
		},
		"renew-worker":    healthy(tc.Single(), joined, tc.On("w1", tc.Expired(certs.KindKubeletClient))),
		"renew-expiring":  healthy(tc.Single(), joined, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin, "controller-manager.conf"))),
		"none":            healthy(tc.Single()),
		"refuse":          healthy(tc.Single(), tc.On("cp1", tc.Refused()), tc.On("w1", tc.Unknown(snapshot.Unreachable, "ssh: no route"))),
		"renew-unplanned": healthy(tc.ExternalEtcd(), tc.On("etcd1", tc.Expired(certs.KindEtcdMember), keyless)),
		"renew-etcd-nodes": healthy(tc.EtcdNodes(), joined, tc.On("etcd1,etcd2,etcd3", tc.EndsIn(tc.Day, certs.KindEtcdMember)),
			tc.On("cp1", tc.EtcdClient, tc.EndsIn(tc.Day, certs.KindEtcdNode))),
	}
}

func TestRunbook(t *testing.T) {
	t.Parallel()
	for name, made := range runbooks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := made()
			route, _, _ := strings.Cut(name, "-") // or the file is of another case than its name
			if got := assess(s).Route; string(got) != route {
				t.Fatalf("the route is %s", got)
			}
			golden(t, "runbook-"+name+".md", runbook(t, s))
		})
	}
}

var blocks = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// The blocks are valid shell.
func TestRunbookIsShell(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash on this machine")
	}
	seen := 0
	for name, made := range runbooks() {
		for _, block := range blocks.FindAllStringSubmatch(runbook(t, made()), -1) {
			seen++
			cmd := exec.CommandContext(t.Context(), bash, "-n")
			cmd.Stdin = strings.NewReader(block[1])
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", name, err, out, block[1])
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d blocks were found", seen)
	}
}

// Names and paths of the cluster stay one word, whatever they contain.
func TestRunbookQuotes(t *testing.T) {
	t.Parallel()
	s := allExpired(tc.Single())
	tc.Everywhere(func(n *snapshot.Node) {
		n.KubernetesName = "it's; $(reboot)"
		n.Facts["kubeadm-config"] = "/etc/kube config/`reboot`.yaml"
	})(&s)
	got := runbook(t, s)
	for _, want := range []string{`'system:node:it'\''s; $(reboot)'`, "'/etc/kube config/`reboot`.yaml'"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

// Only what is due is issued again.
func TestRunbookLeavesTheRest(t *testing.T) {
	t.Parallel()
	s := allExpired(tc.Single())
	a := assess(s)
	a.Due = map[string][]certs.Kind{"cp1": {certs.KindSchedulerConf}}
	var out bytes.Buffer
	ok(t, report.Runbook(&out, s, a, hand))
	if got := out.String(); !strings.Contains(got, "for name in scheduler.conf; do") ||
		strings.Contains(got, "kubelet-client-$(date") || strings.Contains(got, "ca-key.pem") || strings.Contains(got, "token create") {
		t.Errorf("%s", got)
	}
}

// By hand, too, an API server that works is not restarted for files that it reloads, what was issued is not
// issued again, serving certificates are approved, and who signs for etcd is named.
func TestRunbookDoesWhatRunDoes(t *testing.T) {
	t.Parallel()
	version := func(v string) tc.NodeEdit {
		return func(n *snapshot.Node) { n.Results["kubeadm-version"] = snapshot.Result{Output: v} }
	}
	asks := func(n *snapshot.Node) { n.Facts["kubelet.serverTLSBootstrap"] = "true" }
	out := []tc.Edit{joined, tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)), tc.On("cp2", tc.EndsIn(tc.Day, certs.KindAPIServer))}
	stop := "label io.kubernetes.container.name=kube-apiserver"
	for name, row := range map[string]struct {
		edits  []tc.Edit
		choice plan.Choice
		count  map[string]int
	}{
		"one that reloads":          {append(out, tc.On("cp2", version("v1.34.4"))), plan.Auto, map[string]int{stop: 1, "approve": 0}},
		"one that does not":         {append(out, tc.On("cp2", version("v1.19.4"))), plan.Auto, map[string]int{stop: 2}},
		"one of an unknown version": {append(out, tc.On("cp2", version(""))), plan.Auto, map[string]int{stop: 2}},
		"what was issued":           {append(out, tc.On("cp1,cp2,cp3", version("v1.34.4"))), plan.RenewCerts, map[string]int{stop: 1, "for name in apiserver;": 2}},
		"serving certificates": {append(out, tc.On("cp1,w1", asks), tc.On("w1", tc.Expired(certs.KindKubeletClient))), plan.Auto,
			map[string]int{"certificate approve": 2, "for node in cp1; do\n  pending()": 1, "for node in w1; do\n  pending()": 1}},
		"the signer": {[]tc.Edit{joined, tc.On("cp1,cp2,cp3", tc.Expired(certs.KindEtcdMember), tc.Refused(), tc.NoQuorum), tc.On("cp1", keyless)}, plan.Auto,
			map[string]int{"# cp2, sign there": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.HA(), row.edits...)
			a := assess(s)
			var err error
			a.Plan, err = plan.Make(s.Cluster(), s, a.Diagnosis, plan.Policy{Choice: row.choice})
			ok(t, err)
			var out bytes.Buffer
			ok(t, report.Runbook(&out, s, a, hand))
			for text, want := range row.count {
				if got := strings.Count(out.String(), text); got != want {
					t.Errorf("%q is there %d times, not %d:\n%s", text, got, want, out.String())
				}
			}
		})
	}
}

// Kubespray's own renewal is held meanwhile, as in a run.
func TestRunbookHoldsTimers(t *testing.T) {
	t.Parallel()
	s := runbooks()["renew-expiring"]()
	for i := range s.Nodes {
		if s.Nodes[i].Is(cluster.ControlPlane) {
			s.Nodes[i].RenewalTimer = &snapshot.RenewalTimer{State: snapshot.TimerOn}
		}
	}
	var order []string
	for _, m := range regexp.MustCompile(`infrapuzzle\.kscertctl\.(\w+)|"kscert_timer_action":"(\w+)"`).FindAllStringSubmatch(runbook(t, s), -1) {
		order = append(order, m[1]+m[2])
	}
	want := []string{"renewal_timer", "hold", "backup", "renew_certs", "renewal_timer", "release"}
	if got := slices.DeleteFunc(order, func(s string) bool { return s == "kscertctl" }); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Each etcd cluster of a node is backed up, restarted and waited for by its own name.
func TestRunbookOfTwoEtcds(t *testing.T) {
	t.Parallel()
	stale := tc.Everywhere(func(n *snapshot.Node) {
		for i := range n.Endpoints {
			if n.Endpoints[i].Name == "etcd-events" {
				n.Endpoints[i].Fingerprint = "older"
			}
		}
	})
	outage := tc.Healthy(tc.Single(), joined, tc.EtcdEvents, tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)), stale)
	text := runbook(t, outage) +
		runbook(t, tc.Healthy(tc.EtcdNodes(), joined, tc.EtcdEvents, tc.On("etcd1", tc.EndsIn(tc.Day, certs.KindEtcdMember))))
	for _, want := range []string{
		"/etc/etcd.env /etc/etcd-events.env", "systemctl restart --no-block etcd-events", "set -a; . /etc/etcd.env; timeout 300",
		"set -a; . /etc/etcd.env; ETCDCTL_ENDPOINTS=https://127.0.0.1:2381; timeout 300",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Every gate of a plan is in its runbook as commands. In a recovery the block before waits for etcd and the
// API server, because each is stopped or started there.
func TestEveryGateIsInTheRunbook(t *testing.T) {
	t.Parallel()
	gates := map[plan.Gate]bool{plan.ClusterGate: true}
	for _, row := range plan.Actions() {
		gates[row.Gate] = row.Gate != ""
	}
	waited := map[plan.Gate]bool{plan.EtcdGate: true, plan.APIServerGate: true}
	for gate, is := range gates {
		for _, s := range []snapshot.Snapshot{allExpired(tc.Single()), tc.Healthy(tc.Single(), joined, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)))} {
			a := assess(s)
			if !is || a.Route == diagnosis.Recover && waited[gate] {
				continue
			}
			commands := func(steps ...plan.Step) int {
				a.Plan.Steps = steps
				var out bytes.Buffer
				ok(t, report.Runbook(&out, s, a, hand))
				n := 0
				for _, block := range blocks.FindAllStringSubmatch(out.String(), -1) {
					n += strings.Count(block[1], "\n")
				}
				return n
			}
			backup := plan.Step{Action: plan.Backup, Nodes: []string{"cp1"}}
			if commands(backup, plan.Step{Gate: gate, Nodes: []string{"cp1", "w1"}}) < commands(backup)+2 {
				t.Errorf("route %s: nothing is typed for the gate %s", a.Route, gate)
			}
		}
	}
}
