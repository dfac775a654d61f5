package orchestrator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// upgradePlaybooks are the places of the upgrade playbook in a checkout: the
// wrapper of all releases, its alias since v2.30, its home since v2.22.
var upgradePlaybooks = []string{"upgrade-cluster.yml", "upgrade_cluster.yml", "playbooks/upgrade_cluster.yml"}

// checkout is a Kubespray checkout that was looked at before anything else.
type checkout struct {
	dir     string // absolute
	upgrade string // file of the upgrade playbook, absolute
}

// openCheckout checks that dir can be used as a Kubespray checkout.
func openCheckout(dir string) (checkout, *Error) {
	refuse := func(next, format string, args ...any) (checkout, *Error) {
		return checkout{}, &Error{Code: ExitUsage, Reason: diagnosis.KubesprayNotFound, Summary: "--kubespray-dir: " + fmt.Sprintf(format, args...), Next: next}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return refuse("name the folder of your Kubespray checkout", "%v", err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("name the folder of your Kubespray checkout", "%s does not exist", dir)
	case err != nil:
		return refuse("name the folder of your Kubespray checkout", "%v", err)
	case !info.IsDir():
		return refuse("name the folder of your Kubespray checkout", "%s is no folder", dir)
	case info.Mode().Perm()&0o002 != 0:
		// Ansible ignores an ansible.cfg in such a folder, and with it the
		// checkout's roles, library and connection settings.
		return refuse("chmod o-w "+abs, "%s is writable by everyone, so Ansible would ignore its ansible.cfg", dir)
	}
	for _, name := range upgradePlaybooks {
		file := filepath.Join(abs, name)
		if _, err := os.Stat(file); err == nil {
			return checkout{dir: abs, upgrade: file}, nil
		}
	}
	return refuse("name the folder that holds upgrade-cluster.yml", "%s holds none of %s", dir, strings.Join(upgradePlaybooks, ", "))
}
