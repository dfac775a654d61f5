//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// TestCARotateUnnoticed replaces the CAs of the cluster and of the front proxy by ones with new keys,
// under the eyes of clients that know only the former one until it is dropped: none of them fails, and
// no API server restarts. In the end nothing holds the former CA, and what it has signed is refused.
func TestCARotateUnnoticed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-rot-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}},
		{"three-host-etcd", cluster.Spec{Name: "e2e-rot-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray, LoadBalancer: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, test.spec)
			w := plant(ctx, t, c)
			w.CAsRenewed, w.CAsRotated = true, true
			running := apiServers(ctx, t, c)
			before := authorityFingerprints(ctx, t, c)
			former := [2]string{}
			for i, file := range authorityFiles[:2] {
				former[i] = shellOutput(ctx, t, c, "cp1", "cat "+file)
			}
			old, err := credentials(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(t.TempDir(), "admin.conf") // an administrator's, on this machine
			if err := os.WriteFile(copied, []byte(shellOutput(ctx, t, c, "cp1", "cat /etc/kubernetes/admin.conf")), 0o600); err != nil {
				t.Fatal(err)
			}
			rotate := func(until string, flags ...string) outcome {
				t.Helper()
				o := kscertctl(ctx, t, append([]string{"ca", "rotate", "-i", c.Inventory(), "--ca", "cluster,front-proxy", "--until", until, "--refresh-kubeconfig", copied, "--yes"}, flags...)...)
				o.want(t, 0, "After:   healthy")
				t.Logf("%s: %.0f s", until, o.took.Seconds())
				return o
			}
			unnoticed := func(u *clients, during string) {
				t.Helper()
				asked, failures := u.end(ctx, t)
				t.Logf("%s: %d requests, failed: %d", during, asked, count(failures))
				for who, what := range failures {
					t.Errorf("%s: %s failed %d times, first: %s", during, who, len(what), what[0])
				}
				if now := apiServers(ctx, t, c); !slices.Equal(now, running) {
					t.Errorf("%s: API servers were restarted: %q, were %q", during, now, running)
				}
			}

			u := use(ctx, t, c)
			pods := last(ctx, t, c)
			wantNoKeys(ctx, t, c, rotate("make"))
			wantRenewed(ctx, t, c, before)
			var trusted time.Time
			for _, stage := range []string{"trust", "clients", "servers"} {
				wantNoKeys(ctx, t, c, rotate(stage))
				wantStage(ctx, t, c, stage, "kubernetes-ca", "front-proxy-ca")
				if stage == "trust" {
					trusted = time.Now()
				}
			}
			unnoticed(u, "from make to servers")
			time.Sleep(time.Until(trusted.Add(clientGoReads + 30*time.Second)))
			pods.wantContent(ctx, t, "from make to servers", podBefore, podSince, curlFormer, curlBundle)
			shellOutput(ctx, t, c, c.Workers()[0].Name, "systemctl stop "+curlFormer) // it never gets the next CA
			kscertctl(ctx, t, "ca", "rotate", "-i", c.Inventory(), "--yes").want(t, 0, "--until drop")
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the witness is not content: %v", err)
			}

			u = use(ctx, t, c)
			o := rotate("drop", "--restart-workloads", "listed")
			o.want(t, 0, "pod witness/"+podSince+": no Deployment, StatefulSet or DaemonSet restarts it")
			wantNoKeys(ctx, t, c, o)
			unnoticed(u, "drop")
			wantStage(ctx, t, c, "", "kubernetes-ca", "front-proxy-ca")
			pods.wantContent(ctx, t, "drop", podBefore, podSince, curlBundle)
			wantRenewed(ctx, t, c, before, "/ca.crt", "/front-proxy-ca.crt")
			for _, ca := range former {
				wantNowhere(ctx, t, c, ca)
			}
			wantRefused(ctx, t, c, old)
			wantAccepted(ctx, t, c, copied)
			if err := w.Verify(ctx); err != nil {
				t.Errorf("the witness is not content: %v", err)
			}
			wantStrict(ctx, t, c, "kubernetes")
			if test.spec.ControlPlanes == 1 {
				rejoin(ctx, t, c, discoveryHash(ctx, t, c))
			}
			wantHealthy(ctx, t, c)
		})
	}
}

// TestCARotateEtcd replaces the CA of etcd by one with a new key: members and API servers restart twice,
// to trust the next one and to drop the former, one after another, and at no other stage. In the end
// nothing holds the former CA, and etcd refuses what it has signed.
func TestCARotateEtcd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		// drains: as in TestCARenewUnnoticed.
		drains bool
	}{
		{"host-etcd", cluster.Spec{Name: "e2e-rote-1", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray}, false},
		{"kubeadm-etcd", cluster.Spec{Name: "e2e-rote-2", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdKubeadm}, false},
		{"three-kubeadm-etcd", cluster.Spec{Name: "e2e-rote-3", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdKubeadm, LoadBalancer: true}, true},
		{"three-host-etcd", cluster.Spec{Name: "e2e-rote-4", ControlPlanes: 3, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray, LoadBalancer: true}, true},
		{"etcd-nodes", cluster.Spec{Name: "e2e-rote-5", ControlPlanes: 1, Workers: 1, EtcdNodes: 3}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t, 40*time.Minute)
			c := newCluster(ctx, t, test.spec)
			if test.drains {
				drain(ctx, t, c)
			}
			w := plant(ctx, t, c)
			w.KubeletsKept, w.CAsRenewed, w.EtcdRotated = true, true, true
			before := authorityFingerprints(ctx, t, c)
			member := c.EtcdMembers()[0]
			dir, client, authority, suffix := "/etc/ssl/etcd/ssl/", "admin-"+member.Name, authorityFiles[3], "/ca.pem"
			key := dir + client + "-key.pem"
			client = dir + client + ".pem"
			if test.spec.Etcd == cluster.EtcdKubeadm {
				authority, suffix = authorityFiles[2], "/etcd/ca.crt"
				client = "/etc/kubernetes/ssl/etcd/healthcheck-client.crt"
				key = strings.TrimSuffix(client, ".crt") + ".key"
			}
			former := shellOutput(ctx, t, c, member.Name, "cat "+authority)
			old, err := tls.X509KeyPair([]byte(shellOutput(ctx, t, c, member.Name, "cat "+client)), []byte(shellOutput(ctx, t, c, member.Name, "cat "+key)))
			if err != nil {
				t.Fatal(err)
			}
			name := "etcd-host-ca"
			if test.spec.Etcd == cluster.EtcdKubeadm {
				name = "etcd-ca"
			}
			for _, stage := range []string{"trust", "servers", "drop"} { // each with what comes before it
				running := apiServers(ctx, t, c)
				u := use(ctx, t, c)
				o := kscertctl(ctx, t, "ca", "rotate", "-i", c.Inventory(), "--ca", "etcd", "--until", stage, "--yes")
				asked, failures := u.end(ctx, t)
				o.want(t, 0, "After:   healthy")
				wantNoKeys(ctx, t, c, o)
				t.Logf("%s: %d requests in %.0f s, failed: %d%s", stage, asked, o.took.Seconds(), count(failures), gaps(failures))
				restarts := stage == "trust" || stage == "drop"
				lb, balanced := c.LoadBalancer()
				for who, what := range failures {
					if !restarts || balanced && who == asking("https://"+lb.Address()) {
						t.Errorf("%s: %s failed %d times, first: %s", stage, who, len(what), what[0])
					}
				}
				if now := apiServers(ctx, t, c); slices.Equal(now, running) == restarts {
					t.Errorf("%s: API servers are %q, were %q", stage, now, running)
				}
				if stage != "drop" {
					wantStage(ctx, t, c, stage, name)
				}
				if stage == "trust" {
					wantRenewed(ctx, t, c, before)
					continue
				}
				if err := w.Verify(ctx); err != nil {
					t.Errorf("%s: the witness is not content: %v", stage, err)
				}
			}
			wantStage(ctx, t, c, "", name)
			wantRenewed(ctx, t, c, before, suffix)
			wantNowhere(ctx, t, c, former)
			for _, n := range c.EtcdMembers() {
				config := &tls.Config{Certificates: []tls.Certificate{old}, InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &old, nil }}
				httpClient := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
				if err := get(ctx, &httpClient, fmt.Sprintf("https://%s:2379/version", n.IP)); err == nil || !strings.Contains(err.Error(), "tls: ") {
					t.Errorf("%s answers a client of the former CA with: %v", n.Name, err)
				}
			}
			wantStrict(ctx, t, c, "etcd-ca")
			wantHealthy(ctx, t, c)
		})
	}
}

// gaps are the times of the first and the last failure of each client that asks.
func gaps(failures map[string][]string) string {
	var out strings.Builder
	for who, what := range failures {
		first, _, _ := strings.Cut(what[0], " ")
		last, _, _ := strings.Cut(what[len(what)-1], " ")
		fmt.Fprintf(&out, "; %s %d times from %s to %s", who, len(what), first, last)
	}
	return out.String()
}

// wantStage fails the test unless ca status finds the rotations of these CAs at a stage.
func wantStage(ctx context.Context, t *testing.T, c *cluster.Cluster, stage string, names ...string) {
	t.Helper()
	o := kscertctl(ctx, t, "ca", "status", "-i", c.Inventory(), "-o", "json")
	o.want(t, 0)
	var status struct{ CAs []struct{ CA, Stage string } }
	if err := json.Unmarshal([]byte(o.stdout), &status); err != nil {
		t.Fatalf("%v: %s", err, o.stdout)
	}
	for _, name := range names {
		i := slices.IndexFunc(status.CAs, func(ca struct{ CA, Stage string }) bool { return ca.CA == name })
		if i < 0 || status.CAs[i].Stage != stage {
			t.Errorf("%s has not reached %q", name, stage)
			t.Log(kscertctl(ctx, t, "ca", "status", "-i", c.Inventory()).stdout)
		}
	}
}

// wantNowhere fails the test if a certificate is in a file of a node, except in backups of ours and of
// Kubespray (*.old), or in an object of the cluster: as PEM, or in base64 once more, wherever in that it begins.
func wantNowhere(ctx context.Context, t *testing.T, c *cluster.Cluster, certificate string) {
	t.Helper()
	line := strings.Split(certificate, "\n")[5] // of its own key
	patterns := []string{line}
	for shift := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + line))
		patterns = append(patterns, coded[4:len(coded)-4])
	}
	find := strings.Join(patterns, "|")
	find = strings.ReplaceAll(find, "+", "[+]")
	for _, n := range c.Nodes() {
		out := shellOutput(ctx, t, c, n.Name, fmt.Sprintf("grep -rlE -D skip --exclude='*.conf.old' '%s' /etc /root /var/lib/kubelet /var/lib/kscertctl 2>/dev/null || :", find))
		if out != "" {
			t.Errorf("%s: the former CA is in %s", n.Name, out)
		}
	}
	out := shellOutput(ctx, t, c, "cp1", fmt.Sprintf(`export KUBECONFIG=/etc/kubernetes/admin.conf
for kind in configmaps secrets validatingwebhookconfigurations mutatingwebhookconfigurations apiservices customresourcedefinitions; do
  kubectl get $kind -A -o yaml | grep -E -c '%s' | sed "s/^[1-9].*/$kind/; /^0/d"
done || :`, find))
	if out != "" {
		t.Errorf("the former CA is in %s", out)
	}
}

// wantAccepted fails the test unless an API server and the user of a kubeconfig on this machine accept each
// other.
func wantAccepted(ctx context.Context, t *testing.T, c *cluster.Cluster, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := credentialsOf(text)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	if err := get(ctx, &client, fmt.Sprintf("https://%s:6443/api/v1/nodes", c.ControlPlanes()[0].IP)); err != nil {
		t.Errorf("the user of %s cannot use the cluster any more: %v", file, err)
	}
}

// wantRefused fails the test unless API servers refuse a client of the former CA.
func wantRefused(ctx context.Context, t *testing.T, c *cluster.Cluster, old *tls.Config) {
	t.Helper()
	config := old.Clone()
	config.InsecureSkipVerify = true // it does not know the new CA
	// Go sends only certificates of CAs that the server names.
	config.Certificates, config.GetClientCertificate = nil, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &old.Certificates[0], nil
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	for _, n := range c.ControlPlanes() {
		err := get(ctx, &client, fmt.Sprintf("https://%s:6443/api/v1/nodes", n.IP))
		if err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%s answers a client of the former CA with: %v", n.Name, err)
		}
	}
}
