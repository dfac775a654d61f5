#!/bin/bash
# On the first control plane: sign host etcd's leaf certificates again with its own CA and the
# SANs in Kubespray's configuration. Prints "renewed" if it did.
set -euo pipefail
cd /etc/ssl/etcd/ssl
! openssl x509 -noout -checkend 60 -in "member-$(hostname).pem" >/dev/null || exit 0
for cert in member-*.pem admin-*.pem node-*.pem; do
  case $cert in *-key.pem) continue ;; esac
  openssl req -new -key "${cert%.pem}-key.pem" -subj "/CN=etcd-${cert%.pem}" 2>/dev/null |
    openssl x509 -req -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 36500 \
      -extensions ssl_client -extfile ../openssl.conf -out "$cert.new" 2>/dev/null
  mv "$cert.new" "$cert"
done
echo renewed
