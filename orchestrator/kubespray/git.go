package kubespray

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Described adds what git knows of the checkout: its release, since the galaxy.yml of several
// releases has another one, and a warning if files differ from the release. New files, such as
// an inventory, do not count. Without git, or outside a work tree, it returns the checkout
// unchanged.
func (c Checkout) Described(ctx context.Context) Checkout {
	if c.Dir == "" || !exists(c.Dir, ".git") {
		return c
	}
	if tag, err := c.git(ctx, "describe", "--tags", "--match", "v[0-9]*"); err == nil {
		c.Release, c.ReleaseFrom = strings.TrimPrefix(strings.TrimSpace(tag), "v"), "git describe"
		c.Ansible = demanded(c.Dir, c.Release)
	}
	status, err := c.git(ctx, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		c.Warnings = append(c.Warnings, "whether the checkout has local changes is not known: "+err.Error())
		return c
	}
	var files []string
	for line := range strings.Lines(status) {
		files = append(files, strings.TrimSpace(line))
	}
	if len(files) > 0 {
		const shown = 5
		text := strings.Join(files[:min(shown, len(files))], ", ")
		if more := len(files) - shown; more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
		c.Warnings = append(c.Warnings, "the checkout has local changes, and its playbooks run with them: "+text)
	}
	return c
}

// git runs a read-only command that does not write the index either.
func (c Checkout) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", c.Dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, line)
	}
	return string(out), nil
}
