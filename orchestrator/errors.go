package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/hint"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// ExitCode is the contract with the caller of the command line.
type ExitCode int

// The exit codes; docs/reference/exit-codes.md.
const (
	ExitDone        ExitCode = 0   // done, or nothing to do
	ExitUnexpected  ExitCode = 1   // unexpected error
	ExitWarning     ExitCode = 2   // a certificate is past the warning threshold, or changes are needed
	ExitCritical    ExitCode = 3   // a certificate is expired or past the critical threshold
	ExitUnreachable ExitCode = 4   // nodes could not be reached
	ExitRefused     ExitCode = 5   // not a certificate problem, or acting would destroy something
	ExitLocked      ExitCode = 6   // another run holds the lock of the cluster
	ExitNotBegun    ExitCode = 7   // stopped before any change
	ExitStopped     ExitCode = 8   // stopped after a change; resume or roll back
	ExitRolledBack  ExitCode = 9   // failed, and rolled back
	ExitNotApproved ExitCode = 10  // no one approved
	ExitUsage       ExitCode = 64  // flags, settings, inventory or environment are wrong
	ExitInterrupted ExitCode = 130 // a signal or the caller stopped it
)

// ExitMeaning is what an exit code means.
type ExitMeaning struct {
	Code    ExitCode
	Meaning string
	// Untouched: the command has changed nothing.
	Untouched bool
	// Final: the same command would end the same again; others can be tried again, and what was stopped
	// after a change is resumed then.
	Final bool
}

// ExitCodes returns every exit code with its meaning, in order.
func ExitCodes() []ExitMeaning {
	return []ExitMeaning{
		{ExitDone, "done, or nothing to do", false, false},
		{ExitUnexpected, "unexpected error", false, false},
		{ExitWarning, "a certificate expires within the warning threshold; `plan --detailed-exitcode`: there is " +
			"something to do", false, false},
		{ExitCritical, "a certificate has expired, is not yet valid or expires within the critical threshold", false,
			false},
		{ExitUnreachable, "nodes could not be reached; nothing was changed", true, false},
		{ExitRefused, "refused: it is not a certificate problem, or a change would destroy something; nothing " +
			"was changed", true, true},
		{ExitLocked, "another run holds the lock of the cluster, or died while it held it; nothing was changed", true,
			false},
		{ExitNotBegun, "stopped before any change: a precondition is not met", true, true},
		{ExitStopped, "stopped after a change: continue with `resume`, or roll back with `rollback`", false, false},
		{ExitRolledBack, "failed after a change and rolled back, as `--rollback-on-failure` asks for; the nodes are " +
			"as they were", false, true},
		{ExitNotApproved, "the plan was not approved; nothing was changed", true, true},
		{ExitUsage, "flags, settings, inventory or checkout are wrong; nothing was changed", true, true},
		{ExitInterrupted, "interrupted by a signal", false, false},
	}
}

// Means is what the code means; of one that is not kscertctl's, nothing is known.
func (c ExitCode) Means() (ExitMeaning, bool) {
	for _, m := range ExitCodes() {
		if m.Code == c {
			return m, true
		}
	}
	return ExitMeaning{Code: c}, false
}

// worse are the exit codes by how much they matter for several clusters: first those that need no
// action, then what is known, what is unknown, and last an unfinished change.
var worse = []ExitCode{
	ExitDone, ExitWarning, ExitCritical, ExitNotApproved, ExitLocked, ExitNotBegun, ExitRefused, ExitUnreachable,
	ExitUsage, ExitUnexpected,
	ExitRolledBack, ExitInterrupted, ExitStopped,
}

// Worst returns the exit code for several results: the one that matters most.
func Worst(codes ...ExitCode) ExitCode {
	return slices.MaxFunc(append(codes, ExitDone), func(a, b ExitCode) int {
		return slices.Index(worse, a) - slices.Index(worse, b)
	})
}

// Error is what Orchestrator returns: what went wrong, and what to do next.
type Error struct {
	Code ExitCode
	// Summary is what went wrong and where.
	Summary string
	// Evidence is what was seen, in the words of its source; may be empty.
	Evidence string
	// Hint is the usual meaning of well-known evidence.
	Hint string
	// Next is what to do now.
	Next string
	// Reason is the corresponding reason code; may be empty.
	Reason diagnosis.Reason
	// Err is the cause; may be nil.
	Err error
}

func (e *Error) Error() string { return e.Summary }
func (e *Error) Unwrap() error { return e.Err }

// Code returns the exit code of an error.
func Code(err error) ExitCode {
	var e *Error
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &e):
		return e.Code
	case interrupted(err):
		return ExitInterrupted
	default:
		return ExitUnexpected
	}
}

// interrupted reports whether the caller's context stopped the work.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// preflightError converts errors of the tools that occur before any node is asked.
func preflightError(err error) *Error {
	var (
		inventory    *ansible.InventoryError
		notInstalled *ansible.NotInstalledError
		version      *ansible.VersionError
		argument     *ansible.ArgumentError
		password     *ansible.PasswordError
	)
	e := &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
		Next: "nothing was changed; correct this and run again"}
	e.Hint = hinted(err.Error())
	switch {
	case interrupted(err):
		e.Code, e.Summary = ExitInterrupted, "interrupted before any change"
	case errors.As(err, &inventory):
		e.Code = ExitUsage
		e.Next = "name an existing inventory with -i, and check it with: ansible-inventory -i INVENTORY --graph"
	case errors.Is(err, cluster.ErrEmpty), errors.Is(err, cluster.ErrNoControlPlane):
		e.Code = ExitUsage
		e.Next = "use the inventory the cluster was made with (groups kube_control_plane, kube_node, etcd), and " +
			"check it with: ansible-inventory -i INVENTORY --graph"
	case errors.As(err, &argument):
		e.Code, e.Next = ExitUsage, argument.Next
	case errors.As(err, &password):
		e.Code = ExitUsage
		e.Next = "give a file that only you can read, or a program that prints the password, with " + password.Instead
	case errors.As(err, &notInstalled):
		e.Next = "install ansible-core (Debian and Ubuntu: apt-get install ansible-core), or name its directory " +
			"with --ansible-bin"
	case errors.As(err, &version):
		e.Next = "install a newer ansible-core, or name the bin directory of a virtual environment that has one " +
			"with --ansible-bin"
	}
	return e
}

// refusalCodes are the exit codes of reasons other than ExitRefused.
var refusalCodes = map[diagnosis.Reason]ExitCode{
	diagnosis.NodeUnreachable:      ExitUnreachable,
	diagnosis.PrivilegeMissing:     ExitNotBegun,
	diagnosis.InspectionFailed:     ExitNotBegun,
	diagnosis.ToolMissing:          ExitNotBegun,
	diagnosis.KubeadmConfigMissing: ExitNotBegun,
	diagnosis.DiskFull:             ExitNotBegun,
}

// looking are the reasons whose evidence is Ansible's.
var looking = map[diagnosis.Reason]bool{diagnosis.NodeUnreachable: true, diagnosis.PrivilegeMissing: true,
	diagnosis.InspectionFailed: true}

// hinted is the advice for a message; empty if the message is unknown.
func hinted(text string) string {
	h, _ := hint.Of(text)
	return h.Advice
}

// refusal explains why nothing will be done; nil if the route can be taken: also that of an expired
// CA, if there is a plan for it. If none could be made (planned), that error explains more.
func refusal(d diagnosis.Diagnosis, p plan.Plan, planned bool) *Error {
	if d.Route != diagnosis.Refuse && (d.Route != diagnosis.NewCA || len(p.Steps) > 0 || !planned) {
		return nil
	}
	e := &Error{Code: ExitRefused, Summary: d.Verdict, Next: "nothing was changed"}
	if f, ok := d.Primary(); ok {
		e.Reason, e.Evidence, e.Next = f.Reason, f.Evidence, "nothing was changed. "+f.Next()
		if looking[f.Reason] { // Ansible's output; the rest is our own text
			e.Hint = hinted(f.Evidence)
		}
		if code, ok := refusalCodes[f.Reason]; ok {
			e.Code = code
		}
	}
	return e
}

// stepError reports which step stopped the run, on which node, at which task, and what can be done
// now.
func (s *session) stepError(err error, step plan.Step, changed bool) *Error {
	e := stepError(err, step, changed)
	if changed {
		e.Next = fmt.Sprintf("%s: %s\nor roll back: %s\nbackups on each node: %s",
			e.Next, s.command("resume", s.dir.ID), s.command("rollback", s.dir.ID), s.backups())
	}
	if _, elsewhere := errors.AsType[*ContinuedError](err); elsewhere {
		e.Next = "see how far it is, then resume it from there: " + s.command("resume", s.dir.ID, "-i", "INVENTORY")
	}
	e.Next += "\nrecord of the run: " + s.dir.Path
	return e
}

func stepError(err error, step plan.Step, changed bool) *Error {
	e := &Error{Code: ExitNotBegun, Err: err,
		Next: "nothing was changed on any node; fix this, then run the command again"}
	if changed {
		e.Code = ExitStopped
		e.Next = "fix this, then resume"
	}
	e.Summary = fmt.Sprintf("step %s stopped: %v", step.ID, err)
	var (
		playbook *ansible.RunError
		timeout  *gate.TimeoutError
		late     *StepTimeoutError
	)
	switch {
	case interrupted(err):
		e.Code = ExitInterrupted
		e.Summary = fmt.Sprintf("interrupted in step %s", step.ID)
		e.Next = strings.Replace(e.Next, "fix this, then ", "", 1)
	case errors.As(err, &playbook):
		e.Summary = fmt.Sprintf("step %s: %s", step.ID, playbook.Reason)
		e.Evidence = taskEvidence(playbook)
		e.Hint = hinted(e.Evidence)
		if len(playbook.Unreachable) > 0 && !changed {
			e.Code = ExitUnreachable
		}
	case errors.As(err, &late):
		e.Summary = fmt.Sprintf("step %s timed out after %s and was stopped", step.ID, late.Timeout)
		e.Evidence = late.Doing
		e.Next = "allow more time with --step-timeout; " + e.Next
	case errors.As(err, &timeout):
		e.Summary = fmt.Sprintf("step %s: the gate %s", step.ID, timeout.How())
		lines := make([]string, len(timeout.Unmet))
		for i, u := range timeout.Unmet {
			lines[i] = u.String()
		}
		e.Evidence = strings.Join(lines, "\n")
	}
	return e
}

// taskEvidence lists host, task, file and message of the first failures.
func taskEvidence(r *ansible.RunError) string {
	var out []string
	for _, f := range r.Failures[:min(3, len(r.Failures))] {
		line := f.Host
		if f.Task != nil {
			line += fmt.Sprintf(", task %q", f.Task.Name)
			if f.Task.Path != "" {
				line += " (" + f.Task.Path + ")"
			}
		}
		if words := evidenceText(f.Evidence); words != "" {
			line += "\n  " + strings.ReplaceAll(words, "\n", "\n  ")
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return logTail(r.Log)
	}
	return strings.Join(out, "\n")
}

func evidenceText(e *ansible.Evidence) string {
	if e == nil {
		return ""
	}
	if e.Censored != "" {
		return "(its output is censored: no_log; Kubespray shows it, secrets included, with -e unsafe_show_logs=true)"
	}
	for _, text := range append([]string{e.Stderr, e.ModuleStderr, e.Stdout, e.ModuleStdout, e.Msg, e.Reason},
		e.Items...) {
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "Shared connection to") {
			continue
		}
		lines := strings.Split(text, "\n")
		return strings.Join(lines[max(0, len(lines)-6):], "\n")
	}
	return ""
}

// logTail is the end of Ansible's own output: all there is if Ansible stopped before its first
// task.
func logTail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.TrimSpace(l) == "" })
	return strings.Join(lines[max(0, len(lines)-6):], "\n")
}
