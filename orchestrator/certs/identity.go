package certs

import (
	"slices"
	"strings"
)

// Identity is what a place demands of the certificate in it: what kubeadm sets there
// (cmd/kubeadm/app/phases, certs/certlist.go and kubeconfig), the kubelet asks for, and
// Kubespray gives to etcd.
type Identity struct {
	// Usages are the extended key usages without which it is refused. One without any at
	// all is good for every use.
	Usages []string
	// User is the common name, in which NODE stands for the node's own; empty where anybody
	// in one of the groups is right, or no one reads the name.
	User string
	// Groups are the organisations of which it has one; empty where none is needed.
	Groups []string
	// Granted is true where another user may have been given the same rights: the API
	// server knows, and is asked.
	Granted bool
}

// Administrators are the groups that may do everything: before Kubernetes 1.29 kubeadm put
// its own certificates into the first, since then into the second. An upgrade leaves the
// old ones in place, and both are right with every version.
func Administrators() []string { return []string{"system:masters", "kubeadm:cluster-admins"} }

const (
	serverAuth = "server auth"
	clientAuth = "client auth"
)

// IdentityOf returns what the place of a kind demands; false where it demands nothing.
func IdentityOf(k Kind) (Identity, bool) {
	kubelet := Identity{Usages: []string{clientAuth}, User: "system:node:NODE", Groups: []string{"system:nodes"}}
	i, ok := map[Kind]Identity{
		KindAPIServer: {Usages: []string{serverAuth}},
		// In no group from kubeadm 1.37 on: its user is given the rights.
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

// Lacks returns the usages that the place demands and the certificate does not have.
func (i Identity) Lacks(c Certificate) []string {
	if len(c.Usages) == 0 || slices.Contains(c.Usages, "any") {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(i.Usages), func(u string) bool { return slices.Contains(c.Usages, u) })
}

// Holds reports whether the certificate is of whom the place is for, on a node of that name
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

// SameUser reports whether both certificates are of the same user in the same groups, however
// their subjects are written: a renewal by kubeadm orders them again and keeps nothing else.
// Where a snapshot of before does not tell, the subjects are compared.
func (c Certificate) SameUser(other Certificate) bool {
	if c.CommonName == "" || other.CommonName == "" {
		return c.Subject == other.Subject
	}
	groups := func(c Certificate) []string { return slices.Compact(slices.Sorted(slices.Values(c.Organizations))) }
	return c.CommonName == other.CommonName && slices.Equal(groups(c), groups(other))
}

// BuiltIn reports whether it is of a user whose rights Kubernetes itself gives, and who may
// not do everything: that one is given no others.
func (c Certificate) BuiltIn() bool {
	return strings.HasPrefix(c.CommonName, "system:") && !c.In(Administrators())
}
