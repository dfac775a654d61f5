package ansible

import (
	"bytes"
	"fmt"
	"io"
)

// maxLine is how long a line of Ansible's output may be. Ansible prints a result
// that failed in one line, whole, and a broken node may have answered with anything.
const maxLine = 64 << 10

// clipper passes lines on, and of those that are longer than maxLine the beginning.
type clipper struct {
	w io.Writer
	// passed and cut are the bytes of the line that has not ended yet.
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
