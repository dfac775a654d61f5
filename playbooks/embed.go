// Package playbooks carries the Ansible half of kscertctl: the playbooks, their
// roles and the event callback. They run by hand with plain ansible-playbook
// too; the driver writes this copy into the run directory and runs it there, so
// that a run's record holds exactly what was run.
package playbooks

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed *.yml *.sh roles plugins
var files embed.FS

//go:embed inspect.yml ssh.sh roles/inspect roles/settings plugins
var look embed.FS

// The playbooks, by file name.
const (
	Inspect          = "inspect.yml"
	Backup           = "backup.yml"
	PrePhase         = "pre-phase.yml"
	RenewCerts       = "renew-certs.yml"
	KubeletBootstrap = "kubelet-bootstrap.yml"
	EtcdCertificates = "etcd-certificates.yml"
	Backups          = "backups.yml"
	Rollback         = "rollback.yml"
	Lock             = "lock.yml"
)

// CallbackDir is the folder, below the playbooks, of the event callback.
const CallbackDir = "plugins/callback"

// SSH is the program that Ansible calls instead of ssh when it looks at nodes.
const SSH = "ssh.sh"

// WriteTo writes all files below dir, which must not hold them yet.
func WriteTo(dir string) error { return write(dir, files) }

// WriteToLook writes what Inspect needs, and nothing else.
func WriteToLook(dir string) error { return write(dir, look) }

func write(dir string, files embed.FS) error {
	err := os.CopyFS(dir, files)
	if err == nil {
		err = os.Chmod(filepath.Join(dir, SSH), 0o700) //nolint:gosec // a program
	}
	if err != nil {
		return fmt.Errorf("writing the playbooks: %w", err)
	}
	return nil
}
