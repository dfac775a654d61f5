package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubespray"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

const root = "../.."

// TestReferenceTables compares the lists of the reference with the code. UPDATE_DOCS=1 writes them.
func TestReferenceTables(t *testing.T) {
	t.Parallel()
	var codes, reasons, releases strings.Builder
	for _, c := range orchestrator.ExitCodes() {
		fmt.Fprintf(&codes, "- %d: %s\n", c.Code, c.Meaning)
	}
	for _, r := range diagnosis.Reasons() {
		severity := string(r.Severity())
		if r.Blocks() {
			severity = "blocking"
		}
		fmt.Fprintf(&reasons, "- **`%s`** (%s): %s.\n  %s\n", r, severity, r.Title(), r.Next())
	}
	all := kubespray.AllSeries()
	for len(all) > 0 {
		same := slices.IndexFunc(all, func(s kubespray.Series) bool { return s.Demands != all[0].Demands })
		if same < 0 {
			same = len(all)
		}
		first, last := all[0].Release, all[same-1].Release
		if first != last {
			first = last + "–" + first
		}
		fmt.Fprintf(&releases, "- %s: %s\n", first, all[0].Demands)
		all = all[same:]
	}
	for page, table := range map[string]string{
		"docs/reference/kubespray.md":    releases.String(),
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
			t.Errorf("%s is not what the code says; write it again with UPDATE_DOCS=1", page)
		}
	}
}

// TestPlaybookVariables: every setting of every role is in the reference, with its default if that
// is a plain value, and the reference names no other.
func TestPlaybookVariables(t *testing.T) {
	t.Parallel()
	documented := map[string]string{} // the entries of the lists, by variable
	for _, page := range []string{"playbooks", "backup-format", "lock"} {
		for _, m := range regexp.MustCompile("(?m)^- `(kscert_[a-z_]+)` \\(.*$").FindAllStringSubmatch(read(t, "docs/reference/"+page+".md"), -1) {
			documented[m[1]] = m[0]
		}
	}
	known := map[string]bool{ // of the playbooks themselves
		"kscert_hosts": true, "kscert_serial": true, "kscert_max_unavailable": true, "kscert_etcd_signer": true, "kscert_control_plane": true, "kscert_ca_signer": true,
	}
	for _, settings := range roleVariables(t) {
		for name, value := range settings {
			known[name] = true
			if internal := strings.HasSuffix(name, "_lib") || !strings.HasPrefix(name, "kscert_") || slices.Contains([]string{"kscert_environment", "kscert_settings", "kscert_script", "kscert_ca_next"}, name); internal {
				continue
			}
			row, ok := documented[name]
			if !ok {
				t.Errorf("the reference does not name %s", name)
			}
			if text := fmt.Sprint(value); plain(value) && !strings.Contains(row, text) {
				t.Errorf("the reference does not say that %s is %q by default: %s", name, text, row)
			}
		}
	}
	for name := range documented {
		if !known[name] {
			t.Errorf("the reference names %s, which no role knows", name)
		}
	}
}

// roleVariables are the variables of each role, with their values.
func roleVariables(t *testing.T) []map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "playbooks", playbooks.Collection, "roles/*/[dv]*/main.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no defaults of roles: %v", err)
	}
	var out []map[string]any
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var settings map[string]any
		if err := yaml.Unmarshal(data, &settings); err != nil {
			t.Fatal(err)
		}
		out = append(out, settings)
	}
	return out
}

// plain: a value that is the same everywhere, and not empty.
func plain(value any) bool {
	switch v := value.(type) {
	case string:
		return v != "" && !strings.Contains(v, "{{")
	case int:
		return true
	default:
		return false
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "lab/README.md"}
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

// TestPagesNameTests: each line of the threat model, and of the page about clusters as they are
// found, names tests that exist.
func TestPagesNameTests(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, dir := range []string{"internal", "orchestrator", "playbooks", "lab"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(data, -1) {
				known[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, page := range []string{"SECURITY.md", "docs/evidence/as-found.md"} {
		text := read(t, page)
		named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(text, -1)
		if len(named) < 20 {
			t.Errorf("%s names only %d tests", page, len(named))
		}
		for _, m := range named {
			if !known[m[1]] {
				t.Errorf("%s: there is no test %s", page, m[1])
			}
		}
	}
	// There, an entry without a test would be an unproven promise.
	entries := regexp.MustCompile(`(?m)^- (?:.|\n  )*`).FindAllString(read(t, "docs/evidence/as-found.md"), -1)
	if len(entries) < 70 {
		t.Errorf("only %d entries are found", len(entries))
	}
	for _, entry := range entries {
		if !strings.Contains(entry, "`Test") {
			t.Errorf("no test holds: %s", entry)
		}
	}
}
