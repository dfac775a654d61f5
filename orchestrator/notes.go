package orchestrator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubeconfig"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// notes lists what a run leaves for the operator: names that certificates lost, stale copies
// of certificates, outdated kubeconfigs on this machine, and requests of kubelets that were
// not approved.
func (s *session) notes(before, after snapshot.Snapshot, d diagnosis.Diagnosis) []string {
	return slices.Concat(s.left, lostNames(before, after), staleCopies(d), s.heldHere(after))
}

// lostNames lists certificates whose SANs changed, with the missing ones.
func lostNames(before, after snapshot.Snapshot) (out []string) {
	for _, is := range after.Nodes {
		was, _ := before.Node(is.Name)
		for _, c := range is.Certificates {
			for _, old := range was.Certificates {
				if c.Served || old.Served || old.Path != c.Path || old.Kind != c.Kind {
					continue
				}
				lost := slices.DeleteFunc(slices.Clone(old.SANs),
					func(name string) bool { return slices.Contains(c.SANs, name) })
				if len(lost) > 0 {
					out = append(out, fmt.Sprintf("%s: %s is no longer for %s", is.Name, c.Path,
						strings.Join(lost, ", ")))
				}
			}
		}
	}
	return out
}

// staleCopies lists old copies of renewed certificates in other programs.
func staleCopies(d diagnosis.Diagnosis) (out []string) {
	for _, f := range d.Findings {
		if f.Reason == diagnosis.CopyStale {
			out = append(out, fmt.Sprintf("%s: %s is behind: %s; %s", f.Node, f.Subject, f.Evidence, f.Next()))
		}
	}
	return out
}

// heldHere lists kubeconfigs next to the inventory that differ from the cluster's.
func (s *session) heldHere(now snapshot.Snapshot) (out []string) {
	for _, path := range artifacts(s.opts.Ansible.Inventories, s.cluster.Artifacts) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var f kubeconfig.File
		if err == nil {
			f, err = kubeconfig.Parse(data)
		}
		switch {
		case errors.Is(err, kubeconfig.ErrNotEmbedded): // it has no certificate that could expire
		case err != nil:
			out = append(out, fmt.Sprintf("%s: not known whether it can still be used: %v", path, err))
		default:
			if why := f.Behind(now, s.opts.Thresholds.RenewBefore); why != "" {
				out = append(out, fmt.Sprintf("%s: %s; --refresh-kubeconfig %[1]s updates it", path, why))
			}
		}
	}
	return out
}

// artifacts returns the paths of the copies of admin.conf that Kubespray makes on the control
// node with kubeconfig_localhost: in artifacts_dir, or in artifacts/ next to the inventory
// (Kubespray, roles/kubernetes/client/defaults/main.yml).
func artifacts(inventories []string, dir string) (out []string) {
	add := func(dir string) {
		if path := filepath.Join(dir, "admin.conf"); !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	if filepath.IsAbs(dir) {
		add(dir)
	}
	for _, inventory := range inventories {
		if strings.Contains(inventory, ",") { // a list of hosts
			continue
		}
		if info, err := os.Stat(inventory); err != nil || !info.IsDir() {
			inventory = filepath.Dir(inventory)
		}
		add(filepath.Join(inventory, "artifacts"))
	}
	return out
}
