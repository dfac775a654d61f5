// Package payload is the coding in which a node's answer passes through Ansible: gzip, as
// base64, with a tab or a line break after three characters at most, between "@@<" and "@@>".
//
// Since 2.22, ansible-core replaces each vaulted value and each password of four characters
// and more by a placeholder, wherever they occur in what callbacks get. No such word is in
// three characters; one that holds tabs or line breaks is found by the alphabet, or by gzip's
// checksum. Lines stay as long as base64 makes them: Ansible keeps each line of an answer as an
// object of its own, which with thousands of lines costs more than all else. The writer is
// plugins/filter/kscert.py of the collection.
package payload

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Marks around a coded text: as long as a piece of it, so that they, too, hold no secret.
const (
	begin = "@@<"
	end   = "@@>"
)

// width is how long a piece is: shorter than what Ansible takes for a secret. line is how
// long base64 makes a line.
const (
	width = 3
	line  = 76
)

// Errors of Decode.
var (
	// ErrDamaged means that characters of the coding are missing or others: cut off, changed
	// by Ansible, or never written by a script of ours.
	ErrDamaged = errors.New("the answer was damaged on its way")
	// ErrTooLong means that the text is longer than it may be, however short its coding is.
	ErrTooLong = errors.New("the answer is too long")
)

// Decode reads the only coded text in what a node printed: blanks and line breaks within do
// not count, nor does what stands around it. A text of more than limit bytes is
// ErrTooLong, and no more than that is held; all else that cannot be read is ErrDamaged.
func Decode(printed string, limit int) (string, error) {
	_, rest, found := strings.Cut(printed, begin)
	coded, after, whole := strings.Cut(rest, end)
	switch {
	case !found || !whole:
		return "", fmt.Errorf("%w: it has no beginning, or no end", ErrDamaged)
	case strings.Contains(coded+after, begin) || strings.Contains(after, end):
		return "", fmt.Errorf("%w: there are two", ErrDamaged)
	}
	packed, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(coded), ""))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	from := bytes.NewReader(packed)
	unpacked, err := gzip.NewReader(from)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	unpacked.Multistream(false)
	text, err := io.ReadAll(io.LimitReader(unpacked, int64(limit)+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	case len(text) > limit:
		return "", fmt.Errorf("%w: %d bytes unpack to more than %d", ErrTooLong, len(packed), limit)
	case from.Len() > 0:
		return "", fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	return string(text), nil
}

// Encode is what Decode reads.
func Encode(text string) string {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, text)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err) // a buffer takes all
	}
	coded := base64.StdEncoding.EncodeToString(packed.Bytes())
	var out strings.Builder
	out.WriteString(begin + "\n")
	for row := range slices.Chunk([]byte(coded), line) {
		for piece := range slices.Chunk(row, width) {
			out.Write(append(piece, '\t'))
		}
		out.WriteByte('\n')
	}
	out.WriteString(end + "\n")
	return out.String()
}

// block is a coded text, also as JSON has its tabs and line breaks, and escaped are these.
var (
	block   = regexp.MustCompile(begin + `(?:[A-Za-z0-9+/=\s]|\\[rnt])*` + end)
	escaped = regexp.MustCompile(`\\[rnt]`)
)

// Reveal is a text in which what is coded can be read: for those who search files for
// what must not be in them.
func Reveal(text []byte) []byte {
	return block.ReplaceAllFunc(text, func(coded []byte) []byte {
		plain, err := Decode(string(escaped.ReplaceAll(coded, nil)), 1<<30)
		if err != nil {
			return coded
		}
		return []byte(plain)
	})
}
