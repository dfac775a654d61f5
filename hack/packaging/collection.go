package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/playbooks"
)

// galaxy is galaxy.yml, and how ansible-galaxy has it in MANIFEST.json.
type galaxy struct {
	Namespace     string            `json:"namespace"     yaml:"namespace"`
	Name          string            `json:"name"          yaml:"name"`
	Version       string            `json:"version"       yaml:"version"`
	Authors       []string          `json:"authors"       yaml:"authors"`
	Readme        string            `json:"readme"        yaml:"readme"`
	Tags          []string          `json:"tags"          yaml:"tags"`
	Description   string            `json:"description"   yaml:"description"`
	License       []string          `json:"license"       yaml:"license"`
	LicenseFile   *string           `json:"license_file"  yaml:"license_file"`
	Dependencies  map[string]string `json:"dependencies"  yaml:"dependencies"`
	Repository    string            `json:"repository"    yaml:"repository"`
	Documentation string            `json:"documentation" yaml:"documentation"`
	Homepage      string            `json:"homepage"      yaml:"homepage"`
	Issues        string            `json:"issues"        yaml:"issues"`
}

// entry is a file or directory of a collection, as FILES.json and MANIFEST.json list it.
type entry struct {
	Name     string  `json:"name"`
	Type     string  `json:"ftype"`
	SumType  *string `json:"chksum_type"`
	Checksum *string `json:"chksum_sha256"`
	Format   int     `json:"format"`
}

func file(name string, data []byte) entry {
	kind, sum := "sha256", sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	return entry{Name: name, Type: "file", SumType: &kind, Checksum: &digest, Format: 1}
}

// collection writes the tarball of the files that the program carries, as "ansible-galaxy
// collection build" does, but the same bytes each time. A tag must be that of its version.
func collection(dir string, date time.Time, tag string) error {
	if err := emptyDir(dir); err != nil {
		return err
	}
	source, err := os.MkdirTemp("", "kscertctl-collection-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(source) }()
	if err := playbooks.WriteTo(filepath.Join(source, "playbooks")); err != nil {
		return err
	}
	source = filepath.Join(source, "playbooks", playbooks.Collection)
	var about galaxy
	data, err := os.ReadFile(filepath.Join(source, "galaxy.yml"))
	if err == nil {
		err = yaml.Unmarshal(data, &about)
	}
	if err != nil {
		return err
	}
	if tag != "" && tag != "v"+about.Version {
		return fmt.Errorf("the tag is %s, and galaxy.yml of the collection has the version %s", tag, about.Version)
	}
	var files []entry
	contents := map[string][]byte{}
	err = fs.WalkDir(os.DirFS(source), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || name == "galaxy.yml":
			return err
		case e.IsDir():
			files = append(files, entry{Name: name, Type: "dir", Format: 1})
			return nil
		}
		contents[name], err = os.ReadFile(filepath.Join(source, name))
		files = append(files, file(name, contents[name]))
		return err
	})
	if err != nil {
		return err
	}
	list, err := json.MarshalIndent(map[string]any{"files": files, "format": 1}, "", " ")
	if err != nil {
		return err
	}
	manifest, err := json.MarshalIndent(map[string]any{"collection_info": about,
		"file_manifest_file": file("FILES.json", list), "format": 1}, "", " ")
	if err != nil {
		return err
	}
	contents["FILES.json"], contents["MANIFEST.json"] = list, manifest
	files = append([]entry{file("MANIFEST.json", manifest), file("FILES.json", list)}, files...)

	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	w := tar.NewWriter(zip)
	for _, f := range files {
		header := &tar.Header{Name: f.Name, Mode: 0o644, ModTime: date, Size: int64(len(contents[f.Name])),
			Format: tar.FormatUSTAR}
		if f.Type == "dir" {
			header.Typeflag, header.Mode = tar.TypeDir, 0o755
			if f.Name == "." {
				continue
			}
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(contents[f.Name]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%s-%s.tar.gz", about.Namespace, about.Name, about.Version)
	return os.WriteFile(path.Join(dir, name), packed.Bytes(), 0o644)
}

// repository is where the source is.
const repository = "https://github.com/infrapuzzle/kscertctl"

// provenance writes the predicate that cosign attests: from what, and how, all files of a
// release are made (https://slsa.dev/spec/v1.0/provenance).
func provenance(to, commit, tag string) error {
	type dependency struct {
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest"`
	}
	source := "git+" + repository
	if tag != "" {
		source += "@refs/tags/" + tag
	}
	data, err := json.MarshalIndent(map[string]any{
		"buildDefinition": map[string]any{
			"buildType":            repository + "/blob/main/CONTRIBUTING.md#releasing",
			"externalParameters":   map[string]any{"source": source},
			"resolvedDependencies": []dependency{{URI: source, Digest: map[string]string{"gitCommit": commit}}},
		},
		"runDetails": map[string]any{"builder": map[string]any{"id": repository + "/blob/main/.goreleaser.yaml"}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(to, append(data, '\n'), 0o644)
}
