#!/bin/bash
# On a control plane: the usual procedure from the web. It makes new CAs, which the other
# nodes do not trust. Used to test that the verification detects a bad repair.
set -uo pipefail
cd "$CONF" || exit 1
mkdir -p /root/naive-backup
cp -aL ssl ./*.conf /root/naive-backup/
rm -f ssl/*.crt ssl/*.key ssl/*.pub ./admin.conf ./super-admin.conf \
  ./controller-manager.conf ./kubelet.conf ./scheduler.conf
rm -rf ssl/etcd
kubeadm init phase certs all --config kubeadm-config.yaml
kubeadm init phase kubeconfig all --config kubeadm-config.yaml
systemctl restart kubelet
mapfile -t ids < <(crictl pods -q --label tier=control-plane)
[ ${#ids[@]} -eq 0 ] || crictl rmp -f "${ids[@]}"
