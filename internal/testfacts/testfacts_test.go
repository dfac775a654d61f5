package testfacts_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testfacts"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// What a node can make long is refused by the plugin, too, before it costs the control node much.
func TestPluginIsBounded(t *testing.T) {
	t.Parallel()
	var files, many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&files, "@@FILE 600 root root 1 1 /x%d\n|x\n", i)
	}
	for i := range 30 {
		fmt.Fprintf(&many, "@@FILE 600 root root 1 1 /x%d\n%s", i, strings.Repeat("|-----BEGIN CERTIFICATE-----\n", 90))
	}
	for name, records := range map[string]string{
		"files":        files.String(),
		"certificates": many.String(),
		"a chain":      "@@FILE 600 root root 1 1 /x\n" + strings.Repeat("|-----BEGIN CERTIFICATE-----\n", 101),
		"a kubeconfig": "@@KUBECONFIG 600 root root 1 1 /x\n" + strings.Repeat("|- a: [b, c, {d: e}]\n", 1<<16),
		"an answer":    "@@RESULT x 0\n|" + strings.Repeat("x", 4<<20) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testfacts.Compare(t, []byte("@@KSCERT 3 1\n"+records+"@@END\n"), snapshot.Node{}, errors.New("too much"))
		})
	}
}
