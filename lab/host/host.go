// Package host makes the machine fit for a lab: the Debian packages, kernel
// settings and container engine that nested Kubernetes nodes need. Everything
// it does is idempotent, and it changes nothing that is already good.
package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

// A tool is a program the lab calls and the Debian package that brings it.
type tool struct{ command, pkg string }

// Tools are what every lab needs; EngineTools what it needs to start a
// container engine where none runs.
var (
	tools = []tool{{"mmdebstrap", "mmdebstrap"}, {"ssh-keygen", "openssh-client"},
		{"ansible-playbook", "ansible-core"}, {"docker", "docker.io"}}
	engineTools = []tool{{"dockerd", "docker.io"}, {"containerd", "containerd"}, {"runc", "runc"},
		{"iptables", "iptables"}}
)

// missing returns the packages of the commands that are not on the machine.
// One that came from elsewhere than Debian is as good.
func missing(wanted []tool, exists func(command string) bool) []string {
	var names []string
	for _, t := range wanted {
		if !exists(t.command) && !slices.Contains(names, t.pkg) {
			names = append(names, t.pkg)
		}
	}
	return names
}

// EnsureTools installs what every lab needs.
func EnsureTools(ctx context.Context, log io.Writer) error { return ensure(ctx, tools, log) }

// EnsureEngineTools installs what starting a container engine needs.
func EnsureEngineTools(ctx context.Context, log io.Writer) error {
	return ensure(ctx, engineTools, log)
}

// ensure installs the Debian packages that are missing. It waits for another
// package manager to finish.
func ensure(ctx context.Context, wanted []tool, log io.Writer) error {
	names := missing(wanted, func(command string) bool { _, err := exec.LookPath(command); return err == nil })
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	apt := func(args ...string) error {
		args = append([]string{"apt-get", "-o", "DPkg::Lock::Timeout=300", "-q"}, args...)
		_, err := sh.Run(ctx, sh.Command{Args: args, Env: env, Log: log})
		return err
	}
	install := append([]string{"install", "-y", "--no-install-recommends"}, names...)
	if apt(install...) == nil {
		return nil
	}
	// The package lists may be stale or absent on a new machine.
	if err := apt("update"); err != nil {
		return fmt.Errorf("updating the package lists: %w", err)
	}
	if err := apt(install...); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(names, " "), err)
	}
	return nil
}

// sysctls are minimums. Each node's systemd, containerd and kubelet hold
// inotify instances; at the kernel's default of 128 the seventh node comes up
// without a working container runtime.
var sysctls = []struct {
	name string
	min  int
}{
	{"fs.inotify.max_user_instances", 4096},
	{"fs.inotify.max_user_watches", 524288},
}

// EnsureSysctls raises the kernel settings that are too low.
func EnsureSysctls() error {
	for _, s := range sysctls {
		path := "/proc/sys/" + strings.ReplaceAll(s.name, ".", "/")
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", s.name, err)
		}
		now, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			return fmt.Errorf("reading %s: %w", s.name, err)
		}
		if now >= s.min {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(s.min)), 0o644); err != nil {
			return fmt.Errorf("setting %s to %d: %w", s.name, s.min, err)
		}
	}
	return nil
}
