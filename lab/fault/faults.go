package fault

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// One lists the faults for a control plane cp1 and a worker w1 with Kubespray's
// host etcd. As in the other tables, its rows can be made and fixed one after
// another on one cluster.
func One() []Fault {
	return slices.Concat(expiry(), files(), components(), network())
}

// restartKubelet lets the kubelet read its files again and end waiting between
// two tries of a pod.
const restartKubelet = "systemctl restart kubelet"

// againAPIServer ends an API server that takes its time to end, or has got stuck,
// and has the kubelet start it at once.
const againAPIServer = "again kube-apiserver; " + restartKubelet

// restartEtcd brings an etcd back that has given up, and what waited for it.
const restartEtcd = "systemctl reset-failed etcd || true; systemctl restart etcd; " + againAPIServer

func expiry() []Fault {
	return []Fault{
		{
			Name: "apiserver-expired", Node: "cp1", What: "apiserver.crt has expired; the API server serves it",
			Do: expired(expire.APIServer), Shows: "api_says expired",
		},
		{
			Name: "own-serving-expired", Node: "cp1", What: "the API server serves a certificate from elsewhere, which has expired",
			Do: expired(expire.APIServer),
			Break: `mkdir -p $ssl/own; cp -p $ssl/apiserver.crt $ssl/own/tls.crt; cp -p $ssl/apiserver.key $ssl/own/tls.key
cp -p /var/lib/lab-fault$ssl/apiserver.crt $ssl/apiserver.crt
sed -i "s#--tls-cert-file=.*#--tls-cert-file=$ssl/own/tls.crt#; s#--tls-private-key-file=.*#--tls-private-key-file=$ssl/own/tls.key#" $apiserver`,
			Shows: "api_says expired", Repair: againAPIServer,
		},
		{
			Name: "admin-expired", Node: "cp1", What: "the client certificate in admin.conf has expired",
			Do: expired(expire.Admin), Shows: "api_says 'Unauthorized|logged in'",
		},
		{
			Name: "controller-manager-expired", Node: "cp1", What: "the client certificate in controller-manager.conf has expired",
			Do: expired(expire.ControllerManager), Repair: restartKubelet + "; again kube-controller-manager",
			Break: "again kube-controller-manager", Shows: "log_says kube-controller-manager Unauthorized",
		},
		{
			Name: "kubelet-client-expired", Node: "w1", What: "the kubelet's client certificate has expired; the kubelet keeps running",
			Do: expired(expire.Kubelet), Repair: restartKubelet,
		},
		{
			Name: "kubelet-client-expired-rebooted", Node: "cp1", What: "the same on a control plane node, after a reboot: no static pod starts",
			Do:    expired(expire.Kubelet),
			Break: "systemctl stop kubelet; again '.*'; systemctl start kubelet", Repair: restartKubelet,
			Shows: "! api >/dev/null && journal_says kubelet expired",
		},
		{
			Name: "kubelet-access-expired", Node: "cp1", What: "apiserver-kubelet-client.crt has expired",
			Do: expired(expire.APIServerKubeletClient),
		},
		{
			Name: "front-proxy-expired", Node: "cp1", What: "front-proxy-client.crt has expired",
			Do: expired(expire.FrontProxyClient),
		},
		{
			Name: "kubelet-serving-expired", Node: "w1", What: "kubelet.crt has expired and the kubelet serves it",
			Do: expired(expire.KubeletServing), Break: restartKubelet, Repair: restartKubelet,
			Shows: `[ "$(served 10250)" = "$(fingerprint $kubelet/pki/kubelet.crt)" ]`,
		},
		{
			Name: "etcd-member-expired", Node: "cp1", What: "the etcd member's certificate has expired",
			Do: expired(expire.HostEtcd, "/etc/ssl/etcd/ssl/member-*.pem"), Break: restartEtcd, Repair: restartEtcd, Shows: "! api >/dev/null",
		},
		{
			Name: "etcd-client-expired", Node: "cp1", What: "the certificate the API server presents to etcd has expired",
			Do: expired(expire.HostEtcd, "/etc/ssl/etcd/ssl/node-*.pem"), Break: "again kube-apiserver", Repair: restartEtcd, Shows: "! api >/dev/null",
		},
		{
			Name: "etcd-admin-expired", Node: "cp1", What: "the certificate etcd's administrator presents has expired",
			Do: expired(expire.HostEtcd, "/etc/ssl/etcd/ssl/admin-*.pem"),
		},
		{
			Name: "not-yet-valid", Node: "cp1", What: "front-proxy-client.crt is valid from tomorrow",
			Do: dated(day, 365*day, expire.FrontProxyClient),
		},
		{
			Name: "expiring", Node: "cp1", What: "apiserver.crt expires in five days",
			Do: dated(-360*day, 5*day, expire.APIServer),
		},
		{
			Name: "authority-expired", Node: "cp1", What: "front-proxy-ca.crt has expired",
			Do: ends("/etc/kubernetes/ssl/front-proxy-ca", -time.Hour),
		},
		{
			Name: "authority-expiring", Node: "cp1", What: "front-proxy-ca.crt expires in ten days, what it signed earlier",
			Do: each(ends("/etc/kubernetes/ssl/front-proxy-ca", 10*day), dated(-360*day, 9*day, expire.FrontProxyClient)),
		},
		{
			Name: "authority-ends-first", Node: "cp1", What: "front-proxy-ca.crt expires in 100 days, what it signed in a year",
			Do: ends("/etc/kubernetes/ssl/front-proxy-ca", 100*day),
		},
	}
}

func files() []Fault {
	return []Fault{
		{
			Name: "authority-wrong", Node: "w1", What: "ca.crt is that of another cluster",
			Break: "d=$(mktemp -d); stranger kubernetes $d; overwrite $ssl/ca.crt <$d/stranger.crt; rm -r $d",
		},
		{
			Name: "bundle-old-first", Node: "cp1", What: "ca.crt and admin.conf hold the CA and a second one of its name",
			Break: "d=$(mktemp -d); stranger kubernetes $d; trusts $ssl/ca.crt $d/stranger.crt; rm -r $d",
		},
		{
			Name: "bundle-new-first", Node: "cp1", What: "ca.crt and admin.conf hold another CA, and the CA that signs behind it",
			Break: "d=$(mktemp -d); stranger kubernetes-2 $d; trusts $d/stranger.crt $ssl/ca.crt; rm -r $d",
		},
		{
			Name: "authority-reissued-here", Node: "cp1", What: "ca.crt was issued again with its key; kubeconfigs and the worker have the former one",
			Do: ends("/etc/kubernetes/ssl/ca", 7300*day),
		},
		{
			Name: "authority-reissued-there", Node: "w1", What: "ca.crt was issued again with its key on the worker alone",
			Do: ends("/etc/kubernetes/ssl/ca", 7300*day),
		},
		{
			Name: "authority-intermediate", Node: "cp1", What: "ca.crt was issued again with its key, by another CA",
			Break: `d=$(mktemp -d); stranger root $d
KEY_OF=$ssl/ca.key; signed_by $d/stranger.crt $d/stranger.key <$ssl/ca.crt | overwrite $ssl/ca.crt; rm -r $d`,
		},
		{
			Name: "authority-cross-signed", Node: "cp1", What: "ca.crt and admin.conf hold a second CA, which the first one has signed",
			Break: `d=$(mktemp -d); stranger kubernetes-2 $d
KEY_OF=$d/stranger.key; signed_by $ssl/ca.crt $ssl/ca.key <$d/stranger.crt >$d/cross.crt; trusts $ssl/ca.crt $d/cross.crt; rm -r $d`,
		},
		{
			Name: "signed-by-stranger", Node: "cp1", What: "apiserver.crt is signed by an unknown CA of the same name",
			Break: `d=$(mktemp -d); stranger kubernetes $d
openssl x509 -x509toreq -in $ssl/apiserver.crt -signkey $ssl/apiserver.key -copy_extensions copyall |
openssl x509 -req -CA $d/stranger.crt -CAkey $d/stranger.key -days 300 -copy_extensions copyall | overwrite $ssl/apiserver.crt; rm -r $d`,
			Shows: "api_says 'unknown authority'",
		},
		{
			Name: "key-mismatch", Node: "cp1", What: "apiserver.key does not match apiserver.crt",
			Break: "openssl genrsa 2048 2>/dev/null | overwrite $ssl/apiserver.key",
		},
		{
			Name: "certificate-removed", Node: "cp1", What: "apiserver-kubelet-client.crt is missing",
			Break: "rm $ssl/apiserver-kubelet-client.crt",
		},
		{
			Name: "key-removed", Node: "cp1", What: "apiserver.key is missing",
			Break: "rm $ssl/apiserver.key",
		},
		{
			Name: "certificate-damaged", Node: "cp1", What: "front-proxy-client.crt is truncated",
			Break: "head -c 500 $ssl/front-proxy-client.crt | overwrite $ssl/front-proxy-client.crt",
		},
		{
			Name: "authority-removed", Node: "cp1", What: "front-proxy-ca.crt is missing",
			Break: "rm $ssl/front-proxy-ca.crt",
		},
		{
			Name: "authority-key-absent", Node: "cp1", What: "ca.key is kept elsewhere",
			Break: "rm $ssl/ca.key",
		},
		{
			Name: "served-stale", Node: "w1", What: "kubelet.crt is a new one, the kubelet serves the old one",
			Do: dated(-day, 300*day, expire.KubeletServing),
		},
		{
			Name: "credential-stale", Node: "cp1", What: "controller-manager.conf is a new one, the controller manager holds the old one",
			Do: dated(-day, 300*day, expire.ControllerManager),
		},
		{
			Name: "san-missing", Node: "cp1", What: "apiserver.crt lacks the address that kubelets connect to",
			Do: reissued("/etc/kubernetes/ssl/apiserver", "/etc/kubernetes/ssl/ca", func(c *x509.Certificate) {
				service := net.IPv4(10, 233, 0, 1)
				c.IPAddresses = slices.DeleteFunc(c.IPAddresses, func(ip net.IP) bool { return !ip.IsLoopback() && !ip.Equal(service) })
			}),
			Shows: `! served 6443 text | grep "IP Address:$(sed -n 's/.*--node-ip=\([^"]*\).*/\1/p' $conf/kubelet.env)" >/dev/null`,
		},
		{
			Name: "kubeadm-config-removed", Node: "cp1", What: "kubeadm-config.yaml is missing",
			Break: "rm $conf/kubeadm-config.yaml",
		},
		{
			Name: "kubeadm-removed", Node: "cp1", What: "kubeadm is not installed",
			Break: "mv /usr/local/bin/kubeadm /usr/local/bin/kubeadm.away", Repair: "mv /usr/local/bin/kubeadm.away /usr/local/bin/kubeadm",
		},
		{
			Name: "disk-full", Node: "cp1", What: "the file system of /etc/kubernetes is full",
			Break: fullDisk("$conf", 8, 0), Repair: "umount $conf",
		},
		{
			Name: "disk-without-inodes", Node: "w1", What: "the file system of /etc/kubernetes has no inode left",
			Break: fullDisk("$conf", 256, 64), Repair: "umount $conf",
		},
	}
}

// fullDisk puts a directory on a file system of its own and fills that: its inodes
// where their number is given, else its bytes.
func fullDisk(dir string, sizeMiB, inodes int) string {
	fill := "dd if=/dev/zero of=" + dir + "/filler bs=4k 2>/dev/null || true"
	if inodes > 0 {
		fill = "i=0; while touch " + dir + "/filler.$((i+=1)) 2>/dev/null; do :; done"
	}
	return fmt.Sprintf(`mkdir /run/kept && cp -a %[1]s/. /run/kept
mount -t tmpfs -o size=%[2]dm,nr_inodes=%[3]d tmpfs %[1]s && cp -a /run/kept/. %[1]s && rm -r /run/kept
%[4]s`, dir, sizeMiB, inodes, fill)
}

func components() []Fault {
	return []Fault{
		{
			Name: "etcd-stopped", Node: "cp1", What: "etcd does not run",
			Break: "systemctl stop etcd", Shows: "! api >/dev/null", Repair: restartEtcd,
		},
		{
			// With space for no file it cannot start; without a free byte alone it may
			// go on until its next segment.
			Name: "etcd-disk-full", Node: "cp1", What: "etcd's file system is full, and etcd cannot start",
			Break: "systemctl stop etcd; " + fullDisk("/var/lib/etcd", 1024, 64) + "; systemctl start --no-block etcd",
			Shows: "journal_says etcd 'no space left' && ! api >/dev/null", Repair: "systemctl stop etcd; umount /var/lib/etcd; " + restartEtcd,
		},
		{
			Name: "kubelet-stopped", Node: "w1", What: "the kubelet is not running",
			Break: "systemctl stop kubelet", Repair: "systemctl start kubelet",
		},
		{
			Name: "kubelet-flag", Node: "w1", What: "the kubelet exits at once: unknown flag",
			Break: `sed -i 's/KUBELET_ARGS="/&--no-such-flag /' $conf/kubelet.env; ` + restartKubelet, Repair: restartKubelet,
			Shows: "journal_says kubelet no-such-flag",
		},
		{
			Name: "runtime-stopped", Node: "w1", What: "the container runtime is not running",
			Break: "systemctl stop containerd", Repair: "systemctl start containerd; " + restartKubelet,
		},
		{
			Name: "manifest-flag", Node: "cp1", What: "the API server exits at once: unknown flag in its manifest",
			Break: `sed -i 's/- --secure-port=/- --no-such-flag=1\n    - --secure-port=/' $apiserver`,
			Shows: "log_says kube-apiserver 'unknown flag' && ! api >/dev/null",
		},
		{
			Name: "manifest-flag-and-leftovers", Node: "cp1", What: "the same, and unused files have expired: those of kubeadm's own etcd, and of a removed member",
			Do: expired(expire.HostEtcd, "/etc/ssl/etcd/ssl/member-*.pem"),
			Break: `mkdir -p $ssl/etcd; etcd=/etc/ssl/etcd/ssl
for f in $ssl/etcd/server $ssl/etcd/peer $ssl/apiserver-etcd-client; do cp -p $etcd/member-cp1.pem $f.crt; cp -p $etcd/member-cp1-key.pem $f.key; done
cp -p $etcd/member-cp1.pem $etcd/member-gone.pem; cp -p $etcd/member-cp1-key.pem $etcd/member-gone-key.pem
cp -p /var/lib/lab-fault$etcd/member-cp1.pem $etcd/member-cp1.pem
sed -i 's/- --secure-port=/- --no-such-flag=1\n    - --secure-port=/' $apiserver`,
			Shows: "log_says kube-apiserver 'unknown flag' && ! api >/dev/null",
		},
		{
			Name: "manifest-no-yaml", Node: "cp1", What: "the API server's manifest is not YAML",
			Break: "sed -i 's/^spec:/spec: [broken/' $apiserver", Repair: againAPIServer,
			// In the second of the change the kubelet may have read half of it: what it reports then does not
			// count; it reports again after 20 s.
			Shows: "! api >/dev/null && journalctl -u kubelet --since \"@$(($(stat -c %Z $apiserver) + 1))\" | grep 'parse as pod' >/dev/null",
		},
		{
			Name: "manifest-removed", Node: "cp1", What: "the API server's manifest is missing",
			Break: "rm $apiserver", Shows: "! api >/dev/null", Repair: againAPIServer,
		},
		{
			Name: "image-removed", Node: "cp1", What: "the API server's image is missing and cannot be pulled",
			Break: "id=$(crictl ps --name '^kube-apiserver$' | awk 'NR==2{print $2}'); ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q | grep -E \"kube-apiserver|sha256:$id\") >/dev/null; again kube-apiserver",
			Shows: "! api >/dev/null && ! crictl ps --name '^kube-apiserver$' -q | grep -q .", Repair: "ctr -n k8s.io images import /usr/local/share/kscertctl-lab/images.tar >/dev/null; " + againAPIServer,
		},
		{
			Name: "scheduler-flag", Node: "cp1", What: "the scheduler exits at once: unknown flag in its manifest",
			Break: `sed -i 's/- --leader-elect=/- --no-such-flag=1\n    - --leader-elect=/' $manifests/kube-scheduler.yaml`,
			Shows: "log_says kube-scheduler 'unknown flag'",
		},
		{
			Name: "network-plugin-removed", Node: "w1", What: "the container network's configuration is missing",
			Break: "rm /etc/cni/net.d/*; " + restartKubelet, Repair: restartKubelet,
		},
		{
			Name: "node-deleted", Node: "w1", What: "its node object was deleted",
			Do: func(ctx context.Context, c *cluster.Cluster, node string) error {
				_, err := c.Kubectl(ctx, "delete", "node", node)
				return err
			},
			Repair: restartKubelet,
		},
	}
}

func network() []Fault {
	return []Fault{
		{
			Name: "port-blocked", Node: "cp1", What: "packets to port 6443 are dropped",
			Break: drop("6443"), Repair: undrop("6443"), Shows: "! api >/dev/null",
		},
		{
			Name: "port-rejected", Node: "cp1", What: "connections to port 6443 are refused by a firewall",
			Break: "iptables -w -I INPUT -p tcp --dport 6443 -j REJECT --reject-with tcp-reset", Shows: "api_says refused",
			Repair: "iptables -w -D INPUT -p tcp --dport 6443 -j REJECT --reject-with tcp-reset",
		},
		{
			Name: "etcd-port-blocked", Node: "cp1", What: "packets to etcd's client port are dropped",
			Break: drop("2379"), Repair: undrop("2379") + "; " + againAPIServer, Shows: "! api >/dev/null",
		},
		{
			Name: "endpoint-name", Node: "w1", What: "the load balancer's name, which the kubelet resolves, has no address",
			Break: "sed -i 's#server: .*#server: https://lb-apiserver.kubernetes.local:6443#' $conf/kubelet.conf; " + restartKubelet, Repair: restartKubelet,
		},
		{
			// Kubespray's workers ask a proxy of their own.
			Name: "endpoint-down", Node: "w1", What: "the kubelet connects to a proxy on its own node, which does not run",
			Break: "sed -i 's#server: .*#server: https://localhost:6443#' $conf/kubelet.conf; " + restartKubelet, Repair: restartKubelet,
		},
		{
			Name: "way-blocked", Node: "w1", What: "packets from this node to port 6443 are dropped",
			Break: "iptables -w -I OUTPUT -p tcp --dport 6443 -j DROP", Repair: "iptables -w -D OUTPUT -p tcp --dport 6443 -j DROP; " + restartKubelet,
		},
		{
			Name: "ssh-stopped", Node: "w1", What: "sshd does not run",
			Break: "systemctl kill --signal=KILL ssh; systemctl stop ssh", Repair: "systemctl reset-failed ssh || true; systemctl start ssh",
		},
		{
			Name: "ssh-blocked", Node: "w1", What: "packets to sshd are dropped",
			Break: drop("22"), Repair: undrop("22"),
		},
		{
			Name: "sudo-removed", Node: "w1", What: "the SSH user may not become root",
			Break: "rm /etc/sudoers.d/kubespray",
		},
		{
			// A process in a container has the machine's clock: only what the node
			// reports of its time is wrong, not the time its programs reckon with.
			Name: "clock-wrong", Node: "w1", What: "date prints an hour later (not the clock itself: containers share the machine's)",
			Break: `printf '#!/bin/sh\nexec /usr/bin/date -d "+1 hour" "$@"\n' >/usr/local/bin/date; chmod 755 /usr/local/bin/date`, Repair: "rm /usr/local/bin/date",
		},
	}
}

func drop(port string) string { return "iptables -w -I INPUT -p tcp --dport " + port + " -j DROP" }

func undrop(port string) string { return "iptables -w -D INPUT -p tcp --dport " + port + " -j DROP" }

// KubeadmEtcd is for a control plane cp1 and a worker w1 with kubeadm's etcd.
func KubeadmEtcd() []Fault {
	file := func(name string) string { return "/etc/kubernetes/ssl/" + name + ".crt" }
	return []Fault{
		{
			Name: "etcd-server-expired", Node: "cp1", What: "etcd/server.crt has expired",
			Do: expired(expire.Etcd, file("etcd/server")), Break: "again kube-apiserver", Repair: againAPIServer, Shows: "! api >/dev/null",
		},
		{
			Name: "etcd-peer-expired", Node: "cp1", What: "etcd/peer.crt has expired",
			Do: expired(expire.Etcd, file("etcd/peer")),
		},
		{
			Name: "etcd-healthcheck-expired", Node: "cp1", What: "etcd/healthcheck-client.crt has expired",
			Do: expired(expire.Etcd, file("etcd/healthcheck-client")),
		},
		{
			Name: "apiserver-etcd-client-expired", Node: "cp1", What: "apiserver-etcd-client.crt has expired",
			Do: expired(expire.APIServerEtcdClient), Break: "again kube-apiserver", Repair: againAPIServer, Shows: "! api >/dev/null",
		},
		{
			Name: "etcd-manifest-removed", Node: "cp1", What: "etcd's manifest is missing",
			Break: "rm $manifests/etcd.yaml", Repair: againAPIServer, Shows: `! api >/dev/null && [ -z "$(crictl ps -q --name '^etcd$')" ]`,
		},
	}
}

// Three is for control planes cp1 to cp3 and a worker w1 with Kubespray's host
// etcd.
func Three() []Fault {
	return []Fault{
		{
			Name: "one-apiserver-expired", Node: "cp2", What: "apiserver.crt of one of three has expired",
			Do: expired(expire.APIServer), Shows: "api_says expired",
		},
		{
			Name: "authorities-differ", Node: "cp2", What: "front-proxy-ca and what it signed differ from the other control plane nodes",
			Break: `d=$(mktemp -d); stranger front-proxy-ca $d
overwrite $ssl/front-proxy-ca.crt <$d/stranger.crt; overwrite $ssl/front-proxy-ca.key <$d/stranger.key; rm -r $d
rm $ssl/front-proxy-client.*; kubeadm init phase certs front-proxy-client --config $conf/kubeadm-config.yaml >/dev/null`,
		},
		{
			Name: "authority-reissued-on-one", Node: "cp2", What: "ca.crt of one of three was issued again with its key",
			Do: ends("/etc/kubernetes/ssl/ca", 7300*day),
		},
		{
			Name: "service-account-keys-differ", Node: "cp3", What: "sa.key and sa.pub differ from the other control plane nodes",
			Break: `openssl genrsa 2048 2>/dev/null | overwrite $ssl/sa.key; openssl rsa -in $ssl/sa.key -pubout 2>/dev/null | overwrite $ssl/sa.pub`,
		},
		{
			Name: "etcd-member-stopped", Node: "cp3", What: "one of three etcd members does not run",
			Break: "systemctl stop etcd", Repair: "systemctl start etcd",
		},
		{
			Name: "one-kubelet-stopped", Node: "cp2", What: "the kubelet of one of three control plane nodes does not run",
			Break: "systemctl stop kubelet", Repair: "systemctl start kubelet",
		},
		{
			Name: "one-port-blocked", Node: "cp2", What: "packets to port 6443 of one of three control plane nodes are dropped",
			Break: drop("6443"), Repair: undrop("6443"), Shows: "! api >/dev/null",
		},
	}
}

// All are the faults of every cluster.
func All() []Fault { return slices.Concat(One(), KubeadmEtcd(), Three()) }
