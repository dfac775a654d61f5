package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// JSON writes a document, indented. Characters that are not printable are escaped: the document may
// be shown on a terminal.
func JSON(w io.Writer, document any) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document); err != nil {
		return err
	}
	_, err := w.Write(escaped(out.Bytes(), jsonEscape))
	return err
}

// JSONLine writes a document as one line, escaped as JSON escapes it.
func JSONLine(w io.Writer, document any) error {
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(document); err != nil {
		return err
	}
	_, err := w.Write(escaped(out.Bytes(), jsonEscape))
	return err
}

// jsonEscape is a character as JSON escapes it (RFC 8259, 7), yamlEscape as YAML does (1.2, 5.7).
func jsonEscape(r rune) string {
	if high, low := utf16.EncodeRune(r); r > 0xFFFF {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

func yamlEscape(r rune) string { return fmt.Sprintf(`\U%08x`, r) }

// escaped replaces what is not printable, except line ends. In its formats, that is in quoted
// strings alone.
func escaped(text []byte, escape func(rune) string) []byte {
	odd := func(r rune) bool { return r != '\n' && !printable.Rune(r) }
	if utf8.Valid(text) && bytes.IndexFunc(text, odd) < 0 { // nearly always, and a document may be large
		return text
	}
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r == '\n' || printable.Rune(r) {
			out = append(out, string(r)...)
		} else {
			out = append(out, escape(r)...)
		}
	}
	return out
}
