package diagnosis_test

import (
	"regexp"
	"slices"
	"strings"
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

// leadsOn matches the way out in a refusal of a plan.
var leadsOn = regexp.MustCompile(`--[a-z]{4}|etcdctl|systemctl|put the key back|have it issued`)

// In every situation of the tables check-expiration, the diagnosis and the plan agree: what the
// first warns about is a finding, a certificate that is due and can be renewed has a step, and if
// everything is called healthy no file is about to expire. A refusal is reported with a way out.
func TestCheckDiagnosisAndPlanAgree(t *testing.T) {
	t.Parallel()
	agree := func(name string, of cluster.Cluster, edits []tc.Edit) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(of, edits...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			for _, row := range expiry.Of(s, expiry.DefaultThresholds()).Certificates {
				if row.Status == expiry.Unused && slices.Contains(d.Due[row.Node], row.Kind) {
					t.Errorf("%s on %s is due, and the check calls it unused", row.Name, row.Node)
				}
				disagree(t, s, d, row)
			}
			if f, found := d.Primary(); found && f.Next() == "" {
				t.Errorf("%s leads nowhere", f.Reason)
			}
			if f, _ := d.Primary(); d.Route == diagnosis.Refuse && strings.HasPrefix(f.Next(), "renew it: kscertctl run") {
				t.Errorf("it is refused because of %s, and the advice is to run what is refused", f.Reason)
			}
			p, err := plan.Make(of, s, d, plan.Policy{})
			if err != nil {
				if !leadsOn.MatchString(err.Error()) {
					t.Errorf("it is refused, and no way is named: %v", err)
				}
				if _, again := plan.Make(of, s, d, advised(err.Error())); again != nil && again.Error() == err.Error() {
					t.Errorf("what the refusal says to add is refused with the same words: %v", err)
				}
				return
			}
			works := d.Route == diagnosis.Renew || d.Route == diagnosis.Recover || d.Route == diagnosis.NewCA
			if works != (len(p.Steps) > 0) {
				t.Errorf("the route is %s, and the plan has %d steps", d.Route, len(p.Steps))
			}
			for node, kinds := range d.Due {
				if works && !slices.ContainsFunc(p.Steps, func(step plan.Step) bool {
					return step.Alters() && slices.Contains(step.Nodes, node)
				}) {
					t.Errorf("%v are due on %s, and no step is there", kinds, node)
				}
			}
		})
	}
	for _, row := range situations() {
		agree(row.name, row.of, row.edits)
	}
	for _, row := range allFaults() {
		agree(row.name, row.of, row.edits)
	}
}

// flag is one that a refusal recommends.
var flag = regexp.MustCompile(`(--limit|--allow-not-in-inventory) ('[^']*'|[^\s;,']+(?:,[^\s;,']+)*)`)

// advised is the policy with the flags that a refusal recommends.
func advised(refusal string) (p plan.Policy) {
	for _, m := range flag.FindAllStringSubmatch(refusal, -1) {
		value := strings.Trim(m[2], "'")
		if m[1] == "--limit" {
			p.Limit = strings.Split(value, ",")
		} else {
			p.AllowNotInInventory = append(p.AllowNotInInventory, value)
		}
	}
	return p
}

// disagree reports where a row of the check and the diagnosis differ.
func disagree(t *testing.T, s snapshot.Snapshot, d diagnosis.Diagnosis, row expiry.Row) {
	t.Helper()
	kind, known := certs.Lookup(row.Kind)
	n, _ := s.Node(row.Node)
	invalid := row.Status == expiry.Expired || row.Status == expiry.NotYetValid
	if invalid && strings.HasPrefix(d.Verdict, "healthy: every certificate") {
		t.Errorf("%s on %s is %s, and the verdict is %q", row.Name, n.Name, row.Status, d.Verdict)
	}
	if row.Served {
		if invalid && len(d.Findings) == 0 {
			t.Errorf("%s on %s is %s, and nothing was found", row.Name, n.Name, row.Status)
		}
		return
	}
	found := slices.ContainsFunc(d.Findings, func(f diagnosis.Finding) bool {
		return f.Node == n.Name && (f.Subject == row.Label() || f.Subject == row.Path)
	})
	if !known {
		if row.Status.Level() > expiry.LevelOK && !found {
			t.Errorf("%s on %s is %s, and nothing was found", row.Name, n.Name, row.Status)
		}
		return
	}
	due := slices.Contains(d.Due[n.Name], row.Kind)
	bad := row.Status.Level() > expiry.LevelOK
	switch {
	case bad && !found:
		t.Errorf("%s on %s is %s, and nothing was found", row.Name, n.Name, row.Status)
	case bad && !kind.CA && !n.Copies(kind) && strings.HasPrefix(d.Verdict, "healthy: every certificate"):
		t.Errorf("%s on %s is %s, and the verdict is %q", row.Name, n.Name, row.Status, d.Verdict)
	case due && !bad && !strings.Contains(kind.Path, "*"): // of which there may be several
		t.Errorf("%s on %s is due, and the check calls it valid", row.Name, n.Name)
	case bad && !due && !kind.CA && !n.Copies(kind) && !kind.Approved &&
		!d.Has(diagnosis.ClockSkew, diagnosis.CertificateNotYetValid):
		t.Errorf("%s on %s is %s, and not due", row.Name, n.Name, row.Status)
	}
}

// If an outage is refused although a run would fix something, the primary finding is what that run
// would not fix: the advice for the other is the run that is refused.
func TestRefusalNamesWhatIsNotRepaired(t *testing.T) {
	t.Parallel()
	crash := []tc.NodeEdit{tc.Refused(), output("apiserver-log", "Error: unknown flag: --foo")}
	for name, edit := range map[string]tc.NodeEdit{
		"begins later":  tc.BeginsIn(time.Hour, "front-proxy-client"),
		"expires soon":  tc.EndsIn(tc.Day, "front-proxy-client"),
		"has expired":   tc.Expired("front-proxy-client"),
		"its pair gone": without(certs.KindKubeletClient),
	} {
		d := diagnosis.Diagnose(tc.Healthy(tc.Single(), tc.On("cp1", append(crash, edit)...)), diagnosis.DefaultThresholds())
		if d.Route != diagnosis.Refuse || d.PrimaryReason != diagnosis.APICrashing {
			t.Errorf("%s: route %s, because of %s", name, d.Route, d.PrimaryReason)
		}
	}
}

// Of two manifests of one pod the original is the one with kubeadm's name, whichever name is
// shorter.
func TestCopyOfAManifest(t *testing.T) {
	t.Parallel()
	const dir = "/etc/kubernetes/manifests/"
	for copied, pod := range map[string]string{"old.yaml": "kube-system/kube-apiserver", "a.yaml": ""} {
		s := tc.Healthy(tc.Single(), tc.On("cp1", func(n *snapshot.Node) {
			n.Files = map[string]string{dir + "kube-apiserver.yaml": "same", dir + copied: "same"}
			n.Pods = map[string]string{}
			if pod != "" {
				n.Files[dir+copied] = "other"
				n.Pods[dir+"kube-apiserver.yaml"], n.Pods[dir+copied] = pod, pod
			}
		}))
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		if f, _ := d.Primary(); f.Reason != diagnosis.ManifestCopy || f.Subject != dir+copied {
			t.Errorf("%s: %s of %s", copied, f.Reason, f.Subject)
		}
	}
}

// The clock of a machine that has not joined does not matter for those that issue certificates.
func TestClockOfAnUnjoinedMachine(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), tc.Unjoined("w1"), tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(time.Hour) }),
		tc.On("cp1", tc.BeginsIn(time.Hour, "front-proxy-client")))
	if d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds()); d.Route != diagnosis.Renew || !d.Has(diagnosis.CertificateBeginsLater) {
		t.Errorf("route %s: %s", d.Route, d.Verdict)
	}
}

// An API server that serves a certificate that is not valid yet, while that on disk is valid, is
// restarted.
func TestServedBeforeItsTime(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), tc.On("cp1", tc.Unusable(1, "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-03-01T12:00:00Z is before 2026-03-01T13:00:00Z"), func(n *snapshot.Node) {
		e, _ := n.Endpoint("kube-apiserver")
		for i := range n.Endpoints {
			if n.Endpoints[i].Name == "kube-apiserver" {
				n.Endpoints[i].Fingerprint = "early"
			}
		}
		n.Certificates = append(n.Certificates, certs.Certificate{
			Kind: "kube-apiserver", Served: true, Path: e.Address, Fingerprint: "early", SignedBy: certs.KubernetesCA, NotBefore: tc.Now.Add(time.Hour), NotAfter: tc.Now.Add(300 * tc.Day),
		})
	}))
	if d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds()); d.Route != diagnosis.Recover {
		t.Errorf("route %s, %s: %s", d.Route, d.ControlPlanes["cp1"], d.Verdict)
	}
}
