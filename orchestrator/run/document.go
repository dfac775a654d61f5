package run

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The documents of a run directory that a resumed run needs.
const (
	RequestFile = "request.json"
	PlanFile    = "plan.json"
	BeforeFile  = "snapshot-before.json"
)

// DefaultBackupRoot is the directory of backups on each node.
const DefaultBackupRoot = "/var/backups/kscertctl"

// RequestSchema is the version of the JSON form of a Request.
const RequestSchema = 1

// Request is what was requested, and how the nodes are reached. It holds names of files, all
// absolute, and no secrets. That of a run's record is trusted if the record is (Record.Trusted);
// that of a plan file commands nothing.
type Request struct {
	Schema int `json:"schema"`
	// Dir is the directory the command was run in: its ansible.cfg counts.
	Dir         string   `json:"dir"`
	Inventories []string `json:"inventories"`
	BinDir      string   `json:"binDir,omitempty"`
	User        string   `json:"user,omitempty"`
	PrivateKey  string   `json:"privateKey,omitempty"`
	Forks       int      `json:"forks,omitempty"`
	Become      bool     `json:"become,omitempty"`
	// How to become another user and to connect, as in ansible-playbook's flags.
	BecomeMethod string `json:"becomeMethod,omitempty"`
	BecomeUser   string `json:"becomeUser,omitempty"`
	Connection   string `json:"connection,omitempty"`
	// Timeout of a connection, seconds.
	Timeout int `json:"timeout,omitempty"`
	// Passwords that were asked for, and are asked for again.
	AskPass       bool `json:"askPass,omitempty"`
	AskBecomePass bool `json:"askBecomePass,omitempty"`
	AskVaultPass  bool `json:"askVaultPass,omitempty"`

	ConnectionPasswordFile string `json:"connectionPasswordFile,omitempty"`
	BecomePasswordFile     string `json:"becomePasswordFile,omitempty"`
	// Withheld are the flags that were given and whose values are not kept, since they may hold
	// passwords: arguments of ssh, sftp and scp, and "options after --".
	Withheld []string `json:"withheld,omitempty"`
	// ExtraVars are those of the form @FILE. The others may be passwords: only their number is
	// kept.
	ExtraVars          []string `json:"extraVars,omitempty"`
	WithheldVars       int      `json:"withheldVars,omitempty"`
	VaultIDs           []string `json:"vaultIDs,omitempty"`
	VaultPasswordFiles []string `json:"vaultPasswordFiles,omitempty"`
	KubesprayDir       string   `json:"kubesprayDir,omitempty"`
	// Kubespray is the state of the checkout when the plan was made; Tags and SkipTags are for its
	// playbooks.
	Kubespray *plan.Kubespray `json:"kubespray,omitempty"`
	Tags      []string        `json:"tags,omitempty"`
	SkipTags  []string        `json:"skipTags,omitempty"`
	// AcceptSANLoss are names that a new certificate may lose.
	AcceptSANLoss []string `json:"acceptSANLoss,omitempty"`
	// AcceptSubjectChange are files whose new certificate may have another subject.
	AcceptSubjectChange []string `json:"acceptSubjectChange,omitempty"`
	// AllowNotInInventory names control planes and etcd members that may be missing from the
	// inventory.
	AllowNotInInventory []string `json:"allowNotInInventory,omitempty"`
	// AllowUnreachable names nodes that may be left out if they cannot be reached.
	AllowUnreachable []string `json:"allowUnreachable,omitempty"`
	// RefreshKubeconfigs are kubeconfigs on the control node to be updated.
	RefreshKubeconfigs []string    `json:"refreshKubeconfigs,omitempty"`
	Playbook           plan.Choice `json:"playbook"`
	// Limit, SkipPhases and UntilPhase are the requested part of the plan.
	Limit      []string     `json:"limit,omitempty"`
	SkipPhases []plan.Phase `json:"skipPhases,omitempty"`
	UntilPhase plan.Phase   `json:"untilPhase,omitempty"`
	Serial     string       `json:"serial,omitempty"`
	// MaxUnavailable is how many control planes may be renewed between two gates.
	MaxUnavailable int                  `json:"maxUnavailable,omitempty"`
	Thresholds     diagnosis.Thresholds `json:"thresholds"`
	GateTimeout    time.Duration        `json:"gateTimeout"`
	StableFor      time.Duration        `json:"stableFor,omitempty"`
	StepTimeout    time.Duration        `json:"stepTimeout,omitempty"`
	BackupRoot     string               `json:"backupRoot"`
	// EtcdSnapshot defines which backups hold a snapshot of etcd; plan.SnapshotAuto if empty.
	EtcdSnapshot plan.EtcdSnapshot `json:"etcdSnapshot,omitempty"`
	// RenewCAs are the CAs to be re-issued, and CAValidity their lifetime.
	RenewCAs   []plan.CA     `json:"renewCAs,omitempty"`
	CAValidity time.Duration `json:"caValidity,omitempty"`
	// RotateCAs are the CAs of a rotation, and RotateStage the stage that is taken.
	RotateCAs   []plan.CA       `json:"rotateCAs,omitempty"`
	RotateStage diagnosis.Stage `json:"rotateStage,omitempty"`
	// RestartWorkloads is which workloads are restarted before the cluster's CA is dropped, or after it was
	// replaced at once. PatchCABundles is for the latter.
	RestartWorkloads plan.Restart `json:"restartWorkloads,omitempty"`
	PatchCABundles   bool         `json:"patchCABundles,omitempty"`
	// Signed are certificates from CAs outside of the cluster, to be placed.
	Signed []plan.Signed `json:"signed,omitempty"`
	// Recalled is set if the record comes from control planes.
	Recalled *Recalled `json:"recalled,omitempty"`
}

// Recalled is where a record comes from that was not written on this machine.
type Recalled struct {
	// Nodes had the copy that counts.
	Nodes []string `json:"nodes"`
	// Approved is true once the plan was approved here: then the rest of the request is that of this
	// machine.
	Approved bool `json:"approved,omitempty"`
}

// Policy is the policy of the request for a plan.
func (r Request) Policy() plan.Policy {
	return plan.Policy{
		Choice: r.Playbook, Kubespray: r.Kubespray, Limit: r.Limit, Skip: r.SkipPhases, Until: r.UntilPhase,
		MaxUnavailable: r.MaxUnavailable, AllowNotInInventory: r.AllowNotInInventory,
		EtcdSnapshot: r.EtcdSnapshot, BackupRoot: r.BackupRoot, RenewCAs: r.RenewCAs, CAValidity: r.CAValidity,
		Signed: r.Signed, RotateCAs: r.RotateCAs, RotateStage: r.RotateStage,
		RestartWorkloads: r.RestartWorkloads, PatchBundles: r.PatchCABundles,
	}
}

// ProposalSchema is the version of the JSON form of a Proposal.
const ProposalSchema = 1

// Proposal is a plan with everything that it is based on: what "plan --out" writes, "apply" carries
// out, and a run directory keeps in three files.
type Proposal struct {
	Schema int `json:"schema"`
	// Made is by the clock of the control node.
	Made time.Time `json:"made"`
	// Cluster is the result of ClusterID: it distinguishes clusters.
	Cluster   string              `json:"cluster"`
	Request   Request             `json:"request"`
	Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
	Plan      plan.Plan           `json:"plan"`
	Snapshot  snapshot.Snapshot   `json:"snapshot"`
}

// ClusterID identifies a cluster: the SHA-256 of its CA's public key, hexadecimal, from the first
// control plane that could be asked; empty if none has one. A CA that is re-issued keeps its key. While a
// CA is rotated the older one counts, until it is dropped.
func ClusterID(s snapshot.Snapshot) string {
	for _, n := range s.With(cluster.ControlPlane) {
		var oldest certs.Certificate
		for _, c := range n.Certificates {
			if c.Kind == certs.KindCA && !c.Served && (oldest.PublicKey == "" || c.NotBefore.Before(oldest.NotBefore)) {
				oldest = c
			}
		}
		if oldest.PublicKey != "" {
			return oldest.PublicKey
		}
	}
	return ""
}

// Is reports whether a snapshot is of the cluster of a proposal: the same, or one whose CA the plan
// replaces.
func (p Proposal) Is(s snapshot.Snapshot) bool {
	id := ClusterID(s)
	if p.Plan.ReplacesAtOnce() {
		return id == p.Cluster || sameTokens(p.Snapshot, s)
	}
	if cas, _ := p.Plan.Rotates(); id == p.Cluster || !slices.Contains(cas, certs.KubernetesCA) {
		return id == p.Cluster
	}
	r := diagnosis.RotationOf(p.Snapshot, certs.KubernetesCA)
	return r.Next != nil && slices.ContainsFunc(s.With(cluster.ControlPlane), func(n snapshot.Node) bool {
		return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool {
			return c.Kind == certs.KindCA && !c.Served && c.Fingerprint == r.Next.Fingerprint
		})
	})
}

// sameTokens reports whether the first control planes of two snapshots verify service account tokens with
// the same key, which stays when CAs are replaced at once.
func sameTokens(a, b snapshot.Snapshot) bool {
	of := func(s snapshot.Snapshot) string {
		for _, n := range s.With(cluster.ControlPlane) {
			if digest := n.Digests[n.Facts["pki-real"]+"/sa.pub"]; digest != "" {
				return digest
			}
		}
		return ""
	}
	return of(a) != "" && of(a) == of(b)
}

// Digest is the SHA-256 of a plan file, hexadecimal: it binds the whole file, also what does not
// follow from the snapshot in it.
func Digest(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// WriteProposal writes a plan file, readable by its owner alone, and returns its Digest.
func WriteProposal(path string, p Proposal) (digest string, err error) {
	data, err := encode(p)
	if err == nil {
		err = saveBytes(path, data)
	}
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	return Digest(data), nil
}

// ReadProposal reads a plan file. A diagnosis or a plan that was changed by hand, or made by
// another version that would plan differently, is a *DamagedError: both are pure functions of
// snapshot and request, so they are made again and compared. Only its Digest binds snapshot and
// request themselves.
func ReadProposal(path string) (Proposal, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Proposal{}, fmt.Errorf("reading the plan: %w", err)
	}
	return ParseProposal(path, data)
}

// ParseProposal is ReadProposal for the bytes of a file of that name.
func ParseProposal(name string, data []byte) (Proposal, error) {
	var (
		p Proposal
		w struct {
			Proposal
			// As they were written, to be compared.
			Diagnosis json.RawMessage `json:"diagnosis"`
			Plan      json.RawMessage `json:"plan"`
		}
	)
	damaged := func(format string, args ...any) (Proposal, error) {
		return Proposal{}, &DamagedError{File: name, Reason: fmt.Sprintf(format, args...)}
	}
	if err := checkSchema(data, ProposalSchema); err != nil {
		return damaged("%v", err)
	}
	if err := decode(data, &w); err != nil {
		return damaged("%v", err)
	}
	p = w.Proposal
	if id := ClusterID(p.Snapshot); p.Cluster == "" || id != p.Cluster {
		return damaged("its snapshot is of another cluster than it names")
	}
	var err error
	p.Diagnosis = diagnosis.Diagnose(p.Snapshot, p.Request.Thresholds)
	p.Plan, err = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, p.Request.Policy())
	if err != nil {
		return damaged("its snapshot allows no plan: %v", err)
	}
	if !says(w.Diagnosis, p.Diagnosis) {
		return damaged("its diagnosis does not follow from its snapshot: it was changed, or made by another version")
	}
	if !says(w.Plan, p.Plan) {
		return damaged("its plan does not follow from its diagnosis: it was changed, or made by another version")
	}
	return p, nil
}

// says reports whether text is the JSON form of a document, whatever its indentation.
func says(text json.RawMessage, document any) bool {
	var compact bytes.Buffer
	want, err := json.Marshal(document)
	return err == nil && json.Compact(&compact, text) == nil && bytes.Equal(compact.Bytes(), want)
}

// load fills in a document of a run directory, and reports whether there is one. The error is a
// *DamagedError, or why it cannot be read.
func load(dir, file string, schema int, decode func([]byte, any) error, into any) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	if err = checkSchema(data, schema); err == nil {
		err = decode(data, into)
	}
	if err != nil {
		return true, &DamagedError{File: file, Reason: err.Error()}
	}
	return true, nil
}

// checkSchema checks that data is a document of the supported schema.
func checkSchema(data []byte, want int) error {
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("it is not a JSON document: %w", err)
	}
	if head.Schema == nil {
		return errors.New("it has no schema")
	}
	if *head.Schema != want {
		return fmt.Errorf("it has schema %d, this version reads %d", *head.Schema, want)
	}
	return nil
}

// decode reads one JSON document that has no field the type does not know.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

// planDocument is plan.json.
type planDocument struct {
	Schema    int             `json:"schema"`
	Made      time.Time       `json:"made"`
	Cluster   string          `json:"cluster"`
	Diagnosis json.RawMessage `json:"diagnosis"` // findings are written with fields that follow from their reason
	Plan      plan.Plan       `json:"plan"`
}

// SaveProposal writes the documents that a resumed run needs.
func (d *Dir) SaveProposal(p Proposal) error {
	found, err := json.Marshal(p.Diagnosis)
	if err != nil {
		return fmt.Errorf("writing %s: %w", PlanFile, err)
	}
	return errors.Join(
		d.Save(RequestFile, p.Request),
		d.Save(BeforeFile, p.Snapshot),
		d.Save(PlanFile, planDocument{ProposalSchema, p.Made, p.Cluster, found, p.Plan}),
	)
}

// MissingError names a file that a run's record lacks.
type MissingError struct{ Run, File string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("the record of run %s has no %s", e.Run, e.File)
}

// LoadProposal reads back what SaveProposal wrote. The error is a *MissingError
// or a *DamagedError, naming the file.
func LoadProposal(root, id string) (Proposal, error) {
	p := Proposal{Schema: ProposalSchema}
	var doc planDocument
	for _, f := range []struct {
		name   string
		schema int
		into   any
	}{
		{RequestFile, RequestSchema, &p.Request},
		{PlanFile, ProposalSchema, &doc},
		{BeforeFile, snapshot.Schema, &p.Snapshot},
	} {
		found, err := load(filepath.Join(root, runsDir, id), f.name, f.schema, decode, f.into)
		if err != nil {
			return Proposal{}, fmt.Errorf("the record of run %s: %w", id, err)
		}
		if !found {
			return Proposal{}, &MissingError{Run: id, File: f.name}
		}
	}
	p.Made, p.Cluster, p.Plan = doc.Made, doc.Cluster, doc.Plan
	if err := json.Unmarshal(doc.Diagnosis, &p.Diagnosis); err != nil {
		return Proposal{}, fmt.Errorf("the record of run %s: %w", id,
			&DamagedError{File: PlanFile, Reason: err.Error()})
	}
	return p, nil
}
