package playbooks_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// typed are the blocks of a runbook that are for root's shell.
var typed = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// typeBlock runs a block of a runbook on the node, whose directory becomes /etc/kubernetes for that
// time: kubeadm looks for kubeconfigs there.
func (n *node) typeBlock(block string) {
	n.t.Helper()
	n.ok(os.MkdirAll(n.root()+"/etc/kubernetes", 0o700))
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n"), 0o700)
	mounts := "mount -t overlay overlay -o lowerdir=" + n.root() + "/etc:/etc /etc && mount --bind " + n.conf + " /etc/kubernetes && exec bash -c \"$1\""
	cmd := exec.CommandContext(n.t.Context(), "unshare", "-rm", "sh", "-c", mounts, "sh", block)
	cmd.Env = append(os.Environ(), "PATH="+n.bin+":"+os.Getenv("PATH"), "HOME="+n.root())
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %s\n%s", err, out, block)
	}
}

// Following a runbook by hand keeps certificate chains, too.
func TestRunbookKeepsChains(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "unshare", "-rm", "true").CombinedOutput(); err != nil {
		t.Skipf("NOT TRIED: this user can have no mounts of its own: %v: %s", err, out)
	}
	root := testpki.Authority(t, "root")
	ca := root.Intermediate(t, "kubernetes", time.Now().AddDate(5, 0, 0))
	before := root.Once(t, ca, time.Now().Add(-time.Hour)) // the CA's certificate until it was signed again
	for name, behind := range map[string]testpki.Pair{"valid": ca, "expired": before} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leaf := func(name, group string) testpki.Pair {
				return ca.Issue(t, testpki.Leaf{CommonName: name, Organization: group, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
					NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Minute)})
			}
			old := map[string]testpki.Pair{
				"ssl/apiserver.crt": leaf("kube-apiserver", ""), "scheduler.conf": leaf("system:kube-scheduler", ""),
				"kubelet.conf": leaf("system:node:cp1", "system:nodes"), "member": leaf("etcd-member-cp1", ""),
			}
			n := issuer(t, ca)
			n.write(n.conf+"/ssl/apiserver.crt", chained(old["ssl/apiserver.crt"], behind), 0o600)
			n.write(n.conf+"/ssl/apiserver.key", old["ssl/apiserver.crt"].Key, 0o600)
			for _, file := range []string{"scheduler.conf", "kubelet.conf"} {
				in := old[file]
				in.Certificate = chained(in, behind)
				n.write(n.conf+"/"+file, append(kubeconfig(ca, in, ""), "contexts:\n- name: c\n  context: {cluster: kubernetes, user: someone}\ncurrent-context: c\n"...), 0o600)
			}
			n.write(n.etcd+"/ca.pem", ca.Certificate, 0o600)
			n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
			n.write(n.etcd+"/member-cp1.pem", chained(old["member"], behind), 0o600)
			n.write(n.etcd+"/member-cp1-key.pem", old["member"].Key, 0o600)
			n.ok(os.MkdirAll(filepath.Dir(n.pair()), 0o700))

			seen := n.look()
			seen.Roles = []cluster.Role{cluster.ControlPlane, cluster.Etcd}
			a := report.Assessment{
				Diagnosis: diagnosis.Diagnosis{Due: map[string][]certs.Kind{"cp1": {certs.KindAPIServer, certs.KindSchedulerConf, certs.KindKubeletConf, certs.KindEtcdMember}}},
				Plan:      plan.Plan{Steps: []plan.Step{{Action: plan.PrePhase, Nodes: []string{"cp1"}}}},
			}
			var book bytes.Buffer
			n.ok(report.Runbook(&book, snapshot.Snapshot{Taken: time.Now(), Nodes: []snapshot.Node{seen}}, a, report.ByHand{}))
			for _, block := range typed.FindAllStringSubmatch(book.String(), -1)[:2] { // what is restarted does not exist here
				n.typeBlock(block[1])
			}

			user := entries(t, n.read(n.conf+"/scheduler.conf"))["someone"]
			for place, got := range map[string]struct {
				certificates, key []byte
				was               testpki.Pair
			}{
				"the file":         {n.read(n.conf + "/ssl/apiserver.crt"), n.read(n.conf + "/ssl/apiserver.key"), old["ssl/apiserver.crt"]},
				"the kubeconfig":   {decoded(t, user.Certificate), decoded(t, user.Key), old["scheduler.conf"]},
				"the kubelet":      {n.read(n.pair()), n.read(n.pair()), old["kubelet.conf"]},
				"etcd of the host": {n.read(n.etcd + "/member-cp1.pem"), n.read(n.etcd + "/member-cp1-key.pem"), old["member"]},
			} {
				if _, err := tls.X509KeyPair(got.certificates, got.key); err != nil || bytes.HasPrefix(got.certificates, got.was.Certificate) {
					t.Errorf("%s has no new pair: %v", place, err)
				}
				if count := bytes.Count(got.certificates, []byte("BEGIN CERT")); count != 2 || !bytes.Contains(got.certificates, ca.Certificate) {
					t.Errorf("%s has %d certificates:\n%s", place, count, got.certificates)
				}
				if err := verifies(root, got.certificates); err != nil {
					t.Errorf("%s does not verify: %v", place, err)
				}
			}
			if left, _ := filepath.Glob(n.etcd + "/*.new"); len(left) > 0 || !slices.Contains(strings.Fields(string(n.read(n.conf+"/kubelet.conf"))), n.pair()) {
				t.Errorf("%v is left, and kubelet.conf is\n%s", left, n.read(n.conf+"/kubelet.conf"))
			}
		})
	}
}
