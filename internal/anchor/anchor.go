// Package anchor makes paths in options absolute: a value of an ansible-playbook flag may be a
// path, contain one, or be none at all.
package anchor

import (
	"path/filepath"
	"strings"
)

// Finder splits a value into the part before a path on the control node, and the path, which
// is empty if there is none.
type Finder func(value string) (before, path string)

// Whole is for a value that is a path.
func Whole(value string) (before, path string) { return "", value }

// Inventory is for a value of -i: a path, or a list of hosts, which has a comma.
func Inventory(value string) (before, path string) {
	if strings.Contains(value, ",") {
		return value, ""
	}
	return "", value
}

// AtFile is for a value such as those of -e, which names a file as @FILE.
func AtFile(value string) (before, path string) {
	if file, ok := strings.CutPrefix(value, "@"); ok {
		return "@", file
	}
	return value, ""
}

// VaultID is for a value of --vault-id: LABEL@SOURCE or SOURCE, where the source is a
// path, or prompt.
func VaultID(value string) (before, path string) {
	source := value[strings.Index(value, "@")+1:] // no label: the whole value
	if source == "prompt" {
		return value, ""
	}
	return strings.TrimSuffix(value, source), source
}

// Path returns path, below dir if it is relative. A path that begins with ~ stays: Ansible
// knows its user's home.
func Path(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || strings.HasPrefix(path, "~") {
		return path
	}
	return filepath.Join(dir, path)
}

// Each returns the values with the paths that find finds in them made absolute below dir.
func Each(dir string, values []string, find Finder) []string {
	var out []string
	for _, value := range values {
		before, path := find(value)
		out = append(out, before+Path(dir, path))
	}
	return out
}
