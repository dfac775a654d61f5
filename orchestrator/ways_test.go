package orchestrator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// command is what can be typed: a program with what follows it, or a flag or setting of ours or
// Ansible's.
var command = regexp.MustCompile(`(?:^|[\s(])(?:kscertctl|kubectl|kubeadm|etcdctl|crictl|systemctl|journalctl|timedatectl|getent|openssl|` +
	`ansible(?:-playbook|-inventory)?|iptables|nft|ss|du|mv|find|sha256sum) [-/a-zA-Z]|--[a-z]{4}|\bansible_\w+`)

// Every reason that forbids a change, or names an API server that cannot be used, has a command to
// type next.
func TestEveryReasonNamesACommand(t *testing.T) {
	t.Parallel()
	for _, r := range diagnosis.Reasons() {
		if r.Severity() == diagnosis.Critical && !command.MatchString(r.Next()) {
			t.Errorf("%s leads to nothing that can be typed: %s", r, r.Next())
		}
	}
}

// A command that is to be typed has the arguments without which it fails, or does something else:
// kubeadm takes its defaults for the settings of a node without its configuration, ansible-playbook
// has no hosts, etcdctl no credentials, and crictl no container.
func TestCommandsAreWhole(t *testing.T) {
	t.Parallel()
	for program, rest := range map[string]string{
		"kubeadm init phase ":      "--config kubeadm-config.yaml",
		"kubeadm kubeconfig user ": "--config kubeadm-config.yaml",
		"ansible-playbook ":        "-i INVENTORY",
		"etcdctl ":                 "",
		"crictl logs":              " $(crictl ps ",
		"crictl stop":              " $(crictl ps ",
		"openssl s_client ":        "</dev/null",
	} {
		seen := 0
		for _, r := range diagnosis.Reasons() {
			before, next := "", r.Next()
			for {
				lead, behind, found := strings.Cut(next, program)
				if !found {
					break
				}
				seen++
				before, next = before+lead, behind
				here, _, _ := strings.Cut(behind, "; ")
				if here, _, _ = strings.Cut(here, program); !strings.Contains(here, rest) {
					t.Errorf("%s: %q lacks %q: %s", r, program, rest, r.Next())
				}
				if program == "etcdctl " && !strings.HasSuffix(before, "set -a; . /etc/etcd.env; ") {
					t.Errorf("%s: etcdctl has no credentials: %s", r, r.Next())
				}
			}
		}
		if seen == 0 {
			t.Errorf("no reason names %q: the search is broken", program)
		}
	}
}

// action is what the operator is asked to do if nothing is to be typed.
var action = regexp.MustCompile(`\b(leave|name|put|have|add|take|give|is what the playbook|it has|it changed)\b`)

// deed is an action in Next whose command depends on who asks.
var deed = regexp.MustCompile(`\b(name|run the command|use one|pass|fix this|correct this|check out|check the file|approve with|confirm with|for example|` +
	`make sure|see that|see the findings|stop it|get the file|omit the flag|record|output) |remove it,|--web.config.file`)

// Every refusal in the code has a next step: a plan's in its own text, all others in Next. The test
// walks the code, so that a new one without a next step is found.
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

// walk collects what a refusal is made of.
type walk struct {
	t    *testing.T
	seen map[string]int
	set  *token.FileSet
	// constants are the texts of those of a directory.
	constants map[string]string
}

// text is all string literals in some code, with those of constants.
func (w *walk) text(in ...ast.Node) string {
	var answered strings.Builder
	for _, n := range in {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					answered.WriteString(text + " ")
				}
			case *ast.Ident:
				answered.WriteString(w.constants[n.Name])
			}
			return true
		})
	}
	return answered.String()
}

// declare reads the constants of a file.
func (w *walk) declare(file *ast.File) {
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			spec, _ := s.(*ast.ValueSpec)
			for i, value := range spec.Values {
				w.constants[spec.Names[i].Name] = w.text(value)
			}
		}
	}
}

func (w *walk) dir(dir string) {
	w.t.Helper()
	w.set = token.NewFileSet()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		w.t.Fatalf("%s has no code: %v", dir, err)
	}
	w.constants = map[string]string{}
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(w.set, name, nil, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		w.declare(file)
		parsed = append(parsed, file)
	}
	for _, file := range parsed {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				w.function(f)
			}
		}
	}
}

func (w *walk) function(f *ast.FuncDecl) {
	w.t.Helper()
	later := false // what to do is set in a statement of its own
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for _, left := range a.Lhs {
				s, ok := left.(*ast.SelectorExpr)
				later = later || ok && s.Sel.Name == "Next"
			}
		}
		return true
	})
	// A selection that is refused is reported by a function of its own, which returns the text.
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
			if _, passed := lit.Elts[0].(*ast.Ident); !passed { // text of one of the functions above
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

// next checks that an Error has something in Next beyond that nothing was changed. Interruptions,
// and states that a pipeline asks for, are no refusals.
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
			if answered, made := w.text(kv.Value), made(kv.Value); !later && !made && !command.MatchString(answered) && !deed.MatchString(answered+" ") {
				w.t.Errorf("%s: nothing is answered to do: %q", w.set.Position(lit.Pos()), answered)
			}
			return
		}
	}
	if !later {
		w.t.Errorf("%s: nothing is answered to do", w.set.Position(lit.Pos()))
	}
}

// made reports whether the value comes from a function that sets it, or is passed on.
func made(e ast.Expr) bool {
	by := typeName(e) == "next"
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			by = by || slices.Contains([]string{"command", "Command", "ApplyCommand", "anotherAnsible"}, typeName(n.Fun))
		case *ast.SelectorExpr:
			by = by || n.Sel.Name == "Next"
		}
		return true
	})
	return by
}

// words checks that a command or an action is somewhere in the reported text.
func (w *walk) words(at token.Pos, what string, in ...ast.Node) {
	w.t.Helper()
	answered := w.text(in...)
	if !command.MatchString(answered) && !action.MatchString(answered) {
		w.t.Errorf("%s: %s says nothing to do: %s", w.set.Position(at), what, answered)
	}
}

// given are the values that a function assigns to the variables that are read in a node.
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
