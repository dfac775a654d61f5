//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// outside are the keys of a cluster's CAs, moved away from its nodes.
type outside struct {
	// cas are the CAs by the names that requests have for them.
	cas map[string]outsideCA
	// archive has the files of the keys of each node.
	archive map[string]string
	// inventory is one that sets kube_external_ca_mode.
	inventory string
}

type outsideCA struct {
	certificate *x509.Certificate
	key         any
}

// keyFiles are the keys of CAs on a node, but for that of host etcd, which Kubespray keeps there.
const keyFiles = `files=
for file in /etc/kubernetes/ssl/ca.key /etc/kubernetes/ssl/front-proxy-ca.key /etc/kubernetes/ssl/etcd/ca.key; do
  [ ! -f "$file" ] || files="$files $file"
done
`

// unsigning has kube-controller-manager sign nothing any more, as kubeadm configures it where the
// keys are outside, and returns when it does.
func unsigning(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, n := range c.ControlPlanes() {
		shellOutput(ctx, t, c, n.Name, `f=/etc/kubernetes/manifests/kube-controller-manager.yaml
sed 's/\(--cluster-signing-\(cert\|key\)-file\)=.*/\1=/' "$f" >/root/manifest
grep -q 'signing-key-file=$' /root/manifest
cat /root/manifest >"$f"`)
	}
	if err := cluster.Poll(ctx, 2*time.Minute, time.Second, "kube-controller-manager to restart", func(ctx context.Context) error {
		for _, n := range c.ControlPlanes() {
			if out, err := c.Shell(ctx, n.Name, `tr '\0' '\n' </proc/$(pgrep -o -x kube-controller)/cmdline | grep -x -e '--cluster-signing-key-file='`); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := settle(ctx, c); err != nil {
		t.Fatal(err)
	}
}

// moveOut moves the keys of the CAs away from the nodes.
func moveOut(ctx context.Context, t *testing.T, c *cluster.Cluster) outside {
	t.Helper()
	o := outside{cas: map[string]outsideCA{}, archive: map[string]string{}, inventory: filepath.Join(t.TempDir(), "outside.ini")}
	for ca, files := range map[string][2]string{
		"kubernetes-ca": {authorityFiles[0], "/etc/kubernetes/ssl/ca.key"}, "front-proxy-ca": {authorityFiles[1], "/etc/kubernetes/ssl/front-proxy-ca.key"},
		"etcd-ca": {authorityFiles[2], "/etc/kubernetes/ssl/etcd/ca.key"},
	} {
		text, err := c.Shell(ctx, "cp1", fmt.Sprintf("cat %s && openssl pkcs8 -topk8 -nocrypt -in %s", files[0], files[1]))
		if err != nil {
			continue // it has no such CA
		}
		block, rest := pem.Decode(text)
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		block, _ = pem.Decode(rest)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		o.cas[ca] = outsideCA{x, key}
	}
	for _, n := range c.Nodes() {
		o.archive[n.Name] = shellOutput(ctx, t, c, n.Name, keyFiles+`[ -z "$files" ] || { tar -czP $files | base64 -w 0 && rm -f $files; }`)
	}
	if err := os.WriteFile(o.inventory, []byte("[all:vars]\nkube_external_ca_mode=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// moveBack puts the keys where they were.
func (o outside) moveBack(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for node, data := range o.archive {
		if data != "" {
			shellOutput(ctx, t, c, node, "echo "+data+" | base64 -d | tar -xzP")
		}
	}
}

// sign signs a request, as the CA would.
func (ca outsideCA) sign(t *testing.T, request []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(request)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, RawSubject: r.RawSubject, ExtraExtensions: r.Extensions, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, r.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// signAll signs all requests in a directory but those of some kinds, each by its CA or the given one,
// and returns the kinds that were requested.
func (o outside) signAll(t *testing.T, dir string, by func(ca string) outsideCA, but ...string) (kinds []string) {
	t.Helper()
	var index struct {
		Requests []struct{ Node, Kind, Request, Certificate, CA string }
	}
	data, err := os.ReadFile(filepath.Join(dir, "requests.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range index.Requests {
		kinds = append(kinds, r.Node+" "+r.Kind)
		if slices.Contains(but, r.Kind) {
			continue
		}
		request, err := os.ReadFile(filepath.Join(dir, r.Request))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, r.Certificate), by(r.CA).sign(t, request), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// TestExternalCA renews what is due, or has expired, where the keys of the CAs are outside of the
// cluster, also that of kubeadm's etcd: the nodes request certificates, the test signs them, and they are put in place.
func TestExternalCA(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		// expired: everything has, kubelets' certificates, too; or leaves but theirs are due.
		expired bool
		want    []string
	}{
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-outside-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, false, []string{
			"cp1 admin.conf", "cp1 apiserver", "cp1 apiserver-etcd-client", "cp1 apiserver-kubelet-client", "cp1 controller-manager.conf",
			"cp1 etcd-healthcheck-client", "cp1 etcd-peer", "cp1 etcd-server", "cp1 front-proxy-client", "cp1 scheduler.conf", "cp1 super-admin.conf"}},
		{"host-etcd", cluster.Spec{Name: "e2e-outside-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost}, true, []string{
			"cp1 admin.conf", "cp1 apiserver", "cp1 apiserver-kubelet-client", "cp1 controller-manager.conf", "cp1 front-proxy-client", "cp1 kubelet-client", "cp1 scheduler.conf", "cp1 super-admin.conf", "w1 kubelet-client"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 20*time.Minute)
			c := newCluster(ctx, t, test.spec)
			unsigning(ctx, t, c)
			w := plant(ctx, t, c)
			options := expire.Options{}
			if !test.expired {
				w.KubeletsKept = true
				options.NotAfter = time.Now().Add(10 * 24 * time.Hour)
				options.Kinds = slices.DeleteFunc(expire.All(), func(k expire.Kind) bool { return k == expire.Kubelet || k == expire.KubeletServing })
			}
			expireAll(ctx, t, c, options)
			o := moveOut(ctx, t, c)
			own := func(ca string) outsideCA { return o.cas[ca] }
			in := []string{"-i", c.Inventory(), "-i", o.inventory}
			command := func(args ...string) outcome { return kscertctl(ctx, t, append(args, in...)...) }

			wantUnchanged(ctx, t, c, func() {
				command("run", "--yes").want(t, 5, "the CA keys are kept outside the cluster", "kscertctl ca csr")
			})
			dir := filepath.Join(t.TempDir(), "requests")
			wantUnchanged(ctx, t, c, func() { command("ca", "csr", "--dir", dir).want(t, 0, "kscertctl ca install") })
			command("ca", "csr", "--dir", dir).want(t, 64, "is not empty")

			// One of another CA is noticed before anything is changed.
			wrong := o.other(t)
			if kinds := o.signAll(t, dir, func(string) outsideCA { return wrong }); !slices.Equal(kinds, test.want) {
				t.Errorf("requested: %q, want %q", kinds, test.want)
			}
			wantUnchanged(ctx, t, c, func() {
				command("ca", "install", "--dir", dir, "--yes").want(t, 7, "is not valid under", "nothing was changed")
			})

			state := t.TempDir()
			o.signAll(t, dir, own)
			if !test.expired { // a part of it; it is undone again
				part := filepath.Join(t.TempDir(), "part")
				command("ca", "csr", "--dir", part).want(t, 0)
				o.signAll(t, part, own, "apiserver", "etcd-server")
				before := shellOutput(ctx, t, c, "cp1", digests)
				kscertctlIn(ctx, t, state, append([]string{"ca", "install", "--dir", part, "--yes"}, in...)...).
					want(t, 0, "not in this plan: cp1 (due: apiserver, etcd-server)")
				if after := shellOutput(ctx, t, c, "cp1", digests); after == before {
					t.Error("nothing was placed")
				}
				kscertctlIn(ctx, t, state, "rollback", filepath.Base(runDirs(state)[0]), "--yes").want(t, 0)
				if after := shellOutput(ctx, t, c, "cp1", digests); after != before {
					t.Errorf("after the rollback there are\n%s\nand there were\n%s", after, before)
				}
			}
			got := command("ca", "install", "--dir", dir, "--yes")
			got.want(t, 0, "After:   healthy")
			t.Logf("installed in %.0f s", got.took.Seconds())
			wantNoKeys(ctx, t, c, got)
			wantUnchanged(ctx, t, c, func() { command("ca", "install", "--dir", dir, "--yes").want(t, 0, "Nothing to do") })

			o.moveBack(ctx, t, c)
			if err := w.AwaitWorkload(ctx); err != nil {
				t.Error(err)
			}
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the canaries have changed: %v", err)
			}
			wantHealthy(ctx, t, c)
		})
	}
}

// digests are those of what an installation may change.
const digests = `cd /etc/kubernetes && find *.conf ssl -type f | sort | xargs sha256sum`

// other is a CA that no one trusts, with the name of the cluster's.
func (o outside) other(t *testing.T) outsideCA {
	t.Helper()
	is := o.cas["front-proxy-ca"]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	public := is.certificate.PublicKey
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, is.key)
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return outsideCA{x, is.key}
}
