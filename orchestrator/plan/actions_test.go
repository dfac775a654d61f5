package plan_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// Each action has one row that lacks nothing.
func TestEveryActionHasARow(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "actions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var constants, rows []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			of, typed := v.Type.(*ast.Ident)
			if text, ok := v.Values[0].(*ast.BasicLit); ok && typed && of.Name == "Action" {
				constants = append(constants, strings.Trim(text.Value, `"`))
			}
		}
		return true
	})
	for _, row := range plan.Actions() {
		rows = append(rows, string(row.Action))
		issues := len(row.Issues) > 0
		for lacks, is := range map[string]bool{
			"a title":   row.Title == "",
			"an effect": !slices.Contains([]plan.Effect{plan.Reads, plan.Adds, plan.Alters}, row.Effect),
			"a gate, although it changes nodes in a phase":          row.Phase && row.Effect == plan.Alters && !row.Kubespray && row.Gate == "",
			"its relation to API servers":                           row.Gate == plan.APIServerGate && row.API == "",
			"what it issues, although it takes signed certificates": row.Signed && row.Effect == plan.Alters && !issues,
			"an effect, although it issues certificates":            issues && row.Effect != plan.Alters,
			"its place among the rows":                              row.Action.Row().Action != row.Action,
		} {
			if is {
				t.Errorf("the row of %q lacks %s", row.Action, lacks)
			}
		}
	}
	slices.Sort(constants)
	slices.Sort(rows)
	if !slices.Equal(constants, rows) || len(rows) < 11 {
		t.Errorf("the actions are %q, and rows are there for %q", constants, rows)
	}
}

// The phases, in their order.
func TestPhases(t *testing.T) {
	t.Parallel()
	want := []plan.Phase{"backup", "etcd-certificates", "etcd", "pre-phase", "renew-certs", "api-server", "kubelet-bootstrap", "kubelets", "upgrade-cluster", "cluster"}
	if got := plan.Phases(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
