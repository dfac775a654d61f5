//go:build e2e

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/cli"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

const (
	root   = "../.."
	module = "github.com/infrapuzzle/kscertctl"
)

// TestRelease builds a release snapshot of this checkout twice, in two other directories, and
// inspects the results. Uncommitted changes are included, new files only after `git add`.
func TestRelease(t *testing.T) {
	commit := strings.TrimSpace(command(t, root, "git", "-c", "user.name=check", "-c", "user.email=check@localhost", "stash", "create"))
	if commit == "" {
		commit = strings.TrimSpace(command(t, root, "git", "rev-parse", "HEAD"))
	}
	signatures := withCosign(t)
	r, again := snapshot(t, commit), snapshot(t, commit)
	t.Run("signatures", func(t *testing.T) { r.signatures(t, signatures) })
	t.Run("Homebrew cask", r.cask)
	t.Run("krew manifest", r.krew)

	t.Run("identical bytes from another directory", func(t *testing.T) {
		if first, second := r.read(t, "checksums.txt"), again.read(t, "checksums.txt"); !bytes.Equal(first, second) {
			t.Errorf("first\n%sthen\n%s", first, second)
		}
	})
	t.Run("the documented command builds the same program", again.byHand)
	t.Run("checksums", r.checksums)
	for _, platform := range []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"} {
		t.Run(platform+" archive", func(t *testing.T) { r.archive(t, platform) })
		t.Run(platform+" binary", func(t *testing.T) { r.binary(t, platform) })
		t.Run(platform+" bill of materials", func(t *testing.T) { r.materials(t, platform) })
	}
	for _, platform := range []string{"linux_amd64", "linux_arm64"} {
		t.Run(platform+" deb", func(t *testing.T) { r.deb(t, platform) })
		t.Run(platform+" rpm", func(t *testing.T) { r.rpm(t, platform) })
	}
}

// release is GoReleaser's output for a commit.
type release struct {
	dir, commit string
	time        time.Time // of the commit
	version     string    // as in file names
}

// snapshot builds a release in a clone, which shares only git's objects and Go's caches with
// this checkout.
func snapshot(t *testing.T, commit string) release {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kscertctl")
	command(t, root, "git", "clone", "--quiet", "--shared", "--no-checkout", ".", dir)
	command(t, dir, "git", "checkout", "--quiet", "--detach", commit)
	goreleaser, err := filepath.Abs(filepath.Join(root, "hack/goreleaser"))
	if err != nil {
		t.Fatal(err)
	}
	command(t, dir, goreleaser, "check")
	command(t, dir, goreleaser, "release", "--snapshot", "--clean")

	seconds, err := strconv.ParseInt(strings.TrimSpace(command(t, dir, "git", "show", "--no-patch", "--format=%ct", commit)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	r := release{dir: filepath.Join(dir, "dist"), commit: commit, time: time.Unix(seconds, 0).UTC()}
	var metadata struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(r.read(t, "metadata.json"), &metadata); err != nil {
		t.Fatal(err)
	}
	r.version = metadata.Version
	return r
}

func (r release) read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// name returns the name of a platform's file.
func (r release) name(platform, suffix string) string {
	return fmt.Sprintf("kscertctl_%s_%s%s", r.version, platform, suffix)
}

// checksums.txt lists the published files, with the digests that sha256sum --check compares.
func (r release) checksums(t *testing.T) {
	t.Helper()
	var want, got []string
	for _, platform := range []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"} {
		want = append(want, r.name(platform, ".tar.gz"), r.name(platform, "_flat.tar.gz"), r.name(platform, ".cdx.json"))
		if strings.HasPrefix(platform, "linux") {
			want = append(want, r.name(platform, ".deb"), r.name(platform, ".rpm"))
		}
	}
	want = append(want, r.collection(t))
	for line := range strings.Lines(string(r.read(t, "checksums.txt"))) {
		digest, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		from := name
		if name == r.collection(t) { // published from where it was made
			from = "../.bin/packaging/collection/" + name
		}
		sum := sha256.Sum256(r.read(t, from))
		if digest != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %s in checksums.txt, but it is %x", name, digest, sum)
		}
		got = append(got, name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// collection is the name of the tarball of the collection.
func (r release) collection(t *testing.T) string {
	t.Helper()
	made, err := filepath.Glob(filepath.Join(r.dir, "../.bin/packaging/collection/infrapuzzle-kscertctl-*.tar.gz"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	return filepath.Base(made[0])
}

// withCosign puts a cosign into PATH that writes down what it is called with, and the bundle
// that it is asked for: an identity, which the real one wants, is not here. It returns the
// file with the calls.
func withCosign(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$*\" >>'" + calls + "'\nfor a; do case $a in --bundle=*) echo '{}' >\"${a#*=}\" ;; --predicate=*) cp \"${a#*=}\" '" + dir + "/predicate' ;; esac; done\nsha256sum <\"$a\" >>'" + dir + "/signed'\n"
	if err := testcommand.Write(filepath.Join(dir, "cosign"), script); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

// The checksums are signed, and it is attested of them from which commit they are. The
// commands are cosign's (cosign sign-blob --help, cosign attest-blob --help); SLSA demands
// the fields of the predicate (https://slsa.dev/spec/v1.0/provenance).
func (r release) signatures(t *testing.T, calls string) {
	t.Helper()
	data, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	sums := "dist/checksums.txt"
	want := []string{
		"sign-blob --yes --bundle=" + sums + ".sigstore.json " + sums,
		"attest-blob --yes --type=slsaprovenance1 --predicate=.bin/packaging/provenance.json --bundle=" + sums + ".provenance.sigstore.json " + sums,
	}
	want = append(want, want...) // two releases are made
	got := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("cosign is called with\n%q, want\n%q", got, want)
	}
	// What was signed is what is published.
	signed, err := os.ReadFile(filepath.Join(filepath.Dir(calls), "signed"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(r.read(t, "checksums.txt"))
	if n := strings.Count(string(signed), hex.EncodeToString(sum[:])); n != 4 {
		t.Errorf("checksums.txt was signed %d times, want 4\n%s", n, signed)
	}
	for _, name := range []string{"checksums.txt.sigstore.json", "checksums.txt.provenance.sigstore.json"} {
		r.read(t, name)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(calls), "predicate"))
	if err != nil {
		t.Fatal(err)
	}
	type dependency struct {
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest"`
	}
	var predicate struct {
		Definition struct {
			Type         string            `json:"buildType"`
			Parameters   map[string]string `json:"externalParameters"`
			Dependencies []dependency      `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Details struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&predicate); err != nil {
		t.Fatal(err)
	}
	d := predicate.Definition
	if d.Type == "" || predicate.Details.Builder.ID == "" || d.Parameters["source"] == "" || len(d.Dependencies) != 1 || d.Dependencies[0].Digest["gitCommit"] != r.commit {
		t.Errorf("%s", text)
	}
}

// The cask installs the archives of this release, with what is in them.
func (r release) cask(t *testing.T) {
	t.Helper()
	text := string(r.read(t, "homebrew/Casks/kscertctl.rb"))
	for _, platform := range []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"} {
		sum := sha256.Sum256(r.read(t, r.name(platform, "_flat.tar.gz")))
		if !strings.Contains(text, hex.EncodeToString(sum[:])) || !strings.Contains(text, "_"+platform+"_flat.tar.gz") {
			t.Errorf("%s is not in\n%s", platform, text)
		}
	}
	there := unpacked(t, filepath.Join(r.dir, r.name("darwin_arm64", "_flat.tar.gz")))
	named := regexp.MustCompile(`(?m)^\s*(?:binary|manpage|bash_completion|zsh_completion|fish_completion) "([^"]*)"`).FindAllStringSubmatch(text, -1)
	if len(named) < 5 {
		t.Errorf("%q\n%s", named, text)
	}
	for _, m := range named {
		if there[m[1]] == "" {
			t.Errorf("%s is not in the archive", m[1])
		}
	}
}

// The manifest names for each platform an archive with the program at its top.
func (r release) krew(t *testing.T) {
	t.Helper()
	var manifest struct {
		Kind     string `yaml:"kind"`
		Metadata struct {
			Name string `yaml:"name"`
		} `yaml:"metadata"`
		Spec struct {
			Version          string `yaml:"version"`
			ShortDescription string `yaml:"shortDescription"`
			Platforms        []struct {
				Bin      string `yaml:"bin"`
				URI      string `yaml:"uri"`
				SHA256   string `yaml:"sha256"`
				Selector struct {
					Labels map[string]string `yaml:"matchLabels"`
				} `yaml:"selector"`
			} `yaml:"platforms"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(r.read(t, "krew/kscertctl.yaml"), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Kind != "Plugin" || manifest.Metadata.Name != "kscertctl" || len(manifest.Spec.Platforms) != 4 || manifest.Spec.ShortDescription == "" {
		t.Errorf("%+v", manifest)
	}
	for _, p := range manifest.Spec.Platforms {
		name := r.name(p.Selector.Labels["os"]+"_"+p.Selector.Labels["arch"], "_flat.tar.gz")
		sum := sha256.Sum256(r.read(t, name))
		there := unpacked(t, filepath.Join(r.dir, name))
		if path.Base(p.URI) != name || p.SHA256 != hex.EncodeToString(sum[:]) || there["LICENSE"] == "" || there[p.Bin] == "" {
			t.Errorf("%+v", p)
		}
	}
}

// extras are the man pages and completions, by where an archive has them.
func extras() []string {
	out := []string{"completions/kscertctl.bash", "completions/kscertctl.fish", "completions/_kscertctl"}
	for _, cmd := range visible(cli.Command()) {
		out = append(out, "man/"+pageName(cmd))
	}
	return out
}

// contents returns the files of an archive, without their common top directory.
func (r release) contents(t *testing.T, platform string) map[string]tarFile {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(r.read(t, r.name(platform, ".tar.gz"))))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]tarFile{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(header.Name, r.name(platform, "")+"/")
		if !ok {
			t.Errorf("%s is not in the directory %s", header.Name, r.name(platform, ""))
		}
		out[name] = tarFile{header, data}
	}
}

type tarFile struct {
	*tar.Header
	data []byte
}

func (r release) archive(t *testing.T, platform string) {
	t.Helper()
	got := r.contents(t, platform)
	want := append(extras(), "kscertctl", "LICENSE", "README.md", "CHANGELOG.md", "Containerfile")
	slices.Sort(want)
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
		t.Errorf("got %q\nwant %q", names, want)
	}
	for name, f := range got {
		if !f.ModTime.Equal(r.time) || f.Uname != "root" || f.Gname != "root" || len(f.data) == 0 {
			t.Errorf("%s: of %s, %s:%s, %d bytes; want the time of the commit, %s, and root:root",
				name, f.ModTime.UTC(), f.Uname, f.Gname, len(f.data), r.time)
		}
		if executable := f.Mode&0o111 != 0; executable != (name == "kscertctl") {
			t.Errorf("%s has mode %o", name, f.Mode)
		}
	}
}

// binary checks that the program is static, knows its commit, and does not contain the path of
// the directory that it was built in.
func (r release) binary(t *testing.T, platform string) {
	t.Helper()
	data := r.contents(t, platform)["kscertctl"].data
	info := build(t, data)
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	system, processor, _ := strings.Cut(platform, "_")
	for key, want := range map[string]string{
		"GOOS": system, "GOARCH": processor, "CGO_ENABLED": "0", "-trimpath": "true",
		"vcs.revision": r.commit, "vcs.time": r.time.Format(time.RFC3339), "vcs.modified": "false",
	} {
		if settings[key] != want {
			t.Errorf("%s is %q, want %q", key, settings[key], want)
		}
	}
	if info.Main.Version == "" || info.Main.Version == "(devel)" {
		t.Errorf("the version is %q", info.Main.Version)
	}
	if bytes.Contains(data, []byte(filepath.Dir(r.dir))) {
		t.Error("the program contains the path of its build directory")
	}
	if platform != runtime.GOOS+"_"+runtime.GOARCH {
		return
	}

	program := filepath.Join(t.TempDir(), "kscertctl")
	if err := testcommand.Write(program, string(data)); err != nil {
		t.Fatal(err)
	}
	if got, want := command(t, t.TempDir(), program, "version"), "kscertctl "+info.Main.Version+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var printed struct {
		Version  string `json:"version"`
		Commit   string `json:"commit"`
		Platform string `json:"platform"`
	}
	if err := json.Unmarshal([]byte(command(t, t.TempDir(), program, "version", "-o", "json")), &printed); err != nil {
		t.Fatal(err)
	}
	if printed.Version != info.Main.Version || printed.Commit != r.commit || printed.Platform != system+"/"+processor {
		t.Errorf("got %+v, want %s of %s", printed, info.Main.Version, r.commit)
	}
	t.Logf("%s, %.1f MiB", info.Main.Version, float64(len(data))/(1<<20))
}

// byHand builds the program as docs/how-to/install.md describes.
func (r release) byHand(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs/how-to/install.md"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^.* go build .*$`).FindString(string(page))
	tree := filepath.Dir(r.dir)
	command(t, tree, "sh", "-c", line)
	built, err := os.ReadFile(filepath.Join(tree, "kscertctl"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, r.contents(t, runtime.GOOS+"_"+runtime.GOARCH)["kscertctl"].data) {
		t.Errorf("%s builds another program", line)
	}
}

// build is what Go recorded in a program.
func build(t *testing.T, program []byte) *debug.BuildInfo {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// materials checks that the SBOM is valid CycloneDX (https://cyclonedx.org/docs/1.6/json/) and
// lists exactly the linked modules, Go's standard library included.
func (r release) materials(t *testing.T, platform string) {
	t.Helper()
	document := r.read(t, r.name(platform, ".cdx.json"))
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	if err := cycloneDX(t).Validate(value); err != nil {
		t.Error(err)
	}

	type component struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		URL     string `json:"purl"`
	}
	var bom struct {
		Metadata struct {
			Component component `json:"component"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}
	if err := json.Unmarshal(document, &bom); err != nil {
		t.Fatal(err)
	}
	info := build(t, r.contents(t, platform)["kscertctl"].data)
	if c := bom.Metadata.Component; c.Name != module || c.Version != info.Main.Version {
		t.Errorf("the component is %s %s, want %s %s", c.Name, c.Version, module, info.Main.Version)
	}
	want := []string{"std " + info.GoVersion}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+" "+c.Version)
		if !strings.HasPrefix(c.URL, "pkg:golang/"+c.Name+"@"+c.Version) {
			t.Errorf("%s %s has the package URL %s", c.Name, c.Version, c.URL)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// cycloneDX is the format's schema, from the library that writes it.
func cycloneDX(t *testing.T) *jsonschema.Schema {
	t.Helper()
	var library struct {
		Dir string `json:"Dir"`
	}
	downloaded := command(t, filepath.Join(root, "tools/release"), "go", "mod", "download", "-json", "github.com/CycloneDX/cyclonedx-go")
	if err := json.Unmarshal([]byte(downloaded), &library); err != nil {
		t.Fatal(err)
	}
	const base = "http://cyclonedx.org/schema/"
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{
		"bom-1.6.schema.json":  "bom-1.6.schema.json",
		"spdx.schema.json":     "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		f, err := os.Open(filepath.Join(library.Dir, "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		value, err := jsonschema.UnmarshalJSON(f)
		if err == nil {
			err = compiler.AddResource(base+name, value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// installed returns a package's files by installation path.
func installed(completions, license string) []string {
	out := []string{
		"/usr/bin/kscertctl",
		"/usr/share/bash-completion/completions/kscertctl",
		"/usr/share/fish/vendor_completions.d/kscertctl.fish",
		completions + "/_kscertctl",
		license,
		"/usr/share/doc/kscertctl/README.md",
	}
	for _, name := range extras() {
		if page, ok := strings.CutPrefix(name, "man/"); ok {
			out = append(out, path.Join("/usr/share/man/man1", page))
		}
	}
	slices.Sort(out)
	return out
}

func (r release) deb(t *testing.T, platform string) {
	t.Helper()
	file := filepath.Join(r.dir, r.name(platform, ".deb"))
	var got []string
	for line := range strings.Lines(command(t, root, "dpkg-deb", "--contents", file)) {
		// Mode, owner, size, day, time, name; directories are skipped.
		if f := strings.Fields(line); !strings.HasPrefix(f[0], "d") {
			got = append(got, strings.TrimPrefix(f[5], "."))
			if f[1] != "root/root" {
				t.Errorf("%s", line)
			}
		}
	}
	slices.Sort(got)
	if want := installed("/usr/share/zsh/vendor-completions", "/usr/share/doc/kscertctl/copyright"); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for field, want := range map[string]string{
		"Package": "kscertctl", "Architecture": strings.TrimPrefix(platform, "linux_"), "Depends": "",
		"Recommends": "ansible-core (>= 2.11), openssh-client", "Suggests": "sshpass",
		// A tilde sorts before the end of a version: a snapshot is older than its release.
		"Version": strings.Replace(r.version, "-", "~", 1),
	} {
		if got := strings.TrimSpace(command(t, root, "dpkg-deb", "--field", file, field)); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
}

func (r release) rpm(t *testing.T, platform string) {
	t.Helper()
	file := filepath.Join(r.dir, r.name(platform, ".rpm"))
	got := strings.Fields(command(t, root, "rpm", "--query", "--package", "--list", file))
	slices.Sort(got)
	if want := installed("/usr/share/zsh/site-functions", "/usr/share/licenses/kscertctl/LICENSE"); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	processor := map[string]string{"linux_amd64": "x86_64", "linux_arm64": "aarch64"}[platform]
	for format, want := range map[string]string{
		"%{NAME} %{ARCH} %{LICENSE}":              "kscertctl " + processor + " Apache-2.0",
		"%{VERSION}":                              strings.Replace(r.version, "-", "~", 1),
		"[%{RECOMMENDNAME} %{RECOMMENDVERSION},]": "ansible-core 2.11,openssh-clients ,",
		"[%{SUGGESTNAME},]":                       "sshpass,",
	} {
		if got := command(t, root, "rpm", "--query", "--package", "--queryformat", format, file); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	// Only the digests: the package is not signed.
	command(t, root, "rpm", "--checksig", "--nosignature", file)
}

// command returns a command's standard output.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out.String(), errs.String())
	}
	return out.String()
}
