package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// keeping is what control planes keep of a run, so that any machine can continue it.
type keeping struct {
	run.Parcel
	// plan is on these nodes.
	plan map[string]bool
	// replaces a copy that does not begin like this record: it was chosen among all of them.
	replaces bool
	// ahead: a copy does not begin like this record, and was left as it is.
	ahead bool
}

// keepTask is the task that keeps the record, and continued what it prints if the one that is there
// does not begin like the new one.
const (
	keepTask  = "Keep the record of the run"
	continued = "another machine has continued run"
)

// ContinuedError means that another machine has continued a run.
type ContinuedError struct{ Run string }

func (e *ContinuedError) Error() string {
	return fmt.Sprintf("another machine has continued run %s: what control planes keep of it does not begin like "+
		"the record here", e.Run)
}

// keep prepares the copies of a run's record. The error is an *Error.
func (s *session) keep(w work) error {
	parcel, err := s.dir.Pack(w.Proposal)
	s.keeping = keeping{Parcel: parcel, plan: map[string]bool{}, replaces: w.recalledNow}
	return diskError(err)
}

// keeps makes a playbook put the record, as far as it has got, on the control planes that answer,
// before it changes a node. The error is that of keepNow, which puts a long plan there first.
func (s *session) keeps(ctx context.Context, p *ansible.Playbook) error {
	files, whole := s.kept(p)
	if whole {
		p.Vars["record_files"] = files
		return nil
	}
	if !s.keeping.Whole {
		p.Vars["record_files"] = files
		return s.keepNow(ctx)
	}
	p.Vars["record_files"] = slices.Concat(s.keeping.Pieces, files)
	return nil
}

// kept sets the variables of a playbook that keeps the record, except for its files, which it returns,
// and whether the plan is there already.
func (s *session) kept(p *ansible.Playbook) (files []string, whole bool) {
	var hosts []string
	whole = true
	for _, name := range cluster.Names(s.cluster.With(cluster.ControlPlane)) {
		if n, known := s.latest.Node(name); known && n.Failure == nil {
			hosts, whole = append(hosts, name), whole && s.keeping.plan[name]
		}
	}
	if len(hosts) == 0 || s.keeping.Plan == "" || s.keeping.ahead {
		return []string{}, true
	}
	p.Vars["kscert_record_hosts"], p.Vars["record_run"] = strings.Join(hosts, ","), s.dir.ID
	p.Vars["record_plan"], p.Vars["record_replace"] = s.keeping.Plan, s.keeping.replaces
	return s.dir.Kept(), whole
}

// keptBy notes which nodes have the plan. The error is a *ContinuedError.
func (s *session) keptBy(o ansible.Outcome) error {
	for node, answers := range o.Answers {
		if slices.ContainsFunc(answers, func(a string) bool { return strings.HasPrefix(a, "recorded: ") }) {
			s.keeping.plan[node] = true
		}
	}
	if slices.ContainsFunc(o.Failures, func(e ansible.Event) bool {
		return e.Task != nil && strings.HasSuffix(e.Task.Name, keepTask) &&
			strings.Contains(evidenceText(e.Evidence), continued)
	}) {
		s.keeping.ahead = true
		return &ContinuedError{Run: s.dir.ID}
	}
	return nil
}

// keepNow does it on its own: before a playbook of others, and with a plan of any length. That it
// could not be done is only reported; the error is a *ContinuedError, or that ctx is done.
func (s *session) keepNow(ctx context.Context) error {
	p := s.playbook("record", playbooks.Record, nil)
	files, whole := s.kept(&p)
	if p.Vars["kscert_record_hosts"] == nil {
		return nil
	}
	p.Vars["record_files"], p.Vars["record_pieces"] = files, []string{}
	if !whole {
		p.Vars["record_pieces"] = s.keeping.Pieces
	}
	outcome, err := s.runner.Run(ctx, p, nil)
	switch ahead := s.heard(nil, outcome); {
	case ahead != nil:
		return ahead
	case ctx.Err() != nil:
		return err
	case err != nil:
		s.tell(Event{Kind: EventNotice, Message: "the record of the run could not be kept on nodes: " + err.Error()})
	}
	return nil
}
