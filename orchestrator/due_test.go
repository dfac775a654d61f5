package orchestrator_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

var update = flag.Bool("update", false, "write the files in testdata again")

// The snapshot of the example has a certificate that is due. go test ./orchestrator -run
// TestSnapshotOfTheExample -update writes it again.
func TestSnapshotOfTheExample(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "due.json")
	if *update {
		file = "testdata/due.json"
	}
	if err := snapshot.Save(file, tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(10*tc.Day, certs.KindAPIServer)))); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("testdata/due.json"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("testdata/due.json is another snapshot: %v", err)
	}
}
