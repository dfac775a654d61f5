package orchestrator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// Recall reads what the control planes keep of runs, and returns their records, the newest first. It
// changes nothing on nodes. The record of the run whose name is id or begins with it, of the newest
// if id is empty, and those of later ones are written to the state directory, unless it has them as
// far already: then Resume, Rollback and History work here. A run whose copies cannot be used has an
// Err. Running means that the lock of the cluster names the run and its owner seems to live. The
// error is an *Error.
func (o *Orchestrator) Recall(ctx context.Context, id string) (records []run.Record, err error) {
	s, err := o.withoutCheckout().begin(ctx, run.Entry{Kind: run.KindLook})
	if err != nil {
		return nil, err
	}
	defer s.finish(&Result{}, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	copies, holding, err := s.copies(soft, id)
	if err != nil {
		return nil, err
	}
	byRun := map[string][]run.Kept{}
	broken := map[string]error{}
	of := map[string]run.Record{} // as far as their journals can be read
	for _, c := range copies {
		k, err := c.Read()
		if err == nil && k.Proposal != nil {
			if err = s.ofCluster(*k.Proposal); err != nil {
				err = fmt.Errorf("%s: run %s: %w", c.Node, c.Run, err)
			}
		}
		if err != nil { // one node does not decide about the others
			s.tell(Event{Kind: EventNotice, Message: "a copy of a run's record cannot be used: " + err.Error()})
			broken[c.Run], of[c.Run] = errors.Join(broken[c.Run], err), k.Record()
			continue
		}
		byRun[c.Run] = append(byRun[c.Run], k)
	}
	chosen := map[string]run.Kept{}
	for _, name := range slices.Sorted(maps.Keys(byRun)) { // a rollback after the run that it undoes
		k, err := s.choose(byRun[name])
		if err == nil && k.Proposal != nil && k.Proposal.Plan.Undoes != "" {
			err = s.undoes(*k.Proposal, chosen[k.Proposal.Plan.Undoes])
		}
		if err == nil && k.Proposal != nil && k.Node != "" {
			err = s.importRun(k, byRun[name])
		}
		if err == nil {
			chosen[name] = k
		}
		record := k.Record()
		record.Err = s.unusable(name, err)
		records = append(records, record)
		delete(broken, name)
	}
	for name, err := range broken {
		r := of[name]
		r.ID, r.Err = name, s.unusable(name, err)
		records = append(records, r)
	}
	records = s.withHolders(records, holding, id)
	slices.SortFunc(records, func(a, b run.Record) int { return cmp.Compare(b.ID, a.ID) })
	return records, nil
}

// withHolders marks the runs that hold the lock and whose owners seem to live, and adds those among
// the chosen ones that no one knows: they have not come to a change.
func (s *session) withHolders(records []run.Record, holding []run.Holding, chosen string) []run.Record {
	me := s.owner()
	for _, h := range holding {
		id, verdict := h.Owner.Run, h.Assess(me, alive)
		i := slices.IndexFunc(records, func(r run.Record) bool { return r.ID == id })
		switch {
		case i >= 0:
			records[i].Running = records[i].Err == nil && verdict == run.Held
		case id != "" && strings.HasPrefix(id, chosen) && !s.hasRun(id):
			e := s.lockError(&run.LockedError{Where: s.lockNode(), Holding: h, Verdict: verdict})
			e.Summary += ", and no control plane that answers keeps its record"
			if verdict == run.Stale {
				e.Next = fmt.Sprintf("nothing was changed. Its owner appears to have died before a change; break "+
					"its lock: %s\nor, if %s still has the record, resume it there: %s",
					s.command("unlock", "-i", "INVENTORY"), h.Owner.Host, s.command("resume", id))
			}
			records = append(records, run.Record{ID: id, Running: verdict == run.Held, Err: e})
		}
	}
	return records
}

// hasRun reports whether this machine has a record of the run.
func (s *session) hasRun(id string) bool {
	_, err := FindRun(s.opts.StateDir, id)
	return err == nil
}

// unusable explains why no copy of a run can be used; nil stays nil.
func (s *session) unusable(id string, err error) error {
	if _, explained := errors.AsType[*Error](err); err == nil || explained {
		return err
	}
	e := recordError(err)
	if e.Code == ExitNotBegun {
		e.Next = fmt.Sprintf("nothing was changed; use the version of kscertctl that wrote the record, or, if none "+
			"did, move /var/lib/kscertctl/runs/%s away on the node. Other runs: %s", id,
			s.command("runs", "list", "-i", "INVENTORY"))
	}
	return e
}

// copies reads what each control plane keeps, and the locks there.
func (s *session) copies(ctx context.Context, id string) (all []run.Copy, locks []run.Holding, err error) {
	nodes := cluster.Names(s.cluster.With(cluster.ControlPlane))
	p := s.playbook("recall", playbooks.Recall, nodes)
	p.Looks, p.Silence = true, lookSilence
	p.Vars["record_run"] = id
	outcome, err := s.runner.Run(ctx, p, nil)
	if ctx.Err() != nil {
		return nil, nil, &Error{Code: ExitInterrupted, Summary: "interrupted while the records of runs were read",
			Err: context.Cause(ctx)}
	}
	answered := false
	for _, node := range nodes {
		answer, aerr := outcome.Payload(node)
		switch {
		case aerr != nil:
			aerr = fmt.Errorf("%s: %w", node, aerr)
		case answer == "":
			aerr = fmt.Errorf("%s: it has not answered", node)
		}
		var found []run.Copy
		if aerr == nil {
			var held []run.Holding
			held, answer = locksIn(answer)
			if node == s.lockNode() {
				locks = held
			}
			found, aerr = run.ParseCopies(node, answer)
		}
		if aerr != nil {
			err = errors.Join(err, aerr)
			s.tell(Event{Kind: EventNotice, Message: "what is kept of runs could not be read: " + aerr.Error()})
			continue
		}
		all, answered = append(all, found...), true
	}
	if !answered {
		return nil, nil, &Error{Code: ExitUnreachable, Err: err,
			Summary: "no control plane reports what it keeps of runs: " + err.Error(),
			Next:    "nothing was changed; whether the nodes answer: " + s.command("diagnose", "-i", "INVENTORY")}
	}
	return all, locks, nil
}

// locksIn takes the locks from a node's answer.
func locksIn(answer string) (locks []run.Holding, rest string) {
	var others strings.Builder
	for line := range strings.Lines(answer) {
		if !strings.HasPrefix(line, "@@LOCK ") {
			others.WriteString(line)
		} else if _, h, err := parseLock(line + "@@END\n"); err == nil {
			locks = append(locks, h)
		}
	}
	return locks, others.String()
}

// ofCluster reports why a proposal is not one for this inventory: a plan names nodes, and what they
// are.
func (s *session) ofCluster(p run.Proposal) error {
	for _, n := range p.Snapshot.Nodes {
		i := slices.IndexFunc(s.cluster.Nodes, func(is cluster.Node) bool { return is.Name == n.Name })
		if i < 0 || !slices.Equal(s.cluster.Nodes[i].Roles, n.Roles) {
			return fmt.Errorf("its plan is for a node %.100q that the inventory does not have in this role", n.Name)
		}
	}
	return nil
}

// choose returns the copy of a run that counts: the furthest, or the record on this machine if it
// continues that. Where both continue the same beginning, that of the nodes counts: what a run is
// about to change is written there first. The error is an *Error.
func (s *session) choose(copies []run.Kept) (run.Kept, error) {
	best, err := furthest(copies)
	here, missing := run.ReadKept(s.opts.StateDir, best.Run)
	if err != nil || missing != nil || strange(here.Proposal.Request) { // that is only another copy of the copies
		return best, err
	}
	switch {
	case best.Proposal != nil && !samePlanned(*here.Proposal, *best.Proposal):
		return best, differ(here, best, "they have different plans")
	case bytes.HasPrefix(here.Text, best.Text):
		return here, nil
	case begunMore(here.Journal.State(), best.Journal.State()):
		return best, differ(here, best, "each has begun what the other has not")
	}
	return best, nil
}

// furthest returns, of copies of one run, the one with the longest journal. The error names two that
// are not copies of one record.
func furthest(copies []run.Kept) (run.Kept, error) {
	best := copies[0]
	for _, k := range copies[1:] {
		further := cmp.Compare(len(k.Journal.Entries), len(best.Journal.Entries))
		if further > 0 || further == 0 && known(k) > known(best) {
			best = k
		}
	}
	for _, k := range copies {
		switch {
		case k.Proposal != nil && best.Proposal != nil && !samePlanned(*k.Proposal, *best.Proposal):
			return best, differ(k, best, "they have different plans")
		case len(k.Journal.Entries) == len(best.Journal.Entries) && !equalKept(k, best):
			return best, differ(k, best, "they are equally long and differ")
		case !bytes.HasPrefix(best.Text, k.Text) && begunMore(k.Journal.State(), best.Journal.State()):
			return best, differ(k, best, "each has begun what the other has not")
		}
	}
	return best, nil
}

func differ(a, b run.Kept, why string) error {
	where := func(k run.Kept) string { return cmp.Or(k.Node, "this machine") }
	return &Error{Code: ExitNotBegun,
		Summary: fmt.Sprintf("the records of run %s on %s and %s are not those of one run: %s", a.Run, where(a),
			where(b), why),
		Next: "nothing was changed; compare kscertctl status " + a.Run + " here with the journals below " +
			"/var/lib/kscertctl/runs on the nodes, move the wrong one away, then run the command again"}
}

// known counts what is known of a run next to its journal.
func known(k run.Kept) int {
	if k.Proposal == nil {
		return 0
	}
	return 1 + len(k.Backups) + len(k.Authorities)
}

// equalKept reports whether two copies have the same content; what one of them lacks does not count.
func equalKept(a, b run.Kept) bool {
	return bytes.Equal(a.Text, b.Text) &&
		(len(a.Backups) == 0 || len(b.Backups) == 0 || slices.EqualFunc(a.Backups, b.Backups, sameBackup)) &&
		(len(a.Authorities) == 0 || len(b.Authorities) == 0 || maps.Equal(a.Authorities, b.Authorities))
}

func sameBackup(a, b run.Backup) bool { return a.Node == b.Node && a.Manifest == b.Manifest }

// samePlanned reports whether two proposals are the same but for how nodes are reached.
func samePlanned(a, b run.Proposal) bool {
	text := func(p run.Proposal) []byte {
		var o Options
		o.adopt(p.Request)
		out, _ := json.Marshal([]any{p.Cluster, p.Plan.Route, p.Plan.Undoes, p.Plan.Steps, p.Snapshot, o.Policy(),
			o.Thresholds})
		return out
	}
	return bytes.Equal(text(a), text(b))
}

// begunMore reports whether a step was begun in one and not in the other.
func begunMore(one, other run.State) bool {
	return slices.ContainsFunc(one.Order, func(id string) bool {
		_, begun := other.Steps[id]
		return !begun && id != run.StepLock && id != run.StepUnlock
	})
}

// undoes reports why a plan is not the one that rolls a run back.
func (s *session) undoes(p run.Proposal, of run.Kept) error {
	if of.Proposal == nil {
		return fmt.Errorf("the record of run %s, which it undoes, is not kept", p.Plan.Undoes)
	}
	state, only := of.Journal.State(), restored(p.Plan.Steps)
	if len(only) == len(state.Touched(of.Proposal.Plan)) {
		only = nil // of all nodes, more is undone
	}
	again, err := plan.Rollback(s.cluster, undo(p.Plan.Undoes, *of.Proposal, state, only, p.Snapshot))
	if err != nil || !slices.EqualFunc(again.Steps, p.Plan.Steps, sameStep) {
		return errors.Join(fmt.Errorf("its plan is not the one that undoes run %s", p.Plan.Undoes), err)
	}
	return nil
}

// undo describes a run that is to be rolled back on some of its nodes.
func undo(id string, was run.Proposal, state run.State, only []string, now snapshot.Snapshot) plan.Undo {
	return plan.Undo{Run: id, Touched: state.Touched(was.Plan), Only: only, Before: was.Snapshot,
		Diagnosis: was.Diagnosis, Now: now.Taken, Published: published(was.Plan, state), Plan: was.Plan}
}

// importRun makes a copy the record on this machine. Its request is that of this command, with the
// choices that the plan was made with.
func (s *session) importRun(k run.Kept, copies []run.Kept) error {
	p := *k.Proposal
	was := p.Request
	own, err := s.request()
	if err != nil {
		return err
	}
	var o Options
	o.adopt(was)
	for _, row := range recorded() {
		if row.adopt == always {
			row.of(&own).Set(row.in(&o))
		}
	}
	// What has to be passed again.
	own.Kubespray, own.Tags, own.SkipTags, own.BackupRoot = was.Kubespray, was.Tags, was.SkipTags, was.BackupRoot
	own.AcceptSANLoss, own.AcceptSubjectChange = was.AcceptSANLoss, was.AcceptSubjectChange
	own.AllowNotInInventory, own.AllowUnreachable = was.AllowNotInInventory, was.AllowUnreachable
	own.WithheldVars = max(was.WithheldVars, 0) + len(was.ExtraVars)
	own.ExtraVars, own.Withheld = nil, nil
	for _, flag := range withholdable() {
		if slices.Contains(was.Withheld, flag) {
			own.Withheld = append(own.Withheld, flag)
		}
	}
	own.Recalled = &run.Recalled{}
	var behind []string
	for _, c := range copies {
		if bytes.Equal(c.Text, k.Text) {
			own.Recalled.Nodes = append(own.Recalled.Nodes, c.Node)
		} else {
			behind = append(behind, fmt.Sprintf("%s has %d", c.Node, len(c.Journal.Entries)))
		}
	}
	p.Request = own
	if err := run.Import(s.opts.StateDir, k, p); err != nil {
		return recordError(err)
	}
	s.tell(Event{Kind: EventNotice, Message: fmt.Sprintf("the record of run %s comes from %s: a journal of %d lines%s",
		k.Run, strings.Join(own.Recalled.Nodes, ", "), len(k.Journal.Entries), also(behind))})
	return nil
}

func also(behind []string) string {
	if len(behind) == 0 {
		return ""
	}
	return " (" + strings.Join(behind, ", ") + ")"
}

// strange reports whether a record comes from control planes, and no one has approved it here.
func strange(r run.Request) bool { return r.Recalled != nil && !r.Recalled.Approved }

// takeOver makes a record that comes from control planes one of this machine: its plan must follow
// from the options, and is approved if anything is left to do. The error is an *Error.
func (s *session) takeOver(ctx context.Context, p run.Proposal, state run.State) (run.Proposal, error) {
	recalled := *p.Request.Recalled
	var err error
	if p.Plan.Undoes == "" {
		if missing := s.opts.lacking(p.Request); len(missing) > 0 {
			return p, &Error{Code: ExitUsage,
				Summary: "kscertctl takes from control planes only what was planned; pass the same as for the run: " +
					strings.Join(missing, ", "),
				Next: "nothing was changed; run the command again with " + strings.Join(missing, ", ")}
		}
		p, err = s.own(p)
	} else if p.Request, err = s.request(); err != nil {
		err = diskError(err)
	}
	if next := state.Next(p.Plan); err == nil && next < len(p.Plan.Steps) {
		s.tell(Event{Kind: EventNotice, Message: fmt.Sprintf("the record comes from %s; it continues with step %s",
			strings.Join(recalled.Nodes, ", "), p.Plan.Steps[next].ID)})
		err = s.approve(ctx, Proposal{Snapshot: p.Snapshot, Diagnosis: p.Diagnosis, Plan: p.Plan})
	}
	if err != nil {
		return p, err
	}
	recalled.Approved = true
	p.Request.Recalled = &recalled
	return p, s.saveProposal(p)
}

// provenAuthorities refuses CA certificates of a recalled record that are not re-issued with the keys
// of this cluster's CAs: only who has such a key can have made one.
func (s *session) provenAuthorities(now snapshot.Snapshot) error {
	all, err := run.LoadAuthorities(s.opts.StateDir, s.dir.ID)
	if err != nil {
		return recordError(err)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		err := provenAuthority(name, all[name], now)
		if err != nil {
			return &Error{Code: ExitNotBegun, Err: err,
				Summary: fmt.Sprintf("the certificate of %s in the recalled record is not used: %v", name, err),
				Next:    "nothing was changed now; roll the run back: " + s.command("rollback", s.dir.ID)}
		}
	}
	return nil
}

func provenAuthority(name certs.Authority, text string, now snapshot.Snapshot) error {
	chain, err := certs.ParseChain([]byte(text))
	if err != nil {
		return err
	}
	if err := certs.CheckReissue(chain[0], chain[0], time.Now()); err != nil {
		return err
	}
	known := false
	for _, n := range now.Nodes {
		if is, ok := n.Authority(name); ok {
			known = true
			if is.PublicKey != certs.Describe(chain[0]).PublicKey {
				return fmt.Errorf("%s has another key", n.Name)
			}
		}
	}
	if !known {
		return errors.New("no node has this CA")
	}
	return nil
}
