package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/atomicfile"
	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// reportDir is the directory of --report-dir; empty for none. It is absolute, because a command on
// an earlier run changes its working directory.
type reportDir string

func (d *reportDir) String() string { return string(*d) }
func (d *reportDir) Type() string   { return "string" }
func (d *reportDir) Set(s string) error {
	if s == "" {
		return errors.New("it names no directory")
	}
	path, err := filepath.Abs(s)
	*d = reportDir(path)
	return err
}

func (d *reportDir) register(cmd *cobra.Command) {
	cmd.Flags().Var(d, "report-dir", "write the reports of the run into this directory, in every format")
}

// prepare makes the directory, and reports before anything is done if it cannot be written.
func (d reportDir) prepare() error {
	if d == "" {
		return nil
	}
	err := os.MkdirAll(string(d), 0o750)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(string(d), ".kscertctl-*.tmp"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: "--report-dir: " + err.Error(), Err: err,
			Next: "name a writable directory"}
	}
	return nil
}

// write writes a report in every format and prints the paths. Others may read it: nothing in it is
// secret.
func (d reportDir) write(s Streams, r report.Run) error {
	if d == "" {
		return nil
	}
	for _, f := range report.RunFormats() {
		var out bytes.Buffer
		err := f.Write(&out, r)
		if err == nil {
			err = atomicfile.Write(filepath.Join(string(d), r.Run+f.Suffix), out.Bytes(), 0o644)
		}
		if err != nil {
			return &orchestrator.Error{Code: orchestrator.ExitUnexpected,
				Summary: "cannot write the reports: " + err.Error(), Err: err,
				Next: "write them again: kscertctl report " + shell.Quote(r.Run)}
		}
	}
	_, _ = fmt.Fprintf(s.Err, "reports of run %s: %s\n", r.Run, filepath.Join(string(d), r.Run+".*"))
	return nil
}

// writeAll writes the reports of a run that has finished, and of its rollback.
func (d reportDir) writeAll(s Streams, state, id string) error {
	if d == "" {
		return nil
	}
	h, err := orchestrator.History(state, id)
	if err != nil {
		return err
	}
	err = d.write(s, report.OfRun(h))
	for _, later := range h.Later {
		if err == nil && later.State.Of == id {
			err = d.writeAll(s, state, later.ID)
		}
	}
	return err
}
