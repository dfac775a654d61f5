//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
	"github.com/infrapuzzle/kscertctl/lab/fault"
)

// versionsPage has a row for each combination of versions that TestVersions passed on.
const versionsPage = "../../docs/evidence/versions.md"

// versionsTable matches the table of the page.
var versionsTable = regexp.MustCompile(`(?s)(<!-- table -->\n\n(?:\|[^\n]*\n){2})(.*?)\n<!-- end -->`)

// TestVersions recovers, renews and diagnoses one cluster with the versions and the container
// runtime that the environment names. UPDATE_DOCS=1 writes the row of the page.
func TestVersions(t *testing.T) {
	ctx := testContext(t, 40*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-versions", ControlPlanes: 1, Workers: 1, Like: cluster.LikeKubespray})
	var took time.Duration
	var asked, failed int
	// Each begins with what the one before it leaves.
	if !t.Run("recover", func(t *testing.T) { took = recovers(ctx, t, c, expire.Options{Restart: true}) }) ||
		!t.Run("renew", func(t *testing.T) { asked, failed = renewsUnnoticed(ctx, t, c) }) {
		return
	}
	faults := diagnosesSample(ctx, t, c)
	writeRow(ctx, t, c, "1+1", took, asked, failed, faults)
}

// diagnosesSample diagnoses each fault of CI's sample that a cluster with one control plane and one
// worker can have, and returns how many these are.
func diagnosesSample(ctx context.Context, t *testing.T, c *cluster.Cluster) (faults int) {
	t.Helper()
	group := states()[0]
	for _, s := range group.states {
		if !s.sample || c.Spec.Etcd != cluster.EtcdHost && strings.HasPrefix(s.fault, "etcd-") {
			continue
		}
		i := slices.IndexFunc(group.faults, func(f fault.Fault) bool { return f.Name == s.fault })
		t.Run("diagnose/"+s.fault, func(t *testing.T) { diagnoses(ctx, t, c, group.faults[i], s) })
		faults++
	}
	return faults
}

// lastWord is the version in what a program prints of itself.
func lastWord(text string) string {
	words := strings.Fields(text)
	return strings.TrimPrefix(words[len(words)-1], "v")
}

// writeRow logs what a test found on a cluster, and with UPDATE_DOCS=1 writes it as a row of the page,
// in place of one of the same cluster and versions. A failed test writes none.
func writeRow(ctx context.Context, t *testing.T, c *cluster.Cluster, shape string, took time.Duration, asked, failed, faults int) {
	t.Helper()
	runtime, err := c.Kubectl(ctx, "get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("| %s | %s | %s | %s | %s |", shape, c.Spec.KubernetesVersion, c.EtcdVersion,
		strings.ReplaceAll(string(runtime), "://", " "), lastWord(shellOutput(ctx, t, c, "cp1", "crictl --version")))
	row := fmt.Sprintf("%s %.0f s | %d of %d | %d |\n", name, took.Seconds(), failed, asked, faults)
	t.Log(row)
	if t.Failed() || os.Getenv("UPDATE_DOCS") == "" {
		return
	}
	data, err := os.ReadFile(versionsPage)
	if err != nil {
		t.Fatal(err)
	}
	m := versionsTable.FindSubmatchIndex(data)
	if m == nil {
		t.Fatalf("%s has no table", versionsPage)
	}
	rows := slices.Collect(strings.Lines(string(data[m[4]:m[5]])))
	rows = slices.DeleteFunc(rows, func(old string) bool { return strings.HasPrefix(old, name) })
	rows = append(rows, row)
	slices.Sort(rows)
	text := slices.Concat(data[:m[4]], []byte(strings.Join(rows, "")), data[m[5]:])
	if err := os.WriteFile(versionsPage, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPageOfVersions checks that no row of the page has a failed request.
func TestPageOfVersions(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(versionsPage)
	if err != nil {
		t.Fatal(err)
	}
	m := versionsTable.FindSubmatch(data)
	if m == nil {
		t.Fatalf("%s has no table", versionsPage)
	}
	for row := range strings.Lines(string(m[2])) {
		if !regexp.MustCompile(`^(\| [^|]+ ){6}\| 0 of [0-9]{3,} \| [0-9]+ \|\n$`).MatchString(row) {
			t.Errorf("the row is no success: %s", row)
		}
	}
}
