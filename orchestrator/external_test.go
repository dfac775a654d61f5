package orchestrator

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// What is due is requested once, whatever files hold it; and never what a node might only pretend to
// need.
func TestRequestable(t *testing.T) {
	t.Parallel()
	due := []certs.Kind{certs.KindAPIServer, certs.KindAdmin, certs.KindEtcdMember, certs.KindKubeletClient}
	named := tc.Files(func(c *certs.Certificate) { c.CommonName, c.Organizations = "system:node:w1", []string{"system:nodes"} }, certs.KindKubeletClient)
	for name, row := range map[string]struct {
		edits []tc.Edit
		want  []string
		odd   string
	}{
		"nothing": {},
		"some": {
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") }, tc.EndsIn(tc.Day, due[:3]...)), tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletClient), named)},
			want:  []string{"cp1/apiserver.csr", "cp1/admin.conf.csr", "cp1/member-cp1.csr", "w1/kubelet-client.csr"},
		},
		"a copy": {
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin), func(n *snapshot.Node) {
				c, _ := n.Certificate(certs.KindAdmin)
				c.Kind, c.Path = "root-kubeconfig", "/root/.kube/config"
				n.Certificates = append(n.Certificates, c)
			})},
			want: []string{"cp1/admin.conf.csr"},
		},
		"two users of one kubeconfig": {
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) {
				c, _ := n.Certificate(certs.KindAdmin)
				for _, again := range []string{"second", "third"} {
					c.Fingerprint, c.PublicKey = again, again
					n.Certificates = append(n.Certificates, c)
				}
			}, tc.EndsIn(tc.Day, certs.KindAdmin))},
			want: []string{"cp1/admin.conf.csr", "cp1/admin.conf-2.csr", "cp1/admin.conf-3.csr"},
		},
		"a node named like the index": {
			edits: []tc.Edit{tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletClient), named), func(s *snapshot.Snapshot) { s.Nodes[1].Name = "Requests.json" }},
			odd:   "its name cannot be that of a file",
		},
		"of another CA": {
			edits: []tc.Edit{tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAPIServer), tc.Files(func(c *certs.Certificate) { c.SignedBy = "" }, certs.KindAPIServer))},
			odd:   "cp1: /etc/kubernetes/ssl/apiserver.crt is due and is not requested: the kubernetes-ca of the control planes has not signed it",
		},
		"a kubelet with more rights": {
			edits: []tc.Edit{tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletClient), named, tc.Files(func(c *certs.Certificate) { c.Organizations = []string{"system:masters"} }, certs.KindKubeletClient))},
			odd:   "and not for that node",
		},
		"a kubelet with the name of another node": {
			edits: []tc.Edit{tc.On("w1", tc.EndsIn(tc.Day, certs.KindKubeletClient), named, tc.Files(func(c *certs.Certificate) { c.CommonName = "system:node:cp1" }, certs.KindKubeletClient))},
			odd:   "and not for that node",
		},
		"a control plane's, on a worker": {
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				file := "/etc/kubernetes/controller-manager.conf"
				n.Facts["kube-controller-manager.kubeconfig"] = file
				n.Certificates = append(n.Certificates, certs.Certificate{Kind: certs.KindControllerManagerConf, Path: file, Subject: "O=system:masters", Organizations: []string{"system:masters"},
					NotAfter: tc.Now.Add(tc.Day), Fingerprint: "f", PublicKey: "k", SignedBy: certs.KubernetesCA, Signers: []string{tc.CA(certs.KindCA, "").SignsAs()}})
			})},
			odd: "no node with its roles in the inventory has the certificate controller-manager.conf",
		},
		"of etcd, whose CA's key is on another node": {
			edits: []tc.Edit{tc.On("w1", tc.EtcdClient, tc.EndsIn(tc.Day, certs.KindEtcdNode))},
		},
		"of etcd, whose CA's key is outside": {
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") }), tc.On("w1", tc.EtcdClient, tc.EndsIn(tc.Day, certs.KindEtcdNode))},
			want:  []string{"w1/node-w1.csr"},
		},
		"a kubelet without its pair": {
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				n.Certificates = slices.DeleteFunc(n.Certificates, func(c certs.Certificate) bool { return c.Kind == certs.KindKubeletClient })
			})},
			odd: "w1: kubelet-client-current.pem is due and is not requested: it is lost",
		},
		"a kubelet whose kubeconfig has an old pair": {
			edits: []tc.Edit{tc.On("w1", func(n *snapshot.Node) {
				c, _ := n.Certificate(certs.KindKubeletClient)
				c.Kind, c.Path, c.Fingerprint, c.PublicKey, c.NotAfter = certs.KindKubeletConf, "/etc/kubernetes/kubelet.conf", "old", "old", tc.Now.Add(-tc.Day)
				n.Certificates = append(n.Certificates, c)
			})},
			odd: "w1: kubelet.conf is due and is not requested: the kubelet's pair is in kubelet-client-current.pem",
		},
		"a node that is not inspected": {edits: []tc.Edit{tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route"))}, odd: "w1: nothing is requested: no route"},
		"a name that is no file's": {
			edits: []tc.Edit{tc.On("cp1", func(n *snapshot.Node) { delete(n.Digests, tc.EtcdPKI+"/ca-key.pem") }, tc.EndsIn(tc.Day, certs.KindEtcdMember), tc.Files(func(c *certs.Certificate) { c.Path = "/etc/ssl/etcd/ssl/member-\x1b[2J.pem" }, certs.KindEtcdMember))},
			odd:   "its name cannot be that of a file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single(), row.edits...)
			asked, missing := requestable(s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), diagnosis.DefaultThresholds())
			var got, odd []string
			for _, m := range missing {
				odd = append(odd, m.String())
			}
			for _, r := range asked {
				got = append(got, r.Request)
				if r.CA == "" || r.CAFingerprint == "" || r.NotAfter.IsZero() || r.Certificate != strings.TrimSuffix(r.Request, ".csr")+".crt" {
					t.Errorf("%+v", r)
				}
			}
			if !slices.Equal(got, row.want) || (len(odd) == 0) != (row.odd == "") || !strings.Contains(strings.Join(odd, "\n"), row.odd) {
				t.Errorf("%q, want %q; %q", got, row.want, odd)
			}
		})
	}
}

// A request is written only if it is for what the node has; the index names all of them, and nothing
// in the directory is a secret.
func TestWriteRequests(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, DNSNames: []string{"cp1"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotAfter: tc.Now, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	present, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	is := certs.Describe(present)
	coded := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	request := func(edit func(*x509.CertificateRequest)) string {
		r := &x509.CertificateRequest{RawSubject: present.RawSubject}
		for _, e := range present.Extensions {
			if slices.Contains([]string{"2.5.29.17", "2.5.29.37"}, e.Id.String()) {
				r.ExtraExtensions = append(r.ExtraExtensions, e)
			}
		}
		edit(r)
		der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
		if err != nil {
			t.Fatal(err)
		}
		return "request: " + is.Fingerprint + "|" + coded("CERTIFICATE REQUEST", der) + "|" + coded("CERTIFICATE", present.Raw) + "\n"
	}
	same := func(*x509.CertificateRequest) {}
	wanted := []plan.Request{{Node: "cp1", Files: []string{"/pki/apiserver.crt"}, Kind: certs.KindAPIServer, Request: "cp1/apiserver.csr", Certificate: "cp1/apiserver.crt",
		Subject: is.Subject, SANs: is.SANs, Usages: is.Usages, CA: certs.KubernetesCA, PublicKey: is.PublicKey, Fingerprint: is.Fingerprint, NotAfter: tc.Now}}
	good := request(same)
	fields := strings.Split(good, "|")
	text, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged := fields[0] + "|" + coded("CERTIFICATE REQUEST", block.Bytes) + "|" + fields[2]
	for name, row := range map[string]struct{ answer, failed, err, missing string }{
		"as asked":                    {answer: "noted: something\n" + good},
		"none":                        {answer: "refused: /pki/apiserver.crt stays as it is: no key\n", missing: "cp1: /pki/apiserver.crt is due and is not requested: no key"},
		"from a node that has failed": {failed: "no route", missing: "cp1: /pki/apiserver.crt is due and is not requested: no route"},
		"as asked, and it has failed": {answer: good, failed: "disk full"},
		"none, and no reason":         {answer: "refused: /pki/other.crt stays as it is: no key\n", missing: "cp1: /pki/apiserver.crt is due and is not requested: the node has found no certificate with a key there"},
		"another user":                {answer: request(func(r *x509.CertificateRequest) { r.RawSubject, r.Subject = nil, pkix.Name{CommonName: "admin"} }), err: "it is for CN=admin, and the certificate for CN=kube-apiserver"},
		"another name": {answer: request(func(r *x509.CertificateRequest) {
			r.ExtraExtensions, r.DNSNames = r.ExtraExtensions[:1], []string{"evil"}
		}), err: `it requests other extensions than the names and usages of the certificate; its names are evil`},
		"another usage":           {answer: request(func(r *x509.CertificateRequest) { r.ExtraExtensions = r.ExtraExtensions[1:] }), err: "it requests other extensions"},
		"no base64":               {answer: "request: " + is.Fingerprint + "|???\n", err: "it cannot be read"},
		"no PEM":                  {answer: "request: " + is.Fingerprint + "|QUJD\n", err: "it is not PEM"},
		"no certificate":          {answer: good[:strings.LastIndex(good, "|")], err: "its certificate: it is not PEM"},
		"for another certificate": {answer: good[:strings.LastIndex(good, "|")+1] + coded("CERTIFICATE", testpki.Authority(t, "a").X509.Raw), err: "it is for another certificate"},
		"another signature":       {answer: forged, err: "its signature: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "requests")
			all, err := writeRequests(dir, wanted, map[string]reply{"cp1": {text: row.answer, failed: row.failed}}, plan.Requests{Schema: plan.RequestsSchema, Made: time.Now(), Requests: []plan.Request{}})
			if err != nil || (len(all.Requests) == 1) != strings.HasPrefix(name, "as asked") || all.Requests == nil {
				t.Fatalf("%v, %v", all, err)
			}
			if row.missing != "" || row.err != "" {
				if len(all.Missing) != 1 || row.missing != "" && all.Missing[0].String() != row.missing || !strings.Contains(all.Missing[0].Reason, row.err) {
					t.Errorf("%v is missing, want %q", all.Missing, row.missing)
				}
				if _, err := os.Stat(dir); err == nil {
					t.Error("something was written")
				}
				return
			}
			var index plan.Requests
			data, err := os.ReadFile(filepath.Join(dir, plan.RequestsFile))
			if err == nil {
				err = json.Unmarshal(data, &index)
			}
			if err != nil || len(index.Requests) != 1 || index.Requests[0].Subject != "CN=kube-apiserver" {
				t.Errorf("%v: %s", err, data)
			}
			info, err := os.Stat(filepath.Join(dir, "cp1", "apiserver.csr"))
			if err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("%v: %v", info, err)
			}
			earlier := strings.ReplaceAll(string(data), "cp1/apiserver", "cp1/earlier")
			if err := cmp.Or(os.WriteFile(filepath.Join(dir, plan.RequestsFile), []byte(earlier), 0o600), os.Rename(filepath.Join(dir, "cp1", "apiserver.csr"), filepath.Join(dir, "cp1", "earlier.csr"))); err != nil {
				t.Fatal(err)
			}
			if _, err := writeRequests(dir, wanted, map[string]reply{"cp1": {text: row.answer}}, plan.Requests{}); err != nil {
				t.Error(err)
			}
			if files, _ := filepath.Glob(dir + "/cp1/*"); len(files) != 1 || filepath.Base(files[0]) != "apiserver.csr" {
				t.Errorf("an earlier request is left: %q", files)
			}
			if err := writableDir(dir, false); Code(err) != ExitUsage {
				t.Errorf("another command writes there: %v", err)
			}
			if err := writableDir(dir, true); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is not requested is an error, also if nothing else is wrong.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	s := &session{Orchestrator: &Orchestrator{}}
	if err := s.incomplete(nil, nil); err != nil {
		t.Error(err)
	}
	missing := []plan.Missing{{Node: "cp1", File: "/a", Reason: "no key"}, {Node: "cp1", File: "/b", Reason: "no key"}}
	if err := s.incomplete(missing, nil); Code(err) != ExitNotBegun || err.Error() != "not all that is due is requested on cp1" {
		t.Error(err)
	}
	if err := s.incomplete(missing, []string{"cp1"}); Code(err) != ExitUnreachable {
		t.Error(err)
	}
	if err := s.incomplete(append(missing, plan.Missing{Node: "w1"}), nil); Code(err) != ExitUnreachable ||
		err.Error() != "not all that is due is requested on cp1; nothing is requested for nodes that could not be inspected: w1" {
		t.Error(err)
	}
}

// A node that fails, or has nothing to request, does not hinder the others; what is missing is in the
// document. If nothing is known of any node, there is no document.
func TestRequestCertificates(t *testing.T) {
	t.Parallel()
	events := func(all ...ansible.Event) string {
		var out strings.Builder
		for _, e := range all {
			if err := json.NewEncoder(&out).Encode(e); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	for name, row := range map[string]struct {
		events  string
		ansible int
		code    ExitCode
		reason  string
	}{
		"the node prints nothing": {code: ExitNotBegun, reason: "the node has found no certificate with a key there"},
		"the node refuses":        {code: ExitNotBegun, events: fakeansible.Says(t, "refused: /etc/kubernetes/admin.conf stays as it is: its key is of no known kind\n"), reason: "its key is of no known kind"},
		"the script fails": {code: ExitNotBegun, ansible: 2, events: events(ansible.Event{V: 1, Event: "result", Status: "failed", Host: "cp1", Evidence: &ansible.Evidence{Stderr: "disk full\nreally"}},
			ansible.Event{V: 1, Event: "stats", Hosts: map[string]ansible.Stats{"cp1": {Failures: 1}}}), reason: "the node has failed: disk full; really"},
		"the node is unreachable": {code: ExitUnreachable, ansible: 4, events: events(ansible.Event{V: 1, Event: "result", Status: "unreachable", Host: "cp1"},
			ansible.Event{V: 1, Event: "stats", Hosts: map[string]ansible.Stats{"cp1": {Unreachable: 1}}}), reason: "Ansible could not reach the node"},
		"another is asked": {code: ExitNotBegun, events: events(ansible.Event{V: 1, Event: "stats", Hosts: map[string]ansible.Stats{"cp2": {OK: 1}}}), reason: "Ansible has not asked the node"},
		"Ansible fails":    {code: ExitNotBegun, ansible: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin, _ := fakeansible.New(t, 24*time.Hour, row.ansible)
			if row.events != "" {
				if err := os.WriteFile(filepath.Join(bin, "ca-csr.yml"), []byte(row.events), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var notices []string
			all, err := fakeOrchestrator(t, bin, func(o *Options) {
				o.Observe = func(e Event) {
					if e.Kind == EventNotice {
						notices = append(notices, e.Message)
					}
				}
			}).RequestCertificates(t.Context(), filepath.Join(t.TempDir(), "requests"), false)
			if Code(err) != row.code {
				t.Errorf("code %d: %v", Code(err), err)
			}
			if row.reason == "" {
				if all.Schema != 0 {
					t.Errorf("%+v", all)
				}
				return
			}
			line := "cp1: /etc/kubernetes/admin.conf is due and is not requested: " + row.reason
			if all.Requests == nil || len(all.Missing) != 1 || all.Missing[0].String() != line || !slices.Contains(notices, line) {
				t.Errorf("%+v; %q, want %q", all, notices, line)
			}
		})
	}
}

// If not all can be written, the error names the way out.
func TestWriteRequestsHalfway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/w1", nil, 0o600); err != nil { // where a directory must be
		t.Fatal(err)
	}
	err := writeAll(dir, map[string][]byte{"cp1/a.csr": {}, "w1/a.csr": {}, plan.RequestsFile: {}})
	if err == nil {
		t.Error("it is written")
	}
	if _, err := os.Stat(dir + "/" + plan.RequestsFile); err == nil {
		t.Error("the index is there without what it names")
	}
	if e := unwritten(err); e.Code != ExitUsage || !strings.Contains(e.Next, "--overwrite") {
		t.Errorf("%+v", e)
	}
}

// Of an earlier command, requests that are not made again are removed, and certificates are not: they stop
// the command. Nothing else is, whatever the index names.
func TestOutdated(t *testing.T) {
	t.Parallel()
	now := []plan.Request{{Request: "cp1/a.csr", Certificate: "cp1/a.crt"}}
	for name, row := range map[string]struct {
		index string
		files []string
		left  []string
		err   string
	}{
		"nothing":               {},
		"the same":              {index: `{"requests": [{"request": "cp1/a.csr", "certificate": "cp1/a.crt"}]}`, files: []string{"cp1/a.csr", "cp1/a.crt"}, left: []string{"cp1/a.crt", "cp1/a.csr"}},
		"another":               {index: `{"requests": [{"request": "cp1/b.csr", "certificate": "cp1/b.crt"}, {"request": "cp1/c.csr"}]}`, files: []string{"cp1/a.csr", "cp1/b.csr", "cp1/d.csr"}, left: []string{"cp1/a.csr", "cp1/d.csr"}},
		"another is signed":     {index: `{"requests": [{"request": "cp1/b.csr", "certificate": "cp1/b.crt"}]}`, files: []string{"cp1/b.csr", "cp1/b.crt"}, left: []string{"cp1/b.crt", "cp1/b.csr"}, err: "these are no longer requested: cp1/b.crt"},
		"outside":               {index: `{"requests": [{"request": "../b.csr", "certificate": "../b.crt"}]}`, err: "path escapes"},
		"no request":            {index: `{"requests": [{"request": "cp1/b.crt"}]}`, files: []string{"cp1/b.crt"}, left: []string{"cp1/b.crt"}},
		"no index of a command": {index: "garbage", files: []string{"cp1/b.csr"}, left: []string{"cp1/b.csr"}, err: "requests.json cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			above := t.TempDir()
			dir := above + "/requests"
			err := cmp.Or(os.MkdirAll(dir+"/cp1", 0o700), os.WriteFile(above+"/b.csr", nil, 0o600))
			for _, file := range row.files {
				err = cmp.Or(err, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
			}
			if row.index != "" {
				err = cmp.Or(err, os.WriteFile(filepath.Join(dir, plan.RequestsFile), []byte(row.index), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			old, err := outdated(dir, now)
			if err == nil {
				err = removeAll(dir, old)
			}
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%v, want %q", err, row.err)
			}
			left, _ := filepath.Glob(dir + "/*/*")
			for i := range left {
				left[i] = strings.TrimPrefix(left[i], dir+"/")
			}
			if !slices.Equal(left, row.left) {
				t.Errorf("there is %q, want %q", left, row.left)
			}
			if _, err := os.Stat(above + "/b.csr"); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is in the directory may be anything: an error names the file.
func TestReadSigned(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	leaf := ca.Issue(t, testpki.Leaf{CommonName: "leaf"})
	for name, row := range map[string]struct {
		prepare func(t *testing.T, dir string) error
		want    []string
		ignored []string
		err     string
	}{
		"one": {prepare: func(_ *testing.T, dir string) error {
			return os.WriteFile(dir+"/cp1/a.crt", append(slices.Clone(leaf.Certificate), ca.Certificate...), 0o600)
		}, want: []string{"cp1/a.crt"}},
		"none": {prepare: func(*testing.T, string) error { return nil }, err: "has no certificate"},
		"with other files": {prepare: func(_ *testing.T, dir string) error {
			return cmp.Or(os.WriteFile(dir+"/cp1/a.crt", leaf.Certificate, 0o600), os.WriteFile(dir+"/cp1/a.csr", nil, 0o600), os.WriteFile(dir+"/cp1/a.srl", nil, 0o600),
				os.WriteFile(dir+"/README", nil, 0o600), os.WriteFile(dir+"/requests.json", nil, 0o600))
		}, want: []string{"cp1/a.crt"}, ignored: []string{"README", "cp1/a.srl"}},
		"a link":             {prepare: func(_ *testing.T, dir string) error { return os.Symlink("/etc/passwd", dir+"/cp1/a.crt") }, err: "cp1/a.crt: it is not a regular file"},
		"a linked directory": {prepare: func(_ *testing.T, dir string) error { return os.Symlink(dir+"/cp1", dir+"/cp2") }, ignored: []string{"cp2"}, err: "has no certificate"},
		"a directory":        {prepare: func(_ *testing.T, dir string) error { return os.Mkdir(dir+"/cp1/a.crt", 0o700) }, err: "cp1/a.crt: it is not a regular file"},
		"one that is large": {prepare: func(_ *testing.T, dir string) error {
			return os.WriteFile(dir+"/cp1/a.crt", append(slices.Clone(leaf.Certificate), make([]byte, 64<<10)...), 0o600)
		}, err: "more than any certificate"},
		"garbage": {prepare: func(_ *testing.T, dir string) error { return os.WriteFile(dir+"/cp1/a.crt", []byte("\x1b[2J"), 0o600) }, err: "cp1/a.crt: no PEM certificate block"},
		"with its key": {prepare: func(_ *testing.T, dir string) error {
			return os.WriteFile(dir+"/cp1/a.crt", append(slices.Clone(leaf.Key), leaf.Certificate...), 0o600)
		}, err: `a PEM block "PRIVATE KEY"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := cmp.Or(os.Mkdir(dir+"/cp1", 0o700), row.prepare(t, dir)); err != nil {
				t.Fatal(err)
			}
			all, ignored, err := ReadSigned(dir)
			var got []string
			for _, given := range all {
				got = append(got, given.File)
				if given.Node != "cp1" || given.Certificate != string(leaf.Certificate) {
					t.Errorf("%+v", given)
				}
			}
			if err == nil && !slices.Equal(got, row.want) || !slices.Equal(ignored, row.ignored) || (err == nil) != (row.err == "") ||
				err != nil && (!strings.Contains(err.Error(), row.err) || Code(err) != ExitUsage) {
				t.Errorf("%q, ignored %q, %v", got, ignored, err)
			}
		})
	}
}
