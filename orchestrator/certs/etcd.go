package certs

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

// Peer is the name under which the port for other members is reported.
func (e EtcdCluster) Peer() string { return e.Name + "-peer" }

// Main reports whether it is the main cluster, without which no API server works.
func (e EtcdCluster) Main() bool { return e.Name == MainEtcd }

// ofEtcd joins a setting of each cluster's members, for Row.Settings.
func ofEtcd(settings ...string) string {
	out := ""
	for _, e := range EtcdClusters() {
		for _, s := range settings {
			if out != "" {
				out += " "
			}
			out += e.Name + "." + s
		}
	}
	return out
}

// etcdPlaces are the files that settings of etcd's members name, elsewhere than kubeadm and Kubespray
// keep theirs.
func etcdPlaces() []Row {
	var out []Row
	for _, e := range EtcdClusters() {
		kind := func(s string) Kind { return Kind(e.Name + "-other-" + s) }
		out = append(out,
			Row{Kind: kind("member-ca"), Name: e.Name + "'s own CA", Base: Setting, Path: e.Name + ".trusted-ca-file",
				Signer: SelfSigned, Group: GroupEtcd, Authority: EtcdOtherCA, Copy: true},
			Row{Kind: kind("peer-ca"), Name: e.Name + "'s peer CA", Base: Setting, Path: e.Name + ".peer-trusted-ca-file",
				Signer: SelfSigned, Group: GroupEtcd, Authority: EtcdOtherCA, Copy: true},
			Row{Kind: kind("server"), Name: e.Name + "'s server certificate", Base: Setting, Path: e.Name + ".cert-file",
				Key: e.Name + ".key-file", Signer: EtcdOtherCA, Group: GroupEtcd, Copy: true},
			Row{Kind: kind("peer"), Name: e.Name + "'s peer certificate", Base: Setting, Path: e.Name + ".peer-cert-file",
				Key: e.Name + ".peer-key-file", Signer: EtcdOtherCA, Group: GroupEtcd, Copy: true})
	}
	return out
}
