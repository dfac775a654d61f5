package certs

import (
	"slices"
	"strings"
)

// Identity is what a place requires of the certificate in it: what kubeadm sets there
// (cmd/kubeadm/app/phases, certs/certlist.go and kubeconfig), the kubelet requests, and Kubespray
// gives etcd.
type Identity struct {
	// Usages are the required extended key usages. A certificate without any is valid for every
	// use.
	Usages []string
	// User is the common name, in which NODE stands for the node's own; empty if anyone in one of
	// the groups is right, or no component reads the name.
	User string
	// Groups are the organizations of which it has one; empty if none is needed.
	Groups []string
	// Granted is true if another user may have been given the same rights: the API server knows,
	// and is asked.
	Granted bool
}

// Administrators are the groups that may do everything: before Kubernetes 1.29 kubeadm put its own
// certificates into the first, since then into the second. An upgrade leaves the old ones in place,
// and both are right with every version.
func Administrators() []string { return []string{"system:masters", "kubeadm:cluster-admins"} }

const (
	serverAuth = "server auth"
	clientAuth = "client auth"
)

// IdentityOf returns what the place of a kind requires; false if it requires nothing.
func IdentityOf(k Kind) (Identity, bool) {
	kubelet := Identity{Usages: []string{clientAuth}, User: "system:node:NODE", Groups: []string{"system:nodes"}}
	i, ok := map[Kind]Identity{
		KindAPIServer: {Usages: []string{serverAuth}},
		// From kubeadm 1.37 on it is in no group: its user is given the rights.
		KindAPIServerKubeletClient: {
			Usages: []string{clientAuth}, Groups: Administrators(), Granted: true,
		},
		KindFrontProxyClient: {
			Usages: []string{clientAuth}, User: "front-proxy-client",
		},
		KindAPIServerEtcdClient: {Usages: []string{clientAuth}},

		KindAdmin:                 {Usages: []string{clientAuth}, Groups: Administrators(), Granted: true},
		KindSuperAdmin:            {Usages: []string{clientAuth}, Groups: Administrators(), Granted: true},
		KindControllerManagerConf: {Usages: []string{clientAuth}, User: "system:kube-controller-manager"},
		KindSchedulerConf:         {Usages: []string{clientAuth}, User: "system:kube-scheduler"},
		KindKubeletConf:           kubelet,
		KindKubeletClient:         kubelet,

		// An etcd server is no client of its peers.
		KindEtcdServer: {Usages: []string{serverAuth}},
		KindEtcdPeer:   {Usages: []string{serverAuth, clientAuth}},
		KindEtcdMember: {Usages: []string{serverAuth, clientAuth}},
		KindEtcdAdmin:  {Usages: []string{clientAuth}},
		KindEtcdNode:   {Usages: []string{clientAuth}},
	}[k]
	return i, ok
}

// Lacks returns the usages that the place requires and the certificate does not have.
func (i Identity) Lacks(c Certificate) []string {
	if len(c.Usages) == 0 || slices.Contains(c.Usages, "any") {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(i.Usages), func(u string) bool { return slices.Contains(c.Usages, u) })
}

// Holds reports whether the certificate has the user and group of the place, on a node of that name
// in the API.
func (i Identity) Holds(c Certificate, node string) bool {
	return (i.User == "" || strings.EqualFold(c.CommonName, i.Of(node))) && (len(i.Groups) == 0 || c.In(i.Groups))
}

// Of is the user on a node of that name in the API.
func (i Identity) Of(node string) string { return strings.Replace(i.User, "NODE", node, 1) }

// In reports whether the certificate is in one of the groups.
func (c Certificate) In(groups []string) bool {
	return slices.ContainsFunc(c.Organizations, func(o string) bool { return slices.Contains(groups, o) })
}

// SameUser reports whether both certificates are of the same user in the same groups, however their
// subjects are written: a renewal by kubeadm reorders them and keeps nothing else. For a snapshot
// of an earlier version without groups, the subjects are compared.
func (c Certificate) SameUser(other Certificate) bool {
	if c.CommonName == "" || other.CommonName == "" {
		return c.Subject == other.Subject
	}
	groups := func(c Certificate) []string { return slices.Compact(slices.Sorted(slices.Values(c.Organizations))) }
	return c.CommonName == other.CommonName && slices.Equal(groups(c), groups(other))
}

// BuiltIn reports whether it belongs to a user whose rights are built into Kubernetes, and who may
// not do everything: that one is given no others.
func (c Certificate) BuiltIn() bool {
	return strings.HasPrefix(c.CommonName, "system:") && !c.In(Administrators())
}
