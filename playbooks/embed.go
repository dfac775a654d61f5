// Package playbooks embeds the Ansible half of kscertctl: the collection with plays, roles and
// plugins, and a playbook for each of its own. They also run by hand with plain ansible-playbook.
// The program writes this copy into the run directory and runs it there, so that the record of a
// run holds exactly what was run.
package playbooks

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed *.yml *.sh collections
var files embed.FS

// What Inspect needs, which is less to write.
//
//go:embed inspect.yml *.sh
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/meta
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/playbooks/collect.yml
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/playbooks/groups.yml
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/playbooks/inspect.yml
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/plugins/callback
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/plugins/filter/kscert.py
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/roles/inspect
//go:embed collections/ansible_collections/infrapuzzle/kscertctl/roles/settings
var look embed.FS

// The playbooks that are no step of a plan, by file name. Those of steps are named by plan.Action.
const (
	Inspect      = "inspect.yml"
	Backups      = "backups.yml"
	Lock         = "lock.yml"
	RenewalTimer = "renewal-timer.yml"
	Kubeconfig   = "kubeconfig.yml"
	CACSR        = "ca-csr.yml"
	Record       = "record.yml"
	Recall       = "recall.yml"
)

// Collection is the directory, below the playbooks, of the collection infrapuzzle.kscertctl: its
// plays, roles and plugins. Ansible finds it there, next to the playbooks that it runs.
const Collection = "collections/ansible_collections/infrapuzzle/kscertctl"

// CallbackDir is the directory, below the playbooks, of the event callback.
const CallbackDir = Collection + "/plugins/callback"

// SSH is the program that Ansible calls instead of ssh when it inspects nodes.
const SSH = "ssh.sh"

// WriteTo writes all files below dir, which must not exist there yet.
func WriteTo(dir string) error { return write(dir, files) }

// WriteToLook writes what Inspect needs, and nothing else.
func WriteToLook(dir string) error { return write(dir, look) }

// write writes the files for the owner alone, whatever the umask.
func write(dir string, files embed.FS) error {
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		to := filepath.Join(dir, name)
		switch {
		case err != nil:
			return err
		case name == ".":
			return os.MkdirAll(dir, 0o700)
		case e.IsDir():
			return os.Mkdir(to, 0o700)
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
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
	if err != nil {
		return fmt.Errorf("writing the playbooks: %w", err)
	}
	return nil
}
