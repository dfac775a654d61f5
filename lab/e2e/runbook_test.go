//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// typed matches a block of a runbook.
var typed = regexp.MustCompile("(?s)### On ([^\n]*): ([^\n:]*)\n\n```sh\n(.*?)```")

// pasted matches what is copied from one block into another.
var pasted = regexp.MustCompile("(?s)-----BEGIN [A-Z ]+-----\n.*?-----END [A-Z ]+-----\n")

// onControlNode types a block where Ansible is: with the collection installed, and kscertctl in PATH.
func onControlNode(ctx context.Context, t *testing.T, script string) ([]byte, error) {
	t.Helper()
	env, dir := install(ctx, t)
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = dir, append(env, "PATH="+filepath.Dir(binary(t))+":/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd.CombinedOutput()
}

// typeRunbook follows the runbook like an operator: every block on the nodes in its heading,
// from top to bottom, with requests and certificates where it asks for them.
func typeRunbook(ctx context.Context, t *testing.T, c *cluster.Cluster, runbook string) {
	t.Helper()
	blocks := typed.FindAllStringSubmatch(runbook, -1)
	if len(blocks) < 3 {
		t.Fatalf("only %d blocks in\n%s", len(blocks), runbook)
	}
	copied := map[string]string{} // by node: its request, then its certificate
	for _, block := range blocks {
		names, what, script := block[1], block[2], block[3]
		askers, signs := strings.CutPrefix(what, "sign for ")
		for node := range strings.SplitSeq(names, ", ") {
			stated := copied[node]
			if signs {
				stated = ""
				for asker := range strings.SplitSeq(askers, ", ") {
					stated += copied[asker]
				}
			}
			began := time.Now()
			var out []byte
			var err error
			if node == "the control node" {
				out, err = onControlNode(ctx, t, script)
			} else { // as in a login shell, without the lab's environment
				out, err = c.ExecInput(ctx, node, strings.NewReader(stated), "env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script)
			}
			if err != nil {
				t.Fatalf("%s on %s: %v\n%s\n%s", what, node, err, out, script)
			}
			t.Logf("%s on %s: %.1fs", what, node, time.Since(began).Seconds())
			pems := pasted.FindAllString(string(out), -1)
			switch {
			case signs:
				for i, asker := range strings.Split(askers, ", ") {
					copied[asker] = pems[i]
				}
			case what == "make a request":
				copied[node] = pems[0]
			}
		}
	}
}

// TestRunbook: an operator who follows the output of diagnose --runbook recovers or renews the
// cluster as kscertctl does, with the same certificates, and nothing left due.
func TestRunbook(t *testing.T) {
	t.Parallel()
	soon := expire.Options{NotAfter: time.Now().Add(5 * 24 * time.Hour)}
	for _, test := range []struct {
		name  string
		spec  cluster.Spec
		opts  expire.Options
		route string
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-book-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Restart: true}, "recover"},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-book-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, expire.Options{}, "recover"},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-book-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm}, expire.Options{Restart: true}, "recover"},
		{"three-host-etcd", cluster.Spec{Name: "e2e-book-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost}, expire.Options{Restart: true}, "recover"},
		{"healthy", cluster.Spec{Name: "e2e-book-5", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}, soon, "renew"},
		{"healthy-etcd-node", cluster.Spec{Name: "e2e-book-6", ControlPlanes: 1, EtcdNodes: 1}, soon, "renew"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 25*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			expireAll(ctx, t, c, test.opts)
			if test.route == "renew" {
				w.KubeletsKept = true // valid for five days: kubelets renew theirs by themselves
				wantErrorWith(t, certificateFresh(ctx, c), "ends soon")
			} else {
				wantErrorWith(t, w.Verify(ctx), "expired at")
			}

			o := kscertctl(ctx, t, "diagnose", "-i", c.Inventory(), "--runbook")
			o.want(t, 0, "Route: "+test.route)
			typeRunbook(ctx, t, c, o.stdout)
			if err := errors.Join(w.Verify(ctx), certificateFresh(ctx, c)); err != nil {
				t.Errorf("verification after the runbook failed: %v", err)
			}
			kscertctl(ctx, t, "diagnose", "-i", c.Inventory()).want(t, 0, "Route:   none")

			byHand := issued(ctx, t, c)
			expireAll(ctx, t, c, test.opts)
			kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0)
			if byRun := issued(ctx, t, c); !slices.Equal(byHand, byRun) {
				t.Errorf("the runbook issued\n%s\nand run\n%s", strings.Join(byHand, "\n"), strings.Join(byRun, "\n"))
			}
		})
	}
}

// issued describes each leaf certificate on the nodes by all that its issuer has chosen, with the
// owner and mode of its file.
func issued(ctx context.Context, t *testing.T, c *cluster.Cluster) (out []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshot.json")
	kscertctl(ctx, t, "check-expiration", "-i", c.Inventory(), "--save-snapshot", file).want(t, 0)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Nodes []struct {
			Name         string
			Certificates []struct {
				Path, Subject, Issuer, KeyAlgorithm, SignedBy, Key string
				SANs, Usages, NotStrict                            []string
				Chain                                              int
				Served, IsCA                                       bool
				NotBefore, NotAfter                                time.Time
				File                                               struct{ Mode, Owner, Group string }
			}
		}
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, n := range s.Nodes {
		for _, c := range n.Certificates {
			if c.Served || c.IsCA || c.SignedBy == "self-signed" { // kubelets name theirs by the time
				continue
			}
			c.NotAfter, c.NotBefore = time.Unix(int64(c.NotAfter.Sub(c.NotBefore).Round(day)/time.Second), 0), time.Time{}
			line, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n.Name+" "+string(line))
		}
	}
	slices.Sort(out)
	if len(out) < 8 {
		t.Fatalf("few certificates: %q", out)
	}
	return out
}
