package orchestrator

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubeconfig"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// adminConf is the kubeconfig of a cluster's user.
func adminConf(ca, user testpki.Pair) string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("# mine\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443', certificate-authority-data: %s}}]\nusers:\n- name: u\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n",
		b64(ca.Certificate), b64(user.Certificate), b64(user.Key))
}

// refreshCluster is a healthy cluster whose admin.conf can be fetched.
type refreshCluster struct {
	fakeansible.Cluster
	bin, ran, state string
}

func newRefreshCluster(t *testing.T) refreshCluster {
	t.Helper()
	c := refreshCluster{Cluster: fakeansible.NewCluster(t), bin: t.TempDir(), state: t.TempDir()}
	c.Well, c.Admin = true, c.user(t, 300)
	c.ran = fakeansible.Write(t, c.bin, fakeansible.Node(t, c.Cluster, 0), 0)
	c.write(t, "admin.conf", strings.ReplaceAll(adminConf(c.CA, c.Admin), "# mine", "# the node's"))
	c.write(t, "hook", fmt.Sprintf(`#!/bin/sh
cd '%s' || exit
case $1 in
renew-certs.yml) cp renewed inspect.yml ;;
kubeconfig.yml)
	[ ! -f broken ] || exit 1
	dest=$(printf '%%s' "$2" | sed -n 's/.*"kubeconfig_dest":"\([^"]*\)".*/\1/p')
	stat -c %%a "${dest%%/*}" >>fetched
	echo "$dest" >>fetched
	cp admin.conf "$dest"
	;;
esac
`, c.bin))
	return c
}

func (c refreshCluster) user(t *testing.T, days int) testpki.Pair {
	t.Helper()
	return c.CA.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin", Organization: "system:masters", NotAfter: time.Now().AddDate(0, 0, days)})
}

// renews makes admin.conf due until renew-certs has run, and returns its certificate until
// then.
func (c refreshCluster) renews(t *testing.T) testpki.Pair {
	t.Helper()
	due := c.Cluster
	due.Admin = c.user(t, 5)
	c.write(t, "renewed", fakeansible.Says(t, fakeansible.Node(t, c.Cluster, 0)))
	c.write(t, "inspect.yml", fakeansible.Says(t, fakeansible.Node(t, due, 0)))
	return due.Admin
}

func (c refreshCluster) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(c.bin, name)
	if err := testcommand.Write(path, text); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c refreshCluster) options(paths ...string) Options {
	return Options{Ansible: ansible.Options{Inventories: []string{"cp1,"}, BinDir: c.bin}, StateDir: c.state, GateTimeout: time.Millisecond, Approve: yes, RefreshKubeconfigs: paths}
}

func (c refreshCluster) run(t *testing.T, opts Options) (Result, error) {
	t.Helper()
	o, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return o.Run(t.Context())
}

// filesWith returns the files below a directory that contain any of some texts.
func filesWith(t *testing.T, dir string, texts ...string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if slices.ContainsFunc(texts, func(text string) bool { return bytes.Contains(data, []byte(text)) }) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A kubeconfig gets the new certificate and key, once, and is unchanged otherwise.
func TestRefreshKubeconfig(t *testing.T) {
	t.Parallel()
	c := newRefreshCluster(t)
	dir := t.TempDir()
	was := adminConf(c.CA, c.user(t, 200))
	file, link := filepath.Join(dir, "config"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte(was), 0o600), os.Chmod(file, 0o640), os.Symlink("config", link)); err != nil {
		t.Fatal(err)
	}
	r, err := c.run(t, c.options(link))
	if err != nil || len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], link+" now has the client certificate of admin.conf on cp1, valid until ") {
		t.Fatalf("%v: %q", err, r.Notes)
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != adminConf(c.CA, c.Admin) {
		t.Errorf("%v\n%s", err, got)
	}
	backup := link + ".kscertctl-" + r.RunID
	for path, mode := range map[string]fs.FileMode{file: 0o640, backup: 0o600, link: fs.ModeSymlink | 0o777} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, want %v", path, info.Mode(), mode)
		}
	}
	if old, err := os.ReadFile(backup); err != nil || string(old) != was {
		t.Errorf("the backup: %v\n%s", err, old)
	}
	fetched, err := os.ReadFile(filepath.Join(c.bin, "fetched"))
	if err != nil || !strings.HasPrefix(string(fetched), "700\n") {
		t.Fatalf("%v: %s", err, fetched)
	}
	if _, err := os.Stat(filepath.Dir(strings.Fields(string(fetched))[1])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the fetched file was not removed: %v", err)
	}
	if found := filesWith(t, c.state, string(c.Admin.Key), base64.StdEncoding.EncodeToString(c.Admin.Key)); len(found) > 0 {
		t.Errorf("the key is in %q", found)
	}
	if notes, err := run.LoadNotes(c.state, r.RunID); err != nil || !slices.Equal(notes, r.Notes) {
		t.Errorf("notes: %v %q", err, notes)
	}
	if r, err = c.run(t, c.options(file)); err != nil || len(r.Notes) > 0 || !slices.Equal(ranPlaybooks(c.ran), []string{"kubeconfig.yml"}) {
		t.Errorf("second run: %v %q, ran %q", err, r.Notes, ranPlaybooks(c.ran))
	}
}

// A kubeconfig that cannot be refreshed is refused before any change, and stays unchanged.
func TestRefreshKubeconfigRefuses(t *testing.T) {
	t.Parallel()
	c, other := newRefreshCluster(t), fakeansible.NewCluster(t)
	c.write(t, "inspect.yml", fakeansible.Says(t, fakeansible.Node(t, fakeansible.Cluster{CA: c.CA, Front: c.Front, Admin: c.user(t, 5)}, 0))) // due
	for name, row := range map[string]struct{ text, want string }{
		"missing":            {"", "no such file"},
		"none":               {"a: b", "it is not a kubeconfig"},
		"of another cluster": {adminConf(other.CA, other.CA.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin"})), "it belongs to another cluster"},
		"another user's":     {adminConf(c.CA, c.CA.Issue(t, testpki.Leaf{CommonName: "someone"})), "its user is CN=someone, which is in no admin.conf"},
	} {
		path := filepath.Join(t.TempDir(), "config")
		if row.text != "" {
			if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.run(t, c.options(path))
		if Code(err) != ExitUsage || !strings.Contains(err.Error(), "--refresh-kubeconfig "+path) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != row.text {
			t.Errorf("%s was changed:\n%s", name, got)
		}
	}
	if ran := ranPlaybooks(c.ran); len(ran) > 0 {
		t.Errorf("ran %q", ran)
	}
}

// If a copy cannot be refreshed after a successful renewal, the run stops without undoing
// anything, and resume completes it.
func TestRefreshKubeconfigAfterARenewal(t *testing.T) {
	t.Parallel()
	c := newRefreshCluster(t)
	due := c.renews(t)
	broken := c.write(t, "broken", "")
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(adminConf(c.CA, due)), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := c.options(file)
	opts.RollbackOnFailure, opts.GateTimeout = true, time.Minute
	r, err := c.run(t, opts)
	var why *Error
	if Code(err) != ExitStopped || !errors.As(err, &why) || !strings.Contains(why.Next, "resume "+r.RunID) || slices.Contains(ranPlaybooks(c.ran), "rollback.yml") {
		t.Fatalf("%v; ran %q", err, ranPlaybooks(c.ran))
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	again := c.options()
	p, err := LoadRun(c.state, r.RunID)
	if err == nil {
		err = again.Recall(p.Request)
	}
	if err != nil {
		t.Fatal(err)
	}
	o, err := New(again)
	if err != nil {
		t.Fatal(err)
	}
	r, err = o.Resume(t.Context(), r.RunID)
	if got, _ := os.ReadFile(file); err != nil || string(got) != adminConf(c.CA, c.Admin) || len(r.Notes) != 1 {
		t.Errorf("%v: %q\n%s", err, r.Notes, got)
	}
	if ran := ranPlaybooks(c.ran); strings.Join(ran, " ") != "backup.yml renew-certs.yml kubeconfig.yml record.yml kubeconfig.yml" {
		t.Errorf("ran %q", ran)
	}
}

// Neither Ansible's output, at any verbosity, nor the record of the run contains the fetched
// key; without no_log both would.
func TestFetchedKeyIsNotTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testpki.Authority(t, "kubernetes")
	user := ca.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin"})
	text := adminConf(ca, user)
	sudo, ssh := filepath.Join(dir, "sudo"), filepath.Join(dir, "ssh")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "admin.conf"), []byte(text), 0o600),
		os.WriteFile(filepath.Join(dir, "inventory.ini"), fmt.Appendf(nil, "[kube_control_plane]\ncp1 kube_config_dir=%s ansible_connection=ssh ansible_ssh_executable=%s ansible_python_interpreter=auto_silent ansible_become_exe=%s ansible_become_user=operator\n", dir, ssh, sudo), 0o600),
		testcommand.Write(ssh, "#!/bin/sh\nfor last; do :; done\nexec /bin/sh -c \"$last\"\n"),
		// With another become user, fetch returns the content as a module's result.
		testcommand.Write(sudo, "#!/bin/sh\nwhile [ \"$1\" != /bin/sh ]; do shift; done\nexec \"$@\"\n"),
	); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		stated bool
	}{{"with no_log", false}, {"without", true}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			state := t.TempDir()
			o, err := New(Options{Ansible: ansible.Options{Inventories: []string{filepath.Join(dir, "inventory.ini")}, BinDir: realAnsible(t), Verbosity: 5}, StateDir: state, Output: &out})
			if err != nil {
				t.Fatal(err)
			}
			s, err := o.begin(t.Context(), run.Entry{Kind: run.KindLook})
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if row.stated {
				tasks := filepath.Join(s.dir.Playbooks(), playbooks.Collection, "roles/kubeconfig/tasks/main.yml")
				data, err := os.ReadFile(tasks)
				if err == nil {
					err = os.WriteFile(tasks, bytes.Replace(data, []byte("no_log: true"), []byte("no_log: false"), 1), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			f, err := s.fetch(t.Context(), kubeconfig.Origin{Node: "cp1", Name: "admin.conf", Certificate: certs.Describe(user.X509)})
			if err != nil || f.Certificate.Fingerprint != certs.Describe(user.X509).Fingerprint {
				t.Fatalf("%v\n%s", err, &out)
			}
			if !row.stated {
				_, err := s.fetch(t.Context(), kubeconfig.Origin{Node: "cp1", Name: "super-admin.conf"})
				if e := s.refreshError(err, false); err == nil || !strings.Contains(e.Evidence, "Show why it was not fetched") || !strings.Contains(e.Evidence, "does not exist") {
					t.Errorf("why a file cannot be fetched: %v\n%s", err, e.Evidence)
				}
			}
			// The text itself, and the output of slurp: base64 of a text within a file
			// contains one of these three parts, depending on its offset.
			key := base64.StdEncoding.EncodeToString(user.Key)
			shown := []string{key[:80]}
			for skip := range 3 {
				shown = append(shown, base64.StdEncoding.EncodeToString([]byte(key[skip:80+skip-(80%3)])))
			}
			stated := filesWith(t, state, shown...)
			if slices.ContainsFunc(shown, func(text string) bool { return strings.Contains(out.String(), text) }) {
				stated = append(stated, "what Ansible prints")
			}
			if (len(stated) > 0) != row.stated || out.Len() == 0 {
				t.Errorf("the key is in %q", stated)
			}
		})
	}
}
