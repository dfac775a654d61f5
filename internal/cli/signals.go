package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
)

// atOnce is the key of the context that the second signal cancels.
type atOnce struct{}

// stopSignals are those that stop a command. An ignored SIGHUP stays ignored, as under nohup(1).
func stopSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// interrupts returns a context that the first of stopSignals cancels; it holds another one that the
// second signal cancels. A second SIGHUP does not count: a closing session may send it twice, from
// the shell and from the kernel.
func interrupts() (soft context.Context, stop func()) {
	hard, endHard := context.WithCancel(context.Background())
	soft, endSoft := context.WithCancel(context.WithValue(hard, atOnce{}, hard))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, stopSignals()...)
	go func() {
		for {
			select {
			case sig := <-signals:
				switch {
				case soft.Err() == nil:
					endSoft()
				case sig != syscall.SIGHUP:
					endHard()
				}
			case <-hard.Done():
				return
			}
		}
	}()
	return soft, func() {
		signal.Stop(signals)
		endSoft()
		endHard()
	}
}

// outlivePipes makes a write to a closed pipe return an error: by default the Go runtime kills the
// process if that is standard output or standard error (os/signal). Child processes do not inherit
// it.
func outlivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// exitPipe is what a shell reports for a tool whose output no one reads any more: 128 and the
// number of SIGPIPE.
const exitPipe = 128 + int(syscall.SIGPIPE)

// pipeClosed reports whether the only failure is that no one reads standard output any
// more.
func pipeClosed(err error) bool {
	failed, ok := errors.AsType[*fs.PathError](err)
	return ok && failed.Path == os.Stdout.Name() && errors.Is(failed, syscall.EPIPE) &&
		orchestrator.Code(err) == orchestrator.ExitUnexpected
}

// stopsInOrder lets the first signal stop the work gracefully, for commands that change nodes, and
// prints that. It returns the context that the second one cancels.
func stopsInOrder(cmd *cobra.Command, s Streams, opts *orchestrator.Options) (ctx context.Context, done func() bool) {
	soft := cmd.Context()
	opts.Stop = soft.Done()
	hard, ok := soft.Value(atOnce{}).(context.Context)
	if !ok { // not from Main: the caller has one way to stop
		return soft, func() bool { return true }
	}
	return hard, context.AfterFunc(soft, func() {
		_, _ = fmt.Fprintln(s.Err,
			"interrupted: what is changing nodes is finished first; interrupt again to stop at once")
	})
}
