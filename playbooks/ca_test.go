package playbooks_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// caNode is a control plane with the cluster's CA and everything that trusts it.
func caNode(t *testing.T, ca testpki.Pair) *node {
	t.Helper()
	n := newNode(t)
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
	n.verified()
	return n
}

// caScript is a script of the role with settings before it.
func caScript(t *testing.T, file string, settings ...string) string {
	t.Helper()
	paths := []string{"ca_renewal/files/authority.sh", "ca_renewal/files/" + file}
	if file == "place.sh" {
		paths = append(paths, "ca_renewal/files/replace.sh")
	}
	return strings.Join(settings, "\n") + "\n" + script(t, paths...)
}

// reissue re-issues the cluster's CA and returns the new certificate.
func (n *node) reissue(settings ...string) *x509.Certificate {
	n.t.Helper()
	out, errs, err := n.run(caScript(n.t, "issue.sh", append([]string{"KSCERT_CAS=kubernetes-ca KSCERT_CA_SECONDS=0"}, settings...)...))
	fields := strings.Split(strings.TrimSpace(out), "|")
	if err != nil || len(fields) != 3 || fields[0] != "ca: kubernetes-ca" {
		n.t.Fatalf("%v: %s%s", err, out, errs)
	}
	var pair [2][]byte
	for i := range pair {
		if pair[i], err = base64.StdEncoding.DecodeString(fields[i+1]); err != nil {
			n.t.Fatal(err)
		}
	}
	if want := parsed(n.t, n.read(n.conf+"/ssl/ca.crt")); !parsed(n.t, pair[0]).Equal(want) {
		n.t.Error("the old certificate that it prints is not the one on disk")
	}
	if left, _ := filepath.Glob(n.conf + "/.kscertctl.*"); len(left) > 0 {
		n.t.Errorf("left behind: %s", left)
	}
	return parsed(n.t, pair[1])
}

// openssl runs it in a directory.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// bare is a CA without key identifier and key usage, and one certificate that it has signed, with
// an authority key identifier as given.
func bare(t *testing.T, identifier string) (ca, leaf testpki.Pair) {
	t.Helper()
	dir := t.TempDir()
	config := "[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE,pathlen:1\nsubjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n[leaf]\nbasicConstraints=CA:FALSE\n" + identifier + "\n"
	if strings.HasPrefix(openssl(t, dir, "version"), "OpenSSL 1.") { // it adds none by itself
		config = regexp.MustCompile(`(?m)^.*=none\n`).ReplaceAllString(config, "")
	}
	if err := os.WriteFile(dir+"/cnf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=kubernetes", "-days", "400", "-config", "cnf")
	openssl(t, dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf", "-config", "cnf")
	openssl(t, dir, "x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "leaf.crt", "-days", "300", "-extfile", "cnf", "-extensions", "leaf")
	for name, p := range map[string]*testpki.Pair{"ca": &ca, "leaf": &leaf} {
		for file, to := range map[string]*[]byte{".crt": &p.Certificate, ".key": &p.Key} {
			data, err := os.ReadFile(filepath.Join(dir, name+file))
			if err != nil {
				t.Fatal(err)
			}
			*to = data
		}
		p.X509 = parsed(t, p.Certificate)
	}
	return ca, leaf
}

// TestReissue: what a CA has signed stays valid, and extensions that strict clients need are added.
func TestReissue(t *testing.T) {
	t.Parallel()
	t.Run("one of Go, whose subject is a PrintableString", func(t *testing.T) {
		t.Parallel()
		ca := testpki.Authority(t, "kubernetes")
		leaf := ca.Issue(t, testpki.Leaf{CommonName: "leaf"})
		renewed := caNode(t, ca).reissue()
		if err := certs.CheckReissue(ca.X509, renewed, time.Now()); err != nil {
			t.Error(err)
		}
		if err := leaf.X509.CheckSignatureFrom(renewed); err != nil {
			t.Errorf("what it has signed: %v", err)
		}
		if renewed.SerialNumber.Cmp(ca.X509.SerialNumber) == 0 || renewed.KeyUsage != ca.X509.KeyUsage {
			t.Errorf("serial %x, usage %b", renewed.SerialNumber, renewed.KeyUsage)
		}
		if want := time.Now().Add(ca.X509.NotAfter.Sub(ca.X509.NotBefore)); renewed.NotAfter.Sub(want).Abs() > time.Minute {
			t.Errorf("it ends at %s, want %s: for as long as before", renewed.NotAfter, want)
		}
	})
	t.Run("without identifier and usage", func(t *testing.T) {
		t.Parallel()
		ca, leaf := bare(t, "authorityKeyIdentifier=none")
		n := caNode(t, ca)
		if len(ca.X509.SubjectKeyId)+int(ca.X509.KeyUsage)+len(leaf.X509.AuthorityKeyId) > 0 {
			t.Fatalf("the CA has an identifier or a usage: %x %b %x", ca.X509.SubjectKeyId, ca.X509.KeyUsage, leaf.X509.AuthorityKeyId)
		}
		renewed := n.reissue()
		if err := certs.CheckReissue(ca.X509, renewed, time.Now()); err != nil {
			t.Error(err)
		}
		if renewed.MaxPathLen != 1 || renewed.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageCertSign {
			t.Errorf("pathlen %d, usage %b", renewed.MaxPathLen, renewed.KeyUsage)
		}
		if err := leaf.X509.CheckSignatureFrom(renewed); err != nil {
			t.Error(err)
		}
	})
	t.Run("whose certificates name it by its serial number", func(t *testing.T) {
		t.Parallel()
		ca, leaf := bare(t, "authorityKeyIdentifier=keyid,issuer:always")
		n := caNode(t, ca)
		n.write(n.conf+"/ssl/apiserver.crt", leaf.Certificate, 0o644)
		if renewed := n.reissue(); renewed.SerialNumber.Cmp(ca.X509.SerialNumber) != 0 {
			t.Errorf("the serial number is %x, and was %x: openssl finds no issuer", renewed.SerialNumber, ca.X509.SerialNumber)
		}
	})
	for name, row := range map[string]struct {
		left     time.Duration
		settings string
		config   string
		want     time.Duration
	}{
		"as asked for":                   {left: 400 * 24 * time.Hour, settings: "KSCERT_CA_SECONDS=8640000", want: 100 * 24 * time.Hour},
		"never shorter than before":      {left: 40 * 365 * 24 * time.Hour, config: "caCertificateValidityPeriod: 87600h0m0s\n", want: 40 * 365 * 24 * time.Hour},
		"as kubeadm's configuration has": {left: 24 * time.Hour, config: "caCertificateValidityPeriod: 175200h0m0s\n", want: 175200 * time.Hour},
		"expired":                        {left: -time.Hour, config: "caCertificateValidityPeriod: 87600h0m0s\n", want: 87600 * time.Hour},
	} {
		t.Run("ends "+name, func(t *testing.T) {
			t.Parallel()
			n := caNode(t, testpki.AuthorityUntil(t, "kubernetes", time.Now().Add(row.left)))
			if row.config != "" {
				n.write(n.conf+"/kubeadm-config.yaml", []byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"+row.config), 0o600)
			}
			if renewed := n.reissue(row.settings); time.Until(renewed.NotAfter.Add(-row.want)).Abs() > time.Minute {
				t.Errorf("it ends in %s, want %s", time.Until(renewed.NotAfter), row.want)
			}
		})
	}
}

func TestReissueRefuses(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for name, row := range map[string]struct {
		change func(*node)
		why    string
	}{
		"no key": {func(n *node) { n.ok(os.Remove(n.conf + "/ssl/ca.key")) }, "a CA is re-issued where its key is"},
		"the key of another": {func(n *node) {
			n.write(n.conf+"/ssl/ca.key", testpki.Authority(n.t, "other").Key, 0o600)
		}, "does not belong to the first certificate"},
		"an intermediate one": {func(n *node) {
			above := testpki.Authority(n.t, "root")
			below := above.Intermediate(n.t, "kubernetes", time.Now().AddDate(1, 0, 0))
			n.write(n.conf+"/ssl/ca.crt", below.Certificate, 0o644)
			n.write(n.conf+"/ssl/ca.key", below.Key, 0o600)
		}, "is signed by another CA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := caNode(t, ca)
			row.change(n)
			out, errs, err := n.run(caScript(t, "issue.sh", "KSCERT_CAS=kubernetes-ca KSCERT_CA_SECONDS=0"))
			if err == nil || !strings.Contains(errs, row.why) || out != "" {
				t.Errorf("%v: %s%s", err, out, errs)
			}
		})
	}
}

// conf is a kubeconfig that trusts certificates.
func conf(trusted ...[]byte) []byte {
	return fmt.Appendf(nil, "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://10.0.0.1:6443\n  name: kubernetes\n"+
		"contexts: []\ncurrent-context: \"\"\nkind: Config\nusers: []\n", base64.StdEncoding.EncodeToString(bytes.Join(trusted, nil)))
}

// TestPlaceCA: the new certificate replaces those with its key and subject in every bundle; all
// others stay.
func TestPlaceCA(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	renewed := testpki.Pair{}.Once(t, ca, time.Now().AddDate(20, 0, 0)).Certificate
	other := testpki.Authority(t, "kubernetes").Certificate // same name, another key
	remark := []byte("# of the cluster\n")
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	n := caNode(t, ca)
	files := map[string][2][]byte{ // before and after
		"/ssl/ca.crt":             {join(remark, ca.Certificate, other), join(remark, renewed, other)},
		"/ssl/front-proxy-ca.crt": {other, other},
		"/ssl/apiserver.crt":      {join(other, ca.Certificate), join(other, renewed)},
		"/ssl/etcd/ca.crt":        {join(ca.Certificate, renewed), renewed},
		"/admin.conf":             {conf(ca.Certificate), conf(renewed)},
		"/scheduler.conf":         {conf(other, ca.Certificate), conf(other, renewed)},
		"/of-another.conf":        {conf(other), conf(other)},
	}
	for file, text := range files {
		n.write(n.conf+file, text[0], 0o640)
	}
	place := caScript(t, "place.sh", "KSCERT_NEW='kubernetes-ca|"+base64.StdEncoding.EncodeToString(renewed)+"'")
	out, errs, err := n.run(place)
	if err != nil {
		t.Fatal(err, out, errs)
	}
	for file, text := range files {
		if is := n.read(n.conf + file); !bytes.Equal(is, text[1]) {
			t.Errorf("%s is\n%s\nwant\n%s", file, is, text[1])
		}
		if changes := strings.Contains(out, "changed: "+n.conf+file+"\n"); changes == bytes.Equal(text[0], text[1]) {
			t.Errorf("%s: %s", file, out)
		}
	}
	if out, errs, err := n.run(place); err != nil || out != "" {
		t.Errorf("a second time: %v: %s%s", err, out, errs)
	}
}

// TestPlaceCARefuses: a certificate that is not a CA, or not valid, is not placed; one with another
// key replaces nothing.
func TestPlaceCARefuses(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for name, row := range map[string]struct {
		data []byte
		why  string
	}{
		"a leaf":      {ca.Issue(t, testpki.Leaf{CommonName: "kubernetes"}).Certificate, "is none of a CA"},
		"expired":     {testpki.Pair{}.Once(t, ca, time.Now().Add(-time.Hour)).Certificate, "is not valid here now"},
		"garbage":     {[]byte("garbage"), "cannot be read"},
		"another key": {testpki.Authority(t, "kubernetes").Certificate, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := caNode(t, ca)
			out, errs, err := n.run(caScript(t, "place.sh", "KSCERT_NEW='kubernetes-ca|"+base64.StdEncoding.EncodeToString(row.data)+"'"))
			if (err == nil) != (row.why == "") || !strings.Contains(errs, row.why) || !bytes.Equal(n.read(n.conf+"/ssl/ca.crt"), ca.Certificate) {
				t.Errorf("%v: %s%s", err, out, errs)
			}
		})
	}
	n := caNode(t, ca)
	n.ok(os.Remove(n.backup + "/COMPLETE"))
	renewed := testpki.Pair{}.Once(t, ca, time.Now().AddDate(20, 0, 0)).Certificate
	if _, errs, err := n.run(caScript(t, "place.sh", "KSCERT_NEW='kubernetes-ca|"+base64.StdEncoding.EncodeToString(renewed)+"'")); err == nil || !strings.Contains(errs, "no verified backup") {
		t.Errorf("without a backup: %v %s", err, errs)
	}
}

// TestUnidentified: a certificate without an authority key identifier is due only while CAs are
// renewed.
func TestUnidentified(t *testing.T) {
	t.Parallel()
	_, without := bare(t, "authorityKeyIdentifier=none")
	ca := testpki.Authority(t, "kubernetes")
	with := ca.Issue(t, testpki.Leaf{CommonName: "leaf"})
	n := newNode(t)
	n.write(n.conf+"/without", without.Certificate, 0o600)
	n.write(n.conf+"/with", with.Certificate, 0o600)
	for _, row := range []struct {
		file, setting string
		want          bool
	}{{"without", "yes", true}, {"with", "yes", false}, {"without", "", false}} {
		_, _, err := n.run("KSCERT_CA_RENEWAL=" + row.setting + "\nunidentified '" + n.conf + "/" + row.file + "'")
		if (err == nil) != row.want {
			t.Errorf("%+v: %v", row, err)
		}
	}
}
