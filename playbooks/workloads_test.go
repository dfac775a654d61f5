package playbooks_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// TestRestartWorkloads: of the pods whose containers started before all trusted the next CA, each
// controller restarts once, in order; what no controller restarts is named, and one that does not come
// back stops the step.
func TestRestartWorkloads(t *testing.T) {
	t.Parallel()
	trusted := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return trusted.Add(d).Format(time.RFC3339) }
	const ca = "kube-root-ca.crt"
	pod := func(namespace, name, kind, owner, started, mounted string) string {
		volumes := ""
		for m := range strings.FieldsSeq(mounted) {
			volumes += " " + strconv.Quote(m)
		}
		return strings.Join([]string{strconv.Quote(namespace), strconv.Quote(name), strconv.Quote(kind), strconv.Quote(owner), " " + started, volumes, ""}, "\t")
	}
	pods := strings.Join([]string{
		pod("a", "web-1", "ReplicaSet", "web-7f", at(-time.Hour), ca),
		pod("a", "web-2", "ReplicaSet", "web-7f", at(time.Hour)+" "+at(-time.Minute), "settings "+ca),
		pod("a", "db-0", "StatefulSet", "db", at(time.Minute), ca), // before its kubelet had followed
		pod("b", "agent-1", "DaemonSet", "agent", at(-time.Hour), ca),
		pod("b", "hand", "DaemonSet", "hand", at(-time.Hour), ca),
		pod("b", "job-1", "Job", "job", at(-time.Hour), ca),
		pod("b", "alone", "", "", at(-time.Hour), ca),
		pod("b", "ends", "", "", at(-time.Hour), ca) + "ends",
		pod("b", "late", "DaemonSet", "late", at(3*time.Minute), ca),
		pod("b", "without", "DaemonSet", "without", at(-time.Hour), ""),
		pod("b", "other", "DaemonSet", "other", at(-time.Hour), "my-"+ca),
		pod("c", "held", "ReplicaSet", "held-1", at(-time.Hour), ca),
		pod("c", "begun", "ReplicaSet", "begun-1", at(-time.Hour), ca),
		pod("c", "part", "StatefulSet", "part", at(-time.Hour), ca),
		// Users of the cluster choose what owns their pods.
		pod("d", "option", "Deployment", "--kubeconfig=/tmp/evil", at(-time.Hour), ca),
		pod("d", "lines", "DaemonSet", "x\nb\tlate\tDaemonSet\tlate", at(-time.Hour), ca),
		pod("d", "set", "ReplicaSet", "forged", at(-time.Hour), ca),
		pod("d", "kind", "Deployment x -n kube-system", "late", at(-time.Hour), ca),
	}, "\n") + "\n"
	set := func(namespace, name, kind, owner string) string {
		return strings.Join([]string{strconv.Quote(namespace), strconv.Quote(name), strconv.Quote(kind), strconv.Quote(owner)}, "\t") + "\n"
	}
	sets := set("a", "web-7f", "Deployment", "web") + set("c", "held-1", "Deployment", "held") + set("c", "begun-1", "Deployment", "begun") +
		set("d", "forged", "Deployment", "--namespace=b")
	for name, row := range map[string]struct {
		which, run, since string
		// restarted and waited are the workloads, in order.
		restarted, waited []string
		left, fails       string
	}{
		"listed": {which: "listed", since: fmt.Sprint(trusted.Unix()),
			restarted: []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent"},
			waited:    []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent", "Deployment/begun"},
			left:      "DaemonSet b/hand: its update strategy is OnDelete|pod b/job-1: no Deployment|pod b/alone: no Deployment|Deployment c/held: its rollout is paused|StatefulSet c/part: its partition leaves pods below 2|pod d/option: no Deployment|pod d/lines: no Deployment|pod d/set: no Deployment|pod d/kind: no Deployment|Deployment c/begun: a pod of it still runs"},
		"a time that is not known": {which: "listed", run: "20260301T120500Z-abcdef",
			restarted: []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent", "DaemonSet/late"}},
		"all": {which: "all", run: "20260301T120500Z-abcdef", since: fmt.Sprint(trusted.Unix()),
			restarted: []string{"Deployment/web", "StatefulSet/db", "DaemonSet/agent", "DaemonSet/late"}}, // the other was restarted since
		"one that does not come back": {which: "listed", since: fmt.Sprint(trusted.Unix()), fails: "StatefulSet a/db does not get on within 5 seconds",
			restarted: []string{"Deployment/web", "StatefulSet/db"}},
		"a run of no known time": {which: "all", run: "run", fails: "the name of the run, run, does not have the time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := caNode(t, testpki.Authority(t, "kubernetes"))
			n.write(n.conf+"/admin.conf", nil, 0o600)
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
			n.write(n.root()+"/pods", []byte(pods), 0o600)
			n.write(n.root()+"/sets", []byte(sets), 0o600)
			n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
dir=%s
case $* in
*'get pods -A'*) cat $dir/pods ;;
*'get replicasets -A'*) cat $dir/sets ;;
*restartedAt*) case $* in */begun' '*) echo 2026-03-01T14:06:00+02:00 ;; esac ;;
*'/hand -o jsonpath'*) echo 'OnDelete||' ;;
*'/held -o jsonpath'*) echo '|true|' ;;
*'/part -o jsonpath'*) echo 'RollingUpdate||2' ;;
*updateStrategy*) echo 'RollingUpdate||' ;;
*updatedReplicas*) echo 1 1 ;;
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
			out, errs, err := n.run(fmt.Sprintf("KSCERT_RESTART=%s KSCERT_RUN=%s KSCERT_TRUSTED_SINCE=%s\n", row.which, run, cmp.Or(row.since, "0")) +
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

// TestRepairRestarts: after a replacement at once, too, users of the cluster choose no argument of kubectl and
// no workload of others by what owns their pods.
func TestRepairRestarts(t *testing.T) {
	t.Parallel()
	n := caNode(t, testpki.Authority(t, "kubernetes"))
	n.write(n.conf+"/admin.conf", nil, 0o600)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	n.write(n.root()+"/pods", []byte(strings.Join([]string{
		`a web 2026-01-01T00:00:00Z "ReplicaSet" "web-1"`, `a agent 2026-01-01T00:00:00Z "DaemonSet" "agent"`,
		`a new 2026-05-01T00:00:00Z "DaemonSet" "new"`, `a alone 2026-01-01T00:00:00Z `,
		`d option 2026-01-01T00:00:00Z "DaemonSet" "--kubeconfig=/tmp/evil"`, `d set 2026-01-01T00:00:00Z "ReplicaSet" "forged"`,
		`d lines 2026-01-01T00:00:00Z "DaemonSet" "x\nkube-system y 2026-01-01T00:00:00Z \"DaemonSet\" \"kube-proxy\""`,
	}, "\n")+"\n"), 0o600)
	n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
dir=%s
case $* in
*'get configmaps -A'*) printf 'a 2026-03-01T00:00:00Z \nd 2026-03-01T00:00:00Z \nkube-system 2026-03-01T00:00:00Z \n' ;;
*'get pods -A'*) cat $dir/pods ;;
*'get replicaset web-1'*) echo Deployment/web ;;
*'get replicaset forged'*) printf 'Deployment/--x\n--kubeconfig=/tmp/evil\nDaemonSet/late -n kube-system\n' ;;
*updateStrategy*) printf RollingUpdate ;;
*'rollout restart '*) all=$* && echo "${all##* }" >>$dir/restarted ;;
esac
`, n.root()), 0o700)
	n.write(n.root()+"/restarted", nil, 0o600)
	out, errs, err := n.run("KSCERT_NEXT= KSCERT_PATCH_CA_BUNDLES=False KSCERT_RESTART_WORKLOADS=listed\n" +
		script(t, "ca_renewal/files/authority.sh", "ca_rotation/files/rotation.sh", "ca_rotation/files/repair.sh"))
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, errs, out)
	}
	if got, want := strings.Fields(string(n.read(n.root()+"/restarted"))), []string{"DaemonSet/agent", "Deployment/web"}; !slices.Equal(got, want) {
		t.Errorf("restarted %q, want %q", got, want)
	}
	if !strings.Contains(out, "noted: pods of a have started with the former CA") || !strings.Contains(out, "pods of d") {
		t.Errorf("not named: %s", out)
	}
}

// TestRotationTasksNameTheirNode: a play for the first control plane and for the node that signs for
// Kubespray's etcd, which may be no control plane, has each task name its node. What is made has a list of its
// own for each (ca_rotation_here).
func TestRotationTasksNameTheirNode(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(playbooks.Collection, "playbooks", "ca_rotate.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var plays []struct {
		Name  string `yaml:"name"`
		Tasks []struct {
			Name string `yaml:"name"`
			When any    `yaml:"when"`
		} `yaml:"tasks"`
	}
	if err := yaml.Unmarshal(text, &plays); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, play := range plays {
		if play.Name != "Make the next CAs, and sign for others" {
			continue
		}
		for _, task := range play.Tasks {
			if seen++; task.Name != "Make" && !strings.Contains(fmt.Sprint(task.When), "inventory_hostname == ") {
				t.Errorf("%s: %v", task.Name, task.When)
			}
		}
	}
	if seen < 5 {
		t.Errorf("%d tasks", seen)
	}
}
