package cli_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// code runs a command, passes its output through, and fails unless its exit code is the first
// argument.
func code() {
	want := os.Args[1]
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != want {
		fmt.Fprintf(os.Stderr, "exit code %s, want %s\n", got, want)
		os.Exit(1)
	}
}
