package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// kindsOf are the kinds of the events in lines, which must be as the schema has them.
func kindsOf(t *testing.T, text string) string {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/reference/schemas/event-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(text) {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(document)
		}
		var e struct {
			Kind string `json:"kind"`
		}
		if err != nil || json.Unmarshal([]byte(line), &e) != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(kinds) == 0 || kinds[len(kinds)-1] != e.Kind {
			kinds = append(kinds, e.Kind)
		}
	}
	return strings.Join(kinds, " ")
}

// With -o jsonl standard output has the events and nothing else, each when it happens and
// as the record has them.
func TestEventsOnStandardOutput(t *testing.T) {
	t.Parallel()
	const fails = "[ $1 != renew-certs.yml ] || { [ -e go ] && cp renewed inspect.yml || exit 3; }"
	p := fake(t, fails)
	mine := []string{"-i", "cp1,", "--ansible-bin", p.dir}
	stopped := p.command(t, append([]string{"run", "--yes", "-o", "jsonl"}, mine...)...).want(t, 8)
	if kinds := kindsOf(t, stopped.out); !strings.HasPrefix(kinds, "begin inspected diagnosis plan ") || !strings.HasSuffix(kinds, " end") {
		t.Errorf("the events are %s", kinds)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "state/kscertctl/runs/*/events.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q %v", files, err)
	}
	recorded, err := os.ReadFile(files[0])
	if err != nil || string(recorded) != stopped.out {
		t.Errorf("%v; recorded\n%s\nand written\n%s", err, recorded, stopped.out)
	}
	p.keep(t, "go", "")
	resumed := p.command(t, "resume", "-o", "jsonl").want(t, 0)
	if kinds := kindsOf(t, resumed.out); !strings.HasPrefix(kinds, "begin plan ") || !strings.HasSuffix(kinds, " end") {
		t.Errorf("the events are %s", kinds)
	}
	p.command(t, append([]string{"plan", "-o", "jsonl"}, mine...)...).want(t, 64, "-o jsonl: must be text or json")
	p.command(t, append([]string{"run", "-o", "yaml"}, mine...)...).want(t, 64, "-o yaml: must be text, json or jsonl")
}
