package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testhostile"
	"github.com/infrapuzzle/kscertctl/internal/testruns"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// commandsOf are command lines that ask no node: they show what others reported, or their own
// arguments.
func commandsOf(saved, state, text string) [][]string {
	out := [][]string{
		{"runs", "list", "--state-dir", state}, {"status", "--state-dir", state}, {"status", text, "--state-dir", state},
		{"fleet", "check", text}, {"fleet", "check", "-f", "no-file" + text}, {"fleet", "check", "--selector", text},
		{"fleet", "check", "-f", filepath.Join(state, "fleet.yaml")}, {"fleet", "check", "-f", filepath.Join(state, "fleet.yaml"), "-o", "html"},
		{"explain", text}, {"apply", "no-file" + text}, {"diagnose", "--" + text}, {"config", "show", text}, {text},
		{"report", "-o", text}, {"report", "--report-dir", filepath.Join(state, "reports"), "--state-dir", state},
		{"__complete", "status", "--state-dir", state, ""}, {"__complete", "rollback", "--state-dir", state, "--node", ""},
	}
	for _, format := range runFormats() {
		out = append(out, []string{"report", "-o", format, "--state-dir", state})
	}
	for _, format := range formatNames(checkFormats()) {
		out = append(out, []string{"check", "--from-snapshot", saved, "-o", format})
	}
	for _, command := range [][]string{{"diagnose"}, {"diagnose", "--runbook"}, {"diagnose", "-o", "json"}, {"plan"}, {"plan", "-o", "json"}} {
		out = append(out, append(command, "--from-snapshot", saved))
	}
	return out
}

// hostileCommands writes the records of hostile nodes, and returns the commands that show them.
func hostileCommands(t *testing.T, text string) [][]string {
	t.Helper()
	dir := t.TempDir()
	expired := tc.On("cp1", tc.Expired(tc.Kinds(tc.Healthy(tc.Single()).Nodes[0])...), tc.CrashLoop(), tc.Refused())
	lost := tc.On("w1", tc.Unknown(snapshot.Unreachable, "ssh: no route"))
	var commands [][]string
	for i, edit := range []tc.Edit{expired, lost} {
		s := tc.Healthy(tc.Single(), edit)
		testhostile.Put(text, true, &s)
		saved := filepath.Join(dir, fmt.Sprintf("%d.json", i))
		if err := snapshot.Save(saved, s); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, commandsOf(saved, dir, text)...)
	}
	h := testruns.FailedGate()
	id := h.ID
	testhostile.Put(text, false, &h)
	h.ID = id // the name of a directory
	for i := range h.Entries {
		if h.Entries[i].Run != "" {
			h.Entries[i].Run = id
		}
	}
	testruns.Write(t, dir, h)
	// An invalid name, and one of an inventory that does not exist.
	file := fmt.Sprintf("clusters:\n- {name: a, inventories: %q}\n- {name: %q, inventories: b, labels: {%[2]q: %[2]q}, wave: %[2]q}\n", "/no"+text, text)
	if err := os.WriteFile(filepath.Join(dir, "fleet.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return commands
}

// checkCommand checks that a command prints something, and nothing that a terminal would interpret.
func checkCommand(t *testing.T, args []string) {
	t.Helper()
	var out, errs bytes.Buffer
	Main(args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	if out.Len()+errs.Len() == 0 {
		t.Errorf("%q shows nothing", args)
	}
	got := out.String()
	switch {
	case slices.Contains(args, "ics"):
		got = strings.ReplaceAll(got, "\r\n", "\n")
	case slices.Contains(args, "json") && out.Len() > 0:
		if err := json.Unmarshal(out.Bytes(), new(any)); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	if line := testhostile.Invisible(strings.ReplaceAll(got+errs.String(), "\t", "")); line != "" {
		t.Errorf("%q: %q", args, line)
	}
}

// Whatever nodes and arguments contain, no command prints anything that a terminal would interpret.
func TestCommandsOfHostileNodes(t *testing.T) {
	t.Parallel()
	all := strings.Join(testhostile.Texts(), "")
	for _, text := range []string{all, "x", "\x1b[31m\x1b]0;title\x07", "\n", "\u202e\u200b", "\xff\u009b31m"} {
		for _, args := range hostileCommands(t, text) {
			checkCommand(t, args)
		}
	}
}

func FuzzCommands(f *testing.F) {
	for i, text := range testhostile.Texts() {
		f.Add(text, uint(i))
	}
	f.Fuzz(func(t *testing.T, text string, which uint) {
		commands := hostileCommands(t, text)
		checkCommand(t, commands[which%uint(len(commands))])
	})
}

// ours are the sequences that a screen prints: colors, and erasing the status line.
var ours = regexp.MustCompile("\x1b\\[(2|1;31|32|33|0)m|\r\x1b\\[K")

// Progress on a terminal has our colors, and no sequences of anyone else.
func TestProgressOfHostileNodes(t *testing.T) {
	t.Parallel()
	const text = "x\x1b[32m\x1b[2J\r\u009b31m\u202e\nfake: done"
	for _, variable := range []string{"", "GITHUB_ACTIONS", "GITLAB_CI"} {
		var out bytes.Buffer
		s := newScreen(&out, func(name string) string { return map[bool]string{true: "true"}[name == variable] })
		if variable == "" {
			s.color, s.width = true, func() int { return 200 }
		}
		p := newProgress(Streams{Err: s})
		step := &plan.Step{ID: "02-renew" + text, Title: text, Nodes: []string{text}}
		for _, kind := range []orchestrator.EventKind{
			orchestrator.EventBegin, orchestrator.EventInspected, orchestrator.EventDiagnosis, orchestrator.EventStepBegin, orchestrator.EventTaskBegin,
			orchestrator.EventTask, orchestrator.EventGate, orchestrator.EventStepEnd, orchestrator.EventNotice, orchestrator.EventEnd,
		} {
			p.event(orchestrator.Event{
				Kind: kind, Step: step, Message: text, Node: text, Task: text, Status: "failed", Time: time.Unix(1, 0),
				Diagnosis: &diagnosis.Diagnosis{Verdict: text}, Unmet: []gate.Unmet{{Node: text, What: text, Evidence: text}},
			})
		}
		printError(s, &orchestrator.Error{Summary: text, Evidence: text, Hint: text, Next: text, Err: errors.New(text)})
		s.clear()
		got := out.String()
		if variable == "GITLAB_CI" { // its own marks
			got = regexp.MustCompile("\x1b\\[0Ksection_(start|end):1:[^\r\n]*\r\x1b\\[0K").ReplaceAllString(got, "")
		}
		if line := testhostile.Invisible(ours.ReplaceAllString(got, "")); line != "" {
			t.Errorf("%s: %q", variable, line)
		}
		if strings.Contains(got, "\nfake: done") || strings.Contains(got, "x\x1b[32m") {
			t.Errorf("%s: %q", variable, got)
		}
	}
}
