package diagnosis

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// declared reads the reason codes from the source, so that a new one cannot be
// forgotten in the table.
func declared(t *testing.T) []Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "finding.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Reason" {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, Reason(text))
		}
		return true
	})
	return out
}

// Every reason says how grave it is, what it means and what to do: others build
// on the codes, and users act on the words.
func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	all := declared(t)
	if len(all) < 20 {
		t.Fatalf("only %d reason codes found in finding.go: %v", len(all), all)
	}
	for _, r := range all {
		f := Finding{Reason: r}
		if s := f.Severity(); s != Critical && s != Warning {
			t.Errorf("%s: severity is %q", r, s)
		}
		if f.Title() == "" {
			t.Errorf("%s has no title", r)
		}
		if f.Next() == "" {
			t.Errorf("%s has no next step", r)
		}
	}
	for r := range reasons {
		if !slices.Contains(all, r) {
			t.Errorf("the table explains %q, which no constant names", r)
		}
	}
}

// Whatever kept a node from being inspected blocks a change.
func TestEveryFailureBlocks(t *testing.T) {
	t.Parallel()
	for _, k := range []snapshot.FailureKind{snapshot.Unreachable, snapshot.Privilege, snapshot.Garbled, snapshot.Failed, snapshot.Missing} {
		if r := failureReasons[k]; !reasons[r].blocks {
			t.Errorf("a node whose inspection ended with %q gives %q, which blocks nothing", k, r)
		}
	}
}

// The JSON form of a finding; its field names are a contract.
func TestFindingJSON(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		in   Finding
		want string
	}{
		{
			"all fields", Finding{Reason: CAExpired, Node: "cp1", Subject: "ca", Evidence: "ended"},
			`{"reason":"ca-expired","severity":"critical","node":"cp1","subject":"ca","title":"a certificate authority has expired","evidence":"ended","next":"all that it signed must be issued anew, which is never done without being asked for: see docs/explanation/certificates.md"}`,
		},
		{
			"empty ones are left out", Finding{Reason: StaticPodNotReady},
			`{"reason":"static-pod-not-ready","severity":"warning","title":"a control plane component is not Ready","next":"read its log: crictl logs on the node"}`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(row.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != row.want {
				t.Errorf("got\n%s, want\n%s", got, row.want)
			}
		})
	}
}
