package diagnosis

import (
	"path"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// fixing are the reasons, in addition to those of expired certificates, that a plan has steps for
// and that are critical or cause something else.
var fixing = []Reason{CertificateBeginsLater, ServedCertificateStale, CredentialStale, LoopbackCertificateExpired}

// demanded are the warnings that the proof of a result checks like critical findings, and one that
// the approver of a plan must not expect to be renewed.
var demanded = []Reason{StaticPodNotReady, NodeNotJoined, OwnExpiring, EtcdMemberSilent}

// Lasting are the findings that stay whatever a plan does, because no step fixes them or what may
// have caused them: a plan names them, and its last gate does not check for them.
func (d Diagnosis) Lasting() []Finding {
	var out []Finding
	for _, f := range d.Findings {
		if (f.Severity() == Critical || slices.Contains(demanded, f.Reason)) && !d.fixes(f) {
			out = append(out, f)
		}
	}
	return out
}

// fixes reports whether a step of a plan fixes a finding, or one that may be its cause.
func (d Diagnosis) fixes(f Finding) bool {
	if repaired(f) {
		return true
	}
	may := consequences[f.Reason]
	return slices.ContainsFunc(d.Findings, func(c Finding) bool {
		cause := c.Reason == f.Because || slices.Contains(may.anywhere, c.Reason) ||
			c.Node == f.Node && slices.Contains(may.node, c.Reason)
		return cause && d.fixes(c)
	})
}

// repaired reports whether a plan has a step for the finding itself.
func repaired(f Finding) bool {
	return f.Reason.Expired() || slices.Contains(fixing, f.Reason) || noPair(f)
}

// noPair reports whether a finding is that a kubelet has no client pair.
func noPair(f Finding) bool {
	return f.Reason == CertificateUnreadable && path.Base(f.Subject) == snapshot.KubeletPair
}

// byRun reports whether the next step of the finding is the run that fixes it. An API server can be
// restarted by hand, too.
func byRun(f Finding) bool {
	return repaired(f) && f.Reason != LoopbackCertificateExpired
}
