package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

func readTar(t *testing.T, data []byte) (names []string, contents map[string][]byte) {
	t.Helper()
	contents = map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names, contents[h.Name] = append(names, h.Name), body
	}
}

func TestWriteArchive(t *testing.T) {
	layers := map[string]Layer{
		"shared": {{Path: "usr/bin/tool", Mode: 0o755, Data: []byte("tool")}, {Path: "usr/bin/alias", Symlink: "tool"}},
		"own":    {{Path: "pause", Mode: 0o755, Data: []byte("pause")}},
	}
	images := []ArchiveImage{
		{Ref: "registry.example/a:1", Layer: "shared"},
		{Ref: "registry.example/b:1", Layer: "shared"},
		{Ref: "registry.example/pause:3", Layer: "own", Entrypoint: []string{"/pause"}},
	}
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := WriteArchive(w, layers, images); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same images produce different archives")
	}

	_, contents := readTar(t, first.Bytes())
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(contents["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 3 || manifest[0].Layers[0] != manifest[1].Layers[0] || manifest[0].Config == manifest[1].Config {
		t.Fatalf("images that share a layer must share the file and nothing else: %+v", manifest)
	}
	for i, m := range manifest {
		if m.RepoTags[0] != images[i].Ref {
			t.Errorf("image %d is named %q, want %q", i, m.RepoTags, images[i].Ref)
		}
		layer, ok := contents[m.Layers[0]]
		if !ok {
			t.Fatalf("layer %s is not in the archive", m.Layers[0])
		}
		var config struct {
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			}
			Config struct{ Entrypoint []string }
		}
		if err := json.Unmarshal(contents[m.Config], &config); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(layer)
		if want := "sha256:" + hex.EncodeToString(sum[:]); config.RootFS.DiffIDs[0] != want {
			t.Errorf("image %s: diff ID %s, want %s", images[i].Ref, config.RootFS.DiffIDs[0], want)
		}
	}
	names, _ := readTar(t, contents[manifest[0].Layers[0]])
	if want := []string{"usr/", "usr/bin/", "usr/bin/tool", "usr/bin/alias"}; !slices.Equal(names, want) {
		t.Errorf("the layer has %q, want %q", names, want)
	}
}

func TestControlPlaneArchive(t *testing.T) {
	refs := []string{"registry.k8s.io/kube-apiserver:v1.33.13", "registry.k8s.io/etcd:3.5.24-0", "registry.k8s.io/pause:3.10"}
	proxy := "registry.k8s.io/kube-proxy:v1.33.13"
	tool := func(name string) *kubebuild.Tool { return &kubebuild.Tool{Programs: []string{"/built/" + name}} }
	neighbours := &kubebuild.Neighbours{KubeProxy: tool("kube-proxy"), CoreDNS: tool("coredns"), MetricsServer: tool("metrics-server")}
	for _, test := range []struct {
		neighbours *kubebuild.Neighbours
		want       map[string]string
	}{
		{nil, map[string]string{proxy: "hyperkube", CoreDNSRef: "", MetricsServerRef: ""}},
		{neighbours, map[string]string{proxy: "kube-proxy", CoreDNSRef: "coredns", MetricsServerRef: "metrics-server"}},
	} {
		layers, images, err := controlPlaneArchive("/programs", append(refs, proxy), test.neighbours)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, i := range images {
			if got[i.Ref] = i.Layer; layers[i.Layer] == nil {
				t.Errorf("%s has layer %q, which there is not", i.Ref, i.Layer)
			}
		}
		maps.Copy(test.want, map[string]string{refs[0]: "hyperkube", refs[1]: "hyperkube", refs[2]: "pause", WitnessRef: "witness"})
		for ref, want := range test.want {
			if got[ref] != want {
				t.Errorf("%s has layer %q, want %q", ref, got[ref], want)
			}
		}
	}
	if _, _, err := controlPlaneArchive("/programs", refs[:2], nil); err == nil {
		t.Error("without a pause image no pod can run, yet there is no error")
	}
}

func TestMergeTar(t *testing.T) {
	var base bytes.Buffer
	w := tar.NewWriter(&base)
	for name, body := range map[string]string{"./etc/kept": "kept", "./etc/replaced": "old"} {
		if err := writeEntry(w, name, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rootfs.tar")
	if err := os.WriteFile(path, base.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := mergeTar(&out, path, Layer{{Path: "etc/replaced", Mode: 0o644, Data: []byte("new")}}); err != nil {
		t.Fatal(err)
	}
	_, contents := readTar(t, out.Bytes())
	if len(contents) != 2 || string(contents["./etc/kept"]) != "kept" || string(contents["etc/replaced"]) != "new" {
		t.Errorf("got %q", contents)
	}
}

func TestNodeFiles(t *testing.T) {
	kubernetes := &kubebuild.Result{Version: "1.33.13", Dir: "/programs", Images: []string{"registry.k8s.io/pause:3.10"}}
	files := func(programs Programs) map[string]Entry {
		layer, err := nodeFiles(programs)
		if err != nil {
			t.Fatal(err)
		}
		entries := map[string]Entry{}
		for _, e := range layer {
			entries[e.Path] = e
		}
		return entries
	}
	crictl := &kubebuild.Tool{Programs: []string{"/programs/crictl"}}
	entries := files(Programs{Kubernetes: kubernetes, Crictl: crictl})
	if entries["etc/kubernetes/pki"].Symlink != "/etc/kubernetes/ssl" {
		t.Error("/etc/kubernetes/pki is not a link to ssl as in Kubespray")
	}
	if !bytes.Contains(entries["etc/containerd/config.toml"].Data, []byte(`sandbox_image = "registry.k8s.io/pause:3.10"`)) {
		t.Error("the container runtime has no setting for the pause image of this version")
	}
	if _, ok := entries["usr/bin/containerd"]; ok {
		t.Error("Debian's containerd is replaced")
	}
	containerd := &kubebuild.Tool{Programs: []string{"/programs/containerd"}}
	entries = files(Programs{Kubernetes: kubernetes, Crictl: crictl, Containerd: containerd})
	if got := entries["usr/bin/containerd"].Source; got != "/programs/containerd" {
		t.Errorf("containerd is %q, want the built one in the place of Debian's", got)
	}
	if !bytes.Contains(entries["etc/containerd/config.toml"].Data, []byte(`sandbox = "registry.k8s.io/pause:3.10"`)) {
		t.Error("the built containerd has no setting for the pause image of this version")
	}
}

func TestInstalled(t *testing.T) {
	var printed []string
	line := installed(func(format string, args ...any) { printed = append(printed, fmt.Sprintf(format, args...)) })
	for _, l := range []string{
		"I: automatically chosen format: tar", "I: running apt-get update...",
		"0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
		"Setting up libc6:amd64 (2.36-9) ...", "Setting up dash (0.5.12-2) ...",
		"0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.", "Setting up less (590-2) ...",
		"I: creating tarball...", "I: done",
	} {
		line(l)
	}
	want := []string{
		"running apt-get update",
		"essential package 0 of 2", "essential package 1 of 2", "essential package 2 of 2",
		"package 0 of 1", "package 1 of 1", "creating tarball",
	}
	if !slices.Equal(printed, want) {
		t.Errorf("logged %q, want %q", printed, want)
	}
}
