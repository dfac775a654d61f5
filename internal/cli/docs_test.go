package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/hint"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubespray"
)

const root = "../.."

// TestDocumentedCommands parses every kscertctl command that the documentation
// shows: a flag that does not exist fails.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	command := regexp.MustCompile(`(?m)^\s*(?:\$ )?(?:\.bin/)?kscertctl ([a-z][^#\n|>]*)`)
	seen := 0
	for _, page := range pages(t) {
		for _, block := range regexp.MustCompile("(?s)```(?:sh|console|text)\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
			for _, m := range command.FindAllStringSubmatch(block[1], -1) {
				seen++
				args := strings.Fields(m[1])
				found, rest, err := newRoot(Streams{Out: io.Discard, Err: io.Discard}).Find(args)
				if err != nil {
					t.Errorf("%s: kscertctl %s: %v", page, m[1], err)
					continue
				}
				if err := found.ParseFlags(rest); err != nil {
					t.Errorf("%s: kscertctl %s: %v", page, m[1], err)
				}
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d commands were found in the documentation: the search is broken", seen)
	}
}

// TestReferenceTables compares the tables of the reference with the code.
// Write them anew with UPDATE_DOCS=1.
func TestReferenceTables(t *testing.T) {
	t.Parallel()
	var codes, reasons, releases, hints strings.Builder
	codes.WriteString("| code | meaning |\n| --- | --- |\n")
	for _, c := range orchestrator.ExitCodes() {
		fmt.Fprintf(&codes, "| %d | %s |\n", c.Code, c.Meaning)
	}
	reasons.WriteString("| code | severity | forbids any change | meaning | next step |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range diagnosis.Reasons() {
		blocks := "no"
		if r.Blocks() {
			blocks = "yes"
		}
		fmt.Fprintf(&reasons, "| `%s` | %s | %s | %s | %s |\n", r, r.Severity(), blocks, r.Title(), r.Next())
	}
	releases.WriteString("| Kubespray | ansible-core |\n| --- | --- |\n")
	for _, s := range kubespray.AllSeries() {
		fmt.Fprintf(&releases, "| %s | %s |\n", s.Release, s.Demands)
	}
	hints.WriteString("| hint | what it says |\n| --- | --- |\n")
	for _, h := range hint.All() {
		fmt.Fprintf(&hints, "| %s | %s |\n", h.Name, strings.ReplaceAll(h.Advice, "|", "\\|"))
	}
	for page, table := range map[string]string{
		"docs/reference/kubespray.md":    releases.String(),
		"docs/reference/hints.md":        hints.String(),
		"docs/reference/exit-codes.md":   codes.String(),
		"docs/reference/reason-codes.md": reasons.String(),
	} {
		text := read(t, page)
		between := regexp.MustCompile(`(?s)(<!-- table: [^\n]* -->\n\n).*?<!-- end -->`)
		if !between.MatchString(text) {
			t.Errorf("%s has no place for its table", page)
			continue
		}
		want := between.ReplaceAllStringFunc(text, func(s string) string {
			m := between.FindStringSubmatch(s)
			return m[1] + table + "\n<!-- end -->"
		})
		if os.Getenv("UPDATE_DOCS") != "" {
			if err := os.WriteFile(filepath.Join(root, page), []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if text != want {
			t.Errorf("%s is not what the code says; write it anew with UPDATE_DOCS=1", page)
		}
	}
}

// TestPlaybookVariables: every setting of the playbooks is in the reference with
// its default, and the reference names no other.
func TestPlaybookVariables(t *testing.T) {
	t.Parallel()
	var settings map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "playbooks/roles/settings/defaults/main.yml")), &settings); err != nil {
		t.Fatal(err)
	}
	page := read(t, "docs/reference/playbooks.md")
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(kscert_[a-z_]+)` \\|").FindAllStringSubmatch(page, -1) {
		documented = append(documented, m[1])
		if _, ok := settings[m[1]]; !ok && m[1] != "kscert_hosts" {
			t.Errorf("the reference names %s, which no role knows", m[1])
		}
	}
	for name := range settings {
		if internal := strings.HasSuffix(name, "_lib") || name == "kscert_environment"; !internal && !slices.Contains(documented, name) {
			t.Errorf("the reference does not name %s", name)
		}
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			rel, relErr := filepath.Rel(root, path)
			out = append(out, rel)
			return relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, page string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
