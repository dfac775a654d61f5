package playbooks_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// escapes are ways in which a text in double quotes may say base64 by its escapes: kubectl
// reads all of them.
func escapes() map[string]func(string) string {
	return map[string]func(string) string{
		"line breaks":      func(s string) string { return s[:64] + `\n` + s[64:] + `\n` },
		"carriage returns": func(s string) string { return s[:64] + `\r\n` + s[64:] },
		"a letter":         func(s string) string { return s[:40] + fmt.Sprintf(`\x%02x`, s[40]) + s[41:] },
		"the first letter": func(s string) string { return `\u004c` + s[1:] },
		"slashes":          func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
	}
}

// A certificate in double quotes whose base64 has escapes is not passed over: it is read, or
// its file is named as one that is not understood, and a renewal refuses it by name.
func TestEscapedCertificates(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	admin := ca.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "kubeadm:cluster-admins", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(time.Hour)})
	plain := shapes()[0].render(ca, []user{{"admin", admin}})
	certificate := base64.StdEncoding.EncodeToString(admin.Certificate)
	for name, escaped := range escapes() {
		for _, home := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, root's own: %t", name, home), func(t *testing.T) {
				t.Parallel()
				n := issuer(t, ca)
				path := n.conf + "/admin.conf"
				if home {
					path = n.root() + "/root/.kube/config"
				}
				n.write(path, []byte(strings.Replace(plain, certificate, `"`+escaped(certificate)+`"`, 1)), 0o600)
				got := n.look()
				told := false
				for _, c := range got.Certificates {
					told = told || c.Path == path
				}
				for _, u := range got.Unreadable {
					told = told || u.Path == path
					t.Logf("%+v", u)
				}
				if !told {
					t.Errorf("nothing is said of it")
				}
				out, errs, err := n.run(renewal(t))
				t.Logf("%v: %s%s", err, out, errs)
				if err != nil || !strings.Contains(out, path) {
					t.Errorf("%v: %s%s", err, out, errs)
				}
			})
		}
	}
}
