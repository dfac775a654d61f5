package certs

import (
	"fmt"
	"strings"
)

// EtcdCluster is one etcd cluster whose members Kubespray sets up. They share the nodes of the group
// etcd, the CA and the certificates; adding one is adding a row.
type EtcdCluster struct {
	// Name is that of the unit, and the name under which its process, port, log and settings are
	// reported.
	Name string
	// Port is where members answer clients.
	Port int
	// Servers is the setting of the API server that names its members.
	Servers string
}

// MainEtcd is the cluster that holds everything but what another one does.
const MainEtcd = "etcd"

// EtcdClusters are the etcd clusters, the main one first. Source: Kubespray, roles/etcd: templates
// etcd.env.j2 and etcd-events.env.j2, with etcd_events_cluster_setup.
func EtcdClusters() []EtcdCluster {
	return []EtcdCluster{
		{Name: MainEtcd, Port: 2379, Servers: "kube-apiserver.etcd-servers"},
		{Name: "etcd-events", Port: 2381, Servers: "kube-apiserver.etcd-servers-overrides"},
	}
}

// EnvFile is the environment file of a member's unit.
func (e EtcdCluster) EnvFile() string { return "/etc/" + e.Name + ".env" }

// Client is what precedes etcdctl in a shell on a member's node: Kubespray writes its credentials, with
// the address of the main cluster, into that cluster's environment file only.
func (e EtcdCluster) Client() string {
	out := "set -a; . " + EtcdClusters()[0].EnvFile() + "; "
	if !e.Main() {
		out += fmt.Sprintf("ETCDCTL_ENDPOINTS=https://127.0.0.1:%d; ", e.Port)
	}
	return out
}

// Peer is the name under which the port for other members is reported.
func (e EtcdCluster) Peer() string { return e.Name + "-peer" }

// Main reports whether it is the main cluster, without which no API server works.
func (e EtcdCluster) Main() bool { return e.Name == MainEtcd }

// Endpoints are the members' URLs, separated by commas, in the value of the setting Servers: an
// override is "group/resource#URL;URL" (kube-apiserver, --etcd-servers-overrides).
func (e EtcdCluster) Endpoints(value string) string {
	var out []string
	for part := range strings.SplitSeq(value, ",") {
		if _, urls, override := strings.Cut(part, "#"); override {
			part = urls
		}
		out = append(out, strings.Split(part, ";")...)
	}
	return strings.Join(out, ",")
}

// ofEtcd joins a setting of each cluster's members, for Row.Settings.
func ofEtcd(settings ...string) string {
	var out []string
	for _, e := range EtcdClusters() {
		for _, s := range settings {
			out = append(out, e.Name+"."+s)
		}
	}
	return strings.Join(out, " ")
}

// etcdPlaces are the files that settings of etcd's members name, elsewhere than kubeadm and Kubespray
// keep theirs.
func etcdPlaces() []Row {
	var out []Row
	for _, e := range EtcdClusters() {
		own := e.Name + "."
		row := func(as, name string) Row {
			return Row{Kind: Kind(e.Name + "-other-" + as), Name: e.Name + "'s " + name, Base: Setting,
				Group: GroupEtcd, Copy: true}
		}
		ca := func(as, name, file string) Row {
			r := row(as, name)
			r.Path, r.Signer, r.Authority = own+file, SelfSigned, EtcdOtherCA
			return r
		}
		leaf := func(as, name, file, key string) Row {
			r := row(as, name)
			r.Path, r.Key, r.Signer = own+file, own+key, EtcdOtherCA
			return r
		}
		out = append(out, ca("member-ca", "own CA", "trusted-ca-file"),
			ca("peer-ca", "peer CA", "peer-trusted-ca-file"),
			leaf("server", "server certificate", "cert-file", "key-file"),
			leaf("peer", "peer certificate", "peer-cert-file", "peer-key-file"))
	}
	return out
}
