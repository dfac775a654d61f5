// Package shell writes the words of commands that somebody is going to type.
package shell

import (
	"strings"
	"unicode"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// Quote makes a text one word of a POSIX shell, in single quotes where it needs any. What
// cannot be typed visibly (control characters, line ends, invalid UTF-8) becomes U+FFFD:
// the word then names nothing, and nothing hides in the command.
func Quote(s string) string {
	s = strings.Map(func(r rune) rune {
		if printable.Rune(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
	special := func(r rune) bool {
		return !strings.ContainsRune("_@%+=:,./-", r) &&
			(r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Join quotes each of the words, with spaces between them.
func Join(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = Quote(w)
	}
	return strings.Join(out, " ")
}

// Typable reports whether a line of a command can be typed as it is shown: Quote has left
// out nothing of its words, and nothing in it is invisible.
func Typable(line string) bool {
	return !strings.ContainsFunc(line, func(r rune) bool {
		return r == unicode.ReplacementChar || !printable.Rune(r)
	})
}
