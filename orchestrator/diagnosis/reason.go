package diagnosis

import (
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Severity is how much a finding matters.
type Severity string

// Severities, the most severe first.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
)

func (s Severity) rank() int {
	if s == Critical {
		return 0
	}
	return 1
}

// Area is the part of a cluster that a reason concerns.
type Area string

// The areas, from cause to symptom.
const (
	Looking     Area = "looking"     // what keeps a node from being inspected
	Ground      Area = "ground"      // clock, disk, configuration
	Authorities Area = "authorities" // CAs, service account keys, who signed what
	Files       Area = "files"       // what must be there and readable
	Expiry      Area = "expiry"      // dates of leaves
	InUse       Area = "in-use"      // what is served and held against what is on disk
	Components  Area = "components"  // container runtime, kubelet, etcd
	API         Area = "api"         // how the API answers
	Symptoms    Area = "symptoms"    // what the API reports about nodes and pods
	Advice      Area = "advice"      // what will matter later
)

// RenewCA is the command that issues a CA again with its own key.
const RenewCA = "kscertctl ca renew -i INVENTORY"

// Reason is a stable code: others build on it, so none is ever renamed.
type Reason string

// The reason codes. What each means is in the table below.
const (
	NodeUnreachable   Reason = "node-unreachable"
	PrivilegeMissing  Reason = "privilege-missing"
	InspectionFailed  Reason = "inspection-failed"
	ToolMissing       Reason = "tool-missing"
	KubesprayNotFound Reason = "kubespray-not-found"

	ClockSkew            Reason = "clock-skew"
	DiskFull             Reason = "disk-full"
	KubeadmConfigMissing Reason = "kubeadm-config-missing"
	KubeadmConfigRefused Reason = "kubeadm-config-refused"

	CAMissing                Reason = "ca-missing"
	CAKeyMissing             Reason = "ca-key-missing"
	ExternalCA               Reason = "external-ca"
	AuthoritiesDiffer        Reason = "authorities-differ"
	ServiceAccountKeysDiffer Reason = "service-account-keys-differ"
	UnknownAuthority         Reason = "unknown-authority"
	IdentityWrong            Reason = "identity-wrong"
	KeyMismatch              Reason = "key-mismatch"
	CAExpired                Reason = "ca-expired"

	ManifestMissing       Reason = "manifest-missing"
	ManifestInvalid       Reason = "manifest-invalid"
	ManifestCopy          Reason = "manifest-copy"
	FileMissing           Reason = "file-missing"
	CertificateUnreadable Reason = "certificate-unreadable"

	CertificateNotYetValid Reason = "certificate-not-yet-valid"
	CertificateBeginsLater Reason = "certificate-begins-later"
	ServingExpired         Reason = "serving-certificate-expired"
	EtcdExpired            Reason = "etcd-certificate-expired"
	KubeletClientExpired   Reason = "kubelet-client-certificate-expired"
	ClientExpired          Reason = "client-certificate-expired"
	KubeletAccessExpired   Reason = "kubelet-access-certificate-expired"
	FrontProxyExpired      Reason = "front-proxy-certificate-expired"
	KubeletServingExpired  Reason = "kubelet-serving-certificate-expired"
	OwnInvalid             Reason = "own-certificate-invalid"

	ServedCertificateStale     Reason = "served-certificate-stale"
	CredentialStale            Reason = "credential-stale" //nolint:gosec // a code, no credential
	LoopbackCertificateExpired Reason = "loopback-certificate-expired"
	SANMissing                 Reason = "san-missing"

	ContainerRuntimeDown Reason = "container-runtime-down"
	KubeletDown          Reason = "kubelet-down"
	EtcdMemberDown       Reason = "etcd-member-down"
	EtcdNoQuorum         Reason = "etcd-no-quorum"

	NameResolutionFailed Reason = "name-resolution-failed"
	LoadBalancer         Reason = "load-balancer"
	APICrashing          Reason = "api-server-crashing"
	APIBlocked           Reason = "api-server-blocked"
	APIServerRefused     Reason = "api-server-refused"
	APIServerNotReady    Reason = "api-server-not-ready"
	APIRejectsClient     Reason = "api-server-rejects-client"
	APIServerUntrusted   Reason = "api-server-untrusted"
	APIUnusable          Reason = "api-server-unusable"

	AdministratorForbidden Reason = "administrator-forbidden"
	KubeletAccessForbidden Reason = "kubelet-access-forbidden"

	NodeNotRegistered Reason = "node-not-registered"
	NodeNotJoined     Reason = "node-not-joined"
	NodeNotReady      Reason = "node-not-ready"
	StaticPodNotReady Reason = "static-pod-not-ready"

	CAExpiring                  Reason = "ca-expiring"
	CAExpiresFirst              Reason = "ca-expires-first"
	RotationUnfinished          Reason = "rotation-unfinished"
	LoopbackCertificateExpiring Reason = "loopback-certificate-expiring"
	CertificateUnapproved       Reason = "certificate-unapproved"
	CertificateExpiring         Reason = "certificate-expiring"
	OwnExpiring                 Reason = "own-certificate-expiring"
	IdentityUnusual             Reason = "identity-unusual"
	CopyStale                   Reason = "copy-stale"
	RenewalTimerOn              Reason = "renewal-timer-on"
	OtherExpiring               Reason = "other-certificate-expiring"
	EtcdMemberSilent            Reason = "etcd-member-silent"
	NodeUnschedulable           Reason = "node-unschedulable"
	NodeLeftOut                 Reason = "node-left-out"
	SANPending                  Reason = "san-pending"
	AuthorityNotStrict          Reason = "authority-not-strict"
	CABundleExpiring            Reason = "ca-bundle-expiring"
	NotInInventory              Reason = "not-in-inventory"
)

// meaning describes a reason. blocks: nothing may be changed while it holds.
type meaning struct {
	reason   Reason
	area     Area
	severity Severity
	blocks   bool
	title    string
	next     string
}

// renewIt is the next step for what a run renews.
const renewIt = "renew it: kscertctl run"

// table holds every reason from cause to symptom: of several findings the higher one explains the
// lower one, never the other way round. What blocks is above all that does not, so that the first
// finding is also the one that forbids a change. In next, NODE and SUBJECT stand for the finding's.
var table = []meaning{
	{NodeUnreachable, Looking, Critical, true, "the node cannot be reached",
		"check address, SSH user and key with: ansible -i INVENTORY NODE -m ansible.builtin.raw -a true; to " +
			"leave it out: --allow-unreachable NODE"},
	{PrivilegeMissing, Looking, Critical, true, "cannot become root on the node",
		"let the SSH user become root without a password, or pass the password with --ask-become-pass (-K) or as " +
			"ansible_become_password in a vault; check it with: ansible -i INVENTORY NODE --become -m " +
			"ansible.builtin.raw -a true"},
	{InspectionFailed, Looking, Critical, true, "the node could not be inspected",
		"inspect again with more output: kscertctl diagnose -i INVENTORY -vvv; read the log of the inspection in " +
			"the run directory"},
	{ToolMissing, Looking, Critical, true, "a required command is missing on the node",
		"install it, or set bin_dir in the inventory to its directory: find / -xdev -name SUBJECT"},
	{KubesprayNotFound, Looking, Critical, true, "not a Kubespray checkout",
		"name the directory that holds upgrade-cluster.yml with --kubespray-dir"},

	{ClockSkew, Ground, Critical, true, "the node's clock is wrong",
		"set the clock (NTP) first: with a wrong clock no certificate can be validated or issued; check it with: " +
			"timedatectl status"},
	{DiskFull, Ground, Critical, true, "a file system is full",
		"free some space before anything is written; to see what uses it: du -xh SUBJECT | sort -h | tail, and for " +
			"inodes: df -i SUBJECT"},
	{KubeadmConfigMissing, Ground, Critical, true, "the node's kubeadm configuration is missing",
		"restore kubeadm-config.yaml: without it kubeadm would lose SANs, directories and external etcd; the " +
			"cluster's copy of it: kubectl -n kube-system get configmap kubeadm-config -o yaml"},
	{KubeadmConfigRefused, Ground, Critical, true,
		"kubeadm rejects the node's configuration, and certificates that it issues are due",
		"for an old API version: kubeadm config migrate --old-config SUBJECT --new-config NEW, with the kubeadm " +
			"that the evidence names or the oldest that still reads it; for an experimental one: write " +
			"kubeadm.k8s.io/v1beta4, whose fields are the same; remove an unknown feature gate; set " +
			"kubernetesVersion to that of the cluster, with a kubeadm of its minor version or the next; then check: " +
			"kubeadm config validate --config SUBJECT"},

	{CAMissing, Authorities, Critical, true, "a CA certificate is missing",
		"restore it from a backup (kscertctl backup list -i INVENTORY) or from another control plane node; a new " +
			"one would break every kubelet and token"},
	{CAKeyMissing, Authorities, Critical, true, "a CA key is missing",
		"if it is kept outside the cluster, set kube_external_ca_mode in the inventory, and request certificates " +
			"from there: kscertctl ca csr -i INVENTORY --dir DIR; if it is lost, restore it from a backup (kscertctl " +
			"backup list -i INVENTORY), or replace the CA: kscertctl ca rotate -i INVENTORY --strategy offline"},
	{ExternalCA, Authorities, Critical, true, "certificates are due, and the CA keys are kept outside the cluster",
		"write signing requests with: kscertctl ca csr -i INVENTORY --dir DIR; have them signed where the keys are, " +
			"and put the certificates in place with: kscertctl ca install -i INVENTORY --dir DIR"},
	{AuthoritiesDiffer, Authorities, Critical, true, "control planes hold different CAs",
		"find out which is right with: openssl x509 -noout -subject -dates -fingerprint -in FILE on each; nothing " +
			"may be issued until they are the same"},
	{ServiceAccountKeysDiffer, Authorities, Critical, true, "control planes hold different service account keys",
		"find out which key signed the tokens in use (compare: sha256sum sa.pub on each), and copy that pair; until " +
			"then an API server refuses the tokens of another"},
	{UnknownAuthority, Authorities, Critical, true, "the certificate is signed by the wrong CA",
		"find out which of the two is wrong: openssl verify -partial_chain -CAfile CA FILE; restore it from a " +
			"backup or from another control plane node"},
	{IdentityWrong, Authorities, Critical, true, "the certificate has the wrong identity or usage for its place",
		"a renewal keeps both: back up SUBJECT and its key, move them away, and issue them on NODE: kubeadm init " +
			"phase certs NAME --config kubeadm-config.yaml, or for a kubeconfig kubeadm init phase kubeconfig NAME " +
			"--config kubeadm-config.yaml; for a kubelet create them on a control plane: kubeadm kubeconfig user " +
			"--config kubeadm-config.yaml --org system:nodes --client-name system:node:NAME"},
	{KeyMismatch, Authorities, Critical, true, "a certificate and its key do not match",
		"restore the pair from one backup: SUBJECT and its key; a pair matches if openssl x509 -noout -pubkey -in " +
			"FILE prints the same as openssl pkey -pubout -in KEY"},

	{ManifestMissing, Files, Critical, true, "the API server's static pod manifest is missing",
		"restore manifests/kube-apiserver.yaml from a backup or with: kubeadm init phase control-plane apiserver " +
			"--config kubeadm-config.yaml; without it kubeadm writes a manifest of its defaults"},
	{ManifestInvalid, Files, Critical, true, "the kubelet cannot read a static pod manifest",
		"fix the file; the kubelet logs why: journalctl -u kubelet | grep 'parse as pod'"},
	{FileMissing, Files, Critical, true, "a required certificate, key or kubeconfig is missing",
		"restore SUBJECT from a backup; without one, issue it: kubeadm init phase certs NAME --config " +
			"kubeadm-config.yaml, or kubeadm init phase kubeconfig NAME --config kubeadm-config.yaml"},
	{CertificateNotYetValid, Expiry, Critical, true, "the certificate is not valid yet",
		"check the clocks of this node and of the one that issued it: timedatectl status; renew nothing until they " +
			"are right"},

	{AdministratorForbidden, API, Critical, true, "the administrator lacks the rights of an administrator",
		"super-admin.conf needs no binding: kubectl --kubeconfig $(dirname SUBJECT)/super-admin.conf create " +
			"clusterrolebinding kubeadm:cluster-admins --clusterrole=cluster-admin --group=kubeadm:cluster-admins; " +
			"if SUBJECT holds another user's certificate, move it away and issue it with: kubeadm init phase " +
			"kubeconfig admin --config kubeadm-config.yaml"},

	{CAExpired, Authorities, Critical, false, "a CA has expired",
		"if its key is on a node, kscertctl run -i INVENTORY re-issues it with that key; if the key is lost, replace " +
			"the CA and everything that it signed: kscertctl ca rotate -i INVENTORY --strategy offline"},
	{ManifestCopy, Files, Warning, false, "a copy is in the static pod manifest directory, and the kubelet runs it too",
		"the kubelet reads every file there that does not begin with a dot; move it elsewhere: mv SUBJECT /root/"},
	{CertificateUnreadable, Files, Critical, false, "the certificate or key cannot be parsed",
		"a kubelet-client-current.pem is issued again by kscertctl run; check any other certificate: openssl x509 " +
			"-noout -text -in FILE, a kubeconfig: kubectl config view --kubeconfig FILE, and restore it from a " +
			"backup: kscertctl backup list -i INVENTORY; without one, move a kubeconfig away and issue it with: " +
			"kubeadm init phase kubeconfig NAME --config kubeadm-config.yaml"},

	{CertificateBeginsLater, Expiry, Critical, false, "the certificate is not valid yet, and every clock agrees",
		renewIt},
	{ServingExpired, Expiry, Critical, false, "the API server's serving certificate has expired", renewIt},
	{EtcdExpired, Expiry, Critical, false, "an etcd certificate has expired", renewIt},
	{KubeletClientExpired, Expiry, Critical, false, "the kubelet's client certificate has expired", renewIt},
	{ClientExpired, Expiry, Critical, false, "a client certificate has expired", renewIt},
	{KubeletAccessExpired, Expiry, Critical, false, "the API server's kubelet client certificate has expired", renewIt},
	{FrontProxyExpired, Expiry, Critical, false, "the front proxy's client certificate has expired", renewIt},
	{KubeletServingExpired, Expiry, Critical, false, "the kubelet's serving certificate has expired", renewIt},

	{OwnInvalid, Expiry, Critical, false,
		"a component uses a certificate that is not valid, and kscertctl does not renew it",
		"it is outside the directories whose certificates kscertctl renews; inspect it: openssl x509 -noout -issuer " +
			"-subject -dates -in SUBJECT; have its issuer issue a new one, and install it with its key; or let the " +
			"component use the cluster's own certificate again"},

	{ServedCertificateStale, InUse, Warning, false, "the certificate on disk is not the one that is served",
		"restart the component: kscertctl run, or for a kubelet: systemctl restart kubelet"},
	{CredentialStale, InUse, Warning, false, "the component started before its kubeconfig was written",
		"restart the component: kscertctl run"},
	{LoopbackCertificateExpired, InUse, Critical, false, "the API server's in-memory loopback certificate has expired",
		"restart the API server, which creates a new one: " +
			"crictl stop $(crictl ps -q --name '^kube-apiserver$') on NODE"},
	{SANMissing, InUse, Critical, false, "the API server's certificate lacks a name that clients use",
		"add the name to certSANs in kubeadm-config.yaml (supplementary_addresses_in_ssl_keys in Kubespray), move " +
			"apiserver.crt and apiserver.key away, and issue them with: kubeadm init phase certs apiserver --config " +
			"kubeadm-config.yaml"},

	{ContainerRuntimeDown, Components, Critical, false, "the container runtime is not running",
		"read: systemctl status SUBJECT; journalctl -u SUBJECT"},
	{KubeletDown, Components, Critical, false, "the kubelet is not running", "read: journalctl -u kubelet"},
	{EtcdMemberDown, Components, Critical, false, "the etcd member is not running",
		"read: journalctl -u SUBJECT, or where etcd is a static pod: crictl ps -a --name etcd; start it: systemctl " +
			"start SUBJECT"},
	{EtcdNoQuorum, Components, Critical, false, "etcd has no quorum",
		"bring back enough members before anything else: systemctl start SUBJECT, or where etcd is a static pod, " +
			"systemctl start kubelet; restore a snapshot only when they are lost"},

	{NameResolutionFailed, API, Critical, false, "the node cannot resolve the name of the API endpoint",
		"check DNS and /etc/hosts: getent hosts NAME"},
	{LoadBalancer, API, Critical, false,
		"the API servers answer, but the endpoint in front of them does not reach them",
		"check what listens on SUBJECT (ss -tlnp there): the load balancer, kube-vip, or the nginx-proxy or haproxy " +
			"pod on NODE"},
	{APICrashing, API, Critical, false, "the API server exits as soon as it starts",
		"fix what its log reports: crictl logs $(crictl ps -a -q --name '^kube-apiserver$' | head -n 1) on NODE"},
	{APIBlocked, API, Critical, false, "the API server runs, but its port cannot be reached",
		"check for a packet filter: nft list ruleset, iptables -S; and what listens: ss -tlnp on NODE"},
	{APIServerRefused, API, Critical, false, "nothing listens on the API server's port",
		"find out why it is not started: crictl ps -a --name kube-apiserver, journalctl -u kubelet on NODE"},
	{APIServerNotReady, API, Critical, false, "the API server runs, but is not ready",
		"read what it waits for: kubectl get --raw '/readyz?verbose', and its log: crictl logs $(crictl ps -a -q " +
			"--name '^kube-apiserver$' | head -n 1) on NODE"},
	{APIRejectsClient, API, Critical, false, "the API server does not accept the administrator's certificate",
		"compare --client-ca-file in its manifest with the CA that signed admin.conf"},
	{KubeletAccessForbidden, API, Critical, false, "kubelets refuse the API server: no logs, no exec, no metrics",
		"a renewal keeps the subject: back up SUBJECT and its key, move them away, and issue them on NODE with: " +
			"kubeadm init phase certs apiserver-kubelet-client --config kubeadm-config.yaml; or give its user the " +
			"cluster role system:kubelet-api-admin"},
	{APIServerUntrusted, API, Critical, false, "the certificate that the API server presents cannot be trusted",
		"inspect it: openssl s_client -connect SERVER:PORT -showcerts </dev/null, and compare it with the CA in " +
			"admin.conf"},
	{APIUnusable, API, Critical, false, "the API server cannot be used",
		"if an expired certificate on the node explains it: kscertctl run; if none does, fix what the logs report: " +
			"journalctl -u kubelet; crictl logs $(crictl ps -a -q --name '^kube-apiserver$' | head -n 1) on NODE"},

	{NodeNotJoined, Symptoms, Warning, false, "the node has not joined the cluster",
		"join it with Kubespray once the API server can be used: ansible-playbook -i INVENTORY --become scale.yml " +
			"--limit=NODE; or take it out of the inventory"},
	{NodeNotRegistered, Symptoms, Critical, false, "the API server does not know the node",
		"compare kube_override_hostname in the inventory with: kubectl get nodes; check whether the node ever joined"},
	{NodeNotReady, Symptoms, Critical, false, "the node is not Ready",
		"read: kubectl describe node SUBJECT, and journalctl -u kubelet on it"},
	{StaticPodNotReady, Symptoms, Warning, false, "a control plane component is not Ready",
		"read its log: crictl logs $(crictl ps -a -q --name SUBJECT | head -n 1) on NODE"},

	{CAExpiring, Advice, Warning, false, "a CA is about to expire",
		"renew it while the cluster is healthy, with its own key: " + RenewCA},
	{CAExpiresFirst, Advice, Warning, false, "a CA expires before a certificate that it signed",
		"what it signed is not trusted after the CA has expired: renew it while the cluster is healthy, with its " +
			"own key: " + RenewCA},
	{RotationUnfinished, Advice, Warning, false, "a CA is trusted in several versions, or not by all in the same",
		"nothing fails while each trusts what it verifies, and a renewal keeps every CA where it is; finish what " +
			"was begun: let all that the evidence names trust the CA that signs now, restart what reads its CAs " +
			"only once (kube-controller-manager, kubelets, etcd), issue again what the former one signed, and " +
			"remove that last"},
	{LoopbackCertificateExpiring, Advice, Warning, false,
		"the API server's in-memory loopback certificate is about to expire",
		"restart the API server, which creates a new one: " +
			"crictl stop $(crictl ps -q --name '^kube-apiserver$') on NODE"},
	{CertificateUnapproved, Advice, Warning, false,
		"the kubelet's serving certificate is not valid or about to expire, and the next one waits for approval",
		"read: kubectl get csr; approve the request of the kubelet, or set kubelet_csr_approver_enabled"},
	{CertificateExpiring, Advice, Warning, false, "the certificate is about to expire", renewIt},
	{OwnExpiring, Advice, Warning, false,
		"a component uses a certificate that is about to expire, and kscertctl does not renew it",
		"it is outside the directories whose certificates kscertctl renews; inspect it: openssl x509 -noout -issuer " +
			"-subject -dates -in SUBJECT; have its issuer issue a new one, and install it with its key"},
	{IdentityUnusual, Advice, Warning, false, "the certificate has another identity than kubeadm gives it",
		"make sure that it has the rights it needs: kubectl auth can-i --list --as USER --as-group GROUP; else move " +
			"SUBJECT away and issue it with: kubeadm init phase certs NAME --config kubeadm-config.yaml, or kubeadm " +
			"init phase kubeconfig NAME --config kubeadm-config.yaml"},
	{CopyStale, Advice, Warning, false, "a copy of a certificate is out of date or about to expire",
		"renew the original first, then run the playbook that made the copy: cluster.yml --tags network"},
	{RenewalTimerOn, Advice, Warning, false, "Kubespray's own renewal timer is on",
		"each time, it renews every certificate of NODE and restarts its components at once, without the kubelet, " +
			"host etcd, a backup or a gate (Kubespray up to v2.31); a run holds it back; to renew with kscertctl " +
			"alone, set auto_renew_certificates: false and stop it: systemctl disable --now k8s-certs-renew.timer"},
	{OtherExpiring, Advice, Warning, false,
		"a certificate of no known purpose has expired, is about to, or is not valid yet",
		"find out what uses it (grep -rl SUBJECT /etc/kubernetes /etc/systemd on NODE), and have its issuer issue a " +
			"new one, or remove the file; kscertctl does not renew it"},
	{EtcdMemberSilent, Advice, Warning, false, "the etcd member runs, but does not answer a read, while others do",
		"read its log: journalctl -u SUBJECT, or where etcd is a static pod: crictl logs $(crictl ps -a -q --name " +
			"'^etcd$' | head -n 1); kscertctl restarts no other member that the quorum needs meanwhile"},
	{NodeUnschedulable, Advice, Warning, false, "the node is cordoned",
		"an interrupted upgrade leaves nodes cordoned; if that is not intended: kubectl uncordon SUBJECT"},
	{NodeLeftOut, Advice, Warning, false, "the node cannot be reached and is left out",
		"when it is back, run again; if it is gone for good, remove it from cluster and inventory (Kubespray: " +
			"remove-node.yml)"},
	{SANPending, Advice, Warning, false, "kubeadm's configuration has a name that the API server's certificate lacks",
		"no client is seen using it; the certificate gets it when it is issued again from the configuration, not " +
			"when it is renewed"},
	{AuthorityNotStrict, Advice, Warning, false, "strict clients reject a CA, or what it signed",
		"programs that check certificates by all of RFC 5280 (Python from 3.13 on, OpenSSL with -x509_strict) " +
			"cannot use the API server; components of Kubernetes do not check that; issue the CA again with its " +
			"own key: " + RenewCA},
	{CABundleExpiring, Advice, Warning, false, "a CA bundle in the cluster has expired or is about to",
		"the API server then cannot call what it verifies with it: have the operator or Helm chart that made it " +
			"issue the CA again; kscertctl does not renew it"},
	{NotInInventory, Advice, Warning, false,
		"the cluster has a node or an etcd member that the inventory does not name",
		"add SUBJECT to the inventory, or, if it no longer exists, remove it from the cluster: kubectl delete node " +
			"SUBJECT, or for a member of etcd, on a node of etcd: set -a; . /etc/etcd.env; etcdctl member remove " +
			"ID; until then, kscertctl changes no control plane if it is one, and restarts no etcd if it is an etcd " +
			"member; --allow-not-in-inventory SUBJECT permits both"},
}

// ranks is where each reason stands in the table.
var ranks = func() map[Reason]int {
	m := make(map[Reason]int, len(table))
	for i, row := range table {
		m[row.reason] = i
	}
	return m
}()

// row returns the row of the reason; an unknown code has no texts.
func (r Reason) row() meaning {
	if i, ok := ranks[r]; ok {
		return table[i]
	}
	return meaning{reason: r}
}

// Reasons returns every reason code, from cause to symptom.
func Reasons() []Reason {
	out := make([]Reason, len(table))
	for i, row := range table {
		out[i] = row.reason
	}
	return out
}

// Area is the part of the cluster it concerns.
func (r Reason) Area() Area { return r.row().area }

// Severity is how much it matters.
func (r Reason) Severity() Severity { return r.row().severity }

// Blocks reports whether nothing may be changed while it holds.
func (r Reason) Blocks() bool { return r.row().blocks }

// Title is the reason in words.
func (r Reason) Title() string { return r.row().title }

// Next is what to do or inspect next; NODE and SUBJECT stand for the finding's.
func (r Reason) Next() string { return r.row().next }

// Expired reports whether it means that a leaf has expired: what a run renews.
func (r Reason) Expired() bool {
	for _, e := range expired {
		if r == e {
			return true
		}
	}
	return false
}

// expired maps what a certificate is for to the reason that it has expired.
var expired = map[certs.Group]Reason{
	certs.GroupServing:        ServingExpired,
	certs.GroupEtcd:           EtcdExpired,
	certs.GroupKubeletClient:  KubeletClientExpired,
	certs.GroupClient:         ClientExpired,
	certs.GroupAPIToKubelet:   KubeletAccessExpired,
	certs.GroupFrontProxy:     FrontProxyExpired,
	certs.GroupKubeletServing: KubeletServingExpired,
}

// failureReasons maps why a node could not be inspected to a reason.
var failureReasons = map[snapshot.FailureKind]Reason{
	snapshot.Unreachable: NodeUnreachable,
	snapshot.Missing:     NodeUnreachable,
	snapshot.Privilege:   PrivilegeMissing,
	snapshot.Garbled:     InspectionFailed,
	snapshot.Failed:      InspectionFailed,
}
