// Command witness is the workload that must live through a repair untouched:
// it prints a numbered line a second until it is told to stop.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		fmt.Printf("witness %d %s\n", i, time.Now().UTC().Format(time.RFC3339))
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}
