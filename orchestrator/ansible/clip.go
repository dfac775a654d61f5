package ansible

import (
	"bytes"
	"fmt"
	"io"
)

// maxLine is the longest line of Ansible's output. Ansible prints a failed result in one line, and
// a broken node may have answered anything.
const maxLine = 64 << 10

// clipper passes lines on, and the beginning of those that are longer than maxLine.
type clipper struct {
	w io.Writer
	// passed and cut are the bytes of the unfinished line.
	passed, cut int
}

func (c *clipper) Write(p []byte) (int, error) {
	var out []byte
	for line := range bytes.Lines(p) {
		text, ended := bytes.CutSuffix(line, []byte("\n"))
		keep := text[:min(len(text), maxLine-c.passed)]
		out = append(out, keep...)
		c.passed += len(keep)
		c.cut += len(text) - len(keep)
		if !ended {
			break
		}
		if c.cut > 0 {
			out = fmt.Appendf(out, " [... %d bytes cut ...]", c.cut)
		}
		out = append(out, '\n')
		c.passed, c.cut = 0, 0
	}
	if _, err := c.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
