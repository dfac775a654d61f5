package report_test

import (
	"log"
	"os"

	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The same report in other formats: report.JSON, report.YAML, report.ExpiryJUnit and
// so on.
func ExampleExpiryNagios() {
	snap, err := snapshot.Load("../testdata/due.json")
	if err != nil {
		log.Fatal(err)
	}
	if err := report.ExpiryNagios(os.Stdout, expiry.Of(snap, expiry.DefaultThresholds())); err != nil {
		log.Fatal(err)
	}
	// Output:
	// KSCERTCTL WARNING - 1 warning; first: apiserver on cp1 expires in 10d | 'next_expiry'=864000s;2592000:;604800: 'certificates'=21;;;0 'warning'=1;;;0 'critical'=0;;;0 'not_yet_valid'=0;;;0 'expired'=0;;;0 'unreadable'=0;;;0 'unknown_nodes'=0;;;0
	// warning: cp1: apiserver expires in 10d
}
