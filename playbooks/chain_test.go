package playbooks_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// chained are certificates in one file.
func chained(pairs ...testpki.Pair) []byte {
	var out []byte
	for _, p := range pairs {
		out = append(out, p.Certificate...)
	}
	return out
}

// verifies returns why the first certificate of a file, with those after it, does not lead to the
// root, as for a client that trusts nothing else.
func verifies(root testpki.Pair, file []byte) error {
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.X509)
	block, more := pem.Decode(file)
	if block == nil {
		return fmt.Errorf("no certificate in %q", file)
	}
	rest.AppendCertsFromPEM(more)
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	_, err = x.Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// An intermediate CA works as a CA. The certificates after a leaf in its file stay there if they
// lead to its CA; and when the first of them expires, all of the file is due.
func TestRenewalKeepsChains(t *testing.T) {
	t.Parallel()
	root := testpki.Authority(t, "root")
	years := time.Now().AddDate(5, 0, 0)
	ca := root.Intermediate(t, "kubernetes", years)
	before := root.Once(t, ca, time.Now().Add(-time.Hour)) // the CA's certificate until it was signed again
	between := ca.Intermediate(t, "by hand", time.Now().Add(-time.Hour))
	issue := func(by testpki.Pair, left time.Duration) testpki.Pair {
		return by.Issue(t, testpki.Leaf{
			CommonName: "kube-apiserver", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
			NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left),
		})
	}
	ended, fresh := issue(ca, -time.Hour), issue(ca, 300*24*time.Hour)
	for _, row := range []struct {
		name      string
		authority testpki.Pair
		leaf      testpki.Pair
		behind    []testpki.Pair
		due       bool
		want      []testpki.Pair // after the new one
		roots     testpki.Pair
	}{
		{"alone, of an intermediate authority", ca, ended, nil, true, nil, ca},
		{"with the authority", ca, ended, []testpki.Pair{ca}, true, []testpki.Pair{ca}, root},
		{"with the authority and the root", ca, ended, []testpki.Pair{ca, root}, true, []testpki.Pair{ca, root}, root},
		{"with the authority and a root that has ended", ca, ended, []testpki.Pair{ca, root.Once(t, root, time.Now().Add(-time.Hour))}, true, []testpki.Pair{ca}, root},
		{"in another order", ca, ended, []testpki.Pair{root, ca}, true, []testpki.Pair{ca}, root},
		{"with an authority that was signed again", ca, ended, []testpki.Pair{before}, true, []testpki.Pair{ca}, root},
		{"fresh, with an authority that has ended", ca, fresh, []testpki.Pair{before}, true, []testpki.Pair{ca}, root},
		{"by an authority between that has ended", ca, issue(between, 300*24*time.Hour), []testpki.Pair{between}, true, nil, ca},
		{"fresh, with the authority", ca, fresh, []testpki.Pair{ca, root}, false, nil, root},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, row.authority)
			file, conf := n.conf+"/ssl/apiserver", n.conf+"/scheduler.conf"
			n.write(file+".crt", chained(slices.Concat([]testpki.Pair{row.leaf}, row.behind)...), 0o600)
			n.write(file+".key", row.leaf.Key, 0o600)
			in := row.leaf
			in.Certificate = n.read(file + ".crt")
			n.write(conf, kubeconfig(row.authority, in, ""), 0o600)
			out, errs, err := n.run(renewal(t))
			want := "changed: apiserver\nchanged: " + conf + "\n"
			if !row.due {
				want = ""
			}
			if err != nil || out != want {
				t.Fatalf("%v: %s%s, want %s", err, out, errs, want)
			}
			if !row.due {
				return
			}
			user := entries(t, n.read(conf))["someone"]
			for place, pair := range map[string][2][]byte{
				"the file":       {n.read(file + ".crt"), n.read(file + ".key")},
				"the kubeconfig": {decoded(t, user.Certificate), decoded(t, user.Key)},
			} {
				got := pair[0]
				if _, err := tls.X509KeyPair(got, pair[1]); err != nil || bytes.HasPrefix(got, row.leaf.Certificate) {
					t.Errorf("%s has no new pair: %v", place, err)
				}
				if behind := chained(row.want...); !bytes.HasSuffix(got, behind) || bytes.Count(got, []byte("BEGIN CERT")) != len(row.want)+1 {
					t.Errorf("%s has not what it should have behind its certificate:\n%s", place, got)
				}
				if err := verifies(row.roots, got); err != nil {
					t.Errorf("%s does not verify: %v", place, err)
				}
			}
		})
	}
}

// The same for the kubelet's pair, on control planes and workers and wherever it is, and for the
// certificates of etcd as a service of the host.
func TestOthersKeepChains(t *testing.T) {
	t.Parallel()
	root := testpki.Authority(t, "root")
	ca := root.Intermediate(t, "kubernetes", time.Now().AddDate(5, 0, 0))
	leaf := func(name, group string) testpki.Pair {
		return ca.Issue(t, testpki.Leaf{CommonName: name, Organization: group, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	}
	old := leaf("system:node:w1", "system:nodes")
	pair := slices.Concat(chained(old, ca), old.Key)
	kept := func(what string, got []byte) {
		t.Helper()
		if err := verifies(root, got); err != nil || bytes.HasPrefix(got, old.Certificate) {
			t.Errorf("%s: %v\n%s", what, err, got)
		}
	}

	files := func(crt, key string) []byte {
		return []byte("clusters:\n- cluster:\n    certificate-authority-data: " + base64.StdEncoding.EncodeToString(ca.Certificate) + "\nusers:\n- user:\n    client-certificate: " + crt + "\n    client-key: " + key + "\n")
	}
	for where, put := range map[string]func(*node){
		"in the rotating file": func(n *node) {
			n.write(n.pair(), pair, 0o600)
			n.write(n.conf+"/kubelet.conf", files(n.pair(), n.pair()), 0o600)
		},
		"in kubelet.conf": func(n *node) {
			n.ok(os.RemoveAll(filepath.Dir(n.pair())))
			in := old
			in.Certificate = chained(old, ca)
			n.write(n.conf+"/kubelet.conf", kubeconfig(ca, in, ""), 0o600)
		},
		"in files of its own": func(n *node) {
			n.ok(os.RemoveAll(filepath.Dir(n.pair())))
			n.write(n.conf+"/own.crt", chained(old, ca), 0o600)
			n.write(n.conf+"/own.key", old.Key, 0o600)
			n.write(n.conf+"/kubelet.conf", files(n.conf+"/own.crt", n.conf+"/own.key"), 0o600)
		},
	} {
		cp := issuer(t, ca)
		put(cp)
		if out, errs, err := cp.run(role(t, "control_plane_kubelet/files/kubelet.sh")); err != nil || !strings.HasPrefix(out, "changed: "+cp.pair()+"\n") {
			t.Fatalf("%s: %v: %s%s", where, err, out, errs)
		}
		kept("a control plane's kubelet, "+where, cp.read(cp.pair()))

		w := worker(t, ca, "system:node:w1")
		put(w)
		asks := w.asksKubelet()
		out, errs, err := signer(t, ca).kubelet("sign.sh", "KSCERT_NAMES=w1\nKSCERT_REQUESTS='w1|w1|"+asks+"'\n")
		if err != nil {
			t.Fatalf("%s: %v: %s%s", where, err, out, errs)
		}
		if out, errs, err := w.kubelet("take.sh", "KSCERT_REFUSED=''\nKSCERT_ISSUED='"+words(out, "issued: w1|")+"'\n"); err != nil {
			t.Fatalf("%s: %v: %s%s", where, err, out, errs)
		}
		kept("a worker's kubelet, "+where, w.read(w.pair()))
	}

	e := newNode(t)
	e.verified()
	member := leaf("etcd-member-cp1", "")
	e.write(e.etcd+"/ca.pem", ca.Certificate, 0o600)
	e.write(e.etcd+"/ca-key.pem", ca.Key, 0o600)
	e.write(e.etcd+"/member-cp1.pem", chained(member, ca), 0o600)
	e.write(e.etcd+"/member-cp1-key.pem", member.Key, 0o600)
	if out, errs, err := e.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", ""); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	old = member
	kept("etcd's member", e.read(e.etcd+"/member-cp1.pem"))
}

// The collector reports all certificates of a file: the first is the leaf, the earliest expiry
// counts. What an intermediate CA has signed counts as signed by the cluster.
func TestCollectorReadsChains(t *testing.T) {
	t.Parallel()
	root := testpki.Authority(t, "root")
	ca := root.Intermediate(t, "kubernetes", time.Now().Add(24*time.Hour))
	leaf := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	n.write(n.conf+"/ssl/ca.crt", chained(ca), 0o600)
	n.write(n.conf+"/ssl/apiserver.crt", chained(leaf, ca), 0o600)
	in := leaf
	in.Certificate = chained(leaf, ca)
	n.write(n.conf+"/admin.conf", kubeconfig(ca, in, ""), 0o600)
	got := n.look()
	seen := 0
	for _, c := range got.Certificates {
		if c.CommonName != "kube-apiserver" {
			continue
		}
		seen++
		if !c.Ends().Equal(ca.X509.NotAfter) || !c.NotAfter.Equal(leaf.X509.NotAfter) || c.SignedBy != "kubernetes-ca" {
			t.Errorf("%s ends at %s, with its chain at %s, signed by %q", c.Path, c.NotAfter, c.Ends(), c.SignedBy)
		}
	}
	if seen != 2 {
		t.Errorf("%d of two certificates are seen: %s", seen, base64.StdEncoding.EncodeToString(in.Certificate))
	}
}

// An intermediate CA in ca.crt is trusted by itself: the root after it is not needed, and may have
// expired. If the intermediate one has, it is needed, whatever comes after it.
func TestRootAfterAnIntermediate(t *testing.T) {
	t.Parallel()
	soon, late := time.Now().Add(-time.Hour), time.Now().AddDate(5, 0, 0)
	for _, row := range []struct {
		root, between time.Time
		unused        int // position in ca.crt
	}{{soon, late, 2}, {late, soon, 0}, {late, late.Add(-time.Hour), 0}} {
		root := testpki.AuthorityUntil(t, "root", row.root)
		ca := root.Intermediate(t, "kubernetes", row.between)
		leaf := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
		n := newNode(t)
		n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
		n.write(n.conf+"/ssl/ca.crt", chained(ca, root), 0o600)
		n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
		n.write(n.conf+"/ssl/apiserver.crt", chained(leaf, ca), 0o600)
		n.write(n.conf+"/ssl/front-proxy-client.crt", leaf.Certificate, 0o600)
		got := n.look()
		s := snapshot.Snapshot{Nodes: []snapshot.Node{got}}
		for _, c := range got.Certificates {
			if unused := s.Unused(got, c); c.Position > 0 && unused != (c.Position == row.unused) {
				t.Errorf("the root ends at %s, the other at %s: %s %d is unused: %t", row.root, row.between, c.Path, c.Position, unused)
			}
		}
	}
}
