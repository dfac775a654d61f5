// Package printable makes text harmless that others have chosen. Names, paths and messages
// come from nodes, and a terminal obeys what it is sent: escape sequences move the cursor
// and hide text, bidirectional overrides reorder it, zero-width characters make two names
// look the same.
package printable

import (
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rune reports whether a character is visible or the ASCII space, and nothing else: no
// control or format character, no other space, nothing that is ignored when shown.
func Rune(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// shown is what stands for a character: itself, a space, or U+FFFD.
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

// Line makes one line of a text: spaces and line ends become a space, and everything else
// that is not visible, invalid UTF-8 included, becomes U+FFFD. The text keeps its length in
// characters, and is also what XML allows.
func Line(s string) string { return strings.Map(shown, s) }

// Writer passes text on with everything replaced that Line replaces, except for tabs and
// line ends (LF and CR LF). It is not for concurrent use.
type Writer struct {
	w io.Writer
	// held is the beginning of a character or of a line end whose rest has not come yet.
	held []byte
}

// NewWriter returns a Writer in front of w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write passes p on. The error is that of the writer behind it; what p begins and does not
// complete is written with the next call.
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
