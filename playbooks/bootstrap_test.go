package playbooks_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A kubelet asks for a certificate when somebody leads who can sign it; where nobody
// does, it asks all the same, and the bootstrap says what is wrong.
func TestSignerIsAwaited(t *testing.T) {
	t.Parallel()
	renewed := func(ago time.Duration) string {
		return time.Now().Add(-ago).UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	for _, row := range []struct {
		name string
		// renewed is what the lease says, one time of asking after the other.
		renewed []string
		check   string
		asked   int
	}{
		{"it leads", []string{renewed(-time.Hour)}, "False", 1},
		{"it has led, and leads again", []string{renewed(time.Minute), renewed(time.Minute), renewed(-time.Hour)}, "False", 3},
		{"there is no lease, as before Kubernetes 1.20", []string{""}, "False", 1},
		{"the API server does not answer", []string{"fail"}, "False", 1},
		{"nobody comes", []string{renewed(time.Minute)}, "False", 25},
		{"in check mode", []string{renewed(time.Minute)}, "True", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.check = row.check
			n.write(n.bin+"/renewed", []byte(strings.Join(row.renewed, "\n")+"\n"), 0o600)
			n.write(n.bin+"/sleep", []byte("#!/bin/sh\n"), 0o700)
			n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
cd '%s' && echo "$*" >>asked
says=$(head -n "$(wc -l <asked)" renewed | tail -n 1)
[ "$says" != fail ] && printf '%%s' "$says"
`, n.bin), 0o700)
			if out, errs, err := n.run(role(t, "kubelet_bootstrap/files/signer.sh")); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			asked, _ := os.ReadFile(n.bin + "/asked")
			if got := strings.Count(string(asked), "get lease kube-controller-manager"); got != row.asked {
				t.Errorf("asked %d times, want %d:\n%s", got, row.asked, asked)
			}
		})
	}
}
