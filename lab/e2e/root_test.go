//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
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

// rootPage has a row for each way to root that TestWaysToRoot passed on.
const rootPage = "testdata/ways-to-root.md"

// wayToRoot is how the SSH user becomes root.
type wayToRoot struct {
	name string
	// packages of a Debian release, and the files of them that nodes get.
	suite    string
	packages []string
	files    map[string]int64
	// prepare is a command on each node; the first line of its input is a new password.
	prepare string
	// vars of all hosts.
	vars string
	// version is a command that prints it.
	version string
}

func waysToRoot() []wayToRoot {
	const withoutSudo = "chmod 0755 /usr/bin/sudo && "
	return []wayToRoot{
		{name: "sudo", prepare: "true", version: "dpkg-query -Wf '${Version}' sudo"},
		{name: "sudo-rs, with `Defaults !use_pty`", suite: "trixie", packages: []string{"sudo-rs"},
			files:   map[string]int64{"/usr/lib/cargo/bin/sudo": 0o4755},
			prepare: withoutSudo + "printf 'Defaults !use_pty\\n' >>/etc/sudoers", vars: "ansible_become_exe=/usr/lib/cargo/bin/sudo",
			version: "/usr/lib/cargo/bin/sudo --version 2>&1"},
		{name: "doas", suite: "bookworm", packages: []string{"opendoas"},
			files:   map[string]int64{"/usr/bin/doas": 0o4755, "/etc/pam.d/doas": 0o644},
			prepare: withoutSudo + "printf 'permit nopass kubespray as root\\n' >/etc/doas.conf && chmod 0400 /etc/doas.conf",
			vars:    "ansible_become_method=community.general.doas", version: "printf 6.8.2"},
		{name: "su", prepare: withoutSudo + `read -r password && printf 'root:%s\n' "$password" | chpasswd`,
			vars: "ansible_become_method=su", version: "dpkg-query -Wf '${Version}' util-linux"},
	}
}

// TestWaysToRoot recovers a cluster with each way in which an SSH user becomes root. UPDATE_DOCS=1
// writes the page.
func TestWaysToRoot(t *testing.T) {
	ctx := testContext(t, 30*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-root", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost})
	ini, err := os.ReadFile(c.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	// Ansible's own packages have su and sudo alone.
	collections := unpacked(ctx, t, "bookworm", "ansible")
	dir := filepath.Join(t.TempDir(), "collections")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(collections+"/usr/lib/python3/dist-packages/ansible_collections", dir+"/ansible_collections"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ANSIBLE_COLLECTIONS_PATH", dir)
	rows := []string{}
	for _, way := range waysToRoot() {
		t.Run(way.name, func(t *testing.T) {
			password := rand.Text()
			way.on(ctx, t, c, password)
			hosts := folder(t, map[string]string{
				"inventory.ini": string(ini) + "\n[all:vars]\n" + way.vars + "\n",
				"password.yml":  "ansible_become_password: " + password + "\n",
			})
			expireAll(ctx, t, c, expire.Options{Restart: true})
			args := []string{"run", "--yes", "-i", hosts + "/inventory.ini"}
			if way.name == "su" {
				args = append(args, "-e", "@"+hosts+"/password.yml")
			}
			o := kscertctl(ctx, t, args...)
			o.want(t, 0, "the API server cannot be used because", "After:   healthy")
			version := shellOutput(ctx, t, c, "cp1", way.version)
			rows = append(rows, fmt.Sprintf("| %s | %s | %.0f s |\n", way.name, lastWord(version), o.took.Seconds()))
		})
	}
	if t.Failed() || os.Getenv("UPDATE_DOCS") == "" {
		return
	}
	text, err := os.ReadFile(rootPage)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)\| --- \|[^\n]*\n(.*)$`).FindSubmatchIndex(text)
	if err := os.WriteFile(rootPage, slices.Concat(text[:m[2]], []byte(strings.Join(rows, ""))), 0o600); err != nil {
		t.Error(err)
	}
}

// on prepares every node, so that no other way leads to root.
func (w wayToRoot) on(ctx context.Context, t *testing.T, c *cluster.Cluster, password string) {
	t.Helper()
	var files []cluster.File
	if len(w.packages) > 0 {
		from := unpacked(ctx, t, w.suite, w.packages...)
		for path, mode := range w.files {
			data, err := os.ReadFile(from + path)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, cluster.File{Path: path, Data: data, Mode: mode})
		}
	}
	for _, n := range c.Nodes() {
		if err := c.WriteFiles(ctx, n.Name, files...); err != nil {
			t.Fatal(err)
		}
		if out, err := c.ExecInput(ctx, n.Name, strings.NewReader(password+"\n"), "sh", "-c", w.prepare); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// unpacked is a directory with the files of Debian packages.
func unpacked(ctx context.Context, t *testing.T, suite string, packages ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "files")
	cmd := exec.CommandContext(ctx, "../../hack/unpack", append([]string{dir, suite}, packages...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// TestPageOfWaysToRoot checks that the page has a row for each way.
func TestPageOfWaysToRoot(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(rootPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range waysToRoot() {
		if !strings.Contains(string(text), "| "+way.name+" |") {
			t.Errorf("%s has no row for %s: UPDATE_DOCS=1", rootPage, way.name)
		}
	}
}
