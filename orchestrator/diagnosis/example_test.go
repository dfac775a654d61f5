package diagnosis_test

import (
	"fmt"
	"log"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func ExampleDiagnose() {
	snap, err := snapshot.Load("../testdata/due.json") // from kscertctl diagnose --save-snapshot
	if err != nil {
		log.Fatal(err)
	}
	d := diagnosis.Diagnose(snap, diagnosis.DefaultThresholds())
	fmt.Println(d.Route, "-", d.Verdict)
	for _, f := range d.Findings {
		fmt.Println(f.Node, f.Reason, f.Severity(), f.Subject)
	}
	// Output:
	// renew - healthy, but 1 certificate is about to expire
	// cp1 certificate-expiring warning apiserver
}
