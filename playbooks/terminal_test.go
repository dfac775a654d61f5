package playbooks_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// raw has a terminal without a user: openssl does not ask for a passphrase, and nothing reads
// input.
func TestNobodyIsAsked(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	key := n.conf + "/key"
	if out, err := exec.CommandContext(t.Context(), "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-aes128", "-pass", "pass:word", "-out", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.write(n.conf+"/script", []byte(lib(t)+`
openssl pkey -in '`+key+`' -pubout || echo 'it cannot be read'
read -r line || echo 'nothing is typed'
`), 0o600)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", "sh "+n.conf+"/script", "/dev/null")
	cmd.Env = n.command("").Env
	r, w, err := os.Pipe()
	n.ok(err)
	defer r.Close()
	defer w.Close() // no one types
	cmd.Stdin, cmd.WaitDelay = r, time.Second
	out, _ := cmd.CombinedOutput()
	if ctx.Err() != nil || !strings.Contains(string(out), "it cannot be read") || !strings.Contains(string(out), "nothing is typed") {
		t.Errorf("it waits at the terminal: %q", out)
	}
}
