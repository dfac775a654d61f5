//go:build e2e

package scale

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
)

// TestHostileRequests: the requests of one worker neither block the others' requests nor occupy the
// signer.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	playbooks, err := filepath.Abs(books)
	must(t, err)
	for name, asks := range map[string]string{
		"long": strings.Repeat("request: "+strings.Repeat("A", 29990)+"\n", 8),
		"many": strings.Repeat("request: QUJD|QUJD|QUJD\n", 400),
	} {
		b := battlefield{stage: newStage(t), marks: marks(t.TempDir())}
		b.farm = newFarm(t, []host{
			b.host("cp1", true, map[string]string{"raw": "issued: w1|QUJD\n"}),
			b.host("w1", false, map[string]string{"raw": "changed: it\nrequest: SE9ORVNU|QUJD|QUJD\n"}),
			b.host("hostile", false, map[string]string{"raw": "changed: it\n" + asks}),
		})
		out := b.byHand(t, testansible.Bins(t)[0], filepath.Join(playbooks, "kubelet-bootstrap.yml"), "-e", "kscert_approve_serving=false")
		asked := b.asked("cp1")
		if scripts := strings.Count(asked, "KSCERT_REQUESTS="); scripts != 1 || !strings.Contains(asked, "w1|w1|SE9ORVNU") {
			t.Errorf("%s: %d scripts for the signer, w1's request among them: %t\n%s", name, scripts, strings.Contains(asked, "w1|w1|SE9ORVNU"), out)
		}
	}
}
