//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/fault"
)

// TestInspect checks what every inspection guarantees, with either etcd.
func TestInspect(t *testing.T) {
	t.Parallel()
	for _, spec := range []cluster.Spec{
		{Name: "e2e-inspect-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray},
		{Name: "e2e-inspect-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm},
	} {
		t.Run(string(spec.Etcd)+"-etcd", func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 20*time.Minute)
			c := newCluster(ctx, t, spec)
			t.Run("cronjob", func(t *testing.T) { takesCronJob(ctx, t, c) })
			t.Run("agrees-with-kubeadm", func(t *testing.T) { agreesWithKubeadm(ctx, t, c) })
			t.Run("silent-host", func(t *testing.T) { reportsSilentHost(ctx, t, c) })
			t.Run("keys-stay", func(t *testing.T) { keysStay(ctx, t, c) })
		})
	}
}

// takesCronJob: the API server would take the examples of CronJobs, with no field that
// it does not know.
func takesCronJob(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if _, err := c.Kubectl(ctx, "create", "namespace", "monitoring"); err != nil {
		t.Fatal(err)
	}
	for file, name := range map[string]string{"kubernetes-cronjob.yaml": "kscertctl-check", "kubernetes-renew.yaml": "kscertctl-renew"} {
		example, err := os.ReadFile("../../examples/pipelines/" + file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.KubectlOn(ctx, "cp1", bytes.NewReader(example), "create", "--dry-run=server", "--validate=strict", "-f", "-")
		if err != nil || !strings.Contains(string(out), "cronjob.batch/"+name+" created (server dry run)") {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
}

// faultNamed returns one of the lab's faults.
func faultNamed(t *testing.T, name string) fault.Fault {
	t.Helper()
	i := slices.IndexFunc(fault.All(), func(f fault.Fault) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no fault %q", name)
	}
	return fault.All()[i]
}

// with injects a fault, calls f and undoes the fault.
func with(ctx context.Context, t *testing.T, c *cluster.Cluster, x fault.Fault, f func()) {
	t.Helper()
	defer func() {
		if err := x.Fix(ctx, c); err != nil {
			t.Fatal(err)
		}
	}()
	if err := x.Make(ctx, c); err != nil {
		t.Fatal(err)
	}
	f()
}

// checked is the part of check-expiration -o json that these tests read.
type checked struct {
	Nodes []struct {
		Name  string
		Known bool
	}
	Certificates []certificate
}

type certificate struct {
	Node, Name, Path, Status, Authority string
	NotAfter                            time.Time
	ExternallyManaged, Served, IsCA     bool
}

func check(ctx context.Context, t *testing.T, c *cluster.Cluster, code int) checked {
	t.Helper()
	o := kscertctl(ctx, t, "check-expiration", "-i", c.Inventory(), "-o", "json")
	o.want(t, code)
	var out checked
	if err := json.Unmarshal([]byte(o.stdout), &out); err != nil {
		t.Fatalf("%v:\n%s", err, o.stdout)
	}
	return out
}

// agreesWithKubeadm compares all certificates that kubeadm knows with the output of
// check-expiration: on a fresh cluster, with expired certificates and some that expire soon,
// without a CA's key, and with a missing file.
func agreesWithKubeadm(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	compare := func(t *testing.T, code int) {
		t.Helper()
		for _, n := range c.ControlPlanes() {
			theirs, ours := kubeadmCertificates(ctx, t, c, n.Name), check(ctx, t, c, code).known(n.Name)
			if len(theirs) < 9 {
				t.Fatalf("kubeadm knows only %v", theirs)
			}
			for name, want := range theirs {
				got, ok := ours[name]
				switch {
				case want.Missing && ok:
					t.Errorf("%s: kubeadm does not report %s, which expires %s here", n.Name, name, got.NotAfter)
				case want.Missing:
				case !ok:
					t.Errorf("%s: %s is not reported", n.Name, name)
				case got != want:
					t.Errorf("%s: %s is %+v, kubeadm reports %+v", n.Name, name, got, want)
				}
			}
		}
	}
	compare(t, 0)
	for _, test := range []struct {
		fault string
		code  int
	}{
		{"admin-expired", 3}, {"expiring", 3}, {"authority-key-absent", 0}, {"certificate-removed", 0},
	} {
		with(ctx, t, c, faultNamed(t, test.fault), func() {
			t.Run(test.fault, func(t *testing.T) { compare(t, test.code) })
		})
	}
}

// expiration is what both kubeadm and check-expiration report about a certificate.
type expiration struct {
	NotAfter  time.Time
	Authority string
	External  bool
	Missing   bool
}

// kubeadmCertificates returns kubeadm's report by its name of each certificate. For CAs
// kubeadm reports no CA.
func kubeadmCertificates(ctx context.Context, t *testing.T, c *cluster.Cluster, node string) map[string]expiration {
	t.Helper()
	out, err := c.Shell(ctx, node, "kubeadm certs check-expiration --config /etc/kubernetes/kubeadm-config.yaml -o json 2>/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Name, CAName               string
		ExpirationDate             time.Time
		ExternallyManaged, Missing bool
	}
	var doc struct{ Certificates, CertificateAuthorities []row }
	if err := json.Unmarshal(out, &doc); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	all := map[string]expiration{}
	for _, r := range slices.Concat(doc.Certificates, doc.CertificateAuthorities) {
		all[r.Name] = expiration{r.ExpirationDate, r.CAName, r.ExternallyManaged, r.Missing}
	}
	return all
}

// known returns a node's certificate files in kubeadm's terms.
func (c checked) known(node string) map[string]expiration {
	all := map[string]expiration{}
	for _, cert := range c.Certificates {
		if cert.Node != node || cert.Served {
			continue
		}
		e := expiration{NotAfter: cert.NotAfter, Authority: cert.Authority, External: cert.ExternallyManaged}
		e.Authority = strings.TrimPrefix(e.Authority, "kubernetes-")
		if cert.IsCA {
			e.Authority = ""
		}
		all[cert.Name] = e
	}
	return all
}

// reportsSilentHost: an unreachable host is unknown, with the documented exit code, and the
// data about the others is complete.
func reportsSilentHost(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	before := check(ctx, t, c, 0).known("cp1")
	with(ctx, t, c, faultNamed(t, "ssh-blocked"), func() {
		now := check(ctx, t, c, 4)
		for _, n := range now.Nodes {
			if n.Known != (n.Name != "w1") {
				t.Errorf("node %s: known is %t", n.Name, n.Known)
			}
		}
		for name, cert := range before {
			if now.known("cp1")[name] != cert {
				t.Errorf("cp1: %s is %+v, was %+v", name, now.known("cp1")[name], cert)
			}
		}
		o := kscertctl(ctx, t, "diagnose", "-i", c.Inventory())
		o.want(t, 4, "node-unreachable", "w1")
	})
	// A shared connection that was cut off is found dead only when TCP sends again, ever later.
	wantHealthy(ctx, t, c)
}

// plantScript puts canaries that look like a line of a key next to all secrets: after the key
// in every file with one, in a new key file next to each, after the key in every kubeconfig,
// and in the settings with tokens. All files still work. It prints the canaries, then all
// lines of the real keys.
const plantScript = `
canary() { printf 'CANARY%058d' "1$RANDOM$RANDOM$RANDOM" | tr -d '\n'; }
block() { printf -- '-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n' "$1"; }
keys=$(find /etc/kubernetes /etc/ssl/etcd /var/lib/kubelet/pki -type f -exec grep -l 'PRIVATE KEY' {} + 2>/dev/null || true)
for f in $keys; do
  c=$(canary); block "$c" >>"$f"; echo "$c"
  c=$(canary); block "$c" >"$f.canary.key"; chmod 600 "$f.canary.key"; echo "$c"
done
for f in $(grep -l client-key-data: /etc/kubernetes/*.conf /root/.kube/config 2>/dev/null || true); do
  c=$(canary); echo "$c"
  data=$( { awk '$1=="client-key-data:"{print $2}' "$f" | base64 -d; block "$c"; } | base64 -w 0)
  sed -i "s|client-key-data: .*|client-key-data: $data|" "$f"
  # The encoded form in the file, which may be printed in any line.
  printf '%s' "$data" | fold -w 64 | tail -n +12 | grep -E '^.{64}$' || true
done
t=$(canary | tail -c 17)
printf 'apiVersion: v1\nkind: Config\nclusters:\n- cluster: {server: "https://127.0.0.1:6443"}\n  name: a\nusers:\n- name: a\n  user:\n    token: lab000.%s\n' "$t" >/etc/kubernetes/bootstrap-kubelet.conf
chmod 600 /etc/kubernetes/bootstrap-kubelet.conf
echo "lab000.$t"
sed -nE 's/^- token: "?([a-z0-9.]+)"?.*/\1/p; s/^(certificateKey|  tlsBootstrapToken|    token|        secret): "?([A-Za-z0-9.=+\/]+)"?.*/\2/p' \
  /etc/kubernetes/*.yaml /etc/kubernetes/kubeadm-client.conf /etc/kubernetes/ssl/secrets_encryption.yaml 2>/dev/null || true
# The first lines of an RSA key hold its modulus, which is public: its certificate
# has the same bytes, sometimes in the same alignment.
for f in $keys; do awk '/BEGIN.*PRIVATE KEY/{n=0; key=1; next} /END/{key=0} key && ++n>8 && length==64' "$f"; done`

// keysStay plants canaries next to every secret, runs every kind of inspection with the
// highest verbosity, and searches the output for them.
func keysStay(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	var secrets []string
	for _, n := range c.Nodes() {
		out, err := c.Shell(ctx, n.Name, plantScript)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, strings.Fields(string(out))...)
	}
	canaries := 0
	for _, s := range secrets {
		if strings.HasPrefix(s, "CANARY") {
			canaries++
		}
	}
	t.Logf("%d canaries among %d secrets", canaries, len(secrets))
	if canaries < 20 || len(secrets) < 150 {
		t.Fatalf("%d canaries among %d secrets are too few: the search itself is broken", canaries, len(secrets))
	}

	saved := filepath.Join(t.TempDir(), "snapshot.json")
	looks := [][]string{
		{"diagnose", "-vvv", "--save-snapshot", saved},
		{"diagnose", "-o", "json"},
		{"check-expiration", "-vvv"},
	}
	for _, format := range []string{"wide", "json", "yaml", "prometheus", "junit", "nagios", "ics"} {
		looks = append(looks, []string{"check-expiration", "-o", format, "--from-snapshot", saved})
	}
	for _, args := range looks {
		name := strings.Join(args[:min(3, len(args))], " ")
		if !slices.Contains(args, "--from-snapshot") {
			args = append(args, "-i", c.Inventory())
		}
		o := kscertctl(ctx, t, args...)
		if o.code != 0 {
			t.Errorf("%s exited with %d: %s", name, o.code, o.stderr)
		}
		wantNone(t, secrets, name, o)
	}
	data, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if secret := contained(secrets, data); secret != "" {
		t.Errorf("%s... is in the saved snapshot", secret[:12])
	}
}

// wantNone fails the test if a secret was printed or recorded.
func wantNone(t *testing.T, secrets []string, name string, o outcome) {
	t.Helper()
	for where, text := range map[string]string{"standard output": o.stdout, "standard error": o.stderr} {
		if secret := contained(secrets, []byte(text)); secret != "" {
			t.Errorf("%s: %s... is in %s", name, secret[:12], where)
		}
	}
	err := fs.WalkDir(os.DirFS(o.stateDir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(o.stateDir, path))
		if secret := contained(secrets, revealed(data)); secret != "" {
			t.Errorf("%s: %s... is in the record of the run, %s", name, secret[:12], path)
		}
		return err
	})
	if err != nil {
		t.Fatal(fmt.Errorf("searching the record of %s: %w", name, err))
	}
}

func contained(secrets []string, data []byte) string {
	for _, s := range secrets {
		if bytes.Contains(data, []byte(s)) {
			return s
		}
	}
	return ""
}
