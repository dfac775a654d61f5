// Command packaging writes what a release has next to the program: a man page for each
// command, completions for bash, zsh and fish, the tarball of the Ansible collection, and of
// which commit all is, for SLSA.
//
//	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) RELEASE_COMMIT=$(git rev-parse HEAD) go run ./hack/packaging DIR
//
// With RELEASE_TAG, the collection must have the version of the tag.
//
// It is a separate program so that kscertctl does not link the generator.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/infrapuzzle/kscertctl/internal/cli"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Getenv("RELEASE_COMMIT"),
		os.Getenv("RELEASE_TAG")); err != nil {
		fmt.Fprintf(os.Stderr, "packaging: %v\n", err)
		os.Exit(1)
	}
}

// run takes the directory to write to, and the date of the man pages in seconds since 1970
// (https://reproducible-builds.org/specs/source-date-epoch/): the same source makes the
// same bytes, whenever and wherever.
func run(args []string, epoch, commit, tag string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one directory to write to, got %q", args)
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH must hold the date of the man pages in seconds: %w", err)
	}
	date := time.Unix(seconds, 0).UTC()
	if err := manPages(filepath.Join(args[0], "man"), date); err != nil {
		return err
	}
	if err := completions(filepath.Join(args[0], "completions")); err != nil {
		return err
	}
	if err := collection(filepath.Join(args[0], "collection"), date, tag); err != nil {
		return err
	}
	return provenance(filepath.Join(args[0], "provenance.json"), commit, tag)
}

// manPages writes NAME.1 for each visible command, as in kscertctl-backup-list.1.
func manPages(dir string, date time.Time) error {
	if err := emptyDir(dir); err != nil {
		return err
	}
	root := cli.Command()
	root.DisableAutoGenTag = true
	for _, cmd := range visible(root) {
		var page bytes.Buffer
		header := doc.GenManHeader{Date: &date, Source: "kscertctl", Manual: "User Commands"}
		if err := doc.GenMan(cmd, &header, &page); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, pageName(cmd)), []byte(typeset(page.String(), date)),
			0o644); err != nil {
			return err
		}
	}
	return nil
}

// visible returns cmd and its subcommands that are not hidden.
func visible(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			out = append(out, visible(child)...)
		}
	}
	return out
}

func pageName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
}

// option matches a flag as the generator writes it: a paragraph whose second line begins with
// a tab. It drops a default that is empty, zero or false.
var option = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*?)(?:\[?=(?:|""|\[\]|0|0s|false)\]?)?\n\t`)

// typeset converts the generator's page to what man(7) expects: a tagged paragraph for each
// flag, hyphens that can be copied, an exact date.
func typeset(page string, date time.Time) string {
	page = option.ReplaceAllStringFunc(page, func(found string) string {
		flag := option.FindStringSubmatch(found)[1]
		return ".TP\n" + strings.ReplaceAll(flag, "-", `\-`) + "\n"
	})
	page = strings.Replace(page, ".SH NAME", ".nh\n.SH NAME", 1) // .TH turns hyphenation on
	return strings.Replace(page, date.Format(`"Jan 2006"`), date.Format(`"2006-01-02"`), 1)
}

func completions(dir string) error {
	if err := emptyDir(dir); err != nil {
		return err
	}
	root := cli.Command()
	for name, generate := range map[string]func(io.Writer) error{
		"kscertctl.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"kscertctl.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		"_kscertctl":     root.GenZshCompletion,
	} {
		var script bytes.Buffer
		if err := generate(&script); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), script.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// emptyDir makes an empty directory: a package must not carry the page of a removed command.
func emptyDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}
