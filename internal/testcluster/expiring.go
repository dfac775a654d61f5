package testcluster

import (
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Few is a healthy cluster with few certificates, always the same, so that golden files stay
// short: one control plane, one worker, etcd on its own machine.
func Few(edits ...Edit) snapshot.Snapshot {
	keep := []certs.Kind{
		certs.KindCA, certs.KindFrontProxyCA, certs.KindAPIServer, certs.KindAPIServerKubeletClient,
		certs.KindFrontProxyClient,
		certs.KindAdmin, certs.KindSchedulerConf, certs.KindKubeletClient, certs.KindEtcdMember, "kube-apiserver",
	}
	few := Everywhere(func(n *snapshot.Node) {
		*n = snapshot.Node{Node: n.Node, Clock: n.Clock,
			Certificates: slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool {
				return !slices.Contains(keep, c.Kind)
			})}
		for i := range n.Certificates {
			describe(&n.Certificates[i])
		}
	})
	s := Healthy(ExternalEtcd(), append([]Edit{few}, edits...)...)
	return snapshot.Snapshot{Schema: s.Schema, Taken: s.Taken, Nodes: s.Nodes}
}

// Expiring is Few with a certificate in each state, a port that serves an old one, a file
// without a certificate, and an unreachable node: all that an expiry check reports.
func Expiring() snapshot.Snapshot {
	return Few(
		On("cp1",
			Expired(certs.KindAdmin),
			EndsIn(3*Day, certs.KindAPIServerKubeletClient),
			EndsIn(20*Day+5*time.Hour, certs.KindFrontProxyClient),
			Files(func(c *certs.Certificate) { c.NotBefore = Now.Add(Day) }, certs.KindSchedulerConf),
			Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindFrontProxyCA),
			Files(func(c *certs.Certificate) { c.Key = certs.KeyMismatch }, certs.KindFrontProxyClient),
			EndsIn(-12*Day, certs.KindAPIServer), serveFile, Renewed(certs.KindAPIServer),
		),
		On("w1", func(n *snapshot.Node) {
			n.Unreadable = []snapshot.Unreadable{{Path: KubeletPKI + "/kubelet.crt",
				Reason: "no PEM certificate block"}}
		}),
		On("etcd1", Unknown(snapshot.Unreachable, "ssh: connect to host etcd1 port 22: No route to host")),
	)
}

// describe sets the certificate fields that Healthy leaves out.
func describe(c *certs.Certificate) {
	*c = certs.Certificate{
		Kind: c.Kind, Path: c.Path, Served: c.Served, Subject: c.Subject, Issuer: c.Issuer, SerialNumber: "2a",
		IsCA:      c.IsCA,
		NotBefore: Now.Add(-375 * Day), NotAfter: c.NotAfter, Fingerprint: c.Fingerprint, PublicKey: "key of " + c.Path,
		KeyAlgorithm: "RSA 2048",
	}
	if c.Kind == certs.KindAPIServer || c.Served {
		c.SANs, c.Usages = []string{"kubernetes", "10.233.0.1"}, []string{"server auth"}
	}
	row, ok := certs.Lookup(c.Kind)
	if c.Served {
		c.SignedBy = certs.KubernetesCA
	}
	if ok {
		c.SignedBy, c.Key = row.Signer, certs.KeyMatches
		c.File = &certs.File{Mode: "0600", Owner: "root", Group: "root", Size: 1100, Modified: Now.Add(-10 * Day)}
	}
}

// serveFile makes the API server present the current content of its file.
func serveFile(n *snapshot.Node) {
	file, _ := n.Certificate(certs.KindAPIServer)
	for i := range n.Certificates {
		if c := &n.Certificates[i]; c.Kind == "kube-apiserver" {
			c.NotAfter, c.Fingerprint = file.NotAfter, file.Fingerprint
		}
	}
}
