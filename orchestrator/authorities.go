package orchestrator

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/gate"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// validitySlack is how far the expiry of a CA certificate may differ from the request: a node's
// clock, and the time until it signs.
const validitySlack = time.Hour

// issued reports whether this run already has the new certificates of all CAs of a step: if some
// nodes may have them, all must get the same ones.
func (s *session) issued(step plan.Step) (bool, error) {
	have, err := run.LoadAuthorities(s.opts.StateDir, s.dir.ID)
	if err != nil {
		return false, err
	}
	for _, name := range step.Authorities {
		if have[name] == "" {
			return false, nil
		}
	}
	return true, nil
}

// noteAuthorities checks the CA certificates that the node of a step has re-issued, and saves them
// for all nodes.
func (s *session) noteAuthorities(step plan.Step, before snapshot.Snapshot, o ansible.Outcome) error {
	node := step.Nodes[0]
	answer, err := o.Payload(node)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	all, err := run.LoadAuthorities(s.opts.StateDir, s.dir.ID)
	if err != nil {
		return err
	}
	n, _ := before.Node(node)
	for _, name := range step.Authorities {
		text, err := reissued(answer, name, n, step.Validity, time.Now())
		if err != nil {
			return fmt.Errorf("the new certificate of %s from %s is not used: %w", name, node, err)
		}
		all[name] = text
	}
	return s.dir.SaveAuthorities(all)
}

// reissued returns the new certificate of a CA from a node's output, in PEM, once it is verified to
// be one for that node's CA with the requested lifetime.
func reissued(answer string, name certs.Authority, n snapshot.Node, validity time.Duration, now time.Time) (string,
	error) {
	for line := range strings.Lines(answer) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 || fields[0] != "ca: "+string(name) {
			continue
		}
		var pair [2][]byte
		for i, field := range fields[1:] {
			data, err := base64.StdEncoding.DecodeString(field)
			if err != nil {
				return "", fmt.Errorf("it cannot be read: %w", err)
			}
			pair[i] = data
		}
		old, err := certs.ParseChain(pair[0])
		if err != nil {
			return "", fmt.Errorf("the old certificate cannot be read: %w", err)
		}
		renewed, err := certs.ParseChain(pair[1])
		if err != nil {
			return "", fmt.Errorf("it cannot be read: %w", err)
		}
		if was, _ := n.Authority(name); certs.Describe(old[0]).Fingerprint != was.Fingerprint {
			return "", fmt.Errorf("%s has changed since it was inspected", was.Path)
		}
		if err := certs.CheckReissue(old[0], renewed[0], now); err != nil {
			return "", err
		}
		end := renewed[0].NotAfter
		switch off := end.Sub(now.Add(validity)).Abs(); {
		case validity > 0 && off > validitySlack:
			return "", fmt.Errorf("it ends at %s, and not %s from now", end.Format(time.RFC3339), validity)
		case validity == 0 && end.Before(old[0].NotAfter):
			return "", fmt.Errorf("it ends at %s, earlier than the old one", end.Format(time.RFC3339))
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: renewed[0].Raw})), nil
	}
	return "", fmt.Errorf("the node has printed none")
}

// newAuthorities are the CA certificates of a step in the form of its playbook.
func (s *session) newAuthorities(step plan.Step) (map[string]string, error) {
	all, err := run.LoadAuthorities(s.opts.StateDir, s.dir.ID)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range step.Authorities {
		if all[name] == "" {
			return nil, fmt.Errorf("the record of this run has no new certificate of %s", name)
		}
		out[string(name)] = base64.StdEncoding.EncodeToString([]byte(all[name]))
	}
	return out, nil
}

// mayChange sets for the gate of a step which CA certificates replace the earlier ones: in a run
// that renews CAs the new ones, in a rollback on each node the one from before the run that it
// undoes.
func (s *session) mayChange(w work, step plan.Step, check *gate.Check) error {
	if w.Plan.Undoes != "" {
		was, err := run.LoadProposal(s.opts.StateDir, w.Plan.Undoes)
		if err != nil {
			return err
		}
		check.Restored = was.Snapshot
		return nil
	}
	if cas, stage := w.Plan.Rotates(); len(cas) > 0 {
		check.Rotated = cas
		if step.ID == w.Plan.Steps[len(w.Plan.Steps)-1].ID {
			check.Stage = stage
		}
	}
	if len(w.Plan.Authorities()) == 0 {
		return nil
	}
	all, err := run.LoadAuthorities(s.opts.StateDir, s.dir.ID)
	if err != nil {
		return err
	}
	check.Renewed = map[certs.Authority]string{}
	for name, text := range all {
		c, err := certs.ParsePEM([]byte(text))
		if err != nil {
			return fmt.Errorf("the record of this run: the certificate of %s: %w", name, err)
		}
		check.Renewed[name] = c.Fingerprint
	}
	for _, later := range w.Plan.Steps[slices.IndexFunc(w.Plan.Steps,
		func(s plan.Step) bool { return s.ID == step.ID })+1:] {
		if later.Action == plan.CARenew {
			check.Later = append(check.Later, later.Nodes...)
		}
	}
	return nil
}
