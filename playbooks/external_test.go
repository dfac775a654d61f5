package playbooks_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// outside is a CA whose key is no longer on the node.
type outside struct {
	cert *x509.Certificate
	key  any
}

// takeOut removes the keys of the node's CAs, and returns them by the names of their files.
func (n *node) takeOut() map[string]outside {
	n.t.Helper()
	out := map[string]outside{}
	for name, files := range map[string][2]string{
		"ca": {n.conf + "/ssl/ca.crt", n.conf + "/ssl/ca.key"}, "front-proxy-ca": {n.conf + "/ssl/front-proxy-ca.crt", n.conf + "/ssl/front-proxy-ca.key"},
		"etcd": {n.etcd + "/ca.pem", n.etcd + "/ca-key.pem"},
	} {
		block, _ := pem.Decode(n.read(files[1]))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		n.ok(err)
		out[name] = outside{parsed(n.t, n.read(files[0])), key}
		n.ok(os.Remove(files[1]))
	}
	return out
}

// by names the CA that signs for a subject.
func by(subject string) string {
	switch {
	case strings.Contains(subject, "front-proxy"):
		return "front-proxy-ca"
	case strings.Contains(subject, "etcd"):
		return "etcd"
	default:
		return "ca"
	}
}

// sign does what the CA outside does: it signs a request, for as long as given.
func (o outside) sign(t *testing.T, r *x509.CertificateRequest, life time.Duration) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, RawSubject: r.RawSubject, ExtraExtensions: r.Extensions, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, o.cert, r.PublicKey, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// requests are those that a script or playbook has printed.
func requests(t *testing.T, text string) (out []*x509.CertificateRequest) {
	t.Helper()
	for line := range strings.Lines(words(text, "request: ")) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 {
			t.Fatal(line)
		}
		text := decoded(t, fields[1])
		block, _ := pem.Decode(text)
		r, err := x509.ParseCertificateRequest(block.Bytes)
		if of := parsed(t, decoded(t, fields[2])); err == nil {
			if fmt.Sprintf("%x", sha256.Sum256(of.Raw)) != fields[0] {
				t.Errorf("it is of %s", of.Subject)
			}
			err = certs.CheckRequest(of, r)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		out = append(out, r)
	}
	return out
}

// line is what the playbooks get of a certificate.
func line(certificate []byte) string {
	block, _ := pem.Decode(certificate)
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err.Error()
	}
	b64 := base64.StdEncoding.EncodeToString
	return b64(x.RawSubjectPublicKeyInfo) + "|" + b64(certificate)
}

// Certificates of CAs whose keys are elsewhere are requested, checked and placed by the playbooks:
// each for its own key, and no other file changes.
func TestExternalCA(t *testing.T) {
	t.Parallel()
	for _, bin := range testansible.Bins(t) {
		for _, way := range []struct {
			playbook, kubelet string
			left              time.Duration
		}{{"renew-certs.yml", "0", 24 * time.Hour}, {"pre-phase.yml", "0", -time.Hour}} {
			t.Run(way.playbook+", "+bin, func(t *testing.T) {
				t.Parallel()
				n := controlPlane(t, way.left, way.kubelet)
				cas := n.takeOut()
				before := n.files()
				answer, errs, err := n.run(external(t, "request.sh", "KSCERT_REQUESTS_ALL=True"))
				if err != nil {
					t.Fatal(err, errs)
				}
				play := func(playbook string, args ...string) {
					t.Helper()
					if out, err := n.play(bin, playbook, args...); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				}
				play("ca-csr.yml")
				if after := n.files(); !equalFiles(before, after) {
					t.Error("to request certificates changes the node")
				}
				var subjects, signed []string
				for _, r := range requests(t, answer) {
					subjects = append(subjects, r.Subject.String())
					signed = append(signed, line(cas[by(r.Subject.String())].sign(t, r, 90*24*time.Hour)))
					if len(r.DNSNames) != 1 || r.DNSNames[0] != "cp1" {
						t.Errorf("%s is requested for %q", r.Subject, r.DNSNames)
					}
				}
				slices.Sort(subjects)
				want := []string{"CN=admin", "CN=etcd-node-cp1", "CN=front-proxy-client", "CN=kube-apiserver", "CN=scheduler", "CN=system:node:cp1,O=system:nodes"}
				if !slices.Equal(subjects, want) {
					t.Fatalf("it requests %q, want %q", subjects, want)
				}
				vars, err := json.Marshal(map[string]any{"kscert_signed": map[string][]string{"cp1": signed}})
				n.ok(err)
				play("ca-check.yml", "-e", string(vars))
				play(way.playbook, "-e", string(vars))
				for path, text := range n.files() {
					switch renewed := before[path] != text; {
					case strings.HasPrefix(path, filepath.Dir(n.backup)), strings.HasSuffix(path, "/called"), strings.HasSuffix(path, "/state"):
					case strings.HasSuffix(path, "/kubelet.conf"), strings.Contains(path, "kubelet-client-"):
						if renewed != (way.playbook == "pre-phase.yml") && before[path] != "" {
							t.Errorf("%s has changed: %t", path, renewed)
						}
					case strings.HasSuffix(path, "apiserver.crt"), strings.HasSuffix(path, "front-proxy-client.crt"), strings.HasSuffix(path, "node-cp1.pem"),
						strings.HasSuffix(path, "/admin.conf"), strings.HasSuffix(path, "/scheduler.conf"):
						if !renewed {
							t.Errorf("%s is as it was", path)
						}
					default:
						if renewed && before[path] != "" {
							t.Errorf("%s has changed", path)
						}
					}
				}
				if _, err := tls.X509KeyPair(n.read(n.conf+"/ssl/apiserver.crt"), n.read(n.conf+"/ssl/apiserver.key")); err != nil {
					t.Error(err)
				}
				entry := entries(t, n.read(n.conf+"/admin.conf"))[""]
				if _, err := tls.X509KeyPair(decoded(t, entry.Certificate), decoded(t, entry.Key)); err != nil {
					t.Errorf("admin.conf: %v", err)
				}
				// Once more, it changes nothing.
				placed := n.files()
				play(way.playbook, "-e", string(vars))
				for path, text := range n.files() {
					if placed[path] != text && !strings.HasPrefix(path, filepath.Dir(n.backup)) && !strings.HasSuffix(path, "/called") {
						t.Errorf("the second time, %s has changed", path)
					}
				}
			})
		}
	}
}

// The playbooks pass on each certificate that a plan accepts.
func TestExternalLimit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("collections/ansible_collections/infrapuzzle/kscertctl/roles/settings/vars/main.yml")
	if limit := fmt.Sprintf("[|][A-Za-z0-9+/=]{1,%d}$", base64.StdEncoding.EncodedLen(plan.MaxSigned)); err != nil || !bytes.Contains(text, []byte(limit)) {
		t.Errorf("%v: there is no %s", err, limit)
	}
}

func equalFiles(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for path := range a {
		if a[path] != b[path] {
			return false
		}
	}
	return true
}

// external is a script of the role.
func external(t *testing.T, file string, settings ...string) string {
	t.Helper()
	return strings.Join(settings, "\n") + "\n" + script(t, "external_ca/files/leaves.sh", "external_ca/files/"+file)
}

// A request has the subject, the key, the names and the usages of the certificate, byte for byte,
// whatever they are.
func TestExternalRequest(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	dns := make([]string, 40)
	for i := range dns {
		dns[i] = fmt.Sprintf("name-%d.example.org", i)
	}
	for name, leaf := range map[string]testpki.Leaf{
		"without names":   {CommonName: "kubernetes"},
		"with many names": {CommonName: "kubernetes", DNSNames: dns, IPs: []string{"10.0.0.1", "fd00::1"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		"with a subject of several parts": {Subject: []string{"O=system:masters", "O=käse", "OU=a/b", "CN=kubernetes, or not"},
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p := ca.Issue(t, leaf)
			n.write(n.conf+"/ssl/apiserver.crt", p.Certificate, 0o644)
			n.write(n.conf+"/ssl/apiserver.key", p.Key, 0o600)
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
			sum := fmt.Sprintf("%x", sha256.Sum256(p.X509.Raw))
			out, errs, err := n.run(external(t, "request.sh", "KSCERT_REQUESTS_ALL=False KSCERT_REQUESTED="+sum))
			got := requests(t, out)
			if err != nil || len(got) != 1 {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			r := got[0]
			if !bytes.Equal(r.RawSubject, p.X509.RawSubject) || !bytes.Equal(r.RawSubjectPublicKeyInfo, p.X509.RawSubjectPublicKeyInfo) {
				t.Errorf("it is for %s", r.Subject)
			}
			for _, e := range p.X509.Extensions {
				is := slices.ContainsFunc(r.Extensions, func(o pkix.Extension) bool {
					return o.Id.Equal(e.Id) && bytes.Equal(o.Value, e.Value) && o.Critical == e.Critical
				})
				if wanted := slices.Contains([]string{"2.5.29.17", "2.5.29.15", "2.5.29.37"}, e.Id.String()); is != wanted {
					t.Errorf("extension %s is requested: %t", e.Id, is)
				}
			}
			if left, _ := filepath.Glob(n.conf + "/.kscertctl*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Keys of kubeadm are RSA by default.
func TestExternalRequestOfRSA(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	n.ok(os.Mkdir(n.conf+"/ssl", 0o700))
	n.write(n.conf+"/openssl.cnf", []byte("[req]\ndistinguished_name=d\n[d]\n[e]\nsubjectAltName=DNS:cp1\n"), 0o600)
	openssl(t, n.conf+"/ssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "apiserver.key", "-out", "apiserver.crt", "-subj", "/O=a/CN=kube-apiserver", "-days", "3", "-config", n.conf+"/openssl.cnf", "-extensions", "e")
	out, errs, err := n.run(external(t, "request.sh", "KSCERT_REQUESTS_ALL=True"))
	if got := requests(t, out); err != nil || len(got) != 1 || got[0].SignatureAlgorithm != x509.SHA256WithRSA || !slices.Equal(got[0].DNSNames, []string{"cp1"}) {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	n.write(n.conf+"/ssl/apiserver.key", testpki.Authority(t, "other").Key, 0o600)
	if out, errs, err = n.run(external(t, "request.sh", "KSCERT_REQUESTS_ALL=True")); err != nil || out != "refused: "+n.conf+"/ssl/apiserver.crt stays as it is: its key is not there, or belongs to another certificate: nothing can be requested for it\n" {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}

// What a script has left in memory that was killed is removed, and what others work with is not.
func TestExternalLeftovers(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"request": external(t, "request.sh", "KSCERT_REQUESTS_ALL=True"), "sweep": "sweep\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			memory := filepath.Dir(n.conf) + "/run"
			mine := fmt.Sprintf("%s/.kscertctl.%d.abcdef/key.pem", memory, os.Getpid())
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
			n.write(memory+"/.kscertctl.99999999.abcdef/key.pem", nil, 0o600)
			n.write(memory+"/.kscertctl.other/key.pem", nil, 0o600)
			n.write(mine, nil, 0o600)
			if _, errs, err := n.run(script(t, "external_ca/files/leaves.sh") + "private_stage\n: >\"$stage/key.pem\"\nkill -9 $$\n"); err == nil {
				t.Fatal("it is not killed", errs)
			}
			if left, _ := filepath.Glob(memory + "/.k*/*"); len(left) != 3 {
				t.Fatalf("there is %q", left)
			}
			n.write(memory+"/.kscertctl.99999999.abcdef/key.pem", nil, 0o600)
			if _, errs, err := n.run(text); err != nil {
				t.Fatal(err, errs)
			}
			left, err := filepath.Glob(memory + "/.k*/*")
			if want := []string{mine, memory + "/.kscertctl.other/key.pem"}; err != nil || !slices.Equal(left, want) {
				t.Errorf("there is %q, want %q", left, want)
			}
			if left, _ := filepath.Glob(n.conf + "/.kscertctl*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A key of another kind is refused, and the other certificates are requested.
func TestExternalRequestOfOtherKeys(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	ca := testpki.Authority(t, "kubernetes")
	for _, leaf := range []string{"apiserver", "front-proxy-client"} {
		p := ca.Issue(t, testpki.Leaf{CommonName: leaf})
		n.write(n.conf+"/ssl/"+leaf+".crt", p.Certificate, 0o644)
		n.write(n.conf+"/ssl/"+leaf+".key", p.Key, 0o600)
	}
	openssl(t, n.conf+"/ssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "apiserver.key", "-out", "apiserver.crt", "-subj", "/CN=kube-apiserver", "-days", "3")
	out, errs, err := n.run(external(t, "request.sh", "KSCERT_REQUESTS_ALL=True seconds=99999999"))
	refused := "refused: " + n.conf + "/ssl/apiserver.crt stays as it is: its key is neither RSA nor ECDSA\n"
	if got := requests(t, out); err != nil || len(got) != 1 || got[0].Subject.CommonName != "front-proxy-client" || !strings.Contains(out, refused) {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}

// What was signed is compared on its node with the key, and with the CAs of those who verify it.
func TestExternalCheck(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	middle := ca.Intermediate(t, "middle", time.Now().AddDate(1, 0, 0))
	of := testpki.Leaf{CommonName: "kubernetes-admin", Organization: "kubeadm:cluster-admins", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	old := ca.Issue(t, of)
	servers := ca.IntermediateFor(t, "servers", time.Now().AddDate(1, 0, 0), x509.ExtKeyUsageServerAuth)
	clients := ca.IntermediateFor(t, "clients", time.Now().AddDate(1, 0, 0), x509.ExtKeyUsageClientAuth)
	for name, row := range map[string]struct {
		signed  []byte
		prepare func(n *node)
		want    string
	}{
		"right":                         {signed: ca.For(t, old, of).Certificate},
		"in place already":              {signed: old.Certificate},
		"with a CA between":             {signed: slices.Concat(middle.For(t, old, of).Certificate, middle.Certificate)},
		"without the CA between":        {signed: middle.For(t, old, of).Certificate, want: "the new CONF/admin.conf is not valid under CONF/ssl/ca.crt: error 20"},
		"with a CA for clients between": {signed: slices.Concat(clients.For(t, old, of).Certificate, clients.Certificate)},
		"with a CA for servers between": {signed: slices.Concat(servers.For(t, old, of).Certificate, servers.Certificate), want: "the new CONF/admin.conf is not valid under CONF/ssl/ca.crt for sslclient: error "},
		"by a CA of the same name":      {signed: other.For(t, old, of).Certificate, want: "the new CONF/admin.conf is not valid under CONF/ssl/ca.crt: error "},
		"for another user":              {signed: ca.For(t, old, testpki.Leaf{CommonName: "other"}).Certificate, want: "the new CONF/admin.conf would have another subject"},
		"for a key that is not here":    {signed: ca.Issue(t, of).Certificate, want: "one is for a key that no certificate of this node has now"},
		"that API servers do not trust": {signed: ca.For(t, old, of).Certificate, prepare: func(n *node) {
			n.write(n.conf+"/clients.crt", other.Certificate, 0o644)
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --client-ca-file="+n.conf+"/clients.crt\n"), 0o600)
		}, want: "the new CONF/admin.conf is not valid under CONF/clients.crt: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
			n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
			b64 := base64.StdEncoding.EncodeToString
			n.write(n.conf+"/admin.conf", fmt.Appendf(nil, "clusters: []\nusers:\n- user:\n    client-certificate-data: %s\n    client-key-data: %s\n", b64(old.Certificate), b64(old.Key)), 0o600)
			if row.prepare != nil {
				row.prepare(n)
			}
			before := n.files()
			out, errs, err := n.run(external(t, "check.sh", "KSCERT_SIGNED='signed:\n"+line(row.signed)+"'"))
			want := strings.ReplaceAll(row.want, "CONF", n.conf)
			if (err == nil) != (want == "") || !strings.Contains(errs, want) || strings.Contains(out, "PRIVATE") {
				t.Errorf("%v: %s%s, want %q", err, out, errs, want)
			}
			if !equalFiles(before, n.files()) {
				t.Error("the node was changed")
			}
		})
	}
}

// Each leaf is compared with the CAs of each component that verifies it, as the table of kinds has them.
func TestExternalVerifiers(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "ca"), testpki.Authority(t, "ca")
	of := testpki.Leaf{CommonName: "leaf", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	old := ca.Issue(t, of)
	signed := "KSCERT_SIGNED='signed:\n" + line(ca.For(t, old, of).Certificate) + "'"
	for _, v := range certs.Verifiers() {
		component, flag, _ := strings.Cut(v.Setting, ".")
		for _, leaf := range verified(t, v) {
			if leaf == "kubelet" {
				continue // where kubeconfigs are verified: its pair is read by others, see TestExternalKubelet
			}
			t.Run(v.Setting+"/"+leaf, func(t *testing.T) {
				t.Parallel()
				n := newNode(t)
				file := n.conf + "/trusted.crt"
				n.write(file, other.Certificate, 0o644)
				n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
				for _, path := range []string{n.conf + "/ssl/ca.crt", n.conf + "/ssl/front-proxy-ca.crt", n.conf + "/ssl/etcd/ca.crt", n.etcd + "/ca.pem"} {
					n.write(path, ca.Certificate, 0o644)
				}
				path, key := n.conf+"/ssl/"+leaf+".crt", n.conf+"/ssl/"+leaf+".key"
				if kind, host := strings.CutPrefix(leaf, "etcd-host-"); host {
					path, key = n.etcd+"/"+kind+"-cp1.pem", n.etcd+"/"+kind+"-cp1-key.pem"
				}
				if leaf == "kubeconfig" {
					n.write(n.conf+"/admin.conf", kubeconfig(ca, old, ""), 0o600)
				} else {
					n.write(path, old.Certificate, 0o644)
					n.write(key, old.Key, 0o600)
				}
				if out, errs, err := n.run(external(t, "check.sh", signed)); err != nil {
					t.Fatalf("without the setting: %v: %s%s", err, out, errs)
				}
				switch component {
				case "kube-apiserver":
					n.apiServerPod([]string{"--" + flag + "=" + file}, n.conf+" "+n.conf)
				case "kubelet":
					n.write(n.root()+"/var/lib/kubelet/config.yaml", []byte("authentication:\n  x509:\n    clientCAFile: "+file+"\n"), 0o600)
				default: // a member of an etcd cluster
					n.write(n.root()+"/etc/"+component+".env", []byte("ETCD_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))+"="+file+"\n"), 0o600)
				}
				if out, errs, err := n.run(external(t, "check.sh", signed)); err == nil || !strings.Contains(errs, "is not valid under "+file+": ") {
					t.Errorf("%v: %s%s", err, out, errs)
				}
			})
		}
	}
}

// The kubelet of a worker, which has no file of kubeadm, requests a certificate for the key that it has,
// and gets that.
func TestExternalKubelet(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := worker(t, ca, "w1")
	old := n.read(n.pair())
	out, errs, err := n.run(external(t, "request.sh", "KSCERT_REQUESTS_ALL=True"))
	asked := requests(t, out)
	if err != nil || len(asked) != 1 || asked[0].Subject.String() != "CN=system:node:w1,O=system:nodes" {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	block, _ := pem.Decode(ca.Key)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	n.ok(err)
	certificate := outside{ca.X509, key}.sign(t, asked[0], 90*24*time.Hour)
	signed := "KSCERT_SIGNED='signed:\n" + line(certificate) + "'"
	if out, errs, err := n.run(external(t, "check.sh", signed)); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	if out, errs, err := n.kubelet("request.sh", signed); err != nil || !strings.HasSuffix(out, "signed: the client certificate of the kubelet\n") || strings.Contains(out, "request: ") {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	if left, _ := filepath.Glob(filepath.Dir(n.pair()) + "/.kscertctl*"); len(left) > 0 {
		t.Errorf("until it is placed, a copy of the key is in %v", left)
	}
	if out, errs, err := n.kubelet("take.sh", signed+"\nKSCERT_REFUSED= KSCERT_ISSUED="); err != nil || !strings.HasSuffix(out, "changed: restarted the kubelet\n") {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	pair := n.read(n.pair())
	was, err := tls.X509KeyPair(old, old)
	n.ok(err)
	is, err := tls.X509KeyPair(pair, pair)
	n.ok(err)
	if !bytes.Equal(is.Leaf.Raw, parsed(t, certificate).Raw) || !bytes.Equal(is.Leaf.RawSubjectPublicKeyInfo, was.Leaf.RawSubjectPublicKeyInfo) {
		t.Errorf("it has the certificate of %s", is.Leaf.Subject)
	}
	if out, errs, err := n.kubelet("request.sh", signed); err != nil || strings.Contains(out, "signed: ") {
		t.Errorf("once more: %v: %s%s", err, out, errs)
	}
	// Without one for its key, its certificate stays, although it is due.
	other := worker(t, ca, "w2")
	if out, errs, err := other.kubelet("request.sh", signed); err != nil || strings.Contains(out, "signed: ") || strings.Contains(out, "request: ") {
		t.Errorf("of another: %v: %s%s", err, out, errs)
	}
}

// With certificates from outside, etcd's are still signed on the node that has the key of its CA, if a
// plan names one; otherwise they stay.
func TestExternalAndHostEtcd(t *testing.T) {
	t.Parallel()
	signer, ca, _ := etcdNode(t, 365*24*time.Hour)
	n, old := client(t, ca, -time.Hour)
	n.write(n.etcd+"/node-cp2.pem", slices.Concat(old.Certificate, ca.Certificate), 0o640)
	const none, named = "signed:", "etcd1"
	for _, how := range []string{"request", "renew"} {
		if out, errs, err := n.with("renew.sh", "KSCERT_ETCD", how, "KSCERT_SIGNED", none); err != nil || out != "" {
			t.Errorf("without the key, %s: %v: %s%s", how, err, out, errs)
		}
	}
	given := line(ca.For(t, old, testpki.Leaf{CommonName: "etcd-node-cp2", DNSNames: []string{"localhost", "etcd1"}, IPs: []string{"10.0.0.2", "fd00::2"}}).Certificate)
	if out, errs, err := n.with("renew.sh", "KSCERT_ETCD", "request", "KSCERT_SIGNED", none+"\n"+given, "KSCERT_ETCD_SIGNER", named); err != nil || out != "" {
		t.Errorf("what is at hand is requested: %v: %s%s", err, out, errs)
	}
	asked, errs, err := n.with("renew.sh", "KSCERT_ETCD", "request", "KSCERT_SIGNED", none, "KSCERT_ETCD_SIGNER", named)
	signed, errs2, err2 := signer.with("sign.sh", "KSCERT_REQUESTS", "cp2|"+words(asked, "request: "), "KSCERT_SIGNED", none)
	if err != nil || err2 != nil {
		t.Fatal(err, errs, err2, errs2)
	}
	out, errs, err := n.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", words(signed, "issued: cp2|"), "KSCERT_SIGNED", none, "KSCERT_ETCD_SIGNER", named)
	if err != nil || out != "changed: "+n.etcd+"/node-cp2.pem\n" {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	if text := n.read(n.etcd + "/node-cp2.pem"); !bytes.HasSuffix(text, ca.Certificate) || bytes.Contains(text, old.Certificate) {
		t.Errorf("it has lost the CA after it:\n%s", text)
	}
}
