package plan_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

const kubeletServer certs.Kind = "kubelet-server"

// serverCertificate adds the kubelet's serving certificate of clusters that rotate it.
func serverCertificate(n *snapshot.Node) {
	c, _ := n.Certificate(certs.KindKubeletClient)
	c.Kind, c.Path = kubeletServer, tc.KubeletPKI+"/kubelet-server-current.pem"
	n.Certificates = append(n.Certificates, c)
}

// Situations that several tests plan for.
var (
	due       = tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer, certs.KindAdmin))
	out       = tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))
	workerOut = tc.On("w1", tc.Expired(certs.KindKubeletClient), tc.CrashLoop())
	etcdCA    = func(n *snapshot.Node) {
		ca := tc.CA(certs.KindEtcdHostCA, "")
		ca.Path, ca.Key = tc.EtcdPKI+"/ca.pem", certs.KeyMissing
		n.Certificates = append(n.Certificates, ca)
	}
	kubeadmEtcdCA = func(n *snapshot.Node) {
		ca := tc.CA(certs.KindEtcdCA, "")
		ca.Path, ca.Key = tc.PKI+"/etcd/ca.crt", certs.KeyMatches
		n.Certificates = append(n.Certificates, ca)
	}
	outCrashes = tc.On("cp1", tc.Expired(certs.KindKubeletClient), tc.CrashLoop(), tc.Refused())
)

type row struct {
	name   string
	of     cluster.Cluster
	edits  []tc.Edit
	choice plan.Choice
	// theirs is the checkout's own renew-certs playbook.
	theirs string
	atOnce int
	// steps as "ID [nodes]", with ~ before those that change nodes and "without waiting" after
	// those that leave it to a later one.
	steps []string
	// unsupported is a part of the *UnsupportedError's text.
	unsupported string
}

func rows() []row {
	single, ha, nodes := tc.Single(), tc.HA(), tc.EtcdNodes()
	eachBehindItsGate := []string{
		"~01-backup [cp1 cp2 cp3]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-pre-phase-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
		"~06-pre-phase-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]", "08-gate-cluster [cp1 cp2 cp3 w1]",
	}
	return []row{
		// --- routes without steps ------------------------------------------------
		{name: "healthy", of: single, choice: plan.Auto},
		{name: "healthy, whatever is asked for", of: single, choice: plan.UpgradeCluster},
		{name: "refused", of: single, edits: []tc.Edit{tc.On("cp1", tc.Refused())}, choice: plan.Auto},

		// --- an expired CA, whose key is there ------------------------------------------
		{
			name: "the cluster's CA has expired", of: single, edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindCA), tc.Unusable(1, tc.SaysExpired))}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 w1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew [cp1 w1] 2 at once", "~04-pre-phase-cp1 [cp1]", "05-gate-api-server-cp1 [cp1]",
				"~06-ca-publish-cp1 [cp1]", "07-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "the front proxy's CA has expired", of: single, edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindFrontProxyCA))}, choice: plan.Auto,
			steps: []string{"~01-backup-cp1 [cp1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew-cp1 [cp1]", "04-gate-cluster [cp1 w1]"},
		},
		{
			name: "the cluster's CA has expired, on three control planes", of: ha, choice: plan.Auto,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindCA), tc.Unusable(1, tc.SaysExpired))},
			steps: []string{
				"~01-backup [cp1 cp2 cp3 w1]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew [cp1 cp2 cp3 w1] 4 at once",
				"~04-pre-phase-cp1 [cp1]", "05-gate-api-server-cp1 [cp1]", "~06-pre-phase-cp2 [cp2]", "07-gate-api-server-cp2 [cp2]",
				"~08-pre-phase-cp3 [cp3]", "09-gate-api-server-cp3 [cp3]", "~10-ca-publish-cp1 [cp1]", "11-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "the cluster's CA has expired, and a former run has put a new certificate on the second control plane", of: ha, choice: plan.Auto,
			edits: []tc.Edit{tc.On("cp1,cp3", tc.Expired(certs.KindCA), tc.Unusable(1, tc.SaysExpired)), tc.On("cp2", tc.Bundle(certs.KindCA, tc.Again, tc.Again), tc.Trusting("", tc.Again))},
			steps: []string{
				"~01-backup [cp1 cp2 cp3 w1]", "02-ca-issue-cp2 [cp2]", "~03-ca-renew [cp1 cp2 cp3 w1] 4 at once",
				"~04-pre-phase-cp1 [cp1]", "05-gate-api-server-cp1 [cp1]", "~06-renew-certs-cp2 [cp2]", "07-gate-api-server-cp2 [cp2]",
				"~08-pre-phase-cp3 [cp3]", "09-gate-api-server-cp3 [cp3]", "~10-ca-publish-cp1 [cp1]", "11-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "the front proxy's CA has expired, on three control planes", of: ha, choice: plan.Auto,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindFrontProxyCA))},
			steps: []string{"~01-backup [cp1 cp2 cp3]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew [cp1 cp2 cp3] 3 at once", "04-gate-cluster [cp1 cp2 cp3 w1]"},
		},
		{
			name: "etcd's CA has expired, and no member finds another", of: ha, choice: plan.Auto,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindEtcdHostCA), tc.Refused(), tc.NoQuorum)},
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew [cp1 cp2 cp3] 3 at once",
				"~04-pre-phase [cp1 cp2 cp3] 3 at once", "05-gate-api-server [cp1 cp2 cp3]", "06-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "etcd's CA has expired, and members hold their quorum over the connections that they have", of: ha, choice: plan.Auto,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindEtcdHostCA))}, unsupported: "still have their quorum",
		},
		{
			name: "etcd's CA has expired, on nodes of its own", of: nodes, choice: plan.Auto,
			edits: []tc.Edit{
				tc.On("cp1", tc.EtcdClient, etcdCA, tc.Expired(certs.KindEtcdHostCA), tc.Refused()),
				tc.On("etcd1,etcd2,etcd3", tc.Expired(certs.KindEtcdHostCA), tc.NoQuorum),
			},
			steps: []string{
				"~01-backup [cp1 etcd1 etcd2 etcd3]", "02-ca-issue-etcd1 [etcd1]", "~03-ca-renew [cp1 etcd1 etcd2 etcd3] 4 at once",
				"~04-etcd-certificates [etcd1 etcd2 etcd3] without waiting 3 at once", "05-gate-etcd [etcd1 etcd2 etcd3]",
				"~06-pre-phase-cp1 [cp1]", "07-gate-api-server-cp1 [cp1]", "08-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
			},
		},
		{
			name: "etcd's CA has expired on the one member that is down, and the others have a newer certificate", of: ha, choice: plan.Auto,
			edits:       []tc.Edit{tc.On("cp3", tc.Expired(certs.KindEtcdHostCA), tc.Refused(), tc.NoQuorum)},
			unsupported: "expired on cp3 only",
		},
		{
			name: "the CA of etcd has expired that kubeadm runs on three control planes", of: ha, choice: plan.Auto,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", kubeadmEtcdCA, tc.Expired(certs.KindEtcdCA), tc.Refused(), tc.NoQuorum)},
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "02-ca-issue-cp1 [cp1]", "~03-ca-renew [cp1 cp2 cp3] 3 at once",
				"~04-pre-phase [cp1 cp2 cp3] 3 at once", "05-gate-api-server [cp1 cp2 cp3]", "06-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "the CA of the front proxy explains no API server that is out", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindFrontProxyCA), tc.Unusable(1, tc.SaysExpired))}, choice: plan.Auto,
		},

		// --- renew -----------------------------------------------------------------
		{
			name: "renew one control plane", of: single, edits: []tc.Edit{due}, choice: plan.Auto,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "renew, asked for by name", of: single, edits: []tc.Edit{due}, choice: plan.RenewCerts,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "renew by the checkout's own playbook: one at a time, and ours after it", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2", tc.EndsIn(tc.Day, certs.KindAPIServer))}, choice: plan.RenewCerts, theirs: "renew-certs.yml",
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "~02-renew-certs-cp1 [cp1] by renew-certs.yml", "03-gate-api-server-cp1 [cp1]",
				"~04-renew-certs-cp2 [cp2] by renew-certs.yml", "05-gate-api-server-cp2 [cp2]", "~06-renew-certs [cp1 cp2 cp3]", "07-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "the checkout's own playbook is not used unless it is asked for", of: single, edits: []tc.Edit{due}, choice: plan.Auto, theirs: "renew-certs.yml",
			steps: []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]"},
		},
		{
			name: "nor where an API server is out", of: single, edits: []tc.Edit{out}, choice: plan.RenewCerts, theirs: "renew-certs.yml",
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-renew-certs-cp1 [cp1]", "05-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "the checkout's upgrade", of: single, edits: []tc.Edit{due}, choice: plan.UpgradeCluster, theirs: "renew-certs.yml",
			steps: []string{
				"~01-backup [cp1 w1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-upgrade-cluster [cp1 w1] by upgrade-cluster.yml", "05-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "renew, then upgrade: the backup is of every node", of: single, edits: []tc.Edit{due}, choice: plan.UpgradeCluster,
			steps: []string{
				"~01-backup [cp1 w1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-upgrade-cluster [cp1 w1]", "05-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "renew three control planes one after another, each behind its gate", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.EndsIn(tc.Day, certs.KindAPIServer))}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]",
				"~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-renew-certs-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
				"~06-renew-certs-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]",
				"08-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "as many at a time as may be unavailable, but never all", of: ha, atOnce: 5,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.EndsIn(tc.Day, certs.KindAPIServer))}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "~02-renew-certs [cp1 cp2] 2 at once", "03-gate-api-server [cp1 cp2]",
				"~04-renew-certs-cp3 [cp3]", "05-gate-api-server-cp3 [cp3]", "06-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "and not more members of etcd than the quorum bears", of: ha, atOnce: 2,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.EndsIn(tc.Day, certs.KindEtcdMember))}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]",
				"~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-renew-certs-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
				"~06-renew-certs-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]",
				"08-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "only the control plane that is due is touched", of: ha,
			edits: []tc.Edit{tc.On("cp2", tc.EndsIn(tc.Day, certs.KindAPIServer))}, choice: plan.Auto,
			steps: []string{
				"~01-backup-cp2 [cp2]", "~02-renew-certs-cp2 [cp2]", "03-gate-api-server-cp2 [cp2]", "04-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "a stale served certificate needs a restart", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Renewed(certs.KindAPIServer))}, choice: plan.Auto,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "a worker's kubelet", of: single, edits: []tc.Edit{workerOut}, choice: plan.Auto,
			steps: []string{
				"~01-backup-w1 [w1]", "~02-kubelet-bootstrap-w1 [w1]", "03-gate-kubelets-w1 [w1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "the kubelet of a control plane whose API server answers", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindKubeletClient), tc.CrashLoop())}, choice: plan.Auto,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-kubelet-bootstrap-cp1 [cp1]", "03-gate-kubelets-cp1 [cp1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "a serving certificate that someone must approve", of: single,
			edits: []tc.Edit{tc.On("w1", serverCertificate, tc.Expired(kubeletServer))}, choice: plan.Auto,
		},
		{
			name: "the kubelet's self-signed serving certificate", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Expired(certs.KindKubeletServing))}, choice: plan.Auto,
			steps: []string{
				"~01-backup-w1 [w1]", "~02-kubelet-bootstrap-w1 [w1]", "03-gate-kubelets-w1 [w1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "control plane and worker", of: single, edits: []tc.Edit{due, workerOut}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 w1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-kubelet-bootstrap-w1 [w1]", "05-gate-kubelets-w1 [w1]", "06-gate-cluster [cp1 w1]",
			},
		},

		// --- recover ---------------------------------------------------------------
		{
			name: "recover with the pre-phase", of: single, edits: []tc.Edit{out}, choice: plan.Auto,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "recover with the pre-phase alone", of: single, edits: []tc.Edit{out}, choice: plan.NoPlaybook,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "recover, then renew-certs", of: single, edits: []tc.Edit{out}, choice: plan.RenewCerts,
			steps: []string{
				"~01-backup-cp1 [cp1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-renew-certs-cp1 [cp1]", "05-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "recover, then upgrade", of: single, edits: []tc.Edit{out}, choice: plan.UpgradeCluster,
			steps: []string{
				"~01-backup [cp1 w1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "~04-upgrade-cluster [cp1 w1]", "05-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "the pre-phase covers its own node's kubelet; workers come after", of: single,
			edits: []tc.Edit{outCrashes, workerOut}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 w1]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-kubelet-bootstrap-w1 [w1]", "05-gate-kubelets-w1 [w1]", "06-gate-cluster [cp1 w1]",
			},
		},
		{
			name: "one API server is out, the others are due: in the order of the inventory", of: ha,
			edits: []tc.Edit{
				tc.On("cp1,cp3", tc.EndsIn(tc.Day, certs.KindAPIServer)),
				tc.On("cp2", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)),
			}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]",
				"~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-pre-phase-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
				"~06-renew-certs-cp3 [cp3]", "07-gate-api-server-cp3 [cp3]",
				"08-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "two API servers are out: one is back before the next is touched", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2]",
				"~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-pre-phase-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]",
				"06-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "etcd has lost its quorum: all at the same time", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindEtcdMember), tc.Refused(), tc.NoQuorum)}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "~02-pre-phase [cp1 cp2 cp3] 3 at once",
				"03-gate-api-server [cp1 cp2 cp3]", "04-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "the third has the quorum: each comes back behind its gate, whose etcd certificates are merely due", of: ha,
			edits:  []tc.Edit{tc.On("cp1,cp2", tc.Expired(certs.KindAPIServer), tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Unusable(1, tc.SaysExpired))},
			choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-pre-phase-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]", "06-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "etcd has no quorum, and its certificates are merely due: each behind its gate", of: ha,
			edits:  []tc.Edit{tc.On("cp1,cp2,cp3", tc.Expired(certs.KindAPIServer), tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Unusable(1, tc.SaysExpired), tc.NoQuorum)},
			choice: plan.Auto, steps: eachBehindItsGate,
		},
		{
			name: "nor has it lost its quorum for one that has expired", of: ha,
			edits: []tc.Edit{
				tc.On("cp1,cp2,cp3", tc.Expired(certs.KindAPIServer), tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Unusable(1, tc.SaysExpired), tc.NoQuorum),
				tc.On("cp2", tc.Expired(certs.KindEtcdMember)),
			},
			choice: plan.Auto, steps: eachBehindItsGate,
		},
		{
			name: "two have expired: all at the same time", of: ha,
			edits: []tc.Edit{
				tc.On("cp1,cp2,cp3", tc.Expired(certs.KindAPIServer), tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Unusable(1, tc.SaysExpired), tc.NoQuorum),
				tc.On("cp2,cp3", tc.Expired(certs.KindEtcdMember)),
			},
			choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "~02-pre-phase [cp1 cp2 cp3] 3 at once",
				"03-gate-api-server [cp1 cp2 cp3]", "04-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "the third is served through connections from before: its members are asked without success, and it is not", of: ha,
			edits:  []tc.Edit{tc.On("cp1,cp2", tc.Expired(certs.KindAPIServer, certs.KindEtcdMember), tc.Unusable(1, tc.SaysExpired), tc.NoQuorum)},
			choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 cp2]", "~02-pre-phase-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]",
				"~04-pre-phase-cp2 [cp2]", "05-gate-api-server-cp2 [cp2]", "06-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},
		{
			name: "an administrator's kubeconfig that someone has left on a worker stops nothing", of: tc.Single(),
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer)), tc.On("w1", tc.RootKubeconfigExpired)}, choice: plan.Auto,
			steps: []string{"~01-backup-cp1 [cp1]", "~02-renew-certs-cp1 [cp1]", "03-gate-api-server-cp1 [cp1]", "04-gate-cluster [cp1 w1]"},
		},
		{
			name: "renew-certs goes over all control planes: the backup is of all of them", of: ha,
			edits: []tc.Edit{tc.On("cp2", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))}, choice: plan.RenewCerts,
			steps: []string{
				"~01-backup [cp1 cp2 cp3]", "~02-pre-phase-cp2 [cp2]", "03-gate-api-server-cp2 [cp2]",
				"~04-renew-certs [cp1 cp2 cp3]", "05-gate-cluster [cp1 cp2 cp3 w1]",
			},
		},

		// --- etcd on machines of its own ---------------------------------------------
		{
			name: "etcd's members are renewed one after another, each behind its gate", of: nodes,
			edits: []tc.Edit{tc.On("etcd1,etcd2,etcd3", tc.EndsIn(tc.Day, certs.KindEtcdMember))}, choice: plan.Auto,
			steps: []string{
				"~01-backup [etcd1 etcd2 etcd3]",
				"~02-etcd-certificates-etcd1 [etcd1]", "03-gate-etcd-etcd1 [etcd1]",
				"~04-etcd-certificates-etcd2 [etcd2]", "05-gate-etcd-etcd2 [etcd2]",
				"~06-etcd-certificates-etcd3 [etcd3]", "07-gate-etcd-etcd3 [etcd3]",
				"08-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
			},
		},
		{
			name: "the member that is down for its certificate comes first", of: nodes,
			edits: []tc.Edit{
				tc.On("etcd1,etcd2", tc.EndsIn(tc.Day, certs.KindEtcdMember)),
				tc.On("etcd3", tc.Expired(certs.KindEtcdMember), tc.NoQuorum),
			}, choice: plan.Auto,
			steps: []string{
				"~01-backup [etcd1 etcd2 etcd3]",
				"~02-etcd-certificates-etcd3 [etcd3]", "03-gate-etcd-etcd3 [etcd3]",
				"~04-etcd-certificates-etcd1 [etcd1]", "05-gate-etcd-etcd1 [etcd1]",
				"~06-etcd-certificates-etcd2 [etcd2]", "07-gate-etcd-etcd2 [etcd2]",
				"08-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
			},
		},
		{
			name: "members that have lost each other are waited for together, and API servers after them", of: nodes,
			edits: []tc.Edit{
				tc.On("etcd1,etcd2,etcd3", tc.Expired(certs.KindEtcdMember), tc.NoQuorum),
				tc.On("cp1", tc.EtcdClient, tc.Expired(certs.KindEtcdNode), tc.Refused()),
			}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 etcd1 etcd2 etcd3]",
				"~02-etcd-certificates [etcd1 etcd2 etcd3] without waiting 3 at once", "03-gate-etcd [etcd1 etcd2 etcd3]",
				"~04-pre-phase-cp1 [cp1] signed by etcd1", "05-gate-api-server-cp1 [cp1]",
				"06-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
			},
		},
		{
			name: "members without a quorum whose certificates are merely due, each behind its gate", of: nodes,
			edits: []tc.Edit{
				tc.On("etcd1,etcd2,etcd3", tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.NoQuorum),
				tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)),
			}, choice: plan.Auto,
			steps: []string{
				"~01-backup [cp1 etcd1 etcd2 etcd3]",
				"~02-etcd-certificates-etcd1 [etcd1]", "03-gate-etcd-etcd1 [etcd1]",
				"~04-etcd-certificates-etcd2 [etcd2]", "05-gate-etcd-etcd2 [etcd2]",
				"~06-etcd-certificates-etcd3 [etcd3]", "07-gate-etcd-etcd3 [etcd3]",
				"~08-pre-phase-cp1 [cp1]", "09-gate-api-server-cp1 [cp1]",
				"10-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]",
			},
		},
		{
			name: "a client certificate of etcd's on a worker", of: nodes,
			edits: []tc.Edit{
				tc.On("w1", tc.EtcdClient, tc.EndsIn(tc.Day, certs.KindEtcdNode)),
				tc.On("etcd1", func(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") }),
			}, choice: plan.Auto,
			steps: []string{"~01-backup-w1 [w1]", "~02-etcd-certificates-w1 [w1] signed by etcd2", "03-gate-cluster [cp1 w1 etcd1 etcd2 etcd3]"},
		},

		// --- no safe plan ------------------------------------------------------------
		{
			name: "no playbook where no pre-phase is needed", of: single, edits: []tc.Edit{due}, choice: plan.NoPlaybook,
			unsupported: "--playbook none leaves nothing to run",
		},
		{
			name: "etcd certificates without the authority's key", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindEtcdMember), func(n *snapshot.Node) {
				delete(n.Digests, tc.EtcdPKI+"/ca-key.pem")
			})}, choice: plan.Auto,
			unsupported: "etcd certificates are due on cp1, but /etc/ssl/etcd/ssl/ca-key.pem is neither there nor",
		},
	}
}

func (r row) make() (plan.Plan, error) {
	s := tc.Healthy(r.of, r.edits...)
	policy := plan.Policy{Choice: r.choice, MaxUnavailable: r.atOnce}
	if r.theirs != "" {
		policy.Kubespray = &plan.Kubespray{Dir: "/kubespray", Upgrade: "upgrade-cluster.yml", Renew: r.theirs}
	}
	return plan.Make(r.of, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), policy)
}

func TestMake(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p, err := r.make()
			if r.unsupported != "" {
				var unsupported *plan.UnsupportedError
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), r.unsupported) {
					t.Errorf("error is %v, want an UnsupportedError with %q", err, r.unsupported)
				}
				if len(p.Steps) > 0 {
					t.Errorf("a plan that is not supported has steps: %v", p.Steps)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := lines(p)
			if !slices.Equal(got, r.steps) {
				t.Errorf("steps are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(r.steps, "\n  "))
			}
		})
	}
}

// lines are the steps in the form of these tests' tables.
func lines(p plan.Plan) (out []string) {
	for _, s := range p.Steps {
		mark := ""
		if s.Changes {
			mark = "~"
		}
		line := fmt.Sprintf("%s%s %v", mark, s.ID, s.Nodes)
		if s.Playbook != "" {
			line += " by " + s.Playbook
		}
		if s.NoWait {
			line += " without waiting"
		}
		if s.AtOnce > 0 {
			line += fmt.Sprintf(" %d at once", s.AtOnce)
		}
		if s.Signer != "" {
			line += " signed by " + s.Signer
		}
		out = append(out, line)
	}
	return out
}

// Every plan fulfills this, whatever the situation and the choice.
func TestEveryPlan(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		for _, choice := range plan.Choices() {
			r.choice = choice
			t.Run(r.name+"/"+string(choice), func(t *testing.T) {
				t.Parallel()
				p, err := r.make()
				if err != nil || len(p.Steps) == 0 {
					return // checked by TestMake
				}
				if p.Schema != plan.Schema || p.Interruption == "" {
					t.Errorf("schema %d, interruption %q", p.Schema, p.Interruption)
				}
				if p.Steps[0].Action != plan.Backup {
					t.Fatalf("the first step is %s, not the backup", p.Steps[0].ID)
				}
				last := p.Steps[len(p.Steps)-1]
				if last.Gate != plan.ClusterGate || !slices.Equal(last.Nodes, cluster.Names(r.of.Nodes)) {
					t.Errorf("the last step is %s on %v, not the proof over all nodes", last.ID, last.Nodes)
				}
				ids := map[string]bool{}
				for i, s := range p.Steps {
					if ids[s.ID] || !strings.HasPrefix(s.ID, fmt.Sprintf("%02d-", i+1)) {
						t.Errorf("step %d is called %s: IDs are unique and in order", i+1, s.ID)
					}
					ids[s.ID] = true
					if (s.Action == "") == (s.Gate == "") {
						t.Errorf("%s: action %q and gate %q, want exactly one", s.ID, s.Action, s.Gate)
					}
					if s.Changes != (s.Action != "" && s.Action != plan.CAIssue) {
						t.Errorf("%s: changes is %t", s.ID, s.Changes)
					}
					if s.Title == "" || s.Why == "" || len(s.Nodes) == 0 {
						t.Errorf("%s has title %q, reason %q, nodes %v", s.ID, s.Title, s.Why, s.Nodes)
					}
					if (s.Action == plan.PrePhase || (s.Action == plan.Renew && i < len(p.Steps)-2)) && len(s.Nodes) != max(s.AtOnce, 1) {
						t.Errorf("%s works on %v at once", s.ID, s.Nodes)
					}
				}
			})
		}
	}
}

// Nothing is changed on a node before a verified backup of it exists.
func TestBackupCoversWhatIsChanged(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		for _, choice := range plan.Choices() {
			r.choice = choice
			p, err := r.make()
			if err != nil || len(p.Steps) == 0 {
				continue
			}
			for _, s := range p.Steps[1:] {
				for _, n := range s.Nodes {
					if s.Changes && !slices.Contains(p.Steps[0].Nodes, n) {
						t.Errorf("%s, %s: %s changes %s, and the backup is of %v", r.name, choice, s.ID, n, p.Steps[0].Nodes)
					}
				}
			}
		}
	}
}

// Each control plane's step is followed by its gate before anything else moves.
func TestEveryControlPlaneIsGated(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		p, err := r.make()
		if err != nil {
			continue
		}
		for i, s := range p.Steps {
			if s.Action != plan.PrePhase && (s.Action != plan.Renew || len(s.Nodes) > 1 || p.Steps[i+1].Gate == plan.ClusterGate) {
				continue
			}
			if next := p.Steps[i+1]; next.Gate != plan.APIServerGate || !slices.Equal(next.Nodes, s.Nodes) {
				t.Errorf("%s: %s is followed by %s, not by its gate", r.name, s.ID, next.ID)
			}
		}
	}
}

// A step has its reason.
func TestWhy(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit tc.Edit
		step int
		want string
	}{
		{"what is due, each kind once, sorted", due, 1, "due: admin.conf, apiserver"},
		{"how the API server is out", out, 1, "its API server is unusable (serving-certificate-expired); due: apiserver"},
		{"what is served stale", tc.On("cp1", tc.Renewed(certs.KindAPIServer)), 1, "kube-apiserver holds or serves an older certificate than the one on disk"},
		{"what holds an older credential", tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.File.Modified = tc.Now }, "scheduler.conf")), 1, "kube-scheduler holds or serves an older certificate than the one on disk"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), row.edit)
			p, err := plan.Make(tc.Single(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), plan.Policy{Choice: plan.Auto})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Steps[row.step].Why; got != row.want {
				t.Errorf("reason is %q, want %q", got, row.want)
			}
		})
	}
}

func TestInterruption(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		edits  []tc.Edit
		want   string
		policy plan.Policy
	}{
		"healthy": {nil, "none", plan.Policy{}},
		"renew":   {[]tc.Edit{due}, "none is expected", plan.Policy{}},
		"renew, and Kubespray drains": {
			[]tc.Edit{due}, "drains one node after another: data in emptyDir volumes and pods without a controller are lost",
			plan.Policy{Choice: plan.UpgradeCluster, Kubespray: &plan.Kubespray{Dir: "/kubespray", Upgrade: "upgrade-cluster.yml"}},
		},
		"renew, and what the API server made for itself ends soon": {
			[]tc.Edit{due, tc.On("cp1", tc.Loopback(tc.Now.Add(tc.Day)))}, "the API server on cp1 restarts", plan.Policy{},
		},
		"renew, with a kubelet": {[]tc.Edit{due, tc.On("w1", tc.Expired(certs.KindKubeletClient))}, "report their pods with a readiness probe as not ready for a moment", plan.Policy{}},
		"recover":               {[]tc.Edit{out}, "already unusable", plan.Policy{}},
	} {
		s := tc.Healthy(tc.Single(), row.edits...)
		p, err := plan.Make(tc.Single(), s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), row.policy)
		if err != nil || !strings.Contains(p.Interruption, row.want) {
			t.Errorf("%s: interruption is %q (%v), want %q", name, p.Interruption, err, row.want)
		}
	}
}

// The same diagnosis gives the same plan, and stays unchanged.
func TestMakeIsPure(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		s := tc.Healthy(r.of, r.edits...)
		d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
		inputs := func() string { return document(t, []any{r.of, s, d}) }
		before := inputs()
		first, err := plan.Make(r.of, s, d, plan.Policy{Choice: r.choice})
		for range 5 {
			again, err2 := plan.Make(r.of, s, d, plan.Policy{Choice: r.choice})
			if a, b := document(t, first), document(t, again); a != b || fmt.Sprint(err) != fmt.Sprint(err2) {
				t.Errorf("%s: planned again it is\n%s (%v), not\n%s (%v)", r.name, b, err2, a, err)
			}
		}
		if after := inputs(); after != before {
			t.Errorf("%s: planning changed its input", r.name)
		}
	}
}

func document(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
