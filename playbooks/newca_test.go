package playbooks_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// TestReplaceAtOnce takes two control planes, whose CA keys are lost, and a worker through the files of a
// replacement: new keys that only their owner reads, one CA that is trusted, and no signature of the former.
func TestReplaceAtOnce(t *testing.T) {
	t.Parallel()
	ca, proxy := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "front-proxy-ca")
	conf := func(ca []byte) []byte {
		return fmt.Appendf(nil, "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://127.0.0.1:6443\n  name: c\n",
			base64.StdEncoding.EncodeToString(ca))
	}
	var nodes []*node
	for i := range 3 {
		n := newNode(t)
		n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
		n.write(filepath.Dir(n.conf)+"/var/lib/kubelet/pki/kubelet.crt", nil, 0o600)
		n.write(n.conf+"/kubelet.conf", conf(ca.Certificate), 0o600)
		if i < 2 {
			n.write(n.conf+"/ssl/front-proxy-ca.crt", proxy.Certificate, 0o644)
			n.write(n.conf+"/manifests/kube-controller-manager.yaml", fmt.Appendf(nil, managerPod, n.conf+"/ssl"), 0o600)
		}
		n.verified()
		nodes = append(nodes, n)
	}
	cp1, cp2 := nodes[0], nodes[1]
	if _, errs, err := cp1.run("KSCERT_CAS=kubernetes-ca KSCERT_CA_SECONDS=0 KSCERT_RECEIVERS=\n" + script(t, "ca_renewal/files/authority.sh", "ca_rotation/files/rotation.sh", "ca_rotation/files/make.sh")); err == nil || !strings.Contains(errs, "ca.key does not exist") {
		t.Errorf("a staged rotation begins without the key: %v %s", err, errs)
	}
	receiver := answers(cp2.rotation("receive", "KSCERT_CA_OFFLINE=True"), "receiver: ")
	out := cp1.rotation("make", "KSCERT_CA_OFFLINE=True", "KSCERT_RECEIVERS='cp2|"+receiver+"'")
	if _, err := os.Stat(cp1.conf + "/ssl/ca-cross.crt"); err == nil {
		t.Error("the former CA has signed the new one")
	}
	cp2.rotation("take", "KSCERT_NEXT='"+answers(out, "next: cp2|")+"'")
	shown := answers(cp1.rotation("show"), "rotated: ")
	next, key := cp1.read(cp1.conf+"/ssl/ca-next.crt"), cp1.read(cp1.conf+"/ssl/ca-next.key")
	for i, n := range nodes {
		place := func() string {
			return n.rotation("place", "export KSCERT_CA_STAGE=replace", "KSCERT_NEXT='"+shown+"'", "KSCERT_CA_WANT='kubernetes-ca|"+certs.Describe(parsed(t, next)).Fingerprint+"'")
		}
		if out := place(); !strings.Contains(out, "changed: ") || strings.Contains(out, "restarted") {
			t.Errorf("replaced: %s", out)
		}
		if !bytes.Equal(n.read(n.conf+"/ssl/ca.crt"), next) || !bytes.Equal(n.read(n.conf+"/kubelet.conf"), conf(next)) {
			t.Errorf("node %d does not trust the new CA alone", i)
		}
		if i < 2 {
			for _, name := range []string{"ca", "front-proxy-ca"} {
				info, err := os.Stat(n.conf + "/ssl/" + name + ".key")
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s.key: %v %v", name, info, err)
				}
			}
			if !bytes.Equal(n.read(n.conf+"/ssl/ca.key"), key) {
				t.Errorf("node %d has another key", i)
			}
		}
		if out := place(); strings.Contains(out, "changed: ") {
			t.Errorf("replaced again: %s", out)
		}
	}
}
