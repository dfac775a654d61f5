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

// configDir stands for the cluster's kube_config_dir.
const configDir = "$conf"

// places is where the certificates of each kind lie. Paths are real paths, so
// pki, a link to ssl in Kubespray's layout, appears only once.
var places = []struct {
	kind    Kind
	form    form
	pattern string
}{
	{APIServer, pemFile, configDir + "/ssl/apiserver.crt"},
	{APIServerKubeletClient, pemFile, configDir + "/ssl/apiserver-kubelet-client.crt"},
	{APIServerEtcdClient, pemFile, configDir + "/ssl/apiserver-etcd-client.crt"},
	{FrontProxyClient, pemFile, configDir + "/ssl/front-proxy-client.crt"},
	{Admin, kubeconfig, configDir + "/admin.conf"},
	{Admin, kubeconfig, "/root/.kube/config"},
	{SuperAdmin, kubeconfig, configDir + "/super-admin.conf"},
	{ControllerManager, kubeconfig, configDir + "/controller-manager.conf"},
	{Scheduler, kubeconfig, configDir + "/scheduler.conf"},
	{Kubelet, kubeconfig, configDir + "/kubelet.conf"},
	// Only the current one: kubelet leaves those it has rotated away.
	{Kubelet, pemFile, "/var/lib/kubelet/pki/kubelet-client-*.pem"},
	{KubeletServing, selfIssued, "/var/lib/kubelet/pki/kubelet.crt"},
	{KubeletServing, pemFile, "/var/lib/kubelet/pki/kubelet-server-*.pem"},
	{Etcd, pemFile, configDir + "/ssl/etcd/server.crt"},
	{Etcd, pemFile, configDir + "/ssl/etcd/peer.crt"},
	{Etcd, pemFile, configDir + "/ssl/etcd/healthcheck-client.crt"},
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
func place(conf, file string) (Kind, form, bool) {
	if strings.HasSuffix(file, "-key.pem") {
		return "", 0, false
	}
	for _, p := range places {
		if ok, err := path.Match(in(conf, p.pattern), file); err == nil && ok {
			return p.kind, p.form, true
		}
	}
	return "", 0, false
}

// in returns the path, or pattern, in a cluster with that kube_config_dir.
func in(conf, pattern string) string {
	if rest, ok := strings.CutPrefix(pattern, configDir); ok {
		return conf + rest
	}
	return pattern
}
