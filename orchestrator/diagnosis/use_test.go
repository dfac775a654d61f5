package diagnosis_test

import (
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// own is a certificate of the operator's own, as settings name it.
const own = "/etc/company/tls.crt"

// uses makes a node's settings name files: "setting path", or one of them for its usual ones.
func uses(settings ...string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		for _, line := range settings {
			name, file, _ := strings.Cut(line, " ")
			n.Facts[name] = file
		}
	}
}

// usual are the settings of a control plane with Kubespray's etcd next to it.
func usual(n *snapshot.Node) {
	uses("kube-apiserver.tls-cert-file "+tc.PKI+"/apiserver.crt", "kube-apiserver.etcd-certfile "+tc.EtcdPKI+"/node-"+n.Name+".pem",
		"kube-apiserver.kubelet-client-certificate "+tc.PKI+"/apiserver-kubelet-client.crt", "kube-apiserver.proxy-client-cert-file "+tc.PKI+"/front-proxy-client.crt",
		"kube-apiserver.etcd-cafile "+tc.EtcdPKI+"/ca.pem", "etcd.trusted-ca-file "+tc.EtcdPKI+"/ca.pem",
		"etcd.cert-file "+tc.EtcdPKI+"/member-"+n.Name+".pem", "etcd.peer-cert-file "+tc.EtcdPKI+"/member-"+n.Name+".pem",
		"kube-controller-manager.kubeconfig /etc/kubernetes/controller-manager.conf", "kube-scheduler.kubeconfig /etc/kubernetes/scheduler.conf")(n)
	tc.EtcdClient(n)
}

// lies puts a certificate onto a node that expires after so many days.
func lies(kind certs.Kind, file string, days int) tc.NodeEdit {
	return func(n *snapshot.Node) {
		row, _ := certs.Lookup(kind)
		n.Certificates = append(n.Certificates, certs.Certificate{
			Kind: kind, Path: file, Subject: "CN=" + string(kind), Fingerprint: n.Name + ":" + file, IsCA: row.CA, Key: certs.KeyMatches,
			NotBefore: tc.Now.Add(-400 * tc.Day), NotAfter: tc.Now.AddDate(0, 0, days), SignedBy: row.Signer, SANs: []string{n.Name, "10.0.0.1", "127.0.0.1"},
		})
	}
}

// kubeadmsEtcd are files of an etcd of kubeadm's own, signed by an unknown CA.
func kubeadmsEtcd(n *snapshot.Node) {
	lies(certs.KindEtcdCA, tc.PKI+"/etcd/ca.crt", -1)(n)
	for kind, file := range map[certs.Kind]string{
		certs.KindEtcdServer: "etcd/server.crt", certs.KindEtcdPeer: "etcd/peer.crt", "etcd-healthcheck-client": "etcd/healthcheck-client.crt",
		certs.KindAPIServerEtcdClient: "apiserver-etcd-client.crt",
	} {
		lies(kind, tc.PKI+"/"+file, -1)(n)
	}
	foreign(certs.KindEtcdServer, certs.KindEtcdPeer, certs.KindAPIServerEtcdClient)(n)
	key(certs.KeyMissing, certs.KindEtcdServer, certs.KindAPIServerEtcdClient)(n)
	n.Digests[tc.PKI+"/etcd/ca.crt"] = "of " + n.Name
}

// ownServing makes the API server serve a certificate of its own that expires after so many days.
func ownServing(days int) tc.NodeEdit {
	return func(n *snapshot.Node) {
		usual(n)
		uses("kube-apiserver.tls-cert-file " + own)(n)
		lies(certs.KindAPIServerFile, own, days)(n)
		tc.Serving("kube-apiserver", certs.KindAPIServerFile)(n)
		for i := range n.Certificates {
			if c := &n.Certificates[i]; c.Served && c.Kind == "kube-apiserver" {
				c.Fingerprint, c.NotAfter = n.Name+":"+own, tc.Now.AddDate(0, 0, days)
			}
		}
	}
}

// inUse are situations in which the settings of components define what is in use.
func inUse() []fault {
	single, ha := tc.Single(), tc.HA()
	one := func(r diagnosis.Reason) []diagnosis.Reason { return []diagnosis.Reason{r} }
	type follow = map[diagnosis.Reason]diagnosis.Reason
	badFlag := output("apiserver-log", "Error: unknown flag: --x")
	return []fault{
		{name: "everything is in its usual place", of: ha, edits: []tc.Edit{tc.On("cp1,cp2,cp3", usual)}, route: diagnosis.None},
		{
			name: "what kubeadm's etcd left behind next to the host's has expired", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", usual), tc.On("cp1,cp3", kubeadmsEtcd)}, route: diagnosis.None,
		},
		{
			name: "leftovers that have expired, and a bad flag", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, kubeadmsEtcd, lies(certs.KindEtcdMember, tc.EtcdPKI+"/member-gone.pem", -1), tc.Refused(), badFlag)},
			route: diagnosis.Refuse, causes: one(diagnosis.APICrashing),
		},
		{
			name: "leftovers of kubeadm's etcd that have expired, and no manifest of the API server", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, kubeadmsEtcd, tc.Refused(), func(n *snapshot.Node) {
				delete(n.Facts, "kube-apiserver.etcd-certfile")
				n.Facts["manifest"] = "missing"
			})},
			route: diagnosis.Refuse, causes: one(diagnosis.ManifestMissing), follow: follow{diagnosis.APIServerRefused: diagnosis.ManifestMissing},
		},
		{
			name: "the pairs of a member that was removed", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, lies(certs.KindEtcdMember, tc.EtcdPKI+"/member-gone.pem", -1), lies(certs.KindEtcdAdmin, tc.EtcdPKI+"/admin-gone.pem", -1))},
			route: diagnosis.None,
		},
		{
			name: "another member's pair, which Kubespray may hand out", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", usual), tc.On("cp1", lies(certs.KindEtcdMember, tc.EtcdPKI+"/member-cp2.pem", -1))},
			route: diagnosis.Renew, causes: one(diagnosis.EtcdExpired),
		},
		{
			name: "another member's certificate and an administrator's, without their keys", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", usual), tc.On("cp1", lies(certs.KindEtcdMember, tc.EtcdPKI+"/member-cp2.pem", -1), key(certs.KeyMissing, certs.KindEtcdAdmin), tc.Expired(certs.KindEtcdAdmin),
				func(n *snapshot.Node) { n.Certificates[len(n.Certificates)-1].Key = certs.KeyMissing })},
			route: diagnosis.None,
		},
		{
			name: "what the host's etcd left behind next to kubeadm's", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmEtcd, uses("kube-apiserver.etcd-certfile "+tc.PKI+"/apiserver-etcd-client.crt", "etcd.cert-file "+tc.PKI+"/etcd/server.crt"),
				lies(certs.KindEtcdHostCA, tc.EtcdPKI+"/ca.pem", -1), lies(certs.KindEtcdNode, tc.EtcdPKI+"/node-cp1.pem", -1))},
			route: diagnosis.None,
		},
		{
			name: "kubeadm's etcd, whose manifest is gone, still has its certificates", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmEtcd, uses("kube-apiserver.etcd-certfile "+tc.PKI+"/apiserver-etcd-client.crt"), tc.Expired(certs.KindEtcdServer), tc.Refused(), tc.Stopped("etcd"))},
			route: diagnosis.Recover, causes: one(diagnosis.EtcdExpired),
			follow: follow{diagnosis.EtcdMemberDown: diagnosis.EtcdExpired, diagnosis.EtcdNoQuorum: diagnosis.EtcdExpired, diagnosis.APIUnusable: diagnosis.EtcdExpired},
		},
		{
			name: "what a control plane left on a worker", of: single,
			edits: []tc.Edit{tc.On("w1", lies(certs.KindAPIServerEtcdClient, tc.PKI+"/apiserver-etcd-client.crt", -1), lies(certs.KindAPIServer, tc.PKI+"/apiserver.crt", -1),
				lies(certs.KindSchedulerConf, "/etc/kubernetes/scheduler.conf", -1))},
			route: diagnosis.None,
		},
		{
			name: "an administrator's kubeconfig on a worker is a copy", of: single,
			edits: []tc.Edit{tc.On("w1", lies(certs.KindAdmin, "/etc/kubernetes/admin.conf", -1))},
			route: diagnosis.None, causes: one(diagnosis.CopyStale),
		},
		{name: "an API server with a certificate of its own", of: single, edits: []tc.Edit{tc.On("cp1", ownServing(300))}, route: diagnosis.None},
		{
			name: "an API server with a certificate of its own, and none next to it", of: single,
			edits: []tc.Edit{tc.On("cp1", ownServing(300), without(certs.KindAPIServer))}, route: diagnosis.None,
		},
		{
			name: "an API server with a certificate of its own that ends soon", of: single,
			edits: []tc.Edit{tc.On("cp1", ownServing(3))}, route: diagnosis.None, causes: one(diagnosis.OwnExpiring),
		},
		{
			name: "an API server with a certificate of its own that has ended, as has the cluster's", of: single,
			edits: []tc.Edit{tc.On("cp1", ownServing(-1), tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Refuse, causes: one(diagnosis.OwnInvalid),
			follow: follow{diagnosis.APIServerUntrusted: diagnosis.OwnInvalid},
		},
		{
			name: "an API server's certificate for another name that has ended", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, uses("kube-apiserver.sni-cert-file "+own), lies("apiserver-sni-file", own, -1))},
			route: diagnosis.Refuse, causes: one(diagnosis.OwnInvalid),
		},
		{
			name: "a kubelet with a certificate of its own that has ended, as has the one next to it", of: single,
			edits: []tc.Edit{tc.On("w1", uses("kubelet.tlsCertFile "+own), lies(certs.KindKubeletServingFile, own, -1), tc.Expired(certs.KindKubeletServing))},
			route: diagnosis.Refuse, causes: one(diagnosis.OwnInvalid),
		},
		{
			name: "a kubelet that asks for its certificate leaves the old one", of: single,
			edits: []tc.Edit{tc.On("w1", uses("kubelet.serverTLSBootstrap true"), lies(certs.KindKubeletServer, tc.KubeletPKI+"/kubelet-server-current.pem", 300), tc.Expired(certs.KindKubeletServing))},
			route: diagnosis.None,
		},
		{
			name: "a controller manager with a kubeconfig elsewhere", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, uses("kube-controller-manager.kubeconfig /etc/company/kcm.conf"), lies("controller-manager-kubeconfig", "/etc/company/kcm.conf", 3), tc.Expired(certs.KindControllerManagerConf))},
			route: diagnosis.None, causes: one(diagnosis.OwnExpiring),
		},

		// --- chains ------------------------------------------------------------------
		{
			name: "an intermediate behind the API server's certificate has ended", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, tc.Files(func(c *certs.Certificate) { c.ChainNotAfter = tc.Now.Add(-tc.Day) }, certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Recover, causes: one(diagnosis.ServingExpired), follow: follow{diagnosis.APIUnusable: diagnosis.ServingExpired},
		},
		{
			name: "an intermediate that lasts longer than what stands before it", of: single,
			edits: []tc.Edit{tc.On("cp1", usual, tc.Files(func(c *certs.Certificate) { c.ChainNotAfter = tc.Now.Add(3000 * tc.Day) }, certs.KindAPIServer))},
			route: diagnosis.None,
		},
	}
}

// Another member's pair is renewed, and explains no outage of this node.
func TestOthersPairExplainsNothing(t *testing.T) {
	t.Parallel()
	broken := []tc.NodeEdit{lies(certs.KindEtcdMember, tc.EtcdPKI+"/member-cp2.pem", -1), tc.Refused(), output("apiserver-log", "Error: unknown flag: --x")}
	d := diagnosis.Diagnose(tc.Healthy(tc.HA(), tc.On("cp1,cp2,cp3", usual), tc.On("cp1", broken...)), diagnosis.DefaultThresholds())
	if f, _ := d.Primary(); d.Route != diagnosis.Refuse || f.Reason != diagnosis.APICrashing {
		t.Errorf("%s: %+v", d.Route, f)
	}
}

// A refusal because of a certificate that is not renewed here explains that, and names it.
func TestOwnCertificateIsNamed(t *testing.T) {
	t.Parallel()
	d := diagnosis.Diagnose(tc.Healthy(tc.Single(), tc.On("cp1", ownServing(-1), tc.Unusable(1, tc.SaysExpired))), diagnosis.DefaultThresholds())
	const want = "refused: a component uses a certificate that is not valid, and kscertctl does not renew it (cp1, " + own + ")"
	if f, _ := d.Primary(); d.Verdict != want || !strings.HasPrefix(f.Evidence, own+", which kube-apiserver.tls-cert-file names, is valid from ") {
		t.Errorf("the verdict is %q, the evidence %q", d.Verdict, f.Evidence)
	}
	if len(d.Stale) > 0 || len(d.Due) > 0 {
		t.Errorf("stale %v, due %v", d.Stale, d.Due)
	}
}
