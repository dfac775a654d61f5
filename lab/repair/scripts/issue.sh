#!/bin/bash
# On a control plane, offline: new leaf certificates and kubeconfigs from the existing CAs.
# Run it on all control planes before any restart, or a stacked etcd loses its quorum.
set -euo pipefail
cd "$CONF"
config=kubeadm-config.yaml
backup=/root/pki-backup-$(date +%s)
mkdir -m 0700 "$backup"
cp -aL ssl ./*.conf /var/lib/kubelet/pki "$backup"/

# kubeadm keeps an existing pair, even an expired one, and refuses half a pair.
leaves="apiserver apiserver-kubelet-client front-proxy-client"
[ ! -e ssl/etcd/ca.key ] || leaves="$leaves apiserver-etcd-client etcd/server etcd/peer etcd/healthcheck-client"
for leaf in $leaves; do rm -f "ssl/$leaf.crt" "ssl/$leaf.key"; done
kubeadm init phase certs all --config "$config"

server=$(sed -n 's/^ *server: //p' admin.conf)
confs=(admin.conf controller-manager.conf kubelet.conf scheduler.conf)
super=$(ls super-admin.conf 2>/dev/null || true)
rm -f "${confs[@]}" super-admin.conf
kubeadm init phase kubeconfig all --config "$config"
# kubeadm creates a super-admin.conf everywhere; only the first node has one.
[ -n "$super" ] || rm -f super-admin.conf
sed -i "s#^    server: .*#    server: $server#" "${confs[@]}"
install -m 0600 admin.conf /root/.kube/config

openssl x509 -noout -checkend 60 -in /var/lib/kubelet/pki/kubelet.crt >/dev/null ||
  rm -f /var/lib/kubelet/pki/kubelet.crt /var/lib/kubelet/pki/kubelet.key
