// Package kubebuild makes the programs of a lab node for one Kubernetes
// version from the published Go modules: no release tarball, no image registry.
package kubebuild

import (
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
	"sort"
	"strings"

	"github.com/infrapuzzle/kscertctl/lab/hyperkube"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

// DefaultVersion is the Kubernetes version a lab runs if none is asked for.
const DefaultVersion = "1.34.4"

// recipe is part of the cache key: raise it when the way of building changes.
const recipe = "2"

// programs are the binaries made, by the directory of their source.
var programs = []string{"hyperkube", "crictl", "pause", "witness"}

// hasty has all but the standard library compiled without inlining and without what
// debuggers read, which the linker drops: a sixth of the compiler's time. The standard
// library remains as fast, and as shared, as it is; of two patterns, the later counts.
var hasty = []string{"-gcflags=all=-l -dwarf=false", "-gcflags=std="}

var versionPattern = regexp.MustCompile(`^1\.\d+\.\d+$`)

// Result is what was built.
type Result struct {
	Version string
	// Dir holds the files hyperkube, crictl, pause and witness.
	Dir string
	// Images are the references kubeadm of this version asks for.
	Images []string
	// Digest changes whenever any of it does.
	Digest string
}

// Build makes the programs of a version (1.33.13, no v), or finds them in the
// cache. The first build of a version takes minutes; tell is told how far it is
// meanwhile, and log, if there is one, gets what the go command says.
func Build(ctx context.Context, cacheDir, version string, log io.Writer, tell progress.Func) (*Result, error) {
	version = strings.TrimPrefix(version, "v")
	if !versionPattern.MatchString(version) {
		return nil, fmt.Errorf("%q is not a Kubernetes version (want 1.x.y)", version)
	}
	source, err := hyperkube.Source()
	if err != nil {
		return nil, err
	}
	digest, err := sourceDigest(source, version)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cacheDir, "kubernetes", version+"-"+digest)
	err = cache.Make(ctx, dir, func(tmp string) error { return build(ctx, source, version, tmp, log, tell) })
	if err != nil {
		return nil, fmt.Errorf("building Kubernetes %s: %w", version, err)
	}
	images, err := os.ReadFile(filepath.Join(dir, "images"))
	if err != nil {
		return nil, err
	}
	return &Result{Version: version, Dir: dir, Images: strings.Fields(string(images)), Digest: digest}, nil
}

func sourceDigest(source fs.FS, version string) (string, error) {
	parts := [][]byte{[]byte(recipe), []byte(version), []byte(runtime.Version())}
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

func build(ctx context.Context, source fs.FS, version, out string, log io.Writer, tell progress.Func) error {
	m, err := newModule(ctx, source, version, log, tell)
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	packages, err := m.packages(ctx)
	if err != nil {
		return fmt.Errorf("looking for what is to be compiled: %w", err)
	}
	if err := m.compile(ctx, packages, out); err != nil {
		return fmt.Errorf("compiling: %w", err)
	}
	// The images are named by kubeadm itself, so that no table of etcd and
	// pause tags has to be kept for each version.
	images, err := sh.Run(ctx, sh.Command{Args: []string{
		filepath.Join(out, "hyperkube"), "kubeadm", "config", "images", "list", "--kubernetes-version", "v" + version,
	}})
	if err != nil {
		return fmt.Errorf("asking kubeadm for its images: %w", err)
	}
	return os.WriteFile(filepath.Join(out, "images"), images, 0o644)
}

// Fetch downloads all modules of a version, and builds nothing.
func Fetch(ctx context.Context, version string, tell progress.Func) error {
	source, err := hyperkube.Source()
	if err != nil {
		return err
	}
	m, err := newModule(ctx, source, version, nil, tell)
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	_, err = sh.Run(ctx, sh.Command{Args: []string{"go", "mod", "download"}, Dir: m.dir, Env: m.env()})
	return err
}

// generated is the generated module, and the way the go command is called in it.
type generated struct {
	dir, version string
	log          io.Writer
	tell         progress.Func
}

// newModule generates the module in a folder of its own.
func newModule(
	ctx context.Context, source fs.FS, version string, log io.Writer, tell progress.Func,
) (*generated, error) {
	m := &generated{version: version, log: log, tell: tell}
	tell.Say("its source is being downloaded")
	kubernetes, err := downloadKubernetes(ctx, version)
	if err != nil {
		return nil, err
	}
	if m.dir, err = os.MkdirTemp("", "kscertctl-lab-build-"); err != nil {
		return nil, err
	}
	if err := writeModule(source, kubernetes, version, m.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("generating the module: %w", err), os.RemoveAll(m.dir))
	}
	return m, nil
}

// run calls the go command for the programs; line gets each line that it says.
func (m *generated) run(ctx context.Context, line func(string), args ...string) ([]byte, error) {
	args = append(append([]string{"go"}, args...), "-ldflags", linkerFlags(m.version))
	args = append(args, hasty...)
	for _, program := range programs {
		args = append(args, "./"+program)
	}
	var log io.Writer = progress.Lines(line)
	if m.log != nil {
		log = io.MultiWriter(log, m.log)
	}
	return sh.Run(ctx, sh.Command{Args: args, Dir: m.dir, Log: log, Env: m.env()})
}

// env has the settings of all that is built for a demo, so that the standard library is
// compiled once for all.
func (*generated) env() []string {
	return []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=mod -trimpath -buildvcs=false"}
}

// packages are those that have to be compiled, and the size of their source. Finding them
// downloads the modules.
func (m *generated) packages(ctx context.Context) (map[string]int64, error) {
	m.tell.Say("its packages are being looked for")
	modules := 0
	out, err := m.run(ctx, func(line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			modules++
			m.tell.Say("module %d is being downloaded", modules)
		}
	}, "list", "-deps", "-f", `{{if .Stale}}{{.ImportPath}}{{"\t"}}{{.Dir}}{{range .GoFiles}}{{"\t"}}{{.}}{{end}}{{end}}`)
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

// compile builds all programs with one call of the go command, which keeps all processors
// at work to the end.
func (m *generated) compile(ctx context.Context, packages map[string]int64, out string) error {
	var whole int64
	for _, size := range packages {
		whole += size
	}
	count := progress.NewCount(m.tell, "package", len(packages), whole)
	var said []string
	_, err := m.run(ctx, func(line string) {
		if size, ok := packages[line]; ok {
			count.Add(size)
		} else {
			said = append(said, line)
		}
	}, "build", "-v", "-o", out+string(filepath.Separator))
	if failed, ok := errors.AsType[*sh.Error](err); ok {
		// The names of packages say nothing of what is wrong.
		failed.Output = strings.Join(said, "\n")
	}
	return err
}

// downloadKubernetes fetches the module and returns its directory.
func downloadKubernetes(ctx context.Context, version string) (string, error) {
	out, err := sh.Run(ctx, sh.Command{
		Args: []string{"go", "mod", "download", "-json", "k8s.io/kubernetes@v" + version},
		Dir:  os.TempDir(), Env: []string{"GOWORK=off", "GOFLAGS="},
	})
	if err != nil {
		return "", fmt.Errorf("downloading the module k8s.io/kubernetes: %w", err)
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		return "", fmt.Errorf("reading what go mod download said: %w", err)
	}
	return info.Dir, nil
}

// writeModule lays the module to be built into dir.
func writeModule(source fs.FS, kubernetes, version, dir string) error {
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
	mod, err := generateMod(kubernetesMod, version)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "go.mod"), mod); err != nil {
		return err
	}
	// Kubernetes' own checksums save most look-ups; go build adds the rest.
	sum, err := os.ReadFile(filepath.Join(kubernetes, "go.sum"))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "go.sum"), sum)
}

// linkerFlags stamps the version the way Kubernetes' own build does; kubeadm
// and the API machinery read it and refuse to work without.
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
