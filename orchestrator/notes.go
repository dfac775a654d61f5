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

// notes say what a run leaves to be known or done: names that certificates have lost,
// copies of certificates that are behind, copies of kubeconfigs on this machine, and
// requests of kubelets that were left alone.
func (s *session) notes(before, after snapshot.Snapshot, d diagnosis.Diagnosis) []string {
	return slices.Concat(s.left, lostNames(before, after), staleCopies(d), s.heldHere(after))
}

// lostNames says which certificates have other names than before, and which they lack.
func lostNames(before, after snapshot.Snapshot) (out []string) {
	for _, is := range after.Nodes {
		was, _ := before.Node(is.Name)
		for _, c := range is.Certificates {
			for _, old := range was.Certificates {
				if c.Served || old.Served || old.Path != c.Path || old.Kind != c.Kind {
					continue
				}
				lost := slices.DeleteFunc(slices.Clone(old.SANs), func(name string) bool { return slices.Contains(c.SANs, name) })
				if len(lost) > 0 {
					out = append(out, fmt.Sprintf("%s: %s is no longer for %s", is.Name, c.Path, strings.Join(lost, ", ")))
				}
			}
		}
	}
	return out
}

// staleCopies says what other programs still hold of certificates that are renewed.
func staleCopies(d diagnosis.Diagnosis) (out []string) {
	for _, f := range d.Findings {
		if f.Reason == diagnosis.CopyStale {
			out = append(out, fmt.Sprintf("%s: %s is behind: %s; %s", f.Node, f.Subject, f.Evidence, f.Next()))
		}
	}
	return out
}

// heldHere says which kubeconfigs beside the inventory are not what the cluster has.
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
		case errors.Is(err, kubeconfig.ErrNotEmbedded): // nothing of the cluster's that could end
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

// artifacts are the places where Kubespray leaves a copy of admin.conf on the machine
// that it runs on, with kubeconfig_localhost: artifacts_dir, or the folder of that name
// beside the inventory (Kubespray, roles/kubernetes/client/defaults/main.yml).
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
