package diagnosis_test

import (
	"fmt"
	"maps"
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

// fault is one broken thing in an otherwise healthy cluster: its cause is the primary finding, and
// it explains every other finding.
type fault struct {
	name  string
	of    cluster.Cluster
	edits []tc.Edit

	route diagnosis.Route
	// causes are the findings that nothing explains, the primary one first.
	causes []diagnosis.Reason
	// follow are the consequences, each with its cause.
	follow map[diagnosis.Reason]diagnosis.Reason
}

// Edits that several rows share.
var (
	notReady = func(node string) tc.Edit {
		return tc.View(func(v *snapshot.View) { v.Nodes[node] = "Unknown" })
	}
	unauthorized = tc.Unusable(1, tc.SaysUnauthorized)
	timeout      = tc.Unusable(1, "Unable to connect to the server: net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)")
)

func disk(d snapshot.Disk) tc.NodeEdit {
	return func(n *snapshot.Node) { n.Disks["/var"] = d }
}

func output(name, text string) tc.NodeEdit {
	return func(n *snapshot.Node) { n.Results[name] = snapshot.Result{Output: text} }
}

// kubeadmSays is kubeadm's answer when it was asked to check its configuration.
func kubeadmSays(status int, text string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		n.Results["kubeadm-config"] = snapshot.Result{Status: status, Output: text}
	}
}

const oldSpec = "W1128 16:17:29.275489 582 initconfiguration.go:332] something\n" +
	`error: your configuration file uses an old API spec: "kubeadm.k8s.io/v1beta2" (kind: "ClusterConfiguration").` +
	"\nTo see the stack trace of this error execute with --v=5 or higher"

func runtimeDown(n *snapshot.Node) {
	n.Units["containerd"] = snapshot.Unit{Active: "failed", Sub: "failed"}
}

// without removes the certificates of a kind, and kubeconfigs of that name.
func without(kinds ...certs.Kind) tc.NodeEdit {
	return func(n *snapshot.Node) {
		n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return slices.Contains(kinds, c.Kind) })
		n.Kubeconfigs = slices.DeleteFunc(n.Kubeconfigs, func(k snapshot.Kubeconfig) bool {
			return slices.Contains(kinds, certs.Classify(certs.Config, k.Path[len("/etc/kubernetes/"):]))
		})
	}
}

func unreadable(file string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		n.Unreadable = append(n.Unreadable, snapshot.Unreadable{Path: file, Reason: "no PEM certificate block"})
	}
}

func key(state certs.KeyState, kinds ...certs.Kind) tc.NodeEdit {
	return tc.Files(func(c *certs.Certificate) { c.Key = state }, kinds...)
}

// foreign makes another CA the signer of the certificates of these kinds.
func foreign(kinds ...certs.Kind) tc.NodeEdit {
	return tc.Files(func(c *certs.Certificate) { c.SignedBy, c.Signers = "", nil }, kinds...)
}

// otherCA replaces the cluster's CA certificate with another one's.
func otherCA(n *snapshot.Node) {
	for i := range n.Certificates {
		switch c := &n.Certificates[i]; {
		case c.Kind == certs.KindCA:
			c.Fingerprint, c.PublicKey = "another authority", "another key"
		case c.SignedBy == certs.KubernetesCA:
			c.SignedBy = ""
		}
	}
	n.Digests[tc.PKI+"/ca.crt"] = "sum of another"
}

// next is a CA that is to replace the cluster's own: with the same name, and another key.
const next = "next"

// bundled puts cluster CAs into ca.crt and into all kubeconfigs of a node.
func bundled(issuing string, variants ...string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		tc.Bundle(certs.KindCA, issuing, variants...)(n)
		tc.Trusting("", variants...)(n)
	}
}

// pluginTrusts gives a network plugin a kubeconfig of its own on the node.
func pluginTrusts(variants ...string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		k := snapshot.Kubeconfig{Path: "/etc/cni/net.d/calico-kubeconfig", Server: "https://elsewhere:6443"}
		for _, v := range variants {
			k.CAs = append(k.CAs, tc.CA(certs.KindCA, v))
		}
		n.Kubeconfigs = append(n.Kubeconfigs, k)
	}
}

// issuedByNext makes the next CA the signer of all leaves of the cluster CA.
func issuedByNext(n *snapshot.Node) {
	for i := range n.Certificates {
		if row, ok := certs.Lookup(n.Certificates[i].Kind); ok && row.Signer == certs.KubernetesCA && !row.CA || n.Certificates[i].Kind == "kube-apiserver" {
			n.Certificates[i].Signers = []string{tc.CA(certs.KindCA, next).SignsAs()}
		}
	}
}

// ended makes a CA expired, in every place.
func ended(fingerprint string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		past := func(all []certs.Certificate) {
			for i := range all {
				if all[i].Fingerprint == fingerprint {
					all[i].NotAfter = tc.Now.Add(-tc.Day)
				}
			}
		}
		past(n.Certificates)
		for _, k := range n.Kubeconfigs {
			past(k.CAs)
		}
	}
}

// identified gives the next CA a key identifier.
func identified(n *snapshot.Node) {
	for i := range n.Certificates {
		if c := &n.Certificates[i]; c.IsCA && strings.HasSuffix(c.PublicKey, next) {
			c.SubjectKeyID = next
		}
	}
}

// intermediate makes another CA the signer of the cluster's own.
func intermediate(n *snapshot.Node) {
	signed := func(all []certs.Certificate) {
		for i := range all {
			if all[i].Fingerprint == tc.CA(certs.KindCA, "").Fingerprint {
				all[i].Issuer, all[i].SignedBy = "CN=root", certs.KubernetesCA
				all[i].Signers = []string{tc.CA(certs.KindCA, "root").SignsAs()}
			}
		}
	}
	signed(n.Certificates)
	for _, k := range n.Kubeconfigs {
		signed(k.CAs)
	}
}

// cross makes the cluster's own CA the signer of the next one.
func cross(n *snapshot.Node) {
	for i := range n.Certificates {
		if c := &n.Certificates[i]; c.IsCA && strings.HasSuffix(c.PublicKey, next) {
			c.Signers = []string{tc.CA(certs.KindCA, "").SignsAs()}
		}
	}
}

// lacking removes from a CA something that strict clients require, and its identifier from what it
// signed.
func lacking(by certs.Authority, what string) tc.NodeEdit {
	return func(n *snapshot.Node) {
		for i := range n.Certificates {
			c := &n.Certificates[i]
			if row, _ := certs.Lookup(c.Kind); row.Authority == by {
				c.NotStrict = []string{what}
			} else if row.Signer == by {
				c.NotStrict = []string{certs.LacksAuthorityKeyID}
			}
		}
	}
}

// externalCA is a cluster whose inventory declares that no node has the CA keys.
func externalCA(s *snapshot.Snapshot) {
	s.ExternalCA = true
	for _, n := range s.Nodes {
		delete(n.Digests, tc.PKI+"/ca.key")
		delete(n.Digests, tc.PKI+"/front-proxy-ca.key")
	}
}

// kubeadmEtcd moves etcd's certificates to where kubeadm keeps those of its own.
func kubeadmEtcd(n *snapshot.Node) {
	kinds := map[certs.Kind]certs.Kind{certs.KindEtcdHostCA: certs.KindEtcdCA, certs.KindEtcdMember: certs.KindEtcdServer, certs.KindEtcdAdmin: "etcd-peer"}
	for i := range n.Certificates {
		if kind, ok := kinds[n.Certificates[i].Kind]; ok && !n.Certificates[i].Served {
			row, _ := certs.Lookup(kind)
			n.Certificates[i].Kind, n.Certificates[i].Path, n.Certificates[i].SignedBy = kind, tc.PKI+"/"+row.Path, row.Signer
			n.Certificates[i].Usages = []string{"server auth", "client auth"}
		}
	}
	client := n.Certificates[0]
	client.Kind, client.Path, client.SignedBy = certs.KindAPIServerEtcdClient, tc.PKI+"/apiserver-etcd-client.crt", certs.EtcdCA
	client.Signers = []string{tc.CA(certs.KindEtcdHostCA, "").SignsAs()}
	n.Certificates = append(n.Certificates, client)
	n.Digests[tc.PKI+"/etcd/ca.crt"], n.Digests[tc.PKI+"/etcd/ca.key"] = "1", "2"
	n.Kubeadm.EtcdEndpoints = nil
	delete(n.Units, "etcd")
	n.Endpoints = slices.DeleteFunc(n.Endpoints, func(e snapshot.Endpoint) bool { return e.Name == "etcd-peer" })
	tc.Serving("etcd", certs.KindEtcdServer)(n)
}

// balancer is a load balancer with a certificate of its own, whose name workers use.
func balancer(p snapshot.Probe) tc.Edit {
	return func(s *snapshot.Snapshot) {
		p.Endpoint, p.Fingerprint, p.SANs = "lb.example.com:443", "its own", []string{"lb.example.com"}
		s.Endpoint, s.Probes = p.Endpoint, []snapshot.Probe{p}
		tc.On("w1", func(n *snapshot.Node) { n.Kubeconfigs[0].Server = "https://LB.example.com:443" })(s)
	}
}

// copied puts another program's copy next to the member's certificate.
func copied(fingerprint string, end time.Time) tc.NodeEdit {
	return func(n *snapshot.Node) {
		for _, row := range certs.Table() {
			if row.Copy {
				n.Certificates = append(n.Certificates, certs.Certificate{
					Kind: row.Kind, Path: "/copy", Subject: "CN=" + string(certs.KindEtcdMember), Fingerprint: fingerprint, NotAfter: end, NotBefore: tc.Now.Add(-tc.Day),
				})
				return
			}
		}
	}
}

func allFaults() []fault { return slices.Concat(faults(), identities(), inUse()) }

func faults() []fault {
	single, ha := tc.Single(), tc.HA()
	one := func(r diagnosis.Reason) []diagnosis.Reason { return []diagnosis.Reason{r} }
	type follow = map[diagnosis.Reason]diagnosis.Reason
	return []fault{
		// --- the ground ------------------------------------------------------------
		{
			name: "a file system without room", of: single,
			edits: []tc.Edit{tc.On("cp1", disk(snapshot.Disk{FreeKiB: 64<<10 - 1, SizeKiB: 1 << 20, FreeInodes: 100}), tc.Stopped("etcd"), tc.Refused())},
			route: diagnosis.Refuse, causes: one(diagnosis.DiskFull),
			follow: follow{diagnosis.EtcdMemberDown: diagnosis.DiskFull, diagnosis.EtcdNoQuorum: diagnosis.DiskFull, diagnosis.APIServerRefused: diagnosis.DiskFull},
		},
		{
			name: "a file system without inodes", of: single,
			edits: []tc.Edit{tc.On("w1", disk(snapshot.Disk{FreeKiB: 1 << 20, SizeKiB: 1 << 20, FreeInodes: 0}))},
			route: diagnosis.Refuse, causes: one(diagnosis.DiskFull),
		},
		{
			name: "a file system that counts no inodes has room", of: single,
			edits: []tc.Edit{tc.On("w1", disk(snapshot.Disk{FreeKiB: 64 << 10, SizeKiB: 1 << 20, FreeInodes: -1}))},
			route: diagnosis.None,
		},
		{
			name: "a clock that is two years ahead: what it calls expired is not", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(730 * tc.Day) })},
			route: diagnosis.Refuse, causes: one(diagnosis.ClockSkew),
			follow: follow{diagnosis.KubeletClientExpired: diagnosis.ClockSkew, diagnosis.KubeletServingExpired: diagnosis.ClockSkew},
		},

		{
			name: "a kubeadm configuration of before, and a certificate due", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmSays(1, oldSpec), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.KubeadmConfigRefused, diagnosis.CertificateExpiring},
		},
		{
			name: "a kubeadm configuration of before, and nothing due", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmSays(1, oldSpec))},
			route: diagnosis.None,
		},
		{
			name: "a kubeadm configuration of before, and due what kubeadm does not issue", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmSays(1, oldSpec), tc.EndsIn(tc.Day, certs.KindEtcdMember))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateExpiring),
		},
		{
			name: "kubeadm warns, and takes its configuration", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmSays(0, "W1128 16:17:29.275489 582 initconfiguration.go:332] unknown field"), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateExpiring),
		},
		{
			name: "kubeadm did not answer in time", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmSays(124, "W1128 16:17:29.275489 582 x"), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateExpiring),
		},

		{
			name: "kubeadm had printed something when its time was over", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmSays(124, "fetching the newest version"), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateExpiring),
		},

		// --- authorities -----------------------------------------------------------
		{
			name: "another authority's certificate in the place of the cluster's", of: single,
			edits: []tc.Edit{tc.On("cp1", otherCA, key(certs.KeyMismatch, certs.KindCA), unauthorized)},
			route: diagnosis.Refuse, causes: one(diagnosis.UnknownAuthority),
			follow: follow{diagnosis.KeyMismatch: diagnosis.UnknownAuthority, diagnosis.APIRejectsClient: diagnosis.UnknownAuthority},
		},
		{
			name: "another authority on one of three control planes", of: ha,
			edits: []tc.Edit{tc.On("cp1", otherCA)},
			route: diagnosis.Refuse, causes: one(diagnosis.AuthoritiesDiffer),
		},
		{
			name: "another authority on a worker", of: single,
			edits: []tc.Edit{tc.On("w1", otherCA), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.UnknownAuthority),
			follow: follow{diagnosis.NodeNotReady: diagnosis.UnknownAuthority},
		},
		{
			name: "the same authority in a file with one line more", of: ha,
			edits: []tc.Edit{tc.On("cp2", func(n *snapshot.Node) { n.Digests[tc.PKI+"/ca.crt"] = "sum of more" })},
			route: diagnosis.None,
		},
		{
			name: "one certificate that another authority signed", of: single,
			edits: []tc.Edit{tc.On("cp1", foreign(frontProxyClient))},
			route: diagnosis.Refuse, causes: one(diagnosis.UnknownAuthority),
		},
		{
			name: "no one verified any signature", of: single,
			edits: []tc.Edit{tc.Everywhere(func(n *snapshot.Node) {
				for i := range n.Certificates {
					n.Certificates[i].SignedBy, n.Certificates[i].Signers = "", nil
				}
			})},
			route: diagnosis.None,
		},
		{
			name: "a kubeconfig that trusts another authority", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Kubeconfigs[0].CAs, n.Kubeconfigs[0].CAFingerprint = nil, "another" }), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.UnknownAuthority),
			follow: follow{diagnosis.NodeNotReady: diagnosis.UnknownAuthority},
		},
		{
			name: "root's own kubeconfig may be of another cluster", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Path: "/root/.kube/config", Server: "https://elsewhere:6443", CAFingerprint: "another"})
			})},
			route: diagnosis.None,
		},
		{
			name: "someone else's certificate on the API server's port", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				for i := range n.Certificates {
					if c := &n.Certificates[i]; c.Kind == "kube-apiserver" {
						c.SignedBy, c.Signers, c.Fingerprint = "", nil, "another"
					}
				}
			}, tc.Unusable(1, "x509: certificate signed by unknown authority"))},
			route: diagnosis.Refuse, causes: one(diagnosis.UnknownAuthority),
			follow: follow{diagnosis.APIServerUntrusted: diagnosis.UnknownAuthority},
		},
		{
			name: "a certificate and another's key", of: single,
			edits: []tc.Edit{tc.On("cp1", key(certs.KeyMismatch, certs.KindAPIServer), tc.Refused(),
				output("apiserver-log", `E0301 run.go:72] "command failed" err="tls: private key does not match public key"`))},
			route: diagnosis.Refuse, causes: one(diagnosis.KeyMismatch),
			follow: follow{diagnosis.APICrashing: diagnosis.KeyMismatch},
		},
		{
			name: "an authority that ends before what it signed", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(100*tc.Day, certs.KindFrontProxyCA))},
			route: diagnosis.None, causes: one(diagnosis.CAExpiresFirst),
		},
		{
			name: "an authority that ends moments before what it signed, in a century", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(36500*tc.Day, certs.KindFrontProxyCA), tc.EndsIn(36500*tc.Day+3*time.Second, "front-proxy-client"))},
			route: diagnosis.None,
		},
		{
			name: "an authority that ends in a century, and half a year before what a node has that was added since", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(36300*tc.Day, certs.KindEtcdHostCA), tc.EndsIn(36500*tc.Day, certs.KindEtcdMember))},
			route: diagnosis.None,
		},
		{
			name: "an authority that ends in three years, two months before what it signed", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(1100*tc.Day, certs.KindFrontProxyCA), tc.EndsIn(1160*tc.Day, "front-proxy-client"))},
			route: diagnosis.None, causes: one(diagnosis.CAExpiresFirst),
		},

		// --- CAs that are several certificates -------------------------------------
		{
			name: "a bundle, the old CA first", of: single,
			edits: []tc.Edit{tc.Everywhere(bundled("", "", next))},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "a bundle, the old CA first, and a certificate due", of: single,
			edits: []tc.Edit{tc.Everywhere(bundled("", "", next)), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.RotationUnfinished, diagnosis.CertificateExpiring},
		},
		{
			name: "a bundle, the new CA first, which signs, and a certificate has expired", of: ha,
			edits: []tc.Edit{tc.Everywhere(bundled(next, next, "")), tc.On("cp2", tc.Expired(certs.KindControllerManagerConf))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.ClientExpired, diagnosis.RotationUnfinished},
		},
		{
			name: "a bundle whose old CA has expired, and nothing is of it", of: single,
			edits: []tc.Edit{tc.Everywhere(bundled(next, next, ""), ended(tc.CA(certs.KindCA, "").Fingerprint), issuedByNext)},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "a bundle on the control plane, and the old CA alone elsewhere", of: single,
			edits: []tc.Edit{tc.On("cp1", bundled("", "", next)), tc.On("w1", tc.EndsIn(time.Hour, certs.KindKubeletClient))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.RotationUnfinished, diagnosis.CertificateExpiring},
		},
		{
			name: "a network plugin's kubeconfig, which has the former CA alone", of: single,
			edits: []tc.Edit{tc.On("cp1", pluginTrusts(next))},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "a network plugin's kubeconfig, which has the CA", of: single,
			edits: []tc.Edit{tc.On("cp1", pluginTrusts("", next))},
			route: diagnosis.None,
		},
		{
			name: "what pods are given is another certificate of the CA", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				root := tc.CA(certs.KindCA, tc.Again)
				root.Kind, root.Path = certs.KindUnknown, "/etc/kubernetes/root-ca.crt"
				n.Certificates = append(n.Certificates, root)
				n.Facts["kube-controller-manager.root-ca-file"] = root.Path
			})},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "a bundle whose new CA signs, and a node that trusts the old one alone", of: single,
			edits: []tc.Edit{tc.On("cp1", bundled(next, next, ""))},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.UnknownAuthority, diagnosis.UnknownAuthority, diagnosis.RotationUnfinished},
		},
		{
			name: "a kubelet that got its certificate of the new CA already, which its node does not have", of: single,
			edits: []tc.Edit{tc.On("cp1", bundled("", "", next), identified), tc.On("w1", tc.Files(func(c *certs.Certificate) {
				c.SignedBy, c.Signers, c.Issuer, c.AuthorityKeyID = "", nil, tc.CA(certs.KindCA, next).Subject, next
			}, certs.KindKubeletClient))},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "a CA issued again on some control planes only", of: ha,
			edits: []tc.Edit{tc.On("cp2", tc.Bundle(certs.KindCA, tc.Again, tc.Again)), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.RotationUnfinished, diagnosis.CertificateExpiring},
		},
		{
			name: "a CA issued again on the control planes only", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", bundled(tc.Again, tc.Again))},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "a CA issued again, and kubeconfigs with its former certificate, which ends in ten days", of: single,
			edits: []tc.Edit{tc.Everywhere(tc.Bundle(certs.KindCA, tc.Again, tc.Again)), tc.On("w1", func(n *snapshot.Node) {
				n.Kubeconfigs[0].CAs[0].NotAfter = tc.Now.Add(10 * tc.Day)
			}), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))},
			route:  diagnosis.Renew,
			causes: []diagnosis.Reason{diagnosis.CAExpiring, diagnosis.RotationUnfinished, diagnosis.CertificateExpiring},
		},
		{
			name: "etcd's CA issued again on one member", of: ha,
			edits: []tc.Edit{tc.On("cp3", tc.Bundle(certs.KindEtcdHostCA, tc.Again, tc.Again)), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindEtcdMember))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.RotationUnfinished, diagnosis.CertificateExpiring},
		},
		{
			name: "another CA of the same name on one etcd member", of: ha,
			edits: []tc.Edit{tc.On("cp3", tc.Bundle(certs.KindEtcdHostCA, next, next), tc.IssuedBy(next, certs.KindEtcdMember, certs.KindEtcdAdmin))},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.UnknownAuthority, diagnosis.UnknownAuthority, diagnosis.UnknownAuthority},
		},
		{
			name: "an intermediate CA", of: single,
			edits: []tc.Edit{tc.Everywhere(intermediate)},
			route: diagnosis.None,
		},
		{
			name: "an intermediate CA and its root in one file, and a certificate due", of: single,
			edits: []tc.Edit{tc.Everywhere(intermediate, func(n *snapshot.Node) {
				i := slices.IndexFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindCA })
				n.Certificates[i].Position = 1
				root := tc.CA(certs.KindCA, "root")
				root.Path, root.Position = n.Certificates[i].Path, 2
				n.Certificates = slices.Insert(n.Certificates, i+1, root)
			}), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateExpiring),
		},
		{
			name: "an intermediate CA, whose root alone is trusted by kubelets, and that leaves bring along", of: single,
			edits: []tc.Edit{tc.On("cp1", intermediate, tc.Files(func(c *certs.Certificate) {
				c.Signers = []string{tc.CA(certs.KindCA, "").SignsAs(), tc.CA(certs.KindCA, "root").SignsAs()}
			}, certs.KindAPIServerKubeletClient)), tc.On("w1", tc.Bundle(certs.KindCA, "", "root"))},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "two CAs with one name, one on the control plane, the other on a worker", of: single,
			edits: []tc.Edit{tc.On("w1", bundled("", next))},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.UnknownAuthority, diagnosis.UnknownAuthority},
		},
		{
			name: "a CA that the old one has signed, too: who knows the old one alone trusts what it signs", of: single,
			edits: []tc.Edit{tc.On("cp1", bundled(next, next, ""), cross, issuedByNext, tc.Files(func(c *certs.Certificate) {
				c.Signers = append(c.Signers, tc.CA(certs.KindCA, "").SignsAs())
			}, certs.KindAPIServer, certs.KindAPIServerKubeletClient), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.RotationUnfinished, diagnosis.CertificateExpiring},
		},
		{
			name: "an authority that ends before what it signed, and a certificate due", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(100*tc.Day, certs.KindFrontProxyCA), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.CAExpiresFirst, diagnosis.CertificateExpiring},
		},

		{
			name: "a CA of before Kubernetes 1.19, and all that it signed", of: ha,
			edits: []tc.Edit{tc.Everywhere(lacking(certs.KubernetesCA, certs.LacksSubjectKeyID))},
			route: diagnosis.None, causes: one(diagnosis.AuthorityNotStrict),
		},
		{
			name: "a webhook whose CA has expired", of: single,
			edits: []tc.Edit{trusting(snapshot.Webhook, func(n *snapshot.Node) []certs.Certificate { return bundle(n.Clock.Add(-tc.Day)) })},
			route: diagnosis.None, causes: one(diagnosis.CABundleExpiring),
		},
		{
			name: "and one that it is followed by", of: single,
			edits: []tc.Edit{trusting(snapshot.Webhook, func(n *snapshot.Node) []certs.Certificate {
				return append(bundle(n.Clock.Add(-tc.Day)), bundle(n.Clock.Add(100*tc.Day))...)
			})},
			route: diagnosis.None,
		},
		{
			name: "pods that get another CA than the cluster's", of: single,
			edits: []tc.Edit{trusting(snapshot.RootCAConfigMap, func(n *snapshot.Node) []certs.Certificate { return bundle(n.Clock.Add(100 * tc.Day)) })},
			route: diagnosis.None, causes: one(diagnosis.RotationUnfinished),
		},
		{
			name: "pods that get the cluster's", of: single,
			edits: []tc.Edit{trusting(snapshot.RootCAConfigMap, func(n *snapshot.Node) []certs.Certificate {
				ca, _ := n.Certificate(certs.KindCA)
				return []certs.Certificate{ca}
			})},
			route: diagnosis.None,
		},
		{
			name: "a CA without key usage, and a certificate due", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotStrict = []string{certs.LacksCertSign} }, certs.KindFrontProxyCA), tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.CertificateExpiring, diagnosis.AuthorityNotStrict},
		},
		{
			name: "a CA with an identifier, and the API server's certificate of before", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotStrict = []string{certs.LacksAuthorityKeyID} }, certs.KindAPIServer, certs.KindAdmin))},
			route: diagnosis.None, causes: one(diagnosis.AuthorityNotStrict),
		},
		{
			name: "client certificates of before, which components alone verify", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotStrict = []string{certs.LacksAuthorityKeyID} }, certs.KindAdmin, certs.KindKubeletClient))},
			route: diagnosis.None,
		},
		{
			name: "etcd's CA as Kubespray makes it", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotStrict = []string{certs.LacksCertSign} }, certs.KindEtcdHostCA))},
			route: diagnosis.None,
		},

		// --- files -----------------------------------------------------------------
		{
			name: "the API server's certificate is gone", of: single,
			edits: []tc.Edit{tc.On("cp1", without(certs.KindAPIServer), tc.Refused(), output("apiserver-log", "Error: open apiserver.crt: no such file"))},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
			follow: follow{diagnosis.APICrashing: diagnosis.FileMissing},
		},
		{
			name: "the API server's key is gone", of: single,
			edits: []tc.Edit{tc.On("cp1", key(certs.KeyMissing, certs.KindAPIServer))},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
		},
		{
			name: "etcd certificates that begin later have cost the quorum", of: tc.HA(),
			edits: []tc.Edit{tc.On("cp1,cp2", tc.BeginsIn(time.Hour, certs.KindEtcdMember)), tc.On("cp1,cp2,cp3", tc.NoQuorum, tc.Refused())},
			route: diagnosis.Recover, causes: []diagnosis.Reason{diagnosis.CertificateBeginsLater, diagnosis.CertificateBeginsLater},
			follow: follow{diagnosis.APIUnusable: diagnosis.CertificateBeginsLater},
		},
		{
			name: "a kubeconfig of the control plane is gone", of: single,
			edits: []tc.Edit{tc.On("cp1", without(controllerManager))},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
		},
		{
			name: "a kubeconfig that no one needs is gone", of: single,
			edits: []tc.Edit{tc.On("cp1", without("super-admin.conf"))},
			route: diagnosis.None,
		},
		{
			name: "a worker's kubelet.conf is gone", of: single,
			edits: []tc.Edit{tc.On("w1", without(certs.KindKubeletConf), tc.CrashLoop()), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
			follow: follow{diagnosis.KubeletDown: diagnosis.FileMissing, diagnosis.NodeNotReady: diagnosis.FileMissing},
		},
		{
			name: "a kubelet that is about to bootstrap needs no kubelet.conf", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Kubeconfigs[0].Path = "/etc/kubernetes/bootstrap-kubelet.conf" })},
			route: diagnosis.None,
		},
		{
			name: "what kubelet.conf refers to is gone", of: single,
			edits: []tc.Edit{tc.On("w1", without(certs.KindKubeletClient), tc.CrashLoop())},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateUnreadable), follow: follow{diagnosis.KubeletDown: diagnosis.CertificateUnreadable},
		},
		{
			name: "what kubelet.conf refers to is empty", of: single,
			edits: []tc.Edit{tc.On("w1", without(certs.KindKubeletClient), tc.CrashLoop(), unreadable(tc.KubeletPKI+"/kubelet-client-current.pem"))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateUnreadable), follow: follow{diagnosis.KubeletDown: diagnosis.CertificateUnreadable},
		},
		{
			name: "what a control plane's kubelet.conf refers to is a link to nothing", of: single,
			edits: []tc.Edit{tc.On("cp1", without(certs.KindKubeletClient), tc.CrashLoop(), tc.Refused(), unreadable(tc.KubeletPKI+"/kubelet-client-current.pem"))},
			route: diagnosis.Recover, causes: one(diagnosis.CertificateUnreadable),
			follow: follow{diagnosis.KubeletDown: diagnosis.CertificateUnreadable, diagnosis.APIUnusable: diagnosis.CertificateUnreadable},
		},
		{
			name: "an etcd member's own certificate is gone, another's is there", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.Path = tc.EtcdPKI + "/member-other.pem" }, certs.KindEtcdMember))},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
		},
		{name: "etcd as kubeadm's own static pod", of: single, edits: []tc.Edit{tc.On("cp1", kubeadmEtcd)}, route: diagnosis.None},
		{
			name: "a certificate of kubeadm's own etcd is gone", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmEtcd, without("etcd-peer"))},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
		},
		{
			name: "the key of kubeadm's own etcd authority is gone", of: single,
			edits: []tc.Edit{tc.On("cp1", kubeadmEtcd, func(n *snapshot.Node) { delete(n.Digests, tc.PKI+"/etcd/ca.key") })},
			route: diagnosis.Refuse, causes: one(diagnosis.CAKeyMissing),
		},
		{
			name: "keys that are kept outside, and nothing due", of: single, edits: []tc.Edit{externalCA},
			route: diagnosis.None,
		},
		{
			name: "keys that are kept outside, and a certificate due", of: single,
			edits: []tc.Edit{externalCA, tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.ExternalCA, diagnosis.CertificateExpiring},
		},
		{
			name: "keys that are kept outside, and a kubelet that signs its own", of: single,
			edits: []tc.Edit{externalCA, tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletServing))},
			route: diagnosis.Renew, causes: one(diagnosis.CertificateExpiring),
		},
		{
			name: "where no authority was found, nothing is printed to be missing", of: single,
			edits: []tc.Edit{tc.On("cp1", without(certs.KindCA, certs.KindAPIServer))},
			route: diagnosis.None,
		},
		{
			name: "a key that cannot be read", of: single,
			edits: []tc.Edit{tc.On("cp1", key(certs.KeyUnreadable, certs.KindAdmin))},
			route: diagnosis.Refuse, causes: one(diagnosis.CertificateUnreadable),
		},
		{
			name: "the manifest is no YAML", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Refused(), output("kubelet-log",
				`"Could not process manifest file" err="/etc/kubernetes/manifests/kube-apiserver.yaml: couldn't parse as pod(yaml: line 13: did not find expected key), please check config file"`))},
			route: diagnosis.Refuse, causes: one(diagnosis.ManifestInvalid),
			follow: follow{diagnosis.APIServerRefused: diagnosis.ManifestInvalid},
		},
		{
			name: "the manifest is no YAML, and the API server has not quite ended", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, tc.SaysRefused), output("kubelet-log",
				`err="/etc/kubernetes/manifests/kube-apiserver.yaml: couldn't parse as pod(yaml: line 13), please check config file"`))},
			route: diagnosis.Refuse, causes: one(diagnosis.ManifestInvalid),
			follow: follow{diagnosis.APIBlocked: diagnosis.ManifestInvalid},
		},

		// --- what is in use ----------------------------------------------------------
		{
			name: "the served certificate has expired, the file is fresh", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Renewed(certs.KindAPIServer), func(n *snapshot.Node) {
				for i := range n.Certificates {
					if n.Certificates[i].Kind == "kube-apiserver" {
						n.Certificates[i].NotAfter = tc.Now.Add(-tc.Day)
					}
				}
			}, tc.Unusable(1, tc.SaysExpired))},
			route: diagnosis.Recover, causes: one(diagnosis.ServedCertificateStale),
			follow: follow{diagnosis.APIUnusable: diagnosis.ServedCertificateStale},
		},
		{
			name: "a kubelet serves an older certificate: no run fixes it", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				n.Endpoints = append(n.Endpoints, snapshot.Endpoint{Name: "kubelet", Address: "10.0.0.2:10250", Fingerprint: "older"})
			})},
			route: diagnosis.None, causes: one(diagnosis.ServedCertificateStale),
		},
		{
			name: "the controller manager runs since before its kubeconfig was written", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.File.Modified = tc.Now.Add(-9*tc.Day + 2*time.Second) }, controllerManager))},
			route: diagnosis.Renew, causes: one(diagnosis.CredentialStale),
		},
		{
			name: "the controller manager started as its kubeconfig was written", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.File.Modified = tc.Now.Add(-9*tc.Day + time.Second) }, controllerManager))},
			route: diagnosis.None,
		},
		{
			name: "the API server's own certificate in memory has expired", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Loopback(tc.Now.Add(-time.Hour)), tc.Unusable(1, tc.SaysNotReady))},
			route: diagnosis.Refuse, causes: one(diagnosis.LoopbackCertificateExpired),
			follow: follow{diagnosis.APIServerNotReady: diagnosis.LoopbackCertificateExpired},
		},
		{
			name: "the API server's own certificate in memory ends soon", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Loopback(tc.Now.Add(tc.Day)))},
			route: diagnosis.None, causes: one(diagnosis.LoopbackCertificateExpiring),
		},
		{
			name: "a worker asks by a name that no API server's certificate has", of: ha,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Kubeconfigs[0].Server = "https://lb.example.com:8443" }), notReady("w1")},
			route: diagnosis.Refuse, causes: slices.Repeat(one(diagnosis.SANMissing), 3),
			follow: follow{diagnosis.NodeNotReady: diagnosis.SANMissing},
		},
		{
			name: "a name that a star covers, in capitals", of: single,
			edits: []tc.Edit{
				tc.On("w1", func(n *snapshot.Node) { n.Kubeconfigs[0].Server = "https://LB.Example.com:8443" }),
				tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.SANs = append(c.SANs, "*.example.com") }, certs.KindAPIServer)),
			},
			route: diagnosis.None,
		},
		{
			name: "a worker asks one control plane by its address: the others need no such name", of: ha,
			edits: []tc.Edit{
				tc.On("w1", func(n *snapshot.Node) { n.Kubeconfigs[0].Server = "https://10.9.9.1:6443" }),
				tc.On("cp1", func(n *snapshot.Node) { n.Address = "10.9.9.1" }),
				tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.SANs = append(c.SANs, "10.9.9.1") }, certs.KindAPIServer)),
			},
			route: diagnosis.None,
		},
		{
			name: "kubeadm's configuration has one name more than the certificate", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { n.Kubeadm.CertSANs = append(n.Kubeadm.CertSANs, "new.example.com") })},
			route: diagnosis.None, causes: one(diagnosis.SANPending),
		},
		{
			name: "a kubeconfig of another cluster next to this one's", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Path: "/etc/kubernetes/other.conf", CAFingerprint: "other", Server: "https://other.example.com:6443"})
			})},
			route: diagnosis.None,
		},
		{
			name: "a node that an upgrade has left cordoned", of: single,
			edits: []tc.Edit{tc.View(func(v *snapshot.View) { v.Unschedulable = []string{"w1"} })},
			route: diagnosis.None, causes: one(diagnosis.NodeUnschedulable),
		},
		{
			name: "a cordoned node that is called otherwise than the inventory says", of: single,
			edits: []tc.Edit{
				tc.CalledInAPI("w1", "ip-10-0-0-4.internal"),
				tc.View(func(v *snapshot.View) { v.Unschedulable = []string{"ip-10-0-0-4.internal"} }),
			},
			route: diagnosis.None, causes: one(diagnosis.NodeUnschedulable),
		},
		{
			name: "Kubespray's own renewal timer is on", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { n.RenewalTimer = &snapshot.RenewalTimer{State: snapshot.TimerOn} })},
			route: diagnosis.None, causes: one(diagnosis.RenewalTimerOn),
		},
		{
			name: "a run holds Kubespray's own renewal timer back", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { n.RenewalTimer = &snapshot.RenewalTimer{State: snapshot.TimerHeld} })},
			route: diagnosis.None,
		},

		{
			name: "a copy of a certificate that was renewed since", of: single,
			edits: []tc.Edit{tc.On("cp1", copied("older", tc.Now.Add(100*tc.Day)))},
			route: diagnosis.None, causes: one(diagnosis.CopyStale),
		},
		{
			name: "a copy that has expired is not due", of: single,
			edits: []tc.Edit{tc.On("cp1", copied("older", tc.Now.Add(-tc.Day)))},
			route: diagnosis.None, causes: one(diagnosis.CopyStale),
		},
		{
			name: "a copy that is the certificate", of: single,
			edits: []tc.Edit{tc.On("cp1", copied("first cp1:"+tc.EtcdPKI+"/member-cp1.pem", tc.Now.Add(100*tc.Day)))},
			route: diagnosis.None,
		},
		{
			name: "one authority in two places", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				ca, _ := n.Certificate(certs.KindEtcdHostCA)
				ca.Kind, ca.Path = certs.KindEtcdCA, tc.PKI+"/etcd/ca.crt"
				n.Certificates = append(n.Certificates, ca)
			}, tc.Files(func(c *certs.Certificate) { c.SignedBy = certs.EtcdCA }, certs.KindEtcdMember))},
			route: diagnosis.None,
		},

		// --- components ----------------------------------------------------------------
		{
			name: "the container runtime is down", of: single,
			edits: []tc.Edit{tc.On("w1", runtimeDown, tc.CrashLoop(), tc.Fault("127.0.0.1:6443", snapshot.StageTCP, "refused")), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.ContainerRuntimeDown),
			follow: follow{
				diagnosis.KubeletDown: diagnosis.ContainerRuntimeDown, diagnosis.NodeNotReady: diagnosis.ContainerRuntimeDown,
				diagnosis.LoadBalancer: diagnosis.ContainerRuntimeDown,
			},
		},
		{
			name: "of two container runtimes one is enough", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) { n.Units["crio"] = snapshot.Unit{Active: "inactive", Sub: "dead"} })},
			route: diagnosis.None,
		},
		{
			name: "the kubelet was stopped, and with it the API server", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Stopped("kubelet"), tc.Refused(), output("apiserver-log", "Error: of yesterday"))},
			route: diagnosis.Refuse, causes: one(diagnosis.KubeletDown),
			follow: follow{diagnosis.APIServerRefused: diagnosis.KubeletDown},
		},
		{
			name: "etcd was stopped", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Stopped("etcd"), tc.Stopped("etcd-peer"), tc.Refused(), output("apiserver-log", "F0301 12:00:00 instance.go:226] Error creating leases: context deadline exceeded"))},
			route: diagnosis.Refuse, causes: one(diagnosis.EtcdMemberDown),
			follow: follow{diagnosis.EtcdNoQuorum: diagnosis.EtcdMemberDown, diagnosis.APICrashing: diagnosis.EtcdMemberDown},
		},
		{
			name: "a worker is gone for good, and left out", of: ha, edits: []tc.Edit{tc.Gone("w1")},
			route: diagnosis.None, causes: one(diagnosis.NodeLeftOut),
		},
		{
			name: "a control plane is gone for good, and left out", of: ha,
			edits: []tc.Edit{tc.EtcdEvents, tc.Gone("cp1"), tc.On("cp2", tc.EndsIn(tc.Day, certs.KindAdmin))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.CertificateExpiring, diagnosis.NodeLeftOut},
		},
		{
			name: "the only control plane cannot be left out", of: single, edits: []tc.Edit{tc.Gone("cp1")},
			route: diagnosis.Refuse, causes: one(diagnosis.NodeUnreachable),
		},
		{
			name: "a second etcd cluster for events, all is well", of: ha, edits: []tc.Edit{tc.EtcdEvents},
			route: diagnosis.None,
		},
		{
			name: "of the etcd for events two of three members are down", of: ha,
			edits: []tc.Edit{tc.EtcdEvents, tc.On("cp1,cp2", tc.Stopped("etcd-events"), tc.Stopped("etcd-events-peer")),
				tc.On("cp3", func(n *snapshot.Node) { e := n.OtherEtcd["etcd-events"]; e.Healthy, e.Error = false, "no leader" })},
			route: diagnosis.Refuse, causes: slices.Repeat(one(diagnosis.EtcdMemberDown), 2),
			follow: follow{diagnosis.EtcdNoQuorum: diagnosis.EtcdMemberDown},
		},
		{
			name: "the etcd for events serves what was renewed long ago", of: single,
			edits: []tc.Edit{tc.EtcdEvents, tc.On("cp1", func(n *snapshot.Node) {
				for i := range n.Endpoints {
					if n.Endpoints[i].Name == "etcd-events" {
						n.Endpoints[i].Fingerprint = "old"
					}
				}
			})},
			route: diagnosis.Renew, causes: one(diagnosis.ServedCertificateStale),
		},
		{
			name: "one of three etcd members is down, and nothing is due", of: ha,
			edits: []tc.Edit{tc.On("cp2", tc.Stopped("etcd"), tc.Stopped("etcd-peer")), tc.On("cp1", tc.Renewed(certs.KindAPIServer), tc.Serving("kube-apiserver", certs.KindAPIServer))},
			route: diagnosis.Refuse, causes: one(diagnosis.EtcdMemberDown),
		},
		{
			name: "one of three etcd members is down, and a certificate is due: the plan knows what it restarts", of: ha,
			edits: []tc.Edit{tc.On("cp2", tc.Stopped("etcd"), tc.Stopped("etcd-peer")), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer))},
			route: diagnosis.Renew, causes: []diagnosis.Reason{diagnosis.EtcdMemberDown, diagnosis.CertificateExpiring},
		},
		{
			name: "two of three etcd members are down", of: ha,
			edits: []tc.Edit{
				tc.On("cp1,cp2,cp3", tc.Unusable(1, tc.SaysNotReady)),
				tc.On("cp3", func(n *snapshot.Node) { n.Etcd.Healthy, n.Etcd.Error = false, "no leader" }),
				tc.On("cp1,cp2", tc.Stopped("etcd"), tc.Stopped("etcd-peer")),
			},
			route: diagnosis.Refuse, causes: slices.Repeat(one(diagnosis.EtcdMemberDown), 2),
			follow: follow{diagnosis.EtcdNoQuorum: diagnosis.EtcdMemberDown, diagnosis.APIServerNotReady: diagnosis.EtcdMemberDown},
		},
		{
			name: "of three members two have expired: the third's API server has nothing expired, and no etcd", of: ha,
			edits: []tc.Edit{
				tc.On("cp1,cp2", tc.Expired(certs.KindEtcdMember), tc.Refused(), tc.NoQuorum),
				tc.On("cp3", tc.Unusable(1, tc.SaysNotReady), tc.NoQuorum),
			},
			route: diagnosis.Recover, causes: slices.Repeat(one(diagnosis.EtcdExpired), 2),
			follow: follow{diagnosis.APIUnusable: diagnosis.EtcdExpired},
		},
		{
			name: "all members on machines of their own have expired, and no API server's own", of: tc.EtcdNodes(),
			edits: []tc.Edit{
				tc.On("etcd1,etcd2,etcd3", tc.Expired(certs.KindEtcdMember), tc.NoQuorum),
				tc.On("cp1", tc.Unusable(1, tc.SaysNotReady)),
			},
			route: diagnosis.Recover, causes: slices.Repeat(one(diagnosis.EtcdExpired), 3),
			follow: follow{diagnosis.APIUnusable: diagnosis.EtcdExpired},
		},
		{
			name: "every member runs, and none leads", of: ha,
			edits: []tc.Edit{tc.On("cp1,cp2,cp3", tc.Unusable(1, tc.SaysNotReady), func(n *snapshot.Node) { n.Etcd.Healthy, n.Etcd.Error = false, "no leader" })},
			route: diagnosis.Refuse, causes: one(diagnosis.EtcdNoQuorum),
			follow: follow{diagnosis.APIServerNotReady: diagnosis.EtcdNoQuorum},
		},
		{
			name: "etcd does not trust who asks for its health, and the API server does well", of: single,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { n.Etcd = &snapshot.Etcd{Error: "tls: bad certificate"} })},
			route: diagnosis.None,
		},
		{
			name: "etcd runs and its port is blocked: that tells nothing of a quorum", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, tc.SaysNotReady), func(n *snapshot.Node) {
				n.Etcd = &snapshot.Etcd{Error: "timed out"}
				for i := range n.Endpoints {
					if n.Endpoints[i].Name == "etcd" {
						n.Endpoints[i].Fingerprint = ""
					}
				}
			})},
			route: diagnosis.Refuse, causes: one(diagnosis.APIServerNotReady),
		},
		{
			name: "etcd's certificate has expired: its member is not down", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Expired(certs.KindEtcdMember), tc.Refused(), func(n *snapshot.Node) { n.Etcd = &snapshot.Etcd{Error: "certificate has expired"} })},
			route: diagnosis.Recover, causes: one(diagnosis.EtcdExpired),
			follow: follow{diagnosis.APIUnusable: diagnosis.EtcdExpired},
		},

		// --- how the API answers ---------------------------------------------------------
		{
			name: "a flag that the API server does not know", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Refused(), output("apiserver-log", "Error: unknown flag: --no-such-flag"))},
			route: diagnosis.Refuse, causes: one(diagnosis.APICrashing),
		},
		{
			name: "a packet filter before a running API server", of: single,
			edits: []tc.Edit{tc.On("cp1", timeout, tc.Fault("10.0.0.1:6443", snapshot.StageTCP, "timed out"), func(n *snapshot.Node) {
				n.Endpoints[len(n.Endpoints)-1] = snapshot.Endpoint{Name: "kube-apiserver", Address: "10.0.0.1:6443", Error: "errno=110"}
			})},
			route: diagnosis.Refuse, causes: one(diagnosis.APIBlocked),
		},
		{
			name: "a packet filter that refuses, before an API server that runs for days", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, tc.SaysRefused))},
			route: diagnosis.Refuse, causes: one(diagnosis.APIBlocked),
		},
		{
			name: "a packet filter on the way from a worker", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Fault("10.0.0.1:6443", snapshot.StageTCP, "timed out")), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.APIBlocked),
			follow: follow{diagnosis.NodeNotReady: diagnosis.APIBlocked},
		},
		{
			name: "an API server that hangs", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, "net/http: TLS handshake timeout"), tc.Fault("10.0.0.1:6443", snapshot.StageTLS, "timed out"), func(n *snapshot.Node) {
				n.Endpoints[len(n.Endpoints)-1] = snapshot.Endpoint{Name: "kube-apiserver", Address: "10.0.0.1:6443", Error: "errno=110"}
			})},
			route: diagnosis.Refuse, causes: one(diagnosis.APIServerNotReady),
		},
		{
			name: "an address behind which nothing runs and nothing answers", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Refused(), timeout, tc.Fault("10.0.0.1:6443", snapshot.StageTCP, "timed out"))},
			route: diagnosis.Refuse, causes: one(diagnosis.APIServerRefused),
		},
		{
			name: "an API server that is not ready, with every certificate fresh", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Unusable(1, "[+]ping ok\n[-]poststarthook/rbac failed\nreadyz check failed"))},
			route: diagnosis.Refuse, causes: one(diagnosis.APIServerNotReady),
		},
		{
			name: "an administrator who may do nothing", of: ha,
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				n.View = &snapshot.View{Forbidden: []string{`Error from server (Forbidden): nodes is forbidden: User "kubernetes-admin" cannot list resource "nodes"`}}
			})},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.AdministratorForbidden},
		},
		{
			name: "an API server that trusts no administrator", of: single,
			edits: []tc.Edit{tc.On("cp1", unauthorized)},
			route: diagnosis.Refuse, causes: one(diagnosis.APIRejectsClient),
		},
		{
			name: "a name without an address", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Fault("kubernetes.example.com:6443", snapshot.StageResolve, "no such host"), func(n *snapshot.Node) {
				n.Kubeconfigs[0].Server = "https://kubernetes.example.com:6443" // no certificate has that name, either
			}), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.NameResolutionFailed),
			follow: follow{diagnosis.NodeNotReady: diagnosis.NameResolutionFailed},
		},
		{
			name: "the proxy next to a kubelet leads nowhere", of: single,
			edits: []tc.Edit{tc.On("w1", tc.Fault("127.0.0.1:6443", snapshot.StageTLS, "unexpected EOF")), notReady("w1")},
			route: diagnosis.Refuse, causes: one(diagnosis.LoadBalancer),
			follow: follow{diagnosis.NodeNotReady: diagnosis.LoadBalancer},
		},
		{
			name: "no API server answers: what stands before them is not at fault", of: single,
			edits: []tc.Edit{tc.On("cp1", tc.Refused()), tc.On("w1", tc.Fault("127.0.0.1:6443", snapshot.StageTLS, "unexpected EOF"))},
			route: diagnosis.Refuse, causes: one(diagnosis.APIServerRefused),
		},

		// --- the driver's view -------------------------------------------------------------
		{
			name: "a driver behind a bastion", of: single,
			edits: []tc.Edit{func(s *snapshot.Snapshot) {
				s.Endpoint = "lb:8443"
				s.Probes = []snapshot.Probe{{Endpoint: "lb:8443", Failed: snapshot.StageResolve}, {Endpoint: "10.0.0.1:6443", Failed: snapshot.StageTCP}}
			}},
			route: diagnosis.None,
		},
		{
			name: "the load balancer does not answer the driver, the API server does", of: single,
			edits: []tc.Edit{func(s *snapshot.Snapshot) {
				s.Endpoint = "lb:8443"
				s.Probes = []snapshot.Probe{{Endpoint: "lb:8443", Failed: snapshot.StageTCP, Error: "refused"}, {Endpoint: "10.0.0.1:6443"}}
			}},
			route: diagnosis.Refuse, causes: one(diagnosis.LoadBalancer),
		},
		{
			name: "the driver is shown a certificate that no API server has", of: single,
			edits: []tc.Edit{func(s *snapshot.Snapshot) {
				s.Probes = []snapshot.Probe{{Endpoint: "10.0.0.1:6443", Fingerprint: "another"}}
			}},
			route: diagnosis.Refuse, causes: one(diagnosis.LoadBalancer),
		},
		{
			name: "the name in kubeadm's configuration is that of an endpoint with a certificate of its own", of: single,
			edits: []tc.Edit{
				tc.On("cp1", func(n *snapshot.Node) { n.Kubeadm.CertSANs = append(n.Kubeadm.CertSANs, "api.example.com") }),
				func(s *snapshot.Snapshot) {
					s.Probes = append(s.Probes, snapshot.Probe{
						Endpoint: "api.example.com:8443", Fingerprint: "its own", SANs: []string{"api.example.com"}, NotAfter: tc.Now.Add(90 * tc.Day),
					})
				},
			},
			route: diagnosis.None,
		},
		{
			name: "a load balancer with a certificate of its own", of: ha,
			edits: []tc.Edit{balancer(snapshot.Probe{NotAfter: tc.Now.Add(90 * tc.Day)})},
			route: diagnosis.None,
		},
		{
			name: "one that has ended", of: ha,
			edits: []tc.Edit{balancer(snapshot.Probe{NotAfter: tc.Now.Add(-tc.Day)})},
			route: diagnosis.Refuse, causes: one(diagnosis.LoadBalancer),
		},
		{
			name: "one behind which no API server answers", of: ha,
			edits: []tc.Edit{balancer(snapshot.Probe{NotAfter: tc.Now.Add(90 * tc.Day), Failed: snapshot.StageLivez, Error: "GET /livez: 404 Not Found"})},
			route: diagnosis.Refuse, causes: []diagnosis.Reason{diagnosis.SANMissing, diagnosis.SANMissing, diagnosis.SANMissing, diagnosis.LoadBalancer},
		},
		{
			name: "a certificate that the API server has for one name alone, as a node is shown it", of: single,
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				n.Kubeconfigs[0].Server = "https://kubernetes.example.com:6443"
				n.Probes = []snapshot.Probe{{Endpoint: "kubernetes.example.com:6443", Fingerprint: "by name", SANs: []string{"*.example.com"}, NotAfter: tc.Now.Add(90 * tc.Day)}}
			})},
			route: diagnosis.None,
		},
		{
			name: "a control plane and a member of etcd that the inventory does not name", of: single,
			edits: []tc.Edit{registered("cp2", cluster.ControlPlane), joined(snapshot.EtcdMember{ID: "c2", Name: "etcd2"})},
			route: diagnosis.None, causes: []diagnosis.Reason{diagnosis.NotInInventory, diagnosis.NotInInventory},
		},
		{
			name: "the driver is shown an older certificate, and what the API server has is not known", of: single,
			edits: []tc.Edit{tc.On("cp1", without(certs.KindAPIServer)), func(s *snapshot.Snapshot) {
				s.Probes = []snapshot.Probe{{Endpoint: "lb:8443", Fingerprint: "another", NotAfter: tc.Now.Add(-tc.Day)}}
			}},
			route: diagnosis.Refuse, causes: one(diagnosis.FileMissing),
		},
		{
			name: "the driver is shown the certificate of the API server", of: single,
			edits: []tc.Edit{func(s *snapshot.Snapshot) {
				cp1, _ := s.Node("cp1")
				c, _ := cp1.Certificate(certs.KindAPIServer)
				s.Probes = []snapshot.Probe{{Endpoint: "10.0.0.1:6443", Fingerprint: c.Fingerprint}}
			}},
			route: diagnosis.None,
		},
	}
}

// One thing is broken: the primary finding is its cause, and there is no finding that is neither
// the cause nor explained by it.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, row := range allFaults() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := diagnosis.Diagnose(tc.Healthy(row.of, row.edits...), diagnosis.DefaultThresholds())
			if d.Route != row.route {
				t.Errorf("route is %s, want %s (%s)", d.Route, row.route, d.Verdict)
			}
			var causes []diagnosis.Reason
			follow := map[diagnosis.Reason]diagnosis.Reason{}
			for _, f := range d.Findings {
				if f.Because == "" {
					causes = append(causes, f.Reason)
				} else {
					follow[f.Reason] = f.Because
				}
				if f.Evidence == "" {
					t.Errorf("%s has no evidence", f.Reason)
				}
			}
			if !slices.Equal(causes, row.causes) {
				t.Errorf("causes are %v, want %v\n%+v", causes, row.causes, d.Findings)
			}
			if !maps.Equal(follow, row.follow) {
				t.Errorf("consequences are %v, want %v", follow, row.follow)
			}
			primary, found := d.Primary()
			if found != (len(row.causes) > 0) || (found && primary.Reason != row.causes[0]) || d.PrimaryReason != primary.Reason {
				t.Errorf("the primary finding is %q (%q in the document), want the first of %v", primary.Reason, d.PrimaryReason, row.causes)
			}
		})
	}
}

// Every code of the table is found in some situation; those that are found before there is a
// snapshot are named here.
func TestEveryReasonIsFound(t *testing.T) {
	t.Parallel()
	found := map[diagnosis.Reason]bool{diagnosis.KubesprayNotFound: true}
	note := func(c cluster.Cluster, edits []tc.Edit) {
		for _, f := range diagnosis.Diagnose(tc.Healthy(c, edits...), diagnosis.DefaultThresholds()).Findings {
			found[f.Reason] = true
		}
	}
	for _, row := range situations() {
		note(row.of, row.edits)
	}
	for _, row := range allFaults() {
		note(row.of, row.edits)
	}
	for _, r := range diagnosis.Reasons() {
		if !found[r] {
			t.Errorf("no situation gives %s", r)
		}
	}
}

// trusting makes an object of the cluster trust these CAs, as the first control plane reports.
func trusting(by snapshot.Truster, cas func(*snapshot.Node) []certs.Certificate) tc.Edit {
	return tc.On("cp1", func(n *snapshot.Node) {
		t := snapshot.Trust{By: by, In: []string{"one"}, CAs: cas(n)}
		for i := range t.CAs {
			t.CAs[i].Path, t.CAs[i].Position = t.Place(), i+1
		}
		n.Trust = append(n.Trust, t)
	})
}

func bundle(end time.Time) []certs.Certificate {
	return []certs.Certificate{{
		Kind: certs.KindTrusted, Subject: "CN=other", Issuer: "CN=other", IsCA: true, PublicKey: "00", Fingerprint: fmt.Sprintf("%064x", end.Unix()),
		NotBefore: end.Add(-365 * tc.Day), NotAfter: end,
	}}
}
