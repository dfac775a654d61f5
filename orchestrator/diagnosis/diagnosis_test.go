package diagnosis_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The kinds that tests name and code does not.
const (
	frontProxyClient  certs.Kind = "front-proxy-client"
	controllerManager certs.Kind = "controller-manager.conf"
)

// podNotReadyIs names the component whose pod podNotReady shows as not Ready.
const podNotReadyIs = "kube-apiserver"

func podNotReady(v *snapshot.View) {
	i := slices.IndexFunc(v.StaticPods, func(p snapshot.StaticPod) bool { return p.Component == podNotReadyIs })
	v.StaticPods[i].Ready = "False"
}

// situation is a row: the state of a cluster, and the conclusion.
type situation struct {
	name  string
	of    cluster.Cluster
	edits []tc.Edit

	route   diagnosis.Route
	verdict string // a part of it
	// reasons are the codes of all findings, each as often as it is found.
	reasons []diagnosis.Reason
	states  map[string]diagnosis.APIState // those that are not usable
	due     map[string][]certs.Kind
}

func situations() []situation {
	allOf := func(s cluster.Cluster, node string) []certs.Kind {
		n, _ := tc.Healthy(s).Node(node)
		return tc.Kinds(n)
	}
	repeat := func(r diagnosis.Reason, n int, more ...diagnosis.Reason) []diagnosis.Reason {
		return append(slices.Repeat([]diagnosis.Reason{r}, n), more...)
	}
	allExpired := slices.Concat(
		[]diagnosis.Reason{diagnosis.ServingExpired, diagnosis.KubeletAccessExpired, diagnosis.FrontProxyExpired},
		slices.Repeat([]diagnosis.Reason{diagnosis.ClientExpired}, 4),
		slices.Repeat([]diagnosis.Reason{diagnosis.EtcdExpired, diagnosis.KubeletClientExpired, diagnosis.KubeletServingExpired, diagnosis.KubeletDown}, 2),
		[]diagnosis.Reason{diagnosis.APIUnusable},
	)
	single, ha := tc.Single(), tc.HA()
	return []situation{
		// --- nothing to do -----------------------------------------------------
		{
			name: "healthy", of: single,
			route: diagnosis.None, verdict: "healthy: every certificate on 2 nodes is valid, every API server answers",
		},
		{
			name: "healthy with three control planes", of: ha,
			route: diagnosis.None, verdict: "on 4 nodes",
		},
		{
			name: "healthy with etcd on a machine of its own", of: tc.ExternalEtcd(),
			route: diagnosis.None, verdict: "on 3 nodes",
		},
		{
			name: "a certificate is due, and a kubelet that is down will stay so", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)), tc.On("w1", tc.CrashLoop())},
			route: diagnosis.Renew, verdict: "the API server can be used, but 1 certificate is about to expire; " +
				"and no renewal fixes that the kubelet is not running (w1, kubelet.service)",
			reasons: []diagnosis.Reason{diagnosis.CertificateExpiring, diagnosis.KubeletDown},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAdmin}},
		},
		{
			name: "a worker of the inventory that has not joined yet", of: single,
			edits: []tc.Edit{tc.Unjoined("w1")},
			route: diagnosis.None, verdict: "healthy: every certificate on 2 nodes is valid, every API server answers; but the node has not joined the cluster (w1)",
			reasons: []diagnosis.Reason{diagnosis.NodeNotJoined},
		},
		{
			name: "one that has not, and certificates that have expired", of: single,
			edits: []tc.Edit{tc.Unjoined("w1"), tc.On("w1", tc.Expired(certs.KindKubeletServing)), tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Recover, verdict: "the API server cannot be used because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.ServingExpired, diagnosis.APIUnusable, diagnosis.NodeNotJoined},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "a machine that was reset, and that the API server still knows", of: single,
			edits: []tc.Edit{tc.Unjoined("w1"), tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown" })},
			route: diagnosis.Refuse, verdict: "refused: the kubelet is not running (w1, kubelet.service)",
			reasons: []diagnosis.Reason{diagnosis.KubeletDown, diagnosis.NodeNotReady},
		},
		{
			name: "nodes that are called otherwise than the inventory says", of: ha,
			edits: []tc.Edit{tc.CalledInAPI("cp1", "ip-10-0-0-1.internal"), tc.CalledInAPI("w1", "ip-10-0-0-4.internal")},
			route: diagnosis.None, verdict: "healthy: every certificate on 4 nodes is valid, every API server answers",
		},
		{
			name: "a node that says to be another one of the inventory", of: ha,
			edits: []tc.Edit{tc.CalledInAPI("w1", "cp2")},
			route: diagnosis.Refuse, verdict: "refused: the API server does not know the node (w1)",
			reasons: []diagnosis.Reason{diagnosis.NodeNotRegistered},
		},
		{
			name: "a running kubelet renews its client certificate by itself", of: single,
			edits: []tc.Edit{tc.On("cp1,w1", tc.Files(func(c *certs.Certificate) {
				c.NotBefore, c.NotAfter = tc.Now.Add(-80*tc.Day), tc.Now.Add(10*tc.Day)
			}, certs.KindKubeletClient))},
			route: diagnosis.None, verdict: "healthy",
		},
		{
			name: "one that has not, in the last tenth of its life", of: single,
			edits: []tc.Edit{tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletClient))},
			route: diagnosis.Renew, verdict: "healthy, but 1 certificate is about to expire",
			reasons: []diagnosis.Reason{diagnosis.CertificateExpiring},
			due:     map[string][]certs.Kind{"w1": {certs.KindKubeletClient}},
		},
		{
			name: "one that is set not to", of: single,
			edits: []tc.Edit{tc.On("cp1,w1", tc.EndsIn(20*tc.Day, certs.KindKubeletClient), func(n *snapshot.Node) {
				for i := range n.Certificates {
					n.Certificates[i].NotBefore = tc.Now.Add(-80 * tc.Day)
				}
				if n.Name == "w1" {
					n.Facts["kubelet.rotateCertificates"] = "false"
				}
			})},
			route: diagnosis.Renew, verdict: "healthy, but 1 certificate is about to expire",
			reasons: []diagnosis.Reason{diagnosis.CertificateExpiring},
			due:     map[string][]certs.Kind{"w1": {certs.KindKubeletClient}},
		},
		{
			name: "a certificate at a place no row names", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindUnknown, Path: "/etc/kubernetes/ssl/old.crt"})
			})},
			route: diagnosis.None, verdict: "healthy: every API server answers; but a certificate of no known purpose has expired",
			reasons: []diagnosis.Reason{diagnosis.OtherExpiring},
		},
		{
			name: "and a node that is cordoned, and another one", of: ha,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindUnknown, Path: "/etc/kubernetes/ssl/old.crt"})
			}), tc.View(func(v *snapshot.View) { v.Unschedulable = []string{"cp2", "w1"} })},
			route:   diagnosis.None,
			verdict: "a certificate of no known purpose has expired, is about to, or is not valid yet (cp1, /etc/kubernetes/ssl/old.crt); and 2 more warnings (kscertctl diagnose)",
			reasons: []diagnosis.Reason{diagnosis.OtherExpiring, diagnosis.NodeUnschedulable, diagnosis.NodeUnschedulable},
		},
		{
			name: "what the API server presents to itself is not valid yet", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.Certificates = append(n.Certificates, certs.Certificate{
					Kind: "kube-apiserver-loopback", Served: true, Path: "10.0.0.1:6443", NotBefore: tc.Now.Add(time.Hour), NotAfter: tc.Now.Add(300 * tc.Day),
				})
			})},
			route: diagnosis.None, verdict: "healthy: every API server answers; but the API server's in-memory loopback certificate",
			reasons: []diagnosis.Reason{diagnosis.LoopbackCertificateExpiring},
		},
		{
			name: "a member of etcd that runs and does not answer, while others do", of: tc.HA(),
			edits: []tc.Edit{tc.On("cp3", func(n *snapshot.Node) {
				n.Etcd = &snapshot.Etcd{Error: "connect: Connection timed out"}
				for i := range n.Endpoints {
					if strings.HasPrefix(n.Endpoints[i].Name, "etcd") {
						n.Endpoints[i].Fingerprint, n.Endpoints[i].Error = "", "no answer"
					}
				}
			})},
			route: diagnosis.None, verdict: "the etcd member runs, but does not answer a read, while others do (cp3, etcd)",
			reasons: []diagnosis.Reason{diagnosis.EtcdMemberSilent},
		},
		{
			name: "a member of etcd that answers without quorum, while others have one", of: tc.HA(),
			edits: []tc.Edit{tc.On("cp3", tc.NoQuorum, func(n *snapshot.Node) { n.Etcd.Version = "3.5.9" })},
			route: diagnosis.None, verdict: "healthy", reasons: []diagnosis.Reason{diagnosis.EtcdMemberSilent},
		},
		{
			name: "a kubelet whose pair is gone, with the kubeconfig of a bootstrap that is over", of: single,
			edits: []tc.Edit{tc.On("w1", without(certs.KindKubeletClient), tc.CrashLoop(), func(n *snapshot.Node) {
				n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Path: "/etc/kubernetes/bootstrap-kubelet.conf"})
			})},
			route: diagnosis.Renew, verdict: "the certificate or key cannot be parsed (w1, ",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnreadable, diagnosis.KubeletDown},
			due:     map[string][]certs.Kind{"w1": {certs.KindKubeletClient}},
		},
		{
			name: "a static pod that is not ready is worth a word, not a change", of: single,
			edits: []tc.Edit{tc.View(podNotReady)},
			route: diagnosis.None, verdict: "healthy", reasons: []diagnosis.Reason{diagnosis.StaticPodNotReady},
		},
		{
			name: "unless it has just started, and answers", of: single,
			edits: []tc.Edit{tc.View(podNotReady), tc.On("cp1", tc.StartedAgo(podNotReadyIs, 59*time.Second))},
			route: diagnosis.None, verdict: "healthy",
		},
		{
			name: "or its kubelet has", of: single,
			edits: []tc.Edit{tc.View(podNotReady), tc.On("cp1", func(n *snapshot.Node) {
				n.Units["kubelet"] = snapshot.Unit{Active: "active", ActiveSeconds: 59}
			})},
			route: diagnosis.None, verdict: "healthy",
		},
		{
			name: "one that has just started, and does not answer", of: single,
			edits: []tc.Edit{tc.View(podNotReady), tc.On("cp1", tc.StartedAgo(podNotReadyIs, time.Second), func(n *snapshot.Node) {
				n.Endpoints = nil
			})},
			route: diagnosis.None, verdict: "healthy", reasons: []diagnosis.Reason{diagnosis.StaticPodNotReady},
		},
		{
			name: "a certificate authority ends soon", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindFrontProxyCA))},
			route: diagnosis.None, verdict: "healthy", reasons: []diagnosis.Reason{diagnosis.CAExpiring},
		},

		{
			name: "one of three members has expired, and the others find no leader: that is no reason", of: ha,
			edits: []tc.Edit{
				tc.On("cp1", tc.Expired(certs.KindEtcdMember), tc.Refused(), tc.NoQuorum),
				tc.On("cp2,cp3", tc.Unusable(1, tc.SaysNotReady), func(n *snapshot.Node) { n.Etcd.Healthy, n.Etcd.Error = false, "no leader" }),
			},
			route: diagnosis.Refuse, verdict: "refused: the API server on cp2 cannot be used (not-ready), and no expired certificate explains it",
			reasons: []diagnosis.Reason{
				diagnosis.EtcdExpired, diagnosis.EtcdNoQuorum, diagnosis.APIServerNotReady, diagnosis.APIServerNotReady, diagnosis.APIUnusable,
			},
			states: map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused, "cp2": diagnosis.APINotReady, "cp3": diagnosis.APINotReady},
			due:    map[string][]certs.Kind{"cp1": {certs.KindEtcdMember}},
		},

		{
			name: "root's own kubeconfig on a worker is a copy, which no step renews", of: single,
			edits: []tc.Edit{tc.On("w1", tc.RootKubeconfigExpired)},
			route: diagnosis.None, verdict: "healthy", reasons: []diagnosis.Reason{diagnosis.CopyStale},
		},
		{
			name: "on a control plane it is renewed", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.RootKubeconfigExpired)},
			route: diagnosis.Renew, reasons: []diagnosis.Reason{diagnosis.ClientExpired},
			due: map[string][]certs.Kind{"cp1": {"root-kubeconfig"}},
		},

		// --- renew ---------------------------------------------------------------
		{
			name: "one certificate ends within thirty days", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(29*tc.Day, certs.KindAPIServer))},
			route: diagnosis.Renew, verdict: "healthy, but 1 certificate is about to expire",
			reasons: []diagnosis.Reason{diagnosis.CertificateExpiring},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "a certificate that ends in exactly thirty days is not due yet", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(30*tc.Day, certs.KindAPIServer))},
			route: diagnosis.None, verdict: "healthy",
		},
		{
			name: "two certificates end soon", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin, controllerManager))},
			route: diagnosis.Renew, verdict: "2 certificates are about to expire",
			reasons: repeat(diagnosis.CertificateExpiring, 2),
			due:     map[string][]certs.Kind{"cp1": {certs.KindAdmin, controllerManager}},
		},
		{
			name: "an expired certificate that takes nothing away", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(frontProxyClient))},
			route: diagnosis.Renew, verdict: "the API server can be used, but 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.FrontProxyExpired},
			due:     map[string][]certs.Kind{"cp1": {frontProxyClient}},
		},
		{
			name: "the kubelet of a worker has expired and crashes", of: single,
			edits: []tc.Edit{
				tc.On("w1", tc.Expired(certs.KindKubeletClient), tc.CrashLoop()),
				tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown" }),
			},
			route: diagnosis.Renew, verdict: "1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.KubeletClientExpired, diagnosis.KubeletDown, diagnosis.NodeNotReady},
			due:     map[string][]certs.Kind{"w1": {certs.KindKubeletClient}},
		},
		{
			name: "renewed on disk, and the old one still served", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Renewed(certs.KindAPIServer))},
			route: diagnosis.Renew, verdict: "healthy, but a component holds or serves an older certificate than the one on disk",
			reasons: []diagnosis.Reason{diagnosis.ServedCertificateStale},
		},
		{
			name: "etcd still serves the old certificate", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Renewed(certs.KindEtcdMember))},
			route: diagnosis.Renew, verdict: "serves an older certificate",
			reasons: repeat(diagnosis.ServedCertificateStale, 2), // to clients, and to its peers
		},
		{
			name: "a file that should hold a certificate does not, and another is due", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin), func(n *snapshot.Node) {
				n.Unreadable = []snapshot.Unreadable{{Path: "/etc/kubernetes/scheduler.conf", Reason: "no PEM certificate block"}}
			})},
			route: diagnosis.Renew, verdict: "about to expire",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnreadable, diagnosis.CertificateExpiring},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAdmin}},
		},
		{
			name: "a kubelet's own pair cannot be read", of: single,
			edits: []tc.Edit{tc.On("w1", without(certs.KindKubeletClient), unreadable(tc.KubeletPKI+"/kubelet-client-current.pem"))},
			route: diagnosis.Renew, verdict: "the API server can be used, but the certificate or key cannot be parsed (w1, " + tc.KubeletPKI + "/kubelet-client-current.pem)",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnreadable},
			due:     map[string][]certs.Kind{"w1": {certs.KindKubeletClient}},
		},

		// --- recover ---------------------------------------------------------------
		{
			name: "the kubelet of the only control plane has a pair that cannot be read", of: single,
			edits: []tc.Edit{tc.On("cp1", without(certs.KindKubeletClient), tc.CrashLoop(), tc.Refused(), unreadable(tc.KubeletPKI+"/kubelet-client-current.pem"))},
			route: diagnosis.Recover, verdict: "the API server cannot be used: the certificate or key cannot be parsed (cp1, ",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnreadable, diagnosis.KubeletDown, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindKubeletClient}},
		},
		{
			name: "the serving certificate has expired", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Recover, verdict: "the API server cannot be used because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.ServingExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "the administrator's certificate has expired", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindAdmin), tc.Unusable(1, tc.SaysUnauthorized))},
			route: diagnosis.Recover, verdict: "cannot be used because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.ClientExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIUnauthorized},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAdmin}},
		},
		{
			name: "the kubelet has expired, crashes and starts no API server", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindKubeletClient), tc.CrashLoop(), tc.Refused())},
			route: diagnosis.Recover, verdict: "cannot be used because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.KubeletClientExpired, diagnosis.KubeletDown, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindKubeletClient}},
		},
		{
			name: "etcd's certificate has expired and the API server does not start", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindEtcdMember), tc.Refused())},
			route: diagnosis.Recover, verdict: "because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.EtcdExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindEtcdMember}},
		},
		{
			name: "etcd's certificate has expired and the API server listens, waits and ends", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindEtcdMember),
				tc.Unusable(1, "Unable to connect to the server: read tcp 10.0.0.1:34868->10.0.0.1:6443: read: connection reset by peer"))},
			route: diagnosis.Recover, verdict: "the API server cannot be used because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.EtcdExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindEtcdMember}},
		},
		{
			name: "etcd's certificate has expired under a running API server", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindEtcdMember), tc.Unusable(1, tc.SaysNotReady))},
			route: diagnosis.Recover, verdict: "because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.EtcdExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APINotReady},
			due:     map[string][]certs.Kind{"cp1": {certs.KindEtcdMember}},
		},
		{
			name: "everything has expired and the API server hangs", of: single,
			edits: []tc.Edit{
				tc.On("cp1", tc.Expired(allOf(single, "cp1")...), tc.CrashLoop(), tc.Unusable(124, "")),
				tc.On("w1", tc.Expired(allOf(single, "w1")...), tc.CrashLoop()),
			},
			route: diagnosis.Recover, verdict: "because 13 certificates have expired",
			reasons: allExpired,
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APITimeout},
			due:     map[string][]certs.Kind{"cp1": allOf(single, "cp1"), "w1": allOf(single, "w1")},
		},
		{
			name: "one of three API servers is out, explained", of: ha,
			edits: []tc.Edit{tc.On("cp2", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Recover, verdict: "because 1 certificate has expired",
			reasons: []diagnosis.Reason{diagnosis.ServingExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp2": diagnosis.APIExpired},
			due:     map[string][]certs.Kind{"cp2": {certs.KindAPIServer}},
		},

		// --- a new CA ----------------------------------------------------------------
		{
			name: "the authority itself has expired", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindCA), tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.NewCA, verdict: "a CA has expired",
			reasons: []diagnosis.Reason{diagnosis.CAExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired},
		},
		{
			name: "etcd's authority has expired, and no API server starts", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindEtcdHostCA), tc.Refused())},
			route: diagnosis.NewCA, verdict: "a CA has expired",
			reasons: []diagnosis.Reason{diagnosis.CAExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
		},
		{
			name: "the front proxy's authority has expired, which explains no API server that is out", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindFrontProxyCA), tc.Refused())},
			route: diagnosis.Refuse, verdict: "refused",
			reasons: []diagnosis.Reason{diagnosis.CAExpired, diagnosis.APIServerRefused},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
		},

		// --- refuse: nothing is changed where no certificate explains the outage ------
		{
			name: "the kubelet has expired but runs, and nothing listens", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindKubeletClient), tc.Refused())},
			route: diagnosis.Refuse, verdict: "refused: the API server on cp1 cannot be used (connection-refused), and no expired certificate explains it: nothing listens",
			reasons: []diagnosis.Reason{diagnosis.KubeletClientExpired, diagnosis.APIServerRefused},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindKubeletClient}},
		},
		{
			name: "admin.conf is empty: kubectl asks for a user, which says nothing of the API server", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, "Please enter Username: error: EOF"), func(n *snapshot.Node) {
				n.Unreadable = []snapshot.Unreadable{{Path: "/etc/kubernetes/admin.conf", Reason: "it is empty"}}
			})},
			route: diagnosis.Refuse, verdict: "the certificate or key cannot be parsed (cp1, /etc/kubernetes/admin.conf)",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnreadable, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIUnknown},
		},
		{
			name: "every certificate is fresh and nothing listens", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Refused())},
			route: diagnosis.Refuse, verdict: "no expired certificate explains it",
			reasons: []diagnosis.Reason{diagnosis.APIServerRefused},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
		},
		{
			name: "a certificate is about to expire and nothing listens: it is valid still", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(time.Hour, certs.KindEtcdMember), tc.Refused())},
			route: diagnosis.Refuse, verdict: "no expired certificate explains it",
			reasons: []diagnosis.Reason{diagnosis.APIServerRefused, diagnosis.CertificateExpiring},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindEtcdMember}},
		},
		{
			name: "an expired certificate of another kind explains no refused connection", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(frontProxyClient), tc.Refused())},
			route: diagnosis.Refuse, verdict: "no expired certificate explains it",
			reasons: []diagnosis.Reason{diagnosis.FrontProxyExpired, diagnosis.APIServerRefused},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {frontProxyClient}},
		},
		{
			name: "a served certificate that expired, while the file is fresh, is no expired file", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Refuse, verdict: "no expired certificate explains it",
			reasons: []diagnosis.Reason{diagnosis.APIServerUntrusted},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired},
		},
		{
			name: "signed by another authority", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, "tls: failed to verify certificate: x509: certificate signed by unknown authority"))},
			route: diagnosis.Refuse, verdict: "(serving-certificate-untrusted)",
			reasons: []diagnosis.Reason{diagnosis.APIServerUntrusted},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIUntrusted},
		},
		{
			name: "the served names lack the address", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, "x509: certificate is valid for 10.0.0.9, not 10.0.0.1"))},
			route: diagnosis.Refuse, verdict: "(serving-certificate-untrusted)",
			reasons: []diagnosis.Reason{diagnosis.APIServerUntrusted},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIUntrusted},
		},
		{
			name: "an answer no one foresaw", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, "the dog ate it"))},
			route: diagnosis.Refuse, verdict: "(unknown)",
			reasons: []diagnosis.Reason{diagnosis.ServingExpired, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIUnknown},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "of three API servers one is out for a certificate, one for another cause", of: ha,
			edits: []tc.Edit{
				tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)),
				tc.On("cp2", tc.Refused()),
			},
			route: diagnosis.Refuse, verdict: "no expired certificate explains it",
			reasons: []diagnosis.Reason{diagnosis.ServingExpired, diagnosis.APIUnusable, diagnosis.APIServerRefused},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired, "cp2": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "a worker is not Ready and no certificate is due", of: single,
			edits: []tc.Edit{tc.View(func(v *snapshot.View) { v.Nodes["w1"] = "Unknown" })},
			route: diagnosis.Refuse, verdict: "refused: the node is not Ready (w1), and no expired certificate explains it",
			reasons: []diagnosis.Reason{diagnosis.NodeNotReady},
		},
		{
			name: "a worker the API server never heard of", of: single,
			edits: []tc.Edit{tc.View(func(v *snapshot.View) { delete(v.Nodes, "w1") })},
			route: diagnosis.Refuse, verdict: "the API server does not know the node",
			reasons: []diagnosis.Reason{diagnosis.NodeNotRegistered},
		},
		{
			name: "an API server that was asked for its nodes and did not say", of: single,
			edits: []tc.Edit{tc.View(func(v *snapshot.View) { clear(v.Nodes) })},
			route: diagnosis.None, verdict: "healthy",
		},
		{
			name: "a kubelet that is down with fresh certificates", of: single,
			edits: []tc.Edit{tc.On("w1", tc.CrashLoop())},
			route: diagnosis.Refuse, verdict: "the kubelet is not running (w1, kubelet.service)",
			reasons: []diagnosis.Reason{diagnosis.KubeletDown},
		},

		// --- refuse: what forbids any change, whatever else is due -------------------
		{
			name: "the manifest is missing", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindEtcdMember), tc.Refused(),
				func(n *snapshot.Node) { n.Facts["manifest"] = "missing" })},
			route: diagnosis.Refuse, verdict: "static pod manifest is missing (cp1, kube-apiserver)",
			reasons: []diagnosis.Reason{diagnosis.EtcdExpired, diagnosis.ManifestMissing, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIRefused},
			due:     map[string][]certs.Kind{"cp1": {certs.KindEtcdMember}},
		},
		{
			name: "a worker cannot be reached", of: single,
			edits: []tc.Edit{
				tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)),
				tc.On("w1", tc.Unknown(snapshot.Unreachable, "ssh: connect to host w1 port 22: No route to host")),
			},
			route: diagnosis.Refuse, verdict: "refused: the node cannot be reached (w1)",
			reasons: []diagnosis.Reason{diagnosis.NodeUnreachable, diagnosis.CertificateExpiring},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAdmin}},
		},
		{
			name: "the control plane cannot be reached: its API server is unknown", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unknown(snapshot.Unreachable, "timed out"))},
			route: diagnosis.Refuse, verdict: "the node cannot be reached (cp1)",
			reasons: []diagnosis.Reason{diagnosis.NodeUnreachable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIUnknown},
		},
		{
			name: "a node that Ansible never asked", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Unknown(snapshot.Missing, "Ansible returned no answer from it"))},
			route: diagnosis.Refuse, verdict: "the node cannot be reached (w1)",
			reasons: []diagnosis.Reason{diagnosis.NodeUnreachable},
		},
		{
			name: "no root on a node", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Unknown(snapshot.Privilege, "sudo: a password is required"))},
			route: diagnosis.Refuse, verdict: "cannot become root on the node (w1)",
			reasons: []diagnosis.Reason{diagnosis.PrivilegeMissing},
		},
		{
			name: "an answer that was cut off", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Unknown(snapshot.Garbled, "the collector's output is cut off"))},
			route: diagnosis.Refuse, verdict: "the node could not be inspected (w1)",
			reasons: []diagnosis.Reason{diagnosis.InspectionFailed},
		},
		{
			name: "a collector that failed", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Unknown(snapshot.Failed, "sh: not found"))},
			route: diagnosis.Refuse, verdict: "the node could not be inspected (w1)",
			reasons: []diagnosis.Reason{diagnosis.InspectionFailed},
		},
		{
			name: "the key of the authority is missing", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired),
				func(n *snapshot.Node) { delete(n.Digests, tc.PKI+"/ca.key") })},
			route: diagnosis.Refuse, verdict: "a CA key is missing (cp1, ca)",
			reasons: []diagnosis.Reason{diagnosis.ServingExpired, diagnosis.CAKeyMissing, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "the authority itself is missing", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				delete(n.Digests, tc.PKI+"/front-proxy-ca.crt")
				delete(n.Digests, tc.PKI+"/front-proxy-ca.key")
			})},
			route: diagnosis.Refuse, verdict: "a CA certificate is missing (cp1, front-proxy-ca)",
			reasons: []diagnosis.Reason{diagnosis.CAMissing},
		},
		{
			name: "control planes hold different service account keys", of: ha,
			edits: []tc.Edit{
				tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)),
				tc.On("cp3", func(n *snapshot.Node) { n.Digests[tc.PKI+"/sa.key"] = "another" }),
			},
			route: diagnosis.Refuse, verdict: "control planes hold different service account keys (cp3, sa.key)",
			reasons: []diagnosis.Reason{diagnosis.ServiceAccountKeysDiffer, diagnosis.CertificateExpiring},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAdmin}},
		},
		{
			name: "a clock that is three minutes ahead", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(3 * time.Minute) })},
			route: diagnosis.Refuse, verdict: "the node's clock is wrong (w1)",
			reasons: []diagnosis.Reason{diagnosis.ClockSkew},
		},
		{
			name: "a clock that is three minutes behind", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(-3 * time.Minute) })},
			route: diagnosis.Refuse, verdict: "the node's clock is wrong (w1)",
			reasons: []diagnosis.Reason{diagnosis.ClockSkew},
		},
		{
			name: "a clock that is two minutes ahead is right enough", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(2 * time.Minute) })},
			route: diagnosis.None, verdict: "healthy",
		},
		{
			name: "a certificate that is not valid yet", of: single,
			edits: []tc.Edit{tc.On("cp1",
				tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(time.Hour) }, certs.KindAPIServer),
				tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Recover, verdict: "the API server cannot be used because 1 certificate is not valid yet",
			reasons: []diagnosis.Reason{diagnosis.CertificateBeginsLater, diagnosis.APIUnusable},
			states:  map[string]diagnosis.APIState{"cp1": diagnosis.APIExpired},
			due:     map[string][]certs.Kind{"cp1": {certs.KindAPIServer}},
		},
		{
			name: "one that is not valid yet, and does no harm", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(time.Hour) }, frontProxyClient))},
			route: diagnosis.Renew, verdict: "the API server can be used, but 1 certificate is not valid yet",
			reasons: []diagnosis.Reason{diagnosis.CertificateBeginsLater},
			due:     map[string][]certs.Kind{"cp1": {frontProxyClient}},
		},
		{
			name: "one that is not valid yet, while another node's clock is wrong", of: single,
			edits: []tc.Edit{
				tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(time.Hour) }, frontProxyClient)),
				tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(time.Hour) }),
			},
			route: diagnosis.Refuse, verdict: "the node's clock is wrong (w1)",
			reasons: []diagnosis.Reason{diagnosis.ClockSkew, diagnosis.CertificateNotYetValid},
		},
		{
			name: "one that is not valid yet, nor is its authority", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(time.Hour) }, frontProxyClient, certs.KindFrontProxyCA))},
			route: diagnosis.Refuse, verdict: "the certificate is not valid yet (cp1, front-proxy-c",
			reasons: []diagnosis.Reason{diagnosis.CertificateNotYetValid, diagnosis.CertificateNotYetValid},
		},
		{
			name: "copies among the static pod manifests", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.Files = map[string]string{}
				for name, digest := range map[string]string{
					"manifests/etcd.yaml": "1", "manifests/kube-apiserver.yaml": "2", "manifests/kube-apiserver.yaml.bak": "3", "manifests/kube-apiserver-old.yaml": "2",
					"manifests/pod.json": "5", "kubeadm-config.yaml.bak": "6",
				} {
					n.Files["/etc/kubernetes/"+name] = digest
				}
				n.Files["/etc/kubernetes/manifests/etcd-2025.yaml"] = "7" // edited since
				n.Pods = map[string]string{
					"/etc/kubernetes/manifests/etcd.yaml": "kube-system/etcd", "/etc/kubernetes/manifests/etcd-2025.yaml": "kube-system/etcd",
					"/etc/kubernetes/manifests/kube-apiserver.yaml": "kube-system/kube-apiserver",
				}
			})},
			route: diagnosis.None, verdict: "but a copy is in the static pod manifest directory, and the kubelet runs it too (cp1, /etc/kubernetes/manifests/etcd-2025.yaml)",
			reasons: []diagnosis.Reason{diagnosis.ManifestCopy, diagnosis.ManifestCopy, diagnosis.ManifestCopy},
		},
		{
			name: "a kubelet's serving certificate that waits for approval", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				c, _ := n.Certificate(certs.KindKubeletClient)
				c.Kind, c.Path = "kubelet-server", tc.KubeletPKI+"/kubelet-server-current.pem"
				n.Certificates = append(n.Certificates, c)
			}, tc.Expired("kubelet-server"))},
			route: diagnosis.None, verdict: "healthy",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnapproved},
		},
		{
			name: "one of which the kubelet should have a newer one", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				c, _ := n.Certificate(certs.KindKubeletClient)
				c.Kind, c.Path = "kubelet-server", tc.KubeletPKI+"/kubelet-server-current.pem"
				n.Certificates = append(n.Certificates, c)
			}, tc.EndsIn(tc.Day, "kubelet-server"))},
			route: diagnosis.None, verdict: "healthy",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnapproved},
		},
		{
			name: "one that is not valid yet", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				c, _ := n.Certificate(certs.KindKubeletClient)
				c.Kind, c.Path = "kubelet-server", tc.KubeletPKI+"/kubelet-server-current.pem"
				n.Certificates = append(n.Certificates, c)
			}, tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(time.Hour) }, "kubelet-server"))},
			route: diagnosis.None, verdict: "healthy",
			reasons: []diagnosis.Reason{diagnosis.CertificateUnapproved},
		},
		{
			name: "no kubeadm on the control plane", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { delete(n.Facts, "kubeadm") })},
			route: diagnosis.Refuse, verdict: "a required command is missing on the node (cp1, kubeadm)",
			reasons: []diagnosis.Reason{diagnosis.ToolMissing},
		},
		{
			name: "no kubeadm configuration", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { delete(n.Facts, "kubeadm-config") })},
			route: diagnosis.Refuse, verdict: "the node's kubeadm configuration is missing (cp1",
			reasons: []diagnosis.Reason{diagnosis.KubeadmConfigMissing},
		},
	}
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	for _, row := range situations() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, row.edits...)
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())

			if d.Route != row.route {
				t.Errorf("route is %s, want %s", d.Route, row.route)
			}
			if !strings.Contains(d.Verdict, row.verdict) {
				t.Errorf("verdict is %q, which lacks %q", d.Verdict, row.verdict)
			}
			var got []diagnosis.Reason
			for _, f := range d.Findings {
				got = append(got, f.Reason)
			}
			want := slices.Clone(row.reasons)
			slices.Sort(want)
			if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, want) {
				t.Errorf("reasons are\n  %v, want\n  %v", sorted, want)
			}
			states := map[string]diagnosis.APIState{}
			for _, n := range row.of.With(cluster.ControlPlane) {
				states[n.Name] = diagnosis.APIUsable
			}
			maps.Copy(states, row.states)
			if !maps.Equal(d.ControlPlanes, states) {
				t.Errorf("API servers are %v, want %v", d.ControlPlanes, states)
			}
			due := row.due
			if due == nil {
				due = map[string][]certs.Kind{}
			}
			if !reflect.DeepEqual(d.Due, due) {
				t.Errorf("due is %v, want %v", d.Due, due)
			}
			if _, found := d.Primary(); found != (len(d.Findings) > 0) {
				t.Errorf("Primary found something: %t, of %d findings", found, len(d.Findings))
			}
		})
	}
}

// The most severe findings come first, whatever the order of the nodes.
func TestFindingsAreSortedBySeverity(t *testing.T) {
	t.Parallel()
	for _, row := range situations() {
		d := diagnosis.Diagnose(tc.Healthy(row.of, row.edits...), diagnosis.DefaultThresholds())
		mild := false
		for _, f := range d.Findings {
			if f.Severity() == diagnosis.Critical && mild {
				t.Errorf("%s: %s is critical and comes after a warning", row.name, f.Reason)
			}
			mild = mild || f.Severity() == diagnosis.Warning
		}
	}
}

// The finding that decides the route is what a refusal explains.
func TestPrimary(t *testing.T) {
	t.Parallel()
	want := map[string]diagnosis.Reason{
		"healthy": "",
		"one certificate ends within thirty days":                        diagnosis.CertificateExpiring,
		"the serving certificate has expired":                            diagnosis.ServingExpired,
		"the authority itself has expired":                               diagnosis.CAExpired,
		"the manifest is missing":                                        diagnosis.ManifestMissing,
		"control planes hold different service account keys":             diagnosis.ServiceAccountKeysDiffer,
		"a kubelet that is down with fresh certificates":                 diagnosis.KubeletDown,
		"the control plane cannot be reached: its API server is unknown": diagnosis.NodeUnreachable,
	}
	for _, row := range situations() {
		reason, asked := want[row.name]
		if !asked {
			continue
		}
		delete(want, row.name)
		d := diagnosis.Diagnose(tc.Healthy(row.of, row.edits...), diagnosis.DefaultThresholds())
		if f, _ := d.Primary(); f.Reason != reason {
			t.Errorf("%s: the primary finding is %q, want %q", row.name, f.Reason, reason)
		}
	}
	for name := range want {
		t.Errorf("no situation is called %q", name)
	}
}

// The outputs of kubectl and the port, in the order in which they are believed.
func TestAPIState(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit tc.NodeEdit
		want diagnosis.APIState
	}{
		{"readyz answers", func(*snapshot.Node) {}, diagnosis.APIUsable},
		{"kubectl before v1.20 says it shorter", tc.Unusable(1, "Unable to connect to the server: x509: certificate has expired or is not yet valid"), diagnosis.APIExpired},
		{"refused, in kubectl's words", tc.Unusable(1, tc.SaysRefused), diagnosis.APIRefused},
		{"refused, in Go's words", tc.Unusable(1, "dial tcp 10.0.0.1:6443: connect: connection refused"), diagnosis.APIRefused},
		{"timeout, in Go's words", tc.Unusable(1, "dial tcp 10.0.0.1:6443: i/o timeout"), diagnosis.APITimeout},
		{"a context deadline", tc.Unusable(1, "context deadline exceeded"), diagnosis.APITimeout},
		{"no route", tc.Unusable(1, "connect: no route to host"), diagnosis.APITimeout},
		{"ended by timeout(1) without a word", tc.Unusable(124, ""), diagnosis.APITimeout},
		{"not ready", tc.Unusable(1, tc.SaysNotReady), diagnosis.APINotReady},
		{"without its roles yet", tc.Unusable(1, `Error from server (Forbidden): forbidden: User "kubernetes-admin" cannot get path "/readyz"`), diagnosis.APINotReady},
		{"unavailable", tc.Unusable(1, "Error from server (ServiceUnavailable): the server is currently unable to handle the request"), diagnosis.APINotReady},
		{"unauthorized", tc.Unusable(1, tc.SaysUnauthorized), diagnosis.APIUnauthorized},
		{"kubectl is missing, and the port refuses", func(n *snapshot.Node) {
			tc.Refused()(n)
			delete(n.Results, "readyz")
		}, diagnosis.APIRefused},
		{"nothing is known", func(n *snapshot.Node) {
			n.View = nil
			delete(n.Results, "readyz")
		}, diagnosis.APIUnknown},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := diagnosis.Diagnose(tc.Healthy(tc.Single(), tc.On("cp1", row.edit)), diagnosis.DefaultThresholds())
			if got := d.ControlPlanes["cp1"]; got != row.want {
				t.Errorf("the API server is %s, want %s", got, row.want)
			}
		})
	}
}

// Each finding has what its reader needs: what was seen, where, and by which node.
func TestEvidence(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit tc.Edit
		want diagnosis.Finding
	}{
		{
			"an expired certificate names its file and its end",
			tc.On("cp1", tc.Expired(certs.KindAPIServer)),
			diagnosis.Finding{Reason: diagnosis.ServingExpired, Node: "cp1", Subject: "apiserver", Evidence: "/etc/kubernetes/ssl/apiserver.crt expired at 2026-02-28T12:00:00Z"},
		},
		{
			"an etcd certificate is called by its path",
			tc.On("cp1", tc.EndsIn(tc.Day, certs.KindEtcdMember)),
			diagnosis.Finding{Reason: diagnosis.CertificateExpiring, Node: "cp1", Subject: "/etc/ssl/etcd/ssl/member-cp1.pem", Evidence: "/etc/ssl/etcd/ssl/member-cp1.pem expires at 2026-03-02T12:00:00Z"},
		},
		{
			"a clock is compared with the driver's",
			tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(-time.Hour) }),
			diagnosis.Finding{Reason: diagnosis.ClockSkew, Node: "w1", Evidence: "its clock is at 2026-03-01T11:00:00Z, the control node's at 2026-03-01T12:00:00Z: 1h0m0s apart"},
		},
		{
			"a crashing kubelet is quoted",
			tc.On("w1", tc.CrashLoop()),
			diagnosis.Finding{Reason: diagnosis.KubeletDown, Node: "w1", Subject: "kubelet.service", Evidence: "systemd reports activating (auto-restart), restarted 12 times\n" +
				`"command failed" err="failed to run Kubelet: unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory"`},
		},
		{
			"of a long answer the last two lines are kept",
			tc.On("cp1", tc.Unusable(1, "one\ntwo\nthree\n")),
			diagnosis.Finding{Reason: diagnosis.APIUnusable, Node: "cp1", Subject: "unknown", Evidence: "readyz: two\nthree"},
		},
		{
			"a stale certificate names port and file",
			tc.On("cp1", tc.Renewed(certs.KindAPIServer)),
			diagnosis.Finding{Reason: diagnosis.ServedCertificateStale, Node: "cp1", Subject: "kube-apiserver", Evidence: "10.0.0.1:6443 serves a different certificate than /etc/kubernetes/ssl/apiserver.crt: first cp1:/e, which expires at 2027-02-19T12:00:00Z"},
		},
		{
			"an unreachable node is reported in Ansible's words",
			tc.On("w1", tc.Unknown(snapshot.Unreachable, "Permission denied (publickey).")),
			diagnosis.Finding{Reason: diagnosis.NodeUnreachable, Node: "w1", Evidence: "Permission denied (publickey)."},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := diagnosis.Diagnose(tc.Healthy(tc.Single(), row.edit), diagnosis.DefaultThresholds())
			if !slices.Contains(d.Findings, row.want) {
				t.Errorf("not found:\n%+v\nin\n%+v", row.want, d.Findings)
			}
		})
	}
}

// In a directory with the certificates of all members, another's is not compared with what this one
// serves.
func TestServedEtcdCertificate(t *testing.T) {
	t.Parallel()
	second := func(n *snapshot.Node) { // as on the first etcd node of Kubespray: it holds every member's
		n.Certificates = slices.Insert(n.Certificates, 0, certs.Certificate{
			Kind: certs.KindEtcdMember, Path: tc.EtcdPKI + "/member-another.pem", Fingerprint: "of another",
			NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(300 * tc.Day),
		})
	}
	d := diagnosis.Diagnose(tc.Healthy(tc.HA(), tc.On("cp1", second)), diagnosis.DefaultThresholds())
	if d.Has(diagnosis.ServedCertificateStale) {
		t.Errorf("another member's certificate was taken for the node's own: %+v", d.Findings)
	}
	d = diagnosis.Diagnose(tc.Healthy(tc.HA(), tc.On("cp1", second, tc.Files(func(c *certs.Certificate) {
		c.Fingerprint += " renewed"
	}, certs.KindEtcdMember))), diagnosis.DefaultThresholds())
	if !d.Has(diagnosis.ServedCertificateStale) {
		t.Error("its own stale certificate is overlooked behind another's")
	}
}

// A member that does not vote counts neither in the size nor as missing.
func TestLearnersDoNotCount(t *testing.T) {
	t.Parallel()
	lists := func(n *snapshot.Node) {
		n.Etcd.Healthy, n.Etcd.Error = false, "no leader"
		n.Etcd.Members[2].Learner = true
	}
	s := tc.Healthy(tc.HA(), tc.On("cp1,cp2,cp3", tc.Unusable(1, tc.SaysNotReady)), tc.On("cp1", lists),
		tc.On("cp2,cp3", tc.Stopped("etcd"), tc.Stopped("etcd-peer")))
	found := diagnosis.Diagnose(s, diagnosis.DefaultThresholds()).Findings
	if !slices.ContainsFunc(found, func(f diagnosis.Finding) bool {
		return f.Reason == diagnosis.EtcdNoQuorum && f.Evidence == "1 of 2 members are not running: cp2"
	}) {
		t.Errorf("%+v", found)
	}
}

// The caller's own threshold counts for everything but what a kubelet renews.
func TestThresholds(t *testing.T) {
	t.Parallel()
	s := tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(29*tc.Day, certs.KindAPIServer, certs.KindKubeletClient)))
	for _, row := range []struct {
		days int
		want diagnosis.Route
	}{{28, diagnosis.None}, {30, diagnosis.Renew}, {0, diagnosis.None}} {
		th := diagnosis.Thresholds{RenewBefore: time.Duration(row.days) * tc.Day, ClockSkew: time.Minute}
		if got := diagnosis.Diagnose(s, th).Route; got != row.want {
			t.Errorf("%d days: route is %s, want %s", row.days, got, row.want)
		}
	}
}

// A diagnosis is a pure function: the same snapshot gives the same document, and the snapshot stays
// unchanged, also after a round trip through JSON.
func TestDiagnoseIsPure(t *testing.T) {
	t.Parallel()
	for _, row := range situations() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, row.edits...)
			before := document(t, s)
			first := document(t, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()))
			if after := document(t, s); after != before {
				t.Errorf("the snapshot was changed:\n%s\nto\n%s", before, after)
			}
			for range 5 { // maps are walked in another order each time
				if again := document(t, diagnosis.Diagnose(s, diagnosis.DefaultThresholds())); again != first {
					t.Fatalf("the second diagnosis differs:\n%s\nand\n%s", first, again)
				}
			}
			var saved snapshot.Snapshot
			if err := json.Unmarshal([]byte(before), &saved); err != nil {
				t.Fatal(err)
			}
			if again := document(t, diagnosis.Diagnose(saved, diagnosis.DefaultThresholds())); again != first {
				t.Errorf("the saved snapshot is diagnosed otherwise:\n%s\nand\n%s", first, again)
			}
		})
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
