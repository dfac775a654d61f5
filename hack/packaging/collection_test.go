package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/playbooks"
)

// The tarball of a release is what ansible-galaxy makes, and ansible-galaxy installs it.
func TestCollection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := run([]string{dir}, newYear2026, "c0ffee", ""); err != nil {
		t.Fatal(err)
	}
	galaxy := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "ansible-galaxy", append([]string{"collection"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "ANSIBLE_GALAXY_SERVER=http://127.0.0.1:9")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ansible-galaxy %q: %v\n%s", args, err, out)
		}
	}
	ours, err := filepath.Glob(dir + "/collection/*.tar.gz")
	if err != nil || len(ours) != 1 {
		t.Fatalf("%v, %v", ours, err)
	}
	galaxy("install", ours[0], "-p", dir+"/installed")
	galaxy("build", filepath.Join("../../playbooks", playbooks.Collection), "--output-path", dir)
	got, want := unpacked(t, ours[0]), unpacked(t, filepath.Join(dir, filepath.Base(ours[0])))
	for name, text := range want {
		if name != "FILES.json" && name != "MANIFEST.json" && got[name] != text {
			t.Errorf("%s is another one", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	if g, w := about(t, got), about(t, want); !reflect.DeepEqual(g, w) {
		t.Errorf("it is %v, want %v", g, w)
	}
	if g, w := listed(t, got), listed(t, want); !reflect.DeepEqual(g, w) {
		t.Errorf("it lists %v, want %v", g, w)
	}
}

// A release is not made where its tag is not the collection's version.
func TestCollectionVersion(t *testing.T) {
	t.Parallel()
	if err := run([]string{t.TempDir()}, newYear2026, "c0ffee", "v99.0.0"); err == nil || !strings.HasPrefix(err.Error(), "the tag is v99.0.0, and galaxy.yml of the collection has the version ") {
		t.Error(err)
	}
}

func unpacked(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(zipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(header.Name, "/")] = string(data)
	}
}

func about(t *testing.T, files map[string]string) any {
	t.Helper()
	var manifest struct {
		Info any `json:"collection_info"`
	}
	if err := json.Unmarshal([]byte(files["MANIFEST.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Info
}

func listed(t *testing.T, files map[string]string) map[string]any {
	t.Helper()
	var list struct {
		Files []map[string]any `json:"files"`
	}
	if err := json.Unmarshal([]byte(files["FILES.json"]), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, f := range list.Files {
		name, _ := f["name"].(string)
		out[name] = f
	}
	return out
}
