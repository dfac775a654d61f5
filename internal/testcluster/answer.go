package testcluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// Answering describes the collector's answer on the control plane cp1.
type Answering struct {
	CA, Front testpki.Pair
	// Admin is the certificate of admin.conf; if nil, one is issued that is valid for Left.
	Admin testpki.Pair
	Left  time.Duration
	// Well makes gates hold: the API server serves its certificate and leases are fresh.
	Well bool
	// Workers are the other nodes in its API server.
	Workers []string
}

// ControlPlaneAnswer is the collector's output on cp1, with new certificates: all are valid
// for a year except admin.conf's.
func ControlPlaneAnswer(tb testing.TB, a Answering) string {
	tb.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, `@@KSCERT 3 %d
@@FACT pki /pki
@@FACT pki-real /pki
@@FACT config-dir /etc/kubernetes
@@FACT kubeadm-config /etc/kubernetes/kubeadm-config.yaml
@@FACT kubeadm /bin/kubeadm
@@FACT kubectl /bin/kubectl
@@FACT openssl /bin/openssl
@@UNIT kubelet active running 0 99
@@DIGEST 1 /pki/ca.crt
@@DIGEST 1 /pki/ca.key
@@DIGEST 1 /pki/front-proxy-ca.crt
@@DIGEST 1 /pki/front-proxy-ca.key
@@FACT manifest present
@@RESULT readyz 0
@@RESULT nodes 0
`, time.Now().Unix())
	nodes := append([]string{"cp1"}, a.Workers...)
	for _, name := range nodes {
		fmt.Fprintf(&out, "|%s\tTrue\tv1.34.4\tcontainerd://1.7.27\n", name)
	}
	lease := time.Now().Add(time.Hour).UTC().Format(time.RFC3339) // renewed after any run of a test began
	for _, name := range nodes {
		if a.Well {
			fmt.Fprintf(&out, "|%s\t%s\n", name, lease)
		}
	}
	for _, row := range certs.Table() {
		var pair testpki.Pair
		switch {
		case strings.Contains(row.Path, "*"), row.Signer == certs.EtcdCA, row.Kind == certs.KindEtcdCA,
			row.Base != certs.PKI && row.Base != certs.Config:
			continue
		case row.Kind == certs.KindCA:
			pair = a.CA
		case row.Kind == certs.KindFrontProxyCA:
			pair = a.Front
		case row.Signer == certs.FrontProxyCA:
			pair = a.Front.Issue(tb, leaf(row))
		case row.Kind == certs.KindAdmin && a.Admin.X509 != nil:
			pair = a.Admin
		case row.Kind == certs.KindAdmin:
			l := leaf(row)
			l.NotAfter = time.Now().Add(a.Left)
			pair = a.CA.Issue(tb, l)
		default:
			pair = a.CA.Issue(tb, leaf(row))
		}
		b64 := base64.StdEncoding.EncodeToString
		public := sha256.Sum256(pair.X509.RawSubjectPublicKeyInfo)
		if row.Base == certs.PKI {
			text := Bars(pair)
			fmt.Fprintf(&out, "@@FILE 644 root root 1 1 /pki/%s\n%s\n", row.Path, text)
			if a.Well && row.Kind == certs.KindAPIServer {
				fmt.Fprintf(&out, "@@TLS kube-apiserver 0 127.0.0.1:6443\n%s\n", text)
			}
			fmt.Fprintf(&out, "@@KEY %x /pki/%s\n", public, row.KeyFile(row.Path))
		} else {
			fmt.Fprintf(&out, "@@KUBECONFIG 600 root root 1 1 /etc/kubernetes/%s\n|{%s,\n"+
				"|clusters: [{name: c, cluster: {certificate-authority-data: %s}}],\n"+
				"|users: [{name: u, user: {client-certificate-data: %s}}]}\n", row.Path,
				strings.ReplaceAll(inUse, "\n", ",\n"), b64(a.CA.Certificate), b64(pair.Certificate))
			fmt.Fprintf(&out, "@@KEY %x /etc/kubernetes/%s\n", public, row.Path)
		}
	}
	if a.Well {
		fmt.Fprintf(&out, "@@RESULT component-leases 0\n|kube-controller-manager\t%[1]s\n|kube-scheduler\t%[1]s\n",
			lease)
	}
	return out.String() + "@@END\n"
}

// leaf describes the certificate that kubeadm issues for a kind on cp1.
func leaf(row certs.Row) testpki.Leaf {
	demand, _ := certs.IdentityOf(row.Kind)
	return testpki.Leaf{CommonName: cmp.Or(demand.Of("cp1"), row.Name),
		Organization: strings.Join(demand.Groups[:min(1, len(demand.Groups))], "")}
}

// WorkerAnswer is the collector's output on a worker whose kubelet's client certificate is
// valid for the given time.
func WorkerAnswer(tb testing.TB, ca testpki.Pair, name string, left time.Duration) string {
	tb.Helper()
	pair := ca.Issue(tb, testpki.Leaf{
		CommonName: "system:node:" + name, Organization: "system:nodes",
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left),
	})
	public := sha256.Sum256(pair.X509.RawSubjectPublicKeyInfo)
	return fmt.Sprintf(`@@KSCERT 3 %d
@@FACT hostname %s
@@FACT pki /pki
@@FACT pki-real /pki
@@FACT config-dir /etc/kubernetes
@@FACT kubelet-dir /var/lib/kubelet/pki
@@FACT openssl /bin/openssl
@@UNIT kubelet active running 0 99
@@DIGEST 1 /pki/ca.crt
@@FILE 644 root root 1 1 /pki/ca.crt
%s
@@FILE 600 root root 1 1 /var/lib/kubelet/pki/kubelet-client-current.pem
%s
@@KEY %x /var/lib/kubelet/pki/kubelet-client-current.pem
@@KUBECONFIG 600 root root 1 1 /etc/kubernetes/kubelet.conf
|%s
|clusters: [{name: c, cluster: {certificate-authority-data: %s}}]
|users: [{name: u, user: {client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem}}]
@@END
`, time.Now().Unix(), name, Bars(ca), Bars(pair), public, inUse, base64.StdEncoding.EncodeToString(ca.Certificate))
}

// inUse names the user u and the cluster c of a kubeconfig, as the collector prints it.
const inUse = "contexts: [{name: x, context: {cluster: c, user: u}}]\n|current-context: x"

// Bars returns a certificate's lines as the collector prints them.
func Bars(p testpki.Pair) string {
	return "|" + strings.ReplaceAll(strings.TrimSpace(string(p.Certificate)), "\n", "\n|")
}
