//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestRenewBundle renews what is due while the cluster is between two CAs: every file and
// kubeconfig trusts afterwards what it trusted before, whichever of the two comes first.
func TestRenewBundle(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 20*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-bundle", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray})
	const trusted = `for f in /etc/kubernetes/ssl/ca.crt /etc/ssl/etcd/ssl/ca.pem; do [ ! -f $f ] || echo "$f $(grep -c BEGIN $f) $(sha256sum <$f)"; done
for f in /etc/kubernetes/*.conf /root/.kube/config; do
  [ ! -f $f ] || sed -n "s/.*certificate-authority-data: //p" $f | base64 -d | { data=$(cat); echo "$f $(echo "$data" | grep -c BEGIN) $(echo "$data" | sha256sum)"; }
done`
	second := shellOutput(ctx, t, c, "cp1", `d=$(mktemp -d)
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=kubernetes -days 3650 -addext keyUsage=critical,keyCertSign -keyout $d/key -out $d/crt 2>/dev/null
cat $d/crt; rm -r $d`)
	// Not those of kubelets: one that is restarted renews its own, whatever the plan has.
	due := []expire.Kind{
		expire.APIServer, expire.APIServerKubeletClient, expire.FrontProxyClient, expire.HostEtcd,
		expire.Admin, expire.SuperAdmin, expire.ControllerManager, expire.Scheduler,
	}
	for _, order := range []string{"old first", "new first"} {
		expireAll(ctx, t, c, expire.Options{Kinds: due, NotAfter: time.Now().Add(5 * 24 * time.Hour)})
		for _, n := range c.Nodes() {
			files := "$d/old $d/new"
			if order == "new first" {
				files = "$d/new $d/old"
			}
			shellOutput(ctx, t, c, n.Name, `d=$(mktemp -d); cat >$d/new <<'END'
`+strings.TrimSpace(second)+`
END
for ca in /etc/kubernetes/ssl/ca.crt /etc/ssl/etcd/ssl/ca.pem; do
  [ -f $ca ] || continue
  [ -f $ca.only ] || openssl x509 -in $ca -out $ca.only
  cp $ca.only $d/old; cat `+files+` >$d/both; cat $d/both >$ca
  [ $ca != /etc/kubernetes/ssl/ca.crt ] || for f in /etc/kubernetes/*.conf /root/.kube/config; do
    [ ! -f $f ] || sed -i "s|\(certificate-authority-data: \).*|\1$(base64 -w0 <$d/both)|" $f
  done
done
rm -r $d`)
		}
		before := map[string]string{}
		for _, n := range c.Nodes() {
			before[n.Name] = shellOutput(ctx, t, c, n.Name, trusted)
			if !strings.Contains(before[n.Name], "/etc/kubernetes/ssl/ca.crt 2 ") || !strings.Contains(before[n.Name], "/etc/kubernetes/kubelet.conf 2 ") {
				t.Fatalf("%s: not two CAs everywhere:\n%s", n.Name, before[n.Name])
			}
		}
		if order == "old first" { // kube-controller-manager would not start again
			wantUnchanged(ctx, t, c, func() {
				kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 7, "--cluster-signing-cert-file")
			})
			shellOutput(ctx, t, c, "cp1", `cd /etc/kubernetes; cp ssl/ca.crt.only ssl/signing.crt
sed -i 's|\(--cluster-signing-cert-file=\).*|\1/etc/kubernetes/ssl/signing.crt|' manifests/kube-controller-manager.yaml
sleep 1; systemctl restart kubelet`)
			if err := settle(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
		o := kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes")
		o.want(t, 0, "Route:   renew", "After:   healthy")
		for _, n := range c.Nodes() {
			if now := shellOutput(ctx, t, c, n.Name, trusted); now != before[n.Name] {
				t.Errorf("%s, %s: it trusts\n%s\nand did\n%s", order, n.Name, now, before[n.Name])
			}
		}
		o = kscertctl(ctx, t, "check", "-i", c.Inventory())
		for _, name := range []string{" ca ", " ca #2 ", " etcd host CA ", " etcd host CA #2 "} {
			if !strings.Contains(o.stdout, name) {
				t.Errorf("%s: the check has no row for%s:\n%s", order, name, o.stdout)
			}
		}
		if d := diagnose(ctx, t, c); d.Route != "none" || d.Primary != "rotation-unfinished" {
			t.Errorf("%s: %s, %s: %s", order, d.Route, d.Primary, d.Findings)
		}
	}
}
