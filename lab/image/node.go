// Package image builds the machine image of a lab node: a Debian root file system from
// Debian's packages, Kubernetes' programs, and an archive of the control plane's container
// images to load into the node's runtime. It needs no container registry.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

//go:embed files
var files embed.FS

// recipe is part of the cache keys: increase it when a change below changes the result.
const recipe = "2"

// suite is the Debian release of a node.
const suite = "bookworm"

// ArchivePath is the path of the images on a node.
const ArchivePath = "/usr/local/share/kscertctl-lab/images.tar"

// nodePackages are the packages of a node: systemd, ssh, Python and a container runtime, and
// haproxy for the load balancer's machine.
var nodePackages = []string{
	"systemd", "systemd-sysv", "dbus", "openssh-server", "openssh-client", "sudo",
	"python3", "python3-minimal",
	"containerd", "runc", "containernetworking-plugins",
	"haproxy", "iproute2", "iptables", "conntrack", "ethtool", "socat", "kmod", "iputils-ping",
	"procps", "util-linux", "mount", "less", "curl", "openssl", "ca-certificates",
}

// customize runs in the new root file system: it creates the accounts of a Kubespray node, and
// removes what must be unique per machine.
const customize = `set -e
chroot "$1" groupadd --system kube-cert
chroot "$1" useradd --system --gid kube-cert --home-dir / --shell /usr/sbin/nologin kube
chroot "$1" useradd --create-home --shell /bin/bash kubespray
chroot "$1" systemctl --quiet disable haproxy
rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/etc/ssh/ssh_host_*
: > "$1"/etc/machine-id`

// maskedUnits are useless or harmful in a container.
var maskedUnits = []string{
	"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-udev-trigger.service",
	"systemd-logind.service", "systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service",
	"systemd-firstboot.service", "systemd-sysusers.service", "systemd-hwdb-update.service",
	"systemd-modules-load.service",
	"systemd-journald-audit.socket", "systemd-journal-catalog-update.service", "systemd-update-utmp.service",
	"systemd-pstore.service",
	"getty.target", "console-getty.service", "getty@tty1.service", "ldconfig.service",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer",
	"e2scrub_reap.service",
}

// Rootfs builds the node's Debian root file system, or finds it in the cache, and returns the
// path of its tar archive. It reports progress to tell, and output to log if it is not nil.
func Rootfs(ctx context.Context, cacheDir string, log io.Writer, tell progress.Func) (string, error) {
	key := cache.Digest([]byte(recipe), []byte(suite), []byte(strings.Join(nodePackages, ",")), []byte(customize))
	dir := filepath.Join(cacheDir, "rootfs", key)
	err := cache.Make(ctx, dir, func(tmp string) error {
		var out io.Writer = progress.Lines(installed(tell))
		if log != nil {
			out = io.MultiWriter(out, log)
		}
		_, err := sh.Run(ctx, sh.Command{Log: out, Args: []string{
			"mmdebstrap", "--verbose", "--variant=minbase", "--include=" + strings.Join(nodePackages, ","),
			"--aptopt=Apt::Install-Recommends \"false\"",
			// No half-written file system after a power failure.
			"--dpkgopt=force-unsafe-io",
			"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
			"--customize-hook=" + customize,
			suite, filepath.Join(tmp, "rootfs.tar"),
		}})
		return err
	})
	if err != nil {
		return "", fmt.Errorf("making the root file system of a node: %w", err)
	}
	return filepath.Join(dir, "rootfs.tar"), nil
}

var newlyInstalled = regexp.MustCompile(`^\d+ upgraded, (\d+) newly installed`)

// installed returns a function that reads mmdebstrap's lines. It calls apt twice: for the
// essential packages and for the others.
func installed(tell progress.Func) func(line string) {
	var part string
	var count *progress.Count
	return func(line string) {
		if found := newlyInstalled.FindStringSubmatch(line); found != nil {
			part = map[string]string{"": "essential package", "essential package": "package"}[part]
			total, _ := strconv.Atoi(found[1])
			count = progress.NewCount(tell, part, total, int64(total))
		}
		doing, ok := strings.CutPrefix(line, "I: ")
		switch {
		case count != nil && strings.HasPrefix(line, "Setting up "):
			count.Add(1)
		case ok && strings.HasSuffix(doing, "..."):
			tell.Say("%s", strings.TrimSuffix(doing, "..."))
		}
	}
}

// Programs are the built programs of a node.
type Programs struct {
	Kubernetes *kubebuild.Result
	Crictl     *kubebuild.Tool
	// Containerd takes the place of Debian's, if it is not nil.
	Containerd *kubebuild.Tool
	// Neighbours is nil for clusters without them.
	Neighbours *kubebuild.Neighbours
}

// Node builds the machine image from the built programs and the root file system, or finds it
// in the engine, and returns its name.
func Node(
	ctx context.Context, e *engine.Engine, cacheDir string, programs Programs, rootfs string, tell progress.Func,
) (string, error) {
	build := programs.Kubernetes
	extra, err := nodeFiles(programs)
	if err != nil {
		return "", err
	}
	key := [][]byte{[]byte(recipe), []byte(build.Digest), []byte(programs.Crictl.Digest), []byte(rootfs)}
	if programs.Containerd != nil {
		key = append(key, []byte(programs.Containerd.Digest))
	}
	if programs.Neighbours != nil {
		for _, tool := range programs.Neighbours.All() {
			key = append(key, []byte(tool.Digest))
		}
	}
	for _, f := range extra {
		key = append(key, []byte(fmt.Sprintf("%s %o %s %v", f.Path, f.Mode, f.Symlink, f.Dir)), f.Data)
	}
	ref := fmt.Sprintf("kscertctl-lab/node:v%s-%s", build.Version, cache.Digest(key...))

	unlock, err := cache.Lock(ctx, filepath.Join(cacheDir, "node-image.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if have, err := e.HasImage(ctx, ref); err != nil || have {
		return ref, err
	}
	tell.Say("the control plane's images are being written")
	archive, err := writeTempArchive(cacheDir, programs)
	if err != nil {
		return "", fmt.Errorf("writing the archive of the control plane images: %w", err)
	}
	defer os.Remove(archive)
	extra = append(extra, Entry{Path: ArchivePath[1:], Mode: 0o644, Source: archive})

	tell.Say("being imported")
	r, w := io.Pipe()
	go func() { w.CloseWithError(mergeTar(w, rootfs, extra)) }()
	_, err = e.DockerInput(ctx, r, "import",
		"--change", `ENTRYPOINT ["/usr/local/sbin/lab-entrypoint"]`,
		"--change", "ENV container=docker",
		"--change", "LABEL "+engine.LabelKey+"=image",
		"-", ref)
	r.CloseWithError(err)
	if err != nil {
		return "", fmt.Errorf("importing the node image: %w", err)
	}
	return ref, nil
}

func writeTempArchive(dir string, programs Programs) (path string, err error) {
	build := programs.Kubernetes
	layers, images, err := controlPlaneArchive(build.Dir, build.Images, programs.Neighbours)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "images-*.tar")
	if err != nil {
		return "", err
	}
	err = errors.Join(WriteArchive(f, layers, images), f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// mergeTar writes the root file system with the extra entries at the end.
func mergeTar(w io.Writer, rootfs string, extra Layer) error {
	f, err := os.Open(rootfs)
	if err != nil {
		return err
	}
	defer f.Close()
	replaced := map[string]bool{}
	for _, e := range extra {
		replaced[e.Path] = true
	}
	out, in := tar.NewWriter(w), tar.NewReader(f)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", rootfs, err)
		}
		if replaced[strings.Trim(strings.TrimPrefix(h.Name, "./"), "/")] {
			continue
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	for _, e := range extra {
		if err := e.write(out); err != nil {
			return fmt.Errorf("adding %s: %w", e.Path, err)
		}
	}
	return out.Close()
}

// nodeFiles are the files that turn a Debian machine into a node in Kubespray's layout.
func nodeFiles(programs Programs) (Layer, error) {
	build, config := programs.Kubernetes, "config.toml.tmpl"
	if programs.Containerd != nil {
		config = "config-v3.toml.tmpl"
	}
	pause, err := pauseRef(build.Images)
	if err != nil {
		return nil, err
	}
	var layer Layer
	for _, dir := range []string{
		"etc/systemd/journald.conf.d", "etc/kubernetes", "etc/kubernetes/manifests", "etc/kubernetes/ssl",
		"etc/cni", "etc/cni/net.d", "opt/cni", "opt/cni/bin", path.Dir(ArchivePath[1:]),
	} {
		layer = append(layer, Entry{Path: dir, Mode: 0o755, Dir: true})
	}
	for _, f := range []struct {
		path, source string
		mode         int64
	}{
		{"usr/local/sbin/lab-entrypoint", "entrypoint", 0o755},
		{"etc/containerd/config.toml", config, 0o644},
		{"etc/crictl.yaml", "crictl.yaml", 0o644},
		{"etc/systemd/journald.conf.d/lab.conf", "journald.conf", 0o644},
		{"etc/ssh/sshd_config.d/lab.conf", "sshd.conf", 0o644},
		{"etc/sudoers.d/kubespray", "sudoers", 0o440},
	} {
		data, err := files.ReadFile("files/" + f.source)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(f.source, ".tmpl") {
			if data, err = render(f.source, data, map[string]string{"Pause": pause}); err != nil {
				return nil, err
			}
		}
		layer = append(layer, Entry{Path: f.path, Mode: f.mode, Data: data})
	}
	link := func(path, target string) { layer = append(layer, Entry{Path: path, Symlink: target}) }
	link("etc/kubernetes/pki", "/etc/kubernetes/ssl")
	link("etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
	for _, unit := range maskedUnits {
		link("etc/systemd/system/"+unit, "/dev/null")
	}
	for _, plugin := range []string{"bridge", "loopback", "host-local", "portmap"} {
		link("opt/cni/bin/"+plugin, "/usr/lib/cni/"+plugin)
	}
	install := func(dir string, programs ...string) {
		for _, p := range programs {
			layer = append(layer, Entry{Path: dir + filepath.Base(p), Mode: 0o755, Source: p})
		}
	}
	install("usr/local/bin/", filepath.Join(build.Dir, "hyperkube"))
	install("usr/local/bin/", programs.Crictl.Programs...)
	if programs.Containerd != nil {
		install("usr/bin/", programs.Containerd.Programs...)
	}
	for _, applet := range []string{"kubeadm", "kubelet", "kubectl", "etcd", "etcdctl"} {
		link("usr/local/bin/"+applet, "hyperkube")
	}
	return layer, nil
}

func render(name string, text []byte, data any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
