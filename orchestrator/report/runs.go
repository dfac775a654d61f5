package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// RunsSchema is the version of the JSON forms of runs, one run and backups.
const RunsSchema = 1

// Proposal is a plan with the diagnosis it follows from: the document of plan.
type Proposal struct {
	Schema int `json:"schema"`
	// Made is when, by the clock of the asking machine.
	Made time.Time `json:"made"`
	// Cluster is the SHA-256 of the cluster's CA certificate, hexadecimal.
	Cluster string `json:"cluster"`
	// Diagnosis is what is wrong.
	Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
	// Plan is what would be done about it.
	Plan plan.Plan `json:"plan"`
	// Digest is the SHA-256 of the plan file, hexadecimal, for "apply"; absent without one.
	Digest string `json:"digest,omitempty"`
}

// Proposed writes a plan for people, and how to carry it out: from a file if one was written, which
// has the digest.
func Proposed(w io.Writer, p run.Proposal, file, digest string) error {
	out := printer{w: w}
	out.line("Verdict: %s", p.Diagnosis.Verdict)
	out.line("")
	if out.err != nil {
		return out.err
	}
	if err := Plan(w, p.Plan); err != nil || len(p.Plan.Steps) == 0 {
		return err
	}
	if file == "" {
		out.line("Carry it out:  kscertctl run -i INVENTORY%s", part(p.Request))
	} else {
		out.line("SHA-256:       %s", digest)
		out.line("Carry it out:  %s", ApplyCommand(file, digest, p.Request))
		out.line("               with the same connection flags, if any")
	}
	return out.err
}

// ApplyCommand is what to type to carry out the plan of a file, with what "apply" takes from no
// file; digest may be empty. The file may be someone else's: a value that a terminal would not show
// unchanged, or that Ansible would evaluate, is replaced by "?".
func ApplyCommand(file, digest string, r run.Request) string {
	words := []string{"kscertctl", "apply", file}
	add := func(flag string, values ...string) {
		for _, v := range values {
			strange := strings.ContainsFunc(v, func(c rune) bool { return !unicode.IsPrint(c) })
			if strange || strings.Contains(v, "{{") || strings.Contains(v, "{%") {
				v = "?"
			}
			if v != "" {
				words = append(words, flag, v)
			}
		}
	}
	add("--digest", digest)
	add("-i", r.Inventories...)
	if r.Kubespray != nil && r.Kubespray.Found == "" {
		add("--kubespray-dir", r.Kubespray.Dir)
	}
	add("--accept-san-loss", r.AcceptSANLoss...)
	add("--accept-subject-change", r.AcceptSubjectChange...)
	add("--allow-not-in-inventory", r.AllowNotInInventory...)
	add("--allow-unreachable", r.AllowUnreachable...)
	add("--tags", r.Tags...)
	add("--skip-tags", r.SkipTags...)
	if r.BackupRoot != run.DefaultBackupRoot {
		add("--backup-root", r.BackupRoot)
	}
	return shell.Join(words)
}

// part is the flags for the part of a plan that a request is about, after a blank; empty for all of
// it.
func part(r run.Request) string {
	var skip []string
	for _, phase := range r.SkipPhases {
		skip = append(skip, string(phase))
	}
	var out strings.Builder
	for _, flag := range []struct{ name, value string }{
		{"--limit", strings.Join(r.Limit, ",")}, {"--skip-phases", strings.Join(skip, ",")},
		{"--until-phase", string(r.UntilPhase)},
	} {
		if flag.value != "" {
			out.WriteString(" " + flag.name + " " + shell.Quote(flag.value))
		}
	}
	return out.String()
}

// RunLine is one run among others.
type RunLine struct {
	// Run is its name.
	Run string `json:"run"`
	// Kind is what it is; absent if its journal cannot be read.
	Kind run.Kind `json:"kind,omitempty"`
	// Of is the run that a rollback undoes.
	Of string `json:"of,omitempty"`
	// Status is its state.
	Status run.Status `json:"status"`
	// Began is the first line of its journal.
	Began time.Time `json:"began,omitzero"`
	// Last is the last line of its journal.
	Last time.Time `json:"last,omitzero"`
	// Resumable is true if there is something to resume.
	Resumable bool `json:"resumable"`
	// Detail is why it stopped.
	Detail string `json:"detail,omitempty"`
	// Inventories are those of the cluster; absent if no plan was made, or only control planes keep the run.
	Inventories []string `json:"inventories,omitempty"`
	// Dir is its directory on this machine; empty if only control planes keep the run.
	Dir string `json:"dir"`
}

func line(r run.Record) RunLine {
	l := RunLine{
		Run: r.ID, Kind: r.State.Kind, Of: r.State.Of, Status: r.Status(), Began: r.State.Began, Last: r.State.Last,
		Resumable: r.Resumable(), Detail: r.State.Detail, Inventories: r.Inventories, Dir: r.Path,
	}
	if r.Err != nil {
		l.Detail = r.Err.Error()
	}
	return l
}

// RunList is the document of "runs list".
type RunList struct {
	Schema int `json:"schema"`
	// Runs are the newest first.
	Runs []RunLine `json:"runs"`
}

// List puts runs into a document, in their order.
func List(records []run.Record) RunList {
	out := RunList{Schema: RunsSchema, Runs: []RunLine{}}
	for _, r := range records {
		out.Runs = append(out.Runs, line(r))
	}
	return out
}

// Text writes a table.
func (l RunList) Text(w io.Writer) error {
	if len(l.Runs) == 0 {
		_, err := fmt.Fprintln(w, "No run has been recorded here.")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	p := printer{w: tw}
	p.row("RUN", "KIND", "STATUS", "BEGAN", "INVENTORY")
	for _, r := range l.Runs {
		kind := string(r.Kind)
		if r.Of != "" {
			kind += " of " + r.Of
		}
		began := "-" // its journal cannot be read
		if !r.Began.IsZero() {
			began = r.Began.Format(time.RFC3339)
		}
		p.row(r.Run, kind, string(r.Status), began, inventories(r.Inventories))
	}
	if p.err != nil {
		return p.err
	}
	return tw.Flush()
}

// inventories names a cluster in a line: a list of hosts may be long.
func inventories(all []string) string {
	const shown = 60
	text := []rune(strings.Join(all, " "))
	if len(text) > shown {
		text = append(text[:shown-1], '…')
	}
	return cmp.Or(string(text), "-")
}

// StepLine is the state of one step of a run.
type StepLine struct {
	plan.Step
	// Status is a result, "begun" for one that was in progress last, or "to do".
	Status string `json:"status"`
}

// RunStatus is the document of "status".
type RunStatus struct {
	Schema int `json:"schema"`
	RunLine
	// Cluster is the SHA-256 of the cluster's CA certificate, hexadecimal.
	Cluster string `json:"cluster"`
	// Steps are those of the plan, in order.
	Steps []StepLine `json:"steps"`
	// Touched are the nodes that it may have changed.
	Touched []string `json:"touched"`
	// Torn is how many bytes of an unfinished last line the journal has.
	Torn int `json:"torn,omitempty"`
	// StateDir is the directory that commands about the run have to name; empty for the default one.
	StateDir string `json:"-"`

	request run.Request
}

// Status returns how far a run has got.
func Status(r run.Record, p run.Proposal) RunStatus {
	out := RunStatus{Schema: RunsSchema, RunLine: line(r), Cluster: p.Cluster, Steps: []StepLine{},
		Touched: r.State.Touched(p.Plan), Torn: r.Torn, request: p.Request}
	for _, step := range p.Plan.Steps {
		l := StepLine{Step: step, Status: "to do"}
		if result, begun := r.State.Steps[step.ID]; begun {
			l.Status = string(result)
			if result == "" {
				l.Status = "begun"
			}
		}
		out.Steps = append(out.Steps, l)
	}
	return out
}

// Text writes the steps, and what can be done now.
func (s RunStatus) Text(w io.Writer) error {
	p := printer{w: w}
	what := string(s.Kind)
	if s.Of != "" {
		what += " of " + s.Of
	}
	p.line("Run %s (%s): %s", s.Run, what, s.Status)
	if len(s.Inventories) > 0 {
		p.line("Inventory: %s", inventories(s.Inventories))
	}
	p.line("Started %s, last entry %s", s.Began.Format(time.RFC3339), s.Last.Format(time.RFC3339))
	for _, step := range s.Steps {
		p.line("  %-11s %s  %s  [%s]", step.Status, step.ID[:2], step.Title, few(step.Nodes))
	}
	if s.Detail != "" {
		p.hanging("Stopped:   ", "  ", s.Detail)
	}
	if s.Torn > 0 {
		p.line("The journal's last line was cut off in the middle (%d bytes): its process was killed.", s.Torn)
	}
	touched := "no node"
	if len(s.Touched) > 0 {
		touched = few(s.Touched)
	}
	p.line("Changed:   %s", touched)
	if s.Resumable {
		p.line("Resume:    %s", command("resume", s.Run, s.StateDir, s.request))
	}
	if len(s.Touched) > 0 && s.Status != run.StatusRunning {
		p.line("Roll back: %s", command("rollback", s.Run, s.StateDir, s.request))
	}
	p.line("Record:    %s", s.Dir)
	return p.err
}

// Backups is the document of the backup commands.
type Backups struct {
	Schema int `json:"schema"`
	// Backups are sorted by node, in the order of the inventory.
	Backups []run.Backup `json:"backups"`
}

// Text writes a table, and below a backup what is wrong with it.
func (b Backups) Text(w io.Writer) error {
	if len(b.Backups) == 0 {
		_, err := fmt.Fprintln(w, "No backup was found.")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	p := printer{w: tw}
	p.row("NODE", "RUN", "STATE", "MADE", "ENTRIES", "KIB", "ETCD")
	for _, x := range b.Backups {
		made, etcd := "-", "-"
		if !x.Made.IsZero() {
			made = x.Made.Format(time.RFC3339)
		}
		if x.EtcdBytes > 0 {
			etcd = fmt.Sprintf("%d KiB", (x.EtcdBytes+1023)/1024)
		}
		p.row(x.Node, x.Run, string(x.State), made, fmt.Sprint(x.Entries), fmt.Sprint(x.KiB), etcd)
	}
	if p.err != nil {
		return p.err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	p.w = w
	for _, x := range b.Backups {
		if len(x.Notes) > 0 && x.State != run.BackupVerified {
			p.line("%s, run %s: %s", x.Node, x.Run, strings.Join(x.Notes, "; "))
		}
	}
	return p.err
}
