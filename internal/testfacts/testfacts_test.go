package testfacts_test

import (
	"encoding/base64"
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

// A name that Ansible takes for its own would make a cache of facts useless, for all hosts.
func TestPluginRefusesNamesOfAnsible(t *testing.T) {
	t.Parallel()
	for _, record := range []string{
		"@@FACT __ansible_type x", "@@USE __ansible_type x", "@@SETTINGS\n|__ansible_type x",
		"@@UNIT __ansible_type active running 0 1", "@@DISK 1 1 1 __ansible_type",
	} {
		testfacts.Compare(t, []byte("@@KSCERT 3 1\n"+record+"\n@@END\n"), snapshot.Node{}, errors.New("not a name"))
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

// Texts of odd forms are the same for the plugin as for kscertctl.
func TestOddTexts(t *testing.T) {
	t.Parallel()
	pem, err := os.ReadFile("testdata/ed25519.pem")
	if err != nil {
		t.Fatal(err)
	}
	block := "|" + strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n|") + "\n"
	encoded := base64.StdEncoding.EncodeToString(pem)
	user := func(of string) string { return "|users: [{name: a, user: {" + of + "}}]\n" }
	named := "|{current-context: n, contexts: [{name: n, context: {user: nulls}}], "
	const file = "@@FILE 600 root root 1 1 /pki/apiserver.crt\n"
	const config = "@@KUBECONFIG 600 root root 1 1 /etc/admin.conf\n"
	const home = "@@KUBECONFIG 600 root root 1 1 /root/.kube/config\n"
	for name, records := range map[string]string{
		"a setting with a line separator":   "@@SETTINGS\n|etcd.name a\u2028etcd.cert-file /x\n",
		"a setting with a vertical tab":     "@@SETTINGS\n|etcd.name a\vetcd.cert-file /x\n",
		"a block that is no base64":         file + strings.Replace(block, "M", "!M", 1),
		"a block that is no base64, behind": file + block + strings.Replace(block, "M", "!M", 1) + block,
		"base64 with a blank":               config + user("client-certificate-data: "+encoded[:8]+" "+encoded[8:]),
		"lists that are null":               home + "|{clusters: null, contexts: ~, users: NULL}\n",
		"a name that begins like null":      config + named + "users: [{name: nulls, user: {client-key: /x}}]}\n",
		"two documents":                     config + user("client-certificate: /x") + "|---\n|users: []\n",
		"a mode of Python":                  "@@FILE 0o600 root root 1 1 /pki/apiserver.crt\n" + block,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := "@@FACT pki /pki\n@@FACT config-dir /etc\n@@FACT home-dir /root/.kube\n"
			output := []byte("@@KSCERT 3 1\n" + facts + records + "@@END\n")
			n, err := snapshot.Parse(cluster.Node{Name: "cp1"}, output)
			testfacts.Compare(t, output, n, err)
		})
	}
}
