package diagnosis

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// declared reads the reason codes from the source, so that a new one cannot be forgotten in the
// table.
func declared(t *testing.T) []Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
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

// Every reason has a severity, a meaning and a next step: others build on the codes, and users act
// on the texts.
func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	all := declared(t)
	if len(all) < 20 {
		t.Fatalf("only %d reason codes found in reason.go: %v", len(all), all)
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
		if r.Area() == "" {
			t.Errorf("%s is of no area", r)
		}
	}
	if want := Reasons(); len(all) != len(want) {
		t.Errorf("%d codes are declared, %d explained", len(all), len(want))
	}
	for _, r := range Reasons() {
		if !slices.Contains(all, r) {
			t.Errorf("the table explains %q, which no constant names", r)
		}
	}
}

// The order of the table is what "cause before symptom" means: no code has two places, a cause is
// above its consequences, and what forbids a change above all that does not, so that the primary
// finding explains why a run is refused.
func TestTableIsInOrder(t *testing.T) {
	t.Parallel()
	blocks, critical := true, true
	for i, row := range table {
		if ranks[row.reason] != i {
			t.Errorf("%s stands at %d and at %d", row.reason, i, ranks[row.reason])
		}
		if row.blocks && !blocks {
			t.Errorf("%s forbids any change, and stands below what does not", row.reason)
		}
		if row.blocks && row.severity != Critical {
			t.Errorf("%s forbids any change, and is no more than a %s", row.reason, row.severity)
		}
		if row.area == Advice && row.severity == Critical {
			t.Errorf("%s is critical, and no more than advice", row.reason)
		}
		blocks, critical = row.blocks, critical && row.area != Advice
		if row.area != Advice && !critical {
			t.Errorf("%s is more than advice, and stands below it", row.reason)
		}
	}
	for symptom, may := range consequences {
		for _, cause := range slices.Concat(may.node, may.anywhere) {
			if ranks[cause] >= ranks[symptom] {
				t.Errorf("%s is printed to bring about %s, which stands above it", cause, symptom)
			}
		}
	}
}

// Whatever kept a node from being inspected blocks a change.
func TestEveryFailureBlocks(t *testing.T) {
	t.Parallel()
	for _, k := range []snapshot.FailureKind{snapshot.Unreachable, snapshot.Privilege, snapshot.Garbled, snapshot.Failed, snapshot.Missing} {
		if r := failureReasons[k]; !r.Blocks() {
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
			`{"reason":"ca-expired","severity":"critical","node":"cp1","subject":"ca","title":"a CA has expired","evidence":"ended","next":"if its key is on a node, kscertctl run -i INVENTORY re-issues it with that key; if the key is lost, replace the CA and everything that it signed: kscertctl ca rotate -i INVENTORY --strategy offline"}`,
		},
		{
			"a consequence names its cause, and the next step the node", Finding{Reason: NodeNotReady, Node: "w1", Subject: "worker-1", Because: KubeletDown},
			`{"reason":"node-not-ready","severity":"critical","node":"w1","subject":"worker-1","title":"the node is not Ready","because":"kubelet-down","next":"read: kubectl describe node worker-1, and journalctl -u kubelet on it"}`,
		},
		{
			"empty ones are left out", Finding{Reason: StaticPodNotReady},
			`{"reason":"static-pod-not-ready","severity":"warning","title":"a control plane component is not Ready","next":"read its log: crictl logs $(crictl ps -a -q --name SUBJECT | head -n 1) on NODE"}`,
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

// A run replaces a kubelet's pair that cannot be read: no one has to inspect the file first, and
// openssl prints nothing for an empty one.
func TestNextOfAKubeletsPair(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"/var/lib/kubelet/pki/kubelet-client-current.pem": "renew it: kscertctl run",
		"kubelet-client-current.pem":                      "renew it: kscertctl run",
		"/etc/kubernetes/ssl/apiserver.crt":               CertificateUnreadable.Next(),
	} {
		if got := (Finding{Reason: CertificateUnreadable, Node: "w1", Subject: subject}).Next(); got != want {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
}

// Names in the next step are words of a shell, whatever they contain.
func TestNextQuotes(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		f    Finding
		want string
	}{
		{Finding{Reason: NodeUnreachable, Node: "cp1.example"}, " INVENTORY cp1.example -m "},
		{Finding{Reason: NodeUnreachable, Node: "x; id #\n"}, " INVENTORY 'x; id #\ufffd' -m "},
		{Finding{Reason: NodeNotReady, Node: "a", Subject: "NODE$(id)"}, " node 'NODE$(id)', "},
	} {
		if got := row.f.Next(); !strings.Contains(got, row.want) {
			t.Errorf("no %q in %q", row.want, got)
		}
	}
}

// A name that a node has chosen becomes no option of a command that is to be typed.
func TestNextHasNoOptionOfANode(t *testing.T) {
	t.Parallel()
	for _, r := range Reasons() {
		for _, f := range []Finding{{Reason: r, Subject: "--evil"}, {Reason: r, Node: "--evil"}} {
			if strings.Contains(f.Next(), "--evil") {
				t.Errorf("%s: %s", r, f.Next())
			}
		}
		if f := (Finding{Reason: r, Node: "node-x", Subject: "subject-x"}); strings.Contains(f.Next(), "SUBJECT") || strings.Contains(r.Next(), "NODE ") && !strings.Contains(f.Next(), "node-x") {
			t.Errorf("%s: %s", r, f.Next())
		}
	}
}
