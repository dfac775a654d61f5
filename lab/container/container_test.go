//go:build e2e

// Package container builds the project's container image and runs it. No registry takes
// part: the base is made of Debian's packages, as the lab's nodes are, and the engine is
// the lab's.
package container

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

	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/host"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

const (
	root  = "../.."
	base  = "kscertctl-lab/debian:bookworm"
	image = "kscertctl-lab/kscertctl:test"
)

// TestContainer checks that the Containerfile's image has kscertctl and an Ansible that it can
// use, runs as an arbitrary user with a read-only file system, and contains no key.
func TestContainer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	e := start(ctx, t)
	build(ctx, t, e)

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

// start returns an engine. Without one the image cannot be tested, so the test fails instead
// of passing silently.
func start(ctx context.Context, t *testing.T) *engine.Engine {
	t.Helper()
	dir, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.EnsureTools(ctx, t.Output()); err != nil {
		t.Fatal(err)
	}
	e := engine.Find(ctx, dir)
	if e == nil {
		if err := host.EnsureEngineTools(ctx, t.Output()); err != nil {
			t.Fatal(err)
		}
		if e, err = engine.Ensure(ctx, dir); err != nil {
			t.Fatalf("NOT TESTED: the image can only be built where a container engine runs or can be started: %v", err)
		}
	}
	have, err := e.HasImage(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	if !have {
		rootfs := filepath.Join(t.TempDir(), "rootfs.tar")
		if _, err := sh.Run(ctx, sh.Command{Args: []string{"mmdebstrap", "--variant=minbase", "bookworm", rootfs}}); err != nil {
			t.Fatal(err)
		}
		docker(ctx, t, e, "import", "--change", "LABEL "+engine.LabelKey+"=image", rootfs, base)
	}
	return e
}

// build builds the image like a user who has the program in a directory, except for the base.
// apt-get uses the machine's network: the lab's engine may have none.
func build(ctx context.Context, t *testing.T, e *engine.Engine) {
	t.Helper()
	dir := t.TempDir()
	if _, err := sh.Run(ctx, sh.Command{
		Args: []string{"go", "build", "-trimpath", "-o", filepath.Join(dir, "kscertctl"), "./cmd/kscertctl"},
		Dir:  root, Env: []string{"CGO_ENABLED=0"},
	}); err != nil {
		t.Fatal(err)
	}
	docker(ctx, t, e, "build", "--network", "host", "--build-arg", "BASE="+base, "--label", engine.LabelKey+"=image",
		"--file", filepath.Join(root, "Containerfile"), "--tag", image, dir)
	t.Cleanup(func() {
		docker(context.WithoutCancel(ctx), t, e, "rmi", image)
	})
	size := docker(ctx, t, e, "image", "inspect", "--format", "{{.Size}}", image)
	t.Logf("%s bytes", bytes.TrimSpace(size))
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
