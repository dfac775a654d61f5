package orchestrator

import (
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// A node that a run took no backup of lacks none.
func TestJudged(t *testing.T) {
	t.Parallel()
	cp1 := run.Backup{Node: "cp1", Run: "r", State: run.BackupVerified, Manifest: "a"}
	gone := run.Backup{Node: "cp1", Run: "r", State: run.BackupMissing}
	w1 := run.Backup{Node: "w1", Run: "r", State: run.BackupMissing}
	for _, row := range []struct {
		name  string
		all   []run.Backup
		noted map[string]string
		want  string
	}{
		{"as noted", []run.Backup{cp1, w1}, map[string]string{"cp1": "a"}, "cp1 verified"},
		{"another manifest than was noted", []run.Backup{cp1, w1}, map[string]string{"cp1": "b"}, "cp1 damaged"},
		{"gone", []run.Backup{gone, w1}, map[string]string{"cp1": "a"}, "cp1 missing"},
		{"nothing noted here, one is there", []run.Backup{cp1, w1}, nil, "cp1 verified"},
		{"nothing noted here, none is there", []run.Backup{gone, w1}, nil, "cp1 missing, w1 missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, b := range verdicts(slices.Clone(row.all), row.noted) {
				got = append(got, b.Node+" "+string(b.State))
			}
			if s := strings.Join(got, ", "); s != row.want {
				t.Errorf("%s, want %s", s, row.want)
			}
		})
	}
}
