// Package words checks that pages, messages and comments use the words of CONTRIBUTING.md.
package words

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// row is a row of the table: the words to use, and those to avoid.
type row struct {
	say string
	not *regexp.Regexp
}

// table reads the rows from CONTRIBUTING.md.
func table(t *testing.T) []row {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, words, found := strings.Cut(string(page), "| meaning | say | not |\n")
	if !found {
		t.Fatal("CONTRIBUTING.md has no table of words")
	}
	var rows []row
	for line := range strings.Lines(words) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[3], "`") {
			continue
		}
		var words []string
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1) {
			words = append(words, strings.ReplaceAll(regexp.QuoteMeta(m[1]), " ", `\s+`))
		}
		// A name with a hyphen, such as a reason code, does not count.
		rows = append(rows, row{strings.TrimSpace(cells[2]), regexp.MustCompile(`(?i)(^|[^\w-])(` + strings.Join(words, "|") + `)($|[^\w-])`)})
	}
	if len(rows) < 10 {
		t.Fatalf("only %d rows were found in CONTRIBUTING.md: the table's format has changed", len(rows))
	}
	return rows
}

// text is a piece of text with its position.
type text struct {
	file  string
	line  int
	words string
}

var code = regexp.MustCompile("(?s)```.*?```|`[^`]*`|\\]\\([^)]*\\)")

// pages returns the project's pages, without code and link targets.
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

// foreign matches the words of others: an error of Go's crypto/x509, a column of kubeadm certs
// check-expiration, an X.509 extension.
var foreign = regexp.MustCompile(`unknown authority|CERTIFICATE AUTHORITY|authority key\W+identifier`)

// messages returns the program's string literals that contain a space.
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

var (
	// name matches what is not prose in a comment: quoted text, a variable, a qualified name or
	// a call, and the name that a doc comment starts with.
	name = regexp.MustCompile("\"[^\"]*\"|`[^`]*`|\\$\\w+|\\w*[.(]\\w+\\b|^\\W*((Package|Command) )?[a-zA-Z]+\\b")
	// shellComment matches a comment of a shell script, of one line or several.
	shellComment = regexp.MustCompile(`(?m)(?:^|\s)#\s.*(?:\n\s*#.*)*`)
)

// comments returns the comments in Go files and in those whose comments begin with #.
func comments(t *testing.T) (out []text) {
	t.Helper()
	add := func(path string, line int, comment string) {
		out = append(out, text{path, line, name.ReplaceAllString(foreign.ReplaceAllString(comment, ""), "")})
	}
	walk(t, root, ".go", func(path string, data []byte) {
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, data, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Comments {
			add(path, files.Position(group.Pos()).Line, group.Text())
		}
	})
	walk(t, root, "", func(path string, data []byte) {
		hashes := slices.Contains([]string{".sh", ".yml", ".yaml", ".py", ".ini"}, filepath.Ext(path)) ||
			filepath.Base(path) == "Containerfile" || bytes.HasPrefix(data, []byte("#!"))
		if !hashes || filepath.Base(path) == "kinds.py" { // generated
			return
		}
		for _, at := range shellComment.FindAllIndex(data, -1) {
			add(path, 1+bytes.Count(data[:at[0]], []byte("\n")), string(data[at[0]:at[1]]))
		}
	})
	return out
}

// odd are the words that no reader expects; each may be left in a few places.
var odd = []string{
	"anew", "mend", "beside", "besides", "likewise", "whoever", "in vain", "somebody", "nobody", "told", "said", "judge", "gone on",
}

// No text, comment, name or test uses an odd word more than five times.
func TestOddWords(t *testing.T) {
	t.Parallel()
	whole := regexp.MustCompile(`(?i)\b(` + strings.Join(odd, "|") + `)\b`)
	found := map[string][]string{}
	walk(t, root, "", func(path string, data []byte) {
		if bytes.IndexByte(data, 0) >= 0 || filepath.Base(path) == "words_test.go" || filepath.Base(path) == "CONTRIBUTING.md" {
			return
		}
		for _, word := range whole.FindAll(data, -1) {
			key := strings.ToLower(string(word))
			found[key] = append(found[key], strings.TrimPrefix(path, root+"/"))
		}
	})
	for word, places := range found {
		if len(places) > 5 {
			t.Errorf("%q is in %d places: %q", word, len(places), places)
		}
	}
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

// The pages stay short enough to be read: 35,000 words in all, as wc -w counts them.
func TestPagesAreShort(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	words := len(bytes.Fields(readme))
	walk(t, filepath.Join(root, "docs"), ".md", func(_ string, data []byte) { words += len(bytes.Fields(data)) })
	if words > 35000 {
		t.Errorf("README.md and docs/ have %d words", words)
	}
}

// No page, message or comment uses a word that CONTRIBUTING.md replaces.
func TestWords(t *testing.T) {
	t.Parallel()
	rows := table(t)
	for _, text := range slices.Concat(pages(t), messages(t), comments(t)) {
		for _, r := range rows {
			for _, at := range r.not.FindAllStringSubmatchIndex(text.words, -1) {
				line := text.line + strings.Count(text.words[:at[4]], "\n")
				t.Errorf("%s:%d: %q; say: %s", strings.TrimPrefix(text.file, root+"/"), line, text.words[at[4]:at[5]], r.say)
			}
		}
	}
}
