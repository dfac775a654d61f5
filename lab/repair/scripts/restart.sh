#!/bin/bash
# On a control plane: restart everything with the certificates of issue.sh, and wait until the
# API server answers.
set -euo pipefail
cd "$CONF"
systemctl restart kubelet
remove() {
  local ids
  mapfile -t ids < <(crictl pods -q --label tier=control-plane)
  [ ${#ids[@]} -eq 0 ] || crictl rmp -f "${ids[@]}" >/dev/null
}
# The kubelet may be starting one of them at this moment.
for _ in $(seq 10); do remove && break; sleep 1; done
# The kubelet copies the certificate out of its new kubeconfig at once; then the kubeconfig
# must refer to the rotating copy.
until openssl x509 -noout -checkend 60 -in /var/lib/kubelet/pki/kubelet-client-current.pem >/dev/null 2>&1; do
  sleep 0.2
done
kubeadm init phase kubelet-finalize all --config kubeadm-config.yaml
until kubectl --kubeconfig admin.conf --request-timeout=3s get --raw /readyz >/dev/null 2>&1; do sleep 0.3; done
