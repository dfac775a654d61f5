// Package playbooks carries the Ansible half of kscertctl: the playbooks, their
// roles and the event callback. They run by hand with plain ansible-playbook
// too; the driver writes this copy into the run directory and runs it there, so
// that a run's record holds exactly what was run.
package playbooks

import (
	"embed"
	"fmt"
	"os"
)

//go:embed *.yml roles plugins
var files embed.FS

// The playbooks, by file name.
const (
	Inspect          = "inspect.yml"
	Backup           = "backup.yml"
	PrePhase         = "pre-phase.yml"
	RenewCerts       = "renew-certs.yml"
	KubeletBootstrap = "kubelet-bootstrap.yml"
	Backups          = "backups.yml"
	Rollback         = "rollback.yml"
	Lock             = "lock.yml"
)

// CallbackDir is the folder, below the playbooks, of the event callback.
const CallbackDir = "plugins/callback"

// WriteTo writes all files below dir, which must not hold them yet.
func WriteTo(dir string) error {
	if err := os.CopyFS(dir, files); err != nil {
		return fmt.Errorf("writing the playbooks: %w", err)
	}
	return nil
}
