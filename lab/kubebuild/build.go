// Package kubebuild builds the programs of a lab node for a Kubernetes version from the
// published Go modules, without release tarballs or an image registry.
package kubebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strings"

	"github.com/infrapuzzle/kscertctl/lab/hyperkube"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

// DefaultVersion is the default Kubernetes version of a lab.
const DefaultVersion = "1.34.4"

// recipe is part of the cache key: increase it when the build changes.
const recipe = "3"

// programs are the packages of the built binaries.
var programs = []string{"./hyperkube", "./pause", "./witness"}

// hasty disables inlining and debug information, which the linker drops anyway, for all but
// the standard library: this saves a sixth of the compile time. The standard library keeps its
// speed and its shared cache; of two patterns, the later wins.
var hasty = []string{"-gcflags=all=-l -dwarf=false", "-gcflags=std="}

var (
	versionPattern = regexp.MustCompile(`^1\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?$`)
	etcdPattern    = regexp.MustCompile(`^3\.\d+\.\d+$`)
)

// Versions are the versions to build, without a v.
type Versions struct {
	Kubernetes string
	// Etcd is empty for the version of Kubernetes' own client.
	Etcd string
}

func (v Versions) check() error {
	if !versionPattern.MatchString(v.Kubernetes) {
		return fmt.Errorf("%q is not a Kubernetes version (want 1.x.y or 1.x.y-beta.z)", v.Kubernetes)
	}
	if v.Etcd != "" && !etcdPattern.MatchString(v.Etcd) {
		return fmt.Errorf("%q is not an etcd version (want 3.x.y)", v.Etcd)
	}
	return nil
}

// Result describes a build.
type Result struct {
	Version string
	// Etcd is the version of etcd.
	Etcd string
	// Dir contains hyperkube, pause and the canary workload.
	Dir string
	// Images are the references that kubeadm of this version requires.
	Images []string
	// Digest changes with the contents.
	Digest string
}

// Build builds the programs of the versions, or finds them in the cache. The first build of a
// version takes minutes; it reports progress to tell, and the go command's output to log if it is
// not nil.
func Build(ctx context.Context, cacheDir string, v Versions, log io.Writer, tell progress.Func) (*Result, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	source, err := hyperkube.Source()
	if err != nil {
		return nil, err
	}
	digest, err := sourceDigest(source, v)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cacheDir, "kubernetes", v.Kubernetes+"-"+digest)
	err = cache.Make(ctx, dir, func(tmp string) error { return build(ctx, source, v, tmp, log, tell) })
	if err != nil {
		return nil, fmt.Errorf("building Kubernetes %s: %w", v.Kubernetes, err)
	}
	images, err := os.ReadFile(filepath.Join(dir, "images"))
	if err != nil {
		return nil, err
	}
	etcd, err := os.ReadFile(filepath.Join(dir, "etcd-version"))
	if err != nil {
		return nil, err
	}
	return &Result{Version: v.Kubernetes, Etcd: strings.TrimPrefix(string(etcd), "v"), Dir: dir,
		Images: strings.Fields(string(images)), Digest: digest}, nil
}

func sourceDigest(source fs.FS, v Versions) (string, error) {
	parts := [][]byte{[]byte(recipe), []byte(v.Kubernetes), []byte(v.Etcd), []byte(runtime.Version())}
	var paths []string
	err := fs.WalkDir(source, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	sort.Strings(paths)
	for _, path := range paths {
		data, err := fs.ReadFile(source, path)
		if err != nil {
			return "", err
		}
		parts = append(parts, []byte(path), data)
	}
	return cache.Digest(parts...), nil
}

func build(ctx context.Context, source fs.FS, v Versions, out string, log io.Writer, tell progress.Func) error {
	m, err := newModule(ctx, source, v, log, tell)
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	if err := m.build(ctx, out); err != nil {
		return err
	}
	etcd, err := sh.Run(ctx, sh.Command{
		Args: []string{"go", "list", "-m", "-f", "{{.Version}}", etcdServer}, Dir: m.dir, Env: m.env(),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "etcd-version"), bytes.TrimSpace(etcd), 0o644); err != nil {
		return err
	}
	// kubeadm prints the images, so that no table of etcd and pause tags has to be maintained.
	images, err := sh.Run(ctx, sh.Command{Args: []string{
		filepath.Join(out, "hyperkube"), "kubeadm", "config", "images", "list", "--kubernetes-version", "v" + v.Kubernetes,
	}})
	if err != nil {
		return fmt.Errorf("asking kubeadm for its images: %w", err)
	}
	return os.WriteFile(filepath.Join(out, "images"), images, 0o644)
}

// Fetch downloads all modules of a Kubernetes version and its crictl without building.
func Fetch(ctx context.Context, v Versions, tell progress.Func) error {
	if err := v.check(); err != nil {
		return err
	}
	source, err := hyperkube.Source()
	if err != nil {
		return err
	}
	m, err := newModule(ctx, source, v, nil, tell)
	if err != nil {
		return err
	}
	if err := m.fetch(ctx); err != nil {
		return err
	}
	if m, err = crictl.newModule(ctx, crictlVersion(v.Kubernetes), nil, tell); err != nil {
		return err
	}
	return m.fetch(ctx)
}

// fetch downloads all modules, and removes the generated one.
func (m *generated) fetch(ctx context.Context) error {
	defer os.RemoveAll(m.dir)
	_, err := sh.Run(ctx, sh.Command{Args: []string{"go", "mod", "download"}, Dir: m.dir, Env: m.env()})
	return err
}

// generated is a generated module, with what the go command builds there.
type generated struct {
	dir      string
	programs []string
	flags    []string
	log      io.Writer
	tell     progress.Func
}

// newModule generates the module in a temporary directory.
func newModule(
	ctx context.Context, source fs.FS, v Versions, log io.Writer, tell progress.Func,
) (*generated, error) {
	m := &generated{programs: programs, flags: []string{"-ldflags", linkerFlags(v.Kubernetes)}, log: log, tell: tell}
	tell.Say("its source is being downloaded")
	kubernetes, err := download(ctx, "k8s.io/kubernetes", v.Kubernetes)
	if err != nil {
		return nil, err
	}
	if m.dir, err = os.MkdirTemp("", "kscertctl-lab-build-"); err != nil {
		return nil, err
	}
	if err := writeModule(source, kubernetes, v, m.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("generating the module: %w", err), os.RemoveAll(m.dir))
	}
	return m, nil
}

// build builds the programs into out.
func (m *generated) build(ctx context.Context, out string) error {
	packages, err := m.packages(ctx)
	if err != nil {
		return fmt.Errorf("looking for what is to be compiled: %w", err)
	}
	if err := m.compile(ctx, packages, out); err != nil {
		return fmt.Errorf("compiling: %w", err)
	}
	return nil
}

// run calls the go command for the programs, and line for each line of its output.
func (m *generated) run(ctx context.Context, line func(string), args ...string) ([]byte, error) {
	args = slices.Concat([]string{"go"}, args, m.flags, hasty, m.programs)
	var log io.Writer = progress.Lines(line)
	if m.log != nil {
		log = io.MultiWriter(log, m.log)
	}
	return sh.Run(ctx, sh.Command{Args: args, Dir: m.dir, Log: log, Env: m.env()})
}

// env has the settings of all builds for a demo, so that they share a compiled standard
// library.
func (*generated) env() []string {
	return []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=mod -trimpath -buildvcs=false", newerGo}
}

// newerGo lets the go command fetch, as a module, the Go that a version demands which is newer than this one.
const newerGo = "GOTOOLCHAIN=auto"

// packages returns the packages to compile, and the size of their source. It downloads the
// modules.
func (m *generated) packages(ctx context.Context) (map[string]int64, error) {
	m.tell.Say("its packages are being looked for")
	modules := 0
	out, err := m.run(ctx, func(line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			modules++
			m.tell.Say("module %d is being downloaded", modules)
		}
	}, "list", "-deps", "-f",
		`{{if .Stale}}{{.ImportPath}}{{"\t"}}{{.Dir}}{{range .GoFiles}}{{"\t"}}{{.}}{{end}}{{end}}`)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) < 2 {
			continue
		}
		var size int64
		for _, file := range fields[2:] {
			if info, err := os.Stat(filepath.Join(fields[1], file)); err == nil {
				size += info.Size()
			}
		}
		sizes[fields[0]] = size
	}
	return sizes, nil
}

// compile builds all programs with one go command, which keeps all processors busy.
func (m *generated) compile(ctx context.Context, packages map[string]int64, out string) error {
	var whole int64
	for _, size := range packages {
		whole += size
	}
	count := progress.NewCount(m.tell, "package", len(packages), whole)
	var printed []string
	_, err := m.run(ctx, func(line string) {
		if size, ok := packages[line]; ok {
			count.Add(size)
		} else {
			printed = append(printed, line)
		}
	}, "build", "-v", "-o", out+string(filepath.Separator))
	if failed, ok := errors.AsType[*sh.Error](err); ok {
		// Package names alone do not explain a failure.
		failed.Output = strings.Join(printed, "\n")
	}
	return err
}

// download downloads a module and returns its directory.
func download(ctx context.Context, path, version string) (string, error) {
	out, err := sh.Run(ctx, sh.Command{
		Args: []string{"go", "mod", "download", "-json", path + "@v" + version},
		Dir:  os.TempDir(), Env: []string{"GOWORK=off", "GOFLAGS=", newerGo},
	})
	if err != nil {
		return "", fmt.Errorf("downloading the module %s: %w", path, err)
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		return "", fmt.Errorf("reading what go mod download printed: %w", err)
	}
	return info.Dir, nil
}

// writeModule writes the module to build into dir.
func writeModule(source fs.FS, kubernetes string, v Versions, dir string) error {
	if err := os.CopyFS(dir, source); err != nil {
		return err
	}
	if err := writeApplets(kubernetes, dir); err != nil {
		return err
	}
	kubernetesMod, err := os.ReadFile(filepath.Join(kubernetes, "go.mod"))
	if err != nil {
		return err
	}
	mod, err := generateMod(kubernetesMod, v)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "go.mod"), mod); err != nil {
		return err
	}
	// Kubernetes' checksums avoid most lookups; go build adds the rest.
	sum, err := os.ReadFile(filepath.Join(kubernetes, "go.sum"))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "go.sum"), sum)
}

// linkerFlags sets the version as Kubernetes' own build does; kubeadm and the API machinery do
// not work without.
func linkerFlags(version string) string {
	parts := strings.SplitN(version, ".", 3)
	flags := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, kv := range [][2]string{
			{"gitVersion", "v" + version}, {"gitMajor", parts[0]}, {"gitMinor", parts[1]},
			{"gitTreeState", "clean"}, {"gitCommit", strings.Repeat("0", 40)}, {"buildDate", "2026-01-01T00:00:00Z"},
		} {
			flags = append(flags, "-X", fmt.Sprintf("%s.%s=%s", pkg, kv[0], kv[1]))
		}
	}
	return strings.Join(flags, " ")
}
