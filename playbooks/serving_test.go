package playbooks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// asked is a CertificateSigningRequest as the API has it.
type asked struct {
	signer, username, groups, usages, conditions, created string
	request                                               x509.CertificateRequest
	// text is the request as it is; made of request when empty.
	text string
}

// honest is what the kubelet of w1 requests.
func honest() asked {
	return asked{
		signer: "kubernetes.io/kubelet-serving", username: "system:node:w1", groups: "system:nodes system:authenticated",
		usages: "digital signature,key encipherment,server auth,", created: time.Now().UTC().Format(time.RFC3339),
		request: x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "system:node:w1", Organization: []string{"system:nodes"}}, DNSNames: []string{"w1"},
			IPAddresses: []net.IP{net.ParseIP("10.0.0.21"), net.ParseIP("fd00::1:0:21")},
		},
	}
}

// fields are what kubectl prints of it.
func (a asked) fields(t *testing.T) string {
	t.Helper()
	if a.text == "" {
		a.text = a.encoded(t, "", "")
	}
	return strings.Join([]string{a.signer, a.conditions, a.created, a.text, a.usages, a.groups, a.username, ""}, "\n")
}

// encoded is the request as the API has it, with text around it.
func (a asked) encoded(t *testing.T, before, after string) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString(slices.Concat([]byte(before), pemOf(t, a.request), []byte(after)))
}

// pemOf is a request signed by a key of its own.
func pemOf(t *testing.T, request x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &request, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// withKubectl gives the node a kubectl that knows w1 and these requests, by name, and records what
// it approves.
func (n *node) withKubectl(requests map[string]asked) (approved func() string) {
	n.t.Helper()
	dir := filepath.Join(filepath.Dir(n.conf), "api")
	n.write(dir+"/node", []byte("Hostname w1\nInternalIP 10.0.0.21\nInternalIP FD00:0::1:0:0021\nExternalDNS w1.example.com\n"), 0o600)
	n.ok(os.MkdirAll(dir+"/csr", 0o700))
	for name, a := range requests {
		n.write(dir+"/csr/"+name, []byte(a.fields(n.t)), 0o600)
	}
	n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
cd '%s' || exit
[ "$1 $2 $3" = '--kubeconfig %s/admin.conf --request-timeout=10s' ] || exit 1
shift 3
case $* in
'get deployments,daemonsets -A -l app.kubernetes.io/name=kubelet-csr-approver -o name') cat approver 2>/dev/null ;;
'get node w1 -o '*) [ ! -f down ] && cat node ;;
'get certificatesigningrequests -o jsonpath={range .items[?(@.spec.username=="system:node:w1")]}{.metadata.name}{"\n"}{end}') ls csr ;;
'get certificatesigningrequests '*) cat "csr/$3" ;;
'certificate approve '*) echo "$3" >>approved ;;
*) exit 1 ;;
esac
`, dir, n.conf), 0o700)
	return func() string {
		data, _ := os.ReadFile(dir + "/approved")
		return strings.TrimSpace(string(data))
	}
}

// ofW1 is the inventory's line for w1, before the script.
const ofW1 = "KSCERT_NODES='w1 10.0.0.21 fd00::1:0:21 10.0.0.99' KSCERT_WAIT_SECONDS=0 KSCERT_ELAPSED_SECONDS=120\n"

// Requests that the node made for itself are approved; all others are left, with the reason.
func TestApproveServing(t *testing.T) {
	t.Parallel()
	but := func(edit func(*asked)) asked { a := honest(); edit(&a); return a }
	spiffe, err := url.Parse("spiffe://w1")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, left string
		asked      asked
	}{
		{"what a kubelet asks for", "", honest()},
		{"with a key of another kind", "", but(func(a *asked) { a.usages = "server auth,digital signature," })},
		{"for fewer names", "", but(func(a *asked) { a.request.IPAddresses = nil })},
		{"for another name that only the Node object has", "it names DNS:W1.example.com, which is no address of node w1 in the inventory", but(func(a *asked) { a.request.DNSNames = []string{"W1.example.com"} })},
		{"for an address that only the inventory has", "it names IPAddress:10.0.0.99, which is no address of node w1 in the Node object", but(func(a *asked) { a.request.IPAddresses = []net.IP{net.ParseIP("10.0.0.99")} })},
		{"for names behind a line break", "it names DNS:w1%0AX509v3%20x:%0A%20%20DNS:kubernetes", but(func(a *asked) {
			a.request.ExtraExtensions = append(a.request.ExtraExtensions, san(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("w1\nX509v3 x:\n  DNS:kubernetes")}))
			a.request.DNSNames, a.request.IPAddresses = nil, nil
		})},
		{"for a second list of names", "it names DNS:kubernetes", but(func(a *asked) {
			first := san(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("w1")})
			second := san(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("kubernetes")})
			a.request.ExtraExtensions = append(a.request.ExtraExtensions, first, second)
			a.request.DNSNames, a.request.IPAddresses = nil, nil
		})},
		{"by someone else", "system:node:w2 asks for it", but(func(a *asked) { a.username = "system:node:w2" })},
		{"not by a node", "who asks is not in system:nodes, but in system:nodesx system:authenticated", but(func(a *asked) { a.groups = "system:nodesx system:authenticated" })},
		{"for another signer", "its signer is kubernetes.io/kube-apiserver-client", but(func(a *asked) { a.signer = "kubernetes.io/kube-apiserver-client" })},
		{"for a client", "its usages are digital signature,key encipherment,server auth,client auth,", but(func(a *asked) { a.usages += "client auth," })},
		{"for no server", "its usages are digital signature,", but(func(a *asked) { a.usages = "digital signature," })},
		{"in the name of another", "its subject is O=system:nodes,CN=system:node:w2", but(func(a *asked) { a.request.Subject.CommonName = "system:node:w2" })},
		{"in one organization more", "its subject is O=system:nodes+O=system:masters,CN=system:node:w1", but(func(a *asked) { a.request.Subject.Organization = []string{"system:nodes", "system:masters"} })},
		{"in no organization", "its subject is CN=system:node:w1", but(func(a *asked) { a.request.Subject.Organization = nil })},
		{"in one unit more", "its subject is O=system:nodes,OU=x,CN=system:node:w1", but(func(a *asked) { a.request.Subject.OrganizationalUnit = []string{"x"} })},
		{"for another name", "it names DNS:api.example.com, which is no address of node w1", but(func(a *asked) { a.request.DNSNames = append(a.request.DNSNames, "api.example.com") })},
		{"for a name of which the node's is a part", "it names DNS:w1.example.com.evil", but(func(a *asked) { a.request.DNSNames = []string{"w1.example.com.evil"} })},
		{"for a name that matches the node's", "it names DNS:w.", but(func(a *asked) { a.request.DNSNames = []string{"w."} })},
		{"for another address", "it names IPAddress:10.0.0.22", but(func(a *asked) { a.request.IPAddresses = []net.IP{net.ParseIP("10.0.0.22")} })},
		{"for another address of IPv6", "it names IPAddress:FD00:0:0:0:0:1:0:22", but(func(a *asked) { a.request.IPAddresses = []net.IP{net.ParseIP("fd00::1:0:22")} })},
		{"for an address as a name", "it names DNS:10.0.0.21", but(func(a *asked) { a.request.DNSNames = []string{"10.0.0.21"} })},
		{"for a mail address", "it names email:w1@example.com", but(func(a *asked) { a.request.EmailAddresses = []string{"w1@example.com"} })},
		{"for a URI", "it names URI:spiffe://w1", but(func(a *asked) { a.request.URIs = []*url.URL{spiffe} })},
		{"for nothing", "it names neither a DNS name nor an address", but(func(a *asked) { a.request.DNSNames, a.request.IPAddresses = nil, nil })},
		{"with a second request behind it", "it is not one request and nothing else", but(func(a *asked) {
			a.text = a.encoded(t, "", string(pemOf(t, x509.CertificateRequest{DNSNames: []string{"kubernetes"}})))
		})},
		{"with a header", "it is not one request and nothing else", but(func(a *asked) {
			a.text = base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(pemOf(t, a.request)), "-----\n", "-----\nComment: x\n\n", 1)))
		})},
		{"with words before it", "it is not one request and nothing else", but(func(a *asked) { a.text = a.encoded(t, "words\n", "") })},
		{"with words", "it is not base64", but(func(a *asked) { a.text = "?" })},
		{"with no request", "it is not one request and nothing else", but(func(a *asked) { a.text = "eA==" })},
		{"with a field of two lines", "its fields cannot be separated", but(func(a *asked) { a.groups = "x\nsystem:nodes" })},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			approved := n.withKubectl(map[string]asked{"csr-1": row.asked})
			out, errs, err := n.run(ofW1 + role(t, "kubelet_serving/files/approve.sh"))
			want, says := "csr-1", "changed: approved csr-1, the serving certificate of node w1\n"
			if row.left != "" {
				want, says = "", "left: csr-1, under the name of node w1: "+row.left
			}
			if err != nil || approved() != want || !strings.HasPrefix(out, says) {
				t.Errorf("%v: approved %q, answered %q %q; want %q", err, approved(), out, errs, says)
			}
			if left, _ := filepath.Glob(n.conf + "/.kscertctl*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Each of several requests is checked by itself; decided ones are left alone.
func TestApproveServingAmongOthers(t *testing.T) {
	t.Parallel()
	script := ofW1 + role(t, "kubelet_serving/files/approve.sh")
	decided := func(conditions string, ago time.Duration) asked {
		a := honest()
		a.conditions, a.created = conditions, time.Now().Add(-ago).UTC().Format(time.RFC3339)
		return a
	}
	evil := honest()
	evil.request.DNSNames = []string{"kubernetes"}
	for name, row := range map[string]struct {
		requests       map[string]asked
		approved, says string
	}{
		"good and bad":             {map[string]asked{"csr-1": evil, "csr-2": honest(), "csr-3": decided("Denied", 0)}, "csr-2", "left: csr-1, under the name of node w1: it names DNS:kubernetes"},
		"none":                     {nil, "", "left: the kubelet of node w1 has not asked for a serving certificate within 0 seconds"},
		"another approver":         {map[string]asked{"csr-1": decided("Approved", time.Minute)}, "", ""},
		"an old one, and none now": {map[string]asked{"csr-1": decided("Approved", 3*time.Minute)}, "", "left: the kubelet of node w1 has not asked"},
	} {
		n := newNode(t)
		approved := n.withKubectl(row.requests)
		if out, errs, err := n.run(script); err != nil || approved() != row.approved || !strings.HasPrefix(out, row.says) || (row.says == "" && out != "") {
			t.Errorf("%s: %v: approved %q, answered %q %q", name, err, approved(), out, errs)
		}
	}
	n := newNode(t)
	n.withKubectl(nil)
	n.write(filepath.Dir(n.conf)+"/api/down", nil, 0o600)
	if out, _, err := n.run(script); err != nil || !strings.HasPrefix(out, "left: the API does not return the addresses of node w1") {
		t.Errorf("of an API that is down: %v: %q", err, out)
	}
	n = newNode(t)
	approved := n.withKubectl(map[string]asked{"csr-1": honest()})
	n.write(filepath.Dir(n.conf)+"/api/approver", []byte("deployment.apps/kubelet-csr-approver\n"), 0o600)
	if out, _, err := n.run(script); err != nil || approved() != "" || !strings.HasPrefix(out, "left: kubelet serving certificates, to deployment.apps/kubelet-csr-approver") {
		t.Errorf("where an approver is deployed: %v: %q", err, out)
	}
}

// Only a kubelet that is set to request a certificate and has no good one is waited for.
func TestServingNeeded(t *testing.T) {
	t.Parallel()
	script := role(t, "kubelet_serving/files/needed.sh")
	for _, row := range []struct {
		name, config string
		left         time.Duration // 0: no certificate
		check        string
		says         string
	}{
		{"not reported to", "rotateCertificates: true\n", 0, "False", ""},
		{"reported not to", "serverTLSBootstrap: false\n", 0, "False", ""},
		{"reported not to, after YAML 1.1", "serverTLSBootstrap: no\n", 0, "False", ""},
		{"in JSON", `{"kind": "KubeletConfiguration", "serverTLSBootstrap": true}`, 0, "False", "serving: needed\n"},
		{"no certificate", "serverTLSBootstrap: true\n", 0, "False", "serving: needed\n"},
		{"one that ends", "serverTLSBootstrap: true\n", time.Hour, "False", "serving: needed\n"},
		{"a good one", "serverTLSBootstrap: true\n", 60 * 24 * time.Hour, "False", ""},
		{"in check mode", "serverTLSBootstrap: true\n", 0, "True", "changed: would approve the serving certificate that the kubelet asks for\n"},
	} {
		n := newNode(t)
		n.check = row.check
		n.write(n.conf+"/kubelet-config.yaml", []byte(row.config), 0o600)
		if row.left != 0 {
			n.write(filepath.Dir(n.conf)+"/var/lib/kubelet/pki/kubelet-server-current.pem", servingPEM(t, row.left), 0o600)
		}
		if out, errs, err := n.run(script); err != nil || out != row.says {
			t.Errorf("%s: %v: %q %q, want %q", row.name, err, out, errs, row.says)
		}
	}
}

func servingPEM(t *testing.T, left time.Duration) []byte {
	t.Helper()
	return testpki.Authority(t, "kubernetes").Issue(t, testpki.Leaf{CommonName: "system:node:w1", NotAfter: time.Now().Add(left)}).Certificate
}

// The role asks on the control plane for the node at hand, by its name in Kubernetes, and reports
// what it did; what it left is passed to the run.
func TestServingPlaybook(t *testing.T) {
	t.Parallel()
	n := controlPlane(t, 300*24*time.Hour, "0")
	evil := honest()
	evil.request.DNSNames = []string{"kubernetes"}
	approved := n.withKubectl(map[string]asked{"csr-1": evil, "csr-2": honest()})
	n.write(n.conf+"/kubelet-config.yaml", []byte("serverTLSBootstrap: true\n"), 0o600)
	asks := func(more ...string) string {
		out, err := n.play(testansible.Bins(t)[0], "kubelet-bootstrap.yml", append([]string{"--diff", "-v", "-e", "kube_override_hostname=W1", "-e", "kscert_wait_seconds=5",
			"-e", "kscert_control_plane=cp1", "-e", "ip=10.0.0.21", "-e", "access_ip6=fd00:0::1:0:21"}, more...)...)
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return out
	}
	if out := asks("-e", "kscert_approve_serving=false"); approved() != "" {
		t.Errorf("approved %q, and was reported not to\n%s", approved(), out)
	}
	out := asks()
	if approved() != "csr-2" || !strings.Contains(out, `"approved csr-2, the serving certificate of node w1"`) || !strings.Contains(out, "left: csr-1, under the name of node w1: it names DNS:kubernetes") {
		t.Errorf("approved %q\n%s", approved(), out)
	}

	// One of a minute ago is not what the kubelet asks for after its restart.
	before := honest()
	before.conditions, before.created = "Approved", time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	n.ok(os.RemoveAll(filepath.Dir(n.conf) + "/api"))
	n.withKubectl(map[string]asked{"csr-0": before})
	if out := asks(); !strings.Contains(out, "left: the kubelet of node w1 has not asked for a serving certificate") {
		t.Errorf("did not wait for the kubelet\n%s", out)
	}
}

// Each playbook that approves notes the time before it restarts a kubelet.
func TestServingBegins(t *testing.T) {
	t.Parallel()
	playbooks, err := filepath.Glob("collections/ansible_collections/infrapuzzle/kscertctl/playbooks/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range playbooks {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		first, _, approves := strings.Cut(string(data), "role: infrapuzzle.kscertctl.kubelet_serving\n")
		if !approves {
			continue
		}
		if found++; !strings.Contains(first, "tasks_from: begin\n") {
			t.Errorf("%s counts what was approved before it began", path)
		}
	}
	if found != 3 {
		t.Errorf("%d playbooks approve, want 3", found)
	}
}
