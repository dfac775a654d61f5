package kubeconfig_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubeconfig"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

var b64 = base64.StdEncoding.EncodeToString

func admin(tb testing.TB, ca testpki.Pair, end time.Time) testpki.Pair {
	tb.Helper()
	return ca.Issue(tb, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "system:masters", NotAfter: end})
}

// kubeconfigOf is typical: two clusters, and a comment.
func kubeconfigOf(ca, user testpki.Pair) string {
	return fmt.Sprintf(`# mine – do not touch
apiVersion: v1
kind: Config
clusters:
- name: other
  cluster: {server: https://198.51.100.9:6443}
- cluster:
    certificate-authority-data: %s
    server: https://api.example.com:6443
  name: cluster.local
contexts:
- {name: other, context: {cluster: other, user: other}}
- context:
    cluster: cluster.local
    user: kubernetes-admin
  name: admin@cluster.local
current-context: admin@cluster.local
users:
- name: other
  user:
    token: abc
- name: kubernetes-admin
  user:
    client-key-data: %s
    client-certificate-data: %s   # mine
`, b64(ca.Certificate), b64(user.Key), b64(user.Certificate))
}

// Only the two values change, in any position and notation.
func TestWith(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	old, next := admin(t, ca, time.Now().Add(time.Hour)), admin(t, ca, time.Time{})
	block := kubeconfigOf(ca, old)
	quoted := strings.NewReplacer(b64(old.Key), `"`+b64(old.Key)+`"`, b64(old.Certificate), "'"+b64(old.Certificate)+"'").Replace(block)
	json := fmt.Sprintf(`{"current-context":"a","contexts":[{"name":"a","context":{"cluster":"c","user":"ü"}}],"clusters":[{"name":"c","cluster":{"certificate-authority-data":%q}}],`+
		`"users":[{"name":"ü","user":{"client-certificate-data":%q,"client-key-data":%q}}]}`, b64(ca.Certificate), b64(old.Certificate), b64(old.Key))
	successor, err := kubeconfig.Parse([]byte(strings.ReplaceAll(kubeconfigOf(ca, next), "cluster.local", "another.name")))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"block": block, "quoted": quoted, "JSON": json, "CRLF": strings.ReplaceAll(block, "\n", "\r\n"), "BOM": "\ufeff" + block, "JSON with a BOM": "\ufeff" + json,
		"a key twice, the last counts": strings.Replace(block, "    client-key-data", "    client-certificate-data: eA==\n    client-key-data", 1),
	} {
		f, err := kubeconfig.Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := f.With(successor)
		want := strings.NewReplacer(b64(old.Key), b64(next.Key), b64(old.Certificate), b64(next.Certificate)).Replace(text)
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			if output := fmt.Sprintf(format, f); strings.Contains(output, b64(old.Key)) || len(output) > 100 {
				t.Errorf("%s: as %s it is %.200s", name, format, output)
			}
		}
	}
	f, err := kubeconfig.Parse([]byte(block))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"another's key":   strings.Replace(kubeconfigOf(ca, next), b64(next.Key), b64(old.Key), 1),
		"another subject": kubeconfigOf(ca, ca.Issue(t, testpki.Leaf{CommonName: "someone"})),
	} {
		wrong, err := kubeconfig.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.With(wrong); err == nil {
			t.Errorf("%s is accepted: %s", name, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	user := admin(t, ca, time.Time{})
	block := kubeconfigOf(ca, user)
	swap := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(block) }
	for _, row := range []struct {
		name, text, want string
		embedded         bool
	}{
		{"nothing", "", "it is not a kubeconfig", true},
		{"no YAML", "client-key-data: [" + b64(user.Key), "it is not a kubeconfig", true},
		{"a list", "[1, 2]", "has no current context", true},
		{"no current context", swap("current-context: admin@cluster.local", ""), "has no current context", true},
		{"a missing context", swap("current-context: admin@cluster.local", "current-context: x"), "has no current context", true},
		{"a token", swap("current-context: admin@cluster.local", "current-context: other"), `no certificate and key in the file itself: "other"`, false},
		{"files", swap("client-certificate-data: "+b64(user.Certificate), "client-certificate: a.crt"), "no certificate and key", false},
		{"a broken certificate", swap(b64(user.Certificate), b64([]byte("x"))), `the client certificate of user "kubernetes-admin": no PEM`, true},
		{"no base64", swap(b64(user.Certificate), "???"), "it is not base64", true},
		{"a value of several lines", swap(b64(user.Key), "|\n      "+b64(user.Key)), "is not on one line", true},
		{"an alias", swap(b64(user.Key), "*key"), "it is not a kubeconfig", true},
	} {
		_, err := kubeconfig.Parse([]byte(row.text))
		if err == nil || !strings.Contains(err.Error(), row.want) || errors.Is(err, kubeconfig.ErrNotEmbedded) == row.embedded {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if err != nil && strings.Contains(err.Error(), b64(user.Key)[:40]) {
			t.Errorf("%s: the error has the key: %v", row.name, err)
		}
	}
}

// seen is a snapshot of a cluster whose control planes have these administrators'
// certificates.
func seen(ca testpki.Pair, admins ...testpki.Pair) snapshot.Snapshot {
	s := snapshot.Snapshot{Taken: time.Now()}
	for i, a := range admins {
		n := snapshot.Node{Node: cluster.Node{Name: fmt.Sprintf("cp%d", i+1), Roles: []cluster.Role{cluster.ControlPlane}}}
		for kind, c := range map[certs.Kind]certs.Certificate{certs.KindCA: certs.Describe(ca.X509), certs.KindAdmin: certs.Describe(a.X509)} {
			c.Kind, c.Path = kind, "/etc/kubernetes/"+string(kind)
			n.Certificates = append(n.Certificates, c)
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s
}

func TestBehindAndOrigin(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	in := func(days int) time.Time { return time.Now().AddDate(0, 0, days) }
	mine, soon, gone := admin(t, ca, in(200)), admin(t, ca, in(5)), admin(t, ca, in(-1))
	late, later := admin(t, ca, in(300)), admin(t, ca, in(365))
	someone := ca.Issue(t, testpki.Leaf{CommonName: "someone"})
	bare := strings.Replace(kubeconfigOf(ca, mine), "certificate-authority-data: "+b64(ca.Certificate), "insecure-skip-tls-verify: true", 1)
	for _, row := range []struct {
		name, text     string
		now            snapshot.Snapshot
		behind, origin string // empty: not behind; "!" and why there is no origin
	}{
		{"the first one's", kubeconfigOf(ca, late), seen(ca, late, later), "", "cp2 admin.conf current"},
		{"the last one's", kubeconfigOf(ca, later), seen(ca, late, later), "", "cp2 admin.conf current"},
		{"an older one", kubeconfigOf(ca, mine), seen(ca, later, late), "its client certificate differs from that of admin.conf on cp1, and expires earlier, on " + in(200).UTC().Format(time.DateOnly), "cp1 admin.conf"},
		{"expiring", kubeconfigOf(ca, soon), seen(ca, later, late), "its client certificate expires on ", "cp1 admin.conf"},
		{"expiring, like the cluster's", kubeconfigOf(ca, soon), seen(ca, soon), "its client certificate expires on ", "cp1 admin.conf current"},
		{"expired", kubeconfigOf(ca, gone), seen(ca, later, late), "its client certificate expired on ", "cp1 admin.conf"},
		{"of another cluster", kubeconfigOf(other, admin(t, other, in(300))), seen(ca, late), "it trusts another CA", "!belongs to another cluster"},
		{"with the CA as it was before it was issued again", kubeconfigOf(testpki.Pair{}.Once(t, ca, in(9)), late), seen(ca, late), "", "cp1 admin.conf current"},
		{"issued by another authority of that name", kubeconfigOf(ca, admin(t, other, in(300))), seen(ca, later), "differs from that of admin.conf on cp1", "!was not issued by the cluster's CA"},
		{"another user", kubeconfigOf(ca, someone), seen(ca, late), "", "!its user is CN=someone, which is in no admin.conf"},
		{"without a CA", bare, seen(ca, late), "differs from that", "!embeds no CA"},
		{"its own, expiring no earlier", kubeconfigOf(ca, later), seen(ca, late), "", "cp1 admin.conf current"},
		{"no control plane", kubeconfigOf(ca, mine), snapshot.Snapshot{Taken: time.Now()}, "", "!no control plane shows"},
	} {
		f, err := kubeconfig.Parse([]byte(row.text))
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if got := f.Behind(row.now, 30*24*time.Hour); !strings.Contains(got, row.behind) || (got == "") != (row.behind == "") {
			t.Errorf("%s: behind for %q, want %q", row.name, got, row.behind)
		}
		o, err := f.Origin(row.now)
		got := o.Node + " " + o.Name
		if o.Current {
			got += " current"
		}
		if err != nil {
			got = "!" + err.Error()
		}
		if why, refused := strings.CutPrefix(row.origin, "!"); (err != nil) != refused || !strings.Contains(got, why) {
			t.Errorf("%s: from %q, want %q", row.name, got, row.origin)
		}
	}
}

// While a CA is rotated, a copy follows admin.conf in what it trusts, to the last stage; CAs of others in it
// stay, and so does all of it then.
func TestRotatedCAs(t *testing.T) {
	t.Parallel()
	former, next, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes-202601010000"), testpki.Authority(t, "other")
	old, renewed := admin(t, former, time.Now().AddDate(1, 0, 0)), admin(t, next, time.Now().AddDate(0, 6, 0))
	bundle := func(all ...testpki.Pair) (out testpki.Pair) {
		for _, p := range all {
			out.Certificate = append(out.Certificate, p.Certificate...)
		}
		return out
	}
	at := func(user, by testpki.Pair, trusted ...testpki.Pair) snapshot.Snapshot {
		s := seen(trusted[0], user)
		n := &s.Nodes[0]
		for i := range n.Certificates {
			if c := &n.Certificates[i]; c.Kind == certs.KindAdmin {
				c.Signers = []string{certs.Describe(by.X509).SignsAs()}
			}
		}
		k := snapshot.Kubeconfig{Path: "/etc/kubernetes/admin.conf"}
		for i, p := range trusted {
			c := certs.Describe(p.X509)
			k.CAs = append(k.CAs, c)
			if c.Kind = certs.KindCA; i > 0 {
				n.Certificates = append(n.Certificates, c)
			}
		}
		n.Kubeconfigs = []snapshot.Kubeconfig{k}
		return s
	}
	made, trust := at(old, former, former), at(old, former, former, next)
	clients, dropped := at(renewed, next, former, next), at(renewed, next, next)
	for _, row := range []struct {
		name         string
		text         string
		earlier, now snapshot.Snapshot
		current, cas bool
		cluster      testpki.Pair // in admin.conf
		user         testpki.Pair
	}{
		{"before trust", kubeconfigOf(former, old), made, made, true, false, former, old},
		{"trust", kubeconfigOf(former, old), made, trust, false, true, bundle(former, next), old},
		{"trust again", kubeconfigOf(bundle(former, next), old), trust, trust, true, false, bundle(former, next), old},
		{"clients", kubeconfigOf(bundle(former, next), old), trust, clients, false, false, bundle(former, next), renewed},
		{"clients, of one that was left behind", kubeconfigOf(former, old), trust, clients, false, true, bundle(former, next), renewed},
		{"drop", kubeconfigOf(bundle(former, next), renewed), clients, dropped, false, true, next, renewed},
		{"after drop", kubeconfigOf(next, renewed), dropped, dropped, true, false, next, renewed},
		{"with another's CA", kubeconfigOf(bundle(former, other), old), trust, trust, true, false, bundle(former, other), old},
	} {
		f, err := kubeconfig.Parse([]byte(row.text))
		if err != nil {
			t.Fatal(err)
		}
		o, err := f.OriginSince(row.earlier, row.now)
		if err != nil || o.Current != row.current || o.CAs != row.cas {
			t.Errorf("%s: %v, current %t, CAs %t", row.name, err, o.Current, o.CAs)
			continue
		}
		successor, err := kubeconfig.Parse([]byte(kubeconfigOf(row.cluster, row.user)))
		if err != nil {
			t.Fatal(err)
		}
		with := f.With
		if o.CAs {
			with = f.WithCAs
		}
		got, err := with(successor)
		if want := kubeconfigOf(row.cluster, row.user); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", row.name, err, got, want)
		}
	}
}

// Any file is either refused, or the result of With can be read again.
func FuzzParse(f *testing.F) {
	ca := testpki.Authority(f, "kubernetes")
	next, err := kubeconfig.Parse([]byte(kubeconfigOf(ca, admin(f, ca, time.Time{}))))
	if err != nil {
		f.Fatal(err)
	}
	text := kubeconfigOf(ca, admin(f, ca, time.Now().Add(time.Hour)))
	for _, seed := range []string{text, strings.ReplaceAll(text, "\n", "\r\n"), text[:len(text)/2], "{}", "users: [1]", "current-context: *a", "- &a [*a]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := kubeconfig.Parse(data)
		if err != nil {
			return
		}
		got, err := file.With(next)
		if err != nil {
			return
		}
		if again, err := kubeconfig.Parse(got); err != nil || again.Certificate.Fingerprint != next.Certificate.Fingerprint {
			t.Errorf("%v: the result cannot be read again", err)
		}
	})
}
