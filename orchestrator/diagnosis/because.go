package diagnosis

import "slices"

// causes are what may cause a reason: on the same node, and on any node of the cluster.
type causes struct{ node, anywhere []Reason }

// brokenFiles are what keeps a component from starting or from being trusted.
var brokenFiles = []Reason{
	DiskFull, UnknownAuthority, IdentityWrong, KeyMismatch, FileMissing, CertificateNotYetValid, CertificateBeginsLater,
	CertificateUnreadable,
}

// outage causes the symptoms of an API server that no expired certificate explains; if one does,
// the finding is made with it.
var outage = causes{
	node: slices.Concat(
		[]Reason{ClockSkew, CAMissing, AuthoritiesDiffer, ManifestMissing, ManifestInvalid, OwnInvalid}, brokenFiles,
		[]Reason{LoopbackCertificateExpired, SANMissing, ContainerRuntimeDown, KubeletDown}),
	anywhere: []Reason{EtcdMemberDown, EtcdNoQuorum},
}

// absence causes a node to be missing from the API server.
var absence = causes{
	node: slices.Concat(
		[]Reason{NodeUnreachable, ClockSkew, CAMissing, AuthoritiesDiffer, CAExpired, OwnInvalid}, brokenFiles,
		[]Reason{KubeletClientExpired, ContainerRuntimeDown, KubeletDown, NameResolutionFailed, LoadBalancer,
			APIBlocked}),
	anywhere: []Reason{SANMissing},
}

// consequences lists, for each reason that may be a symptom, what explains it.
var consequences = map[Reason]causes{
	UnknownAuthority: {node: []Reason{AuthoritiesDiffer}},
	KeyMismatch:      {node: []Reason{AuthoritiesDiffer, UnknownAuthority}},

	AdministratorForbidden: {node: []Reason{IdentityWrong}},
	KubeletAccessForbidden: {node: []Reason{IdentityWrong}},

	CAExpired:              {node: []Reason{ClockSkew}},
	CertificateNotYetValid: {node: []Reason{ClockSkew}},
	ServingExpired:         {node: []Reason{ClockSkew}},
	EtcdExpired:            {node: []Reason{ClockSkew}},
	KubeletClientExpired:   {node: []Reason{ClockSkew}},
	ClientExpired:          {node: []Reason{ClockSkew}},
	KubeletAccessExpired:   {node: []Reason{ClockSkew}},
	FrontProxyExpired:      {node: []Reason{ClockSkew}},
	KubeletServingExpired:  {node: []Reason{ClockSkew}},
	OwnInvalid:             {node: []Reason{ClockSkew}},

	ContainerRuntimeDown: {node: []Reason{DiskFull}},
	KubeletDown: {node: slices.Concat(brokenFiles,
		[]Reason{CAMissing, KubeletClientExpired, OwnInvalid, ContainerRuntimeDown})},
	EtcdMemberDown: {node: slices.Concat(brokenFiles,
		[]Reason{EtcdExpired, OwnInvalid, ContainerRuntimeDown, KubeletDown})},
	EtcdMemberSilent: {node: slices.Concat([]Reason{ClockSkew}, brokenFiles,
		[]Reason{EtcdExpired, OwnInvalid, ContainerRuntimeDown, KubeletDown})},
	EtcdNoQuorum: {
		node:     slices.Concat([]Reason{ClockSkew}, brokenFiles),
		anywhere: []Reason{EtcdExpired, OwnInvalid, EtcdMemberDown},
	},

	LoadBalancer: {node: []Reason{ContainerRuntimeDown, KubeletDown}},
	// An API server whose manifest is gone keeps running for a while without answering.
	APIBlocked:         {node: []Reason{ManifestMissing, ManifestInvalid}},
	APICrashing:        outage,
	APIServerRefused:   outage,
	APIServerNotReady:  outage,
	APIRejectsClient:   outage,
	APIServerUntrusted: outage,

	NodeNotRegistered: absence,
	NodeNotReady:      absence,
	StaticPodNotReady: {
		node: slices.Concat(absence.node,
			[]Reason{ManifestMissing, ManifestInvalid, ServingExpired, EtcdExpired, ClientExpired,
				ServedCertificateStale, CredentialStale, LoopbackCertificateExpired, SANMissing, EtcdMemberDown,
				EtcdNoQuorum,
				APICrashing, APIBlocked, APIServerRefused, APIServerNotReady, APIRejectsClient, APIServerUntrusted,
				APIUnusable, NodeNotReady}),
	},
}

// explain marks each finding that another one caused with that one's reason: of several the one
// that is highest in the table.
func (d *Diagnosis) explain() {
	found := map[string][]Reason{} // by node; "" for anywhere
	for _, f := range d.Findings {
		for _, node := range slices.Compact([]string{f.Node, ""}) {
			if !slices.Contains(found[node], f.Reason) {
				found[node] = append(found[node], f.Reason)
			}
		}
	}
	for i := range d.Findings {
		f := &d.Findings[i]
		if f.Because != "" {
			continue
		}
		may := consequences[f.Reason]
		f.Because = highest(f.Because, found[f.Node], may.node)
		f.Because = highest(f.Because, found[""], may.anywhere)
	}
}

// highest returns that of the reasons that are both found and possible, or the given one, which is
// highest in the table.
func highest(r Reason, found, possible []Reason) Reason {
	for _, cause := range possible {
		if slices.Contains(found, cause) && (r == "" || ranks[cause] < ranks[r]) {
			r = cause
		}
	}
	return r
}
