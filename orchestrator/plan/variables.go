package plan

import (
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Settings are the common settings of the playbooks of all steps of a plan.
type Settings struct {
	// Run names the run and its backups, which are below BackupRoot on each node.
	Run, BackupRoot string
	// EtcdSnapshot defines which backups hold a snapshot of etcd.
	EtcdSnapshot EtcdSnapshot
	// RenewBefore: a certificate that expires within this time is due.
	RenewBefore time.Duration
	// Wait is how long a component may take to come back.
	Wait time.Duration
	// Serial is how many kubelets get a new certificate at a time; empty for all.
	Serial string
	// AcceptSANLoss and AcceptSubjectChange are what new certificates may lose; if empty, the
	// inventory's setting counts.
	AcceptSANLoss, AcceptSubjectChange []string
	// Signed are the certificates to be placed, if the plan issues none.
	Signed []Signed
	// Snapshot is the state of the nodes: what is in place there is not placed again.
	Snapshot snapshot.Snapshot
}

// Variables are the extra variables of every playbook of a run, by name.
func (s Settings) Variables() map[string]any {
	vars := map[string]any{
		"kscert_run":                  s.Run,
		"kscert_backup_root":          s.BackupRoot,
		"kscert_etcd_snapshot":        s.EtcdSnapshot,
		"kscert_renew_before_seconds": int64(s.RenewBefore.Seconds()),
		"kscert_wait_seconds":         int64(s.Wait.Seconds()),
	}
	if len(s.AcceptSANLoss) > 0 {
		vars["kscert_accept_san_loss"] = s.AcceptSANLoss
	}
	if len(s.AcceptSubjectChange) > 0 {
		vars["kscert_accept_subject_change"] = s.AcceptSubjectChange
	}
	return vars
}

// Variables are the extra variables of the playbook of a step, by name: those of every playbook,
// and the step's own.
func (s Step) Variables(of Settings) map[string]any {
	vars := of.Variables()
	vars["kscert_hosts"] = strings.Join(s.Nodes, ",")
	if s.NoWait {
		vars["kscert_wait_seconds"] = 0
	}
	if s.AtOnce > 1 {
		vars["kscert_max_unavailable"] = s.AtOnce
	}
	if s.Signer != "" {
		vars["kscert_etcd_signer"] = s.Signer
	}
	row := s.Action.Row()
	if len(of.Signed) > 0 && row.Signed {
		vars["kscert_signed"] = signedFor(of.Signed, s.Nodes, of.Snapshot)
	}
	if s.Action == CAIssue {
		vars["kscert_cas"], vars["kscert_ca_seconds"] = s.Authorities, int64(s.Validity.Seconds())
	}
	if s.Action == CAPublish && s.Stage != "" {
		vars["kscert_ca_stage"] = s.Stage
	}
	if s.Action == CARotate {
		s.rotationVariables(vars)
	}
	if s.Offline {
		vars["kscert_ca_offline"] = true
	} else if row.Serial != "" && of.Serial != "" {
		vars[row.Serial] = of.Serial
	}
	return vars
}
