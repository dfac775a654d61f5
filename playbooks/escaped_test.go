package playbooks_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// escapes are ways to write base64 in double quotes with escapes: kubectl reads all of them.
func escapes() map[string]func(string) string {
	return map[string]func(string) string{
		"line breaks":      func(s string) string { return s[:64] + `\n` + s[64:] + `\n` },
		"carriage returns": func(s string) string { return s[:64] + `\r\n` + s[64:] },
		"a letter":         func(s string) string { return s[:40] + fmt.Sprintf(`\x%02x`, s[40]) + s[41:] },
		"the first letter": func(s string) string { return `\u004c` + s[1:] },
		"eight digits":     func(s string) string { return s[:40] + fmt.Sprintf(`\U%08x`, s[40]) + s[41:] },
		"many letters": func(s string) string {
			var out strings.Builder
			for i := range len(s) {
				if i%12 == 0 {
					fmt.Fprintf(&out, `\x%02x`, s[i])
				} else {
					out.WriteByte(s[i])
				}
			}
			return out.String()
		},
	}
}

// A certificate in double quotes whose base64 has escapes is not missed: it is read, or its file is
// reported as not understood, and a renewal refuses it by name.
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
				reported := false
				for _, c := range got.Certificates {
					reported = reported || c.Path == path
				}
				if read := slices.Contains([]string{"line breaks", "carriage returns"}, name); reported != read {
					t.Errorf("it is read: %t", reported)
				}
				for _, u := range got.Unreadable {
					reported = reported || u.Path == path
					t.Logf("%+v", u)
				}
				if !reported {
					t.Errorf("nothing is answered of it")
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
