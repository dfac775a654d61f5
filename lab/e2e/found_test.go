//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// TestAsFound recovers a cluster with files as found in practice: root's kubeconfig in JSON
// with a second, foreign user; a certificate that is a link; a worker whose kubelet has an
// empty pair; crictl's configuration for another runtime; Kubespray's own renewal, enabled and
// running; unused files that cannot be renewed; an intermediate certificate after another one.
func TestAsFound(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-found", ControlPlanes: 1, Workers: 1})
	w := plant(ctx, t, c)
	for _, node := range []string{"cp1", "w1"} {
		shellOutput(ctx, t, c, node, asPeopleWrite)
	}
	expireAll(ctx, t, c, expire.Options{Kinds: expire.Yearly(), Restart: true})

	before := twoUsers(ctx, t, c)
	const pki, elsewhere = "/etc/kubernetes/ssl/apiserver.crt", "/etc/kubernetes/ssl/of-2025.crt"
	shellOutput(ctx, t, c, "cp1", "mv "+pki+" "+elsewhere+" && ln -s of-2025.crt "+pki)
	shellOutput(ctx, t, c, "w1", "systemctl stop kubelet; : >$(readlink -f /var/lib/kubelet/pki/kubelet-client-current.pem); systemctl start --no-block kubelet")
	shellOutput(ctx, t, c, "cp1", renewalTimer)
	shellOutput(ctx, t, c, "cp1", leftovers+"cat ca.crt >>"+elsewhere)
	shellOutput(ctx, t, c, "w1", "cp /var/lib/kubelet/pki/kubelet.crt /etc/kubernetes/ssl/apiserver-etcd-client.crt")
	unused := shellOutput(ctx, t, c, "cp1", sumOfLeftovers)
	// The configuration of a runtime that was replaced.
	shellOutput(ctx, t, c, "cp1", "cp -p /etc/crictl.yaml /root/crictl.yaml && sed -i 's|containerd/containerd|crio/crio|' /etc/crictl.yaml")
	kscertctl(ctx, t, "check-expiration", "-i", c.Inventory()).want(t, 3, "cp1: Kubespray's own renewal timer is on: it starts next at ")
	kscertctl(ctx, t, "diagnose", "-i", c.Inventory()).want(t, 0, "Kubespray's own renewal timer is on")

	shellOutput(ctx, t, c, "cp1", "systemctl start --no-block k8s-certs-renew.service; sleep 1")
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0,
		"waiting for processes on the nodes to finish: cp1: process ", "Kubespray's renewal of certificates",
		"Kubespray's renewal timer is held back: cp1", "After:   healthy")
	shellOutput(ctx, t, c, "cp1", "cp -p /root/crictl.yaml /etc/crictl.yaml")
	if got := shellOutput(ctx, t, c, "cp1", sumOfLeftovers); got != unused {
		t.Errorf("unused files were\n%s\nand is\n%s", unused, got)
	}
	// The verification requires every certificate to be valid.
	shellOutput(ctx, t, c, "cp1", "cd /etc/kubernetes/ssl && rm -r etcd apiserver-etcd-client.crt /etc/ssl/etcd/ssl/*-gone.pem")
	shellOutput(ctx, t, c, "w1", "rm /etc/kubernetes/ssl/apiserver-etcd-client.crt")
	// It follows no links and reads no JSON: these two are checked here.
	delete(w.Leaves["cp1"], pki)
	delete(w.Servers["cp1"], "/root/.kube/config")
	if err := w.Verify(ctx); err != nil {
		t.Fatalf("verification failed: %v", err)
	}
	if got := shellOutput(ctx, t, c, "cp1", "readlink "+pki+"; openssl x509 -in "+elsewhere+" -noout -checkend 8640000 >/dev/null && echo renewed"); got != "of-2025.crt\nrenewed\n" {
		t.Errorf("the certificate that is a link: %q", got)
	}
	if got := shellOutput(ctx, t, c, "cp1", "systemctl is-active k8s-certs-renew.timer kscertctl-release-timer.timer || true"); got != "active\ninactive\n" {
		t.Errorf("the timers are %q", got)
	}
	served := "openssl s_client -connect localhost:6443 -showcerts </dev/null 2>/dev/null | grep -c BEGIN"
	if got := shellOutput(ctx, t, c, "cp1", "grep -c BEGIN "+elsewhere+"; "+served); got != "2\n2\n" {
		t.Errorf("certificates in the file, and served: %q", got)
	}
	after := shellOutput(ctx, t, c, "cp1", "cat /root/.kube/config")
	was, is := users(t, before), users(t, after)
	if was["other"] != is["other"] || was["ours"] == is["ours"] {
		t.Errorf("of the two users: the other's was changed: %v, ours was renewed: %v", was["other"] != is["other"], was["ours"] != is["ours"])
	}
	for i := range was["ours"] {
		before, after = strings.ReplaceAll(before, was["ours"][i], "@"), strings.ReplaceAll(after, is["ours"][i], "@")
	}
	if before != after {
		t.Error("in the kubeconfig with two users, more than our certificate and key changed")
	}
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do: healthy")
	})

	shellOutput(ctx, t, c, "cp1", "kubectl --kubeconfig /etc/kubernetes/admin.conf cordon w1")
	kscertctl(ctx, t, "diagnose", "-i", c.Inventory()).want(t, 0, "the node is cordoned", "kubectl uncordon w1")

	// An API server with its own serving certificate: reported, but not renewed.
	shellOutput(ctx, t, c, "cp1", ownServing)
	const own = "/etc/kubernetes/ssl/own/tls.crt"
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do: healthy", own, "kscertctl does not renew it")
	})
	kscertctl(ctx, t, "check-expiration", "-i", c.Inventory()).want(t, 2, "unused", "the API server's own certificate")
}

// asPeopleWrite writes settings as people do: a remark behind a flag in a manifest, a manifest in JSON,
// a flag in a line that is commented out, a drop-in of the kubelet's configuration, quotes in
// etcd's environment.
const asPeopleWrite = `set -e
cd /etc/kubernetes
sed -i '1i #KUBELET_OLD="--config=/etc/kubernetes/old.yaml"' kubelet.env
mkdir -p kubelet.d && printf 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nrotateCertificates: true\n' >kubelet.d/10-rotate.conf
sed -i "s#--config=/#--config-dir=/etc/kubernetes/kubelet.d --config=/#" kubelet.env
systemctl restart kubelet
[ -f manifests/kube-apiserver.yaml ] || exit 0
if [ -f /etc/etcd.env ]; then sed -i 's#^\(ETCD_[A-Z_]*FILE\)=\(.*\)#\1="\2"#' /etc/etcd.env; fi
sed -i 's/ --\(tls-cert-file\|etcd-certfile\)=.*/& # as it always was/' manifests/kube-apiserver.yaml
kubectl label --local -f manifests/kube-scheduler.yaml by=hand -o json >/root/scheduler.json
cat /root/scheduler.json >manifests/kube-scheduler.yaml`

// leftovers adds the files of a kubeadm etcd in addition to the host's, and of a removed
// member: no CA here signed them, and keys are missing.
const leftovers = `cd /etc/kubernetes/ssl && mkdir -p etcd
for f in etcd/ca.crt etcd/server.crt etcd/peer.crt apiserver-etcd-client.crt; do cp -p front-proxy-client.crt $f; done
for f in member admin; do cp -p front-proxy-client.crt /etc/ssl/etcd/ssl/$f-gone.pem; done
`

// ownServing makes the API server serve a certificate that expires in nine days, from a
// directory with another path in its container, and waits for it.
const ownServing = `cd /etc/kubernetes/ssl && mkdir own
openssl x509 -x509toreq -copy_extensions copyall -in apiserver.crt -signkey apiserver.key |
openssl x509 -req -copy_extensions copyall -CA ca.crt -CAkey ca.key -days 9 -out own/tls.crt 2>/dev/null
sed -i 's#--tls-cert-file=.*#--tls-cert-file=/certs/tls.crt#
s#^    volumeMounts:#&\n    - mountPath: /certs\n      name: own#
s#^  volumes:#&\n  - hostPath:\n      path: /etc/kubernetes/ssl/own\n    name: own#' ../manifests/kube-apiserver.yaml
for i in $(seq 90); do
  served=$(openssl s_client -connect localhost:6443 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint 2>/dev/null || true)
  [ "$served" = "$(openssl x509 -in own/tls.crt -noout -fingerprint)" ] &&
    kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz >/dev/null 2>&1 && exit
  sleep 1
done
exit 1`

const sumOfLeftovers = "cd /etc/kubernetes/ssl && sha256sum etcd/* apiserver-etcd-client.crt /etc/ssl/etcd/ssl/*-gone.pem"

// TestNotJoined recovers a cluster whose inventory has a worker that has not joined yet; then
// it checks the diagnosis of an administrator's kubeconfig with a node's certificate.
func TestNotJoined(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-not-joined", ControlPlanes: 1, Workers: 2})
	const kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf "
	shellOutput(ctx, t, c, "w2", "systemctl disable -q --now kubelet; rm -rf /etc/kubernetes/kubelet.conf /etc/kubernetes/ssl/* /var/lib/kubelet/pki")
	shellOutput(ctx, t, c, "cp1", kubectl+"delete node w2")
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do: healthy", "the node has not joined the cluster (w2)")
	kscertctl(ctx, t, "check-expiration", "-i", c.Inventory()).want(t, 0, "w2: the node has not joined the cluster")

	expireAll(ctx, t, c, expire.Options{Kinds: expire.Yearly(), Restart: true})
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Route:   recover", "the node has not joined the cluster (w2)", "After:   healthy")

	shellOutput(ctx, t, c, "cp1", "cp -p /etc/kubernetes/admin.conf /root/admin.conf && "+kubectl+`config set-credentials kubernetes-admin --embed-certs \
		--client-certificate=/var/lib/kubelet/pki/kubelet-client-current.pem --client-key=/var/lib/kubelet/pki/kubelet-client-current.pem`)
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 5,
			"the certificate has the wrong identity or usage for its place", "/etc/kubernetes/admin.conf", "system:node:cp1")
	})
	shellOutput(ctx, t, c, "cp1", "rm /etc/kubernetes/admin.conf && kubeadm init phase kubeconfig admin --config /etc/kubernetes/kubeadm-config.yaml")
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do: healthy")
}

// TestCertDir recovers a cluster whose kubelets have their certificates in another directory
// (--cert-dir): they are renewed there, and nowhere else.
func TestCertDir(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-cert-dir", ControlPlanes: 1, Workers: 1})
	expireAll(ctx, t, c, expire.Options{Kinds: expire.Yearly(), Restart: true})
	for _, node := range []string{"cp1", "w1"} {
		shellOutput(ctx, t, c, node, `systemctl stop kubelet
mkdir -p /srv && mv /var/lib/kubelet/pki /srv/kubelet-pki && cd /srv/kubelet-pki
ln -sfn "$(basename "$(readlink kubelet-client-current.pem)")" kubelet-client-current.pem
sed -i 's#/var/lib/kubelet/pki#/srv/kubelet-pki#' /etc/kubernetes/kubelet.conf
sed -i 's#KUBELET_ARGS="#&--cert-dir=/srv/kubelet-pki #' /etc/kubernetes/kubelet.env
grep -q cert-dir /etc/kubernetes/kubelet.env
systemctl start --no-block kubelet`)
	}
	kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Route:   recover", "After:   healthy")
	for _, node := range []string{"cp1", "w1"} {
		got := shellOutput(ctx, t, c, node, `openssl x509 -in /srv/kubelet-pki/kubelet-client-current.pem -noout -checkend 86400
[ ! -e /var/lib/kubelet/pki ] || ls -l /var/lib/kubelet/pki
ls -d /var/backups/kscertctl/*/files/srv/kubelet-pki >/dev/null && echo kept`)
		if got != "Certificate will not expire\nkept\n" {
			t.Errorf("%s: %s", node, got)
		}
	}
	wantUnchanged(ctx, t, c, func() {
		kscertctl(ctx, t, "run", "-i", c.Inventory(), "--yes").want(t, 0, "Nothing to do: healthy")
	})
}

// renewalTimer installs the units of Kubespray's control plane role for
// auto_renew_certificates, with a script that only waits: it runs until shortly after a run
// has locked the cluster.
const renewalTimer = `
printf '#!/bin/bash\ntimeout 300 sh -c "until ls /var/lib/kscertctl/lock-*; do sleep 1; done"\nsleep 25\n' >/usr/local/bin/k8s-certs-renew.sh && chmod 755 /usr/local/bin/k8s-certs-renew.sh
cat >/etc/systemd/system/k8s-certs-renew.service <<'END'
[Service]
Type=oneshot
ExecStart=/usr/local/bin/k8s-certs-renew.sh
END
cat >/etc/systemd/system/k8s-certs-renew.timer <<'END'
[Timer]
OnCalendar=Mon *-*-1..7 03:00:00
RandomizedDelaySec=5m
Persistent=yes
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload && systemctl enable -q --now k8s-certs-renew.timer`

// twoUsers makes root's kubeconfig one of two clusters, in JSON on one line: a foreign one
// first, then the lab's with admin.conf's pair.
func twoUsers(ctx context.Context, t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	var admin struct {
		Clusters []struct {
			Cluster map[string]string
		}
		Users []struct {
			User map[string]string
		}
	}
	if err := json.Unmarshal([]byte(shellOutput(ctx, t, c, "cp1", "kubectl config view --raw -o json --kubeconfig /etc/kubernetes/admin.conf")), &admin); err != nil {
		t.Fatal(err)
	}
	other := shellOutput(ctx, t, c, "cp1", `cd $(mktemp -d)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -days 30 -subj /O=system:masters/CN=kubernetes-admin 2>/dev/null
base64 -w0 c; echo; base64 -w0 k; rm c k`)
	pair := strings.Fields(other)
	if len(pair) != 2 {
		t.Fatal(other)
	}
	type object map[string]any
	doc, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "ours",
		"clusters": []object{
			{"name": "other", "cluster": object{"server": "https://other.example.com:6443", "certificate-authority-data": pair[0]}},
			{"name": "ours", "cluster": admin.Clusters[0].Cluster},
		},
		"contexts": []object{
			{"name": "other", "context": object{"cluster": "other", "user": "other"}},
			{"name": "ours", "context": object{"cluster": "ours", "user": "ours"}},
		},
		"users": []object{
			{"name": "other", "user": object{"client-certificate-data": pair[0], "client-key-data": pair[1]}},
			{"name": "ours", "user": admin.Users[0].User},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	shellOutput(ctx, t, c, "cp1", "mkdir -p /root/.kube && echo "+base64.StdEncoding.EncodeToString(doc)+" | base64 -d >/root/.kube/config && chmod 600 /root/.kube/config")
	return string(doc)
}

// users returns the certificate and key of each user of a kubeconfig.
func users(t *testing.T, text string) map[string][2]string {
	t.Helper()
	var doc struct {
		Users []struct {
			Name string
			User map[string]string
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for _, u := range doc.Users {
		out[u.Name] = [2]string{u.User["client-certificate-data"], u.User["client-key-data"]}
	}
	if slices.Contains([]string{out["ours"][0], out["ours"][1], out["other"][0]}, "") {
		t.Fatal("the kubeconfig of two users has not both")
	}
	return out
}
