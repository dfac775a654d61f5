package ansible

import (
	"bytes"
	"strings"
	"testing"
)

func TestClipper(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", maxLine)
	for _, row := range []struct {
		name   string
		writes []string
		want   string
	}{
		{"short lines", []string{"a\nb\n\n", "c"}, "a\nb\n\nc"},
		{"a line in parts", []string{"a", "b", "c\nd"}, "abc\nd"},
		{"a line that just fits", []string{full + "\n"}, full + "\n"},
		{"a long line", []string{"a\n" + full + "yz\nb\n"}, "a\n" + full + " [... 2 bytes cut ...]\nb\n"},
		{"a long line in parts", []string{full, "y", "z\nb"}, full + " [... 2 bytes cut ...]\nb"},
		{"a long line that never ends", []string{full, full, full}, full},
		{"two long lines", []string{full + "y\n" + full + "yz\n"}, full + " [... 1 bytes cut ...]\n" + full + " [... 2 bytes cut ...]\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			c := &clipper{w: &out}
			for _, text := range row.writes {
				if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("wrote %d of %d bytes: %v", n, len(text), err)
				}
			}
			if out.String() != row.want {
				t.Errorf("%d bytes came out, want %d: …%q", out.Len(), len(row.want), out.Bytes()[max(0, out.Len()-60):])
			}
		})
	}
}
