package expire

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Kind is a kind of certificate on a node.
type Kind string

// The kinds. Etcd is every leaf of etcd, be it the host's or kubeadm's; Kubelet
// is the client certificate, KubeletServing the one on port 10250.
const (
	APIServer              Kind = "apiserver"
	APIServerKubeletClient Kind = "apiserver-kubelet-client"
	APIServerEtcdClient    Kind = "apiserver-etcd-client"
	FrontProxyClient       Kind = "front-proxy-client"
	Admin                  Kind = "admin"
	SuperAdmin             Kind = "super-admin"
	ControllerManager      Kind = "controller-manager"
	Scheduler              Kind = "scheduler"
	Kubelet                Kind = "kubelet"
	KubeletServing         Kind = "kubelet-serving"
	Etcd                   Kind = "etcd"
	HostEtcd               Kind = "host-etcd"
)

// form is how a certificate lies in its file.
type form int

const (
	pemFile form = iota
	kubeconfig
	selfIssued
)

// places is where the certificates of each kind lie. Paths are real paths, so
// pki, a link to ssl in Kubespray's layout, appears only once.
var places = []struct {
	kind    Kind
	form    form
	pattern string
}{
	{APIServer, pemFile, "/etc/kubernetes/ssl/apiserver.crt"},
	{APIServerKubeletClient, pemFile, "/etc/kubernetes/ssl/apiserver-kubelet-client.crt"},
	{APIServerEtcdClient, pemFile, "/etc/kubernetes/ssl/apiserver-etcd-client.crt"},
	{FrontProxyClient, pemFile, "/etc/kubernetes/ssl/front-proxy-client.crt"},
	{Admin, kubeconfig, "/etc/kubernetes/admin.conf"},
	{Admin, kubeconfig, "/root/.kube/config"},
	{SuperAdmin, kubeconfig, "/etc/kubernetes/super-admin.conf"},
	{ControllerManager, kubeconfig, "/etc/kubernetes/controller-manager.conf"},
	{Scheduler, kubeconfig, "/etc/kubernetes/scheduler.conf"},
	{Kubelet, kubeconfig, "/etc/kubernetes/kubelet.conf"},
	// Only the current one: kubelet leaves those it has rotated away.
	{Kubelet, pemFile, "/var/lib/kubelet/pki/kubelet-client-*.pem"},
	{KubeletServing, selfIssued, "/var/lib/kubelet/pki/kubelet.crt"},
	{Etcd, pemFile, "/etc/kubernetes/ssl/etcd/server.crt"},
	{Etcd, pemFile, "/etc/kubernetes/ssl/etcd/peer.crt"},
	{Etcd, pemFile, "/etc/kubernetes/ssl/etcd/healthcheck-client.crt"},
	{HostEtcd, pemFile, "/etc/ssl/etcd/ssl/member-*.pem"},
	{HostEtcd, pemFile, "/etc/ssl/etcd/ssl/admin-*.pem"},
	{HostEtcd, pemFile, "/etc/ssl/etcd/ssl/node-*.pem"},
}

// All is every kind there is.
func All() []Kind {
	var kinds []Kind
	for _, p := range places {
		if !slices.Contains(kinds, p.kind) {
			kinds = append(kinds, p.kind)
		}
	}
	return kinds
}

// Yearly is what a year does to a Kubespray cluster that is left alone:
// everything but host etcd, whose certificates Kubespray issues for a century.
func Yearly() []Kind {
	return slices.DeleteFunc(All(), func(k Kind) bool { return k == HostEtcd })
}

// ParseKinds reads names of kinds and of the groups "all" and "yearly". "etcd"
// means etcd's leaves wherever they lie.
func ParseKinds(names []string) ([]Kind, error) {
	var kinds []Kind
	for _, name := range names {
		switch k := Kind(name); {
		case name == "all":
			kinds = append(kinds, All()...)
		case name == "yearly":
			kinds = append(kinds, Yearly()...)
		case k == Etcd:
			kinds = append(kinds, Etcd, HostEtcd)
		case slices.Contains(All(), k):
			kinds = append(kinds, k)
		default:
			var known []string
			for _, k := range All() {
				known = append(known, string(k))
			}
			return nil, fmt.Errorf("no kind of certificate %q: want all, yearly, %s", name, strings.Join(known, ", "))
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds), nil
}

// place finds what a real path on a node holds.
func place(file string) (Kind, form, bool) {
	if strings.HasSuffix(file, "-key.pem") {
		return "", 0, false
	}
	for _, p := range places {
		if ok, err := path.Match(p.pattern, file); err == nil && ok {
			return p.kind, p.form, true
		}
	}
	return "", 0, false
}
