# Finds CAs, and recognizes a re-issued certificate of a CA: the same key and subject, whatever else
# differs.
# shellcheck shell=sh disable=SC2034,SC2154
pki=$(pki_or_default)

# at NAME: leaves in $ca and $ca_key the paths of a CA's certificate and key.
at() {
  case $1 in
  kubernetes-ca) ca=$pki/ca.crt ca_key=$pki/ca.key ;;
  front-proxy-ca) ca=$pki/front-proxy-ca.crt ca_key=$pki/front-proxy-ca.key ;;
  etcd-ca) ca=$pki/etcd/ca.crt ca_key=$pki/etcd/ca.key ;;
  etcd-host-ca) ca=$KSCERT_ETCD_DIR/ca.pem ca_key=$KSCERT_ETCD_DIR/ca-key.pem ;;
  *) fail "$1 is no CA that is renewed here" ;;
  esac
}

# identity [FILE]: what identifies a CA: public key and subject.
identity() { openssl x509 ${1:+-in "$1"} -noout -pubkey -subject_hash 2>/dev/null; }

# blocks FILE: each certificate of a file in one of its own: $stage/block.1, and so on.
blocks() {
  rm -f "$stage"/block.*
  awk -v to="$stage/block." '
    /^-----BEGIN CERTIFICATE-----/ { n++; on = 1 }
    on { print >(to n) }
    /^-----END CERTIFICATE-----/ { on = 0; close(to n) }' "$1"
}

# public_stage: opens a private directory for data that is not secret, outside all directories of
# the node's certificates.
public_stage() { open_stage /tmp; }

# certificate_files: files that may hold a CA certificate, one per line: those of kubeadm's and
# Kubespray's PKI, and what manifests and the kubelet name.
certificate_files() {
  for file in "$pki"/*.crt "$pki"/etcd/*.crt "$conf"/ssl/*.crt "$conf"/pki/*.crt "$KSCERT_ETCD_DIR"/*.pem \
    "$calico"/*.crt "$cilium"/*.crt; do
    case $file in *-key.pem) continue ;; esac
    printf '%s\n' "$file"
  done
  for flag in client-ca-file requestheader-client-ca-file etcd-cafile kubelet-certificate-authority; do
    named kube-apiserver "$flag"
  done
  for flag in root-ca-file client-ca-file cluster-signing-cert-file requestheader-client-ca-file; do
    named kube-controller-manager "$flag"
  done
  of_members trusted-ca-file
  of_members peer-trusted-ca-file
  kubelet_says clientCAFile
}

# lasts_for FILE: the lifetime in seconds of the next certificate: as requested, that of kubeadm's
# configuration, or that of the old one.
lasts_for() {
  if [ "$KSCERT_CA_SECONDS" -gt 0 ]; then
    echo "$KSCERT_CA_SECONDS"
    return 0
  fi
  lifetime=
  case $1 in
  "$pki"/*) [ ! -f "$config" ] || lifetime=$(top_level caCertificateValidityPeriod | seconds_of_duration) ;;
  esac
  [ "${lifetime:-0}" -gt 0 ] || lifetime=$(($(date_of "$1" enddate) - $(date_of "$1" startdate)))
  echo "$lifetime"
}
