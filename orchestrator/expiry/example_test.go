package expiry_test

import (
	"fmt"
	"log"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func ExampleOf() {
	snap, err := snapshot.Load("../testdata/due.json") // from kscertctl check-expiration --save-snapshot
	if err != nil {
		log.Fatal(err)
	}
	r := expiry.Of(snap, expiry.Thresholds{Warn: 30 * 24 * time.Hour, Crit: 7 * 24 * time.Hour})
	fmt.Println(r.Status, "unknown nodes:", len(r.Unknown()))
	for _, c := range r.Worth(expiry.LevelWarning) {
		fmt.Println(c.Node, c.Name, c.Status, c.Residual())
	}
	// Output:
	// warning unknown nodes: 0
	// cp1 apiserver warning 240h0m0s
}
