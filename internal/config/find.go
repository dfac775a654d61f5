package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// FileName is the name of a configuration file that is found without being named.
const FileName = "kscertctl.yaml"

// flagName is that of the flag that names a configuration file.
const flagName = "--config"

// FileError describes why a file cannot be read, and what to do.
type FileError struct {
	Path string
	// Detail is what is wrong with the file, Next what to do now.
	Detail, Next string
	// Err is the cause; may be nil.
	Err error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Detail }
func (e *FileError) Unwrap() error { return e.Err }

// Places are where a file is searched if none is named: the working directory, and the user's
// directory of the XDG Base Directory Specification.
func Places(getenv func(string) string) []string {
	out := []string{FileName}
	dir := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); !filepath.IsAbs(dir) && home != "" {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		out = append(out, filepath.Join(dir, "kscertctl", FileName))
	}
	return out
}

// Find reads the named file; else the one in KSCERTCTL_CONFIG, else the first that exists in
// Places. The name is empty if there is none. An error is a *FileError, and wraps that of ctx if it is
// done first: a pipe may have no writer.
//
// A file can name commands to run. So Find refuses a file that belongs to another user than
// the caller or root, or that others can write or replace. It accepts pipes and devices.
func Find(ctx context.Context, named string, getenv func(string) string) (name string, text []byte, err error) {
	if named == "" {
		named = getenv(FileVariable)
	}
	if named != "" {
		text, err = Read(ctx, named, flagName, getenv)
		return named, text, err
	}
	for _, place := range Places(getenv) {
		yml := strings.TrimSuffix(place, ".yaml") + ".yml"
		switch {
		case exists(place):
			// No one named the file: opening a pipe here could block forever.
			if info, err := os.Stat(place); err == nil && !info.Mode().IsRegular() {
				return "", nil, &FileError{Path: place, Detail: "it is not a regular file",
					Next: "remove it, or name the right file: " + flagName + " FILE"}
			}
			text, err = source{path: place, flag: flagName, users: caller(os.Geteuid(), getenv)}.text()
			if err != nil {
				return "", nil, err
			}
			return place, text, nil
		case exists(yml): // reported, not ignored
			return "", nil, &FileError{
				Path: yml, Detail: "looked for as " + FileName, Next: "mv " + shell.Join([]string{yml, place}),
			}
		}
	}
	return "", nil, nil
}

// exists is also false in a directory that the caller may not read.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// caller returns the users whose files are trusted: the effective user, root, and with sudo
// the user who called it (as in git).
func caller(euid int, getenv func(string) string) []string {
	users := []string{strconv.Itoa(euid), "0"}
	if sudo := getenv("SUDO_UID"); euid == 0 && sudo != "" {
		users = append(users, sudo)
	}
	return users
}

// trusted checks who else can write.
const group, everybody = 0o020, 0o002

// trusted refuses a file that another user owns, can write or can replace. In a directory with
// the mode safe, everyone may write, but not replace the files of others.
func (s source) trusted(info os.FileInfo) error {
	path := s.path
	refuse := func(detail, next string) error {
		return &FileError{Path: path, Detail: detail + ", and it can name commands that kscertctl runs", Next: next}
	}
	owner, isKnown := info.Sys().(*syscall.Stat_t)
	if !isKnown {
		return nil
	}
	uid := strconv.FormatUint(uint64(owner.Uid), 10)
	if !slices.Contains(s.users, uid) {
		return refuse("it belongs to user "+uid,
			fmt.Sprintf("if its content is what you want, become its owner: chown %s %s\nor name a copy of your "+
				"own: %s COPY", s.users[0], shell.Quote(path), s.flag))
	}
	if !info.Mode().IsRegular() { // a pipe that was named: its owner writes
		return nil
	}
	// A group with the user's own number is private, as on most systems.
	shared := os.FileMode(everybody)
	if owner.Gid != owner.Uid {
		shared |= group
	}
	if info.Mode().Perm()&shared != 0 && !readOnly(path) {
		return refuse("others can write to it", "if its content is what you want: chmod go-w "+shell.Quote(path))
	}
	dir := filepath.Dir(path)
	in, err := os.Stat(dir)
	if err != nil {
		return s.unreadable(err)
	}
	if in.Mode().Perm()&everybody != 0 && in.Mode()&s.safe == 0 && !readOnly(dir) {
		return refuse("everyone can write to its directory",
			"if its content is what you want: chmod o-w "+shell.Quote(dir))
	}
	return nil
}

// readOnly reports whether a path is on a read-only file system, such as a mounted ConfigMap,
// where the mode does not matter.
func readOnly(path string) bool {
	const write = 2 // W_OK of access(2)
	return errors.Is(syscall.Access(path, write), syscall.EROFS)
}

// maxFile is far more than any configuration needs.
const maxFile = 1 << 20

// Read returns the text of a file that the caller has named with a flag, which errors mention. Find
// describes errors, and what it refuses.
func Read(ctx context.Context, path, flag string, getenv func(string) string) ([]byte, error) {
	s := source{path: path, flag: flag, users: caller(os.Geteuid(), getenv), safe: os.ModeSticky}
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := s.text()
		read <- result{text, err}
	}()
	select {
	case r := <-read:
		return r.text, r.err
	case <-ctx.Done():
		return nil, s.unreadable(ctx.Err())
	}
}

// source is a file to read.
type source struct {
	// flag names another file.
	path, flag string
	// users are those whose files are trusted; safe is for trusted.
	users []string
	safe  os.FileMode
}

// text returns the text of a trusted file.
func (s source) text() ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, s.unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat() // checks the open file, not what may replace it
	if err != nil {
		return nil, s.unreadable(err)
	}
	if err := s.trusted(info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, s.unreadable(err)
	}
	if len(text) > maxFile {
		return nil, &FileError{Path: s.path, Detail: fmt.Sprintf("it is larger than %d bytes", maxFile),
			Next: "name the right file: " + s.flag + " FILE"}
	}
	return text, nil
}

func (s source) unreadable(err error) error {
	detail := err.Error()
	if e, ok := errors.AsType[*os.PathError](err); ok {
		detail = e.Err.Error() // without the path, which FileError has
	}
	return &FileError{Path: s.path, Detail: detail, Next: "name a readable file: " + s.flag + " FILE", Err: err}
}
