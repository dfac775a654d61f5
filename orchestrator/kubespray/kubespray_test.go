package kubespray

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes files, by name, into a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const wrapper = "- import_playbook: playbooks/upgrade_cluster.yml\n"

// asRelease are checkouts in the layouts of the releases, with the expected release.
var asRelease = []struct {
	name          string
	files         map[string]string
	release, from string
	upgrade       string
	ansible       Range
}{
	{
		"v2.10", map[string]string{"upgrade-cluster.yml": "[]", "roles/kubernetes/master/x": "", "ansible.cfg": ""},
		"2.15 or earlier", "its layout", "upgrade-cluster.yml", Range{},
	},
	{
		"v2.19: it checks Ansible's version at its root",
		map[string]string{
			"upgrade-cluster.yml": "[]", "roles/kubernetes/control-plane/x": "", "ansible.cfg": "",
			"ansible_version.yml": "- vars:\n    minimal_ansible_version: 2.9.0\n    minimal_ansible_version_2_10: 2.10.11\n    maximal_ansible_version: 2.13.0\n",
		},
		"2.16 to 2.21", "its layout", "upgrade-cluster.yml", Range{"2.9.0", "2.13.0"},
	},
	{
		"v2.26",
		map[string]string{
			"upgrade-cluster.yml": wrapper, "playbooks/upgrade_cluster.yml": "[]", "roles/kubernetes/control-plane/x": "", "ansible.cfg": "",
			"galaxy.yml": "version: 2.26.1\n", "playbooks/ansible_version.yml": "  vars:\n    minimal_ansible_version: 2.16.4\n    maximal_ansible_version: \"2.17.5\"\n",
		},
		"2.26.1", "galaxy.yml", "upgrade-cluster.yml", Range{"2.16.4", "2.17.5"},
	},
	{
		"without its version check: the known range of its release",
		map[string]string{"upgrade-cluster.yml": wrapper, "playbooks/upgrade_cluster.yml": "[]", "galaxy.yml": "version: 2.31.0\n", "ansible.cfg": ""},
		"2.31.0", "galaxy.yml", "upgrade-cluster.yml", Range{"2.18.0", "2.19.0"},
	},
	{
		"without the wrapper", map[string]string{"upgrade_cluster.yml": wrapper, "playbooks/upgrade_cluster.yml": "[]", "ansible.cfg": ""},
		"2.30 or later", "its layout", "upgrade_cluster.yml", Range{},
	},
	{
		"the collection alone", map[string]string{"playbooks/upgrade_cluster.yml": "[]", "ansible.cfg": ""},
		"2.22 to 2.29", "its layout", "playbooks/upgrade_cluster.yml", Range{},
	},
	{
		"an unknown release", map[string]string{"upgrade-cluster.yml": "[]", "ansible.cfg": "", "galaxy.yml": "version: 3.4.5\n"},
		"3.4.5", "galaxy.yml", "upgrade-cluster.yml", Range{},
	},
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, row := range asRelease {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, row.files)
			c, err := Open(dir)
			if err != nil || c.Dir != dir || c.Release != row.release || c.ReleaseFrom != row.from || c.Upgrade != row.upgrade || c.Ansible != row.ansible || c.Renew != "" || len(c.Warnings) > 0 {
				t.Errorf("%+v, %v", c, err)
			}
			if again := c.Described(t.Context()); len(again.Warnings) > 0 || again.Release != c.Release { // no work tree
				t.Errorf("described: %+v", again)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	writable := tree(t, map[string]string{"upgrade-cluster.yml": "[]"})
	if err := os.Chmod(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "$(id) x")
	if err := errors.Join(os.Mkdir(odd, 0o700), os.Chmod(odd, 0o777)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tree(t, map[string]string{"file": ""}), "file")
	for _, row := range []struct{ dir, says, next string }{
		{"/nonexistent", "/nonexistent does not exist", "name the directory"},
		{file, "is not a directory", "name the directory"},
		{t.TempDir(), "holds none of upgrade-cluster.yml", "name the directory that holds"},
		{writable, "is writable by everyone", "chmod o-w " + writable},
		{odd, "is writable by everyone", "chmod o-w '" + odd + "'"},
	} {
		_, err := Open(row.dir)
		wrong, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(wrong.Detail, row.says) || !strings.HasPrefix(wrong.Next, row.next) {
			t.Errorf("%s: %v", row.dir, err)
		}
	}
}

// Surprises for its owner are warnings, not errors.
func TestWarnings(t *testing.T) {
	c, err := Open(tree(t, map[string]string{"upgrade-cluster.yml": "[]"}))
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "has no ansible.cfg") {
		t.Errorf("%+v, %v", c, err)
	}
	t.Setenv("ANSIBLE_CONFIG", "/etc/mine.cfg")
	c, err = Open(tree(t, map[string]string{"upgrade-cluster.yml": "[]", "ansible.cfg": ""}))
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "ANSIBLE_CONFIG names /etc/mine.cfg") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestDescribed(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed; a checkout works without it")
	}
	// v2.23.1 has the galaxy.yml of another release, like several others.
	dir := tree(t, map[string]string{"upgrade-cluster.yml": "[]", "ansible.cfg": "", "a": "", "b": "", ".gitignore": "", "galaxy.yml": "version: 2.22.1\n"})
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "release")
	git("tag", "v2.23.1")
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Described(t.Context())
	if d.Release != "2.23.1" || d.ReleaseFrom != "git describe" || d.Ansible != (Range{"2.14.0", "2.15.0"}) || len(d.Warnings) > 0 {
		t.Errorf("%+v", d)
	}
	t.Chdir(dir) // outside a checkout, the current directory is not used
	if none := (Checkout{}).Described(t.Context()); none.Release != "" {
		t.Errorf("without a checkout: %+v", none)
	}
	// A new inventory is not a local change; an edited file is.
	for _, name := range []string{"inventory.ini", "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d = c.Described(t.Context()); len(d.Warnings) != 1 || !strings.HasSuffix(d.Warnings[0], "local changes, and its playbooks run with them: M a") {
		t.Errorf("%+v", d)
	}
	if err := os.Rename(filepath.Join(dir, ".git", "HEAD"), filepath.Join(dir, "HEAD")); err != nil {
		t.Fatal(err)
	}
	if d = c.Described(t.Context()); len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "is not known: git status") {
		t.Errorf("%+v", d)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	checkout := map[string]string{"upgrade-cluster.yml": "", "roles/kubernetes/x": ""}
	under := func(prefix string, more map[string]string) map[string]string {
		out := map[string]string{}
		for name, text := range checkout {
			out[prefix+name] = text
		}
		maps.Copy(out, more)
		return out
	}
	for _, row := range []struct {
		name      string
		files     map[string]string
		from      string
		inventory string
		dir, how  string
	}{
		{"here", under("", nil), ".", "x.ini", ".", "the directory the command was run in"},
		{"above the inventory", under("k/", map[string]string{"k/inventory/mine/hosts.yml": "", "work/x": ""}), "work", "../k/inventory/mine/hosts.yml", "k", "the checkout that holds the inventory ../k/inventory/mine/hosts.yml"},
		{"above an inventory directory", under("k/", map[string]string{"k/inventory/mine/hosts.yml": ""}), ".", "k/inventory/mine", "k", "the checkout that holds the inventory k/inventory/mine"},
		{"below", under("kubespray/", nil), ".", "x.ini", "kubespray", "./kubespray"},
		{"next to it", under("kubespray/", map[string]string{"work/x": ""}), "work", "x.ini", "kubespray", "../kubespray"},
		{"the current directory takes precedence", under("", under("kubespray/", nil)), ".", "x.ini", ".", "the directory the command was run in"},
		{"only a playbook of that name", map[string]string{"upgrade-cluster.yml": ""}, ".", "x.ini", "", ""},
		{"nowhere", map[string]string{"inventory/x.ini": ""}, ".", "inventory/x.ini", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, row.files)
			dir, how := Find(filepath.Join(root, row.from), []string{row.inventory})
			want := row.dir
			if want != "" {
				want = filepath.Join(root, row.dir)
			}
			if dir != want || how != row.how {
				t.Errorf("%q, %q; want %q", dir, how, want)
			}
		})
	}
}

func TestPrompts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		files map[string]string
		want  []string
		says  string
	}{
		{"none", map[string]string{"p.yml": "- hosts: all\n  tasks: []\n"}, nil, ""},
		{"in an import", map[string]string{
			"p.yml":   "- import_playbook: b/q.yml\n- ansible.builtin.import_playbook: b/r.yml\n- import_playbook: '{{ later }}'\n- import_playbook: a.collection.book\n",
			"b/q.yml": "- hosts: all\n  vars_prompt:\n    - name: sure\n      prompt: Sure?\n", "b/r.yml": "- import_playbook: s.yml\n", "b/s.yml": "- hosts: all\n  vars_prompt: [{name: why}]\n",
		}, []string{"sure", "why"}, ""},
		{"a missing import", map[string]string{"p.yml": "- import_playbook: b/q.yml\n"}, nil, "b/q.yml: no such file"},
		{"no playbook", map[string]string{"p.yml": "a: [\n"}, nil, "p.yml is not a playbook"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := Checkout{Dir: tree(t, row.files)}.Prompts("p.yml")
			if !slices.Equal(got, row.want) || (err != nil) != (row.says != "") || (err != nil && !strings.Contains(err.Error(), row.says)) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		r       Range
		text    string
		allows  string
		refuses string
	}{
		{Range{}, "any", "2.9.6 2.20.0", ""},
		{Range{"2.14.0", "2.15.0"}, "2.14.0 or later, before 2.15.0", "2.14.0 2.14.18 2.14", "2.13.9 2.15.0 2.15 2.15.1 3.0.0"},
		{Range{"2.16.4", "2.17.5"}, "2.16.4 or later, before 2.17.5", "2.16.4 2.16.12 2.17.0 2.17.4 2.16.4rc1", "2.16.3 2.17.5 2.9.27"},
		{Range{Min: "2.7.8"}, "2.7.8 or later", "2.7.8 2.18.0", "2.7.7 nonsense"},
		{Range{Max: "2.13"}, "before 2.13", "2.12.9", "2.13.0"},
	} {
		if got := row.r.String(); got != row.text {
			t.Errorf("%q, want %q", got, row.text)
		}
		for v := range strings.FieldsSeq(row.allows) {
			if !row.r.Allows(v) {
				t.Errorf("%s does not allow %s", row.r, v)
			}
		}
		for v := range strings.FieldsSeq(row.refuses) {
			if row.r.Allows(v) {
				t.Errorf("%s allows %s", row.r, v)
			}
		}
	}
}

func TestRequirement(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"requirements.txt": "ansible==9.12.0\n"})
	if got, want := (Checkout{Dir: dir}).Requirement(), "-r "+dir+"/requirements.txt"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (Checkout{Dir: t.TempDir(), Ansible: Range{"2.14.0", "2.15.0"}}).Requirement(), "'ansible-core>=2.14.0,<2.15.0' netaddr jmespath"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestExtraVars(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"vars.yml": "upgrade_node_confirm: true\nnested: {a: 1}\n", "vaulted.yml": "$ANSIBLE_VAULT;1.1;AES256\n3132\n"})
	for _, row := range []struct {
		args []string
		want []string // confirmations
		name string
	}{
		{nil, nil, ""},
		{[]string{"a=1 upgrade_node_confirm=yes"}, []string{"upgrade_node_confirm"}, "a"},
		{[]string{"upgrade_node_confirm=true", "upgrade_node_confirm=false"}, nil, "upgrade_node_confirm"},
		{[]string{`{"upgrade_node_post_upgrade_confirm": true, "upgrade_node_confirm": 0}`}, []string{"upgrade_node_post_upgrade_confirm"}, "upgrade_node_confirm"},
		{[]string{"@" + dir + "/vars.yml"}, []string{"upgrade_node_confirm"}, "nested"},
		{[]string{"@" + dir + "/vaulted.yml", "@/nowhere", "{broken: ["}, nil, ""},
	} {
		got := ExtraVars(row.args)
		if _, there := got[row.name]; !slices.Equal(Confirmations(got), row.want) || (row.name != "" && !there) {
			t.Errorf("%v: %v", row.args, got)
		}
	}
}

// Any -e argument is read without a panic, and Ansible gets it unchanged.
func FuzzExtraVars(f *testing.F) {
	for _, seed := range []string{"a=b", "a=b c='d e'", `{"a": [1, {"b": null}]}`, "{a: &x [*x]}", "=", "@"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, arg string) {
		if !strings.HasPrefix(arg, "@") {
			Confirmations(ExtraVars([]string{arg}))
		}
	})
}

func TestOverridden(t *testing.T) {
	t.Parallel()
	demanded := Range{"2.14.0", "2.15.0"}
	for _, row := range []struct {
		args []string
		want Range
	}{
		{nil, demanded},
		{[]string{"minimal_ansible_version=2.14.0"}, demanded},
		{[]string{"maximal_ansible_version=2.20"}, Range{"2.14.0", "2.20"}},
		{[]string{"{minimal_ansible_version: 2.11, maximal_ansible_version: '2.99.0'}"}, Range{"2.11", "2.99.0"}},
	} {
		if got := demanded.Overridden(ExtraVars(row.args)); got != row.want {
			t.Errorf("%v: %v, want %v", row.args, got, row.want)
		}
	}
	for demands, want := range map[Range]bool{{}: true, {"2.9.0", "2.10.0"}: false, {"2.9.0", "2.11.0"}: false, {"2.9.0", "2.12.0"}: true, {"2.8.0", ""}: true} {
		if demands.Suits() != want {
			t.Errorf("Suits of %s: %t", demands, !want)
		}
	}
}
