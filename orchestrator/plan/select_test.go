package plan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// Situations of three control planes and one worker, and of two workers.
var (
	allDue    = tc.On("cp1,cp2,cp3", tc.EndsIn(tc.Day, certs.KindAPIServer))
	oneOut    = tc.On("cp2", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))
	lost      = tc.On("cp1,cp2,cp3", tc.Expired(certs.KindEtcdMember), tc.Refused(), tc.NoQuorum)
	renewMany = []tc.Edit{allDue, workerOut}
)

// Situations of etcd on three machines of its own.
var (
	memberDown = []tc.Edit{
		tc.On("etcd1,etcd2", tc.EndsIn(tc.Day, certs.KindEtcdMember)),
		tc.On("etcd3", tc.Expired(certs.KindEtcdMember), tc.NoQuorum),
	}
	membersLost = []tc.Edit{
		tc.On("etcd1,etcd2,etcd3", tc.Expired(certs.KindEtcdMember), tc.NoQuorum),
		tc.On("cp1", tc.EtcdClient, tc.Expired(certs.KindEtcdNode), tc.Refused()),
	}
)

type choice struct {
	name   string
	of     cluster.Cluster
	edits  []tc.Edit
	policy plan.Policy
	// steps as those of TestMake; none if there is nothing to do.
	steps []string
	// warnings are those about what is left out.
	warnings []string
	// refused is a part of the *UnsupportedError's text, unknown of the *SelectionError's.
	refused, unknown string
}

func choices() []choice {
	single, ha, nodes := tc.Single(), tc.HA(), tc.EtcdNodes()
	limit := func(names ...string) plan.Policy { return plan.Policy{Limit: names} }
	skip := func(phases ...plan.Phase) plan.Policy { return plan.Policy{Skip: phases} }
	until := func(phase plan.Phase) plan.Policy { return plan.Policy{Until: phase} }
	return []choice{
		// --- a limit -------------------------------------------------------------
		{
			name: "one of three control planes", of: ha, edits: renewMany, policy: limit("cp2"),
			steps:    []string{"~01-backup-cp2 [cp2]", "~02-renew-certs-cp2 [cp2]", "03-gate-api-server-cp2 [cp2]", "04-gate-cluster-cp2 [cp2]"},
			warnings: []string{"not in this plan: cp1, cp3 (due: apiserver)", "not in this plan: w1 (due: kubelet-client)"},
		},
		{
			name: "a group, in the order of the cluster, and a node", of: ha, edits: renewMany, policy: limit("w1", "kube_control_plane"),
			steps: []string{
				"~01-backup [cp1 cp2 cp3 w1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-renew-certs-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
				"~06-renew-certs-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]", "~08-kubelet-bootstrap-w1 [w1]", "09-gate-kubelets-w1 [w1]", "10-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "a worker, while a control plane is due", of: ha, edits: renewMany, policy: limit("kube_node"),
			steps:    []string{"~01-backup-w1 [w1]", "~02-kubelet-bootstrap-w1 [w1]", "03-gate-kubelets-w1 [w1]", "04-gate-cluster-w1 [w1]"},
			warnings: []string{"not in this plan: cp1, cp2, cp3 (due: apiserver)"},
		},
		{
			name: "a node with nothing due", of: ha, edits: []tc.Edit{allDue}, policy: limit("w1"),
			warnings: []string{"not in this plan: cp1, cp2, cp3 (due: apiserver)"},
		},
		{name: "of a healthy cluster", of: ha, policy: limit("cp1")},
		{
			name: "the control plane that is out", of: ha, edits: []tc.Edit{oneOut, workerOut}, policy: limit("cp2"),
			steps:    []string{"~01-backup-cp2 [cp2]", "~02-pre-phase-cp2 [cp2]", "03-gate-api-server-cp2 [cp2]", "04-gate-cluster-cp2 [cp2]"},
			warnings: []string{"not in this plan: w1 (due: kubelet-client)"},
		},
		{
			name: "a control plane next to one that is out", of: ha, edits: []tc.Edit{oneOut, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer))}, policy: limit("cp1"),
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster-cp1 [cp1]"},
			warnings: []string{"not in this plan: cp2 (its API server is unusable: serving-certificate-expired; due: apiserver)"},
		},
		{
			name: "two of three at a time, of which the limit takes one", of: ha, edits: []tc.Edit{allDue}, policy: plan.Policy{MaxUnavailable: 2, Limit: []string{"cp1", "cp3"}},
			steps: []string{
				"~01-backup [cp1 cp3]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-renew-certs-cp3 [cp3]", "05-gate-api-server-cp3 [cp3]", "06-gate-cluster [cp1 cp3]",
			},
			warnings: []string{"not in this plan: cp2 (due: apiserver)"},
		},
		{
			name: "the last renewal goes over the limit alone", of: ha, edits: []tc.Edit{oneOut},
			policy: plan.Policy{Choice: plan.RenewCerts, Limit: []string{"cp2", "cp3"}},
			steps: []string{
				"~01-backup [cp2 cp3]", "~02-pre-phase-cp2 [cp2]", "03-gate-api-server-cp2 [cp2]", "~04-renew-certs [cp2 cp3]", "05-gate-cluster [cp2 cp3]",
			},
		},
		{
			name: "all that have lost each other", of: ha, edits: []tc.Edit{lost}, policy: limit("etcd"),
			steps: []string{"~01-backup [cp1 cp2 cp3]", "~02-pre-phase [cp1 cp2 cp3] 3 at once", "03-gate-api-server [cp1 cp2 cp3]", "04-gate-cluster [cp1 cp2 cp3]"},
		},
		{
			name: "some that have lost each other", of: ha, edits: []tc.Edit{lost}, policy: limit("cp1", "cp3"),
			refused: "cp2 would be left out: cp1, cp2, cp3 must be recovered together",
		},
		{
			name: "a worker, while etcd has no quorum", of: ha, edits: []tc.Edit{lost, workerOut}, policy: limit("w1"),
			refused: "cp1, cp2, cp3 would be left out",
		},
		{
			name: "a worker whose kubelet needs an API server that is out", of: single, edits: []tc.Edit{out, workerOut}, policy: limit("w1"),
			refused: "kubelet-bootstrap of w1 needs the API server of cp1, which would stay unusable (serving-certificate-expired); add cp1 to --limit",
		},
		{
			name: "a worker whose kubelet may ask an API server that is out", of: ha, edits: []tc.Edit{oneOut, workerOut}, policy: limit("w1"),
			refused: "needs the API server of cp2",
		},
		{
			name: "Kubespray's upgrade", of: single, edits: []tc.Edit{due}, policy: plan.Policy{Choice: plan.UpgradeCluster, Limit: []string{"cp1"}},
			refused: "works on every node",
		},
		{
			name: "Kubespray's upgrade, left out", of: single, edits: []tc.Edit{due},
			policy:   plan.Policy{Choice: plan.UpgradeCluster, Limit: []string{"cp1"}, Skip: []plan.Phase{"upgrade-cluster"}},
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster-cp1 [cp1]"},
			warnings: []string{"not in this plan: upgrade-cluster.yml"},
		},
		{name: "a node that is none", of: single, edits: []tc.Edit{due}, policy: limit("cp1", "cp9"), unknown: "--limit cp9: "},
		{name: "a node that is none, of a healthy cluster", of: single, policy: limit("cp9"), unknown: "--limit cp9: "},
		{name: "a group without nodes", of: tc.ExternalEtcd(), policy: limit("calico_rr"), unknown: "--limit calico_rr: "},

		// --- etcd on machines of its own --------------------------------------------------
		{
			name: "one member, while the others answer", of: nodes, edits: []tc.Edit{tc.On("etcd1,etcd2,etcd3", tc.EndsIn(tc.Day, certs.KindEtcdMember))}, policy: limit("etcd2"),
			steps:    []string{"~01-backup-etcd2 [etcd2]", "~02-etcd-certificates-etcd2 [etcd2]", "03-gate-etcd-etcd2 [etcd2]", "04-gate-cluster-etcd2 [etcd2]"},
			warnings: []string{"not in this plan: etcd1, etcd3 (due: etcd-host-member)"},
		},
		{
			name: "a member that answers, next to one that is down for its certificate", of: nodes, edits: memberDown, policy: limit("etcd1"),
			steps:    []string{"~01-backup-etcd1 [etcd1]", "~02-etcd-certificates-etcd1 [etcd1]", "03-gate-etcd-etcd1 [etcd1]", "04-gate-cluster-etcd1 [etcd1]"},
			warnings: []string{"not in this plan: etcd2, etcd3 (due: etcd-host-member)"},
		},
		{
			name: "the member that is down for its certificate", of: nodes, edits: memberDown, policy: limit("etcd3"),
			steps:    []string{"~01-backup-etcd3 [etcd3]", "~02-etcd-certificates-etcd3 [etcd3]", "03-gate-etcd-etcd3 [etcd3]", "04-gate-cluster-etcd3 [etcd3]"},
			warnings: []string{"not in this plan: etcd1, etcd2 (due: etcd-host-member)"},
		},
		{
			name: "a control plane, while a member is down and not worked on", of: nodes, edits: append([]tc.Edit{due}, memberDown...), policy: limit("cp1"),
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster-cp1 [cp1]"},
			warnings: []string{"not in this plan: etcd1, etcd2, etcd3 (due: etcd-host-member)"},
		},
		{
			name: "without the gate between two members", of: nodes, edits: memberDown, policy: skip("etcd"),
			refused: "--skip-phases etcd: etcd-certificates of etcd1 starts only when etcd3 is known to be back",
		},
		{
			name: "members that have lost each other, all of them", of: nodes, edits: membersLost, policy: limit("etcd"),
			steps: []string{
				"~01-backup [etcd1 etcd2 etcd3]", "~02-etcd-certificates [etcd1 etcd2 etcd3] without waiting 3 at once",
				"03-gate-etcd [etcd1 etcd2 etcd3]", "04-gate-cluster [etcd1 etcd2 etcd3]",
			},
			warnings: []string{"not in this plan: cp1 (its API server is unusable: connection-refused; due: etcd-host-node)"},
		},
		{
			name: "members that have lost each other, until they are back", of: nodes, edits: membersLost, policy: until("etcd-certificates"),
			steps: []string{
				"~01-backup [etcd1 etcd2 etcd3]", "~02-etcd-certificates [etcd1 etcd2 etcd3] without waiting 3 at once", "03-gate-etcd [etcd1 etcd2 etcd3]",
			},
			warnings: []string{"not in this plan: cp1 (its API server is unusable: connection-refused; due: etcd-host-node)", "the result is not proved: check the cluster afterwards with kscertctl diagnose"},
		},
		{
			name: "two members that have lost each other", of: nodes, edits: membersLost, policy: limit("etcd1", "etcd2"),
			refused: "etcd3 would be left out: etcd1, etcd2, etcd3 must be recovered together",
		},
		{
			name: "the control plane, while etcd is lost", of: nodes, edits: membersLost, policy: limit("cp1"),
			refused: "etcd1, etcd2, etcd3 would be left out",
		},
		{
			name: "the control plane, without the members that it needs", of: nodes, edits: membersLost, policy: skip("etcd-certificates"),
			refused: "keep the phase etcd-certificates",
		},
		{
			name: "the control plane, without the gate of the members that it needs", of: nodes, edits: membersLost, policy: skip("etcd"),
			refused: "--skip-phases etcd: pre-phase of cp1 starts only when etcd1 is known to be back",
		},

		// --- phases that are left out ------------------------------------------------
		{
			name: "without the kubelets", of: single, edits: []tc.Edit{due, workerOut}, policy: skip("kubelet-bootstrap"),
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster-cp1 [cp1]"},
			warnings: []string{"not in this plan: w1 (due: kubelet-client)"},
		},
		{
			name: "without the kubelet of a control plane that is renewed", of: single, policy: skip("kubelet-bootstrap"),
			edits:    []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin), tc.Expired(certs.KindKubeletClient), tc.CrashLoop())},
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster-w1 [w1]"},
			warnings: []string{"not in this plan: cp1 (due: kubelet-client)"},
		},
		{
			name: "without the renewal: the kubelets alone, and no gate that nothing was changed for", of: ha, edits: renewMany, policy: skip("renew-certs"),
			steps:    []string{"~01-backup-w1 [w1]", "~02-kubelet-bootstrap-w1 [w1]", "03-gate-kubelets-w1 [w1]", "04-gate-cluster-w1 [w1]"},
			warnings: []string{"not in this plan: cp1, cp2, cp3 (due: apiserver)"},
		},
		{
			name: "without the upgrade", of: single, edits: []tc.Edit{due}, policy: plan.Policy{Choice: plan.UpgradeCluster, Skip: []plan.Phase{"upgrade-cluster"}},
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]"},
			warnings: []string{"not in this plan: upgrade-cluster.yml"},
		},
		{
			name: "without the proof", of: single, edits: []tc.Edit{due}, policy: skip("cluster"),
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]"},
			warnings: []string{"the result is not proved: check the cluster afterwards with kscertctl diagnose"},
		},
		{
			name: "without a gate behind which nothing is changed", of: single, edits: []tc.Edit{due}, policy: skip("api-server"),
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-cluster [cp1 w1]"},
			warnings: []string{"nothing waits for the gate api-server of cp1: check yourself that it is healthy again"},
		},
		{
			name: "a phase that is not in the plan", of: single, edits: []tc.Edit{due}, policy: skip("pre-phase", "kubelets"),
			steps: []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]"},
		},
		{name: "without the backup", of: single, edits: []tc.Edit{due}, policy: skip("backup"), refused: "nothing is changed on a node before it has a verified copy"},
		{
			name: "without a gate that the next control plane waits for", of: ha, edits: []tc.Edit{allDue}, policy: skip("api-server"),
			refused: "--skip-phases api-server: renew-certs of cp2 starts only when cp1 is known to be back",
		},
		{
			name: "without the gate of the kubelets before an upgrade", of: single, edits: []tc.Edit{workerOut},
			policy:  plan.Policy{Choice: plan.UpgradeCluster, Skip: []plan.Phase{"kubelets"}},
			refused: "--skip-phases kubelets: upgrade-cluster of cp1, w1 starts only when w1 is known to be back",
		},
		{
			name: "without the pre-phase that the kubelets need", of: single, edits: []tc.Edit{out, workerOut}, policy: skip("pre-phase"),
			refused: "kubelet-bootstrap of w1 needs the API server of cp1, which would stay unusable (serving-certificate-expired); keep the phase pre-phase",
		},
		{
			name: "without the pre-phase that the last renewal needs", of: ha, edits: []tc.Edit{oneOut}, policy: plan.Policy{Choice: plan.RenewCerts, Skip: []plan.Phase{"pre-phase"}},
			refused: "renew-certs of cp1, cp2, cp3 needs the API server of cp2, which would stay unusable (serving-certificate-expired); keep the phase pre-phase",
		},
		{
			name: "without the step that brings all of them back", of: ha, edits: []tc.Edit{lost}, policy: skip("pre-phase"),
			refused: "leave nothing to change: not in this plan: cp1, cp2, cp3",
		},
		{
			name: "without anything to change", of: single, edits: []tc.Edit{out}, policy: skip("pre-phase"),
			refused: "leave nothing to change: not in this plan: cp1 (its API server is unusable: serving-certificate-expired; due: apiserver)",
		},
		{name: "a phase that is none", of: single, policy: skip("renew"), unknown: "--skip-phases renew: unknown phase"},

		// --- a plan that ends early ---------------------------------------------------
		{
			name: "until the renewal, with its last gate", of: ha, edits: renewMany, policy: until("renew-certs"),
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-renew-certs-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
				"~06-renew-certs-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]",
			},
			warnings: []string{"not in this plan: w1 (due: kubelet-client)", "the result is not proved: check the cluster afterwards with kscertctl diagnose"},
		},
		{
			name: "until the last change: the proof belongs to it", of: single, edits: []tc.Edit{due}, policy: until("renew-certs"),
			steps: []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]"},
		},
		{
			name: "until a gate", of: single, edits: []tc.Edit{out, workerOut}, policy: until("api-server"),
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]"},
			warnings: []string{"not in this plan: w1 (due: kubelet-client)", "the result is not proved: check the cluster afterwards with kscertctl diagnose"},
		},
		{
			name: "until before the upgrade", of: single, edits: []tc.Edit{due}, policy: plan.Policy{Choice: plan.UpgradeCluster, Until: "renew-certs"},
			steps:    []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]"},
			warnings: []string{"not in this plan: upgrade-cluster.yml", "the result is not proved: check the cluster afterwards with kscertctl diagnose"},
		},
		{name: "until the backup", of: single, edits: []tc.Edit{due}, policy: until("backup"), refused: "--until-phase backup changes nothing"},
		{
			name: "until a phase that is not in the plan", of: single, edits: []tc.Edit{due}, policy: until("pre-phase"),
			refused: "--until-phase pre-phase: the plan has no such phase; it has: renew-certs, api-server, cluster",
		},
		{
			name: "until a phase that is left out, with nothing before it", of: single, edits: []tc.Edit{due},
			policy: plan.Policy{Until: "renew-certs", Skip: []plan.Phase{"renew-certs"}}, refused: "leave nothing to change",
		},
		{name: "until a phase that is none", of: single, policy: until("done"), unknown: "--until-phase done: unknown phase"},
	}
}

func (c choice) make() (plan.Plan, error) {
	s := tc.Healthy(c.of, c.edits...)
	return plan.Make(c.of, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), c.policy)
}

func TestChoose(t *testing.T) {
	t.Parallel()
	for _, c := range choices() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := c.make()
			if c.refused+c.unknown != "" {
				var refused *plan.UnsupportedError
				var unknown *plan.SelectionError
				if errors.As(err, &refused) != (c.refused != "") || errors.As(err, &unknown) != (c.unknown != "") || !strings.Contains(err.Error(), c.refused+c.unknown) {
					t.Errorf("error is %T %v, want %q", err, err, c.refused+c.unknown)
				}
				if len(p.Steps) > 0 {
					t.Errorf("a plan that is refused has steps: %v", p.Steps)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(p); !slices.Equal(got, c.steps) {
				t.Errorf("steps are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.steps, "\n  "))
			}
			if !slices.Equal(p.Warnings, c.warnings) {
				t.Errorf("warnings are\n  %s\nwant\n  %s", strings.Join(p.Warnings, "\n  "), strings.Join(c.warnings, "\n  "))
			}
		})
	}
}

func member(c cluster.Cluster, name string) bool {
	n, _ := c.Node(name)
	return n.Is(cluster.Etcd)
}

// Whatever is left out of whatever plan: the rest is backed up, changes no other node, and begins
// nothing before what was changed is known to be back.
func TestEveryChoiceIsSafe(t *testing.T) {
	t.Parallel()
	policies := []plan.Policy{}
	for _, phase := range plan.Phases() {
		policies = append(policies, plan.Policy{Skip: []plan.Phase{phase}}, plan.Policy{Until: phase})
		for _, limit := range []string{"cp1", "cp2", "w1", "kube_control_plane", "etcd", "etcd1", "etcd3"} {
			policies = append(policies, plan.Policy{Limit: []string{limit}}, plan.Policy{Limit: []string{limit}, Skip: []plan.Phase{phase}}, plan.Policy{Limit: []string{limit}, Until: phase})
		}
	}
	for _, r := range rows() {
		s := tc.Healthy(r.of, r.edits...)
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		for _, policy := range policies {
			policy.MaxUnavailable = r.atOnce
			for _, policy.Choice = range plan.Choices() {
				p, err := plan.Make(r.of, s, d, policy)
				if err != nil || len(p.Steps) == 0 {
					continue
				}
				limited := []string{}
				for _, name := range policy.Limit {
					limited = append(limited, cluster.Names(r.of.Named(name))...)
				}
				wrong := func(format string, args ...any) {
					t.Helper()
					t.Errorf("%s, %+v\n  %s\n"+format, append([]any{r.name, policy, strings.Join(lines(p), "\n  ")}, args...)...)
				}
				if p.Steps[0].Action != plan.Backup || len(p.Steps) < 2 {
					wrong("there is no backup, or nothing but one")
				}
				waits := map[string]bool{} // nodes that were changed and not waited for
				for _, step := range p.Steps[1:] {
					for _, n := range step.Nodes {
						if step.Changes && !slices.Contains(p.Steps[0].Nodes, n) {
							wrong("%s is changed and not backed up", n)
						}
						if len(limited) > 0 && !slices.Contains(limited, n) {
							wrong("%s is not in the limit", n)
						}
					}
					if step.Changes && len(waits) > 0 && !step.NoWait {
						wrong("%s is begun before %v is known to be back", step.ID, waits)
					}
					for _, n := range step.Nodes {
						switch {
						case step.Gate != "":
							delete(waits, n)
						case step.Action == plan.EtcdCertificates && member(r.of, n), step.Action == plan.PrePhase, step.Action == plan.KubeletBootstrap, step.Action == plan.Renew && len(step.Nodes) == max(step.AtOnce, 1):
							waits[n] = true
						}
					}
				}
			}
		}
	}
}
