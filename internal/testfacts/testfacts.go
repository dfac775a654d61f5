// Package testfacts compares what the collection's plugin certificates reads of a node with what
// kscertctl does.
package testfacts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// server reads one answer of a node a line, as JSON, and prints what the plugin makes of it.
const server = `
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.infrapuzzle.kscertctl.plugins.plugin_utils import answer
for line in sys.stdin:
    try:
        out = {'facts': answer.read(json.loads(line))}
    except answer.AnswerError as error:
        out = {'error': str(error)}
    print(json.dumps(out), flush=True)
`

// plugin is one process of Python, for all tests of a package.
type plugin struct {
	sync.Mutex

	in  *json.Encoder
	out *bufio.Reader
	err error
}

var start = sync.OnceValue(func() *plugin {
	_, file, _, _ := runtime.Caller(0)
	collections := filepath.Join(filepath.Dir(file), "..", "..", "playbooks", "collections")
	for _, name := range []string{"answer.py", "kinds.py"} { // Go's test cache knows what tests read
		path := filepath.Join(collections, "..", playbooks.Collection, "plugins/plugin_utils", name)
		if _, err := os.ReadFile(path); err != nil {
			return &plugin{err: err}
		}
	}
	cmd := exec.Command(python(), "-c", server, collections)
	in, err := cmd.StdinPipe()
	if err != nil {
		return &plugin{err: err}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return &plugin{err: err}
	}
	return &plugin{in: json.NewEncoder(in), out: bufio.NewReader(out), err: cmd.Start()}
})

// python is that of Debian, which ansible-core from there runs with.
func python() string {
	if _, err := exec.LookPath("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

func (p *plugin) read(output string) (facts map[string]any, problem string, err error) {
	p.Lock()
	defer p.Unlock()
	if p.err != nil {
		return nil, "", p.err
	}
	if err := p.in.Encode(output); err != nil {
		return nil, "", err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, "", fmt.Errorf("the plugin stopped: %w", err)
	}
	var answer struct {
		Facts map[string]any `json:"facts"`
		Error string         `json:"error"`
	}
	err = json.Unmarshal(line, &answer)
	return answer.Facts, answer.Error, err
}

// Compare fails the test unless the plugin reads the same from a collector's output as
// snapshot.Parse did, or refuses it as that did.
func Compare(tb testing.TB, output []byte, n snapshot.Node, parseErr error) {
	tb.Helper()
	facts, problem, err := start().read(string(output))
	if err != nil {
		tb.Fatal(err)
	}
	if parseErr != nil {
		if problem == "" {
			tb.Errorf("the plugin reads facts from what is refused: %v", parseErr)
		}
		return
	}
	if problem != "" {
		tb.Errorf("the plugin refuses the answer: %s", problem)
		return
	}
	want, got := short(known(tb, n)), short(facts)
	if !reflect.DeepEqual(got, want) {
		tb.Errorf("of the node the plugin reads\n%s\nwant\n%s", text(tb, got), text(tb, want))
	}
}

// read are the parts of a node that the plugin reads, and unread what it leaves out of them.
var (
	read = []string{"clock", "facts", "units", "disks", "processes", "kubeconfigs", "certificates", "unreadable",
		"renewalTimer"}
	unread = []string{"subject", "issuer", "keyAlgorithm", "notStrict", "signers", "cas"}
)

// known is of a node what the plugin reads, too.
func known(tb testing.TB, n snapshot.Node) map[string]any {
	tb.Helper()
	data, err := json.Marshal(n)
	if err != nil {
		tb.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		tb.Fatal(err)
	}
	for name := range all {
		if !slices.Contains(read, name) {
			delete(all, name)
		}
	}
	return all
}

// short is a value without what only one of both has, and without what is empty.
func short(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, v := range value {
			if v = short(v); !empty(v) && !slices.Contains(unread, name) {
				out[name] = v
			}
		}
		// Each library has words of its own for what is no certificate.
		if reason, _ := out["reason"].(string); strings.Contains(reason, ": ") {
			out["reason"], _, _ = strings.Cut(reason, ": ")
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, v := range value {
			out[i] = short(v)
		}
		return out
	default:
		return value
	}
}

func empty(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	default:
		return value == nil || value == "" || value == false
	}
}

func text(tb testing.TB, value any) string {
	tb.Helper()
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}
