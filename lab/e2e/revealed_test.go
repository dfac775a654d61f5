//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
)

// coded matches a node's base64 in Ansible's events and output, where line breaks are escaped.
var coded, breaks = regexp.MustCompile(`@@<((?:[A-Za-z0-9+/=\s]|\\[rn])*)@@>`), regexp.MustCompile(`\\[rn]|\s`)

// revealed appends the decoded base64 to a text, so that a search for secrets finds them. It
// decodes truncated text as far as possible.
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
