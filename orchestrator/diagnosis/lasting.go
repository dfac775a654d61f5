package diagnosis

import (
	"path"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// mending are the reasons, besides those of expired certificates, that a plan has steps for
// and that are critical or cause something else.
var mending = []Reason{CertificateBeginsLater, ServedCertificateStale, CredentialStale, LoopbackCertificateExpired}

// demanded are the warnings that the proof of a result asks for as it does for what is
// critical, and that of which whoever approves a plan should not think that it is renewed.
var demanded = []Reason{StaticPodNotReady, NodeNotJoined, OwnExpiring, EtcdMemberSilent}

// Lasting are the findings that stay whatever a plan does, for no step mends them or what
// may have brought them about: a plan names them, and its last gate does not ask for them.
func (d Diagnosis) Lasting() []Finding {
	var out []Finding
	for _, f := range d.Findings {
		if (f.Severity() == Critical || slices.Contains(demanded, f.Reason)) && !d.mends(f) {
			out = append(out, f)
		}
	}
	return out
}

// mends reports whether a step of a plan mends a finding, or one that may be its cause.
func (d Diagnosis) mends(f Finding) bool {
	if repaired(f) {
		return true
	}
	may := consequences[f.Reason]
	return slices.ContainsFunc(d.Findings, func(c Finding) bool {
		cause := c.Reason == f.Because || slices.Contains(may.anywhere, c.Reason) ||
			c.Node == f.Node && slices.Contains(may.node, c.Reason)
		return cause && d.mends(c)
	})
}

// repaired reports whether a plan has a step for the finding itself.
func repaired(f Finding) bool {
	pair := f.Reason == CertificateUnreadable && path.Base(f.Subject) == snapshot.KubeletPair
	return f.Reason.Expired() || slices.Contains(mending, f.Reason) || pair
}

// byRun reports whether what to do about the finding is the run that repairs it. An API server
// can be restarted by hand, too.
func byRun(f Finding) bool {
	return repaired(f) && f.Reason != LoopbackCertificateExpired
}
