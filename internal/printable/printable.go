// Package printable makes untrusted text safe to print. Names, paths and messages come from
// nodes, and a terminal interprets what it prints: escape sequences move the cursor and hide
// text, bidirectional overrides reorder it, zero-width characters make two names look the
// same.
package printable

import (
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rune reports whether a character is visible or the ASCII space: not a control or format
// character, another space, or one that renderers ignore.
func Rune(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// shown returns a character's replacement: itself, a space, or U+FFFD.
func shown(r rune) rune {
	switch {
	case Rune(r):
		return r
	case unicode.IsSpace(r):
		return ' '
	default:
		return unicode.ReplacementChar
	}
}

// Line makes one line of a text: spaces and line ends become a space, and everything else that
// is not visible, invalid UTF-8 included, becomes U+FFFD. The number of characters stays the
// same, and the result is valid in XML.
func Line(s string) string { return strings.Map(shown, s) }

// Writer applies the replacements of Line, except for tabs and line ends (LF and CR LF). It is
// not safe for concurrent use.
type Writer struct {
	w io.Writer
	// held is an incomplete character or line end at the end of the last write.
	held []byte
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes p. The error is that of the underlying writer. An incomplete character at the
// end of p is written with the next call.
func (w *Writer) Write(p []byte) (int, error) {
	text := slices.Concat(w.held, p)
	out := make([]byte, 0, len(text))
	for utf8.FullRune(text) && string(text) != "\r" {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == '\r' && text[1] == '\n':
			out, size = append(out, "\r\n"...), len("\r\n")
		case r == '\n' || r == '\t':
			out = append(out, text[0])
		default:
			out = utf8.AppendRune(out, shown(r))
		}
		text = text[size:]
	}
	w.held = text
	if len(out) > 0 {
		if _, err := w.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
