package orchestrator

import (
	"fmt"
	"maps"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Difference is one file of a node that has changed since a plan was made.
type Difference struct {
	Node string `json:"node"`
	Path string `json:"path"`
	// What has happened to it, in words.
	What string `json:"what"`
}

func (d Difference) String() string { return fmt.Sprintf("%s: %s %s", d.Node, d.Path, d.What) }

// Drift compares the current state of the nodes with an earlier one: certificates in files,
// kubeconfigs, what must never change, and what else a plan relies on: manifests and
// configurations. Nodes that could not be inspected, then or now, are not compared. The result is
// sorted by node, in the order of the snapshot, and path.
func Drift(before, now snapshot.Snapshot) []Difference {
	var out []Difference
	for _, was := range before.Nodes {
		is, ok := now.Node(was.Name)
		switch {
		case !ok:
			out = append(out, Difference{Node: was.Name, Path: "the node", What: "is no longer in the inventory"})
			continue
		case was.Failure != nil || is.Failure != nil:
			continue
		}
		a, b := state(was), state(is)
		paths := maps.Clone(a)
		maps.Copy(paths, b)
		for _, path := range slices.Sorted(maps.Keys(paths)) {
			if what := change(a[path], b[path]); what != "" {
				out = append(out, Difference{Node: was.Name, Path: path, What: what})
			}
		}
	}
	for _, is := range now.Nodes {
		if _, ok := before.Node(is.Name); !ok {
			out = append(out, Difference{Node: is.Name, Path: "the node", What: "is new in the inventory"})
		}
	}
	return out
}

// state describes each file of a node by a text that changes with the file.
func state(n snapshot.Node) map[string]string {
	out := map[string]string{}
	for _, c := range n.Certificates {
		if !c.Served {
			out[c.Path] += "certificate " + c.Fingerprint + " "
		}
	}
	for _, k := range n.Kubeconfigs {
		out[k.Path] += fmt.Sprintf("kubeconfig %s %s %s ", k.Server, k.CAFingerprint, k.ClientCertificateFile)
	}
	for _, u := range n.Unreadable {
		out[u.Path] += "unreadable " + u.Reason + " "
	}
	for _, sums := range []map[string]string{n.Digests, n.Files} {
		for path, sum := range sums {
			out[path] += "digest " + sum + " "
		}
	}
	return out
}

func change(was, is string) string {
	switch {
	case was == is:
		return ""
	case was == "":
		return "has appeared"
	case is == "":
		return "is gone"
	default:
		return "has changed"
	}
}
