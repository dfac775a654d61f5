package playbooks_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// bundle is a file with several CAs in the place of one: the one whose key is there signs.
type bundle struct {
	name    string
	signs   testpki.Pair
	file    []testpki.Pair
	formers []testpki.Pair // have signed what is there
}

// bundles are those of a rotation: with the same and with different names, with key identifiers
// and, as in old clusters, without.
func bundles(t *testing.T) []bundle {
	t.Helper()
	old, next, named := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes-2026")
	bare, bareNext := testpki.Bare(t, "kubernetes"), testpki.Bare(t, "kubernetes")
	again := testpki.Pair{}.Once(t, old, time.Now().AddDate(20, 0, 0))
	ended := testpki.Pair{}.Once(t, old, time.Now().Add(-time.Minute))
	return []bundle{
		{"the old one first, which signs", old, []testpki.Pair{old, next}, []testpki.Pair{old, next}},
		{"the old one first, the new one signs", next, []testpki.Pair{old, next}, []testpki.Pair{old, next}},
		{"the new one first, which signs", next, []testpki.Pair{next, old}, []testpki.Pair{old, next}},
		{"the new one first, the old one signs", old, []testpki.Pair{next, old}, []testpki.Pair{old, next}},
		{"another name", named, []testpki.Pair{old, named}, []testpki.Pair{old, named}},
		{"without identifiers, the old one first", bareNext, []testpki.Pair{bare, bareNext}, []testpki.Pair{bare, bareNext}},
		{"without identifiers, the new one first", bareNext, []testpki.Pair{bareNext, bare}, []testpki.Pair{bare, bareNext}},
		{"without identifiers, alone", bare, []testpki.Pair{bare}, []testpki.Pair{bare}},
		{"issued again", again, []testpki.Pair{again}, []testpki.Pair{old}},
		{"issued again, the former one first, which has ended", again, []testpki.Pair{ended, again}, []testpki.Pair{old}},
	}
}

// Whatever a CA file contains, the CA whose key is there renews what is due. Afterwards the file
// and every kubeconfig trust what they trusted before.
func TestRenewalKeepsBundles(t *testing.T) {
	t.Parallel()
	for _, b := range bundles(t) {
		for _, former := range b.formers {
			t.Run(b.name+"/"+former.X509.SerialNumber.String()[:4], func(t *testing.T) {
				t.Parallel()
				leaf := func(name, group string) testpki.Pair {
					return former.Issue(t, testpki.Leaf{
						CommonName: name, Organization: group, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour),
						Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
					})
				}
				signed := func(what string, cert []byte) {
					t.Helper()
					if x := parsed(t, cert); x.CheckSignatureFrom(b.signs.X509) != nil || x.NotAfter.Before(time.Now()) {
						t.Errorf("%s is not of the CA that signs: it ends at %s", what, x.NotAfter)
					}
				}
				cas := chained(b.file...)

				cp := issuer(t, b.signs)
				server, user := leaf("kube-apiserver", ""), leaf("someone", "")
				cp.write(cp.conf+"/ssl/ca.crt", cas, 0o644)
				cp.write(cp.conf+"/ssl/apiserver.crt", server.Certificate, 0o600)
				cp.write(cp.conf+"/ssl/apiserver.key", server.Key, 0o600)
				conf := cp.conf + "/scheduler.conf"
				cp.write(conf, kubeconfig(testpki.Pair{Certificate: cas}, user, ""), 0o600)
				out, errs, err := cp.run(renewal(t))
				if err != nil || out != "changed: apiserver\nchanged: "+conf+"\n" {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				signed("apiserver.crt", cp.read(cp.conf+"/ssl/apiserver.crt"))
				signed("scheduler.conf", decoded(t, entries(t, cp.read(conf))["someone"].Certificate))
				if !bytes.Equal(cp.read(cp.conf+"/ssl/ca.crt"), cas) {
					t.Error("ca.crt has changed")
				}
				if !bytes.Contains(cp.read(conf), []byte(base64.StdEncoding.EncodeToString(cas))) {
					t.Error("the kubeconfig no longer trusts what it trusted")
				}

				w := worker(t, former, "w1")
				w.write(w.conf+"/kubelet.conf", []byte("clusters:\n- cluster:\n    certificate-authority-data: "+base64.StdEncoding.EncodeToString(cas)+
					"\n    server: https://10.0.0.1:6443\nusers:\n- user:\n    client-certificate: "+w.pair()+"\n    client-key: "+w.pair()+"\n"), 0o600)
				before := w.read(w.conf + "/kubelet.conf")
				asks := w.asksKubelet()
				sign := signer(t, b.signs)
				sign.write(sign.conf+"/ssl/ca.crt", cas, 0o644)
				out, errs, err = sign.kubelet("sign.sh", "KSCERT_NAMES=w1\nKSCERT_REQUESTS='w1|w1|"+asks+"'\n")
				if err != nil || words(out, "issued: w1|") == "" {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				if out, errs, err := w.kubelet("take.sh", "KSCERT_REFUSED=''\nKSCERT_ISSUED='"+words(out, "issued: w1|")+"'\n"); err != nil {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				signed("a worker's kubelet", w.read(w.pair()))
				if !bytes.Equal(w.read(w.conf+"/kubelet.conf"), before) {
					t.Error("kubelet.conf has changed")
				}

				e := newNode(t)
				e.verified()
				member := leaf("etcd-member-cp1", "")
				e.write(e.etcd+"/ca.pem", cas, 0o600)
				e.write(e.etcd+"/ca-key.pem", b.signs.Key, 0o600)
				e.write(e.etcd+"/member-cp1.pem", member.Certificate, 0o600)
				e.write(e.etcd+"/member-cp1-key.pem", member.Key, 0o600)
				if out, errs, err := e.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", ""); err != nil {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				signed("etcd's member", e.read(e.etcd+"/member-cp1.pem"))
				if !bytes.Equal(e.read(e.etcd+"/ca.pem"), cas) {
					t.Error("ca.pem has changed")
				}
			})
		}
	}
}

// The collector reports every CA of files and kubeconfigs, also those of network plugins, whose
// tokens stay on the node, and those that kube-controller-manager publishes.
func TestCollectorReadsBundles(t *testing.T) {
	t.Parallel()
	old, next := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	cas := chained(old, next)
	n := newNode(t)
	n.kubernetes()
	n.write(n.conf+"/ssl/ca.crt", cas, 0o600)
	n.write(n.conf+"/ssl/ca.key", next.Key, 0o600)
	n.write(n.conf+"/root-ca.crt", old.Certificate, 0o600)
	n.write(n.conf+"/manifests/kube-controller-manager.yaml", []byte(ofPod+"    - --root-ca-file="+n.conf+"/root-ca.crt\n    - --cluster-signing-cert-file="+n.conf+"/ssl/ca.crt\n"), 0o600)
	n.write(n.conf+"/scheduler.conf", kubeconfig(testpki.Pair{Certificate: cas}, next.Issue(t, testpki.Leaf{CommonName: "someone"}), ""), 0o600)
	plugin := n.root() + "/etc/cni/net.d/calico-kubeconfig"
	n.write(plugin, []byte("clusters:\n- cluster:\n    server: https://10.233.0.1:443\n    certificate-authority-data: "+base64.StdEncoding.EncodeToString(old.Certificate)+
		"\n  name: local\nusers:\n- name: calico\n  user:\n    token: c4n4ry-t0ken\ncontexts:\n- context:\n    cluster: local\n    user: calico\n  name: c\ncurrent-context: c\n"), 0o600)
	if out, _, err := n.sh(collector(t)); err != nil || strings.Contains(out, "c4n4ry") {
		t.Errorf("a token leaves the node: %v", err)
	}
	got := n.look()
	labels := map[string]certs.KeyState{}
	for _, c := range got.Certificates {
		labels[c.Label()] = c.Key
	}
	if len(labels) != 4 || labels["ca"] != "" || labels["ca #2"] != certs.KeyMatches {
		t.Errorf("its certificates are %v", labels)
	}
	if got.Facts["kube-controller-manager.root-ca-file"] != n.conf+"/root-ca.crt" || got.Facts["kube-controller-manager.cluster-signing-cert-file"] != n.conf+"/pki/ca.crt" &&
		got.Facts["kube-controller-manager.cluster-signing-cert-file"] != n.conf+"/ssl/ca.crt" {
		t.Errorf("kube-controller-manager's files are %v", got.Facts)
	}
	trusts := map[string]int{}
	for _, k := range got.Kubeconfigs {
		trusts[k.Path] = len(k.CAs)
	}
	if trusts[n.conf+"/scheduler.conf"] != 2 || trusts[plugin] != 1 {
		t.Errorf("kubeconfigs trust %v", trusts)
	}
}
