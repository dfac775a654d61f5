// Package words checks that pages and messages keep to the words of CONTRIBUTING.md.
package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// row is a row of the table: what it is about, what to write, and what not to.
type row struct {
	say string
	not *regexp.Regexp
}

// table reads the words from CONTRIBUTING.md, where they are explained.
func table(t *testing.T) []row {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[3], "`") {
			continue
		}
		var words []string
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1) {
			words = append(words, strings.ReplaceAll(regexp.QuoteMeta(m[1]), " ", `\s+`))
		}
		// A name with a hyphen, such as a reason code, is no word.
		rows = append(rows, row{strings.TrimSpace(cells[2]), regexp.MustCompile(`(?i)(^|[^\w-])(` + strings.Join(words, "|") + `)($|[^\w-])`)})
	}
	if len(rows) < 10 {
		t.Fatalf("only %d rows were found in CONTRIBUTING.md: the table has another form", len(rows))
	}
	return rows
}

// text is a piece of text and where it begins.
type text struct {
	file  string
	line  int
	words string
}

var code = regexp.MustCompile("(?s)```.*?```|`[^`]*`|\\]\\([^)]*\\)")

// pages are the project's pages, without their code and the targets of their links.
func pages(t *testing.T) (out []text) {
	t.Helper()
	walk(t, root, ".md", func(path string, data []byte) {
		if filepath.Base(path) == "CONTRIBUTING.md" { // it has the table
			data = regexp.MustCompile(`(?m)^\|.*$`).ReplaceAll(data, nil)
		}
		plain := code.ReplaceAllFunc(data, func(b []byte) []byte { return []byte(strings.Repeat("\n", strings.Count(string(b), "\n"))) })
		out = append(out, text{path, 1, string(plain)})
	})
	return out
}

// foreign are words of others: Go's crypto/x509 and a column of kubeadm certs check-expiration.
var foreign = regexp.MustCompile("signed by unknown authority|CERTIFICATE AUTHORITY")

// messages are the string literals of the program with a blank in them: what people read.
func messages(t *testing.T) (out []text) {
	t.Helper()
	for _, dir := range []string{"cmd", "internal", "orchestrator"} {
		walk(t, filepath.Join(root, dir), ".go", func(path string, data []byte) {
			if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/internal/test") || strings.Contains(path, "/internal/scale/") {
				return
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, data, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if value, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(value, " ") {
						out = append(out, text{path, files.Position(lit.Pos()).Line, foreign.ReplaceAllString(value, "")})
					}
				}
				return true
			})
		})
	}
	return out
}

func walk(t *testing.T, dir, suffix string, each func(path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() != ".." && strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil {
			each(path, data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// One word for one thing: no page and no message has a word that CONTRIBUTING.md replaces.
func TestWords(t *testing.T) {
	t.Parallel()
	rows := table(t)
	for _, text := range append(pages(t), messages(t)...) {
		for _, r := range rows {
			for _, at := range r.not.FindAllStringSubmatchIndex(text.words, -1) {
				line := text.line + strings.Count(text.words[:at[4]], "\n")
				t.Errorf("%s:%d: %q; say: %s", strings.TrimPrefix(text.file, root+"/"), line, text.words[at[4]:at[5]], r.say)
			}
		}
	}
}
