// Package kubebuild makes the programs of a lab node for one Kubernetes
// version from the published Go modules: no release tarball, no image registry.
package kubebuild

import (
	"context"
	"encoding/json"
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
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

// DefaultVersion is the Kubernetes version a lab runs if none is asked for.
const DefaultVersion = "1.34.4"

// recipe is part of the cache key: raise it when the way of building changes.
const recipe = "1"

// programs are the binaries made, by the directory of their source.
var programs = []string{"hyperkube", "crictl", "pause", "witness"}

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
// cache. The first build of a version takes minutes; log gets what the go
// command says meanwhile.
func Build(ctx context.Context, cacheDir, version string, log io.Writer) (*Result, error) {
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
	err = cache.Make(ctx, dir, func(tmp string) error { return build(ctx, source, version, tmp, log) })
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

func build(ctx context.Context, source fs.FS, version, out string, log io.Writer) error {
	moduleDir, err := downloadKubernetes(ctx, version)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "kscertctl-lab-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := writeModule(source, moduleDir, version, work); err != nil {
		return fmt.Errorf("generating the module: %w", err)
	}
	env := []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=mod -trimpath -buildvcs=false"}
	for _, program := range programs {
		args := []string{"go", "build", "-ldflags", linkerFlags(version), "-o", filepath.Join(out, program), "./" + program}
		if _, err := sh.Run(ctx, sh.Command{Args: args, Dir: work, Env: env, Log: log}); err != nil {
			return fmt.Errorf("compiling %s: %w", program, err)
		}
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
