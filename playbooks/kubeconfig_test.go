package playbooks_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// kubernetes puts the real kubeadm and kubectl on a node, as the lab has built them.
func (n *node) kubernetes() {
	n.t.Helper()
	cache, err := os.UserCacheDir()
	n.ok(err)
	built, err := filepath.Glob(cache + "/kscertctl-lab/kubernetes/*/hyperkube")
	n.ok(err)
	switch {
	case len(built) > 0:
	case os.Getenv("CI") != "": // there it looks as if it had passed
		n.t.Fatal("the lab has built no kubeadm: ./hack/task lab:build")
	default:
		n.t.Skip("the lab has built no kubeadm: ./hack/task lab:build")
	}
	for _, name := range []string{"kubeadm", "kubectl"} {
		n.ok(os.Symlink(built[0], n.bin+"/"+name))
	}
}

// issuer is a control plane with nothing but its CAs and a verified backup.
func issuer(t *testing.T, ca testpki.Pair) *node {
	t.Helper()
	n := newNode(t)
	n.kubernetes()
	n.verified()
	front := testpki.Authority(t, "front-proxy-ca")
	n.write(n.conf+"/kubeadm-config.yaml", []byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.4\n"+
		"controlPlaneEndpoint: 10.0.0.1:6443\nencryptionAlgorithm: ECDSA-P256\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	for name, p := range map[string]testpki.Pair{"ca": ca, "front-proxy-ca": front} {
		n.write(n.conf+"/ssl/"+name+".crt", p.Certificate, 0o644)
		n.write(n.conf+"/ssl/"+name+".key", p.Key, 0o600)
	}
	return n
}

// user is an entry of a kubeconfig.
type user struct {
	name string
	testpki.Pair
}

// shape is a way to write a kubeconfig: value writes base64, text the whole file.
type shape struct {
	name  string
	value func(base64 string) string
	text  func(ca string, users []user, value func([]byte) string) string
}

func wrapped(s, newline string) string {
	return regexp.MustCompile(`.{1,64}`).ReplaceAllStringFunc(s, func(line string) string { return newline + line })
}

// shapes are those that kubectl and kubeadm read.
func shapes() []shape {
	same := func(s string) string { return s }
	quoted := func(quote string) func(string) string { return func(s string) string { return quote + s + quote } }
	block := func(ca string, users []user, value func([]byte) string) string {
		var out strings.Builder
		fmt.Fprintf(&out, "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://[fd00::1]:6443\n  name: kubernetes\n"+
			"contexts: # a remark\n- context:\n    cluster: kubernetes\n    user: %s\n  name: ours\ncurrent-context: ours\nkind: Config\npreferences: {}\nusers:\n", ca, users[0].name)
		for _, u := range users {
			fmt.Fprintf(&out, "- name: %s\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n    x-unknown: 1\n", u.name, value(u.Certificate), value(u.Key))
		}
		return out.String() + "- name: other\n  user:\n    username: someone\n    password: c4n4ry-passw0rd\n- name: third\n  user: {token: \"c4n4ry-t0ken with 'quotes' and {braces}\"}\n"
	}
	edited := func(edit func(string) string) func(string, []user, func([]byte) string) string {
		return func(ca string, users []user, value func([]byte) string) string { return edit(block(ca, users, value)) }
	}
	json := func(newline string) func(string, []user, func([]byte) string) string {
		return func(ca string, users []user, value func([]byte) string) string {
			var list []string
			for _, u := range users {
				list = append(list, fmt.Sprintf(`{"name":"%s","user":{"client-certificate-data":"%s",§"client-key-data":"%s"}}`, u.name, value(u.Certificate), value(u.Key)))
			}
			return strings.ReplaceAll(`{"apiVersion":"v1","kind":"Config",§"clusters":[{"name":"k","cluster":{"server":"https://[fd00::1]:6443","certificate-authority-data":"`+ca+`"}}],§`+
				`"contexts":[{"name":"ours","context":{"cluster":"k","user":"`+users[0].name+`"}}],"current-context":"ours",`+
				`"users":[`+strings.Join(list, ",§")+`,{"name":"o","user":{"password":"c4n4ry-pass\"w0rd"}},{"name":"third","user":{"token":"c4n4ry-t0ken"}}]}`, "§", newline)
		}
	}
	return []shape{
		{"as kubeadm writes it", same, block},
		{"single quotes", quoted("'"), block},
		{"double quotes", quoted(`"`), block},
		{"literal", func(s string) string { return "|\n      " + s }, block},
		{"literal, on several lines", func(s string) string { return "|-" + wrapped(s, "\n      ") }, block},
		{"folded", func(s string) string { return ">-\n      " + s }, block},
		{"double quotes, on several lines", func(s string) string { return `"` + wrapped(s, "\\\n      ") + `"` }, block},
		{"on the next line", func(s string) string { return "\n      " + s }, block},
		{"a tag", func(s string) string { return "!!str " + s }, block},
		{"literal, behind a remark", func(s string) string { return "|- # our own, it's \"new\n      " + s }, block},
		{"on the next line, behind a remark", func(s string) string { return "# old\n      " + s }, block},
		{"no blank behind a key in quotes", same, func(ca string, users []user, value func([]byte) string) string {
			out := strings.Split(block(ca, users, value), "users:\n")[0] + "users: ["
			for _, u := range users {
				out += "{name: " + u.name + ", user: {\"client-certificate-data\":" + value(u.Certificate) + ", 'client-key-data':" + value(u.Key) + "}}, "
			}
			return out + "{name: third, user: {token: c4n4ry-t0ken}}]\n"
		}},
		{"names like quotes", same, edited(func(s string) string {
			return s + "- name: Bob 's \"laptop\n  user: {token: c4n4ry}\n- name: \"it's\"\n  user: {token: 'c4n4ry'}\n"
		})},
		{"CRLF", same, edited(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") })},
		{"BOM", same, edited(func(s string) string { return "\ufeff" + s })},
		{"no line break at the end", same, edited(func(s string) string { return strings.TrimSuffix(s, "\n") })},
		{"remarks", same, edited(func(s string) string {
			return "# client-certificate-data: LS0t\n---\n" + strings.ReplaceAll(s, "users:\n", "users: # of all\n\n")
		})},
		{"JSON on one line", same, json("")},
		{"JSON on several lines", same, json("\n\t")},
		{"JSON with a BOM", same, func(ca string, users []user, value func([]byte) string) string {
			return "\ufeff" + json("")(ca, users, value)
		}},
		{"flow style", same, func(ca string, users []user, value func([]byte) string) string {
			out := "{apiVersion: v1, kind: Config, clusters: [{name: k, cluster: {server: 'https://[fd00::1]:6443', certificate-authority-data: " + ca + "}}],\n" +
				"contexts: [{name: ours, context: {cluster: k, user: " + users[0].name + "}}], current-context: ours, users: ["
			for _, u := range users {
				out += "{name: " + u.name + ", user: {client-certificate-data: " + value(u.Certificate) + ", client-key-data: " + value(u.Key) + "}}, "
			}
			return out + "{name: third, user: {token: c4n4ry-t0ken}}]}\n"
		}},
		{"anchors", func(s string) string { return "&a" + s[40:45] + " " + s }, func(ca string, users []user, value func([]byte) string) string {
			return strings.Replace(block(ca, users, value), "users:\n", "x-ca: &ca "+ca+"\nusers:\n", 1) + "- name: again\n  user: *u\n"
		}},
	}
}

// entry is a user's entry in a kubeconfig.
type entry struct {
	Certificate string `yaml:"client-certificate-data"`
	Key         string `yaml:"client-key-data"`
}

// entries are the users of a kubeconfig.
func entries(t *testing.T, text []byte) map[string]entry {
	t.Helper()
	var doc struct {
		Users []struct {
			Name string `yaml:"name"`
			User entry  `yaml:"user"`
		} `yaml:"users"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out := map[string]entry{}
	for _, u := range doc.Users {
		out[u.Name] = u.User
	}
	return out
}

func decoded(t *testing.T, value string) []byte {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// renewal is the script of the role that renews a control plane's certificates.
func renewal(t *testing.T) string {
	t.Helper()
	return role(t, "control_plane_certificates/files/renew.sh")
}

// In a kubeconfig, certificates of this cluster's CA that are due are issued again, each entry with
// its own subject, in any place and style. Every other byte stays, also certificates and keys of
// others.
func TestKubeconfigRenewal(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	was, due := time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	all := []user{
		{"admin", ca.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "kubeadm:cluster-admins", NotBefore: was, NotAfter: due})},
		{"foreign", other.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "system:masters", NotBefore: was, NotAfter: due})},
		{"developer", ca.Issue(t, testpki.Leaf{CommonName: "jane doe", NotBefore: was, NotAfter: due})},
		{"fresh", ca.Issue(t, testpki.Leaf{CommonName: "fresh"})},
	}
	for i, s := range shapes() {
		users := all
		if i > 0 { // the rest is the same, and slow
			users = all[:2]
		}
		for _, turn := range []int{0, 1} { // ours first, and another cluster's
			list := slices.Concat(users[turn:], users[:turn])
			t.Run(fmt.Sprintf("%s, %s first", s.name, list[0].name), func(t *testing.T) {
				t.Parallel()
				n := issuer(t, ca)
				home := n.root() + "/root/.kube/config"
				old := s.render(ca, list)
				n.write(home, []byte(old), 0o640)
				out, errs, err := n.run(renewal(t))
				if err != nil || out != "changed: "+home+"\n" {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				text, want := n.read(home), old
				got := entries(t, text)
				for _, u := range list {
					crt, key := decoded(t, got[u.name].Certificate), decoded(t, got[u.name].Key)
					if same := bytes.Equal(crt, u.Certificate) && bytes.Equal(key, u.Key); same != (u.name == "foreign" || u.name == "fresh") {
						t.Errorf("the entry of %s is as it was: %t", u.name, same)
					} else if same {
						continue
					}
					x := parsed(t, crt)
					if _, err := tls.X509KeyPair(crt, key); err != nil || x.Subject.String() != u.X509.Subject.String() || x.CheckSignatureFrom(ca.X509) != nil || time.Until(x.NotAfter) < 300*24*time.Hour {
						t.Errorf("the entry of %s is for %s until %s: %v", u.name, x.Subject, x.NotAfter, err)
					}
					for _, v := range [][2][]byte{{u.Certificate, crt}, {u.Key, key}} {
						before, after := base64.StdEncoding.EncodeToString(v[0]), base64.StdEncoding.EncodeToString(v[1])
						// The text around the base64 stays; base64 on several lines becomes one
						// line.
						shown := s.value(before)
						if start := strings.Index(shown, before[:40]); start >= 0 {
							end := strings.LastIndex(shown, before[len(before)-1:]) + 1
							want = strings.Replace(want, strings.ReplaceAll(shown[start:end], "\n", map[bool]string{true: "\r\n", false: "\n"}[s.name == "CRLF"]), after, 1)
						}
					}
				}
				if string(text) != want {
					t.Errorf("it is\n%s\nwant\n%s", text, want)
				}
				if left, _ := filepath.Glob(n.conf + "/.kscertctl*"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// render writes a kubeconfig of a shape.
func (s shape) render(ca testpki.Pair, users []user) string {
	b64 := base64.StdEncoding.EncodeToString
	text := s.text(b64(ca.Certificate), users, func(pem []byte) string { return s.value(b64(pem)) })
	if s.name == "anchors" {
		text = strings.Replace(text, "\n  user:\n", "\n  user: &u\n", 1)
	}
	return text
}

// canaries are parts of the private half of a key on P-256 in PKCS #8, whose public half is in
// certificates too: in PEM, and in base64 of that, as both are broken into lines.
func canaries(key []byte) []string {
	text := base64.StdEncoding.EncodeToString(key)
	return []string{string(key[76:92]), string(key[93:115]), text[112:128], text[128:144]}
}

// In every style of kubeconfig the certificates are seen, no more of other clusters' users, and no
// secret leaves the node.
func TestCollectorReadsKubeconfigs(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	users := []user{
		{"admin", ca.Issue(t, testpki.Leaf{CommonName: "admin"})}, {"foreign", other.Issue(t, testpki.Leaf{CommonName: "foreign"})},
		{"developer", ca.Issue(t, testpki.Leaf{CommonName: "developer"})},
	}
	n := newNode(t)
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	want := map[string][]string{}
	for i, s := range shapes() {
		for turn := range users[:2] {
			list, path := slices.Concat(users[turn:], users[:turn]), fmt.Sprintf("%s/%d-%d.conf", n.conf, i, turn)
			n.write(path, []byte(s.render(ca, list)), 0o600)
			want[path] = []string{"CN=admin", "CN=developer"}
			if turn == 1 { // the current user is reported, no matter who that is
				want[path] = []string{"CN=foreign", "CN=developer", "CN=admin"}
			}
		}
	}
	// Root's own may be for another cluster altogether; and a value may hold more than it should.
	home := n.root() + "/root/.kube/config"
	n.write(home, []byte(shapes()[0].render(ca, users[1:])), 0o600)
	want[home] = []string{"CN=developer"}
	both := users[0]
	both.Certificate = slices.Concat([]byte("c4n4ry\n"), both.Key, both.Certificate, []byte("c4n4ry\n"), both.Key)
	n.write(n.conf+"/both.conf", []byte(shapes()[0].render(ca, []user{both})), 0o600)
	want[n.conf+"/both.conf"] = []string{"CN=admin"}
	jwt := base64.StdEncoding.EncodeToString([]byte(`{"c4n4ry": "` + strings.Repeat("x", 200) + `"}`))
	n.write(n.conf+"/secrets.conf", []byte(`# c4n4ry-remark, `+base64.StdEncoding.EncodeToString(users[0].Key)+`
clusters: [{name: c4n4ry-cluster, cluster: {server: "https://root:c4n4ry@[fd00::1]:6443", proxy-url: "http://c4n4ry:c4n4ry@proxy"}}]
users:
- {name: c4n4ry-user, user: {token: `+jwt+`, username: "c4n4ry", password: 'c4n4ry ''quoted'' c4n4ry'}}
- name: b
  user:
    client-certificate: "/etc/x c4n4ry with blanks"
    "token": "c4n4ry\"c4n4ry\\"
    "pass\u0077ord": "\u0063c4n4ry\tc4n4ry"
    tokenFile: c4n4ry/token
    exec: {command: c4n4ry, args: [--secret=c4n4ry, "c4n4ry c4n4ry"], env: [{name: SECRET, value: c4n4ry}]}
    ? c4n4ry-key
    : !!str &c4n4ry c4n4ry
- name: c
  user:
    password: |+
      c4n4ry
      @@FACT c4n4ry yes
      c4n4ry: c4n4ry, {c4n4ry} [c4n4ry]
    client-key-data: >-
      `+base64.StdEncoding.EncodeToString(users[0].Key)+`
  raw: |
    `+strings.ReplaceAll(string(users[0].Key), "\n", "\n    ")+`
`), 0o600)

	out, errs, err := n.sh(collector(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	secrets := []string{"PRIVATE", "c4n4ry"}
	for _, u := range users {
		secrets = append(secrets, canaries(u.Key)...)
	}
	for _, secret := range secrets {
		if strings.Contains(out+errs, secret) {
			t.Errorf("%q of a secret is printed", secret)
		}
	}
	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := map[string][]string{}
	for _, c := range got.Certificates {
		if c.Kind != certs.KindCA {
			found[c.Path] = append(found[c.Path], c.Subject)
			if c.Kind != certs.KindUnknown && c.Key != certs.KeyMatches {
				t.Errorf("the key of %s in %s is %q", c.Subject, c.Path, c.Key)
			}
		}
	}
	for path, subjects := range want {
		if !slices.Equal(found[path], subjects) {
			t.Errorf("%s: %v, want %v\n%s", path, found[path], subjects, n.read(path))
		}
		delete(found, path)
	}
	// One field of secrets.conf is written with an escape for a letter, but it is no file of the cluster.
	if len(found) > 0 || len(got.Unreadable) > 0 {
		t.Errorf("found next to it: %v, unreadable: %v", found, got.Unreadable)
	}
	for _, k := range got.Kubeconfigs {
		if k.Path != n.conf+"/secrets.conf" && (k.Server != "https://[fd00::1]:6443" && k.Path != home || k.CAFingerprint == "") {
			t.Errorf("%+v", k)
		}
	}
}

// A kubeconfig of the cluster that cannot be understood is reported with the reason; an unrelated
// one is not.
func TestCollectorTellsOfKubeconfigs(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	p, foreign := ca.Issue(t, testpki.Leaf{CommonName: "p"}), other.Issue(t, testpki.Leaf{CommonName: "foreign"})
	fields := func(fields string) string {
		return "current-context: c\ncontexts: [{name: c, context: {user: a}}]\nusers:\n- name: a\n  user: {" + fields + "}\n"
	}
	b64 := base64.StdEncoding.EncodeToString
	const without = "its user logs in without a certificate, so its expiry is not known"
	plain, inJSON := shapes()[0].render(ca, []user{{"a", p}}), shapes()[slices.IndexFunc(shapes(), func(s shape) bool { return s.name == "JSON on one line" })].render(ca, []user{{"a", p}})
	inBinary := strings.NewReplacer(b64(p.Certificate), "!!binary "+b64([]byte(b64(p.Certificate))), b64(p.Key), "!!binary "+b64([]byte(b64(p.Key)))).Replace(plain)
	const inUTF16 = "it is in UTF-16, which is not read here; iconv -f UTF-16 -t UTF-8 FILE writes it as usual"
	const numbers = `characters of its base64, or of a field, are written by their numbers (\x.., \u....), which is not read here; kubectl config view --raw --kubeconfig FILE writes it as usual`
	const slash = `a slash is written as \/, which kubectl and the components cannot read`
	ours := "client-certificate-data: " + b64(p.Certificate) + ", client-key-data: " + b64(p.Key)
	const long = "it has a line of more than 300,000 characters, or more than 100,000 lines: it is not read to its end"
	for _, row := range []struct {
		name, file, text string
		// reason is why it is unreadable, paths are where its certificates are.
		reason string
		paths  []string
	}{
		{name: "empty", file: "scheduler.conf", reason: "it is empty"},
		{name: "empty, root's own", file: "config", reason: "it is empty"},
		{name: "no YAML", file: "scheduler.conf", text: fields("'"), reason: "it is not a kubeconfig: neither YAML nor JSON that can be parsed"},
		{name: "a list", file: "scheduler.conf", text: "- a\n", reason: "it is not a kubeconfig: neither YAML nor JSON that can be parsed"},
		{name: "something else", file: "cloud.conf", text: "[Global]\nkey = 'value\n"},
		{name: "no user", file: "scheduler.conf", text: "kind: Config\n", reason: "it names no user"},
		{name: "exec", file: "scheduler.conf", text: fields("exec: {command: x}"), reason: without},
		{name: "tokenFile", file: "scheduler.conf", text: fields("tokenFile: /x"), reason: without},
		{name: "exec, root's own", file: "config", text: fields("exec: {command: x}")},
		{name: "a token of a kubelet that joins", file: "bootstrap-kubelet.conf", text: fields("token: x")},
		{name: "cut off base64", file: "scheduler.conf", text: fields("client-certificate-data: " + b64(p.Certificate)[:301]), reason: "client-certificate-data: decoding base64: illegal base64 data at input byte 0"},
		{name: "another cluster's next to a token", file: "scheduler.conf", reason: without, text: fields("token: x") + "- name: b\n  user: {client-certificate-data: " + b64(foreign.Certificate) + ", client-key-data: " + b64(foreign.Key) + "}\n"},
		{name: "ours next to a token", file: "scheduler.conf", paths: []string{"scheduler.conf"}, text: fields("token: x") + "- name: b\n  user: {client-certificate-data: " + b64(p.Certificate) + ", client-key-data: " + b64(p.Key) + "}\n"},
		{name: "a long line", file: "scheduler.conf", reason: long, text: "x: " + strings.Repeat("x", 300000) + "\n" + fields("")},
		{name: "a long line, another file", file: "cloud.conf", text: "x: " + strings.Repeat("x", 300000) + "\n"},
		{name: "a long line, root's own", file: "config", reason: long, text: "x: " + strings.Repeat("x", 300000) + "\n" + fields("")},
		{name: "a key twice, the last counts", file: "scheduler.conf", paths: []string{"scheduler.conf"},
			text: "users: []\n" + fields("client-certificate-data: "+b64(foreign.Certificate)+", client-certificate-data: "+b64(p.Certificate)+", client-key-data: "+b64(p.Key))},
		{name: "in it and in a file, which does not count", file: "scheduler.conf", paths: []string{"scheduler.conf"},
			text: fields("client-certificate-data: " + b64(p.Certificate) + ", client-certificate: gone.crt, client-key-data: " + b64(p.Key) + ", client-key: gone.key")},
		{name: "lines that are joined with blanks", file: "scheduler.conf", reason: "client-certificate-data: decoding base64: illegal base64 data at input byte 64",
			text: fields("") + "users:\n- name: a\n  user:\n    client-certificate-data: >-" + wrapped(b64(p.Certificate), "\n      ") + "\n"},
		{name: "a file next to it", file: "scheduler.conf", text: fields("client-certificate: certs/p.crt, client-key: certs/p.key"), paths: []string{"certs/p.crt"}},
		{name: "an absolute file", file: "scheduler.conf", text: fields(`"client-certificate": "CONF/certs/p.crt", "client-key": "CONF/certs/p.key"`), paths: []string{"certs/p.crt"}},
		{name: "a file with a comma and a colon", file: "scheduler.conf", text: fields(`client-certificate: "certs/a,b:c.pem", client-key: 'CONF/certs/a,b:c.key'`), paths: []string{"certs/a,b:c.pem"}},
		{name: "a file with a comma and a colon, plain", file: "scheduler.conf", paths: []string{"certs/a,b:c.pem"},
			text: fields("") + "users:\n- name: a\n  user:\n    client-certificate: CONF/certs/a,b:c.pem\n    client-key: certs/a,b:c.key\n"},
		{name: "a file with a comma and a colon, root's own", file: "config", paths: []string{"certs/a,b:c.pem"},
			text: fields("") + "users:\n- name: a\n  user:\n    client-certificate: CONF/certs/a,b:c.pem\n    client-key: CONF/certs/a,b:c.key\n"},
		{name: "a file with brackets and blanks", file: "scheduler.conf", paths: []string{"certs/it's [1] {a}"},
			text: fields("") + "users:\n- name: a\n  user:\n    client-certificate: \"CONF/certs/it's [1] {a}\"\n    client-key: certs/a,b:c.key\n"},
		{name: "UTF-16", file: "scheduler.conf", text: utf16Of(plain, binary.LittleEndian), reason: inUTF16},
		{name: "UTF-16, root's own", file: "config", text: utf16Of(plain, binary.BigEndian), reason: inUTF16},
		{name: "binary", file: "scheduler.conf", text: inBinary, reason: "it is not a kubeconfig: neither YAML nor JSON that can be parsed"},
		{name: "binary, root's own", file: "config", text: inBinary, reason: "it is not a kubeconfig: neither YAML nor JSON that can be parsed"},
		{name: "a key's name by numbers", file: "config", paths: []string{"config"}, reason: numbers, text: strings.Replace(plain, "client-key-data:", `"client-k\x65y-data":`, 1)},
		{name: "a certificate's name by numbers", file: "config", reason: numbers, text: strings.Replace(plain, "client-certificate-data:", `? "client-certificate-d\u0061ta"`+"\n    :", 1)},
		{name: "names by numbers in JSON", file: "config", reason: numbers, text: strings.Replace(inJSON, "client-certificate-data", `client-certificate-d\u0061ta`, 1)},
		{name: "slashes of JSON", file: "scheduler.conf", paths: []string{"scheduler.conf"}, reason: slash, text: strings.ReplaceAll(inJSON, "/", `\/`)},
		{name: "slashes of JSON, another file", file: "cloud.conf", text: `{"url": "https:\/\/x"}`},
		{name: "no slashes of JSON", file: "scheduler.conf", paths: []string{"scheduler.conf"}, text: strings.Replace(plain, "kind: Config", `kind: Config # a \/ "b"`, 1)},
		{name: "no current context", file: "scheduler.conf", paths: []string{"scheduler.conf"}, text: "users:\n- name: a\n  user: {" + ours + "}\n",
			reason: "it names no current context, so none of its users is used"},
		{name: "no current context, root's own", file: "config", paths: []string{"config"}, text: "users:\n- name: a\n  user: {" + ours + "}\n"},
		{name: "a current context that does not exist", file: "scheduler.conf", paths: []string{"scheduler.conf"}, text: fields(ours) + "current-context: d\n",
			reason: "its current context does not exist, so none of its users is used"},
		{name: "a user that does not exist", file: "scheduler.conf", paths: []string{"scheduler.conf"}, text: strings.Replace(fields(ours), "name: a\n", "name: b\n", 1),
			reason: "the user of its current context does not exist"},
		{name: "a file that is not there", file: "scheduler.conf", text: fields("client-certificate: gone.crt"), reason: "it refers to CONF/gone.crt, in which no certificate was found"},
		{name: "another cluster's file, root's own", file: "config", text: fields("client-certificate: CONF/certs/foreign.crt, client-key: CONF/certs/foreign.key")},
		{name: "another cluster's, root's own", file: "config", text: fields("client-certificate-data: " + b64(foreign.Certificate) + ", client-key-data: " + b64(foreign.Key))},
		{name: "another cluster's", file: "scheduler.conf", text: fields("client-certificate-data: " + b64(foreign.Certificate) + ", client-key-data: " + b64(foreign.Key)), paths: []string{"scheduler.conf"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
			for name, p := range map[string]testpki.Pair{"p": p, "foreign": foreign} {
				n.write(n.conf+"/certs/"+name+".crt", p.Certificate, 0o644)
				n.write(n.conf+"/certs/"+name+".key", p.Key, 0o600)
			}
			n.write(n.conf+"/certs/a,b:c.pem", p.Certificate, 0o644)
			n.write(n.conf+"/certs/a,b:c.key", p.Key, 0o600)
			n.write(n.conf+"/certs/it's [1] {a}", p.Certificate, 0o644)
			path := n.conf + "/" + row.file
			if row.file == "config" {
				path = n.root() + "/root/.kube/config"
			}
			n.write(path, []byte(strings.ReplaceAll(row.text, "CONF", n.conf)), 0o600)
			got := n.look()
			var want []snapshot.Unreadable
			if row.reason != "" {
				want = append(want, snapshot.Unreadable{Path: path, Reason: strings.ReplaceAll(row.reason, "CONF", n.conf)})
			}
			if !slices.Equal(got.Unreadable, want) {
				t.Errorf("unreadable: %v, want %v", got.Unreadable, want)
			}
			var paths []string
			for _, c := range got.Certificates {
				if c.Kind != certs.KindCA {
					paths = append(paths, strings.NewReplacer(n.conf+"/", "", n.root()+"/root/.kube/", "").Replace(c.Path))
					if c.Key != certs.KeyMatches {
						t.Errorf("the key of %s is %q", c.Path, c.Key)
					}
				}
			}
			if !slices.Equal(paths, row.paths) {
				t.Errorf("certificates in %v, want %v", paths, row.paths)
			}
		})
	}
}

// A file that cannot be edited safely is refused by name and stays as it is. The rest of the node
// is renewed.
func TestKubeconfigRefused(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	was, due := time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	admin := ca.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "system:masters", NotBefore: was, NotAfter: due})
	named := ca.Issue(t, testpki.Leaf{CommonName: "jane", DNSNames: []string{"jane"}, NotBefore: was, NotAfter: due})
	b64 := base64.StdEncoding.EncodeToString
	plain := string(kubeconfig(ca, admin, ""))
	quoted := strings.Replace(plain, b64(admin.Key), "'"+b64(admin.Key)+"'", 1)
	for _, row := range []struct {
		name, text, kubectl, refusal string
	}{
		{name: "the key in a file of its own", text: strings.Replace(plain, "client-key-data: "+b64(admin.Key), "client-key: admin.key", 1), refusal: "the key of its certificate stands elsewhere"},
		{name: "two certificates of one key", text: plain + "- name: again\n  user:\n    client-certificate-data: " + b64(ca.Again(t, admin).Certificate) + "\n", refusal: "one key belongs to two certificates in it"},
		{name: "names that kubeadm does not give", text: string(kubeconfig(ca, named, "")), refusal: "kubeadm makes no certificate for subject=CN=jane DNS:jane"},
		{name: "no YAML", text: plain + "- 'name: x\n", refusal: "kubectl cannot read it"},
		{name: "slashes of JSON", refusal: `a slash is written as \/`,
			text: strings.ReplaceAll(shapes()[slices.IndexFunc(shapes(), func(s shape) bool { return s.name == "JSON on one line" })].render(ca, []user{{"a", admin}}), "/", `\/`)},
		{name: "quoted, without kubectl", text: quoted, kubectl: "none", refusal: "it is written in another way than kubeadm writes it"},
		{name: "plain, without kubectl", text: plain, kubectl: "none"},
		{name: "a kubectl that reads the new one differently", text: quoted, kubectl: "#!/bin/sh\nmktemp -u x.XXXXXX\n", refusal: "with a new certificate it would read differently"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			script := renewal(t)
			switch row.kubectl {
			case "":
			case "none": // nor that of this machine
				script = "command() { [ \"$2\" != kubectl ] && which \"$2\"; }\n" + script
			default:
				n.ok(os.Remove(n.bin + "/kubectl"))
				n.write(n.bin+"/kubectl", []byte(row.kubectl), 0o700)
			}
			home, conf := n.root()+"/root/.kube/config", n.conf+"/scheduler.conf"
			n.write(home, []byte(row.text), 0o600)
			if row.kubectl == "" {
				n.write(conf, []byte(plain), 0o600)
				n.ok(os.RemoveAll(n.conf + "/ssl/front-proxy-ca.key")) // it issues nothing that is due
			}
			out, errs, err := n.run(script)
			changed := !bytes.Equal(n.read(home), []byte(row.text))
			if err != nil || changed != (row.refusal == "") || (row.refusal != "" && !strings.Contains(out, "refused: "+home+" stays as it is: "+row.refusal)) {
				t.Errorf("%v: %s%s", err, out, errs)
			}
			if row.kubectl == "" && !strings.Contains(out, "changed: "+conf+"\n") {
				t.Errorf("the rest does not go on: %s", out)
			}
		})
	}
}

// Output of the real kubeadm is recognized, so that kubectl does not have to parse it.
func TestAsKubeadmWrites(t *testing.T) {
	t.Parallel()
	n := issuer(t, testpki.Authority(t, "kubernetes"))
	out, errs, err := n.run(`
cd "$KSCERT_CONFIG_DIR"
kubeadm kubeconfig user --client-name=someone --org=system:masters --config kubeadm-config.yaml >written
for edit in '' 's/^kind: .*/&\npreferences: {}/' 's/^kind: .*/&\npreferences: {a: b}/' 's/^kind: .*/& # x/' 's/^kind: \(.*\)/kind: "\1"/' 's/^kind: .*/kind: @Config/' 's/^users:.*/users: \&a/'; do
  sed "$edit" written >edited
  if as_kubeadm_writes edited; then echo "as kubeadm writes: $edit"; fi
done`)
	if want := "as kubeadm writes: \nas kubeadm writes: s/^kind: .*/&\npreferences: {}/\n"; err != nil || out != want {
		t.Errorf("%v: %q %s", err, out, errs)
	}
}

// A certificate that is a link stays one. Its target is renewed, unless there is no backup of it.
func TestRenewalFollowsLinks(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	old := ca.Issue(t, testpki.Leaf{
		CommonName: "kube-apiserver", DNSNames: []string{"cp1"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour),
	})
	for _, covered := range []bool{true, false} {
		n := issuer(t, ca)
		dir, answered := n.conf+"/real", "changed: apiserver\n"
		if !covered {
			dir = n.root() + "/real"
			answered = "refused: " + n.conf + "/ssl/apiserver.crt stays as it is: it leads to " + dir + "/apiserver.crt, of which there is no backup\n"
		}
		for suffix, text := range map[string][]byte{"crt": old.Certificate, "key": old.Key} {
			n.write(dir+"/apiserver."+suffix, text, 0o600)
			n.ok(os.Symlink(dir+"/apiserver."+suffix, n.conf+"/ssl/apiserver."+suffix))
		}
		out, errs, err := n.run(renewal(t))
		if err != nil || out != answered {
			t.Errorf("%v: %s%s", err, out, errs)
		}
		link, err := os.Readlink(n.conf + "/ssl/apiserver.crt")
		if kept := bytes.Equal(n.read(dir+"/apiserver.crt"), old.Certificate); err != nil || link != dir+"/apiserver.crt" || kept == covered {
			t.Errorf("it leads to %q, which is as it was: %t", link, kept)
		}
		if _, err := tls.X509KeyPair(n.read(dir+"/apiserver.crt"), n.read(dir+"/apiserver.key")); err != nil {
			t.Error(err)
		}
	}
}

// So does a kubeconfig, such as root's own that leads to admin.conf.
func TestKubeconfigRenewalFollowsLinks(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	admin := ca.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "system:masters", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	text := kubeconfig(ca, admin, "")
	for _, row := range []struct{ link, target, answered string }{
		{"/root/.kube/config", "/kubernetes/admin.conf", "changed: ROOT/kubernetes/admin.conf\nchanged: ROOT/root/.kube/config\n"},
		{"/kubernetes/admin.conf", "/kubernetes/users/admin.conf", "changed: ROOT/kubernetes/admin.conf\n"},
		{"/kubernetes/admin.conf", "/own/admin.conf", "refused: ROOT/kubernetes/admin.conf stays as it is: it leads to ROOT/own/admin.conf, of which there is no backup\n"},
	} {
		n := issuer(t, ca)
		n.write(n.root()+row.target, text, 0o600)
		n.ok(os.MkdirAll(filepath.Dir(n.root()+row.link), 0o700))
		n.ok(os.Symlink(n.root()+row.target, n.root()+row.link))
		out, errs, err := n.run(renewal(t))
		if want := strings.ReplaceAll(row.answered, "ROOT", n.root()); err != nil || out != want {
			t.Errorf("%v: %s%s, want %s", err, out, errs, want)
		}
		link, err := os.Readlink(n.root() + row.link)
		if kept := bytes.Equal(n.read(n.root()+row.target), text); err != nil || link != n.root()+row.target || kept != strings.HasPrefix(row.answered, "refused") {
			t.Errorf("%s leads to %q, which is as it was: %t", row.link, link, kept)
		}
	}
}

// brokenPairs are possible states of a damaged kubelet client file.
var brokenPairs = map[string]func(n *node, path string){
	"empty":          func(n *node, path string) { n.write(path, nil, 0o600) },
	"no certificate": func(n *node, path string) { n.write(path, []byte("x\n"), 0o600) },
	"no key": func(n *node, path string) {
		n.write(path, testpki.Authority(n.t, "x").Issue(n.t, testpki.Leaf{CommonName: "system:node:cp1"}).Certificate, 0o600)
	},
	"dangling": func(n *node, path string) { n.ok(os.Symlink("gone.pem", path)) },
	"gone":     func(*node, string) {},
	// A container runtime makes it where a file to mount is missing.
	"a folder": func(n *node, path string) { n.ok(os.MkdirAll(path, 0o700)) },
}

// Even if nothing is left of the rotating file, the kubelet of a control plane gets a new pair for
// the name that it had.
func TestKubeletWithoutItsPair(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	node := func(name string) testpki.Pair {
		return ca.Issue(t, testpki.Leaf{CommonName: "system:node:" + name, Organization: "system:nodes", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	}
	for name, edit := range brokenPairs {
		for _, left := range []string{"an earlier pair", "kubelet.conf", "kubelet.env"} {
			t.Run(name+", "+left, func(t *testing.T) {
				t.Parallel()
				n, was := issuer(t, ca), node("cp1")
				n.ok(os.MkdirAll(filepath.Dir(n.pair()), 0o700))
				edit(n, n.pair())
				n.write(n.conf+"/kubelet.env", []byte("KUBELET_HOSTNAME=\"--hostname-override=Other\"\n"), 0o600)
				conf, who := "users:\n- name: default-auth\n  user:\n    client-certificate: "+n.pair()+"\n    client-key: "+n.pair()+"\n", "cp1"
				switch left {
				case "an earlier pair":
					n.write(filepath.Dir(n.pair())+"/kubelet-client-2025-01-01-00-00-00.pem", slices.Concat(was.Certificate, was.Key), 0o600)
				case "kubelet.conf":
					conf = string(kubeconfig(ca, was, ""))
				case "kubelet.env":
					who = "other"
				}
				n.write(n.conf+"/kubelet.conf", []byte(conf), 0o600)
				out, errs, err := n.run(role(t, "control_plane_kubelet/files/kubelet.sh"))
				if err != nil || !strings.Contains(out, "changed: "+n.pair()+"\n") {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				x := parsed(t, n.read(n.pair()))
				if _, err := tls.X509KeyPair(n.read(n.pair()), n.read(n.pair())); err != nil || x.Subject.String() != "CN=system:node:"+who+",O=system:nodes" || x.CheckSignatureFrom(ca.X509) != nil {
					t.Errorf("it is for %s: %v", x.Subject, err)
				}
				if text := string(n.read(n.conf + "/kubelet.conf")); !strings.Contains(text, "client-key: "+n.pair()) || strings.Contains(text, "client-key-data") {
					t.Errorf("kubelet.conf is\n%s", text)
				}
				if out, errs, err := n.run(role(t, "control_plane_kubelet/files/kubelet.sh")); err != nil || out != "" {
					t.Errorf("a second run does something: %v: %s%s", err, out, errs)
				}
			})
		}
	}
}

// A kubelet whose certificate and key are in separate files gets a pair in the rotating file, and
// refers to that, if they are due. Otherwise they stay.
func TestKubeletWithSeparateFiles(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for _, due := range []bool{true, false} {
		for _, rotated := range []bool{true, false} { // the certificate is in the rotating file, the key is not
			for _, is := range []string{"control plane", "worker"} {
				t.Run(fmt.Sprintf("due: %t, in the rotating file: %t, %s", due, rotated, is), func(t *testing.T) {
					t.Parallel()
					ends := time.Now().Add(300 * 24 * time.Hour)
					if due {
						ends = time.Now().Add(-time.Hour)
					}
					was := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1", Organization: "system:nodes", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: ends})
					n := issuer(t, ca)
					crt, key := n.conf+"/kubelet.crt", n.conf+"/kubelet.key"
					if rotated {
						crt = n.pair()
					}
					n.write(crt, was.Certificate, 0o600)
					n.write(key, was.Key, 0o600)
					conf := strings.NewReplacer("client-certificate-data: "+base64.StdEncoding.EncodeToString(was.Certificate), "client-certificate: "+crt,
						"client-key-data: "+base64.StdEncoding.EncodeToString(was.Key), "client-key: kubelet.key").Replace(string(kubeconfig(ca, was, "")))
					n.write(n.conf+"/kubelet.conf", []byte(conf), 0o600)
					if is == "worker" {
						out, errs, err := n.kubelet("request.sh", "")
						if fields := strings.Split(words(out, "request: "), "|"); err != nil || (len(fields) == 3 && fields[2] != "") != due {
							t.Errorf("%v: %s%s", err, out, errs)
						}
						return
					}
					out, errs, err := n.run(role(t, "control_plane_kubelet/files/kubelet.sh"))
					if err != nil {
						t.Fatalf("%v: %s%s", err, out, errs)
					}
					if !due {
						if text := string(n.read(n.conf + "/kubelet.conf")); strings.Contains(out, "changed: "+n.pair()) || text != conf {
							t.Errorf("it is changed: %s\n%s", out, text)
						}
						return
					}
					if _, err := tls.X509KeyPair(n.read(n.pair()), n.read(n.pair())); err != nil {
						t.Error(err)
					}
					want := strings.NewReplacer("client-certificate: "+crt, "client-certificate: "+n.pair(), "client-key: kubelet.key", "client-key: "+n.pair()).Replace(conf)
					if text := string(n.read(n.conf + "/kubelet.conf")); text != want {
						t.Errorf("kubelet.conf is\n%s\nwant\n%s", text, want)
					}
				})
			}
		}
	}
}

// A pair that cannot be put in its place is not left behind.
func TestKubeletPairThatCannotBePlaced(t *testing.T) {
	t.Parallel()
	n := issuer(t, testpki.Authority(t, "kubernetes"))
	n.write(n.pair()+"/something", nil, 0o600)
	n.write(n.conf+"/kubelet.conf", []byte("users:\n- user:\n    client-certificate: "+n.pair()+"\n    client-key: "+n.pair()+"\n"), 0o600)
	out, errs, err := n.run(role(t, "control_plane_kubelet/files/kubelet.sh"))
	if err == nil || out != "" || !strings.Contains(errs, n.pair()+" cannot be written; it is as it was") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	if left, _ := filepath.Glob(filepath.Dir(n.pair()) + "/*"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// The same on a worker: it requests a pair, with its old certificate if one is left.
func TestWorkerWithoutItsPair(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for name, edit := range brokenPairs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := worker(t, ca, "w1")
			n.ok(os.Remove(n.pair()))
			edit(n, n.pair())
			if fields := strings.Split(n.asksKubelet(), "|"); len(fields) != 3 || fields[1] == "" || fields[2] == "" {
				t.Errorf("it asks with %q", fields)
			}
		})
	}
}

// If kubelet.conf embeds an expired certificate while the rotated file is fresh, it is changed to
// refer to that, on workers too, and the kubelet is restarted once.
func TestKubeletConfEmbedsExpired(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	old := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1", Organization: "system:nodes", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	fresh := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1", Organization: "system:nodes"})
	n := worker(t, ca, "w1")
	n.ok(os.Remove(n.pair()))
	n.write(n.pair(), slices.Concat(fresh.Certificate, fresh.Key), 0o600)
	embedding := kubeconfig(ca, old, "")
	n.write(n.conf+"/kubelet.conf", embedding, 0o600)
	out, errs, err := n.kubelet("request.sh", "")
	want := strings.NewReplacer("client-certificate-data: "+base64.StdEncoding.EncodeToString(old.Certificate), "client-certificate: "+n.pair(),
		"client-key-data: "+base64.StdEncoding.EncodeToString(old.Key), "client-key: "+n.pair()).Replace(string(embedding))
	if text := string(n.read(n.conf + "/kubelet.conf")); err != nil || text != want || strings.Contains(out, "request: ") {
		t.Errorf("%v: %s%s\n%s", err, out, errs, text)
	}
	if says := "changed: the kubelet has not been restarted since it got a certificate\n"; !strings.Contains(out, says) {
		t.Errorf("it is not answered that it has to be restarted: %s", out)
	}
	if out, errs, err := n.kubelet("take.sh", "KSCERT_REFUSED= KSCERT_ISSUED="); err != nil || out != "changed: restarted the kubelet\n" {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	if out, errs, err := n.kubelet("request.sh", ""); err != nil || out != "changed: the kubelet has no serving certificate until it is restarted\n" && out != "" {
		t.Errorf("a second run does something: %v: %s%s", err, out, errs)
	}
	// One that leads to where no backup covers it is left alone and named.
	n.write(n.root()+"/own/kubelet.conf", embedding, 0o600)
	n.ok(os.Remove(n.conf + "/kubelet.conf"))
	n.ok(os.Symlink(n.root()+"/own/kubelet.conf", n.conf+"/kubelet.conf"))
	if out, errs, err := n.kubelet("request.sh", ""); err != nil || !strings.Contains(out, "refused: "+n.conf+"/kubelet.conf stays as it is: it leads to "+n.root()+"/own/kubelet.conf") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	n.ok(os.Remove(n.conf + "/kubelet.conf"))
	// So is one that is not written as kubeadm does.
	n.write(n.conf+"/kubelet.conf", bytes.ReplaceAll(embedding, []byte("client-key-data: "), []byte("'client-key-data': ")), 0o600)
	if out, errs, err := n.kubelet("request.sh", ""); err != nil || !strings.Contains(out, "refused: "+n.conf+"/kubelet.conf stays as it is: ") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}

// utf16Of is a text in UTF-16 with its byte order mark.
func utf16Of(text string, order binary.AppendByteOrder) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		out = order.AppendUint16(out, unit)
	}
	return string(out)
}

// No secret leaves the node, whatever it looks like and whatever it is next to. The position in the
// structure of a kubeconfig decides what is printed.
func TestCollectorTellsNoSecret(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	key := ca.Issue(t, testpki.Leaf{CommonName: "p"}).Key
	for len(key)%3 != 0 { // so that no "=" distinguishes it from a path
		key = append(key, '\n')
	}
	plain := base64.StdEncoding.EncodeToString(key)
	padded := base64.StdEncoding.EncodeToString(append(bytes.Clone(key), '\n'))
	binary64 := base64.StdEncoding.EncodeToString([]byte(plain))
	flow := func(user string) string { return "users:\n- name: a\n  user: {" + user + "}\n" }
	block := func(user string) string { return "users:\n- name: a\n  user:\n    " + user + "\n" }
	const secret = "c4n4ry"
	for _, row := range []struct{ name, text, secret string }{
		{"a key in client-key", flow("client-key: " + plain), plain[40:80]},
		{"a key in client-key, padded", block("client-key: " + padded), plain[40:80]},
		{"a key in client-key, in lines", block("client-key: |\n      " + plain[:64] + "\n      " + plain[64:128] + "\n      " + plain[128:]), plain[40:60]},
		{"a token in client-key", block("client-key: " + secret + "/x"), secret},
		{"a password in a server", "clusters:\n- name: a\n  cluster:\n    server: https://root:" + secret + "@10.0.0.1:6443\n" + flow("token: x"), secret},
		{"a server in a block", block("password: |\n      server: https://" + secret), secret},
		{"a server in a folded block", block("password: >-\n      x\n      server: https://" + secret), secret},
		{"a server in a list", block("exec:\n      args:\n      - |\n        server: https://" + secret), secret},
		{"a file in a quoted text", flow(`password: "client-key: ` + secret + `.key"`), secret},
		{"a server in a quoted text", flow(`token: "server: https://` + secret + `"`), secret},
		{"a server in a quoted text, in apostrophes", flow(`token: 'it''s server: https://` + secret + `'`), secret},
		{"a server in a quoted text of two lines", block("token: \"x\n      server: https://" + secret + "\""), secret},
		{"a server in a quoted text of three lines", block("token: \"x\n      server: https://" + secret + "\n      x\""), secret},
		{"a server in an apostrophe's text of three lines", block("token: 'x\n      server: https://" + secret + "\n      x'"), secret},
		{"a server behind an apostrophe in plain text", block("username: Bob 's\n    token: 'server: https://" + secret + "'"), secret},
		{"a server in JSON", `{"users": [{"name": "a", "user": {"token": "server: https://` + secret + `"}}]}`, secret},
		{"a remark", block("client-key: # " + secret + ".key\n      /x.key"), secret},
		{"a remark of a line", "# server: https://" + secret + "\n" + flow("token: x"), secret},
		{"digits behind an indicator", flow("password: '>48219377'"), "48219377"},
		{"digits behind another", flow("password: '|48219377'"), "48219377"},
		{"a key whose field's name has numbers", block(`"client-k\x65y-data": ` + plain), plain[40:80]},
		{"a key in binary", block("client-key-data: !!binary " + binary64), binary64[40:80]},
		{"UTF-16", utf16Of(block("client-key-data: "+plain), binary.LittleEndian), utf16Of(plain, binary.LittleEndian)[82:120]},
		{"UTF-16, the other way", utf16Of(block("token: "+secret), binary.BigEndian), utf16Of(secret, binary.BigEndian)[2:]},
		{"punctuation", flow(`password: '!&*#!:?x:::'`), "&*#!"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, file := range []string{"scheduler.conf", "kubelet.conf"} {
				n := newNode(t)
				n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
				n.write(n.conf+"/"+file, []byte(row.text), 0o600)
				out, errs, err := n.sh(collector(t))
				if err != nil {
					t.Fatal(err, errs)
				}
				if strings.Contains(out+errs, row.secret) {
					t.Errorf("%s: it leaves the node:\n%s", file, out)
				}
			}
		})
	}
}

// What a kubeconfig holds for other users and clusters is not reported, nor is any form of YAML
// that kubectl reads.
func TestCollectorLeavesOthers(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	ours := string(kubeconfig(ca, ca.Issue(t, testpki.Leaf{CommonName: "p"}), ""))
	for name, text := range map[string]string{
		"another user's is left out":  ours + "- name: elsewhere\n  user: {client-certificate-data: DATA+OMITTED, client-key-data: DATA+OMITTED}\n",
		"a directive":                 "%YAML 1.1\n---\n" + ours,
		"a tag":                       strings.Replace(ours, "client-certificate-data: ", "client-certificate-data: !!binary ", 1),
		"another cluster is in use":   "current-context: x\ncontexts: [{name: x, context: {cluster: o, user: e}}]\nclusters: [{name: o, cluster: {server: 'https://x', certificate-authority-data: DATA+OMITTED}}]\nusers: [{name: e, user: {token: x}}]\n",
		"a remark with an apostrophe": "# it's ours, isn 't it\n" + ours,
		"a name with an apostrophe":   ours + "- name: it's\n  user: {token: x}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
			n.write(n.root()+"/root/.kube/config", []byte(text), 0o600)
			if got := n.look(); len(got.Unreadable) > 0 || len(got.Kubeconfigs) != 1 {
				t.Errorf("%v\n%+v", got.Unreadable, got.Kubeconfigs)
			}
		})
	}
}

// A key whose certificate is not visible here is not replaced: the file is refused by name and
// stays as it is.
func TestForeignCertificateOfOurKey(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	admin := ca.Issue(t, testpki.Leaf{
		CommonName: "kubernetes-admin", Organization: "system:masters", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour),
	})
	foreign := base64.StdEncoding.EncodeToString(other.Again(t, admin).Certificate)
	for name, certificate := range map[string]string{
		"in a file": "client-certificate: /root/.kube/foreign.crt",
		"escaped":   `client-certificate-data: "` + foreign[:64] + `\n` + foreign[64:] + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			home := n.root() + "/root/.kube/config"
			text := string(kubeconfig(ca, admin, "")) + "- name: elsewhere\n  user:\n    " + certificate + "\n    client-key-data: " + base64.StdEncoding.EncodeToString(admin.Key) + "\n"
			n.write(home, []byte(text), 0o600)
			out, errs, err := n.run(renewal(t))
			if err != nil || !strings.Contains(out, "refused: "+home) || string(n.read(home)) != text {
				t.Errorf("%v\n%s%s", err, out, errs)
			}
		})
	}
}

// What cannot be renewed alone is refused by name, and the rest of the node is renewed: files that
// two certificates share, one without any, users without a name or in a group without one.
func TestRenewalRefusesByName(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	ended := func(l testpki.Leaf) testpki.Pair {
		l.NotBefore, l.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
		return ca.Issue(t, l)
	}
	server := ended(testpki.Leaf{CommonName: "kube-apiserver", DNSNames: []string{"cp1"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	for _, row := range []struct {
		name, refused string
		prepare       func(n *node, dir string)
	}{
		{"a key that is a link to another's", "/ssl/apiserver.crt", func(n *node, dir string) {
			n.write(dir+"apiserver.crt", server.Certificate, 0o644)
			n.write(dir+"apiserver.key", server.Key, 0o600)
			n.ok(os.Symlink("apiserver.key", dir+"apiserver-kubelet-client.key"))
			fresh, x := server, *server.X509
			x.NotBefore, x.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
			fresh.X509 = &x
			n.write(dir+"apiserver-kubelet-client.crt", ca.Again(t, fresh).Certificate, 0o644)
		}},
		{"certificate and key in one file", "/ssl/apiserver.crt", func(n *node, dir string) {
			n.write(dir+"apiserver.crt", slices.Concat(server.Certificate, server.Key), 0o600)
			n.ok(os.Symlink("apiserver.crt", dir+"apiserver.key"))
		}},
		{"an empty certificate", "/ssl/apiserver.crt", func(n *node, dir string) {
			n.write(dir+"apiserver.crt", nil, 0o644)
			n.write(dir+"apiserver.key", server.Key, 0o600)
		}},
		{"a certificate that is a link to nothing", "/ssl/apiserver.crt", func(n *node, dir string) {
			n.ok(os.Symlink("gone.crt", dir+"apiserver.crt"))
			n.write(dir+"apiserver.key", server.Key, 0o600)
		}},
		{"a certificate without its key", "/ssl/apiserver.crt", func(n *node, dir string) { n.write(dir+"apiserver.crt", server.Certificate, 0o644) }},
		{"a certificate without its key, which is not due", "/ssl/apiserver.crt", func(n *node, dir string) {
			n.write(dir+"apiserver.crt", ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"}).Certificate, 0o644)
			n.ok(os.Symlink("gone.key", dir+"apiserver.key"))
		}},
		{"a certificate for any use", "/ssl/apiserver.crt", func(n *node, dir string) {
			p := ended(testpki.Leaf{CommonName: "kube-apiserver", Usages: []x509.ExtKeyUsage{}})
			n.write(dir+"apiserver.crt", p.Certificate, 0o644)
			n.write(dir+"apiserver.key", p.Key, 0o600)
		}},
		{"a certificate with a negative serial number, which Go does not read", "/ssl/apiserver.crt", func(n *node, dir string) {
			n.write(dir+"usage", []byte("extendedKeyUsage=serverAuth\n"), 0o600)
			openssl(n.t, dir, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "apiserver.key", "-subj", "/CN=kube-apiserver", "-out", "request")
			openssl(n.t, dir, "x509", "-req", "-in", "request", "-extfile", "usage", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "-5", "-days", "1", "-out", "apiserver.crt")
		}},
		{"a user without a name", "/scheduler.conf", func(n *node, _ string) {
			n.write(n.conf+"/scheduler.conf", kubeconfig(ca, ended(testpki.Leaf{Subject: []string{"CN="}}), ""), 0o600)
		}},
		{"a group without a name", "/scheduler.conf", func(n *node, _ string) {
			n.write(n.conf+"/scheduler.conf", kubeconfig(ca, ended(testpki.Leaf{Subject: []string{"CN=x", "O="}}), ""), 0o600)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			row.prepare(n, n.conf+"/ssl/")
			n.write(n.conf+"/admin.conf", kubeconfig(ca, ended(testpki.Leaf{CommonName: "kubernetes-admin", Organization: "system:masters"}), ""), 0o600)
			was, _ := os.ReadFile(n.conf + row.refused) // of a link to nothing there is none
			out, errs, err := n.run(renewal(t))
			if err != nil || !strings.Contains(out, "refused: "+n.conf+row.refused) || !strings.Contains(out, "changed: "+n.conf+"/admin.conf") {
				t.Errorf("%v\n%s%s", err, out, errs)
			}
			if strings.Contains(row.name, "Go does not read") && !strings.Contains(out, "error reading "+n.conf+"/ssl/apiserver.crt: x509: negative serial number; restore it from a backup, ") {
				t.Errorf("it does not say why: %s", out)
			}
			if is, _ := os.ReadFile(n.conf + row.refused); !bytes.Equal(is, was) {
				t.Error("it was changed all the same")
			}
		})
	}
}
