// Package playbooks carries the Ansible half of kscertctl: the playbooks, their
// roles and the event callback. They run by hand with plain ansible-playbook
// too; the driver writes this copy into the run directory and runs it there, so
// that a run's record holds exactly what was run.
package playbooks

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed *.yml *.sh roles plugins
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

// SSH is the program that Ansible calls instead of ssh when it looks at nodes.
const SSH = "ssh.sh"

// ToLook is what WriteTo has to write for Inspect alone.
func ToLook() []string { return []string{Inspect, SSH, CallbackDir, "roles/inspect", "roles/settings"} }

// WriteTo writes files and folders below dir, which must not hold them yet: those
// that are named, or all.
func WriteTo(dir string, names ...string) error {
	if len(names) == 0 {
		names = []string{"."}
	}
	for _, name := range names {
		if err := write(dir, name); err != nil {
			return fmt.Errorf("writing the playbooks: %w", err)
		}
	}
	return nil
}

func write(dir, name string) error {
	return fs.WalkDir(files, name, func(name string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, filepath.FromSlash(name))
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		mode := os.FileMode(0o600)
		if name == SSH {
			mode = 0o700 // a program
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	})
}
