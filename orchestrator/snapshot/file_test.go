package snapshot_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "case.json")
	for _, want := range []snapshot.Snapshot{tc.Healthy(tc.HA()), tc.Healthy(tc.Single())} { // the second replaces the first
		if err := snapshot.Save(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := snapshot.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if asJSON(t, got) != asJSON(t, want) {
			t.Errorf("got\n%+v\nwant\n%+v", got, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("something is left next to it: %v", entries)
	}
}

// asJSON compares what counts: JSON does not distinguish an empty map from none.
func asJSON(t *testing.T, s snapshot.Snapshot) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSaveErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, row := range []struct{ path, detail string }{
		{dir, "it is not a regular file"},
		{"/dev/null", "it is not a regular file"},
		{filepath.Join(dir, "missing", "case.json"), "it cannot be written: "},
	} {
		wantFileError(t, snapshot.Save(row.path, tc.Healthy(tc.Single())), row.path, row.detail)
		wantFileError(t, snapshot.Writable(row.path), row.path, row.detail)
	}
	if err := snapshot.Writable(filepath.Join(dir, "case.json")); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("asking leaves something behind: %v", entries)
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	whole, err := json.Marshal(tc.Healthy(tc.Single()))
	if err != nil {
		t.Fatal(err)
	}
	twice := tc.Healthy(tc.Single())
	twice.Nodes[1].Name = "cp1"
	double, err := json.Marshal(twice)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ content, detail string }{
		"empty":            {"", "it is empty"},
		"blank":            {" \n\t", "it is empty"},
		"no JSON":          {"NAME READY\ncp1 True\n", "it is not the JSON of a snapshot: invalid character"},
		"cut off":          {string(whole[:len(whole)/2]), "it ends in the middle"},
		"cut off at once":  {"{", "it ends in the middle"},
		"a list":           {"[]", "it is not the JSON of a snapshot: "},
		"null":             {"null", "it names no schema"},
		"a diagnosis":      {`{"schema":1,"verdict":"healthy"}`, "it names no nodes or no time"},
		"other JSON":       {`{"apiVersion":"v1"}`, "it names no schema"},
		"a later schema":   {`{"schema":99}`, "its schema is 99, and this kscertctl knows 1"},
		"an odd schema":    {`{"schema":-1}`, "its schema is -1"},
		"a schema in text": {`{"schema":"1"}`, "it is not the JSON of a snapshot: "},
		"other types":      {`{"schema":1,"taken":"2026-03-01T12:00:00Z","nodes":[{"name":7}]}`, "it is not the JSON of a snapshot: "},
		"more after it":    {string(whole) + "{}", "it is not the JSON of a snapshot: "},
		"a node twice":     {string(double), `node "cp1" is listed twice`},
	} {
		path := filepath.Join(t.TempDir(), "case.json")
		if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := snapshot.Load(path)
		t.Log(name)
		wantFileError(t, err, path, row.detail)
	}
	dir := t.TempDir()
	_, err = snapshot.Load(dir)
	wantFileError(t, err, dir, "it is a directory")
	_, err = snapshot.Load(filepath.Join(dir, "nowhere"))
	wantFileError(t, err, filepath.Join(dir, "nowhere"), "it does not exist")
}

// wantFileError: the error names the file, what is wrong and what to do.
func wantFileError(t *testing.T, err error, path, detail string) {
	t.Helper()
	var e *snapshot.FileError
	if !errors.As(err, &e) || e.Path != path || !strings.Contains(e.Detail, detail) || e.Next == "" || !strings.HasPrefix(e.Error(), "snapshot "+path+": ") {
		t.Errorf("got %v, want %q about %s", err, detail, path)
	}
}

// FuzzLoad: whatever a file holds, it is either a snapshot that survives being saved and read
// again, or an error that names what to do.
func FuzzLoad(f *testing.F) {
	whole, err := json.Marshal(tc.Healthy(tc.HA()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, seed := range []string{"", "{", "null", `{"schema":1}`, `{"schema":1,"taken":"2026-03-01T12:00:00Z","nodes":[{"name":"a"}]}`, `{"schema":1e400}`,
		"\xef\xbb\xbf{\"schema\":1}", `{"schema":1,"schema":2}`, strings.Repeat("[", 20000), "{\"schema\":1,\"nodes\":[{\"name\":\"\x00\"}]}"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "case.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := snapshot.Load(path)
		if err != nil {
			var e *snapshot.FileError
			if !errors.As(err, &e) || e.Next == "" {
				t.Errorf("an error without a next step: %v", err)
			}
			return
		}
		s = snapshot.Redact(s)
		if err := snapshot.Save(path, s); err != nil {
			t.Fatal(err)
		}
		again, err := snapshot.Load(path)
		first, err1 := json.Marshal(s)
		second, err2 := json.Marshal(again)
		if err = errors.Join(err, err1, err2); err != nil || string(first) != string(second) {
			t.Errorf("read again it is another one (%v):\n%s\n%s", err, first, second)
		}
	})
}
