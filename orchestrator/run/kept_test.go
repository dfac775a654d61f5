package run_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// node keeps files of runs, and prints them as the role does.
type node map[string]map[string][]byte

func (n node) keep(t *testing.T, root string, h run.History) {
	t.Helper()
	state := t.TempDir()
	testruns.Keep(t, state, root, h)
	files := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(state, "runs", h.ID))
	must(t, err)
	for _, e := range entries {
		files[e.Name()], err = os.ReadFile(filepath.Join(state, "runs", h.ID, e.Name()))
		must(t, err)
	}
	n[h.ID] = files
}

func (n node) print() string {
	var out strings.Builder
	for id, files := range n {
		for name, data := range files {
			fmt.Fprintf(&out, "@@KEPT %s %s\n%s\n", id, name, base64.StdEncoding.EncodeToString(data))
		}
	}
	return out.String() + "@@END\n"
}

// again copies a document.
func again(t *testing.T, from, to any) {
	t.Helper()
	data, err := json.Marshal(from)
	must(t, err)
	must(t, json.Unmarshal(data, to))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// recovered is a recovery whose record is what a run leaves: its cluster is that of its snapshot.
func recovered(t *testing.T) run.History {
	t.Helper()
	h := testruns.Recovered()
	h.Proposal.Cluster = run.ClusterID(h.Proposal.Snapshot)
	return h
}

// read returns the only copy that is printed.
func read(printed string) (run.Kept, error) {
	copies, err := run.ParseCopies("cp1", printed)
	if err != nil {
		return run.Kept{}, err
	}
	if len(copies) != 1 {
		return run.Kept{}, fmt.Errorf("%d copies", len(copies))
	}
	return copies[0].Read()
}

// At every boundary of a recovery, what nodes keep makes a record on another machine with which the
// run can be resumed, rolled back and shown as with its own.
func TestKeptAtEveryBoundary(t *testing.T) {
	t.Parallel()
	h := recovered(t)
	for lines := 1; lines <= len(h.Entries); lines++ {
		here, there := t.TempDir(), t.TempDir()
		part := h
		part.Entries, part.Exit, part.Notes = h.Entries[:lines], nil, nil
		testruns.Write(t, here, part)
		n := node{}
		n.keep(t, here, part)
		k, err := read(n.print())
		requested := run.Journal{Entries: part.Entries}.State().Requested
		if !requested {
			if err == nil {
				t.Errorf("after line %d nothing was approved", lines)
			}
			continue
		}
		must(t, err)
		must(t, run.Import(there, k, *k.Proposal))
		was, is := run.Read(here, h.ID), run.Read(there, h.ID)
		if is.Err != nil || !reflect.DeepEqual(is.State, was.State) || is.Trusted() != nil {
			t.Errorf("after line %d: %+v, want %+v: %v", lines, is.State, was.State, is.Err)
		}
		p, err := run.LoadProposal(there, h.ID)
		must(t, err)
		if got, want := is.State.Next(p.Plan), was.State.Next(h.Proposal.Plan); got != want {
			t.Errorf("after line %d: it is resumed at step %d, want %d", lines, got, want)
		}
		if got, want := is.State.Touched(p.Plan), was.State.Touched(h.Proposal.Plan); !reflect.DeepEqual(got, want) {
			t.Errorf("after line %d: %v are rolled back, want %v", lines, got, want)
		}
		if got, err := run.LoadManifests(there, h.ID); err != nil || len(got) != len(h.Backups) {
			t.Errorf("after line %d: %v %v", lines, got, err)
		}
		again, err := run.LoadHistory(there, h.ID)
		if err != nil || len(again.Unknown) > 0 || again.Proposal == nil {
			t.Errorf("after line %d: %v %v", lines, err, again.Unknown)
		}
	}
}

// A newer copy replaces an older record, also its journal; another process that works on it does not
// notice.
func TestImportOverAnOlderOne(t *testing.T) {
	t.Parallel()
	h := recovered(t)
	here, there, n := t.TempDir(), t.TempDir(), node{}
	testruns.Write(t, here, h)
	n.keep(t, here, h)
	k, err := read(n.print())
	must(t, err)
	old := h
	old.Entries, old.Exit = h.Entries[:5], nil
	testruns.Write(t, there, old)
	d, _, err := run.Open(there, h.ID)
	must(t, err)
	if err := run.Import(there, k, *k.Proposal); err == nil || !strings.Contains(err.Error(), "another process is working on run") {
		t.Errorf("while it is worked on: %v", err)
	}
	must(t, d.Close())
	must(t, run.Import(there, k, *k.Proposal))
	if got := run.Read(there, h.ID); len(got.Entries) != len(h.Entries) || got.Err != nil {
		t.Errorf("%d lines, %v", len(got.Entries), got.Err)
	}
	left, err := os.ReadDir(there)
	must(t, err)
	if len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}

// What a node keeps is taken from it only if it is what a run has written.
func TestForgedCopies(t *testing.T) {
	t.Parallel()
	h := recovered(t)
	root := t.TempDir()
	testruns.Write(t, root, h)
	forge := func(edit func(*run.Proposal)) func(*testing.T, node) {
		return func(t *testing.T, n node) {
			t.Helper()
			var p run.Proposal
			again(t, h.Proposal, &p)
			edit(&p)
			own := n[h.ID]
			forged := h
			forged.Proposal = &p
			n.keep(t, root, forged)
			own["plan.json.gz"] = n[h.ID]["plan.json.gz"]
			n[h.ID] = own
		}
	}
	replace := func(file, old, text string) func(*testing.T, node) {
		return func(t *testing.T, n node) {
			t.Helper()
			was := n[h.ID][file]
			n[h.ID][file] = bytes.ReplaceAll(was, []byte(old), []byte(text))
			if bytes.Equal(was, n[h.ID][file]) {
				t.Fatalf("%s does not have %s", file, old)
			}
		}
	}
	for name, row := range map[string]struct {
		edit  func(*testing.T, node)
		wrong string
	}{
		"as it was":                    {func(*testing.T, node) {}, ""},
		"another step":                 {forge(func(p *run.Proposal) { p.Plan.Steps[1].Nodes = []string{"w1"} }), "plan does not follow"},
		"another playbook":             {forge(func(p *run.Proposal) { p.Plan.Steps[1].Playbook = "../evil.yml" }), "plan does not follow"},
		"another cluster":              {forge(func(p *run.Proposal) { p.Cluster = strings.Repeat("0", 64) }), "another cluster"},
		"another part":                 {forge(func(p *run.Proposal) { p.Request.Limit = []string{"w1"} }), "allows no plan"},
		"another diagnosis":            {forge(func(p *run.Proposal) { p.Diagnosis.Verdict = "sudo reboot" }), "diagnosis does not follow"},
		"a rollback that it is not":    {forge(func(p *run.Proposal) { p.Plan.Undoes = h.ID }), "not of the plan's kind"},
		"a rollback of a path":         {replace("journal.jsonl", `"kind":"run"`, `"kind":"rollback","of":"../../etc"`), "cut off, or its run was not approved"},
		"a step that is not its own":   {replace("journal.jsonl", `"step":"02-`, `"step":"77-`), "is not one of the plan"},
		"a step on another node":       {replace("journal.jsonl", `"cp2"`, `"evil"`), "is not one of the plan"},
		"another run's journal":        {replace("journal.jsonl", h.ID, "20200101T000000Z-abcdef"), "belongs to run"},
		"a journal with a gap":         {replace("journal.jsonl", `"seq":3,`, `"seq":4,`), "lines are missing or repeated"},
		"a journal that is cut off":    {func(_ *testing.T, n node) { n[h.ID]["journal.jsonl"] = n[h.ID]["journal.jsonl"][:900] }, "cut off"},
		"no journal":                   {func(_ *testing.T, n node) { delete(n[h.ID], "journal.jsonl") }, "not approved"},
		"a digest that is none":        {replace("backups.json", `"manifest": "a`, `"manifest": "$(x)`), "backup of"},
		"a backup of a stranger":       {replace("backups.json", `"node": "cp1"`, `"node": "evil"`), "backup of"},
		"documents of another version": {replace("backups.json", `"schema": 1`, `"schema": 2`), "schema 2"},
		"a plan that is none":          {func(_ *testing.T, n node) { n[h.ID]["plan.json.gz"] = []byte("x") }, "plan.json.gz is damaged"},
		"a file that is none of it":    {func(_ *testing.T, n node) { n[h.ID]["../../x"] = nil }, "not understood"},
		"a run that is a path": {func(_ *testing.T, n node) {
			n["../../x"] = n[h.ID]
			delete(n, h.ID)
		}, "not understood"},
	} {
		n := node{}
		n.keep(t, root, h)
		row.edit(t, n)
		if _, err := read(n.print()); (err == nil) != (row.wrong == "") || err != nil && !strings.Contains(err.Error(), row.wrong) {
			t.Errorf("%s: %v, want %q", name, err, row.wrong)
		}
	}
}

func TestParseCopiesRefuses(t *testing.T) {
	t.Parallel()
	const id = "20260301T110000Z-abcdef"
	var many strings.Builder
	for i := range 101 {
		fmt.Fprintf(&many, "@@KEPT 20260301T110000Z-%06x journal.jsonl\neA==\n", i)
	}
	for text, wrong := range map[string]string{
		"": "cut off",
		"@@KEPT " + id + " journal.jsonl\neA==\n":     "cut off",
		"@@KEPT " + id + " journal.jsonl\n?\n@@END\n": "cannot be read",
		"@@END\n@@END\n": "after its end",
		"@@KEPT " + id + " journal.jsonl\n@@KEPT " + id + " journal.jsonl\n@@END\n": "listed twice",
		"@@KEPT " + id + "\n@@END\n":                            "not understood",
		"@@LEFT " + id + " journal.jsonl\n@@END\n":              "not understood",
		"@@KEPT 20260301T110000Z-abcde/ journal.jsonl\n@@END\n": "not understood",
		many.String() + "@@END\n":                               "more than 100 runs",
	} {
		if got, err := run.ParseCopies("cp1", text); err == nil || !strings.Contains(err.Error(), wrong) || got != nil {
			t.Errorf("%.80q: %v, %v, want %q", text, got, err, wrong)
		}
	}
}

func FuzzParseCopies(f *testing.F) {
	f.Add("@@KEPT 20260301T110000Z-abcdef journal.jsonl\neyJ2IjoyfQ==\n@@KEPT 20260301T110000Z-abcdef plan.json.gz\nH4sIAAAAAAAA\n@@END\n")
	f.Fuzz(func(t *testing.T, text string) {
		copies, err := run.ParseCopies("n", text)
		if err != nil && copies != nil {
			t.Fatalf("%v %v", copies, err)
		}
		for _, c := range copies {
			if k, err := c.Read(); c.Node != "n" || len(c.Run) != 23 || err == nil && k.Journal.Torn > 0 {
				t.Fatalf("%+v: %+v %v", c, k, err)
			}
		}
	})
}
