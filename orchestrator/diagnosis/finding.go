package diagnosis

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Finding is one fact that matters.
type Finding struct {
	// Reason is the stable code.
	Reason Reason
	// Node is the inventory name of the node it was found on.
	Node string
	// Subject is what it is about: a certificate, a file, a component.
	Subject string
	// Evidence is what was seen, in the words of whoever said it.
	Evidence string
}

// Severity of the finding's reason.
func (f Finding) Severity() Severity { return f.Reason.Severity() }

// Title is the reason in words.
func (f Finding) Title() string { return f.Reason.Title() }

// Next is what to do or look at next.
func (f Finding) Next() string { return f.Reason.Next() }

// MarshalJSON writes the finding with what its reason says.
func (f Finding) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Reason   Reason   `json:"reason"`
		Severity Severity `json:"severity"`
		Node     string   `json:"node,omitempty"`
		Subject  string   `json:"subject,omitempty"`
		Title    string   `json:"title"`
		Evidence string   `json:"evidence,omitempty"`
		Next     string   `json:"next"`
	}{f.Reason, f.Severity(), f.Node, f.Subject, f.Title(), f.Evidence, f.Next()})
}

// Severity says how much a finding matters.
type Severity string

// Severities, from grave to mild.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
)

func (s Severity) rank() int {
	if s == Critical {
		return 0
	}
	return 1
}

// Reason is a stable code: others build on it, so none is ever renamed.
type Reason string

// The reason codes.
const (
	NodeUnreachable        Reason = "node-unreachable"
	PrivilegeMissing       Reason = "privilege-missing"
	InspectionFailed       Reason = "inspection-failed"
	ClockSkew              Reason = "clock-skew"
	CAExpired              Reason = "ca-expired"
	CAExpiring             Reason = "ca-expiring"
	CAMissing              Reason = "ca-missing"
	CAKeyMissing           Reason = "ca-key-missing"
	AuthoritiesDiffer      Reason = "authorities-differ"
	CertificateExpired     Reason = "certificate-expired"
	CertificateExpiring    Reason = "certificate-expiring"
	CertificateNotYetValid Reason = "certificate-not-yet-valid"
	CertificateUnapproved  Reason = "certificate-unapproved"
	CertificateUnreadable  Reason = "certificate-unreadable"
	ServedCertificateStale Reason = "served-certificate-stale"
	APIUnusable            Reason = "api-server-unusable"
	ManifestMissing        Reason = "manifest-missing"
	KubeletDown            Reason = "kubelet-down"
	KubeadmConfigMissing   Reason = "kubeadm-config-missing"
	ToolMissing            Reason = "tool-missing"
	NodeNotReady           Reason = "node-not-ready"
	NodeNotRegistered      Reason = "node-not-registered"
	StaticPodNotReady      Reason = "static-pod-not-ready"
)

// Reasons returns every reason code, in alphabetical order.
func Reasons() []Reason { return slices.Sorted(maps.Keys(reasons)) }

// Severity says how much it matters.
func (r Reason) Severity() Severity { return reasons[r].severity }

// Blocks reports whether nothing may be changed while it holds.
func (r Reason) Blocks() bool { return reasons[r].blocks }

// Title is the reason in words.
func (r Reason) Title() string { return reasons[r].title }

// Next is what to do or look at next.
func (r Reason) Next() string { return reasons[r].next }

// failureReasons maps why a node could not be inspected to a reason.
var failureReasons = map[snapshot.FailureKind]Reason{
	snapshot.Unreachable: NodeUnreachable,
	snapshot.Missing:     NodeUnreachable,
	snapshot.Privilege:   PrivilegeMissing,
	snapshot.Garbled:     InspectionFailed,
	snapshot.Failed:      InspectionFailed,
}

// meaning is what a reason says. blocks: nothing may be changed while it holds.
type meaning struct {
	severity Severity
	blocks   bool
	title    string
	next     string
}

var reasons = map[Reason]meaning{
	NodeUnreachable:        {Critical, true, "the node cannot be reached", "check address, SSH user and key with: ansible -i INVENTORY NODE -m ansible.builtin.raw -a true"},
	PrivilegeMissing:       {Critical, true, "root cannot be had on the node", "let the SSH user become root without a password, or give Ansible the password (ansible_become_password in a vault)"},
	InspectionFailed:       {Critical, true, "the node could not be inspected", "read the log of the inspection in the run directory"},
	ClockSkew:              {Critical, true, "the node's clock is wrong", "set the clock (NTP) first: with a wrong clock no certificate can be judged or issued"},
	CAExpired:              {Critical, false, "a certificate authority has expired", "all that it signed must be issued anew, which is never done without being asked for: see docs/explanation/certificates.md"},
	CAExpiring:             {Warning, false, "a certificate authority is about to expire", "plan a rotation of the authority while the cluster is healthy"},
	CAMissing:              {Critical, true, "the certificate of an authority is missing", "restore it from a backup or from another control plane node; a new one would break every kubelet and token"},
	CAKeyMissing:           {Critical, true, "the key of an authority is missing", "it may be kept outside (kube_external_ca_mode): then certificates must be issued where the key is"},
	AuthoritiesDiffer:      {Critical, true, "control planes hold different authorities or service account keys", "find out which is right; nothing may be issued before they are the same"},
	CertificateExpired:     {Critical, false, "the certificate has expired", "renew it: kscertctl run"},
	CertificateExpiring:    {Warning, false, "the certificate is about to expire", "renew it: kscertctl run"},
	CertificateNotYetValid: {Critical, true, "the certificate is not valid yet", "check the clocks of this node and of the one that issued it; renew nothing before they are right"},
	CertificateUnapproved:  {Warning, false, "the kubelet's serving certificate has expired and the next one waits to be approved", "read: kubectl get csr; approve what the kubelet asked for, or let kubelet_csr_approver_enabled do it"},
	CertificateUnreadable:  {Critical, false, "no certificate where one belongs", "look at the file; restore it from a backup if it is damaged"},
	ServedCertificateStale: {Warning, false, "the certificate on disk is not the one that is served", "restart the component: kscertctl run"},
	APIUnusable:            {Critical, false, "the API server cannot be used", "an expired certificate on the node explains it: kscertctl run; where none does, mend what the API server's and the kubelet's logs say"},
	ManifestMissing:        {Critical, true, "the API server's static pod manifest is missing", "restore manifests/kube-apiserver.yaml from a backup or with: kubeadm init phase control-plane apiserver"},
	KubeletDown:            {Critical, false, "the kubelet does not run", "read: journalctl -u kubelet"},
	KubeadmConfigMissing:   {Critical, true, "the node's kubeadm configuration is missing", "restore kubeadm-config.yaml: without it SANs, folders and external etcd would be forgotten"},
	ToolMissing:            {Critical, true, "a command that is needed is missing on the node", "install it, or set bin_dir in the inventory to where it lies"},
	NodeNotReady:           {Critical, false, "the node is not Ready", "read: kubectl describe node NODE, and journalctl -u kubelet on it"},
	NodeNotRegistered:      {Critical, false, "the API server does not know the node", "check kube_override_hostname in the inventory, or whether the node ever joined"},
	StaticPodNotReady:      {Warning, false, "a control plane component is not Ready", "read its log: crictl logs on the node"},
}
