//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
)

// coded is an answer of a node as it is in Ansible's events and output, whose line breaks
// are escaped.
var coded, breaks = regexp.MustCompile(`@@<((?:[A-Za-z0-9+/=\s]|\\[rn])*)@@>`), regexp.MustCompile(`\\[rn]|\s`)

// revealed is a text behind which what is coded in it stands once more, to be read: for
// those who search records for secrets. What is cut off is read as far as it goes.
func revealed(text []byte) []byte {
	out := bytes.Clone(text)
	for _, found := range coded.FindAllSubmatch(text, -1) {
		packed, _ := base64.StdEncoding.DecodeString(string(breaks.ReplaceAll(found[1], nil)))
		if unpacked, err := gzip.NewReader(bytes.NewReader(packed)); err == nil {
			plain, _ := io.ReadAll(unpacked)
			out = append(out, plain...)
		}
	}
	return out
}
