package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func TestCode(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		err  error
		want ExitCode
	}{
		{"no error", nil, ExitDone},
		{"one of ours", &Error{Code: ExitRefused}, ExitRefused},
		{"one of ours, wrapped", fmt.Errorf("outer: %w", &Error{Code: ExitStopped}), ExitStopped},
		{"cancelled", fmt.Errorf("outer: %w", context.Canceled), ExitInterrupted},
		{"ours, about a cancellation", &Error{Code: ExitStopped, Err: context.Canceled}, ExitStopped},
		{"anything else", errors.New("boom"), ExitUnexpected},
	} {
		if got := Code(row.err); got != row.want {
			t.Errorf("%s: %d, want %d", row.name, got, row.want)
		}
	}
}

// The numbers are a contract: others check for them.
func TestExitCodesStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	for code, want := range map[ExitCode]int{
		ExitDone: 0, ExitUnexpected: 1, ExitWarning: 2, ExitCritical: 3, ExitUnreachable: 4, ExitRefused: 5, ExitNotBegun: 7, ExitStopped: 8, ExitLocked: 6, ExitRolledBack: 9, ExitNotApproved: 10, ExitUsage: 64, ExitInterrupted: 130,
	} {
		if int(code) != want {
			t.Errorf("%d was %d", code, want)
		}
	}
}

// What a code means follows from its row, as its text has it.
func TestExitCodesMean(t *testing.T) {
	t.Parallel()
	var final []ExitCode
	for _, m := range ExitCodes() {
		says := strings.HasSuffix(m.Meaning, "nothing was changed") || strings.Contains(m.Meaning, "before any change")
		if says != m.Untouched {
			t.Errorf("%d: untouched is %t: %s", m.Code, m.Untouched, m.Meaning)
		}
		if got, is := m.Code.Means(); got != m || !is {
			t.Errorf("%d: %+v", m.Code, got)
		}
		if m.Final {
			final = append(final, m.Code)
		}
	}
	if want := []ExitCode{ExitRefused, ExitNotBegun, ExitRolledBack, ExitNotApproved, ExitUsage}; !slices.Equal(final, want) {
		t.Errorf("final are %v", final)
	}
	if m, is := ExitCode(42).Means(); is || m.Untouched || m.Final {
		t.Errorf("an unknown code: %+v", m)
	}
}

func TestPreflightError(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		err  error
		code ExitCode
		next string
	}{
		{"an inventory", &ansible.InventoryError{Path: "x", Detail: "it does not exist"}, ExitUsage, "name an existing inventory with -i"},
		{"an empty inventory", fmt.Errorf("x: %w", cluster.ErrEmpty), ExitUsage, "groups kube_control_plane"},
		{"no control plane", fmt.Errorf("x: %w", cluster.ErrNoControlPlane), ExitUsage, "groups kube_control_plane"},
		{"no Ansible", &ansible.NotInstalledError{Command: "ansible-playbook", Err: os.ErrNotExist}, ExitNotBegun, "apt-get install ansible-core"},
		{"an old Ansible", &ansible.VersionError{Found: "2.9.6"}, ExitNotBegun, "install a newer ansible-core"},
		{"cancelled", fmt.Errorf("x: %w", context.Canceled), ExitInterrupted, "nothing was changed"},
		{"cancelled while Ansible stated its version", &ansible.NotInstalledError{Err: context.Canceled}, ExitInterrupted, "nothing was changed"},
		{"anything else", errors.New("boom"), ExitNotBegun, "nothing was changed"},
	} {
		e := preflightError(row.err)
		if e.Code != row.code || !strings.Contains(e.Next, row.next) || e.Summary == "" || !errors.Is(e, row.err) {
			t.Errorf("%s: %+v", row.name, e)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit tc.Edit
		code ExitCode // 0: the route can be taken
		next string
	}{
		{"healthy", nil, 0, ""},
		{"due", tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)), 0, ""},
		{"out, explained", tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired)), 0, ""},
		{"out, not explained", tc.On("cp1", tc.Refused()), ExitRefused, "find out why it is not started"},
		{"an expired authority", tc.On("cp1", tc.Expired(certs.KindCA)), ExitRefused, "--strategy offline"},
		{"an unreachable node", tc.On("w1", tc.Unknown(snapshot.Unreachable, "gone")), ExitUnreachable, "ansible -i INVENTORY w1"},
		{"no root", tc.On("w1", tc.Unknown(snapshot.Privilege, "sudo: no")), ExitNotBegun, "ansible_become_password"},
		{"a garbled answer", tc.On("w1", tc.Unknown(snapshot.Garbled, "cut")), ExitNotBegun, "log of the inspection"},
		{"no kubeadm", tc.On("cp1", func(n *snapshot.Node) { delete(n.Facts, "kubeadm") }), ExitNotBegun, "bin_dir"},
		{"no kubeadm configuration", tc.On("cp1", func(n *snapshot.Node) { delete(n.Facts, "kubeadm-config") }), ExitNotBegun, "kubeadm-config.yaml"},
		{"a wrong clock", tc.On("w1", func(n *snapshot.Node) { n.Clock = n.Clock.Add(time.Hour) }), ExitRefused, "set the clock"},
		{"a full disk", tc.On("w1", func(n *snapshot.Node) { n.Disks["/var"] = snapshot.Disk{SizeKiB: 100} }), ExitNotBegun, "du -xh /var"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(tc.Single())
			if row.edit != nil {
				row.edit(&s)
			}
			d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
			e := refusal(d, plan.Plan{}, true)
			if row.code == 0 {
				if e != nil {
					t.Errorf("refused: %+v", e)
				}
				return
			}
			if e == nil || e.Code != row.code || e.Summary != d.Verdict || e.Reason != d.PrimaryReason || !strings.HasPrefix(e.Next, "nothing was changed. ") || !strings.Contains(e.Next, row.next) {
				t.Errorf("got %+v, want code %d and %q", e, row.code, row.next)
			}
		})
	}
}

func TestStepError(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("one\n\nERROR! the playbook could not be found\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := &ansible.RunError{Playbook: "pre-phase.yml", Reason: "failed on cp1", Failures: []ansible.Event{{
		Host: "cp1", Task: &ansible.Task{Name: "Renew", Path: "main.yml:2"}, Evidence: &ansible.Evidence{Stderr: "kscertctl: no room\nat all", Msg: "non-zero return code"},
	}}}
	unreachable := &ansible.RunError{Reason: "could not reach cp1", Unreachable: []string{"cp1"}, Log: log}
	timeout := &gate.TimeoutError{Gate: plan.APIServerGate, Timeout: time.Minute, Unmet: []gate.Unmet{{Node: "cp1", What: "must answer", Evidence: "no"}, {What: "and more"}}}
	for _, row := range []struct {
		name    string
		err     error
		changed bool
		code    ExitCode
		summary string
		text    string // evidence
	}{
		{"a task failed before any change", failed, false, ExitNotBegun, "step 02-pre-phase-cp1: failed on cp1", "cp1, task \"Renew\" (main.yml:2)\n  kscertctl: no room\n  at all"},
		{"a task failed after a change", failed, true, ExitStopped, "step 02-pre-phase-cp1: failed on cp1", "cp1, task"},
		{"a node is lost before any change", unreachable, false, ExitUnreachable, "step 02-pre-phase-cp1: could not reach cp1", "one\nERROR! the playbook could not be found"},
		{"a node is lost after a change", unreachable, true, ExitStopped, "could not reach cp1", ""},
		{"a gate did not hold", timeout, true, ExitStopped, "step 02-pre-phase-cp1: the gate did not pass within 1m0s", "cp1: must answer (no)\nand more"},
		{"interrupted before any change", fmt.Errorf("x: %w", context.Canceled), false, ExitInterrupted, "interrupted in step 02-pre-phase-cp1", ""},
		{"interrupted after a change", fmt.Errorf("x: %w", context.Canceled), true, ExitInterrupted, "interrupted in step 02-pre-phase-cp1", ""},
		{"a full disk", errors.New("writing the journal: no space"), true, ExitStopped, "step 02-pre-phase-cp1 stopped: writing the journal", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := session{Orchestrator: &Orchestrator{opts: Options{StateDir: "/state", BackupRoot: "/var/backups"}}, dir: &run.Dir{ID: "1", Path: "/state/runs/1"}}
			e := s.stepError(row.err, plan.Step{ID: "02-pre-phase-cp1"}, row.changed)
			if e.Code != row.code || !strings.Contains(e.Summary, row.summary) || !strings.HasPrefix(e.Evidence, row.text) || !errors.Is(e, row.err) {
				t.Errorf("got %+v\nwant code %d, %q, %q", e, row.code, row.summary, row.text)
			}
			if strings.Contains(e.Next, "/var/backups/1") != row.changed || strings.Contains(e.Next, "nothing was changed") == row.changed {
				t.Errorf("changed %t, and next is %q", row.changed, e.Next)
			}
			for _, command := range []string{"kscertctl resume 1 --state-dir /state", "kscertctl rollback 1 --state-dir /state"} {
				if strings.Contains(e.Next, command) != row.changed {
					t.Errorf("changed %t, and next is %q: %s?", row.changed, e.Next, command)
				}
			}
			if !strings.Contains(e.Next, "/state/runs/1") {
				t.Errorf("the record is not named: %q", e.Next)
			}
		})
	}
}

// In a command to type next, each name is one word.
func TestCommandQuotes(t *testing.T) {
	t.Parallel()
	o := &Orchestrator{opts: Options{StateDir: "/my state/$(id)"}}
	if got, want := o.command("resume", "a; id"), "kscertctl resume 'a; id' --state-dir '/my state/$(id)'"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestEvidenceText(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		in   *ansible.Evidence
		want string
	}{
		{"none", nil, ""},
		{"censored", &ansible.Evidence{Censored: "no_log", Stderr: "secret"}, "(its output is censored: no_log; Kubespray shows it, secrets included, with -e unsafe_show_logs=true)"},
		{"standard error comes first", &ansible.Evidence{Msg: "non-zero return code", Stdout: "out", Stderr: "err"}, "err"},
		{"what ssh says at its end is no reason", &ansible.Evidence{Stderr: "Shared connection to cp1 closed.\r\n", Stdout: "out"}, "out"},
		{"a module that crashed", &ansible.Evidence{Msg: "MODULE FAILURE", ModuleStderr: "Traceback"}, "Traceback"},
		{"a message alone", &ansible.Evidence{Msg: "no one there"}, "no one there"},
		{"items of a loop", &ansible.Evidence{Items: []string{"one"}}, "one"},
		{"the last six lines", &ansible.Evidence{Stderr: "1\n2\n3\n4\n5\n6\n7\n"}, "2\n3\n4\n5\n6\n7"},
	} {
		if got := evidenceText(row.in); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// Messages of sudo, su, doas and Ansible's become plugins mean a missing privilege.
func TestFailureKind(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status, text string
		want         snapshot.FailureKind
	}{
		{"unreachable", "sudo: whatever", snapshot.Unreachable},
		{"failed", "sudo: a password is required", snapshot.Privilege},
		{"failed", "kube is not in the sudoers file.  This incident will be reported.", snapshot.Privilege},
		{"failed", "su: Authentication failure", snapshot.Privilege},
		{"failed", "doas: Operation not permitted", snapshot.Privilege},
		{"failed", "Missing sudo password", snapshot.Privilege},
		{"failed", "Incorrect become password", snapshot.Privilege},
		{"failed", "Timeout (12s) waiting for privilege escalation prompt: ", snapshot.Unreachable},
		{"unreachable", "Task failed: Timeout (5s) waiting for privilege escalation prompt:", snapshot.Unreachable},
		{"unreachable", "Task failed: Timed out waiting for become success or become password prompt.\n>>> Standard Error\n[sudo: [sudo via ansible, key=zyiuhxrq] password:] Password:", snapshot.Privilege},
		{"failed", "sudo: interactive authentication is required", snapshot.Privilege},
		{"failed", "sh: 1: awk: not found", snapshot.Failed},
		{"failed", "", snapshot.Failed},
	} {
		e := ansible.Event{Status: row.status, Evidence: &ansible.Evidence{Msg: row.text}}
		if got := failureKind(e); got != row.want {
			t.Errorf("%s, %q: %s, want %s", row.status, row.text, got, row.want)
		}
	}
}

// What is unknown about a node is reported, never left out.
func TestObserved(t *testing.T) {
	t.Parallel()
	n := cluster.Node{Name: "cp1"}
	for _, row := range []struct {
		name string
		in   ansible.Outcome
		want *snapshot.Failure
	}{
		{"an answer", ansible.Outcome{Payloads: map[string]string{"cp1": "@@KSCERT 3 1\n@@END\n"}}, nil},
		{"half an answer", ansible.Outcome{Payloads: map[string]string{"cp1": "@@KSCERT 3 1\n"}}, &snapshot.Failure{Kind: snapshot.Garbled, Message: snapshot.ErrTruncated.Error()}},
		{"an answer without words", ansible.Outcome{Stats: map[string]ansible.Stats{"cp1": {OK: 1}}}, &snapshot.Failure{Kind: snapshot.Garbled, Message: "its answer is empty"}},
		{"an answer that is too long", ansible.Outcome{Oversize: map[string]int{"cp1": 5 << 20}}, &snapshot.Failure{Kind: snapshot.Garbled, Message: "its answer was cut off: 5242880 bytes or more are too long for an event"}},
		{"a failure", ansible.Outcome{Failures: []ansible.Event{{Host: "w1"}, {Host: "cp1", Status: "unreachable", Evidence: &ansible.Evidence{Msg: "gone"}}}}, &snapshot.Failure{Kind: snapshot.Unreachable, Message: "gone"}},
		{"a failure without a word", ansible.Outcome{Failures: []ansible.Event{{Host: "cp1", Status: "failed"}}}, &snapshot.Failure{Kind: snapshot.Failed, Message: "Ansible gave no reason"}},
		{"nothing at all", ansible.Outcome{}, &snapshot.Failure{Kind: snapshot.Missing, Message: "Ansible returned no answer from it"}},
	} {
		got := observed(n, row.in)
		if got.Name != "cp1" || (got.Failure == nil) != (row.want == nil) || (got.Failure != nil && *got.Failure != *row.want) {
			t.Errorf("%s: %+v", row.name, got.Failure)
		}
	}
}

// Exit codes are ordered, and an unfinished change is never hidden.
func TestWorst(t *testing.T) {
	t.Parallel()
	var all []ExitCode
	for _, c := range ExitCodes() {
		all = append(all, c.Code)
		if got := Worst(ExitDone, c.Code); got != c.Code {
			t.Errorf("worst of done and %d: %d", c.Code, got)
		}
	}
	if len(worse) != len(all) || Worst(all...) != ExitStopped || Worst() != ExitDone || Worst(ExitCritical, ExitUnreachable) != ExitUnreachable {
		t.Errorf("%d of %d codes have a place; the worst is %d", len(worse), len(all), Worst(all...))
	}
}
