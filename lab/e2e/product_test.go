//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// kscertctl runs kscertctl with a new state directory.
func kscertctl(ctx context.Context, t *testing.T, args ...string) outcome {
	t.Helper()
	return kscertctlIn(ctx, t, t.TempDir(), args...)
}

// kscertctlIn runs kscertctl with an existing state directory.
func kscertctlIn(ctx context.Context, t *testing.T, stateDir string, args ...string) outcome {
	t.Helper()
	started := time.Now()
	o := start(ctx, t, stateDir, args...).wait()
	o.took = time.Since(started)
	return o
}

// want fails the test unless the exit code matches and the output contains the texts.
func (o outcome) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if o.code != code {
		t.Fatalf("kscertctl exited with %d, want %d\nstdout:\n%s\nstderr:\n%s", o.code, code, o.stdout, o.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(o.stdout+o.stderr, text) {
			t.Errorf("kscertctl did not print %q\nstdout:\n%s\nstderr:\n%s", text, o.stdout, o.stderr)
		}
	}
}

// wantUnchanged fails the test if f changes files on the nodes.
func wantUnchanged(ctx context.Context, t *testing.T, c *cluster.Cluster, f func()) {
	t.Helper()
	before := filesDigest(ctx, t, c)
	f()
	if diff := before.Diff(filesDigest(ctx, t, c)); len(diff) > 0 {
		t.Errorf("files on the nodes have changed:\n%s", strings.Join(diff, "\n"))
	}
}

// wantNoKeys fails the test if the run's record or the output contains a line of a private key
// of the cluster.
func wantNoKeys(ctx context.Context, t *testing.T, c *cluster.Cluster, o outcome) {
	t.Helper()
	var keys []string
	for _, n := range c.Nodes() {
		// The first lines of an RSA key encode its modulus, which is public: the certificate
		// has the same bytes, sometimes with the same alignment.
		out, err := c.Shell(ctx, n.Name, `
secret() { awk '/BEGIN.*PRIVATE KEY/{n=0; key=1; next} /END/{key=0} key && ++n>8' "$@"; }
conf=`+c.Spec.ConfigDir+`
for f in $(find $conf/ssl/ /etc/ssl/etcd /var/lib/kubelet/pki /var/backups/kscertctl -type f); do secret "$f"; done
for f in $(find $conf /root/.kube /var/backups/kscertctl -type f -name '*.conf' -o -name config -type f); do
  awk '$1=="client-key-data:"{print $2}' "$f" | base64 -d 2>/dev/null | secret
  awk '$1=="client-key-data:"{print $2}' "$f" | fold -w 64 | tail -n +12
done`)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			// Only complete lines of key material: PEM's header is no secret.
			if line = strings.TrimSpace(line); len(line) == 64 {
				keys = append(keys, line)
			}
		}
	}
	if len(keys) < 100 {
		t.Fatalf("only %d lines of private keys were found: the search itself is broken", len(keys))
	}
	search := func(where, text string) {
		for _, key := range keys {
			if strings.Contains(text, key) {
				t.Errorf("private key material is in %s", where)
				return
			}
		}
	}
	search("standard output", o.stdout)
	search("standard error", o.stderr)
	files := 0
	err := filepath.WalkDir(o.stateDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		search(path, string(revealed(data)))
		return err
	})
	if err != nil || files < 5 {
		t.Fatalf("the run's record has %d files: %v", files, err)
	}
}

// sshKey creates a key that no node accepts.
func sshKey(ctx context.Context, t *testing.T, path string) {
	t.Helper()
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
