package kubespray

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kubespray")
	if err := Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ansible.cfg", "galaxy.yml", "cluster.yml", "upgrade-cluster.yml", "upgrade_cluster.yml", "playbooks/upgrade_cluster.yml", "playbooks/ansible_version.yml", "library"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	setup, err := os.ReadFile(filepath.Join(dir, "roles/kubernetes/control-plane/tasks/kubeadm-setup.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(setup), "- name: Create kubeadm token for joining nodes with 24h expiration (default)\n") {
		t.Error("the task the deadlock is known by is not there under its name")
	}
	if err := Write(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a checkout: got %v, want %v", err, fs.ErrExist)
	}
}
