//go:build e2e

package scale

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// vocabulary is the names of variables that a node may try to set.
type vocabulary struct {
	// names has the default of each, if that is known.
	names map[string]any
	// delegates are those that choose the machine that a task runs on.
	delegates []string
}

// readVocabulary takes every word with an underscore in the YAML of the playbooks, and the
// variables of Kubespray and the connection plugins.
func readVocabulary(t *testing.T) vocabulary {
	t.Helper()
	v := vocabulary{names: map[string]any{}}
	for name := range strings.FieldsSeq("bin_dir bastion etcd_cert_dir kube_config_dir kube_override_hostname" +
		" ansible_host ansible_port ansible_user ansible_connection ansible_become_exe ansible_remote_tmp" +
		" ansible_ssh_common_args ansible_ssh_executable ansible_ssh_extra_args ansible_shell_executable" +
		" ansible_python_interpreter discovered_interpreter_python") {
		v.names[name] = nil
	}
	word := regexp.MustCompile(`\b[a-z]+(?:_[a-z0-9]+)+\b`)
	delegated := regexp.MustCompile(`(?m)^\s*(?:- )?delegate_to:(.*)$`)
	for _, pattern := range []string{"playbooks/*.yml", "roles/*/*/*.yml"} {
		files, err := filepath.Glob(filepath.Join(books, playbooks.Collection, pattern))
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			for _, name := range word.FindAllString(string(text), -1) {
				if _, ok := v.names[name]; !ok {
					v.names[name] = nil
				}
			}
			for _, m := range delegated.FindAllStringSubmatch(string(text), -1) {
				v.delegates = append(v.delegates, word.FindAllString(m[1], -1)...)
			}
			if kind := filepath.Base(filepath.Dir(file)); kind == "defaults" || kind == "vars" {
				set := map[string]any{}
				must(t, yaml.Unmarshal(text, &set))
				maps.Copy(v.names, set)
			}
		}
	}
	return v
}

// books are the playbooks of this tree.
const books = "../../playbooks"

// marks is a directory in which a command that a node has chosen leaves a file.
type marks string

// mark is a harmless command that records the name that it came through.
func (m marks) mark(name string) string { return "touch " + string(m) + "/" + name + "; exit 0; #" }

// in finds the names whose marks are in a text.
func (m marks) in(text string) []string {
	var names []string
	// A name may have been made lower case.
	mark := regexp.MustCompile(`(?i)` + regexp.QuoteMeta(string(m)) + `/([a-z0-9_]+)`)
	for _, found := range mark.FindAllStringSubmatch(text, -1) {
		names = append(names, found[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// facts are variables as a hostile node sets them, in the ways that get furthest: a task that fails
// for one of them hides the others.
func (m marks) facts(v vocabulary, way string) map[string]any {
	facts := map[string]any{}
	for name, usual := range v.names {
		connects := strings.HasPrefix(name, "ansible_") || strings.Contains(name, "ssh")
		chooses := slices.Contains(v.delegates, name)
		switch {
		case connects != (way == "connects") || chooses && way != "delegates":
		case strings.HasSuffix(name, "_args"):
			facts[name] = `-o ProxyCommand="touch ` + string(m) + "/" + name + `"`
		case connects:
			facts[name] = m.mark(name)
		case chooses:
			facts[name] = "stranger"
		case way == "text":
			facts[name] = m.mark(name)
		default:
			if shaped := m.shaped(name, usual); shaped != nil {
				facts[name] = shaped
			}
		}
	}
	return facts
}

// shaped is a mark in the shape of the usual value; nil for a number.
func (m marks) shaped(name string, usual any) any {
	switch usual := usual.(type) {
	case map[string]any:
		shaped := map[string]any{}
		for key := range usual {
			shaped[key] = m.mark(name)
		}
		return shaped
	case []any:
		return []any{m.mark(name)}
	case int, float64, bool:
		return nil
	default:
		return m.mark(name)
	}
}

// The ways of facts, each with a node of its own: values in their usual shape, the same with
// another machine to work on, text for all, connection variables, and a fact cache of a node that
// sets none any more. The program uses no cache.
var (
	waysByHand  = []string{"shaped", "delegates", "text", "cached"}
	waysProgram = []string{"shaped", "delegates", "text", "connects"}
)

// battlefield is a control plane, a stranger that no playbook concerns, and a hostile worker for
// each way.
type battlefield struct {
	farm
	stage
	marks marks
	ways  []string
}

func newBattlefield(t *testing.T, v vocabulary, ways []string, collector map[string]string) battlefield {
	t.Helper()
	b := battlefield{stage: newStage(t), marks: marks(t.TempDir()), ways: ways}
	honest := map[string]string{
		"collector": collector["cp1"], "module": module(t, nil), "raw": progress, "lock": "@@LOCK acquired 0 -\n@@END\n",
	}
	stranger := b.host("stranger", false, honest)
	stranger.apart = true
	hosts := []host{b.host("cp1", true, honest), stranger}
	for _, way := range ways {
		facts := b.marks.facts(v, way)
		if way == "cached" { // what it reported once
			facts = b.marks.facts(v, "shaped")
			maps.Copy(facts, b.marks.facts(v, "connects"))
		}
		answer := module(t, facts)
		words := progress + answer
		if way == "text" {
			words = "request: " + b.marks.mark("stdout") + "\n" + words
		}
		hosts = append(hosts, b.host(way, false, map[string]string{
			"collector": collector[way], "module": answer, "raw": words, "lock": words,
		}))
	}
	b.farm = newFarm(t, hosts)
	return b
}

// wantUnharmed fails for every mark on the control node or in the requests to another machine, and
// names the variable that it came through.
func (b battlefield) wantUnharmed(t *testing.T) {
	t.Helper()
	files, err := os.ReadDir(string(b.marks))
	must(t, err)
	var here []string
	for _, f := range files {
		here = append(here, f.Name())
	}
	if len(here) > 0 {
		t.Errorf("commands of a worker ran on the control node, through %q", here)
	}
	if there := b.marks.in(b.asked("cp1")); len(there) > 0 {
		t.Errorf("words of a worker reached the control plane, through %q", there)
	}
	if asked := b.asked("stranger"); asked != "" {
		t.Errorf("a worker has chosen the machine that a task ran on; through %q", b.marks.in(asked))
	}
	for _, way := range b.ways {
		if !t.Failed() && b.asked(way) == "" {
			t.Errorf("the worker %s was not asked for anything: what it would have answered is not tried", way)
		}
	}
}

// byHand are the playbooks with their required variables.
var byHand = map[string][]string{
	"inspect": nil, "backup": nil, "pre-phase": nil, "renew-certs": nil, "kubelet-bootstrap": {"kscert_serial=1"},
	"etcd-certificates": nil, "kubeconfig": {"kubeconfig_dest=kubeconfig"},
	// Answers of a node for these are refused as invalid choices of an argument: it is not asked.
	"lock": {"kscert_lock_action=show"}, "backups": {"kscert_backup_action=list"}, "recall": nil, "record": {"kscert_record_hosts=kube_node"},
	"rollback": {"kscert_restore_run=20260101T000000Z-abcdef"},
}

// Whatever a worker answers, as a variable or in a cache of facts, runs no command on another node
// or the control node: with each playbook run by hand, and through the program.
func TestHostileFacts(t *testing.T) {
	t.Parallel()
	v := readVocabulary(t)
	playbooks, err := filepath.Abs(books)
	must(t, err)
	for _, bin := range testansible.Bins(t) {
		version := filepath.Base(filepath.Dir(bin)) // usr, or a suite of Debian
		cached := newBattlefield(t, v, waysByHand, nil)
		cached.byHand(t, bin, "-m", "ansible.builtin.setup", "cached")
		t.Run(version+"/program", func(t *testing.T) {
			t.Parallel()
			throughProgram(t, bin, v)
		})
		for name, vars := range byHand {
			t.Run(version+"/"+name, func(t *testing.T) {
				t.Parallel()
				b := newBattlefield(t, v, waysByHand, nil)
				cached.remember(t, b)
				args := []string{filepath.Join(playbooks, name+".yml"), "-e", "kscert_hosts=kube_node"}
				for _, v := range vars {
					args = append(args, "-e", v)
				}
				out := b.byHand(t, bin, args...)
				if b.wantUnharmed(t); t.Failed() {
					t.Log(out)
				}
			})
		}
	}
}

// throughProgram inspects a cluster whose workers' kubelets have expired, renews them and rolls
// that back. The result of the run is ignored: the workers lie.
func throughProgram(t *testing.T, bin string, v vocabulary) {
	t.Helper()
	ca, front := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "front-proxy-ca")
	collector := map[string]string{"cp1": testcluster.ControlPlaneAnswer(t, testcluster.Answering{
		CA: ca, Front: front, Left: 300 * 24 * time.Hour, Well: true, Workers: waysProgram,
	})}
	for _, way := range waysProgram {
		collector[way] = testcluster.WorkerAnswer(t, ca, way, -time.Hour)
	}
	b := newBattlefield(t, v, waysProgram, collector)
	var printed strings.Builder
	for _, args := range [][]string{
		{"run", "--yes", "--gate-timeout", "1s"}, {"rollback", "--yes"}, {"backup", "list"},
	} {
		cmd := b.command(t, executable(t), append(args, "-i", b.inventory, "--ansible-bin", bin)...)
		out, _ := cmd.CombinedOutput()
		fmt.Fprintf(&printed, "kscertctl %s: %d\n%s\n", args, cmd.ProcessState.ExitCode(), out)
	}
	if strings.Contains(printed.String(), "is too old") {
		t.Skip("the program refuses this Ansible")
	}
	if !strings.Contains(printed.String(), "kubelet_bootstrap") {
		t.Errorf("the run did not come to the workers' kubelets")
	}
	if b.wantUnharmed(t); t.Failed() {
		t.Log(printed.String())
	}
}

// remember gives another battlefield the fact cache of this one: there the worker sets them no
// more.
func (b battlefield) remember(t *testing.T, other battlefield) {
	t.Helper()
	const dir = "facts"
	files, err := os.ReadDir(filepath.Join(b.farm.dir, dir))
	must(t, err)
	must(t, os.Mkdir(filepath.Join(other.farm.dir, dir), 0o700))
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(b.farm.dir, dir, f.Name()))
		must(t, err)
		facts := strings.ReplaceAll(string(text), string(b.marks), string(other.marks))
		other.farm.write(t, filepath.Join(dir, f.Name()), facts)
	}
	other.stage.write("cached.module", module(t, nil))
}

// byHand runs ansible (for options) or ansible-playbook by hand, with the fact cache of Kubespray's
// ansible.cfg. It may fail.
func (b battlefield) byHand(t *testing.T, bin string, args ...string) string {
	t.Helper()
	program := "ansible-playbook"
	if args[0] == "-m" {
		program = "ansible"
	}
	cmd := b.command(t, filepath.Join(bin, program), append([]string{"-i", b.inventory}, args...)...)
	// A connection that is kept open would hide the next one's arguments.
	cmd.Env = append(cmd.Env, "ANSIBLE_PIPELINING=True", "ANSIBLE_SSH_ARGS=-o ControlMaster=no", "ANSIBLE_FORKS=5",
		"ANSIBLE_CACHE_PLUGIN=jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION="+filepath.Join(b.farm.dir, "facts"))
	out, _ := cmd.CombinedOutput()
	return string(out)
}
