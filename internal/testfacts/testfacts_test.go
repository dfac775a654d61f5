package testfacts_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testfacts"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// What a node can make long is refused by the plugin, too, before it costs the control node much.
func TestPluginIsBounded(t *testing.T) {
	t.Parallel()
	var files, many, kubeconfigs strings.Builder
	for i := range 101 {
		fmt.Fprintf(&kubeconfigs, "@@KUBECONFIG 600 root root 0 1 /x%d\n", i)
	}
	for i := range 1001 {
		fmt.Fprintf(&files, "@@FILE 600 root root 1 1 /x%d\n|x\n", i)
	}
	for i := range 30 {
		fmt.Fprintf(&many, "@@FILE 600 root root 1 1 /x%d\n%s", i, strings.Repeat("|-----BEGIN CERTIFICATE-----\n", 90))
	}
	fields := "|a0: &a0 {a: b}\n"
	for i := range 20 {
		fields += fmt.Sprintf("|a%d: &a%d {<<: [*a%d, *a%d]}\n", i+1, i+1, i, i)
	}
	alias := "|users: [{name: a, user: &u {client-certificate-data: " + strings.Repeat("A", 1<<16) + "}}" +
		strings.Repeat(", {name: a, user: *u}", 1<<8) + "]\n"
	for name, records := range map[string]string{
		"aliases":      "@@KUBECONFIG 600 root root 1 1 /x\n" + alias,
		"merge keys":   "@@KUBECONFIG 600 root root 1 1 /x\n" + fields,
		"a fact":       "@@FACT x " + strings.Repeat("x", 1<<15) + "\n",
		"kubeconfigs":  kubeconfigs.String(),
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

// Certificates of odd kinds (testdata, named after what is odd) are the same for the plugin as for
// kscertctl: what one of them cannot read is reported of that file, and the node is known.
func TestOddCertificates(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.pem")
	if err != nil || len(files) < 20 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".pem"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := "|" + strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "\n|") + "\n"
			output := []byte("@@KSCERT 3 1\n@@FACT pki /pki\n@@FILE 600 root root 1 1 /pki/apiserver.crt\n" + text +
				"@@TLS kube-apiserver 0 10.0.0.1:6443\n|CONNECTED\n" + text + "@@END\n")
			n, err := snapshot.Parse(cluster.Node{Name: "cp1"}, output)
			if err != nil {
				t.Fatal(err)
			}
			testfacts.Compare(t, output, n, nil)
		})
	}
}
