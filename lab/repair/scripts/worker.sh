#!/bin/bash
# On a worker, with a bootstrap token on stdin: make the kubelet request a new client
# certificate as when it joined.
set -euo pipefail
cd "$CONF"
read -r token
umask 077
cat >bootstrap-kubelet.conf <<EOF
apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: "$(sed -n 's/^ *server: //p' kubelet.conf)", certificate-authority: $CONF/ssl/ca.crt}}]
users: [{name: bootstrap, user: {token: "$token"}}]
contexts: [{name: default, context: {cluster: default, user: bootstrap}}]
current-context: default
EOF
openssl x509 -noout -checkend 60 -in /var/lib/kubelet/pki/kubelet.crt >/dev/null ||
  rm -f /var/lib/kubelet/pki/kubelet.crt /var/lib/kubelet/pki/kubelet.key
systemctl restart kubelet
until openssl x509 -noout -checkend 60 -in /var/lib/kubelet/pki/kubelet-client-current.pem >/dev/null 2>&1; do
  sleep 0.2
done
rm -f bootstrap-kubelet.conf
