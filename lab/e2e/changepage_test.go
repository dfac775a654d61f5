package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	// changePage describes the trials and counts their results.
	changePage = "../../docs/evidence/interrupted-runs.md"
	// endingsFile has the result of each trial.
	endingsFile = "testdata/interrupted-runs.md"
)

// pageMutex guards the file: the subtests run in parallel.
var pageMutex sync.Mutex //nolint:gochecknoglobals // guards a file

// between matches the table of a section.
func between(state, part string) *regexp.Regexp {
	return regexp.MustCompile(fmt.Sprintf(`(?s)(<!-- table %s %s -->\n\n)(.*?)\n?<!-- end -->`, state, part))
}

// writeEndings adds rows to a section's table, and replaces earlier rows of the same trials.
func writeEndings(state, part string, endings []ending) error {
	pageMutex.Lock()
	defer pageMutex.Unlock()
	data, err := os.ReadFile(endingsFile)
	if err != nil {
		return err
	}
	place := between(state, part)
	m := place.FindSubmatchIndex(data)
	if m == nil {
		return fmt.Errorf("%s has no place for %s %s", endingsFile, state, part)
	}
	rows := slices.Collect(strings.Lines(string(data[m[4]:m[5]])))
	if len(rows) == 0 {
		rows = []string{"| what happened | when | the run ended with | resume | rollback |\n", "| --- | --- | --- | --- | --- |\n"}
	}
	for _, e := range endings {
		about := fmt.Sprintf("| %s | %s | ", e.blow, e.moment)
		if i := slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, about) }); i >= 0 {
			rows[i] = e.String() + "\n"
		} else {
			rows = append(rows, e.String()+"\n")
		}
	}
	text := slices.Concat(data[:m[4]], []byte(strings.Join(rows, "")), []byte("\n<!-- end -->"), data[m[1]:])
	return os.WriteFile(endingsFile, text, 0o600)
}

// TestChangeIsDocumented checks that the page describes every fault and counts the trials, and
// that every trial was run and succeeded.
func TestChangeIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(changePage)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(endingsFile)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, part := range []string{"recover kills", "recover losses", "recover ends", "recover faults", "renew kills", "renew ends", "renew faults"} {
		state, of, _ := strings.Cut(part, " ")
		m := between(state, of).FindSubmatch(data)
		if m == nil {
			t.Errorf("%s has no place for %s", endingsFile, part)
			continue
		}
		rows := max(strings.Count(string(m[2]), "\n")-2, 0)
		good := regexp.MustCompile(`(?m)\| (healthy \| as before|nothing begun \| nothing begun) \|$`).FindAll(m[2], -1)
		if len(good) != rows {
			t.Errorf("%s: of %d rows, %d are good", part, rows, len(good))
		}
		if count := fmt.Sprintf("\n| %s | %s | %d |\n", state, of, rows); !strings.Contains(string(page), count) {
			t.Errorf("the page does not have the row %q", count)
		}
		total += rows
	}
	if total < 86 { // 19 lines of either journal, 12 interruptions and 12 faults in three steps each
		t.Errorf("%s has %d rows", endingsFile, total)
	}
	for _, b := range blows() {
		if !strings.Contains(string(page), "\n| "+b.name+" | "+b.what+" |\n") {
			t.Errorf("the page does not describe %q (%s)", b.name, b.what)
		}
	}
}
