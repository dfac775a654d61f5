package playbooks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// TestRestartWorkloads: of the pods whose containers started before all trusted the next CA, each
// controller restarts once, in order; what no controller restarts is named, and one that does not come
// back stops the step.
func TestRestartWorkloads(t *testing.T) {
	t.Parallel()
	trusted := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return trusted.Add(d).Format(time.RFC3339) }
	const ca = "kube-root-ca.crt"
	pods := strings.Join([]string{
		"a web-1|ReplicaSet web-7f|" + at(-time.Hour) + "|" + ca,
		"a web-2|ReplicaSet web-7f|" + at(time.Hour) + " " + at(-time.Minute) + "|settings " + ca,
		"a db-0|StatefulSet db|" + at(time.Minute) + "|" + ca, // before its kubelet had followed
		"b agent-1|DaemonSet agent|" + at(-time.Hour) + "|" + ca,
		"b hand|DaemonSet hand|" + at(-time.Hour) + "|" + ca,
		"b job-1|Job job|" + at(-time.Hour) + "|" + ca,
		"b alone| |" + at(-time.Hour) + "|" + ca,
		"b late|DaemonSet late|" + at(3*time.Minute) + "|" + ca,
		"b without|DaemonSet without|" + at(-time.Hour) + "|",
		"c held|ReplicaSet held-1|" + at(-time.Hour) + "|" + ca,
		"c begun|ReplicaSet begun-1|" + at(-time.Hour) + "|" + ca,
	}, "\n") + "\n"
	sets := "a web-7f|Deployment web\nc held-1|Deployment held\nc begun-1|Deployment begun\n"
	for name, row := range map[string]struct {
		which, run, since string
		// restarted and waited are the workloads, in order.
		restarted, waited []string
		left, fails       string
	}{
		"listed": {which: "listed", since: fmt.Sprint(trusted.Unix()),
			restarted: []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent"},
			waited:    []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent", "Deployment/begun"},
			left:      "DaemonSet b/hand: its update strategy is OnDelete|pod b/job-1, which no|pod b/alone, which no|Deployment c/held: its rollout is paused"},
		"a time that is not known": {which: "listed",
			restarted: []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent", "DaemonSet/late", "Deployment/begun"}},
		"all": {which: "all", run: "20260301T120500Z-abcdef", since: fmt.Sprint(trusted.Unix()),
			restarted: []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent", "DaemonSet/late"}}, // the other was restarted since
		"one that does not come back": {which: "listed", since: fmt.Sprint(trusted.Unix()), fails: "StatefulSet a/db has not restarted within 5 seconds",
			restarted: []string{"Deployment/web", "StatefulSet/db"}},
		"a run of no known time": {which: "all", run: "run", fails: "run does not name a run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := caNode(t, testpki.Authority(t, "kubernetes"))
			n.write(n.conf+"/admin.conf", nil, 0o600)
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
			n.write(n.root()+"/pods", []byte(pods), 0o600)
			n.write(n.root()+"/sets", []byte(sets), 0o600)
			if row.since != "" {
				n.write(n.conf+"/ssl/ca-trusted-since", []byte(row.since+"\n"), 0o600)
			}
			n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
dir=%s
case $* in
*'get pods -A'*) cat $dir/pods ;;
*'get replicasets -A'*) cat $dir/sets ;;
*restartedAt*) case $* in *' begun '*) echo 2026-03-01T14:06:00+02:00 ;; esac ;;
*'hand -o jsonpath'*) echo 'OnDelete|' ;;
*'held -o jsonpath'*) echo '|true' ;;
*updateStrategy*) echo 'RollingUpdate|' ;;
*'rollout restart '*) all=$* && echo "${all##* }" >>$dir/restarted ;;
*'rollout status '*)
  all=$*
  set -- ${all##*rollout status }
  echo "$1" >>$dir/waited
  [ "%[2]s $1" != 'yes StatefulSet/db' ] || { echo 'error: timed out waiting for the condition' >&2; exit 1; } ;;
*) echo "not asked: $*" >&2; exit 1 ;;
esac
`, n.root(), map[bool]string{true: "yes"}[strings.Contains(row.fails, "db")]), 0o700)
			n.write(n.root()+"/restarted", nil, 0o600)
			n.write(n.root()+"/waited", nil, 0o600)
			run := row.run
			if run == "" {
				run = "20260301T130000Z-abcdef"
			}
			out, errs, err := n.run(fmt.Sprintf("KSCERT_RESTART=%s KSCERT_RUN=%s\n", row.which, run) +
				script(t, "ca_renewal/files/authority.sh", "ca_rotation/files/workloads.sh"))
			if (err != nil) != (row.fails != "") || row.fails != "" && !strings.Contains(errs, row.fails) {
				t.Fatalf("%v: %s\n%s", err, errs, out)
			}
			if got := strings.Fields(string(n.read(n.root() + "/restarted"))); !slices.Equal(got, row.restarted) {
				t.Errorf("restarted %q, want %q", got, row.restarted)
			}
			if got := strings.Fields(string(n.read(n.root() + "/waited"))); row.waited != nil && !slices.Equal(got, row.waited) {
				t.Errorf("waited for %q, want %q", got, row.waited)
			}
			for what := range strings.SplitSeq(row.left, "|") {
				if what != "" && !strings.Contains(out, "left: "+what) {
					t.Errorf("not named: %s\n%s", what, out)
				}
			}
		})
	}
}
