package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"mvdan.cc/sh/v3/syntax"
)

var (
	codeBlock = regexp.MustCompile("(?sm)^```(\\w+)\n(.*?)^```")
	// typed is a command in the output of a terminal.
	typed = regexp.MustCompile(`(?m)^\s*(?:\$ )?((?:\.bin/)?kscertctl [a-z][^#\n|>]*)`)
	named = regexp.MustCompile(`(?:^|[^/\w-])((?:inventory-examples|examples|monitoring|playbooks)/[A-Za-z0-9_./-]*[A-Za-z0-9_/-])`)
)

// TestShownCommands: the commands in the documentation work. Every block has the language of its
// label; in those of the shell, each call of kscertctl has existing flags and arguments, and each
// task, script, playbook and variable of a playbook exists.
func TestShownCommands(t *testing.T) {
	t.Parallel()
	c := checker{tasks: tasks(t), variables: playbookVariables(t), seen: map[string]int{}}
	for _, page := range pages(t) {
		text := read(t, page)
		for _, block := range codeBlock.FindAllStringSubmatch(text, -1) {
			if err := c.block(block[1], block[2]); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, block[2])
			}
		}
		for _, file := range named.FindAllStringSubmatch(text, -1) {
			if err := exists(file[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	for what, least := range map[string]int{"kscertctl": 60, "task": 20, "ansible-playbook": 5} {
		if c.seen[what] < least {
			t.Errorf("only %d commands of %s were found in the documentation: the search is broken", c.seen[what], what)
		}
	}
}

// A wrong command is found, whatever is wrong with it.
func TestShownCommandsCanBeWrong(t *testing.T) {
	t.Parallel()
	c := checker{tasks: tasks(t), variables: playbookVariables(t), seen: map[string]int{}}
	for language, texts := range map[string][]string{
		"sh": {
			"kscertctl frobnicate", "kscertctl run -i inventory.ini --frobnicate", "kscertctl run -i inventory.ini extra", "kscertctl check -i a | kscertctl nothing",
			"if true; then", "./hack/task lab:nothing", "./hack/nothing", "cd lab && kscertctl apply", "ansible-playbook -i a playbooks/nothing.yml",
			"ansible-playbook -i a playbooks/lock.yml -e kscert_nothing=1", "report=$(kscertctl reports)",
		},
		"text": {"$ kscertctl diagnose --frobnicate"},
		"json": {"{"}, "yaml": {"a: ["}, "go": {"if {"}, "bash": {""},
	} {
		for _, text := range texts {
			if c.block(language, text) == nil {
				t.Errorf("nothing is wrong with %q", text)
			}
		}
	}
}

// checker knows what can be called.
type checker struct {
	tasks, variables []string
	seen             map[string]int
}

// block returns what is wrong with a block of a language; nil for nothing.
func (c checker) block(language, text string) error {
	switch language {
	case "sh":
		return c.shell(text)
	case "text":
		var all []error
		for _, m := range typed.FindAllStringSubmatch(text, -1) {
			all = append(all, c.shell(strings.TrimSuffix(m[1], "[flags]")))
		}
		return errors.Join(all...)
	case "json":
		for line := range strings.Lines(text) {
			if !json.Valid([]byte(line)) {
				return fmt.Errorf("no JSON: %s", line)
			}
		}
		return nil
	case "yaml":
		return yaml.Unmarshal([]byte(text), new(any))
	case "go":
		_, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() error {\n"+text+"\n}", 0)
		return err
	default:
		return fmt.Errorf("a block of %q", language)
	}
}

// shell parses a script and checks each command in it.
func (c checker) shell(text string) error {
	script, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	if err != nil {
		return err
	}
	var all []error
	syntax.Walk(script, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			var words []string
			for _, w := range call.Args {
				words = append(words, word(w))
			}
			all = append(all, c.call(words[0], words[1:]))
		}
		return true
	})
	return errors.Join(all...)
}

// word is an argument as the command gets it; what the shell would insert is "X".
func word(w *syntax.Word) string {
	var out strings.Builder
	for _, part := range w.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			out.WriteString(part.Value)
		case *syntax.SglQuoted:
			out.WriteString(part.Value)
		case *syntax.DblQuoted:
			out.WriteString(word(&syntax.Word{Parts: part.Parts}))
		default:
			out.WriteString("X")
		}
	}
	return out.String()
}

func (c checker) call(name string, args []string) error {
	switch {
	case filepath.Base(name) == "kscertctl":
		c.seen["kscertctl"]++
		return callable(args)
	case name == "./hack/task":
		c.seen["task"]++
		if len(args) > 0 && !slices.Contains(c.tasks, args[0]) {
			return fmt.Errorf("there is no task %s", args[0])
		}
		return nil
	case strings.HasPrefix(name, "./hack/"):
		return exists(strings.TrimPrefix(name, "./"))
	case name == "ansible-playbook":
		c.seen["ansible-playbook"]++
		return c.playbook(args)
	default:
		return nil
	}
}

// callable checks that kscertctl takes these flags and arguments.
func callable(args []string) error {
	found, rest, err := newRoot(Streams{Out: io.Discard, Err: io.Discard}).Find(args)
	if err != nil {
		return err
	}
	if err := found.ParseFlags(rest); err != nil {
		return fmt.Errorf("%s: %w", found.CommandPath(), err)
	}
	if err := found.ValidateArgs(found.Flags().Args()); err != nil {
		return fmt.Errorf("%s: %w", found.CommandPath(), err)
	}
	return nil
}

// playbook checks that a playbook of the project exists, and that a role has the variables.
func (c checker) playbook(args []string) error {
	for _, arg := range args {
		if strings.HasPrefix(arg, "playbooks/") {
			if err := exists(arg); err != nil {
				return err
			}
		}
		if name, _, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(name, "kscert_") && !slices.Contains(c.variables, name) {
			return fmt.Errorf("no role knows %s", name)
		}
	}
	return nil
}

func exists(path string) error {
	_, err := os.Stat(filepath.Join(root, path))
	return err
}

// tasks are those of the Taskfile.
func tasks(t *testing.T) []string {
	t.Helper()
	var file struct {
		Tasks map[string]any `yaml:"tasks"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "Taskfile.yml")), &file); err != nil {
		t.Fatal(err)
	}
	var out []string
	for name := range file.Tasks {
		out = append(out, name)
	}
	return out
}

// playbookVariables are those with defaults in the roles, and kscert_hosts, which the playbooks
// themselves have.
func playbookVariables(t *testing.T) []string {
	t.Helper()
	out := []string{"kscert_hosts"}
	for _, settings := range roleVariables(t) {
		for name := range settings {
			out = append(out, name)
		}
	}
	return out
}
