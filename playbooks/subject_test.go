package playbooks_test

import (
	"crypto/x509"
	"encoding/base64"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// subjects are ways in which people write subjects. kubeadm writes the groups into one RDN, before
// the name, and nothing else.
var subjects = []struct {
	name    string
	subject []string
	// loses is what is reported to be lost; refused is why it is not renewed.
	loses, refused string
}{
	{name: "as kubeadm writes it", subject: []string{"O=system:masters", "CN=kubernetes-admin"}},
	{name: "the name first", subject: []string{"CN=kubernetes-admin", "O=system:masters"}},
	{name: "several groups", subject: []string{"O=system:masters", "O=ops", "CN=jane"}},
	{name: "several groups, in another order", subject: []string{"O=zebra", "CN=jane", "O=ape"}},
	{name: "a group with a blank", subject: []string{"O=domain users", "O=ops", "CN=jane doe"}},
	{name: "no group", subject: []string{"CN=jane"}},
	{name: "by hand", subject: []string{"C=DE", "ST=Hesse", "L=Frankfurt", "O=ops", "OU=IT, 2", "CN=jane"}, loses: "C=DE,L=Frankfurt,OU=IT%2C 2,ST=Hesse"},
	{name: "an attribute that may mean something", subject: []string{"title=x", "CN=jane"}, refused: "another subject"},
}

// userOf is the user that the API server sees in a client's certificate.
func userOf(c certs.Certificate) string {
	return c.CommonName + " in " + strings.Join(slices.Sorted(slices.Values(c.Organizations)), ",")
}

// saysOfSubject checks that what the subject of this certificate loses is reported, and of no
// other.
func (n *node) saysOfSubject(out, what, loses string) {
	n.t.Helper()
	says := regexp.MustCompile(`(?m)^noted: (.*) loses (.*) of its subject`).FindStringSubmatch(out)
	switch {
	case loses == "" && says != nil, loses != "" && (says == nil || says[1] != what || says[2] != loses):
		n.t.Errorf("says %q, want that %s loses %q:\n%s", says, what, loses, out)
	}
}

// A certificate is renewed for the same user in the same groups, however its subject is written.
// What kubeadm does not keep is reported where no one reads it.
func TestSubjectsOfCertificates(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for _, row := range subjects {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			file := n.conf + "/ssl/apiserver-kubelet-client"
			old := ca.Issue(t, testpki.Leaf{Subject: row.subject, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(time.Hour)})
			n.write(file+".crt", old.Certificate, 0o644)
			n.write(file+".key", old.Key, 0o600)
			out, errs, err := n.run(role(t, "control_plane_certificates/files/renew.sh"))
			if row.refused != "" {
				if err == nil || !strings.Contains(errs, row.refused) {
					t.Errorf("%v: %s%s", err, out, errs)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			got, err := certs.ParsePEM(n.read(file + ".crt"))
			was, _ := certs.ParsePEM(old.Certificate)
			if err != nil || got.Fingerprint == was.Fingerprint || userOf(got) != userOf(was) {
				t.Errorf("%v: is of %s, was of %s", err, userOf(got), userOf(was))
			}
			n.saysOfSubject(out, file+".crt", row.loses)
		})
	}
}

// The same in a kubeconfig, which kubeadm makes from nothing but user and groups.
func TestSubjectsInKubeconfigs(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	certificate := regexp.MustCompile(`client-certificate-data: (\S+)`)
	for _, row := range append(slices.Clone(subjects), []struct {
		name           string
		subject        []string
		loses, refused string
	}{
		{name: "two names", subject: []string{"CN=a", "CN=b"}, refused: "kubeadm makes no certificate for"},
		{name: "a comma in a group", subject: []string{"O=a,b", "CN=jane"}, refused: "kubeadm makes no certificate for"},
		{name: "a quote in a group", subject: []string{`O=a"b`, "CN=jane"}, refused: "kubeadm makes no certificate for"},
	}...) {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			file := n.conf + "/admin.conf"
			old := ca.Issue(t, testpki.Leaf{Subject: row.subject, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(time.Hour)})
			n.write(file, kubeconfig(ca, old, ""), 0o600)
			out, errs, err := n.run(renewal(t))
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			if row.refused != "" {
				if want := "refused: " + file + " stays as it is: kubeadm makes no certificate for"; !strings.Contains(out, want) {
					t.Errorf("no %q in %s", want, out)
				}
				return
			}
			data, err := base64.StdEncoding.DecodeString(string(certificate.FindSubmatch(n.read(file))[1]))
			n.ok(err)
			got, err := certs.ParsePEM(data)
			was, _ := certs.ParsePEM(old.Certificate)
			if err != nil || got.Fingerprint == was.Fingerprint || userOf(got) != userOf(was) {
				t.Errorf("%v: is of %s, was of %s", err, userOf(got), userOf(was))
			}
			n.saysOfSubject(out, file, row.loses)
		})
	}
}

// A kubelet whose old certificate has its group after its name belongs to the same node.
func TestSubjectOfKubelet(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	cp, n := signer(t, ca), worker(t, ca, "w1")
	old := ca.Issue(t, testpki.Leaf{
		Subject:   []string{"CN=system:node:ip-10-0-0-1", "OU=nodes", "O=system:nodes"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour),
	})
	n.write(filepath.Dir(n.pair())+"/kubelet-client-2026-01-01-00-00-00.pem", slices.Concat(old.Certificate, old.Key), 0o600)
	signed, errs, err := cp.kubelet("sign.sh", "KSCERT_NAMES='cp1 w1' KSCERT_REQUESTS='host1|w1|"+n.asksKubelet()+"'")
	text, derr := base64.StdEncoding.DecodeString(words(signed, "issued: host1|"))
	if err != nil || derr != nil || len(text) == 0 {
		t.Fatalf("%v: %s%s", err, signed, errs)
	}
	if x := parsed(t, text); x.Subject.String() != "CN=system:node:ip-10-0-0-1,O=system:nodes" {
		t.Errorf("it is for %s", x.Subject)
	}
}

// A certificate of X.509 version 1, as "openssl x509 -req" makes it without extensions, has a
// subject like any other: in a kubeconfig it is renewed.
func TestSubjectOfVersionOne(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := issuer(t, ca)
	dir := n.conf + "/ssl"
	openssl(t, dir, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "jane.key", "-subj", "/O=ops/CN=jane", "-out", "request")
	openssl(t, dir, "x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "5", "-days", "1", "-out", "jane.pem")
	if out, errs, err := n.run(`names "$conf/ssl/jane.pem"; names "$conf/ssl/request"`); err != nil || out != "subject=O=ops,CN=jane\nsubject=O=ops,CN=jane\n" {
		t.Errorf("%v: %q %s", err, out, errs)
	}
	conf := n.conf + "/admin.conf"
	n.write(conf, kubeconfig(ca, testpki.Pair{Certificate: n.read(dir + "/jane.pem"), Key: n.read(dir + "/jane.key")}, ""), 0o600)
	if c, ok := n.look().Certificate(certs.KindAdmin); !ok || c.CommonName != "jane" || c.Key != certs.KeyMatches || c.SignedBy != certs.KubernetesCA {
		t.Errorf("the collector reads %+v", c)
	}
	out, errs, err := n.run(renewal(t))
	if err != nil || out != "changed: "+conf+"\n" {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	if got := parsed(t, decoded(t, entries(t, n.read(conf))["someone"].Certificate)); got.Subject.String() != "CN=jane,O=ops" {
		t.Errorf("the new one is of %s", got.Subject)
	}
}
