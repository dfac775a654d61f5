package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/term"

	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// asker asks for passwords, each once however often it is needed.
func asker(s Streams) func(prompt string) (string, error) {
	known := map[string]string{}
	return func(prompt string) (string, error) {
		if s.Password == nil {
			return "", errors.New("stdin is not a terminal: cannot ask for a password")
		}
		if password, ok := known[prompt]; ok {
			return password, nil
		}
		password, err := s.Password(prompt)
		if err == nil {
			known[prompt] = password
		}
		return password, err
	}
}

// readPassword asks on the terminal of the process, without an echo. The error is context.Canceled
// after an interrupt.
func readPassword(prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("opening the terminal: %w", err)
	}
	defer func() { _ = tty.Close() }()
	fd := int(tty.Fd())
	shown, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading the state of the terminal: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, stopSignals()...)
	defer signal.Stop(signals)

	_, _ = fmt.Fprint(tty, printable.Line(prompt))
	defer func() { _, _ = fmt.Fprintln(tty) }() // the newline that was typed has no echo
	type answer struct {
		password []byte
		err      error
	}
	typed := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(fd)
		typed <- answer{password, err}
	}()
	select {
	case a := <-typed:
		return string(a.password), a.err
	case <-signals:
		_ = term.Restore(fd, shown)
		return "", context.Canceled
	}
}
