package diagnosis_test

import (
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// of gives certificates to a user in groups.
func of(user, groups string, kinds ...certs.Kind) tc.NodeEdit {
	return tc.Files(func(c *certs.Certificate) { c.CommonName, c.Organizations = user, strings.Fields(groups) }, kinds...)
}

// usableFor gives certificates extended key usages.
func usableFor(usages string, kinds ...certs.Kind) tc.NodeEdit {
	return tc.Files(func(c *certs.Certificate) {
		c.Usages = slices.DeleteFunc(strings.Split(usages, ", "), func(u string) bool { return u == "" })
	}, kinds...)
}

// kubeletsAnswer is the API server's answer about its access to kubelets.
func kubeletsAnswer(status int, text string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		n.Results["kubelet-access"] = snapshot.Result{Status: status, Output: text}
	}
}

// refersTo makes a kubeconfig refer to a file for its user's certificate.
func refersTo(kubeconfig, file string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		for i := range n.Kubeconfigs {
			if k := &n.Kubeconfigs[i]; k.Path == kubeconfig {
				k.ClientFingerprint, k.ClientCertificateFile = "", file
			}
		}
	}
}

// forbidden makes an API server answer that its administrator may not read.
func forbidden(n *snapshot.Node) {
	n.View.Forbidden = []string{"Error from server (Forbidden): nodes is forbidden"}
}

func identities() []fault {
	const (
		none, refuse     = diagnosis.None, diagnosis.Refuse
		wrong, unusual   = diagnosis.IdentityWrong, diagnosis.IdentityUnusual
		kubeletClient    = certs.KindAPIServerKubeletClient
		masters, admins  = "system:masters", "kubeadm:cluster-admins"
		kubeletPair      = tc.KubeletPKI + "/kubelet-client-current.pem"
		unauthorizedUser = "kube-apiserver-kubelet-client"
	)
	type follow = map[diagnosis.Reason]diagnosis.Reason
	row := func(name string, route diagnosis.Route, cause diagnosis.Reason, edits ...tc.NodeEdit) fault {
		f := fault{name: name, of: tc.Single(), route: route, edits: []tc.Edit{tc.On("cp1", edits...)}}
		if cause != "" {
			f.causes = []diagnosis.Reason{cause}
		}
		return f
	}
	with := func(f fault, symptom diagnosis.Reason) fault {
		f.follow = follow{symptom: f.causes[0]}
		return f
	}
	elsewhere := func(f fault, edits ...tc.Edit) fault {
		f.edits = append(f.edits, edits...)
		return f
	}
	unlisted := func(f fault) fault {
		f.causes = append(f.causes, diagnosis.NotInInventory)
		return f
	}
	return []fault{
		// --- administrators --------------------------------------------------------
		with(row("admin.conf with the node's identity", refuse, wrong, of("system:node:cp1", "system:nodes", certs.KindAdmin), forbidden), diagnosis.AdministratorForbidden),
		row("admin.conf that refers to the kubelet's file", refuse, wrong, refersTo("/etc/kubernetes/admin.conf", kubeletPair)),
		row("admin.conf with the scheduler's identity", refuse, wrong, of("system:kube-scheduler", "", certs.KindAdmin)),
		row("admin.conf as before 1.29", none, "", of("kubernetes-admin", masters, certs.KindAdmin)),
		row("admin.conf since 1.29", none, "", of("kubernetes-admin", admins, certs.KindAdmin)),
		row("admin.conf of OpenShift's kind, who may do everything", none, "", of("system:admin", masters, certs.KindAdmin)),
		row("admin.conf of a user with a binding", none, "", of("jane", "ops", certs.KindAdmin)),
		row("admin.conf of a user without one", refuse, diagnosis.AdministratorForbidden, of("jane", "ops", certs.KindAdmin), forbidden),
		row("admin.conf in whose second user is a node", none, "", func(n *snapshot.Node) {
			c, _ := n.Certificate(certs.KindAdmin)
			c.CommonName, c.Organizations, c.Fingerprint = "system:node:cp1", []string{"system:nodes"}, "second"
			n.Certificates = append(n.Certificates, c)
		}),
		row("super-admin.conf with a node's identity", refuse, wrong, of("system:node:cp1", "system:nodes", certs.KindSuperAdmin)),
		row("root's own kubeconfig is whosoever's it is", none, "", func(n *snapshot.Node) {
			n.Certificates = append(n.Certificates, certs.Certificate{
				Kind: "root-kubeconfig", Path: "/root/.kube/config", CommonName: "system:node:cp1", Organizations: []string{"system:nodes"},
				NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(300 * tc.Day), Fingerprint: "root's", SignedBy: certs.KubernetesCA,
			})
			n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Path: "/root/.kube/config", ClientFingerprint: "root's"})
		}),

		// --- the API server towards kubelets -----------------------------------------
		row("apiserver-kubelet-client as before 1.29", none, "", of(unauthorizedUser, masters, kubeletClient)),
		row("apiserver-kubelet-client since 1.29", none, "", of(unauthorizedUser, admins, kubeletClient)),
		row("apiserver-kubelet-client since 1.37", none, "", of(unauthorizedUser, "", kubeletClient), kubeletsAnswer(0, "yes")),
		row("apiserver-kubelet-client in no group, no one was asked", none, "", of(unauthorizedUser, "", kubeletClient)),
		row("apiserver-kubelet-client in no group, and kubelets refuse it", refuse, diagnosis.KubeletAccessForbidden,
			of(unauthorizedUser, "", kubeletClient), kubeletsAnswer(1, "Warning: resource 'nodes' is not namespace scoped\n\nno")),
		row("apiserver-kubelet-client in another group, for a reason", refuse, diagnosis.KubeletAccessForbidden,
			of(unauthorizedUser, "ops", kubeletClient), kubeletsAnswer(1, "no - no rule")),
		row("kubelets let everybody in, and ask no one", none, "", of(unauthorizedUser, "", kubeletClient), kubeletsAnswer(1, "no"),
			func(n *snapshot.Node) { n.Facts["kubelet.authorization.mode"] = "AlwaysAllow" }),
		row("the question itself was refused", none, "", of(unauthorizedUser, "ops", kubeletClient),
			kubeletsAnswer(1, "Error from server (Forbidden): users is forbidden: no one may impersonate")),
		with(row("apiserver-kubelet-client with a node's identity", refuse, wrong, of("system:node:cp1", "system:nodes", kubeletClient), kubeletsAnswer(1, "no")),
			diagnosis.KubeletAccessForbidden),

		// --- usages ------------------------------------------------------------------
		with(row("apiserver.crt for clients", refuse, wrong, usableFor("client auth", certs.KindAPIServer),
			tc.Unusable(1, "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage")), diagnosis.APIServerUntrusted),
		row("apiserver.crt that is not the one in use", none, "", usableFor("client auth", certs.KindAPIServer),
			func(n *snapshot.Node) { n.Facts["kube-apiserver.tls-cert-file"] = "/etc/ssl/own.crt" }),
		row("an administrator's certificate for servers", refuse, wrong, usableFor("server auth", certs.KindAdmin)),
		row("apiserver-kubelet-client for servers", refuse, wrong, usableFor("server auth", kubeletClient)),
		row("front-proxy-client for servers", refuse, wrong, usableFor("server auth", certs.KindFrontProxyClient)),
		row("an etcd member for servers alone", refuse, wrong, usableFor("server auth", certs.KindEtcdMember)),
		row("a usage that Go does not know", refuse, wrong, usableFor("1.3.6.1.4.1.311.20.2.2", certs.KindAdmin)),
		row("no extended key usage is every one", none, "", usableFor("", certs.KindAdmin, certs.KindAPIServer, certs.KindEtcdMember)),
		row("any extended key usage is every one", none, "", usableFor("any", certs.KindAdmin, certs.KindAPIServer)),
		row("more usages than are needed", none, "", usableFor("server auth, client auth", certs.KindAdmin, certs.KindAPIServer)),

		// --- components --------------------------------------------------------------
		row("scheduler.conf with the controller manager's identity", refuse, wrong, of("system:kube-controller-manager", "", certs.KindSchedulerConf)),
		row("scheduler.conf of an administrator", none, unusual, of("kubernetes-admin", admins, certs.KindSchedulerConf)),
		row("controller-manager.conf of a user of one's own", none, unusual, of("controllers", "", certs.KindControllerManagerConf)),
		row("front-proxy-client with a name of one's own", none, unusual, of("aggregator", "", certs.KindFrontProxyClient)),

		// --- kubelets ----------------------------------------------------------------
		elsewhere(with(row("a kubelet with another node's name", refuse, wrong), diagnosis.NodeNotReady),
			tc.On("w1", of("system:node:cp1", "system:nodes", certs.KindKubeletClient)), notReady("w1")),
		row("a kubelet with a name that is no one's", refuse, wrong, of("system:node:old", "system:nodes", certs.KindKubeletClient)),
		row("a kubelet in no group", refuse, wrong, of("system:node:cp1", "", certs.KindKubeletClient)),
		row("a kubelet with the controller manager's identity", refuse, wrong, of("system:kube-controller-manager", "", certs.KindKubeletClient)),
		row("a kubelet of an administrator", none, unusual, of("kubernetes-admin", masters, certs.KindKubeletClient)),
		row("a kubelet with its host's name, in capitals", none, "", of("system:node:CP1.example", "system:nodes", certs.KindKubeletClient),
			func(n *snapshot.Node) { n.Facts["hostname"] = "cp1.example" }),
		unlisted(elsewhere(row("a kubelet that the API server knows by the name that it has, and the inventory does not", refuse, diagnosis.NodeNotRegistered,
			of("system:node:ip-10-0-0-1", "system:nodes", certs.KindKubeletClient)),
			tc.View(func(v *snapshot.View) {
				delete(v.Nodes, "cp1")
				v.Nodes["ip-10-0-0-1"] = "True"
			}))),
		{
			name: "what a kubelet left on a machine that is etcd's alone", of: tc.ExternalEtcd(), route: none,
			edits: []tc.Edit{tc.On("etcd1", func(n *snapshot.Node) {
				n.Certificates = append(n.Certificates, certs.Certificate{
					Kind: certs.KindKubeletClient, Path: kubeletPair, CommonName: "system:node:w1", Organizations: []string{"system:nodes"},
					NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(300 * tc.Day),
				})
			})},
		},
		elsewhere(row("what kubeadm left on a worker", none, ""), tc.On("w1", func(n *snapshot.Node) {
			n.Certificates = append(n.Certificates, certs.Certificate{
				Kind: certs.KindAPIServerEtcdClient, Path: tc.PKI + "/apiserver-etcd-client.crt", CommonName: "w1", Usages: []string{"server auth"},
				NotBefore: tc.Now.Add(-tc.Day), NotAfter: tc.Now.Add(300 * tc.Day),
			})
		})),
	}
}

// The report of a wrong identity names both: the actual one and the expected one.
func TestIdentityEvidence(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		edit tc.NodeEdit
		want string
	}{
		{
			of("system:node:cp1", "system:nodes", certs.KindAdmin),
			"/etc/kubernetes/admin.conf is of the user system:node:cp1 in the group system:nodes, but its place needs the group system:masters or kubeadm:cluster-admins",
		},
		{
			of("system:kube-scheduler", "", certs.KindKubeletClient),
			tc.KubeletPKI + "/kubelet-client-current.pem is of the user system:kube-scheduler, but its place needs the user system:node:cp1 in the group system:nodes",
		},
		{
			usableFor("client auth", certs.KindAPIServer),
			tc.PKI + "/apiserver.crt is for client auth, but its place needs one for server auth",
		},
	} {
		d := diagnosis.Diagnose(tc.Healthy(tc.Single(), tc.On("cp1", row.edit)), diagnosis.DefaultThresholds())
		if f, _ := d.Primary(); f.Evidence != row.want {
			t.Errorf("evidence is %q, want %q", f.Evidence, row.want)
		}
		if len(d.Due) > 0 {
			t.Errorf("due is %v, and a renewal keeps the subject", d.Due)
		}
	}
}
