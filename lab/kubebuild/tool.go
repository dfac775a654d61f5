package kubebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
)

// A tool is a project whose programs are built in a module of its own, with the versions of its
// own go.mod: in Kubernetes' module, its newer requirements would become Kubernetes', too.
type tool struct {
	name, module string
	// programs are the names of directories of cmd.
	programs []string
	// version is the variable that its own build sets to the version.
	version string
	tags    string
	// main, if set, is the source of the only program, in place of its own.
	main string
}

var (
	crictl = tool{
		name: "crictl", module: "sigs.k8s.io/cri-tools", programs: []string{"crictl"},
		version: "sigs.k8s.io/cri-tools/pkg/version.Version",
	}
	// runc, which containerd starts, is Debian's: it needs a C compiler.
	containerd = tool{
		name: "containerd", module: "github.com/containerd/containerd/v2",
		version:  "github.com/containerd/containerd/v2/version.Version",
		programs: []string{"containerd", "containerd-shim-runc-v2", "ctr"},
		tags:     "no_btrfs,no_devmapper,no_zfs", // the lab uses overlayfs
	}
)

// Tool is a built tool.
type Tool struct {
	Version string
	// Programs are the paths of the programs.
	Programs []string
	// Digest changes with the contents.
	Digest string
}

// crictlVersions are the versions of crictl to choose from, oldest first. The module proxy does
// not have one for each minor version of Kubernetes.
var crictlVersions = []string{"1.34.0", "1.36.0", "1.37.0"}

// crictlVersion returns the newest crictl that is not newer than a Kubernetes version, or the
// oldest.
func crictlVersion(kubernetes string) string {
	chosen := crictlVersions[0]
	for _, v := range crictlVersions {
		if semver.Compare(semver.MajorMinor("v"+v), semver.MajorMinor("v"+kubernetes)) <= 0 {
			chosen = v
		}
	}
	return chosen
}

// BuildCrictl builds the crictl for a Kubernetes version, or finds it in the cache.
func BuildCrictl(
	ctx context.Context, cacheDir, kubernetes string, log io.Writer, tell progress.Func,
) (*Tool, error) {
	return crictl.make(ctx, cacheDir, crictlVersion(kubernetes), log, tell)
}

// BuildContainerd builds a version of containerd (2.4.2, no v), or finds it in the cache.
func BuildContainerd(ctx context.Context, cacheDir, version string, log io.Writer, tell progress.Func) (*Tool, error) {
	return containerd.make(ctx, cacheDir, version, log, tell)
}

func (t tool) make(
	ctx context.Context, cacheDir, version string, log io.Writer, tell progress.Func,
) (*Tool, error) {
	digest := cache.Digest([]byte(recipe), []byte(fmt.Sprint(t)), []byte(version), []byte(runtime.Version()))
	dir := filepath.Join(cacheDir, t.name, version+"-"+digest)
	err := cache.Make(ctx, dir, func(tmp string) error {
		m, err := t.newModule(ctx, version, log, tell)
		if err != nil {
			return err
		}
		defer os.RemoveAll(m.dir)
		return m.build(ctx, tmp)
	})
	if err != nil {
		return nil, fmt.Errorf("building %s %s: %w", t.name, version, err)
	}
	built := &Tool{Version: version, Digest: digest}
	for _, program := range t.programs {
		built.Programs = append(built.Programs, filepath.Join(dir, program))
	}
	return built, nil
}

// newModule generates the module in a temporary directory.
func (t tool) newModule(ctx context.Context, version string, log io.Writer, tell progress.Func) (*generated, error) {
	m := &generated{
		flags: []string{"-tags", t.tags, "-ldflags", fmt.Sprintf("-s -w -X %s=v%s", t.version, version)},
		log:   log, tell: tell,
	}
	for _, program := range t.programs {
		pkg := t.module + "/cmd/" + program
		if t.main != "" {
			pkg = "./" + program
		}
		m.programs = append(m.programs, pkg)
	}
	tell.Say("its source is being downloaded")
	source, err := download(ctx, t.module, version)
	if err != nil {
		return nil, err
	}
	if m.dir, err = os.MkdirTemp("", "kscertctl-lab-build-"); err != nil {
		return nil, err
	}
	if err := writeDependent(t.module, version, source, m.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("generating the module: %w", err), os.RemoveAll(m.dir))
	}
	if t.main != "" {
		if err := writeFile(filepath.Join(m.dir, t.programs[0], "main.go"), []byte(t.main)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(m.dir))
		}
	}
	return m, nil
}

// writeDependent writes a module into dir that requires one other module, whose source is given.
func writeDependent(path, version, source, dir string) error {
	data, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	mod, err := dependentMod(path, version, data)
	if err != nil {
		return fmt.Errorf("reading the go.mod of %s: %w", path, err)
	}
	if err := writeFile(filepath.Join(dir, "go.mod"), mod); err != nil {
		return err
	}
	sum, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "go.sum"), sum)
}

// dependentMod writes a go.mod with the requirements and the language version of another module,
// and that module.
func dependentMod(path, version string, data []byte) ([]byte, error) {
	in, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return nil, err
	}
	if len(in.Replace) > 0 {
		// A dependent module does not see them.
		return nil, fmt.Errorf("it replaces %s", in.Replace[0].Old.Path)
	}
	out := new(modfile.File)
	if err := out.AddModuleStmt(modulePath); err != nil {
		return nil, err
	}
	if in.Go != nil {
		if err := out.AddGoStmt(in.Go.Version); err != nil {
			return nil, err
		}
	}
	requires := []*modfile.Require{{Mod: module.Version{Path: path, Version: "v" + version}}}
	out.SetRequire(append(requires, in.Require...))
	return out.Format()
}
