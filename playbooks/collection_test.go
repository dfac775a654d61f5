package playbooks_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// place has nothing of this tree: a home, a working directory, and the collections that were
// installed there.
type place struct {
	t                 *testing.T
	bin, dir, version string
	tarball           string
}

// newPlace has the collection as its users get it: from a tarball, without a network.
func newPlace(t *testing.T, bin string) place {
	t.Helper()
	source, err := filepath.Abs(playbooks.Collection)
	if err != nil {
		t.Fatal(err)
	}
	p := place{t: t, bin: bin, dir: t.TempDir()}
	p.version = p.run("ansible", "--version")
	p.run("ansible-galaxy", "collection", "build", source, "--output-path", p.dir)
	built, err := filepath.Glob(p.dir + "/infrapuzzle-kscertctl-*.tar.gz")
	if err != nil || len(built) != 1 {
		t.Fatalf("built: %v, %v", built, err)
	}
	p.tarball = built[0]
	p.run("ansible-galaxy", "collection", "install", p.tarball, "-p", p.dir+"/installed")
	return p
}

// TestCollection builds the collection and installs it into an empty place, with each
// Ansible.
func TestCollection(t *testing.T) {
	t.Parallel()
	for _, bin := range testansible.Bins(t) {
		t.Run(bin, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, bin)
			for _, part := range []struct {
				name string
				test func(place)
			}{
				{"is what is embedded", place.isEmbedded},
				{"is documented", place.isDocumented},
				{"runs", place.runs},
				{"reads facts", place.readsFacts},
				{"renders no fact", place.rendersNoFact},
				{"caches facts", place.cachesFacts},
				{"has no option", place.hasNoOption},
				{"needs root", place.needsRoot},
				{"is not taken for another", place.isNotTaken},
			} {
				t.Run(part.name, func(t *testing.T) {
					p.t = t
					part.test(p)
				})
			}
		})
	}
}

func (p place) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "ANSIBLE_COLLECTIONS_PATH="+p.dir+"/installed", "ANSIBLE_COLLECTIONS_PATHS="+p.dir+"/installed",
		"ANSIBLE_GALAXY_SERVER=http://127.0.0.1:9", "ANSIBLE_NOCOLOR=True", "PYTHONDONTWRITEBYTECODE=1", "COLUMNS=200")
	return cmd
}

func (p place) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.command(name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// documents are what ansible-doc knows about plugins of a kind.
func (p place) documents(kind string, names ...string) map[string]map[string]any {
	p.t.Helper()
	out, err := p.command("ansible-doc", append([]string{"--json", "-t", kind}, names...)...).Output()
	if err != nil {
		p.t.Fatalf("%s %q: %v", kind, names, err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		p.t.Fatalf("%s %q: %v\n%s", kind, names, err, out)
	}
	return all
}

// before reports whether the Ansible is older than a version such as "2.14".
func (p place) before(version string) bool {
	_, is, _ := strings.Cut(p.version, "ansible ")
	var major, minor, wantMajor, wantMinor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(is, "[core "), "%d.%d", &major, &minor); err != nil {
		p.t.Fatalf("%v: %s", err, is)
	}
	if _, err := fmt.Sscanf(version, "%d.%d", &wantMajor, &wantMinor); err != nil {
		p.t.Fatal(err)
	}
	return major < wantMajor || major == wantMajor && minor < wantMinor
}

// by is the argument that runs a playbook of the installed collection: its name, which Ansible
// knows since 2.11, or the file.
func (p place) by(name string) string {
	if p.before("2.11") {
		return p.dir + "/installed/ansible_collections/infrapuzzle/kscertctl/playbooks/" + name + ".yml"
	}
	return "infrapuzzle.kscertctl." + name
}

// below are the files below a directory.
func below(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The tarball holds the same files as the program, byte for byte, and nothing else but Ansible's
// own lists.
func (p place) isEmbedded() {
	t := p.t
	embedded := filepath.Join(t.TempDir(), "playbooks")
	if err := playbooks.WriteTo(embedded); err != nil {
		t.Fatal(err)
	}
	want := below(t, filepath.Join(embedded, playbooks.Collection))
	delete(want, "galaxy.yml") // in MANIFEST.json
	f, err := os.Open(p.tarball)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := tar.NewReader(unpacked); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(data)
	}
	for _, list := range []string{"MANIFEST.json", "FILES.json"} {
		if got[list] == "" {
			t.Errorf("no %s", list)
		}
		delete(got, list)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if text, ok := got[name]; !ok || text != want[name] {
			t.Errorf("%s is not in the tarball as it is embedded", name)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is in the tarball and not embedded", name)
	}
	if len(want) < 80 {
		t.Errorf("only %d files", len(want))
	}
}

// Installed from the tarball into an empty place, each playbook can be read by its name, and one
// that renews works as from this tree: alone, and after another playbook.
func (p place) runs() {
	t := p.t
	books, err := filepath.Glob(playbooks.Collection + "/playbooks/*.yml")
	if err != nil || len(books) < 12 {
		t.Fatalf("%v, %v", books, err)
	}
	args := []string{"--syntax-check", "-i", "cp1,"}
	for _, book := range books {
		args = append(args, p.by(strings.TrimSuffix(filepath.Base(book), ".yml")))
	}
	if !p.before("2.11") {
		awx, err := filepath.Abs(awxDir + "/renew.yml")
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, awx)
	}
	p.run("ansible-playbook", args...)

	n := controlPlane(t, 24*time.Hour, "0")
	want, err := n.play(p.bin, "renew-certs.yml", "--check")
	n.ok(err)
	n.dir, n.env = p.dir, p.command("").Env
	n.write(p.dir+"/site.yml", []byte("- name: Another playbook\n  hosts: all\n  gather_facts: false\n  tasks:\n"+
		"    - name: Come first\n      ansible.builtin.debug:\n        msg: first\n"+
		"- name: Renew\n  ansible.builtin.import_playbook: "+p.by("renew_certs")+"\n"), 0o600)
	for _, book := range []string{p.by("renew_certs"), "site.yml"} {
		got, err := n.play(p.bin, book, "--check")
		if err != nil || !slices.Equal(would(got), would(want)) || len(would(got)) < 8 {
			t.Errorf("%s: %v\n%s\nwant\n%s", book, err, got, want)
		}
	}
}

// The examples of the plugin's documentation run, also in check mode: the facts are there, and a
// condition on them stops for what expires.
func (p place) readsFacts() {
	t := p.t
	examples, _ := p.documents("module", "infrapuzzle.kscertctl.certificates")["infrapuzzle.kscertctl.certificates"]["examples"].(string)
	n := controlPlane(t, 24*time.Hour, "0")
	n.dir, n.env = p.dir, append(p.command("").Env, "ANSIBLE_INJECT_FACT_VARS=False") // as of ansible-core 2.24
	tasks := strings.ReplaceAll("    "+strings.ReplaceAll(strings.TrimSpace(examples), "\n", "\n    "), "become: true", "register: found")
	n.write(p.dir+"/facts.yml", []byte("- name: Read facts\n  hosts: all\n  gather_facts: false\n  tasks:\n"+tasks+"\n"), 0o600)
	before := n.files()
	out, err := n.play(p.bin, "facts.yml", "--check", "-v")
	for _, want := range []string{`"kind": "apiserver"`, `"signedBy": "kubernetes-ca"`, n.conf + "/scheduler.conf expires at " + time.Now().UTC().Format("2006-")} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	if err == nil || strings.Contains(out, "PRIVATE KEY") {
		t.Errorf("%v\n%s", err, out)
	}
	after := n.files()
	delete(after, filepath.Dir(n.conf)+"/called") // that of the sandbox
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if before[path] != after[path] {
			t.Errorf("%s was changed", path)
		}
	}
}

// A directory may be a fact, and so the choice of a node: what looks like a template is not rendered.
func (p place) rendersNoFact() {
	t := p.t
	rendered := t.TempDir() + "/rendered"
	template := "{{ lookup('ansible.builtin.pipe', 'touch " + rendered + "') }}"
	book := []string{
		"- name: Read facts", "  hosts: all", "  gather_facts: false", "  tasks:",
		"    - name: Answer with a template", "      ansible.builtin.raw: echo " + base64.StdEncoding.EncodeToString([]byte(template)) + "|base64 -d", "      register: answer",
		"    - name: Take it for a fact", "      ansible.builtin.set_fact:",
		`        kscert_config_dir: "{{ answer.stdout | trim }}"`, `        kscert_bin_dir: "{{ answer.stdout | trim }}"`,
		"    - name: Read the certificates", "      infrapuzzle.kscertctl.certificates:",
	}
	if err := os.WriteFile(p.dir+"/rendered.yml", []byte(strings.Join(book, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	n.write(n.bin+"/id", []byte("#!/bin/sh\necho 0\n"), 0o700) // as for root, who need not run this test
	cmd := p.command("ansible-playbook", "-v", "-i", "cp1,", "-e", "ansible_connection=local", "rendered.yml")
	cmd.Env = append(cmd.Env, "PATH="+n.bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if _, wrong := os.Stat(rendered); err != nil || wrong == nil || strings.Count(string(out), `"pki": "{{ lookup(`) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

// Another user than root reads no certificate, or only some: that is no healthy node.
func (p place) needsRoot() {
	n := controlPlane(p.t, 24*time.Hour, "0")
	n.write(n.bin+"/id", []byte("#!/bin/sh\necho 1000\n"), 0o700)
	n.dir, n.env = p.dir, p.command("").Env
	n.write(p.dir+"/root.yml", []byte("- name: Read facts\n  hosts: all\n  gather_facts: false\n  tasks:\n"+
		"    - name: Read the certificates\n      infrapuzzle.kscertctl.certificates:\n"), 0o600)
	if out, err := n.play(p.bin, "root.yml"); err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), "only root can read") {
		p.t.Errorf("%v\n%s", err, out)
	}
	n.conf, n.etcd = n.conf+"/none", n.etcd+"/none"
	if out, err := n.play(p.bin, "root.yml", "-e", "kscert_bin_dir="+n.bin); err == nil || !strings.Contains(out, "without root: set become") {
		p.t.Errorf("%v\n%s", err, out)
	}
}

// An option is refused: there is none.
func (p place) hasNoOption() {
	cmd := p.command("ansible", "-i", "cp1,", "-e", "ansible_connection=local", "cp1", "-m", "infrapuzzle.kscertctl.certificates", "-a", "dir=/x")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "there are no options, but these are set: dir") {
		p.t.Errorf("%v\n%s", err, out)
	}
}

// A file's name that is no UTF-8 leaves a cache of facts that can be read again.
func (p place) cachesFacts() {
	n := controlPlane(p.t, 24*time.Hour, "0")
	n.write(n.conf+"/ssl/\xff.crt", n.read(n.conf+"/ssl/ca.crt"), 0o600)
	n.dir = p.dir
	n.env = append(p.command("").Env, "ANSIBLE_CACHE_PLUGIN=jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION="+p.dir+"/cache")
	n.write(p.dir+"/cached.yml", []byte("- name: Read facts\n  hosts: all\n  gather_facts: false\n  tasks:\n"+
		"    - name: Read the certificates\n      infrapuzzle.kscertctl.certificates:\n"+
		"    - name: Use them\n      ansible.builtin.debug:\n        var: ansible_facts.kscertctl.certificates\n"), 0o600)
	out, err := n.play(p.bin, "cached.yml")
	if out = strings.ReplaceAll(out, `\ufffd`, "\uFFFD"); err != nil || !strings.Contains(out, "/ssl/\uFFFD.crt") {
		p.t.Errorf("%v\n%s", err, out)
	}
}

// A playbook that is run from a run directory, or a clone, takes what is next to it: not the
// collection of the same name that is installed.
func (p place) isNotTaken() {
	t := p.t
	for _, kind := range []string{"roles", "plugins"} {
		if err := os.RemoveAll(p.dir + "/installed/ansible_collections/infrapuzzle/kscertctl/" + kind); err != nil {
			t.Fatal(err)
		}
	}
	if err := playbooks.WriteToLook(p.dir + "/playbooks"); err != nil {
		t.Fatal(err)
	}
	out := p.run("ansible-playbook", "-i", "cp1,", "playbooks/inspect.yml", "-e", "kscert_hosts=all", "-e", "ansible_connection=local", "-e", "ansible_become=false", "-v")
	if !strings.Contains(out, "@@END") {
		t.Errorf("it did not inspect\n%s", out)
	}
}

// Ansible's own documentation of each plugin is complete.
func (p place) isDocumented() {
	t := p.t
	for kind, row := range map[string]struct {
		since    string // the version of ansible-doc that knows such plugins
		names    []string
		sections []string
	}{
		"callback": {since: "2.10", names: []string{"kscert_events"}},
		"module":   {"2.10", []string{"certificates"}, []string{"examples", "return"}},
		"filter":   {"2.14", []string{"kscert_command", "kscert_payload", "kscert_look", "kscert_lock", "kscert_keep", "kscert_recall"}, []string{"options", "examples", "return"}},
	} {
		if p.before(row.since) {
			continue
		}
		var names []string
		for _, name := range row.names {
			names = append(names, "infrapuzzle.kscertctl."+name)
		}
		for name, found := range p.documents(kind, names...) {
			doc, _ := found["doc"].(map[string]any)
			if names = slices.DeleteFunc(names, func(n string) bool { return n == name }); doc == nil {
				t.Errorf("%s %s: no document", kind, name)
				continue
			}
			found["options"] = doc["options"]
			for _, key := range []string{"short_description", "description", "author", "version_added"} {
				if doc[key] == nil {
					t.Errorf("%s %s: no %s", kind, name, key)
				}
			}
			for _, key := range row.sections {
				if found[key] == nil {
					t.Errorf("%s %s: no %s", kind, name, key)
				}
			}
		}
		if len(names) > 0 {
			t.Errorf("nothing is known of %q", names)
		}
	}
	if p.before("2.11") {
		return // has no documents of roles
	}
	args := []string{"-t", "role"}
	for _, role := range roleNames(t) {
		args = append(args, "infrapuzzle.kscertctl."+role)
	}
	out := strings.Join(strings.Fields(p.run("ansible-doc", args...)), " ")
	for _, role := range roleNames(t) {
		if short := specOf(t, role).short(); short == "" || !strings.Contains(out, short) {
			t.Errorf("%s: %q is not in\n%s", role, short, out)
		}
	}
}

func roleNames(t *testing.T) []string {
	t.Helper()
	dirs, err := os.ReadDir(playbooks.Collection + "/roles")
	if err != nil || len(dirs) < 16 {
		t.Fatalf("%v, %v", dirs, err)
	}
	var out []string
	for _, dir := range dirs {
		out = append(out, dir.Name())
	}
	return out
}

// argumentSpec are the documents of a role's entry points, by name.
type argumentSpec map[string]struct {
	Short   string                    `yaml:"short_description"`
	Options map[string]map[string]any `yaml:"options"`
}

// short is what the role does by itself.
func (s argumentSpec) short() string {
	for _, entry := range []string{"main", "all"} {
		if s[entry].Short != "" {
			return s[entry].Short
		}
	}
	return ""
}

func specOf(t *testing.T, role string) argumentSpec {
	t.Helper()
	var doc struct {
		Specs argumentSpec `yaml:"argument_specs"`
	}
	data, err := os.ReadFile(filepath.Join(playbooks.Collection, "roles", role, "meta/argument_specs.yml"))
	if err == nil {
		err = yaml.Unmarshal(data, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc.Specs
}

// Ansible checks and documents exactly the variables that the role has: every default by its value,
// and an entry point for each file of tasks. UPDATE_DOCS=1 writes the READMEs.
func TestArgumentSpecs(t *testing.T) {
	t.Parallel()
	for _, role := range roleNames(t) {
		dir := filepath.Join(playbooks.Collection, "roles", role)
		spec := specOf(t, role)
		defaults := map[string]any{}
		if data, err := os.ReadFile(dir + "/defaults/main.yml"); err == nil {
			if err := yaml.Unmarshal(data, &defaults); err != nil {
				t.Fatal(err)
			}
		}
		options := map[string]map[string]any{}
		for _, entry := range spec {
			maps.Copy(options, entry.Options)
		}
		for name, value := range defaults {
			o, ok := options[name]
			if !ok && name != "ansible_ssh_common_args" { // Ansible's own
				t.Errorf("%s: %s is not documented", role, name)
			}
			text, _ := value.(string)
			table, _ := value.(map[string]any)
			if computed := strings.Contains(text, "{{") || len(table) > 0; ok && !computed && !reflect.DeepEqual(o["default"], value) {
				t.Errorf("%s: the default of %s is %v, documented as %v", role, name, value, o["default"])
			}
		}
		for name, o := range options {
			_, ok := defaults[name]
			if vars, err := os.ReadFile(dir + "/vars/main.yml"); err == nil && strings.Contains(string(vars), "\n"+name+":") {
				ok = true
			}
			if set := slices.Contains([]string{"kscert_etcd_signer", "kscert_control_plane"}, name); !ok && !set {
				t.Errorf("%s: %s is documented and not known", role, name)
			}
			if o["description"] == nil || o["type"] == nil {
				t.Errorf("%s: %s has no type, or no description", role, name)
			}
		}
		files, err := filepath.Glob(dir + "/tasks/*.yml")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			entry := strings.TrimSuffix(filepath.Base(file), ".yml")
			if _, ok := spec[entry]; !ok && entry+role != "collectinspect" && entry+role != "keeprecord" { // the same without the check
				t.Errorf("%s: %s is not documented", role, entry)
			}
		}
		readme := fmt.Sprintf("# infrapuzzle.kscertctl.%s\n\n%s. Its variables:\n\n```sh\nansible-doc -t role infrapuzzle.kscertctl.%s\n```\n", role, spec.short(), role)
		if os.Getenv("UPDATE_DOCS") != "" {
			if err := os.WriteFile(dir+"/README.md", []byte(readme), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(dir + "/README.md"); err != nil || string(got) != readme {
			t.Errorf("%s/README.md: %v; run UPDATE_DOCS=1 go test ./playbooks", dir, err)
		}
	}
}

// TestRefusalsAreHandedOver: a task whose script refuses a file, or notes what a certificate has
// lost, hands over what it prints: of raw, Ansible shows nothing.
func TestRefusalsAreHandedOver(t *testing.T) {
	t.Parallel()
	says := regexp.MustCompile(`(?m)\b(refuse|noted) "|\b(refer_to_current|check_successor|issue_successor|begin_again|restart kube)`)
	scripts := regexp.MustCompile(`lookup\('ansible.builtin.file', '([a-z]+\.sh)'\)`)
	found := 0
	files, err := filepath.Glob(playbooks.Collection + "/roles/*/tasks/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var tasks []map[string]any
		data, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(data, &tasks)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			raw, _ := task["ansible.builtin.raw"].(string)
			m := scripts.FindStringSubmatch(raw)
			if m == nil {
				continue
			}
			script, err := os.ReadFile(filepath.Join(filepath.Dir(file), "../files", m[1]))
			if err != nil {
				t.Fatal(err)
			}
			if !says.Match(script) {
				continue
			}
			found++
			if !strings.Contains(raw, "kscert_payload") || fmt.Sprint(task["tags"]) != "[kscert_payload]" {
				t.Errorf("%s: %v: what it refuses is not shown", file, task["name"])
			}
		}
	}
	if found < 3 {
		t.Errorf("%d tasks whose script refuses something", found)
	}
}
