// Command kscertctl brings back Kubespray clusters whose certificates have
// expired.
package main

import (
	"os"

	"github.com/infrapuzzle/kscertctl/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.OSStreams())) }
