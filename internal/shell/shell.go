// Package shell quotes the words of commands that a person will type.
package shell

import (
	"strings"
	"unicode"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// Quote makes a text one word of a POSIX shell, in single quotes if necessary. What cannot be
// typed (control characters, line ends, invalid UTF-8) becomes U+FFFD: the word then names
// nothing, and the command hides nothing.
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

// Join quotes the words and joins them with spaces.
func Join(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = Quote(w)
	}
	return strings.Join(out, " ")
}

// Typable reports whether a command line can be typed as shown: Quote replaced nothing in it,
// and all of it is visible.
func Typable(line string) bool {
	return !strings.ContainsFunc(line, func(r rune) bool {
		return r == unicode.ReplacementChar || !printable.Rune(r)
	})
}
