package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
)

// atOnce is the key of the context that ends with the second signal.
type atOnce struct{}

// interrupts returns a context that ends with the first interrupt or request to
// terminate; within it lies one that ends with the second.
func interrupts() (soft context.Context, stop func()) {
	hard, endHard := context.WithCancel(context.Background())
	soft, endSoft := context.WithCancel(context.WithValue(hard, atOnce{}, hard))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for _, end := range []func(){endSoft, endHard} {
			select {
			case <-signals:
				end()
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

// stopsInOrder lets the first signal end the work in order, for commands that
// change nodes, and says so. It returns the context that the second one ends.
func stopsInOrder(cmd *cobra.Command, s Streams, opts *orchestrator.Options) (ctx context.Context, done func() bool) {
	soft := cmd.Context()
	opts.Stop = soft.Done()
	hard, ok := soft.Value(atOnce{}).(context.Context)
	if !ok { // not from Main: whoever called has one way to stop
		return soft, func() bool { return true }
	}
	return hard, context.AfterFunc(soft, func() {
		_, _ = fmt.Fprintln(s.Err, "interrupted: the step that changes nodes is finished first, and none is begun after it; once more to stop at once")
	})
}
