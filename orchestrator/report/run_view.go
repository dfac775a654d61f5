package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// runView is a report of a run in words, for people: what HTML and Markdown have in common.
type runView struct {
	Run
	Title, Badge string
	// Why it stopped, unless the verdict contains that already.
	Why   string
	Facts []fact
	// Caveats are what to know before one of the commands is typed.
	Caveats      []string
	Steps        []stepRow
	Stopped      []stepRow
	Lanes        []lane
	Certificates []certificateRow
	Findings     []findingSection
	Backups      []backupRow
	BackupDir    string
}

// fact is a name and its displayed value.
type fact struct{ Name, Value string }

// stepRow is a step in a table.
type stepRow struct {
	RunStep
	// Number is the beginning of its ID.
	Number, Runs, Where, When, Took, Result string
}

// lane is a group of nodes with the same steps.
type lane struct {
	Nodes string
	Steps []stepRow
	// Results has each step with its result.
	Results string
}

// certificateRow joins certificates of one name and the same change on many nodes.
type certificateRow struct {
	Lifetime
	Where         string
	Was, Is, Fate string

	nodes []string
}

// findingSection is the findings of one moment.
type findingSection struct {
	Title, ID, Verdict string
	Findings           []findingRow
}

// findingRow is findings that share a reason.
type findingRow struct {
	Severity           diagnosis.Severity
	Title, About, Next string
	Reason             diagnosis.Reason
	Evidence, Brought  []string
}

// backupRow is a backup in a table.
type backupRow struct {
	run.Backup
	MadeAt, Size, EtcdSize, Digest string
}

func view(r Run) runView {
	v := runView{Run: r, Title: "Run " + r.Run, Badge: string(r.Outcome.Status), Facts: facts(r), Caveats: caveats(r)}
	if r.Run == "" {
		v.Title = "Run without a record"
	}
	if r.Of != "" {
		v.Title = fmt.Sprintf("Run %s, rollback of run %s", r.Run, r.Of)
	}
	if r.Before == nil || r.Outcome.Detail != r.Before.Verdict {
		v.Why = r.Outcome.Detail
	}
	for _, s := range r.Steps {
		row := stepRowOf(r, s)
		v.Steps = append(v.Steps, row)
		if !slices.Contains([]StepStatus{StepDone, StepToDo}, s.Status) {
			v.Stopped = append(v.Stopped, row)
		}
	}
	v.Lanes = lanes(v.Steps)
	v.Certificates = certificateRows(r.Certificates)
	v.Findings = findingSections(r)
	for _, b := range r.Backups {
		v.Backups = append(v.Backups, backupRowOf(b))
	}
	if r.Asked != nil {
		v.BackupDir = r.Asked.BackupRoot + "/" + r.Run
	}
	return v
}

// NextTitle is the heading of what can be done now: after a run that is done, nothing has to be.
func (v runView) NextTitle() string {
	if v.Outcome.Status == run.StatusDone {
		return "How to roll back"
	}
	return "What to do next"
}

// StoppedTitle is the heading of the report about a step that is not done.
func (s stepRow) StoppedTitle() string {
	if s.Status == StepRunning {
		return "Running: " + s.ID
	}
	return "Where it stopped: " + s.ID
}

// clock is a moment in UTC, to the second.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// took is a duration to the second.
func took(from, to time.Time) string { return to.Sub(from).Round(time.Second).String() }

// facts describe the run, from the most to the least important.
func facts(r Run) []fact {
	var out []fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, fact{name, value})
		}
	}
	if code := r.Outcome.ExitCode; code != nil {
		add("Exit code", fmt.Sprint(*code))
	}
	add("Changed", orNone(few(r.Outcome.Changed)))
	for _, w := range r.Work {
		ended := string(w.Outcome)
		if ended == "" {
			ended = "no end recorded"
		}
		add(strings.ToUpper(string(w.Kind[:1]))+string(w.Kind[1:]),
			fmt.Sprintf("%s, %s (%s)", clock(w.Began), took(w.Began, w.Ended), ended))
	}
	add("Route", string(r.Route))
	add("Interruption", r.Interruption)
	for _, text := range r.Warnings {
		add("Warning", text)
	}
	for _, text := range r.Made {
		add("Note", text)
	}
	if a := r.Asked; a != nil {
		add("Inventory", strings.Join(a.Inventories, ", "))
		add("Kubespray", a.KubesprayDir)
		add("Requested", fmt.Sprintf("--playbook %s --warn %s --gate-timeout %s", a.Playbook,
			inDays(a.RenewBeforeSeconds), time.Duration(a.GateTimeoutSeconds)*time.Second)+
			part(run.Request{Limit: a.Limit, SkipPhases: a.SkipPhases, UntilPhase: a.UntilPhase}))
	}
	add("Cluster", r.Cluster)
	add("Record", r.Dir)
	return out
}

func orNone(s string) string {
	if s == "" {
		return "no node"
	}
	return s
}

// inDays writes a time as --warn takes it.
func inDays(seconds int64) string {
	const perDay = 24 * 60 * 60
	if seconds%perDay == 0 {
		return fmt.Sprintf("%dd", seconds/perDay)
	}
	return (time.Duration(seconds) * time.Second).String()
}

// caveats are what to know before a command is typed.
func caveats(r Run) []string {
	var out []string
	a := r.Asked
	if a != nil && a.WithheldVars > 0 && len(r.Commands) > 0 {
		out = append(out, fmt.Sprintf(
			"It was started with %s not in its record, since they may be passwords: pass the same -e again.",
			count(a.WithheldVars, "extra variable")))
	}
	if a != nil && len(a.Withheld) > 0 && len(r.Commands) > 0 {
		out = append(out, fmt.Sprintf(
			"It was started with %s: the values are not in its record, since they may be passwords. Pass the "+
				"same again.", strings.Join(a.Withheld, ", ")))
	}
	for _, later := range r.Later {
		out = append(out, fmt.Sprintf("Run %s has changed nodes of this cluster since.", later))
	}
	return out
}

func stepRowOf(r Run, s RunStep) stepRow {
	number, _, _ := strings.Cut(s.ID, "-")
	row := stepRow{RunStep: s, Number: number, Runs: s.Playbook, Where: few(s.Nodes),
		Result: strings.ReplaceAll(string(s.Status), "-", " ")}
	if s.Gate != "" {
		row.Runs = "gate " + string(s.Gate)
	}
	if len(s.Unmet) > 0 {
		row.Detail = "" // which lists the same
	}
	n := len(s.Attempts)
	if n == 0 {
		return row
	}
	last := s.Attempts[n-1]
	row.When = last.Began.UTC().Format(time.TimeOnly)
	if last.Outcome != "" {
		row.Took = took(last.Began, last.Ended)
	}
	if last.Began.UTC().Format(time.DateOnly) != r.Began.UTC().Format(time.DateOnly) {
		row.When = last.Began.UTC().Format(time.DateTime)
	}
	if n > 1 {
		row.Result += fmt.Sprintf(" at attempt %d", n)
	}
	if last.Looks > 1 && s.Gate != "" {
		row.Result += fmt.Sprintf(" (%s)", count(last.Looks, "inspection"))
	}
	return row
}

// lanes joins the nodes with the same steps, in the order in which the steps came to them.
func lanes(steps []stepRow) []lane {
	about := map[string][]stepRow{}
	var nodes []string
	for _, s := range steps {
		if len(s.Attempts) == 0 {
			continue
		}
		for _, n := range s.Nodes {
			if about[n] == nil {
				nodes = append(nodes, n)
			}
			about[n] = append(about[n], s)
		}
	}
	key := func(node string) string {
		var ids []string
		for _, s := range about[node] {
			ids = append(ids, s.ID)
		}
		return strings.Join(ids, " ")
	}
	var out []lane
	for len(nodes) > 0 {
		first := nodes[0]
		alike := func(n string) bool { return key(n) == key(first) }
		var same, rest []string
		for _, n := range nodes {
			if alike(n) {
				same = append(same, n)
			} else {
				rest = append(rest, n)
			}
		}
		var reported []string
		for _, s := range about[first] {
			text := s.Number + " " + s.Result
			if s.Took != "" {
				text += " in " + s.Took
			}
			reported = append(reported, text)
		}
		out = append(out, lane{Nodes: few(same), Steps: about[first], Results: strings.Join(reported, ", ")})
		nodes = rest
	}
	return out
}

// certificateRows joins certificates of one name with the same change to the day: leaves first,
// then CAs.
func certificateRows(all []Lifetime) []certificateRow {
	var out []certificateRow
	for _, l := range all {
		row := certificateRow{Lifetime: l, Was: validity(l.Before), Is: validity(l.After), Fate: fates()[l.Change]}
		i := slices.IndexFunc(out, func(r certificateRow) bool {
			return r.Name == row.Name && r.Was == row.Was && r.Is == row.Is && r.Fate == row.Fate
		})
		if i < 0 {
			i = len(out)
			out = append(out, row)
		}
		out[i].nodes = append(out[i].nodes, l.Node)
	}
	for i := range out {
		out[i].Where = few(out[i].nodes)
	}
	slices.SortStableFunc(out, func(a, b certificateRow) int { return rank(a.IsCA) - rank(b.IsCA) })
	return out
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// validity is until when a certificate is valid, and its state.
func validity(v *Validity) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%s, %s", v.NotAfter.UTC().Format(time.DateOnly), v.Status)
}

// fates are the changes of a certificate in words.
func fates() map[Change]string {
	return map[Change]string{Renewed: "renewed", Unchanged: "unchanged", Added: "is new", Removed: "is gone",
		NotSeen: "not inspected again"}
}

func findingSections(r Run) []findingSection {
	var out []findingSection
	add := func(title, id string, s *Seen) {
		if s != nil {
			out = append(out, findingSection{Title: title + ", " + clock(s.Taken), ID: id, Verdict: s.Verdict,
				Findings: findingRows(s.Findings)})
		}
	}
	add("Before", "findings-before", r.Before)
	add("After", "findings-after", r.After)
	return out
}

func findingRows(all []diagnosis.Finding) []findingRow {
	causes, brought := fold(group(all))
	var out []findingRow
	for i, g := range causes {
		row := findingRow{Severity: g.first.Severity(), Title: g.title(), Reason: g.first.Reason,
			About: strings.Join(g.subjects, ", "), Next: g.first.Next()}
		for line := range strings.Lines(g.evidence()) {
			row.Evidence = append(row.Evidence, strings.TrimRight(line, "\r\n"))
		}
		for _, c := range brought[i] {
			row.Brought = append(row.Brought, fmt.Sprintf("%s [%s]", c.title(), c.first.Reason))
		}
		out = append(out, row)
	}
	return out
}

func backupRowOf(b run.Backup) backupRow {
	row := backupRow{Backup: b, Size: fmt.Sprintf("%d entries, %d KiB", b.Entries, b.KiB), EtcdSize: "none",
		MadeAt: "not known", Digest: b.Manifest}
	if !b.Made.IsZero() {
		row.MadeAt = clock(b.Made)
	}
	if b.EtcdBytes > 0 {
		row.EtcdSize = fmt.Sprintf("%d KiB", (b.EtcdBytes+1023)/1024)
	}
	if len(row.Digest) > 16 {
		row.Digest = row.Digest[:16] + "…"
	}
	return row
}
