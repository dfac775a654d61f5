package witness

import (
	"context"
	"fmt"
	"strings"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// machineScript describes what a machine's administrator would miss or find: all
// of /etc, homes, kubelet's certificates, programs, and what lies in the directories
// for temporary files; and the processes that an inspection may leave behind. Times of
// directories for temporary files are left out: a file may have come and gone.
const machineScript = `
{ find /etc /root /home /opt /srv /usr/local /var/backups /var/spool /var/lib/kubelet/pki /var/lib/kubelet/config.yaml -path /root/.kube/cache -prune -o \
    -printf '%p\t%y %m %U:%G %T@ %s %l\n'
  find /tmp /var/tmp /dev/shm /run -maxdepth 1 -printf '%p\t%y %m %U:%G\n'
  find /etc /root /home /var/lib/kubelet/pki -path /root/.kube/cache -prune -o -type f -print0 | xargs -0 -r sha256sum | sed -E 's/^([0-9a-f]+)  (.*)$/\2\t\1/'
  ps -eo args= | grep -E '^(timeout [0-9.]+ )?(openssl|sh -c|kubectl|getent|curl) ' | sort | uniq -c | sed 's/^ *\([0-9]*\) \(.*\)/process \2\t\1/'
} 2>/dev/null || true`

// MachineDigest describes all that looking at the nodes may not change. Two equal
// digests mean that nothing was changed, made or left behind between them.
func MachineDigest(ctx context.Context, c *cluster.Cluster) (Digest, error) {
	lists, err := onEach(ctx, c.Nodes(), func(ctx context.Context, n cluster.Node) (string, error) {
		out, err := c.Exec(ctx, n.Name, "bash", "-c", machineScript)
		return string(out), err
	})
	if err != nil {
		return nil, fmt.Errorf("describing the machines of cluster %s: %w", c.Name(), err)
	}
	digest := Digest{}
	for node, list := range lists {
		digest.add(node, list)
	}
	return digest, nil
}

// add reads lines of "path TAB what"; several lines of a path are joined.
func (d Digest) add(node, list string) {
	for line := range strings.Lines(list) {
		path, what, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ok {
			key := node + ":" + path
			d[key] = strings.TrimSpace(d[key] + " " + what)
		}
	}
}
