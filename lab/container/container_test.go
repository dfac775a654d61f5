//go:build e2e

package container_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/container"
	"github.com/infrapuzzle/kscertctl/lab/engine"
)

const image = "kscertctl-lab/kscertctl:test"

// TestContainer checks that the Containerfile's image has kscertctl and an Ansible that it can
// use, runs as an arbitrary user with a read-only file system, and contains no key.
func TestContainer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	e, err := container.Build(ctx, "../..", image, t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		docker(context.WithoutCancel(ctx), t, e, "rmi", image)
	})
	size := docker(ctx, t, e, "image", "inspect", "--format", "{{.Size}}", image)
	t.Logf("%s bytes", bytes.TrimSpace(size))

	t.Run("configuration", func(t *testing.T) {
		const want = `10001:10001 /work ["tini","--","kscertctl"] {"/var/lib/kscertctl":{}}`
		out := docker(ctx, t, e, "image", "inspect", "--format", `{{with .Config}}{{.User}} {{.WorkingDir}} {{json .Entrypoint}} {{json .Volumes}}{{end}}`, image)
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})

	t.Run("version", func(t *testing.T) {
		o := run(ctx, t, e, nil, "version")
		if o.code != 0 || !strings.HasPrefix(o.stdout, "kscertctl ") {
			t.Errorf("%+v", o)
		}
	})

	t.Run("not root, and its records can be written", func(t *testing.T) {
		out := docker(ctx, t, e, "run", "--rm", "--entrypoint", "sh", image, "-c", `id -un && cd && pwd && touch record && echo written`)
		if got := string(out); got != "kscertctl\n/var/lib/kscertctl\nwritten\n" {
			t.Errorf("%q", got)
		}
	})

	// 192.0.2.0/24 is reserved (RFC 5737), and the container has no network anyway. The
	// container gets the options of examples/pipelines/kubernetes-cronjob.yaml.
	t.Run("a node that cannot be reached", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		inventory := "[kube_control_plane]\ncp1 ansible_host=192.0.2.1\n[etcd]\ncp1\n[kube_node]\ncp1\n"
		if err := os.WriteFile(filepath.Join(dir, "inventory.ini"), []byte(inventory), 0o644); err != nil {
			t.Fatal(err)
		}
		flags := []string{
			"--network", "none", "--read-only", "--tmpfs", "/tmp", "--env", "HOME=/tmp",
			"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", dir + ":/work:ro",
		}
		o := run(ctx, t, e, flags, "check", "-i", "inventory.ini", "--verbose")
		if o.code != 4 || !strings.Contains(o.stderr, "error: unknown, so not healthy: cp1\n") {
			t.Errorf("exit code %d, want 4, and cp1 named\n%s%s", o.code, o.stdout, o.stderr)
		}
		// Ansible's own words, and those of its ssh.
		for _, words := range []string{"PLAY RECAP", "unreachable=1", "Network is unreachable"} {
			if !strings.Contains(o.stdout+o.stderr, words) {
				t.Errorf("nothing of %q in\n%s%s", words, o.stdout, o.stderr)
			}
		}
	})

	t.Run("no private key", func(t *testing.T) {
		id := strings.TrimSpace(string(docker(ctx, t, e, "create", image)))
		defer docker(ctx, t, e, "rm", "--volumes", id)
		files, keys := privateKeys(t, docker(ctx, t, e, "export", id))
		if len(keys) > 0 || files < 1000 {
			t.Errorf("private keys in %q, of %d files", keys, files)
		}
	})
}

func docker(ctx context.Context, t *testing.T, e *engine.Engine, args ...string) []byte {
	t.Helper()
	out, err := e.Docker(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type outcome struct {
	code           int
	stdout, stderr string
}

// run runs kscertctl in a container.
func run(ctx context.Context, t *testing.T, e *engine.Engine, flags []string, args ...string) outcome {
	t.Helper()
	line := append([]string{"run", "--rm"}, flags...)
	line = e.Command(append(append(line, image), args...)...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// privateKeys names the files of an archive with a key in PEM, of any kind. Programs that
// only speak of keys have the first line of one, but no key after it; libraries may hold
// keys that everybody knows, to test themselves with.
func privateKeys(t *testing.T, archive []byte) (files int, keys []string) {
	t.Helper()
	key := regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{20}`)
	for r := tar.NewReader(bytes.NewReader(archive)); ; files++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, keys
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(h.Name, ".so.") {
			continue
		}
		if key.Match(data) || strings.HasPrefix(filepath.Base(h.Name), "ssh_host_") {
			keys = append(keys, h.Name)
		}
	}
}
