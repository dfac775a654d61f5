package orchestrator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// command is what can be typed: a program with what follows it, or a flag or setting of
// ours or Ansible's.
var command = regexp.MustCompile(`(?:^|[\s(])(?:kscertctl|kubectl|kubeadm|etcdctl|crictl|systemctl|journalctl|timedatectl|getent|openssl|` +
	`ansible(?:-playbook|-inventory)?|iptables|nft|ss|du|mv|find|sha256sum) [-/a-zA-Z]|--[a-z]{4}|\bansible_\w+`)

// Every reason that forbids a change, or names an API server that cannot be used, says what
// to type next.
func TestEveryReasonNamesACommand(t *testing.T) {
	t.Parallel()
	for _, r := range diagnosis.Reasons() {
		if r.Severity() == diagnosis.Critical && !command.MatchString(r.Next()) {
			t.Errorf("%s leads to nothing that can be typed: %s", r, r.Next())
		}
	}
}

// action is what somebody is told to do where nothing is to be typed.
var action = regexp.MustCompile(`\b(leave|name|put|have|add|take|give|is what the playbook|it has|it changed)\b`)

// Every refusal in the code is told with a way on: a plan's in its own words, all others in
// Next. It is the code that is walked, so that one that is added without a way is found.
func TestEveryRefusalLeadsOn(t *testing.T) {
	t.Parallel()
	w := walk{t: t, seen: map[string]int{}}
	for _, dir := range []string{".", "plan", "kubespray", "../internal/cli"} {
		w.dir(dir)
	}
	for what, least := range map[string]int{"UnsupportedError": 12, "SelectionError": 2, "Error": 60} {
		if w.seen[what] < least {
			t.Errorf("only %d of %s were found: the search is broken", w.seen[what], what)
		}
	}
}

// walk looks at what a refusal is made with.
type walk struct {
	t    *testing.T
	seen map[string]int
	set  *token.FileSet
}

func (w *walk) dir(dir string) {
	w.t.Helper()
	w.set = token.NewFileSet()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		w.t.Fatalf("%s has no code: %v", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(w.set, name, nil, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				w.function(f)
			}
		}
	}
}

func (w *walk) function(f *ast.FuncDecl) {
	w.t.Helper()
	later := false // what to do is said in a statement of its own
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for _, left := range a.Lhs {
				s, ok := left.(*ast.SelectorExpr)
				later = later || ok && s.Sel.Name == "Next"
			}
		}
		return true
	})
	// A selection that is refused is told by a function of its own, which returns the words.
	if s := f.Type.Results; f.Recv != nil && typeName(f.Recv.List[0].Type) == "selection" && s != nil && len(s.List) == 1 && typeName(s.List[0].Type) == "string" && f.Name.Name != "left" {
		w.words(f.Pos(), f.Name.Name, f.Body)
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch name := typeName(lit.Type); name {
		case "UnsupportedError":
			w.seen[name]++
			if _, passed := lit.Elts[0].(*ast.Ident); !passed { // words of one of the functions above
				w.words(lit.Pos(), name, append(given(f.Body, lit), lit)...)
			}
		case "SelectionError":
			w.seen[name]++
			w.words(lit.Pos(), name, lit.Elts[1])
		case "Error":
			w.seen[name]++
			w.next(lit, later)
		}
		return true
	})
}

// next: an Error has something in Next beyond that nothing was changed. What was
// interrupted, or is a state that a pipeline asks for, refuses nothing.
func (w *walk) next(lit *ast.CompositeLit, later bool) {
	w.t.Helper()
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch key := typeName(kv.Key); {
		case key == "Code" && (typeName(kv.Value) == "ExitInterrupted" || typeName(kv.Value) == "ExitWarning" || typeName(kv.Value) == "ExitCode"):
			return
		case key == "Next":
			if text, err := strconv.Unquote(source(kv.Value)); err == nil && !later && (text == "" || strings.TrimSpace(text) == "nothing was changed") {
				w.t.Errorf("%s: nothing is said to do", w.set.Position(lit.Pos()))
			}
			return
		}
	}
	if !later {
		w.t.Errorf("%s: nothing is said to do", w.set.Position(lit.Pos()))
	}
}

// words: somewhere in what is said there is a command or an action.
func (w *walk) words(at token.Pos, what string, in ...ast.Node) {
	w.t.Helper()
	var said strings.Builder
	look := func(n ast.Node) bool {
		if b, ok := n.(*ast.BasicLit); ok && b.Kind == token.STRING {
			text, err := strconv.Unquote(b.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			said.WriteString(text + " ")
		}
		return true
	}
	for _, n := range in {
		ast.Inspect(n, look)
	}
	if !command.MatchString(said.String()) && !action.MatchString(said.String()) {
		w.t.Errorf("%s: %s says nothing to do: %s", w.set.Position(at), what, said.String())
	}
}

// given are the values that a function gives to the variables that are read in a node.
func given(f *ast.BlockStmt, in ast.Node) (out []ast.Node) {
	read := map[string]bool{}
	ast.Inspect(in, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			read[id.Name] = true
		}
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && read[typeName(a.Lhs[0])] {
			out = append(out, a.Rhs[0])
		}
		return true
	})
	return out
}

// source is the text of a string literal; empty for anything else.
func source(e ast.Expr) string {
	if b, ok := e.(*ast.BasicLit); ok {
		return b.Value
	}
	return ""
}

// typeName is the last word of a type or a call.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.CallExpr:
		return typeName(e.Fun)
	default:
		return ""
	}
}
