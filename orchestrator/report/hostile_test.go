package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	ics "github.com/arran4/golang-ical"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
	"mvdan.cc/sh/v3/syntax"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testhostile"
	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// hostileSnapshot is one of runbooks(), with what follows from it, and then the text in it.
func hostileSnapshot(name, text string, sans bool) (snapshot.Snapshot, report.Assessment) {
	s := runbooks()[name]()
	a := assess(s)
	testhostile.Put(text, sans, &s, &a)
	return s, a
}

// hostileOutputs are all outputs about a snapshot, by name.
func hostileOutputs(name, text string, sans bool) map[string]func(io.Writer) error {
	s, a := hostileSnapshot(name, text, sans)
	r := expiry.Of(s, expiry.DefaultThresholds())
	f := expiry.OfFleet(s.Taken, 4, []expiry.Member{
		{Name: "one" + text, Labels: map[string]string{"env" + text: "prod" + text}, ExitCode: 4, Error: text, Next: text, Report: &r}, {Name: "two" + text, Error: text},
	})
	p := run.Proposal{Diagnosis: a.Diagnosis, Plan: a.Plan, Snapshot: s}
	p.Request.Limit = []string{"w1" + text}
	return map[string]func(io.Writer) error{
		"runbook":    func(w io.Writer) error { return report.Runbook(w, s, a, hand) },
		"diagnosis":  func(w io.Writer) error { return a.Text(w) },
		"plan":       func(w io.Writer) error { return report.Plan(w, a.Plan) },
		"proposed":   func(w io.Writer) error { return report.Proposed(w, p, "", "") },
		"kept plan":  func(w io.Writer) error { return report.Proposed(w, p, "plan"+text, "digest"+text) },
		"expiry":     func(w io.Writer) error { return report.Expiry(w, s) },
		"notes":      func(w io.Writer) error { return report.Notes(w, []string{text}) },
		"table":      func(w io.Writer) error { return report.ExpiryTable(w, r, 80) },
		"wide":       func(w io.Writer) error { return report.ExpiryWide(w, r) },
		"nagios":     func(w io.Writer) error { return report.ExpiryNagios(w, r) },
		"ics":        func(w io.Writer) error { return report.ExpiryCalendar(w, r) },
		"prometheus": func(w io.Writer) error { return report.ExpiryPrometheus(w, r) },
		"junit": func(w io.Writer) error {
			return report.ExpiryJUnit(w, r, func(l expiry.Level) bool { return l >= expiry.LevelWarning })
		},
		"fleet.run": report.FleetRun{Fleet: text, Clusters: []report.FleetCluster{
			{Name: "a" + text, Wave: text, Run: text, Error: text}, {Name: "b" + text, Reason: text, Verdict: text, State: report.FleetPlanned, Opens: s.Taken},
		}}.Text,
		"fleet.table":      func(w io.Writer) error { return report.FleetTable(w, f) },
		"fleet.wide":       func(w io.Writer) error { return report.FleetWide(w, f) },
		"fleet.html":       func(w io.Writer) error { return report.FleetHTML(w, f) },
		"fleet.ics":        func(w io.Writer) error { return report.FleetCalendar(w, f) },
		"fleet.prometheus": func(w io.Writer) error { return report.FleetPrometheus(w, f) },
		"fleet.json":       func(w io.Writer) error { return report.FleetJSON(w, f) },
		"fleet.junit": func(w io.Writer) error {
			return report.FleetJUnit(w, f, func(_ string, l expiry.Level) bool { return l >= expiry.LevelWarning })
		},
		"json": func(w io.Writer) error { return report.JSON(w, a) },
		"yaml": func(w io.Writer) error { return report.YAML(w, a) },
	}
}

// hostileRunOutputs are all outputs about runs.
func hostileRunOutputs(text string) map[string]func(io.Writer) error {
	h := testruns.FailedGate()
	testhostile.Put(text, false, &h)
	h.State = run.Journal{Entries: h.Entries}.State()
	r := report.OfRun(h)
	out := map[string]func(io.Writer) error{
		"runs list": report.List([]run.Record{h.Record}).Text,
		"status":    report.Status(h.Record, *h.Proposal).Text,
		"backups":   report.Backups{Backups: h.Backups}.Text,
		"requests": func(w io.Writer) error {
			return report.Requests(w, text, plan.Requests{Requests: []plan.Request{{Request: text, CA: certs.Authority(text), Subject: text}}})
		},
	}
	for _, f := range report.RunFormats() {
		name := f.Name
		if name != "html" && name != "markdown" {
			name = "run." + name
		}
		out[name] = func(w io.Writer) error { return f.Write(w, r) }
	}
	return out
}

// readable returns why a program could not read a format; nil for one that people read.
func readable(format, text string) error {
	switch strings.TrimPrefix(format, "fleet.") {
	case "json", "run.json":
		return json.Unmarshal([]byte(text), new(any))
	case "yaml":
		return yaml.Unmarshal([]byte(text), new(any))
	case "junit", "run.junit":
		return xml.Unmarshal([]byte(text), new(struct{}))
	case "prometheus":
		_, err := new(expfmt.NewTextParser(model.UTF8Validation)).TextToMetricFamilies(strings.NewReader(text))
		return err
	case "ics":
		_, err := ics.ParseCalendar(strings.NewReader(text))
		return err
	}
	return nil
}

func checkOutputs(t *testing.T, outputs map[string]func(io.Writer) error) {
	t.Helper()
	for name, write := range outputs {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := out.String()
		if strings.HasSuffix(name, "ics") {
			text = strings.ReplaceAll(text, "\r\n", "\n")
		}
		if strings.HasSuffix(name, "junit") {
			text = regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(text, "") // its indentation
		}
		if line := testhostile.Invisible(text); line != "" {
			t.Errorf("%s: %q", name, line)
		}
		if err := readable(name, out.String()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shape is a shell's view of a script, without the words themselves: how many words each command
// has, how many lines each here-document, and the same for the arguments of "sh -c" and "ansible
// -a".
func shape(t *testing.T, script string) string {
	t.Helper()
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(script), "")
	if err != nil {
		t.Fatalf("%v in\n%s", err, script)
	}
	var out strings.Builder
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			fmt.Fprintf(&out, " call:%d", len(n.Args))
			if last := len(n.Args) - 1; last > 1 && slices.Contains([]string{"-c", "-a"}, n.Args[last-1].Lit()) {
				fmt.Fprintf(&out, " (%s )", shape(t, unquoted(t, n.Args[last])))
			}
		case *syntax.ForClause:
			if words, ok := n.Loop.(*syntax.WordIter); ok {
				fmt.Fprintf(&out, " for:%d", len(words.Items))
			}
		case *syntax.Redirect:
			out.WriteString(" redirect" + n.Op.String())
			if n.Hdoc != nil {
				fmt.Fprintf(&out, ":%d", strings.Count(unquoted(t, n.Hdoc), "\n"))
			}
		case *syntax.CmdSubst, *syntax.ParamExp, *syntax.ArithmExp, *syntax.ProcSubst, *syntax.Assign:
			fmt.Fprintf(&out, " %T", n)
		}
		return true
	})
	return out.String()
}

// unquoted is a word of literals, as a command gets it.
func unquoted(t *testing.T, w *syntax.Word) string {
	t.Helper()
	var out strings.Builder
	for _, part := range w.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			out.WriteString(strings.ReplaceAll(part.Value, `\'`, `'`))
		case *syntax.SglQuoted:
			out.WriteString(part.Value)
		default:
			t.Fatalf("a %T where only literals belong", part)
		}
	}
	return out.String()
}

// shapes are those of the blocks of a runbook.
func shapes(t *testing.T, s snapshot.Snapshot, a report.Assessment) []string {
	t.Helper()
	var out bytes.Buffer
	ok(t, report.Runbook(&out, s, a, hand))
	var all []string
	for _, block := range blocks.FindAllStringSubmatch(out.String(), -1) {
		all = append(all, shape(t, block[1]))
	}
	return all
}

// checkRunbook: whatever nodes report, a shell sees the same commands as for harmless text, or
// none.
func checkRunbook(t *testing.T, name, text string, sans bool) {
	t.Helper()
	var want []string
	// A known text, an unknown one, and one that changes an address.
	for _, plain := range []string{"", "x", "0"} {
		s, a := hostileSnapshot(name, plain, sans)
		want = append(want, shapes(t, s, a)...)
	}
	s, a := hostileSnapshot(name, text, sans)
	got := shapes(t, s, a)
	if strings.ContainsAny(text, "./") { // which make one path of two
		for _, all := range [][]string{got, want} {
			for i := range all {
				all[i] = lists.ReplaceAllString(all[i], "for")
			}
		}
	}
	for _, got := range got {
		if !slices.Contains(want, got) {
			t.Errorf("%s: a block has the shape %s, not one of\n%s", name, got, strings.Join(want, "\n"))
		}
	}
}

// lists are the numbers of words that a loop iterates over.
var lists = regexp.MustCompile(`for:\d+`)

func FuzzOutputs(f *testing.F) {
	for i, text := range testhostile.Texts() {
		f.Add(text, i, i%2 == 0)
	}
	names := slices.Sorted(maps.Keys(runbooks()))
	f.Fuzz(func(t *testing.T, text string, which int, sans bool) {
		name := names[uint(which)%uint(len(names))]
		checkRunbook(t, name, text, sans)
		checkOutputs(t, hostileOutputs(name, text, sans))
		checkOutputs(t, hostileRunOutputs(text))
	})
}

// A runbook for hostile nodes is valid shell.
func TestRunbookOfHostileNodesIsShell(t *testing.T) {
	t.Parallel()
	seen := 0
	for name := range runbooks() {
		var script strings.Builder
		for _, text := range testhostile.Texts() {
			s, a := hostileSnapshot(name, text, false)
			var out bytes.Buffer
			ok(t, report.Runbook(&out, s, a, hand))
			for _, block := range blocks.FindAllStringSubmatch(out.String(), -1) {
				seen++
				script.WriteString(block[1])
			}
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-n")
		cmd.Stdin = strings.NewReader(script.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	if seen < 200 {
		t.Errorf("only %d blocks were shown", seen)
	}
}

// If a node reports what cannot be typed, there are no commands for it, and that is reported.
func TestRunbookRefuses(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]tc.NodeEdit{
		"line end in a name":        func(n *snapshot.Node) { n.KubernetesName = "w1\nid" },
		"escape in a path":          func(n *snapshot.Node) { n.Facts["kubelet-dir"] = "/var/lib/\x1b[31m" },
		"a flag for a path":         func(n *snapshot.Node) { n.Facts["kubelet-dir"] = "-rf" },
		"name of a certificate":     func(n *snapshot.Node) { eachSAN(n, "a,IP:10.9.9.9") },
		"expression in a name":      func(n *snapshot.Node) { eachSAN(n, "$ENV::HOME") },
		"a flag for a file of etcd": func(n *snapshot.Node) { eachEtcdFile(n, "/etc/ssl/etcd/ssl/-f.pem") },
	} {
		s := allExpired(tc.Single())
		a := assess(s)
		tc.Everywhere(edit)(&s)
		var out bytes.Buffer
		ok(t, report.Runbook(&out, s, a, hand))
		if !strings.Contains(out.String(), ", not shown\n") || strings.Contains(out.String(), "\nid\n") {
			t.Errorf("%s:\n%s", name, out.String())
		}
	}
}

// Text of a node is no expression for Ansible, which would evaluate it on the control node.
func TestRunbookHasNothingEvaluated(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"{{ lookup('pipe', 'id') }}", "{% for x in y %}", "{# x #}", "{"} {
		s := runbooks()["renew-worker"]()
		a := assess(s)
		tc.Everywhere(func(n *snapshot.Node) { n.KubernetesName = text })(&s)
		var out bytes.Buffer
		ok(t, report.Runbook(&out, s, a, hand))
		if text == "{" { // which is nothing to Ansible
			if !strings.Contains(out.String(), "node/{") {
				t.Errorf("%s is not shown:\n%s", text, out.String())
			}
			continue
		}
		if strings.Contains(out.String(), text) || !strings.Contains(out.String(), "gate kubelets, not shown\n") {
			t.Errorf("%s:\n%s", text, out.String())
		}
	}
}

func eachSAN(n *snapshot.Node, name string) {
	for i := range n.Certificates {
		n.Certificates[i].SANs = []string{name}
	}
}

func eachEtcdFile(n *snapshot.Node, path string) {
	for i, c := range n.Certificates {
		if c.Kind == certs.KindEtcdMember && !c.Served {
			n.Certificates[i].Path = path
		}
	}
}

// Text of a node is text of the sed script, not a part of it.
func TestRunbookKeepsTextApart(t *testing.T) {
	t.Parallel()
	s := allExpired(tc.Single())
	a := assess(s)
	tc.Everywhere(func(n *snapshot.Node) {
		for _, path := range []string{"/root/.kube/config", "/etc/kubernetes/kubelet.conf"} {
			n.Kubeconfigs = append([]snapshot.Kubeconfig{{Path: path, Server: `https://x|e;a&\1" # $(id)`}}, n.Kubeconfigs...)
		}
		for i := range n.Certificates {
			if n.Certificates[i].Kind == certs.KindKubeletClient {
				kubeconf := n.Certificates[i]
				kubeconf.Kind = certs.KindKubeletConf
				n.Certificates = append(n.Certificates, kubeconf)
			}
		}
		n.Facts["kubelet-dir"] = "/var/lib/a|b&c"
	})(&s)
	a.Due["cp1"] = append(a.Due["cp1"], "root-kubeconfig")
	var out bytes.Buffer
	ok(t, report.Runbook(&out, s, a, hand))
	for _, want := range []string{
		`kubectl config set-credentials "$user" --kubeconfig /root/.kube/config --embed-certs `,
		`client-key: /var/lib/a\|b\&c/kubelet-client-current.pem|'`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	// Root's kubeconfig may hold other users and clusters: it is not overwritten.
	if text := out.String(); strings.Contains(text, "install ") || strings.Contains(text, "$(id)") {
		t.Errorf("root's kubeconfig is replaced, or a server is reported:\n%s", text)
	}
}

// In a runbook and in a report a node's text is no link, no markup and no heading.
func TestMarkdownOfHostileNodes(t *testing.T) {
	t.Parallel()
	const text = "<b>x</b> [a](http://evil.example) http://evil.example www.evil.example # x - y `z`"
	for name, write := range map[string]func(io.Writer) error{
		"refuse": func(w io.Writer) error {
			s, a := hostileSnapshot("refuse", text, true)
			return report.Runbook(w, s, a, hand)
		},
		"recover": func(w io.Writer) error {
			s, a := hostileSnapshot("recover-host-etcd", text, false)
			return report.Runbook(w, s, a, hand)
		},
		"report": hostileRunOutputs(text)["markdown"],
	} {
		var out bytes.Buffer
		ok(t, write(&out))
		code := false
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			if code || strings.HasPrefix(line, "    ") {
				continue
			}
			prose := spans.ReplaceAllString(strings.TrimRight(line, "\n"), "")
			for _, bad := range []string{" <b>", " [a]", " http://", " www.e", " # x", "`z`"} {
				if strings.Contains(" "+prose, bad) {
					t.Errorf("%s: %s in %q", name, bad, line)
				}
			}
			if strings.HasPrefix(prose, "- y") {
				t.Errorf("%s: a list: %q", name, line)
			}
		}
	}
}

// JSON and YAML lose nothing of a node's text.
func TestJSONAndYAMLAreWhole(t *testing.T) {
	t.Parallel()
	for _, text := range testhostile.Texts() {
		want := map[string]string{"key" + strings.ToValidUTF8(text, "\ufffd"): strings.ToValidUTF8(text, "\ufffd")}
		for format, of := range map[string]struct {
			write func(io.Writer, any) error
			read  func([]byte, any) error
		}{"json": {report.JSON, json.Unmarshal}, "yaml": {report.YAML, yaml.Unmarshal}} {
			var out bytes.Buffer
			ok(t, of.write(&out, map[string]string{"key" + text: text}))
			got := map[string]string{}
			if err := of.read(out.Bytes(), &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s of %q: %v: %q in %s", format, text, err, got, out.String())
			}
		}
	}
}

// spans are pieces of code within a line.
var spans = regexp.MustCompile("`[^`]*`")
