package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

// An Entry is one file of a layer: given content, the content of a local file, a link, or a
// directory.
type Entry struct {
	Path    string
	Mode    int64
	Data    []byte
	Source  string
	Symlink string
	Dir     bool
}

// A Layer is the files of one image layer.
type Layer []Entry

// An ArchiveImage is a named image with one layer.
type ArchiveImage struct {
	Ref        string
	Layer      string
	Entrypoint []string
}

// epoch is the time stamp of everything in an archive, for reproducible bytes.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// write writes the layer as a tar stream, with parent directories.
func (l Layer) write(w *tar.Writer) error {
	made := map[string]bool{}
	for _, e := range l {
		for _, dir := range parents(e.Path) {
			if !made[dir] {
				made[dir] = true
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755,
					ModTime: epoch}); err != nil {
					return err
				}
			}
		}
		if err := e.write(w); err != nil {
			return fmt.Errorf("adding %s: %w", e.Path, err)
		}
	}
	return nil
}

func (e Entry) write(w *tar.Writer) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.Path, Mode: e.Mode, ModTime: epoch, Size: int64(len(e.Data))}
	var file *os.File
	switch {
	case e.Dir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case e.Symlink != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Symlink, 0o777
	case e.Source != "":
		f, err := os.Open(e.Source)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		h.Size, file = info.Size(), f
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if file != nil {
		_, err := io.Copy(w, file)
		return err
	}
	_, err := w.Write(e.Data)
	return err
}

// parents returns the directories above a path, outermost first.
func parents(p string) []string {
	var dirs []string
	for d := path.Dir(p); d != "." && d != "/"; d = path.Dir(d) {
		dirs = append([]string{d}, dirs...)
	}
	return dirs
}

// stream writes the layer as a complete tar archive.
func (l Layer) stream(w io.Writer) error {
	tw := tar.NewWriter(w)
	if err := l.write(tw); err != nil {
		return err
	}
	return tw.Close()
}

// WriteArchive writes the given images as a docker-archive, like "docker save". Images with
// the same layer share it. It streams a layer twice, for its digest and into the archive, so
// that it needs no copy in memory or on disk.
func WriteArchive(w io.Writer, layers map[string]Layer, images []ArchiveImage) error {
	type layerFile struct {
		digest string
		size   int64
	}
	out := tar.NewWriter(w)
	written := map[string]layerFile{}
	type manifestEntry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []manifestEntry
	for _, img := range images {
		layer, ok := layers[img.Layer]
		if !ok {
			return fmt.Errorf("image %s: no layer %q", img.Ref, img.Layer)
		}
		lf, ok := written[img.Layer]
		if !ok {
			hash, counter := sha256.New(), &countingWriter{}
			if err := layer.stream(io.MultiWriter(hash, counter)); err != nil {
				return fmt.Errorf("reading layer %s: %w", img.Layer, err)
			}
			lf = layerFile{hex.EncodeToString(hash.Sum(nil)), counter.n}
			if err := out.WriteHeader(&tar.Header{Name: lf.digest + "/layer.tar", Mode: 0o644, Size: lf.size,
				ModTime: epoch}); err != nil {
				return err
			}
			if err := layer.stream(out); err != nil {
				return fmt.Errorf("writing layer %s: %w", img.Layer, err)
			}
			written[img.Layer] = lf
		}
		config, err := json.Marshal(map[string]any{
			"architecture": "amd64", "os": "linux", "created": epoch.Format(time.RFC3339),
			"config": map[string]any{
				"Env":        []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
				"Entrypoint": img.Entrypoint,
				// Two images may have the same content; a separate label makes their IDs, and
				// so their names in the runtime, different.
				"Labels": map[string]string{LabelRef: img.Ref},
			},
			"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + lf.digest}},
			"history": []any{map[string]string{"created": epoch.Format(time.RFC3339)}},
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(config)
		name := hex.EncodeToString(sum[:]) + ".json"
		if err := writeEntry(out, name, config); err != nil {
			return err
		}
		manifest = append(manifest, manifestEntry{name, []string{img.Ref}, []string{lf.digest + "/layer.tar"}})
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := writeEntry(out, "manifest.json", data); err != nil {
		return err
	}
	return out.Close()
}

// LabelRef is the label with an image's own name.
const LabelRef = "kscertctl.lab.ref"

func writeEntry(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// WitnessRef is the image of the workload that must survive a repair.
const WitnessRef = "localhost/kscertctl-lab/witness:1"

// The images of neighbours that kubeadm does not name.
const (
	CoreDNSRef       = "registry.k8s.io/coredns/coredns:v" + kubebuild.CoreDNSVersion
	MetricsServerRef = "registry.k8s.io/metrics-server/metrics-server:v" + kubebuild.MetricsServerVersion
)

// controlPlaneArchive is the archive that a node's runtime loads: every image that kubeadm of
// that version requires, the canary workload's, and those of the neighbours, if there are any. All
// but pause and these are names for one layer with the multi-call binary. kubeadm's CoreDNS, and
// without neighbours its kube-proxy, are included only for its pre-pull: they are never started,
// and not in the binary.
func controlPlaneArchive(
	programs string, refs []string, neighbours *kubebuild.Neighbours,
) (map[string]Layer, []ArchiveImage, error) {
	hyperkube := Layer{{Path: "usr/local/bin/hyperkube", Mode: 0o755, Source: programs + "/hyperkube"}}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "etcdctl"} {
		hyperkube = append(hyperkube, Entry{Path: "usr/local/bin/" + name, Symlink: "hyperkube"})
	}
	// The runtime requires these directories as mount points.
	hyperkube = append(hyperkube, Entry{Path: "tmp", Mode: 0o1777, Dir: true},
		Entry{Path: "var/lib", Mode: 0o755, Dir: true})
	layers := map[string]Layer{
		"hyperkube": hyperkube,
		"pause":     {{Path: "pause", Mode: 0o755, Source: programs + "/pause"}},
		"witness":   {{Path: "witness", Mode: 0o755, Source: programs + "/witness"}},
	}
	images := []ArchiveImage{{Ref: WitnessRef, Layer: "witness", Entrypoint: []string{"/witness"}}}
	if neighbours != nil {
		for _, tool := range neighbours.All() {
			var layer Layer
			for _, p := range tool.Programs {
				layer = append(layer, Entry{Path: "usr/local/bin/" + filepath.Base(p), Mode: 0o755, Source: p})
			}
			layers[filepath.Base(tool.Programs[0])] = layer
		}
		images = append(images,
			ArchiveImage{Ref: CoreDNSRef, Layer: "coredns", Entrypoint: []string{"/usr/local/bin/coredns"}},
			ArchiveImage{Ref: MetricsServerRef, Layer: "metrics-server", Entrypoint: []string{"/usr/local/bin/metrics-server"}})
	}
	if _, err := pauseRef(refs); err != nil {
		return nil, nil, err
	}
	for _, ref := range refs {
		img := ArchiveImage{Ref: ref, Layer: "hyperkube"}
		switch {
		case isPause(ref):
			img.Layer, img.Entrypoint = "pause", []string{"/pause"}
		case neighbours != nil && strings.Contains(ref, "/kube-proxy:"):
			img.Layer = "kube-proxy"
		}
		images = append(images, img)
	}
	return layers, images, nil
}

func isPause(ref string) bool { return strings.Contains(ref, "/pause:") }

func pauseRef(refs []string) (string, error) {
	for _, ref := range refs {
		if isPause(ref) {
			return ref, nil
		}
	}
	return "", fmt.Errorf("no pause image among %q", refs)
}
