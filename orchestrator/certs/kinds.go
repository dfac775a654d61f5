package certs

import (
	"path"
	"slices"
	"strings"
)

// Kind is the purpose of a certificate. The values are stable: they appear in JSON documents.
type Kind string

// Authority names a CA as a signer.
type Authority string

// The three CAs of a kubeadm cluster (Kubernetes documentation, "PKI certificates and
// requirements"), Kubespray's own etcd CA, that of an etcd set up by neither, and a signer of its
// own certificate, such as the kubelet.
const (
	KubernetesCA Authority = "kubernetes-ca"
	FrontProxyCA Authority = "front-proxy-ca"
	EtcdCA       Authority = "etcd-ca"
	EtcdHostCA   Authority = "etcd-host-ca"
	EtcdOtherCA  Authority = "etcd-other-ca"
	SelfSigned   Authority = "self-signed"
)

// Base is the directory that a row's path is relative to. The directories themselves come from the
// node's own settings.
type Base string

// The directories that hold certificates.
const (
	PKI     Base = "pki"     // kubeadm's certificatesDir
	Config  Base = "config"  // kube_config_dir: kubeconfigs
	Kubelet Base = "kubelet" // the kubelet's --cert-dir, /var/lib/kubelet/pki
	EtcdPKI Base = "etcd"    // etcd_cert_dir of Kubespray's host etcd
	Home    Base = "home"    // root's ~/.kube
	Calico  Base = "calico"  // /etc/calico/certs
	Cilium  Base = "cilium"  // /etc/cilium/certs
	// Setting is not a directory: a row's path and key are settings of the node, such as
	// "kube-apiserver.etcd-certfile", that name the file wherever it is. Rows of a directory come
	// first.
	Setting Base = "setting"
	// Named is not a directory either: kubeconfigs name the file.
	Named Base = "named"
)

// Group joins the kinds with the same effect: what breaks when they expire, and so the reason code
// for it.
type Group string

// The groups.
const (
	GroupAuthority      Group = "authority"
	GroupServing        Group = "serving"         // what the API server presents
	GroupClient         Group = "client"          // administrators and components, towards the API server
	GroupAPIToKubelet   Group = "api-to-kubelet"  // the API server, towards kubelets
	GroupKubeletClient  Group = "kubelet-client"  // the kubelet, towards the API server
	GroupKubeletServing Group = "kubelet-serving" // what the kubelet presents
	GroupEtcd           Group = "etcd"            // all that etcd and its clients present
	GroupFrontProxy     Group = "front-proxy"     // the API server, towards aggregated ones
)

// KindUnknown is a certificate at a place that no row names.
const KindUnknown Kind = "unknown"

// The kinds that code uses by name. All rows are in Table.
const (
	KindCA                     Kind = "ca"
	KindFrontProxyCA           Kind = "front-proxy-ca"
	KindEtcdCA                 Kind = "etcd-ca"
	KindEtcdHostCA             Kind = "etcd-host-ca"
	KindCANext                 Kind = "ca-next"
	KindCAFormer               Kind = "ca-former"
	KindFrontProxyCANext       Kind = "front-proxy-ca-next"
	KindFrontProxyCAFormer     Kind = "front-proxy-ca-former"
	KindEtcdCANext             Kind = "etcd-ca-next"
	KindEtcdCAFormer           Kind = "etcd-ca-former"
	KindEtcdHostCANext         Kind = "etcd-host-ca-next"
	KindEtcdHostCAFormer       Kind = "etcd-host-ca-former"
	KindAPIServer              Kind = "apiserver"
	KindAPIServerEtcdClient    Kind = "apiserver-etcd-client"
	KindAPIServerKubeletClient Kind = "apiserver-kubelet-client"
	KindFrontProxyClient       Kind = "front-proxy-client"
	KindAdmin                  Kind = "admin.conf"
	KindSuperAdmin             Kind = "super-admin.conf"
	KindControllerManagerConf  Kind = "controller-manager.conf"
	KindSchedulerConf          Kind = "scheduler.conf"
	KindKubeletConf            Kind = "kubelet.conf"
	KindKubeconfigFile         Kind = "kubeconfig-client-file"
	KindKubeconfigCA           Kind = "kubeconfig-ca" // a CA that a kubeconfig trusts; it has no row
	KindTrusted                Kind = "trusted-ca"    // a CA that an object of the cluster trusts; it has no row
	KindSecret                 Kind = "secret"        // in a Secret of the cluster; it has no row
	KindKubeletClient          Kind = "kubelet-client"
	KindKubeletServing         Kind = "kubelet-serving"
	KindKubeletServer          Kind = "kubelet-server"
	KindKubeletServingFile     Kind = "kubelet-serving-file"
	KindAPIServerFile          Kind = "apiserver-file"
	KindEtcdServer             Kind = "etcd-server"
	KindEtcdPeer               Kind = "etcd-peer"
	KindEtcdMember             Kind = "etcd-host-member"
	KindEtcdAdmin              Kind = "etcd-host-admin"
	KindEtcdNode               Kind = "etcd-host-node"
)

// Row describes one kind of certificate. Adding a kind is adding a row.
type Row struct {
	Kind Kind
	// Name is kubeadm's name for it, if kubeadm has one.
	Name string
	Base Base
	// Path below Base; a shell pattern as in path.Match.
	Path string
	// Key is the private key's file below Base, with a "*" for what Path's matched; empty in a
	// kubeconfig, which holds its own.
	Key string
	// Signer is the CA that issues it.
	Signer Authority
	// Group is what breaks when it expires.
	Group Group
	// CA is true for the CA's own certificate.
	CA bool
	// Authority is the name that the certificate signs as; empty for a leaf.
	Authority Authority
	// Copy is true for a copy of another certificate and for what is issued by someone else: it is
	// reported, and never due here.
	Copy bool
	// Outage is how the API server becomes unusable once it has expired; empty if it does not.
	Outage Outage
	// KubeletRenews is true if a running kubelet renews the certificate by itself, unless it is set
	// not to: it is due later than others.
	KubeletRenews bool
	// Approved is true if the kubelet requests the certificate and someone must approve: nothing
	// that is issued here would fix it.
	Approved bool
	// Settings, separated by blanks, name the file that a component uses for this. If a node has
	// one of them and none names this file, it is unused.
	Settings string
	// Reader is a component that reads the file, in addition to those of Settings.
	Reader string
	// With is the kind whose use decides whether this one is used, if no setting does. Two may be
	// used with each other: either's component may be gone.
	With Kind
}

// Own reports whether the file is one that a component or a kubeconfig names, outside of the places
// in which certificates are renewed: someone else has put it there.
func (r Row) Own() bool { return r.Base == Setting || r.Base == Named }

// OfServer reports whether a component serves the certificate to its clients, or to other members.
func (r Row) OfServer() bool {
	of := slices.ContainsFunc(EtcdClusters(), func(e EtcdCluster) bool {
		return slices.Contains(Presented(e.Name), r.Kind) || slices.Contains(Presented(e.Peer()), r.Kind)
	})
	return of || r.Group == GroupServing || r.Group == GroupKubeletServing
}

// Presented lists the kinds of files that a component may serve on its port, by the name under
// which the port was asked. Other components serve certificates that they make in memory.
func Presented(component string) []Kind {
	for _, e := range EtcdClusters() {
		switch component {
		case e.Name:
			return []Kind{KindEtcdServer, KindEtcdMember, Kind(e.Name + "-other-server")}
		case e.Peer():
			return []Kind{KindEtcdPeer, KindEtcdMember, Kind(e.Name + "-other-peer")}
		}
	}
	return map[string][]Kind{
		"kube-apiserver": {KindAPIServer, KindAPIServerFile},
		"kubelet":        {KindKubeletServer, KindKubeletServing, KindKubeletServingFile},
	}[component]
}

// ReadBy lists the kinds that a component reads, in their own places: those that its settings name, and
// those that it reads without.
func ReadBy(component string) []Kind {
	var out []Kind
	for _, r := range ownPlaces() {
		if !r.CA && !r.Copy && (r.Reader == component || slices.ContainsFunc(strings.Fields(r.Settings),
			func(s string) bool { return strings.HasPrefix(s, component+".") })) {
			out = append(out, r.Kind)
		}
	}
	return out
}

// Outage is the way in which an expired certificate makes the API server unusable.
type Outage string

// How the API server becomes unusable.
const (
	NoOutage Outage = ""
	// OutageTLS: clients refuse the certificate that the API server serves.
	OutageTLS Outage = "tls"
	// OutageClient: the API server refuses the client that administers it.
	OutageClient Outage = "client"
	// OutageEtcd: the API server and etcd no longer trust each other.
	OutageEtcd Outage = "etcd"
	// OutageKubelet: the kubelet does not start, so no static pod does.
	OutageKubelet Outage = "kubelet"
)

// Table lists every kind of certificate on a Kubespray node. Places: Kubernetes documentation "PKI
// certificates and requirements"; Kubespray v2.10 to v2.31, roles/etcd,
// roles/kubernetes/control-plane and roles/network_plugin.
func Table() []Row {
	return slices.Concat(ownPlaces(), rotationPlaces(), settingPlaces(), etcdPlaces())
}

// ownPlaces are the fixed places of kubeadm, Kubespray and network plugins.
func ownPlaces() []Row {
	return []Row{
		{Kind: KindCA, Name: "ca", Base: PKI, Path: "ca.crt", Key: "ca.key", Signer: SelfSigned, Group: GroupAuthority,
			CA: true, Authority: KubernetesCA},
		{Kind: KindFrontProxyCA, Name: "front-proxy-ca", Base: PKI, Path: "front-proxy-ca.crt",
			Key: "front-proxy-ca.key", Signer: SelfSigned, Group: GroupAuthority, CA: true, Authority: FrontProxyCA},
		{Kind: KindEtcdCA, Name: "etcd-ca", Base: PKI, Path: "etcd/ca.crt", Key: "etcd/ca.key", Signer: SelfSigned,
			Group: GroupAuthority, CA: true, Authority: EtcdCA, Settings: etcdAuthorities},
		{Kind: KindEtcdHostCA, Name: "etcd host CA", Base: EtcdPKI, Path: "ca.pem", Key: "ca-key.pem",
			Signer: SelfSigned, Group: GroupAuthority, CA: true, Authority: EtcdHostCA, Settings: etcdAuthorities},

		{Kind: KindAPIServer, Name: "apiserver", Base: PKI, Path: "apiserver.crt", Key: "apiserver.key",
			Signer: KubernetesCA, Group: GroupServing, Outage: OutageTLS, Settings: "kube-apiserver.tls-cert-file"},
		{Kind: KindAPIServerKubeletClient, Name: "apiserver-kubelet-client", Base: PKI,
			Path: "apiserver-kubelet-client.crt", Key: "apiserver-kubelet-client.key", Signer: KubernetesCA,
			Group: GroupAPIToKubelet, Settings: "kube-apiserver.kubelet-client-certificate"},
		{Kind: KindFrontProxyClient, Name: "front-proxy-client", Base: PKI, Path: "front-proxy-client.crt",
			Key: "front-proxy-client.key", Signer: FrontProxyCA, Group: GroupFrontProxy,
			Settings: "kube-apiserver.proxy-client-cert-file"},
		{Kind: KindAPIServerEtcdClient, Name: "apiserver-etcd-client", Base: PKI, Path: "apiserver-etcd-client.crt",
			Key: "apiserver-etcd-client.key", Signer: EtcdCA, Group: GroupEtcd, Outage: OutageEtcd,
			Settings: "kube-apiserver.etcd-certfile", With: KindEtcdServer},
		{Kind: KindEtcdServer, Name: "etcd-server", Base: PKI, Path: "etcd/server.crt", Key: "etcd/server.key",
			Signer: EtcdCA, Group: GroupEtcd, Outage: OutageEtcd, Settings: "etcd.cert-file",
			With: KindAPIServerEtcdClient},
		{Kind: KindEtcdPeer, Name: "etcd-peer", Base: PKI, Path: "etcd/peer.crt", Key: "etcd/peer.key", Signer: EtcdCA,
			Group: GroupEtcd, Outage: OutageEtcd, Settings: "etcd.peer-cert-file", With: KindAPIServerEtcdClient},
		{Kind: "etcd-healthcheck-client", Name: "etcd-healthcheck-client", Base: PKI,
			Path: "etcd/healthcheck-client.crt", Key: "etcd/healthcheck-client.key", Signer: EtcdCA, Group: GroupEtcd,
			With: KindEtcdServer},

		{Kind: KindAdmin, Name: "admin.conf", Base: Config, Path: "admin.conf", Signer: KubernetesCA,
			Group: GroupClient, Outage: OutageClient, Reader: "kube-vip"},
		{Kind: KindSuperAdmin, Name: "super-admin.conf", Base: Config, Path: "super-admin.conf", Signer: KubernetesCA,
			Group: GroupClient, Reader: "kube-vip"},
		{Kind: KindControllerManagerConf, Name: "controller-manager.conf", Base: Config,
			Path: "controller-manager.conf", Signer: KubernetesCA, Group: GroupClient,
			Settings: "kube-controller-manager.kubeconfig"},
		{Kind: KindSchedulerConf, Name: "scheduler.conf", Base: Config, Path: "scheduler.conf", Signer: KubernetesCA,
			Group: GroupClient, Settings: "kube-scheduler.kubeconfig"},
		{Kind: KindKubeletConf, Name: "kubelet.conf", Base: Config, Path: "kubelet.conf", Signer: KubernetesCA,
			Group: GroupKubeletClient, Outage: OutageKubelet},
		{Kind: "bootstrap-kubelet.conf", Name: "bootstrap-kubelet.conf", Base: Config, Path: "bootstrap-kubelet.conf",
			Signer: KubernetesCA, Group: GroupKubeletClient, Copy: true},
		{Kind: "root-kubeconfig", Name: "/root/.kube/config", Base: Home, Path: "config", Signer: KubernetesCA,
			Group: GroupClient},
		{Kind: "kube-vip-kubeconfig", Name: "kube-vip's kubeconfig", Base: Setting, Path: "kube-vip.kubeconfig",
			Signer: KubernetesCA, Group: GroupClient, Copy: true},
		{Kind: KindKubeconfigFile, Base: Named, Path: "*", Key: "*", Signer: KubernetesCA, Group: GroupClient,
			Copy: true},

		{Kind: KindKubeletClient, Name: "kubelet-client-current.pem", Base: Kubelet, Path: "kubelet-client-current.pem",
			Key: "kubelet-client-current.pem", Signer: KubernetesCA, Group: GroupKubeletClient, Outage: OutageKubelet,
			KubeletRenews: true},
		{Kind: KindKubeletServer, Name: "kubelet-server-current.pem", Base: Kubelet, Path: "kubelet-server-current.pem",
			Key: "kubelet-server-current.pem", Signer: KubernetesCA, Group: GroupKubeletServing, KubeletRenews: true,
			Approved: true},
		{Kind: KindKubeletServing, Name: "kubelet.crt", Base: Kubelet, Path: "kubelet.crt", Key: "kubelet.key",
			Signer: SelfSigned, Group: GroupKubeletServing, Settings: "kubelet.tlsCertFile"},
		{Kind: "kubelet-client-file", Name: "the kubelet's client certificate", Base: Setting,
			Path: "kubelet.client-certificate", Key: "kubelet.client-key", Signer: KubernetesCA,
			Group: GroupKubeletClient, Copy: true},
		{Kind: KindKubeletServingFile, Name: "the kubelet's tlsCertFile", Base: Setting, Path: "kubelet.tlsCertFile",
			Key: "kubelet.tlsPrivateKeyFile", Signer: KubernetesCA, Group: GroupKubeletServing, Copy: true},

		{Kind: KindEtcdMember, Base: EtcdPKI, Path: "member-*.pem", Key: "member-*-key.pem", Signer: EtcdHostCA,
			Group: GroupEtcd, Outage: OutageEtcd, Settings: ofEtcd("cert-file", "peer-cert-file")},
		{Kind: KindEtcdAdmin, Base: EtcdPKI, Path: "admin-*.pem", Key: "admin-*-key.pem", Signer: EtcdHostCA,
			Group: GroupEtcd},
		{Kind: KindEtcdNode, Base: EtcdPKI, Path: "node-*.pem", Key: "node-*-key.pem", Signer: EtcdHostCA,
			Group: GroupEtcd, Outage: OutageEtcd, Settings: "kube-apiserver.etcd-certfile"},

		{Kind: "calico-etcd-ca", Name: "Calico's etcd CA", Base: Calico, Path: "ca_cert.crt", Signer: SelfSigned,
			Group: GroupEtcd, Copy: true},
		{Kind: "calico-etcd-client", Name: "Calico's etcd client", Base: Calico, Path: "cert.crt", Key: "key.pem",
			Signer: EtcdHostCA, Group: GroupEtcd, Copy: true},
		{Kind: "cilium-etcd-ca", Name: "Cilium's etcd CA", Base: Cilium, Path: "ca_cert.crt", Signer: SelfSigned,
			Group: GroupEtcd, Copy: true},
		{Kind: "cilium-etcd-client", Name: "Cilium's etcd client", Base: Cilium, Path: "cert.crt", Key: "key.pem",
			Signer: EtcdHostCA, Group: GroupEtcd, Copy: true},
	}
}

// rotationPlaces are the files next to a CA while it is rotated: the next one and the former one, each
// alone in a file.
func rotationPlaces() []Row {
	row := func(kind Kind, base Base, path, key string, of Authority) Row {
		return Row{Kind: kind, Name: string(kind), Base: base, Path: path, Key: key, Signer: SelfSigned,
			Group: GroupAuthority, CA: true, Authority: of, Copy: true}
	}
	return []Row{
		row(KindCANext, PKI, "ca-next.crt", "ca-next.key", KubernetesCA),
		row(KindCAFormer, PKI, "ca-former.crt", "", KubernetesCA),
		row(KindFrontProxyCANext, PKI, "front-proxy-ca-next.crt", "front-proxy-ca-next.key", FrontProxyCA),
		row(KindFrontProxyCAFormer, PKI, "front-proxy-ca-former.crt", "", FrontProxyCA),
		row(KindEtcdCANext, PKI, "etcd/ca-next.crt", "etcd/ca-next.key", EtcdCA),
		row(KindEtcdCAFormer, PKI, "etcd/ca-former.crt", "", EtcdCA),
		row(KindEtcdHostCANext, EtcdPKI, "ca-next.pem", "ca-next-key.pem", EtcdHostCA),
		row(KindEtcdHostCAFormer, EtcdPKI, "ca-former.pem", "", EtcdHostCA),
	}
}

// settingPlaces are the files that settings of components name, elsewhere.
func settingPlaces() []Row {
	return []Row{
		// The user's own files, in other places than a renewal handles.
		{Kind: KindAPIServerFile, Name: "the API server's own certificate", Base: Setting,
			Path: "kube-apiserver.tls-cert-file", Key: "kube-apiserver.tls-private-key-file", Signer: KubernetesCA,
			Group: GroupServing, Copy: true},
		{Kind: "apiserver-sni-file", Name: "the API server's certificate for other names", Base: Setting,
			Path: "kube-apiserver.sni-cert-file", Key: "kube-apiserver.sni-private-key-file", Signer: KubernetesCA,
			Group: GroupServing, Copy: true},
		{Kind: "apiserver-kubelet-client-file", Name: "the API server's client certificate for kubelets", Base: Setting,
			Path: "kube-apiserver.kubelet-client-certificate", Key: "kube-apiserver.kubelet-client-key",
			Signer: KubernetesCA, Group: GroupAPIToKubelet, Copy: true},
		{Kind: "front-proxy-client-file", Name: "the front proxy's own client certificate", Base: Setting,
			Path: "kube-apiserver.proxy-client-cert-file", Key: "kube-apiserver.proxy-client-key-file",
			Signer: FrontProxyCA, Group: GroupFrontProxy, Copy: true},
		{Kind: "controller-manager-kubeconfig", Name: "the controller manager's kubeconfig", Base: Setting,
			Path: "kube-controller-manager.kubeconfig", Signer: KubernetesCA, Group: GroupClient, Copy: true},
		{Kind: "scheduler-kubeconfig", Name: "the scheduler's kubeconfig", Base: Setting,
			Path: "kube-scheduler.kubeconfig", Signer: KubernetesCA, Group: GroupClient, Copy: true},

		// An etcd that is neither kubeadm's nor Kubespray's, from the settings of the API server.
		{Kind: "etcd-other-ca", Name: "etcd's CA", Base: Setting, Path: "kube-apiserver.etcd-cafile",
			Signer: SelfSigned, Group: GroupEtcd, Authority: EtcdOtherCA, Copy: true},
		{Kind: "etcd-other-client", Name: "the API server's etcd client", Base: Setting,
			Path: "kube-apiserver.etcd-certfile", Key: "kube-apiserver.etcd-keyfile", Signer: EtcdOtherCA,
			Group: GroupEtcd, Copy: true},
	}
}

// etcdAuthorities are the settings that name the CA of an etcd.
var etcdAuthorities = "kube-apiserver.etcd-cafile " + ofEtcd("trusted-ca-file", "peer-trusted-ca-file")

// KeyFile returns the path of the private key, below Base, of the certificate at rel; empty if the
// row names none.
func (r Row) KeyFile(rel string) string {
	before, after, ok := strings.Cut(r.Path, "*")
	if !ok {
		return r.Key
	}
	return strings.Replace(r.Key, "*", strings.TrimSuffix(strings.TrimPrefix(rel, before), after), 1)
}

// byKind are the rows of the table by their kinds: they are looked up often.
var byKind = func() map[Kind]Row {
	m := map[Kind]Row{}
	for _, r := range Table() {
		m[r.Kind] = r
	}
	return m
}()

// Lookup returns the row of a kind.
func Lookup(k Kind) (Row, bool) {
	r, ok := byKind[k]
	return r, ok
}

// Classify names the kind of a file, given its directory and its path below it.
func Classify(b Base, rel string) Kind {
	for _, r := range Table() {
		if r.Base != b {
			continue
		}
		if ok, err := path.Match(r.Path, rel); err == nil && ok {
			return r.Kind
		}
	}
	return KindUnknown
}
