package certs

import (
	"slices"
	"strings"
)

// Verifier is a component that verifies leaves by the CAs in a file.
type Verifier struct {
	// Setting names the file, as "component.setting"; without it, the component trusts the CA that
	// issues such leaves.
	Setting string
	// Groups and Kinds are the leaves that are presented to it.
	Groups []Group
	Kinds  []Kind
}

// Verifiers are those of all leaves, except of serving certificates that kubeconfigs verify. A
// member of etcd presents its serving certificate to itself, too: its gateway is a client of it
// (etcd, server/embed), and so is an inspection.
func Verifiers() []Verifier {
	out := []Verifier{
		{Setting: "kube-apiserver.client-ca-file", Groups: []Group{GroupClient, GroupKubeletClient}},
		{Setting: "kubelet.clientCAFile", Groups: []Group{GroupAPIToKubelet}},
		{Setting: "kube-apiserver.requestheader-client-ca-file", Groups: []Group{GroupFrontProxy}},
		{Setting: "kube-apiserver.etcd-cafile", Kinds: []Kind{KindEtcdServer, KindEtcdMember}},
	}
	for _, e := range EtcdClusters() {
		out = append(out,
			Verifier{Setting: e.Name + ".peer-trusted-ca-file", Kinds: []Kind{KindEtcdPeer, KindEtcdMember}},
			Verifier{Setting: e.Name + ".trusted-ca-file", Kinds: []Kind{KindAPIServerEtcdClient, KindEtcdNode,
				KindEtcdAdmin, KindEtcdMember, KindEtcdServer, "etcd-healthcheck-client"}})
	}
	return out
}

// Component is whose setting it is.
func (v Verifier) Component() string {
	component, _, _ := strings.Cut(v.Setting, ".")
	return component
}

// Verifies reports whether certificates of a row are presented to it.
func (v Verifier) Verifies(r Row) bool {
	return slices.Contains(v.Groups, r.Group) || slices.Contains(v.Kinds, r.Kind)
}
