// Package fakeansible stands in for Ansible in tests: it reports one control plane node,
// and playbooks change nothing on it.
package fakeansible

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// Cluster has the authorities of a fake cluster.
type Cluster struct {
	CA, Front testpki.Pair
	// Admin is that of admin.conf; made with the node where there is none.
	Admin testpki.Pair
	// Well: gates hold, for the API server serves its certificate and leases are fresh.
	Well bool
}

// NewCluster makes the authorities.
func NewCluster(tb testing.TB) Cluster {
	tb.Helper()
	return Cluster{CA: testpki.Authority(tb, "kubernetes"), Front: testpki.Authority(tb, "front-proxy-ca")}
}

// Node is what the collector tells of a control plane whose admin.conf ends
// after the given time.
func Node(tb testing.TB, in Cluster, left time.Duration) string {
	tb.Helper()
	ca, front := in.CA, in.Front
	var out strings.Builder
	fmt.Fprintf(&out, `@@KSCERT 2 %d
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
|cp1	True	v1.34.4	containerd://1.7.27
`, time.Now().Unix())
	for _, row := range certs.Table() {
		var pair testpki.Pair
		switch {
		case strings.Contains(row.Path, "*"), row.Signer == certs.EtcdCA, row.Kind == certs.KindEtcdCA, row.Base != certs.PKI && row.Base != certs.Config:
			continue
		case row.Kind == certs.KindCA:
			pair = ca
		case row.Kind == certs.KindFrontProxyCA:
			pair = front
		case row.Signer == certs.FrontProxyCA:
			pair = front.Issue(tb, testpki.Leaf{CommonName: row.Name})
		case row.Kind == certs.KindAdmin && in.Admin.X509 != nil:
			pair = in.Admin
		case row.Kind == certs.KindAdmin:
			pair = ca.Issue(tb, testpki.Leaf{CommonName: row.Name, NotAfter: time.Now().Add(left)})
		default:
			pair = ca.Issue(tb, testpki.Leaf{CommonName: row.Name})
		}
		b64 := base64.StdEncoding.EncodeToString
		public := sha256.Sum256(pair.X509.RawSubjectPublicKeyInfo)
		if row.Base == certs.PKI {
			text := "|" + strings.ReplaceAll(strings.TrimSpace(string(pair.Certificate)), "\n", "\n|")
			fmt.Fprintf(&out, "@@FILE 644 root root 1 1 /pki/%s\n%s\n", row.Path, text)
			if in.Well && row.Kind == certs.KindAPIServer {
				fmt.Fprintf(&out, "@@TLS kube-apiserver 0 127.0.0.1:6443\n%s\n", text)
			}
			fmt.Fprintf(&out, "@@KEY %x /pki/%s\n", public, row.KeyFile(row.Path))
		} else {
			fmt.Fprintf(&out, "@@KUBECONFIG 600 root root 1 1 /etc/kubernetes/%s\n|certificate-authority-data: %s\n|client-certificate-data: %s\n", row.Path, b64(ca.Certificate), b64(pair.Certificate))
			fmt.Fprintf(&out, "@@KEY %x /etc/kubernetes/%s\n", public, row.Path)
		}
	}
	if in.Well {
		lease := time.Now().Add(time.Hour).UTC().Format(time.RFC3339) // renewed since whenever the run began
		fmt.Fprintf(&out, "@@RESULT node-leases 0\n|cp1\t%[1]s\n@@RESULT component-leases 0\n|kube-controller-manager\t%[1]s\n|kube-scheduler\t%[1]s\n", lease)
	}
	return out.String() + "@@END\n"
}

// New is a folder with commands that tell of one control plane whose
// admin.conf ends after the given time; playbooks other than the inspection are
// written to the file "ran" and end with the given code.
func New(t *testing.T, left time.Duration, code int) (bin, ran string) {
	t.Helper()
	bin = t.TempDir()
	return bin, Write(t, bin, Node(t, NewCluster(t), left), code)
}

// Says are Ansible's events of a playbook that hands over a payload of cp1.
func Says(tb testing.TB, payload string) string {
	tb.Helper()
	var out strings.Builder
	for _, e := range []ansible.Event{
		{V: 1, Event: "result", Status: "ok", Host: "cp1", Task: &ansible.Task{Name: "Tell"}, Payload: payload},
		{V: 1, Event: "stats", Hosts: map[string]ansible.Stats{"cp1": {OK: 1}}},
	} {
		line, err := json.Marshal(e)
		if err != nil {
			tb.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	return out.String()
}

// Write writes the commands of New into a folder; the node tells the payload. A
// program "hook" in it is called before each playbook, and a file with the name of a
// playbook holds the events of it.
func Write(tb testing.TB, bin, payload string, code int) (ran string) {
	tb.Helper()
	ran = filepath.Join(bin, "ran")
	says := func(payload string) string { return Says(tb, payload) }
	for name, text := range map[string]string{
		"inspect.yml":       says(payload),
		"lock.yml":          says("@@LOCK acquired 0 -\n@@END\n"),
		"backup.yml":        says("@@BACKUP this made 1 1 1 abc -\n@@END\n"),
		"backups.yml":       says("@@BACKUP that verified 1 1 1 abc -\n@@END\n"),
		"events":            says(""),
		"ansible-config":    "#!/bin/sh\necho \"DEFAULT_CALLBACK_PLUGIN_PATH(default) = ['/callbacks']\"\n",
		"ansible-inventory": "#!/bin/sh\ncat \"${0%/*}/inventory\"\n",
		"inventory":         `{"kube_control_plane": {"hosts": ["cp1"]}}`,
		"ansible-playbook": fmt.Sprintf(`#!/bin/sh
case $* in
--version) echo 'ansible-playbook [core 2.14.18]'; exit ;;
*--list-tasks*) printf '  play #1 (all): Play\tTAGS: []\n    tasks:\n      Task\tTAGS: []\n'; exit ;;
esac
for a; do case $a in *.yml) playbook=$(basename "$a") ;; esac; done
case $playbook in
inspect.yml | lock.yml) code=0 ;;
*) code=%[3]d; echo "$playbook" >>'%[2]s' ;;
esac
[ ! -x '%[1]s/hook' ] || '%[1]s/hook' "$playbook" "$*" || exit
says='%[1]s/'$playbook
[ -f "$says" ] || says='%[1]s/events'
cat "$says" >>"$KSCERT_EVENTS"
exit $code
`, bin, ran, code),
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil { //nolint:gosec // commands
			tb.Fatal(err)
		}
	}
	return ran
}
