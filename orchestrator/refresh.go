package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/atomicfile"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/kubeconfig"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// KubeconfigError describes why a kubeconfig on this machine, of Options.RefreshKubeconfigs,
// cannot be updated.
type KubeconfigError struct {
	Path string
	Err  error
}

func (e *KubeconfigError) Error() string {
	return fmt.Sprintf("--refresh-kubeconfig %s: %v", e.Path, e.Err)
}
func (e *KubeconfigError) Unwrap() error { return e.Err }

// readKubeconfig reads a kubeconfig to be refreshed. The error is a *KubeconfigError.
func readKubeconfig(path string) ([]byte, kubeconfig.File, error) {
	data, err := os.ReadFile(path)
	var f kubeconfig.File
	if err == nil {
		f, err = kubeconfig.Parse(data)
	}
	if err != nil {
		return nil, f, &KubeconfigError{path, err}
	}
	return data, f, nil
}

// refreshable refuses kubeconfigs that cannot be refreshed, before any change. Without a
// snapshot it skips the checks that need the nodes. The error is an *Error.
func (o *Orchestrator) refreshable(snap *snapshot.Snapshot) error {
	for _, path := range o.opts.RefreshKubeconfigs {
		_, f, err := readKubeconfig(path)
		if err == nil && snap != nil {
			if _, oerr := f.Origin(*snap); oerr != nil {
				err = &KubeconfigError{path, oerr}
			}
		}
		if err != nil {
			return &Error{Code: ExitUsage, Summary: err.Error(), Err: err,
				Next: "nothing was changed now; name a copy of this cluster's admin.conf or super-admin.conf, or " +
					"omit the flag"}
		}
	}
	return nil
}

// refresh updates the named kubeconfigs, and returns a message for each update. The error is
// an *Error; changed means that nodes were changed before.
func (s *session) refresh(ctx context.Context, before, now snapshot.Snapshot, changed bool) (done []string, err error) {
	for _, path := range s.opts.RefreshKubeconfigs {
		note, err := s.refreshOne(ctx, path, before, now)
		if err != nil {
			return done, s.refreshError(err, changed)
		}
		if note != "" {
			s.tell(Event{Kind: EventNotice, Message: note})
			done = append(done, note)
		}
	}
	return done, nil
}

func (s *session) refreshError(err error, changed bool) *Error {
	e := &Error{Code: ExitNotBegun, Summary: err.Error(), Err: err,
		Next: "nothing was changed on any node; fix this, then run the command again"}
	if changed {
		e.Code, e.Next = ExitStopped,
			"all steps on the nodes are done; fix this, then resume: "+s.command("resume", s.dir.ID)
	}
	if interrupted(err) {
		e.Code = ExitInterrupted
	}
	if playbook, ok := errors.AsType[*ansible.RunError](err); ok {
		e.Evidence = taskEvidence(playbook)
	}
	return e
}

// refreshOne updates a kubeconfig and returns a message; empty if it is up to date.
func (s *session) refreshOne(ctx context.Context, path string, before, now snapshot.Snapshot) (string, error) {
	data, f, err := readKubeconfig(path)
	if err != nil {
		return "", err
	}
	from, err := f.OriginSince(before, now)
	if err != nil {
		return "", &KubeconfigError{path, err}
	}
	if from.Current {
		return "", nil
	}
	next, err := s.fetch(ctx, from)
	if err != nil {
		return "", &KubeconfigError{path, err}
	}
	with, cas := f.With, ""
	if from.CAs {
		with, cas = f.WithCAs, " and the CAs"
	}
	text, err := with(next)
	if err != nil {
		return "", &KubeconfigError{path, err}
	}
	backup := path + ".kscertctl-" + s.dir.ID
	if err := atomicfile.Write(backup, data, 0o600); err != nil {
		return "", &KubeconfigError{path, err}
	}
	if err := atomicfile.Replace(path, text); err != nil {
		return "", &KubeconfigError{path, err}
	}
	return fmt.Sprintf("%s now has the client certificate%s of %s on %s, valid until %s; its old content is in %s",
		path, cas, from.Name, from.Node, from.Certificate.NotAfter.UTC().Format(time.DateOnly), backup), nil
}

// fetch gets a kubeconfig from a control plane into memory. Ansible writes it to a temporary
// directory that only this user can read, outside the run directory, which users may share.
func (s *session) fetch(ctx context.Context, from kubeconfig.Origin) (f kubeconfig.File, err error) {
	dir, err := os.MkdirTemp("", "kscertctl-") // 0700
	if err != nil {
		return f, fmt.Errorf("making a directory for it: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); rerr != nil {
			err = errors.Join(err, fmt.Errorf("remove this directory, it holds a private key: %w", rerr))
		}
	}()
	file := filepath.Join(dir, "kubeconfig")
	ctx, cancel := context.WithTimeout(ctx, s.stepTimeout(plan.Step{}))
	defer cancel()
	p := s.playbook("kubeconfig", playbooks.Kubeconfig, []string{from.Node})
	p.Vars["kubeconfig_name"], p.Vars["kubeconfig_dest"] = from.Name, file
	if _, err := s.runner.Run(ctx, p, nil); err != nil {
		return f, fmt.Errorf("fetching %s of %s: %w", from.Name, from.Node, err)
	}
	data, err := os.ReadFile(file)
	if err == nil {
		f, err = kubeconfig.Parse(data)
	}
	switch {
	case err != nil:
		return f, fmt.Errorf("%s of %s: %w", from.Name, from.Node, err)
	case f.Certificate.Fingerprint != from.Certificate.Fingerprint:
		return f, fmt.Errorf("%s of %s has changed since it was inspected", from.Name, from.Node)
	}
	return f, nil
}
