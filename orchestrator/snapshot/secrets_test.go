package snapshot_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Users of the cluster write Secrets: what they put there costs no more than their own row.
func TestSecretsOfANode(t *testing.T) {
	t.Parallel()
	p := makePKI(t)
	pem := func(names ...string) string {
		var out strings.Builder
		for _, name := range names {
			for line := range strings.Lines(string(p[name].Certificate)) {
				out.WriteString("|" + line)
			}
		}
		return out.String()
	}
	n := parse(t, []byte("@@KSCERT 3 1\n@@SECRET a/web b/web\n"+pem("apiserver", "ca")+"@@SECRET c/none\n@@SECRET d/many\n"+strings.Repeat("|-----BEGIN CERTIFICATE-----\n", 31)+
		"@@RESULT secrets 0\n@@END\n"))
	if len(n.Secrets) != 3 || len(n.Certificates) != 0 || len(n.Unreadable) != 0 {
		t.Fatalf("%+v", n)
	}
	if c := n.Secrets[0].Certificate; c == nil || c.Kind != certs.KindSecret || c.Label() != "Secret a/web, b/web" || c.Chain != 1 {
		t.Errorf("%+v", c)
	}
	for i, want := range map[int]string{1: "no certificate", 2: "31 certificates are more than are read"} {
		if s := n.Secrets[i]; s.Certificate != nil || !strings.Contains(s.Unreadable, want) {
			t.Errorf("%+v, want %q", s, want)
		}
	}
	for _, name := range []string{"", "web", "a/b/c", "A/web", "a/" + strings.Repeat("x", 300), "a/\x1b[2J"} {
		if n, err := snapshot.Parse(cp1, fmt.Appendf(nil, "@@KSCERT 3 1\n@@SECRET %s\n@@END\n", name)); err == nil {
			t.Errorf("%q is a name: %+v", name, n.Secrets)
		}
	}
}
