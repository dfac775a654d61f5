package printable_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// texts maps a node's output to what a Writer makes of it.
var texts = map[string]struct{ text, shown string }{
	"plain":                     {"node-1: 3 of 5 \u2013 gr\u00fcn, \u65e5\u672c\t|\n", "node-1: 3 of 5 \u2013 gr\u00fcn, \u65e5\u672c\t|\n"},
	"escape":                    {"\x1b[31mred\x1b]0;title\x07", "\ufffd[31mred\ufffd]0;title\ufffd"},
	"C1":                        {"\u009b31m\u009d0;title\u009c\x9b", "\ufffd31m\ufffd0;title\ufffd\ufffd"},
	"other controls":            {"a\x00b\bc\x7fd", "a\ufffdb\ufffdc\ufffdd"},
	"lone carriage return":      {"good\rbad", "good bad"},
	"line ends":                 {"a\r\nb\n", "a\r\nb\n"},
	"bidirectional":             {"a\u202eb\u2066c\u2069", "a\ufffdb\ufffdc\ufffd"},
	"zero width":                {"a\u200bb\u200dc\ufeffd\u2060e", "a\ufffdb\ufffdc\ufffdd\ufffde"},
	"invisible":                 {"a\u3164b\ufe0fc\u034fd\U000e0041", "a\ufffdb\ufffdc\ufffdd\ufffd"},
	"line and paragraph":        {"a\u2028b\u2029c\u0085d\ve\ff\u00a0g", "a b c d e f g"},
	"invalid UTF-8":             {"a\xffb\xc3(", "a\ufffdb\ufffd("},
	"carriage return before it": {"\r\r\n", " \r\n"},
}

func TestWriter(t *testing.T) {
	t.Parallel()
	for name, row := range texts {
		for size := 1; size <= len(row.text); size++ { // however the writes are split
			var out bytes.Buffer
			w := printable.NewWriter(&out)
			for rest := []byte(row.text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				part := rest[:min(size, len(rest))]
				if n, err := w.Write(part); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			if got := out.String(); got != row.shown {
				t.Errorf("%s, %d at a time: %q, want %q", name, size, got, row.shown)
			}
		}
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	for name, row := range texts {
		want := strings.NewReplacer("\r", " ", "\n", " ", "\t", " ").Replace(row.shown)
		if got := printable.Line(row.text); got != want || !utf8.ValidString(got) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestWriterHandsOnErrors(t *testing.T) {
	t.Parallel()
	if _, err := printable.NewWriter(broken{}).Write([]byte("x")); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
