// Package fakeansible is a fake Ansible for tests: it reports one control plane node, and its
// playbooks change nothing.
package fakeansible

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
)

// Cluster holds the CAs of a fake cluster.
type Cluster struct {
	CA, Front testpki.Pair
	// Admin is the certificate of admin.conf; Node issues one if it is nil.
	Admin testpki.Pair
	// Well makes gates hold: the API server serves its certificate and leases are fresh.
	Well bool
}

// NewCluster creates the CAs.
func NewCluster(tb testing.TB) Cluster {
	tb.Helper()
	return Cluster{CA: testpki.Authority(tb, "kubernetes"), Front: testpki.Authority(tb, "front-proxy-ca")}
}

// Node returns the collector's output on a control plane whose admin.conf expires after the
// given time.
func Node(tb testing.TB, in Cluster, left time.Duration) string {
	tb.Helper()
	return testcluster.ControlPlaneAnswer(tb,
		testcluster.Answering{CA: in.CA, Front: in.Front, Admin: in.Admin, Well: in.Well, Left: left})
}

// New returns a directory with Ansible's commands for a cluster of one control plane, whose
// admin.conf expires after the given time. Playbooks other than the inspection are recorded in
// the file "ran" and exit with the given code.
func New(t *testing.T, left time.Duration, code int) (bin, ran string) {
	t.Helper()
	bin = t.TempDir()
	return bin, Write(t, bin, Node(t, NewCluster(t), left), code)
}

// Says returns Ansible's events of a playbook that returns a payload from cp1.
func Says(tb testing.TB, payload string) string {
	tb.Helper()
	var out strings.Builder
	for _, e := range []ansible.Event{
		{V: 1, Event: "result", Status: "ok", Host: "cp1", Task: &ansible.Task{Name: "Tell"}, Payload: payload},
		{V: 1, Event: "stats", Hosts: map[string]ansible.Stats{"cp1": {OK: 1}}},
	} {
		line, err := json.Marshal(e)
		if err != nil {
			tb.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	return out.String()
}

// Write writes the commands of New into a directory; the payload is the node's answer. A
// program "hook" in the directory runs before each playbook, and a file named like a playbook
// holds that playbook's events.
func Write(tb testing.TB, bin, payload string, code int) (ran string) {
	tb.Helper()
	ran = filepath.Join(bin, "ran")
	says := func(payload string) string { return Says(tb, payload) }
	for name, text := range map[string]string{
		"inspect.yml":       says(payload),
		"recall.yml":        says("@@END\n"),
		"lock.yml":          says("@@LOCK acquired 0 -\n@@END\n"),
		"backup.yml":        says("@@BACKUP this made 1 1 1 abc -\n@@END\n"),
		"backups.yml":       says("@@BACKUP that verified 1 1 1 abc -\n@@END\n"),
		"events":            says(""),
		"ansible-config":    "#!/bin/sh\necho \"DEFAULT_CALLBACK_PLUGIN_PATH(default) = ['/callbacks']\"\n",
		"ansible-inventory": "#!/bin/sh\ncat \"${0%/*}/inventory\"\n",
		"inventory":         `{"kube_control_plane": {"hosts": ["cp1"]}}`,
		"ansible-playbook": fmt.Sprintf(`#!/bin/sh
case $* in
--version) echo 'ansible-playbook [core 2.14.18]'; exit ;;
*--list-tasks*) printf '  play #1 (all): Play\tTAGS: []\n    tasks:\n      Task\tTAGS: []\n'; exit ;;
esac
for a; do case $a in *.yml) playbook=$(basename "$a") ;; esac; done
case $playbook in
inspect.yml | recall.yml | lock.yml) code=0 ;;
*) code=%[3]d; echo "$playbook" >>'%[2]s' ;;
esac
[ ! -x '%[1]s/hook' ] || '%[1]s/hook' "$playbook" "$*" || exit
answer='%[1]s/'$playbook
[ -f "$answer" ] || answer='%[1]s/events'
# The node's clock advances.
sed "s/@@KSCERT \([0-9]*\) [0-9]*/@@KSCERT \1 $(date +%%s)/" "$answer" >>"$KSCERT_EVENTS"
exit $code
`, bin, ran, code),
	} {
		if err := testcommand.Write(filepath.Join(bin, name), text); err != nil {
			tb.Fatal(err)
		}
	}
	return ran
}
