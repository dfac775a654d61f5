package shell_test

import (
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/infrapuzzle/kscertctl/internal/shell"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "''",
		"cp1":                   "cp1",
		"/etc/kube-a_b/c.d:1":   "/etc/kube-a_b/c.d:1",
		"a b":                   "'a b'",
		"it's; $(id) `id` \\ !": `'it'\''s; $(id) ` + "`id`" + ` \ !'`,
		"~":                     "'~'",
		"*":                     "'*'",
		"gr\u00fcn":             "'gr\u00fcn'",
		"a\nid":                 "'a\ufffdid'",
		"a\tb\x1b[31m\r\xff":    "'a\ufffdb\ufffd[31m\ufffd\ufffd'",
	} {
		if got := shell.Quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		if got := shell.Typable(shell.Quote(text)); got == strings.Contains(want, "\ufffd") {
			t.Errorf("%q can be typed: %v", text, got)
		}
	}
	if got := shell.Join([]string{"a", "b c"}); got != "a 'b c'" {
		t.Error(got)
	}
}

// A shell reads the quoted word as the original.
func TestQuoteIsRead(t *testing.T) {
	t.Parallel()
	text := "it's \"$HOME\" `id` $(id) \\ ; & | < > * ? [a] {a,b} ~ # ! gr\u00fcn"
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+shell.Quote(text)).Output()
	if err != nil || string(out) != text {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "$(id)", "a\nb", "\x1b", "\xff", "-f", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := shell.Quote(s)
		file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader("x "+quoted+"\n"), "")
		if err != nil {
			t.Fatalf("%q: %v", quoted, err)
		}
		call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
		if !ok || len(file.Stmts) != 1 || len(call.Args) != 2 {
			t.Fatalf("%q is not one word", quoted)
		}
		words, err := expand.Fields(nil, call.Args[1])
		if err != nil || len(words) != 1 {
			t.Fatal(words, err)
		}
		word := words[0]
		if shell.Typable(quoted) && word != s {
			t.Errorf("%q became %q", s, word)
		}
		if !utf8.ValidString(word) || strings.ContainsAny(word, "\n\r\x1b\x00") {
			t.Errorf("%q", word)
		}
	})
}
